"""A loss bound to a manager: its weight now, and the one call that computes, weighs and records it."""

from __future__ import annotations

import reprlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from nectargan_core import compiled
from nectargan_core.errors import LossResultError, ScheduleError, warn
from nectargan_core.history import Series
from nectargan_core.loss import LMLoss
from nectargan_core.recorder import Recorder
from nectargan_core.schedule import Schedule
from nectargan_core.scheduler import Scheduler

_NAN = float("nan")
_monotonic = time.monotonic
_is_compiling = torch.compiler.is_dynamo_compiling


class BoundLoss:
    """What the hot path touches of one registered loss, in plain slots.

    Args:
        loss: The definition; a copy that nobody else holds.
        scheduler: What evaluates its schedule, None if it has none.
        recorder: Where its records go.
        device: Where a result is made that no input tells the device of.
    """

    __slots__ = (
        "__weakref__",
        "_by_step",
        "_constant",
        "_device",
        "_enabled",
        "_first",
        "_last_change",
        "_number",
        "_own",
        "_position",
        "_ran_before",
        "_recorder",
        "_scheduler",
        "_warned_of_epoch",
        "_weight",
        "function",
        "inputs",
        "loss",
        "name",
        "parameters",
        "reads",
        "series",
    )

    def __init__(
        self, loss: LMLoss, scheduler: Scheduler | None, recorder: Recorder, device: torch.device | None
    ) -> None:
        self.name = loss.name
        self.function = loss.function
        named = loss.inputs if isinstance(loss.inputs, dict) else None
        # Names of the inputs, and of the parameters that take them where they are passed by keyword.
        self.inputs = tuple(loss.inputs if named is None else named.values())
        self.reads = frozenset(self.inputs)
        self.parameters = None if named is None else tuple(named)
        self.series: Series = recorder.open(loss.name)
        self._own = self.series
        self._recorder = recorder
        self._device = device
        self._enabled = True
        self._number = compiled.enlist(self)
        self.begin()
        self._warned_of_epoch = False
        self.redefine(loss, scheduler)

    def begin(self) -> None:
        """Take what is recorded so far for that of another run."""
        self._first = self._last_change = self.series.count
        self._ran_before = False

    def redefine(self, loss: LMLoss, scheduler: Scheduler | None) -> None:
        """Take another weight or schedule from now on."""
        self.loss = loss
        # Without what a configured weight knows beside its value.
        self._weight = float(loss.loss_weight)
        self._scheduler = scheduler
        self._by_step = scheduler is not None and scheduler.schedule.unit == "step"
        # The epoch or step for which the weight was last worked out: a schedule is pure, so that one look will do.
        self._position: float | None = None
        self._settle_weight()

    def _settle_weight(self) -> None:
        # The weight where it is always the same, None where each call has to ask.
        self._constant = self._weight if self._enabled and self._scheduler is None else None
        self._last_change = self.series.count

    def state(self, epoch: float) -> dict[str, Any]:
        """Return weight, schedule and enabling as plain data, and only the last of a schedule that is no data."""
        schedule = self.loss.schedule
        try:
            definition = schedule.model_dump(mode="json") if schedule.is_scheduled else None
        except ScheduleError:  # a lambda, which must not cost anybody a checkpoint
            return {"enabled": self._enabled}
        return {"weight": float(self.current_weight(epoch)), "schedule": definition, "enabled": self._enabled}

    def enable(self, enabled: bool) -> None:
        """Let the loss count, or count 0."""
        self._enabled = enabled
        self._settle_weight()

    def divert(self, series: Series) -> tuple[Series, int, int]:
        """Let the records go to another series from now on; returns what `restore` takes to undo it."""
        before = self.series, self._first, self._last_change
        self.series = series
        self._first = self._last_change = series.count
        return before

    def restore(self, before: tuple[Series, int, int]) -> None:
        """Let the records go where they went before `divert`."""
        self._ran_before = self.has_run
        self.series, self._first, self._last_change = before

    @property
    def has_run(self) -> bool:
        """Whether the loss has been computed since it was registered."""
        return self._ran_before or self._runs_here

    @property
    def _runs_here(self) -> bool:
        return self.series.count > self._first

    def current_weight(self, epoch: float) -> float:
        """Return the weight of weight or schedule at an epoch, whether or not the loss is enabled."""
        if self._scheduler is not None:
            position = self._step() if self._by_step else epoch
            if position != self._position:
                self._weight = self._scheduler.value(position)
                self._position = position
        return self._weight

    def _step(self) -> int:
        """Return the step of the clock; without one, how often the loss has been computed outside of splits."""
        return self._recorder.step if self._recorder.ticked else self._own.count

    def weight(self, epoch: float) -> float:
        """Return the weight that applies at an epoch."""
        return self.current_weight(epoch) if self._enabled else 0.0

    def runs(self, epoch: float | None) -> bool:
        """Whether the function is called at an epoch; always, in a graph that serves every weight."""
        if _is_compiling():
            return True
        weight = self._constant
        if weight is None:
            weight = self.weight(self._recorder.epoch if epoch is None else epoch)
        return weight != 0.0 or (self._enabled and not self.loss.skip_when_zero)

    def reported_weight(self) -> float:
        """Return the weight that was last applied; before that, or after a change by hand, the one that will be."""
        last = self.series.last_weight() if self.series.count > self._last_change else None
        if last is not None:
            return last
        try:
            return self.weight(self._recorder.epoch)
        except ScheduleError:
            return self._weight  # asking never raises; computing will

    def last_value(self) -> float:
        """Return the mean of the last weighted result, nan before the first."""
        last = self.series.last() if self._runs_here else None
        return _NAN if last is None else last[2]

    def last_tensor(self) -> Tensor:
        """Return the last weighted result, detached, nan before the first."""
        return self.series.last_tensor() if self._runs_here else torch.tensor(_NAN, device="cpu")

    def compute(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        epoch: float | None,
        weight_kwargs: Mapping[str, Any] | None,
    ) -> Tensor:
        """Compute, weigh and record the loss once; the result is the caller's."""
        if _is_compiling():
            return self._compute_compiled(args, kwargs or {}, epoch, weight_kwargs)
        recorder = self._recorder
        series = self.series
        if recorder.watching and (len(series.steps) >= recorder.room or _monotonic() >= recorder.deadline):
            recorder.attend()
        weight = self._constant
        if weight is None:
            weight = self._changing_weight(epoch, weight_kwargs)
        if epoch is None:
            epoch = recorder.epoch
        step = recorder.step if recorder.ticked else series.count
        if weight == 0.0:
            return self._compute_nothing(args, kwargs or {}, step, epoch)
        try:
            raw = self.function(*args, **kwargs) if kwargs else self.function(*args)
        except Exception as error:
            self._note(error, args, kwargs)
            raise
        if type(raw) is not Tensor and not isinstance(raw, Tensor):
            raise self._no_tensor(raw, epoch)
        weighted = raw * weight
        series.add(step, epoch, weight, raw, weighted)
        return weighted

    def _compute_compiled(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        epoch: float | None,
        weight_kwargs: Mapping[str, Any] | None,
    ) -> Tensor:
        if weight_kwargs:
            raise TypeError(f"loss {self.name!r}: weight_kwargs cannot be given inside torch.compile")
        raw = self.function(*args, **kwargs)
        if not isinstance(raw, Tensor):
            raise self._no_tensor(raw, epoch or 0)
        return compiled.weigh(raw, self._number, epoch)

    def record_compiled(self, raw: Tensor, epoch: float | None) -> float:
        """Record a result that was computed in a compiled graph, and return the weight that applies to it."""
        recorder = self._recorder
        if recorder.is_due(self.series):
            recorder.attend()
        weight = self._changing_weight(epoch, None)
        step = recorder.step if recorder.ticked else self.series.count
        weighted = raw * weight if weight else torch.zeros_like(raw)
        self.series.add(step, recorder.epoch if epoch is None else epoch, weight, raw, weighted)
        return weight

    def _changing_weight(self, epoch: float | None, weight_kwargs: Mapping[str, Any] | None) -> float:
        recorder = self._recorder
        if epoch is None:
            epoch = recorder.epoch
            if self._scheduler is not None and not (self._by_step or recorder.ticked or self._warned_of_epoch):
                self._warn_of_epoch()
        if weight_kwargs and self._scheduler is not None and self._enabled:
            return self._scheduler.value(self._step() if self._by_step else epoch, **weight_kwargs)
        return self.weight(epoch)

    def _compute_nothing(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        step: int,
        epoch: float,
    ) -> Tensor:
        """Return a zero of its own: 0 times a loss that is infinite, or has an infinite gradient, would be nan."""
        if self._enabled and not self.loss.skip_when_zero:
            with torch.no_grad():
                raw = self.function(*args, **kwargs)
            if not isinstance(raw, Tensor):
                raise self._no_tensor(raw, epoch)
            zero = torch.zeros_like(raw, dtype=_floating(raw.dtype), requires_grad=torch.is_grad_enabled())
            self.series.add(step, epoch, 0.0, raw, zero)
            return zero
        like = next((arg for arg in (*args, *kwargs.values()) if isinstance(arg, Tensor)), None)
        dtype, device = (None, self._device) if like is None else (_floating(like.dtype), like.device)
        zero = torch.zeros((), dtype=dtype, device=device, requires_grad=torch.is_grad_enabled())
        self.series.add_zero(step, epoch, zero)
        return zero

    def _warn_of_epoch(self) -> None:
        self._warned_of_epoch = True
        warn(
            f"loss {self.name!r} is scheduled and is computed without an epoch, so its weight stays where it is; call "
            "manager.tick(epoch=epoch) at each step, or pass epoch="
        )

    def _note(self, error: Exception, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> None:
        """Say in the traceback which loss it was, and what it was given."""
        if not hasattr(error, "add_note"):  # Python 3.10
            return
        given = [_told(arg) for arg in args] + [f"{name}={_told(arg)}" for name, arg in (kwargs or {}).items()]
        error.add_note(f"in the function of loss {self.name!r}, called with ({', '.join(given)})")

    def _no_tensor(self, result: object, epoch: float) -> LossResultError:
        return LossResultError(
            f"loss {self.name!r} returned {type(result).__name__} ({reprlib.repr(result)}) at epoch {epoch:g}; "
            "expected a tensor of real numbers, such as a scalar or a map",
            loss_name=self.name,
        )

    def snapshot(self, with_history: bool) -> LMLoss:
        """Return a frozen copy of the definition, with the state of the run."""
        schedule = self.loss.schedule
        values = dict(self.loss.__dict__)
        values["schedule"] = Schedule.model_construct(
            _fields_set=set(schedule.model_fields_set),
            **{**schedule.__dict__, "current_value": self.reported_weight()},
        )
        values["last_loss_map"] = self.last_tensor()
        if with_history:
            values["history"] = self.series.history()
        return LMLoss.model_construct(_fields_set=set(self.loss.model_fields_set), **values).frozen()


def _told(value: object) -> str:
    if isinstance(value, Tensor):
        return f"{type(value).__name__} of {tuple(value.shape)}, {value.dtype}, {value.device}"
    return type(value).__name__


def _floating(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype.is_floating_point else torch.get_default_dtype()


class ComputedLosses(dict[str, Tensor]):
    """Weighted results by loss name, with their `total`.

    Example:
        >>> losses = ComputedLosses(a=torch.tensor(1.0), b=torch.tensor([2.0, 4.0]))
        >>> float(losses.total)
        4.0
    """

    @property
    def total(self) -> Tensor:
        """The sum of the results, of which each that is not a scalar counts with its mean."""
        return total(self.values())


def total(results: Iterable[Tensor]) -> Tensor:
    """Return the sum of the means of results; of none, a zero that `backward()` accepts."""
    scalars = [result.mean() if result.ndim else result for result in results]
    if not scalars:
        return torch.zeros((), requires_grad=torch.is_grad_enabled())
    summed = scalars[0]
    for scalar in scalars[1:]:
        summed = summed + scalar
    return summed
