"""Inside torch.compile every loss is weighted and recorded, with one graph for every weight, step and epoch."""

from __future__ import annotations

import contextlib
import gc
import warnings
import weakref

import pytest
import torch
import torch.utils.checkpoint
from devices import elsewhere
from packaging.version import Version
from torch._dynamo.utils import counters

from nectargan_core import LMLoss, LossManager, Schedule
from nectargan_core.errors import (
    DuplicateLossError,
    LossResultError,
    NectarganError,
    NectarganWarning,
    NonFiniteLossError,
    ScheduleError,
)

TORCH = Version(torch.__version__)
BACKENDS = ["eager", *(pytest.param(name, marks=pytest.mark.slow) for name in ("aot_eager", "inductor"))]

# Warnings that torch causes itself while it compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch"),
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def make(dtype=torch.float32):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("L1", torch.nn.L1Loss(), loss_weight=3.0, tags=["G"])
    manager.register_loss_fn(
        "decaying", torch.nn.MSELoss(), schedule=Schedule(end_epoch=10, initial_value=0.1, target_value=5.0), tags=["G"]
    )
    manager.register_loss_fn("map", torch.nn.L1Loss(reduction="none"), loss_weight=0.7, tags=["G"])
    return manager


def train(manager, step, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    gradients = []
    for number in range(6):
        x, y = torch.rand(2, 3, 4, generator=generator, dtype=torch.float32).to(dtype).unbind()
        x = x.clone().requires_grad_()
        manager.tick(epoch=number)
        step(manager, x, y).backward()
        gradients.append(x.grad)
    return gradients


def by_name(manager, x, y):
    return sum(manager.compute_loss_xy(name, x, y).mean() for name in ("L1", "decaying", "map", "L1"))


def together(manager, x, y):
    return manager.compute_losses({"y_fake": x, "y": y}, query="G").total


NO_DICTS = pytest.mark.skipif(Version("2.7") > TORCH, reason="the compiler cannot make a subclass of dict there")
STEPS = [by_name, pytest.param(together, marks=NO_DICTS)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_compiled_step_records_and_returns_what_an_ordinary_one_does(step, backend, dtype):
    ordinary, compiled = make(), make()
    expected = train(ordinary, step, dtype)
    gradients = train(compiled, torch.compile(step, backend=backend, fullgraph=True), dtype)
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-6
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance)
    for name in ("L1", "decaying", "map"):
        ours, theirs = compiled.series(name), ordinary.series(name)
        assert ours.step.tolist() == theirs.step.tolist()
        assert ours.epoch.tolist() == theirs.epoch.tolist()
        assert ours.weight.tolist() == theirs.weight.tolist()
        assert ours.loss.tolist() == pytest.approx(theirs.loss.tolist(), rel=tolerance)


@pytest.mark.parametrize("step", STEPS)
def test_one_graph_serves_every_weight_step_and_epoch(step):
    manager = make()
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    train(manager, compiled)
    manager.set_weight("L1", 7.0)
    train(manager, compiled)
    manager.disable("map")
    train(manager, compiled)
    assert counters["stats"]["unique_graphs"] == 1
    assert manager.get_loss_weights() == {"L1": 7.0, "decaying": pytest.approx(2.55), "map": 0.0}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [lambda x, y: x.sqrt().sum(), lambda x, y: (1 / x).sum(), lambda x, y: x.log()])
def test_an_infinite_gradient_times_a_weight_of_zero_is_zero_in_a_compiled_step(backend, function):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", function, loss_weight=0.0)

    @torch.compile(backend=backend, fullgraph=True)
    def step(x):
        return manager.compute_loss_xy("a", x, None).sum()

    x = torch.zeros(3, requires_grad=True)
    result = step(x)
    result.backward()
    assert (result.item(), x.grad.tolist()) == (0.0, [0.0, 0.0, 0.0])
    manager.set_weight("a", 2.0)
    x, plain = (torch.full((3,), 4.0, requires_grad=True) for _ in range(2))
    step(x).backward()
    (2.0 * function(plain, None)).sum().backward()
    assert x.grad.tolist() == plain.grad.tolist()


def test_a_weight_that_float32_rounds_to_zero_still_has_a_gradient_in_float64():
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: x.sum(), loss_weight=1e-60)
    step = torch.compile(lambda x: manager.compute_loss_xy("a", x, None), backend="eager", fullgraph=True)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    step(x).backward()
    assert x.grad.tolist() == [1e-60, 1e-60]


def test_a_weight_of_zero_contributes_zero_to_a_compiled_step():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("infinite", lambda x, y: (x / 0).sum(), loss_weight=0.0)
    step = torch.compile(lambda x: manager.compute_loss_xy("infinite", x, None), backend="eager", fullgraph=True)
    assert step(torch.ones(2)).item() == 0.0
    assert manager.get_loss_values() == {"infinite": 0.0}


