"""The lines of a loss log: how a header and a chunk of records become checked lines of JSON, and how they are read."""

from __future__ import annotations

import contextlib
import json
import math
import re
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nectargan_core.config import Config
from nectargan_core.log._chunks import Chunks
from nectargan_core.log._json import ChunkParser, parse_exactly
from nectargan_core.log._records import COLUMNS, DTYPE, Layout, Records, product

VERSION = 2
"""The version of the format that this module writes, and the newest that it reads."""

VERSION_KEY = "nectargan_log"

REWIND_KEY = "rewind"

# The end of a line that has a checksum, of all bytes before the match.
_CHECKSUM = re.compile(rb',"crc32":"[0-9a-f]{8}"}')
_CHECKSUM_SIZE = 20
# The begin of a chunk: the name of its loss, and its time and the number of its records where this module writes them.
_CHUNK = re.compile(
    rb'{"loss_name":("[^"\\]*(?:\\.[^"\\]*)*")(?:,"time":([0-9]{1,11}(?:\.[0-9]+)?),"n":([0-9]{1,9}),)?'
)

_Numbers = npt.NDArray[np.float64]
_SPELLED = {math.inf: '"inf"', -math.inf: '"-inf"'}


def describe_run(
    experiment_dir: Path,
    config: Config,
    device: object,
    world_size: int | None,
    metadata: Mapping[str, Any],
    total_epochs: float | None,
    total_steps: int | None,
) -> dict[str, Any]:
    """Return what a header says about a run, as far as it is known; the metadata is what JSON can hold."""
    dataroot = config.dataloader.dataroot
    training = None if dataroot is None else Path(dataroot) / "train"
    length = None
    with contextlib.suppress(OSError):  # null where it cannot be counted
        length = sum(1 for _ in training.iterdir()) if training is not None and training.is_dir() else None
    return {
        "experiment": experiment_dir.name,
        # What there is to say of the objective, once there is one.
        "objective": None,
        "manifest": None,
        "tags": {},
        "device": None if device is None else str(device),
        "dataroot": dataroot,
        "dataset_length": length,
        "started": time.time(),
        "world_size": world_size,
        "total_epochs": total_epochs,
        "total_steps": total_steps,
        "metadata": metadata,
    }


def encode_header(fields: Mapping[str, Any]) -> str:
    """Return a header line, newline included.

    Example:
        >>> encode_header({"experiment": "facades"}).strip()
        '{"nectargan_log":2,"experiment":"facades","crc32":"6dbbcf1f"}'
    """
    return _line({VERSION_KEY: VERSION, **fields})


def encode_rewind(step: int | None, counts: Mapping[str, int]) -> str:
    """Return the line that supersedes what stands before it, newline included.

    Args:
        step: The records of this step and later ones are superseded; None where the run had no clock.
        counts: Then, by loss, the first number of a call that is superseded.
    """
    return _line({REWIND_KEY: {"counts": dict(counts)} if step is None else {"step": step}})


def encode_chunk(chunk: Records, time: float) -> str:
    """Return the line of a chunk, newline included.

    Columns are written as short as they can be without losing anything: a step that counts on as its first
    number and its stride, a column in runs as its runs, float32 values in nine digits, and no `loss` at all
    where it is the product of the weight and the unweighted value.

    Args:
        chunk: At least one record.
        time: When it is written, in seconds since the epoch of Unix.
    """
    single = _is_single(chunk.unweighted) and _is_single(chunk.loss)
    digits = 32 if single else 64
    parts = [f'{{"loss_name":{json.dumps(chunk.name)},"time":{time:.3f},"n":{len(chunk)},"float":{digits}']
    if chunk.component_of is not None:
        parts.append(f'"component_of":{json.dumps(chunk.component_of)}')
    for name, layout in COLUMNS.items():
        if name != "loss" or not _same(product(chunk.unweighted, chunk.weight, single), chunk.loss):
            parts.append(f'"{name}":{_ENCODE[layout](getattr(chunk, name), single and DTYPE[name] == np.float64)}')
    if chunk.batch.any():
        parts.append(f'"batch":{_encode_runs(chunk.batch.astype(np.float64), single=False)}')
    return checked(",".join(parts) + "}")


def checked(text: str) -> str:
    """Return a JSON object as a line with its checksum as the last member, newline included.

    Example:
        >>> checked('{"a":1}').strip()
        '{"a":1,"crc32":"a702fc6e"}'
    """
    body = text[:-1]
    return f'{body},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'


def has_checksum(line: bytes) -> bool:
    """Whether a line, without its newline, ends with a checksum, right or wrong."""
    return _CHECKSUM.match(line[-_CHECKSUM_SIZE:]) is not None


def is_whole(data: bytes, start: int, stop: int) -> bool:
    """Whether a line, without its newline, ends with the right checksum.

    Args:
        data: The bytes that the line is among; it is not copied.
        start: Where it begins.
        stop: Where it ends.
    """
    end = stop - _CHECKSUM_SIZE
    return end >= start and data[end:stop] == b',"crc32":"%08x"}' % zlib.crc32(memoryview(data)[start:end])


