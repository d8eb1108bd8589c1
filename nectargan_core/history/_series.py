"""The records of one loss in memory: added without waiting for a device, kept compactly, read as arrays."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nectargan_core._messages import warn
from nectargan_core.errors import LossResultError
from nectargan_core.history._lm_history import LMHistory
from nectargan_core.log import COLUMNS, RECORD, Records, as_records, pack, product, unpacked

_NAN = float("nan")
_NAN_BITS = 0x7FF8_0000_0000_0000
# Two values of nan that no computation gives stand for a loss that is not known yet. _PRODUCT: it is weight times
# unweighted value in single precision, and is multiplied when it is read; to read it from its tensor would make the hot
# path slower. _UNREAD: it is still on a device.
_PRODUCT_BITS = _NAN_BITS + 1
_PRODUCT, _UNREAD = struct.unpack("=dd", struct.pack("=qq", _PRODUCT_BITS, _NAN_BITS + 2))

_FLOAT32 = torch.float32
_FLOAT32_MIN, _FLOAT32_MAX = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
# The dtypes that torch multiplies with a number.
_REAL = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}
# So many device scalars are kept apart before they are stacked into one tensor.
_BLOCK = 64

_SIZE = RECORD.size
_LOSS, _WEIGHT, _UNWEIGHTED = (list(COLUMNS).index(name) for name in ("loss", "weight", "unweighted"))

_Record: TypeAlias = tuple[Any, ...]
"""The values of one record, in the order of the columns."""

NonFiniteCallback = Callable[["Series", int, float, float], None]
"""Called with `(series, step, epoch, value)` for a weighted value that is nan or infinite."""


class Series:
    """The records of one loss since the last flush, and its last record.

    A record is added by one operation, so that an interrupt or another thread finds it whole or not at all. On the
    CPU its value is read at once. On any other device the result is kept there, in blocks, until `sync` reads all
    blocks of all series with one wait.

    Args:
        name: Name of the loss.
        keep: Whether all records are kept, or only the last.
        on_nonfinite: Called for a weighted value that is nan or infinite; None where that is normal.
        on_device: Called before the first value is left on a device.
    """

    __slots__ = (
        "_blocks",
        "_dropped",
        "_dropped_count",
        "_dropped_sum",
        "_known",
        "_last",
        "_on_device",
        "_on_nonfinite",
        "_pending",
        "_reported",
        "_window",
        "count",
        "dtype",
        "keep",
        "name",
        "result",
        "rows",
    )

    def __init__(
        self,
        name: str,
        keep: bool,
        on_nonfinite: NonFiniteCallback | None = None,
        on_device: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.keep = keep
        # How many records were ever added, those of the runs before a resumed one included.
        self.count = 0
        self.dtype = torch.float32
        # The last result before weighting, where it is more than a number: a map, or a scalar on a device.
        self.result: Tensor | None = None
        # The records that are kept, packed one after the other.
        self.rows = bytearray()
        # The last record where none are kept, or the last one that was dropped.
        self._last: _Record | None = None
        # Results that are still on a device: the position of the record, the mean before weighting, and of a map the
        # mean after weighting. A position counts from the first record that was ever kept.
        self._pending: list[tuple[int, Tensor, Tensor | None]] = []
        self._blocks: list[_Block] = []
        self._on_nonfinite = on_nonfinite or _ignore
        self._on_device = on_device
        # How many records were dropped from the front of the rows.
        self._dropped = 0
        # The position from which on `new_records` returns records.
        self._reported = 0
        # The position from which on `mean` counts, and what it counts of records that were dropped since.
        self._window = 0
        self._dropped_sum, self._dropped_count = 0.0, 0
        # The newest value that was read, which `latest` gives while the last one is still on a device.
        self._known = _NAN

    def __len__(self) -> int:
        return len(self.rows) // _SIZE

    def watch_nonfinite(self, on_nonfinite: NonFiniteCallback | None) -> None:
        """Set what is called for a weighted value that is nan or infinite; None to call nothing."""
        self._on_nonfinite = on_nonfinite or _ignore

    # Adding

    def add(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        """Record a result before (`raw`) and after weighting (`weighted`)."""
        if raw.dtype is not _FLOAT32 or raw.ndim or not raw.is_cpu:
            self._add_tensor(step, epoch, weight, raw, weighted)
            return
        # The hot path: one number is read and one record appended, as in _append.
        value = raw.item()
        if self.keep:
            try:
                self.rows.extend(pack(step, epoch, _PRODUCT, weight, value))
            except struct.error as error:
                raise _not_packed(step, epoch) from error
        else:
            self._last = (step, epoch, _PRODUCT, weight, value)
        self.count += 1
        self.result = None
        self.dtype = _FLOAT32
        if not _FLOAT32_MIN <= value * weight <= _FLOAT32_MAX:
            # The result decides: it is rounded to float32, and this product is not.
            self.check_finite(step, epoch, weighted.item())

    def check_finite(self, step: int, epoch: float, weighted: float) -> None:
        """Report a weighted value if it is nan or infinite."""
        if not math.isfinite(weighted):
            self._on_nonfinite(self, step, epoch, weighted)

    def add_number(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        """Record a value before and after weighting."""
        self._append(step, epoch, _NAN if weighted != weighted else weighted, weight, raw)
        self.check_finite(step, epoch, weighted)

    def add_scalar(self, step: int, epoch: float, value: float | Tensor) -> None:
        """Record a value that is not weighted."""
        if isinstance(value, Tensor):
            # On a device it is read later, and its owner may change it until then, as schedulers change learning rates.
            value = value if value.is_cpu else value.detach().clone()
            self.add(step, epoch, 1.0, value, value)
        else:
            self.result = None
            self.dtype = torch.float64
            self.add_number(step, epoch, 1.0, float(value), float(value))

    def add_zero(self, step: int, epoch: float, zero: Tensor) -> None:
        """Record that a weight of 0 left the function uncalled, and gave this result."""
        self.result = None if zero.is_cpu else zero.detach()
        self.dtype = zero.dtype
        self.add_number(step, epoch, 0.0, _NAN, 0.0)

    def _append(self, step: int, epoch: float, loss: float, weight: float, unweighted: float) -> None:
        if self.keep:
            try:
                self.rows.extend(pack(step, epoch, loss, weight, unweighted))
            except struct.error as error:
                raise _not_packed(step, epoch) from error
        else:
            self._last = (step, epoch, loss, weight, unweighted)
        self.count += 1

    def _add_tensor(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        check_real(self.name, raw, epoch)
        if raw.is_cpu and not raw.ndim:
            self.dtype = weighted.dtype
            self.result = None
            self.add_number(step, epoch, weight, raw.item(), weighted.item())
            return
        # The result before weighting is kept, since the user may edit the weighted one in place.
        result = raw.detach()
        if raw.is_leaf and raw.requires_grad and not raw.is_cpu:
            result = result.clone()  # a parameter, which its optimizer edits in place
        self.dtype = weighted.dtype
        if raw.is_cpu:
            self.result = result
            self.add_number(step, epoch, weight, _mean(result).item(), _mean(weighted.detach()).item())
            return
        if self._on_device is not None:
            self._on_device()
            self._on_device = None
        if not self.keep:
            self._known = self.latest()
        self.result = result
        self._append(step, epoch, _UNREAD, weight, _NAN)
        if self.keep:
            mean = _mean(weighted.detach()) if raw.ndim else None
            self._pending.append((self._dropped + len(self) - 1, _mean(result), mean))
            if len(self._pending) >= _BLOCK:
                self._pack_pending()

    # Reading from a device

    def _pack_pending(self) -> None:
        groups: dict[Any, list[tuple[int, Tensor, Tensor | None]]] = {}
        for row in self._pending:
            groups.setdefault((row[1].device, row[1].dtype, row[2] is None), []).append(row)
        for rows in groups.values():
            raw = torch.stack([row[1] for row in rows])
            means = [row[2] for row in rows if row[2] is not None]
            self._blocks.append(_Block(self, [row[0] for row in rows], raw, torch.stack(means) if means else None))
        self._pending.clear()

    def take_blocks(self) -> list[_Block]:
        """Hand over what is still on a device, for `sync` to read."""
        if not self.keep:
            last = self._last
            if last is None or self.result is None or not _is_unread(last[_LOSS]):
                return []
            raw = _mean(self.result)
            weighted = _mean(self.result * last[_WEIGHT]) if self.result.ndim else None
            return [_Block(self, [0], raw.reshape(1), None if weighted is None else weighted.reshape(1))]
        if self._pending:
            self._pack_pending()
        blocks, self._blocks = self._blocks, []
        return blocks

    def fill(
        self, positions: list[int], raw: list[float], weighted: list[float] | None, dtype: torch.dtype
    ) -> list[tuple[int, float, float]]:
        """Put values that were read from a device into their records; without `weighted`, weight them here.

        Returns:
            Step, epoch and weighted value of each record.
        """
        if not self.keep:
            records = [] if self._last is None else [self._last]
        else:
            offsets = [(position - self._dropped) * _SIZE for position in positions]
            records = [RECORD.unpack_from(self.rows, offset) for offset in offsets]
        if weighted is None:
            weighted = _products(raw, [record[_WEIGHT] for record in records], dtype)
        filled = []
        for record, value, loss in zip(records, raw, weighted, strict=True):
            values = list(record)
            values[_LOSS], values[_UNWEIGHTED] = _NAN if loss != loss else loss, value
            filled.append(tuple(values))
        if not self.keep:
            self._last = filled[-1]
        else:
            for offset, record in zip(offsets, filled, strict=True):
                RECORD.pack_into(self.rows, offset, *record)
        return [(step, epoch, loss) for step, epoch, loss, *_ in filled]

    # Reading

    def _last_record(self) -> _Record | None:
        return RECORD.unpack(self.rows[-_SIZE:]) if self.rows else self._last

    def last_value(self) -> float:
        """Return the last weighted value; nan before the first, and while it is still on a device."""
        last = self._last_record()
        return _NAN if last is None else _loss_of(last)

    def latest(self) -> float:
        """Return the newest weighted value that can be had without waiting for a device, nan if there is none."""
        waiting = [block.positions[0] for block in self._blocks[:1]] + [row[0] for row in self._pending[:1]]
        end = min(waiting) - self._dropped if waiting else len(self)
        newest = RECORD.unpack_from(self.rows, (end - 1) * _SIZE) if end else self._last
        return self._known if newest is None or _is_unread(newest[_LOSS]) else _loss_of(newest)

    def last_weight(self) -> float | None:
        """Return the weight that was last applied, None before the first record."""
        last = self._last_record()
        return None if last is None else float(last[_WEIGHT])

    def last_tensor(self) -> Tensor:
        """Return the last weighted result, detached, on its device and in its dtype; nan before the first."""
        last = self._last_record()
        if last is None:
            return torch.tensor(_NAN, device="cpu")
        if self.result is not None:
            return self.result * last[_WEIGHT] if last[_WEIGHT] else torch.zeros_like(self.result)
        return torch.tensor(_loss_of(last), dtype=self.dtype, device="cpu")

    def history(self) -> LMHistory:
        """Return the records that are in memory, as lists; after a flush the last one is."""
        if not self.rows and self._last is not None:
            rows = _multiplied(unpacked(pack(*self._last)))
        else:
            rows = self._unpacked()
        return LMHistory.model_construct(
            losses=rows["loss"].tolist(),
            weights=rows["weight"].tolist(),
            unweighted=rows["unweighted"].tolist(),
            steps=rows["step"].tolist(),
            epochs=rows["epoch"].tolist(),
        )

    def records(self) -> Records:
        """Return the records that are in memory, as arrays."""
        return as_records(self.name, self._unpacked())

    def new_records(self) -> Records:
        """Return the records since this was last called, after a `sync`."""
        start, self._reported = max(self._reported - self._dropped, 0), self._dropped + len(self)
        return as_records(self.name, self._unpacked(start))

    def _unpacked(self, start: int = 0, end: int | None = None) -> npt.NDArray[np.void]:
        part = self.rows[start * _SIZE : None if end is None else end * _SIZE]
        return _multiplied(unpacked(part))

    # Means

    def begin_window(self) -> None:
        """Let `mean` be over the records from now on."""
        self._window = self._dropped + len(self)
        self._dropped_sum, self._dropped_count = 0.0, 0

    def mean(self) -> float:
        """Return the mean of the weighted values since `begin_window`, after a `sync`; nan of none.

        Records of a weight of 0 that left the function uncalled do not count.
        """
        total, count = self._sum_of_window(len(self))
        total, count = self._dropped_sum + total, self._dropped_count + count
        return total / count if count else _NAN

    def _sum_of_window(self, end: int) -> tuple[float, int]:
        """Return sum and number of the weighted values from the window's begin up to a row, but for skipped ones."""
        rows = self._unpacked(max(0, self._window - self._dropped), end)
        skipped = (rows["weight"] == 0) & np.isnan(rows["unweighted"])
        values = rows["loss"][~skipped].tolist()
        return sum(values), len(values)

    # Removing

    def rewind(self, step: int) -> None:
        """Remove the records of a step and later ones, after a `sync`."""
        rows = self._unpacked()
        self.rows[:] = rows[rows["step"] < step].tobytes()
        self._window = min(self._window, self._dropped + len(self))
        self._reported = min(self._reported, self._dropped + len(self))
        self._last, self._known, self.result = None, _NAN, None

    def drop(self, count: int) -> None:
        """Remove the oldest records, after a `sync`; the last one stays known."""
        count = min(count, len(self))
        if count:
            total, number = self._sum_of_window(count)
            self._dropped_sum += total
            self._dropped_count += number
            self._last = RECORD.unpack_from(self.rows, (count - 1) * _SIZE)
            self._dropped += count
            del self.rows[: count * _SIZE]
            self._window = max(self._window, self._dropped)


