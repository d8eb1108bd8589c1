"""What all ranks of a distributed run have recorded: their means, and whether one of them has seen nan or infinity."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from itertools import chain

from nectargan_core._distributed import check_group, gathered, is_distributed, of_ranks, summed
from nectargan_core.errors import NectarganError, NonFiniteLossError
from nectargan_core.history._recorder import NonFinite
from nectargan_core.history._sums import Sums

# The sums of so many names go into one all-reduce. It has this length whatever the names are, since ranks that differ
# in the number of numbers would wait for each other, or crash.
_MOST_NAMES = 1024
_WIDTH = len(Sums._fields)


def sums_over_ranks(own: Mapping[str, Sums] | None) -> dict[str, Sums]:
    """Return the sums over all ranks, by name; every rank has to call this.

    It takes one all-reduce where all ranks have the same names. Where they do not, the ranks find that out by it, and
    gather names and sums.

    Args:
        own: Those of this rank; None where it has none, since only last values are kept.

    Raises:
        NectarganError: On all ranks, if one of them has no sums; on this one, if there is no group yet.
    """
    check_group()
    names = sorted(own or ())
    # Two numbers for the names. Where they are the same on all ranks, and only there, the squares of each add up to the
    # square of their sum over the number of ranks; all of it is exact.
    fingerprint = zlib.crc32("\n".join(map(repr, names)).encode()) if own is not None else 1
    halves = (fingerprint >> 16, fingerprint & 0xFFFF)
    numbers: list[float] = [1, *halves, *(half * half for half in halves)]
    if own is not None and len(names) <= _MOST_NAMES:
        numbers += chain.from_iterable(own[name] for name in names)
    numbers += [0.0] * (5 + _MOST_NAMES * _WIDTH - len(numbers))
    ranks, first, second, first_squares, second_squares, *rest = summed(numbers)
    are_same = first * first == ranks * first_squares and second * second == ranks * second_squares
    if own is not None and are_same and len(names) <= _MOST_NAMES:
        return {name: Sums(*rest[at * _WIDTH : (at + 1) * _WIDTH]) for at, name in enumerate(names)}
    every = gathered(None if own is None else dict(own))
    without = [rank for rank, sums in enumerate(every) if sums is None]
    if without:
        raise NectarganError(
            f"the means of all ranks need what each has recorded, and there is none of {of_ranks(without)}, where only "
            "the last values are kept, or which is in paused(); make the manager with experiment_dir= or "
            "enable_logging=True on every rank, or take the means of a split"
        )
    total: dict[str, Sums] = {}
    for sums in every:
        for name, each in (sums or {}).items():
            total[name] = total.get(name, Sums()).plus(each)
    return total


def raise_nonfinite(take: Callable[[], NonFinite | None]) -> None:
    """Raise on all ranks if one of them has seen a loss that is nan or infinite; every rank has to call this.

    It takes one all-reduce of one number, and where something is to be raised one exchange more.

    Args:
        take: Returns what this rank has seen.

    Raises:
        NonFiniteLossError: If any has; its attributes are of the lowest rank that has.
        NectarganError: If there is no group yet.
    """
    check_group()
    own = take()
    if not summed([own is not None])[0]:
        return
    seen = {rank: each for rank, each in enumerate(gathered(own)) if each is not None}
    rank, first = next(iter(seen.items()))
    told = [f"on rank {rank} {each.what}" for rank, each in seen.items()] if is_distributed() else [first.what]
    raise NonFiniteLossError(
        "; ".join(told),
        loss_name=first.loss_name,
        step=first.step,
        epoch=first.epoch,
        rank=rank if is_distributed() else None,
    )
