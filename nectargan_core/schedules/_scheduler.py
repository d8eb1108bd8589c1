"""Evaluates a schedule: finds its function, checks its parameters, and gives its value at any epoch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from math import isfinite
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core import catalog
from nectargan_core._messages import name_of, one_line, shown
from nectargan_core._names import is_label, read_term
from nectargan_core.errors import NectarganError, ScheduleError
from nectargan_core.schedules._functions import no_function
from nectargan_core.schedules._schedule import Curve, Schedule, schedules_in

# No start or end is farther.
_FARTHEST = 2.0**53


class Scheduler:
    """A schedule made ready to be evaluated: its function found, its parameters and ends checked.

    Each schedule in the parameters is made ready too: the function receives a `Scheduler` in its place.

    Args:
        schedule: The schedule.
        loss_name: The loss that it belongs to, for error messages.
        total_epochs: How many epochs the run has, above 0. A schedule with `unit="fraction"` is then evaluated at
            epochs, others are as they would be without it. None: it is evaluated at fractions of the run.
        total_steps: Likewise the steps of the run, at least 1.

    Raises:
        UnknownScheduleError: If no installed plugin has the name.
        ScheduleError: If the function does not take the parameters, or fails or returns something else than a
            finite number at an end that was set (at the start, if none was), or at those of a schedule in the
            parameters.
        PluginError: If the plugin of that name cannot be used.
        TypeError: If it is no `Schedule`, the name no str, or `total_steps` no integer.
        ValueError: If the length of the run is not above 0, or given both in epochs and in steps.

    Example:
        >>> Scheduler(Schedule(end_epoch=10, initial_value=0.0, target_value=5.0)).value(4)
        2.0
        >>> second_half = Schedule(unit="fraction", start=0.5, end=1.0, target_value=0.0)
        >>> Scheduler(second_half).value(0.75), Scheduler(second_half, total_epochs=200).value(150)
        (0.5, 0.5)
    """

    __slots__ = (
        "_call",
        "_checked",
        "_factor",
        "_function",
        "_label",
        "_params",
        "_total",
        "_weighted",
        "plugins",
        "schedule",
        "unit",
    )

    plugins: tuple[catalog.Plugin, ...]
    unit: str
    """What `value` is given: `"epoch"`, `"step"` or, of a run whose length is not known, `"fraction"`."""
    _total: float | None

    def __init__(
        self,
        schedule: Schedule,
        *,
        loss_name: str | None = None,
        total_epochs: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        if not isinstance(schedule, Schedule):
            raise TypeError(f"a Scheduler is made of a Schedule, got {shown(schedule)}")
        loss_name = None if loss_name is None else arguments.text("loss_name", loss_name)
        epochs, steps = arguments.totals(total_epochs, total_steps)
        self._assemble(schedule, f" of loss {loss_name!r}" if loss_name else "")
        for position in _positions_to_try(self.schedule):
            self.value(position)
        total = epochs if steps is None else steps
        if self.unit == "fraction" and total is not None:
            self._total, self.unit = total, "epoch" if steps is None else "step"

    def _assemble(self, schedule: Schedule, owner: str = "") -> None:
        # In a loss the ends that were left out are filled in already; on its own a schedule takes 1.0 for them.
        ends = (schedule.initial_value, schedule.target_value) if schedule.is_scheduled else (schedule.current_value,)
        on_its_own = None in ends
        self.schedule = schedule.with_weight(1.0) if on_its_own else schedule
        self.unit = schedule.unit
        self._factor = self.schedule.factor
        # The length of the run where positions are fractions of it and are given as epochs or steps.
        self._total = None
        self._label = _describe(schedule.schedule) + owner
        plugin: catalog.Plugin | None = None
        self._function: Curve = _unscheduled
        if schedule.is_scheduled:
            self._function, plugin = _find(schedule.schedule)
        self.plugins = () if plugin is None else (plugin,)
        self._params = self._prepared(self.schedule.params)
        self._weighted: tuple[float, Scheduler] | None = None
        # Names of parameters that were given to a call before, and that the function takes.
        self._checked: set[frozenset[str]] = set()
        self._check_params(self._params)
        self._call: Callable[[float], Any] = partial(self._function, self.schedule, **self._params)

    def value(self, epoch: float, /, **params: Any) -> float:
        """Return the value of the schedule at an epoch.

        Args:
            epoch: The epoch, or the step if the schedule counts steps; at least 0, fractions included. With
                `unit="fraction"` the fraction of the run, or, if the length of the run was given, the epoch or step.
            **params: Parameters of the function that override those of the schedule for this call.

        Returns:
            A finite float.

        Raises:
            ScheduleError: If the function fails, or returns something else than a finite number.

        Example:
            >>> Scheduler(Schedule("exponential", end_epoch=2, initial_value=4.0)).value(1)
            2.0
        """
        call = partial(self._function, self.schedule, **self._overridden(params)) if params else self._call
        if self._total is not None:
            # A length close to 0 would make it infinite.
            epoch = min(epoch / self._total, _FARTHEST)
        try:
            value = call(epoch)
        except ScheduleError as error:
            raise self._error(f": {error}") from error
        except NectarganError:
            raise
        except Exception as error:
            raise self._error(f" failed at {self._at(epoch)}: {one_line(error)}") from error
        if type(value) is not float:
            value = self._as_float(value, epoch)
        value *= self._factor
        if not isfinite(value):
            raise self._not_finite(value, epoch)
        return value

    def with_weight(self, weight: float) -> Scheduler:
        """Return what evaluates the same schedule on a loss of another weight, for curves that are made of schedules.

        Args:
            weight: What each end that the schedule leaves out stands for, instead of 1.0.

        Example:
            >>> Scheduler(Schedule(end_epoch=10, target_value=0.0)).with_weight(100.0).value(5)
            50.0
        """
        # The last one is kept: a curve calls this each time, nearly always with the same weight.
        if self._weighted is None or self._weighted[0] != weight:
            weighted = object.__new__(Scheduler)
            weighted._assemble(self.schedule.with_weight(weight))
            weighted._total, weighted.unit = self._total, self.unit
            self._weighted = weight, weighted
        return self._weighted[1]

    def _prepared(self, value: Any) -> Any:
        """Put a scheduler in the place of each schedule."""
        if isinstance(value, Schedule):
            return self._part(value)
        if isinstance(value, dict):
            return {key: self._prepared(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._prepared(item) for item in value]
        return value

    def _part(self, schedule: Schedule) -> Scheduler:
        unit = self.schedule.unit
        if schedule.unit != unit:
            raise self._error(
                f" counts {unit}s, and the schedule {_describe(schedule.schedule)} in its params {schedule.unit}s; "
                "give both the same unit"
            )
        part = object.__new__(Scheduler)
        try:
            # Not evaluated here: its weight depends on the function that it is a parameter of.
            part._assemble(schedule)
        except ScheduleError as error:
            raise self._error(f": {error}") from error
        self.plugins += part.plugins
        return part

    def _overridden(self, params: dict[str, Any]) -> dict[str, Any]:
        try:
            merged = {**self._params, **self._prepared(params)}
        except RecursionError:
            raise self._error(": its params are nested too deeply") from None
        given = frozenset(params)
        if given not in self._checked:
            self._check_params(merged)
            self._checked.add(given)
        return merged

    def _as_float(self, value: object, epoch: float) -> float:
        number = arguments.as_float(value)
        if number is None:
            raise self._not_finite(value, epoch)
        return number

    def _check_params(self, params: Mapping[str, Any]) -> None:
        try:
            signature = inspect.signature(self._function)
        except Exception:  # noqa: BLE001 # an object may raise anything
            return  # a builtin without a readable signature; the first call shows whether it takes them
        try:
            signature.bind(self.schedule, 0.0, **params)
        except TypeError as error:
            takes = ", ".join(["schedule", "epoch", *list(signature.parameters)[2:]])
            raise self._error(f": {error}; it takes ({takes})") from None

    def _at(self, epoch: float) -> str:
        return f"{self.schedule.unit} {epoch:g}"

    def _not_finite(self, value: object, epoch: float) -> ScheduleError:
        return self._error(f" gave {shown(value)} at {self._at(epoch)}; expected a finite number")

    def _error(self, what: str) -> ScheduleError:
        return ScheduleError(f"schedule {self._label}{what}")


def _positions_to_try(schedule: Schedule) -> list[float]:
    """The ends that were set, and where each schedule in the parameters begins to count."""
    whole, *parts = schedules_in(schedule)
    epochs = {part.start_epoch for part in parts}
    epochs |= {
        getattr(each, end) for each in (whole, *parts) for end in ("start_epoch", "end_epoch") if each.gives(end)
    }
    return sorted(max(epoch, 0) for epoch in epochs or {whole.start_epoch})


def _unscheduled(schedule: Schedule, epoch: float) -> float:
    """Keep the weight: what `Schedule()` means."""
    return 1.0 if schedule.current_value is None else schedule.current_value


def _find(schedule: str | Curve) -> tuple[Curve, catalog.Plugin | None]:
    if not isinstance(schedule, str):
        return schedule, None
    if is_label(schedule):
        raise no_function(schedule)
    term, end = read_term(schedule, expected="the name of a schedule")
    if end != len(schedule) or term.variant is not None:
        raise ScheduleError(f"a schedule is named by one name, optionally provider/name; got {schedule!r}")
    plugin = catalog.find(catalog.SCHEDULES, term.name, term.provider)
    return plugin.load(), plugin


def _describe(schedule: str | Curve) -> str:
    return repr(schedule) if isinstance(schedule, str) else name_of(schedule)
