"""Previews of a schedule: its values as arrays, its picture, and the command that draws it."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nectargan_core import Schedule, Scheduler, catalog, plot, preview
from nectargan_core.catalog._first_party import FIRST_PARTY
from nectargan_core.cli import main
from nectargan_core.errors import NectarganError, UnknownScheduleError

ROOT = Path(__file__).parent.parent
DECAY = Schedule("linear", start=2, end=6, initial_value=8.0, target_value=0.0)
PNG = b"\x89PNG"


@pytest.fixture
def nectargan(tmp_path, monkeypatch):
    """Return a function that runs the command line program in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def plotted(monkeypatch):
    """Return the list of arguments that `plot` is called with, instead of drawing."""
    seen = []
    monkeypatch.setattr("nectargan_core.schedules.plot", lambda *arguments: seen.append(arguments))
    return seen


# As arrays


def test_a_number_of_epochs_gives_the_epochs_from_0():
    epochs, values = preview(DECAY, 8)
    assert epochs.tolist() == list(range(8))
    assert values.tolist() == [8.0, 8.0, 8.0, 6.0, 4.0, 2.0, 0.0, 0.0]
    assert epochs.dtype == values.dtype == np.float64


@pytest.mark.parametrize("kind", [list, np.array])
def test_epochs_may_be_given_fractions_included(kind):
    epochs, values = preview(DECAY, kind([2.5, 0.0, 5.75]))
    assert epochs.tolist() == [2.5, 0.0, 5.75]
    assert values.tolist() == [7.0, 8.0, 0.5]


def test_a_run_of_no_epochs_has_no_values():
    assert [column.tolist() for column in preview(DECAY, 0)] == [[], []]


def test_an_end_that_is_left_out_is_one():
    assert preview(Schedule(end=2, target_value=0.0), 3)[1].tolist() == [1.0, 0.5, 0.0]


def test_a_schedule_by_step_is_evaluated_at_steps():
    assert preview(Schedule(unit="step", end=2, target_value=0.0), 3)[1].tolist() == [1.0, 0.5, 0.0]


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(UnknownScheduleError):
        preview(Schedule("no-such-curve"), 3)


# As a picture


def test_the_suffix_of_the_file_chooses_the_format(tmp_path):
    plot(DECAY, 8, tmp_path / "decay.png")
    plot(DECAY, 8, tmp_path / "decay.svg")
    assert (tmp_path / "decay.png").read_bytes().startswith(PNG)
    assert "<svg" in (tmp_path / "decay.svg").read_text()


@pytest.mark.parametrize(("unit", "points"), [("epoch", 1001), ("step", 9)])
def test_epochs_are_drawn_with_their_fractions_and_steps_without(tmp_path, monkeypatch, unit, points):
    asked = []
    monkeypatch.setattr(Scheduler, "value", lambda self, at: asked.append(at) or 1.0)
    plot(Schedule(unit=unit, end=6, target_value=0.0), 8, tmp_path / "decay.png")
    drawn = asked[1:]
    assert len(drawn) == points
    assert (drawn[0], drawn[-1]) == (0, 8)


def test_a_long_run_is_drawn_from_a_bounded_number_of_points(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Scheduler, "value", lambda self, at: asked.append(at) or 1.0)
    plot(Schedule(unit="step", end=10), 10_000_000, tmp_path / "long.png")
    assert len(asked) < 25_000
    assert all(at == int(at) for at in asked)


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NectarganError, match=r"pip install 'nectargan-core\[cli\]'"):
        plot(DECAY, 8, tmp_path / "decay.png")


