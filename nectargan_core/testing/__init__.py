"""The kit for plugin authors: checks of losses, specs, schedules and weightings, as functions and as pytest classes."""

from nectargan_core.testing._examine import examine
from nectargan_core.testing._losses import LossTests, check_loss
from nectargan_core.testing._outcomes import CheckFailed, Outcome
from nectargan_core.testing._specs import LossSpecTests, check_loss_spec

__all__ = ["CheckFailed", "LossSpecTests", "LossTests", "Outcome", "check_loss", "check_loss_spec", "examine"]
