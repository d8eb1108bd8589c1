"""What is installed: plugins listed and found by name without importing them, settings that choose, loading on demand.

Needs neither torch nor pydantic.
"""

from nectargan_core.catalog._lookup import Entry, State, find, plugins, refresh
from nectargan_core.catalog._plugin import SCHEDULES, SPECS, Plugin
from nectargan_core.catalog._settings import configure

__all__ = ["SCHEDULES", "SPECS", "Entry", "Plugin", "State", "configure", "find", "plugins", "refresh"]
