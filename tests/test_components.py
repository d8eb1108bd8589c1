"""Losses whose functions return a dict: the sum is the loss, and each component is recorded beside it."""

from __future__ import annotations

import gc
import math
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from functools import partial

import pytest
import torch
import torch.utils.checkpoint
from devices import OnDevice, Operations, elsewhere
from hypothesis import given
from hypothesis import strategies as st
from managers import manager_of
from torch import nn

from nectargan_core import ComputedLosses, LMLoss, LossLog, Schedule, hookimpl
from nectargan_core.errors import DuplicateLossError, LossResultError, NectarganWarning, NonFiniteLossError

OTHERS = [LMLoss(name=f"other{number}", function=lambda x: x.sum(), inputs=("x",)) for number in range(4)]
HALVES = (torch.float16, torch.bfloat16)


def layers(x):
    return {"relu1": x.square().mean(), "relu2": 3 * x.sum()}


def with_layers(function=layers, weight=2.0, others=0, **keywords):
    """Return a manager with a loss `G_VGG` of components, and some more losses."""
    fields = {name: keywords.pop(name) for name in ("schedule", "skip_when_zero") if name in keywords}
    if "schedule" not in fields:
        fields["loss_weight"] = weight
    loss = LMLoss(name="G_VGG", function=function, tags=["G"], inputs=("x",), **fields)
    return manager_of(loss, *OTHERS[:others], **{"enable_logging": True, **keywords})


def batch():
    return torch.tensor([1.0, 2.0], requires_grad=True)


def together(manager, x):
    return manager.compute_losses({"x": x})["G_VGG"]


def alone(manager, x):
    return manager.compute_loss("G_VGG", x)


def columns(manager, name):
    records = manager.series(name)
    return [getattr(records, column).tolist() for column in ("step", "epoch", "loss", "weight", "unweighted")]


# The sum

WAYS = pytest.mark.parametrize(("way", "others"), [(alone, 0), (together, 0), (together, 1), (together, 4)])


@WAYS
def test_the_loss_is_the_weighted_sum_of_the_components(way, others):
    x, same = batch(), batch()
    result = way(with_layers(others=others), x)
    expected = 2.0 * (same.square().mean() + 3 * same.sum())
    assert torch.equal(result, expected)
    result.backward()
    expected.backward()
    assert torch.equal(x.grad, same.grad)


@WAYS
def test_each_component_is_recorded_with_the_step_epoch_and_weight_of_its_loss(way, others):
    manager = with_layers(others=others)
    for epoch in (0.5, 1.0):
        manager.tick(epoch=epoch)
        way(manager, batch())
    assert columns(manager, "G_VGG.relu1") == [[0, 1], [0.5, 1.0], [5.0, 5.0], [2.0, 2.0], [2.5, 2.5]]
    assert columns(manager, "G_VGG.relu2") == [[0, 1], [0.5, 1.0], [18.0, 18.0], [2.0, 2.0], [9.0, 9.0]]
    assert columns(manager, "G_VGG") == [[0, 1], [0.5, 1.0], [23.0, 23.0], [2.0, 2.0], [11.5, 11.5]]
    assert manager.series("G_VGG.relu1").component_of == "G_VGG"
    assert manager.series("G_VGG").component_of is None


@WAYS
def test_a_component_that_is_a_map_counts_with_its_mean(way, others):
    manager = with_layers(lambda x: {"map": x, "scalar": x.sum()}, 1.0, others)
    assert way(manager, batch()).item() == 4.5
    assert manager.series("G_VGG.map").loss.tolist() == [1.5]


@WAYS
@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.int64, torch.bool])
def test_components_are_summed_in_single_precision(way, others, dtype):
    value = torch.tensor(1, dtype=dtype)
    manager = with_layers(lambda x: {"a": value, "b": value, "map": value.repeat(3)}, 0.1, others)
    result = way(manager, batch())
    assert result.dtype is torch.float32
    assert result.item() == (torch.tensor(3.0) * 0.1).item()
    assert manager.series("G_VGG.map").loss.tolist() == [torch.tensor(0.1).item()]