def test_a_compiled_graph_keeps_no_loss_alive():
    manager = LossManager()
    manager.register_loss_fn("learned", torch.nn.Linear(2, 2), inputs=("y_fake",))
    gone = weakref.ref(manager.get_registered_losses()["learned"].function)
    step = torch.compile(lambda manager, x: manager.compute_loss("learned", x), backend="eager", fullgraph=True)
    step(manager, torch.ones(2))
    del manager
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(Version("2.9") > TORCH, reason="there a graph that raises ends in an error of the compiler's own")
def test_the_clock_ticks_outside_of_a_graph():
    manager = make()

    def step(x):
        manager.tick(epoch=0)
        return manager.compute_loss_xy("L1", x, x)

    with pytest.raises(torch._dynamo.exc.Unsupported, match="outside of torch.compile"):
        torch.compile(step, backend="eager", fullgraph=True)(torch.ones(2))
    # Where the graph may break, it ticks between two graphs.
    compiled = torch.compile(step, backend="eager")
    for _ in range(3):
        compiled(torch.ones(2))
    assert manager.series("L1").step.tolist() == [0, 1, 2]


@NO_DICTS
def test_losses_that_a_graph_computed_have_no_unweighted_values():
    manager = make()
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    compiled = torch.compile(
        lambda: manager.compute_losses({"y_fake": x, "y": y}, query="G"), backend="eager", fullgraph=True
    )
    with pytest.raises(NectarganError, match="only compute_losses outside of torch.compile"):
        compiled().unweighted  # noqa: B018 # asking is the test


@NO_DICTS
@pytest.mark.parametrize("query", [["G"], ("L1", "decaying"), None])
def test_any_query_compiles(query):
    manager = make()
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    step = torch.compile(
        lambda: manager.compute_losses({"y_fake": x, "y": y}, query=query).total, backend="eager", fullgraph=True
    )
    assert step().item() > 0.0


# One operator, and few graphs


class Captured:
    """A backend that keeps the graphs it is given, and runs them as they are."""

    def __init__(self):
        self.graphs = []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        return graph

    @property
    def operators(self):
        """The names of our operators in the last graph."""
        nodes = self.graphs[-1].graph.nodes
        names = [str(node.target) for node in nodes if str(node.target).startswith("nectargan")]
        return [name.split(".")[1] for name in names]


def eight(schedule=None, **kwargs):
    manager = LossManager(enable_logging=True, **kwargs)
    for index in range(8):
        given = {"loss_weight": 1.0 + index} if schedule is None else {"schedule": schedule}
        manager.register_loss_fn(f"loss{index}", torch.nn.L1Loss(), tags=["G"], **given)
    return manager


def all_of(manager, query=None, **kwargs):
    def step(x, y):
        return manager.compute_losses({"y_fake": x, "y": y}, query, **kwargs).total

    return step


def inputs(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, 3, 4, generator=generator).to(dtype).unbind()
    return x.clone().requires_grad_(), y


@NO_DICTS
def test_a_step_has_one_operator_for_all_its_losses():
    backend = Captured()
    torch.compile(all_of(eight()), backend=backend, fullgraph=True)(*inputs())
    assert backend.operators == ["record"]


def test_a_loss_by_itself_has_one_operator():
    backend, manager = Captured(), eight()
    torch.compile(lambda x, y: manager.compute_loss_xy("loss1", x, y), backend=backend, fullgraph=True)(*inputs())
    assert backend.operators == ["record"]


@NO_DICTS
def test_losses_of_several_dtypes_and_maps_have_one_operator():
    backend, manager = Captured(), make()
    manager.register_loss_fn("double", lambda x, y: (x.double() - y).square().sum(), loss_weight=0.1)
    manager.register_loss_fn("half", lambda x, y: (x - y).half().abs().sum(), loss_weight=0.1)
    manager.register_loss_fn("count", lambda x, y: (x > y).sum(), loss_weight=0.1)
    torch.compile(all_of(manager), backend=backend, fullgraph=True)(*inputs())
    assert backend.operators == ["record_means"]


