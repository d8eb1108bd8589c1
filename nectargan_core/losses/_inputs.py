"""The inputs of a call of `compute_losses`: each loss gets those that it reads; lazy ones are called at most once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import MissingInputError
from nectargan_core.losses._lazy import is_lazy

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss


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
