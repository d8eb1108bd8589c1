"""Checks and their outcomes: a check finds one fault of a plugin, and its message says what to change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from nectargan_core._messages import did_you_mean, listed, one_line

State = Literal["passed", "failed", "skipped"]
Subject = TypeVar("Subject")


class CheckFailed(AssertionError):  # noqa: N818 # as pytest's own: what failed is an assertion
    """A plugin has the faults that the message lists."""


class NotApplicable(Exception):  # noqa: N818 # no error: the check has nothing to look at
    """Raised by a check that has nothing to look at, with the reason."""


class NotKnown(NotApplicable):
    """Raised by a check that finds no fault, and something that cannot be known, which it says of each loss."""


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One check.

    Args:
        name: What it is called where it is skipped, in lower case with underscores.
        run: Looks at the subject. It raises `CheckFailed`, with a message that says what was expected, what was found
            and what to change, or `NotApplicable`. Whatever else it raises is a failure, too. Its docstring says in
            one line what holds where it passes.
    """

    name: str
    run: Callable[[Subject], None]

    @property
    def summary(self) -> str:
        """What holds where it passes, in one line."""
        return (self.run.__doc__ or "").strip().partition("\n")[0]


@dataclass(frozen=True)
class Outcome:
    """What came of one check.

    Args:
        check: The name of the check.
        state: Whether it passed.
        message: Of a failed one what to change, of a skipped one the reason, of a passed one what holds.
    """

    check: str
    state: State
    message: str


def named(run: Callable[[Any], None]) -> Check[Any]:
    """Make a check of a function, under its name."""
    return Check(run.__name__.strip("_"), run)


def run_check(check: Check[Subject], subject: Subject, skip: Mapping[str, str]) -> Outcome:
    """Run one check, unless `skip` has a reason for leaving it out; whatever it raises is an outcome."""
    if check.name in skip:
        return Outcome(check.name, "skipped", skip[check.name])
    try:
        check.run(subject)
    except NotApplicable as reason:
        return Outcome(check.name, "skipped", str(reason))
    except CheckFailed as failure:
        return Outcome(check.name, "failed", str(failure))
    except (Exception, SystemExit) as error:  # noqa: BLE001 # code of a plugin may raise anything
        return Outcome(check.name, "failed", f"it raised {one_line(error)}")
    return Outcome(check.name, "passed", check.summary)


def run_checks(checks: Iterable[Check[Subject]], subject: Subject, skip: Mapping[str, str]) -> list[Outcome]:
    """Run checks in their order.

    Raises:
        ValueError: If `skip` has the name of no check.
    """
    checks = list(checks)
    refuse_unknown(checks, skip)
    return [run_check(check, subject, skip) for check in checks]


def refuse_unknown(checks: Iterable[Check[Any]], skip: Mapping[str, str]) -> None:
    """Raise `ValueError` where `skip` has the name of no check."""
    names = [check.name for check in checks]
    for name in skip:
        if name not in names:
            raise ValueError(f"no check is called {name!r}; there are {listed(names)}.{did_you_mean(name, names)}")


def raise_failures(label: str, outcomes: Iterable[Outcome]) -> None:
    """Raise one `CheckFailed` that lists what failed; `label` names what was checked."""
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        raise CheckFailed("\n".join([f"{label}:", *(f"  {each.check}: {each.message}" for each in failed)]))