def check(line: bytes) -> None:
    """Check the checksum of a line, without its newline.

    Raises:
        ValueError: If it has none, or another one.
    """
    if not is_whole(line, 0, len(line)):
        raise ValueError("its checksum is another one" if has_checksum(line) else "it has no checksum")


def begin_of(data: bytes, start: int, stop: int) -> tuple[bytes, int, float | None] | None:
    """Return the name of the loss that a line is a chunk of, how many records it says that it has, and its time.

    Args:
        data: The bytes that the line is among.
        start: Where it begins.
        stop: Where it ends.

    Returns:
        The name as JSON, the number of records, 0 where it does not stand where `encode_chunk` writes it, and when it
        was written in seconds since the epoch of Unix, None likewise. None if the line is no chunk. Nothing else of it
        is read.
    """
    begin = _CHUNK.match(data, start, stop)
    return None if begin is None else (begin[1], int(begin[3] or 0), float(begin[2]) if begin[2] else None)


def decode_chunk(line: bytes, parser: ChunkParser, into: Chunks) -> None:
    """Add the records of a chunk to those of its loss. The checksum is not looked at.

    Args:
        line: The line, without its newline.
        parser: What parses it.
        into: The records of the loss.

    Raises:
        ValueError: If the line is no chunk. Nothing is added then.
    """
    fields = parser.parse(line)
    if not isinstance(fields, dict) or VERSION_KEY in fields or REWIND_KEY in fields:
        raise ValueError("not a chunk of records")
    into.add(fields)


def decode_line(line: str | bytes) -> dict[str, Any] | Records:
    """Return the fields of a header or a rewind, or the records of a chunk. The checksum is not looked at.

    Raises:
        ValueError: If the line is none of them.
    """
    fields = parse_exactly(line)
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    if VERSION_KEY in fields:
        if not isinstance(fields[VERSION_KEY], int):
            raise ValueError("a header without a version")
        fields.pop("crc32", None)
        return fields
    if REWIND_KEY in fields:
        return {REWIND_KEY: _decode_rewind(fields[REWIND_KEY])}
    if "loss_name" not in fields:
        raise ValueError("neither a header nor a rewind nor a chunk of records")
    chunks = Chunks()
    chunks.add(fields)
    return chunks.records(str(fields["loss_name"]))


def _decode_rewind(to: Any) -> dict[str, Any]:
    limits = to if isinstance(to, dict) and "step" in to else to.get("counts") if isinstance(to, dict) else None
    if not isinstance(limits, dict) or not all(isinstance(limit, int) for limit in limits.values()):
        raise ValueError("a rewind to nowhere")
    return dict(to)


def _line(fields: Mapping[str, Any]) -> str:
    return checked(json.dumps(fields, separators=(",", ":"), allow_nan=False))


def _is_single(values: _Numbers) -> bool:
    with np.errstate(over="ignore"):
        return _same(values.astype(np.float32).astype(np.float64), values)


def _same(left: _Numbers, right: _Numbers) -> bool:
    return np.array_equal(left, right, equal_nan=True)


def _encode_stride(steps: npt.NDArray[np.int64], single: bool) -> str:
    first = int(steps[0])
    stride = int(steps[1]) - first if len(steps) > 1 else 1
    if np.array_equal(steps, first + stride * np.arange(len(steps))):
        return json.dumps({"first": first, "stride": stride}, separators=(",", ":"))
    return json.dumps(steps.tolist(), separators=(",", ":"))


def _encode_runs(values: _Numbers, single: bool) -> str:
    starts = np.flatnonzero(np.concatenate(([True], values[1:] != values[:-1])))
    if len(starts) * 3 > len(values) > 1 or not np.isfinite(values).all():
        return _encode_floats(values, single=False)
    lengths = np.diff(np.append(starts, len(values)))
    runs = zip(values[starts].tolist(), lengths.tolist(), strict=True)
    return json.dumps({"runs": [list(run) for run in runs]}, separators=(",", ":"), allow_nan=False)


def _encode_floats(values: _Numbers, single: bool) -> str:
    if not np.isfinite(values).all():
        return "[" + ",".join(_spell(value, single) for value in values.tolist()) + "]"
    # One formatting call for the whole column. Nine digits tell every float32 from its neighbours.
    form = "%.9g" if single else "%r"
    return "[" + ",".join([form] * len(values)) % tuple(values.tolist()) + "]"


def _spell(value: float, single: bool) -> str:
    if math.isfinite(value):
        return f"{value:.9g}" if single else repr(value)
    return _SPELLED.get(value, '"nan"')


# How a column is written, by its layout. The last argument is whether the values are of single precision.
_ENCODE: dict[Layout, Callable[..., str]] = {"stride": _encode_stride, "runs": _encode_runs, "values": _encode_floats}
