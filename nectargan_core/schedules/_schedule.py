"""A schedule: which curve a weight follows, from which epoch and value to which."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypedDict

from pydantic import (
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler  # pydantic 2.7 exports it here only

from nectargan_core import _arguments as arguments
from nectargan_core._frozen import FrozenModel
from nectargan_core._messages import shown
from nectargan_core._names import is_label, label_of
from nectargan_core._params import plain_params
from nectargan_core.errors import ScheduleError
from nectargan_core.schedules._functions import Functions

if TYPE_CHECKING:
    from typing_extensions import Unpack

Curve = Callable[..., float]
"""What a schedule plugin publishes: `(schedule, epoch, **params) -> float`."""

_VALUES = ("initial_value", "target_value")
_LEFT_OUT = "left_out"
_ALIASES = {"start": "start_epoch", "end": "end_epoch"}

# Beyond 2**53 a float no longer tells one epoch or step from the next.
_Position = Annotated[int | float, Field(ge=-(2**53), le=2**53)]


class _Definition(TypedDict, total=False):
    """The keyword arguments of `Schedule`, for type checkers."""

    unit: Literal["epoch", "step", "fraction"]
    start_epoch: float
    end_epoch: float | None
    start: float
    end: float | None
    initial_value: float | None
    target_value: float | None
    params: Mapping[str, Any]
    factor: float
    current_value: float


class Schedule(FrozenModel, frozen=True, allow_inf_nan=False, populate_by_name=True):
    """Which curve a weight follows, from which epoch and value to which.

    `Schedule()`, with nothing set, means "not scheduled". Epochs are compared as they are given, nothing is
    shifted: at `start_epoch` the value is still `initial_value`, at `end_epoch` it is `target_value`. A schedule
    does not change once it is made; `model_copy(update={...})` makes another.

    Args:
        schedule: The curve: the name of an installed schedule (`"linear"`, `"acme/cosine"`), or a function
            `(schedule, epoch, **params) -> float`. In text a function is written as a label (`"curves:half"`), which
            does not bring the function back.
        unit: What `start_epoch`, `end_epoch` and whatever the curve counts are numbers of: `"epoch"`, `"step"`, or
            `"fraction"` of a run, which begins at 0 and ends at 1 and whose length the manager is told
            (`LossManager(total_epochs=200)`).
        start_epoch: Epoch (or step) at which the value leaves `initial_value`, up to 2**53; may be fractional. A
            fraction of the run is from 0 to 1. `start` is the same.
        end_epoch: Epoch (or step, or fraction) from which on the value is `target_value`; not before the start. None:
            there is no end, which a curve that goes from start to end refuses when it is evaluated. `end` is the same.
        initial_value: Value up to the start. None: the weight of the loss that it is given to (1.0 on its own).
        target_value: Value from the end on. None: likewise.
        params: Keyword arguments for the function: finite numbers, strings, schedules, lists and dicts of them. A
            dict with the key `schedule` is a schedule.
        factor: What each value of the curve is multiplied by, its ends included.
        current_value: The value last applied, before the first time the one that it begins with. State of a run:
            neither compared nor serialised. A `Schedule` that was handed in does not change; a manager hands out the
            present value in `get_registered_losses()`.

    Raises:
        SnapshotError: If a field is set.
        pydantic.ValidationError: If an epoch or value is not a finite number, the start is after the end, a fraction of
            the run is not from 0 to 1, or a parameter cannot be written as JSON.

    Example:
        >>> from nectargan_core import Scheduler
        >>> decay = Schedule("linear", start=100, end=200, initial_value=100.0, target_value=0.0)
        >>> Scheduler(decay).value(150)
        50.0
        >>> Schedule.model_validate_json(decay.model_dump_json()) == decay
        True
    """

    _uncompared: ClassVar[frozenset[str]] = frozenset({"current_value"})

    schedule: str | Callable[..., Any] = "linear"
    unit: Literal["epoch", "step", "fraction"] = "epoch"
    start_epoch: _Position = Field(default=0, validation_alias="start")
    end_epoch: _Position | None = Field(default=None, validation_alias="end")
    initial_value: FiniteFloat | None = None
    target_value: FiniteFloat | None = None
    params: dict[str, Any] = Field(default_factory=dict)
    factor: FiniteFloat = 1.0
    current_value: float = Field(default=1.0, exclude=True, repr=False)

    def __init__(self, schedule: str | Curve = "linear", **definition: Unpack[_Definition]) -> None:
        # pydantic's mypy plugin lets a base class without fields take no arguments.
        super().__init__(schedule=schedule, **definition)  # type: ignore[call-arg,misc] # see above

    @model_validator(mode="before")
    @classmethod
    def _each_end_is_given_once(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            _refuse_both_names(data)
        return data

    @field_validator("schedule")
    @classmethod
    def _name_can_be_written(cls, value: str | Curve) -> str | Curve:
        if isinstance(value, str) and not arguments.is_unicode(value):
            raise ValueError(f"the name of a schedule is text that UTF-8 can write, got {shown(value)}")
        return value

    @field_validator("params")
    @classmethod
    def _params_are_plain(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            return plain_params(value, _nested, "finite numbers, text, schedules")
        except ScheduleError:
            raise
        except ValueError as error:
            raise ScheduleError(str(error)) from None

    @model_validator(mode="after")
    def _fractions_are_from_0_to_1(self) -> Schedule:
        if self.unit == "fraction":
            for name in _ALIASES.values():
                position = getattr(self, name)
                if position is not None and not 0 <= position <= 1:
                    raise ValueError(
                        f"{name} ({position:g}) is not from 0 to 1, as with unit='fraction', where 0.5 is the middle "
                        "of the run; give a fraction, or unit='epoch' or 'step'"
                    )
        return self

    @model_validator(mode="after")
    def _start_is_not_after_end(self) -> Schedule:
        if self.end_epoch is not None and self.start_epoch > self.end_epoch:
            raise ValueError(
                f"start_epoch ({self.start_epoch:g}) is after end_epoch ({self.end_epoch:g}); swap them, and "
                "swap initial_value and target_value to run the other way"
            )
        return self

    @model_validator(mode="after")
    def _current_value_is_the_first(self) -> Schedule:
        if "current_value" not in self.model_fields_set:
            self.__dict__["current_value"] = self._first_value
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _read_what_was_left_out(cls, data: Any, handler: ModelWrapValidatorHandler[Schedule]) -> Schedule:
        if not isinstance(data, Mapping):
            return handler(data)
        if not all(isinstance(name, str) for name in data):
            raise ValueError(f"a schedule has fields with a str as their name only, got {shown(data)}")
        if _LEFT_OUT not in data:
            return handler(data)
        left_out = data[_LEFT_OUT]
        if not (
            isinstance(left_out, (list, tuple)) and all(isinstance(end, str) and end in _VALUES for end in left_out)
        ):
            raise ValueError(
                f"{_LEFT_OUT} lists which of {' and '.join(_VALUES)} a loss has filled in, got {shown(left_out)}"
            )
        schedule = handler({key: value for key, value in data.items() if key != _LEFT_OUT})
        schedule.model_fields_set.difference_update(left_out)
        return schedule

    @model_serializer(mode="wrap")
    def _write_what_was_left_out(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A curve may treat an end that a loss has filled in differently from one that was set.
        data: dict[str, Any] = handler(self)
        return {**data, _LEFT_OUT: self._left_out} if self._left_out else data

    @field_serializer("schedule")
    def _write_function_as_label(self, value: str | Curve) -> str:
        return value if isinstance(value, str) else label_of(value)

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Schedule:
        """Return a copy, with other values for the fields in `update`, which are validated.

        Example:
            >>> Schedule(start=10, end=20).model_copy(update={"end": 30}).end_epoch
            30
        """
        given = {} if update is None else arguments.mapping("update", update, "{'end_epoch': 20}")
        _refuse_both_names(given)
        named = {_ALIASES.get(name, name): value for name, value in given.items()}
        return super().model_copy(update=named, deep=deep)

    @cached_property
    def is_scheduled(self) -> bool:
        """Whether anything but `current_value` differs from `Schedule()`."""
        values = self.__dict__
        return any(values[name] != default for name, default in _DEFAULTS.items())

    def progress(self, epoch: float) -> float:
        """Return how far from start to end an epoch is, clamped to 0…1.

        Args:
            epoch: The epoch, fractions included.

        Returns:
            0.0 up to the start, 1.0 from the end on; 1.0 from a start on that is also the end.

        Raises:
            ScheduleError: If the schedule has no end.

        Example:
            >>> Schedule(start_epoch=10, end_epoch=20).progress(12.5)
            0.25
        """
        start, end = self.span()
        if epoch >= end:
            return 1.0
        return (epoch - start) / (end - start) if epoch > start else 0.0

    def span(self) -> tuple[float, float]:
        """Return `(start_epoch, end_epoch)`, for a curve that needs both.

        Raises:
            ScheduleError: If the schedule has no end.

        Example:
            >>> Schedule(end_epoch=20).span()
            (0, 20)
        """
        if self.end_epoch is None:
            raise ScheduleError(
                f"this curve needs an end, and the schedule has none; set end_epoch to the {self.unit} at which it has "
                "reached its last value"
            )
        return self.start_epoch, self.end_epoch

    def until_end(self, epoch: float) -> float:
        """Return an epoch, or the end of the schedule where the epoch is later.

        Example:
            >>> Schedule(end_epoch=20).until_end(30), Schedule().until_end(30)
            (20, 30)
        """
        end = self.end_epoch
        return epoch if end is None or epoch < end else end

    def is_running(self, epoch: float) -> bool:
        """Whether an epoch is at or after the start and before the end; without an end every later one is.

        Example:
            >>> Schedule(end_epoch=20).is_running(20), Schedule().is_running(20)
            (False, True)
        """
        return self.start_epoch <= epoch and (self.end_epoch is None or epoch < self.end_epoch)

    def ends(self) -> tuple[float, float]:
        """Return `(initial_value, target_value)` as numbers: an end that is not set is 1.0.

        Inside a loss both are set already, to the weight of the loss where the user left them out. They are what the
        curve goes from and to; `factor` multiplies what it gives.

        Example:
            >>> Schedule(target_value=0.0).ends()
            (1.0, 0.0)
        """
        initial, target = self.initial_value, self.target_value
        if initial is None or target is None:
            return 1.0 if initial is None else initial, 1.0 if target is None else target
        return initial, target

    def with_weight(self, weight: float) -> Schedule:
        """Return a copy in which each end that the user left out is `weight`.

        Example:
            >>> Schedule(end_epoch=5, target_value=0.0).with_weight(100.0).initial_value
            100.0
        """
        copy = self.model_copy()
        # Nobody else has the copy yet, so its values can still be set.
        values = copy.__dict__
        if self.is_scheduled:
            for end in _VALUES:
                if not self.gives(end):
                    values[end] = weight
                    copy.model_fields_set.discard(end)
            weight = copy._first_value
        values["current_value"] = weight
        return copy

    @property
    def _first_value(self) -> float:
        """The value of a curve that begins at its initial value."""
        return self.ends()[0] * self.factor

    def _with_current_value(self, value: float) -> Schedule:
        copy = self.model_copy()
        copy.__dict__["current_value"] = value
        return copy

    def __eq__(self, other: object) -> bool:
        # An end that a loss has filled in follows its weight, and one that was given does not.
        equal = super().__eq__(other)
        return equal and self._left_out == other._left_out if isinstance(other, Schedule) else equal

    __hash__ = None

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        yield from super().__repr_args__()
        if self._left_out:
            yield _LEFT_OUT, self._left_out

    @property
    def _left_out(self) -> list[str]:
        """The ends that nobody gave, and that a loss has filled in."""
        return [end for end in _VALUES if getattr(self, end) is not None and not self.gives(end)]

    def gives(self, field: str) -> bool:
        """Whether the user set a field, and not to None."""
        return getattr(self, field) is not None and field in self.model_fields_set


_DEFAULTS = {
    name: field.get_default(call_default_factory=True)
    for name, field in Schedule.model_fields.items()
    if name != "current_value"
}


def _refuse_both_names(definition: Mapping[str, Any]) -> None:
    for short, field in _ALIASES.items():
        if short in definition and field in definition:
            raise ValueError(f"{short} and {field} are the same, and both are given; give one of them")


def _nested(value: object) -> Schedule | None:
    """Return the schedule that a value in params is or describes; None for any other value."""
    if isinstance(value, Schedule):
        return value
    if not isinstance(value, Mapping) or "schedule" not in value:
        return None
    try:
        return Schedule.model_validate(dict(value))
    except ValidationError as error:
        raise ScheduleError(f"a schedule in params is wrong: {reasons(error)}") from error


def reasons(error: ValidationError) -> str:
    """Say in one line what is wrong with a definition."""
    places = (".".join(map(str, each["loc"])) for each in error.errors())
    messages = (each["msg"].removeprefix("Value error, ") for each in error.errors())
    return "; ".join(f"{place}: {what}" if place else what for place, what in zip(places, messages, strict=True))


def functions_in(schedule: Schedule) -> list[Curve]:
    """Return the functions of a schedule and of all schedules inside that have one and not a name."""
    return [each.schedule for each in schedules_in(schedule) if callable(each.schedule)]


def with_functions(schedule: Schedule, functions: Functions) -> Schedule:
    """Return a schedule with a function in the place of each label, also in the schedules inside.

    Raises:
        ScheduleError: If there is no function for a label.
    """
    update: dict[str, Any] = {}
    if isinstance(schedule.schedule, str) and is_label(schedule.schedule):
        update["schedule"] = functions.take(schedule.schedule)
    if any(True for _ in schedules_in(schedule.params)):
        update["params"] = _with_functions(schedule.params, functions)
    return schedule.model_copy(update=update)


def _with_functions(value: Any, functions: Functions) -> Any:
    if isinstance(value, Schedule):
        return with_functions(value, functions)
    if isinstance(value, dict):
        return {key: _with_functions(item, functions) for key, item in value.items()}
    return [_with_functions(item, functions) for item in value] if isinstance(value, list) else value


def schedules_in(value: Any) -> Iterator[Schedule]:
    """Go through a schedule, or whatever params hold, and all schedules inside."""
    if isinstance(value, Schedule):
        yield value
        yield from schedules_in(value.params)
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from schedules_in(item)
