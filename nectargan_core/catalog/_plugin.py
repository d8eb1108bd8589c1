"""One plugin: what its metadata says, how it is imported once, and the error that explains why it cannot be used."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nectargan_core._messages import did_you_mean, one_line
from nectargan_core.catalog import _settings as settings
from nectargan_core.catalog._groups import GROUPS, is_misnamed, misnaming, noun, one
from nectargan_core.catalog._installed import CORE, canonical, core_version, supports_core
from nectargan_core.catalog._settings import Settings
from nectargan_core.errors import PluginBlockedError, PluginContractError, PluginError, PluginLoadError

_TARGET = re.compile(r"(?P<module>[\w.]+)(?::(?P<attribute>[\w.]+))?")


@dataclass(frozen=True)
class Plugin:
    """One installed plugin: what its metadata says of it, and the way to import it.

    Args:
        group: The entry point group: `SPECS`, `SCHEDULES`, `WEIGHTINGS` or `OBSERVERS`.
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
    def kind(self) -> str:
        """What it is: a loss spec, a schedule, a weighting or an observer; of another group, a plugin."""
        return noun(self.group)

    @property
    def label(self) -> str:
        """The plugin and its kind, for messages."""
        return f"{self.kind} {self}"

    @property
    def module(self) -> str:
        """The name of the module that `target` is in."""
        return self.target.partition(":")[0]

    def blocked(self, now: Settings) -> str:
        """Say which setting blocks the plugin, and what to do; empty where none does, and for core's own."""
        return "" if self.key == CORE else now.blocks(self.name, self.key)

    def incompatibility(self) -> str:
        """Say that the plugin requires another nectargan-core than the running one; empty where it does not."""
        if supports_core(self.supports):
            return ""
        return f"{self.release} is for nectargan-core{self.supports}, and this is {core_version()}"

    def imported(self) -> Any | None:
        """Return what the name stands for if its code is in this process already, whoever asked for it."""
        try:
            # getattr() could run code: a module may define __getattr__, and import more in it.
            return functools.reduce(inspect.getattr_static, self._attributes, sys.modules[self.module])
        except (KeyError, AttributeError):
            return None

    def problem(self) -> str:
        """Say why the plugin cannot be used, as far as is known without importing it; empty where it may work."""
        if is_misnamed(self.group):
            return f"{misnaming(self.group)}; {self._remedy}"
        if not _TARGET.fullmatch(self.target):
            return f"has the entry point {self.target!r}, which must be module:attribute; {self._remedy}"
        if failure := self._known_failure():
            return self._explain(failure)
        found = self.imported()
        return "" if found is None else self._violation(found)

    def load(self) -> Callable[..., Any]:
        """Import the plugin, once, and check that it can be called as its group promises.

        Returns:
            The spec, the schedule, the class of the weighting, or what makes the observer.

        Raises:
            PluginBlockedError: A setting forbids it.
            PluginLoadError: Importing it raised. That is remembered; `catalog.refresh()` makes it try again.
            PluginContractError: What was imported is not what its group promises.
        """
        if blocked := self.blocked(settings.current()):
            raise self.error(PluginBlockedError, f"is {blocked}")
        if is_misnamed(self.group) or not _TARGET.fullmatch(self.target):
            raise self.error(PluginLoadError, self.problem())
        with _lock_of(self.module):
            failure = self._known_failure()
            loaded: Any = None
            if failure is None:
                try:
                    loaded = functools.reduce(getattr, self._attributes, _import(self.module))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 # a plugin that calls sys.exit() must not end the training
                    failure = _failures[self.target] = error
        if failure is not None:
            again = " (after a repair, catalog.refresh() tries again)"
            raise self.error(PluginLoadError, self._explain(failure) + again) from failure
        if violation := self._violation(loaded):
            raise self.error(PluginContractError, violation)
        return loaded  # type: ignore[no-any-return] # callable, as was just checked

    def error(self, kind: type[PluginError], what: str) -> PluginError:
        """Make an error about this plugin, which begins with its incompatibility, if there is one."""
        incompatibility = "" if kind is PluginBlockedError else self.incompatibility()
        return kind(
            f"{incompatibility}{'; ' if incompatibility else ''}{self.label} {what}",
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
        return f"report it to the authors of {self.dist}"

    def _violation(self, loaded: object) -> str:
        violation = _violation(self.group, loaded)
        return violation and f"{violation}; {self._remedy}"

    def _known_failure(self) -> BaseException | None:
        return _failures.get(self.module) or _failures.get(self.target)

    def _explain(self, failure: BaseException) -> str:
        missing = failure.name if isinstance(failure, ModuleNotFoundError) else None
        if missing is not None and missing.partition(".")[0] == self.module.partition(".")[0]:
            is_target = f"{self.module}.".startswith(f"{missing}.")
            entry_point = f"correct its entry point {self.target!r}, and " if is_target else ""
            what = f"there is no module {missing!r}; {entry_point}reinstall or uninstall {self.dist}"
        elif missing is not None:
            what = f"it needs the module {missing!r}, which is not installed; install what provides it"
        elif isinstance(failure, SystemExit):
            what = f"it calls sys.exit({failure.code!r}); {self._remedy}"
        elif isinstance(failure, AttributeError) and inspect.ismodule(failure.obj) and failure.name in self._attributes:
            close = did_you_mean(failure.name, dir(failure.obj))
            what = (
                f"{failure.obj.__name__} has no {failure.name!r}; correct its entry point {self.target!r}, or "
                f"{self._remedy}.{close}"
            )
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


def _lock_of(module: str) -> threading.RLock:
    # One lock a module: a plugin whose import waits for another thread must not hold up the others.
    # Reentrant, for a plugin that looks itself up while it is imported.
    with _lock:
        return _locks.setdefault(module, threading.RLock())


def _import(name: str) -> object:
    before = set(sys.modules)
    try:
        return importlib.import_module(name)
    except BaseException as error:
        # When the import of a package fails, Python removes it from sys.modules, but not the submodules that it had
        # imported by then. A second attempt would use those, which belong to the package that was removed.
        for added in sorted(set(sys.modules) - before):
            parent = added.rpartition(".")[0]
            if parent and parent not in sys.modules:
                sys.modules.pop(added, None)
        if not isinstance(error, KeyboardInterrupt):
            _failures[name] = error
        raise


def _violation(group: str, loaded: object) -> str:
    """Say how what was loaded violates the contract of its group; empty where it does not."""
    if inspect.ismodule(loaded):
        return f"is a module, not {one(group)}; its entry point must be module:attribute"
    contract = GROUPS[group]
    if not callable(loaded):
        return f"is a {type(loaded).__name__}, not {one(group)}; it must be callable with {contract.takes}"
    try:
        signature = inspect.signature(loaded)
    except Exception:  # noqa: BLE001 # functions written in C may have no signature, and may be right all the same
        return ""
    try:
        contract.bind(signature)
    except TypeError:
        return f"must be callable with {contract.takes}, and takes ({', '.join(signature.parameters)})"
    return ""
