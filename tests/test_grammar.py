"""The grammar of formulas: the summands that it reads, and the errors for text that it cannot read."""

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core._names import Term
from nectargan_core._printable import printable
from nectargan_core.errors import SpecSyntaxError
from nectargan_core.objectives._grammar import Summand, parse

first = st.characters(categories=["L", "Nd"], include_characters="_")
others = st.characters(categories=["L", "Nd"], include_characters="_-.")
names = st.builds("".join, st.tuples(first, st.text(others, max_size=7)))


def is_number(term):
    try:
        float(term.name)
    except ValueError:
        return False
    return term.provider is None and term.variant is None and term.name[0].isdecimal()


terms = st.builds(Term, st.none() | names, names, st.none() | st.text(others, min_size=1, max_size=8)).filter(
    lambda term: not is_number(term)
)
factors = st.none() | st.floats(0, allow_infinity=False) | st.integers(0, 10**20).map(float)
summands = st.builds(Summand, factors, terms)
blanks = st.text(" \t\r\n", max_size=3)


def written(formula):
    return " + ".join(map(str, formula))


def error(text):
    with pytest.raises(SpecSyntaxError) as caught:
        parse(text)
    assert (caught.value.text, str(caught.value).count("\n")) == (text, 2 * bool(text))
    return caught.value.column, str(caught.value).splitlines()[0]


# What is read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vgg", Term(None, "vgg", None)),
        ("pix2pix:extended", Term(None, "pix2pix", "extended")),
        ("acme-vgg/vgg", Term("acme-vgg", "vgg", None)),
        ("acme-vgg/vgg:v1.2", Term("acme-vgg", "vgg", "v1.2")),
        ("größe_1", Term(None, "größe_1", None)),
        ("_x", Term(None, "_x", None)),
        ("vgg:-.", Term(None, "vgg", "-.")),
        ("3d-ssim", Term(None, "3d-ssim", None)),
        ("100l1", Term(None, "100l1", None)),
        ("1e-4-l1", Term(None, "1e-4-l1", None)),
        ("1.2.3", Term(None, "1.2.3", None)),
        ("1/2", Term("1", "2", None)),
        ("1:2", Term(None, "1", "2")),
        ("inf", Term(None, "inf", None)),
    ],
)
def test_reads_a_term(text, expected):
    assert parse(text) == (Summand(None, expected),)


@pytest.mark.parametrize(
    ("factor", "value"),
    [
        ("100", 100.0),
        ("007", 7.0),
        ("0.5", 0.5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e5", 1e5),
        ("1E-4", 1e-4),
        (".5e1", 5.0),
        ("5.e1", 50.0),
        ("1e16", 1e16),
        ("1e308", 1e308),
        ("5e-324", 5e-324),
        ("0", 0.0),
        ("0.0", 0.0),
        ("0e99999", 0.0),
        ("0.000e-999", 0.0),
        ("0." + "0" * 400 + "1e401", 1.0),
    ],
)
def test_reads_a_factor(factor, value):
    assert parse(f"{factor}*l1") == (Summand(value, Term(None, "l1", None)),)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gan:hinge+100*l1", "gan:hinge + 100*l1"),
        (" l1 +\tl2\r\n", "l1 + l2"),
        ("\n gan:hinge\n + 100 *\tl1\n + 1e-4\n*kl ", "gan:hinge + 100*l1 + 0.0001*kl"),
        ("2*3d-ssim+.5*acme/l1:a", "2*3d-ssim + 0.5*acme/l1:a"),
        ("l1 + l1", "l1 + l1"),
        ("gan1e+4*l1", "gan1e + 4*l1"),
        ("1e + 5*l1", "1e + 5*l1"),
        ("1e5x+l1", "1e5x + l1"),
    ],
)
def test_reads_summands_in_order_whatever_blanks_are_between_the_parts(text, expected):
    assert written(parse(text)) == expected


def test_a_term_has_its_column():
    assert [summand.term.column for summand in parse("a + 2 * bb/c:d+e")] == [0, 8, 15]


def test_the_column_is_not_compared():
    assert parse("a+b")[1] == parse("b")[0]


def test_a_formula_may_begin_anywhere_in_a_text():
    assert parse("basic + 10*vgg", 7) == parse("10*vgg")
    with pytest.raises(SpecSyntaxError) as caught:
        parse("basic + 10*", 7)
    assert (caught.value.column, caught.value.text) == (11, "basic + 10*")


# For all texts


