"""Says whether a name is free for a new plugin: which of its names are taken, and by whom."""

from __future__ import annotations

from nectargan_core import _arguments as arguments
from nectargan_core.catalog._first_party import FIRST_PARTY
from nectargan_core.catalog._groups import noun
from nectargan_core.catalog._installed import CORE, Installed, canonical
from nectargan_core.catalog._lookup import plugins


def taken(group: str, name: str) -> str:
    """Say by whom the name of a plugin is taken, or that of the distribution `nectargan-<name>`.

    Names are compared as package indexes compare those of distributions, so that `My_Loss` is taken where `my-loss` is.

    Args:
        group: The entry point group: `SPECS`, `SCHEDULES` or `WEIGHTINGS`.
        name: The name that a new plugin is to have.

    Returns:
        What has the name, for a message; empty where it is free.

    Raises:
        ConfigError: `NECTARGAN_PROVIDERS` does not pair names with distributions.
        TypeError: An argument is no str.
        ValueError: There is no such group.

    Example:
        >>> from nectargan_core import catalog
        >>> catalog.taken(catalog.SCHEDULES, "linear")
        "the schedule 'linear' is core's own"
    """
    entries = plugins(arguments.text("an entry point group", group))
    key = canonical(arguments.text("the name of a plugin", name))
    distribution = canonical(f"nectargan-{name}")
    if distribution in {CORE, *(home for homes in FIRST_PARTY.values() for home in homes.values())}:
        return f"{distribution} is a distribution of this project"
    for known, home in FIRST_PARTY[group].items():
        if canonical(known) == key:
            return f"the {noun(group)} {known!r} comes with {home}, a distribution of this project"
    for entry in entries:
        plugin = entry.plugin
        if canonical(plugin.name) == key:
            owner = "is core's own" if plugin.key == CORE else f"is offered by {plugin.release}, which is installed"
            return f"the {noun(group)} {plugin.name!r} {owner}"
    found = Installed(()).leading(distribution)
    return "" if found is None else f"the distribution {found.name} is installed"
