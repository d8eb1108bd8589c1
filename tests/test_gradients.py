"""`losses.gradients` and `record_gradients`: the numbers that plain PyTorch gives, and a graph that stays usable."""

from __future__ import annotations

import math
import pickle

import pytest
import torch
import torch.utils.checkpoint
from devices import Operations
from hypothesis import given, settings
from hypothesis import strategies as st
from managers import adversarial, manager_of
from packaging.version import Version
from torch import nn

from nectargan_core import ComputedLosses, LMLoss, LossGradients, LossManager, Schedule
from nectargan_core.errors import DuplicateLossError, NectarganError, WeightingError
from nectargan_core.weightings import compared

TORCH = Version(torch.__version__)

# Losses of an output and a target, of every kind
FUNCTIONS = {
    "L1": nn.L1Loss(),
    "MSE": nn.MSELoss(),
    "sum": nn.L1Loss(reduction="sum"),
    "product": lambda fake, real: (fake * real).mean(),
    "largest": lambda fake, real: fake.max(),
    "map": nn.MSELoss(reduction="none"),
    "double": lambda fake, real: (fake - real).double().pow(4).mean(),
    "constant": lambda fake, real: real.sum(),
}


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))


def manager_for(kinds, weights=None):
    weights = weights or [10.0**place for place in range(len(kinds))]
    losses = [
        LMLoss(name=f"{kind}.{place}", function=FUNCTIONS[kind], loss_weight=weight)
        for place, (kind, weight) in enumerate(zip(kinds, weights, strict=True))
    ]
    return manager_of(*losses)


def step(manager, net, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(4, 3, generator=generator), torch.rand(4, 2, generator=generator)
    fake = net(x)
    return manager.compute_losses({"y_fake": fake, "y": y}), fake


def vectors(results, tensors):
    """The gradient of each result and that of their sum, as vectors, by plain PyTorch."""
    rows = {}
    summed = sum(result.mean() for result in results.values())
    for name, result in {**results, "": summed}.items():
        if not result.requires_grad:
            rows[name] = torch.zeros(sum(tensor.numel() for tensor in tensors), dtype=torch.float64)
            continue
        parts = torch.autograd.grad(result.mean(), tensors, retain_graph=True, allow_unused=True)
        parts = [
            torch.zeros_like(tensor) if part is None else part for part, tensor in zip(parts, tensors, strict=True)
        ]
        rows[name] = torch.cat([part.flatten() for part in parts]).double()
    return rows


def cosine(one, other):
    lengths = one.norm() * other.norm()
    return (one @ other / lengths).item() if lengths else math.nan


def check(found, results, tensors):
    rows = vectors(results, tensors)
    total = rows.pop("")
    summed = sum(row.norm().item() for row in rows.values())
    near = {"rel": 1e-4, "abs": 1e-6, "nan_ok": True}
    assert found.norms == pytest.approx({name: row.norm().item() for name, row in rows.items()}, **near)
    assert found.total_norm == pytest.approx(total.norm().item(), **near)
    shares = {name: row.norm().item() / summed if summed else math.nan for name, row in rows.items()}
    assert found.shares == pytest.approx(shares, **near)
    near["abs"] = 1e-4
    assert found.cosines == pytest.approx({name: cosine(row, total) for name, row in rows.items()}, **near)
    for name, row in rows.items():
        expected = {other: cosine(row, column) for other, column in rows.items()}
        assert found.between[name] == pytest.approx(expected, **near)


# What is computed

weights = st.sampled_from([1.0, 100.0, -0.5, 0.0, 1e-3])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(list(FUNCTIONS)), weights), min_size=1, max_size=7), st.data())
def test_it_is_what_plain_pytorch_gives(losses, data):
    kinds, given_weights = zip(*losses, strict=True)
    net = network()
    results, fake = step(manager_for(kinds, given_weights), net)
    wrt = data.draw(st.sampled_from([fake, net, net[2], [net[0].weight, net[2].bias], (fake, net[0])]))
    tensors = [
        tensor
        for one in (wrt if isinstance(wrt, (list, tuple)) else [wrt])
        for tensor in (one.parameters() if isinstance(one, nn.Module) else [one])
    ]
    run = [kind for kind, weight in losses if weight]
    if run and set(run) == {"constant"}:
        with pytest.raises(WeightingError, match="have no gradient|has no gradient|no gradient can be taken"):
            results.gradients(wrt)
        return
    check(results.gradients(wrt), results, tensors)


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_the_graph_stays_for_backward_and_no_gradient_is_changed(count):
    kinds = list(FUNCTIONS)[:count]
    net, plain = network(), network()
    losses, fake = step(manager_for(kinds), net)
    fake.retain_grad()
    losses.gradients(net[2])
    # torch adds to it whatever goes through a tensor that retains its gradient, unless it is wrt itself.
    fake.grad = None
    before = losses.gradients(fake)
    assert [each.grad for each in (fake, *net.parameters())] == [None] * 5
    assert losses.gradients(fake) == before
    losses.total.backward()
    expected, expected_fake = step(manager_for(kinds), plain)
    expected_fake.retain_grad()
    expected.total.backward()
    assert torch.equal(fake.grad, expected_fake.grad)
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad)


