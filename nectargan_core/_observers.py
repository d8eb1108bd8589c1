"""The observers of a manager: finds named ones, registers objects with hooks, and notifies each of an event."""

from __future__ import annotations

import contextlib
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pluggy

from nectargan_core import catalog, hookspecs
from nectargan_core._messages import did_you_mean, listed, one_line, shown, warn
from nectargan_core._names import read_name
from nectargan_core.errors import NectarganError, PluginContractError, PluginLoadError

_EVENTS = tuple(name for name in vars(hookspecs) if name.startswith(hookspecs.PROJECT + "_"))


class Observers:
    """The observers of one manager.

    Args:
        manager: The manager; not kept alive.
    """

    def __init__(self, manager: object) -> None:
        self._manager = weakref.ref(manager)
        self.hooks = pluggy.PluginManager(hookspecs.PROJECT)
        self.hooks.add_hookspecs(hookspecs)
        # The plugins that were given by name.
        self._named: set[catalog.Plugin] = set()

    def add_by_name(self, name: str) -> list[object]:
        """Make the observer of a name and register it, once.

        Returns:
            As `add`.

        Raises:
            SpecSyntaxError: If it is no name.
            PluginError: If no such observer is installed, or it is blocked, broken or breaks its contract.
            NectarganError: What it raises of this kind when it is made.
        """
        term = read_name(name, "observer")
        plugin = catalog.find(catalog.OBSERVERS, term.name, term.provider)
        if plugin in self._named:
            return []
        make = plugin.load()
        try:
            observer = make()
        except NectarganError:
            raise
        except Exception as error:
            raise plugin.error(PluginLoadError, f"cannot be made: {one_line(error)}") from error
        if not self._has_hooks(observer):
            raise plugin.error(
                PluginContractError,
                f"made {shown(observer)}, which has no function that is marked with nectargan_core.hookimpl",
            )
        added = self.add(observer, plugin)
        self._named.add(plugin)
        return added

    def add(self, observer: object, offered_by: catalog.Plugin | None = None) -> list[object]:
        """Register an object whose functions are marked with `hookimpl`, once.

        Returns:
            The object, in a list, if it was not an observer before; to hand to `remove` if need be.

        Raises:
            PluginContractError: If a function is marked for an event that does not exist, or has arguments that the
                event does not have; or if a given object has no marked function. Nothing is registered then.
        """
        try:
            if any(observer is plugin for plugin in self.hooks.get_plugins()):
                return []
            self._refuse_class(observer)
            self._refuse_unknown(observer)
            self.hooks.register(observer)
            self._refuse_wrappers(observer)
            if offered_by is None:
                self._refuse_idle(observer)
        except Exception as error:
            with contextlib.suppress(Exception):  # comparing an object may raise anything
                if self.hooks.is_registered(observer):
                    self.hooks.unregister(observer)
            source = str(offered_by) if offered_by else _name(observer)
            message = f"{source} cannot observe this manager: {_first_line(error)}"
            if offered_by is None:
                raise PluginContractError(message) from error
            raise PluginContractError(
                message,
                group=offered_by.group,
                name=offered_by.name,
                dist=offered_by.dist,
                version=offered_by.version,
            ) from error
        return [observer]

    def add_all(self, observers: object) -> None:
        """Register several objects or names; see `add` and `add_by_name`.

        Raises:
            PluginError: If one of them cannot observe.
            SpecSyntaxError: If a text is no name.
            TypeError: If these are not several objects.
        """
        iterator: Iterator[object] | None = None
        if not isinstance(observers, str):
            # An object may raise anything.
            with contextlib.suppress(Exception):
                iterator = iter(observers)  # type: ignore[call-overload] # what is not iterable raises
        if iterator is None:
            raise TypeError(
                "observers is a list of names, such as ['tensorboard'], or of objects with functions marked with "
                f"hookimpl; got {shown(observers)}"
            )
        for observer in list(iterator):
            self.add_given(observer)

    def add_given(self, observer: object) -> list[object]:
        """Register an object, or what a name makes; see `add` and `add_by_name`."""
        return self.add_by_name(observer) if isinstance(observer, str) else self.add(observer)

    def add_module_of(self, plugin: catalog.Plugin) -> list[object]:
        """Register the module that an entry point names."""
        module = sys.modules.get(plugin.module)
        return [] if module is None else self.add(module, plugin)

    def remove(self, observers: list[object]) -> None:
        """Remove observers that `add` registered."""
        for observer in observers:
            self.hooks.unregister(observer)

    def is_observed(self, event: str) -> bool:
        """Whether anybody observes an event."""
        return bool(getattr(self.hooks.hook, event).get_hookimpls())

    def weak_notify(self) -> Callable[..., None]:
        """Return what calls `notify` for as long as these observers exist, and does not keep them alive."""
        notify = weakref.WeakMethod(self.notify)

        def notify_if_alive(event: str, **arguments: Any) -> None:
            if (method := notify()) is not None:
                method(event, **arguments)

        return notify_if_alive

    def notify(self, event: str, **arguments: Any) -> None:
        """Notify each observer in turn; one that raises is named in a warning, and the others are still notified."""
        arguments["manager"] = manager = self._manager()
        if manager is None:
            return  # The manager is being collected, and its observers with it.
        caller = getattr(self.hooks.hook, event)
        for implementation in reversed(caller.get_hookimpls()):
            try:
                implementation.function(*[arguments[name] for name in implementation.argnames])
            except Exception as error:  # noqa: BLE001 # an observer must not stop the training
                name = _name(implementation.plugin)
                warn(f"{name} failed to observe {event}: {one_line(error)}")

    def _refuse_class(self, observer: object) -> None:
        if isinstance(observer, type):
            raise ValueError(f"it is a class; give an object of it, such as {observer.__name__}()")

    def _refuse_unknown(self, observer: object) -> None:
        """Raise `ValueError` for a function that is marked for no event, or that takes what its event does not have."""
        for name in dir(observer):
            options = self.hooks.parse_hookimpl_opts(observer, name)
            if options is None:
                continue
            event = options["specname"] or name
            if event not in _EVENTS:
                if not options["optionalhook"]:
                    raise ValueError(
                        f"there is no event {event}, only {listed(_EVENTS)}.{did_you_mean(event, _EVENTS)}"
                    )
                continue
            has = list(inspect.signature(getattr(hookspecs, event)).parameters)
            for argument, parameter in inspect.signature(getattr(observer, name)).parameters.items():
                # What has a default is not given, and nothing is given by *args or **kwargs.
                is_given = parameter.default is parameter.empty and parameter.kind < parameter.VAR_POSITIONAL
                if is_given and argument not in has:
                    raise ValueError(
                        f"{argument!r} is no argument of {event}, which has {listed(has)}.{did_you_mean(argument, has)}"
                    )

    def _refuse_idle(self, observer: object) -> None:
        """Raise `ValueError` for an object that was given as an observer, and would never be notified."""
        if not self._has_hooks(observer):
            raise ValueError(
                f"none of its functions is marked with nectargan_core.hookimpl; the events are {listed(_EVENTS)}"
            )

    def _has_hooks(self, observer: object) -> bool:
        return any(self.hooks.parse_hookimpl_opts(observer, name) is not None for name in dir(observer))

    def _refuse_wrappers(self, observer: object) -> None:
        for caller in self.hooks.get_hookcallers(observer) or ():
            for implementation in caller.get_hookimpls():
                if implementation.plugin is observer and (implementation.wrapper or implementation.hookwrapper):
                    raise ValueError(f"{caller.name} is a wrapper, and hooks only observe")


def _name(observer: object) -> str:
    try:
        name = getattr(observer, "__name__", None)
    except Exception:  # noqa: BLE001 # an object may raise anything
        name = None
    return name if type(name) is str else type(observer).__name__


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3])