@NO_DICTS
@pytest.mark.parametrize("query", ["G", ["G", "loss3"], None])
def test_steps_weights_schedules_splits_and_flushes_make_no_other_graph(tmp_path, query):
    manager = LossManager(experiment_dir=tmp_path, history_buffer_size=3)
    for index in range(4):
        manager.register_loss_fn(f"loss{index}", torch.nn.L1Loss(), loss_weight=1.0 + index, tags=["G"])
    step, (x, y) = torch.compile(all_of(manager, query), backend="eager", fullgraph=True), inputs()
    expected = {"loss0": 0.0, "loss1": 2.0, "loss2": 3.0, "loss3": 4.0}
    for number in range(12):
        manager.tick(epoch=number)
        expected["loss0"] = float(number)
        manager.set_weight("loss0", float(number))
        if number == 3:
            expected["loss1"] = 0.0
            manager.disable("loss1")
        if number >= 5:
            expected["loss2"] = min(number / 10, 1.0)
        if number == 5:
            manager.set_schedule("loss2", Schedule(end_epoch=10, initial_value=0.0, target_value=1.0))
        if number >= 7:
            expected["loss3"] = min(number / 10, 1.0)
        if number == 7:
            manager.set_schedule("loss3", Schedule(unit="step", end_epoch=10, initial_value=0.0, target_value=1.0))
        if number == 8:
            with manager.split("val"):
                step(x, y)
            with manager.paused():
                step(x, y)
        total = step(x, y)
        torch.testing.assert_close(total, sum(expected.values()) * (x - y).abs().mean())
        assert manager.get_loss_weights(precision=None) == pytest.approx(expected)
    assert counters["stats"]["unique_graphs"] == 1
    assert manager.series("loss0").weight.tolist() == list(range(12))
    assert manager.series("val/loss0").step.tolist() == [8]
    manager.close()


@NO_DICTS
def test_losses_outside_of_the_query_make_no_other_graph():
    manager = eight()
    by_tag = torch.compile(all_of(manager, "G"), backend="eager", fullgraph=True)
    by_name = torch.compile(lambda x, y: manager.compute_loss_xy("loss1", x, y), backend="eager", fullgraph=True)
    for number in range(10):
        manager.tick()
        by_tag(*inputs())
        by_name(*inputs())
        manager.register_loss_fn(f"other{number}", torch.nn.MSELoss())
    assert counters["stats"]["unique_graphs"] == 2
    assert len(manager.series("loss1").loss) == 20


@pytest.mark.slow
@NO_DICTS
def test_a_loss_that_is_registered_later_is_computed_too():
    manager = eight()
    step = torch.compile(all_of(manager), backend="eager", fullgraph=True)
    before = step(*inputs())
    manager.register_loss_fn("later", torch.nn.L1Loss(), loss_weight=36.0)
    torch.testing.assert_close(step(*inputs()), 2 * before)
    assert len(manager.series("later").loss) == 1


@pytest.mark.slow
@NO_DICTS
def test_two_managers_run_the_same_step():
    def step(manager, x, y):
        return manager.compute_losses({"y_fake": x, "y": y}).total + manager.compute_loss_xy("loss1", x, y)

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    managers = [eight() for _ in range(3)]
    for number, manager in enumerate(managers):
        manager.set_weight("loss1", float(number))
    totals = [compiled(manager, *inputs()).item() for manager in managers]
    torch.testing.assert_close(totals, [step(manager, *inputs()).item() for manager in managers])
    assert counters["stats"]["unique_graphs"] <= 3
    assert all(len(manager.series("loss1").loss) == 4 for manager in managers)


# The same as without torch.compile


def mixed():
    """Return a manager with losses that differ in all that records may depend on."""
    manager = LossManager(enable_logging=True)
    falling = {"start_epoch": 1, "end_epoch": 4, "initial_value": 3.0, "target_value": 0.0}

    def add(name, function, **kwargs):
        manager.register_loss_fn(name, function, tags=["G"], **kwargs)

    add("scalar", torch.nn.L1Loss(), loss_weight=0.1)
    add("negative", torch.nn.MSELoss(), loss_weight=-2.5)
    add("by_epoch", torch.nn.L1Loss(), schedule=Schedule(**falling))
    add("by_step", torch.nn.L1Loss(), schedule=Schedule(unit="step", **falling))
    add("map", torch.nn.L1Loss(reduction="none"), loss_weight=0.7)
    add("map_by_step", torch.nn.MSELoss(reduction="none"), schedule=Schedule(unit="step", **falling))
    add("half", lambda x, y: (x - y).half().square().sum(), loss_weight=0.3)
    add("double", lambda x, y: (x.double() - y).square().sum(), loss_weight=0.3)
    add("count", lambda x, y: (x > y).sum(), loss_weight=0.3)
    add("off", torch.nn.L1Loss(), loss_weight=0.0)
    manager.register_loss_fn("shadow", torch.nn.L1Loss(), loss_weight=0.0, tags=["G"], skip_when_zero=False)
    return manager


def records(manager, name):
    found = manager.series(name)
    return {column: getattr(found, column) for column in ("step", "epoch", "weight", "unweighted", "loss")}


