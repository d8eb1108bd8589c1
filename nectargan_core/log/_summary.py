"""`Summary`: what there is to say of a series in a few numbers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nectargan_core.log._kinds import Entry, entries
from nectargan_core.log._records import Records

if TYPE_CHECKING:
    from nectargan_core.log._reader import LossLog


class Value(NamedTuple):
    """A value of a series, and where the run had it.

    Args:
        value: The value, finite.
        step: The step; of the mean of an epoch, its last one.
        epoch: The epoch.
    """

    value: float
    step: int
    epoch: float


@dataclass(frozen=True)
class Summary:
    """A series in a few numbers.

    Args:
        entry: What its name stands for.
        records: How many records there are, at least 1.
        nonfinite: How many of them are nan or infinite.
        first_step: The lowest step.
        last_step: The highest step.
        last_epoch: The epoch of the last record.
        last: The last value; of a loss the weighted one.
        unweighted: The last value before weighting.
        epoch_mean: The mean over the last epoch; weighed by the sizes of the batches where all of them are known.
        lowest: The lowest finite value, where it was first reached; None where none is finite.
        highest: The highest finite value, likewise.
        first_weight: The weight of the first record.
        weight: The weight of the last record.
    """

    entry: Entry
    records: int
    nonfinite: int
    first_step: int
    last_step: int
    last_epoch: float
    last: float
    unweighted: float
    epoch_mean: float
    lowest: Value | None
    highest: Value | None
    first_weight: float
    weight: float


def summaries(log: LossLog, of: Iterable[Entry] | None = None) -> list[Summary]:
    """Return a summary of each series of a log that has records; reads one after the other.

    Args:
        log: The log.
        of: Which of its names. None: all, in the order of the log.
    """
    found = ((entry, log._passing(entry.name)) for entry in (entries(log) if of is None else of))
    return [summary(entry, records) for entry, records in found if len(records)]


def summary(entry: Entry, records: Records) -> Summary:
    """Return what there is to say of the records of a series, of which there is at least one."""
    finite = np.isfinite(records.loss)
    return Summary(
        entry=entry,
        records=len(records),
        nonfinite=len(records) - int(np.count_nonzero(finite)),
        first_step=int(records.step.min()),
        last_step=int(records.step.max()),
        last_epoch=float(records.epoch[-1]),
        last=float(records.loss[-1]),
        unweighted=float(records.unweighted[-1]),
        epoch_mean=_mean(records, int(np.flatnonzero(np.append(True, records.epoch[1:] != records.epoch[:-1]))[-1])),
        lowest=_value(records, int(np.where(finite, records.loss, np.inf).argmin())) if finite.any() else None,
        highest=_value(records, int(np.where(finite, records.loss, -np.inf).argmax())) if finite.any() else None,
        first_weight=float(records.weight[0]),
        weight=float(records.weight[-1]),
    )


def _value(records: Records, place: int) -> Value:
    return Value(float(records.loss[place]), int(records.step[place]), float(records.epoch[place]))


def _mean(records: Records, start: int) -> float:
    epoch = records.epoch[-1]
    # A clock with fractions has an epoch from one whole number to the next.
    if epoch != np.floor(epoch):
        start = int(np.flatnonzero(np.append(True, np.floor(records.epoch[1:]) != np.floor(records.epoch[:-1])))[-1])
    batch = records.batch[start:]
    weights = batch if bool((batch > 0).all()) else records.count[start:]
    with np.errstate(invalid="ignore", over="ignore"):
        return float((records.loss[start:] * weights).sum() / weights.sum())
