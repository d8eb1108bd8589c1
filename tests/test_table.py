"""Tables of the command line program: how wide they are, where they are wrapped, and what they do to strange text."""

import contextlib
import importlib.util
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core.cli._table import print_note, print_table

PROSE = "The losses of an image that is compared with another, at several scales, with a weight for each of them."


class Terminal:
    """A standard output that says it is a terminal."""

    encoding = "utf-8"

    def __init__(self, is_terminal=True):
        self.is_terminal = is_terminal
        self.text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass

    def isatty(self):
        return self.is_terminal

    def show(self, rows, note=""):
        with contextlib.redirect_stdout(self):
            print_table([f"heading{index}" for index in range(len(rows[0]))], rows)
            print_note(note)

    def widest(self):
        return max(map(len, self.text.splitlines()))


@pytest.fixture
def terminal(monkeypatch):
    """A terminal of 80 columns without colours."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


def printed(capsys, headings, rows):
    print_table(headings, rows)
    return capsys.readouterr().out.splitlines()


def test_columns_are_aligned_under_headings_in_upper_case(capsys):
    assert printed(capsys, ["name", "kind"], [["l1", "loss"], ["cosine", ""]]) == [
        "NAME    KIND",
        "l1      loss",
        "cosine  -",
    ]


def test_prose_is_wrapped_before_a_name_of_several_words(capsys):
    lines = printed(capsys, ["from", "about"], [["acme-losses 1.4", PROSE]])
    assert max(map(len, lines)) <= 100
    assert lines[1].startswith("acme-losses 1.4  The losses")
    assert " ".join(" ".join(lines[1:]).split()) == f"acme-losses 1.4 {PROSE}"


def test_rows_whose_words_do_not_fit_side_by_side_are_printed_as_blocks(capsys):
    name, target = "n" * 60, "t" * 60
    lines = printed(capsys, ["name", "target"], [[name, target], ["short", PROSE]])
    assert lines[:3] == [f"NAME    {name}", f"TARGET  {target}", ""]
    assert lines[3] == "NAME    short"
    assert max(map(len, lines)) <= 100


def test_a_word_wider_than_the_table_stays_whole(capsys):
    assert any("n" * 130 in line for line in printed(capsys, ["name", "about"], [["n" * 130, PROSE]]))


def test_lines_of_a_cell_stay_lines(capsys):
    assert printed(capsys, ["name", "about"], [["l1", "one\ntwo"]])[1:] == ["l1    one", "      two"]


def test_letters_that_take_two_columns_are_counted_so(capsys):
    assert printed(capsys, ["name", "kind"], [["日本", "loss"], ["abcd", "loss"]])[1:] == ["日本  loss", "abcd  loss"]


def test_control_characters_are_printed_as_escapes(capsys):
    assert printed(capsys, ["name"], [["a\x1b[31m\r\u202e"]])[1] == "a\\x1b[31m\\r\\u202e"


def test_a_row_with_a_cell_too_few_is_refused():
    with pytest.raises(ValueError, match="shorter"):
        print_table(["name", "kind"], [["l1"]])


@pytest.mark.parametrize("rich", [True, False])
def test_a_terminal_gets_no_more_columns_than_it_has(terminal, monkeypatch, rich):
    if rich:
        pytest.importorskip("rich")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    terminal.show([["sobel", PROSE], ["größe [red]", PROSE]], note=PROSE)
    assert 70 < terminal.widest() <= 80
    assert "größe [red]  The losses" in terminal.text


def test_a_wide_terminal_gets_a_hundred_columns(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    terminal.show([["sobel", PROSE]], note=PROSE * 2)
    assert 90 < terminal.widest() <= 100


def test_letters_that_the_encoding_lacks_are_printed_as_escapes(terminal):
    terminal.encoding = "ascii"
    terminal.show([["größe"]], note="größe")
    assert [line.rstrip() for line in terminal.text.splitlines()] == ["HEADING0", "gr\\xf6\\xdfe", "gr\\xf6\\xdfe"]


@given(st.lists(st.tuples(*[st.text("ab -", max_size=120)] * 3), min_size=1, max_size=4))
def test_no_line_is_too_wide_and_no_word_is_lost(rows):
    pipe = Terminal(is_terminal=False)
    pipe.show(rows)
    words = {word for row in rows for cell in row for word in cell.split()}
    longest = max(map(len, words), default=0)
    assert pipe.widest() <= max(100, longest + len("heading0  "))
    assert words <= set(pipe.text.split())


def test_a_pipe_gets_a_hundred_columns_whatever_the_terminal_has(capsys, monkeypatch):
    monkeypatch.setitem(os.environ, "COLUMNS", "40")
    assert 90 < max(map(len, printed(capsys, ["name", "about"], [["sobel", PROSE]]))) <= 100
