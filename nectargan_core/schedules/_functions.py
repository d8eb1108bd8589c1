"""How a function is put back in the place of its label, in a schedule that was read from text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from nectargan_core._names import label_of
from nectargan_core.errors import ScheduleError


class Functions:
    """Functions that may be put in the place of their labels.

    Args:
        functions: The functions, in the order in which labels are replaced: of several with one label, such as
            lambdas, each is taken once, and the last one again.
        owner: Whose functions these are, for the error.
    """

    def __init__(self, functions: Iterable[Callable[..., Any]], owner: str) -> None:
        self._owner = owner
        self._by_label: dict[str, list[Callable[..., Any]]] = {}
        for function in functions:
            self._by_label.setdefault(label_of(function), []).append(function)

    def take(self, label: str) -> Callable[..., Any]:
        """Return the function that a label stands for.

        Raises:
            ScheduleError: If none of the functions has this label.
        """
        functions = self._by_label.get(label)
        if not functions:
            raise no_function(label, f" of {self._owner}")
        return functions.pop(0) if len(functions) > 1 else functions[0]


def no_function(label: str, owner: str = "") -> ScheduleError:
    """Make the error that a label alone does not give a function."""
    return ScheduleError(
        f"the schedule{owner} is the function {label!r} written as text, which does not bring the function back; pass "
        "the function itself, as in Schedule(function, ...), and do so before a state with it is loaded; or publish it "
        "as a plugin, and use its name"
    )