def run_both(run, backend="aot_eager", **kwargs):
    """Run the same with a compiled and with an ordinary step; compare the records."""
    managers = []
    for compiled in (False, True):
        torch.manual_seed(0)
        managers.append(mixed())
        step = all_of(managers[-1], **kwargs)
        run(managers[-1], torch.compile(step, backend=backend, fullgraph=True) if compiled else step)
    ordinary, compiled = managers
    names = [name for name, series in ordinary._recorder.series.items() if series.count]
    assert names
    for name in names:
        expected, found = records(ordinary, name), records(compiled, name)
        for column in ("step", "epoch", "weight"):
            assert found[column].tolist() == expected[column].tolist(), (name, column)
        exact = name.rpartition("/")[2] in ("scalar", "negative", "by_epoch", "by_step", "double", "count", "off")
        for column in ("unweighted", "loss"):
            tolerance = 0.0 if exact and backend != "inductor" else 2e-3 if "half" in name else 1e-6
            torch.testing.assert_close(
                torch.tensor(found[column]), torch.tensor(expected[column]), rtol=tolerance, atol=0.0, equal_nan=True
            )
    assert ordinary.get_loss_weights(precision=None) == compiled.get_loss_weights(precision=None)
    assert ordinary.means() == pytest.approx(compiled.means(), rel=1e-3, nan_ok=True)
    return ordinary, compiled


def compute(step):
    step(torch.rand(3, 4, requires_grad=True), torch.rand(3, 4)).backward()


@NO_DICTS
@pytest.mark.parametrize("backend", BACKENDS)
def test_records_are_the_same_with_a_clock(backend):
    def run(manager, step):
        for number in range(6):
            manager.tick(epoch=number)
            compute(step)

    ordinary, compiled = run_both(run, backend)
    for name, tensor in ordinary.get_loss_tensors().items():
        if not name.startswith("half"):
            torch.testing.assert_close(compiled.get_loss_tensors()[name], tensor, rtol=1e-6, atol=0.0)


@pytest.mark.slow
@NO_DICTS
@pytest.mark.filterwarnings("ignore:loss 'by_epoch' is scheduled and is computed without an epoch")
def test_records_are_the_same_without_a_clock():
    def run(manager, step):
        for _ in range(6):
            compute(step)
        compute(all_of(manager))  # An ordinary call in between counts, too.
        compute(step)
        manager.tick(epoch=2)
        compute(step)

    run_both(run)


@pytest.mark.slow
@NO_DICTS
def test_records_are_the_same_with_an_epoch_that_is_given():
    def run(manager, step):
        for _ in range(3):
            compute(step)

    run_both(run, epoch=2.5)


@NO_DICTS
@pytest.mark.slow
def test_epochs_that_are_given_make_few_graphs():
    manager = eight(Schedule(end_epoch=10, initial_value=0.0, target_value=10.0))

    @torch.compile(backend="eager", fullgraph=True)
    def step(x, y, epoch):
        return manager.compute_losses({"y_fake": x, "y": y}, epoch=epoch).total

    epochs = [0.5 * number for number in range(20)]
    for epoch in epochs:
        step(*inputs(), epoch)
    assert manager.series("loss1").weight.tolist() == manager.series("loss1").epoch.tolist() == epochs
    assert counters["stats"]["unique_graphs"] <= 4


@pytest.mark.slow
@NO_DICTS
def test_a_loss_that_breaks_a_graph_is_computed_and_recorded():
    def breaking(x, y):
        torch._dynamo.graph_break()
        return (x - y).abs().mean()

    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("breaking", breaking, loss_weight=2.0)
    manager.register_loss_fn("disabled", torch.compiler.disable(torch.nn.MSELoss()), loss_weight=3.0)
    manager.register_loss_fn("plain", torch.nn.L1Loss(), loss_weight=4.0)
    step, (x, y) = torch.compile(all_of(manager), backend="aot_eager"), inputs()
    for _ in range(2):
        manager.tick()
        torch.testing.assert_close(step(x, y), 6.0 * (x - y).abs().mean() + 3.0 * (x - y).square().mean())
    for name in ("breaking", "disabled", "plain"):
        assert manager.series(name).step.tolist() == [0, 1]


@NO_DICTS
def test_inputs_in_lists_and_dicts_and_by_name_are_gated_too():
    def features(fake, real, mask=None):
        total = sum((a - real["levels"][index]).sqrt().sum() for index, a in enumerate(fake))
        return total * mask.mean()

    manager = LossManager()
    names = {"fake": "features_fake", "real": "features_real", "mask": "mask"}
    manager.register_loss_fn("features", features, loss_weight=2.0, inputs=names)
    real, mask = {"levels": [torch.zeros(3), torch.zeros(3)]}, torch.rand(2, requires_grad=True)

    def step(fake):
        return manager.compute_losses({"features_fake": fake, "features_real": real, "mask": mask}).total

    compiled = torch.compile(step, backend="aot_eager", fullgraph=True)
    fake = [torch.ones(3, requires_grad=True) for _ in range(2)]
    torch.testing.assert_close(compiled(fake), step(fake))
    manager.disable("features")
    zeros = [torch.zeros(3, requires_grad=True) for _ in range(2)]
    gradients = torch.autograd.grad(compiled(zeros), [*zeros, mask])
    assert all(gradient.count_nonzero() == 0 for gradient in gradients)


