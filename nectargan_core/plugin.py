"""One plugin: what its metadata says, and how its code is imported once, with every failure explained."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from nectargan_core import settings
from nectargan_core.errors import PluginBlockedError, PluginContractError, PluginError, PluginLoadError
from nectargan_core.installed import CORE, canonical, core_version, supports_core
from nectargan_core.settings import Settings

SPECS: Final = "nectargan.loss_specs"
SCHEDULES: Final = "nectargan.schedules"
KINDS: Final = {SPECS: "loss spec", SCHEDULES: "schedule"}

_TARGET = re.compile(r"(?P<module>[\w.]+)(?::(?P<attribute>[\w.]+))?")
_TAKES = {SPECS: "(config) or (config, subspec)", SCHEDULES: "(schedule, epoch)"}


@dataclass(frozen=True)
class Plugin:
    """One installed plugin: what its metadata says of it, and the way to import it.

    Args:
        group: The entry point group, `SPECS` or `SCHEDULES`.
        name: The name that it is asked for by.
        dist: The distribution that offers it.
        version: The version of the distribution; `None` where its metadata does not say.
        target: What the name stands for, as `"module:attribute"`.
        supports: The versions of nectargan-core that the distribution depends on, such as `"<0.2,>=0.1"`;
            empty where it says none.
    """

    group: str
    name: str
    dist: str
    version: str | None
    target: str
    supports: str = ""

    def __str__(self) -> str:
        return f"{self.name} ({self.release}, {self.target})"

    @property
    def release(self) -> str:
        """The distribution and its version."""
        return f"{self.dist} {self.version}" if self.version else self.dist

    @property
    def key(self) -> str:
        """The distribution, as package indexes compare names."""
        return canonical(self.dist)

    @property
    def label(self) -> str:
        """The plugin and its kind, for messages."""
        return f"{KINDS.get(self.group, 'plugin')} {self}"

    @property
    def module(self) -> str:
        """The name of the module that `target` is in."""
        return self.target.partition(":")[0]

    def objection(self, now: Settings) -> str:
        """Say which setting forbids the plugin, and the remedy; empty where none does, and for core's own."""
        return "" if self.key == CORE else now.objection(self.name, self.key)

    def age(self) -> str:
        """Say that the running nectargan-core is not one that the plugin was made for; empty where it is."""
        if supports_core(self.supports):
            return ""
        return f"{self.release} is for nectargan-core{self.supports}, and this is {core_version()}"

    def imported(self) -> Any | None:
        """Return the spec or schedule if its code is in this process already, whoever asked for it."""
        try:
            # Not getattr(), which a module may answer by importing more.
            return functools.reduce(inspect.getattr_static, self._attributes, sys.modules[self.module])
        except (KeyError, AttributeError):
            return None

    def flaw(self) -> str:
        """Say what is known to be wrong with the plugin, without importing it; empty where nothing is."""
        if not _TARGET.fullmatch(self.target):
            return f"has the entry point {self.target!r}, which is to be module:attribute; {self._remedy}"
        if failure := self._known_failure():
            return self._explain(failure)
        found = self.imported()
        return "" if found is None else self._breach(found)

    def load(self) -> Callable[..., Any]:
        """Import the plugin, once, and check that it can be called as its group promises.

        Returns:
            The spec or the schedule.

        Raises:
            PluginBlockedError: A setting forbids it.
            PluginLoadError: Importing it raised. That is remembered; `catalog.refresh()` makes it try again.
            PluginContractError: What was imported is not a spec or a schedule.
        """
        if objection := self.objection(settings.current()):
            raise self.error(PluginBlockedError, f"is {objection}")
        if not _TARGET.fullmatch(self.target):
            raise self.error(PluginLoadError, self.flaw())
        with _lock_of(self.module):
            failure = self._known_failure()
            loaded: Any = None
            if failure is None:
                try:
                    loaded = functools.reduce(getattr, self._attributes, _import(self.module))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 # sys.exit() in a plugin must not end the training
                    failure = _failures[self.target] = error
        if failure is not None:
            again = " (after a repair, catalog.refresh() tries again)"
            raise self.error(PluginLoadError, self._explain(failure) + again) from failure
        if breach := self._breach(loaded):
            raise self.error(PluginContractError, breach)
        return loaded  # type: ignore[no-any-return] # callable, as was just checked

    def error(self, kind: type[PluginError], what: str) -> PluginError:
        """Make an error about this plugin; what it says first is that the plugin is for another core."""
        age = "" if kind is PluginBlockedError else self.age()
        return kind(
            f"{age}{'; ' if age else ''}{self.label} {what}",
            group=self.group,
            name=self.name,
            dist=self.dist,
            version=self.version,
        )

    @property
    def _attributes(self) -> list[str]:
        return [part for part in self.target.partition(":")[2].split(".") if part]

    @property
    def _remedy(self) -> str:
        return f"tell the authors of {self.dist}"

    def _breach(self, loaded: object) -> str:
        breach = _breach(self.group, loaded)
        return breach and f"{breach}; {self._remedy}"

    def _known_failure(self) -> BaseException | None:
        return _failures.get(self.module) or _failures.get(self.target)

    def _explain(self, failure: BaseException) -> str:
        missing = failure.name if isinstance(failure, ModuleNotFoundError) else None
        if missing is not None and missing.partition(".")[0] == self.module.partition(".")[0]:
            what = f"there is no module {missing!r}; reinstall or uninstall {self.dist}"
        elif missing is not None:
            what = f"it needs the module {missing!r}, which is not installed; install what provides it"
        elif isinstance(failure, SystemExit):
            what = f"it calls sys.exit({failure.code!r}); {self._remedy}"
        else:
            what = f"{one_line(failure)}; {self._remedy}"
        return f"cannot be imported: {what}"


