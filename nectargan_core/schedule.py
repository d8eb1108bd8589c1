"""A schedule: which curve a weight follows, from which epoch and value to which."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, Field, FiniteFloat, field_serializer, field_validator, model_validator

from nectargan_core import catalog, names
from nectargan_core.errors import NectarganError, ScheduleError
from nectargan_core.snapshot import Freezable

Curve = Callable[..., float]
"""What a schedule plugin publishes: `(schedule, epoch, **params) -> float`."""


class Schedule(Freezable):
    """Which curve a weight follows, from which epoch and value to which.

    `Schedule()`, with nothing set, means "not scheduled". Epochs are compared as they are given, nothing is
    shifted: at `start_epoch` the value is still `initial_value`, at `end_epoch` it is `target_value`.

    Args:
        schedule: The curve: the name of an installed schedule (`"linear"`, `"acme/cosine"`), or a function
            `(schedule, epoch, **params) -> float`. `"module:name"` stands for a function that can be imported.
        start_epoch: Epoch at which the value leaves `initial_value`. May be fractional.
        end_epoch: Epoch from which on the value is `target_value`; not before `start_epoch`.
        initial_value: Value up to the start. None: the weight of the loss that it is given to (1.0 on its own).
        target_value: Value from the end on. None: likewise.
        params: Keyword arguments for the function: numbers, strings, lists and dicts of them.
        current_value: The value last applied. State of a run: neither compared nor serialised.

    Raises:
        pydantic.ValidationError: If an epoch or value is not a finite number, or the start is after the end.

    Example:
        >>> decay = Schedule(start_epoch=100, end_epoch=200, initial_value=100.0, target_value=0.0)
        >>> Scheduler(decay).value(150)
        50.0
        >>> Schedule.model_validate_json(decay.model_dump_json()) == decay
        True
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True, allow_inf_nan=False)

    schedule: str | Callable[..., Any] = "linear"
    start_epoch: int | float = 0
    end_epoch: int | float = 10_000_000
    initial_value: FiniteFloat | None = None
    target_value: FiniteFloat | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    current_value: float | None = Field(default=None, exclude=True, repr=False)

    @field_validator("schedule")
    @classmethod
    def _import_reference(cls, value: str | Curve) -> str | Curve:
        return _imported(value) if isinstance(value, str) and ":" in value else value

    @field_validator("params")
    @classmethod
    def _params_are_plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        return {key: _plain(item) for key, item in value.items()}

    @model_validator(mode="after")
    def _start_is_not_after_end(self) -> Schedule:
        if self.start_epoch > self.end_epoch:
            raise ValueError(
                f"start_epoch ({self.start_epoch:g}) is after end_epoch ({self.end_epoch:g}); swap them, and "
                "swap initial_value and target_value to run the other way"
            )
        return self

    @field_serializer("schedule")
    def _serialise_function(self, value: str | Curve) -> str:
        return value if isinstance(value, str) else _reference(value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Schedule):
            return NotImplemented
        return all(getattr(self, field) == getattr(other, field) for field in _DEFINITION)

    # As for every mutable model: equality without a hash.
    __hash__ = None  # type: ignore[assignment] # object declares it as a method

    def __copy__(self) -> Schedule:
        copy = super().__copy__()
        copy.__dict__["params"] = _plain(self.params)
        return copy

    def model_dump(self, **options: Any) -> dict[str, Any]:
        """Return the definition as a dict; `ScheduleError` where its function has no name that can be imported."""
        self._serialise_function(self.schedule)  # pydantic would hide the error in one of its own
        return super().model_dump(**options)

    def model_dump_json(self, **options: Any) -> str:
        """Return the definition as JSON; `ScheduleError` where its function has no name that can be imported."""
        self._serialise_function(self.schedule)
        return super().model_dump_json(**options)

    @property
    def is_scheduled(self) -> bool:
        """Whether anything but `current_value` differs from `Schedule()`."""
        return self != Schedule.model_construct()

    def progress(self, epoch: float) -> float:
        """Return how far from start to end an epoch is, clamped to 0…1.

        Args:
            epoch: The epoch, fractions included.

        Returns:
            0.0 up to the start, 1.0 from the end on; 1.0 from a start on that is also the end.

        Example:
            >>> Schedule(start_epoch=10, end_epoch=20).progress(12.5)
            0.25
        """
        if epoch >= self.end_epoch:
            return 1.0
        if epoch <= self.start_epoch:
            return 0.0
        return (epoch - self.start_epoch) / (self.end_epoch - self.start_epoch)

    def ends(self) -> tuple[float, float]:
        """Return `(initial_value, target_value)` as numbers: an end that is not set is 1.0.

        Inside a loss both are set already, to the weight of the loss where the user left them out.

        Example:
            >>> Schedule(target_value=0.0).ends()
            (1.0, 0.0)
        """
        initial = 1.0 if self.initial_value is None else self.initial_value
        return initial, 1.0 if self.target_value is None else self.target_value

    def with_weight(self, weight: float) -> Schedule:
        """Return a copy in which each end that the user left out is `weight`.

        Example:
            >>> Schedule(end_epoch=5, target_value=0.0).with_weight(100.0).initial_value
            100.0
        """
        values = {field: getattr(self, field) for field in _DEFINITION}
        given = {field for field in self.model_fields_set if values.get(field) is not None}
        if self.is_scheduled:
            for end in ("initial_value", "target_value"):
                if end not in given:
                    values[end] = weight
            values["current_value"] = values["initial_value"]
        else:
            values["current_value"] = weight
        values["params"] = _plain(values["params"])
        return type(self).model_construct(_fields_set=given, **values)

    def gives(self, field: str) -> bool:
        """Whether the user set a field, and not to None."""
        return field in self.model_fields_set and getattr(self, field) is not None


