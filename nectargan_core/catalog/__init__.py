"""What is installed: plugins are listed and found by name without importing them, and loaded when they are used.

Needs neither torch nor pydantic.
"""

from nectargan_core.catalog._groups import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS
from nectargan_core.catalog._lookup import Entry, State, find, isolated, plugins, refresh, requirements
from nectargan_core.catalog._plugin import Plugin
from nectargan_core.catalog._settings import configure
from nectargan_core.catalog._taken import taken

__all__ = [
    "OBSERVERS",
    "SCHEDULES",
    "SPECS",
    "WEIGHTINGS",
    "Entry",
    "Plugin",
    "State",
    "configure",
    "find",
    "isolated",
    "plugins",
    "refresh",
    "requirements",
    "taken",
]
