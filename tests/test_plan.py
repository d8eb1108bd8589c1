"""Losses that are weighted together give what each by itself gives, to the digit: results, gradients, records."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from devices import OnDevice, Operations
from hypothesis import given, settings
from hypothesis import strategies as st
from managers import manager_of
from torch._subclasses.fake_tensor import FakeTensorMode

from nectargan_core import ComputedLosses, LMLoss, LossManager, Schedule, Scheduler, hookimpl
from nectargan_core.errors import LossResultError, MissingInputError, NectarganWarning, NonFiniteLossError
from nectargan_core.losses._factors import PLAIN
from nectargan_core.losses._results import StackedLosses

# The reference: a loop as one would write it by hand


@dataclass
class Reference:
    """Computes losses one by one, and keeps their records in lists."""

    losses: dict[str, LMLoss]
    step: int = -1
    epoch: float = 0
    prefix: str | None = ""
    disabled: set[str] = field(default_factory=set)
    weights: dict[str, float] = field(default_factory=dict)
    records: dict[str, list[tuple[float, ...]]] = field(default_factory=dict)
    parts: dict[str, dict[str, torch.Tensor]] = field(default_factory=dict)

    def weight(self, loss: LMLoss) -> float:
        if loss.name in self.disabled:
            return 0.0
        if loss.name in self.weights or not loss.schedule.is_scheduled:
            return self.weights.get(loss.name, loss.loss_weight)
        position = loss.schedule.unit == "step"
        if position and self.step < 0:
            position = len(self.records.get(loss.name, []))
        else:
            position = self.step if position else self.epoch
        return Scheduler(loss.schedule, loss_name=loss.name).value(position)

    def compute(self, inputs: dict[str, Any]) -> dict[str, torch.Tensor]:
        values: dict[str, Any] = {}
        results, rows, parts = {}, {}, {}
        for name, loss in self.losses.items():
            weight = self.weight(loss)
            if weight == 0.0 and (loss.skip_when_zero or name in self.disabled):
                continue
            for read in loss.inputs if isinstance(loss.inputs, tuple) else loss.inputs.values():
                if read not in values:
                    value = inputs[read]
                    values[read] = value() if read == "lazy" else value
            raw = self.called(loss, values, detach=weight == 0.0)
            if isinstance(raw, dict):
                parts[name] = summands(raw)
                raw = added_up(parts[name])
            result = raw * weight if weight else torch.zeros_like(raw) + self.zero(loss, values).to(raw.dtype)
            results[name] = result
            rows[name] = (weight, value_of(raw), value_of(result))
        for name, loss in self.losses.items():
            if name not in results:
                results[name] = self.zero(loss, {**inputs, **values})
                rows[name] = (0.0, math.nan, 0.0)
        for name, (weight, raw, result) in rows.items():
            if self.prefix is not None:
                kept = self.records.setdefault(self.prefix + name, [])
                step = max(self.step, 0) if self.prefix else len(kept)
                step = self.step if self.step >= 0 else step
                kept.append((step, self.epoch, result, weight, raw))
                for key, part in parts.get(name, {}).items():
                    row = (step, self.epoch, value_of(part * weight) if weight else 0.0, weight, value_of(part))
                    self.records.setdefault(f"{self.prefix}{name}.{key}", []).append(row)
        self.parts = {
            name: {key: part * rows[name][0] for key, part in parts.get(name, {}).items()} for name in results
        }
        return {name: results[name] for name in self.losses}

    def called(self, loss: LMLoss, values: dict[str, Any], detach: bool) -> torch.Tensor:
        def given(name: str) -> Any:
            value = values[name]
            return value.detach().requires_grad_(value.requires_grad) if detach and torch.is_tensor(value) else value

        if isinstance(loss.inputs, tuple):
            return loss.function(*[given(name) for name in loss.inputs])
        return loss.function(**{parameter: given(name) for parameter, name in loss.inputs.items()})

    def zero(self, loss: LMLoss, values: dict[str, Any]) -> torch.Tensor:
        names = loss.inputs if isinstance(loss.inputs, tuple) else loss.inputs.values()
        zero = torch.zeros(())
        for name in names:
            if torch.is_tensor(values[name]):
                zero = zero + (values[name] * 0).sum().float()
        return zero


def summands(components: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the means of components, all in float64 if one of them is, else in float32."""
    dtype = torch.float64 if any(value.dtype is torch.float64 for value in components.values()) else torch.float32
    return {key: value.to(dtype).mean() if value.ndim else value.to(dtype) for key, value in components.items()}


def value_of(result: torch.Tensor) -> float:
    return result.detach().mean().item()