@WAYS
def test_components_are_summed_in_double_precision_if_one_is(way, others):
    third = torch.tensor(1 / 3, dtype=torch.float64)
    manager = with_layers(lambda x: {"a": x.sum(), "b": x.mean(), "c": third}, 0.1, others)
    result = way(manager, torch.tensor([1e8, 1.0]))
    assert result.dtype is torch.float64
    assert result.item() == pytest.approx((100000000 + 50000000 + 1 / 3) * 0.1, rel=1e-15)
    assert manager.series("G_VGG.c").loss.tolist() == [(third * 0.1).item()]


def test_halves_whose_sum_is_too_large_for_them_have_a_finite_sum():
    manager = with_layers(lambda x: dict.fromkeys("abcde", torch.tensor(2e4, dtype=torch.float16)), 1.0)
    assert alone(manager, batch()).item() == 1e5


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), min_size=1, max_size=5),
        st.floats(-100, 100, width=32),
        min_size=1,
        max_size=7,
    ),
    st.floats(-10, 10),
    st.integers(0, 4),
)
def test_what_is_recorded_is_what_would_be_computed_by_hand(values, weight, others):
    manager = with_layers(lambda x: {name: x.sum() * 0 + value for name, value in values.items()}, weight, others)
    losses = manager.compute_losses({"x": batch()})
    if weight == 0:
        assert losses.components["G_VGG"] == {}
        return
    total = torch.tensor(0.0)
    for name, value in values.items():
        total = total + value
        product = (torch.tensor(value) * weight).item()
        assert manager.series(f"G_VGG.{name}").loss.tolist() == [product]
        assert losses.components["G_VGG"][name].item() == product
    assert losses["G_VGG"].item() == pytest.approx((total * weight).item(), abs=1e-4)
    assert losses.unweighted["G_VGG"].item() == manager.series("G_VGG").unweighted[0]


class ReadOnly(Mapping):
    """A mapping that is no dict."""

    def __init__(self, given):
        self.given = given

    def __getitem__(self, name):
        return self.given[name]

    def __iter__(self):
        return iter(self.given)

    def __len__(self):
        return len(self.given)


@pytest.mark.parametrize(
    "make",
    [OrderedDict, lambda given: defaultdict(None, given), ReadOnly, ComputedLosses],
    ids=["OrderedDict", "defaultdict", "ReadOnly", "ComputedLosses"],
)
def test_any_mapping_can_hold_components(make):
    manager = with_layers(lambda x: make(layers(x)))
    for _ in range(2):
        assert alone(manager, batch()).item() == 23.0
    assert manager.series("G_VGG.relu2").loss.tolist() == [18.0, 18.0]


def test_a_loss_may_have_one_component_which_may_be_what_it_was_given():
    x = batch()
    manager = with_layers(lambda x: {"only": x})
    scalar = torch.tensor(3.0, requires_grad=True)
    assert together(manager, x).item() == 3.0
    result = together(manager, scalar)
    result.backward()
    assert (result.item(), scalar.grad.item()) == (6.0, 2.0)
    assert columns(manager, "G_VGG.only")[2] == columns(manager, "G_VGG")[2] == [3.0, 6.0]


@pytest.mark.parametrize("count", [2, 6])
def test_gradients_are_added_up_in_the_order_of_the_losses(count):
    for seed in range(20):
        gradients = []
        for as_dict in (True, False):
            generator = torch.Generator().manual_seed(seed)
            x = torch.rand(3, generator=generator).requires_grad_()
            z = (x * torch.rand(3, generator=generator)).sum()
            functions = [
                lambda z, as_dict=as_dict: {"z": z} if as_dict else z,
                lambda z, as_dict=as_dict: {"z": z, "sin": z.sin()} if as_dict else z + z.sin(),
                lambda z: (z * 0.77).exp(),
            ] * 2
            losses = [
                LMLoss(name=str(number), function=function, inputs=("z",), loss_weight=0.1 + number)
                for number, function in enumerate(functions[:count])
            ]
            manager_of(*losses).compute_losses({"z": z}).total.backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients)


# The results


