"""Losses that are weighted together give what each by itself does: results, totals, gradients and records, to the digit."""

from __future__ import annotations

import copy
import gc
import math
import weakref
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any

import pytest
import torch
from devices import OnDevice, Operations
from hypothesis import given, settings
from hypothesis import strategies as st
from managers import manager_of

from nectargan_core import ComputedLosses, LMLoss, LossManager, Schedule, Scheduler
from nectargan_core.errors import LossResultError, NectarganError, NonFiniteLossError
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
        results, rows = {}, {}
        for name, loss in self.losses.items():
            weight = self.weight(loss)
            if weight == 0.0 and (loss.skip_when_zero or name in self.disabled):
                continue
            for read in loss.inputs if isinstance(loss.inputs, tuple) else loss.inputs.values():
                if read not in values:
                    value = inputs[read]
                    values[read] = value() if read == "lazy" else value
            raw = self.called(loss, values, detach=weight == 0.0)
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
                kept.append((self.step if self.step >= 0 else step, self.epoch, result, weight, raw))
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


KINDS: dict[str, dict[str, Any]] = {
    "L1": {"function": torch.nn.L1Loss(), "inputs": ("x", "y")},
    "product": {"function": lambda x, y: (x * y).sum().tanh(), "inputs": {"y": "y", "x": "x"}},
    "lazy": {"function": lambda p: p.exp().mean(), "inputs": ("lazy",)},
    "two": {"function": lambda p, x: (p * x).sin().sum(), "inputs": ("lazy", "x")},
    "as it is": {"function": lambda f, x: f(x).mean(), "inputs": ("callable", "x"), "as_is": ("callable",)},
    "same": {"function": lambda s: s, "inputs": ("scalar",)},
    "constant": {"function": lambda y: y.sum(), "inputs": ("y",)},
    "double": {"function": lambda x: x.double().std(), "inputs": ("x",)},
    "half": {"function": lambda x: x.bfloat16().sum(), "inputs": ("x",)},
    "map": {"function": lambda x, y: (x - y).abs(), "inputs": ("x", "y")},
    "changing": {"function": changing, "inputs": ("x", "y")},
    "failing": {"function": failing, "inputs": ("x", "y")},
}
SCALARS = ["L1", "product", "lazy", "two", "as it is", "same", "constant"]

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
kinds = st.one_of(st.lists(st.sampled_from(SCALARS), min_size=1, max_size=8), st.lists(st.sampled_from(list(KINDS)), min_size=1, max_size=6))


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
    inputs = {"x": x, "y": y, "scalar": scale * x[0], "lazy": lambda: (x * scale).cos(), "callable": lambda x: x.sigmoid()}
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
@settings(max_examples=4000)
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
                assert results.keys() == expected.keys()
                for ours, theirs in zip(backward(other_leaves, results, value), backward(leaves, expected, value), strict=True):
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
            ours = list(zip(*(column.tolist() for column in (kept.step, kept.epoch, kept.loss, kept.weight, kept.unweighted)), strict=True))
            assert repr(ours) == repr([(row[0], float(row[1]), *row[2:]) for row in rows])