def added_up(results: dict[str, torch.Tensor]) -> torch.Tensor:
    """Add up results from left to right, the halves in float32."""
    scalars = [result.mean() if result.ndim else result for result in results.values()]
    if len(scalars) > 1:
        scalars = [scalar.float() if scalar.dtype is torch.bfloat16 else scalar for scalar in scalars]
    total = scalars[0]
    for scalar in scalars[1:]:
        total = total + scalar
    return total


# What is computed


class Failing(Exception):
    """Raised by a loss."""


def changing(x, y):
    """Return float64 for every other batch."""
    return (x - y).square().mean() if y[0] > 0.5 else (x - y).square().mean().double()


def failing(x, y):
    if y[1] > 0.75:
        raise Failing
    return (x * y).sum()


def components(x, y):
    return {"a": (x - y).abs().mean(), "b": (x * y).sum(), "c": y.sum()}


def other_components(x, y):
    """Return other components for every other batch."""
    return {"a": x.sum()} if y[0] > 0.5 else {"b": x.sum(), "a": x[0] * y[0]}


def mixed(x, p):
    return {"a": x.double().std(), "b": p, "c": x.bfloat16().sum()}


KINDS: dict[str, dict[str, Any]] = {
    "L1": {"function": torch.nn.L1Loss(), "inputs": ("x", "y")},
    "product": {"function": lambda x, y: (x * y).sum().tanh(), "inputs": {"y": "y", "x": "x"}},
    "lazy": {"function": lambda p: p.exp().mean(), "inputs": ("lazy",)},
    "two": {"function": lambda p, x: (p * x).sin().sum(), "inputs": ("lazy", "x")},
    "as it is": {"function": lambda f, x: f(x).mean(), "inputs": ("callable", "x"), "as_is": ("callable",)},
    "same": {"function": lambda s: s, "inputs": ("scalar",)},
    "square": {"function": lambda s: s * s * 0.7, "inputs": ("scalar",)},
    "parameter": {"function": lambda p: p, "inputs": ("parameter",)},
    "of parameter": {"function": lambda p: (p * 3).exp(), "inputs": ("parameter",)},
    "constant": {"function": lambda y: y.sum(), "inputs": ("y",)},
    "double": {"function": lambda x: x.double().std(), "inputs": ("x",)},
    "half": {"function": lambda x: x.bfloat16().sum(), "inputs": ("x",)},
    "input": {"function": lambda x: x, "inputs": ("x",)},
    "map": {"function": lambda x, y: (x - y).abs(), "inputs": ("x", "y")},
    "changing": {"function": changing, "inputs": ("x", "y")},
    "components": {"function": components, "inputs": ("x", "y")},
    "one component": {"function": lambda s: {"a": s}, "inputs": ("scalar",)},
    "other components": {"function": other_components, "inputs": ("x", "y")},
    "maps": {"function": lambda x, y: {"a": x, "b": (x - y).square(), "c": x > y}, "inputs": ("x", "y")},
    "mixed": {"function": mixed, "inputs": ("x", "parameter")},
    "failing": {"function": failing, "inputs": ("x", "y")},
}
SCALARS = [
    *("L1", "product", "lazy", "two", "as it is", "same", "square", "parameter", "of parameter", "constant"),
    *("components", "one component", "other components"),
]

weights = st.sampled_from([1.0, 0.1, 100.0, -1 / 3, 0.0, 1e-30])
schedules = st.sampled_from(
    [
        None,
        None,
        None,
        Schedule(start=1, end=3, initial_value=0.0, target_value=2.0),
        Schedule(start=2, end=5, initial_value=0.7, target_value=0.0, unit="step"),
    ]
)
kinds = st.one_of(
    st.lists(st.sampled_from(SCALARS), min_size=1, max_size=8),
    st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6),
)


@st.composite
def objectives(draw):
    losses = {}
    for number, kind in enumerate(draw(kinds)):
        schedule = draw(schedules)
        fields = {"schedule": schedule} if schedule is not None else {"loss_weight": draw(weights)}
        name = f"{kind}.{number}"
        losses[name] = LMLoss(name=name, skip_when_zero=draw(st.booleans()), **KINDS[kind], **fields)
    return losses


actions = st.lists(
    st.one_of(
        st.tuples(st.just("step"), st.sampled_from(["total", "items", "edit", "both", "log"])),
        st.tuples(st.just("tick"), st.sampled_from([0, 0.5, 1, 1.5, 2, 3, 4])),
        st.tuples(st.just("set_weight"), st.tuples(st.integers(0, 9), weights)),
        st.tuples(st.just("disable"), st.integers(0, 9)),
        st.tuples(st.just("enable"), st.integers(0, 9)),
        st.tuples(st.just("split"), st.none()),
        st.tuples(st.just("pause"), st.none()),
        st.tuples(st.just("flush"), st.none()),
    ),
    min_size=3,
    max_size=12,
)