@pytest.mark.slow
@NO_DICTS
def test_records_are_the_same_in_splits_and_pauses_and_while_a_loss_is_disabled():
    def run(manager, step):
        for number in range(3):
            manager.tick(epoch=number)
            compute(step)
            with manager.split("val"):
                compute(step)
                compute(step)
            with manager.paused():
                compute(step)
            manager.disable("scalar") if number == 0 else manager.enable("scalar")

    ordinary, compiled = run_both(run)
    assert len(compiled.series("val/scalar").loss) == len(ordinary.series("val/scalar").loss) == 6


@pytest.mark.slow
@NO_DICTS
def test_records_are_the_same_after_a_state_is_loaded():
    def run(manager, step):
        manager.tick(epoch=0)
        compute(step)
        state = manager.state_dict()
        manager.set_weight("scalar", 9.0)
        manager.tick(epoch=3)
        compute(step)
        manager.load_state_dict(state)
        compute(step)
        manager.tick()
        compute(step)

    run_both(run)


def test_a_loss_that_is_computed_twice_in_a_step_is_recorded_twice():
    manager = eight()
    schedule = Schedule(unit="step", end_epoch=4, initial_value=0.0, target_value=4.0)
    manager.set_schedule("loss1", schedule)
    backend = Captured()

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        return manager.compute_loss_xy("loss1", x, y) + manager.compute_loss_xy("loss1", y, x)

    step(*inputs())
    step(*inputs())
    assert manager.series("loss1").weight.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert backend.operators == ["weights", "record", "weights", "record"]
    manager.tick()
    step(*inputs())
    assert manager.series("loss1").weight.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 4.0]
    assert backend.operators == ["record", "record"]  # The clock says the step.


def test_a_loss_that_counts_its_steps_comes_after_another():
    manager = eight()
    manager.set_schedule("loss1", Schedule(unit="step", end_epoch=4, initial_value=0.0, target_value=4.0))

    @torch.compile(backend="eager", fullgraph=True)
    def step(x, y):
        return manager.compute_loss_xy("loss0", x, y), manager.compute_loss_xy("loss1", x, y)

    for number in range(3):
        first, second = step(*inputs())
        torch.testing.assert_close(second, number * first)


@NO_DICTS
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_backward_pass_uses_the_weights_of_its_forward_pass(backend):
    manager = eight()
    step, (x, y) = torch.compile(all_of(manager), backend=backend, fullgraph=True), inputs()
    first = step(x, y)
    manager.set_weight("G", 0.0)
    second = step(x, y)
    (gradient,) = torch.autograd.grad(first, x)
    assert gradient.abs().sum().item() == pytest.approx(36.0)
    (gradient,) = torch.autograd.grad(second, x)
    assert gradient.abs().sum().item() == 0.0


@NO_DICTS
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_map_is_kept_as_it_was_when_the_graph_uses_its_memory_again(backend):
    manager = LossManager()
    manager.register_loss_fn("map", lambda x, y: (x - y).abs(), loss_weight=2.0, inputs=("y_fake", "y"))

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        result = manager.compute_losses({"y_fake": x, "y": y})["map"]
        return (result * 3 + 1).sqrt_()

    x, y = inputs()
    with torch.no_grad():
        step(x, y)
        step(x + 1, y)
    torch.testing.assert_close(manager.get_loss_tensors()["map"], 2.0 * (x.detach() + 1 - y).abs())


@NO_DICTS
@pytest.mark.parametrize("backend", ["eager", pytest.param("aot_eager", marks=pytest.mark.slow)])
@pytest.mark.parametrize("nonfinite", ["warn", "raise", "ignore"])
def test_what_is_not_finite_is_reported_when_all_are_recorded(backend, nonfinite):
    manager = eight(nonfinite=nonfinite)
    step, (x, y) = torch.compile(all_of(manager), backend=backend, fullgraph=True), inputs()
    step(x, y)
    bad = torch.full_like(y, torch.inf)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NectarganWarning)
        if nonfinite == "raise":
            with pytest.raises(NonFiniteLossError, match="loss 'loss0' became inf at step 1"):
                step(x, bad)
        else:
            step(x, bad)
    assert len([each for each in caught if each.category is NectarganWarning]) == (8 if nonfinite == "warn" else 0)
    assert all(len(manager.series(f"loss{index}").loss) == 2 for index in range(8))


