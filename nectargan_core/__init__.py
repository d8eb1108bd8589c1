"""A loss registry for PyTorch: named, weighted, scheduled and logged losses from pip-installed parts."""

from nectargan_core import catalog, errors, hookspecs
from nectargan_core.bound import ComputedLosses
from nectargan_core.config import Config, ConfigManager
from nectargan_core.history import LMHistory
from nectargan_core.hookspecs import hookimpl
from nectargan_core.log import LossLog
from nectargan_core.loss import LMLoss
from nectargan_core.manager import LossManager
from nectargan_core.plot import preview
from nectargan_core.schedule import Schedule
from nectargan_core.scheduler import Scheduler
from nectargan_core.torch_scheduler import TorchScheduler

__all__ = [
    "ComputedLosses",
    "Config",
    "ConfigManager",
    "LMHistory",
    "LMLoss",
    "LossLog",
    "LossManager",
    "Schedule",
    "Scheduler",
    "TorchScheduler",
    "catalog",
    "errors",
    "hookimpl",
    "hookspecs",
    "preview",
]
