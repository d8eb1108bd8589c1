"""Gradients of losses with respect to tensors: their norms and inner products, without a change to the graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_core._messages import listed, shown
from nectargan_core.errors import WeightingError

Rows: TypeAlias = "list[list[Tensor | None]]"
"""For each loss its gradient with respect to each tensor; None where it does not depend on the tensor."""


def tensors_of(wrt: object, what: str = "wrt") -> list[Tensor]:
    """Return the tensors that gradients are taken with respect to.

    Args:
        wrt: A tensor, a module (its parameters that require a gradient), or several of both.
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
        given = [each for each in one.parameters() if each.requires_grad] if isinstance(one, nn.Module) else [one]
        if isinstance(one, Tensor) and not one.requires_grad:
            raise WeightingError(
                f"{what} is a tensor that requires no gradient, so no loss has a gradient with respect to it; give one "
                "that does, such as what a network returned, or parameters that are trained"
            )
        found.update((id(tensor), tensor) for tensor in given)
    if not found:
        raise WeightingError(f"{what} has no parameter that requires a gradient")
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


def gradients_of(results: Mapping[str, Tensor], wrt: Sequence[Tensor], scale: float = 1.0) -> Rows:
    """Return the gradient of each result with respect to each tensor; the graph can be used again.

    Args:
        results: Results attached to the graph, by the name of the loss; of one that is no scalar the mean counts.
        wrt: The tensors, which require a gradient.
        scale: What results are multiplied by on the way back, and gradients divided by afterwards, so that gradients of
            half precision do not become 0. They are in float32 then.

    Raises:
        WeightingError: If the graph of a result was freed already.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gradients_of({"a": (3 * x).sum(), "b": torch.ones(())}, [x])
        [[tensor([3., 3.])], [None]]
    """
    rows: Rows = []
    for name, result in results.items():
        if not result.requires_grad:
            rows.append([None] * len(wrt))
            continue
        scalar = result.mean() if result.ndim else result
        if scale != 1.0:
            scalar = scalar.float() * scale
        try:
            row = torch.autograd.grad(scalar, wrt, retain_graph=True, allow_unused=True)
        except RuntimeError as error:
            if "backward through the graph a second time" not in str(error):
                raise
            raise WeightingError(
                f"the gradient of loss {name!r} cannot be taken, since a backward() before freed its graph; take "
                "gradients first, or call that backward(retain_graph=True)"
            ) from error
        dense = [each if each is None or each.layout is torch.strided else each.to_dense() for each in row]
        rows.append([each if each is None or scale == 1.0 else each.float() / scale for each in dense])
    return rows


def norms_of(rows: Rows, wrt: Sequence[Tensor]) -> Tensor:
    """Return the Euclidean norm of each row as a vector, in float32 or, of gradients in float64, float64."""
    norms = []
    for row in rows:
        parts = [torch.linalg.vector_norm(_single(each)) for each in row if each is not None]
        if not parts:
            norms.append(torch.zeros((), dtype=_single(wrt[0].detach()).dtype, device=wrt[0].device))
        else:
            norms.append(parts[0] if len(parts) == 1 else torch.linalg.vector_norm(_together(parts)))
    return _together(norms)


def gram_of(rows: Rows, wrt: Sequence[Tensor]) -> Tensor:
    """Return the inner product of each row with each other, in float64; one tensor after the other.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> gram_of([[torch.tensor([3.0, 4.0])], [None]], [x])
        tensor([[25.,  0.],
                [ 0.,  0.]], dtype=torch.float64)
    """
    device = wrt[0].device
    # MPS has no double precision.
    dtype = torch.float32 if device.type == "mps" else torch.float64
    gram = torch.zeros(len(rows), len(rows), dtype=dtype, device=device)
    for place in range(len(wrt)):
        reached = [index for index, row in enumerate(rows) if row[place] is not None]
        if reached:
            vectors = [each.reshape(-1).to(dtype) for index in reached if (each := rows[index][place]) is not None]
            stacked = torch.stack(vectors)
            products = (stacked @ stacked.T).to(device)
            if len(reached) == len(rows):
                gram += products
            else:
                at = torch.tensor(reached, device=device)
                gram[at[:, None], at] += products
    return gram


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


def _single(gradient: Tensor) -> Tensor:
    """Return a gradient in single precision at least, in which its square does not overflow."""
    return gradient if gradient.dtype in (torch.float32, torch.float64) else gradient.float()


def _together(scalars: Sequence[Tensor]) -> Tensor:
    """Stack scalars, in the precision and on the device of the first."""
    first = scalars[0]
    return torch.stack([each.to(first.device, first.dtype) for each in scalars])
