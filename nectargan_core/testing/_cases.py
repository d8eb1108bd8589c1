"""The base of the pytest classes: a test for each check, as methods that a subclass inherits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from nectargan_core.testing._outcomes import Check, refuse_unknown, run_check

Cases = TypeVar("Cases", bound="type[CheckCases]")


class CheckCases(ABC):
    """A class of tests, one for each check; a subclass says what is checked.

    Attributes:
        skip: Reasons for leaving out checks, by their names.
    """

    skip: ClassVar[Mapping[str, str]] = {}
    checks: ClassVar[tuple[Check[Any], ...]] = ()

    @abstractmethod
    def subject(self) -> Any:
        """Make what the checks look at."""

    def subject_of_all(self) -> Any:
        """Return what the checks look at, the same for all of a class, so that what is costly is done once."""
        kind = type(self)
        if "_subject" not in vars(kind):
            kind._subject = self.subject()  # type: ignore[attr-defined] # an attribute of each subclass
        return vars(kind)["_subject"]

    def test_skip_names_checks(self) -> None:
        """Fail where `skip` has the name of no check."""
        refuse_unknown(self.checks, self.skip)


def with_tests_of(checks: Iterable[Check[Any]]) -> Callable[[Cases], Cases]:
    """Give a class a method `test_<name>` for each check."""

    def decorate(cases: Cases) -> Cases:
        cases.checks = tuple(checks)
        for check in cases.checks:
            setattr(cases, f"test_{check.name}", _test_of(check))
        return cases

    return decorate


def _test_of(check: Check[Any]) -> Callable[[CheckCases], None]:
    def test(self: CheckCases) -> None:
        outcome = run_check(check, self.subject_of_all(), self.skip)
        # Imported here, since `nectargan check` needs no pytest.
        import pytest

        if outcome.state == "skipped":
            pytest.skip(outcome.message)
        if outcome.state == "failed":
            # Without a traceback, which would show the kit and not the plugin.
            pytest.fail(outcome.message, pytrace=False)

    test.__name__ = f"test_{check.name}"
    test.__doc__ = check.summary
    return test