_lock = threading.Lock()
_locks: dict[str, threading.RLock] = {}
_failures: dict[str, BaseException] = {}


def forget_failures() -> None:
    """Let the next `load()` of a plugin that failed try again."""
    importlib.invalidate_caches()
    _failures.clear()


def one_line(error: BaseException) -> str:
    """Name an exception and quote the first line of what it says, whatever it does when asked."""
    try:
        text = next(filter(None, map(str.strip, str(error).splitlines())), "")
    except Exception:  # noqa: BLE001 # a stranger's __str__
        text = ""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _lock_of(module: str) -> threading.RLock:
    # One each, not one for all: a plugin whose import waits for another thread must not hold up the others.
    # Reentrant, for a plugin that looks itself up while it is imported.
    with _lock:
        return _locks.setdefault(module, threading.RLock())


def _import(name: str) -> object:
    before = set(sys.modules)
    try:
        return importlib.import_module(name)
    except BaseException as error:
        # Python takes a package back out whose import fails, and leaves in those of its submodules that were
        # imported by then. A second attempt would find them, unconnected to the new package.
        for added in sorted(set(sys.modules) - before):
            parent = added.rpartition(".")[0]
            if parent and parent not in sys.modules:
                sys.modules.pop(added, None)
        if not isinstance(error, KeyboardInterrupt):
            _failures[name] = error
        raise


def _breach(group: str, loaded: object) -> str:
    """Say how what was loaded breaks the contract of its group; empty where it does not."""
    kind = KINDS.get(group, "plugin")
    if inspect.ismodule(loaded):
        return f"is a module and no {kind}; its entry point is to be module:attribute"
    if not callable(loaded):
        return f"is no {kind} but {type(loaded).__name__}; it must be callable with {_TAKES[group]}"
    try:
        signature = inspect.signature(loaded)
    except Exception:  # noqa: BLE001 # functions written in C may have none, which is no proof of a breach
        return ""
    try:
        if group == SCHEDULES:
            # What else it takes comes from Schedule.params, and is checked with them.
            signature.bind_partial(None, None)
        else:
            signature.bind(None, **({"subspec": None} if "subspec" in signature.parameters else {}))
    except TypeError:
        return f"must be callable with {_TAKES[group]}, and takes ({', '.join(signature.parameters)})"
    return ""
