"""Losses inside `torch.compile`: one operator looks up the weights of a call, and one records its results.

Both are opaque to the compiler, so that a graph stays the same while weights, steps and epochs change.
"""

from __future__ import annotations

import itertools
import weakref
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from nectargan_core.errors import NectarganError
from nectargan_core.losses._zero import floating, with_tensors

_FLOAT32, _FLOAT64 = torch.float32, torch.float64
# -1 outside of backward(), inside of which activation checkpointing computes a loss again, which is not recorded again.
# torch has no public name for it.
_current_graph_task = torch._C._current_graph_task_id


class CompiledLoss(Protocol):
    """What the operators call."""

    def compiled_weight(self, epoch: float | None) -> float:
        """Return the weight that applies now; before that, flush if a flush is due."""

    def record_value(self, value: float, epoch: float | None) -> None:
        """Record a scalar in single precision, before weighting, that was read from the CPU."""

    def record_means(self, raw: Tensor, weighted: Tensor, result: Tensor, epoch: float | None) -> None:
        """Record a result by its means before (`raw`) and after weighting."""

    def record_together(self, record: Callable[[], None]) -> None:
        """Call what records several losses; raise what is due for one of them when all are recorded."""


# An input that the operators change, so that the compiler neither drops, merges nor reorders their calls.
_ORDER = torch.zeros((), dtype=torch.int64, device="cpu")
_NUMBERS = itertools.count()
_LOSSES: weakref.WeakValueDictionary[int, CompiledLoss] = weakref.WeakValueDictionary()


def register(loss: CompiledLoss) -> int:
    """Return a number by which the operators find a loss; the loss is not kept alive."""
    number = next(_NUMBERS)
    _LOSSES[number] = loss
    return number


