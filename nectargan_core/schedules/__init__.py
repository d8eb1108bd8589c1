"""Schedules: definition, evaluation, core's curves, previews; torch is needed by `_torch_scheduler` only."""

from nectargan_core.schedules._curves import exponential, interpolate, linear
from nectargan_core.schedules._preview import plot, preview
from nectargan_core.schedules._schedule import Curve, Schedule, reasons
from nectargan_core.schedules._scheduler import Scheduler

__all__ = ["Curve", "Schedule", "Scheduler", "exponential", "interpolate", "linear", "plot", "preview", "reasons"]