def batch(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(3, generator=generator).requires_grad_()
    y = torch.rand(3, generator=generator)
    scale = torch.rand((), generator=generator).requires_grad_()
    inputs = {"x": x, "y": y, "scalar": scale * x[0], "parameter": scale}
    inputs["lazy"], inputs["callable"] = lambda: (x * scale).cos(), lambda x: x.sigmoid()
    return (x, scale), inputs


def backward(leaves, results, use):
    """Use results in one of several ways; returns what is added up, and the gradients."""
    before = {}
    if use in ("items", "both", "edit"):
        before = {name: result.detach().clone() for name, result in results.items()}
    if use == "edit":
        with torch.no_grad():
            for result in list(results.values())[::2]:
                result.mul_(0.5)
    total = results.total if isinstance(results, ComputedLosses) else added_up(results)
    if use == "items":
        total = sum(result.mean() for result in results.values())
    if total.requires_grad:
        total.backward()
    if use == "log":
        with torch.no_grad():
            for leaf in leaves:
                leaf.sub_(0.5)
        before = {name: result.detach().clone() for name, result in results.items()}
    return before, total.detach(), [leaf.grad for leaf in leaves]


def same(one, other):
    """Whether two tensors have the same digits."""
    if one is None or other is None:
        return one is other
    return one.dtype == other.dtype and torch.equal(one.nan_to_num(777.0), other.nan_to_num(777.0))


@pytest.mark.filterwarnings("ignore:.*computed without an epoch")
@pytest.mark.filterwarnings("ignore:.*the step goes back")
@pytest.mark.slow
@settings(max_examples=300)
@given(objectives(), actions)
def test_whatever_is_computed_together_is_as_if_computed_one_by_one(losses, done):
    reference = Reference(losses)
    with LossManager(enable_logging=True, nonfinite="ignore") as manager:
        manager.register_spec(lambda: losses)
        names = list(losses)
        with_scope = None
        for number, (action, value) in enumerate(done):
            if action == "step":
                leaves, inputs = batch(number)
                other_leaves, other_inputs = batch(number)
                try:
                    expected = reference.compute(inputs)
                except Failing:
                    with pytest.raises(Failing):
                        manager.compute_losses(other_inputs)
                    continue
                results = manager.compute_losses(other_inputs)
                assert results.keys() == expected.keys() == results.components.keys()
                for name, parts in reference.parts.items():
                    assert results.components[name].keys() == parts.keys()
                    assert all(same(results.components[name][key].detach(), parts[key].detach()) for key in parts)
                for ours, theirs in zip(
                    backward(other_leaves, results, value), backward(leaves, expected, value), strict=True
                ):
                    if isinstance(ours, dict):
                        assert all(same(ours[name], theirs[name]) for name in theirs)
                    else:
                        assert all(map(same, *((one,) if torch.is_tensor(one) else one for one in (ours, theirs))))
            elif action == "tick":
                manager.tick(epoch=value)
                reference.step = manager.step
                reference.epoch = value
            elif action == "set_weight":
                name = names[value[0] % len(names)]
                manager.set_weight(name, value[1])
                reference.weights[name] = value[1]
            elif action in ("disable", "enable"):
                name = names[value % len(names)]
                getattr(manager, action)(name)
                (reference.disabled.add if action == "disable" else reference.disabled.discard)(name)
            elif action == "flush":
                manager.update_loss_log()
            elif with_scope is None:
                with_scope = manager.split("val") if action == "split" else manager.paused()
                with_scope.__enter__()
                reference.prefix = "val/" if action == "split" else None
            else:
                with_scope.__exit__(None, None, None)
                with_scope, reference.prefix = None, ""
        for name, rows in reference.records.items():
            kept = manager.series(name)
            # Zeros times a negative weight may give 0.0 or -0.0, which are one number once 0.0 is added.
            columns = (kept.step, kept.epoch, kept.loss + 0.0, kept.weight, kept.unweighted + 0.0)
            ours = list(zip(*(column.tolist() for column in columns), strict=True))
            theirs = [(row[0], float(row[1]), row[2] + 0.0, row[3], row[4] + 0.0) for row in rows]
            assert repr(ours) == repr(theirs)


# What the results are


NAMES = tuple("abcdef")


def several(count=6, **keywords):
    """Return a manager of losses that each return a multiple of the mean of `x`, and their inputs."""
    losses = [
        LMLoss(name=name, function=lambda x, number=number: number * x.mean(), inputs=("x",), loss_weight=0.5)
        for number, name in enumerate(NAMES[:count], start=1)
    ]
    return manager_of(*losses, **keywords), {"x": torch.ones(3, requires_grad=True)}


WAYS: dict[str, Any] = {
    "dict": dict,
    "keywords": lambda losses: dict(**losses),
    "display": lambda losses: {**losses},
    "items": lambda losses: dict(losses.items()),
    "values": lambda losses: dict(zip(losses, losses.values(), strict=True)),
    "get": lambda losses: {name: losses.get(name) for name in losses},
    "getitem": lambda losses: {name: losses[name] for name in reversed(losses)},
    "copy": lambda losses: losses.copy(),
    "or": lambda losses: losses | {},
    "ror": lambda losses: {} | losses,
    "pop": lambda losses: {name: losses.pop(name) for name in list(losses)},
    "popitem": lambda losses: dict(losses.popitem() for _ in range(len(losses))),
    "setdefault": lambda losses: {name: losses.setdefault(name, None) for name in losses},
    "update": lambda losses: (other := {}, other.update(losses))[0],
    "copied": copy.copy,
    "map": lambda losses: {name: losses[name] for name in losses.keys() & set(NAMES)},
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_the_results_gives_tensors(way):
    manager, inputs = several()
    found = WAYS[way](manager.compute_losses(inputs))
    assert {name: result.item() for name, result in found.items()} == dict(
        zip(NAMES, (0.5, 1, 1.5, 2, 2.5, 3), strict=True)
    )


def test_results_are_a_dict_whose_names_cost_nothing():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    with Operations() as operations:
        assert (list(losses), len(losses), "a" in losses, "g" in losses) == (list(NAMES), 6, True, False)
        assert (bool(losses), losses.ran, isinstance(losses, dict)) == (True, NAMES, True)
    assert not operations.names


def test_results_can_be_asked_for_in_other_ways_again():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    get, items = losses.get, losses.items
    assert max(losses, key=get) == "f"
    assert [result.item() for _, result in items()] == [get(name).item() for name in losses]


def test_a_dict_of_the_same_type_can_be_made_with_other_values():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    detached = type(losses)({name: result.detach() for name, result in losses.items()})
    assert isinstance(detached, ComputedLosses)
    assert detached.total.item() == losses.total.item()
    assert type(manager.compute_losses(inputs))(a=torch.tensor(1.0))["a"].item() == 1.0


def test_results_that_nobody_has_asked_for_are_equal_if_their_values_are():
    manager, inputs = several()
    assert manager.compute_losses(inputs) == manager.compute_losses(inputs)
    assert manager.compute_losses(inputs) != {**manager.compute_losses(inputs), "a": torch.tensor(0.0)}
    assert manager.compute_losses(inputs) | manager.compute_losses({"x": inputs["x"] * 2}) == {
        name: 2 * result for name, result in manager.compute_losses(inputs).items()
    }


def test_results_that_are_not_finite_have_graphs_of_their_own():
    manager, inputs = several(nonfinite="ignore")
    manager.register_loss_fn("bad", lambda x: x.sum() * math.nan, inputs=("x",))
    losses = manager.compute_losses(inputs)
    losses["bad"].backward()
    losses["a"].backward()


def test_results_are_equal_to_themselves_and_can_be_changed():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    assert losses == losses  # comparing is the test
    losses["more"] = torch.tensor(1.0)
    del losses["a"]
    losses |= {"other": torch.tensor(2.0)}
    assert losses.total.item() == pytest.approx(10 + 1 + 2)
    assert list(losses.unweighted) == [*NAMES[1:], "more", "other"]
    assert losses.unweighted["more"].isnan()
    losses.clear()
    assert not losses


def test_each_result_has_the_graph_of_its_loss_alone():
    manager, _ = several()
    losses = manager.compute_losses({"x": torch.ones(3, requires_grad=True)})
    for result in losses.values():
        result.backward()
    with pytest.raises(RuntimeError, match="second time"):
        losses["a"].backward()


def test_a_result_takes_no_gradient_from_a_loss_with_an_infinite_one():
    manager, inputs = several()
    manager.register_loss_fn("root", lambda x: (x - 1).sqrt().sum(), inputs=("x",))
    losses = manager.compute_losses(inputs)
    losses["a"].backward()
    assert inputs["x"].grad.tolist() == pytest.approx([1 / 6] * 3)


def test_results_that_are_looked_at_without_gradients_still_have_them():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    with torch.no_grad():
        assert losses["a"].item() == 0.5
    losses.total.backward()
    assert inputs["x"].grad.tolist() == pytest.approx([3.5] * 3)


def test_results_of_no_grad_have_no_gradients():
    manager, inputs = several()
    with torch.no_grad():
        losses = manager.compute_losses(inputs)
    assert not losses.total.requires_grad
    assert not losses["a"].requires_grad


@pytest.mark.parametrize("count", [1, 6])
def test_a_manager_that_was_first_used_in_inference_mode_can_train(count):
    manager, inputs = several(count)
    with torch.inference_mode():
        losses = manager.compute_losses(inputs)
        assert losses.total.item() == pytest.approx(sum(range(1, count + 1)) / 2)
        manager.set_weight(None, 1.0)
        manager.compute_losses(inputs)
    manager.compute_losses(inputs).total.backward()
    assert inputs["x"].grad.sum().item() == pytest.approx(sum(range(1, count + 1)))


def test_a_total_can_be_asked_for_again_and_edited():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    first = losses.total
    with torch.no_grad():
        first.zero_()
    assert losses.total.item() == 10.5


def test_a_total_reflects_edits_of_the_results():
    manager, inputs = several()
    losses = manager.compute_losses(inputs)
    with torch.no_grad():
        losses["a"].fill_(100.0)
    assert losses.total.item() == 110.0
    assert manager.get_loss_values()["a"] == 0.5


@pytest.mark.parametrize("edit", ["optimizer", "data"])
def test_a_result_keeps_the_value_of_its_call(edit):
    manager = manager_of(*[LMLoss(name=name, function=lambda p: p, inputs=("p",), loss_weight=2.0) for name in NAMES])
    parameter = torch.nn.Parameter(torch.tensor(3.0))
    for _ in range(2):  # the second time it is known that all losses return what they are given
        losses = manager.compute_losses({"p": parameter})
    if edit == "optimizer":
        losses.total.backward()
        torch.optim.SGD([parameter], lr=0.1).step()
    else:
        parameter.data.zero_()
    assert [result.item() for result in losses.values()] == [6.0] * 6
    assert losses.total.item() == 36.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_total_of_many_losses_differs_by_rounding_only(dtype):
    values = torch.rand(100, dtype=dtype, generator=torch.Generator().manual_seed(0))
    losses = [
        LMLoss(
            name=str(number),
            function=lambda x, number=number: x[number].clone(),
            inputs=("x",),
            loss_weight=number + 1.0,
        )
        for number in range(100)
    ]
    total = manager_of(*losses).compute_losses({"x": values}).total
    assert total.dtype == dtype
    assert total.item() == pytest.approx((values.double() * torch.arange(1, 101)).sum().item(), rel=1e-5)


@pytest.mark.parametrize("count", [1, 6])
def test_a_weight_beyond_single_precision_is_infinite(count):
    manager, inputs = several(count, nonfinite="ignore")
    manager.set_weight("a", 1e39)
    losses = manager.compute_losses(inputs)
    assert losses["a"].item() == losses.total.item() == manager.get_loss_values()["a"] == math.inf


def test_nothing_keeps_the_graph_of_several_losses_alive():
    manager, inputs = several(enable_logging=True)
    middle = inputs["x"] * 2
    reference = weakref.ref(middle)
    manager.compute_losses({"x": middle}).total.backward()
    del middle
    gc.collect()
    assert reference() is None


def test_a_total_has_the_sign_of_its_zero():
    manager, _ = several()
    manager.set_weight(None, -1.0)
    assert math.copysign(1, manager.compute_losses({"x": torch.zeros(3)}).total.item()) == -1


def test_a_result_whose_value_was_edited_has_the_graph_of_its_loss_alone():
    parameters = [torch.nn.Parameter(torch.tensor(float(number))) for number in range(1, 5)]
    losses = [
        LMLoss(name=str(number), function=lambda p: p, inputs=(str(number),), loss_weight=2.0) for number in range(4)
    ]
    results = manager_of(*losses).compute_losses({str(number): each for number, each in enumerate(parameters)})
    with torch.no_grad():
        parameters[0].mul_(3)
    results["0"].backward()
    assert (results["0"].item(), parameters[0].grad.item()) == (2.0, 2.0)
    assert [each.grad for each in parameters[1:]] == [None] * 3


def test_threads_that_ask_for_results_get_the_same():
    manager, inputs = several()
    for _ in range(20):
        losses = manager.compute_losses(inputs)
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda _, losses=losses: losses["a"], range(8)))
        assert len(set(map(id, found))) == 1


