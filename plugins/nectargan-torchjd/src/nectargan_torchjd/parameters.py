"""Checks of the parameters of weightings: each error names the parameter, what it must be, and what was given."""

from __future__ import annotations

import contextlib
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from operator import index


def number(name: str, value: object, expected: str = "a finite number of at least 0", high: float = math.inf) -> float:
    """Return a finite number from 0 to `high`, both included.

    Raises:
        ValueError: If it is not one.
    """
    # bool is an int, and no number that anybody means.
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            found = float(value)
            if math.isfinite(found) and 0.0 <= found <= high:
                return found
    raise refused(name, expected, value)


def above_zero(name: str, value: object) -> float:
    """Return a finite number above 0.

    Raises:
        ValueError: If it is not one.
    """
    expected = "a finite number above 0"
    found = number(name, value, expected)
    if found == 0.0:
        raise refused(name, expected, value)
    return found


def share(name: str, value: object) -> float:
    """Return a number from 0 to 1.

    Raises:
        ValueError: If it is not one.
    """
    return number(name, value, "a number from 0 to 1", 1.0)


def whole(name: str, value: object, low: int = 1) -> int:
    """Return an integer of at least `low`.

    Raises:
        ValueError: If it is not one.
    """
    try:
        if not isinstance(value, bool) and index(value) >= low:  # type: ignore[arg-type] # what is no index raises
            return index(value)  # type: ignore[arg-type] # it is one
    except TypeError:
        pass
    raise refused(name, f"an integer of at least {low}", value)


def refused(name: str, expected: str, value: object) -> ValueError:
    """Return the error that names a parameter, what it must be and what was given."""
    return ValueError(f"{name} must be {expected}, got {reprlib.repr(value)}")


class PerLoss:
    """One number for each loss, given by name or in the order of the losses.

    Args:
        name: The parameter, for errors.
        value: A mapping from the name of a loss, or a sequence.
        check: What checks one of them, such as `number` or `share`.

    Raises:
        ValueError: If it is neither, or one of the numbers is out of range.

    Example:
        >>> weights = PerLoss("pref_vector", [2.0, 1.0])
        >>> weights.begin(["G_GAN", "G_L1"])
        >>> weights.of(["G_L1"])
        [1.0]
    """

    def __init__(self, name: str, value: object, check: Callable[[str, object], float] = number) -> None:
        self._name = name
        self._by_name: dict[str, float] | None = None
        self._in_order: list[float] = []
        if isinstance(value, Mapping):
            self._by_name = {str(loss): check(f"{name}[{loss!r}]", each) for loss, each in value.items()}
        elif isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            self._in_order = [check(f"{name}[{place}]", each) for place, each in enumerate(value)]
        else:
            raise refused(name, "a list with a number for each loss, or a dict of them by loss name", value)

    def begin(self, names: Sequence[str]) -> None:
        """Learn the names of the losses.

        Raises:
            ValueError: If there is not one number for each.
        """
        if self._by_name is None:
            self._by_name = dict(zip(names, self._matched(names), strict=True))
        elif missing_or_unknown := self._by_name.keys() ^ set(names):
            raise ValueError(
                f"{self._name} must have a number for each of the losses {', '.join(names)} and no other, but it "
                f"differs in {', '.join(sorted(missing_or_unknown))}"
            )

    def of(self, names: Sequence[str]) -> list[float]:
        """Return the numbers of some of the losses.

        Raises:
            ValueError: If one of them has no number.
        """
        if self._by_name is None:
            return self._matched(names)
        if missing := [name for name in names if name not in self._by_name]:
            raise ValueError(
                f"{self._name} has no number for {', '.join(missing)}; it has for {', '.join(self._by_name)}"
            )
        return [self._by_name[name] for name in names]

    def _matched(self, names: Sequence[str]) -> list[float]:
        if len(self._in_order) != len(names):
            raise ValueError(
                f"{self._name} must have a number for each of the {len(names)} losses {', '.join(names)}, "
                f"got {len(self._in_order)}"
            )
        return self._in_order
