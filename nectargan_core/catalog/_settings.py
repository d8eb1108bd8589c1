"""The settings of the catalog: which plugins may be used, and which distribution's where several offer one name."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import EllipsisType

from nectargan_core import _arguments as arguments
from nectargan_core._messages import shown
from nectargan_core.catalog._installed import canonical
from nectargan_core.errors import ConfigError

_ALLOW = "NECTARGAN_PLUGINS"
_BLOCK = "NECTARGAN_BLOCK_PLUGINS"
_PROVIDERS = "NECTARGAN_PROVIDERS"
_KEYWORDS = {_ALLOW: "plugins", _BLOCK: "block", _PROVIDERS: "providers"}

_lock = threading.Lock()
_in_code: dict[str, str] = {}


def configure(
    *,
    plugins: str | Iterable[str] | EllipsisType | None = ...,
    block: str | Iterable[str] | EllipsisType | None = ...,
    providers: str | Mapping[str, str] | EllipsisType | None = ...,
) -> None:
    """Set for this process which plugins may be used, in place of the environment variables.

    What is not given stays as it is; `None` goes back to the environment variable.

    Args:
        plugins: The only names or distributions to use; none means none but core's own. In place of
            `NECTARGAN_PLUGINS`.
        block: Names or distributions not to use. In place of `NECTARGAN_BLOCK_PLUGINS`.
        providers: The distribution to use, by name, where several offer one. In place of
            `NECTARGAN_PROVIDERS`.

    Raises:
        ConfigError: `providers` does not pair names with distributions.
        TypeError: An argument is neither text nor several of it.

    Example:
        >>> from nectargan_core import catalog
        >>> catalog.configure(block=["acme-vgg"], providers={"cosine": "nectargan-schedules"})
        >>> catalog.configure(block=None, providers=None)
    """
    if isinstance(providers, Mapping):
        pairs = arguments.mapping("providers", providers, "{'cosine': 'nectargan-schedules'}")
        providers = [f"{name}={arguments.text('a distribution', of)}" for name, of in pairs.items()]  # type: ignore[assignment] # text now
    global _in_code
    with _lock:
        texts = dict(_in_code)
        for variable, given in ((_ALLOW, plugins), (_BLOCK, block), (_PROVIDERS, providers)):
            if given is None:
                texts.pop(variable, None)
            elif not isinstance(given, EllipsisType):
                texts[variable] = _joined(_KEYWORDS[variable], given)
        _read(texts.get(_ALLOW), texts.get(_BLOCK), texts.get(_PROVIDERS), tuple(texts))
        _in_code = texts


@contextlib.contextmanager
def unset() -> Iterator[None]:
    """Take away all settings, those of the environment too, until the block ends."""
    global _in_code
    with _lock:
        in_code, _in_code = _in_code, {}
        environment = {name: value for name in _KEYWORDS if (value := os.environ.pop(name, None)) is not None}
    try:
        yield
    finally:
        with _lock:
            _in_code = in_code
            for name in _KEYWORDS:
                os.environ.pop(name, None)
            os.environ.update(environment)


@dataclass(frozen=True)
class _List:
    """A setting that lists names and distributions, and how to show it."""

    label: str
    names: frozenset[str]
    keys: frozenset[str]

    def lists(self, name: str, key: str) -> bool:
        return name in self.names or key in self.keys


@dataclass(frozen=True, eq=False)
class Settings:
    """One reading of the settings; the same object for as long as none of them changes."""

    allow: _List | None
    block: _List
    providers: Mapping[str, str]
    providers_label: str

    def blocks(self, name: str, key: str) -> str:
        """Say which setting blocks a plugin, and what to do; empty where none does.

        Args:
            name: The name of the plugin.
            key: The name of its distribution as package indexes compare it.
        """
        if self.block.lists(name, key):
            return f"blocked by {self.block.label}; take it out of that setting to use it"
        if self.allow is not None and not self.allow.lists(name, key):
            return f"blocked by {self.allow.label}, which does not list it; add {name} or {key} to use it"
        return ""


def current() -> Settings:
    """Return the settings as they are now.

    Raises:
        ConfigError: `NECTARGAN_PROVIDERS` does not pair names with distributions.
    """
    texts = _in_code
    return _read(
        texts.get(_ALLOW, os.environ.get(_ALLOW)),
        texts.get(_BLOCK, os.environ.get(_BLOCK)),
        texts.get(_PROVIDERS, os.environ.get(_PROVIDERS)),
        tuple(texts),
    )


def _joined(what: str, given: str | Iterable[str]) -> str:
    if isinstance(given, str):
        return arguments.text(what, given)
    try:
        several = list(given)
    except Exception:  # noqa: BLE001 # an object may raise anything
        raise TypeError(f"{what} is a name or a list of names, got {shown(given)}") from None
    return ",".join(arguments.text(f"a name in {what}", each) for each in several)


@functools.lru_cache(maxsize=64)
def _read(allow: str | None, block: str | None, providers: str | None, in_code: tuple[str, ...]) -> Settings:
    def label(variable: str, text: str) -> str:
        return f'catalog.configure({_KEYWORDS[variable]}="{text}")' if variable in in_code else f'{variable}="{text}"'

    def listed(variable: str, text: str) -> _List:
        items = frozenset(_items(text))
        return _List(label(variable, text), items, frozenset(map(canonical, items)))

    pairs = {}
    for item in _items(providers or ""):
        name, equals, distribution = (part.strip() for part in item.partition("="))
        if not (name and equals and distribution):
            raise ConfigError(
                f"{label(_PROVIDERS, providers or '')} has {item!r}, which must be a name and a "
                "distribution, as in 'vgg=acme-vgg'",
                key=_PROVIDERS,
            )
        pairs[name] = distribution
    return Settings(
        allow=None if allow is None else listed(_ALLOW, allow),
        block=listed(_BLOCK, block or ""),
        providers=pairs,
        providers_label=label(_PROVIDERS, providers or ""),
    )


def _items(text: str) -> list[str]:
    return [item for item in map(str.strip, text.split(",")) if item]