def test_a_gradient_that_is_there_stays():
    net = network()
    for parameter in net.parameters():
        parameter.grad = torch.full_like(parameter, 7.0)
    step(manager_for(["L1"]), net)[0].gradients(net)
    assert all(bool((parameter.grad == 7.0).all()) for parameter in net.parameters())


def test_the_weights_of_a_schedule_count():
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="sum"), 1.0)
    manager.register_loss_fn(
        "b", nn.L1Loss(reduction="sum"), schedule=Schedule(end=10, initial_value=0.0, target_value=10.0)
    )
    fake = torch.ones(4, requires_grad=True)
    for epoch, norm in ((0, 0.0), (5, 10.0), (10, 20.0)):
        manager.tick(epoch=epoch)
        found = manager.compute_losses({"y_fake": fake, "y": torch.zeros(4)}).gradients(fake)
        assert found.norms == {"a": 2.0, "b": norm}


def test_what_is_put_into_the_results_counts_as_it_does_in_the_total():
    losses, fake = step(manager_for(list(FUNCTIONS)[:5]), network())
    del losses["L1.0"]
    losses["mine"] = 3 * fake.sum()
    found = losses.gradients(fake)
    assert found.norms["mine"] == pytest.approx(3 * math.sqrt(8))
    check(found, losses, [fake])


def test_what_the_total_has_beside_the_losses_counts_in_the_total_only():
    x = torch.zeros(2, requires_grad=True)
    found = compared({"a": 3 * x[0]}, ["a"], [x], extra=4 * x[1])
    assert (found.norms, found.shares, found.total_norm) == ({"a": 3.0}, {"a": 1.0}, 5.0)
    assert found.cosines == pytest.approx({"a": 0.6})


@pytest.mark.parametrize(
    ("function", "tensor"),
    [
        (lambda z: z.abs().square().sum(), torch.tensor([1 + 2j, 3 - 1j])),
        (lambda z: (z.real * 3 + z.imag).sum(), torch.tensor([1j], dtype=torch.complex128)),
    ],
)
def test_a_complex_tensor_counts_as_two_real_ones(function, tensor):
    tensor.requires_grad_()
    losses = ComputedLosses(a=function(tensor), b=tensor.real.sum(), c=tensor.imag.sum())
    found = losses.gradients(tensor)
    (gradient,) = torch.autograd.grad(losses["a"], tensor, retain_graph=True)
    assert found.norms["a"] == pytest.approx(torch.view_as_real(gradient).norm().item())
    assert found.between["b"]["c"] == 0.0
    real = torch.view_as_real(gradient)[:, 0].sum().item() / math.sqrt(len(tensor))
    assert found.between["a"]["b"] == pytest.approx(real / found.norms["a"])


