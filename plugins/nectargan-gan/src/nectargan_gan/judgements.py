"""What discriminators return: the tensors to judge by, and how the losses of several discriminators become one."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

OverDiscriminators = Literal["mean", "sum"]

_PRECISE = (torch.float32, torch.float64)


def judgements(owner: str, name: str, prediction: object) -> list[Tensor]:
    """Return what each discriminator judges by.

    Args:
        owner: The loss, for errors.
        name: The input, for errors.
        prediction: A tensor; or a list with an entry for each discriminator: a tensor, or a list of which the last
            tensor is the judgement.

    Raises:
        TypeError: If it is anything else, or a judgement is not of a floating-point dtype.
        ValueError: If a list is empty.
    """
    if isinstance(prediction, Tensor):
        if prediction.is_floating_point():
            return [prediction]
        found = [(name, prediction)]
    elif isinstance(prediction, (list, tuple)):
        found = [(f"{name}[{place}]", entry) for place, entry in enumerate(prediction)]
    else:
        raise _unexpected(owner, name, prediction)
    if not found:
        raise _empty(owner, name)
    result = []
    for where, entry in found:
        if isinstance(entry, (list, tuple)):
            if not entry:
                raise _empty(owner, where)
            where, entry = f"{where}[-1]", entry[-1]
        if not isinstance(entry, Tensor):
            raise _unexpected(owner, where, entry)
        if not entry.is_floating_point():
            raise TypeError(f"{owner} expects floating-point predictions; {where} is {entry.dtype}")
        result.append(entry)
    return result


def over_discriminators(losses: list[Tensor], reduction: OverDiscriminators) -> Tensor:
    """Return the mean or the sum of the losses of the discriminators."""
    if len(losses) == 1:
        return losses[0]
    total = losses[0]
    for loss in losses[1:]:
        total = total + loss
    return total / len(losses) if reduction == "mean" else total


def check_reduction(owner: str, reduction: object) -> None:
    """Raise `ValueError` for what is no way to combine the losses of discriminators."""
    if reduction not in ("mean", "sum"):
        raise ValueError(f'{owner}: over_discriminators is "mean" or "sum", not {reduction!r}')


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least."""
    return tensor if tensor.dtype in _PRECISE else tensor.float()


def _unexpected(owner: str, where: str, value: object) -> TypeError:
    return TypeError(
        f"{owner} expects a prediction: a tensor; or a list with an entry for each discriminator, a tensor or a list "
        f"of tensors whose last is the judgement; {where} is of type {type(value).__name__}"
    )


def _empty(owner: str, where: str) -> ValueError:
    return ValueError(f"{owner} expects at least one tensor in each list; {where} is empty")