def test_a_closed_manager_computes_nothing_in_a_graph(tmp_path):
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("a", torch.nn.L1Loss())
    step = torch.compile(lambda x, y: manager.compute_loss_xy("a", x, y), backend="eager", fullgraph=True)
    step(*inputs())
    manager.close()
    with pytest.raises(NectarganError, match="this manager is closed"):
        step(*inputs())


def test_a_schedule_that_gives_no_number_is_an_error_of_the_call():
    def broken(schedule, epoch):
        return float("nan") if epoch == 2 else 1.0

    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", torch.nn.L1Loss(), schedule=Schedule(schedule=broken))
    step = torch.compile(lambda x, y: manager.compute_loss_xy("a", x, y), backend="eager", fullgraph=True)
    for number in range(4):
        manager.tick(epoch=number)
        with pytest.raises(ScheduleError) if number == 2 else contextlib.nullcontext():
            step(*inputs())
    assert manager.series("a").step.tolist() == [0, 1, 3]


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_activation_checkpointing_records_once(backend):
    manager = eight()

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        def body(x):
            return manager.compute_loss_xy("loss1", x.sin(), y)

        return torch.utils.checkpoint.checkpoint(body, x, use_reentrant=False)

    x, y = inputs()
    step(x, y).backward()
    assert len(manager.series("loss1").loss) == 1
    torch.testing.assert_close(x.grad, torch.autograd.grad(2.0 * (x.sin() - y).abs().mean(), x)[0])


@pytest.mark.slow
@NO_DICTS
def test_a_graph_whose_manager_is_gone_says_so():
    manager = eight()
    exported = torch.export.export(Step(all_of(manager)), inputs(), strict=True).module()
    exported(*inputs())
    del manager
    gc.collect()
    with pytest.raises(NectarganError, match="the manager whose losses this compiled graph computes is gone"):
        exported(*inputs())


class Step(torch.nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x, y):
        return self.step(x, y)


@pytest.mark.parametrize("keep", [True, False])
def test_results_on_a_device_stay_there_until_they_are_read(keep):
    manager = LossManager(enable_logging=keep)
    for name, weight in (("a", 2.0), ("map", 3.0), ("off", 0.0), ("half", 0.5)):
        manager.register_loss_fn(name, torch.nn.L1Loss(), loss_weight=weight)
    losses = list(manager._registry)
    result = elsewhere([1.0, 2.0])
    half = elsewhere(0.5).half()
    means = [None, (result.mean(), (3 * result).mean(), result), None, (half, half * 0.5, half)]
    losses[0].record_compiled(losses, None, elsewhere([5.0, 7.0]), means, None)
    losses[0].record_compiled(losses[:1], None, elsewhere([6.0]), (), None)
    for name in ("a", "map", "half"):
        assert manager._recorder.series[name].latest() != manager._recorder.series[name].latest()  # nan: not read yet
    assert manager.get_loss_values() == {"a": 12.0, "map": 4.5, "off": 0.0, "half": 0.25}
    assert manager.get_loss_tensors()["map"].tolist() == [3.0, 6.0]
    if keep:
        assert manager.series("a").unweighted.tolist() == [5.0, 6.0]
        assert manager.series("map").unweighted.tolist() == [1.5]


# Components


def with_components(**keywords):
    manager = LossManager(enable_logging=True, **keywords)
    manager.register_loss_fn(
        "layers",
        lambda x, y: {"map": (x - y).abs(), "sum": 2 * (x * y).sum(), "half": (x - y).square().mean().bfloat16()},
        schedule=Schedule(end_epoch=4, initial_value=0.0, target_value=2.0),
    )
    manager.register_loss_fn("double", lambda x, y: {"a": (x - y).double().square().mean(), "b": x.mean()}, 0.5)
    manager.register_loss_fn("L1", torch.nn.L1Loss(), 3.0)
    manager.register_loss_fn("map", torch.nn.L1Loss(reduction="none"), 0.1)
    manager.register_loss_fn("off", lambda x, y: {"a": x.sum(), "b": y.sum()}, 0.0)
    running = LMLoss(
        name="running",
        function=lambda x, y: {"root": (x - x).sqrt().sum(), "b": x.sum()},
        loss_weight=0.0,
        skip_when_zero=False,
    )
    manager.register_spec(lambda: {"running": running})
    return manager


def assert_same_records(ours, theirs):
    counts = theirs.state_dict()["counts"]
    assert ours.state_dict()["counts"] == counts
    for name in counts:
        one, other = ours.series(name), theirs.series(name)
        assert one.component_of == other.component_of
        for column in ("step", "epoch", "weight"):
            assert getattr(one, column).tolist() == getattr(other, column).tolist()
        for column in ("loss", "unweighted"):
            assert getattr(one, column).tolist() == pytest.approx(
                getattr(other, column).tolist(), rel=1e-2, nan_ok=True
            )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", [pytest.param("together", marks=NO_DICTS), "by name"])
