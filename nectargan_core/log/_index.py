"""`LogIndex`: which lines of a log file hold which loss, so that a loss is read without parsing the others."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from nectargan_core._arguments import is_unicode
from nectargan_core._messages import warn
from nectargan_core.errors import LossLogError
from nectargan_core.log._chunks import Chunks
from nectargan_core.log._format import (
    REWIND_KEY,
    VERSION,
    VERSION_KEY,
    begin_of,
    check,
    decode_chunk,
    decode_line,
    has_checksum,
    is_whole,
)
from nectargan_core.log._json import ChunkParser, parse_exactly
from nectargan_core.log._records import Records, joined

# So many bytes of a file are read at a time. They are still in the cache when they are checked, and it is memory that
# Python has at hand; for more it would ask the system at each read.
_BLOCK = 1 << 16

# So many damaged lines are named each; the others are counted.
_NAMED = 3
# In the place of a step from which on entries are superseded: none is.
_NONE = 1 << 63
# How the lines of a log begin, by which a damaged one is told from a line of another file.
_BEGINS = (b'{"nectargan_log"', b'{"loss_name"', b'{"rewind"')

_Lines: TypeAlias = "array[int]"
"""Lines that are not parsed yet, five numbers each: number, begin, end, how many records the line says it has, and its
checksum."""

_Entry: TypeAlias = "array[int] | Records | int"
"""What a loss has in the file: lines, records, or the step from which on the entries before it are superseded."""

_Read: TypeAlias = Callable[[int, int], bytes]
"""Returns the bytes of the file from one position up to another, or up to where it ends."""


class LogIndex:
    """The headers of a log file, and for each loss where its lines are; extended by what the file has grown by.

    The checksum of every line is checked. Only the lines of a loss that is asked for are parsed, once.

    Args:
        source: The file, for messages.

    Raises:
        LossLogError: If the log was written by a newer version.
    """

    def __init__(self, source: object) -> None:
        self._source = source
        self.headers: list[dict[str, Any]] = []
        # When the newest line of the run of each header was written; None where that is not known.
        self.written: list[float | None] = []
        # Up to where the file is read: the number of its bytes and of its lines.
        self._end = 0
        self._number = 0
        # Whether a line must have a checksum, as it has from version 2 on.
        self._checked = False
        self._entries: dict[str, list[_Entry]] = {}
        # Of each line that supersedes records, how many headers stand before it, and what it says.
        self.rewinds: list[tuple[int, Mapping[str, Any]]] = []
        # For each header, which entry of each loss there is for what other ranks supersede of what stands before it.
        self._places: list[dict[str, int]] = []
        # The name of a loss by what a line says, since nearly every line has one that is known.
        self._names: dict[bytes, str] = {}
        # Whether any line is one of a log, damaged or not, and whether there is one that is not.
        self._is_log = self._is_other = False
        # How many lines are damaged, the messages that are due, and how many of the others were told of.
        self._damaged = 0
        self._due: list[str] = []
        self._counted = 0

    @property
    def is_other_file(self) -> bool:
        """Whether there is something in the file, and nothing of it is a line of a log, damaged, torn or whole."""
        return self._is_other and not self._is_log

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that have lines, in the order of their first."""
        return tuple(self._entries)

    def extend(self, read: _Read, complete: bool = False) -> None:
        """Take what the file has after what was taken before, up to its last line end.

        Args:
            read: Reads the file.
            complete: Whether what follows the last line end is looked at too: it is a line if its checksum holds.
        """
        size = _BLOCK
        while data := read(self._end, self._end + size):
            start = 0
            while (stop := data.find(b"\n", start)) >= 0:
                self._take(data, start, stop)
                start = stop + 1
            if len(data) < size:
                if complete and start < size:
                    self._take_unended(data[start:])
                break
            if start == 0:  # a line that is longer
                size *= 2
        self._tell()

    def _take_unended(self, line: bytes) -> None:
        # Without a line end it is being written, or a kill cut it short, which is no damage. A line that is whole but
        # for the end is damaged there.
        if has_checksum(line) or has_checksum(line[:-1]):
            self._take(line, 0, len(line))
        elif line.strip(b"\0"):  # what was cut off by a failure of the machine may be zeros
            self._see(line, any(begin.startswith(line[: len(begin)]) for begin in _BEGINS))

    def _see(self, line: bytes, begins: bool) -> None:
        """Note whether a line that is damaged or torn is one of a log: by its begin, or by a checksum at its end."""
        looks = begins or has_checksum(line)
        self._is_log = self._is_log or looks
        self._is_other = self._is_other or not looks

    def _take(self, data: bytes, start: int, stop: int) -> None:
        self._number += 1
        begin, self._end = self._end, self._end + stop - start + 1
        try:
            checked = is_whole(data, start, stop)
            if not checked and (self._checked or has_checksum(data[start:stop])):
                check(data[start:stop])
            self._checked = self._checked or checked
            chunk = begin_of(data, start, stop) if checked else None
            if chunk is None:
                self._take_decoded(decode_line(data[start:stop]), checked)
                self._is_log = True
                return
            self._is_log = True
            spelled, count, time = chunk
            if time is not None and self.written:
                self.written[-1] = time
            if spelled not in self._names:
                self._names[spelled] = _name(spelled)
            entries = self._entries.setdefault(self._names[spelled], [])
            lines = entries[-1] if entries else None
            if not isinstance(lines, array):
                entries.append(lines := array("q"))
            # A record has at least two bytes, which bounds what a line can say that was written wrongly.
            count = min(count, (stop - start) // 2)
            lines.extend((self._number, begin, self._end - 1, count, int(data[stop - 10 : stop - 2], 16)))
        except ValueError as error:
            self._see(data[start:stop], data.startswith(_BEGINS, start, stop))
            self._warn(self._number, error)

    def _take_decoded(self, line: dict[str, Any] | Records, checked: bool) -> None:
        if isinstance(line, Records):
            self._entries.setdefault(line.name, []).append(line)
        elif VERSION_KEY not in line:
            self._rewind(line[REWIND_KEY])
        elif line[VERSION_KEY] > VERSION:
            raise LossLogError(
                f"{self._source} is in version {line[VERSION_KEY]} of the format, and this reads up to {VERSION}; "
                "update nectargan-core"
            )
        elif line[VERSION_KEY] > 1 and not checked:
            raise ValueError("it has no checksum")
        elif line.pop("continued", False) and self.headers:
            self.headers[-1].update(line)
        else:
            self.headers.append(line)
            self.written.append(None)
            self._places.append({name: len(entries) for name, entries in self._entries.items()})
            for entries in self._entries.values():
                entries.append(_NONE)

    def _rewind(self, to: Mapping[str, Any]) -> None:
        self.rewinds.append((len(self.headers), to))
        for name, entries in self._entries.items():
            entries.append(_limit(to, name))

    def supersede(self, run: int, to: Mapping[str, Any]) -> None:
        """Leave out what a rewind in the log of another rank supersedes; called before anything is parsed.

        Args:
            run: Number of the first header that it leaves alone, with all that follows; that of headers for none.
            to: What the rewind says.
        """
        # The other rank counts only what it has itself; what else there is stays.
        told = self._entries.keys() if "step" in to else self._entries.keys() & to.get("counts", {}).keys()
        if run == len(self.headers):
            for name in told:
                self._entries[name].append(_limit(to, name))
            return
        for name, place in self._places[run].items():
            if name not in told:
                continue
            limit = self._entries[name][place]
            self._entries[name][place] = min(limit, _limit(to, name)) if isinstance(limit, int) else limit

    def parts(self, name: str, read: _Read, keep: bool = True) -> list[Records]:
        """Return the records of a loss, in parts; parses those of its lines that were not parsed before.

        Args:
            name: The loss.
            read: Reads the file.
            keep: Whether what was parsed is kept, so that it is not parsed again.
        """
        if name not in self._entries:
            return []
        entries = self._entries[name]
        parts: list[Records] = []
        chunks: Chunks | None = None
        for position, entry in enumerate(entries):
            if isinstance(entry, array):
                if chunks is None:
                    chunks = Chunks(sum(sum(lines[3::5]) for lines in entries[position:] if isinstance(lines, array)))
                self._parse(entry, read, chunks)
            elif isinstance(entry, Records):
                if chunks is not None:
                    parts.append(chunks.records(name))
                    chunks = None
                parts.append(entry)
            elif entry != _NONE:
                parts = [part.before(entry) if part.step.max(initial=-1) >= entry else part for part in parts]
                if chunks is not None:
                    chunks.rewind(entry)
        if chunks is not None:
            parts.append(chunks.records(name))
        if keep:
            self._entries[name] = [*parts]
        return parts

    def records(self, name: str, read: _Read, keep: bool = True) -> Records:
        """Return the records of a loss as one, and keep them so.

        Args:
            name: The loss.
            read: Reads the file.
            keep: Whether they are kept; else they are parsed again when they are asked for again.
        """
        parts = self.parts(name, read, keep)
        records = parts[0] if len(parts) == 1 else joined(name, parts)
        if keep:
            self._entries[name] = [records]
        return records

    def take(self, name: str, read: _Read) -> list[Records]:
        """Return what has come of a loss since it was taken last, and forget it.

        Args:
            name: The loss.
            read: Reads the file.
        """
        parts = self.parts(name, read, keep=False)
        if name in self._entries:
            self._entries[name] = []
        return parts

    def _parse(self, lines: _Lines, read: _Read, into: Chunks) -> None:
        parser = ChunkParser()
        for number, start, stop, _, checksum in zip(*(lines[column::5] for column in range(5)), strict=True):
            try:
                line = read(start, stop)
                if line[-10:-2] != b"%08x" % checksum or not is_whole(line, 0, len(line)):
                    raise ValueError("it has been changed since the file was looked through")
                decode_chunk(line, parser, into)
            except ValueError as error:
                self._warn(number, error)
        self._tell()

    def _warn(self, number: int, error: ValueError) -> None:
        self._damaged += 1
        if self._damaged <= _NAMED:
            self._due.append(f"{self._source}:{number} is damaged and left out: {error}")

    def _tell(self) -> None:
        """Warn of the damaged lines that were come upon; of a file of another kind there is no line to speak of."""
        if self.is_other_file:
            return
        due, self._due = self._due, []
        more = max(0, self._damaged - _NAMED) - self._counted
        self._counted += more
        for message in due:
            warn(message)
        if more:
            warn(f"{self._source}: {more:,} more {'lines are' if more > 1 else 'line is'} damaged and left out")


def _limit(to: Mapping[str, Any], name: str) -> int:
    """Return the step from which on a rewind supersedes the records of a loss."""
    limit: int = to["step"] if "step" in to else to.get("counts", {}).get(name, 0)
    return limit


def _name(spelled: bytes) -> str:
    name = str(parse_exactly(spelled))
    if not is_unicode(name):
        raise ValueError(f"its name has half of a surrogate pair: {name!r}")
    return name