@pytest.mark.parametrize("others", [0, 1, 4])
def test_results_have_the_weighted_components_of_each_loss(others):
    x = batch()
    losses = with_layers(others=others).compute_losses({"x": x})
    assert list(losses) == list(losses.components) == ["G_VGG", *(other.name for other in OTHERS[:others])]
    found = losses.components["G_VGG"]
    assert {name: value.item() for name, value in found.items()} == {"relu1": 5.0, "relu2": 18.0}
    assert all(losses.components[other.name] == {} for other in OTHERS[:others])
    with torch.no_grad():
        found = losses.components["G_VGG"]
    found["relu1"].backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_components_of_results_cannot_be_set():
    losses = with_layers().compute_losses({"x": batch()})
    with pytest.raises(TypeError):
        losses.components["G_VGG"]["relu1"] = None
    with pytest.raises(TypeError):
        losses.components["G_VGG"] = {}


def test_components_that_are_asked_for_are_new_each_time():
    losses = with_layers().compute_losses({"x": batch()})
    with torch.no_grad():
        losses.components["G_VGG"]["relu1"].zero_()
    assert losses.components["G_VGG"]["relu1"].item() == 5.0


def test_results_that_no_manager_computed_have_no_components():
    assert ComputedLosses(a=torch.tensor(1.0)).components == {"a": {}}


def test_components_follow_the_names_of_the_results():
    losses = with_layers(others=1).compute_losses({"x": batch()})
    del losses["G_VGG"]
    losses["more"] = torch.tensor(1.0)
    assert losses.components == {"other0": {}, "more": {}}


def test_components_keep_the_values_of_their_call():
    buffer = torch.tensor(3.0)
    held = {"buffer": buffer, "other": torch.tensor(1.0)}
    manager = with_layers(lambda x: held)
    for _ in range(2):
        losses = manager.compute_losses({"x": batch()})
        buffer.fill_(7.0)
        held["other"] = None
        assert {name: value.item() for name, value in losses.components["G_VGG"].items()} == {
            "buffer": 6.0,
            "other": 2.0,
        }
        buffer.fill_(3.0)
        held["other"] = torch.tensor(1.0)
    assert manager.series("G_VGG.buffer").loss.tolist() == [6.0, 6.0]


def test_a_parameter_that_is_a_component_keeps_the_value_of_its_call_on_a_device():
    parameter = elsewhere(3.0).requires_grad_()
    manager = with_layers(lambda x: {"parameter": parameter, "other": parameter * 1})
    losses = manager.compute_losses({"x": None})
    with torch.no_grad():
        parameter.zero_()
    assert losses.components["G_VGG"]["parameter"].item() == 6.0
    assert manager.series("G_VGG.parameter").loss.tolist() == [6.0]


def test_components_can_be_asked_for_after_inference():
    with torch.inference_mode():
        losses = with_layers().compute_losses({"x": batch()})
    assert losses.components["G_VGG"]["relu1"].item() == 5.0
    assert not losses.components["G_VGG"]["relu1"].requires_grad


def test_components_are_part_of_nothing_that_is_asked_for_by_loss():
    manager = with_layers()
    together(manager, batch())
    for found in (
        *(manager.get_loss_values(), manager.get_loss_tensors(), manager.get_loss_weights(), manager.latest()),
        *(manager.get_registered_losses(), manager.get_loss_values("G_VGG.relu1"), manager.latest("G_VGG.relu1")),
        manager.compute_losses({"x": batch()}),
    ):
        assert set(found) <= {"G_VGG"}
    assert "relu1" not in manager.print_losses(0, 0, capture=True)
    assert manager.compute_losses({"x": batch()}).total.item() == 23.0


def test_means_have_the_components_beside_their_loss():
    manager = with_layers(others=1)
    manager.record("psnr", 1.0)
    for epoch, scale in ((0, 9), (1, 1), (1, 3)):
        manager.tick(epoch=epoch)
        manager.compute_losses({"x": scale * batch()})
    assert list(manager.means()) == ["G_VGG", "G_VGG.relu1", "G_VGG.relu2", "other0", "psnr"]
    assert manager.means()["G_VGG.relu2"] == 36.0
    assert manager.means("G_VGG.relu2") == {"G_VGG.relu2": 36.0}
    assert list(manager.means("G")) == ["G_VGG"]


