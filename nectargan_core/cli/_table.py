"""Tables and notes that fit the terminal: at most 100 columns wide, safe to show, and wrapped between words only."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import unicodedata
from collections.abc import Collection, Iterable, Sequence

import click

from nectargan_core._printable import printable

_WIDTH = 100
_GAP = 2
# A column of prose gets at least so many columns, or the rows are printed one below the other.
_NARROWEST = 16


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, names: Collection[str] = ()) -> None:
    r"""Print rows under headings, with rich where it is installed and standard output is a terminal.

    It is at most 100 columns wide, and in a terminal no wider than that. What does not fit is wrapped, between words
    only, so that a name can be copied. Where even the longest words of each column do not stand side by side, a row is
    printed as a block, with a line for each of its cells. A single word that is wider than the terminal is printed
    whole. Control characters, and letters that the encoding of the terminal lacks, are printed as escapes.

    Args:
        headings: What stands above each column; printed in upper case.
        rows: The cells of each row, as many as there are headings. A `\n` in one begins a new line, and `-` is
            printed for an empty one.
        names: Headings that are names, which are printed as they are.

    Raises:
        ValueError: If a row has another number of cells.

    Example:
        >>> print_table(["name", "meaning"], [["l1", "mean of absolute differences"], ["l2", ""]])
        NAME  MEANING
        l1    mean of absolute differences
        l2    -
    """
    titles = [_safe(heading if heading in names else heading.upper()) for heading in headings]
    cells = [[_safe(cell) or "-" for _, cell in zip(titles, row, strict=True)] for row in rows]
    available = _available()
    widths = _widths([titles, *cells], available)
    if widths is None:
        _print_blocks(titles, cells, available)
    elif sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        _print_rich(titles, cells, widths)
    else:
        for row in [titles, *cells]:
            for line in _side_by_side(row, widths):
                click.echo(line)


def fits(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> bool:
    """Whether the longest words of all columns stand side by side, so that `print_table` prints no blocks."""
    return _widths([list(headings), *([_safe(cell) or "-" for cell in row] for row in rows)], _available()) is not None


def filled(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> tuple[list[str], list[list[str]]]:
    """Return headings and rows without the columns that are empty in each row.

    Example:
        >>> filled(["name", "note"], [["l1", ""], ["l2", ""]])
        (['name'], [['l1'], ['l2']])
    """
    kept = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    return [headings[index] for index in kept], [[row[index] for index in kept] for row in rows]


def print_note(text: str, *, err: bool = False) -> None:
    """Print text as wide as a table, wrapped between words, with further lines indented; safe as a table is.

    Example:
        >>> print_note("glow (acme-losses): " + "it cannot be imported, " * 4 + "and so on")
        glow (acme-losses): it cannot be imported, it cannot be imported, it cannot be imported, it cannot
          be imported, and so on
    """
    first, *further = _wrapped(_safe(text), _available(), indent=2) or [""]
    for line in (first, *(f"  {each}" for each in further)):
        click.echo(line, err=err)


def print_text(text: str, *, err: bool = False) -> None:
    """Print text as it is, with escapes for letters that the encoding of the terminal lacks."""
    click.echo(_encodable(text), err=err)


def _available() -> int:
    return min(_WIDTH, shutil.get_terminal_size((_WIDTH, 0)).columns) if sys.stdout.isatty() else _WIDTH


def _safe(text: str) -> str:
    return _encodable("\n".join(map(printable, text.strip().split("\n"))))


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _columns(text: str) -> int:
    """How many columns of a terminal a line takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _widths(table: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Return how wide each column is; None where their longest words do not fit side by side."""
    columns = list(zip(*table, strict=True))
    widths = [max(_columns(line) for cell in column for line in cell.split("\n")) for column in columns]
    narrowest = [
        max(min(width, _NARROWEST), *(_columns(word) for cell in column for word in cell.split()))
        for width, column in zip(widths, columns, strict=True)
    ]
    excess = sum(widths) + _GAP * (len(widths) - 1) - available
    while excess > 0:
        # The widest of those that can be wrapped is prose.
        wrappable = [index for index, width in enumerate(widths) if width > narrowest[index]]
        if not wrappable:
            return None
        widest = max(wrappable, key=lambda index: widths[index])
        widths[widest] -= 1
        excess -= 1
    return widths


def _wrapped(text: str, width: int, indent: int = 0) -> list[str]:
    """Return a cell as lines; those after the first are narrower by `indent`."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        if _columns(paragraph) <= width - (indent if lines else 0):
            lines.append(paragraph)
            continue
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if line and _columns(longer) > width - (indent if lines else 0):
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return lines


def _side_by_side(row: Sequence[str], widths: Sequence[int]) -> Iterable[str]:
    cells = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    for index in range(max(map(len, cells))):
        parts = [lines[index] if index < len(lines) else "" for lines in cells]
        padded = (part + " " * (width - _columns(part)) for part, width in zip(parts, widths, strict=True))
        yield (" " * _GAP).join(padded).rstrip()


def _print_blocks(titles: Sequence[str], rows: Sequence[Sequence[str]], available: int) -> None:
    label = max(map(_columns, titles))
    for number, row in enumerate(rows):
        if number:
            click.echo()
        for title, cell in zip(titles, row, strict=True):
            for line in _side_by_side([title, cell], [label, available - label - _GAP]):
                click.echo(line)


def _print_rich(titles: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for title, width in zip(titles, widths, strict=True):
        # The lines are made here: rich breaks words where its widths differ from ours.
        table.add_column(Text(title), width=width, no_wrap=True, overflow="ignore")
    for row in rows:
        wrapped = ("\n".join(_wrapped(cell, width)) for cell, width in zip(row, widths, strict=True))
        table.add_row(*map(Text, wrapped))
    Console(width=_WIDTH).print(table, soft_wrap=True)
