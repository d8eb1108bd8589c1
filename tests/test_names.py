"""The grammar of objectives: the terms that it reads, and the errors for text that it cannot read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core._names import Term
from nectargan_core._printable import printable
from nectargan_core.errors import SpecSyntaxError
from nectargan_core.objectives._grammar import parse

words = st.text(st.characters(categories=["L", "Nd"], include_characters="_-."), min_size=1, max_size=8)
terms = st.builds(Term, st.none() | words, words, st.none() | words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vgg", [Term(None, "vgg", None)]),
        ("pix2pix:extended", [Term(None, "pix2pix", "extended")]),
        ("acme-vgg/vgg", [Term("acme-vgg", "vgg", None)]),
        ("acme-vgg/vgg:v1.2", [Term("acme-vgg", "vgg", "v1.2")]),
        ("pix2pix:extended+vgg", [Term(None, "pix2pix", "extended"), Term(None, "vgg", None)]),
        ("vgg+vgg", [Term(None, "vgg", None), Term(None, "vgg", None)]),
        ("größe_1", [Term(None, "größe_1", None)]),
        ("..", [Term(None, "..", None)]),
    ],
)
def test_reads_the_terms_in_order(text, expected):
    assert list(parse(text)) == expected


def test_a_term_has_its_column():
    assert [term.column for term in parse("a+bb/c:d+e")] == [0, 2, 9]


def test_the_column_is_not_compared():
    assert parse("a+b")[1] == parse("b")[0]


@given(st.lists(terms, min_size=1, max_size=4))
def test_what_was_written_is_read_back(written):
    assert list(parse("+".join(map(str, written)))) == written


@given(st.text() | st.text("ab/:+ ._-\\\n"))
def test_every_string_gives_terms_or_a_column(text):
    try:
        outcome = parse(text)
    except SpecSyntaxError as error:
        outcome = error
    if isinstance(outcome, SpecSyntaxError):
        assert 0 <= outcome.column <= len(text)
        assert outcome.text == text
    else:
        assert "+".join(map(str, outcome)) == text


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("", 0),
        ("+vgg", 0),
        ("vgg+", 4),
        ("vgg++sobel", 4),
        ("vgg:", 4),
        ("acme/", 5),
        ("/vgg", 0),
        (":deep", 0),
        ("vgg:a:b", 5),
        ("a/b/c", 3),
        ("vgg:deep/er", 8),
        ("pix2pix +vgg", 7),
        ("pix2pix+ vgg", 8),
        ("vgg\n", 3),
        ("vgg,sobel", 3),
        ("C:\\specs", 2),
    ],
)
def test_the_column_is_that_of_the_first_wrong_character(text, column):
    with pytest.raises(SpecSyntaxError) as caught:
        parse(text)
    assert caught.value.column == column


def test_the_message_shows_the_text_with_a_caret():
    with pytest.raises(SpecSyntaxError) as caught:
        parse("pix2pix + vgg")
    assert str(caught.value).splitlines() == [
        'expected "+" or the end, found " " at column 7. Names are written without blanks.',
        "  pix2pix + vgg",
        "         ^",
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
    with pytest.raises(SpecSyntaxError, match="objectives are not read from files"):
        parse(path)


def test_a_lone_surrogate_is_shown_escaped():
    assert printable("\ud800") == "\\ud800"
