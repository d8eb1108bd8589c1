"""What a query is, and which losses it finds: by their names and tags."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, TypeAlias, TypeVar

Query: TypeAlias = "str | Iterable[str] | None"
"""A tag or loss name, or several of which any may match; None for all losses."""


class _Named(Protocol):
    """A loss, as far as a query looks at it: its definition, or one at work."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def tags(self) -> Collection[str]:
        """Its tags."""


_Loss = TypeVar("_Loss", bound=_Named)


def checked(query: Query) -> str | tuple[str, ...] | None:
    """Return a query in plain types, in which it can be looked up and looked at again.

    Raises:
        TypeError: If it is neither a name nor several, or None.
    """
    if query is None or type(query) is str:
        return query
    if isinstance(query, str):
        return str.__str__(query)
    several = query
    if type(query) is not list and type(query) is not tuple:
        if isinstance(query, (Mapping, bytes, bytearray)):
            raise _no_query(type(query).__name__)
        try:
            several = iter(query)
        except Exception:  # noqa: BLE001 # an object may raise anything
            raise _no_query(type(query).__name__) from None
    named: list[str] = []
    for one in several:
        if not isinstance(one, str):
            raise _no_query(f"{type(one).__name__} in it")
        named.append(one if type(one) is str else str.__str__(one))
    return tuple(named)


def _no_query(what: str) -> TypeError:
    return TypeError(f"a query is a tag or loss name, a list of them, or None for all losses; got {what}")


def found_by(wanted: Collection[str], losses: Iterable[_Loss]) -> tuple[_Loss, ...]:
    """Return the losses whose name, or one of whose tags, is wanted.

    Example:
        >>> from nectargan_core import LMLoss
        >>> losses = [LMLoss(name="G_L1", function=abs, tags=["G"]), LMLoss(name="D", function=abs)]
        >>> [loss.name for loss in found_by(["G"], losses)]
        ['G_L1']
    """
    return tuple(loss for loss in losses if loss.name in wanted or any(tag in wanted for tag in loss.tags))
