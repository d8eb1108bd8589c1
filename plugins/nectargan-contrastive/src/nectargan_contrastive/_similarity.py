"""Similarities of vectors over a temperature, in float32 at least, and what a softmax over them costs."""

from __future__ import annotations

import contextlib
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

# A vector of zeros stays one, and its gradient finite.
_SHORTEST = 1e-7


def precise(*tensors: Tensor) -> list[Tensor]:
    """Return tensors in the dtype that they promote to, float32 at least."""
    dtype = torch.float32
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return [tensor.to(dtype) for tensor in tensors]


def similarities(queries: Tensor, keys: Tensor, temperature: float, normalize: bool) -> Tensor:
    """Return the product of each query with each key over the temperature.

    Args:
        queries: (..., Q, D), in float32 or float64.
        keys: (..., K, D), in the same dtype.
        temperature: What the products are divided by.
        normalize: Whether the vectors are brought to the length 1 first.

    Returns:
        (..., Q, K).
    """
    if normalize:
        queries, keys = (F.normalize(each, dim=-1, eps=_SHORTEST) for each in (queries, keys))
    with _without_autocast(queries.device.type):
        return torch.matmul(queries / temperature, keys.transpose(-2, -1))


def classified(logits: Tensor) -> Tensor:
    """Return the mean cross-entropy of (..., Q, Q) logits whose diagonal has the right ones."""
    rows = logits.flatten(0, -2)
    target = torch.arange(logits.shape[-1], device=logits.device).expand(logits.shape[:-1]).reshape(-1)
    return F.cross_entropy(rows, target)


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    # torch up to 2.8 cannot trace the question, and compiled code runs where there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