_DEFINITION = tuple(name for name in Schedule.model_fields if name != "current_value")


class Scheduler:
    """A schedule made ready to be evaluated: its function found, its parameters and ends checked.

    Args:
        schedule: The schedule; a copy of it is kept.
        loss_name: The loss that it belongs to, for error messages.

    Raises:
        UnknownScheduleError: If no installed plugin has the name.
        ScheduleError: If the function does not take the parameters, fails at an end of the schedule that was
            set, or returns something else than a finite number there.

    Example:
        >>> Scheduler(Schedule(end_epoch=10, initial_value=0.0, target_value=5.0)).value(4)
        2.0
    """

    __slots__ = ("_function", "_label", "plugin", "schedule")

    def __init__(self, schedule: Schedule, *, loss_name: str | None = None) -> None:
        # A loss has filled in the ends that were left out; on its own a schedule takes 1.0 for them.
        on_its_own = schedule.initial_value is None or schedule.target_value is None
        self.schedule = schedule.with_weight(1.0) if on_its_own else schedule.model_copy()
        self._label = _describe(schedule.schedule) + (f" of loss {loss_name!r}" if loss_name else "")
        self._function, self.plugin = _find(schedule.schedule)
        self._check_params(self.schedule.params)
        for end in ("start_epoch", "end_epoch"):
            if schedule.gives(end):
                self.value(getattr(schedule, end))

    def value(self, epoch: float, **params: Any) -> float:
        """Return the value of the schedule at an epoch.

        Args:
            epoch: The epoch, at least 0, fractions included.
            **params: Parameters of the function that override those of the schedule for this call.

        Returns:
            A finite float.

        Raises:
            ScheduleError: If the function fails, or returns something else than a finite number.

        Example:
            >>> Scheduler(Schedule("exponential", end_epoch=2, initial_value=4.0)).value(1)
            2.0
        """
        if params:
            params = {**self.schedule.params, **params}
            self._check_params(params)
        else:
            params = self.schedule.params
        try:
            value = self._function(self.schedule, epoch, **params)
        except ScheduleError as error:
            raise ScheduleError(f"schedule {self._label}: {error}") from error
        except NectarganError:
            raise
        except Exception as error:
            message = f"schedule {self._label} failed at epoch {epoch:g}: {type(error).__name__}: {error}"
            raise ScheduleError(message) from error
        if type(value) is not float:
            value = self._as_float(value, epoch)
        if not math.isfinite(value):
            raise ScheduleError(f"schedule {self._label} gave {value} at epoch {epoch:g}; expected a finite number")
        return value

    def _as_float(self, value: object, epoch: float) -> float:
        try:
            if isinstance(value, (str, bytes)):
                raise TypeError  # float() reads text, which is no number that a function has computed
            return float(value)  # type: ignore[arg-type] # whatever it is, float() decides
        except (TypeError, ValueError, OverflowError):
            raise ScheduleError(
                f"schedule {self._label} gave {value!r} at epoch {epoch:g}; expected a finite number"
            ) from None

    def _check_params(self, params: Mapping[str, Any]) -> None:
        try:
            signature = inspect.signature(self._function)
        except (TypeError, ValueError):
            return  # a builtin without a readable signature: the call itself will tell
        try:
            signature.bind(self.schedule, 0.0, **params)
        except TypeError as error:
            takes = list(signature.parameters)[2:]
            raise ScheduleError(
                f"schedule {self._label}: {error}; it takes (schedule, epoch{''.join(', ' + name for name in takes)})"
            ) from None


