"""The manager: holds losses, computes them, keeps their history and notifies observers, each by a part of its own."""

from __future__ import annotations

import html
import inspect
import math
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Literal, NoReturn, cast, get_args

import pluggy
import torch
from torch import Tensor, nn

from nectargan_core import _arguments as arguments
from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed, shown, warn
from nectargan_core._observers import Observers
from nectargan_core._printable import printable
from nectargan_core.config import Config, ConfigLike, read_config
from nectargan_core.errors import (
    ConfigError,
    DuplicateLossError,
    LossLogError,
    NectarganError,
    ObjectiveError,
    ScheduleError,
    WeightingError,
)
from nectargan_core.history import (
    OnNonFinite,
    Recorder,
    Series,
    Sums,
    at_once,
    is_real,
    prepared,
    raise_nonfinite,
    rank_and_world_size,
    sums_over_ranks,
)
from nectargan_core.log import LogFile, LossLog, Records, describe_run
from nectargan_core.losses import (
    BoundLoss,
    ComputedLosses,
    LMLoss,
    Query,
    Registry,
    check_schedule,
    checked,
    compute_in_graph,
    module_of,
    record_scalar,
    register_manager,
)
from nectargan_core.objectives import (
    FILE_KEYWORDS,
    KEYWORDS,
    OF_LOSSES,
    Contents,
    Difference,
    Objective,
    Spec,
    build,
    check_ranks,
    located,
)
from nectargan_core.schedules import Functions, Schedule, Scheduler, functions_in, with_functions
from nectargan_core.weightings import Balance, LossGradients, Weighting, bind, is_state, load_states, read_weighting

# What needs no further check as an epoch.
_PLAIN = {int, float}
# Beyond the last digit of any float, before or after the point.
_MOST_DIGITS = 350
_is_compiling = torch.compiler.is_dynamo_compiling
_monotonic = time.monotonic
# What is recorded of the gradient of a loss.
_GRADIENTS = {"grad_norm": "norms", "grad_share": "shares", "grad_cosine": "cosines"}
_LOSS_KWARGS = {"weight_kwargs", "function_kwargs"}
# The differences between objectives that loading the weights of a state removes.
_WEIGHTS = {"weight", "schedule", "enabled", "length"}
_STATE = {"step", "epoch", "ticked", "counts", "losses"}


