"""Whether all ranks of a distributed run have the same objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nectargan_core._distributed import gathered, of_ranks
from nectargan_core.errors import ObjectiveError
from nectargan_core.objectives._differences import Difference
from nectargan_core.objectives._objective import Objective


def check_ranks(record: Callable[[], Objective]) -> None:
    """Compare the record of this rank with those of all others; every rank has to call this.

    Args:
        record: Returns that of this rank.

    Raises:
        ObjectiveError: On all ranks, if the records differ, or a rank has none.
    """
    try:
        own: Any = record().to_dict()
    except Exception as error:  # noqa: BLE001 # the others would wait for this one
        own = f"{type(error).__name__}: {error}"
    every = gathered(own)
    failed = [f"\n  on rank {rank}: {each}" for rank, each in enumerate(every) if isinstance(each, str)]
    if failed:
        raise ObjectiveError(
            f"the objectives of the ranks cannot be compared, since there is no record:{''.join(failed)}"
        )
    alike: dict[str, list[int]] = {}
    for rank, each in enumerate(every):
        alike.setdefault(json.dumps(each, sort_keys=True), []).append(rank)
    expected = Objective.from_dict(every[0])
    found: list[Difference] = []
    lines: list[str] = []
    for ranks in alike.values():
        differing = expected.differences(Objective.from_dict(every[ranks[0]]))
        found += differing
        lines += [f"\n  on {of_ranks(ranks)}: {each}" for each in differing]
    if found:
        raise ObjectiveError(
            f"the ranks have different objectives; before each arrow stands what rank 0 has:{''.join(lines)}\n"
            "Make the managers of all ranks from the same formula or file, with the same packages",
            differences=tuple(found),
        )
