"""The grammar of objectives: reads `"pix2pix:extended+vgg"` as terms, without asking whether they exist."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from nectargan_core.errors import SpecSyntaxError

# `\w` is what str.isalnum() accepts, and "_": letters and digits of every script.
_WORD = r"[\w.-]+"
_TERM = re.compile(rf"(?:({_WORD})/)?({_WORD})(?::({_WORD}))?")
_CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Term:
    """One part of an objective: `provider/name:variant`, of which only the name is required.

    Args:
        provider: The distribution that the name is to come from, as written; `None` where none is named.
        name: The name of the spec.
        variant: The variant of the spec; `None` where none is named.
        column: Where the term starts in the text that it was read from, counted from 0. Not part of equality.

    Example:
        >>> str(Term("acme-vgg", "vgg", "deep"))
        'acme-vgg/vgg:deep'
    """

    provider: str | None
    name: str
    variant: str | None
    column: int = field(default=0, compare=False)

    def __str__(self) -> str:
        provider = "" if self.provider is None else f"{self.provider}/"
        variant = "" if self.variant is None else f":{self.variant}"
        return f"{provider}{self.name}{variant}"


def parse(text: str) -> tuple[Term, ...]:
    """Read the name of an objective.

    The grammar is `term ("+" term)*` with `term := [provider "/"] name [":" variant]`, where each word is one
    or more letters, digits, `_`, `-` and `.`, without blanks.

    Args:
        text: The name, such as `"pix2pix:extended+vgg"`.

    Returns:
        The terms in the order of the text, at least one.

    Raises:
        SpecSyntaxError: The text is not in the grammar; `column` (0 to the length of the text) says where.

    Example:
        >>> [str(term) for term in parse("pix2pix:extended+acme-vgg/vgg")]
        ['pix2pix:extended', 'acme-vgg/vgg']
    """
    terms: list[Term] = []
    column = 0
    while True:
        match = _TERM.match(text, column)
        if match is None:
            raise _error(text, column, "the name of a spec")
        provider, name, variant = match.groups()
        terms.append(Term(provider, name, variant, column))
        end = match.end()
        if end == len(text):
            return tuple(terms)
        following = text[end]
        if following == ":" and variant is None:
            raise _error(text, end + 1, 'a variant after ":"')
        if following == "/" and provider is None and variant is None:
            raise _error(text, end + 1, 'the name of a spec after "/"')
        if following != "+":
            raise _error(text, end, '"+" or the end')
        column = end + 1


def printable(text: str) -> str:
    r"""Return `text` with whatever a terminal would act on, or could not show, written as an escape.

    Example:
        >>> print(printable("a" + chr(27)))
        a\x1b
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _error(text: str, column: int, expected: str) -> SpecSyntaxError:
    if not text:
        return SpecSyntaxError(f"expected {expected}, found an empty string.", text=text, column=column)
    found = f'"{printable(text[column])}"' if column < len(text) else "the end"
    start, stop = max(0, column - _CONTEXT), column + _CONTEXT
    before = ("..." if start else "") + printable(text[start:column])
    after = printable(text[column:stop]) + ("..." if stop < len(text) else "")
    return SpecSyntaxError(
        f"expected {expected}, found {found} at column {column}.{_advice(text[column : column + 1])}\n"
        f"  {before}{after}\n"
        f"  {' ' * len(before)}^",
        text=text,
        column=column,
    )


def _advice(found: str) -> str:
    if found.isspace():
        return " Names are written without blanks."
    if found == "/":
        return ' One "/" stands between provider and name; a file is passed as a pathlib.Path.'
    if found in ("\\", "~"):
        return " A string is always a name; a file is passed as a pathlib.Path."
    return ""
