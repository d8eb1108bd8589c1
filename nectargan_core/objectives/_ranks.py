"""Whether all ranks of a distributed run have the same objective."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from nectargan_core._distributed import alike, check_group, gathered, of_ranks
from nectargan_core.errors import ObjectiveError
from nectargan_core.objectives._differences import Difference
from nectargan_core.objectives._objective import Objective


def check_ranks(record: Callable[[], Objective], step: int) -> None:
    """Compare the record and the clock of this rank with those of all others; every rank has to call this.

    Args:
        record: Returns the record of this rank.
        step: Where its clock stands.

    Raises:
        ObjectiveError: On all ranks, if the records or the clocks differ, or a rank has no record.
        NectarganError: If there is no group yet.
    """
    check_group()
    try:
        own: Any = record().to_dict()
    except Exception as error:  # noqa: BLE001 # the others would wait for this one
        own = f"{type(error).__name__}: {error}"
    every, steps = zip(*gathered((own, step)), strict=True)
    failed = [f"\n  on rank {rank}: {each}" for rank, each in enumerate(every) if isinstance(each, str)]
    if failed:
        raise ObjectiveError(
            f"the objectives of the ranks cannot be compared, since there is no record:{''.join(failed)}"
        )
    expected = Objective.from_dict(every[0])
    found: list[Difference] = []
    lines: list[str] = []
    for ranks in alike(json.dumps(each, sort_keys=True) for each in every).values():
        differing = expected.differences(Objective.from_dict(every[ranks[0]]))
        found += differing
        lines += [f"\n  on {of_ranks(ranks)}: {each}" for each in differing]
    if found:
        raise ObjectiveError(
            f"the ranks have different objectives; before each arrow stands what rank 0 has:{''.join(lines)}\n"
            "Make the managers of all ranks from the same formula or file, with the same packages",
            differences=tuple(found),
        )
    if len(set(steps)) > 1:
        told = ", ".join(f"{each} on {of_ranks(ranks)}" for each, ranks in alike(steps).items())
        raise ObjectiveError(
            f"the clocks of the ranks differ; the last step is {told}. A rank that resumes goes on after what its own "
            "log has; load the state of a checkpoint on all ranks, or give the first tick a step"
        )
