"""`LogIndex`: which lines of a log file hold which loss, so that a loss is read without parsing the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from nectargan_core._messages import warn
from nectargan_core.errors import LossLogError
from nectargan_core.log._format import REWIND_KEY, VERSION, VERSION_KEY, check, decode_line, has_checksum, name_in
from nectargan_core.log._records import Records

_Entry: TypeAlias = tuple[int, int, int] | Records | int
"""What a loss has in the file: a line that is not parsed yet (its number, begin and end), records, or the step from
which on the entries before it are superseded."""


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
        # Up to where the file is read: the number of its bytes and of its lines.
        self.end = 0
        self._number = 0
        # Whether a line must have a checksum, as it has from version 2 on.
        self._checked = False
        self._entries: dict[str, list[_Entry]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that have lines, in the order of their first."""
        return tuple(self._entries)

    def extend(self, data: bytes, complete: bool = False) -> None:
        """Take what the file has after `end`, up to its last line end.

        Args:
            data: The bytes of the file from `end` on.
            complete: Whether what follows the last line end is looked at too: it is a line if its checksum holds.
        """
        start = 0
        while (stop := data.find(b"\n", start)) >= 0:
            self._take(data[start:stop])
            start = stop + 1
        if complete and start < len(data):
            self._take_unended(data[start:])

    def _take_unended(self, line: bytes) -> None:
        # Without a line end it is being written, or a kill cut it short, which is no damage. A line that is whole but
        # for the end is damaged there.
        if has_checksum(line) or has_checksum(line[:-1]):
            self._take(line)

    def _take(self, line: bytes) -> None:
        self._number += 1
        start, self.end = self.end, self.end + len(line) + 1
        try:
            checked = has_checksum(line)
            if checked or self._checked:
                check(line)
                self._checked = True
            name = name_in(line)
            if checked and name is not None:
                self._entries.setdefault(name, []).append((self._number, start, self.end - 1))
                return
            self._take_decoded(decode_line(line), checked)
        except ValueError as error:
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

    def _rewind(self, to: dict[str, Any]) -> None:
        for name, entries in self._entries.items():
            entries.append(to.get("step", to.get("counts", {}).get(name, 0)))

    def parts(self, name: str, read: Callable[[int, int], bytes]) -> list[Records]:
        """Return the records of a loss, in parts; parses those of its lines that were not parsed before.

        Args:
            name: The loss.
            read: Returns the bytes of the file from one position up to another.
        """
        parts: list[Records] = []
        for entry in self._entries.get(name, ()):
            if isinstance(entry, int):
                parts = [part.before(entry) if part.step.max(initial=-1) >= entry else part for part in parts]
                continue
            parsed = entry if isinstance(entry, Records) else self._parsed(*entry, read)
            if parsed is not None:
                parts.append(parsed)
        if name in self._entries:
            self._entries[name] = [*parts]
        return parts

    def _parsed(self, number: int, start: int, stop: int, read: Callable[[int, int], bytes]) -> Records | None:
        try:
            records = decode_line(read(start, stop))
            if not isinstance(records, Records):
                raise ValueError("not a chunk of records")
        except ValueError as error:
            self._warn(number, error)
            return None
        return records

    def _warn(self, number: int, error: ValueError) -> None:
        warn(f"{self._source}:{number} is damaged and left out: {error}")