class LossManager:
    """Holds named losses, computes them with their weights, and keeps their history and log.

    With an `experiment_dir` every value is logged to `loss_log.jsonl` there; without one only the last value of
    each loss is kept, unless `enable_logging=True` asks for the whole history in memory.

    Args:
        config: A `Config`, a mapping in the shape of NectarGAN's config.json, an object that has its sections as
            attributes, such as NectarGAN's own `Config`, or None for an empty one.
        experiment_dir: Where the log goes; made if it is not there.
        enable_logging: Whether to keep every value. None: if there is an `experiment_dir`.
        history_buffer_size: Records of one loss, at least 1, that are kept in memory before all are written.
        device: Where losses that are modules are moved to. None: the device of the config; with neither they
            stay where they are.
        resume: Whether to continue the log that is there, steps counting on after its last. Otherwise one that
            is there is moved aside to `loss_log.<n>.jsonl`.
        metadata: Further data for the header of the log, such as a seed; what JSON can hold.
        nonfinite: What happens when a weighted loss is nan or infinite: one warning a loss (`"warn"`), a
            `NonFiniteLossError` out of the call that computed it, or on an accelerator from the next tick at the
            latest (`"raise"`), or nothing (`"ignore"`).
        flush_every: Seconds after which the next loss call writes what is new to the log.
        fsync: Whether each write waits until the disk has it, so that it survives a crash of the machine.
        observers: What is notified of events: names of plugins, such as `"tensorboard"`, which are made with their
            defaults, or objects with functions that are marked with `hookimpl`. Where one observes the records of a
            manager without `experiment_dir` and `enable_logging`, these are kept until it has been given them.
        total_epochs: How many epochs the run has, above 0: what schedules with `unit="fraction"` are relative to.
        total_steps: How many steps it has, at least 1, in place of `total_epochs`: such schedules then follow the step.

    Raises:
        ConfigError: If the configuration has a wrong type somewhere, or names a device that is none.
        LossLogError: If the directory cannot be made, or another process logs there.
        PluginError: If an observer is not installed, cannot be made, or marks an event that does not exist, or none.
        SpecSyntaxError: If the name of an observer is none.
        TypeError: If another argument has the wrong type.
        ValueError: If a number is out of its range, `nonfinite` is no such word, JSON cannot hold `metadata`, or both
            `total_epochs` and `total_steps` are given.

    Example:
        >>> manager = LossManager()
        >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
        >>> float(manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2)))
        100.0
        >>> manager.get_loss_values()
        {'G_L1': 100.0}
    """

    def __init__(
        self,
        config: ConfigLike | None = None,
        experiment_dir: str | os.PathLike[str] | None = None,
        enable_logging: bool | None = None,
        history_buffer_size: int = 50_000,
        *,
        device: str | torch.device | None = None,
        resume: bool = False,
        metadata: Mapping[str, Any] | None = None,
        nonfinite: OnNonFinite = "warn",
        flush_every: float = 30.0,
        fsync: bool = False,
        observers: Iterable[object] = (),
        total_epochs: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        nonfinite = cast("OnNonFinite", arguments.one_of("nonfinite", nonfinite, get_args(OnNonFinite)))
        history_buffer_size = arguments.whole("history_buffer_size", history_buffer_size, 1)
        seconds = arguments.as_float(flush_every)
        if seconds is None or not seconds >= 0:
            raise ValueError(f"flush_every must be a number of seconds of at least 0, got {shown(flush_every)}")
        resume, fsync = arguments.flag("resume", resume), arguments.flag("fsync", fsync)
        self._totals = arguments.totals(total_epochs, total_steps)
        described = {} if metadata is None else arguments.plain_data("metadata", metadata, "{'seed': 0}")
        given = read_config(config)
        self.device = _device(device, given)
        self.config = given if self.device is None else given.on_device(self.device)
        self.experiment_dir = None
        if experiment_dir is not None:
            try:
                self.experiment_dir = arguments.path("experiment_dir", experiment_dir)
            except ValueError as error:
                raise LossLogError(f"cannot log to it: {error}") from None
            if experiment_dir == "":
                raise LossLogError("experiment_dir is empty; give a directory, or None to log nothing")
        self._contents = Contents()
        self._registry = Registry()
        # By this, compiled graphs find what they record scalars with.
        self._key = register_manager(self)
        self._observers = Observers(self)
        self._observers.add_all(observers)
        keep = self.experiment_dir is not None
        # Whether records are kept for observers, where nobody said whether they are.
        self._keeps_for_observers = enable_logging is None and not keep
        if enable_logging is not None:
            keep = arguments.flag("enable_logging", enable_logging)
        log = None
        if keep and self.experiment_dir is not None:
            rank, world_size = rank_and_world_size()
            header = describe_run(self.experiment_dir, self.config, self.device, world_size, described, *self._totals)
            try:
                log = LogFile(self.experiment_dir, rank, resume, header, fsync)
            except (OSError, RuntimeError) as error:  # of a path with links that go round in circles, for example
                if isinstance(error, NectarganError):
                    raise
                raise LossLogError(f"cannot log to {self.experiment_dir}: {error}") from error
        notify = self._observers.weak_notify()
        self._recorder = Recorder(log, keep, history_buffer_size, seconds, nonfinite, notify)
        self._log_started: float | None = None if log is None else header["started"]
        if log is not None and resume:
            former = LossLog(log.path) if log.path.exists() else None
            self._recorder.resume(former)
            if former is not None:
                self._log_started = former.header.get("started")
        self._watch_observers()
        self._pid = os.getpid()
        # The finalizer must not hold the manager, which could then not be collected before Python exits.
        self._finalizer = weakref.finalize(self, _end, self._recorder, self._registry)

    @classmethod
    def from_spec(
        cls,
        spec: str | Spec | os.PathLike[str] | Objective | None,
        config: ConfigLike | None = None,
        experiment_dir: str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> LossManager:
        """Make a manager and give it the losses of an objective.

        Args:
            spec: The formula of an objective, such as `"pix2pix + 10*vgg"`; a file of one, as a `pathlib.Path`, or an
                `Objective`; or a spec function, which is called with the config.
            config: As for `LossManager`.
            experiment_dir: As for `LossManager`.
            **keywords: `weights`, `schedules`, `weightings`, `options`, `prefix`, `rename_inputs` and `strict`, as for
                `init_from_spec`; all others as for `LossManager`. Without `total_epochs` and `total_steps` the length
                of the run is that of the file.

        Raises:
            NectarganError: As `LossManager` and `init_from_spec` raise.
            TypeError: Likewise.
            ValueError: Likewise.
            pydantic.ValidationError: Likewise.
        """
        own = dict.fromkeys((*KEYWORDS, *FILE_KEYWORDS))
        adjustments = {key: keywords.pop(key) for key in own if key in keywords}
        known = [*own, *list(inspect.signature(cls).parameters)[2:]]
        for name in keywords:
            if name not in known:
                raise TypeError(f"from_spec takes no {name}=, only {', '.join(known)}.{did_you_mean(name, known)}")
        if isinstance(spec, os.PathLike):
            spec = Objective.load(spec)
        if isinstance(spec, Objective):
            spec, keywords = _of_one_length(spec, keywords)
        manager = cls(config, experiment_dir, **keywords)
        args = (manager.config,) if callable(spec) else ()
        try:
            return manager.init_from_spec(spec, *args, **adjustments)
        except BaseException:
            manager._recorder.close()
            raise

    @property
    def objective(self) -> str | None:
        """The formulas, or names of spec functions, whose losses are registered, joined by `" + "`; None of none."""
        return self._contents.name

    # Registering

    def register_loss_fn(
        self,
        loss_name: str,
        loss_fn: Callable[..., Any],
        loss_weight: float | None = None,
        schedule: Schedule | None = None,
        tags: Iterable[str] = (),
        *,
        inputs: tuple[str, ...] | Mapping[str, str] = ("y_fake", "y"),
        skip_when_zero: bool = True,
    ) -> None:
        """Register one loss.

        Args:
            loss_name: Its name, unique in this manager; without `/`.
            loss_fn: An `nn.Module` or any callable that returns a tensor; or a dict of tensors by name, which are
                summed, and recorded beside the loss as its components.
            loss_weight: What its result is multiplied by. None: 1.0.
            schedule: How the weight changes over the epochs. None: not at all.
            tags: Names to find it by, together with others.
            inputs: The inputs that `compute_losses` passes to it, in the order of its parameters, or a mapping
                from parameter to input.
            skip_when_zero: Whether the function is left uncalled while the weight is 0.

        Raises:
            DuplicateLossError: If a loss of this name is registered, a scalar or component recorded, or a weighting has
                it as its name.
            UnknownScheduleError: If no installed plugin has the schedule's name.
            ScheduleError: If the schedule cannot be evaluated, contradicts the weight, or is relative to a run whose
                length the manager was not told.
            ConfigError: If the loss is a module that cannot be moved to the device of this manager.
            pydantic.ValidationError: If an argument has the wrong type.
            NectarganError: Inside of `split` and `paused`.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> list(manager.get_registered_losses())
            ['G_L1']
        """
        fields: dict[str, Any] = {"name": loss_name, "function": loss_fn, "inputs": inputs}
        fields["tags"] = [tags] if isinstance(tags, str) else tags
        fields["skip_when_zero"] = skip_when_zero
        if loss_weight is not None:
            fields["loss_weight"] = loss_weight
        if schedule is not None:
            fields["schedule"] = schedule
        loss = LMLoss(**fields)
        self._register({loss.name: loss})
        self._describe()

    def init_from_spec(
        self, spec: str | Spec | os.PathLike[str] | Objective | None, *args: Any, **kwargs: Any
    ) -> LossManager:
        """Replace all losses by those of an objective.

        What is pending goes to the log first. A failure leaves the manager as it was.

        Args:
            spec: The formula of an objective: terms joined by `+`, each of them the name of a spec that may have a
                factor, as in `"pix2pix + 10*vgg"`; or a file, as a `pathlib.Path`, or an `Objective`; or a spec
                function, which is called with what follows; or None for no losses.
            *args: Positional arguments for a spec function.
            **kwargs: Keyword arguments for a spec function. With a formula: `weights` and `schedules` by loss
                name, which go before factors, config and spec; `weightings` by tag or loss name, which replace those
                that specs bring for the same losses, None for none; `options`, keyword arguments for the specs by the
                name of the term; `prefix`, put before every loss name; `rename_inputs`, which maps an input that losses
                read to the input that they are given instead, for all losses (`{"y": "x"}`) or for one
                (`{"G_L1": {"y": "y_sharp"}}`, by its name with the prefix, which beats what is said for all). With a
                file: `weights`, `schedules`, `weightings` and `options`, which go before what it says; and `strict`,
                whether it is an error, and not only a warning, that what is built differs from a record.

        Returns:
            The manager.

        Raises:
            SpecSyntaxError: If the formula cannot be read.
            PluginError: If a plugin is missing, ambiguous, blocked, broken or breaks its contract.
            UnknownVariantError: If a spec has no such variant.
            DuplicateLossError: If two terms define a loss of one name.
            ObjectiveError: If a file cannot be read, or is no objective; with `strict`, if what is built differs from
                the record that it is.
            UnknownLossError: If a weight, schedule, weighting or renaming is for no loss of the objective.
            ScheduleError: If a schedule cannot be evaluated, contradicts a weight, or is relative to a run whose length
                the manager was not told.
            WeightingError: If a weighting cannot be made as asked, or two balance one loss.
            SpecError: If a spec raises, or does not take the options; if a weight times its factor is too large or too
                small for a float; or if an input is renamed that is not read.
            ConfigError: If a loss is a module that cannot be moved to the device of this manager.
            TypeError: If an argument has the wrong type.
            ValueError: If the prefix, or the new name of an input, is text that UTF-8 cannot write.
            pydantic.ValidationError: If a weight has the wrong type, or the prefix makes a name that no loss can have.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
            NectarganError: Inside of `split` and `paused`.
        """
        self._add_spec(spec, args, kwargs, replace=True)
        return self

    def register_spec(self, spec: str | Spec | os.PathLike[str] | Objective, *args: Any, **kwargs: Any) -> LossManager:
        """Add the losses of an objective to those that are registered.

        Takes, returns and raises what `init_from_spec` does.

        Raises:
            DuplicateLossError: Also if a loss of one of the names is registered.
        """
        self._add_spec(spec, args, kwargs, replace=False)
        return self

    def unregister(self, query: Query) -> None:
        """Remove the losses that a query finds; what was recorded of them stays in history and log.

        What is pending goes to the log first. The names are free again: `series` has the records of whatever had a
        name, one after the other, while values and means are those of the loss that has it now. A weighting goes on
        with the losses that are left to it. A formula is no part of `objective` any more once all of its losses are
        removed.

        Args:
            query: Tag or loss name, or several; None for all losses.

        Raises:
            UnknownLossError: If the query finds no loss.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite; nothing is removed then.
            NectarganError: Inside of `split`, `paused` and `torch.compile`.
            TypeError: If the query is none.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            >>> manager.unregister("G_L1")
            >>> list(manager.get_registered_losses()), manager.series("G_L1").loss.tolist()
            ([], [1.0])
        """
        _refuse_in_graphs("losses are unregistered")
        registry, recorder = self._registry, self._recorder
        removed = {loss.name for loss in registry.find(query)}
        if recorder.in_scope:
            raise NectarganError("losses are unregistered outside of split() and paused(), for all that follows")
        recorder.flush()
        recorder.raise_pending_error()
        for weighting in registry.weightings:
            weighting.without(removed)
        registry.remove(removed)
        self._contents.remove(removed)
        self._describe()

    def _add_spec(self, spec: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, replace: bool) -> None:
        totals = self._totals
        if isinstance(spec, os.PathLike):
            spec = Objective.load(spec)
        try:
            if isinstance(spec, Objective):
                self._totals = _agreed_totals(spec, totals)
            built = build(spec, args, kwargs, self.config, self._totals)
            with located(spec.source if isinstance(spec, Objective) else None):
                self._register(built.losses, built.plugins, spec=spec, replace=replace, balances=built.balances)
        except BaseException:
            self._totals = totals
            raise
        self._contents.add(built, replace=replace)
        for name in built.disabled:
            disabled = self._registry[name]
            disabled.enable(False)
            disabled.registered = (disabled.loss, False)
        self._describe()

    def _register(
        self,
        losses: Mapping[str, LMLoss],
        plugins: Iterable[catalog.Plugin] = (),
        spec: Any = None,
        *,
        replace: bool = False,
        balances: Iterable[Balance] = (),
    ) -> None:
        """Register all of `losses` or, if anything is wrong with one, none; and what balances them."""
        registry, recorder, observers = self._registry, self._recorder, self._observers
        if not replace:
            registry.refuse_duplicates(losses, recorder.scalars, recorder.beside)
        if recorder.in_scope:
            raise NectarganError("losses are registered outside of split() and paused(), for all that follows")
        added: list[object] = []
        try:
            schedulers = {name: self._scheduler_of(loss) for name, loss in losses.items()}
            taken = self._taken([*losses] if replace else [*registry.losses, *losses])
            weightings = bind(balances, taken, [] if replace else registry.weightings, self.device)
            used = [plugin for weighting in weightings for plugin in weighting.plugins]
            added = self._observe(schedulers.values(), [*plugins, *used])
            for loss in losses.values():
                self._move(loss)
        except BaseException:
            observers.remove(added)
            raise
        if spec is not None:
            built = MappingProxyType(dict(losses))
            observers.notify("nectargan_losses_built", spec=spec, losses=built, config=self.config)
        if replace:
            recorder.flush()
            recorder.raise_pending_error()
        self._watch_observers()
        made = [
            BoundLoss(
                *(loss, schedulers[name], recorder, self.device),
                *(registry.weights, registry.changed, registry.__contains__),
            )
            for name, loss in losses.items()
        ]
        self._contents.describe(losses.values(), replace=replace)
        registry.add(made, replace=replace)
        for weighting in weightings:
            registry.balance(weighting, [registry[name] for name in weighting.names])
        if observers.is_observed("nectargan_loss_registered"):
            for bound in made:
                observers.notify("nectargan_loss_registered", loss=bound.snapshot(False))

    def _describe(self) -> None:
        """Tell the log what the objective is now; that is worked out when the log is written to."""
        if self._recorder.log is not None:
            self._recorder.log.describe(partial(_header_fields, self.objective, self._totals, self._recorded()))

    def _recorded(self, *, registered: bool = False) -> Callable[[], Objective]:
        """Return what makes the record of the losses as they are now, or were `registered`; it holds no manager."""
        registry = self._registry
        losses = [loss.registered if registered else (loss.loss, loss.enabled) for loss in registry]
        balances = [Balance(each.definition, each.names, each.asked) for each in registry.weightings]
        return self._contents.recorder(losses, balances, self._totals)

    def manifest(self) -> Objective:
        """Return the record of the objective: what its losses are now, and which releases they come from.

        Each loss has the import path of its function and what that was made with, as far as it is known, its weight,
        schedule, tags, inputs and weighting; there are the versions of core, torch and each distribution that a plugin
        comes from, the SHA-256 of published weight files, and a fingerprint of what affects numbers. Weights and
        schedules are those that hold now, factors of weightings not included. `from_spec` builds the same losses from
        it, `save` writes it to a file, and the header of the log and `state_dict()` have it.

        Example:
            >>> manager = LossManager(total_epochs=20)
            >>> manager.register_loss_fn("G_HUBER", torch.nn.HuberLoss(delta=0.5), loss_weight=5.0, tags=["G"])
            >>> manager.manifest().losses["G_HUBER"].arguments
            {'reduction': 'mean', 'delta': 0.5}
            >>> LossManager.from_spec(manager.manifest(), strict=True).manifest() == manager.manifest()
            True
        """
        return self._recorded()()

    def _watch_observers(self) -> None:
        if not self._observers.is_observed("nectargan_history_flushed"):
            return
        if self._keeps_for_observers and not self._recorder.keep:
            self._recorder.keep_until_told()
        self._recorder.notify_without_log()

    def _move(self, loss: LMLoss) -> None:
        module = module_of(loss.function)
        if self.device is None or module is None:
            return
        try:
            module.to(self.device)
        except Exception as error:
            raise ConfigError(
                f"loss {loss.name!r} cannot be moved to the device {str(self.device)!r} of this manager: {error}; set "
                "common.device in the config, or device=, to one that is there",
                key="common.device",
            ) from error

    def _observe(self, schedulers: Iterable[Scheduler | None], plugins: Iterable[catalog.Plugin] = ()) -> list[object]:
        """Register plugins, and those that schedules come from, as observers: all of them or, on an error, none.

        Returns:
            Those that are new, to hand to `Observers.remove` if need be.
        """
        used = [plugin for scheduler in schedulers if scheduler is not None for plugin in scheduler.plugins]
        added: list[object] = []
        try:
            for plugin in [*plugins, *used]:
                added += self._observers.add_module_of(plugin)
        except BaseException:
            self._observers.remove(added)
            raise
        return added

    def modules(self) -> nn.ModuleDict:
        """Return what losses and weightings learn, to optimise or to save with the networks.

        These are the losses that are modules, or methods or partials of one, and the modules of weightings.

        Returns:
            Modules by the name of the loss, in the order of registration, then by the name of the weighting. Where
            torch does not allow the name, `state_dict` has it with a `_` for each `.`, or for the name of an attribute
            such as `train` with a `_` after it, or with more of them if another one has that name;
            `modules()["train"]` finds the module all the same.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("learned", torch.nn.Linear(3, 1))
            >>> sum(p.numel() for p in manager.modules().parameters())
            4
        """
        return self._registry.modules()

    @property
    def hooks(self) -> pluggy.PluginManager:
        """The pluggy manager of the observers."""
        return self._observers.hooks

    def add_observer(self, observer: object) -> None:
        """Have something notified of the events from now on; see `observers` of `LossManager`.

        Args:
            observer: The name of a plugin, or an object with functions that are marked with `hookimpl`. It is added
                once.

        Raises:
            PluginError: If it is not installed, cannot be made, or marks an event that does not exist, or none.
            SpecSyntaxError: If the name is none.

        Example:
            >>> from nectargan_core import hookimpl
            >>> class Closing:
            ...     @hookimpl
            ...     def nectargan_manager_closed(self):
            ...         print("closed")
            >>> manager = LossManager()
            >>> manager.add_observer(Closing())
            >>> manager.close()
            closed
        """
        self._observers.add_given(observer)
        self._watch_observers()

    # Changing weights

    def set_weight(self, query: Query, weight: float) -> None:
        """Set the weight of the losses that a query finds from now on; a schedule that one has ends.

        Raises:
            UnknownLossError: If the query finds no loss.
            pydantic.ValidationError: If the weight is not a finite number.
            TypeError: If the query is none.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> manager.set_weight("G_L1", 10.0)
            >>> manager.get_loss_weights()
            {'G_L1': 10.0}
        """
        _refuse_in_graphs("a weight or schedule is set")
        for loss in self._registry.find(query):
            loss.set_weight(weight)

    def set_schedule(self, query: Query, schedule: Schedule) -> None:
        """Give the losses that a query finds another schedule from now on.

        An end that it leaves out is the weight that the loss has now.

        Raises:
            UnknownLossError: If the query finds no loss.
            UnknownScheduleError: If no installed plugin has the schedule's name.
            ScheduleError: If the schedule cannot be evaluated, or is relative to a run whose length the manager was
                not told.
            TypeError: If the query is none, or the schedule.
        """
        _refuse_in_graphs("a weight or schedule is set")
        found = self._registry.find(query)
        # All are made before one is changed, so that an error changes none.
        made = [self._rescheduled(bound, schedule) for bound in found]
        self._observe(scheduler for _, scheduler in made)
        for bound, (loss, scheduler) in zip(found, made, strict=True):
            bound.redefine(loss, scheduler)

    def _rescheduled(self, bound: BoundLoss, schedule: Schedule) -> tuple[LMLoss, Scheduler | None]:
        check_schedule(bound.name, schedule)
        # First without a schedule, at the weight of now, which the ends that the new one leaves out become.
        weight = bound.current_weight(self._recorder.epoch)
        unscheduled = bound.loss.model_copy(update={"loss_weight": weight, "schedule": Schedule()})
        loss = unscheduled.model_copy(update={"schedule": schedule})
        return loss, self._scheduler_of(loss)

    def _scheduler_of(self, loss: LMLoss) -> Scheduler | None:
        """Return what evaluates the schedule of a loss, None if it has none."""
        if not loss.schedule.is_scheduled:
            return None
        epochs, steps = self._totals
        scheduler = Scheduler(loss.schedule, loss_name=loss.name, total_epochs=epochs, total_steps=steps)
        if scheduler.unit == "fraction":
            raise ScheduleError(
                f"the schedule of loss {loss.name!r} has unit='fraction', and the length of the run is not known; give "
                "LossManager(total_epochs=200), or total_steps="
            )
        return scheduler

    def disable(self, query: Query) -> None:
        """Let the losses that a query finds count 0, as with a weight of 0; they stay in the results.

        Raises:
            UnknownLossError: If the query finds no loss.
            TypeError: If the query is none.
        """
        self._enable(query, False)

    def enable(self, query: Query) -> None:
        """Undo `disable`.

        Raises:
            UnknownLossError: If the query finds no loss.
            TypeError: If the query is none.
        """
        self._enable(query, True)

    def _enable(self, query: Query, enabled: bool) -> None:
        _refuse_in_graphs("a loss is enabled or disabled")
        for loss in self._registry.find(query):
            loss.enable(enabled)

    def set_weighting(
        self,
        weighting: Weighting | str | None,
        query: Query = None,
        wrt: str | None = None,
        *,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        """Let a weighting balance the losses that a query finds, from now on.

        Whenever all of them that have a weight are computed together, with gradients enabled, outside of `split` and
        `paused`, and at most once a tick, each gets a factor, which multiplies what its weight or schedule says. Until
        the next time it keeps that factor, also in `compute_loss_xy`. A loss that is registered later is not balanced.

        Args:
            weighting: The weighting, or the name of one; it takes the place of one that balances the same losses. None
                ends each weighting that balances one of the losses.
            query: Tag or loss name, or several; None for all losses.
            wrt: The name of the input of `compute_losses` that gradients are taken with respect to, such as `"y_fake"`
                or `"last_layer"`: a tensor, parameters or a module. None: the one of the weighting.
            scaler: The scaler of the run, where losses are scaled for half precision.

        Raises:
            UnknownLossError: If the query finds no loss.
            PluginError: If no weighting of the name is installed, or it cannot be used.
            WeightingError: If the weighting does not take its params or these losses, needs a `wrt`, or another one
                balances some of the losses.
            DuplicateLossError: If a loss has the name of the weighting, and no other name is left for it.
            pydantic.ValidationError: If `wrt` is empty.
            TypeError: If an argument has the wrong type.
            NectarganError: Inside of `split` and `paused`.

        Example:
            >>> class Halved:
            ...     needs = "values"
            ...     def factors(self, step):
            ...         return [0.5] * len(step.names)
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
            >>> manager.set_weighting(Weighting(Halved), query="G")
            >>> float(manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)}).total)
            50.0
        """
        _refuse_in_graphs("a weighting is set")
        if self._recorder.in_scope:
            raise NectarganError("weightings are set outside of split() and paused(), for all that follows")
        registry = self._registry
        found = registry.find(query)
        before = [each for each in registry.weightings if any(loss.weighting is each for loss in found)]
        ended = [loss for loss in registry if loss.weighting is not None and loss.weighting in before]
        if weighting is None:
            registry.balance(None, ended)
            self._describe()
            return
        definition = read_weighting(weighting, wrt)
        if ended and {loss.name for loss in ended} != {loss.name for loss in found}:
            both = [loss.name for loss in found if loss.weighting is not None]
            raise WeightingError(
                f"{listed(both)}: balanced by {before[0].label!r} already, together with other losses; a loss belongs "
                f"to one weighting at most. End that one first, by set_weighting(None, {both[0]!r})",
                weighting=before[0].label,
                loss_name=both[0],
            )
        kept = [each for each in registry.weightings if each not in before]
        names = tuple(loss.name for loss in found)
        balance = Balance(definition, names, query if isinstance(query, str) else ",".join(names), scaler)
        (made,) = bind([balance], self._taken(registry.losses), kept, self.device)
        self._observe((), made.plugins)
        registry.balance(made, found)
        self._describe()

    def _taken(self, losses: Iterable[str]) -> set[str]:
        """Return the names that no weighting can have: of losses, and of what was recorded beside them."""
        return {*losses, *(self._recorder.beside.keys() - self._registry.former_labels)}

    # The clock and the scope

    def tick(self, epoch: float | None = None, step: int | None = None) -> None:
        """Set the clock that every loss is computed and recorded by; call it once per step.

        Args:
            epoch: The epoch, at least 0; fractions (`epoch + batch / batches`) move schedules per step. None: as
                before.
            step: The step, at least 0. None: 0 at the first tick, then one more each time.

        Raises:
            ValueError: If the epoch is not a finite number of at least 0, or the step is below 0 or beyond 2**63 - 1.
            TypeError: If the step is no integer.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss on an accelerator has become nan or infinite.

        Example:
            >>> manager = LossManager()
            >>> manager.tick(epoch=0); manager.tick(epoch=0)
            >>> manager.step, manager.epoch
            (1, 0)
        """
        if _is_compiling():
            _refuse_in_graphs("the clock ticks")
        recorder = self._recorder
        if (
            step is None
            and epoch is not None
            and type(epoch) in _PLAIN
            and recorder.counts_from <= epoch < recorder.counts_until
        ):
            # All that there is to do, most of the time.
            recorder.step += 1
            if epoch != recorder.epoch:
                recorder.epoch = epoch
            return
        # Plain numbers, so that a state of the manager is plain data.
        if epoch is not None and (type(epoch) not in _PLAIN or not 0 <= epoch < 2**53):
            epoch = arguments.epoch(epoch)
        if step is not None or recorder.step == 2**63 - 1:
            step = arguments.whole("step", recorder.step + 1 if step is None else step, 0)
        recorder.tick(epoch, step)

    @property
    def step(self) -> int:
        """The step of the clock; -1 before the first tick of a run that is not resumed."""
        return self._recorder.step

    @property
    def epoch(self) -> float:
        """The epoch of the clock."""
        return self._recorder.epoch

    @property
    def rank(self) -> int:
        """The rank of this process in a distributed run, which names its log; 0 where nothing says it."""
        return rank_and_world_size()[0]

    @property
    def log_started(self) -> float | None:
        """When the log was begun, in seconds since 1970: by this manager, or by the one whose run it resumes.

        It tells the logs of one directory from each other. None where there is no log.
        """
        return self._log_started

    @property
    def total_epochs(self) -> float | None:
        """How many epochs the run has, None if it is not known."""
        return self._totals[0]

    @property
    def total_steps(self) -> int | None:
        """How many steps the run has, None if it is not known."""
        return self._totals[1]

    def split(self, name: str) -> AbstractContextManager[None]:
        """Record under `<name>/<loss>` what is computed inside, such as the losses of a validation pass.

        The clock stands still. Inside, what is asked for (`get_loss_values`, `means`, ...) is that of the split, and
        `means()` are over what was computed since it was entered.

        Args:
            name: Name of the split; not empty, without `/`.

        Raises:
            TypeError: If the name is no str.
            ValueError: If it is empty, or has a `/`.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> with manager.split("val"):
            ...     _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            ...     manager.means()
            {'G_L1': 1.0}
            >>> manager.series("val/G_L1").loss.tolist()
            [1.0]
        """
        return self._scope(f"{arguments.scalar_name('the name of a split', name)}/")

    def paused(self) -> AbstractContextManager[None]:
        """Compute inside without recording anything.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> with manager.paused():
            ...     float(manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2)))
            1.0
            >>> manager.get_registered_losses(strip=False)["G_L1"].history.losses
            []
        """
        return self._scope(None)

    @contextmanager
    def _scope(self, prefix: str | None) -> Iterator[None]:
        series, enter, leave = self._recorder.scope(prefix)
        for loss in self._registry:
            there, back = loss.redirected(series(loss.name))
            enter += there
            leave += back
        for steps in enter, leave:
            steps.append(partial(setattr, self._registry, "plans", {}))
        restore = prepared(*leave)
        try:
            try:
                at_once(*enter)
                yield
            finally:
                restore()
        finally:
            restore()  # in case that an interrupt came just before it; the second time it does nothing

    # Computing and recording

    def compute_loss_xy(
        self,
        loss_name: str,
        x: Any,
        y: Any,
        epoch: float | None = None,
        loss_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Tensor:
        """Compute, weight and record a loss of two inputs.

        Args:
            loss_name: The registered loss.
            x: First argument of its function, such as the generated images.
            y: Second argument, such as the target.
            epoch: Epoch for the schedule and the record. None: that of the clock.
            loss_kwargs: `{"weight_kwargs": {...}}` overrides parameters of the schedule, `{"function_kwargs":
                {...}}` passes keyword arguments to the function, both for this call.

        Returns:
            The weighted result, a new tensor that is attached to the graph and the caller's to edit.

        Raises:
            UnknownLossError: If no loss of this name is registered.
            ScheduleError: If the schedule gives no finite number.
            LossResultError: If the function returns no dense tensor of real numbers, and no dict of such tensors.
            DuplicateLossError: If a loss, a scalar or a component of another loss has the name of a component.
            NonFiniteLossError: With `nonfinite="raise"`, if the weighted result is nan or infinite.
            ValueError: If the epoch is not a finite number of at least 0.
            TypeError: If another argument has the wrong type.
            Exception: Whatever the function raises.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> float(manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2)))
            100.0
        """
        if loss_kwargs is not None:
            return self._compute(loss_name, (x, y), epoch, **_call_kwargs(loss_kwargs))
        if epoch is not None and (type(epoch) not in _PLAIN or not 0 <= epoch < 2**53):
            epoch = arguments.epoch(epoch)
        # The same as _compute, written out, since this is the hot path.
        try:
            loss = self._registry.losses[loss_name]
        except Exception:  # noqa: BLE001 # KeyError, or what the hash of an object raises
            raise self._registry.unknown(loss_name) from None
        return loss.compute((x, y), None, epoch, None)

    def compute_loss_xyz(
        self,
        loss_name: str,
        x: Any,
        y: Any,
        z: Any,
        epoch: float | None = None,
        loss_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Tensor:
        """Compute, weight and record a loss of three inputs, such as one with a mask; see `compute_loss_xy`."""
        return self._compute(loss_name, (x, y, z), epoch, **_call_kwargs(loss_kwargs))

    def compute_loss(
        self,
        name: str,
        *inputs: Any,
        epoch: float | None = None,
        weight_kwargs: Mapping[str, Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Compute, weight and record a loss of any number of inputs; see `compute_loss_xy`.

        It takes a `batch_size`, as `compute_losses` does, outside of `torch.compile`.
        """
        return self._compute(name, inputs, epoch, weight_kwargs, function_kwargs, batch_size)

    def compute_losses(
        self,
        inputs: Mapping[str, Any],
        query: Query = None,
        epoch: float | None = None,
        *,
        batch_size: int | None = None,
    ) -> ComputedLosses:
        """Compute, weight and record every loss that a query finds, each with the inputs that it reads.

        Args:
            inputs: Values by input name. A function, method or partial that needs no argument is called for its value,
                at most once, and only if a loss that runs reads it; a loss gets it as it is if it says so (`as_is`).
                What no loss reads is ignored.
            query: Tag or loss name, or several; None for all losses.
            epoch: Epoch for the schedules and the records. None: that of the clock.
            batch_size: How many samples the batch has, from 1 to 2**32 - 1. It is recorded, and means weigh by it, so
                that a small last batch counts for what it is. What is computed inside of this call, such as by a lazy
                input, has the same size. None: batches count alike.

        Returns:
            Weighted results by loss name, and their `total` to call `backward()` on.

        Raises:
            UnknownLossError: If the query finds no loss.
            MissingInputError: If a loss that runs reads an input that is not given; nothing is computed then.
            ScheduleError: If a schedule gives no finite number.
            LossResultError: If a function returns no dense tensor of real numbers, and no dict of such tensors.
            DuplicateLossError: If a loss, a scalar or a component of another loss has the name of a component.
            NonFiniteLossError: With `nonfinite="raise"`, if a weighted result is nan or infinite.
            ValueError: If the epoch is not a finite number of at least 0, or the batch size out of its range.
            TypeError: If the inputs are no mapping, the query is none, or the batch size is no integer.
            Exception: Whatever a function, or a lazy input, raises.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
            >>> manager.register_loss_fn("G_GAN", lambda pred: -pred.mean(), tags=["G"], inputs=("pred_fake",))
            >>> images = {"y_fake": torch.zeros(2), "y": torch.ones(2), "pred_fake": lambda: torch.ones(2)}
            >>> float(manager.compute_losses(images, query="G").total)
            99.0
        """
        if epoch is not None and (type(epoch) not in _PLAIN or not 0 <= epoch < 2**53):
            epoch = arguments.epoch(epoch)
        if type(inputs) is not dict and not isinstance(inputs, Mapping):
            raise TypeError(
                "the inputs are a mapping from names to values, such as {'y_fake': y_fake, 'y': y}; compute_loss_xy "
                f"and compute_loss take values one by one; got {type(inputs).__name__}"
            )
        if _is_compiling():
            return compute_in_graph(self._registry.group(query), inputs, epoch, batch_size)
        if batch_size is not None:
            batch_size = arguments.batch_size(batch_size)
        registry, recorder = self._registry, self._recorder
        plan = registry.plans.get(query) if query is None or type(query) is str else None
        if plan is None:
            plan = registry.plan(query, recorder)
        if recorder.watching and (_monotonic() >= recorder.deadline or max(map(len, plan.rows)) >= recorder.full):
            recorder.flush_or_raise()
            plan = registry.plan(query, recorder)  # An observer may have changed something.
        if batch_size is None:
            return plan.compute(inputs, epoch)
        return recorder.of_batch(batch_size, partial(plan.compute, inputs, epoch))

    def _compute(
        self,
        name: str,
        args: tuple[Any, ...],
        epoch: float | None,
        weight_kwargs: Mapping[str, Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        if epoch is not None and (type(epoch) not in _PLAIN or not 0 <= epoch < 2**53):
            epoch = arguments.epoch(epoch)
        loss = self._registry[name]
        if weight_kwargs is not None:
            weight_kwargs = arguments.mapping("weight_kwargs", weight_kwargs, "{'power': 2.0}")
        if function_kwargs is not None:
            function_kwargs = arguments.mapping("function_kwargs", function_kwargs, "{'reduction': 'none'}")
        if batch_size is None:
            return loss.compute(args, function_kwargs, epoch, weight_kwargs)
        if _is_compiling():
            raise TypeError("batch_size cannot be given here inside torch.compile; compute_losses takes it")
        compute = partial(loss.compute, args, function_kwargs, epoch, weight_kwargs)
        return self._recorder.of_batch(arguments.batch_size(batch_size), compute)

    def record(self, name: str, value: float | Tensor, *, batch_size: int | None = None) -> None:
        """Record a scalar that is no loss, such as a learning rate or a metric, in the same history and log.

        It is recorded with the weight 1 at the clock's step and epoch; inside a split under the split's name. It may
        be nan or infinite without a warning.

        Args:
            name: Its name; not that of a loss, without `/`.
            value: A number, or a tensor, of which the mean counts; no device is waited for.
            batch_size: How many samples it is the mean of, as for `compute_losses`.

        Raises:
            DuplicateLossError: If a loss has this name, or a component of one.
            TypeError: If the name is no str, the value no number and no dense tensor of real numbers, or the batch size
                no integer.
            ValueError: If the name is empty, or has a `/`, or the batch size is out of its range.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
            NectarganError: If the manager is closed.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.record("psnr", 31.5)
            >>> manager.latest("psnr")
            {'psnr': 31.5}
        """
        if _is_compiling():
            record_scalar(self._key, name, value, batch_size)
            return
        name = self._free_name(name)
        number: float | Tensor | None
        if isinstance(value, Tensor):
            number = value.detach() if is_real(value) else None
        else:
            number = arguments.as_float(value)
        if number is None:
            raise TypeError(
                f"the value of {name!r} must be a number or a tensor, dense and of real numbers, got {shown(value)}"
            )
        size = 0 if batch_size is None else arguments.batch_size(batch_size)
        self._recorder.of_batch(size, partial(self._recorder.record, name, number))

    def _free_name(self, name: str) -> str:
        """Return the name of a scalar; raise if it is none, or if a loss has it."""
        name = arguments.scalar_name("the name of a scalar", name)
        if name in self._registry:
            raise DuplicateLossError(f"{name!r} is a loss, which records itself; choose another name", name=name)
        if name in self._registry.labels:
            raise DuplicateLossError(f"a weighting is named {name!r}; choose another name", name=name)
        self._registry.refuse_component(name, self._recorder.beside)
        return name

    def record_gradients(
        self, losses: ComputedLosses, wrt: Any, every: int = 100, *, scaler: torch.amp.GradScaler | None = None
    ) -> LossGradients | None:
        """Record now and then how hard each loss pulls, and whether with or against the others.

        Call it at each step, before `backward()`. Where the step of the clock can be divided by `every`, it takes
        `losses.gradients(wrt)` and records for each loss, as scalars in the present scope, `G_L1@grad_norm`,
        `G_L1@grad_share` and `G_L1@grad_cosine` (with the total gradient). At all other steps, and in `paused`, it does
        nothing. Without a clock the step is how often the losses were computed before.

        Args:
            losses: What `compute_losses` returned.
            wrt: What gradients are taken with respect to; see `ComputedLosses.gradients`.
            every: At each how many-th step it is done, at least 1.
            scaler: The `torch.amp.GradScaler` of a training in half precision; see there.

        Returns:
            The gradients, where they were recorded; else None.

        Raises:
            DuplicateLossError: If a loss has one of the names; nothing is recorded then.
            WeightingError: If no gradient can be taken; see `ComputedLosses.gradients`. Likewise.
            TypeError: If an argument has the wrong type.
            ValueError: If `every` is below 1.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
            NectarganError: If the manager is closed, and inside of `torch.compile`.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(reduction="sum"), loss_weight=100.0)
            >>> manager.tick(epoch=0)
            >>> y_fake = torch.ones(4, requires_grad=True)
            >>> losses = manager.compute_losses({"y_fake": y_fake, "y": torch.zeros(4)})
            >>> gradients = manager.record_gradients(losses, y_fake)
            >>> manager.latest("G_L1@grad_norm")
            {'G_L1@grad_norm': 200.0}
        """
        _refuse_in_graphs("gradients of losses are recorded")
        every = arguments.whole("every", every, 1)
        if not isinstance(losses, ComputedLosses):
            raise TypeError(f"losses must be what compute_losses returned, got {shown(losses)}")
        recorder = self._recorder
        step = recorder.step if recorder.ticked else self._calls_before(losses)
        if recorder.prefix is None or step % every:
            return None
        names = {self._free_name(f"{name}@{kind}"): (name, kind) for name in losses for kind in _GRADIENTS}
        gradients = losses.gradients(wrt, scaler=scaler)
        # First, so that either all is recorded or nothing.
        recorder.sync()
        recorder.raise_pending_error()
        for scalar, (name, kind) in names.items():
            recorder.record(scalar, getattr(gradients, _GRADIENTS[kind])[name], step)
        return gradients

    def _calls_before(self, losses: Iterable[str]) -> int:
        """Return the step at which losses were computed last where the clock never ticked."""
        if self._recorder.prefix:
            return self._recorder.step_in_scope
        registered = self._registry.losses
        return max([1, *(registered[name].series.count for name in losses if name in registered)]) - 1

    # Asking

    def get_registered_losses(self, query: Query = None, strip: bool = True) -> dict[str, LMLoss]:
        """Return snapshots of the registered losses, by name.

        Args:
            query: Tag or loss name, or several; None for all losses.
            strip: Whether to leave the histories out of the snapshots.

        Returns:
            Copies, which cannot be changed, in the order of registration; empty if the query finds none.

        Raises:
            TypeError: If an argument has the wrong type.
        """
        found, strip = self._registry.select(query), arguments.flag("strip", strip)
        if not strip:
            self._recorder.sync()
        return {loss.name: loss.snapshot(not strip) for loss in found}

    def get_loss_values(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the last value of each loss: the mean of the weighted result in its own dtype.

        Waits for the device once, however many losses there are.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.

        Returns:
            Values by loss name; nan for a loss that has not run. Empty if the query finds none.

        Raises:
            TypeError: If an argument has the wrong type.
        """
        found, digits = self._registry.select(query), _digits(precision)
        self._recorder.sync()
        return {loss.name: _rounded(loss.last_value(), digits) for loss in found}

    def get_loss_tensors(self, query: Query = None) -> dict[str, torch.Tensor]:
        """Return the last weighted result of each loss, detached, on its device; nan for one that has not run.

        Raises:
            TypeError: If the query is none.
        """
        return {loss.name: loss.last_tensor() for loss in self._registry.select(query)}

    def get_loss_weights(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the weight that was last applied to each loss, or will be if it has not run; factors included.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.

        Raises:
            TypeError: If an argument has the wrong type.
        """
        digits = _digits(precision)
        return {loss.name: _rounded(loss.reported_weight(), digits) for loss in self._registry.select(query)}

    def print_losses(self, epoch: float, iter: int, precision: int = 2, capture: bool = False) -> str | None:  # noqa: A002 # the reference's name
        """Print the last value of each loss, or return the line if `capture`.

        In a distributed run rank 0 prints, and prints its own values.

        Raises:
            TypeError: If an argument has the wrong type.
            ValueError: If the epoch is not a finite number of at least 0, or `iter` is below 0.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            >>> manager.print_losses(epoch=1, iter=20)
            (epoch: 1, iters: 20) Loss: G_L1: 1.0
        """
        epoch, iter, capture = (  # noqa: A001 # the reference's name
            arguments.epoch(epoch),
            arguments.whole("iter", iter, 0),
            arguments.flag("capture", capture),
        )
        if not capture and self._is_silent():
            return None
        return _print(
            f"(epoch: {epoch}, iters: {iter}) Loss: {_listed(self.get_loss_values(None, precision))}", capture
        )

    def print_weights(self, precision: int = 2, capture: bool = False) -> str | None:
        """Print the weight of each loss, or return the line if `capture`.

        In a distributed run rank 0 prints.

        Raises:
            TypeError: If an argument has the wrong type.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> manager.print_weights()
            Loss weights: G_L1: 100.0
        """
        capture = arguments.flag("capture", capture)
        if not capture and self._is_silent():
            return None
        return _print(f"Loss weights: {_listed(self.get_loss_weights(None, precision))}", capture)

    def _is_silent(self) -> bool:
        """Whether another rank than this one prints."""
        try:
            return self.rank != 0
        except ConfigError:  # The environment says no rank, which whatever makes a log complains of.
            return False

    def latest(self, query: Query = None) -> dict[str, float]:
        """Return the newest value of each loss that is known without waiting for a device, not rounded.

        Args:
            query: Tag, loss name or name of a recorded scalar, or several; None for all.

        Returns:
            Values by name; nan where none is known yet.

        Raises:
            TypeError: If the query is none.
        """
        return {name: series.latest() if has_run else math.nan for name, series, has_run in self._reported(query)}

    def means(self, query: Query = None) -> dict[str, float]:
        """Return the mean of each loss since the epoch began, or inside a split since the split was entered.

        An epoch begins when the whole part of the clock's epoch changes. Where each record has the size of its batch,
        the mean weighs by these; otherwise every record counts the same. Those of a weight of 0 that left the function
        uncalled do not count; nor do those of a run that this one resumes. Waits for the device once, and for no other
        rank; `reduce_means` is over all of them.

        The components of a loss follow it where everything is asked for; a query finds them by their own names, such as
        `"G_VGG.relu3_3"`, only.

        Args:
            query: Tag, loss name, or name of a component or recorded scalar, or several; None for all.

        Returns:
            Means of the weighted values by name; nan of no records.

        Raises:
            NectarganError: If only last values are kept, so that there is nothing to take a mean of; and in `paused`.
            TypeError: If the query is none.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> for scale in (1.0, 3.0):
            ...     _ = manager.compute_loss_xy("G_L1", torch.zeros(2), scale * torch.ones(2))
            >>> manager.means()
            {'G_L1': 2.0}
        """
        sums = self._sums(query)
        if sums is None and self._recorder.prefix is None:
            raise NectarganError("inside of paused() nothing is recorded, so that there is nothing to take a mean of")
        if sums is None:
            raise NectarganError(
                "means() needs the history, and this manager keeps only the last values; make it with experiment_dir= "
                "or enable_logging=True, or take the means of a split"
            )
        return {name: each.mean for name, each in sums.items()}

    def _sums(self, query: Query) -> dict[str, Sums] | None:
        """Return what the means of a query are made of; None where only last values are kept."""
        self._recorder.sync()
        reported = {name: series for name, series, _ in self._reported(query, components=True)}
        if not all(series.keep for series in reported.values()):
            return None
        return {name: series.sums() for name, series in reported.items()}

    # Asking other ranks. Nothing else communicates, but for a weighting with `reduce`.

    def reduce_means(self, query: Query = None) -> dict[str, float]:
        """Return the means over all ranks of a distributed run: the same as `means()` would be of all their records.

        Every rank has to call it, at the same place of its loop. It takes one all-reduce, however many losses there
        are (up to 1,024 with their components); one exchange more where ranks have recorded different things, such as a
        metric on rank 0. A loss that a rank has not run counts there for nothing. Outside of a distributed run these
        are the `means()`.

        Args:
            query: As for `means`.

        Returns:
            Means of the weighted values by name, the same on all ranks; nan of no records.

        Raises:
            NectarganError: On all ranks, if one of them keeps only last values; or if this is one of several processes
                of torchrun, and torch.distributed is not initialised.
            TypeError: If the query is none.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> for size, scale in (8, 1.0), (2, 6.0):
            ...     images = {"y_fake": torch.zeros(size), "y": scale * torch.ones(size)}
            ...     _ = manager.compute_losses(images, batch_size=size)
            >>> manager.reduce_means()
            {'G_L1': 2.0}
        """
        own = self._sums(query)
        total = sums_over_ranks(own)
        # In the order of `means`; what only other ranks have comes last.
        return {name: total[name].mean for name in dict.fromkeys([*(own or ()), *sorted(total)])}

    def check_ranks(self) -> None:
        """Raise, on all ranks, unless all ranks of a distributed run have the same objective, at the same step.

        Compared are the manifests: losses, weights, schedules, weightings, weight files and the versions of what they
        come from. Every rank has to call it, at the same place, such as before the first step.

        Raises:
            ObjectiveError: If they differ; it says in what, and on which ranks.
            NectarganError: If this is one of several processes of torchrun, and torch.distributed is not initialised.

        Example:
            >>> LossManager.from_spec("100*l1").check_ranks()
        """
        check_ranks(self.manifest, self.step)

    def raise_on_any_rank(self) -> None:
        """Raise, on all ranks of a distributed run, if a loss was nan or infinite on one of them since the last call.

        Every rank has to call it, at the same place of its loop, such as between `compute_losses` and `backward()`. It
        takes one all-reduce of one number, and waits for the device. It does so whatever `nonfinite` is; with
        `nonfinite="raise"` the call on the rank that saw it has raised already, and has to be caught first::

            with contextlib.suppress(NonFiniteLossError):
                losses = manager.compute_losses(inputs)
            manager.raise_on_any_rank()

        Outside of a distributed run it is about the losses of this process. What is computed in `paused` is not seen.

        Raises:
            NonFiniteLossError: If one was; it names rank, loss and step, those of the lowest rank in its attributes.
            NectarganError: If this is one of several processes of torchrun, and torch.distributed is not initialised.

        Example:
            >>> manager = LossManager(nonfinite="ignore")
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            >>> _ = manager.compute_loss_xy("G_L1", torch.ones(2), torch.tensor([0.0, torch.nan]))
            >>> manager.raise_on_any_rank()
            Traceback (most recent call last):
            nectargan_core.errors.NonFiniteLossError: loss 'G_L1' became nan at step 0, epoch 0
        """
        raise_nonfinite(self._recorder.take_nonfinite)

    def series(self, name: str) -> Records:
        """Return all records of a loss or scalar: those of the log and those that are still in memory.

        Args:
            name: A loss, a component such as `"G_VGG.relu3_3"`, a recorded scalar, or one of a split, such as
                `"val/G_L1"`.

        Raises:
            UnknownLossError: If nothing of this name was ever recorded.
            TypeError: If the name is no str.
            LossLogError: If the log cannot be read.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a series is a str, got {shown(name)}")
        return self._recorder.records(str.__str__(name))

    def _reported(self, query: Query, *, components: bool = False) -> Iterator[tuple[str, Series, bool]]:
        """Yield name and series of the losses and scalars that a query finds, and whether each has run."""
        query = checked(query)
        wanted = {query} if isinstance(query, str) else query
        found = set(self._registry.select(query))
        for loss in self._registry:
            if loss in found:
                yield loss.name, loss.series, loss.has_run_here
            for component, series in loss.components.items() if components else ():
                name = f"{loss.name}.{component}"
                if wanted is None or name in wanted:
                    yield name, series, True
        for name, series in self._recorder.scalars.items():
            if wanted is None or name in wanted:
                yield name, series, True

    def save_loss_maps(
        self, file: str | os.PathLike[str] | BinaryIO, query: Query = None, *, inputs: Mapping[str, Any] | None = None
    ) -> tuple[str, ...]:
        """Draw the last maps of losses with `reduction="none"` as labelled heat maps, beside what they are maps of.

        There is a row for each of the first four images of the batch: `x`, `y_fake` and `y`, other images that the
        losses read, and a heat map of the weighted result of each loss, whose colors are scaled from its least to its
        greatest value. A map with channels is drawn by their mean, a map that is smaller than the image over all of it,
        a result (N, T), such as that of waveforms, as a line, and a result (N,) as a number for each image. What is no
        map of the images, such as a result (N, C, D, H, W), is left out with a note in the picture. Values that are nan
        or infinite are cyan.

        Images count as from -1 to 1 where one of their values is below 0, otherwise as from 0 to 1; `y_fake` counts as
        `y` does. Of one with three or more channels the first three are drawn, of any other the first, in gray.

        Args:
            file: The file, in a format that its suffix names, such as `.png`; or a binary file object, for a PNG.
            query: Tag or loss name, or several; None for all losses.
            inputs: The inputs of the losses by name, as `compute_losses` gets them. None: those that each loss was last
                computed with, which are kept with its map. They are the tensors themselves: edited in place since,
                they are drawn as they are now.

        Returns:
            The names of the losses whose maps were drawn.

        Raises:
            UnknownLossError: If the query finds no loss.
            NectarganError: If no loss returned a map when it was last computed, none can be drawn, or in no such
                format; if matplotlib is not installed; and inside of `torch.compile`.
            OSError: If the file cannot be written.
            TypeError: If an argument has the wrong type.
            ValueError: If the path cannot be one.

        Example:
            >>> import io
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(reduction="none"), loss_weight=100.0)
            >>> images = {name: torch.rand(2, 3, 32, 32) for name in ("x", "y_fake", "y")}
            >>> losses = manager.compute_losses(images)
            >>> manager.save_loss_maps(io.BytesIO())
            ('G_L1',)
        """
        # Imported here, since a training that draws none has no use for what else is there.
        from nectargan_core.views import LossMap, draw_maps

        _refuse_in_graphs("loss maps are drawn")
        found = self._registry.find(query)
        if inputs is not None:
            inputs = arguments.mapping("inputs", inputs, "{'y_fake': y_fake, 'y': y}")
        path = None if hasattr(file, "write") else arguments.path("file", file)
        shown = [loss for loss in found if loss.has_map]
        if not shown:
            raise NectarganError(
                f"there is no map to draw: {listed(loss.name for loss in found)} returned none when last computed "
                'here; losses with reduction="none" return one, such as torch.nn.L1Loss(reduction="none")'
            )
        self._recorder.sync()
        maps = [
            LossMap(loss.name, loss.last_tensor(), loss.reported_weight(), loss.last_value(), loss.last_images(inputs))
            for loss in shown
        ]
        picture, names = draw_maps(maps, "" if path is None else path.suffix)
        if path is None:
            cast("BinaryIO", file).write(picture)
        else:
            path.write_bytes(picture)
        return names

    # The log and the state

    def update_loss_log(self, silent: bool = True, capture: bool = False) -> str | None:
        """Write what is new to the log now.

        Args:
            silent: Whether to say nothing about it. In a distributed run only rank 0 prints anything.
            capture: If not silent, whether to return what would be printed.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
            TypeError: If an argument is neither True nor False.
        """
        silent, capture = arguments.flag("silent", silent), arguments.flag("capture", capture)
        start = time.perf_counter()
        count = self._recorder.flush()
        self._recorder.raise_pending_error()
        if silent:
            return None
        log = self._recorder.log
        took = f"{count} records in {time.perf_counter() - start:.3f} s"
        text = f"Loss log: {took} to {log.path}" if log is not None else "Loss log: logging to a file is off"
        return None if self._is_silent() and not capture else _print(text, capture)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run as plain data, after a flush: save it with the networks.

        Holds the clock, how often each loss was computed, the weight, schedule and enabling of each loss, and the
        factors and the state of each weighting; what losses and weightings learn is in `modules()`. The function of a
        schedule is written as a label, for which a manager that loads the state takes the function of that label that
        it has for the loss.

        Raises:
            ScheduleError: If a schedule has no value at the epoch of the clock.
            WeightingError: If a weighting fails to return its state.
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
        """
        # First, since it may raise.
        losses = {loss.name: loss.state(self.epoch) for loss in self._registry}
        self._recorder.flush(wait=True)  # so that the log is not behind the state
        self._recorder.raise_pending_error()
        weightings = {weighting.label: weighting.state() for weighting in self._registry.weightings}
        manifest = self.manifest().to_dict()
        return {
            "version": 1,
            **self._recorder.state(),
            "losses": losses,
            "weightings": weightings,
            "manifest": manifest,
        }

    def load_state_dict(
        self, state: Mapping[str, Any], weights: Literal["saved", "current"] = "saved", *, strict: bool = True
    ) -> None:
        """Go on where a state was taken.

        What the log has beyond the state is superseded: it stays in the file, and reading leaves it out. Losses and
        weightings get their part of the state by their names. A warning names weights, schedules and releases that
        differ from those of the state.

        Args:
            state: What `state_dict` returned.
            weights: Whether the losses get the weights, schedules and enabling of the state, or keep those that this
                manager was made with. Weightings go on where they were in both cases.
            strict: Whether it is an error that the losses of the state are others than those of this manager: other
                names, functions, arguments, inputs or weight files. False: a warning, and each loss that both have gets
                its part.

        Raises:
            ObjectiveError: If the losses are others, and `strict`; the manager is then as it was.
            ValueError: If it is no such state; likewise.
            pydantic.ValidationError: If a weight or schedule of the state cannot be read; likewise.
            NectarganError: If a schedule of the state cannot be used, or a weighting cannot load its part; likewise.
        """
        state, saved_record = _checked_state(state)
        kept = arguments.one_of("weights", weights, ("saved", "current"))
        differing = self._compared(state["losses"], saved_record, kept, arguments.flag("strict", strict))
        saved = state["losses"]
        both = saved.keys() & self._registry.losses.keys() if kept == "saved" else set()
        restored = {name: self._restored(name, saved[name]) for name in both}
        self._observe(scheduler for _, scheduler in restored.values())
        load_states(self._registry.weightings, state.get("weightings", {}))
        self._recorder.load_state(state)
        for loss in self._registry:
            loss.begin()
        for name, (definition, scheduler) in restored.items():
            self._registry[name].redefine(definition, scheduler)
            self._registry[name].enable(saved[name]["enabled"])
        self._describe()
        if differing:
            warn(differing)

    def _compared(self, losses: Mapping[str, Any], saved: Objective | None, weights: str, strict: bool) -> str:
        """Return what to warn of where a state is of another objective than the one that is registered.

        Args:
            losses: The losses of the state.
            saved: Its record; None where it has none.
            weights: Whether the weights of the state are taken, as `load_state_dict` is told.
            strict: Whether other losses are an error.

        Raises:
            ObjectiveError: If its losses are others, and `strict`.
        """
        if saved is None:
            there, here = losses.keys(), self._registry.losses.keys()
            found = tuple(Difference("loss", name, *_who_has(name in there)) for name in sorted(there ^ here))
        else:
            # What was changed by hand since is a part of the run, and no other objective.
            found = saved.differences(self._recorded(registered=True)())
        others = [each for each in found if each.kind in OF_LOSSES]
        if others and strict:
            lines = "".join(f"\n  {each.told()}" for each in others)
            raise ObjectiveError(
                f"the state is of other losses than those of this manager:{lines}\n"
                "Register the same ones, or load it with strict=False, so that each loss that both have gets its part",
                differences=tuple(others),
            )
        # Weightings are compared where their states are loaded.
        untold = {"fingerprint", "order", "weighting", *(_WEIGHTS if weights == "current" else ())}
        told = [each for each in found if each.kind not in untold and not _is_of_absence(each)]
        if not told:
            return ""
        replaced = any(each.kind in _WEIGHTS - {"length"} for each in told)
        goes = "; weights and schedules are now those of the state" if replaced else ""
        lines = "".join(f"\n  {each.told()}" for each in told)
        return f"the state was saved with another objective{goes}:{lines}"

    def _restored(self, name: str, saved: Mapping[str, Any]) -> tuple[LMLoss, Scheduler | None]:
        """Return the definition of a loss with the weight or schedule that `BoundLoss.state` returned."""
        loss = self._registry[name].loss
        if saved.get("schedule") is not None:
            # Its ends are filled in already, with the weight that the loss had then.
            functions = Functions(functions_in(loss.schedule), f"loss {name!r}")
            schedule = with_functions(Schedule.model_validate(saved["schedule"]), functions)
            loss = loss.model_copy(update={"schedule": schedule})
        elif "weight" in saved:
            loss = loss.model_copy(update={"loss_weight": saved["weight"], "schedule": Schedule()})
        return loss, self._scheduler_of(loss)

    def close(self) -> None:
        """Flush the log and give it up; nothing can be computed afterwards, everything can be asked.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
        """
        if self._recorder.closed:
            self._recorder.close()  # what was under way when a signal handler closed it
            return
        self._recorder.close()
        ran = [loss.name for loss in self._registry if loss.has_run]
        idle = [loss.name for loss in self._registry if not loss.has_run and loss.reported_weight()]
        if ran and idle:
            warn(
                f"registered with a weight and never computed: {listed(idle)}; compute_losses(inputs) without a "
                "query computes every loss there is"
            )
        for weighting in self._registry.weightings:
            if not weighting.has_given and not set(ran).isdisjoint(weighting.names):
                warn(
                    f"weighting {weighting.label!r} never changed a factor, since its losses were never all computed "
                    f"in one call of compute_losses, with gradients and outside of splits: {listed(weighting.names)}; "
                    "give those that are computed together a weighting of their own, by query="
                )
        self._recorder.raise_pending_error()

    def __enter__(self) -> LossManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._recorder.close()  # close() could also warn, and hide the error.

    def __del__(self) -> None:
        # Before the finalizer, which has no manager any more that observers could be notified with. What was forked
        # belongs to the process that made it.
        if getattr(self, "_pid", None) == os.getpid():
            self._recorder.close()

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        # As the protocols of copy and pickle want it: wrappers such as those for averaged weights look out for it.
        raise TypeError(
            "a LossManager owns a log and cannot be copied or pickled; keep it outside of modules that are, and save "
            "its state_dict()"
        )

    def __repr__(self) -> str:
        where = f", experiment_dir={str(self.experiment_dir)!r}" if self.experiment_dir else ""
        losses = listed(self._registry.losses) if self._registry.losses else "no losses"
        return f"LossManager({losses}{where})"

    def _repr_html_(self) -> str:
        try:
            return self.manifest()._repr_html_()
        except Exception:  # noqa: BLE001 # a notebook would show the traceback
            return f"<p>{html.escape(printable(repr(self)))}</p>"


def _end(recorder: Recorder, registry: Registry) -> None:
    """Write what is pending, and let go of the losses, so that their modules are freed with the manager."""
    recorder.close()
    registry.clear()


def _header_fields(
    name: str | None, totals: tuple[float | None, int | None], recorded: Callable[[], Objective]
) -> dict[str, Any]:
    """Return what the header of a log says of the objective."""
    record = recorded()
    return {
        "objective": name,
        "manifest": record.to_dict(),
        "tags": {loss: sorted(set(entry.tags)) for loss, entry in record.losses.items()},
        "total_epochs": totals[0],
        "total_steps": totals[1],
    }


def _of_one_length(objective: Objective, keywords: dict[str, Any]) -> tuple[Objective, dict[str, Any]]:
    """Return an objective and the keywords of a manager so that both say the same of the length of the run.

    What the keywords say goes before what a person has written; a record stays as it is, and is compared.
    """
    given = {key: keywords[key] for key in ("total_epochs", "total_steps") if keywords.get(key) is not None}
    if not given:
        return objective, {**keywords, "total_epochs": objective.total_epochs, "total_steps": objective.total_steps}
    if objective.is_record:
        return objective, keywords
    return objective.model_copy(update={"total_epochs": None, "total_steps": None}), keywords


def _agreed_totals(objective: Objective, totals: tuple[float | None, int | None]) -> tuple[float | None, int | None]:
    """Return the length of the run: that of the manager or, where it has none, of the objective."""
    own = (objective.total_epochs, objective.total_steps)
    if totals == (None, None):
        return own
    if own not in ((None, None), totals) and not objective.is_record and objective.uses_fractions:
        lengths = " and ".join(f"{total:g}" for total in (*own, *totals) if total is not None)
        warn(
            f"the length of the run is {lengths} in the objective and in the manager; schedules with unit='fraction' "
            "follow that of the manager"
        )
    return totals


def _registered_record(state: Mapping[str, Any]) -> Objective | None:
    """Return the record in a state, with the weights and schedules that the losses were registered with.

    Raises:
        ValueError: If it is no record of the losses of the state.
    """
    if state.get("manifest") is None:
        return None
    record = Objective.from_dict(state["manifest"])
    entries = record.losses.values()
    if not (record.is_record and record.losses.keys() == state["losses"].keys() and all(e.is_record for e in entries)):
        raise ValueError("a record of other losses")
    losses = dict(record.losses)
    for name, saved in state["losses"].items():
        if name in losses and saved.get("registered") is not None:
            losses[name] = losses[name].model_copy(update=saved["registered"])
    return record.model_copy(update={"losses": losses})


def _is_of_absence(difference: Difference) -> bool:
    """Whether a distribution is in use on one side only, which its loss or weighting is named for already."""
    return difference.kind == "version" and "absent" in (difference.before, difference.after)


def _who_has(state: bool) -> tuple[str, str]:
    return ("there", "absent") if state else ("absent", "there")


def _call_kwargs(loss_kwargs: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    if loss_kwargs is None:
        return {}
    given = arguments.mapping("loss_kwargs", loss_kwargs, "{'weight_kwargs': {'power': 2.0}}")
    for key in given:
        if key not in _LOSS_KWARGS:
            raise TypeError(f"loss_kwargs takes 'weight_kwargs' and 'function_kwargs', got {key!r}")
    return given


def _device(device: str | torch.device | None, config: Config) -> torch.device | None:
    named = config.common.device if device is None else device
    if named is None:
        return None
    try:
        return torch.device(named)
    except Exception as error:
        raise ConfigError(
            f"{shown(named)} is no device that torch knows, such as 'cpu' or 'cuda:0'", key="common.device"
        ) from error


def _checked_state(state: Mapping[str, Any]) -> tuple[dict[str, Any], Objective | None]:
    """Return a state and its record; raise `ValueError` for what is none, before anything is changed."""
    record = None
    try:
        valid = (
            isinstance(state, Mapping)
            and type(state["version"]) is int
            and state["version"] == 1
            and state.keys() >= _STATE
            and type(state["step"]) is int
            and -1 <= state["step"] < 2**63
            and type(state["ticked"]) is bool
            and isinstance(state["counts"], Mapping)
            and all(
                isinstance(name, str) and type(count) is int and 0 <= count <= 2**53
                for name, count in state["counts"].items()
            )
            and isinstance(state["losses"], Mapping)
            and all(
                isinstance(name, str) and isinstance(loss, Mapping) and type(loss["enabled"]) is bool
                for name, loss in state["losses"].items()
            )
            and all(map(is_state, state.get("weightings", {}).items()))
        )
        record = _registered_record(state) if valid else None
    except Exception:  # noqa: BLE001 # KeyError, or what an object raises
        valid = False
    if not valid:
        raise ValueError("expected what LossManager.state_dict() returned, in version 1")
    return {**state, "epoch": arguments.epoch(state["epoch"])}, record


def _refuse_in_graphs(what: str) -> None:
    """Raise inside `torch.compile`, where a change would take effect when the graph is compiled, not when it runs."""
    if _is_compiling():
        raise NectarganError(f"{what} outside of torch.compile; do it before or after the compiled step")


def _digits(precision: int | None) -> int | None:
    """Return digits after the point, none more than a float has; None for all there are.

    Raises:
        TypeError: If it is no integer.
    """
    if precision is None:
        return None
    return max(-_MOST_DIGITS, min(arguments.whole("precision", precision, -math.inf, math.inf), _MOST_DIGITS))


def _rounded(value: float, digits: int | None) -> float:
    """Round to digits after the point; a number that would become 0 keeps as many significant digits instead."""
    if digits is None:
        return value
    try:
        rounded = round(value, digits)
    except OverflowError:  # It would be beyond the largest float.
        rounded = 0.0
    return rounded or (value and float(f"{value:.{max(digits, 1)}g}"))


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{printable(name)}: {value}" for name, value in values.items())


def _print(text: str, capture: bool) -> str | None:
    if capture:
        return text
    print(text)
    return None