@pytest.mark.parametrize("ticks", [True, False])
def test_components_are_recorded_in_a_graph_as_outside_of_one(backend, step, ticks):
    def function(manager, x, y):
        if step == "together":
            return manager.compute_losses({"y_fake": x, "y": y}).total
        names = ("layers", "double", "off", "running", "L1")
        return sum(manager.compute_loss_xy(name, x, y) for name in names)

    ordinary, compiled = with_components(), with_components()
    if not ticks:
        for manager in (ordinary, compiled):
            manager.set_weight("layers", 0.7)
    gradients = []
    for manager, run in (
        (ordinary, function),
        (compiled, torch.compile(function, backend=backend, fullgraph=True)),
    ):
        for number in range(4):
            x, y = inputs()
            if ticks:
                manager.tick(epoch=number)
            run(manager, x, y).backward()
            gradients.append(x.grad)
    for one, other in zip(gradients[:4], gradients[4:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-2, atol=1e-3)
    assert_same_records(compiled, ordinary)
    assert compiled.series("layers.sum").step.tolist() == ([1, 2, 3] if ticks else [0, 1, 2, 3])
    assert compiled.series("running.root").weight.tolist() == [0.0] * 4
    assert counters["stats"]["unique_graphs"] == 1


@NO_DICTS
def test_a_step_with_components_has_one_operator():
    backend = Captured()
    torch.compile(all_of(with_components()), backend=backend, fullgraph=True)(*inputs())
    assert backend.operators == ["record_components"]


@NO_DICTS
@pytest.mark.parametrize("backend", BACKENDS)
def test_components_can_be_used_in_a_graph_and_returned_from_one(backend):
    manager = with_components()

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        losses = manager.compute_losses({"y_fake": x, "y": y}, ["double", "L1"])
        return losses, losses.components["double"]["b"] * 3

    x, y = inputs()
    losses, used = step(x, y)
    mean = x.detach().mean().item()
    assert used.item() == pytest.approx(3 * mean * 0.5)
    assert list(losses.components) == ["double", "L1"]
    assert losses.components["L1"] == {}
    assert losses.components["double"]["b"].item() == pytest.approx(mean * 0.5)
    used.backward()
    assert x.grad.sum().item() == pytest.approx(1.5)


def test_components_are_recorded_in_splits_and_pauses_of_a_graph():
    manager = with_components()
    step = torch.compile(lambda x, y: manager.compute_loss_xy("double", x, y), backend="eager", fullgraph=True)
    with manager.split("val"):
        step(*inputs())
    with manager.paused():
        step(*inputs())
    counts = {name: count for name, count in manager.state_dict()["counts"].items() if count}
    assert counts == {"val/double": 1, "val/double.a": 1, "val/double.b": 1}


def test_a_component_whose_name_is_taken_is_an_error_when_the_graph_runs():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", lambda x, y: {"b": x.sum(), "c": y.sum()})
    manager.record("a.c", 1.0)
    step = torch.compile(lambda x, y: manager.compute_loss_xy("a", x, y), backend="eager", fullgraph=True)
    with pytest.raises(DuplicateLossError, match="'a.c', and that is recorded as a scalar already"):
        step(*inputs())
    assert manager.state_dict()["counts"] == {"a": 0, "a.c": 1}


@pytest.mark.parametrize("nonfinite", ["warn", "raise"])
def test_a_component_that_is_not_finite_is_named_by_a_graph(nonfinite):
    manager = LossManager(enable_logging=True, nonfinite=nonfinite)
    manager.register_loss_fn("a", lambda x, y: {"good": x.sum(), "bad": y.sum() / 0})
    step = torch.compile(lambda x, y: manager.compute_loss_xy("a", x, y), backend="eager", fullgraph=True)
    found = pytest.warns(NectarganWarning, match="in its component bad")
    with found if nonfinite == "warn" else pytest.raises(NonFiniteLossError, match="in its component bad"):
        step(*inputs())
    assert set(manager.state_dict()["counts"].values()) == {1}


def test_components_are_recorded_by_a_graph_of_other_names_too():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", lambda x, names: {name: x.sum() for name in names}, inputs=("x", "names"))
    step = torch.compile(lambda x, names: manager.compute_loss("a", x, names), backend="eager", fullgraph=True)
    for names in (("b", "c"), ("c",), ("b", "d")):
        step(torch.ones(2), names)
    assert {name: manager.series(f"a.{name}").step.tolist() for name in "bcd"} == {"b": [0, 2], "c": [0, 1], "d": [2]}


@pytest.mark.parametrize("result", [{}, {"a": 1.0}, {"a/b": torch.ones(())}, {"a": {"b": torch.ones(())}}, (1.0, 2.0)])
@pytest.mark.slow
def test_what_is_no_dict_of_tensors_is_an_error_in_a_graph(result):
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: result)
    step = torch.compile(lambda x, y: manager.compute_loss_xy("a", x, y), backend="eager")
    with pytest.raises(LossResultError, match="loss 'a' returned"):
        step(*inputs())


