"""All checks of one installed plugin, whatever its kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from nectargan_core import catalog
from nectargan_core._messages import listed
from nectargan_core.testing._outcomes import Outcome
from nectargan_core.testing._specs import examine_spec

# What checks the plugins of a group: it is called with the plugin, `skip`, `params` and `options`.
_Examiner = Callable[
    [catalog.Plugin, Mapping[str, str], Mapping[str, Any], Mapping[str, Any]],
    list[Outcome],
]
_EXAMINERS: Final[dict[str, _Examiner]] = {catalog.SPECS: examine_spec}


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
        params: Keyword arguments of a schedule or a weighting.
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
