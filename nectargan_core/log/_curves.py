"""Gathers the series of runs as curves to draw: grouped in panels, summed by tag, smoothed, and of few points."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, shown
from nectargan_core.errors import UnknownLossError
from nectargan_core.log._kinds import GRADIENTS, Entry, entries
from nectargan_core.log._records import Records

if TYPE_CHECKING:
    from nectargan_core.log._reader import LossLog

_Floats: TypeAlias = npt.NDArray[np.float64]

PanelKind: TypeAlias = Literal["losses", "weights", "metrics", "gradients", "components"]

# The smoothed line averages over this part of a run, and over so many records at least.
_SHARE = 0.03
_FEWEST_AVERAGED = 9
# Of fewer records no mean is taken: the line of the records says all.
_FEWEST_SMOOTHED = 30
# So many points of the smoothed line are enough for any picture.
_SMOOTH_POINTS = 500
# Where the largest value is so many times the smallest, a linear axis shows the smaller ones as a flat line.
_LOG_RATIO = 300.0
# Likewise where the largest value of a curve is so many times the largest of another, of which nothing is seen then.
_LOG_RATIO_OF_CURVES = 50.0
# Larger numbers are drawn here: the scale of an axis overflows long before the numbers do.
LARGEST_DRAWN = 1e150
# Sums of larger numbers overflow.
_LARGEST = 1e300


@dataclass(frozen=True, eq=False)
class Curve:
    """What is drawn of one series of one run.

    Args:
        name: What it is called, with its split: `"G_L1"`, `"val/G_L1"`, `"psnr"`, `"sum of G"`.
        run: The label of the run; empty where there is one.
        split: The split, empty for what no split has.
        x: Steps or epochs, float64, never falling.
        y: Values, float64; nan where there is a gap. Of many records the least and the largest of each part of the run,
            so that no peak is lost.
        smooth: `x` and `y` of the smoothed line, None where there are too few records for one.
        nonfinite: How many records are nan or infinite, which are gaps. The cosine and the share of a gradient are not
            counted, since they are nan where there is no gradient.
        is_sum: Whether it is the sum of the other losses.
        beyond: How many records are finite, and larger than `LARGEST_DRAWN`.
    """

    name: str
    run: str
    split: str
    x: _Floats
    y: _Floats
    smooth: tuple[_Floats, _Floats] | None = None
    nonfinite: int = 0
    is_sum: bool = False
    beyond: int = 0

    @property
    def base(self) -> str:
        """The name without the split."""
        return self.name[len(self.split) + 1 :] if self.split else self.name


@dataclass(frozen=True, eq=False)
class Panel:
    """Curves that share an axis.

    Args:
        title: What it shows: a tag, a metric, `"weights"`, a kind of gradients, or the loss whose components these are.
        kind: What its curves are.
        curves: At least one, in the order of the runs, and within a run in that of its log, after the sum.
        log_scale: Whether the ranges are such that the axis of the values is logarithmic. No value is negative then.
    """

    title: str
    kind: PanelKind
    curves: tuple[Curve, ...]
    log_scale: bool


def panels(
    runs: Mapping[str, LossLog],
    *,
    query: str | Iterable[str] | None = None,
    by: Literal["step", "epoch"] = "step",
    smooth: float | None = None,
    points: int = 2000,
) -> list[Panel]:
    """Return the curves of runs, in panels.

    There is a panel for each tag, with the sum of its weighted losses where it has several; one for losses without a
    tag; one for the weights that change; one for each scalar that was recorded; one for each kind of gradients; and one
    for the components of each loss. A loss of two tags is in both panels; tags of the same losses share one.

    Args:
        runs: The log of each run by its label. Where there is one, the label is not used.
        query: Tags, splits and names that are shown: of losses, with their components, weights and gradients, and of
            scalars. A name without split stands for all splits, and a split for all that was recorded in it. None:
            everything.
        by: What `x` is. Epochs that were counted as whole numbers are divided by the steps in them.
        smooth: Over which part of the longest run the smoothed line averages, from 0 (there is none) to 1. None: 3 %,
            and at least 9 records.
        points: About how many points a curve has at most.

    Returns:
        The panels: losses, then weights, metrics, gradients and components.

    Raises:
        UnknownLossError: If no run has anything of that tag, split or name.
        ValueError: If `by` or `smooth` is out of range.

    Example:
        >>> import tempfile, torch
        >>> from nectargan_core import LossLog, LossManager
        >>> with LossManager(experiment_dir=tempfile.mkdtemp()) as manager:
        ...     for name in ("G_GAN", "G_L1"):
        ...         manager.register_loss_fn(name, torch.nn.L1Loss(), loss_weight=2.0, tags=["G"])
        ...     manager.tick(epoch=0)
        ...     _ = manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)})
        >>> (panel,) = panels({"run": LossLog(manager.experiment_dir)})
        >>> panel.title, [(curve.name, curve.y.tolist()) for curve in panel.curves]
        ('G', [('sum of G', [4.0]), ('G_GAN', [2.0]), ('G_L1', [2.0])])
    """
    if by not in ("step", "epoch"):
        raise ValueError(f"by must be 'step' or 'epoch', got {shown(by)}")
    part = 0.0 if smooth is None else arguments.as_float(smooth)
    if part is None or not 0 <= part <= 1:
        raise ValueError(f"smooth must be a number from 0 to 1, the part of the run, got {shown(smooth)}")
    every = {label: entries(log) for label, log in runs.items()}
    found = matching(every, query)
    gathered: dict[tuple[PanelKind, str], list[Curve]] = {}
    tags = _merged_tags(found)
    make = _Maker(None if smooth is None else part, points)
    for label, log in runs.items():
        position = _by_step if by == "step" else _position_in_epochs(log, found[label])
        summed = _summed(found[label], every[label], tags)
        for key, curve in _curves(log, found[label], label if len(runs) > 1 else "", tags, summed, position, make):
            gathered.setdefault(key, []).append(curve)
    order: list[PanelKind] = ["losses", "weights", "metrics", "gradients", "components"]
    kinds = sorted(gathered, key=lambda key: order.index(key[0]))
    return [Panel(title, kind, tuple(gathered[kind, title]), needs_log(gathered[kind, title])) for kind, title in kinds]


def matching(every: Mapping[str, Sequence[Entry]], query: str | Iterable[str] | None) -> dict[str, list[Entry]]:
    """Return what of runs is asked for by tags, splits and names; a loss that is asked for by a tag has no other tag.

    Args:
        every: What the names in the log of each run stand for, by the labels of the runs.
        query: As for `panels`.

    Raises:
        UnknownLossError: If no run has anything of that tag, split or name.
        TypeError: If the query is something else.
    """
    if query is None:
        return {label: list(of_run) for label, of_run in every.items()}
    asked = [query] if isinstance(query, str) else list(query) if isinstance(query, Iterable) else [query]
    if not all(isinstance(each, str) for each in asked):
        raise TypeError(f"query must be a tag, split or name, or several of them, got {shown(query)}")
    all_of_them = [entry for of_run in every.values() for entry in of_run]
    there = {
        "tags": dict.fromkeys(tag for entry in all_of_them for tag in entry.tags),
        "splits": dict.fromkeys(entry.split for entry in all_of_them if entry.split),
        "names": dict.fromkeys(entry.base for entry in all_of_them if entry.kind != "gradient"),
    }
    known = tuple(dict.fromkeys(name for names in there.values() for name in names))
    for each in asked:
        if not any(_names(entry) & {each} or each in entry.tags for entry in all_of_them):
            has = ", ".join(
                f"the {kind if len(names) > 1 else kind[:-1]} {listed(names)}" for kind, names in there.items() if names
            )
            raise UnknownLossError(
                f"the log has nothing of the name, tag or split {each!r}; it has {has or 'no records'}. The name of a "
                f"loss stands for its components, weights and gradients, too.{did_you_mean(each, known)}",
                name=each,
                known=known,
            )
    found: dict[str, list[Entry]] = {label: [] for label in every}
    for label, of_run in every.items():
        for entry in of_run:
            if not _names(entry).isdisjoint(asked):
                found[label].append(entry)
            elif tags := tuple(tag for tag in entry.tags if tag in asked):
                found[label].append(replace(entry, tags=tags))
    return found


def _names(entry: Entry) -> set[str]:
    return {entry.name, entry.base, entry.of, entry.split} - {""}


def _merged_tags(found: Mapping[str, Sequence[Entry]]) -> dict[str, str]:
    """Return the title of the panel of each tag; tags that the same losses have share one. `""` stands for no tag."""
    members: dict[str, set[str]] = {}
    for of_run in found.values():
        for entry in of_run:
            if entry.kind == "loss":
                for tag in entry.tags or ("",):
                    members.setdefault(tag, set()).add(entry.base)
    groups: dict[frozenset[str], list[str]] = {}
    for tag, losses in members.items():
        groups.setdefault(frozenset(losses), []).append(tag)
    return {tag: ", ".join(filter(None, group)) or "losses" for group in groups.values() for tag in group}


def _summed(found: Sequence[Entry], every: Sequence[Entry], tags: Mapping[str, str]) -> set[tuple[str, str]]:
    """Return the panels and splits that have a sum: those with several losses, and all that have the tag."""
    complete = set()
    for tag, title in tags.items():
        for split in {entry.split for entry in found}:
            shown, there = (_of_tag(some, tag, split) for some in (found, every))
            if len(there) > 1 and shown == there:
                complete.add((title, split))
    return complete


def _of_tag(some: Sequence[Entry], tag: str, split: str) -> set[str]:
    losses = [entry for entry in some if entry.kind == "loss" and entry.split == split]
    return {entry.name for entry in losses if tag in (entry.tags or ("",))}


_Position: TypeAlias = Callable[[Records], _Floats]


def _curves(
    log: LossLog,
    of_run: Sequence[Entry],
    run: str,
    tags: Mapping[str, str],
    summed: set[tuple[str, str]],
    position: _Position,
    make: _Maker,
) -> Iterable[tuple[tuple[PanelKind, str], Curve]]:
    """Yield each curve of a run with the kind and title of its panel; reads one series after the other."""
    sums: dict[tuple[str, str], _Sum] = {}
    found: list[tuple[tuple[PanelKind, str], Curve]] = []
    for entry in of_run:
        records = _in_order(log._passing(entry.name))
        if not len(records):
            continue
        x = position(records)
        if entry.kind == "loss":
            titles = list(dict.fromkeys(tags[tag] for tag in entry.tags or ("",)))
            for key in summed & {(title, entry.split) for title in titles}:
                sums.setdefault(key, _Sum()).add(records, x)
            curve = make.curve(entry.name, run, entry.split, x, records.loss)
            found += [(("losses", title), curve) for title in titles]
            if not entry.split and _changes(records.weight):
                found.append((("weights", "weights"), make.curve(entry.name, run, "", x, records.weight, steps=True)))
        elif entry.kind == "metric":
            found.append((("metrics", entry.base), make.curve(entry.name, run, entry.split, x, records.loss)))
        elif entry.kind == "gradient":
            name = f"{entry.split}/{entry.of}" if entry.split else entry.of
            curve = make.curve(name, run, entry.split, x, records.loss)
            curve = replace(curve, nonfinite=0) if entry.may_be_nan else curve
            found.append((("gradients", GRADIENTS[entry.suffix]), curve))
        else:
            found.append((("components", entry.of), make.curve(entry.name, run, entry.split, x, records.loss)))
    for (title, split), total in sums.items():
        name = f"sum of {title}" if title != "losses" else "sum"
        yield (
            ("losses", title),
            make.curve(f"{split}/{name}" if split else name, run, split, total.x, total.values, is_sum=True),
        )
    yield from found


class _Sum:
    """The sum of losses at each step at which one of them was computed."""

    def __init__(self) -> None:
        self._step = np.zeros(0, dtype=np.int64)
        self.x = np.zeros(0)
        self.values = np.zeros(0)

    def add(self, records: Records, x: _Floats) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            if np.array_equal(self._step, records.step):
                self.values += records.loss
                return
            if not len(self._step):
                self._step, self.x, self.values = records.step, x, records.loss.copy()
                return
            steps = np.union1d(self._step, records.step)
            at_x, values = np.empty(len(steps)), np.zeros(len(steps))
            for step, position, value in ((self._step, self.x, self.values), (records.step, x, records.loss)):
                places = np.searchsorted(steps, step)
                at_x[places] = position
                values[places] += value
            self._step, self.x, self.values = steps, at_x, values


def _in_order(records: Records) -> Records:
    """Return one entry a step, in the order of the steps."""
    return records if bool((records.step[1:] > records.step[:-1]).all()) else records.per_step()


def _changes(weights: _Floats) -> bool:
    known = weights[np.isfinite(weights)]
    return bool(len(known)) and bool((known != known[0]).any())


# Steps and epochs


def _by_step(records: Records) -> _Floats:
    return records.step.astype(np.float64)


def _position_in_epochs(log: LossLog, of_run: Sequence[Entry]) -> _Position:
    """Return what tells the epoch of records, with the part of it that has passed.

    Where epochs were counted as whole numbers, all records of an epoch would be drawn at one place. What is computed
    after an epoch, such as a validation, stands at its end, since the steps say so.
    """
    first: dict[float, int] = {}
    last = 0
    for entry in of_run:
        records = _in_order(log._passing(entry.name))
        if not len(records):
            continue
        starts = np.flatnonzero(np.append(True, records.epoch[1:] != records.epoch[:-1]))
        epochs = records.epoch[starts]
        if bool((epochs != np.floor(epochs)).any() or (np.diff(epochs) < 0).any()):
            return _by_epoch
        for epoch, step in zip(epochs.tolist(), records.step[starts].tolist(), strict=True):
            first[epoch] = min(step, first.get(epoch, step))
        last = max(last, int(records.step[-1]))
    ends = np.array(sorted(first), dtype=np.float64)
    steps = np.array([first[epoch] for epoch in ends.tolist()], dtype=np.float64)
    if not len(ends) or bool((np.diff(steps) <= 0).any()):
        return _by_epoch
    # The last epoch may have been broken off; that of a run of one epoch is taken as whole.
    length = float(np.median(np.diff(steps) / np.diff(ends))) if len(ends) > 1 else last - steps[0] + 1
    ends = np.append(ends, ends[-1] + max(1.0, (last - steps[-1]) / length))
    steps = np.append(steps, steps[-1] + max(length, last - steps[-1]))
    return lambda records: np.interp(records.step, steps, ends)


def _by_epoch(records: Records) -> _Floats:
    # A run that went back to an earlier epoch would be drawn backwards.
    return np.maximum.accumulate(records.epoch)


# Points


class _Maker:
    """Makes curves of a number of points, smoothed in the same way."""

    def __init__(self, smooth: float | None, points: int) -> None:
        self._smooth = smooth
        self._points = points

    def curve(
        self,
        name: str,
        run: str,
        split: str,
        x: _Floats,
        values: _Floats,
        *,
        steps: bool = False,
        is_sum: bool = False,
    ) -> Curve:
        """Return a curve.

        Args:
            name: What it is called.
            run: The label of the run.
            split: The split.
            x: Where its values are, never falling.
            values: The values, as many.
            steps: Whether it is one of values that stand until the next one, which are not smoothed.
            is_sum: Whether it is a sum.
        """
        finite = np.isfinite(values)
        nonfinite = len(values) - int(np.count_nonzero(finite))
        smooth = None if steps else self._smoothed(x, values, finite)
        kept = extremes(values, self._points)
        drawn = values[kept]
        drawn[~finite[kept]] = np.nan
        beyond = int(np.count_nonzero(finite & (np.abs(values) > LARGEST_DRAWN)))
        return Curve(name, run, split, x[kept], drawn, smooth, nonfinite, is_sum, beyond)

    def _smoothed(self, x: _Floats, values: _Floats, finite: npt.NDArray[np.bool_]) -> tuple[_Floats, _Floats] | None:
        count, extent = len(x), float(x[-1] - x[0])
        if self._smooth == 0 or extent <= 0 or (self._smooth is None and count < _FEWEST_SMOOTHED):
            return None
        share = max(_SHARE, _FEWEST_AVERAGED / count) if self._smooth is None else self._smooth
        return smoothed(x, values, finite, share * extent)


def extremes(values: _Floats, points: int) -> npt.NDArray[np.int64]:
    """Return the places of values that show all: the least and largest of each part, and one that is not finite.

    Args:
        values: The values, at least one.
        points: About how many places there may be; where there are no more values, all are returned.

    Example:
        >>> values = np.zeros(1_000_000)
        >>> values[123_456] = 7.0
        >>> places = extremes(values, 100)
        >>> len(places) <= 100, 123_456 in places
        (True, True)
    """
    count = len(values)
    if count <= points:
        return np.arange(count)
    edges = np.linspace(0, count, max(2, points // 2)).astype(np.int64)
    places = [0, count - 1]
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        part = values[start:stop]
        least, largest = int(part.argmin()), int(part.argmax())
        # Of values among which one is nan, both are the place of the first nan.
        if math.isfinite(part[least]) and math.isfinite(part[largest]):
            places += [start + least, start + largest]
            continue
        finite = np.isfinite(part)
        places.append(start + int(finite.argmin()))
        if finite.any():
            places.append(start + int(np.where(finite, part, np.inf).argmin()))
            places.append(start + int(np.where(finite, part, -np.inf).argmax()))
    return np.unique(np.array(places, dtype=np.int64))


def smoothed(x: _Floats, values: _Floats, finite: npt.NDArray[np.bool_], width: float) -> tuple[_Floats, _Floats]:
    """Return the mean of the values around each of some points, nan where there are only values that are not finite.

    Args:
        x: Where the values are, never falling.
        values: The values.
        finite: Which of them are finite; only those count.
        width: The values up to half of it away from a point are averaged.
    """
    count = len(x)
    # Sums of parts, of which those within the width are added. A running sum would keep a rounding error of a peak.
    starts = np.unique(np.linspace(0, count, min(count, 4 * _SMOOTH_POINTS), endpoint=False).astype(np.int64))
    lasts = np.append(starts[1:], count) - 1
    sums = np.add.reduceat(np.where(finite, np.clip(values, -_LARGEST, _LARGEST), 0.0), starts)
    counts = np.add.reduceat(finite.astype(np.float64), starts)
    centres = (x[starts] + x[lasts]) / 2
    chosen = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), _SMOOTH_POINTS)).round().astype(np.int64))
    at = centres[chosen]
    spans = np.empty(2 * len(at), dtype=np.int64)
    spans[::2] = np.searchsorted(centres, at - width / 2, side="left")
    spans[1::2] = np.searchsorted(centres, at + width / 2, side="right")
    # With something behind the last part, so that a span may end there.
    totals, known = (np.add.reduceat(np.append(each, 0.0), spans)[::2] for each in (sums, counts))
    # Where the records themselves are a gap, so is the line.
    means = np.full(len(at), np.nan)
    np.divide(totals, known, out=means, where=counts[chosen] > 0)
    return at, means


def needs_log(curves: Sequence[Curve]) -> bool:
    """Whether a linear axis would show a curve as a flat line, since others, or its own peaks, are so much larger."""
    if any((curve.y < 0).any() for curve in curves):
        return False
    # The least values of a noisy curve, or those of one that ends at 0, are no reason.
    usual = [curve.y if curve.smooth is None else curve.smooth[1] for curve in curves]
    usual = [values[values > 0] for values in usual]
    lows = [float(np.percentile(values, 5)) for values in usual if len(values)]
    highs = [float(values.max()) for values in usual if len(values)]
    highest = max((float(np.nanmax(curve.y)) for curve in curves if not np.isnan(curve.y).all()), default=0.0)
    return bool(lows) and (highest / _LOG_RATIO > min(lows) or highest / _LOG_RATIO_OF_CURVES > min(highs))
