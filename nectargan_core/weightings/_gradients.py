"""Gradients of losses with respect to tensors: their norms and inner products, without a change to the graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_core import _arguments as arguments
from nectargan_core._messages import listed, shown
from nectargan_core.errors import WeightingError

Rows: TypeAlias = "list[list[Tensor | None]]"
"""For each loss its gradient with respect to each tensor; None where it does not depend on the tensor."""

# What torch says, as a part of its message, and what it means for whoever takes a gradient.
_REASONS = {
    "backward through the graph a second time": "a backward() before freed its graph; take gradients first, or call "
    "that backward(retain_graph=True)",
    "modified by an inplace operation": "a tensor that its graph needs was edited in place since, as by the step of an "
    "optimizer; take gradients before",
    "donated buffer": "torch.compile made a backward pass that can run only once for each forward pass; set "
    "torch._functorch.config.donated_buffer = False before the first compiled step, or choose a wrt that is computed "
    "after the compiled part",
}


def tensors_of(wrt: object, what: str = "wrt") -> list[Tensor]:
    """Return the tensors that gradients are taken with respect to.

    Args:
        wrt: A tensor, a module, or several of both; parameters that require no gradient count only where nothing else
            is there.
        what: What it is called in an error.

    Raises:
        WeightingError: If none of it requires a gradient.
        TypeError: If it is something else.

    Example:
        >>> [tuple(tensor.shape) for tensor in tensors_of(nn.Linear(3, 2))]
        [(2, 3), (2,)]
    """
    found: dict[int, Tensor] = {}
    for one in _several(wrt, what):
        given = list(one.parameters()) if isinstance(one, nn.Module) else [one]
        if not isinstance(one, (nn.Module, nn.Parameter)) and not one.requires_grad:
            raise WeightingError(
                f"{what} is or has a tensor that requires no gradient, so no loss has a gradient with respect to it; "
                "give one that does, such as what a network returned, or parameters that are trained"
            )
        found.update((id(tensor), tensor) for tensor in given if tensor.requires_grad)
    if not found:
        raise WeightingError(f"{what} has no parameter that requires a gradient; give parameters that are trained")
    return list(found.values())


def _several(wrt: object, what: str) -> list[Any]:
    if isinstance(wrt, (Tensor, nn.Module)):
        return [wrt]
    several: list[Any] = []
    if isinstance(wrt, Mapping):
        several = list(wrt.values())
    elif not isinstance(wrt, (str, bytes)):
        try:
            several = list(wrt)  # type: ignore[call-overload] # anything that is not iterable raises
        except TypeError:
            several = [wrt]
    for one in several or [wrt]:
        if not isinstance(one, (Tensor, nn.Module)):
            raise TypeError(
                f"{what} must be a tensor, a module, parameters or a list of them to take gradients with respect to, "
                f"got {shown(one)}"
            )
    return several


def scale_of(scaler: object) -> float:
    """Return what a `torch.amp.GradScaler` multiplies losses by now: 1.0 if it is disabled, or there is none.

    Raises:
        TypeError: If it is no such scaler.
        WeightingError: If it multiplies them by 0, or by what is not finite.

    Example:
        >>> scale_of(torch.amp.GradScaler("cpu", init_scale=8.0)), scale_of(None)
        (8.0, 1.0)
    """
    if scaler is None:
        return 1.0
    ask = getattr(scaler, "get_scale", None)
    scale = arguments.as_float(ask()) if callable(ask) and not isinstance(scaler, type) else None
    if scale is None:
        raise TypeError(f"scaler must be a torch.amp.GradScaler, or None, got {shown(scaler)}")
    if not 0.0 < scale < math.inf:
        raise WeightingError(f"gradients cannot be taken through the scale of scaler, which is {scale} now")
    return scale


def gradients_of(results: Mapping[str, Tensor], wrt: Sequence[Tensor], scale: float = 1.0) -> Rows:
    """Return the gradient of each result with respect to each tensor; the graph can be used again.

    Whatever mode it is called in, such as `torch.no_grad()`: only how the results were computed counts.

    Args:
        results: Results attached to the graph, by the name of the loss; of one that is no scalar the mean counts.
        wrt: The tensors, which require a gradient.
        scale: What results are multiplied by on the way back, and gradients divided by afterwards, so that gradients of
            half precision do not become 0. They are in float32 at least then.

    Raises:
        WeightingError: If the graph of a result cannot be used again, such as one that was freed.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradients_of({"a": (3 * x).sum(), "b": torch.ones(())}, [x])
        [[tensor([3., 3.])], [None]]
    """
    rows: Rows = []
    with torch.inference_mode(mode=False), torch.enable_grad(), _kept(wrt):
        for name, result in results.items():
            if not result.requires_grad:
                rows.append([None] * len(wrt))
                continue
            scalar = result.mean() if result.ndim else result
            if scale != 1.0:
                scalar = _single(scalar) * scale
            try:
                row = torch.autograd.grad(scalar, wrt, retain_graph=True, allow_unused=True)
            except RuntimeError as error:
                reason = next((_REASONS[part] for part in _REASONS if part in str(error)), None)
                if reason is None:
                    raise
                raise WeightingError(
                    f"the gradient of loss {name!r} cannot be taken, since {reason}", loss_name=name
                ) from error
            dense = [each if each is None or each.layout is torch.strided else each.to_dense() for each in row]
            rows.append([each if each is None or scale == 1.0 else _single(each) / scale for each in dense])
    return rows


@contextmanager
def _kept(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Keep the `.grad` of tensors as it is: of one that retains its gradient torch changes it whenever it takes one."""
    kept = [(tensor, tensor.grad) for tensor in tensors if tensor.retains_grad]
    try:
        yield
    finally:
        for tensor, gradient in kept:
            tensor.grad = gradient


