"""What losses are given: each the inputs that it reads, lazy ones called at most once; images are kept beside maps."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import MissingInputError
from nectargan_core.losses._lazy import is_lazy

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss

# The inputs that are shown beside any map, in this order.
_IMAGES = ("x", "y_fake", "y")
# What has the shape of an image, and is none.
_SCORES = {"pred_real", "pred_fake", "logits"}


class Inputs:
    """The values that are given to the losses of one call, in which a lazy one is called for its value at most once."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._given = given
        # What losses were given, but as it is.
        self._values: dict[str, Any] = {}

    def arguments(self, loss: BoundLoss) -> tuple[tuple[Any, ...], dict[str, Any] | None]:
        """Return what the function of a loss is called with: positional and keyword arguments."""
        values = self._values
        for name in loss.inputs:
            if name not in values and name not in loss.as_is:
                value = self._given[name]
                if callable(value) and is_lazy(value):
                    value = called(value, name, f"loss {loss.name!r}")
                values[name] = value
        arguments = tuple([self._given[name] if name in loss.as_is else values[name] for name in loss.inputs])
        if loss.parameters is None:
            return arguments, None
        return (), dict(zip(loss.parameters, arguments, strict=True))

    def value(self, name: str, reader: str) -> Any:
        """Return one input, for what reads it besides losses; `reader` says what that is."""
        if name not in self._values:
            value = self._given[name]
            value = called(value, name, reader) if callable(value) and is_lazy(value) else value
            # Such as network.parameters(), which could be read only once.
            self._values[name] = list(value) if isinstance(value, Iterator) else value
        return self._values[name]

    @property
    def all_known(self) -> dict[str, Any]:
        """All inputs as far as they are known; calls none."""
        return {**self._given, **self._values}

    def known(self, loss: BoundLoss) -> list[Any]:
        """Return the inputs of a loss as far as they are known; calls none."""
        return [self._values.get(name, self._given.get(name)) for name in loss.inputs]

    @property
    def first_tensor(self) -> Tensor | None:
        """The first tensor that is given."""
        return next((value for value in self._given.values() if isinstance(value, Tensor)), None)


def called(value: Callable[[], Any], name: str, reader: str) -> Any:
    """Call a lazy input for its value; an error gets a note that says for whom."""
    try:
        return value()
    except Exception as error:
        if hasattr(error, "add_note"):  # Python 3.11
            error.add_note(
                f"in the lazy input {name!r}, called for {reader}; to pass an input as it is, name it in "
                "LMLoss(as_is=...)"
            )
        raise


def by_input(loss: BoundLoss, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the function of a loss was called with, by the names of its inputs."""
    if loss.parameters is None:
        return dict(zip(loss.inputs, args, strict=False))
    given = dict(zip(_parameters_of(loss.function), args, strict=False)) | dict(kwargs)
    named = zip(loss.parameters, loss.inputs, strict=True)
    return {name: given[parameter] for parameter, name in named if parameter in given}


def _parameters_of(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters)
    except (TypeError, ValueError):  # a builtin without a signature
        return []


def images_among(given: Mapping[str, Any], losses: Iterable[BoundLoss]) -> dict[str, Tensor]:
    """Return what is shown beside the maps of losses, detached: the tensors (N, C, H, W) of these inputs.

    First `x`, `y_fake` and `y`, whoever reads them, then what else the losses read, but for scores.
    """
    names = dict.fromkeys((*_IMAGES, *(name for loss in losses for name in loss.inputs if name not in _SCORES)))
    values = ((name, given.get(name)) for name in names)
    return {name: value.detach() for name, value in values if isinstance(value, Tensor) and _is_image(value)}


def _is_image(tensor: Tensor) -> bool:
    return tensor.layout is torch.strided and not tensor.is_nested and tensor.ndim == 4


def missing_input(loss_name: str, reads: Sequence[str], inputs: Mapping[str, Any]) -> MissingInputError:
    """Make the error that an input which a loss reads is not given."""
    name = next(name for name in reads if name not in inputs)
    return not_given(name, f"loss {loss_name!r} reads the input", inputs, loss_name)


def not_given(name: str, who: str, inputs: Mapping[str, Any], loss_name: str = "") -> MissingInputError:
    """Make the error that an input is not given; `who` says what needs it."""
    given = tuple(name for name in inputs if isinstance(name, str))
    return MissingInputError(
        f"{who} {name!r}, which was not given; given were {listed(given)}.{did_you_mean(name, given)}",
        loss_name=loss_name,
        input_name=name,
        given=given,
    )
