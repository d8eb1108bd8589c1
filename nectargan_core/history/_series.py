"""The records of one loss in memory: added without waiting for a device, kept compactly, read as arrays."""

from __future__ import annotations

import math
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, repeat
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from nectargan_core._frozen import FrozenList
from nectargan_core._messages import warn
from nectargan_core.errors import LossResultError
from nectargan_core.history._atomic import at_once
from nectargan_core.history._lm_history import LMHistory
from nectargan_core.history._sums import Sums, sums_of
from nectargan_core.log import COLUMNS, RECORD, Records, as_records, pack, product, unpacked

_NAN = float("nan")
_NAN_BITS = 0x7FF8_0000_0000_0000
# Two values of nan that no computation gives stand for a loss that is not known yet. _PRODUCT: it is weight times
# unweighted value in single precision, and is multiplied when it is read; to read it from its tensor would make the hot
# path slower. _UNREAD: it is still on a device.
_PRODUCT_BITS = _NAN_BITS + 1
_PRODUCT, _UNREAD = struct.unpack("=dd", struct.pack("=qq", _PRODUCT_BITS, _NAN_BITS + 2))

_FLOAT = struct.Struct("=f")
_FLOAT32 = torch.float32
_FLOAT32_MIN, _FLOAT32_MAX = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
# The dtypes that torch multiplies with a number.
_REAL = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}

_SIZE = RECORD.size
_LOSS, _WEIGHT, _UNWEIGHTED = (list(COLUMNS).index(name) for name in ("loss", "weight", "unweighted"))

_Record: TypeAlias = tuple[Any, ...]
"""The values of one record: those of the columns in their order, and the size of its batch."""

_Waiting: TypeAlias = tuple[_Record, "Tensor | None", "Tensor | None"]
"""A record that is not among the rows yet, with the mean on a device before weighting, and of a map that after it; None
where the record is complete."""

NonFiniteCallback = Callable[["Series", int, float, float], None]
"""Called with `(series, step, epoch, value)` for a weighted value that is nan or infinite."""


class BatchSize(threading.local):
    """The size of the batch whose losses this thread records at present; 0 where it is not known."""

    value = 0


_UNSIZED = BatchSize()