def compute(
    numbers: Sequence[int],
    calls: Sequence[Callable[[tuple[Any, ...], Mapping[str, Any]], Tensor]],
    given: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
    epoch: float | None,
) -> list[Tensor]:
    """Compute, weight and record losses, in a graph that serves every weight, step and epoch.

    A function is called whatever its weight is. Its gradient may be infinite, and times 0 nan; so no gradient goes back
    to what it was given while its weight is 0.

    Args:
        numbers: The losses, as `register` numbered them.
        calls: What calls the function of each, with its arguments and keyword arguments.
        given: The arguments and keyword arguments of each.
        epoch: Epoch for the schedules and the records, None for that of the clock.

    Returns:
        The weighted results, attached to the graph.
    """
    numbers = list(numbers)
    weights: dict[tuple[torch.device, bool], Tensor] = {}

    def weight(index: int, tensor: Tensor) -> Tensor:
        """Return the weight of a loss on the device of a tensor, in double precision if the tensor is."""
        key = (tensor.device, tensor.dtype is _FLOAT64)
        if key not in weights:
            weights[key] = torch.ops.nectargan.weights.default(_ORDER, numbers, epoch, *key)
        return weights[key][index]

    def gate(index: int, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return tensor
        return torch.where(weight(index, tensor) == 0, tensor.detach(), tensor)

    raw, weighted = [], []
    for index, (call, (args, kwargs)) in enumerate(zip(calls, given, strict=True)):
        args, kwargs = with_tensors((args, kwargs), lambda tensor, index=index: gate(index, tensor))
        result = call(args, kwargs)
        raw.append(result.detach())
        weighted.append(_weighted(result, lambda tensor, index=index: weight(index, tensor)))
    _record(numbers, raw, [result.detach() for result in weighted], epoch)
    return weighted


def _weighted(raw: Tensor, weight: Callable[[Tensor], Tensor]) -> Tensor:
    """Weight a result like eager code that multiplies by a number: in float32 at least, then rounded."""
    dtype = floating(raw.dtype)
    raw = raw.to(_FLOAT64 if dtype is _FLOAT64 else _FLOAT32)
    factor = weight(raw)
    # 0 also where the result is infinite.
    return torch.where(factor == 0, torch.zeros_like(raw), raw * factor).to(dtype)


def _record(numbers: list[int], raw: list[Tensor], weighted: list[Tensor], epoch: float | None) -> None:
    """Record results before and after weighting: scalars in single precision in one vector, the others by their means."""
    first = next((result for result in raw if _is_plain(result)), None)
    plain = [first is not None and _is_plain(result) and result.device == first.device for result in raw]
    others = [index for index, is_plain in enumerate(plain) if not is_plain]
    values = [result for result, is_plain in zip(raw, plain, strict=True) if is_plain]
    torch.ops.nectargan.record.default(
        _ORDER,
        torch.stack(values) if values else torch.empty(0, device="cpu"),
        [_mean(raw[index]) for index in others],
        [_mean(weighted[index]) for index in others],
        [raw[index] for index in others],
        numbers,
        others,
        epoch,
    )


def _is_plain(result: Tensor) -> bool:
    return not result.ndim and result.dtype is _FLOAT32


def _mean(tensor: Tensor) -> Tensor:
    if not tensor.ndim:
        return tensor
    return tensor.mean() if tensor.is_floating_point() else tensor.double().mean()


# The operators. Without the checks of torch.library.custom_op, which take as long as the rest of a step.

_LIBRARY = torch.library.Library("nectargan", "DEF")  # noqa: TOR901 # kept as long as this module is


def _define(schema: str, function: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Define an operator: what it does on any device, and what the compiler takes it for."""
    name = schema[: schema.index("(")]
    _LIBRARY.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    _LIBRARY.impl(name, function, "CompositeExplicitAutograd")
    # It has no gradient, and changes only what it says.
    for key in ("Autograd", "ADInplaceOrView"):
        _LIBRARY.impl(name, torch.library.fallthrough_kernel, key)
    torch.library.register_fake(f"nectargan::{name}", fake, lib=_LIBRARY)


def _weights(order: Tensor, numbers: list[int], epoch: float | None, device: torch.device, double: bool) -> Tensor:
    weights = [loss.compiled_weight(epoch) for loss in _found(numbers)]
    # The fastest way from numbers to a tensor.
    made = torch.frombuffer(array("d" if double else "f", weights), dtype=_FLOAT64 if double else _FLOAT32)
    return made if device.type == "cpu" else made.to(device, non_blocking=True)


def _fake_weights(
    order: Tensor, numbers: list[int], epoch: float | None, device: torch.device, double: bool
) -> Tensor:
    return torch.empty(len(numbers), dtype=_FLOAT64 if double else _FLOAT32, device=device)


def _recorded(
    order: Tensor,
    values: Tensor,
    raw: list[Tensor],
    weighted: list[Tensor],
    results: list[Tensor],
    numbers: list[int],
    others: list[int],
    epoch: float | None,
) -> None:
    if _current_graph_task() >= 0:
        return
    losses = _found(numbers)

    def record() -> None:
        if values.is_cpu and not others:
            for loss, value in zip(losses, values.tolist(), strict=True):
                loss.record_value(value, epoch)
            return
        # Copied, since the graph uses the memory of its results again.
        plain = iter(values.tolist() if values.is_cpu else values.clone().unbind())
        rest = iter(zip(raw, weighted, results, strict=True))
        for index, loss in enumerate(losses):
            if index in others:
                loss.record_means(*(tensor.clone() for tensor in next(rest)), epoch)
            elif values.is_cpu:
                loss.record_value(next(plain), epoch)
            else:
                value = next(plain)
                loss.record_means(value, value, value, epoch)

    losses[0].record_together(record)


def _fake_recorded(*args: Any) -> None:
    """Do nothing with what is not computed yet."""


def _found(numbers: list[int]) -> list[CompiledLoss]:
    try:
        return [_LOSSES[number] for number in numbers]
    except KeyError:
        raise NectarganError("the manager that this compiled graph computes losses of is gone; keep it") from None


_define("weights(Tensor(a!) order, int[] numbers, float? epoch, Device device, bool double) -> Tensor", _weights, _fake_weights)
_define(
    "record(Tensor(a!) order, Tensor values, Tensor[] raw, Tensor[] weighted, Tensor[] results, int[] numbers, "
    "int[] others, float? epoch) -> ()",
    _recorded,
    _fake_recorded,
)