@pytest.mark.parametrize("count", [2, 3, 6])
@pytest.mark.parametrize("where", ["container", "closure"])
def test_gradients_of_a_result_that_was_there_before_are_added_up_in_order(count, where):
    for seed in range(20):
        gradients = []
        for together in (True, False):
            generator = torch.Generator().manual_seed(seed)
            x = torch.rand(3, generator=generator).requires_grad_()
            z = (x * torch.rand(3, generator=generator)).sum()
            functions = [lambda o: o["z"], lambda o: o["z"].sin() * 1.37, lambda o: (o["z"] * 0.77).exp()] * 2
            if where == "closure":
                functions = [lambda o, function=function, z=z: function({"z": z}) for function in functions]
            weights = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6][:count]
            if together:
                losses = [
                    LMLoss(name=str(number), function=function, inputs=("o",), loss_weight=weight)
                    for number, (function, weight) in enumerate(zip(functions, weights, strict=False))
                ]
                manager_of(*losses).compute_losses({"o": {"z": z}}).total.backward()
            else:
                added_up({str(i): functions[i]({"z": z}) * weight for i, weight in enumerate(weights)}).backward()
            gradients.append(x.grad)
        assert torch.equal(*gradients)


@pytest.mark.parametrize("count", [2, 3])
def test_a_result_is_that_of_its_call_if_a_later_loss_edits_what_was_returned(count):
    buffer = torch.tensor(0.0)
    losses = [LMLoss(name=str(number), function=lambda: buffer.add_(1), inputs=()) for number in range(count)]
    results = manager_of(*losses).compute_losses({})
    assert [result.item() for result in results.values()] == list(range(1, count + 1))