def test_the_gradient_of_a_sparse_embedding_is_one_like_any_other():
    embedding = nn.Embedding(5, 2, sparse=True)
    losses = ComputedLosses(a=embedding(torch.tensor([1, 1])).sum(), b=-embedding(torch.tensor([1])).sum())
    found = losses.gradients(embedding)
    assert found.norms == pytest.approx({"a": 2 * math.sqrt(2), "b": math.sqrt(2)})
    assert found.between["a"]["b"] == pytest.approx(-1.0)


@pytest.mark.parametrize("scale", [1e-170, 1e-40, 1e150])
def test_neither_tiny_nor_huge_gradients_are_lost(scale):
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    found = ComputedLosses(a=3 * scale * x[0], b=4 * scale * x[1]).gradients(x)
    assert found.norms == pytest.approx({"a": 3 * scale, "b": 4 * scale}, rel=1e-12)
    assert found.total_norm == pytest.approx(5 * scale, rel=1e-12)
    assert found.cosines == pytest.approx({"a": 0.6, "b": 0.8})


def test_norms_whose_sum_is_beyond_the_largest_float_have_no_shares():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found = ComputedLosses(a=1.5e308 * x.sum(), b=1.5e308 * x.sum()).gradients(x)
    assert found.norms == pytest.approx({"a": 1.5e308, "b": 1.5e308})
    assert math.isnan(found.shares["a"])


def test_parameters_inside_of_a_checkpoint_are_reached():
    net, last = network(), nn.Linear(2, 2)
    fake = last(torch.utils.checkpoint.checkpoint(net, torch.rand(4, 3), use_reentrant=False))
    losses = manager_for(["L1", "MSE"]).compute_losses({"y_fake": fake, "y": torch.rand(4, 2)})
    check(losses.gradients(net), losses, list(net.parameters()))
    losses.total.backward()


def test_tensors_without_entries_and_scalars_are_tensors_too():
    scalar, empty = torch.tensor(2.0, requires_grad=True), torch.zeros(0, requires_grad=True)
    losses = ComputedLosses(a=scalar * 3 + empty.sum(), b=empty.sum())
    found = losses.gradients([empty, scalar])
    assert (found.norms, found.cosines["a"]) == ({"a": 3.0, "b": 0.0}, 1.0)


@pytest.mark.parametrize("kinds", [["L1", "constant"], ["L1", "MSE", "sum", "product"]])
def test_it_reads_all_numbers_from_the_device_at_once(kinds, monkeypatch):
    losses, fake = step(manager_for(kinds), network())
    losses.values()  # On the CPU this reads numbers, which are there.
    reads = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(1) or tolist(tensor))
    with Operations() as operations:
        losses.gradients(fake)
    # What item() and bool() of a tensor come to.
    assert "_local_scalar_dense.default" not in operations.names
    assert len(reads) == 1


# Losses without a gradient


def test_a_loss_that_does_not_depend_on_it_has_norm_zero_and_no_cosine():
    manager = adversarial()
    fake, pred = torch.ones(4, requires_grad=True), torch.ones(2, requires_grad=True)
    losses = manager.compute_losses({"y_fake": fake, "y": torch.zeros(4), "pred_fake": pred, "pred_real": pred * 2})
    found = losses.gradients(fake)
    assert found.norms == {"G_L1": 50.0, "G_GAN": 0.0, "D_real": 0.0}
    assert found.shares == {"G_L1": 1.0, "G_GAN": 0.0, "D_real": 0.0}
    assert found.cosines == pytest.approx({"G_L1": 1.0, "G_GAN": math.nan, "D_real": math.nan}, nan_ok=True)
    assert math.isnan(found.between["G_GAN"]["G_GAN"])
    assert math.isnan(found.between["G_L1"]["G_GAN"])


