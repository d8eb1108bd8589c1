"""Weights as tensors: torch multiplies by one twice as fast as by a number, and several results by several at once."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

# Other kinds of tensors may not be stacked, or become something else by it.
PLAIN = {Tensor, torch.nn.Parameter}
_LARGEST = torch.finfo(torch.float32).max


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
    """Return a weight as a scalar in single precision on the CPU; None where it could not be kept."""
    if abs(weight) > _LARGEST:
        return None
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(mode=False):
            return as_factor(weight)
    made = torch.scalar_tensor(weight, dtype=torch.float32, device="cpu")
    return made if can_be_kept(made) else None


def can_be_kept(made: Tensor) -> bool:
    """Whether a tensor can be used later: one of torch.func, of another mode, or of a CUDA graph, is of that only."""
    if type(made) not in PLAIN or torch._C._functorch.is_functorch_wrapped_tensor(made):
        return False
    has_cuda = made.is_cuda and torch.backends.cuda.is_built()  # type: ignore[no-untyped-call] # untyped in torch
    return not (has_cuda and torch.cuda.is_current_stream_capturing())
