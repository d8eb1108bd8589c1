"""The manager: holds the losses, computes them, keeps their history and tells observers."""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType, MethodType, TracebackType
from typing import Any, Literal

import torch
from torch import Tensor

from nectargan_core.bound import BoundLoss, ComputedLosses
from nectargan_core.config import Config, read_config
from nectargan_core.errors import (
    ConfigError,
    MissingInputError,
    did_you_mean,
    warn,
)
from nectargan_core.log_file import LogFile
from nectargan_core.log_format import describe_run
from nectargan_core.observers import Observers
from nectargan_core.recorder import Recorder
from nectargan_core.registry import LossRegistry, Query
from nectargan_core.spec import Spec


class LossManager(LossRegistry):
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
        nonfinite: What happens when a weighted loss is nan or infinite: one warning a loss, a
            `NonFiniteLossError` from the next compute or flush, or nothing.
        plugins: Objects whose functions marked with `hookimpl` observe this manager.

    Raises:
        ConfigError: If the configuration has a wrong type somewhere, or names a device that is none.
        LossLogError: If the directory cannot be made, or another process logs there.
        PluginContractError: If a plugin observes an event that does not exist.

    Example:
        >>> manager = LossManager()
        >>> manager.register_loss_fn("G_L1", nn.L1Loss(), loss_weight=100.0, tags=["G"])
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
        nonfinite: Literal["warn", "raise", "ignore"] = "warn",
        plugins: Iterable[object] = (),
    ) -> None:
        if nonfinite not in ("warn", "raise", "ignore"):
            raise ValueError(f"nonfinite must be 'warn', 'raise' or 'ignore', got {nonfinite!r}")
        if history_buffer_size < 1:
            raise ValueError(f"history_buffer_size must be at least 1, got {history_buffer_size}")
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
            header = describe_run(self.experiment_dir, settings, target)
            log = LogFile(self.experiment_dir, _rank(), False, header)
        recorder = Recorder(log, keep, history_buffer_size, nonfinite, observers)
        super().__init__(settings, target, recorder, observers)
        # Holds the recorder, not the manager, so that the manager can go before Python exits.
        self._finalizer = weakref.finalize(self, recorder.close)

    @classmethod
    def from_spec(
        cls,
        spec: str | Spec | None,
        config: Config | Mapping[str, Any] | None = None,
        experiment_dir: str | os.PathLike[str] | None = None,
        enable_logging: bool | None = None,
        history_buffer_size: int = 50_000,
        *,
        device: str | torch.device | None = None,
        nonfinite: Literal["warn", "raise", "ignore"] = "warn",
        plugins: Iterable[object] = (),
        **keywords: Any,
    ) -> LossManager:
        """Make a manager and give it the losses of an objective.

        Args:
            spec: The name of an objective, such as `"pix2pix:extended+vgg"`, or a spec function, which is
                called with the config.
            config: As for `LossManager`, like all that follow.
            experiment_dir: As for `LossManager`.
            enable_logging: As for `LossManager`.
            history_buffer_size: As for `LossManager`.
            device: As for `LossManager`.
            plugins: As for `LossManager`.
            nonfinite: As for `LossManager`.
            **keywords: `weights`, `schedules`, `options` and `prefix`, as for `init_from_spec`.

        Raises:
            NectarganError: As `LossManager` and `init_from_spec` raise.
        """
        manager = cls(
            config,
            experiment_dir,
            enable_logging,
            history_buffer_size,
            device=device,
            nonfinite=nonfinite,
            plugins=plugins,
        )
        args = (manager.config,) if callable(spec) else ()
        try:
            return manager.init_from_spec(spec, *args, **keywords)
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
        if epoch is not None and not 0 <= epoch < float("inf"):
            raise ValueError(f"epoch must be a number of at least 0, got {epoch!r}")
        if step is not None and step < 0:
            raise ValueError(f"step must be at least 0, got {step!r}")
        self._recorder.tick(epoch, step)

    @property
    def step(self) -> int:
        """The step of the clock."""
        return self._recorder.step

    @property
    def epoch(self) -> float:
        """The epoch of the clock."""
        return self._recorder.epoch

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
            >>> manager.register_loss_fn("G_L1", nn.L1Loss(), loss_weight=100.0)
            >>> float(manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2)))
            100.0
        """
        if loss_kwargs is not None:
            return self._compute(loss_name, (x, y), epoch, **_split(loss_kwargs))
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
        return self._compute(loss_name, (x, y, z), epoch, **_split(loss_kwargs))

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
            >>> manager.register_loss_fn("G_L1", nn.L1Loss(), loss_weight=100.0, tags=["G"])
            >>> manager.register_loss_fn("G_GAN", lambda pred: -pred.mean(), tags=["G"], inputs=("pred_fake",))
            >>> images = {"y_fake": torch.zeros(2), "y": torch.ones(2), "pred_fake": lambda: torch.ones(2)}
            >>> float(manager.compute_losses(images, query="G").total)
            99.0
        """
        selected = self._select(query)
        if not selected and (query is not None or not self._losses):
            raise self._nothing_found(query)
        now = self._recorder.epoch if epoch is None else epoch
        running = {bound.name for bound in selected if bound.runs(now)}
        for bound in selected:
            if bound.name in running:
                for name in bound.inputs:
                    if name not in inputs:
                        raise _missing_input(bound, name, inputs)
        values: dict[str, Any] = {}
        results = ComputedLosses()
        for bound in selected:
            arguments = []
            for name in bound.inputs if bound.name in running else ():
                if name not in values:
                    value = inputs[name]
                    values[name] = value() if isinstance(value, _PLAIN_FUNCTIONS) else value
                arguments.append(values[name])
            if bound.name not in running:
                # The function is not called; the zero is made like this one.
                arguments = [value for value in inputs.values() if isinstance(value, Tensor)][:1]
            if bound.parameters is None or bound.name not in running:
                results[bound.name] = self._compute(bound.name, tuple(arguments), epoch)
            else:
                named = dict(zip(bound.parameters, arguments, strict=True))
                results[bound.name] = self._compute(bound.name, (), epoch, None, named)
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

    # Asking

    def get_loss_values(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the last value of each loss: the mean of the weighted result in its own dtype.

        Waits for the device once, however many losses there are.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.

        Returns:
            Values by loss name; nan for a loss that has not run. Empty if the query finds none.
        """
        self._recorder.settle()
        return {bound.name: _rounded(bound.last_value(), precision) for bound in self._select(query)}

    def get_loss_tensors(self, query: Query = None) -> dict[str, Tensor]:
        """Return the last weighted result of each loss, detached, on its device; nan for one that has not run."""
        return {bound.name: bound.last_tensor() for bound in self._select(query)}

    def get_loss_weights(self, query: Query = None, precision: int | None = 2) -> dict[str, float]:
        """Return the weight that was last applied to each loss, or will be if it has not run.

        Args:
            query: Tag or loss name, or several; None for all losses.
            precision: Digits after the point to round to; None for all there are.
        """
        return {bound.name: _rounded(bound.reported_weight(), precision) for bound in self._select(query)}

    def print_losses(self, epoch: float, iter: int, precision: int = 2, capture: bool = False) -> str | None:  # noqa: A002 # the reference's name
        """Print the last value of each loss, or return the line if `capture`.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", nn.L1Loss())
            >>> _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            >>> manager.print_losses(epoch=1, iter=20)
            (epoch: 1, iters: 20) Loss: G_L1: 1.0
        """
        return _print(
            f"(epoch: {epoch}, iters: {iter}) Loss: {_listed(self.get_loss_values(None, precision))}", capture
        )

    def print_weights(self, precision: int = 2, capture: bool = False) -> str | None:
        """Print the weight of each loss, or return the line if `capture`.

        Example:
            >>> manager = LossManager()
            >>> manager.register_loss_fn("G_L1", nn.L1Loss(), loss_weight=100.0)
            >>> manager.print_weights()
            Loss weights: G_L1: 100.0
        """
        return _print(f"Loss weights: {_listed(self.get_loss_weights(None, precision))}", capture)

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
        if log is None:
            return _print("Loss log: logging to a file is off", capture)
        return _print(f"Loss log: {count} records to {log.path} in {time.perf_counter() - start:.3f} s", capture)

    def close(self) -> None:
        """Flush the log and give it up; nothing can be computed afterwards, everything can be asked."""
        if self._recorder.closed:
            return
        self._recorder.flush()
        ran = [bound.name for bound in self._losses.values() if bound.has_run]
        idle = [bound.name for bound in self._losses.values() if not bound.has_run and bound.weight(self.epoch)]
        if ran and idle:
            warn(
                f"registered with a weight and never computed: {', '.join(idle)}; compute_losses(inputs) without a "
                "query computes every loss there is"
            )
        self._finalizer()
        self._observers.tell("nectargan_manager_closed")

    def __enter__(self) -> LossManager:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if kind is None:
            self._recorder.raise_fault()

    def __repr__(self) -> str:
        where = f", experiment_dir={str(self.experiment_dir)!r}" if self.experiment_dir else ""
        return f"LossManager({', '.join(self._losses) or 'no losses'}{where})"


_PLAIN_FUNCTIONS = (FunctionType, MethodType, partial)
_PRECISE = {"weight_kwargs", "function_kwargs"}


def _split(loss_kwargs: Mapping[str, Mapping[str, Any]] | None) -> dict[str, Any]:
    if loss_kwargs is None:
        return {}
    for key in loss_kwargs:
        if key not in _PRECISE:
            raise TypeError(f"loss_kwargs takes 'weight_kwargs' and 'function_kwargs', got {key!r}")
    return dict(loss_kwargs)


def _missing_input(bound: BoundLoss, name: str, inputs: Mapping[str, Any]) -> MissingInputError:
    given = tuple(inputs)
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


def _rank() -> int:
    """Return the rank of this process in a distributed run, 0 in any other."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))


def _rounded(value: float, precision: int | None) -> float:
    return value if precision is None else round(value, precision)


def _listed(values: Mapping[str, float]) -> str:
    return " ".join(f"{name}: {value}" for name, value in values.items())


def _print(text: str, capture: bool) -> str | None:
    if capture:
        return text
    print(text)
    return None