class Counting(Mapping):
    """A mapping that gives another value each time it is read."""

    def __init__(self):
        self.read = 0

    def __getitem__(self, name):
        self.read += 1
        return torch.tensor(float(self.read))

    def __iter__(self):
        return iter("x")

    def __len__(self):
        return 1


@pytest.mark.parametrize("count", [1, 3, 6])
def test_an_input_is_read_once_from_whatever_mapping(count):
    losses = [LMLoss(name=str(number), function=lambda x: x, inputs=("x",)) for number in range(count)]
    results = manager_of(*losses).compute_losses(Counting())
    assert len({result.item() for result in results.values()}) == 1


def test_losses_that_compute_others_count_their_steps_without_a_clock():
    manager, inputs = several(enable_logging=True)
    manager.register_loss_fn("outer", lambda x: manager.compute_loss("a", x) * 1, inputs=("x",))
    manager.init_from_spec(
        lambda: {
            name: LMLoss(name=name, function=function, inputs=("x",))
            for name, function in (("outer", lambda x: manager.compute_loss("inner", x) * 1), ("inner", torch.sum))
        }
    )
    for _ in range(3):
        manager.compute_losses(inputs)
    assert manager.series("inner").step.tolist() == list(range(6))


def test_weights_that_were_used_in_a_transform_can_be_used_after_it():
    def total(x):
        return manager.compute_losses({"x": x}).total

    manager, _ = several()
    x = torch.ones(3)
    expected = torch.func.grad(total)(x)
    manager.set_weight(None, 0.5)
    torch.func.grad(lambda x: torch.func.grad(total)(x).sum())(x)
    assert torch.equal(torch.func.grad(total)(x), expected)
    torch.func.grad(lambda x: (manager.set_weight(None, 0.5), total(x))[1])(x)
    assert total(x).item() == manager.compute_loss("a", x).item() * 21


