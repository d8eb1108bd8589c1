"""Objectives: from a formula or a spec function to losses, with the weights and schedules that the caller asked for."""

from nectargan_core.objectives._adjust import adjust, warn_of_zeros
from nectargan_core.objectives._balances import Balance, balances_of
from nectargan_core.objectives._build import Objective, Spec, build_called, build_named
from nectargan_core.objectives._variants import variants_of

__all__ = [
    "Balance",
    "Objective",
    "Spec",
    "adjust",
    "balances_of",
    "build_called",
    "build_named",
    "variants_of",
    "warn_of_zeros",
]
