"""Sections of a configuration that no model describes, and configurations that are trees of objects."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from contextlib import suppress
from dataclasses import is_dataclass
from enum import Enum
from types import MemberDescriptorType, ModuleType
from typing import Any

from pydantic import BaseModel

from nectargan_core._messages import did_you_mean, listed
from nectargan_core.errors import ConfigError

_DEEPEST = 100


class OpenSection(dict[str, Any]):
    """A section that no model describes: a dict whose keys can be read and set as attributes, too.

    Every mapping that is put into one becomes one, also inside a list. A key that is also the name of a method of
    dicts, such as `items`, is read by key only.

    Example:
        >>> load = OpenSection({"continue_train": False, "from": {"epoch": 5}})
        >>> load.continue_train = True
        >>> load["continue_train"], load == {"continue_train": True, "from": {"epoch": 5}}
        (True, True)
        >>> load["from"].epoch
        5
    """

    __slots__ = ()

    # Those of dict would put values in without `__setitem__`.
    update = MutableMapping.update
    setdefault = MutableMapping.setdefault

    def __init__(self, values: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.update(values or {})

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, opened(value))

    def __ior__(self, values: Any) -> OpenSection:  # type: ignore[override,misc] # in place, as that of dict
        self.update(values)
        return self

    def __getattr__(self, name: str) -> Any:
        # copy and pickle look for methods of such names, which must not come from data.
        if name in self and not name.startswith("__"):
            return self[name]
        keys = [key for key in self if isinstance(key, str)]
        raise AttributeError(
            f"this section of the configuration has no key {name!r}; it has {listed(keys)}.{did_you_mean(name, keys)}"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        if name not in self:
            raise AttributeError(f"this section of the configuration has no key {name!r}")
        del self[name]


def opened(value: Any) -> Any:
    """Return a mapping as an `OpenSection`, a list with the mappings in it as such, anything else as it is."""
    if isinstance(value, OpenSection):
        return value
    if isinstance(value, Mapping):
        return OpenSection(value)
    if type(value) is list:
        items = [opened(item) for item in value]
        # The list itself where nothing in it changes, so that whoever holds it still shares it.
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def as_mappings(
    value: Any, model: type[BaseModel] | None, source: str, key: str = "", above: tuple[int, ...] = ()
) -> Any:
    """Return a section as a dict, and the sections in it likewise; anything that is no section as it is.

    A section is a mapping, a pydantic model, or an object that only holds data: one of a dataclass, a namespace, or
    of a class without methods and properties of its own. Where the models name a section, any object that has public
    attributes is one. Nothing is called, except a property that has the name of a field.

    Args:
        value: The section, or whatever else stands in its place.
        model: The model of the section, None if none describes it.
        source: What stands before the key in an error.
        key: Where the section is, with dots.
        above: The identities of the sections that this one is in.

    Raises:
        ConfigError: If a section contains itself, or is nested absurdly deep.
    """
    if isinstance(value, model or OpenSection):
        return value
    values = value if type(value) is list else _values(value, model)
    if values is None:
        return value
    if id(value) in above:
        raise ConfigError(f"{source}{key}: contains itself; expected a tree of sections", key=key)
    if len(above) >= _DEEPEST:
        raise ConfigError(f"{source}{key[:40]}...: is nested more than {_DEEPEST} deep", key=key)
    above = (*above, id(value))

    def inside(name: Any, item: Any) -> Any:
        return as_mappings(item, _model_of(model, name), source, f"{key}.{name}" if key else str(name), above)

    if isinstance(values, list):
        return [inside(number, item) for number, item in enumerate(values)]
    return {name: inside(name, item) for name, item in values.items()}


def attributes(value: object) -> dict[str, Any]:
    """Return the public attributes of an object that are data: its own, in slots too, and those of its class."""
    found: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__[:-1]):
        for name, item in list(vars(kind).items()):
            if isinstance(item, MemberDescriptorType):
                with suppress(AttributeError):  # a slot that holds nothing
                    found[name] = item.__get__(value)
            elif not _is_behaviour(item):
                found[name] = item
    found.update(getattr(value, "__dict__", {}))
    return {name: item for name, item in found.items() if not name.startswith("_")}


def _values(value: Any, model: type[BaseModel] | None) -> dict[Any, Any] | None:
    """Return what is in a section, None for what is none."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, BaseModel):
        return dict(value.__iter__())
    if callable(value) or isinstance(value, (str, bytes, int, float, list, tuple, Enum)):
        return None
    only_data = _only_holds_data(value)
    if model is None:
        return (attributes(value) if only_data else {}) or None
    values = attributes(value)
    for name in model.model_fields:
        if name not in values:
            with suppress(AttributeError):
                values[name] = getattr(value, name)
    return values if values or only_data else None


def _only_holds_data(value: object) -> bool:
    if is_dataclass(value):
        return True
    kinds = type(value).__mro__[:-1]
    items = [item for kind in kinds for item in list(vars(kind).items())]
    methods = (name for name, item in items if name[0] != "_" and _is_behaviour(item))
    return hasattr(value, "__dict__") and not isinstance(value, ModuleType) and not any(methods)


def _is_behaviour(item: object) -> bool:
    """Whether an attribute of a class is a method, a property or the like, and not data."""
    return not isinstance(item, MemberDescriptorType) and (callable(item) or hasattr(item, "__get__"))


def _model_of(model: type[BaseModel] | None, name: Any) -> type[BaseModel] | None:
    """Return the model of a field that is a section."""
    field = model.model_fields.get(name) if model is not None and isinstance(name, str) else None
    kind = field.annotation if field is not None else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None
