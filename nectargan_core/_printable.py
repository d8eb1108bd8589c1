"""Makes text safe to show in a terminal: names come from other packages, from files and from users."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""Return `text` with whatever a terminal would act on, or could not show, written as an escape.

    Example:
        >>> print(printable("a" + chr(27)))
        a\x1b
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, with its line ends kept."""
    return "\n".join(map(printable, text.split("\n")))