def test_a_split_records_components_of_its_own(tmp_path):
    for logging in (True, False):
        manager = with_layers(enable_logging=logging)
        together(manager, batch())
        for scale in (1, 2, 3):
            with manager.split("val"):
                manager.compute_losses({"x": scale * batch()})
                assert manager.means() == {
                    "G_VGG": pytest.approx(2 * (scale**2 * 2.5 + 9 * scale)),
                    "G_VGG.relu1": 5.0 * scale**2,
                    "G_VGG.relu2": 18.0 * scale,
                }
        assert manager.series("val/G_VGG.relu2").loss.tolist()[-1] == 54.0
        assert manager.series("val/G_VGG.relu2").component_of == "val/G_VGG"
        assert manager.series("G_VGG.relu2").loss.tolist() == [18.0]


def test_a_pause_records_no_component():
    manager = with_layers()
    with manager.paused():
        assert together(manager, batch()).item() == 23.0
        assert alone(manager, batch()).item() == 23.0
    assert manager.state_dict()["counts"] == {"G_VGG": 0}


# A weight of 0


@WAYS
def test_a_loss_that_is_skipped_has_no_components(way, others):
    manager = with_layers(others=others)
    manager.disable("G_VGG")
    assert way(manager, batch()).item() == 0.0
    assert manager.compute_losses({"x": batch()}).components["G_VGG"] == {}
    assert "G_VGG.relu1" not in manager.state_dict()["counts"]


@WAYS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_loss_that_runs_at_a_weight_of_0_records_components_of_weight_0(way, others, dtype):
    def function(x):
        return {"infinite": (x.sum() / 0).to(dtype), "finite": x.sqrt().sum().to(dtype)}

    manager = with_layers(function, 0.0, others, skip_when_zero=False, nonfinite="raise")
    x = torch.zeros(2, requires_grad=True) + 1
    result = way(manager, x)
    assert result.item() == 0.0
    assert columns(manager, "G_VGG.infinite")[2:] == [[0.0], [0.0], [math.inf]]
    assert columns(manager, "G_VGG.finite")[2:] == [[0.0], [0.0], [2.0]]


@pytest.mark.parametrize("others", [0, 4])
def test_components_of_weight_0_are_zeros_with_a_gradient_of_0(others):
    manager = with_layers(lambda x: {"root": x.sqrt().sum(), "b": x.sum()}, 0.0, others, skip_when_zero=False)
    x = torch.zeros(2, requires_grad=True)
    found = manager.compute_losses({"x": x}).components["G_VGG"]
    found["root"].backward()
    assert (found["root"].item(), x.grad.tolist()) == (0.0, [0.0, 0.0])
    assert found["root"] is not found["b"]


def test_components_follow_a_schedule():
    manager = with_layers(schedule=Schedule(start=0, end=2, initial_value=0.0, target_value=4.0))
    for epoch in range(3):
        manager.tick(epoch=epoch)
        together(manager, batch())
    assert columns(manager, "G_VGG.relu1") == [[1, 2], [1.0, 2.0], [5.0, 10.0], [2.0, 4.0], [2.5, 2.5]]


@pytest.mark.parametrize("ticks", [True, False])
def test_components_may_differ_from_step_to_step(ticks):
    steps = iter(range(10))

    def function(x):
        step = next(steps)
        return {name: x.sum() + step for name in ("ab", "b", "ba", "c")[step % 4]}

    manager = with_layers(function, 1.0)
    for epoch in range(5):
        if ticks:
            manager.tick(epoch=epoch)
        together(manager, batch())
    assert manager.series("G_VGG.a").step.tolist() == [0, 2, 4]
    assert manager.series("G_VGG.b").step.tolist() == [0, 1, 2, 4]
    assert columns(manager, "G_VGG.c")[::2] == [[3], [6.0], [6.0]]
    assert manager.series("G_VGG").loss.tolist() == [6.0, 4.0, 10.0, 6.0, 14.0]


# nan and infinity


@WAYS
def test_a_component_that_is_not_finite_is_named_with_its_loss(way, others):
    manager = with_layers(lambda x: {"good": x.sum(), "bad": x.sum() / 0, "ugly": x[0] * math.nan}, 2.0, others)
    with pytest.warns(
        NectarganWarning, match="loss 'G_VGG' became nan at step 0, epoch 0, in its components"
    ) as caught:
        way(manager, batch())
    assert len(caught) == 1
    assert "bad, ugly" in str(caught[0].message)
    assert manager.series("G_VGG.bad").loss.tolist() == [math.inf]