@dataclass
class _Block:
    """Values of one series that are still on a device: before weighting, and after where those differ."""

    series: Series
    positions: list[int]
    raw: Tensor
    weighted: Tensor | None


def is_real(raw: Tensor) -> bool:
    """Whether a tensor is dense and of real numbers, so that it has a mean and can be multiplied."""
    return raw.dtype in _REAL and raw.layout is torch.strided and not raw.is_nested


def check_real(name: str, raw: Tensor, epoch: float) -> None:
    """Raise `LossResultError` for a result that has no mean, since it is not of real numbers, or not dense."""
    if is_real(raw):
        return
    kind = str(raw.dtype) if raw.layout is torch.strided else f"{raw.dtype} in the layout {raw.layout}"
    raise LossResultError(
        f"loss {name!r} returned a {'nested ' * raw.is_nested}tensor of {kind} at epoch {epoch:g}; expected a dense "
        "tensor of real numbers",
        loss_name=name,
    )


def _ignore(series: Series, step: int, epoch: float, value: float) -> None:
    """Do nothing with a value that is nan or infinite."""


def sync(series: Iterable[Series]) -> None:
    """Read what is still on a device into its series, with one wait for each device and dtype."""
    groups: dict[Any, list[_Block]] = {}
    filled: list[tuple[Series, list[tuple[int, float, float]]]] = []
    for one in series:
        for block in one.take_blocks():
            groups.setdefault((block.raw.device, block.raw.dtype), []).append(block)
    for blocks in groups.values():
        tensors = [tensor for block in blocks for tensor in (block.raw, block.weighted) if tensor is not None]
        if tensors[0].is_meta:
            continue  # The meta device has no values; they stay nan.
        try:
            values, start = torch.cat(tensors).tolist(), 0
        except RuntimeError as error:  # The device failed. What other devices hold is read all the same.
            warn(f"values of losses on {tensors[0].device} cannot be read, and count as nan: {error}")
            continue
        for block in blocks:
            count = len(block.positions)
            raw, start = values[start : start + count], start + count
            weighted = None
            if block.weighted is not None:
                weighted, start = values[start : start + count], start + count
            filled.append((block.series, block.series.fill(block.positions, raw, weighted, block.raw.dtype)))
    # After all values are in their records, since an observer of a bad value may ask for values, or flush.
    for one, records in filled:
        for step, epoch, loss in records:
            one.check_finite(step, epoch, loss)


