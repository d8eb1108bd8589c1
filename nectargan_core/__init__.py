"""A loss registry for PyTorch: named, weighted, scheduled and logged losses from pip-installed parts."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nectargan_core import catalog, errors, hookspecs
    from nectargan_core._images import check_images
    from nectargan_core.config import Config, ConfigManager
    from nectargan_core.history import LMHistory
    from nectargan_core.hookspecs import hookimpl
    from nectargan_core.log import LossLog, Records, Scalars, ScalarStream
    from nectargan_core.losses import ComputedLosses, LMLoss
    from nectargan_core.manager import LossManager
    from nectargan_core.objectives import Difference, Objective
    from nectargan_core.schedules import Schedule, Scheduler, exponential, interpolate, linear, plot, preview
    from nectargan_core.schedules._torch_scheduler import TorchScheduler
    from nectargan_core.views import Comparison, compare, write_report
    from nectargan_core.weightings import Losses, LossGradients, Weighting, WeightingStep

__all__ = [
    "Comparison",
    "ComputedLosses",
    "Config",
    "ConfigManager",
    "Difference",
    "LMHistory",
    "LMLoss",
    "LossGradients",
    "LossLog",
    "LossManager",
    "Losses",
    "Objective",
    "Records",
    "ScalarStream",
    "Scalars",
    "Schedule",
    "Scheduler",
    "TorchScheduler",
    "Weighting",
    "WeightingStep",
    "catalog",
    "check_images",
    "compare",
    "errors",
    "exponential",
    "hookimpl",
    "hookspecs",
    "interpolate",
    "linear",
    "plot",
    "preview",
    "write_report",
]

# The module of each name, imported when the name is first used, so that what needs no tensor starts without torch.
_MODULES = {
    "Comparison": "views",
    "ComputedLosses": "losses",
    "Config": "config",
    "ConfigManager": "config",
    "Difference": "objectives",
    "LMHistory": "history",
    "LMLoss": "losses",
    "LossGradients": "weightings",
    "LossLog": "log",
    "LossManager": "manager",
    "Losses": "weightings",
    "Objective": "objectives",
    "Records": "log",
    "ScalarStream": "log",
    "Scalars": "log",
    "Schedule": "schedules",
    "Scheduler": "schedules",
    "TorchScheduler": "schedules._torch_scheduler",
    "Weighting": "weightings",
    "WeightingStep": "weightings",
    "check_images": "_images",
    "compare": "views",
    "exponential": "schedules",
    "hookimpl": "hookspecs",
    "interpolate": "schedules",
    "linear": "schedules",
    "plot": "schedules",
    "preview": "schedules",
    "write_report": "views",
}
_SUBMODULES = {"catalog", "errors", "hookspecs"}


def __getattr__(name: str) -> object:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
