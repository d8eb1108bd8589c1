"""The losses of a run, built from its options, and whether the trainer can train on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from nectargan_core import Config, LMLoss, LossManager, Objective, catalog
from nectargan_core.errors import LossLogError, MissingInputError, NectarganError, ScheduleError, SpecError
from nectargan_pix2pix.options import Options, misspelt, read_schedule
from nectargan_pix2pix.training import INPUTS


def build(
    options: Options,
    objective: Objective | None,
    device: torch.device,
    out: Path | None = None,
    *,
    resume: bool = False,
) -> LossManager:
    """Make the manager of a run.

    Args:
        options: The options of the run.
        objective: What its objective file holds; None where it has a formula.
        device: The device of the losses.
        out: The directory of the log; None to log nothing, to nobody.
        resume: Whether to go on with the log that is there.

    Raises:
        NectarganError: If the objective cannot be built, or the log cannot be opened.
    """
    if objective is not None:
        # What was asked for goes before the file, and is no difference from a record.
        objective = objective.model_copy(update={"total_epochs": options.epochs, "total_steps": None})
    shown = {name: getattr(options, name) for name in ("seed", "batch_size", "channels", "lr_g", "lr_d")}
    try:
        return LossManager.from_spec(
            options.spec if objective is None else objective,
            Config.model_validate(options.config),
            out,
            device=device,
            total_epochs=options.epochs,
            weights=options.weights or None,
            schedules={name: read_schedule(text) for name, text in options.schedules.items()} or None,
            resume=resume,
            metadata=shown,
            # Told of what is logged, and of nothing else.
            observers=() if out is None else options.log_to,
            # As a checkpoint, so that the log is not behind it after a crash of the machine.
            fsync=True,
        )
    except ScheduleError as error:
        hint = misspelt(options.schedules.values())
        if not hint:
            raise
        raise ScheduleError(f"--schedule: {error}.{hint}") from error
    except LossLogError as error:
        raise LossLogError(str(error).replace("experiment_dir", "--out")) from error
    except ValueError as error:
        if isinstance(error, NectarganError):
            raise
        what = repr(options.spec) if objective is None else "the objective file"
        raise SpecError(f"{what} cannot be used as asked: {error}") from error


def check_observers(names: Iterable[str]) -> None:
    """Raise if an observer cannot be used that gets the log; none is made.

    Args:
        names: Their names, which may begin with a distribution, such as `acme-tools/acme`.

    Raises:
        PluginError: If one is not installed, blocked or broken.
    """
    for name in names:
        provider, _, own = name.rpartition("/")
        catalog.find(catalog.OBSERVERS, own, provider or None).load()


def check(manager: LossManager) -> None:
    """Raise if the trainer cannot train on the losses of a manager, whatever they compute.

    Raises:
        SpecError: If a loss has no tag of a network, or none has that of the generator.
        MissingInputError: If a loss reads what the trainer does not have.
    """
    losses = manager.get_registered_losses()
    lost = [name for name, loss in losses.items() if not {"G", "D"} & set(loss.tags)]
    if lost:
        raise SpecError(
            f"the trainer does not know which network {', '.join(lost)} is to train; tag such a loss 'G' for the "
            "generator or 'D' for the discriminator where it is defined"
        )
    if not manager.get_registered_losses("G"):
        raise SpecError(
            f"no loss of {name_of(manager)} is tagged 'G', so that nothing would train the generator; add one, such as "
            "l1"
        )
    for name, loss in losses.items():
        for read in _read_by(loss):
            if read not in INPUTS:
                raise MissingInputError(
                    f"loss {name!r} reads {read!r}, which the trainer does not have; it has {', '.join(INPUTS)}. "
                    "Leave the loss out, or give it another input with rename_inputs in an objective file",
                    loss_name=name,
                    input_name=read,
                    given=INPUTS,
                )


def name_of(manager: LossManager) -> str:
    """Return what an objective is called: its formulas, or where there are none, the names of its losses."""
    return manager.objective or " + ".join(manager.get_registered_losses())


def remarks(manager: LossManager) -> list[str]:
    """Return what a user should know of an objective that can be trained on, a line each."""
    if manager.get_registered_losses("D"):
        return []
    losses = manager.get_registered_losses("G").items()
    readers = [name for name, loss in losses if {"pred_real", "pred_fake"} & set(_read_by(loss))]
    line = "No loss is tagged 'D': the discriminator is not trained"
    return [f"{line}, and {', '.join(readers)} reads what it predicts." if readers else f"{line}."]


def _read_by(loss: LMLoss) -> tuple[str, ...]:
    """Return the inputs that a loss reads."""
    return tuple(loss.inputs.values() if isinstance(loss.inputs, Mapping) else loss.inputs)


def let_all_run(manager: LossManager) -> None:
    """Give the losses a weight of 1 that have one of 0 by their schedule for now, so that a first step runs them."""
    weights = manager.get_loss_weights(precision=None)
    for name, loss in manager.get_registered_losses().items():
        if loss.schedule.is_scheduled and not weights[name]:
            manager.set_weight(name, 1.0)