def _mean(tensor: Tensor) -> Tensor:
    if not tensor.ndim:
        return tensor
    return tensor.mean() if tensor.is_floating_point() else tensor.double().mean()


def _loss_of(record: _Record) -> float:
    """Return the loss of a record, multiplied if it is a product."""
    loss: float = record[_LOSS]
    if _bits(loss) != _PRODUCT_BITS:
        return loss
    return _products([record[_UNWEIGHTED]], [record[_WEIGHT]], _FLOAT32)[0]


def _is_unread(loss: float) -> bool:
    return _bits(loss) == _bits(_UNREAD)


def _bits(number: float) -> int:
    bits: int = struct.unpack("=q", struct.pack("=d", number))[0]
    return bits


def _multiplied(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Put the product in the place of each loss that is one."""
    products = rows["loss"].view(np.int64) == _PRODUCT_BITS
    if products.any():
        rows["loss"][products] = product(rows["unweighted"][products], rows["weight"][products], single=True)
    return rows


def _products(values: Sequence[float], weights: Sequence[float], dtype: torch.dtype) -> list[float]:
    """Multiply as the device did: in float32 at least, rounded to the dtype of the result."""
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.inference_mode():
        # On the CPU whatever the default device is.
        factors = torch.tensor(weights, dtype=torch.float64, device="cpu")
        numbers = torch.tensor(values, dtype=precise, device="cpu")
        # A weight of 0 gives 0, also with an infinite value. A weight that only float32 rounds to 0 does not.
        products = torch.where(factors == 0, 0.0, numbers * factors.to(precise))
        return products.to(dtype).tolist()


def _not_packed(step: object, epoch: object) -> TypeError:
    return TypeError(f"a step is an integer and an epoch a number, got step {step!r} and epoch {epoch!r}")
