"""The components of a loss, such as its layers: what its function returns as a dict of tensors, to be summed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from itertools import repeat
from operator import add
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nectargan_core._arguments import is_unicode
from nectargan_core._messages import shown
from nectargan_core.errors import LossResultError
from nectargan_core.history import is_real, no_value

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss
    from nectargan_core.losses._recording import Later, Scalars

_FLOAT32 = torch.float32


class Components:
    """The components of one loss in one call.

    Args:
        names: Their names.
        terms: Their means by name, before weighting, attached to the graph: scalars of one dtype.
        values: The terms as numbers, where they are of single precision on the CPU; elsewhere nobody edits them.
    """

    __slots__ = ("names", "terms", "values", "weight", "zero")

    def __init__(self, names: tuple[str, ...], terms: dict[str, Tensor], values: list[float] | None) -> None:
        self.names = names
        self.terms = terms
        self.values = values
        # The weight that was applied, and the result where that is 0.
        self.weight = 1.0
        self.zero: Tensor | None = None

    def summed(self) -> Tensor:
        """Return the sum, which is the loss."""
        return reduce(add, self.terms.values())

    def weighted(self) -> dict[str, Tensor]:
        """Return the components after weighting, attached to the graph; zeros of a gradient of 0 for a weight of 0."""
        requires_grad = any(term.requires_grad for term in self.terms.values())
        with torch.inference_mode(mode=False), torch.set_grad_enabled(requires_grad or self.zero is not None):
            if self.zero is not None:
                zero = self.zero
                return {name: zero * 1 for name in self.terms}  # noqa: C420 # a tensor of its own for each
            made = {name: term * self.weight for name, term in self.terms.items()}
            for (name, term), value in zip(self.terms.items(), self.values or (), strict=False):
                now = term.item()
                if now != value and (now == now or value == value):  # It was edited in place.
                    made[name].detach().copy_(torch.tensor(value, device="cpu") * self.weight)
            return made


def components_of(loss: str, result: object, epoch: float, known: tuple[str, ...]) -> Components:
    """Return the components that a function returned.

    Args:
        loss: The name of the loss.
        result: What its function returned, which is no tensor.
        epoch: The epoch, for errors.
        known: Names that need no further check.

    Raises:
        LossResultError: If it is no mapping from names to tensors of real numbers.
    """
    if type(result) is not dict:
        if not isinstance(result, Mapping):
            raise _unusable(loss, result, epoch)
        result = dict(result.items())
    names = tuple(result)
    if names == known and names:
        result = result.copy()  # The function may keep it, and change it.
    else:
        result = _with_checked_names(loss, result, epoch)
        names = tuple(result)
    values = []
    try:
        for value in result.values():
            if (
                type(value) is not Tensor
                or value.dtype is not _FLOAT32
                or value.ndim
                or not value.is_cpu
                or value.layout is not torch.strided
            ):
                break
            values.append(value.item())
        else:  # The short way: nothing has to be made of them.
            return Components(names, result, values)
    except RuntimeError as error:
        raise no_value(loss) from error
    for name, value in result.items():
        _check_value(loss, name, value, epoch)
    dtype = torch.float64 if any(value.dtype is torch.float64 for value in result.values()) else _FLOAT32
    # A scalar on the CPU can be added to one on any device.
    if len({value.device for value in result.values() if not value.is_cpu}) > 1:
        places = ", ".join(f"{name!r} on {value.device}" for name, value in result.items())
        raise LossResultError(
            f"loss {loss!r} returned components on several devices at epoch {epoch:g}: {places}; return them on one",
            loss_name=loss,
        )
    terms = {name: _as_scalar(value, dtype) for name, value in result.items()}
    if dtype is _FLOAT32 and all(term.is_cpu for term in terms.values()):
        return Components(names, terms, [_number(loss, term) for term in terms.values()])
    for name, term in terms.items():
        if term is result[name] and term.requires_grad and (term.is_leaf or term._is_view()):
            terms[name] = term.clone()  # a parameter, which its optimizer edits in place
    return Components(names, terms, None)


def rows_of(
    components: Mapping[str, Components],
    losses: Sequence[BoundLoss],
    weights: Sequence[float],
    steps: Iterable[int],
    epoch: float,
) -> tuple[Scalars, Later]:
    """Return the records of components, with the weights of their losses.

    Args:
        components: The components, by the names of their losses.
        losses: Losses, these among them.
        weights: The weight that was applied to each.
        steps: The step of each.
        epoch: The epoch of all.

    Returns:
        The records of scalars in single precision on the CPU, and all others.

    Raises:
        DuplicateLossError: If the name of a component is taken.
    """
    scalars: Scalars = []
    later: Later = []
    for loss, weight, step in zip(losses, weights, steps, strict=False):
        if loss.name not in components:
            continue
        parts = components[loss.name]
        parts.weight = weight
        several = loss.series_of(parts.names, step)
        if parts.values is not None:
            scalars += zip(several, repeat(step), repeat(weight), parts.values, strict=False)
        else:
            later += [
                (series, step, epoch, weight, term, _as_recorded(term, weight))
                for series, term in zip(several, parts.terms.values(), strict=True)
            ]
    return scalars, later


def _as_recorded(term: Tensor, weight: float) -> Tensor:
    """Return a component after weighting as a record needs it: on a device the product is taken when it is read."""
    if not term.is_cpu:
        return term
    return term.detach() * weight if weight else torch.zeros_like(term, requires_grad=False)


def _as_scalar(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the mean of a component as a scalar of a dtype."""
    return value.mean(dtype=dtype) if value.ndim else value.to(dtype)