def norms_of(rows: Rows, wrt: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each row as a vector, in float32 or, of gradients in float64, float64."""
    norms = []
    for row in rows:
        parts = [torch.linalg.vector_norm(_single(each)) for each in row if each is not None]
        if not parts:
            # Of a complex tensor, too, the norm is real.
            dtype = torch.promote_types(wrt[0].dtype.to_real(), torch.float32)
            norms.append(torch.zeros((), dtype=dtype, device=wrt[0].device))
        else:
            norms.append(parts[0] if len(parts) == 1 else torch.linalg.vector_norm(_together(parts)))
    return _together(norms)


def gram_of(rows: Rows, wrt: Sequence[Tensor], sizes: Tensor | None = None) -> Tensor:
    """Return the inner product of each row with each other, in float64; one tensor after the other.

    Args:
        rows: The gradients.
        wrt: The tensors.
        sizes: A number for each row that it is divided by, so that no product is too large or too small for a float.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gram_of([[torch.tensor([3.0, 4.0])], [None]], [x])
        tensor([[25.,  0.],
                [ 0.,  0.]], dtype=torch.float64)
    """
    device, dtype = wrt[0].device, precise(wrt[0].device)
    gram = wrt[0].detach().new_zeros((len(rows), len(rows)), dtype=dtype)
    for place in range(len(wrt)):
        reached = [index for index, row in enumerate(rows) if row[place] is not None]
        if reached:
            at = slice(None) if len(reached) == len(rows) else torch.tensor(reached)
            stacked = torch.stack([_real(each) for row in rows if (each := row[place]) is not None])
            if sizes is not None:
                stacked = stacked / sizes[at].to(stacked.device, stacked.dtype)[:, None]
            products = (stacked @ stacked.T).to(device, dtype)
            if isinstance(at, slice):
                gram += products
            else:
                gram[at[:, None], at] += products
    return gram


def sum_of(rows: Rows, wrt: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the sum of rows as another row, in float64: None where no loss depends on the tensor."""
    total: list[Tensor | None] = []
    for place, tensor in enumerate(wrt):
        dtype = torch.promote_types(tensor.dtype, precise(tensor.device))
        given = [each.to(dtype) for row in rows if (each := row[place]) is not None]
        total.append(sum(given[1:], given[0]) if given else None)
    return total


def sizes_of(rows: Rows, wrt: Sequence[Tensor]) -> Tensor:
    """Return the largest absolute value of each row as a vector; 1 in the place of 0 and of what is not finite."""
    dtype, device = precise(wrt[0].device), wrt[0].device
    sizes = []
    for row in rows:
        parts = [each.abs().max().to(device, dtype) for each in row if each is not None and each.numel()]
        sizes.append(torch.stack(parts).max() if parts else wrt[0].detach().new_ones((), dtype=dtype))
    vector = torch.stack(sizes)
    return torch.where(vector.isfinite() & (vector > 0), vector, torch.ones_like(vector))


def precise(device: torch.device) -> torch.dtype:
    """Return float64, or what a device has in its place."""
    # MPS has no double precision.
    return torch.float32 if device.type == "mps" else torch.float64


def unreached(names: Sequence[str], rows: Rows) -> list[str]:
    """Return the names of losses that have no gradient with respect to any of the tensors."""
    return [name for name, row in zip(names, rows, strict=True) if all(each is None for each in row)]


def not_reached(names: Sequence[str], what: str) -> WeightingError:
    """Make the error that losses do not depend on what gradients are taken with respect to."""
    several = len(names) > 1
    return WeightingError(
        f"{'the losses' if several else 'loss'} {listed(names)} {'have' if several else 'has'} no gradient with "
        f"respect to {what}; choose another wrt that {'they depend' if several else 'it depends'} on, such as "
        "what the network returned, or another query"
    )


def _single(tensor: Tensor) -> Tensor:
    """Return a tensor in single precision at least, in which the square of a gradient does not overflow."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def _real(gradient: Tensor) -> Tensor:
    """Return a gradient as a vector in float64 of real numbers, two for each complex one."""
    if gradient.is_complex():
        gradient = torch.view_as_real(gradient.resolve_conj())
    return gradient.reshape(-1).to(precise(gradient.device))


def _together(scalars: Sequence[Tensor]) -> Tensor:
    """Stack scalars, in the precision and on the device of the first."""
    first = scalars[0]
    return torch.stack([each.to(first.device, first.dtype) for each in scalars])
