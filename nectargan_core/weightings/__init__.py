"""Weightings: their definition, one at work in a manager, what it is given at a step, and gradients of losses."""

from nectargan_core.weightings._bound import BoundWeighting, free_label, is_state, load_states, weighting_of
from nectargan_core.weightings._gradients import scale_of, tensors_of
from nectargan_core.weightings._loss_gradients import LossGradients, compared
from nectargan_core.weightings._losses import Losses, read_weighting, read_weightings, with_wrt
from nectargan_core.weightings._ranks import refuse_static_graph
from nectargan_core.weightings._weighting import Weighting

__all__ = [
    "BoundWeighting",
    "LossGradients",
    "Losses",
    "Weighting",
    "compared",
    "free_label",
    "is_state",
    "load_states",
    "read_weighting",
    "read_weightings",
    "refuse_static_graph",
    "scale_of",
    "tensors_of",
    "weighting_of",
    "with_wrt",
]
