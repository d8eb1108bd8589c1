"""Weightings: their definition, one at work in a manager, what it is given at a step, and gradients of losses."""

from nectargan_core.weightings._gradients import (
    gradients_of,
    gram_of,
    norms_of,
    not_reached,
    scale_of,
    tensors_of,
    unreached,
)
from nectargan_core.weightings._loss_gradients import LossGradients, compared
from nectargan_core.weightings._losses import Losses, read_weighting, read_weightings
from nectargan_core.weightings._weighting import Weighting

__all__ = [
    "LossGradients",
    "Losses",
    "Weighting",
    "compared",
    "gradients_of",
    "gram_of",
    "norms_of",
    "not_reached",
    "read_weighting",
    "read_weightings",
    "scale_of",
    "tensors_of",
    "unreached",
]
