"""What each name in a log stands for: a loss with its tags, a component, a gradient, or a scalar that was recorded."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
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


def entries(log: LossLog) -> list[Entry]:
    """Return what each name of a log stands for, in the order of the log.

    The headers name the losses and their tags. Only what they do not name is read, for what its records say. In a log
    whose headers say nothing of losses, as that of NectarGAN, each name is one.
    """
    tags = _tags(log.headers)
    added = _added(log.headers, tags or {})
    return [_entry(log, name, tags, added) for name in log.names]


def _entry(log: LossLog, name: str, tags: Mapping[str, tuple[str, ...]] | None, added: Mapping[str, Any]) -> Entry:
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
    records = log._passing(name)
    if records.component_of is not None:
        of = records.component_of.rpartition("/")[2]
        return Entry(name, base, split, "component", tags.get(of, ()), of)
    # A loss that was unregistered is in no later header. A scalar always has the weight 1.
    return Entry(name, base, split, "metric" if bool((records.weight == 1).all()) else "loss")


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
