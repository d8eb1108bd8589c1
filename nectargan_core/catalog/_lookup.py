"""Finds the one plugin that a name means, and lists all that are installed, without importing any."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, one_line, shown
from nectargan_core.catalog import _settings as settings
from nectargan_core.catalog._first_party import FIRST_PARTY
from nectargan_core.catalog._groups import GROUPS, SCHEDULES, misnaming, noun, one
from nectargan_core.catalog._installed import CORE, EntryPoint, Installed, canonical, core_version, installed_core
from nectargan_core.catalog._plugin import Plugin, forget_failures
from nectargan_core.catalog._requirements import requirement
from nectargan_core.catalog._settings import Settings
from nectargan_core.errors import (
    AmbiguousPluginError,
    PluginBlockedError,
    PluginNotFoundError,
    UnknownScheduleError,
)

State = Literal["available", "loaded", "blocked", "ambiguous", "broken", "duplicate", "reserved", "misnamed"]

_RESERVED = {name: f"nectargan_core.schedules:{name}" for name in ("linear", "exponential")}


@dataclass(frozen=True)
class Entry:
    """One row of the listing of plugins.

    Args:
        plugin: The plugin; without group and name where the entry points of a distribution cannot be read.
        state: `available` (found by its name), `loaded` (and its code is in this process), `blocked` (by a
            setting), `ambiguous` (one of several under its name), `broken` (cannot be used), `duplicate` (in
            metadata that other metadata of the same distribution stands before), `reserved` (offers a name
            of core's own) or `misnamed` (in an entry point group with a name that is like one of NectarGAN's, where
            nothing finds it).
        note: What there is to know about it, and what to do; empty where all is well.
    """

    plugin: Plugin
    state: State
    note: str = ""


@dataclass(eq=False)
class _Scan:
    """The installed plugins as read once, and which of them each name was found to mean."""

    installed: Installed = field(default_factory=lambda: Installed(GROUPS, _directories))
    found: dict[tuple[str, str, str | None, Settings], Plugin] = field(default_factory=dict)


_lock = threading.Lock()
_scan: _Scan | None = None
# Where distributions are looked for; None for the directories of sys.path.
_directories: list[str] | None = None


def find(group: str, name: str, provider: str | None = None) -> Plugin:
    """Find the one plugin that a name means, without importing any.

    Args:
        group: The entry point group: `SPECS`, `SCHEDULES`, `WEIGHTINGS` or `OBSERVERS`.
        name: The name of the plugin, matched exactly.
        provider: The distribution that is to offer it, compared as package indexes compare names; needed only
            where several offer the name.

    Returns:
        The plugin, not yet loaded.

    Raises:
        PluginNotFoundError: Nobody offers the name; `UnknownScheduleError` for a schedule.
        AmbiguousPluginError: Several distributions offer it, and neither `provider` nor a setting chooses.
        PluginBlockedError: A setting forbids it.
        ConfigError: `NECTARGAN_PROVIDERS` does not pair names with distributions.
        TypeError: An argument is no str.
        ValueError: There is no such group.

    Example:
        >>> from nectargan_core import catalog
        >>> catalog.find(catalog.SCHEDULES, "linear").target
        'nectargan_core.schedules:linear'
    """
    group, name = _group(group), arguments.text("the name of a plugin", name)
    provider = None if provider is None else arguments.text("provider", provider)
    scan, now = _read(), settings.current()
    asked = (group, name, provider, now)
    plugin = scan.found.get(asked)
    if plugin is None:
        plugin = scan.found[asked] = _resolve(scan.installed, now, group, name, provider)
    return plugin


def plugins(group: str | None = None) -> list[Entry]:
    """List every installed plugin and its state, without importing any.

    Args:
        group: The entry point group; `None` for all, and for what is `misnamed`.

    Returns:
        A row for each, by group and name.

    Raises:
        ConfigError: `NECTARGAN_PROVIDERS` does not pair names with distributions.
        TypeError: The group is no str.
        ValueError: There is no such group.

    Example:
        >>> from nectargan_core import catalog
        >>> [entry.plugin.dist for entry in catalog.plugins() if entry.plugin.name == "linear"]
        ['nectargan-core']
    """
    group = None if group is None else _group(group)
    installed, now = _read().installed, settings.current()
    entries: list[Entry] = []
    for each in GROUPS if group is None else (group,):
        for name in _names(installed, each):
            entries.extend(_entries(installed, now, each, name))
    if group is None:
        for misnamed in installed.misnamed:
            for name in _names(installed, misnamed):
                entries.extend(_misnamed(installed, now, misnamed, name))
        for source, error in installed.unreadable:
            unknown = Plugin("", "", source.name, source.version, "entry_points.txt", source.supports)
            entries.append(Entry(unknown, "broken", f"cannot be read: {one_line(error)}; reinstall {source.name}"))
    return entries


def refresh() -> None:
    """Forget what is installed and what could not be imported; the next use looks again.

    For a process that installs plugins, or changes `sys.path`, after it has used the catalog. What has been
    imported stays imported.
    """
    global _scan
    with _lock:
        forget_failures()
        _scan = None


@contextlib.contextmanager
def isolated(directory: str | os.PathLike[str]) -> Iterator[None]:
    """Find only what is installed in one directory, and core's own, without any setting; for tests.

    Modules are imported as before: what is not found as a plugin can still be imported. Afterwards everything is found
    that was found before, and all settings are as they were. It applies to all threads.

    Args:
        directory: Where distributions are looked for, as `pip install --target` leaves them. For the modules of its
            plugins to be importable it has to be on `sys.path`.

    Example:
        >>> import tempfile
        >>> from nectargan_core import catalog
        >>> with tempfile.TemporaryDirectory() as directory, catalog.isolated(directory):
        ...     [entry.plugin.name for entry in catalog.plugins()]
        ['exponential', 'linear']
    """
    global _scan, _directories
    with settings.unset():
        with _lock:
            before = _scan, _directories
            _scan, _directories = None, [os.fspath(directory)]
            forget_failures()
        try:
            yield
        finally:
            with _lock:
                _scan, _directories = before
                forget_failures()


def requirements() -> list[str]:
    """Return what `pip install -r` takes to install core and every distribution that offers plugins as they are.

    As `pip freeze` prints it: `name==version`, or where pip recorded that it was installed from (PEP 610) a version
    control system, an URL or a directory.

    Returns:
        A line for each distribution, core first. Where its metadata does not say how to install it, a comment.

    Example:
        >>> from nectargan_core import catalog
        >>> catalog.requirements()[0].startswith(("nectargan-core==", "-e ", "#"))
        True
    """
    installed = _read().installed
    core = installed_core()
    lines = [f"# {CORE} is not installed: it runs from a source tree"] if core is None else [requirement(core)]
    return [*lines, *(requirement(source) for source in installed.sources() if source.key != CORE)]


def _group(group: str) -> str:
    group = arguments.text("an entry point group", group)
    if group not in GROUPS:
        raise ValueError(f"an entry point group is one of {', '.join(GROUPS)}, got {shown(group)}")
    return group


def _read() -> _Scan:
    global _scan
    scan = _scan
    if scan is None:
        with _lock:
            scan = _scan = _scan or _Scan()
    return scan


def _resolve(installed: Installed, now: Settings, group: str, name: str, provider: str | None) -> Plugin:
    chosen = _chosen(installed, now, group, name, provider)
    free = [plugin for plugin in chosen if not plugin.blocked(now)]
    if len(free) == 1:
        return free[0]
    if not chosen:
        raise _not_found(installed, now, group, name, provider)
    if not free:
        others = [f"; {plugin.label} is {plugin.blocked(now)}" for plugin in chosen[1:]]
        raise chosen[0].error(PluginBlockedError, f"is {chosen[0].blocked(now)}{''.join(others)}")
    raise AmbiguousPluginError(_ambiguity(free), group=group, name=name)


def _chosen(installed: Installed, now: Settings, group: str, name: str, provider: str | None) -> list[Plugin]:
    """The plugins that a name may mean, blocked ones among them."""
    offering, _ = _offers(installed, group, name)
    if provider is not None:
        return _of(offering, provider)
    offering = [plugin for plugin in offering if not _is_foreign(plugin)]
    preferred = now.providers.get(name)
    if preferred is None or _of(offering, CORE):
        return offering
    # One setting serves all groups. Where the distribution that it names offers the name in another group only, the
    # setting is about that group, and chooses nothing in this one.
    others = [plugin for other in GROUPS if other != group for plugin in _offers(installed, other, name)[0]]
    return _of(offering, preferred) or (offering if _of(others, preferred) else [])


def _offers(installed: Installed, group: str, name: str) -> tuple[list[Plugin], list[Plugin]]:
    """The plugins that are offered under a name, and those in metadata that other metadata stands before."""
    current, shadowed = (list(map(_plugin, found)) for found in installed.entry_points(group, name))
    if group == SCHEDULES and name in _RESERVED and not _of(current, CORE):
        # Core's own exist also where it runs from a source tree that was never installed.
        current.insert(0, Plugin(group, name, CORE, core_version(), _RESERVED[name]))
    return current, shadowed


def _names(installed: Installed, group: str) -> list[str]:
    return sorted({*installed.names(group), *(_RESERVED if group == SCHEDULES else ())})


def _plugin(entry_point: EntryPoint) -> Plugin:
    source = entry_point.source
    return Plugin(entry_point.group, entry_point.name, source.name, source.version, entry_point.target, source.supports)


def _of(plugins: Iterable[Plugin], distribution: str) -> list[Plugin]:
    key = canonical(distribution)
    return [plugin for plugin in plugins if plugin.key == key]


def _is_foreign(plugin: Plugin) -> bool:
    return plugin.group == SCHEDULES and plugin.name in _RESERVED and plugin.key != CORE


def _entries(installed: Installed, now: Settings, group: str, name: str) -> list[Entry]:
    offering, shadowed = _offers(installed, group, name)
    chosen = _chosen(installed, now, group, name, None)
    free = [plugin for plugin in chosen if not plugin.blocked(now)]

    def describe(plugin: Plugin) -> tuple[State, str]:
        if blocked := plugin.blocked(now):
            return "blocked", blocked
        if problem := plugin.problem():
            return "broken", problem
        if _is_foreign(plugin):
            return "reserved", f"{name!r} is core's own; write '{plugin.key}/{name}' for this one"
        if len(free) > 1 and plugin in free:
            return "ambiguous", _ambiguity(free)
        by_setting = "" if plugin in chosen else f"{now.providers_label} chooses another"
        return "available" if plugin.imported() is None else "loaded", by_setting

    entries = []
    for plugin in sorted(offering, key=lambda plugin: plugin.key):
        state, note = describe(plugin)
        entries.append(Entry(plugin, state, "; ".join(filter(None, (plugin.incompatibility(), note)))))
    entries.extend(_duplicate(installed, plugin) for plugin in shadowed)
    return entries


def _misnamed(installed: Installed, now: Settings, group: str, name: str) -> Iterator[Entry]:
    offering, shadowed = _offers(installed, group, name)
    for plugin in sorted(offering, key=lambda plugin: plugin.key):
        blocked = plugin.blocked(now)
        note = blocked or "; ".join(filter(None, (plugin.incompatibility(), plugin.problem())))
        yield Entry(plugin, "blocked" if blocked else "misnamed", note)
    for plugin in shadowed:
        yield _duplicate(installed, plugin)


def _duplicate(installed: Installed, plugin: Plugin) -> Entry:
    leading = installed.leading(plugin.key)
    before = f"{leading.name} {leading.version} in {leading.location}" if leading else "other metadata"
    return Entry(plugin, "duplicate", f"{before} stands before it")


def _ambiguity(plugins: list[Plugin]) -> str:
    kind, name, keys = noun(plugins[0].group), plugins[0].name, sorted({plugin.key for plugin in plugins})
    if len(keys) == 1:
        targets = " and ".join(plugin.target for plugin in plugins)
        return f"{plugins[0].release} offers the {kind} {name!r} as {targets}; report it to its authors"
    written = " or ".join(f"'{key}/{name}'" for key in keys)
    return (
        f"the {kind} {name!r} is offered by {_releases(plugins)}; write {written}, or choose one by "
        f'NECTARGAN_PROVIDERS="{name}={keys[0]}"'
    )


def _not_found(installed: Installed, now: Settings, group: str, name: str, provider: str | None) -> PluginNotFoundError:
    kind = UnknownScheduleError if group == SCHEDULES else PluginNotFoundError
    asked = name if provider is None else f"{provider}/{name}"
    hints = "".join(f"; {hint}" for hint in _hints(installed, now, group, name, provider))
    # An entry point without a name cannot be asked for.
    names = [known for known in _names(installed, group) if known]
    # A name that some group has, such as that of a schedule where a spec is asked for, is not a misspelt one.
    is_known = any(_offers(installed, each, name)[0] for each in (*GROUPS, *installed.misnamed))
    close = "" if is_known else did_you_mean(name, (known for known in names if known != name))
    if not hints and not close:
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        hints = f"; installed are {', '.join(names[:20])}{more}" if names else "; none is installed at all"
    return kind(
        f"no {noun(group)} {asked!r} is installed for {sys.executable or 'this interpreter'}{hints}.{close}",
        group=group,
        name=name,
        dist=provider,
    )


def _hints(installed: Installed, now: Settings, group: str, name: str, provider: str | None) -> Iterator[str]:
    offering, shadowed = _offers(installed, group, name)
    wanted = provider or now.providers.get(name)
    if wanted is not None:
        leading = installed.leading(canonical(wanted))
        asks = "" if provider else f"{now.providers_label} asks for "
        has = "is not installed" if leading is None else f"is installed in version {leading.version}, without it"
        yield f"{asks}{wanted}{', which' if asks else ''} {has}"
    if offering:
        yield f"it is offered by {_releases(offering)}"
    if since := _chosen(Installed(GROUPS, _directories), now, group, name, provider):
        yield f"{_releases(since)} offers it since this process first looked: call catalog.refresh()"
        return
    for plugin in shadowed:
        yield f"{plugin.release} offers it, and other metadata of {plugin.dist} stands before that"
    for misnamed in installed.misnamed:
        found = _offers(installed, misnamed, name)[0]
        for plugin in found if wanted is None else _of(found, wanted):
            yield f"that of {plugin.release} {misnaming(misnamed)}; report it to the authors of {plugin.dist}"
    ours = FIRST_PARTY.get(group, {})
    home = ours.get(name)
    if home is not None and not offering and (wanted is None or canonical(wanted) == home):
        leading = installed.leading(home)
        if leading is None:
            yield f"it comes with {home}: pip install {home}"
        else:
            yield f"{home} {leading.version} is installed without it: pip install --upgrade {home}"
    for other in GROUPS:
        if other == group:
            continue
        if offers := _offers(installed, other, name)[0]:
            yield f"{name!r} is {one(other)} of {_releases(offers)}"
        elif other_home := FIRST_PARTY.get(other, {}).get(name):
            yield f"{name!r} is {one(other)} of {other_home}"
    names = _names(installed, group)
    for known in names:
        if known != name and canonical(known) == canonical(name):
            yield f"names are matched exactly, and {known!r} is installed"
    # A name that a distribution of this project offers is not a misspelt one.
    absent = [known for known in ours if known not in names] if home is None else []
    for known in difflib.get_close_matches(name, absent, n=1, cutoff=0.75):
        yield f"{known!r} comes with {ours[known]}: pip install {ours[known]}"
    for source, _ in installed.unreadable:
        yield f"the entry points of {source.name} cannot be read"


def _releases(plugins: Iterable[Plugin]) -> str:
    return ", ".join(sorted({plugin.release for plugin in plugins}))
