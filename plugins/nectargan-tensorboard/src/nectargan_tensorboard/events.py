"""Encodes the events that TensorBoard reads: protocol buffers in the records of a TFRecord file.

TensorBoard's own writer makes an object of each scalar and a checksum of each byte in Python, which takes two seconds
for 50,000 scalars, and importing it takes part of another. Here the scalars of a curve are encoded together, by numpy.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78  # of CRC-32C, with its bits reversed
_VARINT, _DOUBLE, _BYTES, _FLOAT = 0, 1, 2, 5
_STRING_TENSOR = 7
# So many rows are encoded at once that they stay in the cache of the processor.
_ROWS = 8192


def _table() -> npt.NDArray[np.uint32]:
    """Return what each byte does to a CRC-32C."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


_TABLE = _table()
_TABLE_OF_INTS = _TABLE.tolist()


def scalars(
    tag: str, step: npt.NDArray[np.int64], time: npt.NDArray[np.float64], value: npt.NDArray[np.float64]
) -> bytes:
    """Return an event for each point of a curve.

    Args:
        tag: The name of the curve.
        step: Steps, from 0 up.
        time: Seconds since 1970.
        value: Values, written in single precision, as TensorBoard has them; what is too large is infinite there.
    """
    with np.errstate(over="ignore"):
        single = value.astype("<f4")
    lengths = np.ones(len(step), dtype=np.int64)
    for bits in range(7, 63, 7):
        lengths += step >= 1 << bits
    # The steps ascend, so that those of one length follow each other.
    borders = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(step)]
    blocks = []
    for begin, end in itertools.pairwise(borders):
        for start in range(begin, end, _ROWS):
            rows = slice(start, min(start + _ROWS, end))
            blocks.append(_scalars(tag, step[rows], int(lengths[start]), time[rows], single[rows]))
    return b"".join(blocks)


def _scalars(
    tag: str, step: npt.NDArray[np.int64], length: int, time: npt.NDArray[np.float64], value: npt.NDArray[np.float32]
) -> bytes:
    """Return the records of events whose steps take one number of bytes, so that all have one layout."""
    steps = np.stack([step >> (7 * index) & 0x7F | 0x80 for index in range(length)], axis=1).astype(np.uint8)
    steps[:, -1] &= 0x7F
    inside = _field(1, _BYTES, tag.encode()) + _key(2, _FLOAT)
    summary = _key(1, _BYTES) + _varint(len(inside) + 4) + inside
    before = (_key(1, _DOUBLE), _key(2, _VARINT), _key(5, _BYTES) + _varint(len(summary) + 4) + summary)
    # What all events have, with zeros in the place of what each has of its own, and where that place is.
    common, own = b"", []
    for part, column in zip(before, (_bytes_of(time.astype("<f8")), steps, _bytes_of(value)), strict=True):
        common += part
        own += [(len(common) + index, column[:, index]) for index in range(column.shape[1])]
        common += bytes(column.shape[1])
    rows = np.empty((len(step), 12 + len(common) + 4), dtype=np.uint8)
    rows[:, :-4] = np.frombuffer(_head(len(common)) + common, dtype=np.uint8)
    # A CRC is linear: what each byte does to it depends on the byte and its place, and not on the others.
    checksum, effects = np.full(len(step), _checksum(common), dtype=np.uint32), _effects(len(common))
    for at, column in own:
        rows[:, 12 + at] = column
        checksum ^= effects[at].take(column)
    checksum = ((checksum >> np.uint32(15)) | (checksum << np.uint32(17))) + np.uint32(0xA282EAD8)
    rows[:, -4:] = _bytes_of(checksum.astype("<u4"))
    return rows.tobytes()


