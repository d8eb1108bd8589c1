"""Applies `prefix=`, `weights=`, `schedules=` and `rename_inputs=` of a caller to the losses of an objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, warn
from nectargan_core.config import ConfiguredWeight
from nectargan_core.errors import UnknownLossError
from nectargan_core.losses import LMLoss, check_schedule
from nectargan_core.objectives._renaming import NOTHING_RENAMED, Renaming
from nectargan_core.schedules import Schedule
from nectargan_core.weightings import Weighting


def adjust(
    losses: Mapping[str, LMLoss],
    weights: Mapping[str, float] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    prefix: str = "",
    renaming: Renaming = NOTHING_RENAMED,
    brought: Iterable[Weighting] = (),
) -> dict[str, LMLoss]:
    """Return the losses of an objective under their final names, with the weights and schedules asked for.

    Args:
        losses: The losses as they were built.
        weights: Weights by final name. They beat those of config and spec.
        schedules: Schedules by final name. They replace weights and schedules of config and spec; an end that
            is left out is the weight that the loss would have had.
        prefix: Put before every name.
        renaming: The inputs that losses are given, by the inputs that they read: for all of them, and by final name for
            one, which beats those for all.
        brought: The weightings that the specs of the objective bring, whose inputs are renamed, too.

    Raises:
        UnknownLossError: If a weight, schedule or renaming is for a loss that the objective does not have.
        SpecError: If an input is renamed that is not read, or two that one loss takes in different ways to one.
        ScheduleError: If a weight contradicts the `initial_value` of a schedule.
        TypeError: If an argument has the wrong type.
        ValueError: If the prefix cannot be a part of a name, or an input has a name that UTF-8 cannot write.
        pydantic.ValidationError: If a weight is not a finite number.
    """
    prefix = arguments.text("prefix", prefix)
    if weights is not None:
        weights = arguments.mapping("weights", weights, "{'G_L1': 100.0}")
    if schedules is not None:
        schedules = arguments.mapping("schedules", schedules, "{'G_L1': Schedule(end=10, target_value=0.0)}")
    final = {prefix + name: loss for name, loss in losses.items()}
    for what, given in (("weight", weights), ("schedule", schedules), ("renaming of inputs", renaming.own)):
        for name in given or ():
            if name not in final:
                raise UnknownLossError(
                    f"a {what} is given for loss {name!r}, which this objective does not have; it has "
                    f"{listed(final)}.{did_you_mean(name, final)}",
                    name=name,
                    known=tuple(final),
                )
    renaming.check(final, brought)
    for name, loss in final.items():
        update: dict[str, Any] = renaming.fields(name, loss)
        if prefix:
            update["name"] = name
        if weights and name in weights:
            update["loss_weight"] = weights[name]
        if schedules and name in schedules:
            check_schedule(name, schedules[name])
            update["schedule"] = schedules[name]
        final[name] = loss.model_copy(update=update) if update else loss
    return final


def warn_of_zeros(losses: Mapping[str, LMLoss]) -> None:
    """Warn of each loss that does nothing because a configuration sets its weight to 0."""
    for name, loss in losses.items():
        weight = loss.loss_weight
        if isinstance(weight, ConfiguredWeight) and not weight and not loss.schedule.is_scheduled:
            warn(
                f"loss {name!r} does nothing: the configuration sets {weight.key} to 0; remove the key "
                "for the spec's own weight, or choose an objective without this loss"
            )
