"""Parsing JSON: the numbers of a chunk as arrays, without a Python object for each, and everything else exactly."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np

try:
    import simdjson
except ImportError:  # for Pythons and systems that it has no wheel for: the same numbers, in about five times the time
    simdjson = None  # type: ignore[assignment]  # a module that may be missing

from nectargan_core.log._records import COLUMNS, DTYPE

# For each column, the begin of its numbers as this package writes them, and what they are to simdjson and to numpy.
_NUMBERS: dict[str, tuple[bytes, Any, np.dtype[Any]]] = {
    name: (f'"{name}":['.encode(), "i" if DTYPE[name].kind == "i" else "d", DTYPE[name]) for name in COLUMNS
}


# No line that this package writes is nested so deeply, but for what the user gave as metadata.
_DEEP = 100


class ChunkParser:
    """Parses the JSON of chunks, of a thread of its own.

    Example:
        >>> ChunkParser().parse(b'{"n":2,"step":{"first":7},"unweighted":[0.5,1]}')["n"]
        2
    """

    def __init__(self) -> None:
        self._parser = None if simdjson is None else simdjson.Parser()

    def parse(self, line: bytes) -> Any:
        """Return what the JSON holds; a list of numbers in a column may be an array.

        Raises:
            ValueError: If it is no JSON.
        """
        if self._parser is None:
            return parse_exactly(line)
        try:
            return self._fields(self._parser.parse(line), line)
        except (TypeError, ValueError, RuntimeError):
            # Such as for half a surrogate pair in a name, or an integer beyond 64 bits. The former parser cannot be
            # used again while anything refers to what it has parsed.
            self._parser = simdjson.Parser()
            return parse_exactly(line)

    def _fields(self, document: Any, line: bytes) -> dict[str, Any]:
        if not isinstance(document, simdjson.Object):
            raise TypeError("not a JSON object")
        fields = {key: _value(key, document[key], line) for key in document}
        if len(fields) != len(document):
            raise ValueError("a key that is there twice")  # of which simdjson gives the first
        return fields


def parse_exactly(line: str | bytes) -> Any:
    """Return what any JSON holds.

    Raises:
        ValueError: If it is no JSON.
    """
    try:
        return json.loads(line)
    except RecursionError as error:
        if not _is_deep(line if isinstance(line, bytes) else line.encode()):
            raise  # It is not the line that is deep, but where this is called.
        raise ValueError("too deeply nested") from error


def _is_deep(line: bytes) -> bool:
    depth = 0
    for bracket in re.findall(rb"[\[{}\]]", line):
        depth += 1 if bracket in b"[{" else -1
        if depth > _DEEP:
            return True
    return False


def _value(key: str, value: Any, line: bytes) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    if not isinstance(value, simdjson.Array):
        return value
    if key in _NUMBERS:
        mark, kind, dtype = _NUMBERS[key]
        begin = line.find(mark) + len(mark)
        # simdjson would also take the numbers out of lists in the list.
        if begin >= len(mark) and line.find(b"[", begin, line.find(b"]", begin)) < 0:
            try:
                return np.frombuffer(value.as_buffer(of_type=kind), dtype=dtype)
            except (TypeError, ValueError):
                pass  # a number that is not finite, which is a string
    return value.as_list()