@given(st.lists(summands, min_size=1, max_size=4), st.data())
def test_what_is_written_is_read_back(formula, data):
    assert list(parse(written(formula))) == formula
    spaced = "+".join(
        data.draw(blanks) + str(each).replace("*", f"{data.draw(blanks)}*{data.draw(blanks)}") + data.draw(blanks)
        for each in formula
    )
    # Without blanks `1e + 5*l1` would be a number with a sign in its exponent.
    assert list(parse(spaced.replace("e+", "e +").replace("E+", "E +"))) == formula


# What a paper, an editor or another language has in such places.
symbols = st.text("ab/:+ ._-\\\n*\xd7(") | st.text("l1e+-*. /:0x3_\n\u0663\xb2")


@given(st.text() | symbols)
def test_every_string_gives_summands_that_can_be_written_or_a_column(text):
    try:
        outcome = parse(text)
    except SpecSyntaxError as error:
        outcome = error
    if isinstance(outcome, SpecSyntaxError):
        assert 0 <= outcome.column <= len(text)
        assert outcome.text == text
    else:
        assert parse(written(outcome)) == outcome
        assert all(each.factor is None or 0.0 <= each.factor < float("inf") for each in outcome)


@pytest.mark.slow
def test_a_hundred_thousand_factors_are_read_back_exactly():
    draw = random.Random(0)
    drawn = [
        draw.choice((draw.uniform(0, 1e3), 10 ** draw.uniform(-323, 308), float(draw.randrange(10**17))))
        for _ in range(100_000)
    ]
    text = " + ".join(str(Summand(factor, Term(None, "l1", None))) for factor in drawn)
    assert [summand.factor for summand in parse(text)] == drawn


@pytest.mark.parametrize(
    "part", ["l1+", "1e+", "1", "1.", " ", "(", "2*", ".", "1e+1 ", "_", "a/", "a:", "٣"], ids=lambda part: repr(part)
)
@pytest.mark.slow
def test_the_time_grows_with_the_length_only(part):
    start = time.thread_time()
    with pytest.raises(SpecSyntaxError) as caught:
        parse(part * 50_000 + "!")
    assert len(str(caught.value)) < 500
    assert time.thread_time() - start < 10.0  # growing with the square it would be hours


# What is refused


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0),
        (" ", 1),
        ("+vgg", 0),
        ("vgg+", 4),
        ("vgg + ", 6),
        ("vgg++sobel", 4),
        ("vgg:", 4),
        ("acme/", 5),
        ("/vgg", 0),
        (":deep", 0),
        ("vgg:a:b", 5),
        ("a/b/c", 3),
        ("vgg:deep/er", 8),
        ("vgg: deep", 4),
        ("vgg sobel", 4),
        ("vgg,sobel", 3),
        ("C:\\specs", 2),
        ("100*", 4),
        ("100 * + vgg", 6),
        ("l1\x00", 2),
    ],
)
def test_the_column_is_that_of_the_first_wrong_character(text, column):
    assert error(text)[0] == column


