"""All checks of one installed plugin, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from nectargan_core import catalog
from nectargan_core._messages import listed
from nectargan_core.testing._observers import OBSERVER_CHECKS, examine_observer
from nectargan_core.testing._outcomes import Check, Outcome
from nectargan_core.testing._schedules import SCHEDULE_CHECKS, examine_schedule
from nectargan_core.testing._specs import CHECKS as SPEC_CHECKS
from nectargan_core.testing._specs import examine_spec
from nectargan_core.testing._weightings import WEIGHTING_CHECKS, examine_weighting

# What checks the plugins of a group: it is called with the plugin, `skip`, `params` and `options`.
_Examiner = Callable[
    [catalog.Plugin, Mapping[str, str], Mapping[str, Any], Mapping[str, Any]],
    list[Outcome],
]
_EXAMINERS: Final[dict[str, _Examiner]] = {
    catalog.SPECS: examine_spec,
    catalog.SCHEDULES: examine_schedule,
    catalog.WEIGHTINGS: examine_weighting,
    catalog.OBSERVERS: examine_observer,
}
_CHECKS: Final[dict[str, tuple[Check[Any], ...]]] = {
    catalog.SPECS: SPEC_CHECKS,
    catalog.SCHEDULES: SCHEDULE_CHECKS,
    catalog.WEIGHTINGS: WEIGHTING_CHECKS,
    catalog.OBSERVERS: OBSERVER_CHECKS,
}


def checks_of(group: str) -> list[str]:
    """Return the names of the checks that `examine` runs for a plugin of a group, in their order.

    Args:
        group: The entry point group; of one that has no checks there are none.

    Example:
        >>> checks_of("nectargan.schedules")[:4]
        ['entry_point', 'metadata', 'imports', 'params']
    """
    return [check.name for check in _CHECKS.get(group, ())]


def examine(
    plugin: catalog.Plugin,
    *,
    skip: Mapping[str, str] | None = None,
    params: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> list[Outcome]:
    """Run all checks of an installed plugin, those of any plugin and those of its kind.

    Args:
        plugin: The plugin, as `catalog.find` returns it.
        skip: Reasons for leaving out checks, by their names.
        params: Keyword arguments of a schedule, a weighting or an observer.
        options: Keyword arguments of a spec.

    Returns:
        What came of each check, in their order; a check that failed is among them, and raises nothing.

    Raises:
        ValueError: If `skip` has the name of no check, or if the group of the plugin is not known.

    Example:
        >>> plugin = catalog.Plugin(catalog.SPECS, "glow", "acme", "1.0", "acme:glow")
        >>> [outcome.check for outcome in examine(plugin) if outcome.state == "failed"]
        ['entry_point', 'metadata', 'contract']
    """
    if plugin.group not in _EXAMINERS:
        raise ValueError(f"{plugin.group!r} is no group of plugins with checks; there are {listed(_EXAMINERS)}")
    return _EXAMINERS[plugin.group](plugin, skip or {}, params or {}, options or {})
