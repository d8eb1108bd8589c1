"""Weightings, which balance losses against each other from their values or from their gradients."""

from nectargan_weightings.balancer import Balancer
from nectargan_weightings.dynamic_weight_average import DynamicWeightAverage
from nectargan_weightings.gradnorm import GradNorm
from nectargan_weightings.last_layer import LastLayer
from nectargan_weightings.random_weighting import RandomWeighting
from nectargan_weightings.relobralo import ReLoBRaLo
from nectargan_weightings.softadapt import SoftAdapt
from nectargan_weightings.uncertainty import Uncertainty

__all__ = [
    "Balancer",
    "DynamicWeightAverage",
    "GradNorm",
    "LastLayer",
    "RandomWeighting",
    "ReLoBRaLo",
    "SoftAdapt",
    "Uncertainty",
]