@pytest.mark.parametrize("count", [1, 6])
def test_weights_that_were_set_in_a_mode_of_fake_tensors_can_be_used_after_it(count):
    with FakeTensorMode():
        manager, _ = several(count)
        manager.set_weight(None, 0.25)
    assert manager.compute_losses({"x": torch.ones(3)}).total.item() == sum(range(1, count + 1)) / 4


def test_the_modules_of_losses_are_freed_with_their_manager():
    gc.disable()
    try:
        module = torch.nn.L1Loss()
        manager = LossManager()
        for name in NAMES:
            manager.register_loss_fn(name, module)
        manager.compute_losses({"y_fake": torch.ones(2), "y": torch.ones(2)})
        reference = weakref.ref(module)
        del module, manager
        assert reference() is None
    finally:
        gc.enable()


def test_a_missing_input_is_named_before_a_schedule_is_warned_of():
    manager, _ = several()
    manager.set_schedule("a", Schedule(end=10, target_value=0.0))
    with pytest.raises(MissingInputError):
        manager.compute_losses({})
    with pytest.warns(NectarganWarning, match="without an epoch"):
        manager.compute_losses({"x": torch.ones(3)})


# Errors, and values that are not finite


def test_a_loss_that_fails_is_named_and_none_is_recorded():
    manager, inputs = several(enable_logging=True)

    def broken(x):
        raise Failing("mine")

    manager.register_loss_fn("broken", broken, inputs=("x",))
    with pytest.raises(Failing) as caught:
        manager.compute_losses(inputs)
    assert not hasattr(caught.value, "add_note") or "in the function of loss 'broken'" in caught.value.__notes__[0]
    assert set(manager.state_dict()["counts"].values()) == {0}


