"""What was registered in a manager: by which calls, from which terms, and the record of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

from nectargan_core.losses import LMLoss
from nectargan_core.objectives._build import Built, Origin
from nectargan_core.objectives._functions import FunctionDescription, described
from nectargan_core.objectives._objective import Objective, ObjectiveTerm
from nectargan_core.objectives._record import record
from nectargan_core.weightings import Balance


class Contents:
    """The calls that registered the losses of a manager, and what is known of these.

    It is made anew in part by every change, so that who has taken it apart still has what was there before.
    """

    def __init__(self) -> None:
        self._terms: list[tuple[ObjectiveTerm, frozenset[str]]] = []
        self._origins: dict[str, Origin] = {}
        # By loss, what was read of its function when it was registered, since attributes may change in training.
        self._functions: dict[str, FunctionDescription] = {}

    @property
    def name(self) -> str | None:
        """The formulas, or names of spec functions, whose losses are registered, joined by `" + "`; None of none."""
        return " + ".join(name_of_term(term) for term, _ in self._terms) or None

    def describe(self, losses: Iterable[LMLoss], *, replace: bool) -> None:
        """Read what there is to know of the functions of losses that are registered."""
        found = {loss.name: described(loss.function) for loss in losses}
        self._functions = found if replace else {**self._functions, **found}

    def add(self, built: Built, *, replace: bool) -> None:
        """Note what a call has registered."""
        self._terms = [*([] if replace else self._terms), *built.terms]
        self._origins = {**({} if replace else self._origins), **built.origins}

    def remove(self, names: set[str]) -> None:
        """Note that losses were removed."""
        kept: list[tuple[ObjectiveTerm, frozenset[str]]] = []
        for term, own in self._terms:
            gone = [name for name in own if name in names]
            if own and not own - names:
                continue
            if gone and term.formula is not None:
                term = term.model_copy(update={"without": sorted({*term.without, *gone})})
            kept.append((term, own - names))
        self._terms = kept
        self._origins = {name: origin for name, origin in self._origins.items() if name not in names}
        self._functions = {name: known for name, known in self._functions.items() if name not in names}

    def recorder(
        self,
        losses: Sequence[tuple[LMLoss, bool]],
        balances: Iterable[Balance],
        totals: tuple[float | None, int | None],
    ) -> Callable[[], Objective]:
        """Return what makes the record of losses as they are now.

        Args:
            losses: The losses that are registered, in their order, and whether each is enabled.
            balances: What balances which of them.
            totals: The length of the run in epochs, and in steps.
        """
        terms = [term for term, _ in self._terms]
        return partial(record, losses, self._origins, terms, balances, totals, self._functions)


def name_of_term(term: ObjectiveTerm) -> str:
    """Return the formula of a term, or the name of its function."""
    return term.formula or (term.function or "").rpartition(":")[2]
