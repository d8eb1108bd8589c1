"""What both losses check: numbers, and pairs of tensors of one shape."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def checked_number(owner: str, name: str, value: float) -> float:
    """Return a finite number that is not negative.

    Args:
        owner: The loss, for the error.
        name: The argument.
        value: What was given.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is negative, infinite or nan.
    """
    expected = f"{owner}: {name} is a finite number, 0 or greater"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{expected}; got {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0.0 <= number < math.inf:
        raise ValueError(f"{expected}; got {value!r}")
    return number


def checked_pair(owner: str, dimensions: int, form: str, **pair: Tensor) -> tuple[Tensor, Tensor]:
    """Return two tensors of one shape in the dtype to compute in, float32 at least.

    Args:
        owner: The loss, for the error.
        dimensions: How many dimensions they have at least.
        form: Their shape, in words.
        **pair: The two tensors, by name.

    Raises:
        TypeError: If one is no tensor of a floating-point dtype.
        ValueError: If their shapes differ, or have too few dimensions.
    """
    for name, tensor in pair.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{owner} expects {name} to be a tensor {form}; it is a {type(tensor).__name__}")
    (first_name, first), (second_name, second) = pair.items()
    if first.shape != second.shape or first.dim() < dimensions:
        raise ValueError(
            f"{owner} expects two tensors of one shape {form}; {first_name} is {tuple(first.shape)} and "
            f"{second_name} is {tuple(second.shape)}: reshape them, or expand the smaller"
        )
    if not (first.is_floating_point() and second.is_floating_point()):
        raise TypeError(
            f"{owner} expects floating-point tensors; {first_name} is {first.dtype} and {second_name} is "
            f"{second.dtype}: convert with .float()"
        )
    precise = torch.promote_types(torch.promote_types(first.dtype, second.dtype), torch.float32)
    return first.to(precise), second.to(precise)
