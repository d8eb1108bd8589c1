"""What the losses check of their arguments and inputs."""

from __future__ import annotations

import math

from torch import Tensor


def checked_temperature(owner: str, temperature: float) -> float:
    """Return the temperature as a float.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not above 0 and finite.
    """
    expected = f"{owner}: temperature is a finite number above 0"
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float)):
        raise TypeError(f"{expected}; got {temperature!r}")
    try:
        number = float(temperature)
    except OverflowError:
        number = math.inf
    if not 0.0 < number < math.inf:
        raise ValueError(f"{expected}; got {temperature!r}")
    return number


def checked_count(owner: str, num_patches: int | None) -> int | None:
    """Return the number of patches to draw, or None for all.

    Raises:
        TypeError: If it is no int.
        ValueError: If it is less than 1.
    """
    expected = f"{owner}: num_patches is None for all patches, or how many are drawn, 1 at least"
    if num_patches is None:
        return None
    if isinstance(num_patches, bool) or not isinstance(num_patches, int):
        raise TypeError(f"{expected}; got {num_patches!r}")
    if num_patches < 1:
        raise ValueError(f"{expected}; got {num_patches!r}")
    return num_patches


def check_floating(owner: str, **tensors: Tensor) -> None:
    """Raise `TypeError` for what is no tensor of a floating-point dtype."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{owner} expects {name} to be a tensor; it is a {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{owner} expects floating-point tensors; {name} is {tensor.dtype}: convert with .float()")