# Scalars that are no losses


@pytest.mark.parametrize("backend", BACKENDS)
def test_scalars_are_recorded_in_a_graph(backend):
    manager = eight()

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        manager.record("map", x - y)
        manager.record("scalar", x.max())
        manager.record("count", (x > y).sum())
        manager.record("whole", x > y)
        manager.record("number", 0.1)
        return manager.compute_loss_xy("loss1", x, y)

    x, y = inputs()
    for _ in range(2):
        manager.tick()
        step(x, y).backward()
    expected = {"map": (x - y).mean(), "scalar": x.max(), "count": (x > y).sum(), "whole": (x > y).double().mean()}
    for name, value in {**expected, "number": torch.tensor(0.1)}.items():
        assert manager.series(name).step.tolist() == [0, 1]
        assert manager.series(name).loss.tolist() == pytest.approx(2 * [value.item()], rel=1e-6)


def test_a_scalar_with_the_name_of_a_loss_is_an_error_in_a_graph_too():
    manager = eight()
    step = torch.compile(lambda x: manager.record("loss1", x), backend="eager", fullgraph=True)
    with pytest.raises(DuplicateLossError, match="'loss1' is a loss, which records itself"):
        step(torch.ones(2))


@NO_DICTS
def test_a_lazy_input_may_be_written_inside_the_compiled_step():
    manager, network = LossManager(), torch.nn.Linear(3, 1)
    manager.register_loss_fn("a", lambda pred: pred.mean(), 2.0, inputs=("pred",))
    step = torch.compile(
        lambda x: manager.compute_losses({"pred": lambda: network(x)}).total, backend="eager", fullgraph=True
    )
    x = torch.rand(2, 3)
    assert step(x).item() == (2 * network(x).mean()).item()


class Rooted(torch.nn.Module):
    """A loss with a parameter whose gradient is infinite, and a buffer that counts."""

    def __init__(self):
        super().__init__()
        self.parameter = torch.nn.Parameter(torch.zeros(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, y):
        self.calls += 1
        return x.mean() + self.parameter.sqrt().sum()


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_parameters_of_a_loss_get_no_gradient_in_a_graph_while_its_weight_is_zero(backend):
    manager, module = LossManager(), Rooted()
    manager.register_loss_fn("a", module, loss_weight=0.0)
    step = torch.compile(lambda x: manager.compute_loss_xy("a", x, None), backend=backend, fullgraph=True)
    step(torch.ones(2)).backward()
    assert module.parameter.grad.tolist() == [0.0] * 3
    manager.set_weight("a", 2.0)
    module.parameter.data.fill_(4.0)
    module.parameter.grad = None
    step(torch.ones(2)).backward()
    assert (module.parameter.grad.tolist(), module.calls.item()) == ([0.5] * 3, 2.0)


@NO_DICTS
def test_a_dict_without_gradients_is_passed_as_it_is():
    class Output(dict):
        pass

    given = Output(logits=torch.ones(2))
    manager = LossManager()
    manager.register_loss_fn("a", lambda out: out["logits"].mean() * isinstance(out, Output), inputs=("out",))
    step = torch.compile(lambda out: manager.compute_losses({"out": out}).total, backend="eager", fullgraph=True)
    assert step(given).item() == 1.0


@NO_DICTS
def test_a_program_whose_losses_were_replaced_says_so():
    class Step(torch.nn.Module):
        def forward(self, x):
            return manager.compute_losses({"y_fake": x, "y": x}).total

    manager = LossManager()
    manager.register_loss_fn("a", torch.nn.L1Loss())
    program = torch.export.export(Step(), (torch.ones(2),), strict=True).module()
    manager.init_from_spec(None)
    with pytest.raises(NectarganError, match="is gone, or has other losses now"):
        program(torch.ones(2))


def test_a_weight_can_be_set_while_another_step_is_compiled():
    manager, weights = LossManager(), []

    def slow(graph, inputs):
        manager.set_weight("a", 5.0)
        weights.append(manager.get_loss_weights()["a"])
        return graph

    manager.register_loss_fn("a", lambda x, y: x.sum())
    torch.compile(lambda x: x * 2, backend=slow)(torch.ones(2))
    assert weights == [5.0]
