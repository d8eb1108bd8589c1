"""Weights as tensors: torch multiplies by one twice as fast as by a number, and several results by several at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor


def as_factors(weights: Sequence[float], like: Tensor) -> Tensor:
    """Return weights as a vector of the dtype, float32 or float64, and on the device of another tensor.

    Graphs may keep it, also if it is made in inference mode. No device is waited for.

    Example:
        >>> as_factors([1.0, 0.5], like=torch.zeros(3, dtype=torch.float64))
        tensor([1.0000, 0.5000], dtype=torch.float64)
    """
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(mode=False):
            return as_factors(weights, like)
    if like.is_cpu:  # The fastest way from numbers to a tensor.
        return torch.frombuffer(array("f" if like.dtype is torch.float32 else "d", weights), dtype=like.dtype)
    # To copy them from the CPU could wait.
    return torch.stack([like.new_full((), weight) for weight in weights])


def as_factor(weight: float) -> Tensor | None:
    """Return a weight as a scalar in single precision on the CPU; None in a mode whose tensors are of another kind."""
    made = as_factors([weight], like=_SINGLE)[0]
    return made if type(made) is Tensor else None


_SINGLE = torch.zeros((), dtype=torch.float32, device="cpu")