@pytest.mark.parametrize("others", [0, 4])
def test_every_component_is_recorded_before_a_loss_that_is_not_finite_raises(others):
    manager = with_layers(lambda x: {"good": x.sum(), "bad": x.sum() / 0}, 2.0, others, nonfinite="raise")
    with pytest.raises(NonFiniteLossError, match="in its component bad, and this manager") as caught:
        together(manager, batch())
    assert caught.value.loss_name == "G_VGG"
    assert set(manager.state_dict()["counts"].values()) == {1}


@pytest.mark.parametrize("others", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_component_of_any_precision_is_named_with_its_loss(others, dtype):
    def function(x):
        return {"good": x.sum().to(dtype), "bad": (x / 0).to(dtype)}

    losses = [LMLoss(name=f"{number}", function=lambda x: x.sum().to(dtype), inputs=("x",)) for number in range(others)]
    bad = LMLoss(name="G_VGG", function=function, inputs=("x",))
    manager = manager_of(*losses, bad, enable_logging=True, nonfinite="raise")
    with pytest.raises(NonFiniteLossError, match="in its component bad"):
        manager.compute_losses({"x": batch()})
    assert set(manager.state_dict()["counts"].values()) == {1}


def test_components_that_are_finite_are_not_blamed_for_a_sum_that_is_not():
    manager = with_layers(lambda x: dict.fromkeys("ab", torch.tensor(3e38)), 1.0, nonfinite="raise")
    with pytest.raises(NonFiniteLossError, match="became inf at step 0, epoch 0, and this manager"):
        together(manager, batch())


def test_observers_are_notified_of_the_loss_only():
    seen = []

    class Notes:
        @hookimpl
        def nectargan_nonfinite_loss(self, loss_name):
            seen.append(loss_name)

    manager = with_layers(lambda x: {"bad": x.sum() / 0, "good": x.sum()}, nonfinite="ignore", observers=[Notes()])
    together(manager, batch())
    assert seen == ["G_VGG"]


def test_a_component_that_is_not_finite_is_named_when_values_are_read_from_a_device():
    manager = with_layers(lambda x: {"good": elsewhere(1.0), "bad": elsewhere(math.inf)}, nonfinite="raise")
    manager.tick(epoch=0)
    together(manager, batch())
    with pytest.raises(NonFiniteLossError, match="became inf at step 0, epoch 0, in its component bad"):
        manager.tick(epoch=0)


# What cannot be taken


@WAYS
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({}, "an empty dict at epoch 0; return at least one component"),
        ({"a": {"b": torch.ones(())}}, "component 'a' is a dict .* dicts are not nested: name what is in it beside"),
        ({"a": 1.0}, r"component 'a' is a float \(1.0\) .*; make a tensor of it"),
        ({"a": None}, "component 'a' is a NoneType"),
        ({"a": torch.ones(()), "b": torch.ones((), dtype=torch.complex64)}, "'b' is a tensor of torch.complex64"),
        ({"a": torch.ones(1).to_sparse()}, r"'a' is a tensor of torch.float32 in the layout torch.sparse_coo"),
        ({"a": torch.ones(()).to_sparse()}, r"'a' is a tensor of torch.float32 in the layout torch.sparse_coo"),
        ({"": torch.ones(())}, "the key '' .*the keys are the names of components: str, not empty, without '/'"),
        ({"a/b": torch.ones(())}, "the key 'a/b'"),
        ({0: torch.ones(())}, "the key 0 "),
        ({"\ud800": torch.ones(())}, "the key .* that UTF-8 can write"),
        ((torch.ones(()), torch.ones(())), "tuple .* name what it consists of: {'first': first"),
        ([torch.ones(())], "list .*return the sum"),
        (1.0, r"float \(1.0\) .*expected a tensor of real numbers, such as a scalar or a map, or a dict"),
    ],
)
def test_what_is_no_dict_of_tensors_is_an_error_that_says_what_to_return(way, others, result, message):
    manager = with_layers(lambda x: result, others=others)
    with pytest.raises(LossResultError, match=f"loss 'G_VGG' returned .*{message}") as caught:
        way(manager, batch())
    assert caught.value.loss_name == "G_VGG"
    assert set(manager.state_dict()["counts"].values()) == {0}