@pytest.mark.parametrize(
    "result",
    [
        *(1.0, None, torch.ones((), dtype=torch.complex64), torch.ones(1).to_sparse()),
        torch.ones(1).to_sparse().requires_grad_(),
    ],
)
def test_a_result_that_is_no_tensor_of_real_numbers_is_named_and_none_is_recorded(result):
    manager, inputs = several(enable_logging=True)
    manager.register_loss_fn("odd", lambda x: result, inputs=("x",))
    with pytest.raises(LossResultError, match="loss 'odd' returned"):
        manager.compute_losses(inputs)
    assert set(manager.state_dict()["counts"].values()) == {0}


@pytest.mark.parametrize("value", [math.inf, math.nan])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_loss_is_recorded_before_one_that_is_not_finite_raises(value, dtype):
    manager, inputs = several(enable_logging=True, nonfinite="raise")
    inputs["x"] = inputs["x"].to(dtype)
    manager.register_loss_fn("bad", lambda x: x.sum() * value, inputs=("x",))
    with pytest.raises(NonFiniteLossError, match="loss 'bad' became"):
        manager.compute_losses(inputs)
    assert set(manager.state_dict()["counts"].values()) == {1}


def test_a_product_that_overflows_is_reported_with_its_loss():
    manager, inputs = several(nonfinite="raise")
    manager.set_weight("c", 3e38)
    with pytest.raises(NonFiniteLossError, match="loss 'c' became inf"):
        manager.compute_losses(inputs)


@pytest.mark.parametrize("count", [4, 10])
def test_the_total_of_several_finite_losses_that_is_not_finite_is_reported_once(count):
    losses = [LMLoss(name=str(number), function=lambda x: x * 1, inputs=("x",)) for number in range(count)]
    manager = manager_of(*losses, nonfinite="raise")
    results = manager.compute_losses({"x": torch.tensor(2e38)})
    with pytest.raises(NonFiniteLossError, match="the total of 0, 1, 2, 3"):
        results.total  # noqa: B018 # asking is the test
    assert results.total.item() == math.inf


# A plan holds until something changes

CHANGES: dict[str, Any] = {
    "set_weight": lambda manager: manager.set_weight("a", 10.0),
    "set_schedule": lambda manager: manager.set_schedule(
        "a", Schedule(start=0, end=1, initial_value=10.0, target_value=10.0)
    ),
    "disable": lambda manager: manager.disable(["b", "c", "d", "e", "f"]),
    "register": lambda manager: manager.register_loss_fn("g", lambda x: x.sum(), inputs=("x",)),
    "replace": lambda manager: manager.init_from_spec(
        lambda: {"n": LMLoss(name="n", function=lambda x: x.max(), inputs=("x",))}
    ),
}
AFTER = {"set_weight": 20.0, "set_schedule": 20.0, "disable": 0.5, "register": 13.5, "replace": 1.0}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("query", [None, ["a", "b", "c", "d", "e", "f", "g", "n"]])
def test_a_change_holds_from_the_next_call_on(change, query):
    manager, inputs = several()
    if query is not None:  # names that no loss has yet are no error
        assert manager.compute_losses(inputs, query).total.item() == 10.5
    manager.compute_losses(inputs, query)
    CHANGES[change](manager)
    manager.tick(epoch=0)
    assert manager.compute_losses(inputs, query).total.item() == AFTER[change]