@pytest.mark.parametrize(
    ("text", "column", "says"),
    [
        # Factors
        ("1e+5*l1", 2, 'An exponent has no "+": write 1e5.'),
        ("gan + 1E+5 * l1", 8, 'An exponent has no "+": write 1E5.'),
        ("2*1e+5*l1", 4, 'An exponent has no "+": write 1e5.'),
        ("1e+5", 2, 'An exponent has no "+": write 1e5.'),
        ("1e+5.0*l1", 2, "An exponent is a whole number."),
        ("100", 0, 'A number is no term; a factor is followed by "*" and its term: 100*l1.'),
        ("gan + 1e-4 + l1", 6, 'found "1e-4" at column 6. A number is no term'),
        (".5", 0, "A number is no term"),
        ("2*3", 2, "A number is no term"),
        ("1_000", 0, "A number is no term"),
        ("٣", 0, "A number is no term"),
        ("100 l1", 4, 'expected "*" after a factor, found "l"'),
        ("1_000*l1", 0, "Write 1000."),
        ("٣*l1", 0, "in the digits 0 to 9, such as 100, 0.5 or 1e-4. Write 3."),
        ("１００*l1", 0, "Write 100."),  # noqa: RUF001 # such digits are what it is about
        ("2²*l1", 0, "A factor is a decimal number in the digits 0 to 9"),
        ("0x10*l1", 0, "A factor is a decimal number"),
        ("1e*l1", 0, "A factor is a decimal number"),
        ("1/2*l1", 0, 'There is no "/" in a formula.'),
        ("1,5*l1", 1, 'A decimal point is written ".".'),
        ("inf*l1", 0, "expected a factor that is finite"),
        ("NaN*l1", 0, "expected a factor that is finite"),
        ("1e400*l1", 0, 'found "1e400" at column 0. It is larger than the largest float'),
        ("a + 1e-400*l1", 4, 'found "1e-400" at column 4. It is smaller than the smallest float above 0'),
        ("0.0001e-400*l1", 0, "It is smaller than the smallest float above 0"),
        ("l1*2", 2, "A factor is a number, and stands before its term: 2*l1."),
        ("gan:hinge * 0.5", 10, "stands before its term: 0.5*gan:hinge."),
        ("λ*l1", 1, "A factor is a number, and stands before its term"),
        ("*l1", 0, "A factor is a number, and stands before its term"),
        ("2*3*l1", 3, "A term has one factor; write the product of them."),
        ("2*l1*3", 4, "A term has one factor"),
        ("2**l1", 2, "A term has one factor"),
        # Signs
        ("-1*l1", 0, 'A name does not begin with "-", and a factor is not negative'),
        ("l1 + -2*l2", 5, "a factor is not negative; weights= takes weights below 0"),
        ("l1 - l2", 3, "There is no minus in a formula"),
        ("l1 -l2", 3, "There is no minus in a formula"),
        ("l1 − l2", 3, "There is no minus in a formula"),  # noqa: RUF001 # likewise
        ("−1*l1", 0, "There is no minus in a formula"),  # noqa: RUF001 # likewise
        ("+1*l1", 0, "A factor has no sign."),
        ("100*+l1", 4, 'expected the name of a spec after the factor, found "+"'),
        ("100×l1", 3, 'Write "*".'),  # noqa: RUF001 # likewise
        ("100 · l1", 4, 'Write "*".'),
        ("L = gan", 2, "Only the right-hand side of an equation is written."),
        ("gan, l1", 3, 'Terms are joined by "+".'),
        ("(l1 + l2)", 0, "There are no parentheses; give each term a factor of its own."),
        ("2*(l1 + l2)", 2, "There are no parentheses"),
        ("2(l1 + l2)", 1, "There are no parentheses"),
        ("l1(2)", 2, "There are no parentheses"),
        # Names
        ("-l1", 0, 'A name does not begin with "-"'),
        (".l1", 0, 'A name does not begin with ".".'),
        (".5l1", 0, 'A name does not begin with ".".'),
        ("2*.l1", 2, 'A name does not begin with ".".'),
        ("acme/-l1", 5, 'A name does not begin with "-".'),
        ("-acme/l1", 0, 'A name does not begin with "-"'),
        # Blanks
        ("l1\u00a0+ l2", 2, 'found "\\xa0" at column 2. No-break space is no blank here; write a space.'),
        ("l1 +\u00a0l2", 4, "No-break space is no blank here; write a space."),
        ("2\u00a0*l1", 1, "No-break space is no blank here; write a space."),
        ("\ufeffl1", 0, "Zero width no-break space is no blank here"),
        ("l1\u2028+ l2", 2, "is no blank here"),
        ("l1\x0b", 2, "is no blank here"),
        ("gan : hinge", 4, "A term is written without blanks."),
        ("gan: hinge", 4, "A name is written without blanks."),
        ("acme / l1", 5, "A term is written without blanks."),
    ],
)
def test_an_error_says_what_to_write(text, column, says):
    at, message = error(text)
    assert (at, says in message) == (column, True), message


def test_the_message_shows_the_text_with_a_caret():
    with pytest.raises(SpecSyntaxError) as caught:
        parse("pix2pix - vgg")
    assert str(caught.value).splitlines() == [
        'expected "+" or the end, found "-" at column 8. There is no minus in a formula, and a factor is not negative; '
        "weights= takes weights below 0.",
        "  pix2pix - vgg",
        "          ^",
    ]


def test_the_caret_points_at_the_column_in_an_excerpt_of_a_long_text():
    with pytest.raises(SpecSyntaxError) as caught:
        parse("a" * 500 + "!" + "b" * 500)
    _, shown, caret = str(caught.value).splitlines()
    assert len(shown) < 100
    assert shown[caret.index("^")] == "!"


def test_the_message_escapes_control_characters():
    with pytest.raises(SpecSyntaxError) as caught:
        parse("a\x1b[31m\nb")
    _, shown, caret = str(caught.value).splitlines()
    assert shown == "  a\\x1b[31m\\nb"
    assert caret == "   ^"


@pytest.mark.parametrize("path", ["specs/mine/vgg", "C:\\specs", "~/vgg"])
def test_the_error_for_a_file_name_says_that_files_are_not_read(path):
    with pytest.raises(SpecSyntaxError, match="a file is given as a pathlib.Path"):
        parse(path)


def test_a_lone_surrogate_is_shown_escaped():
    assert printable("\ud800") == "\\ud800"
