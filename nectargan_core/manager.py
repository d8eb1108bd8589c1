"""The manager: holds the losses, computes them, keeps their history and tells observers."""

from __future__ import annotations

import operator
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, TracebackType
from typing import Any, Literal, NoReturn, get_args

import torch
from torch import Tensor

from nectargan_core.bound import BoundLoss, ComputedLosses
from nectargan_core.config import Config, read_config
from nectargan_core.errors import (
    ConfigError,
    DuplicateLossError,
    MissingInputError,
    NectarganError,
    did_you_mean,
    warn,
)
from nectargan_core.history import Series
from nectargan_core.log import LossLog
from nectargan_core.log_file import LogFile
from nectargan_core.log_format import describe_run
from nectargan_core.observers import Observers
from nectargan_core.recorder import OnNonFinite, Recorder
from nectargan_core.registry import ADJUSTMENTS, Query, outside_of_graphs
from nectargan_core.reporting import LossReporter
from nectargan_core.spec import Spec


class LossManager(LossReporter):
    """Holds named losses, computes them with their weights, and keeps their history and log.

    With an `experiment_dir` every value is logged to `loss_log.jsonl` there; without one only the last value of
    each loss is kept, unless `enable_logging=True` asks for the whole history in memory.

    Args:
        config: A `Config`, a mapping in the shape of NectarGAN's config.json, or None for nothing configured.
        experiment_dir: Where the log goes; made if it is not there.
        enable_logging: Whether to keep every value. None: if there is an `experiment_dir`.
        history_buffer_size: Records of one loss, at least 1, that are kept in memory before all are written.
        device: Where losses that are modules are moved to. None: the device of the config; with neither they
            stay where they are.
        resume: Whether to continue the log that is there, steps counting on after its last. Otherwise one that
            is there is moved aside to `loss_log.<n>.jsonl`.
        metadata: What else to say of the run in the header of the log; plain data.
        nonfinite: What happens when a weighted loss is nan or infinite: one warning a loss (`"warn"`), a
            `NonFiniteLossError` from the next compute or flush (`"raise"`), or nothing (`"ignore"`).
        flush_every: Seconds after which the next loss call writes what is new to the log.
        fsync: Whether each write waits until the disk has it, which a crash of the machine then spares.
        plugins: Objects whose functions marked with `hookimpl` observe this manager.

    Raises:
        ConfigError: If the configuration has a wrong type somewhere, or names a device that is none.
        LossLogError: If the directory cannot be made, or another process logs there.
        PluginContractError: If a plugin observes an event that does not exist.

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
        config: Config | Mapping[str, Any] | None = None,
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
        plugins: Iterable[object] = (),
    ) -> None:
        if nonfinite not in get_args(OnNonFinite):
            raise ValueError(f"nonfinite must be one of {', '.join(get_args(OnNonFinite))}, got {nonfinite!r}")
        if history_buffer_size < 1:
            raise ValueError(f"history_buffer_size must be at least 1, got {history_buffer_size}")
        if not flush_every >= 0:
            raise ValueError(f"flush_every must be a number of seconds of at least 0, got {flush_every!r}")
        settings = read_config(config)
        target = _device(device, settings)
        if target is not None:
            settings = settings.on_device(target)
        observers = Observers(self)
        for plugin in plugins:
            observers.add(plugin)
        self.experiment_dir = None if experiment_dir is None else Path(experiment_dir)
        keep = self.experiment_dir is not None if enable_logging is None else enable_logging
        log = None
        if keep and self.experiment_dir is not None:
            rank, world_size = _rank_and_world_size()
            header = describe_run(self.experiment_dir, settings, target, world_size, metadata or {})
            log = LogFile(self.experiment_dir, rank, resume, header, fsync)
        recorder = Recorder(log, keep, history_buffer_size, flush_every, nonfinite, observers)
        if log is not None and resume and log.path.exists():
            recorder.resume(LossLog(log.path))
        super().__init__(settings, target, recorder, observers)
        # Holds the recorder, not the manager, so that the manager can go before Python exits.
        self._finalizer = weakref.finalize(self, recorder.close)

    @classmethod
    def from_spec(
        cls,
        spec: str | Spec | None,
        config: Config | Mapping[str, Any] | None = None,
        experiment_dir: str | os.PathLike[str] | None = None,
        **keywords: Any,
    ) -> LossManager:
        """Make a manager and give it the losses of an objective.

        Args:
            spec: The name of an objective, such as `"pix2pix:extended+vgg"`, or a spec function, which is
                called with the config.
            config: As for `LossManager`.
            experiment_dir: As for `LossManager`.
            **keywords: `weights`, `schedules`, `options` and `prefix`, as for `init_from_spec`, with a name; all
                others as for `LossManager`.

        Raises:
            NectarganError: As `LossManager` and `init_from_spec` raise.
        """
        adjustments = {key: keywords.pop(key) for key in ADJUSTMENTS if key in keywords}
        manager = cls(config, experiment_dir, **keywords)
        args = (manager.config,) if callable(spec) else ()
        try:
            return manager.init_from_spec(spec, *args, **adjustments)
        except BaseException:
            manager._finalizer()
            raise

    # Computing

    def tick(self, epoch: float | None = None, step: int | None = None) -> None:
        """Set the clock that every loss is computed and recorded by; call it once per step.

        Args:
            epoch: The epoch, at least 0; fractions (`epoch + batch / batches`) move schedules per step. None: as
                before.
            step: The step, at least 0. None: 0 at the first tick, then one more each time.

        Example:
            >>> manager = LossManager()
            >>> manager.tick(epoch=0); manager.tick(epoch=0)
            >>> manager.step, manager.epoch
            (1, 0)
        """
        outside_of_graphs("the clock ticks")
        if epoch is not None and not 0 <= epoch < float("inf"):
            raise ValueError(f"epoch must be a number of at least 0, got {epoch!r}")
        if step is not None and not 0 <= (step := operator.index(step)) < 2**63:
            raise ValueError(f"step must be at least 0 and below 2**63, got {step!r}")
        # A tensor or a number of numpy would be no plain data in a state.
        self._recorder.tick(epoch if epoch is None or type(epoch) is int else float(epoch), step)

    @property
    def step(self) -> int:
        """The step of the clock; -1 before the first tick of a run that is not resumed."""
        return self._recorder.step

    @property
    def epoch(self) -> float:
        """The epoch of the clock."""
        return self._recorder.epoch

    @contextmanager
    def split(self, name: str) -> Iterator[None]:
        """Record under `<name>/<loss>` what is computed inside, such as the losses of a validation pass.

        The clock stands still. Inside, what is asked for (`get_loss_values`, `means`, ...) is that of the split, and
        `means()` are over what was computed since it was entered.

        Args:
            name: Name of the split; not empty, without `/`.

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
        if not name or "/" in name:
            raise ValueError(f"the name of a split is not empty and has no '/', got {name!r}")
        with self._diverted(f"{name}/", lambda loss: self._recorder.open_window(f"{name}/{loss}")):
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
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
        with self._diverted(None, self._recorder.scratch):
            yield

    @contextmanager
    def _diverted(self, prefix: str | None, series: Callable[[str], Series]) -> Iterator[None]:
        if self._prefix is None:  # paused: nothing inside is recorded, in a split neither
            prefix, series = None, self._recorder.scratch
        before = {bound: bound.divert(series(bound.name)) for bound in self._losses.values()}
        scalars, self._scalars = self._scalars, {}
        outer, self._prefix = self._prefix, prefix
        try:
            yield
        finally:
            self._prefix, self._scalars = outer, scalars
            for bound, place in before.items():
                bound.restore(place)

    def record(self, name: str, value: float | Tensor) -> None:
        """Record a scalar that is no loss, such as a learning rate or a metric, in the same history and log.

        It is recorded with the weight 1 at the clock's step and epoch; inside a split under the split's name. It may
        be nan or infinite without anybody being told.

        Args:
            name: Its name; not that of a loss, without `/`.
            value: A number, or a tensor, of which the mean counts; no device is waited for.

        Raises:
            DuplicateLossError: If a loss has this name.

        Example:
            >>> manager = LossManager(enable_logging=True)
            >>> manager.record("psnr", 31.5)
            >>> manager.latest("psnr")
            {'psnr': 31.5}
        """
        if name in self._losses:
            raise DuplicateLossError(f"{name!r} is a loss, which records itself; choose another name", name=name)
        if not name or "/" in name:
            raise ValueError(f"the name of a scalar is not empty and has no '/', got {name!r}")
        recorder = self._recorder
        if name not in self._scalars:
            if self._prefix is None:
                self._scalars[name] = recorder.scratch(name)
            else:
                self._scalars[name] = recorder.open_scalar(self._prefix + name, in_split=bool(self._prefix))
        series = self._scalars[name]
        if recorder.is_due(series):
            recorder.attend()
        series.add_scalar(recorder.step if recorder.ticked else series.count, recorder.epoch, value)

    def compute_loss_xy(
        self,
        loss_name: str,
        x: Any,
        y: Any,
        epoch: float | None = None,
        loss_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Tensor:
        """Compute, weigh and record a loss of two inputs.

        Args:
            loss_name: The registered loss.
            x: First argument of its function, such as the generated images.
            y: Second argument, such as the target.
            epoch: Epoch for the schedule and the record. None: that of the clock.
            loss_kwargs: `{"weight_kwargs": {...}}` overrides parameters of the schedule, `{"function_kwargs":
                {...}}` passes keyword arguments to the function, both for this call.

        Returns:
            The weighted result, attached to the graph: a new tensor, the caller's to edit.

        Raises:
            UnknownLossError: If no loss of this name is registered.
            ScheduleError: If the schedule gives no finite number.
            LossResultError: If the function returns no tensor of real numbers.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
            >>> float(manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2)))
            100.0
        """
        if loss_kwargs is not None:
            return self._compute(loss_name, (x, y), epoch, **_unpacked(loss_kwargs))
        # What _compute does, spelled out: this is the hot path.
        try:
            bound = self._losses[loss_name]
        except KeyError:
            raise self._unknown(loss_name) from None
        return bound.compute((x, y), None, epoch, None)

    def compute_loss_xyz(
        self,
        loss_name: str,
        x: Any,
        y: Any,
        z: Any,
        epoch: float | None = None,
        loss_kwargs: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Tensor:
        """Compute, weigh and record a loss of three inputs, such as one with a mask; see `compute_loss_xy`."""
        return self._compute(loss_name, (x, y, z), epoch, **_unpacked(loss_kwargs))

    def compute_loss(
        self,
        name: str,
        *inputs: Any,
        epoch: float | None = None,
        weight_kwargs: Mapping[str, Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """Compute, weigh and record a loss of any number of inputs; see `compute_loss_xy`."""
        return self._compute(name, inputs, epoch, weight_kwargs, function_kwargs)

    def compute_losses(
        self, inputs: Mapping[str, Any], query: Query = None, epoch: float | None = None
    ) -> ComputedLosses:
        """Compute, weigh and record every loss that a query finds, each with the inputs that it reads.

        Args:
            inputs: Values by input name. A plain function is called for its value, at most once, and only if a
                loss that runs reads it. What no loss reads is ignored.
            query: Tag or loss name, or several; None for all losses.
            epoch: Epoch for the schedules and the records. None: that of the clock.

        Returns:
            Weighted results by loss name, and their `total` to call `backward()` on.

        Raises:
            UnknownLossError: If the query finds no loss.
            MissingInputError: If a loss that runs reads an input that is not given; nothing is computed then.
            ScheduleError: If a schedule gives no finite number.
            LossResultError: If a function returns no tensor of real numbers.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0, tags=["G"])
            >>> manager.register_loss_fn("G_GAN", lambda pred: -pred.mean(), tags=["G"], inputs=("pred_fake",))
            >>> images = {"y_fake": torch.zeros(2), "y": torch.ones(2), "pred_fake": lambda: torch.ones(2)}
            >>> float(manager.compute_losses(images, query="G").total)
            99.0
        """
        selected = self._select(query)
        if not selected and (query is not None or not self._losses):
            raise self._nothing_found(query)
        # Before anything is computed, so that a mistake in the inputs records nothing.
        plan = [(bound, bound.runs(epoch)) for bound in selected]
        for bound, runs in plan:
            if runs and not inputs.keys() >= bound.reads:
                raise _missing_input(bound, inputs)
        values: dict[str, Any] = {}
        results = ComputedLosses()
        for bound, runs in plan:
            if not runs:
                # The function is not called; the zero is made like the first tensor.
                like = [value for value in inputs.values() if isinstance(value, Tensor)][:1]
                results[bound.name] = bound.compute(tuple(like), None, epoch, None)
                continue
            for name in bound.inputs:
                if name not in values:
                    value = inputs[name]
                    values[name] = value() if isinstance(value, _PLAIN_FUNCTIONS) else value
            arguments = tuple([values[name] for name in bound.inputs])
            if bound.parameters is None:
                results[bound.name] = bound.compute(arguments, None, epoch, None)
            else:
                named = dict(zip(bound.parameters, arguments, strict=True))
                results[bound.name] = bound.compute((), named, epoch, None)
        return results

    def _compute(
        self,
        name: str,
        args: tuple[Any, ...],
        epoch: float | None,
        weight_kwargs: Mapping[str, Any] | None = None,
        function_kwargs: Mapping[str, Any] | None = None,
    ) -> Tensor:
        try:
            bound = self._losses[name]
        except KeyError:
            raise self._unknown(name) from None
        return bound.compute(args, function_kwargs, epoch, weight_kwargs)

    # The log

    def update_loss_log(self, silent: bool = True, capture: bool = False) -> str | None:
        """Write what is new to the log now.

        Args:
            silent: Whether to say nothing about it.
            capture: If not silent, whether to return what would be printed.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
        """
        start = time.perf_counter()
        count = self._recorder.flush()
        self._recorder.raise_fault()
        if silent:
            return None
        log = self._recorder.log
        took = f"{count} records in {time.perf_counter() - start:.3f} s"
        text = f"Loss log: {took} to {log.path}" if log is not None else "Loss log: logging to a file is off"
        if capture:
            return text
        print(text)
        return None

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the run as plain data, after a flush: save it with the networks.

        Holds the clock, how often each loss was computed, and the weight, schedule and enabling of each loss; but no
        schedule whose function cannot be imported by a name, such as a lambda, for which a manager that loads the
        state keeps its own.
        """
        self._recorder.flush()
        self._recorder.raise_fault()
        losses = {name: bound.state(self.epoch) for name, bound in self._losses.items()}
        return {"version": 1, **self._recorder.state(), "losses": losses}

    def load_state_dict(self, state: Mapping[str, Any], weights: Literal["saved", "current"] = "saved") -> None:
        """Go on where a state was taken.

        What the log has beyond the state is superseded: it stays in the file, and reading leaves it out.

        Args:
            state: What `state_dict` returned.
            weights: Whether the losses get the weights, schedules and enabling of the state, or keep those that this
                manager was made with.

        Raises:
            ValueError: If it is no such state; the manager is then as it was.
            NectarganError: If a schedule of the state cannot be used; likewise.
        """
        if not isinstance(state, Mapping) or state.get("version") != 1 or not state.keys() >= _STATE:
            raise ValueError("expected what LossManager.state_dict() returned, in version 1")
        if weights not in ("saved", "current"):
            raise ValueError(f"weights must be 'saved' or 'current', got {weights!r}")
        saved = state["losses"]
        both = saved.keys() & self._losses.keys() if weights == "saved" else set()
        restored = {name: self._restored(name, saved[name]) for name in both}
        self._recorder.load_state(state)
        for bound in self._losses.values():
            bound.begin()
        for name, (loss, scheduler) in restored.items():
            self._losses[name].redefine(loss, scheduler)
            self._losses[name].enable(saved[name]["enabled"])
        if saved.keys() != self._losses.keys():
            differing = ", ".join(sorted(saved.keys() ^ self._losses.keys()))
            warn(f"the state and this manager do not have the same losses; only one of them has {differing}")

    def close(self) -> None:
        """Flush the log and give it up; nothing can be computed afterwards, everything can be asked.

        Raises:
            NonFiniteLossError: With `nonfinite="raise"`, if a loss has become nan or infinite.
        """
        if self._recorder.closed:
            return
        self._finalizer()
        ran = [bound.name for bound in self._losses.values() if bound.has_run]
        idle = [bound.name for bound in self._losses.values() if not bound.has_run and bound.reported_weight()]
        if ran and idle:
            warn(
                f"registered with a weight and never computed: {', '.join(idle)}; compute_losses(inputs) without a "
                "query computes every loss there is"
            )
        self._recorder.raise_fault()

    def __enter__(self) -> LossManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self._finalizer()  # without what close() says: the error is what matters

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise NectarganError(
            "a LossManager owns a log and cannot be copied or pickled; keep it outside of modules that are, and save "
            "its state_dict()"
        )

    def __repr__(self) -> str:
        where = f", experiment_dir={str(self.experiment_dir)!r}" if self.experiment_dir else ""
        return f"LossManager({', '.join(self._losses) or 'no losses'}{where})"


_PLAIN_FUNCTIONS = (FunctionType, MethodType, partial)
_LOSS_KWARGS = {"weight_kwargs", "function_kwargs"}
_STATE = {"step", "epoch", "ticked", "counts", "losses"}


def _unpacked(loss_kwargs: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    if loss_kwargs is None:
        return {}
    for key in loss_kwargs:
        if key not in _LOSS_KWARGS:
            raise TypeError(f"loss_kwargs takes 'weight_kwargs' and 'function_kwargs', got {key!r}")
    return dict(loss_kwargs)


def _missing_input(bound: BoundLoss, inputs: Mapping[str, Any]) -> MissingInputError:
    given = tuple(inputs)
    name = next(name for name in bound.inputs if name not in inputs)
    return MissingInputError(
        f"loss {bound.name!r} reads the input {name!r}, which was not given; given were {', '.join(given) or 'none'}."
        f"{did_you_mean(name, given)}",
        loss_name=bound.name,
        input_name=name,
        given=given,
    )


def _device(device: str | torch.device | None, config: Config) -> torch.device | None:
    named = config.common.device if device is None else device
    if named is None:
        return None
    try:
        return torch.device(named)
    except RuntimeError as error:
        raise ConfigError(
            f"{named!r} is no device that torch knows, such as 'cpu' or 'cuda:0'", key="common.device"
        ) from error


def _rank_and_world_size() -> tuple[int, int | None]:
    """Return the rank of this process in a distributed run and the number of ranks, None where nothing says it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not rank.isdigit():
        return 0, 1
    return int(rank), int(size) if size.isdigit() else None
