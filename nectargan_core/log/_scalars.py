"""From records to scalars: the curves that tools such as TensorBoard draw, each named by a tag."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nectargan_core.log._records import ARRAYS, Records, joined

_GRADIENTS = ("norm", "share", "cosine")

# The curves that have points where their value changes, of which a mean would be a value that there never was.
_CHANGING = ("weight/", "epoch")


@dataclass(frozen=True, eq=False)
class Scalars:
    """New points of one curve, as arrays of one length, with one point a step in the order of the steps.

    Args:
        tag: The name of the curve: what kind of value it is, `/`, and the name in the log, such as `loss/val/G_L1`.
        step: Steps, int64.
        time: Seconds since 1970, float64; nan where they are not known.
        value: Values, float64; they may be nan or infinite.
    """

    tag: str
    step: npt.NDArray[np.int64]
    time: npt.NDArray[np.float64]
    value: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)

    def thinned(self, every: int) -> Scalars:
        """Return one point for each group of steps, at the last of its points.

        Its value is the mean of those of the group, so that a nan or an infinity among them remains; of weights and
        epochs it is the last one.

        Args:
            every: How many steps make a group, at least 1: the first has those below this number.

        Example:
            >>> values = np.array([2.0, 4.0, 6.0, 8.0, 5.0])
            >>> losses = Scalars("loss/G_L1", step=np.arange(5), time=np.arange(5.0), value=values)
            >>> thinned = losses.thinned(every=2)
            >>> thinned.step.tolist(), thinned.value.tolist()
            ([1, 3, 4], [3.0, 7.0, 5.0])
        """
        if not len(self):
            return self
        group = self.step // every
        is_last = np.append(group[1:] != group[:-1], True)
        value = self.value[is_last]
        if not self.tag.startswith(_CHANGING):
            first = np.flatnonzero(np.roll(is_last, 1))
            with np.errstate(invalid="ignore", over="ignore"):
                value = np.add.reduceat(self.value, first) / np.diff(np.append(first, len(self)))
        return replace(self, step=self.step[is_last], time=self.time[is_last], value=value)


class ScalarStream:
    """Turns the records of each flush into scalars, for an observer that hands them to another tool.

    | tag | of | is |
    |---|---|---|
    | `loss/NAME` | a loss | the weighted result |
    | `unweighted/NAME` | a loss | the result before weighting, from the first weight on that is not 1 |
    | `weight/NAME` | a loss outside of splits | the weight, where it changes |
    | `components/NAME` | a component | the weighted result |
    | `gradients/norm/NAME`, `/share/`, `/cosine/` | a loss | what `record_gradients` recorded |
    | `metrics/NAME` | a recorded scalar | its value |
    | `epoch` | the clock | the epoch, where it changes |

    NAME is the name in the log: `G_L1`, `val/G_L1`, `G_VGG.relu3_3`, `psnr`. Where a step has several records, as in
    a validation, its point is their mean. The newest step waits until there is a newer one, since records of it may
    follow. Weights and epochs have a point on both sides of each change, at the first step and at the last of each
    flush.

    Args:
        points: About how many points of a curve a flush may give, at least 1, for a tool that takes no more: where
            there are more, all curves are thinned alike (see `Scalars.thinned`). None for one point a step.

    Example:
        >>> steps, ones = np.array([0, 1, 1]), np.ones(3)
        >>> values = np.array([6.0, 2.0, 4.0])
        >>> records = Records("val/G_L1", steps, epoch=ones, loss=values, weight=ones, unweighted=ones)
        >>> stream = ScalarStream()
        >>> [(each.tag, each.step.tolist(), each.value.tolist()) for each in stream.add([records], {"G_L1"})]
        [('loss/val/G_L1', [0], [6.0])]
        >>> [(each.tag, each.step.tolist(), each.value.tolist()) for each in stream.rest()]
        [('loss/val/G_L1', [1], [3.0])]
    """

    def __init__(self, points: int | None = None) -> None:
        self._points = points
        # The records of the newest step, by the names of their series, and which of these are losses.
        self._newest: dict[str, Records] = {}
        self._losses: set[str] = set()
        # The losses that had a weight other than 1.
        self._weighted: set[str] = set()
        # The last value of each curve that has points where it changes.
        self._last: dict[str, float] = {}

    def add(self, chunks: Iterable[Records], losses: Container[str]) -> list[Scalars]:
        """Return the scalars that are complete now.

        Args:
            chunks: What `nectargan_history_flushed` is given.
            losses: The names of the losses that are registered, such as `manager.get_registered_losses()`; what has
                another name, and is no component, is a recorded scalar.
        """
        chunks = [chunk for chunk in chunks if len(chunk)]
        for chunk in chunks:
            is_loss = chunk.component_of is None and chunk.name.rpartition("/")[2] in losses
            (self._losses.add if is_loss else self._losses.discard)(chunk.name)
        newest = max((int(chunk.step.max()) for chunk in chunks), default=None)
        if newest is None:
            return []
        waiting, self._newest = self._newest, {}
        complete = []
        by_name: dict[str, list[Records]] = {}
        for part in (*waiting.values(), *chunks):
            by_name.setdefault(part.name, []).append(part)
        for name, parts in by_name.items():
            records = parts[0] if len(parts) == 1 else joined(name, parts)
            is_newest = records.step == newest
            if is_newest.any():
                self._newest[name] = _where(records, is_newest)
                records = _where(records, ~is_newest)
            complete.append(records)
        return self._scalars(complete)

    def rest(self) -> list[Scalars]:
        """Return the scalars of the newest step, after which nothing follows."""
        waiting, self._newest = self._newest, {}
        return self._scalars(waiting.values())

    def rewind(self, step: int) -> None:
        """Forget what waits of `step` and later steps, which are superseded."""
        waiting = {name: records.before(step) for name, records in self._newest.items()}
        self._newest = {name: records for name, records in waiting.items() if len(records)}
        # The tool forgets the newest points, too.
        self._last.clear()

    def _scalars(self, complete: Iterable[Records]) -> list[Scalars]:
        found = []
        clock: list[Records] = []
        for records in complete:
            if not len(records):
                continue
            if not bool((np.diff(records.step) > 0).all()):
                records = records.per_step()
            found += self._curves(records)
            if "/" not in records.name and not any(np.array_equal(records.step, other.step) for other in clock):
                clock.append(records)
        if clock:
            steps, first = np.unique(np.concatenate([each.step for each in clock]), return_index=True)
            times, epochs = (
                np.concatenate([getattr(each, name) for each in clock])[first] for name in ("time", "epoch")
            )
            found.append(self._changes(Scalars("epoch", steps, times, epochs)))
        return self._thinned([each for each in found if len(each)])

    def _thinned(self, found: list[Scalars]) -> list[Scalars]:
        if self._points is None or max(map(len, found), default=0) <= self._points:
            return found
        steps = 1 + max(int(each.step[-1]) for each in found) - min(int(each.step[0]) for each in found)
        return [each.thinned(-(-steps // self._points)) for each in found]

    def _curves(self, records: Records) -> list[Scalars]:
        """Return the scalars of one series."""
        name, step, time = records.name, records.step, records.time
        if records.component_of is not None:
            return [Scalars(f"components/{name}", step, time, records.loss)]
        if name not in self._losses:
            return [Scalars(_tag(name), step, time, records.loss)]
        found = [Scalars(f"loss/{name}", step, time, records.loss)]
        weighted = np.logical_or.accumulate((records.weight != 1) | (name in self._weighted))
        if weighted[-1]:
            self._weighted.add(name)
            # Of a weight of 0 the function may have been left uncalled.
            known = weighted & ~(np.isnan(records.unweighted) & (records.weight == 0))
            found.append(Scalars(f"unweighted/{name}", step[known], time[known], records.unweighted[known]))
        if "/" not in name:
            found.append(self._changes(Scalars(f"weight/{name}", step, time, records.weight)))
        return found

    def _changes(self, scalars: Scalars) -> Scalars:
        """Return the points on both sides of each change, the first of all and the last of these."""
        value = scalars.value
        changed = np.empty(len(value) + 1, dtype=bool)
        changed[0] = scalars.tag not in self._last or self._last[scalars.tag] != value[0]
        changed[1:-1] = value[1:] != value[:-1]
        changed[-1] = True
        kept = changed[1:] | changed[:-1]
        self._last[scalars.tag] = float(value[-1])
        return replace(scalars, step=scalars.step[kept], time=scalars.time[kept], value=value[kept])


def _tag(name: str) -> str:
    """Return the tag of a recorded scalar."""
    loss, _, kind = name.rpartition("@grad_")
    return f"gradients/{kind}/{loss}" if loss and kind in _GRADIENTS else f"metrics/{name}"


def _where(records: Records, kept: npt.NDArray[np.bool_]) -> Records:
    columns: dict[str, Any] = {name: getattr(records, name)[kept] for name in ARRAYS}
    return Records(records.name, **columns, component_of=records.component_of)
