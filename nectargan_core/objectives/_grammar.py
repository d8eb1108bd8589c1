"""The grammar of formulas: reads `"gan:hinge + 100*l1"` as summands, without asking whether their terms exist."""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass

from nectargan_core._names import Term, is_number, read_term, syntax_error
from nectargan_core.errors import SpecSyntaxError

_BLANKS = " \t\r\n"
_SKIPPED = re.compile(f"[{_BLANKS}]*")
_DIGITS = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_NUMBER = re.compile(rf"{_DIGITS}(?:[eE]-?[0-9]+)?")
# Without this it would be the term `1e` and the factor 5.
_SIGNED_EXPONENT = re.compile(rf"({_DIGITS}[eE])\+({_NUMBER.pattern})(?![\w.:/-])")

_TERM = "the name of a spec"
_NO_MINUS = "There is no minus in a formula, and a factor is not negative; weights= takes weights below 0."
_NO_PARENTHESES = "There are no parentheses; give each term a factor of its own."
_ONE_FACTOR = "A term has one factor; write the product of them."
_FACTOR_FIRST = "A factor is a number, and stands before its term"
_DECIMAL = "A factor is a decimal number in the digits 0 to 9, such as 100, 0.5 or 1e-4."
_JOINED = 'Terms are joined by "+".'
_ADVICE = {
    **dict.fromkeys("×·⋅∗•✕✖⨯＊", 'Write "*".'),  # noqa: RUF001 # what is pasted from papers
    **dict.fromkeys("＋﹢", 'Write "+".'),  # noqa: RUF001 # likewise
    **dict.fromkeys("-−–—‐‑‒﹣－", _NO_MINUS),  # noqa: RUF001 # likewise
    **dict.fromkeys("()[]{}", _NO_PARENTHESES),
    **dict.fromkeys(",;&|", _JOINED),
    "=": "Only the right-hand side of an equation is written.",
}


@dataclass(frozen=True, slots=True)
class Summand:
    """One part of a formula: a term, with the factor that is written before it.

    Args:
        factor: The factor, finite and not negative; `None` where none is written.
        term: The term.

    Example:
        >>> str(Summand(100.0, Term(None, "l1", None)))
        '100*l1'
    """

    factor: float | None
    term: Term

    def __str__(self) -> str:
        return str(self.term) if self.factor is None else f"{_written(self.factor)}*{self.term}"


def parse(text: str, start: int = 0) -> tuple[Summand, ...]:
    """Read a formula.

    The grammar, in which B is any spaces, tabs and newlines, and D an ASCII digit:

        formula := B summand (B "+" B summand)* B
        summand := [factor B "*" B] term
        factor  := (D+ ["." D*] | "." D+) [("e"|"E") ["-"] D+]
        term    := [provider "/"] name [":" variant]

    Each word of a term is one or more letters, digits, `_`, `-` and `.`; provider and name begin with a letter, a
    digit or `_`. A factor is finite, and 0 only where it is written as 0. A number is no term by itself.

    Args:
        text: The formula, such as `"gan:hinge + 100*l1"`.
        start: Where in the text the formula begins; columns are counted from the beginning of the text.

    Returns:
        The summands in the order of the text, at least one.

    Raises:
        SpecSyntaxError: The text is not in the grammar; `column` (0 to the length of the text) says where.

    Example:
        >>> [str(summand) for summand in parse("gan:hinge + 1e2 * l1+acme-vgg/vgg")]
        ['gan:hinge', '100*l1', 'acme-vgg/vgg']
    """
    summands: list[Summand] = []
    column = _after_blanks(text, start)
    while True:
        summand, end = _read_summand(text, column)
        summands.append(summand)
        column = _after_blanks(text, end)
        if column == len(text):
            return tuple(summands)
        if text[column] != "+":
            raise _unexpected(text, column, '"+" or the end', blanks=column > end)
        column = _after_blanks(text, column + 1)


def split_variant(text: str) -> tuple[str, int | None]:
    """Split a variant from the formula of further terms that may follow it after a `+`.

    Returns:
        The variant, without blanks around it, and where the formula begins; None where there is no `+`.

    Example:
        >>> split_variant("extended + 10*sobel"), split_variant("extended")
        (('extended', 10), ('extended', None))
    """
    variant, plus, _ = text.partition("+")
    return variant.strip(_BLANKS), len(variant) + 1 if plus else None


def _after_blanks(text: str, column: int) -> int:
    match = _SKIPPED.match(text, column)
    return column if match is None else match.end()


def _read_summand(text: str, column: int) -> tuple[Summand, int]:
    """Return the summand that starts at a column, and the column after its last character."""
    factor, start = _read_factor(text, column)
    signed = _SIGNED_EXPONENT.match(text, start)
    if signed is not None:
        whole = signed[2].isdecimal()
        advice = f'An exponent has no "+": write {signed[1]}{signed[2]}.' if whole else "An exponent is a whole number."
        raise syntax_error(text, signed.end(1), "a factor", advice=advice)
    if not _begins_name(text[start : start + 1]):
        raise _no_term(text, start, factor)
    term, end = read_term(text, start)
    following = _after_blanks(text, end)
    if is_number(term):
        raise _number_as_term(text, start, end, following, factor)
    if text[following : following + 1] == "*":
        raise _misplaced_factor(text, start, end, following, factor, term)
    return Summand(factor, term), end