@pytest.mark.parametrize("skip_when_zero", [True, False])
@pytest.mark.parametrize("others", [1, 4])
def test_a_loss_of_weight_zero_pulls_with_norm_zero(skip_when_zero, others):
    losses = [LMLoss(name=f"L{place}", function=nn.L1Loss()) for place in range(others)]
    zero = LMLoss(name="off", function=lambda x, y: x.sqrt().sum(), loss_weight=0.0, skip_when_zero=skip_when_zero)
    fake = torch.zeros(4, requires_grad=True)
    results = manager_of(zero, *losses).compute_losses({"y_fake": fake, "y": torch.ones(4)})
    found = results.gradients(fake)
    assert (found.norms["off"], found.shares["off"]) == (0.0, 0.0)
    assert math.isnan(found.cosines["off"])
    assert found.norms["L0"] == pytest.approx(0.5)
    assert found.total_norm == pytest.approx(0.5 * others)


@pytest.mark.parametrize("lazy", [True, False])
def test_where_all_losses_are_skipped_all_norms_are_zero(lazy):
    manager = adversarial()
    manager.disable("G_GAN")
    pred = torch.ones(2, requires_grad=True)
    found = manager.compute_losses({"pred_fake": (lambda: pred) if lazy else pred}, query="G_GAN").gradients(pred)
    assert (found.norms, found.total_norm) == ({"G_GAN": 0.0}, 0.0)
    assert math.isnan(found.shares["G_GAN"])


def test_losses_that_cancel_out_have_no_cosine_with_their_total():
    x = torch.rand(50, requires_grad=True)
    loss = (x**3).mean()
    found = ComputedLosses(a=loss, b=-loss).gradients(x)
    assert found.total_norm == 0.0
    assert found.between["a"]["b"] == -1.0
    assert all(math.isnan(cosine) for cosine in found.cosines.values())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_spoils_only_what_it_is_part_of(value):
    x = torch.ones(2, requires_grad=True)
    found = ComputedLosses(bad=x.sum() * value, a=x.sum(), b=-x[0]).gradients(x)
    assert found.norms == pytest.approx({"bad": value, "a": math.sqrt(2), "b": 1.0}, nan_ok=True)
    assert found.between["a"]["b"] == pytest.approx(-math.sqrt(0.5))
    assert math.isnan(found.between["a"]["bad"])
    assert all(math.isnan(each) for each in (*found.shares.values(), *found.cosines.values()))


def test_of_no_losses_there_is_nothing():
    found = ComputedLosses().gradients(torch.ones(1, requires_grad=True))
    assert (found.norms, found.total_norm, str(found)) == ({}, 0.0, "no losses")


# Half precision


def halves(pred):
    """Losses whose gradients float16 rounds to 0 on their way, unless they go through a scale."""
    return ComputedLosses(a=(pred * 2**-20).float().sum(), b=(pred * -(2**-19)).float().sum())


