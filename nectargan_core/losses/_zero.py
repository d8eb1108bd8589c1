"""The zero of a loss whose weight is 0: exactly 0, with a gradient of exactly 0 to all that the loss was given."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_ADDABLE = {torch.float16, torch.bfloat16, torch.float32, torch.float64}
_EXPONENTIABLE = _ADDABLE | {torch.complex64, torch.complex128}


def connected_zero(values: Iterable[Any], like: Tensor | None = None, device: torch.device | None = None) -> Tensor:
    """Return a scalar that is 0, and connected to tensors like `0 * loss` would be.

    A product with 0 would be nan where the loss, or its gradient, is infinite. Here no value of a tensor is used at
    all: each contributes the sum of an empty slice of it. That is also differentiable twice, in which an operation
    that saves its output (`exp`) keeps the connection.

    Args:
        values: What the loss was given, modules among it; tensors in lists, tuples and dicts count, too.
        like: The tensor whose dtype and device the result gets; None for the first of `values`.
        device: The device where there is no tensor at all.

    Returns:
        A new tensor. It requires a gradient if gradients are enabled, also where no tensor of `values` does.

    Raises:
        ValueError: If `values` contain themselves, or are nested too deeply.

    Example:
        >>> x = torch.full((2,), float("inf"), requires_grad=True)
        >>> connected_zero([x]).backward()
        >>> x.grad.tolist()
        [0.0, 0.0]
    """
    try:
        tensors = list(tensors_in(values))
    except RecursionError:
        raise _too_deep() from None
    like = like if like is not None else next(iter(tensors), None)
    dtype, device = (None, device) if like is None else (floating(like.dtype), like.device)
    zero = torch.zeros((), dtype=dtype, device=device)
    if not torch.is_grad_enabled():
        return zero
    connected = [tensor for tensor in tensors if tensor.requires_grad]
    for tensor in connected:
        zero = zero + _empty_sum(tensor).to(zero)
    if connected:
        return zero
    try:
        return zero.requires_grad_()
    except RuntimeError:  # Inside of torch.func, which connects nothing by this.
        return zero


def tensors_in(values: Iterable[Any]) -> Iterator[Tensor]:
    """Go through the tensors among values, in lists, tuples and dicts, and the parameters of modules."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, nn.Module):
            yield from value.parameters()
        elif isinstance(value, Mapping):
            yield from tensors_in(value.values())
        elif isinstance(value, (list, tuple)):
            yield from tensors_in(value)


def with_tensors(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Return a value with `change(tensor)` in the place of each tensor in it, in lists, tuples and dicts too."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: with_tensors(item, change) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)([with_tensors(item, change) for item in value])
    return value


def with_tensors_detached(value: Any) -> Any:
    """Return a value with each tensor in it cut off from its graph, which requires a gradient if it did.

    Raises:
        ValueError: If the value contains itself, or is nested too deeply.
    """
    try:
        return with_tensors(value, detached)
    except RecursionError:
        raise _too_deep() from None


def _too_deep() -> ValueError:
    return ValueError("what a loss is given contains itself, or is nested too deeply; give the tensors in it directly")


def detached(tensor: Tensor) -> Tensor:
    """Return a tensor cut off from its graph, which requires a gradient if it did."""
    return tensor.detach().requires_grad_(tensor.requires_grad)


def _empty_sum(tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or tensor.is_nested or tensor.dtype not in _EXPONENTIABLE:
        summed: Tensor = _SparseZero.apply(tensor)  # type: ignore[no-untyped-call] # as it is in torch
        return summed
    summed = tensor[None][:0].exp().sum()
    return summed.real if summed.is_complex() else summed


class _SparseZero(torch.autograd.Function):
    """0, with a gradient of 0 to a tensor that cannot be sliced, or has no exponential."""

    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:  # as the base class defines it
        context.save_for_backward(tensor)
        return torch.zeros((), dtype=floating(tensor.dtype), device=tensor.device)

    @staticmethod
    def backward(context: Any, *_: Tensor) -> Tensor:  # as the base class defines it
        (tensor,) = context.saved_tensors
        return torch.zeros_like(tensor)


def floating(dtype: torch.dtype) -> torch.dtype:
    """Return a dtype that can hold a gradient and be added: the given one, or the default for one that cannot."""
    return dtype if dtype in _ADDABLE else torch.get_default_dtype()