def test_a_key_that_equals_another_one_as_text_is_an_error():
    class Name(str):
        __hash__ = object.__hash__

        def __eq__(self, other):
            return self is other

    manager = with_layers(lambda x: {Name("a"): x.sum(), Name("a"): x.mean()})
    with pytest.raises(LossResultError, match="a key that is there twice"):
        alone(manager, batch())


def test_a_result_that_failed_before_is_checked_again():
    results = iter([{"a": torch.ones(())}, {"a": 1.0}, {"a": torch.ones(())}, {"/": torch.ones(())}])
    manager = with_layers(lambda x: next(results))
    for _ in range(2):
        alone(manager, batch())
        with pytest.raises(LossResultError):
            alone(manager, batch())
    assert manager.series("G_VGG.a").loss.tolist() == [2.0, 2.0]


def test_components_on_several_devices_are_an_error_but_for_scalars_on_the_cpu():
    results = iter([{"a": OnDevice(torch.ones(())), "b": torch.ones((), device="meta")}])
    with pytest.raises(LossResultError, match="several devices at epoch 0: 'a' on cuda:0, 'b' on meta; return"):
        alone(with_layers(lambda x: next(results)), batch())


# Names


@WAYS
@pytest.mark.parametrize("taken", ["loss", "scalar", "component"])
def test_a_component_whose_name_is_taken_is_an_error_and_nothing_is_recorded(way, others, taken):
    manager = with_layers(lambda x: {"free": x.sum(), "a.b": x.sum()}, others=others)
    if taken == "loss":
        manager.register_loss_fn("G_VGG.a.b", nn.L1Loss(), loss_weight=0.0)
    elif taken == "scalar":
        with manager.split("val"):
            manager.record("G_VGG.a.b", 1.0)
    else:
        manager.register_loss_fn("G_VGG.a", lambda x: {"b": x.sum()}, inputs=("x",))
        manager.compute_loss("G_VGG.a", batch())
    for name in manager.get_registered_losses().keys() - {"G_VGG"}:
        manager.disable(name)
    before = manager.state_dict()["counts"]
    what = {"loss": "a loss", "scalar": "recorded as a scalar", "component": "a component of loss 'G_VGG.a'"}[taken]
    with pytest.raises(DuplicateLossError, match=f"'G_VGG.a.b', and that is {what} already") as caught:
        manager.compute_loss("G_VGG", batch()) if way is alone else manager.compute_losses(
            {"x": batch(), "y": 0, "y_fake": 0}
        )
    assert caught.value.name == "G_VGG.a.b"
    assert manager.state_dict()["counts"] == before


def test_two_losses_of_one_call_cannot_have_a_component_of_one_name():
    losses = [
        LMLoss(name="G", function=lambda x: {"a.b": x.sum()}, inputs=("x",)),
        LMLoss(name="G.a", function=lambda x: {"b": x.sum()}, inputs=("x",)),
    ]
    manager = manager_of(*losses, enable_logging=True)
    with pytest.raises(DuplicateLossError, match="a component of loss 'G' already"):
        manager.compute_losses({"x": batch()})
    assert set(manager.state_dict()["counts"].values()) == {0}


@pytest.mark.parametrize("scope", ["", "val"])
def test_what_a_component_is_recorded_as_is_no_name_for_a_loss_or_a_scalar(scope):
    manager = with_layers()
    if scope:
        with manager.split(scope):
            alone(manager, batch())
    else:
        alone(manager, batch())
    before = manager.state_dict()
    with pytest.raises(DuplicateLossError, match="'G_VGG.relu1' is recorded as a component of loss 'G_VGG'"):
        manager.register_loss_fn("G_VGG.relu1", nn.L1Loss())
    with pytest.raises(DuplicateLossError, match="'G_VGG.relu1' is recorded as a component of loss 'G_VGG'"):
        manager.record("G_VGG.relu1", 1.0)
    assert manager.state_dict() == before


