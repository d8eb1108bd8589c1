"""The kit for plugin authors: checks of losses, specs, schedules and weightings, as functions and as pytest classes."""

from nectargan_core.testing._outcomes import CheckFailed

__all__ = ["CheckFailed"]