def linear(schedule: Schedule, epoch: float) -> float:
    """Go from the initial to the target value in a straight line.

    With p = progress, i = initial and t = target: i + (t - i)·p, exact at both ends, for values of any sign.

    Args:
        schedule: From where to where.
        epoch: The epoch, fractions included.

    Example:
        >>> linear(Schedule(start_epoch=10, end_epoch=20, initial_value=1.0, target_value=-1.0), 15)
        0.0
    """
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    if min(initial, target) < 0 < max(initial, target):
        # Their difference may be more than a float can hold; the sum of their shares cannot, nor leave their range.
        return initial * (1.0 - progress) + target * progress
    # Measured from the nearer end, so that both ends are met exactly and nothing overshoots them.
    if progress < 0.5:
        return initial + (target - initial) * progress
    return target - (target - initial) * (1.0 - progress)


def exponential(schedule: Schedule, epoch: float, *, epsilon: float | None = None) -> float:
    """Go from the initial to the target value by a constant factor per epoch.

    With p = progress, i = initial and t = target: i·(t/i)^p, exact at both ends.

    Args:
        schedule: From where to where; both values of one sign.
        epoch: The epoch, fractions included.
        epsilon: Where an end is 0, which no factor reaches: the magnitude, above 0, that the curve runs to (or
            from) instead, before it is 0 at that end.

    Raises:
        ScheduleError: If the values differ in sign, or one is 0 and there is no `epsilon`.

    Example:
        >>> round(exponential(Schedule(end_epoch=2, initial_value=100.0, target_value=1.0), 1), 9)
        10.0
    """
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    if min(initial, target) < 0 < max(initial, target):
        raise ScheduleError(
            f"exponential needs values of one sign, got {initial:g} and {target:g}; use linear to cross zero"
        )
    if epsilon is not None and not 0 < epsilon < math.inf:
        raise ScheduleError(f"exponential needs a finite epsilon above 0, got {epsilon!r}")
    if initial == target:
        return initial
    if (initial == 0 or target == 0) and epsilon is None:
        raise ScheduleError(
            f"exponential never reaches 0 (from {initial:g} to {target:g}); give params={{'epsilon': 0.001}}, "
            "the magnitude at which it may jump, or use linear"
        )
    if progress <= 0.0 or progress >= 1.0:
        return target if progress else initial
    start, end = abs(initial) or epsilon or 0.0, abs(target) or epsilon or 0.0
    # In logarithms, since the ratio of two ordinary weights may be no finite number; rounding stays inside.
    value = math.exp((1.0 - progress) * math.log(start) + progress * math.log(end))
    return math.copysign(min(max(value, min(start, end)), max(start, end)), initial or target)


def _find(schedule: str | Curve) -> tuple[Curve, catalog.Plugin | None]:
    if not isinstance(schedule, str):
        return schedule, None
    terms = names.parse(schedule)
    if len(terms) != 1 or terms[0].variant is not None:
        raise ScheduleError(f"a schedule is named by one name, optionally provider/name; got {schedule!r}")
    plugin = catalog.find(catalog.SCHEDULES, terms[0].name, terms[0].provider)
    return plugin.load(), plugin


def _describe(schedule: str | Curve) -> str:
    return repr(schedule) if isinstance(schedule, str) else getattr(schedule, "__qualname__", repr(schedule))


def _reference(function: Curve) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    reference = f"{module}:{name}"
    try:
        if _imported(reference) is function:
            return reference
    except ScheduleError:
        pass
    raise ScheduleError(
        f"{function!r} cannot be written as text, since it cannot be imported as {reference}; define it at the top "
        "level of a module, or publish it as a plugin"
    )


def _imported(reference: str) -> Curve:
    module, _, path = reference.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ScheduleError(f"cannot import the schedule {reference!r}: {error}") from error
    if not callable(found):
        raise ScheduleError(f"the schedule {reference!r} is not a function but {type(found).__name__}")
    return found  # type: ignore[no-any-return] # callable, as far as can be known


def _plain(value: Any) -> Any:
    """Copy containers, tuples as lists, so that what JSON gives back equals what was put in."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
