"""What is said of the records of one loss in a table: its last value, its lowest and its highest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from nectargan_core.log import Kind, Records, Value

_Floats: TypeAlias = "npt.NDArray[np.float64]"

# Words of metrics of which more is better, as they stand in their names.
_MORE_IS_BETTER = frozenset(
    [
        "psnr",
        "ssim",
        "snr",
        "sdr",
        "acc",
        "accuracy",
        "precision",
        "recall",
        "f1",
        "auc",
        "auroc",
        "dice",
        "iou",
        "miou",
        "map",
        "score",
        "pesq",
        "stoi",
        "likelihood",
        "reward",
        "r2",
    ]
)


@dataclass(frozen=True)
class ComparedSeries:
    """What is said of the records of one loss.

    All values are unweighted. Of a loss of the training, in a run of several epochs, they are the means of the epochs,
    of everything else the means of the steps. A mean is weighted by the sizes of the batches where all of its batches
    are known. Values that are nan or infinite are left out.

    Args:
        kind: `"loss"`, `"metric"` (a recorded scalar), `"component"` or `"gradient"`.
        records: How many records there are.
        last: The last of these means, and where; None if there is none, such as of a loss whose weight was always 0.
        lowest: The lowest one.
        highest: The highest one.
        nonfinite: How many records are nan or infinite.
    """

    kind: Kind
    records: int
    last: Value | None
    lowest: Value | None
    highest: Value | None
    nonfinite: int


def summarize(records: Records, kind: Kind, by_epoch: bool) -> ComparedSeries:
    """Return what is said of the records of a loss.

    Args:
        records: Its records.
        kind: What its name stands for.
        by_epoch: Whether the means of epochs count, or those of steps.

    Example:
        >>> values = np.array([3.0, 1.0, np.nan, 2.0])
        >>> records = Records("G_L1", np.arange(4), np.array([0.0, 0.0, 1.0, 1.0]), values, np.ones(4), values)
        >>> found = summarize(records, "loss", by_epoch=True)
        >>> found.last, found.nonfinite
        (Value(value=2.0, step=3, epoch=1.0), 1)
    """
    # Of a weight of 0 that left the function uncalled the loss is 0 and the unweighted value nan.
    nonfinite = len(records) - int(np.count_nonzero(np.isfinite(records.loss)))
    means, ends = _means(records, by_epoch)
    known = np.flatnonzero(np.isfinite(means))
    if not len(known):
        return ComparedSeries(kind, len(records), None, None, None, nonfinite)

    def at(index: int) -> Value:
        epoch = float(records.epoch[ends[index]])
        return Value(
            float(means[index]), int(records.step[ends[index]]), float(math.floor(epoch)) if by_epoch else epoch
        )

    lowest, highest = known[np.argmin(means[known])], known[np.argmax(means[known])]
    return ComparedSeries(kind, len(records), at(known[-1]), at(lowest), at(highest), nonfinite)


def _means(records: Records, by_epoch: bool) -> tuple[_Floats, npt.NDArray[np.intp]]:
    """Return the mean of each epoch or step, in their order, and the index of the last record of each."""
    place = np.floor(records.epoch) if by_epoch else records.step
    values = records.unweighted
    rises = np.diff(place)
    if (rises > 0).all():  # one record each
        return values, np.arange(len(records))
    order = None
    if (rises < 0).any():
        order = np.argsort(place, kind="stable")
        place, values = place[order], values[order]
    starts = np.flatnonzero(np.concatenate(([True], place[1:] != place[:-1])))
    ends = np.append(starts[1:], len(place)) - 1
    batch, count = (each if order is None else each[order] for each in (records.batch, records.count))
    lengths = np.diff(np.append(starts, len(place)))
    share = np.where(np.repeat(np.logical_and.reduceat(batch > 0, starts), lengths), batch, count)
    finite = np.isfinite(values)
    # Divided before they are summed, so that the sum of large values does not overflow.
    weights = np.where(finite, share, 0).astype(np.float64)
    total = np.add.reduceat(weights, starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        weights /= np.repeat(total, lengths)
        means = np.add.reduceat(np.where(finite, values, 0.0) * weights, starts)
    means[total == 0] = np.nan
    return means, ends if order is None else order[ends]


def is_better_high(name: str) -> bool:
    """Guess by the name of a metric whether more of it is better.

    Example:
        >>> is_better_high("val/psnr"), is_better_high("PSNR_y"), is_better_high("fid")
        (True, True, False)
    """
    own = name.rpartition("/")[2].casefold()
    for sign in "-. ":
        own = own.replace(sign, "_")
    return not _MORE_IS_BETTER.isdisjoint(own.split("_"))
