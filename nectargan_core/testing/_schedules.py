"""Checks of a schedule: a pure curve, finite at every epoch, that keeps what its start and end promise."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from nectargan_core._messages import one_line, shown
from nectargan_core.catalog import SCHEDULES, Plugin
from nectargan_core.errors import ScheduleError
from nectargan_core.schedules import Schedule, Scheduler
from nectargan_core.testing import _callables as callables
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._generators import watched
from nectargan_core.testing._installed import for_subjects
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable, Outcome, named, raise_failures, run_checks

_LEADING = ("schedule", "epoch")
_LATEST = 2**53

_DEFINED = {"unit", "start_epoch", "end_epoch", "initial_value", "target_value"}

# Rising and falling, of either sign and across 0, to and from 0, and with nowhere to go.
_VALUES = [(4.0, 0.5), (0.5, 4.0), (-4.0, -0.5), (-1.0, 2.0), (1.0, 0.0), (0.0, 3.0), (2.0, 2.0)]
_SPANS = [(0, 100), (10, 110), (7, 7), (-5, 20), (0, 1), (0, 100_000)]
# None of these ends is a whole number, and rounding goes up at the first and down at the second.
_FRACTIONAL_SPANS = [(2.5, 7.75), (2.25, 7.25), (0.1, 0.7)]


class ScheduleSubject(callables.CallableSubject):
    """A curve, as the checks look at it."""

    noun = "schedule"


class _Curve:
    """A curve with a schedule, called as `Scheduler` calls it, but without a look at what it returns or raises."""

    def __init__(self, subject: ScheduleSubject, **definition: Any) -> None:
        caught: list[tuple[Schedule, dict[str, Any]]] = []

        def catch(schedule: Schedule, epoch: float, **params: Any) -> float:
            caught.append((schedule, params))
            return 1.0

        Scheduler(Schedule(catch, **definition, params=subject.params))
        self.schedule, self.params = caught[0]
        self._function = subject.load()

    def __call__(self, epoch: float) -> Any:
        return self._function(self.schedule, epoch, **self.params)

    def value(self, epoch: float) -> float:
        """Return the value at an epoch.

        Raises:
            CheckFailed: If there is none.
        """
        try:
            value = self(epoch)
        except Exception as error:
            raise CheckFailed(
                f"it raised {one_line(error)} at {self.at(epoch)}; a curve has a value at every epoch of at least 0, "
                "and what it cannot use it refuses with a ScheduleError at every epoch"
            ) from error
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise CheckFailed(
                f"it returned {shown(value)}, a {type(value).__name__}, at {self.at(epoch)}; return a Python float, "
                "such as float(...) makes of a number, an array or a tensor of one number"
            )
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise CheckFailed(
                f"it returned {shown(value)} at {self.at(epoch)}; return a finite number at every epoch of at least 0"
            )
        return float(value)

    def number(self, epoch: float) -> float:
        """Return the value at an epoch, where the check `finite` says why there is none.

        Raises:
            NotApplicable: If there is none.
        """
        try:
            return self.value(epoch)
        except CheckFailed:
            raise NotApplicable("it has no value at some epoch, as the check `finite` tells") from None

    def at(self, epoch: float) -> str:
        """Say at which epoch of which schedule."""
        schedule = self.schedule
        initial, target = schedule.ends()
        end = "without an end" if schedule.end_epoch is None else f"to {schedule.end_epoch:g}"
        return (
            f"{schedule.unit} {_short(epoch)} of a schedule from {schedule.start_epoch:g} {end}, initial value "
            f"{initial:g} and target value {target:g}"
        )


def _short(epoch: float) -> str:
    return f"{epoch:g}" if float(f"{epoch:g}") == epoch else repr(epoch)


# The checks


def params(subject: ScheduleSubject) -> None:
    """It takes (schedule, epoch), and params by name, with defaults that JSON can hold."""
    callables.check_params(subject.load, subject.params, _LEADING)


def finite(subject: ScheduleSubject) -> None:
    """It is a finite number at every epoch of at least 0, of rising and falling schedules, negative ones too."""
    _ready(subject)
    accepted = _curves(subject)
    if not accepted:
        raise CheckFailed(f"it refuses each schedule that was tried: {_refusal(subject)}")
    endless = _accepted(subject, _definitions([(start, None) for start, _ in _SPANS]), is_tolerant=True)
    for curve in (*accepted, *endless):
        for epoch in _positions(curve.schedule):
            curve.value(epoch)


def ends(subject: ScheduleSubject) -> None:
    """A curve that needs an end is the initial value up to its start, and exactly the target value from its end on.

    A warm-up, which begins at a share of the initial value, reaches the initial value in between.
    """
    _ready(subject)
    faults = [*_faults_without_end(subject)]
    if not faults and not _needs_end(subject):
        raise NotApplicable("it does without an end, so that it is not one that goes from initial to target value")
    try:
        for curve in _curves(subject):
            _check_ends(curve)
    except CheckFailed as failure:
        faults.append(str(failure))
    except NotApplicable:
        if not faults:
            raise
    if faults:
        raise CheckFailed("; ".join(faults))


def fractional(subject: ScheduleSubject) -> None:
    """It has a value at fractional epochs too, and keeps what fractional starts and ends promise."""
    _ready(subject)
    for curve in _accepted(subject, _definitions(_SPANS)):
        start, end = curve.schedule.span()
        for whole in (start, end, start + 1, end + 1):
            if whole < 0:
                continue
            curve.number(whole)
            if curve.value(float(whole)) != curve.number(int(whole)):
                raise CheckFailed(
                    f"it is {curve.number(int(whole))!r} at {curve.at(whole)} where the epoch is an int, and "
                    f"{curve.value(float(whole))!r} where it is a float; let only its value count"
                )
        for epoch in (start + 0.5, start + 1 / 3, end - 0.25, end + 0.1):
            if epoch >= 0:
                curve.value(epoch)
    needs_end = _needs_end(subject)
    for curve in _accepted(subject, (*_definitions(_FRACTIONAL_SPANS), *_in_fractions())):
        for epoch in _positions(curve.schedule):
            curve.value(epoch)
        if needs_end:
            _check_ends(curve, " An epoch is a float: round it nowhere.")


def pure(subject: ScheduleSubject) -> None:
    """The same schedule and epoch give the same number, in any order, and nothing else changes."""
    _ready(subject)
    with watched("draw from one of your own that is made of the epoch, such as random.Random(f'{seed} {epoch}')"):
        for curve in _accepted(subject, (*_definitions(_SPANS), *_in_fractions())):
            _check_pure(curve)
            again = _Curve(subject, **curve.schedule.model_dump(include=_DEFINED))
            for epoch in _epochs_for_purity(curve.schedule):
                _same(curve, epoch, curve.number(epoch), again.number(epoch))


def docstring(subject: ScheduleSubject) -> None:
    """Its docstring says what it does, and what each of its params is."""
    callables.check_docstring(subject.load, _LEADING, '"""Go from the initial to the target value in a line."""')


CHECKS = tuple(map(named, (params, finite, ends, fractional, pure, docstring)))
"""The checks of any curve."""
SCHEDULE_CHECKS = (*for_subjects(), *CHECKS)
"""Those, and the checks of any installed plugin."""


# Which schedules are tried


def _definitions(spans: Iterable[tuple[float, float | None]]) -> Iterator[dict[str, Any]]:
    for start, end in spans:
        for initial, target in _VALUES:
            yield {"start_epoch": start, "end_epoch": end, "initial_value": initial, "target_value": target}


def _in_fractions() -> Iterator[dict[str, Any]]:
    for definition in _definitions([(0.25, 0.75), (0.0, 1.0), (0.3, 0.3)]):
        yield {**definition, "unit": "fraction"}


def _curves(subject: ScheduleSubject) -> list[_Curve]:
    """Return the curve with schedules of epochs or steps, or of fractions where it takes no others."""
    return list(_accepted(subject, _definitions(_SPANS))) or list(_accepted(subject, _in_fractions()))


def _accepted(
    subject: ScheduleSubject, definitions: Iterable[dict[str, Any]], is_tolerant: bool = False
) -> Iterator[_Curve]:
    """Return the curve with each schedule that it does not refuse.

    Args:
        subject: The curve.
        definitions: The schedules.
        is_tolerant: Whether one where it raises anything else counts as refused.
    """
    for definition in definitions:
        for each in (definition, {**definition, "unit": "step"}) if "unit" not in definition else (definition,):
            error = _first_error(subject, each)
            if error is None or not (is_tolerant or isinstance(error, ScheduleError)):
                yield _Curve(subject, **each)
                break


def _first_error(subject: ScheduleSubject, definition: dict[str, Any]) -> Exception | None:
    """Return what a curve raises at the start of a schedule; None for nothing."""
    try:
        _Curve(subject, **definition)(max(definition["start_epoch"], 0))
    except Exception as error:  # noqa: BLE001 # a curve may raise anything
        return error
    return None


def _refusal(subject: ScheduleSubject) -> str:
    definition = next(_definitions([(0, 100)]))
    error = _first_error(subject, definition)
    return (
        f"from epoch 0 to 100 with initial value 4 and target value 0.5 it says {str(error)!r}; it must work for some "
        "start, end and values, so give params= that fit such a schedule"
    )


def _positions(schedule: Schedule) -> list[float]:
    """Return where a curve is evaluated: epochs as ints and as floats, and in a fraction of the run fractions."""
    start, end = schedule.start_epoch, schedule.end_epoch
    if schedule.unit == "fraction":
        last = start if end is None else end
        return sorted({0.0, 0.1, start, 0.5 * (start + last), last, 0.999, 1.0, 1.5})
    last = start + 50 if end is None else end
    whole: set[float] = {0, 1, 2, 3, 10, 50, 1000, 10**6, _LATEST}
    for each in (start, last):
        whole |= {each - 1, each, each + 1, 2 * each}
    # Each epoch of a run that is not long, and some of a long one.
    whole |= set(range(math.floor(start) - 1, math.ceil(last) + 2, max(1, int(last - start) // 100)))
    return sorted(epoch for epoch in whole if epoch >= 0)


# Ends


def _needs_end(subject: ScheduleSubject) -> bool:
    """Whether a curve refuses each schedule without an end that it takes with one."""
    taken = [curve.schedule.model_dump(include=_DEFINED) for curve in _curves(subject)]
    return bool(taken) and all(_first_error(subject, {**each, "end_epoch": None}) is not None for each in taken)


def _faults_without_end(subject: ScheduleSubject) -> Iterator[str]:
    """Say what it raises without an end, if that is something else than a `ScheduleError`."""
    for curve in _curves(subject):
        error = _first_error(subject, {**curve.schedule.model_dump(include=_DEFINED), "end_epoch": None})
        if error is not None and not isinstance(error, ScheduleError):
            yield (
                f"without end_epoch, which is None then, it raised {one_line(error)}; ask schedule.progress(epoch) "
                "or schedule.span(), which refuse such a schedule with a ScheduleError, or "
                "schedule.until_end(epoch), which does without an end"
            )
            return


def _check_ends(curve: _Curve, advice: str = "") -> None:
    schedule = curve.schedule
    (start, end), (initial, target) = schedule.span(), schedule.ends()
    step = 0.25 if schedule.unit == "fraction" else 1
    for epoch in (end, end + 0.5 * step, end + step, 2 * end + 10 * step, 10**6, _LATEST):
        if epoch >= max(end, 0) and (value := curve.number(epoch)) != target:
            raise CheckFailed(
                f"it is {value!r} at {curve.at(epoch)}; a curve that needs an end goes from initial to target value, "
                f"and is exactly the target value from the end on, as interpolate(*schedule.ends(), "
                f"schedule.progress(epoch)) is.{advice}"
            )
    if start < 0 or start == end == 0:
        return
    early = [epoch for epoch in (0, 0.5 * start, start - step, start) if 0 <= epoch <= start]
    if start == end:
        early.remove(start)
    for epoch in early:
        value = curve.number(epoch)
        if value == initial:
            continue
        held = curve.number(early[0])
        if value == held and _is_warm_up(curve, held):
            continue
        raise CheckFailed(
            f"it is {value!r} at {curve.at(epoch)}; a curve that needs an end goes from initial to target value, and "
            "is exactly the initial value up to the start, as interpolate(*schedule.ends(), schedule.progress(epoch)) "
            f"is. Only a warm-up is something else there, a share of the initial value, which it then rises to.{advice}"
        )


def _is_warm_up(curve: _Curve, held: float) -> bool:
    """Whether a curve begins at a share of the initial value, and reaches the initial value between start and end."""
    (start, end), (initial, target) = curve.schedule.span(), curve.schedule.ends()
    if not min(0.0, initial) <= held <= max(0.0, initial):
        return False
    if start == end or initial * target < 0.0 or abs(target) >= abs(initial):
        return True  # The way to the target may pass through the initial value, or there is no time for it.
    low, high = float(start), float(end)
    nearest = low
    for _ in range(5):
        points = np.linspace(low, high, 201).tolist()
        nearest = min(points, key=lambda point: abs(curve.number(point) - initial))
        width = (high - low) / 200
        low, high = max(float(start), nearest - width), min(float(end), nearest + width)
    return abs(curve.number(nearest) - initial) <= 1e-3 * abs(initial)


# Purity


def _epochs_for_purity(schedule: Schedule) -> list[float]:
    start, end = schedule.span()
    middle = 0.5 * (start + end)
    return [epoch for epoch in (0, start, start + 1, start + 1.5, middle, end, end + 3, 5) if epoch >= 0]


def _check_pure(curve: _Curve) -> None:
    epochs = _epochs_for_purity(curve.schedule)
    before = _written(curve)
    values = [curve.number(epoch) for epoch in epochs]
    for order in (range(len(epochs)), range(len(epochs) - 1, -1, -1), [0, 0, *range(1, len(epochs), 2)]):
        for index in order:
            _same(curve, epochs[index], values[index], curve.number(epochs[index]))
    if (after := _written(curve)) != before:
        raise CheckFailed(f"it changes what it is given: {before} became {after}; copy what you change")
    schedule = curve.schedule
    curve.schedule = schedule.model_copy(update={"current_value": 12345.0})
    for epoch, value in zip(epochs, values, strict=True):
        if curve.number(epoch) != value:
            raise CheckFailed(
                f"it follows schedule.current_value, the value last applied, and so what was asked before (at "
                f"{curve.at(epoch)}); take schedule.ends() and the epoch"
            )
    curve.schedule = schedule


def _same(curve: _Curve, epoch: float, first: float, second: float) -> None:
    if first != second:
        raise CheckFailed(
            f"it is {first!r} and then {second!r} at {curve.at(epoch)}; the same schedule and epoch give the same "
            "number: keep nothing between calls, and draw nothing at random"
        )


def _written(curve: _Curve) -> str:
    """Return everything that a curve is given, as text."""
    return f"{curve.schedule!r}, {_plain(curve.params)!r}"


def _plain(value: Any) -> Any:
    if isinstance(value, Scheduler):
        return value.schedule
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _ready(subject: ScheduleSubject) -> None:
    callables.ready(subject.load, subject.params, _LEADING)


# What authors and commands call


def schedule_subject(schedule: object, params: Mapping[str, Any]) -> ScheduleSubject:
    """Make what the checks look at from a curve or the name of an installed one.

    Raises:
        UnknownScheduleError: If no schedule of the name is installed.
        pydantic.ValidationError: If a param cannot be written as JSON.
        TypeError: If it is neither.
    """
    plain = Schedule(params=params).params
    if isinstance(schedule, str):
        return ScheduleSubject(None, plain, callables.installed(SCHEDULES, schedule, "schedule"))
    if not callable(schedule):
        raise TypeError(
            f"a schedule is a function (schedule, epoch, **params) or the name of one, got {shown(schedule)}"
        )
    return ScheduleSubject(schedule, plain)


def examine_schedule(
    plugin: Plugin, skip: Mapping[str, str], params: Mapping[str, Any], options: Mapping[str, Any]
) -> list[Outcome]:
    """Run all checks of an installed schedule."""
    if options:
        raise ValueError(f"a schedule takes params and no options, got {shown(dict(options))}")
    return run_checks(SCHEDULE_CHECKS, ScheduleSubject(None, Schedule(params=params).params, plugin), skip)


def check_schedule(
    schedule: Callable[..., float] | str,
    *,
    params: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Check a curve: that it is pure, finite, right at its ends and at fractional epochs, and takes params by name.

    It is evaluated with schedules from 0, from later epochs and with a start that is the end, with rising, falling and
    negative values, up to epoch 2**53, and as fractions of a run. Schedules that it refuses with a `ScheduleError` are
    left out.

    Args:
        schedule: The function, or the name of an installed schedule, `"provider/name"` where several offer it. Of a
            name the entry point and the metadata of its distribution are checked, too.
        params: Keyword arguments of the curve; those without a default must be given.
        skip: Reasons for leaving out checks, by their names: `params`, `finite`, `ends`, `fractional`, `pure`,
            `docstring`; of an installed one `entry_point`, `metadata` and `imports`, too.

    Raises:
        CheckFailed: If a check fails; the message lists what to change.
        UnknownScheduleError: If no schedule of the name is installed.
        pydantic.ValidationError: If a param cannot be written as JSON.
        ValueError: If `skip` has the name of no check.
        TypeError: If it is neither a function nor a name.

    Example:
        >>> from nectargan_core import Schedule, interpolate
        >>> def ease_in(schedule: Schedule, epoch: float, *, power: float = 2.0) -> float:
        ...     '''Go from the initial to the target value along a power, above 0, of the progress.'''
        ...     return interpolate(*schedule.ends(), schedule.progress(epoch) ** power)
        >>> check_schedule(ease_in)
        >>> check_schedule(ease_in, params={"power": 3.0})
    """
    subject = schedule_subject(schedule, params or {})
    raise_failures(subject.label, run_checks(SCHEDULE_CHECKS, subject, skip or {}))


@with_tests_of(SCHEDULE_CHECKS)
class ScheduleTests(CheckCases):
    """Tests of a curve, one for each check of `check_schedule`; pytest runs those of a subclass.

    Attributes:
        schedule: The function, or the name of an installed schedule.
        params: Keyword arguments of the curve.
        skip: Reasons for leaving out checks, by their names.

    Example:
        >>> from nectargan_core import linear
        >>> class TestLinear(ScheduleTests):
        ...     schedule = linear
        >>> TestLinear().test_ends()
    """

    schedule: ClassVar[Any]
    params: ClassVar[Mapping[str, Any]] = {}

    def subject(self) -> ScheduleSubject:
        """Make what the checks look at."""
        # As it stands in the class: asked of an object, a function would be a method.
        schedule = inspect.getattr_static(type(self), "schedule")
        return schedule_subject(schedule.__func__ if isinstance(schedule, staticmethod) else schedule, self.params)