def test_a_total_follows_a_schedule():
    manager, inputs = several()
    manager.set_schedule("a", Schedule(start=0, end=4, initial_value=0.0, target_value=4.0))
    totals = []
    for epoch in (0, 1, 1, 2, 4, 0):
        manager.tick(epoch=epoch)
        totals.append(manager.compute_losses(inputs).total.item())
    assert totals == [10.0, 11.0, 11.0, 12.0, 14.0, 10.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_last_results_keep_their_dtype(dtype):
    manager, _ = several()
    manager.compute_losses({"x": torch.ones(3, dtype=dtype)})
    assert {tensor.dtype for tensor in manager.get_loss_tensors().values()} == {dtype}


def test_a_state_that_is_loaded_holds_from_the_next_call_on():
    manager, inputs = several(enable_logging=True)
    manager.tick(epoch=0)
    state = manager.state_dict()
    manager.set_weight(None, 7.0)
    manager.compute_losses(inputs)
    manager.load_state_dict(state)
    manager.tick(epoch=0)
    assert manager.compute_losses(inputs).total.item() == 10.5
    assert manager.series("a").step.tolist() == [0, 1]


def test_a_split_and_a_pause_have_plans_of_their_own():
    manager, inputs = several(enable_logging=True)
    manager.compute_losses(inputs)
    with manager.split("val"):
        manager.compute_losses(inputs)
        with manager.paused():
            manager.compute_losses(inputs)
        manager.compute_losses(inputs)
    manager.compute_losses(inputs)
    assert (len(manager.series("f")), len(manager.series("val/f"))) == (2, 2)


def test_an_observer_of_a_flush_may_change_a_weight_of_the_call(tmp_path):
    class Doubles:
        @hookimpl
        def nectargan_history_flushed(self, manager):
            manager.set_weight("a", 1.0)

    with LossManager(None, tmp_path, flush_every=0, observers=[Doubles()]) as manager:
        for name in NAMES:
            manager.register_loss_fn(name, lambda x: x.sum(), 0.5, inputs=("x",))
        inputs = {"x": torch.ones(2)}
        assert manager.compute_losses(inputs).total.item() == 6.0
        assert manager.compute_losses(inputs).total.item() == 7.0


# What a call costs


@pytest.fixture
def stackable():
    """Let the tensors that appear to be on an accelerator be stacked."""
    PLAIN.add(OnDevice)
    yield
    PLAIN.discard(OnDevice)


def test_a_step_of_eight_losses_on_a_device_is_three_operations_beside_the_functions(stackable):
    manager = LossManager(enable_logging=True)
    for number in range(8):
        manager.register_loss_fn(str(number), lambda x, y: x * 1, 0.25)
    manager.tick(epoch=0)
    manager.compute_losses({"y_fake": OnDevice(torch.tensor(2.0)), "y": None}).total  # noqa: B018 # makes the weights
    OnDevice.done = []
    for number in range(100):
        x = OnDevice(torch.tensor(float(number)))
        manager.tick(epoch=0)
        manager.compute_losses({"y_fake": x, "y": None}).total  # noqa: B018 # asking is the test
    done = OnDevice.done
    assert not {"_local_scalar_dense", "tolist", "_to_copy", "clone"} & set(done)
    # A stack, a product and a sum a step; every 64 steps a stack for each loss and the total.
    assert done.count("mul") == 800 + 100
    assert done.count("sum") == 100
    assert done.count("stack") == 100 + 9
    assert set(done) <= {"mul", "sum", "stack", "detach", "unbind"}
    assert manager.get_loss_values()["7"] == 24.75
    assert manager.series("3").loss.tolist() == [0.5, *(number / 4 for number in range(100))]
    assert OnDevice.done.count("tolist") == 1


@pytest.mark.parametrize("logging", [True, False])
def test_results_on_a_device_are_as_if_computed_one_by_one(stackable, logging):
    manager = LossManager(enable_logging=logging)
    for number in range(5):
        manager.register_loss_fn(str(number), lambda x: x * 1, 1 / 3, inputs=("x",))
    x = OnDevice(torch.tensor(0.7))
    losses = manager.compute_losses({"x": x})
    expected = torch.tensor(0.7) * (1 / 3)
    assert isinstance(losses, StackedLosses)
    assert [result.inner.item() for result in losses.values()] == [expected.item()] * 5
    assert manager.get_loss_values(precision=None) == dict.fromkeys("01234", expected.item())
    assert torch.equal(manager.get_loss_tensors()["3"].inner, expected)
    assert losses.unweighted["2"].inner.item() == torch.tensor(0.7).item()


def test_a_total_on_a_device_that_is_not_finite_is_found_when_values_are_read(stackable):
    losses = [LMLoss(name=str(number), function=lambda x: x * 1, inputs=("x",)) for number in range(5)]
    manager = manager_of(*losses, nonfinite="raise")
    manager.tick(epoch=0)
    assert manager.compute_losses({"x": OnDevice(torch.tensor(2e38))}).total is not None
    with pytest.raises(NonFiniteLossError, match="the total of 0, 1, 2, 3, 4 became inf at step 0"):
        manager.tick(epoch=0)


def test_a_step_of_eight_losses_on_the_cpu_reads_all_values_at_once():
    manager = LossManager(enable_logging=True)
    for number in range(8):
        manager.register_loss_fn(str(number), lambda x, y: x, 2.0)
    x = torch.tensor(1.0)
    manager.compute_losses({"y_fake": x, "y": x})
    with Operations() as operations:
        manager.compute_losses({"y_fake": x, "y": x})
    assert operations.names == ["stack.default"]
    with Operations() as operations:
        manager.compute_losses({"y_fake": x, "y": x}).total  # noqa: B018 # asking is the test
    assert operations.names == ["stack.default", "dot.default", "_local_scalar_dense.default"]
