"""Weightings: their definition, one at work in a manager, what it is given at a step, and gradients of losses."""

from nectargan_core.weightings._balance import Balance, bind
from nectargan_core.weightings._bound import BoundWeighting, is_state, load_states, weighting_of
from nectargan_core.weightings._gradients import scale_of, tensors_of
from nectargan_core.weightings._loss_gradients import LossGradients, compared
from nectargan_core.weightings._losses import Losses
from nectargan_core.weightings._ranks import refuse_static_graph
from nectargan_core.weightings._step import WeightingStep
from nectargan_core.weightings._weighting import Weighting, read_weighting

__all__ = [
    "Balance",
    "BoundWeighting",
    "LossGradients",
    "Losses",
    "Weighting",
    "WeightingStep",
    "bind",
    "compared",
    "is_state",
    "load_states",
    "read_weighting",
    "refuse_static_graph",
    "scale_of",
    "tensors_of",
    "weighting_of",
]
