"""A loss at work in a manager: its weight now, and the one call that computes, weights and records it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from nectargan_core._messages import warn
from nectargan_core.errors import DuplicateLossError, ScheduleError
from nectargan_core.history import LMHistory, Recorder, Series, add_together, check_real
from nectargan_core.losses import _compiled
from nectargan_core.losses._autograd import as_new, current_graph_task, is_older, next_node
from nectargan_core.losses._components import Components, components_of, rows_of
from nectargan_core.losses._factors import as_factor
from nectargan_core.losses._graph_weights import Group, Weights, register
from nectargan_core.losses._inputs import by_input, images_among
from nectargan_core.losses._loss import LMLoss
from nectargan_core.losses._module import module_of
from nectargan_core.losses._ranges import FirstCall
from nectargan_core.losses._recording import Later, Scalars, add_rows, record_all
from nectargan_core.losses._zero import connected_zero, floating, with_tensors_detached
from nectargan_core.schedules import Schedule, Scheduler
from nectargan_core.weightings import BoundWeighting

_NAN = float("nan")
_FLOAT32 = torch.float32
_EMPTY = LMHistory.model_construct()
_monotonic = time.monotonic
_is_compiling = torch.compiler.is_dynamo_compiling


def _add_apart(
    losses: Sequence[BoundLoss],
    steps: Sequence[int],
    epoch: float,
    weights: Sequence[float],
    scalars: Sequence[Tensor],
    means: Sequence[Sequence[Tensor] | None],
    beside: Scalars,
    later: Later,
) -> None:
    """Add the records of what a compiled graph computed, one by one; see `BoundLoss.record_compiled`."""
    add_rows(beside, later, epoch, _FLOAT32)
    others = iter(scalars)
    for loss, step, weight, mean in zip(losses, steps, weights, means or [None] * len(losses), strict=True):
        raw, weighted, result = mean if mean is not None else [next(others)] * 3
        if weight == 0.0 and not loss.runs_at_zero and loss.own_weight(epoch) == 0.0:
            # As in eager code, where the function is not called.
            loss.series.add_zero(step, epoch, torch.zeros((), dtype=weighted.dtype, device=weighted.device))
        elif mean is None and raw.is_cpu:
            add_together((loss.series,), (step,), epoch, (weight,), (raw.item(),), raw.dtype)
        else:
            loss.series.add_means(step, epoch, weight, raw, weighted, result)


class BoundLoss:
    """What the hot path touches of one registered loss, in plain slots.

    Args:
        loss: The definition.
        scheduler: What evaluates its schedule, None if it has none.
        recorder: Where its records go.
        device: Where a result is made that no input tells the device of.
        weights: Those of all losses of the manager, for compiled graphs to read.
        changed: Called when the loss has another weight, schedule or enabling.
        is_registered: Whether the manager has a loss of a name.
    """

    __slots__ = (
        "__weakref__",
        "_by_step",
        "_changed",
        "_components",
        "_constant",
        "_device",
        "_elsewhere",
        "_enabled",
        "_first",
        "_is_registered",
        "_last_change",
        "_layout",
        "_loss",
        "_own",
        "_position",
        "_recorder",
        "_scheduler",
        "_warned_of_epoch",
        "_weight",
        "as_is",
        "called",
        "function",
        "inputs",
        "key",
        "name",
        "parameters",
        "reads",
        "registered",
        "series",
        "skip_when_zero",
        "tags",
        "weighting",
        "weights",
    )

    def __init__(
        self,
        loss: LMLoss,
        scheduler: Scheduler | None,
        recorder: Recorder,
        device: torch.device | None,
        weights: Weights,
        changed: Callable[[], None],
        is_registered: Callable[[str], bool],
    ) -> None:
        self.name = loss.name
        self.function = loss.function
        self.tags = frozenset(loss.tags)
        self.skip_when_zero = loss.skip_when_zero
        named = loss.inputs if isinstance(loss.inputs, dict) else None
        # Names of the inputs, and of the parameters that take them where they are passed by keyword.
        self.inputs = tuple(loss.inputs if named is None else named.values())
        self.reads = frozenset(self.inputs)
        self.as_is = frozenset(loss.as_is)
        self.parameters = None if named is None else tuple(named)
        # Where records go now, and where they go outside of splits and pauses.
        self.series: Series = recorder.begin(loss.name)
        self._own = self.series
        # Where those of its components go that were recorded in this scope, by the names that the function gives them.
        self._components: dict[str, Series] = {}
        # The names of the last call, and their series.
        self._layout: tuple[tuple[str, ...], list[Series]] = ((), [])
        self._is_registered = is_registered
        self._recorder = recorder
        self._device = device
        self._changed = changed
        self._enabled = True
        self.key = register(self)
        self.weights = weights
        # What balances it against others.
        self.weighting: BoundWeighting | None = None
        self._warned_of_epoch = False
        self._loss: LMLoss = loss
        # The definition that it was registered with, and whether it was enabled then.
        self.registered = (loss, True)
        # What is called: the function or, until it has been called, what also looks at its inputs.
        self.called: Callable[..., Any] = self.function
        if loss.ranges:
            self.called = FirstCall(self, self.function, loss.ranges, recorder)
        self.begin()
        self.redefine(loss, scheduler)

    def begin(self) -> None:
        """Begin a run: what was recorded before does not count as records of this loss."""
        self._first = self._last_change = self.series.count
        # Where else it may have been computed, and how many records were there before.
        self._elsewhere: list[tuple[Series, int]] = [(self._own, self._own.count)]

    # Weight

    @property
    def loss(self) -> LMLoss:
        """The definition, with the weight or schedule that it has now."""
        loss = self._loss
        if self._scheduler is None and (loss.schedule.is_scheduled or loss.loss_weight != self._weight):
            # `set_weight` is called often, and does not make a definition each time.
            self._loss = loss = loss.model_copy(update={"loss_weight": self._weight, "schedule": Schedule()})
        return loss

    def redefine(self, loss: LMLoss, scheduler: Scheduler | None) -> None:
        """Take the weight or schedule of another definition from now on."""
        self._loss = loss
        # A weight from a configuration is a float with its key. Only the number is needed here.
        self._take(float(loss.loss_weight), scheduler)

    def set_weight(self, weight: float) -> None:
        """Take another weight, unscheduled, from now on.

        Raises:
            pydantic.ValidationError: If it is not a finite number.
        """
        if type(weight) is not float or not math.isfinite(weight):
            # pydantic converts what it takes for a number, such as an int, and raises its error for anything else.
            weight = self._loss.model_copy(update={"loss_weight": weight, "schedule": Schedule()}).loss_weight
        self._take(float(weight), None)

    def _take(self, weight: float, scheduler: Scheduler | None) -> None:
        self._weight = weight
        self._scheduler = scheduler
        self._by_step = scheduler is not None and scheduler.unit == "step"
        # The epoch or step that `_weight` was last evaluated for. A schedule is pure, so once is enough.
        self._position: float | None = None
        self._weight_changed()

    @property
    def enabled(self) -> bool:
        """Whether the loss counts."""
        return self._enabled

    def enable(self, enabled: bool) -> None:
        """Let the loss count, or count 0."""
        self._enabled = enabled
        self._weight_changed()

    def _weight_changed(self) -> None:
        # The weight where it is the same at every call, None where a call has to work it out; and that as a tensor.
        constant = self._weight if self._enabled and not self.varies else None
        self._constant = (constant, None if constant is None else as_factor(constant))
        self._last_change = self.series.count
        self._changed()

    @property
    def constant(self) -> float | None:
        """The weight, if it is the same at every call."""
        return self._constant[0]

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

    def step_here(self) -> int:
        """Return the step of a record that is made now; `compute` has a copy of this."""
        if self._recorder.ticked:
            return self._recorder.step
        return self.series.count if self.series is self._own else self._recorder.step_in_scope

    def own_weight(self, epoch: float) -> float:
        """Return the weight that applies at an epoch before the factor of a weighting."""
        return self.current_weight(epoch) if self._enabled else 0.0

    def weight(self, epoch: float) -> float:
        """Return the weight that applies at an epoch."""
        weight = self.current_weight(epoch) if self._enabled else 0.0
        return weight if self.weighting is None else weight * self.weighting.factor(self.name)

    def balance_by(self, weighting: BoundWeighting | None) -> None:
        """Let a weighting give the factor of this loss from now on; None for none."""
        self.weighting = weighting
        self._weight_changed()

    def reported_weight(self) -> float:
        """Return the weight that was last applied; before that, or after a change by hand, the one that will be."""
        last = self.series.last_weight() if self.series.count > self._last_change else None
        if last is not None:
            return last
        try:
            return self.weight(self._recorder.epoch)
        except ScheduleError:
            return self._weight  # A getter does not raise; the next computation does.

    def state(self, epoch: float) -> dict[str, Any]:
        """Return weight, schedule and enabling as plain data, and those of the registration where they have changed."""
        state = _as_data(float(self.current_weight(epoch)), self.loss.schedule, self._enabled)
        loss, enabled = self.registered
        if (self.loss.loss_weight, self.loss.schedule, self._enabled) != (loss.loss_weight, loss.schedule, enabled):
            state["registered"] = _as_data(float(loss.loss_weight), loss.schedule, enabled)
        return state

    # Scope

    def redirected(self, series: Series) -> tuple[list[partial[Any]], list[partial[Any]]]:
        """Return the steps that let the records go to another series, and those that undo it, for `at_once`."""
        if not self.has_run:
            # The last ones are enough: in those before it did not run, and they are left.
            self._elsewhere = [*self._elsewhere[:1], *self._elsewhere[1:][-8:], (series, series.count)]
        there = {"series": series, "_components": {}, "_layout": ((), [])}
        there |= {"_first": series.count, "_last_change": series.count}
        back = {name: getattr(self, name) for name in there}
        enter, leave = ([partial(setattr, self, name, value) for name, value in to.items()] for to in (there, back))
        return enter, leave

    @property
    def has_run(self) -> bool:
        """Whether the loss has been computed since it was registered."""
        return self.has_run_here or any(series.count > first for series, first in self._elsewhere)

    @property
    def has_run_here(self) -> bool:
        """Whether the loss has been computed in this scope since it was registered, or the split was entered."""
        return self.series.count > self._first

    # Results

    def last_value(self) -> float:
        """Return the mean of the last weighted result, nan before the first."""
        return self.series.last_value() if self.has_run_here else _NAN

    def last_tensor(self) -> Tensor:
        """Return the last weighted result, detached, nan before the first."""
        return self.series.last_tensor() if self.has_run_here else torch.tensor(_NAN, device="cpu")

    def snapshot(self, with_history: bool) -> LMLoss:
        """Return the definition with the state of the run."""
        loss = self.loss
        schedule = loss.schedule._with_current_value(self.reported_weight())
        history = self.series.history() if with_history else _EMPTY
        values = {**loss.__dict__, "schedule": schedule, "last_loss_map": self.last_tensor(), "history": history}
        return LMLoss.model_construct(_fields_set=set(loss.model_fields_set), **values)

    @property
    def has_map(self) -> bool:
        """Whether the last result in this scope is a map."""
        return self.has_run_here and self.series.has_map

    def last_images(self, inputs: Mapping[str, Any] | None) -> dict[str, Tensor]:
        """Return what the last map is shown beside, by name: of these inputs, or of those that it was computed with."""
        return images_among(self.series.images if inputs is None else inputs, [self])

    # Components

    @property
    def components(self) -> Mapping[str, Series]:
        """The series of the components that were recorded in this scope, by their own names."""
        return self._components

    def components_of(self, result: object, epoch: float) -> Components:
        """Return the components that the function returned in the place of a tensor.

        Raises:
            LossResultError: If it is no dict of tensors of real numbers.
            DuplicateLossError: If the name of one is taken.
        """
        known = self._layout[0]
        components = components_of(self.name, result, epoch, known)
        if components.names != known:
            for name in components.names:
                if name not in self._components:
                    self._check_component(name)
        return components

    def series_of(self, components: tuple[str, ...], step: int) -> list[Series]:
        """Return the series of components, in which a record of this step is to come next.

        Raises:
            DuplicateLossError: If the name of one is taken.
        """
        known, several = self._layout
        if components != known:
            added = [name for name in components if name not in self._components]
            for name in added:
                self._check_component(name)
            for name in added:
                self._components[name] = self._recorder.open_component(self.name, name)
            several = [self._components[name] for name in components]
            self._layout = components, several
        if not self._recorder.ticked and self.series is self._own:
            for series in several:
                # The calls of the loss are what its steps are counted by, and it may have had other components before.
                series.count = step
        return several

    def _check_component(self, component: str) -> None:
        """Raise `DuplicateLossError` if a loss, a scalar or a component of another loss has the name of a component."""
        name = f"{self.name}.{component}"
        owner = self._recorder.beside.get(name, self.name)
        if self._is_registered(name):
            what = "a loss"
        elif owner is None:
            what = "recorded as a scalar"
        elif owner != self.name and self._is_registered(owner):
            what = f"a component of loss {owner!r}"
        else:
            return
        raise DuplicateLossError(
            f"loss {self.name!r} returned the component {component!r}, which is recorded as {name!r}, and that is "
            f"{what} already; rename one of them",
            name=name,
        )

    # Computing

    def ends_first_call(self) -> bool:
        """Let the function be called by itself from now on; returns False if it is already."""
        if self.called is self.function:
            return False
        self.called = self.function
        self._changed()
        return True

    @property
    def runs_at_zero(self) -> bool:
        """Whether the function is called while the weight is 0."""
        return self._enabled and not self.skip_when_zero

    def call(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, epoch: float, detached: bool = False
    ) -> tuple[Tensor, Components | None]:
        """Call the function; returns its result and, if that is the sum of components, these.

        Args:
            args: Its arguments.
            kwargs: Its keyword arguments.
            epoch: The epoch, for errors.
            detached: Whether the arguments are cut off from the graph, for a result that gets a weight of 0, since an
                infinite gradient of the function times 0 would be nan.
        """
        if detached:
            args, kwargs = with_tensors_detached(args), with_tensors_detached(kwargs or {})
        number = next_node()
        try:
            raw = self.called(*args, **kwargs) if kwargs else self.called(*args)
        except Exception as error:
            self.annotate(error, args, kwargs)
            raise
        components = None
        if not isinstance(raw, Tensor):
            components = self.components_of(raw, epoch)
            raw = components.summed()
        if detached:
            check_real(self.name, raw, epoch)
        elif raw.requires_grad and is_older(raw, number):
            raw = as_new(raw)
        return raw, components

    def weighted(self, raw: Tensor, weight: float, epoch: float) -> Tensor:
        """Return the product of a result and a weight.

        Raises:
            LossResultError: If the result is no tensor of real numbers.
        """
        constant, factor = self._constant
        try:
            if constant == weight and type(raw) is Tensor and raw.dtype is _FLOAT32 and raw.is_cpu:
                return raw * (weight if factor is None else factor)
            return raw * weight
        except RuntimeError:
            check_real(self.name, raw, epoch)
            raise

    def zero(self, given: Iterable[Any], like: Tensor | None) -> Tensor:
        """Return the result of a loss that is skipped: a scalar 0, connected to what it was given."""
        return connected_zero((*given, module_of(self.function)), like, self._device)

    def zero_like(self, raw: Tensor, args: Iterable[Any], kwargs: Mapping[str, Any] | None) -> Tensor:
        """Return zeros in the shape of a result that gets a weight of 0, connected to what the function was given."""
        zero = torch.zeros_like(raw, dtype=floating(raw.dtype), requires_grad=False)
        return zero + connected_zero((*args, *(kwargs or {}).values(), module_of(self.function)), like=zero)

    def compute(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None,
        epoch: float | None,
        weight_kwargs: Mapping[str, Any] | None,
    ) -> Tensor:
        """Compute, weight and record the loss once; the result is the caller's."""
        if _is_compiling():
            return self._compute_compiled(args, kwargs or {}, epoch, weight_kwargs)
        recorder = self._recorder
        series = self.series
        # The same as recorder.is_due, written out.
        if recorder.watching and (len(series.rows) >= recorder.full or _monotonic() >= recorder.deadline):
            recorder.flush_or_raise()
        weight, factor = self._constant
        if weight is None:
            weight = self.applied_weight(epoch, weight_kwargs)
        if epoch is None:
            epoch = recorder.epoch
        step = recorder.step if recorder.ticked else series.count if series is self._own else recorder.step_in_scope
        if weight == 0.0:
            return self._compute_zero(args, kwargs, step, epoch)
        try:
            raw = self.called(*args, **kwargs) if kwargs else self.called(*args)
        except Exception as error:
            self.annotate(error, args, kwargs)
            raise
        # As in `call` and `weighted`, written out.
        if type(raw) is not Tensor:
            factor = None
            if not isinstance(raw, Tensor):
                return self._compute_components(raw, weight, step, epoch)
        try:
            weighted = raw * (factor if factor is not None and raw.dtype is _FLOAT32 and raw.is_cpu else weight)
        except RuntimeError:
            check_real(self.name, raw, epoch)
            raise
        if current_graph_task() < 0 and series.add(step, epoch, weight, raw, weighted):
            self._keep_images(args, kwargs)
        return weighted

    def _compute_components(self, result: object, weight: float, step: int, epoch: float) -> Tensor:
        """Weight and record what the function returned as components."""
        components = self.components_of(result, epoch)
        raw = components.summed()
        weighted = self.weighted(raw, weight, epoch)
        if components.values is None:
            scalars, rows = rows_of({self.name: components}, [self], [weight], [step], epoch)
            record_all([*rows, (self.series, step, epoch, weight, raw, weighted)], self._recorder, scalars)
            return weighted
        # The same, where nothing is left to be looked at.
        several = [*self.series_of(components.names, step), self.series]
        values = [*components.values, self.series.value_of(raw)]
        if current_graph_task() < 0:
            self._recorder.add_all(
                partial(add_together, several, repeat(step), epoch, [weight] * len(several), values, _FLOAT32)
            )
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
        (result,), _, _ = _compiled.compute(Group([self]), [(args, kwargs)], epoch, None)
        return result

    @property
    def varies(self) -> bool:
        """Whether the weight follows a schedule, or a weighting gives a factor."""
        return self._scheduler is not None or self.weighting is not None

    @property
    def counts(self) -> bool:
        """Whether the weight depends on how often the loss was computed, for want of a clock."""
        return self._by_step and not self._recorder.ticked

    def watch_clock(self, changed: Callable[[], None]) -> None:
        """Have a function called when step or epoch of the clock have changed."""
        self._recorder.watch_clock(changed)

    def compiled_weight(self, epoch: float | None, *, own: bool) -> float:
        """Return the weight that applies at an epoch, None for the clock's; if `own`, before the factor."""
        at = self.epoch_here(epoch)
        return self.own_weight(at) if own else self.weight(at)

    def own_weight_or_nan(self, epoch: float | None = None) -> float:
        """Return `own_weight` at an epoch, None for the clock's; nan where its schedule has no value."""
        try:
            return self.own_weight(self.epoch_here(epoch))
        except ScheduleError:
            return _NAN

    def epoch_here(self, epoch: float | None) -> float:
        """Return an epoch, or that of the clock for None."""
        return self._recorder.epoch if epoch is None else epoch

    @property
    def is_training(self) -> bool:
        """Whether what is computed now counts for weightings: outside of splits, pauses and recomputation."""
        return not self._recorder.in_scope and current_graph_task() < 0

    def record_compiled(
        self,
        losses: Sequence[BoundLoss],
        weights: Sequence[float] | None,
        scalars: Tensor,
        means: Sequence[Sequence[Tensor] | None],
        epoch: float | None,
        components: Mapping[str, Components] | None = None,
        batch_size: int = 0,
    ) -> None:
        """Record the results of several losses, this one among them, that a compiled graph computed in one call.

        Args:
            losses: The losses.
            weights: Their weights; None if some vary.
            scalars: Results before weighting, in single precision.
            means: For each loss its result by the mean before weighting, the mean after it, and the result before it;
                None for one whose result is the next of `scalars`. Empty where all are.
            epoch: The epoch, None for that of the clock.
            components: Those of the losses that have some, by the names of these.
            batch_size: The size of the batch, 0 where it is not known.
        """
        recorder = self._recorder
        # The same as recorder.is_due of any of them.
        if recorder.watching and (
            _monotonic() >= recorder.deadline or any(len(loss.series.rows) >= recorder.full for loss in losses)
        ):
            recorder.flush_or_raise()
        if weights is None:
            weights = [loss.applied_weight(epoch, None) for loss in losses]
        if current_graph_task() >= 0:
            return
        if epoch is None:
            epoch = recorder.epoch
        steps = [recorder.step] * len(losses) if recorder.ticked else [loss.step_here() for loss in losses]
        if components:
            # As in eager code, where the function is not called.
            ran = {loss.name for loss, weight in zip(losses, weights, strict=True) if weight or loss.runs_at_zero}
            components = {name: parts for name, parts in components.items() if name in ran}
        beside, later = rows_of(components or {}, losses, weights, steps, epoch)
        if not means and scalars.is_cpu and 0.0 not in weights:
            series, values = [loss.series for loss in losses], scalars.tolist()
            if components:
                beside += zip(series, steps, weights, values, strict=True)
                record = partial(add_rows, beside, later, epoch, _FLOAT32)
            else:
                record = partial(add_together, series, steps, epoch, weights, values, scalars.dtype)
        else:
            # Copied, since it is kept on a device, and the graph uses its memory again.
            given = scalars.clone().unbind()
            record = partial(_add_apart, losses, steps, epoch, weights, given, means, beside, later)
        recorder.of_batch(batch_size, partial(recorder.add_all, record))

    def record_extra(self, label: str, value: Tensor, batch_size: int) -> None:
        """Record what a weighting adds to the total of a compiled graph, under the name of the weighting."""
        self._recorder.of_batch(batch_size, partial(self._recorder.record, label, value))

    def applied_weight(self, epoch: float | None, weight_kwargs: Mapping[str, Any] | None) -> float:
        """Return the weight that applies to a call; warns, once, if it cannot change for want of a clock."""
        if epoch is None:
            epoch = self._recorder.epoch
            self.expect_clock()
        if weight_kwargs and self._scheduler is not None and self._enabled:
            weight = self._scheduler.value(self._step() if self._by_step else epoch, **weight_kwargs)
            return weight if self.weighting is None else weight * self.weighting.factor(self.name)
        return self.weight(epoch)

    def _compute_zero(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None, step: int, epoch: float) -> Tensor:
        """Return a new zero, in the shape of the result where the function is called all the same."""
        raw: Tensor | None = None
        scalars: Scalars = []
        rows: Later = []
        if self.runs_at_zero:
            raw, components = self.call(args, kwargs, epoch, detached=True)
            zero = self.zero_like(raw, args, kwargs)
            if components is not None:
                scalars, rows = rows_of({self.name: components}, [self], [0.0], [step], epoch)
        else:
            zero = self.zero((*args, *(kwargs or {}).values()), None)
        if record_all([*rows, (self.series, step, epoch, 0.0, raw, zero)], self._recorder, scalars):
            self._keep_images(args, kwargs)
        return zero

    def _keep_images(self, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> None:
        """Keep the images that the function was called with, to be shown beside the map that it returned."""
        self.series.keep_images(images_among(by_input(self, args, kwargs or {}), [self]))

    def expect_clock(self) -> None:
        """Warn, once, if the loss is computed without an epoch and its weight cannot change for want of a clock."""
        if self._scheduler is None or self._by_step or self._recorder.ticked or self._warned_of_epoch:
            return
        self._warned_of_epoch = True
        warn(
            f"loss {self.name!r} is scheduled and is computed without an epoch, so its weight stays where it is; call "
            "manager.tick(epoch=epoch) at each step, or pass epoch="
        )

    def annotate(self, error: Exception, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> None:
        """Add a note to an error: which loss failed, and what it was given."""
        if not hasattr(error, "add_note"):  # Python 3.10
            return
        given = [_summary(arg) for arg in args] + [f"{name}={_summary(arg)}" for name, arg in (kwargs or {}).items()]
        error.add_note(f"in the function of loss {self.name!r}, called with ({', '.join(given)})")


def _as_data(weight: float, schedule: Schedule, enabled: bool) -> dict[str, Any]:
    definition = schedule.model_dump(mode="json") if schedule.is_scheduled else None
    return {"weight": weight, "schedule": definition, "enabled": enabled}


def _summary(value: object) -> str:
    if isinstance(value, Tensor) and not value.is_nested:
        return f"{type(value).__name__} of {tuple(value.shape)}, {value.dtype}, {value.device}"
    return type(value).__name__
