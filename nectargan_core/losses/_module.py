"""The module that a loss function is, or is made of; and those of several losses as one module."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MethodType
from typing import Any

from torch import nn


def module_of(function: Callable[..., Any]) -> nn.Module | None:
    """Return the module of a loss function: itself, that of a bound method, or that of a `functools.partial`.

    Example:
        >>> module_of(partial(nn.L1Loss(), None)), module_of(nn.L1Loss().forward), module_of(abs)
        (L1Loss(), L1Loss(), None)
    """
    found: object = function
    while isinstance(found, (partial, MethodType)):
        found = found.func if isinstance(found, partial) else found.__self__
    return found if isinstance(found, nn.Module) else None


class LossModules(nn.ModuleDict):
    """Modules by the names of their losses, in the same order.

    The key of a module, with which the names of its parameters begin, is the name of its loss where torch allows that.
    It allows neither a `.` nor the name of an attribute that a module has, such as `train`. There the key has a `_` in
    the place of each `.`, and as many at its end as it takes until no attribute and no other module has it; the name
    of the loss finds the module all the same.

    Args:
        modules: The modules by name.

    Example:
        >>> modules = LossModules({"G_VGG": nn.Identity(), "train": nn.Identity(), "acme.style": nn.Identity()})
        >>> list(modules)
        ['G_VGG', 'train_', 'acme_style']
        >>> modules["train"], "acme.style" in modules
        (Identity(), True)
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        # An attribute before the keys are chosen, of which none may be the name of it.
        self._keys: dict[str, str] = {}
        self._keys |= {name: name for name in modules if "." not in name and not hasattr(self, name)}
        # In the order of the alphabet, so that the order of registration does not matter.
        for name in sorted(modules.keys() - self._keys.keys()):
            key = name.replace(".", "_")
            while hasattr(self, key) or key in self._keys.values():
                key += "_"
            self._keys[name] = key
        for name, module in modules.items():
            self.add_module(self._keys[name], module)

    def __getitem__(self, key: str) -> nn.Module:
        return super().__getitem__(self._keys.get(key, key))

    def __setitem__(self, key: str, module: nn.Module) -> None:
        super().__setitem__(self._keys.get(key, key), module)

    def __delitem__(self, key: str) -> None:
        super().__delitem__(self._keys.get(key, key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and super().__contains__(self._keys.get(key, key))
