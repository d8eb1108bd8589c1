"""How a plugin is named in text, without asking whether it exists, and what stands there for a function or class."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from nectargan_core._printable import printable
from nectargan_core.errors import SpecSyntaxError

# `\w` matches letters and digits of every script, and "_".
_NAME = r"\w[\w.-]*"
_TERM = re.compile(rf"(?:({_NAME})/)?({_NAME})(?::([\w.-]+))?")
# How many characters before and after the column an error shows.
_CONTEXT = 40


@dataclass(frozen=True, slots=True)
class Term:
    """The name of a plugin as it is written: `provider/name:variant`, of which only the name is required.

    Args:
        provider: The distribution that the name is to come from, as written; `None` where none is named.
        name: The name of the plugin.
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


def read_term(text: str, column: int = 0, expected: str = "the name of a spec") -> tuple[Term, int]:
    """Read one term.

    Args:
        text: The text that the term is part of.
        column: Where in the text the term starts, counted from 0.
        expected: What it names, for errors.

    Returns:
        The term, and the column after its last character. What follows there may be anything but a `:` or `/`
        that would have to belong to the term.

    Raises:
        SpecSyntaxError: No term starts at the column, or a `:` or `/` has no word after it.

    Example:
        >>> read_term("pix2pix:extended+vgg", 17)[0].name
        'vgg'
    """
    match = _TERM.match(text, column)
    if match is None:
        raise syntax_error(text, column, expected)
    provider, name, variant = match.groups()
    end = match.end()
    following = text[end : end + 1]
    if following == ":" and variant is None:
        raise syntax_error(text, end + 1, 'a variant after ":"')
    if following == "/" and provider is None and variant is None:
        raise syntax_error(text, end + 1, f'{expected} after "/"')
    return Term(provider, name, variant, column), end


def read_name(text: str, kind: str) -> Term:
    """Read the name of one plugin, which is written without a variant.

    Args:
        text: The name, or `provider/name`.
        kind: What it names, for errors.

    Raises:
        SpecSyntaxError: It is no such name.

    Example:
        >>> read_name("acme/one-cycle", "schedule").provider
        'acme'
    """
    one = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
    term, end = read_term(text, expected=f"the name of {one}")
    if end != len(text) or term.variant is not None:
        raise SpecSyntaxError(
            f"{one} is named by one name, optionally provider/name, without a variant; got {text!r}.",
            text=text,
            column=end,
        )
    return term


def is_name(text: str) -> bool:
    """Whether a text is the name of a plugin and nothing else, as far as it is spelt.

    Example:
        >>> is_name("one-cycle"), is_name("acme/one-cycle")
        (True, False)
    """
    return re.fullmatch(_NAME, text) is not None


def is_number(term: Term) -> bool:
    """Whether a term is what Python reads as a number, which no formula has as a term."""
    if term.provider is not None or term.variant is not None or not term.name[0].isdecimal():
        return False
    try:
        float(term.name)
    except ValueError:
        return False
    return True


def label_of(function: Callable[..., Any]) -> str:
    """Return what stands for a function or class in text; nothing is ever imported by it.

    Example:
        >>> import math
        >>> label_of(math.fsum)
        'math:fsum'
    """
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{getattr(named, '__module__', None)}:{named.__qualname__}"


def is_label(name: str) -> bool:
    """Whether a text is a label, and not the name of a schedule or weighting, which has no colon."""
    return ":" in name


def syntax_error(
    text: str, column: int, expected: str, *, stop: int | None = None, advice: str | None = None
) -> SpecSyntaxError:
    """Make the error that says what was expected at a column of a text, and shows the place.

    Args:
        text: The whole text.
        column: Where it cannot be read further, from 0 to its length.
        expected: What would have been right there.
        stop: Where that ends which was found instead; None for one character.
        advice: What to write instead, as a sentence; None for what can be said of the character.
    """
    if not text:
        return SpecSyntaxError(f"expected {expected}, found an empty string.", text=text, column=column)
    word = text[column : column + 1 if stop is None else min(stop, column + _CONTEXT)]
    more = "..." if stop is not None and stop > column + _CONTEXT else ""
    found = f'"{printable(word)}{more}"' if word else "the end"
    if advice is None:
        advice = _advice(text[column : column + 1])
    start, end = max(0, column - _CONTEXT), column + _CONTEXT
    before = ("..." if start else "") + printable(text[start:column])
    after = printable(text[column:end]) + ("..." if end < len(text) else "")
    return SpecSyntaxError(
        f"expected {expected}, found {found} at column {column}.{advice and f' {advice}'}\n"
        f"  {before}{after}\n"
        f"  {' ' * len(before)}^",
        text=text,
        column=column,
    )


def _advice(found: str) -> str:
    if found.isspace():
        return "A name is written without blanks."
    if found and found in "-.":
        return f'A name does not begin with "{found}".'
    if found == "/":
        return 'One "/" stands between provider and name; a file is given as a pathlib.Path.'
    if found and found in "\\~":
        return "A string is always a formula; a file is given as a pathlib.Path."
    return ""
