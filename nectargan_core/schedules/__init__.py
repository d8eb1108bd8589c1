"""Schedules: definition, evaluation, core's curves, previews; torch is needed by `_torch_scheduler` only."""

from nectargan_core.schedules._curves import exponential, interpolate, linear
from nectargan_core.schedules._functions import Functions
from nectargan_core.schedules._preview import plot, preview
from nectargan_core.schedules._schedule import Curve, Schedule, functions_in, reasons, schedules_in, with_functions
from nectargan_core.schedules._scheduler import Scheduler

__all__ = [
    "Curve",
    "Functions",
    "Schedule",
    "Scheduler",
    "exponential",
    "functions_in",
    "interpolate",
    "linear",
    "plot",
    "preview",
    "reasons",
    "schedules_in",
    "with_functions",
]