class Series:
    """The records of one loss since the last flush, and its last record.

    A record is added by one operation, so that an interrupt or another thread finds it whole or not at all. On the
    CPU its value is read at once. On any other device the result is kept there, in blocks, until `sync` reads all
    blocks of all series with one wait; until then records that come after it wait as well, to stay in order.

    Records may be added by any thread at any time. `pack`, `sync`, `drop`, `new_records` and `rewind` are for one
    caller at a time, which an exception may leave at any instruction.

    Args:
        name: Name of the loss.
        keep: Whether all records are kept, or only the last.
        on_nonfinite: Called for a weighted value that is nan or infinite; None where that is normal.
        on_device: Called with the series after each record that waits for a device.
        batch: What is recorded as the size of the batch; None where that is not known.
    """

    __slots__ = (
        "_batch",
        "_blocks",
        "_dropped",
        "_fast",
        "_in_window",
        "_known",
        "_last",
        "_on_device",
        "_on_nonfinite",
        "_result",
        "_waiting",
        "_window",
        "component_of",
        "count",
        "keep",
        "name",
        "reported",
        "rows",
    )

    def __init__(
        self,
        name: str,
        keep: bool,
        on_nonfinite: NonFiniteCallback | None = None,
        on_device: Callable[[Series], None] | None = None,
        batch: BatchSize | None = None,
    ) -> None:
        self.name = name
        self.keep = keep
        # The full name of the loss that this is a component of, None if it is none.
        self.component_of: str | None = None
        # How many records were ever added, those of the runs before a resumed one included.
        self.count = 0
        # The dtype of results that go the short way; None once there was one on a device.
        self._fast: torch.dtype | None = _FLOAT32
        # What the last record leaves out, where that is not a scalar in single precision on the CPU: the count with it;
        # the result before weighting, if it is more than a number; and the dtype of the weighted result.
        # Beside a map also the images that it is of, where there are any.
        self._result: (
            tuple[int, Tensor | None, torch.dtype] | tuple[int, Tensor | None, torch.dtype, Mapping[str, Tensor]] | None
        ) = None
        # The records that are kept, packed one after the other.
        self.rows = bytearray()
        # The last record where none are kept, or the last one that was dropped.
        self._last: _Record | None = None
        # Records that are not among the rows since they, or some before them, are still on a device: first packed, then
        # one by one.
        self._blocks: list[_Block] = []
        self._waiting: list[_Waiting] = []
        self._on_nonfinite = on_nonfinite or _ignore
        self._on_device = on_device
        self._batch = batch or _UNSIZED
        # How many records were dropped from the front of the rows. The position of a record counts from the first that
        # was ever kept.
        self._dropped = 0
        # The position up to which observers have got records that stay in memory.
        self.reported = 0
        # The position from which on `sums` counts. And what it counts of dropped records: of which window, up to which
        # position, and their sums.
        self._window = 0
        self._in_window = (0, 0, Sums())
        # The newest value that was read, which `latest` gives while the last one is still on a device.
        self._known = _NAN

    def __len__(self) -> int:
        return len(self.rows) // _SIZE

    @property
    def begin(self) -> int:
        """The position of the first row."""
        return self._dropped

    @property
    def unpacked(self) -> int:
        """How many records wait one by one for a device."""
        return len(self._waiting)

    @property
    def waiting(self) -> int:
        """How many records are not among the rows yet."""
        return sum(len(block.rows) for block in self._blocks) // _SIZE + len(self._waiting)

    @property
    def result(self) -> Tensor | None:
        """The last result before weighting, detached, where it is more than a number: a map, or on a device."""
        return self._last_result()[0]

    @property
    def has_map(self) -> bool:
        """Whether the last result is a map."""
        result = self.result
        return result is not None and result.ndim > 0

    @property
    def images(self) -> Mapping[str, Tensor]:
        """The images that `keep_images` kept beside the last result, by name; none where it is no map."""
        result = self._result
        return result[3] if result is not None and len(result) == 4 and result[0] == self.count else {}

    def keep_images(self, images: Mapping[str, Tensor]) -> None:
        """Keep detached images beside the last result until there is another, if it is a map."""
        result = self._result
        if result is not None and self.has_map:
            self._result = (*result[:3], images)

    def _last_result(self) -> tuple[Tensor | None, torch.dtype]:
        result = self._result
        if result is None or result[0] != self.count:
            return None, _FLOAT32
        return result[1], result[2]

    def watch_nonfinite(self, on_nonfinite: NonFiniteCallback | None) -> None:
        """Set what is called for a weighted value that is nan or infinite; None to call nothing."""
        self._on_nonfinite = on_nonfinite or _ignore

    # Adding

    def add(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> bool:
        """Record a result before (`raw`) and after weighting (`weighted`); returns whether it is a map."""
        if raw.dtype is not self._fast or raw.ndim or not raw.is_cpu:
            self._add_tensor(step, epoch, weight, raw, weighted)
            return raw.ndim > 0
        # The hot path: one number is read and one record appended, as in _append.
        try:
            value = raw.item()
            is_finite = _FLOAT32_MIN <= value * weight <= _FLOAT32_MAX
        except RuntimeError as error:
            raise no_value(self.name) from error
        if self.keep:
            try:
                row = pack(step, epoch, _PRODUCT, weight, value, self._batch.value)
            except struct.error as error:
                raise _not_packed(step, epoch) from error
            self.count += 1  # first, so that an interrupt before the next line leaves out a number and repeats none
            self.rows.extend(row)
        else:
            self.count += 1
            self._last = (step, epoch, _PRODUCT, weight, value, self._batch.value)
        if not is_finite:
            # The result decides: it is rounded to float32, and this product is not.
            self.check_finite(step, epoch, weighted.item())
        return False

    def check_finite(self, step: int, epoch: float, weighted: float) -> None:
        """Report a weighted value if it is nan or infinite."""
        if not math.isfinite(weighted):
            self._on_nonfinite(self, step, epoch, weighted)

    def add_number(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        """Record a value before and after weighting."""
        self._append(step, epoch, _NAN if weighted != weighted else weighted, weight, raw)
        self.check_finite(step, epoch, weighted)

    def add_means(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor, result: Tensor) -> None:
        """Record a result by its means before (`raw`) and after weighting (`weighted`).

        Args:
            step: The step.
            epoch: The epoch.
            weight: The weight.
            raw: The mean before weighting, a scalar.
            weighted: The mean after weighting, a scalar in the dtype of the weighted result.
            result: The result before weighting, which nobody else edits.
        """
        if not result.ndim and not raw.is_cpu:
            self._add_tensor(step, epoch, weight, raw, weighted)
            return
        if raw.is_cpu:
            self._result = (self.count + 1, result if result.ndim else None, weighted.dtype)
            self.add_number(step, epoch, weight, raw.item(), weighted.item())
        else:
            self._add_later(step, epoch, weight, result, raw, weighted)

    def add_scalar(self, step: int, epoch: float, value: float | Tensor) -> None:
        """Record a value that is not weighted."""
        if isinstance(value, Tensor):
            # On a device it is read later, and its owner may change it until then, as schedulers change learning rates.
            value = value if value.is_cpu else value.detach().clone()
            self.add(step, epoch, 1.0, value, value)
        else:
            self._result = (self.count + 1, None, torch.float64)
            self.add_number(step, epoch, 1.0, float(value), float(value))

    def add_zero(self, step: int, epoch: float, zero: Tensor) -> None:
        """Record that a weight of 0 left the function uncalled, and gave this result."""
        self._result = (self.count + 1, None if zero.is_cpu else zero.detach(), zero.dtype)
        self.add_number(step, epoch, 0.0, _NAN, 0.0)

    def _append(self, step: int, epoch: float, loss: float, weight: float, unweighted: float) -> None:
        record = (step, epoch, loss, weight, unweighted, self._batch.value)
        if not self.keep:
            self.count += 1
            self._last = record
            return
        row = _packed(record)
        self.count += 1
        if self._waiting or self._blocks:
            self._waiting.append((record, None, None))
        else:
            self.rows.extend(row)

    def _add_tensor(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        check_real(self.name, raw, epoch)
        if raw.is_cpu and not raw.ndim:
            values = self.value_of(raw), self.value_of(weighted)
            self._result = (self.count + 1, None, weighted.dtype)
            self.add_number(step, epoch, weight, *values)
            return
        # The result before weighting is kept, since the user may edit the weighted one in place.
        result = raw.detach()
        if raw.requires_grad and not raw.is_cpu and (raw.is_leaf or (raw._is_view() and not raw.ndim)):
            result = result.clone()  # a parameter, which its optimizer edits in place
        if raw.is_cpu:
            values = self.value_of(mean_of(result)), self.value_of(mean_of(weighted.detach()))
            self._result = (self.count + 1, result, weighted.dtype)
            self.add_number(step, epoch, weight, *values)
            return
        means = (mean_of(result), mean_of(weighted.detach())) if raw.ndim and self.keep else (result, weighted)
        self._add_later(step, epoch, weight, result, *means)

    def _add_later(self, step: int, epoch: float, weight: float, result: Tensor, raw: Tensor, weighted: Tensor) -> None:
        """Record a result on a device; its means before (`raw`) and after weighting are read later."""
        self._fast = None
        if not self.keep:
            self._known = self.latest()
            self._result = (self.count + 1, result, weighted.dtype)
            self._append(step, epoch, _UNREAD, weight, _NAN)
        else:
            record = (step, epoch, _UNREAD, weight, _NAN, self._batch.value)
            _packed(record)  # refuses what cannot be packed
            self.count += 1
            self._result = (self.count, result, weighted.dtype)
            self._waiting.append((record, raw, weighted if result.ndim else None))
        if self._on_device is not None:
            self._on_device(self)

    def value_of(self, scalar: Tensor) -> float:
        """Read a scalar that is to be recorded."""
        try:
            value: float = scalar.item()
            bool(value == 0)  # A number that only stands for one, in a graph that is being made, cannot be compared.
        except RuntimeError as error:
            raise no_value(self.name) from error
        return value

    # Reading from a device

    def pack(self) -> None:
        """Pack the records that wait one by one into blocks, of one tensor each."""
        waiting = self._waiting[:]
        blocks = []
        for _, group in groupby(waiting, key=_kind):
            records, raw, means = zip(*group, strict=True)
            rows = b"".join(map(_packed, records))
            stacked = [None if each[0] is None else torch.stack(each) for each in (raw, means)]
            blocks.append(_Block(rows, *stacked))
        at_once(partial(self._blocks.extend, blocks), partial(self._waiting.__delitem__, slice(len(waiting))))

    def blocks(self) -> list[_Block]:
        """Return what is still on a device, for `sync` to read."""
        if self.keep:
            self.pack()
            return self._blocks[:]
        last, result = self._last, self.result
        if last is None or result is None or not _is_unread(last[_LOSS]):
            return []
        weighted = mean_of(result * last[_WEIGHT]).reshape(1) if result.ndim else None
        return [_Block(_packed(last), mean_of(result).reshape(1), weighted)]

    def put(self, blocks: list[_Block], rows: list[bytes]) -> None:
        """Put the records of the first blocks, as they were read, among the rows."""
        if not self.keep:
            if self._last is not None and _packed(self._last) == blocks[0].rows:
                self._last = RECORD.unpack(rows[0])
            return
        at_once(partial(self.rows.extend, b"".join(rows)), partial(self._blocks.__delitem__, slice(len(blocks))))

    # Reading

    def _last_record(self) -> _Record | None:
        """Return the last record, whether or not it is read yet."""
        # In the order in which records move, so that none is missed.
        for record, _, _ in self._waiting[-1:]:
            return record
        for block in self._blocks[-1:]:
            return RECORD.unpack(block.rows[-_SIZE:])
        row = self.rows[-_SIZE:]
        return RECORD.unpack(row) if row else self._last

    def last_value(self) -> float:
        """Return the last weighted value; nan before the first, and while it is still on a device."""
        last = self._last_record()
        return _NAN if last is None else _loss_of(last)

    def latest(self) -> float:
        """Return the newest weighted value that can be had without waiting for a device, nan if there is none."""
        row = self.rows[-_SIZE:]
        newest = RECORD.unpack(row) if row else self._last
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
        result, dtype = self._last_result()
        if result is not None:
            return result * last[_WEIGHT] if last[_WEIGHT] else torch.zeros_like(result)
        return torch.tensor(_loss_of(last), dtype=dtype, device="cpu")

    def history(self) -> LMHistory:
        """Return the records that are in memory, as lists; after a flush the last one is."""
        rows = self._rows_or_last()
        # Frozen here, in one call of C each; the model would look at every number.
        return LMHistory.model_construct(
            losses=FrozenList(rows["loss"].tolist()),
            weights=FrozenList(rows["weight"].tolist()),
            unweighted=FrozenList(rows["unweighted"].tolist()),
            steps=FrozenList(rows["step"].tolist()),
            epochs=FrozenList(rows["epoch"].tolist()),
        )

    def records(self, start: int = 0) -> Records:
        """Return the records that are in memory, from a position on, as arrays; the last one where none are kept."""
        rows = self._snapshot(start)[1] if self.keep else self._rows_or_last()
        return as_records(self.name, rows, self.component_of)

    def new_records(self) -> tuple[Records, int]:
        """Return the records from `reported` on, after a `sync`, and the position after them."""
        begin, rows = self._snapshot(self.reported)
        return as_records(self.name, rows, self.component_of), begin + len(rows)

    def _rows_or_last(self) -> npt.NDArray[np.void]:
        _, rows = self._snapshot()
        last = self._last  # after the rows, since it is set before those are removed
        return rows if len(rows) or last is None else _multiplied(unpacked(pack(*last)))

    def _snapshot(self, start: int = 0) -> tuple[int, npt.NDArray[np.void]]:
        """Return the rows from a position on, and the position of the first of them."""
        while True:
            dropped = self._dropped
            begin = max(start, dropped)
            rows = self.rows[(begin - dropped) * _SIZE :]
            if dropped == self._dropped:  # nothing was dropped in between
                return begin, _multiplied(unpacked(rows))

    def end(self) -> int:
        """Return the position after the last record, those included that wait for a device."""
        seen = None
        while seen != (seen := (self._dropped, len(self), self.waiting)):
            pass  # until none of them has changed while the others were looked at
        return sum(seen)

    # Means

    def begin_window(self) -> None:
        """Let `sums` be over the records from now on."""
        self._window = self.end()

    def sums(self) -> Sums:
        """Return what the mean of the weighted values since `begin_window` is made of, after a `sync`.

        Records of a weight of 0 that left the function uncalled do not count.
        """
        while True:
            before = self._in_window
            window, start, sums = before
            if window != self._window:
                start, sums = self._window, Sums()
            _, rows = self._snapshot(start)
            if self._in_window is before:
                return sums.plus(sums_of(rows))

    # Removing

    def rewind(self, step: int) -> None:
        """Remove the records of a step and later ones, after a `sync`."""
        _, rows = self._snapshot()
        self.rows[:] = rows[rows["step"] < step].tobytes()
        self._window = min(self._window, self.end())
        self.reported = min(self.reported, self.end())
        self._last, self._known, self._result = None, _NAN, None

    def drop(self, position: int) -> None:
        """Remove the records before a position, after a `sync`; the last one stays known."""
        dropped, rows = self._snapshot()
        count = min(position - dropped, len(rows))
        if count <= 0:
            return
        window, start, sums = self._in_window
        if window != self._window:
            window, start, sums = self._window, self._window, Sums()
        # Before they are removed, and with the position, so that those which are removed count once.
        more = sums_of(rows[max(0, start - dropped) : count])
        self._in_window = (window, max(start, dropped + count), sums.plus(more))
        self._last = RECORD.unpack(rows[count - 1].tobytes())
        at_once(
            partial(self.rows.__delitem__, slice(count * _SIZE)), partial(setattr, self, "_dropped", dropped + count)
        )


@dataclass
class _Block:
    """Records that wait: packed, with their means on a device before weighting, and of maps also after it."""

    rows: bytes
    raw: Tensor | None
    weighted: Tensor | None

    @property
    def tensors(self) -> list[Tensor]:
        """What is on a device; nothing where the records are complete."""
        return [tensor for tensor in (self.raw, self.weighted) if tensor is not None]

    def read(self, values: list[float], dtype: torch.dtype) -> bytes:
        """Return the rows with the values of `tensors`."""
        rows = unpacked(self.rows)
        raw, weighted = values[: len(rows)], values[len(rows) :]
        loss = np.array(weighted) if weighted else _products(raw, rows["weight"], dtype)
        rows["unweighted"] = raw
        rows["loss"] = np.where(np.isnan(loss), _NAN, loss)
        return rows.tobytes()


def add_together(
    several: Sequence[Series],
    steps: Iterable[int],
    epoch: float,
    weights: Sequence[float],
    values: Sequence[float],
    dtype: torch.dtype,
) -> None:
    """Record one scalar for each of several series, which were read from the CPU together.

    Args:
        several: The series.
        steps: The step of each record.
        epoch: The epoch of all.
        weights: What each value is multiplied by.
        values: The values before weighting.
        dtype: Their dtype, float32 or float64.
    """
    if dtype is not _FLOAT32:
        for series, step, weight, value in zip(several, steps, weights, values, strict=False):
            series._result = (series.count + 1, None, dtype)
            series.add_number(step, epoch, weight, value, value * weight if weight else 0.0)
        return
    kept = [series.rows for series in several if series.keep and series._fast is not None]
    if len(kept) == len(values):
        batch = repeat(several[0]._batch.value)  # They belong to one recorder.
        rows = list(map(pack, steps, repeat(epoch), repeat(_PRODUCT), weights, values, batch))
        for series in several:
            series.count += 1  # first, as in Series.add
        deque(map(bytearray.extend, kept, rows), maxlen=0)  # one call of C, so that an interrupt finds all or none
    else:
        for series, step, weight, value in zip(several, steps, weights, values, strict=False):
            series._append(step, epoch, _PRODUCT, weight, value)
    for series, step, weight, value in zip(several, steps, weights, values, strict=False):
        if weight and not _FLOAT32_MIN <= value * weight <= _FLOAT32_MAX:
            series.check_finite(step, epoch, single(value * single(weight)))


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


def no_value(name: str) -> LossResultError:
    """Return the error of a result that has no value yet: of vmap, make_fx, torch.export or FakeTensorMode."""
    return LossResultError(
        f"{name!r} cannot be recorded, since its result has no value inside of torch.vmap, make_fx, torch.export or "
        "FakeTensorMode; there, call the function of the loss itself, and record what comes out with manager.record, "
        "or use torch.compile or torch.func.grad, in which losses are recorded",
        loss_name=name,
    )


def sync(series: Iterable[Series]) -> None:
    """Read what is still on a device into its series, with one wait for each device and dtype."""
    waiting = {one: one.blocks() for one in series}
    read = _read([block for blocks in waiting.values() for block in blocks])
    for one, blocks in waiting.items():
        if blocks:
            one.put(blocks, [read.get(id(block), block.rows) for block in blocks])
    # After all values are in their records, since an observer of a bad value may ask for values, or flush.
    for one, blocks in waiting.items():
        for rows in [unpacked(read[id(block)]) for block in blocks if id(block) in read]:
            for index in np.flatnonzero(~np.isfinite(rows["loss"])):
                step, epoch, loss = (rows[name][index].item() for name in ("step", "epoch", "loss"))
                one.check_finite(step, epoch, loss)


def _read(blocks: list[_Block]) -> dict[int, bytes]:
    """Return the rows of blocks with their values, by the identity of the block, for those that can be read."""
    groups: dict[Any, list[_Block]] = {}
    for block in blocks:
        for tensor in block.tensors[:1]:
            groups.setdefault((tensor.device, tensor.dtype), []).append(block)
    read = {}
    for (device, dtype), group in groups.items():
        if device.type == "meta":
            continue  # It has no values; they stay nan.
        tensors = [tensor for block in group for tensor in block.tensors]
        try:
            values, start = torch.cat(tensors).tolist(), 0
        except RuntimeError as error:  # The device failed. What other devices hold is read all the same.
            warn(f"values of losses on {device} cannot be read, and count as nan: {error}")
            continue
        for block in group:
            count = sum(map(len, block.tensors))
            read[id(block)], start = block.read(values[start : start + count], dtype), start + count
    return read


def _kind(waiting: _Waiting) -> Any:
    """Return what records have in common that wait in one block."""
    _, raw, weighted = waiting
    return None if raw is None else (raw.device, raw.dtype, weighted is None)


def _ignore(series: Series, step: int, epoch: float, value: float) -> None:
    """Do nothing with a value that is nan or infinite."""


def mean_of(tensor: Tensor) -> Tensor:
    """Return the mean of a result as a scalar: in its own dtype, of integers in float64."""
    if not tensor.ndim:
        return tensor
    return tensor.mean() if tensor.is_floating_point() else tensor.double().mean()


def _loss_of(record: _Record) -> float:
    """Return the loss of a record, multiplied if it is a product."""
    loss: float = record[_LOSS]
    if _bits(loss) != _PRODUCT_BITS:
        return loss
    # The product of two float32 is exact in float64.
    weight = record[_WEIGHT]
    return single(record[_UNWEIGHTED] * single(weight)) if weight else 0.0


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


def _products(values: Sequence[float], weights: npt.NDArray[np.float64], dtype: torch.dtype) -> npt.NDArray[np.float64]:
    """Multiply as the device did: in float32 at least, rounded to the dtype of the result.

    Without torch, whose modes an interrupt could leave switched.
    """
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    precise = np.float64 if dtype == torch.float64 else np.float32
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        products: npt.NDArray[Any] = np.array(values, dtype=precise) * weights.astype(precise)
        if dtype == torch.float16:
            products = products.astype(np.float16)
        elif dtype == torch.bfloat16:
            products = _as_bfloat16(products)
    # A weight of 0 gives 0, also with an infinite value. A weight that only float32 rounds to 0 does not.
    return np.where(weights == 0, 0.0, products.astype(np.float64))


def _as_bfloat16(values: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Round float32 to the nearest bfloat16, to the even one of two: it is the upper half of a float32."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    return np.where(np.isnan(values), values, rounded.astype(np.uint32).view(np.float32))


def single(number: float) -> float:
    """Round to float32."""
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(number))[0])
    except OverflowError:
        return math.copysign(math.inf, number)


def _packed(record: _Record) -> bytes:
    try:
        return pack(*record)
    except struct.error as error:
        raise _not_packed(*record[:2]) from error


def _not_packed(step: object, epoch: object) -> TypeError:
    return TypeError(f"a step is an integer and an epoch a number, got step {step!r} and epoch {epoch!r}")