def _read_factor(text: str, column: int) -> tuple[float | None, int]:
    """Return the factor at a column, None where there is none, and the column where its term starts."""
    number = _NUMBER.match(text, column)
    if number is None:
        return None, column
    times = _after_blanks(text, number.end())
    if text[times : times + 1] != "*":
        return None, column
    factor = float(number[0])
    if math.isinf(factor):
        advice = "It is larger than the largest float, 1.8e308."
    elif factor == 0.0 and re.match(r"[0.]*[1-9]", number[0]):
        advice = "It is smaller than the smallest float above 0, 4.9e-324."
    else:
        return factor, _after_blanks(text, times + 1)
    raise syntax_error(text, column, "a factor that a float can hold", stop=number.end(), advice=advice)


def _begins_name(char: str) -> bool:
    return char == "_" or char.isalnum()


def _no_term(text: str, column: int, factor: float | None) -> SpecSyntaxError:
    expected = _TERM if factor is None else f"{_TERM} after the factor"
    number, found = _NUMBER.match(text, column), text[column : column + 1]
    if number is not None:  # it begins with a "."
        end = number.end()
        if _begins_name(text[end : end + 1]):
            return syntax_error(text, column, expected)
        return _number_as_term(text, column, end, _after_blanks(text, end), factor)
    advice = None
    if found == "*":
        advice = _FACTOR_FIRST + ": 100*l1." if factor is None else _ONE_FACTOR
    elif found == "-":
        advice = 'A name does not begin with "-", and a factor is not negative; weights= takes weights below 0.'
    elif found == "+" and _NUMBER.match(text, _after_blanks(text, column + 1)):
        advice = "A factor has no sign."
    if advice is None:
        return _unexpected(text, column, expected)
    return syntax_error(text, column, expected, advice=advice)


def _number_as_term(text: str, start: int, end: int, following: int, factor: float | None) -> SpecSyntaxError:
    """Make the error for a number where a term was expected."""
    found = text[following : following + 1]
    if found == "*" and factor is not None:
        return syntax_error(text, following, '"+" or the end', advice=_ONE_FACTOR)
    if found == "*":
        plain = _plain_digits(text[start:end])
        advice = f"{_DECIMAL} Write {plain}." if _NUMBER.fullmatch(plain) else _DECIMAL
        return syntax_error(text, start, "a factor", stop=end, advice=advice)
    if found and found != "+" and factor is None:
        return _unexpected(text, following, '"*" after a factor', blanks=following > end)
    advice = 'A number is no term; a factor is followed by "*" and its term: 100*l1.'
    return syntax_error(text, start, _TERM, stop=end, advice=advice)


def _misplaced_factor(text: str, start: int, end: int, times: int, factor: float | None, term: Term) -> SpecSyntaxError:
    """Make the error for a `*` after a term."""
    word = text[start:end]
    if factor is not None:
        return syntax_error(text, times, '"+" or the end', advice=_ONE_FACTOR)
    if word[0].isdigit():
        advice = f'{_DECIMAL} There is no "/" in a formula.' if term.provider is not None else _DECIMAL
        return syntax_error(text, start, "a factor", stop=end, advice=advice)
    if word.lower() in ("inf", "infinity", "nan"):
        return syntax_error(text, start, "a factor that is finite", stop=end, advice=_DECIMAL)
    number = _NUMBER.match(text, _after_blanks(text, times + 1))
    example = f"{number[0]}*{word}" if number is not None else f"100*{word}"
    return syntax_error(text, times, '"+" or the end', advice=f"{_FACTOR_FIRST}: {example}.")


def _plain_digits(word: str) -> str:
    """Return a number in ASCII digits and without `_`."""
    return "".join(char if char.isascii() else str(unicodedata.decimal(char, char)) for char in word).replace("_", "")


def _unexpected(text: str, column: int, expected: str, *, blanks: bool = False) -> SpecSyntaxError:
    """Make the error for a character that no rule of the grammar has at its place.

    Args:
        text: The formula.
        column: Where the character is.
        expected: What would have been right there.
        blanks: Whether there are blanks before it that a formula may have.
    """
    found = text[column : column + 1]
    advice = _ADVICE.get(found)
    if blanks and found in (":", "/"):
        advice = "A term is written without blanks."
    elif found == "," and text[column - 1 : column].isdecimal() and text[column + 1 : column + 2].isdecimal():
        advice = 'A decimal point is written ".".'
    elif found and found not in _BLANKS and (found.isspace() or unicodedata.category(found) in ("Zs", "Cf")):
        advice = f"{unicodedata.name(found, 'This').capitalize()} is no blank here; write a space."
    return syntax_error(text, column, expected, advice=advice)


def _written(factor: float) -> str:
    """Return a factor as text that reads as the same number, which `repr` is not for 1e+16."""
    return repr(factor).replace("e+", "e").removesuffix(".0")
