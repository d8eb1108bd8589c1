"""Weightings: their definition, one at work in a manager, what it is given at a step, and gradients of losses."""

from nectargan_core.weightings._bound import BoundWeighting, is_state, label_of, weighting_of
from nectargan_core.weightings._gradients import gradients_of, gram_of, norms_of, not_reached, tensors_of, unreached
from nectargan_core.weightings._losses import Losses, read_weighting, read_weightings, with_wrt
from nectargan_core.weightings._weighting import Weighting

__all__ = [
    "BoundWeighting",
    "Losses",
    "Weighting",
    "gradients_of",
    "gram_of",
    "is_state",
    "label_of",
    "norms_of",
    "not_reached",
    "read_weighting",
    "read_weightings",
    "tensors_of",
    "unreached",
    "weighting_of",
    "with_wrt",
]
