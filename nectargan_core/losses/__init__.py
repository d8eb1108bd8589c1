"""Losses: their definition, a loss at work in a manager, the registry that finds it, and the results of a call."""

from nectargan_core.losses._bound import BoundLoss
from nectargan_core.losses._compiled import compute_in_graph, record_scalar, register_manager
from nectargan_core.losses._loss import LMLoss, check_schedule
from nectargan_core.losses._module import module_of
from nectargan_core.losses._query import Query, checked, found_by
from nectargan_core.losses._registry import Registry
from nectargan_core.losses._results import ComputedLosses

__all__ = [
    "BoundLoss",
    "ComputedLosses",
    "LMLoss",
    "Query",
    "Registry",
    "check_schedule",
    "checked",
    "compute_in_graph",
    "found_by",
    "module_of",
    "record_scalar",
    "register_manager",
]
