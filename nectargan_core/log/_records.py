"""The record: its columns, their order and types, and `Records`, the records of one loss as arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from nectargan_core.log._merging import StepMeans

_Integers: TypeAlias = npt.NDArray[np.int64]
_Floats: TypeAlias = npt.NDArray[np.float64]

Layout: TypeAlias = Literal["stride", "runs", "values"]
"""How a chunk writes a column: as first value and stride, as runs of equal values, or value by value."""


def _column(code: Literal["q", "d"], layout: Layout, default: float | None = None) -> dict[str, Any]:
    """Describe a column: its type as `struct` names it, how a chunk writes it, and its value where it is left out."""
    return {"code": code, "layout": layout, "default": default}


def _left_out() -> npt.NDArray[Any]:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Records:
    """Records of one loss, as arrays of one length.

    Args:
        name: Name of the loss.
        step: Steps, int64.
        epoch: Epochs, float64.
        loss: Means of the weighted results, float64.
        weight: Weights applied, float64.
        unweighted: Means of the results before weighting, float64; nan where a weight of 0 left the function
            uncalled.
        count: How many records each entry stands for, int64; ones, read-only, where it is not given.
        batch: Sizes of the batches, int64; 0 where they are not known; read-only where none are given.
        component_of: The loss that this is a component of, None if it is a loss of its own.
        time: When each record was made, in seconds since 1970, float64; nan where it is not known. A log does not say.

    Example:
        >>> steps, ones = np.array([0, 0]), np.ones(2)
        >>> twice = Records("G_L1", steps, epoch=ones, loss=np.array([2.0, 4.0]), weight=ones, unweighted=ones)
        >>> mean = twice.per_step()
        >>> mean.step.tolist(), mean.loss.tolist(), mean.count.tolist()
        ([0], [3.0], [2])
    """

    name: str
    # The columns of a record: memory, chunks, files and their readers take them and their order from here. A new one is
    # added after these as `field(metadata=_column(..., default=...), default_factory=_left_out)`: its default stands
    # in the logs of earlier versions, and wherever else nobody gives it.
    step: _Integers = field(metadata=_column("q", "stride"))
    epoch: _Floats = field(metadata=_column("d", "runs"))
    loss: _Floats = field(metadata=_column("d", "values"))
    weight: _Floats = field(metadata=_column("d", "runs"))
    unweighted: _Floats = field(metadata=_column("d", "values"))
    count: _Integers = field(default_factory=_left_out)
    batch: _Integers = field(default_factory=_left_out)
    component_of: str | None = None
    time: _Floats = field(default_factory=lambda: np.zeros(0))

    def __post_init__(self) -> None:
        for name, default in DEFAULTS.items():
            if len(getattr(self, name)) != len(self):
                object.__setattr__(self, name, np.full(len(self), default, dtype=DTYPE[name]))
        for name, default in _LEFT_OUT.items():
            if len(getattr(self, name)) != len(self):
                # One number in memory, whatever the length.
                object.__setattr__(self, name, np.broadcast_to(default, len(self)))

    def __len__(self) -> int:
        return len(self.step)

    def before(self, step: int) -> Records:
        """Return the records of the steps before one."""
        kept = self.step < step
        columns = {name: getattr(self, name)[kept] for name in ARRAYS}
        return Records(self.name, **columns, component_of=self.component_of)

    def per_step(self) -> Records:
        """Return one entry per step, in the order of the steps.

        Each number is the mean over the records of the step: weighed by the sizes of their batches where all of them
        have one, else by their counts. `count` and `batch` are sums; `batch` is 0 where one of them is not known. Of
        `unweighted` it is the mean of those that are not nan.
        """
        return merged(self.name, [self])


_METADATA = {each.name: each.metadata for each in fields(Records) if "code" in each.metadata}
# What stands in the arrays that may not be given.
_LEFT_OUT = {"count": np.int64(1), "batch": np.int64(0), "time": np.float64(np.nan)}

DEFAULTS: dict[str, float] = {
    name: column["default"] for name, column in _METADATA.items() if column["default"] is not None
}
"""The columns that may be absent, and what stands in them then."""

COLUMNS: dict[str, Layout] = {name: column["layout"] for name, column in _METADATA.items()}
"""The columns of a record in their order, and how a chunk writes each."""

ARRAYS: tuple[str, ...] = (*COLUMNS, *_LEFT_OUT)
"""The fields of `Records` that are arrays."""

# What stands in memory for a record: the columns, the size of the batch, and then those columns that may be absent.
_CODES = {name: column["code"] for name, column in _METADATA.items()}
_CODES = {name: _CODES[name] for name in COLUMNS if name not in DEFAULTS} | {"batch": "I"} | _CODES

DTYPE = np.dtype([(name, np.dtype(code)) for name, code in _CODES.items()])
"""One record in memory: its columns in their order and the size of its batch, without padding."""

RECORD = struct.Struct("=" + "".join(_CODES.values()))
"""The same for `struct`."""


def _pack_with_defaults(*values: float) -> bytes:
    return RECORD.pack(*values, *list(DEFAULTS.values())[len(values) - len(_CODES) + len(DEFAULTS) :])


pack: Callable[..., bytes] = _pack_with_defaults if DEFAULTS else RECORD.pack
"""Packs the values of a record: the columns in their order, the size of the batch, and what may be absent."""


def unpacked(rows: bytes | bytearray) -> npt.NDArray[np.void]:
    """Return a copy of packed records as an array with a field for each column.

    Example:
        >>> unpacked(pack(7, 0.5, 2.0, 100.0, 0.02, 8))["weight"].tolist()
        [100.0]
    """
    return np.frombuffer(bytearray(rows), dtype=DTYPE)


def as_records(name: str, rows: npt.NDArray[np.void], component_of: str | None = None) -> Records:
    """Return records from an array with a field for each column, and one for the sizes of the batches."""
    columns: dict[str, Any] = {column: np.ascontiguousarray(rows[column]) for column in COLUMNS}
    if rows["batch"].any():
        columns["batch"] = rows["batch"].astype(np.int64)
    return Records(name, **columns, component_of=component_of)


def joined(name: str, parts: Iterable[Records]) -> Records:
    """Return the records of several parts as one, in the order of the parts."""
    parts = [as_records(name, unpacked(b"")), *parts]
    given = [column for column in ARRAYS if column in COLUMNS or not all(_is_left_out(part, column) for part in parts)]
    columns: dict[str, Any] = {column: np.concatenate([getattr(part, column) for part in parts]) for column in given}
    return Records(name, **columns, component_of=parts[-1].component_of)


def merged(name: str, parts: Iterable[Records]) -> Records:
    """Return one entry per step of the records of several parts, as `Records.per_step` does of one.

    The parts are taken one after the other, and none is kept.

    Example:
        >>> steps, ones = np.array([0, 1]), np.ones(2)
        >>> ranks = (Records("G_L1", steps, ones, ones * value, ones, ones * value) for value in (1.0, 3.0))
        >>> merged("G_L1", ranks).loss.tolist()
        [2.0, 2.0]
    """
    means = StepMeans(column for column in ARRAYS if column not in ("step", "count", "batch"))
    component_of = None
    for part in parts:
        means.add(part)
        component_of = part.component_of
    columns: dict[str, Any] = {**dict.fromkeys(COLUMNS, np.zeros(0)), **means.columns()}
    return Records(name, **columns, component_of=component_of)


def _is_left_out(records: Records, column: str) -> bool:
    values = getattr(records, column)
    # All entries are one number in memory, which `Records` has put there.
    return not len(values) or values.strides == (0,)


def with_times(chunks: Iterable[Records], begin: float, end: float, *, by_step: bool) -> list[Records]:
    """Return records with times that follow from when those before them, and these, were looked at.

    Args:
        chunks: The records.
        begin: When the records before these were looked at, or the run began, in seconds.
        end: When these were looked at.
        by_step: Whether the times are spread over the steps of all. Without a clock each loss has steps of its own, and
            they are spread over the records of each.

    Example:
        >>> steps, ones = np.array([3, 4]), np.ones(2)
        >>> records = Records("G_L1", steps, epoch=ones, loss=ones, weight=ones, unweighted=ones)
        >>> with_times([records], begin=10.0, end=20.0, by_step=True)[0].time.tolist()
        [15.0, 20.0]
    """
    chunks = [chunk for chunk in chunks if len(chunk)]
    first = min((int(chunk.step.min()) for chunk in chunks), default=0)
    last = max((int(chunk.step.max()) for chunk in chunks), default=0)
    timed = []
    for chunk in chunks:
        done, total = (chunk.step - first, last - first) if by_step else (np.arange(len(chunk)), len(chunk) - 1)
        share = ((done + 1) / (total + 1)).astype(np.float64)
        timed.append(replace(chunk, time=begin + (end - begin) * share))
    return timed


def product(unweighted: _Floats, weight: _Floats, single: bool) -> _Floats:
    """Multiply results by their weights in the precision of the results, as was done when they were computed.

    Args:
        unweighted: Results before weighting.
        weight: Their weights; a weight of 0 gives 0 whatever it is multiplied by.
        single: Whether the results are of single precision.
    """
    dtype = np.float32 if single else np.float64
    with np.errstate(over="ignore", invalid="ignore"):
        weighted = unweighted.astype(dtype) * weight.astype(dtype)
    return np.where(weight == 0, 0.0, weighted.astype(np.float64))
