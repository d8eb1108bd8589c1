"""What each name in a log stands for: a loss with its tags, a component, a gradient, or a scalar that was recorded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from nectargan_core.log._reader import LossLog

Kind: TypeAlias = Literal["loss", "component", "gradient", "metric"]
"""What is recorded under a name; a weighting that adds to the total is a loss."""

GRADIENTS: dict[str, str] = {
    "grad_norm": "gradient norm",
    "grad_share": "gradient share",
    "grad_cosine": "gradient cosine",
}
"""What stands behind the `@` in the name of a gradient, and what it is called."""


@dataclass(frozen=True)
class Entry:
    """What a name in a log stands for.

    Args:
        name: The name as it is in the log, such as `"val/G_L1"`.
        base: The name without its split, such as `"G_L1"`.
        split: The split, such as `"val"`; empty for what no split has.
        kind: What is recorded under it.
        tags: The tags of the loss; for a component or a gradient, those of its loss.
        of: The loss that it is a component or a gradient of; else empty.
    """

    name: str
    base: str
    split: str
    kind: Kind
    tags: tuple[str, ...] = ()
    of: str = ""

    @property
    def title(self) -> str:
        """What it is called where there is room: the name, or of a gradient such as `"gradient norm of val/G_L1"`."""
        if self.kind != "gradient":
            return self.name
        return f"{GRADIENTS[self.suffix]} of {self.split + '/' if self.split else ''}{self.of}"

    @property
    def suffix(self) -> str:
        """What stands behind the `@` in the name of a gradient."""
        return self.base.rpartition("@")[2]

    @property
    def may_be_nan(self) -> bool:
        """Whether nan is no fault: a gradient of 0 has no direction, and no share where all are 0.

        What makes those of a loss nan otherwise makes its norm nan, too.
        """
        return self.kind == "gradient" and self.suffix in ("grad_cosine", "grad_share")


@dataclass(frozen=True)
class Traits:
    """What the records of a name say of it.

    Args:
        component_of: The name of the loss that they are a component of; None where they are none.
        is_weighted: Whether any of them has another weight than 1.
    """

    component_of: str | None
    is_weighted: bool


def entries(log: LossLog) -> list[Entry]:
    """Return what each name of a log stands for, in the order of the log.

    Only what the headers do not name is read, for what its records say.
    """

    def traits(name: str) -> Traits:
        records = log._passing(name)
        return Traits(records.component_of, bool((records.weight != 1).any()))

    return entries_of(log.headers, log.names, traits)


def entries_of(
    headers: Sequence[Mapping[str, Any]], names: Iterable[str], traits: Callable[[str], Traits]
) -> list[Entry]:
    """Return what names stand for.

    The headers name the losses and their tags. Where they say nothing of losses, as in the log of NectarGAN, each name
    is one.

    Args:
        headers: The headers of the log.
        names: The names.
        traits: Returns what the records of a name say, for those that the headers do not name.
    """
    tags = _tags(headers)
    added = _added(headers, tags or {})
    return [_entry(name, tags, added, traits) for name in names]


def _entry(
    name: str,
    tags: Mapping[str, tuple[str, ...]] | None,
    added: Mapping[str, tuple[str, ...]],
    traits: Callable[[str], Traits],
) -> Entry:
    split, _, base = name.rpartition("/")
    if tags is not None and base in tags:
        return Entry(name, base, split, "loss", tags[base])
    loss, _, suffix = base.rpartition("@")
    if suffix in GRADIENTS and (tags is None or loss in tags):
        return Entry(name, base, split, "gradient", (tags or {}).get(loss, ()), loss)
    if base in added:
        return Entry(name, base, split, "loss", added[base])
    if tags is None:
        return Entry(name, base, split, "loss")
    found = traits(name)
    if found.component_of is not None:
        of = found.component_of.rpartition("/")[2]
        return Entry(name, base, split, "component", tags.get(of, ()), of)
    # A loss that was unregistered is in no later header. A scalar always has the weight 1.
    return Entry(name, base, split, "loss" if found.is_weighted else "metric")


def _tags(headers: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]] | None:
    found: dict[str, tuple[str, ...]] | None = None
    for header in headers:
        said = header.get("tags")
        if isinstance(said, Mapping):
            found = found or {}
            found |= {name: tuple(map(str, tags)) for name, tags in said.items() if isinstance(tags, list)}
    return found


def _added(headers: Sequence[Mapping[str, Any]], tags: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the names under which weightings record what they add, with the tags that all of their losses have."""
    found: dict[str, tuple[str, ...]] = {}
    for header in headers:
        manifest = header.get("manifest")
        weightings = manifest.get("weightings") if isinstance(manifest, Mapping) else None
        for asked, said in weightings.items() if isinstance(weightings, Mapping) else ():
            if not isinstance(said, Mapping) or not isinstance(said.get("weighting"), str):
                continue
            losses = [str(loss) for loss in said.get("losses") or ()]
            shared = [tag for tag in tags.get(losses[0], ()) if all(tag in tags.get(loss, ()) for loss in losses)]
            # By its name without the provider, or that of its class, which a record gives with its module.
            label = re.split("[/:.]", said["weighting"])[-1]
            for name in (label, f"{label}@{asked}", f"{label}@{','.join(losses)}"):
                found.setdefault(name, tuple(shared) if losses else ())
    return found
