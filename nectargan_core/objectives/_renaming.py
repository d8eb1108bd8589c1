"""Applies `rename_inputs=` of a caller: which input a loss is given in the place of one that it reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, shown
from nectargan_core.errors import SpecError
from nectargan_core.losses import LMLoss
from nectargan_core.weightings import Weighting

_ALL = "{'y': 'y_sharp'}"
_ONE = "{'G_L1': {'y': 'y_sharp'}}"


@dataclass(frozen=True)
class Renaming:
    """The inputs that losses are given, by the inputs that they read: for all losses, and by the name of a loss."""

    general: dict[str, str]
    own: dict[str, dict[str, str]]

    @staticmethod
    def read(given: object) -> Renaming:
        """Read what a caller gave as `rename_inputs`.

        Raises:
            TypeError: If it is no mapping from str to str, or to mappings from str to str.
            ValueError: If the name of an input is text that UTF-8 cannot write.
        """
        renaming = Renaming({}, {})
        for name, value in arguments.mapping("rename_inputs", given, f"{_ALL} or {_ONE}").items():
            what = f"rename_inputs[{name!r}]"
            if isinstance(value, str):
                renaming.general[name] = arguments.text(what, value)
            elif isinstance(value, Mapping):
                renames = arguments.mapping(what, value, _ALL).items()
                renaming.own[name] = {read: arguments.text(f"{what}[{read!r}]", to) for read, to in renames}
            else:
                raise TypeError(
                    f"{what} must be the name of an input, as in {_ALL}, or for one loss a mapping, as in {_ONE}, got "
                    f"{shown(value)}"
                )
        return renaming

    def check(self, losses: Mapping[str, LMLoss], weightings: Iterable[Weighting] = ()) -> None:
        """Raise `SpecError` for an input that is to be renamed and that is not read, or not by the loss it is for."""
        every = dict.fromkeys(name for loss in losses.values() for name in _reads(loss))
        every |= dict.fromkeys(weighting.wrt for weighting in weightings if isinstance(weighting.wrt, str))
        for read in self.general:
            if read not in every:
                advice = f"; for the loss of this name alone give a mapping, as in {_ONE}" if read in losses else ""
                raise SpecError(
                    f"rename_inputs renames {read!r}, which no loss of this objective reads; they read "
                    f"{listed(every)}{advice}.{did_you_mean(read, every)}"
                )
        for name, renames in self.own.items():
            reads = _reads(losses[name])
            for read in renames:
                if read not in reads:
                    raise SpecError(
                        f"rename_inputs renames {read!r} for loss {name!r}, which reads {listed(reads)}."
                        f"{did_you_mean(read, reads)}"
                    )

    def fields(self, name: str, loss: LMLoss) -> dict[str, Any]:
        """Return the fields that a loss has in another way then, by the name that the loss has in the end.

        Raises:
            SpecError: If two of its inputs become one, of which it takes only one as it is.
        """
        renames = {**self.general, **self.own.get(name, {})}
        if not any(renames.get(read, read) != read for read in _reads(loss)):
            return {}
        # All at once, so that two names can be swapped.
        inputs: Any = (
            {parameter: renames.get(read, read) for parameter, read in loss.inputs.items()}
            if isinstance(loss.inputs, dict)
            else tuple(renames.get(read, read) for read in loss.inputs)
        )
        as_is = tuple(dict.fromkeys(renames.get(read, read) for read in loss.as_is))
        for read in _reads(loss):
            if read not in loss.as_is and (given := renames.get(read, read)) in as_is:
                other = next(each for each in loss.as_is if renames.get(each, each) == given)
                raise SpecError(
                    f"loss {name!r} takes the input {other!r} as it is, and {read!r} called for its value if it is a "
                    f"function; rename_inputs gives it {given!r} for both, so give them different names"
                )
        # Where two inputs become one, the range of the first counts: only a warning depends on it.
        ranges: dict[str, Any] = {}
        for read, expected in loss.ranges.items():
            ranges.setdefault(renames.get(read, read), expected)
        return {"inputs": inputs, "as_is": as_is, "ranges": ranges}

    def weighting(self, weighting: Weighting) -> Weighting:
        """Return a weighting of the objective, of gradients by the input that stands for the one of its spec."""
        if not isinstance(weighting.wrt, str) or weighting.wrt not in self.general:
            return weighting
        return weighting.model_copy(update={"wrt": self.general[weighting.wrt]})


NOTHING_RENAMED = Renaming({}, {})


def _reads(loss: LMLoss) -> tuple[str, ...]:
    return tuple(loss.inputs.values() if isinstance(loss.inputs, dict) else loss.inputs)
