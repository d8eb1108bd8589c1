"""The kit for plugin authors: checks of losses, specs, schedules, weightings and observers, and pytest classes."""

from nectargan_core.testing._examine import checks_of, examine
from nectargan_core.testing._losses import LossTests, check_loss
from nectargan_core.testing._observers import ObserverTests, check_observer
from nectargan_core.testing._outcomes import CheckFailed, Outcome
from nectargan_core.testing._schedules import ScheduleTests, check_schedule
from nectargan_core.testing._specs import LossSpecTests, check_loss_spec
from nectargan_core.testing._weightings import WeightingTests, check_weighting

__all__ = [
    "CheckFailed",
    "LossSpecTests",
    "LossTests",
    "ObserverTests",
    "Outcome",
    "ScheduleTests",
    "WeightingTests",
    "check_loss",
    "check_loss_spec",
    "check_observer",
    "check_schedule",
    "check_weighting",
    "checks_of",
    "examine",
]