def test_names_are_free_once_the_loss_is_gone():
    manager = with_layers()
    alone(manager, batch())
    manager.init_from_spec(lambda: {"G_VGG.relu1": LMLoss(name="G_VGG.relu1", function=nn.L1Loss())})
    manager.record("G_VGG.relu2", 7.0)
    manager.compute_loss_xy("G_VGG.relu1", torch.zeros(2), torch.ones(2))
    assert manager.series("G_VGG.relu1").loss.tolist() == [5.0, 1.0]
    assert manager.series("G_VGG.relu2").loss.tolist() == [18.0, 7.0]
    assert manager.series("G_VGG.relu1").component_of is None
    with pytest.raises(DuplicateLossError, match="scalar"):
        manager.register_loss_fn("G_VGG.relu2", nn.L1Loss())
    loss = LMLoss(name="G_VGG", function=lambda x: {"relu1": x.sum()}, inputs=("x",), loss_weight=2.0)
    manager.init_from_spec(lambda: {"G_VGG": loss})
    alone(manager, batch())
    assert manager.series("G_VGG.relu1").loss.tolist() == [5.0, 1.0, 6.0]
    assert manager.series("G_VGG.relu1").component_of == "G_VGG"


def test_the_components_of_a_loss_that_is_replaced_stay_readable():
    manager = with_layers()
    alone(manager, batch())
    manager.init_from_spec(lambda: {"other": LMLoss(name="other", function=nn.L1Loss())})
    assert manager.series("G_VGG.relu1").loss.tolist() == [5.0]
    assert list(manager.means()) == ["other"]


# The log and the state


def test_the_log_has_each_component_with_the_name_of_its_loss(tmp_path):
    manager = with_layers(experiment_dir=tmp_path)
    for epoch in range(3):
        manager.tick(epoch=epoch)
        together(manager, batch())
    with manager.split("val"):
        together(manager, batch())
    manager.update_loss_log()
    assert columns(manager, "G_VGG.relu1")[2] == [5.0] * 3
    together(manager, batch())
    assert manager.series("G_VGG.relu1").component_of == "G_VGG"
    manager.close()
    log = LossLog(tmp_path)
    assert set(log.names) == {f"{split}G_VGG{end}" for split in ("", "val/") for end in ("", ".relu1", ".relu2")}
    assert log.series("G_VGG.relu1").component_of == "G_VGG"
    assert log.series("val/G_VGG.relu2").component_of == "val/G_VGG"
    assert log.series("G_VGG.relu2").loss.tolist() == [18.0] * 4
    assert log.series("G_VGG.relu2").per_step().component_of == "G_VGG"


def test_observers_get_the_records_of_components():
    seen = {}

    class Keeps:
        @hookimpl
        def nectargan_history_flushed(self, chunks):
            seen.update({chunk.name: (chunk.component_of, chunk.loss.tolist()) for chunk in chunks})

    with with_layers(observers=[Keeps()]) as manager:
        together(manager, batch())
    assert seen == {
        "G_VGG": (None, [23.0]),
        "G_VGG.relu1": ("G_VGG", [5.0]),
        "G_VGG.relu2": ("G_VGG", [18.0]),
    }


@pytest.mark.parametrize("ticks", [True, False])
@pytest.mark.parametrize("logs", [True, False])
def test_what_comes_after_a_state_is_superseded_for_components_too(tmp_path, ticks, logs):
    def run(manager, scales):
        for scale in scales:
            if ticks:
                manager.tick(epoch=0)
            together(manager, torch.tensor([float(scale)]))

    def odd(x):
        return {"all": x.sum(), **({"odd": x.sum()} if x.sum() % 2 else {"even": x.sum()}), **late(x)}

    def late(x):
        return {"late": x.sum()} if x.sum() > 4 else {}

    given = {"experiment_dir": tmp_path} if logs else {}
    manager = with_layers(odd, 1.0, **given)
    run(manager, range(4))
    state = manager.state_dict()
    run(manager, range(4, 8))
    if logs:
        manager.close()
        manager = with_layers(odd, 1.0, **given, resume=True)
    manager.load_state_dict(state)
    run(manager, range(14, 16))
    assert columns(manager, "G_VGG.all")[::4] == [[0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 14, 15]]
    assert columns(manager, "G_VGG.odd")[::4] == [[1, 3, 5], [1, 3, 15]]
    assert columns(manager, "G_VGG.even")[::4] == [[0, 2, 4], [0, 2, 14]]
    assert columns(manager, "G_VGG.late")[::4] == [[4, 5], [14, 15]]
    manager.close()


