"""The entry point groups: what a plugin of each is called, and how it has to be callable."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

SPECS: Final = "nectargan.loss_specs"
SCHEDULES: Final = "nectargan.schedules"
WEIGHTINGS: Final = "nectargan.weightings"
OBSERVERS: Final = "nectargan.observers"


@dataclass(frozen=True)
class Group:
    """One entry point group.

    Args:
        noun: What a plugin of the group is, for messages.
        takes: How it is called, for messages.
        bind: Raises `TypeError` for a signature that cannot be called so.
    """

    noun: str
    takes: str
    bind: Callable[[inspect.Signature], object]


def _bind_spec(signature: inspect.Signature) -> None:
    signature.bind(None, **({"subspec": None} if "subspec" in signature.parameters else {}))


def _bind_schedule(signature: inspect.Signature) -> None:
    # Its other parameters come from Schedule.params, and are checked when a schedule is evaluated.
    signature.bind_partial(None, None)


def _bind_weighting(signature: inspect.Signature) -> None:
    # Which keywords it takes depends on Weighting.params, and is checked when it is made.
    by_position = [p for p in signature.parameters.values() if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    if by_position:
        raise TypeError


def _bind_observer(signature: inspect.Signature) -> None:
    signature.bind()


GROUPS: Final = {
    SPECS: Group("loss spec", "(config) or (config, subspec)", _bind_spec),
    SCHEDULES: Group("schedule", "(schedule, epoch)", _bind_schedule),
    WEIGHTINGS: Group("weighting", "keyword arguments", _bind_weighting),
    OBSERVERS: Group("observer", "no arguments", _bind_observer),
}
"""The groups that the catalog reads, by their names in the metadata."""


PREFIX: Final = "nectargan"
"""What the name of each group begins with."""


def is_misnamed(group: str) -> bool:
    """Whether a group is named like one of NectarGAN's, and is none.

    Example:
        >>> is_misnamed("nectargan.loss_spec"), is_misnamed(SPECS), is_misnamed("console_scripts")
        (True, False, False)
    """
    return group not in GROUPS and group.casefold().startswith(PREFIX)


def misnaming(group: str) -> str:
    """Say that nothing is looked up in a group, and to which group its name comes nearest.

    Example:
        >>> misnaming("nectargan-schedule").rpartition("; ")[2]
        "the nearest group is 'nectargan.schedules'"
    """
    # What follows the prefix tells the groups apart, in whatever case and with whatever separators.
    endings = {_ending(known): known for known in GROUPS}
    near = difflib.get_close_matches(_ending(group), endings, n=1, cutoff=0.5)
    known = f"the nearest group is {endings[near[0]]!r}" if near else f"the groups are {', '.join(GROUPS)}"
    return f"is in the entry point group {group!r}, in which nothing is looked up; {known}"


def _ending(group: str) -> str:
    return re.sub(r"[-_.\s]+", "", group.casefold().removeprefix(PREFIX))


def noun(group: str) -> str:
    """Return what a plugin of a group is called, also of a group that is not known."""
    return GROUPS[group].noun if group in GROUPS else "plugin"


def one(group: str) -> str:
    """Return the noun of a group with its article.

    Example:
        >>> one(SCHEDULES), one(OBSERVERS)
        ('a schedule', 'an observer')
    """
    kind = noun(group)
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
