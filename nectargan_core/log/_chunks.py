"""`Chunks`: what the chunks of one loss hold, read into one array a column."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from nectargan_core.log._records import COLUMNS, DEFAULTS, DTYPE, Layout, Records, product

# So many values are rounded and multiplied at a time: few calls of numpy, and what is in between stays in the cache.
_AT_ONCE = 1 << 13

_VALUES = tuple(name for name, layout in COLUMNS.items() if layout == "values")


class Chunks:
    """The records of one loss, gathered chunk by chunk.

    The numbers go straight into the columns, so that no more memory is used than those have at the end.

    Args:
        expected: How many records will come, as far as it is known. Only time and memory depend on it.

    Example:
        >>> chunks = Chunks(expected=2)
        >>> columns = {"step": {"first": 7, "stride": 2}, "epoch": {"runs": [[0, 2]]}, "weight": [2, 3]}
        >>> chunks.add({"n": 2, "float": 64, **columns, "unweighted": [0.5, "nan"]})
        >>> records = chunks.records("G_L1")
        >>> records.step.tolist(), records.loss.tolist()
        ([7, 9], [1.0, nan])
    """

    def __init__(self, expected: int = 0) -> None:
        self._columns = {name: np.empty(expected, dtype=DTYPE[name]) for name in COLUMNS}
        self._batch: npt.NDArray[np.int64] | None = None
        self._component_of: str | None = None
        self._count = 0
        # The records from this one on are not rounded and multiplied yet, and what is to be done with them.
        self._finished = 0
        self._single = self._multiply = False

    def add(self, fields: dict[str, Any]) -> None:
        """Take a chunk, or nothing of it if it cannot be read.

        Args:
            fields: The JSON object; a list of numbers may be an array.

        Raises:
            ValueError: If it is no chunk.
        """
        try:
            self._add(fields)
        except (KeyError, TypeError, IndexError, OverflowError) as error:
            raise ValueError(f"not a chunk of records: {error!r}") from error

    def rewind(self, step: int) -> None:
        """Leave out the records of a step and later ones."""
        self._finish()
        kept = self._columns["step"][: self._count] < step
        count = int(np.count_nonzero(kept))
        if not kept[:count].all():
            for column in (*self._columns.values(), *(() if self._batch is None else (self._batch,))):
                column[:count] = column[: self._count][kept]
        self._count = self._finished = count

    def records(self, name: str) -> Records:
        """Return all records as those of a loss. Nothing can be added afterwards."""
        self._finish()
        columns: dict[str, Any] = {column: self._cut(self._columns.pop(column)) for column in COLUMNS}
        if self._batch is not None:
            columns["batch"] = self._cut(self._batch)
        return Records(name, **columns, component_of=self._component_of)

    def _add(self, fields: dict[str, Any]) -> None:
        count, single, multiply = int(fields["n"]), fields["float"] == 32, "loss" not in fields
        # Before memory is taken, since a line that was written wrongly may say any number.
        _check_length(fields["unweighted"], count)
        if (single, multiply) != (self._single, self._multiply) or self._count - self._finished > _AT_ONCE:
            self._finish()
            self._single, self._multiply = single, multiply
        start, stop = self._count, self._count + count
        if stop > len(self._columns["step"]):
            self._grow(stop)
        for name, layout in COLUMNS.items():
            if name in fields:
                _READ[layout](fields[name], self._columns[name], start, count)
            elif name in DEFAULTS:
                self._columns[name][start:stop] = DEFAULTS[name]
            elif name != "loss":
                raise KeyError(name)
        if "batch" in fields or self._batch is not None:
            if self._batch is None:
                self._batch = np.zeros(len(self._columns["step"]), dtype=np.int64)
            _read_runs(fields.get("batch", {"runs": [[0, count]]}), self._batch, start, count)
        component_of = fields.get("component_of")
        self._component_of = None if component_of is None else str(component_of)
        self._count = stop

    def _grow(self, needed: int) -> None:
        capacity = max(needed, 2 * self._count)
        for name, column in self._columns.items():
            self._columns[name] = _grown(column, capacity)
        if self._batch is not None:
            self._batch = _grown(self._batch, capacity)

    def _finish(self) -> None:
        """Round what is of single precision, and multiply where only the factors are written."""
        for start in range(self._finished, self._count, _AT_ONCE):
            span = slice(start, min(start + _AT_ONCE, self._count))
            if self._single:
                with np.errstate(over="ignore"):  # a line that was written wrongly may hold any number
                    for name in _VALUES:
                        if name != "loss" or not self._multiply:
                            self._columns[name][span] = self._columns[name][span].astype(np.float32)
            if self._multiply:
                unweighted, weight = self._columns["unweighted"][span], self._columns["weight"][span]
                self._columns["loss"][span] = product(unweighted, weight, self._single)
        self._finished = self._count

    def _cut(self, column: npt.NDArray[Any]) -> npt.NDArray[Any]:
        cut = column[: self._count]
        # A view would hold all of the memory.
        return cut.copy() if self._count < 0.9 * len(column) else cut


def _grown(column: npt.NDArray[Any], capacity: int) -> npt.NDArray[Any]:
    grown = np.zeros(capacity, dtype=column.dtype)
    grown[: len(column)] = column
    return grown


def _check_length(values: Any, count: int) -> None:
    if not isinstance(values, list | np.ndarray) or len(values) != count:
        raise ValueError(f"a column is not a list of {count} values")


def _check_integers(values: npt.NDArray[Any]) -> None:
    if values.dtype.kind in "iu":
        return
    if values.dtype.kind != "f" or not (np.abs(values) < 2**53).all() or (values != np.floor(values)).any():
        raise ValueError("a column of integers has other values")


# Each takes what the JSON holds, the column to write to, from which record on, and how many values there have to be.


def _read_stride(written: Any, column: npt.NDArray[Any], start: int, count: int) -> None:
    if not isinstance(written, dict):
        _read_values(written, column, start, count)
        return
    first, stride = int(written["first"]), int(written["stride"])
    if not all(-(2**63) <= end < 2**63 for end in (first, first + stride * (count - 1))):
        raise OverflowError("a step has more than 64 bits")
    steps = column[start : start + count]
    np.multiply(np.arange(count, dtype=np.int64), stride, out=steps)
    steps += first


def _read_runs(written: Any, column: npt.NDArray[Any], start: int, count: int) -> None:
    if not isinstance(written, dict):
        _read_values(written, column, start, count)
        return
    runs = written["runs"]
    if len(runs) == 1 and runs[0][1:] == [count]:
        column[start : start + count] = runs[0][0]
        return
    values, lengths = zip(*runs, strict=True)
    if sum(lengths) != count:  # checked first, since a line that was written wrongly may ask for any memory
        raise ValueError(f"the runs of a column have {sum(lengths)} values, not {count}")
    runs_of = np.array(values, dtype=np.float64)
    if column.dtype.kind == "i":
        _check_integers(runs_of)
    column[start : start + count] = np.repeat(runs_of, lengths)


def _read_values(written: Any, column: npt.NDArray[Any], start: int, count: int) -> None:
    _check_length(written, count)
    values = np.asarray(written)
    if column.dtype.kind == "i":
        _check_integers(values)
    values = values.astype(column.dtype, copy=False)
    if values.shape != (count,):
        raise ValueError(f"a column has the shape {values.shape}, not {(count,)}")
    column[start : start + count] = values


_READ: dict[Layout, Callable[[Any, npt.NDArray[Any], int, int], None]] = {
    "stride": _read_stride,
    "runs": _read_runs,
    "values": _read_values,
}