def test_a_step_that_is_ticked_again_by_a_resumed_run_supersedes_components(tmp_path):
    for first in (0, 2):
        manager = with_layers(experiment_dir=tmp_path, resume=True)
        for step in range(first, 4):
            manager.tick(epoch=first, step=step)
            together(manager, batch())
        manager.close()
    assert LossLog(tmp_path).series("G_VGG.relu1").epoch.tolist() == [0, 0, 2, 2]


def test_a_state_counts_components_and_can_be_loaded_twice():
    manager = with_layers()
    for _ in range(3):
        together(manager, batch())
    state = manager.state_dict()
    assert state["counts"] == {"G_VGG": 3, "G_VGG.relu1": 3, "G_VGG.relu2": 3}
    for _ in range(2):
        manager.load_state_dict(state)
        together(manager, batch())
        assert manager.series("G_VGG.relu1").step.tolist() == [0, 1, 2, 3]


# Modes, devices, memory and cost


def test_what_checkpointing_computes_again_is_not_recorded_again():
    for way in (alone, together):
        manager = with_layers()
        x = batch()
        step = partial(way, manager)
        torch.utils.checkpoint.checkpoint(step, x, use_reentrant=False).backward()
        assert manager.state_dict()["counts"] == {"G_VGG": 1, "G_VGG.relu1": 1, "G_VGG.relu2": 1}


def test_components_are_recorded_inside_of_a_gradient_transform():
    manager = with_layers()
    gradient = torch.func.grad(lambda x: together(manager, x))(batch().detach())
    assert gradient.tolist() == [8.0, 10.0]
    assert manager.series("G_VGG.relu1").loss.tolist() == [5.0]


@pytest.mark.parametrize("function", [layers, lambda x: {"map": x, "sum": x.sum()}])
def test_components_that_have_no_value_are_an_error(function):
    manager = with_layers(function)
    for way in (alone, together):
        with pytest.raises(LossResultError, match="has no value inside of torch.vmap"):
            torch.vmap(lambda x, way=way: way(manager, x))(torch.ones(3, 2))
    assert set(manager.state_dict()["counts"].values()) <= {0}


def test_nothing_keeps_the_graph_of_components_alive():
    manager = with_layers()
    middle = batch() * 2
    reference = weakref.ref(middle)
    manager.compute_losses({"x": middle}).total.backward()
    del middle
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("way", [alone, together])
def test_a_thousand_steps_of_components_on_a_device_neither_wait_nor_copy(logging, way):
    def function(x):
        return {"a": x * 1, "map": x.repeat(2), "half": x.half()}

    manager = with_layers(function, 3.0, enable_logging=logging)
    manager.tick(epoch=0)
    OnDevice.done = []
    for number in range(300):
        way(manager, OnDevice(torch.tensor(float(number % 7))))
    assert not {"_local_scalar_dense", "tolist", "clone"} & set(OnDevice.done)
    assert OnDevice.done.count("add") == 600
    assert manager.get_loss_values()["G_VGG"] == 3 * 3 * (299 % 7)
    if logging:
        assert manager.series("G_VGG.map").loss.tolist() == [3.0 * (number % 7) for number in range(300)]
        assert manager.series("G_VGG.half").loss.tolist() == [3.0 * (number % 7) for number in range(300)]


def test_components_in_single_precision_cost_a_sum_and_a_number_each():
    manager = with_layers(lambda x: {"a": x, "b": x, "c": x})
    x = torch.tensor(1.0, requires_grad=True)
    manager.compute_loss("G_VGG", x)
    with Operations() as operations:
        manager.compute_loss("G_VGG", x)
    number = "_local_scalar_dense.default"
    assert operations.names == [*[number] * 3, *["add.Tensor"] * 2, "mul.Tensor", number]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("logging", [True, False])
def test_components_on_a_cuda_device_are_recorded_without_a_wait(logging):
    def function(x):
        return {"a": x.sum(), "map": x, "half": x.half().mean(), "cpu": torch.tensor(1.0)}

    manager = with_layers(function, 3.0, enable_logging=logging)
    x = torch.ones(2, device="cuda", requires_grad=True)
    manager.tick(epoch=0)
    together(manager, x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(200):
            manager.tick(epoch=0)
            manager.compute_losses({"x": x}).total.backward()
            alone(manager, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert manager.get_loss_values() == {"G_VGG": 15.0}