def _number(loss: str, scalar: Tensor) -> float:
    try:
        return scalar.item()
    except RuntimeError as error:
        raise no_value(loss) from error


# What cannot be taken as components


def _with_checked_names(loss: str, result: dict[Any, Any], epoch: float) -> dict[str, Any]:
    """Return components under plain names; raise `LossResultError` for names that cannot be taken."""
    checked = {_checked_name(loss, name, epoch): value for name, value in result.items()}
    if not result:
        fault = "an empty dict", "return at least one component, a zero where there is nothing to add"
    elif len(checked) < len(result):
        fault = "a dict with a key that is there twice", "give each component a name of its own"
    else:
        return checked
    raise LossResultError(f"loss {loss!r} returned {fault[0]} at epoch {epoch:g}; {fault[1]}", loss_name=loss)


def _checked_name(loss: str, name: object, epoch: float) -> str:
    """Return the name of a component as a plain str; raise `LossResultError` for what can be none."""
    if isinstance(name, str):
        plain = str.__str__(name)
        if plain and "/" not in plain and is_unicode(plain):
            return plain
    raise LossResultError(
        f"loss {loss!r} returned a dict with the key {shown(name)} at epoch {epoch:g}; the keys are the names of "
        "components: str, not empty, without '/', that UTF-8 can write",
        loss_name=loss,
    )


def _check_value(loss: str, name: str, value: object, epoch: float) -> None:
    """Raise `LossResultError` for a component that is no dense tensor of real numbers."""
    if isinstance(value, Tensor) and is_real(value):
        return
    if isinstance(value, Tensor):
        kind = f"{'nested ' * value.is_nested}tensor of {value.dtype} in the layout {value.layout}"
    else:
        kind = f"{type(value).__name__} ({shown(value)})"
    hint = ""
    if isinstance(value, Mapping):
        hint = f"; dicts are not nested: name what is in it beside the others, such as '{name}.first'"
    elif isinstance(value, (int, float)):
        hint = "; make a tensor of it, or, if it is no part of the loss, leave it out and record it with manager.record"
    raise LossResultError(
        f"loss {loss!r} returned a dict whose component {name!r} is a {kind} at epoch {epoch:g}; expected a dense "
        f"tensor of real numbers for each{hint}",
        loss_name=loss,
    )


def _unusable(loss: str, result: object, epoch: float) -> LossResultError:
    hint = ""
    if isinstance(result, (tuple, list)) and any(isinstance(each, Tensor) for each in result):
        hint = "; return the sum, or name what it consists of: {'first': first, 'second': second}"
    return LossResultError(
        f"loss {loss!r} returned {type(result).__name__} ({shown(result)}) at epoch {epoch:g}; expected a tensor of "
        f"real numbers, such as a scalar or a map, or a dict of such tensors by name, which are summed{hint}",
        loss_name=loss,
    )