def test_in_half_precision_gradients_go_through_the_scale_of_a_scaler():
    weight = torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)

    def losses():
        return halves((weight.half() * 2**-8).view(2))

    assert losses().gradients(weight).norms == {"a": 0.0, "b": 0.0}
    found = losses().gradients(weight, scaler=scaler)
    assert found.norms == pytest.approx({"a": 2**-28 * math.sqrt(2), "b": 2**-27 * math.sqrt(2)})
    assert found.cosines == pytest.approx({"a": -1.0, "b": 1.0})
    assert found.total_norm == pytest.approx(2**-28 * math.sqrt(2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_half_precision_are_compared_in_double(dtype):
    x = torch.full((70_000,), 1.0, dtype=dtype, requires_grad=True)
    found = ComputedLosses(a=(x * 300).float().sum(), b=(x[:1] * 5).sum()).gradients(x)
    assert found.norms == pytest.approx({"a": 300 * math.sqrt(70_000), "b": 5.0}, rel=1e-6)


def test_a_scaler_leaves_float64_as_it_is():
    x = torch.full((2,), 1 + 1e-12, dtype=torch.float64, requires_grad=True)
    losses = ComputedLosses(a=(x**2).sum(), b=x[0] * 1.0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    assert losses.gradients(x, scaler=scaler) == losses.gradients(x)


def test_a_scaler_that_is_disabled_does_nothing():
    x = torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    assert ComputedLosses(a=x.sum()).gradients(x, scaler=scaler).norms["a"] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("scaler", [8.0, "scaler", torch.amp.GradScaler, object()])
def test_what_is_no_scaler_is_refused(scaler):
    x = torch.ones(2, requires_grad=True)
    with pytest.raises(TypeError, match=r"scaler must be a torch\.amp\.GradScaler, or None, got"):
        ComputedLosses(a=x.sum()).gradients(x, scaler=scaler)


def test_a_scale_that_has_become_zero_is_an_error():
    x = torch.ones(2, requires_grad=True)
    scaler = torch.amp.GradScaler("cpu", init_scale=0.0)
    with pytest.raises(WeightingError, match="the scale of scaler, which is 0.0 now"):
        ComputedLosses(a=x.sum()).gradients(x, scaler=scaler)


# What it is taken with respect to


def test_parameters_that_are_frozen_do_not_count():
    net = network()
    net[0].requires_grad_(False)
    losses, _ = step(manager_for(["L1", "MSE"]), net)
    expected = losses.gradients(net[2])
    named = dict(net.named_parameters())
    for wrt in (
        net,
        net.parameters(),
        list(net.parameters()),
        named,
        [net[0], net[2]],
        nn.ParameterList(net.parameters()),
    ):
        assert losses.gradients(wrt) == expected


def test_a_tensor_given_twice_counts_once():
    net = network()
    losses, _ = step(manager_for(["L1", "MSE"]), net)
    assert losses.gradients([net, net[2].weight, net]) == losses.gradients(net)


@pytest.mark.parametrize("wrt", [None, "y_fake", 3, [], [[torch.ones(1)]], {"a": 1}, nn.Linear, lambda: None])
def test_what_has_no_gradient_by_its_type_is_refused(wrt):
    losses, _ = step(manager_for(["L1"]), network())
    with pytest.raises(TypeError, match="wrt must be a tensor, a module, parameters or a list of them"):
        losses.gradients(wrt)


@pytest.mark.parametrize(
    ("wrt", "message"),
    [
        (torch.ones(2), "a tensor that requires no gradient"),
        ([torch.ones(2, requires_grad=True), torch.ones(2)], "a tensor that requires no gradient"),
        (nn.ReLU(), "no parameter that requires a gradient"),
        (nn.Parameter(torch.ones(2), requires_grad=False), "no parameter that requires a gradient"),
        (nn.Linear(2, 2).requires_grad_(False), "no parameter that requires a gradient"),
        (nn.Linear(2, 2), "loss 'L1.0' has no gradient|loss L1.0 has no gradient with respect to wrt"),
    ],
)
def test_what_no_loss_can_have_a_gradient_with_respect_to_is_an_error(wrt, message):
    losses, _ = step(manager_for(["L1"]), network())
    with pytest.raises(WeightingError, match=message):
        losses.gradients(wrt)
    losses.total.backward()


# Graphs that are not there


@pytest.mark.parametrize("kinds", [["L1"], ["L1", "MSE", "sum", "product"]])
def test_a_graph_that_was_freed_is_an_error(kinds):
    losses, fake = step(manager_for(kinds), network())
    losses.total.backward()
    with pytest.raises(WeightingError, match="loss 'L1.0' cannot be taken, since a backward.. before freed its graph"):
        losses.gradients(fake)


def test_a_parameter_that_was_edited_since_is_an_error():
    net = network()
    losses, _ = step(manager_for(["L1"]), net)
    losses.total.backward(retain_graph=True)
    with torch.no_grad():
        net[2].weight += 1
    with pytest.raises(WeightingError, match="was edited in place since, as by the step of an optimizer"):
        losses.gradients(net[0])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kinds", [["L1"], ["L1", "MSE", "sum", "product"]])
def test_losses_that_were_computed_without_gradients_are_an_error(mode, kinds):
    net = network()
    with mode():
        losses, _ = step(manager_for(kinds), net)
    with pytest.raises(WeightingError, match=r"of L1\.0.*: computed under torch\.no_grad.. or torch\.inference_mode"):
        losses.gradients(net)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("kinds", [["map"], ["L1", "MSE", "sum", "product"]])
def test_the_mode_in_which_it_is_called_does_not_matter(mode, kinds):
    net = network()
    losses, fake = step(manager_for(kinds), net)
    with mode():
        found = losses.gradients(fake)
    assert found == losses.gradients(fake)


# torch.compile

no_dicts = pytest.mark.skipif(Version("2.7") > TORCH, reason="the compiler cannot make a subclass of dict there")


def compiled(function, **kwargs):
    torch._dynamo.reset()
    return torch.compile(function, **kwargs)


@no_dicts
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
@pytest.mark.parametrize("kinds", [["L1", "map"], ["L1", "MSE", "sum", "product"]])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning:torch")
def test_losses_of_a_compiled_graph_have_the_same_gradients(backend, kinds):
    net, manager = network(), manager_for(kinds)
    graph = compiled(lambda fake, y: manager.compute_losses({"y_fake": fake, "y": y}), backend=backend, fullgraph=True)
    for _ in range(2):
        fake, y = net(torch.rand(4, 3)), torch.rand(4, 2)
        losses = graph(fake, y)
        for wrt in (fake, net):
            tensors = [wrt] if isinstance(wrt, torch.Tensor) else list(wrt.parameters())
            check(losses.gradients(wrt), losses, tensors)
        losses.total.backward()


@no_dicts
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning:torch")
def test_a_graph_that_can_run_back_only_once_is_an_error_and_can_still_run_back():
    net, manager = network(), manager_for(["L1", "MSE"])
    graph = compiled(net, backend="aot_eager")
    for is_first in (True, False):
        fake = graph(torch.rand(4, 3))
        losses = manager.compute_losses({"y_fake": fake, "y": torch.rand(4, 2)})
        if not is_first:
            with pytest.raises(WeightingError, match=r"set torch\._functorch\.config\.donated_buffer = False"):
                losses.gradients(net)
            assert losses.gradients(fake).total_norm > 0
        losses.total.backward()


@pytest.mark.skipif(Version("2.9") > TORCH, reason="there a graph that raises ends in an error of the compiler's own")
@pytest.mark.parametrize("kind", ["gradients", "record_gradients"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning:torch")
def test_inside_of_a_graph_it_is_refused(kind):
    manager = manager_for(["L1"])

    def take(x):
        losses = manager.compute_losses({"y_fake": x, "y": x * 2})
        return losses.gradients(x) if kind == "gradients" else manager.record_gradients(losses, x)

    with pytest.raises(torch._dynamo.exc.Unsupported, match="outside of torch.compile"):
        compiled(take, backend="eager", fullgraph=True)(torch.ones(2, requires_grad=True))


# The result


def test_the_numbers_are_plain_and_the_result_does_not_change():
    losses, fake = step(manager_for(["L1", "MSE"]), network())
    found = losses.gradients(fake)
    numbers = [*found.norms.values(), *found.shares.values(), *found.cosines.values(), found.total_norm]
    assert {type(number) for number in numbers} == {float}
    assert found.between["L1.0"]["L1.0"] == 1.0
    assert found.between["L1.0"]["MSE.1"] == found.between["MSE.1"]["L1.0"]
    assert pickle.loads(pickle.dumps(found)) == found
    with pytest.raises(AttributeError):
        found.norms = {}


def table(count, name="G_{}"):
    x = torch.zeros(count, dtype=torch.float64, requires_grad=True)
    losses = {name.format(number): x[: number + 1].sum() * (-2.0) ** number for number in range(count)}
    return str(ComputedLosses(losses).gradients(x))


def test_the_table_of_few_losses():
    assert table(1).splitlines() == [
        "                      cosine with",
        "         norm  share    total",
        "1 G_0       1   100%     1.00",
        "  total     1",
    ]
    assert table(3).splitlines() == [
        "                       cosine with",
        "          norm  share    total      1      2",
        "1 G_0        1   9.3%     0.56",
        "2 G_1    2.828  26.3%    -0.66  -0.71",
        "3 G_2    6.928  64.4%     0.96   0.58  -0.82",
        "  total  5.385",
    ]


@pytest.mark.parametrize("count", [5, 20, 130])
def test_the_table_of_many_losses_fits_a_terminal_and_has_each_pair_once(count):
    lines = table(count).splitlines()
    assert max(map(len, lines)) <= 80
    assert not any(line != line.rstrip() for line in lines)
    below = lines[lines.index("cosine with each other") :] if count > 5 else []
    cells = sum(line.count(".") for line in below)
    assert cells == (count * (count - 1) // 2 if below else 0)


def test_numbers_that_are_small_are_not_shown_as_zero():
    x = torch.zeros(2, requires_grad=True)
    shown = str(ComputedLosses(a=x[0] * 1e-7, b=x[1] - 1e-4 * x[0]).gradients(x))
    assert "1e-05%" in shown
    assert "1e-07" in shown
    assert "-0.00" not in shown


def test_names_are_shown_without_what_a_terminal_would_act_on():
    shown = table(2, "bad\x1b[31m\n{}")
    assert len(shown.splitlines()) == 5
    assert "1 bad\\x1b[31m\\n0" in shown


# Recording


def recording(**kwargs):
    manager = manager_of(
        LMLoss(name="G_L1", function=nn.L1Loss(), loss_weight=100.0),
        LMLoss(name="G_GAN", function=lambda pred: -pred.mean(), inputs=("pred_fake",)),
        enable_logging=True,
        **kwargs,
    )

    def compute():
        fake = torch.ones(4, requires_grad=True)
        losses = manager.compute_losses(
            {"y_fake": fake, "y": torch.zeros(4), "pred_fake": -fake}, query=["G_L1", "G_GAN"]
        )
        return losses, fake

    return manager, compute


def test_it_is_recorded_where_every_divides_the_step():
    manager, compute = recording()
    for number in range(7):
        manager.tick(epoch=number)
        found = manager.record_gradients(*compute(), every=3)
        assert isinstance(found, LossGradients) == (number % 3 == 0)
    for name in ("G_L1", "G_GAN"):
        for kind, values in (("norm", found.norms), ("share", found.shares), ("cosine", found.cosines)):
            series = manager.series(f"{name}@grad_{kind}")
            assert series.loss.tolist() == [values[name]] * 3
            assert series.step.tolist() == [0, 3, 6]
            assert series.epoch.tolist() == [0, 3, 6]
    assert manager.latest("G_L1@grad_norm") == {"G_L1@grad_norm": 50.0}
    assert set(manager.get_loss_values()) == {"G_L1", "G_GAN"}


def test_at_other_steps_no_gradient_is_taken():
    manager, compute = recording()
    manager.tick(epoch=0, step=1)
    losses, _ = compute()
    losses.total.backward()
    assert manager.record_gradients(losses, "whatever it is") is None


def test_without_a_clock_the_calls_of_the_losses_count():
    manager, compute = recording()
    recorded = [manager.record_gradients(*compute(), every=2) is not None for _ in range(5)]
    assert recorded == [True, False, True, False, True]
    assert manager.series("G_L1@grad_norm").step.tolist() == [0, 2, 4]
    manager.tick(epoch=0)
    compute()
    assert manager.step == 5


@pytest.mark.parametrize("ticks", [True, False])
def test_in_a_split_it_is_recorded_there(ticks):
    manager, compute = recording()
    if ticks:
        manager.tick(epoch=2, step=100)
    with manager.split("val"):
        assert manager.record_gradients(*compute()) is not None
        assert manager.means("G_L1@grad_norm") == {"G_L1@grad_norm": 50.0}
    assert manager.series("val/G_L1@grad_norm").step.tolist() == [100 if ticks else 0]
    assert manager.latest("G_L1@grad_norm") == {}


def test_in_a_pause_nothing_is_done():
    manager, compute = recording()
    manager.tick(epoch=0)
    with manager.paused():
        assert manager.record_gradients(*compute()) is None
        losses, _ = compute()
        assert manager.record_gradients(losses, None) is None
    assert manager.latest("G_L1@grad_norm") == {}


def test_it_goes_into_the_log_and_a_resumed_run_goes_on(tmp_path):
    for resume in (False, True):
        manager, compute = recording(experiment_dir=tmp_path, resume=resume)
        for _ in range(2):
            manager.tick(epoch=0)
            manager.record_gradients(*compute(), every=1)
        series = manager.series("G_GAN@grad_share")
        manager.close()
    assert series.step.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("kind", ["grad_norm", "grad_share", "grad_cosine"])
def test_a_loss_that_has_one_of_the_names_is_an_error_before_anything_is_recorded(kind):
    manager, compute = recording()
    manager.register_loss_fn(f"G_GAN@{kind}", nn.L1Loss())
    manager.tick(epoch=0)
    losses, fake = compute()
    with pytest.raises(DuplicateLossError, match=f"'G_GAN@{kind}' is a loss, which records itself"):
        manager.record_gradients(losses, fake)
    assert manager.latest(["G_L1@grad_norm", "G_GAN@grad_norm"]).keys() <= {f"G_GAN@{kind}"}
    losses.total.backward()


def test_a_loss_cannot_be_registered_under_a_name_that_was_recorded():
    manager, compute = recording()
    manager.record_gradients(*compute())
    with pytest.raises(DuplicateLossError, match="'G_L1@grad_norm' is recorded as a scalar"):
        manager.register_loss_fn("G_L1@grad_norm", nn.L1Loss())


@pytest.mark.parametrize("wrt", [torch.ones(2), "y_fake", nn.Linear(2, 2)])
def test_what_cannot_be_taken_records_nothing(wrt):
    manager, compute = recording()
    losses, _ = compute()
    with pytest.raises((TypeError, WeightingError)):
        manager.record_gradients(losses, wrt)
    assert manager.latest("G_L1@grad_norm") == {}


@pytest.mark.parametrize("every", [0, -1, 1.5, "3", None, True])
def test_every_is_an_integer_of_at_least_one(every):
    manager, compute = recording()
    with pytest.raises((TypeError, ValueError), match="every must be"):
        manager.record_gradients(*compute(), every=every)


@pytest.mark.parametrize("losses", [{"a": torch.ones(1)}, torch.ones(1), None])
def test_losses_are_what_compute_losses_returned(losses):
    manager, _ = recording()
    with pytest.raises(TypeError, match="losses must be what compute_losses returned"):
        manager.record_gradients(losses, torch.ones(1, requires_grad=True))


def test_a_closed_manager_records_no_gradients():
    manager, compute = recording()
    losses, fake = compute()
    manager.close()
    with pytest.raises(NectarganError, match="this manager is closed"):
        manager.record_gradients(losses, fake)


def test_recording_takes_a_scaler():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", lambda pred: pred.float().sum(), 2.0**-20, inputs=("pred_fake",))
    weight = torch.ones(2, requires_grad=True)
    losses = manager.compute_losses({"pred_fake": weight.half() * 2**-8})
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    found = manager.record_gradients(losses, weight, scaler=scaler)
    assert found.norms["a"] == pytest.approx(2**-28 * math.sqrt(2))
