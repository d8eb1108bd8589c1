"""Tables in Markdown, as READMEs have them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nectargan_core._printable import printable


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already.

    Example:
        >>> print(markdown_table(["loss", "weight"], [[code("G_L1"), prose("100")]]))
        | loss | weight |
        |---|---|
        | `G_L1` | 100 |
    """
    lines = [headings, *rows]
    written = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([written[0], "|" + "---|" * len(headings), *written[1:]])


def prose(text: str) -> str:
    r"""Return text as a cell, with its code kept and nothing taken for HTML or for the end of the cell.

    Example:
        >>> print(prose("`a|b` of <x>"))
        `a\|b` of &lt;x>
    """
    parts = re.split(r"(`[^`]*`)", printable(" ".join(text.split())))
    return "".join(part if part[:1] == "`" else part.replace("<", "&lt;") for part in parts).replace("|", r"\|")


def code(text: str) -> str:
    """Return text as code; each of several that a comma and a space part by itself, and nothing of nothing.

    Example:
        >>> print(code("y_fake, y"))
        `y_fake`, `y`
    """
    text = printable(" ".join(text.split()))
    return ", ".join(f"`` {each} ``" if "`" in each else f"`{each}`" for each in _parts(text)).replace("|", r"\|")


def _parts(text: str) -> list[str]:
    """Split text at the commas that are in no brackets and no quotes."""
    parts, depth, quote, begin = [], 0, "", 0
    for index, char in enumerate(text):
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == "," and depth == 0 and text[index + 1 : index + 2] == " ":
            parts.append(text[begin:index])
            begin = index + 2
    return list(filter(None, (*parts, text[begin:])))
