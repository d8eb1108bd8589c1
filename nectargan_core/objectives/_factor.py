"""Applies the factor of a summand to the losses of its term."""

from __future__ import annotations

import math

from nectargan_core.errors import SpecError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives._grammar import Summand
from nectargan_core.weightings import Losses

# A factor is what a paper puts before a loss of the generator.
_GENERATOR = "G"


def with_factor(losses: dict[str, LMLoss], summand: Summand) -> dict[str, LMLoss]:
    """Return the losses of a term with the weights that a factor gives them.

    It concerns the losses tagged `G`, or all where none is. It is the weight of one such loss, and multiplies the
    weights, and the values of the schedules, of several.

    Args:
        losses: The losses as the spec built them, without the weights of a configuration.
        summand: The term, and the factor; without one the losses stay as they are.

    Raises:
        SpecError: If a weight would be infinite, or become 0 by rounding.
    """
    factor = summand.factor
    if factor is None:
        return losses
    concerned = [name for name, loss in losses.items() if _GENERATOR in loss.tags] or list(losses)
    if len(concerned) == 1:
        changed = {name: _with_weight(losses[name], factor, summand) for name in concerned}
    else:
        changed = {name: _multiplied(losses[name], factor, summand) for name in concerned}
    weightings = losses.weightings if isinstance(losses, Losses) else None
    return Losses({**losses, **changed}, weightings=weightings)


def _with_weight(loss: LMLoss, weight: float, summand: Summand) -> LMLoss:
    """Return a loss with a weight, or with its schedule scaled so that the larger of its two ends is the weight."""
    schedule = loss.schedule
    if not schedule.is_scheduled:
        return loss.model_copy(update={"loss_weight": weight})
    ends = schedule.ends()
    given = [end for name, end in zip(("initial_value", "target_value"), ends, strict=True) if schedule.gives(name)]
    if len(given) < 2 and not any(given):
        # The other end stands for the weight: as 1 it is exactly the factor, whatever the curve makes of the ends.
        return loss.model_copy(update={"schedule": schedule.with_weight(1.0).model_copy(update={"factor": weight})})
    largest = max(ends, key=abs) or 1.0
    return _with_schedule_factor(loss, _held(weight / largest, not weight, loss, summand), summand)


def _multiplied(loss: LMLoss, factor: float, summand: Summand) -> LMLoss:
    """Return a loss with its weight, or all values of its schedule, multiplied by a factor."""
    if loss.schedule.is_scheduled:
        return _with_schedule_factor(loss, loss.schedule.factor * factor, summand)
    return loss.model_copy(update={"loss_weight": _product(loss.loss_weight, factor, loss, summand)})


def _with_schedule_factor(loss: LMLoss, factor: float, summand: Summand) -> LMLoss:
    for end in loss.schedule.ends():
        _product(end, factor, loss, summand)
    return loss.model_copy(update={"schedule": loss.schedule.model_copy(update={"factor": factor})})


def _product(weight: float, factor: float, loss: LMLoss, summand: Summand) -> float:
    return _held(weight * factor, not weight or not factor, loss, summand)


def _held(value: float, may_be_zero: bool, loss: LMLoss, summand: Summand) -> float:
    """Return a weight, if a float can hold it."""
    if not math.isfinite(value) or not (value or may_be_zero):
        size = "small" if not value else "large"
        raise SpecError(
            f"the factor of {str(summand)!r} makes the weight of loss {loss.name!r} too {size} for a float; write one "
            "that is closer to 1"
        )
    return value or 0.0  # not -0.0
