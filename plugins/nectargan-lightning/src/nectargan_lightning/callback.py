"""`LossCallback`, by which the managers of a LightningModule follow its Trainer."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nectargan_core import LossManager
from nectargan_core.errors import DuplicateLossError, NectarganError, NectarganWarning
from nectargan_lightning.values import Mean, Row, Values

PACKAGES = ("lightning.pytorch", "pytorch_lightning")
"""What Lightning is imported as; the classes of one are not those of the other."""


def _imported() -> list[str]:
    """Return the packages that are imported."""
    return [name for name in PACKAGES if name in sys.modules]


def _classes(names: Iterable[str]) -> tuple[type, ...]:
    """Return the class of callbacks of each package."""
    return tuple(importlib.import_module(name).Callback for name in names)


if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:
    # Where Lightning is imported first, the class is a callback by itself, as LightningCLI wants it.
    Callback = type("Callback", _classes(_imported()), {})


class LossCallback(Callback):
    """Lets each `LossManager` that a LightningModule has as an attribute follow the Trainer.

    - The clock of the manager has the epoch of the trainer, and the step that Lightning's loggers count: that of the
      batch, or with `accumulate_grad_batches` of the optimizer. Several optimizers do not make it count faster.
    - Losses of validation and test are recorded in the splits `val` and `test`, those of a second dataloader in
      `val_1`, of a third in `val_2`, and so on; those of sanity checks and predictions are recorded nowhere.
    - The loggers of the trainer get each loss once in `log_every_n_steps` steps, whenever the manager flushes; the
      weight of a loss as `weight/G_L1`, where it changes; and the means of a validation or test as `val/G_L1`.
    - `trainer.callback_metrics` has these means, and as `G_L1` the mean of the training since the epoch began, so that
      `ModelCheckpoint(monitor="val/G_L1")` works.
    - Checkpoints have the state of the manager, and what losses learn that is no part of the LightningModule.
      `fit(ckpt_path=...)` goes on from there.
    - Losses that are modules are moved to the device of the LightningModule.
    - At the end of `fit`, `validate` and `test` the log is complete. The manager stays open for the next of them;
      `close()` it after the last, which is when observers such as TensorBoard get to the last step.

    It fits a Trainer of `lightning` as well as one of `pytorch_lightning`.

    Raises:
        ImportError: If neither is installed.

    Example:
        >>> import lightning  # doctest: +SKIP
        >>> trainer = lightning.Trainer(callbacks=[LossCallback()])  # doctest: +SKIP
    """

    def __new__(cls) -> LossCallback:
        """Make an object that is a callback of whichever Lightning is in use.

        That is seen here, since this module may be imported first: whoever makes a Trainer has imported its Lightning
        by now.
        """
        mine: Any = cls
        missing = tuple(base for base in _callback_classes() if not issubclass(cls, base))
        made: LossCallback = object.__new__(_derived(mine, missing) if missing else mine)
        return made

    def __init__(self) -> None:
        super().__init__()
        # The managers of the module, which `trainer.save_checkpoint` may ask for after the run, too; and during the run
        # what gathers their records. Both by the names of the attributes.
        self._managers: dict[str, LossManager] = {}
        self._values: dict[str, Values] = {}
        self._module: nn.Module | None = None
        self._is_fitting = False
        # Step and epoch of the last tick.
        self._clock: tuple[int, int] | None = None
        # The pause or split that the managers are in, and the splits of this validation or test.
        self._scopes = contextlib.ExitStack()
        self._split = ""
        self._entered: list[str] = []

    def __reduce__(self) -> tuple[type[LossCallback], tuple[()]]:
        # A class that `__new__` made cannot be found by its name. What this holds belongs to a run of this process.
        return vars(type(self)).get("_made_of", type(self)), ()

    # Begin and end

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the managers that are there already."""
        self._let_go()
        self._managers.clear()
        self._entered.clear()
        self._is_fitting = stage == "fit"
        self._clock = None
        self._find(trainer, pl_module)
        self._warn_of_one_rank(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Find the managers, and move their losses to the device."""
        self._begin(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what is left to the log and the loggers."""
        self._flush()
        for name, values in self._values.items():
            values.finish(self._managers[name])

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write what is left to the log and the loggers."""
        self._leave()
        with contextlib.suppress(NectarganError):  # it would hide the exception
            self._flush()
        self._let_go()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write what is left to the log and the loggers; the managers stay open, for a test or another fit."""
        self._leave()
        self._flush()
        self._let_go()

    # Training

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin the means of the training anew."""
        for values in self._values.values():
            values.forget()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Set the clock, once for all batches that are accumulated."""
        clock = (_step_of(trainer), trainer.current_epoch)
        if clock != self._clock:
            self._clock = clock
            for manager in self._managers.values():
                manager.tick(epoch=clock[1], step=clock[0])

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let other callbacks have the means of the training."""
        self._flush()
        self._log_means_of_training(trainer, pl_module)

    # Validation, test and prediction

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record nothing."""
        self._pause()

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record again."""
        self._leave()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record in the split `val`."""
        if not trainer.sanity_checking:
            self._begin(trainer, pl_module)
            self._enter("val")

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Record in the split of the dataloader."""
        if not trainer.sanity_checking:
            self._enter("val", dataloader_idx)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means."""
        if not trainer.sanity_checking:
            self._log_means(trainer, pl_module)
            self._enter("val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the split."""
        if not trainer.sanity_checking:
            self._end(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record in the split `test`."""
        self._begin(trainer, pl_module)
        self._enter("test")

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Record in the split of the dataloader."""
        self._enter("test", dataloader_idx)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the means."""
        self._log_means(trainer, pl_module)
        self._enter("test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the split."""
        self._end(trainer)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record nothing."""
        self._find(trainer, pl_module)
        self._pause()

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record again."""
        self._leave()

    # Checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the state of each manager, by the name of its attribute, and what its losses learn."""
        return {
            name: {"manager": manager.state_dict(), "learned": self._learned(manager)}
            for name, manager in self._managers.items()
        }

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the managers whose states are loaded next."""
        self._find(trainer, pl_module)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state of each manager, and what its losses learn.

        When a checkpoint is validated or tested, a manager that was trained further than that stays where it is, since
        what it has recorded after the checkpoint would be superseded.
        """
        if self._is_fitting and state_dict.keys() != self._managers.keys():
            warnings.warn(
                f"the checkpoint has states of the managers {_listed(state_dict)}, and the LightningModule has the "
                f"managers {_listed(self._managers)}; those that only one of them has begin anew",
                NectarganWarning,
                stacklevel=2,
            )
        for name in state_dict.keys() & self._managers.keys():
            manager = self._managers[name]
            state = state_dict[name]["manager"]
            if self._is_fitting or manager.step <= state["step"]:
                manager.load_state_dict(state)
            for key, learned in state_dict[name]["learned"].items():
                manager.modules()[key].load_state_dict(learned)

    def _learned(self, manager: LossManager) -> dict[str, dict[str, torch.Tensor]]:
        """Return the states of those losses and weightings that learn what the LightningModule does not save."""
        saved = set() if self._module is None else {id(parameter) for parameter in self._module.parameters()}
        return {
            key: module.state_dict()
            for key, module in manager.modules().items()
            if any(each.requires_grad and id(each) not in saved for each in module.parameters())
        }

    # The managers

    def _find(self, trainer: Trainer, module: LightningModule) -> None:
        self._module = module
        every = trainer.log_every_n_steps  # type: ignore[attr-defined] # it is set from elsewhere
        if not (trainer.is_global_zero and trainer.loggers):
            every = 0
        for name, manager in _managers_of(module):
            if self._managers.get(name) is not manager:
                self._let_go(name)
                self._managers[name] = manager
            if name not in self._values:
                self._values[name] = Values(every, partial(_write, trainer))
                manager.add_observer(self._values[name])
        self._refuse_duplicates()

    def _warn_of_one_rank(self, trainer: Trainer) -> None:
        """Warn of logs of rank 0 that were begun before Lightning started the processes of the other ranks."""
        # Under torchrun or Slurm each process is started as what it is, and its managers know how many there are.
        environment = getattr(trainer.strategy, "cluster_environment", None)
        starts_processes = type(environment).__name__ == "LightningEnvironment"
        if trainer.world_size == 1 or not starts_processes or not trainer.is_global_zero:
            return
        early = [name for name, manager in self._managers.items() if manager.experiment_dir is not None]
        if early:
            warnings.warn(
                f"the managers {_listed(early)} were made before this run had {trainer.world_size} processes, so that "
                "reading their logs leaves out what other ranks log; make them in configure_model() instead of "
                "__init__, if they are not there yet",
                NectarganWarning,
                stacklevel=2,
            )

    def _refuse_duplicates(self) -> None:
        owners: dict[str, str] = {}
        for name, manager in self._managers.items():
            for loss in manager.get_registered_losses():
                if loss in owners:
                    raise DuplicateLossError(
                        f"the managers {owners[loss]!r} and {name!r} of the LightningModule both have a loss {loss!r}, "
                        "and loggers and checkpoints know it by its name only; give one of them other names, as with "
                        "LossManager.from_spec(..., prefix='ab_')",
                        name=loss,
                    )
                owners[loss] = name

    def _begin(self, trainer: Trainer, module: LightningModule) -> None:
        self._find(trainer, module)
        if not self._managers:
            raise NectarganError(
                f"LossCallback has found no LossManager in {type(module).__name__}; assign it to an attribute, such as "
                "self.losses, in __init__ or setup, and not within a list or dict"
            )
        for manager in self._managers.values():
            manager.modules().to(module.device)

    def _flush(self) -> None:
        for manager in self._managers.values():
            manager.update_loss_log()

    def _let_go(self, *names: str) -> None:
        """Observe some managers, or all of them, no longer."""
        for name in names or [*self._values]:
            if values := self._values.pop(name, None):
                values.finish(self._managers[name])
                self._managers[name].hooks.unregister(values)

    # Splits

    def _enter(self, split: str, dataloader: int = 0) -> None:
        """Let the managers record in a split, if they do not yet."""
        if dataloader:
            split = f"{split}_{dataloader}"
        if split == self._split:
            return
        self._leave()
        if split not in self._entered:
            self._entered.append(split)
            for values in self._values.values():
                values.forget(f"{split}/")
        for manager in self._managers.values():
            self._scopes.enter_context(manager.split(split))
        self._split = split

    def _pause(self) -> None:
        for manager in self._managers.values():
            self._scopes.enter_context(manager.paused())

    def _leave(self) -> None:
        self._scopes.close()
        self._split = ""

    def _log_means(self, trainer: Trainer, module: LightningModule) -> None:
        """Log the means of each split that was entered; after that its means begin anew."""
        self._flush()
        self._log(trainer, module, self._means_of_splits(), logger=bool(trainer.loggers))
        if self._is_fitting:
            self._log_means_of_training(trainer, module)

    def _log_means_of_training(self, trainer: Trainer, module: LightningModule) -> None:
        # The loggers have each step.
        means = [values.means() for values in self._values.values()]
        self._log(trainer, module, {name: mean for each in means for name, mean in each.items()}, logger=False)

    def _log(self, trainer: Trainer, module: LightningModule, means: dict[str, Mean], *, logger: bool) -> None:
        # What is monitored decides for all processes, so it is the mean of theirs.
        log = partial(module.log, on_step=False, on_epoch=True, logger=logger, sync_dist=trainer.world_size > 1)
        for name, mean in means.items():
            log(name, mean.value, batch_size=mean.size)

    def _end(self, trainer: Trainer) -> None:
        """Leave the splits, and pass on what was recorded in them after the means were logged.

        Here `module.log` is not allowed any more.
        """
        self._leave()
        self._flush()
        if late := {name: mean.value for name, mean in self._means_of_splits().items()}:
            trainer.callback_metrics.update({name: torch.tensor(mean) for name, mean in late.items()})
            _write(trainer, [(_step_of(trainer), late | {"epoch": trainer.current_epoch})])
        self._entered.clear()

    def _means_of_splits(self) -> dict[str, Mean]:
        means: dict[str, Mean] = {}
        for values in self._values.values():
            for split in self._entered:
                means |= values.means(f"{split}/")
                values.forget(f"{split}/")
        return means


def _step_of(trainer: Trainer) -> int:
    """Return the step at which Lightning's own loggers are; `global_step` counts the steps of all optimizers."""
    # Nothing public says it.
    return int(getattr(trainer.fit_loop.epoch_loop, "_batches_that_stepped", trainer.global_step))


def _write(trainer: Trainer, rows: list[tuple[int, Row]]) -> None:
    """Give rows to all loggers."""
    for logger in trainer.loggers:
        for step, row in rows:
            logger.log_metrics(row, step=step)
        logger.save()


def _managers_of(module: nn.Module) -> Iterator[tuple[str, LossManager]]:
    """Yield the managers that a module or one of its submodules has as an attribute, each once, with the attribute."""
    found: set[int] = set()
    for path, each in module.named_modules():
        for name, value in [*vars(each).items()]:
            if isinstance(value, LossManager) and id(value) not in found:
                found.add(id(value))
                yield f"{path}.{name}" if path else name, value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names)) or "(none)"


def _callback_classes() -> tuple[type, ...]:
    """Return the class of callbacks of each Lightning that is imported; where none is, of one that is installed.

    Raises:
        ImportError: If none is.
    """
    names = _imported()
    if not names:
        names = [name for name in PACKAGES if importlib.util.find_spec(name.partition(".")[0])][:1]
    if not names:
        raise ImportError(
            "LossCallback needs PyTorch Lightning, under either of its names: pip install lightning, or pip install "
            "pytorch-lightning"
        )
    return _classes(names)


@functools.cache
def _derived(cls: type, bases: tuple[type, ...]) -> type:
    """Return a class that is a callback for Lightning, too, and looks like the class that it is made of."""
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "_made_of": cls}
    return type(cls.__name__, (cls, *bases), names)
