"""Curves for loss weights and learning rates, and compositions of curves."""

from nectargan_schedules.annealing import cosine, cosine_restarts, polynomial, sigmoid
from nectargan_schedules.composition import product, sequence
from nectargan_schedules.decay import inverse_sqrt, multistep, step
from nectargan_schedules.switching import constant, cyclic, every, piecewise_linear, window
from nectargan_schedules.warmup import one_cycle, warmup_cosine

__all__ = [
    "constant",
    "cosine",
    "cosine_restarts",
    "cyclic",
    "every",
    "inverse_sqrt",
    "multistep",
    "one_cycle",
    "piecewise_linear",
    "polynomial",
    "product",
    "sequence",
    "sigmoid",
    "step",
    "warmup_cosine",
    "window",
]