@pytest.mark.slow
def test_previewing_needs_no_matplotlib():
    code = (
        "import sys; from nectargan_core import *; preview(Schedule(end=2), 3); assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


# By command


def test_the_command_draws_and_prints_the_path(nectargan):
    result = nectargan("schedules", "plot", "linear", "--start", 2, "--end", 6, "--target", 0, "--out", "here.png")
    assert (result.exit_code, result.output) == (0, "here.png\n")
    assert Path("here.png").read_bytes().startswith(PNG)


def test_the_picture_has_the_name_of_the_schedule(nectargan):
    assert nectargan("schedules", "plot", "linear", "--end", 9).output == "linear.png\n"
    assert nectargan("schedules", "plot", "nectargan-core/linear", "--end", 9).output == "nectargan-core-linear.png\n"
    assert Path("nectargan-core-linear.png").exists()


def test_a_curve_that_needs_an_end_is_an_error_of_the_command_without_one(nectargan):
    result = nectargan("schedules", "plot", "exponential", "--start", 5)
    assert result.exit_code == 1
    assert "set end_epoch" in result.output


@pytest.mark.parametrize(("start", "epochs"), [(0, 100), (400, 500)])
def test_a_curve_without_an_end_is_drawn_beyond_its_start(nectargan, plotted, start, epochs):
    nectargan("schedules", "plot", "window", "--start", start)
    assert [each[1] for each in plotted] == [epochs]


def test_a_curve_without_an_end_is_drawn(tmp_path):
    plot(Schedule(lambda schedule, epoch: epoch, start=3), 10, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(PNG)


def test_the_options_are_the_definition(nectargan, plotted):
    nectargan(
        *("schedules", "plot", "exponential", "--unit", "step", "--start", 100, "--end", 200.5),
        *("--initial", 10, "--target", 0, "--param", "epsilon=0.5", "--epochs", 300, "--out", "x.svg"),
    )
    values = {"initial_value": 10.0, "target_value": 0.0, "params": {"epsilon": 0.5}}
    expected = Schedule("exponential", unit="step", start=100, end=200.5, **values)
    assert plotted == [(expected, 300, Path("x.svg"))]


def test_options_that_are_not_given_are_left_out(nectargan, plotted):
    nectargan("schedules", "plot", "linear")
    assert plotted == [(Schedule(), 100, Path("linear.png"))]


def test_it_is_drawn_a_quarter_beyond_its_end(nectargan, plotted):
    nectargan("schedules", "plot", "linear", "--end", 201)
    assert plotted[0][1] == 252


def test_parameters_are_json_or_else_text(nectargan, plotted):
    given = {"a": [30, 80], "b": "fast", "c": "x=y", "d": True, "e": {"schedule": "linear", "end": 3}}
    texts = ["a=[30, 80]", "b=fast", "c=x=y", "d=true", f"e={json.dumps(given['e'])}"]
    nectargan("schedules", "plot", "linear", *(part for text in texts for part in ("--param", text)))
    assert plotted[0][0].params == given | {"e": Schedule("linear", end=3)}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["lineaer"], 1, 'Did you mean "linear"'),
        (["linear", "--param", "speed=2"], 1, "schedule 'linear': got an unexpected keyword argument 'speed'"),
        (["linear", "--param", "speed"], 2, "--param takes NAME=VALUE, got 'speed'"),
        (["linear", "--start", "9", "--end", "3"], 2, "start_epoch (9) is after end_epoch (3)"),
        (["linear", "--initial", "nan"], 2, "initial_value: Input should be a finite number"),
        (["linear", "--unit", "batch"], 2, "'batch' is not one of"),
        (["linear", "--epochs", "0"], 2, "0 is not in the range"),
        (["linear", "--out", "x.txt2"], 1, "cannot write x.txt2: Format 'txt2' is not supported"),
        (["linear", "--out", "nowhere/x.png"], 1, "cannot write nowhere/x.png: "),
    ],
)
def test_an_error_of_the_command_is_shown_without_a_traceback(nectargan, arguments, code, said):
    result = nectargan("schedules", "plot", *arguments)
    assert result.exit_code == code
    assert said in result.output
    assert "Traceback" not in result.output


# The gallery


@pytest.mark.slow
def test_the_gallery_shows_every_curve_that_comes_with_the_project(tmp_path):
    gallery = runpy.run_path(str(ROOT / "docs" / "make_gallery.py"))
    gallery["draw_curves"].__globals__["GALLERY"] = tmp_path
    gallery["draw_curves"]()
    page = (tmp_path / "index.md").read_text()
    for name in (*FIRST_PARTY[catalog.SCHEDULES], "linear", "exponential"):
        assert f"\n## {name}\n" in page
        assert f"![{name}]({name}.png)" in page
        assert (tmp_path / f"{name}.png").read_bytes().startswith(PNG)


@pytest.mark.slow
def test_each_definition_in_the_gallery_can_be_read(tmp_path):
    gallery = runpy.run_path(str(ROOT / "docs" / "make_gallery.py"))
    for schedule, _ in gallery["SHOWN"]:
        assert Schedule.model_validate_json(schedule.model_dump_json(exclude_defaults=True)) == schedule
