"""The registry: which losses there are, with which weights and schedules, and how they are found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias, TypeVar

import pluggy
import torch
from torch import nn

from nectargan_core import catalog
from nectargan_core import spec as specs
from nectargan_core.bound import BoundLoss
from nectargan_core.config import Config
from nectargan_core.errors import ConfigError, DuplicateLossError, NectarganError, UnknownLossError, did_you_mean
from nectargan_core.history import Series
from nectargan_core.loss import LMLoss
from nectargan_core.observers import Observers
from nectargan_core.recorder import Recorder
from nectargan_core.schedule import Schedule
from nectargan_core.scheduler import Scheduler
from nectargan_core.spec import Objective, Spec

Query: TypeAlias = "str | Iterable[str] | None"
"""A tag or loss name, or several of which any may match; None for all losses."""

ADJUSTMENTS = ("weights", "schedules", "options", "prefix")
"""What `init_from_spec` takes by keyword with the name of an objective."""

_Self = TypeVar("_Self", bound="LossRegistry")


class LossRegistry:
    """The losses of a manager: registered alone or from a spec, changed by hand, found by name or tag.

    Args:
        config: What specs are given.
        device: Where losses that are modules are moved to, None for nowhere.
        recorder: Where their records go.
        observers: Who is told of them.
    """

    def __init__(self, config: Config, device: torch.device | None, recorder: Recorder, observers: Observers) -> None:
        self.config = config
        self.device = device
        self.objective: str | None = None
        self._recorder = recorder
        self._observers = observers
        self._losses: dict[str, BoundLoss] = {}
        # Scalars that are no losses, by name, and what stands before their names; None where nothing is recorded.
        self._scalars: dict[str, Series] = {}
        self._prefix: str | None = ""
        self._selections: dict[str | tuple[str, ...] | None, tuple[BoundLoss, ...]] = {}

    @property
    def hooks(self) -> pluggy.PluginManager:
        """The pluggy manager of the observers."""
        return self._observers.hooks

    def register_loss_fn(
        self,
        loss_name: str,
        loss_fn: Callable[..., Any],
        loss_weight: float | None = None,
        schedule: Schedule | None = None,
        tags: Iterable[str] = (),
        *,
        inputs: tuple[str, ...] | Mapping[str, str] = ("y_fake", "y"),
    ) -> None:
        """Register one loss.

        Args:
            loss_name: Its name, unique in this manager; without `/`.
            loss_fn: An `nn.Module` or any callable that returns a tensor.
            loss_weight: What its result is multiplied by. None: 1.0.
            schedule: How the weight changes over the epochs. None: not at all.
            tags: Names to find it by, together with others.
            inputs: The inputs that `compute_losses` passes to it, in the order of its parameters, or a mapping
                from parameter to input.

        Raises:
            DuplicateLossError: If a loss of this name is registered.
            UnknownScheduleError: If no installed plugin has the schedule's name.
            ScheduleError: If the schedule cannot be evaluated.
            pydantic.ValidationError: If an argument has the wrong type, or weight and schedule contradict each
                other.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> list(manager.get_registered_losses())
            ['G_L1']
        """
        fields: dict[str, Any] = {"name": loss_name, "function": loss_fn, "inputs": inputs}
        fields["tags"] = [tags] if isinstance(tags, str) else list(tags)
        if loss_weight is not None:
            fields["loss_weight"] = loss_weight
        if schedule is not None:
            fields["schedule"] = schedule
        self._register({loss_name: LMLoss(**fields)})

    def init_from_spec(self: _Self, spec: str | Spec | None, *args: Any, **kwargs: Any) -> _Self:
        """Replace all losses by those of an objective.

        What is pending goes to the log first. A failure leaves the manager as it was.

        Args:
            spec: The name of an objective; or a spec function, which is called with what follows; or None for
                no losses.
            *args: Positional arguments for a spec function.
            **kwargs: Keyword arguments for a spec function. With a name: `weights` and `schedules` by loss
                name, which beat those of config and spec; `options`, keyword arguments for the specs by the name
                of the term; `prefix`, put before every loss name.

        Returns:
            The manager.

        Raises:
            SpecSyntaxError: If the name cannot be read.
            PluginError: If a plugin is missing, ambiguous, blocked, broken or breaks its contract.
            UnknownVariantError: If a spec has no such variant.
            DuplicateLossError: If two terms define a loss of one name.
            UnknownLossError: If a weight or schedule is for no loss of the objective.
            ScheduleError: If a schedule cannot be evaluated, or contradicts a weight.
            SpecError: If a spec raises, or does not take the options.
        """
        self._add_spec(spec, args, kwargs, replace=True)
        return self

    def register_spec(self: _Self, spec: str | Spec, *args: Any, **kwargs: Any) -> _Self:
        """Add the losses of an objective to those that are registered.

        Takes, returns and raises what `init_from_spec` does.

        Raises:
            DuplicateLossError: Also if a loss of one of the names is registered.
        """
        self._add_spec(spec, args, kwargs, replace=False)
        return self

    def _add_spec(self, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, replace: bool) -> None:
        built, adjustments = self._build(spec, args, kwargs)
        losses = specs.adjust(built, **adjustments)
        specs.warn_of_zeros(losses)
        self._register(losses, built.plugins, spec=spec, replace=replace)
        name = spec if isinstance(spec, str) else getattr(spec, "__qualname__", None)
        self.objective = name if replace or not self.objective or not name else f"{self.objective}+{name}"
        if self._recorder.log is not None:
            self._recorder.log.header["objective"] = self.objective

    def _build(self, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Objective, dict[str, Any]]:
        if spec is None:
            return Objective(), {}
        if not isinstance(spec, str):
            if not callable(spec):
                raise TypeError(f"a spec is the name of an objective or a function, got {type(spec).__name__}")
            return specs.build_called(spec, args, kwargs, self.config), {}
        unknown = [name for name in kwargs if name not in ADJUSTMENTS]
        if args or unknown:
            raise TypeError(
                f"with the name of an objective, init_from_spec takes weights=, schedules=, options= and prefix=, got "
                f"{', '.join([f'{len(args)} positional'] * bool(args) + unknown)}; keyword arguments of a spec go into "
                "options={'name': {...}}"
            )
        return specs.build_named(spec, self.config, kwargs.pop("options", None)), kwargs

    def _register(
        self,
        losses: Mapping[str, LMLoss],
        plugins: Iterable[catalog.Plugin] = (),
        spec: Any = None,
        *,
        replace: bool = False,
    ) -> None:
        """Register all of `losses` or, if anything is wrong with one, none."""
        for name in () if replace else losses:
            if name in self._losses:
                raise DuplicateLossError(
                    f"loss {name!r} is registered already; choose another name, or use set_weight and set_schedule to "
                    "change the one there is",
                    name=name,
                )
            if name in self._scalars:
                raise DuplicateLossError(f"{name!r} is recorded as a scalar; choose another name", name=name)
        if self._prefix != "":
            raise NectarganError("losses are registered outside of split() and paused(), for all that follows")
        added: list[object] = []
        try:
            schedulers = {name: scheduler_of(loss) for name, loss in losses.items()}
            used = [plugin for scheduler in schedulers.values() if scheduler for plugin in scheduler.plugins]
            for plugin in [*plugins, *used]:
                added += self._observers.add_module_of(plugin)
            for loss in losses.values():
                self._move(loss)
        except BaseException:
            self._observers.remove(added)
            raise
        if spec is not None:
            frozen = MappingProxyType({name: loss.frozen() for name, loss in losses.items()})
            self._observers.tell("nectargan_losses_built", spec=spec, losses=frozen, config=self.config)
        if replace:
            self._recorder.flush()
            self._recorder.raise_fault()
            self._losses.clear()
        made = {name: BoundLoss(loss, schedulers[name], self._recorder, self.device) for name, loss in losses.items()}
        self._losses.update(made)
        self._selections.clear()
        for bound in made.values():
            self._observers.tell("nectargan_loss_registered", loss=bound.snapshot(False))

    def _move(self, loss: LMLoss) -> None:
        if self.device is None or not isinstance(loss.function, nn.Module):
            return
        try:
            loss.function.to(self.device)
        except Exception as error:
            raise ConfigError(
                f"loss {loss.name!r} cannot be moved to the device {str(self.device)!r} of this manager: {error}; set "
                "common.device in the config, or device=, to one that is there",
                key="common.device",
            ) from error

    def modules(self) -> nn.ModuleDict:
        """Return the losses that are modules, to optimise or to save with the networks.

        Returns:
            Modules by loss name, in which each `.` (which torch does not allow there) is a `_`.

        Raises:
            DuplicateLossError: If two names differ by that only.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("learned", torch.nn.Linear(3, 1))
            >>> sum(p.numel() for p in manager.modules().parameters())
            4
        """
        modules: dict[str, nn.Module] = {}
        for name, bound in self._losses.items():
            if isinstance(bound.function, nn.Module):
                key = name.replace(".", "_")
                if key in modules:
                    raise DuplicateLossError(f"two losses are {key!r} without their dots; rename {name!r}", name=name)
                modules[key] = bound.function
        return nn.ModuleDict(modules)

    def set_weight(self, name: str, weight: float) -> None:
        """Set the weight of a loss from now on; a schedule that it has ends.

        Raises:
            UnknownLossError: If no loss of this name is registered.
            pydantic.ValidationError: If the weight is not a finite number.

        Example:
            >>> from nectargan_core import LossManager
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> manager.set_weight("G_L1", 10.0)
            >>> manager.get_loss_weights()
            {'G_L1': 10.0}
        """
        self._change(name, weight, Schedule())

    def set_schedule(self, name: str, schedule: Schedule) -> None:
        """Give a loss another schedule from now on; an end that it leaves out is the weight that the loss has now.

        Raises:
            UnknownLossError: If no loss of this name is registered.
            UnknownScheduleError: If no installed plugin has the schedule's name.
            ScheduleError: If the schedule cannot be evaluated.
        """
        self._change(name, None, schedule)

    def _change(self, name: str, weight: float | None, schedule: Schedule) -> None:
        outside_of_graphs("a weight or schedule is set")
        bound = self._bound(name)
        specs.check_schedule(name, schedule)
        current = bound.current_weight(self._recorder.epoch) if weight is None else weight
        if schedule.is_scheduled:
            loss = specs.replaced(bound.loss, name, None, schedule.with_weight(current))
        else:
            loss = specs.replaced(bound.loss, name, current, schedule)
        bound.redefine(loss, self._scheduler(loss))

    def _scheduler(self, loss: LMLoss) -> Scheduler | None:
        scheduler = scheduler_of(loss)
        for plugin in scheduler.plugins if scheduler is not None else ():
            self._observers.add_module_of(plugin)
        return scheduler

    def _restored(self, name: str, saved: Mapping[str, Any]) -> tuple[LMLoss, Scheduler | None]:
        """Return a loss with the weight or schedule that `BoundLoss.state` returned."""
        loss = self._losses[name].loss
        if saved.get("schedule") is not None:
            # Its ends are filled in, with the weight that the loss had then and not with its own now.
            loss = specs.replaced(loss, name, None, Schedule.model_validate(saved["schedule"]))
        elif "weight" in saved:
            loss = specs.replaced(loss, name, saved["weight"], Schedule())
        return loss, self._scheduler(loss)

    def disable(self, query: Query) -> None:
        """Let the losses that a query finds count 0, as with a weight of 0; they stay in the results.

        Raises:
            UnknownLossError: If the query finds no loss.
        """
        self._enable(query, False)

    def enable(self, query: Query) -> None:
        """Undo `disable`.

        Raises:
            UnknownLossError: If the query finds no loss.
        """
        self._enable(query, True)

    def _enable(self, query: Query, enabled: bool) -> None:
        outside_of_graphs("a loss is enabled or disabled")
        selected = self._select(query)
        if not selected:
            raise self._nothing_found(query)
        for bound in selected:
            bound.enable(enabled)

    def get_registered_losses(self, query: Query = None, strip: bool = True) -> dict[str, LMLoss]:
        """Return snapshots of the registered losses, by name.

        Args:
            query: Tag or loss name, or several; None for all losses.
            strip: Whether to leave the histories out of the snapshots.

        Returns:
            Copies that refuse to be changed, in the order of registration; empty if the query finds none.
        """
        if not strip:
            self._recorder.settle()
        return {bound.name: bound.snapshot(not strip) for bound in self._select(query)}

    def _select(self, query: Query) -> tuple[BoundLoss, ...]:
        key = query if query is None or isinstance(query, str) else tuple(query)
        try:
            return self._selections[key]
        except KeyError:
            wanted = {key} if isinstance(key, str) else key
        if wanted is None:
            found = tuple(self._losses.values())
        else:
            for one in wanted:
                if not isinstance(one, str):
                    raise TypeError(f"a query is a tag or loss name, or several; got {type(one).__name__} in it")
            found = tuple(
                bound
                for bound in self._losses.values()
                if bound.name in wanted or any(tag in wanted for tag in bound.loss.tags)
            )
        # Not from inside a graph being compiled, whose guards would see the change and compile another.
        if not torch.compiler.is_compiling():
            self._selections[key] = found
        return found

    def _bound(self, name: str) -> BoundLoss:
        try:
            return self._losses[name]
        except KeyError:
            raise self._unknown(name) from None

    def _unknown(self, name: str) -> UnknownLossError:
        known = tuple(self._losses)
        listed = f"registered are {', '.join(known)}" if known else "none is registered; call init_from_spec first"
        return UnknownLossError(
            f"no loss is named {name!r}; {listed}.{did_you_mean(str(name), known)}", name=name, known=known
        )

    def _nothing_found(self, query: Query) -> UnknownLossError:
        asked = [] if query is None else [query] if isinstance(query, str) else list(query)
        tags = sorted({tag for bound in self._losses.values() for tag in bound.loss.tags})
        known = (*self._losses, *tags)
        hints = "".join(did_you_mean(one, known) for one in asked)
        if not self._losses:
            return UnknownLossError("no loss is registered; call init_from_spec or register_loss_fn first")
        return UnknownLossError(
            f"no loss has the name or tag {' or '.join(map(repr, asked)) or '(none given)'}; there are the losses "
            f"{', '.join(self._losses)} and the tags {', '.join(tags) or '(none)'}.{hints}",
            name=", ".join(asked),
            known=known,
        )


def outside_of_graphs(what: str) -> None:
    """Refuse to change inside `torch.compile` what its graphs look up: it would take effect only after them."""
    if torch.compiler.is_compiling():
        raise NectarganError(f"{what} outside of torch.compile; do it before the compiled step")


def scheduler_of(loss: LMLoss) -> Scheduler | None:
    """Return what evaluates the schedule of a loss, None if it has none."""
    return Scheduler(loss.schedule, loss_name=loss.name) if loss.schedule.is_scheduled else None