def _bytes_of(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the bytes of each number, as a row."""
    return np.ascontiguousarray(values).view(np.uint8).reshape(len(values), values.itemsize)


@functools.lru_cache(maxsize=64)
def _effects(size: int) -> list[npt.NDArray[np.uint32]]:
    """Return what each byte does to the CRC-32C of data of so many bytes, by the place of the byte."""
    effects = [_TABLE]
    for _ in range(size - 1):
        effects.append(_TABLE[effects[-1] & np.uint32(0xFF)] ^ (effects[-1] >> np.uint32(8)))
    return effects[::-1]


def first(time: float) -> bytes:
    """Return the event that a file begins with."""
    return _record(_event(time, 0) + _field(3, _BYTES, b"brain.Event:2"))


def restart(time: float, step: int) -> bytes:
    """Return the event of a run that begins or goes on at a step: what came before, of that step or later, is no more.

    TensorBoard's older reader heeds each of them, its newer one all but the first.
    """
    return _record(_event(time, step) + _field(7, _BYTES, _field(1, _VARINT, 1)))


def text(tag: str, time: float, step: int, markdown: str) -> bytes:
    """Return the event of a text."""
    tensor = _field(1, _VARINT, _STRING_TENSOR)
    tensor += _field(2, _BYTES, b"")  # no dimension, since one of lists is shown as a table
    tensor += _field(8, _BYTES, markdown.encode())
    return _of_plugin("text", b"", tag, time, step, _field(8, _BYTES, tensor))


def png(tag: str, time: float, step: int, image: bytes) -> bytes:
    """Return the event of a picture, which is a PNG in RGBA."""
    width, height = struct.unpack(">II", image[16:24])
    fields = _field(1, _VARINT, height) + _field(2, _VARINT, width) + _field(3, _VARINT, 4) + _field(4, _BYTES, image)
    return _record(_event(time, step) + _summary(_field(1, _BYTES, tag.encode()) + _field(4, _BYTES, fields)))


def hyperparameters(time: float, values: Mapping[str, float | str]) -> bytes:
    """Return the event of what the columns of the table of runs have for this one."""
    fields = b""
    for name, value in values.items():
        given = (
            _field(3, _BYTES, value.encode()) if isinstance(value, str) else _key(2, _DOUBLE) + struct.pack("<d", value)
        )
        fields += _field(1, _BYTES, _field(1, _BYTES, name.encode()) + _field(2, _BYTES, given))
    fields += _key(5, _DOUBLE) + struct.pack("<d", time)
    return _of_plugin("hparams", _field(3, _BYTES, fields), "_hparams_/session_start_info", time, 0, b"")


def _of_plugin(plugin: str, content: bytes, tag: str, time: float, step: int, value: bytes) -> bytes:
    plugin_data = _field(1, _BYTES, plugin.encode()) + _field(2, _BYTES, content)
    metadata = _field(9, _BYTES, _field(1, _BYTES, plugin_data))
    return _record(_event(time, step) + _summary(_field(1, _BYTES, tag.encode()) + metadata + value))


def _event(time: float, step: int) -> bytes:
    return _key(1, _DOUBLE) + struct.pack("<d", time) + _field(2, _VARINT, step)


def _summary(value: bytes) -> bytes:
    return _field(5, _BYTES, _field(1, _BYTES, value))


def _record(event: bytes) -> bytes:
    """Return an event with its length and its checksums."""
    return _head(len(event)) + event + struct.pack("<I", _masked(_checksum(event)))


def _head(size: int) -> bytes:
    """Return what stands before an event of so many bytes."""
    head = struct.pack("<Q", size)
    return head + struct.pack("<I", _masked(_checksum(head)))


def _field(number: int, kind: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _key(number, kind) + _varint(value)
    return _key(number, kind) + _varint(len(value)) + value


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _checksum(data: bytes) -> int:
    """Return the CRC-32C of bytes."""
    checksum, table = 0xFFFFFFFF, _TABLE_OF_INTS
    for byte in data:
        checksum = table[(checksum ^ byte) & 0xFF] ^ (checksum >> 8)
    return checksum ^ 0xFFFFFFFF


def _masked(checksum: int) -> int:
    """Return a checksum as the format stores it."""
    return ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF
