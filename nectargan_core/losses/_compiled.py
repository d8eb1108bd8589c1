"""Losses inside `torch.compile`: one operator, opaque to the compiler, looks up the weight and records the result."""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Protocol

import torch
from torch import Tensor

from nectargan_core.losses._zero import tensors_in, with_tensors


class CompiledLoss(Protocol):
    """What the operators call."""

    def compiled_weight(self, epoch: float | None) -> float:
        """Return the weight that applies now."""

    def record_compiled(self, raw: Tensor, epoch: float | None) -> float:
        """Record a result that was computed in a compiled graph."""


# An input that the operator changes, so that the compiler neither drops, merges nor reorders its calls.
_ORDER = torch.zeros((), dtype=torch.int64, device="cpu")
_NUMBERS = itertools.count()
_LOSSES: weakref.WeakValueDictionary[int, CompiledLoss] = weakref.WeakValueDictionary()


def register(loss: CompiledLoss) -> int:
    """Return a number by which the operator finds a loss; the loss is not kept alive."""
    number = next(_NUMBERS)
    _LOSSES[number] = loss
    return number


def gated(values: Any, number: int, epoch: float | None) -> Any:
    """Return what a loss is given, cut off from the graph when the graph runs with a weight of 0.

    The function of the loss runs in the graph whatever the weight is. Its gradient may be infinite, and times 0 nan;
    the gate lets no gradient back to a tensor then.

    Args:
        values: Arguments of the function; tensors in lists, tuples and dicts are gated, too.
        number: The loss, as `register` numbered it.
        epoch: Epoch for the schedule, None for that of the clock.
    """
    like = next((tensor for tensor in tensors_in((values,)) if tensor.requires_grad), None)
    if like is None:
        return values
    is_zero = _weight_is_zero(_ORDER, like.detach(), number, epoch)

    def gate(tensor: Tensor) -> Tensor:
        return torch.where(is_zero.to(tensor.device), tensor.detach(), tensor) if tensor.requires_grad else tensor

    return with_tensors(values, gate)


def apply_weight(raw: Tensor, number: int, epoch: float | None) -> Tensor:
    """Weight a result and record it, in a graph that stays the same while weights, steps and epochs change.

    Args:
        raw: What the function of the loss returned.
        number: The loss, as `register` numbered it.
        epoch: Epoch for schedule and record, None for that of the clock.

    Returns:
        The weighted result, attached to the graph.
    """
    factor = _weight_and_record(_ORDER, raw.detach(), number, epoch)
    # Like eager code that multiplies by a number: in float32 at least, then rounded.
    weighted = (raw.to(factor.dtype) * factor).to(raw.dtype)
    return torch.where(factor == 0, torch.zeros_like(weighted), weighted)


# Not the weight itself, which a dtype could round to 0.
@torch.library.custom_op("nectargan::weight_is_zero", mutates_args={"order"})
def _weight_is_zero(order: Tensor, like: Tensor, number: int, epoch: float | None) -> Tensor:
    order += 1
    return torch.full((), _LOSSES[number].compiled_weight(epoch) == 0, dtype=torch.bool, device=like.device)


@_weight_is_zero.register_fake
def _(order: Tensor, like: Tensor, number: int, epoch: float | None) -> Tensor:
    return torch.empty((), dtype=torch.bool, device=like.device)


@torch.library.custom_op("nectargan::weight_and_record", mutates_args={"order"})
def _weight_and_record(order: Tensor, raw: Tensor, number: int, epoch: float | None) -> Tensor:
    order += 1
    weight = _LOSSES[number].record_compiled(raw, epoch)
    return torch.full((), weight, dtype=_precise(raw), device=raw.device)


@_weight_and_record.register_fake
def _(order: Tensor, raw: Tensor, number: int, epoch: float | None) -> Tensor:
    return torch.empty((), dtype=_precise(raw), device=raw.device)


def _precise(raw: Tensor) -> torch.dtype:
    return torch.float64 if raw.dtype is torch.float64 else torch.float32
