"""The picture of a log: which axes and lines it has, that peaks and gaps are in it, and that any name can be shown."""

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from logs import log_of, records

from nectargan_core import LossLog
from nectargan_core.errors import LossLogError, NectarganError, UnknownLossError
from nectargan_core.log import draw_runs, save_figure

FigureCanvasAgg = pytest.importorskip("matplotlib.backends.backend_agg").FigureCanvasAgg
BENCH = Path(__file__).parent / "bench"
PNG = b"\x89PNG"


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def legend(axes):
    return [] if axes.get_legend() is None else [text.get_text() for text in axes.get_legend().get_texts()]


def rendered(figure):
    """Draw a figure, where warnings are errors, and return its pixels from 0 (black) to 1."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3] / 255


@pytest.fixture
def log(tmp_path):
    chunks = [
        records("G_GAN", [1, 2, 3]),
        records("G_L1", [30, 20, 10], weights=[3, 2, 1]),
        records("val/G_L1", [25], steps=[2], weights=1.0),
        records("psnr", [20.0, 21.0]),
    ]
    return log_of(tmp_path / "facades", *chunks, tags={"G_GAN": ["G"], "G_L1": ["G"]}, experiment="facades")


# What there is


def test_there_are_axes_for_each_tag_the_weights_and_each_scalar(log):
    figure = log.plot()
    assert titles(figure) == ["G", "weights", "psnr"]
    assert legend(figure.axes[0]) == ["sum of G", "G_GAN", "G_L1", "val/G_L1"]
    assert figure.get_suptitle() == "facades"


def test_a_loss_has_the_same_colour_everywhere_and_a_split_another_style(log):
    figure = log.plot()
    lines = dict(zip(legend(figure.axes[0]), figure.axes[0].get_legend().get_lines(), strict=True))
    weights = figure.axes[1].get_lines()[0]
    assert lines["G_L1"].get_color() == lines["val/G_L1"].get_color() == weights.get_color()
    assert lines["G_L1"].get_linestyle() != lines["val/G_L1"].get_linestyle()


def test_a_query_chooses_what_is_drawn(log):
    assert titles(log.plot("psnr")) == ["psnr"]
    with pytest.raises(UnknownLossError, match='Did you mean "psnr"'):
        log.plot("psnt")


@pytest.mark.parametrize(("by", "last"), [("step", 2), ("epoch", 2 / 3)])
def test_it_is_drawn_over_steps_or_epochs(log, by, last):
    axes = log.plot("G_GAN", by=by).axes[0]
    assert axes.get_xlabel() == by
    assert axes.get_lines()[0].get_xdata()[-1] == pytest.approx(last)


def test_several_runs_have_axes_for_each_loss_and_a_colour_each(tmp_path):
    tags = {"G_GAN": ["G"], "G_L1": ["G"]}
    runs = {
        name: log_of(tmp_path / name, records("G_GAN", [1, 2]), records("G_L1", [factor, 3]), tags=tags)
        for factor, name in enumerate(("one", "two"))
    }
    figure, _ = draw_runs(runs)
    assert titles(figure) == ["sum of G", "G_GAN", "G_L1"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "two"]
    assert [line.get_ydata().tolist() for line in figure.axes[2].get_lines()] == [[0, 3], [1, 3]]
    assert len({line.get_color() for line in figure.axes[2].get_lines()}) == 2


def test_all_axes_show_the_same_part_of_the_run(log):
    assert len({axes.get_xlim() for axes in log.plot().axes}) == 1


def test_a_log_without_records_is_an_error(tmp_path):
    with pytest.raises(LossLogError, match="there are no records to draw yet in 'new'"):
        log_of(tmp_path, experiment="new").plot()


# In notebooks and files


def test_a_notebook_shows_the_figure(log):
    assert log.plot()._repr_png_().startswith(PNG)


@pytest.mark.slow
def test_pyplot_has_no_part_in_it(log, tmp_path):
    code = "import sys; from nectargan_core import LossLog; LossLog(sys.argv[1]).plot()._repr_png_()"
    code += "; assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "facades"], check=True)


def test_the_suffix_of_the_file_chooses_the_format(log, tmp_path):
    for name, begin in {"a.png": PNG, "a.svg": b"<?xml"}.items():
        save_figure(log.plot(), tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(begin)


def test_without_matplotlib_the_extra_is_named(log, monkeypatch):
    monkeypatch.delitem(sys.modules, "nectargan_core.log._plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NectarganError, match=r"pip install 'nectargan-core\[cli\]'"):
        log.plot()


# Whatever the values and names


VALUES = {
    "nan": np.full(50, np.nan),
    "infinite": np.full(50, -np.inf),
    "inf among others": np.where(np.arange(50) == 20, np.inf, 1.0),
    "every other nan": np.where(np.arange(50) % 2, np.nan, 1.0),
    "zeros": np.zeros(50),
    "constant": np.full(50, 0.1),
    "rounding errors": 0.1 + 1e-17 * np.arange(50),
    "one": np.array([0.5]),
    "one nan": np.array([np.nan]),
    "huge": np.geomspace(1, 1.7e308, 50),
    "huge of both signs": np.array([-1.7e308, 1.7e308] * 20),
    "tiny": np.full(50, 5e-324),
    "tiny and huge": np.array([5e-324, 1.7e308] * 20),
    "negative": -np.geomspace(1, 1e6, 50),
}


@pytest.mark.slow
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_any_values_are_drawn(tmp_path, values):
    log = log_of(tmp_path, records("G_L1", values, weights=np.linspace(0, 1, len(values))), tags={"G_L1": ["G"]})
    rendered(log.plot())


NAMES = ["$x_1$", "$", "_hidden", "<script>", "größe", "损失", "a\nb\x1b[31m", "n" * 500, "%s {0} \\frac"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_shown_as_it_is(tmp_path, name):
    log = log_of(tmp_path, records(name, [1, 2]), records("b", [2, 3]), tags={name: ["G"], "b": ["G"]}, experiment=name)
    figure = log.plot()
    rendered(figure)
    shown = legend(figure.axes[0])[1]
    assert shown == name or (not name.isprintable() or len(name) > 30 or name == "损失")
    assert shown.isprintable()
    assert len(shown) <= 30


def test_what_is_not_finite_is_a_gap_that_is_marked_and_counted(tmp_path):
    log = log_of(tmp_path, records("a", [1, np.nan, 3, np.inf, 5, 6]), tags={"a": ["G"]})
    axes = log.plot().axes[0]
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), [1, np.nan, 3, np.nan, 5, 6])
    (marks,) = [line for line in axes.get_lines() if line.get_marker() == "|"]
    assert marks.get_xdata().tolist() == [1, 3]
    assert axes.get_title(loc="right") == "nan or infinite: a 2"


def test_what_is_too_large_for_an_axis_is_counted(tmp_path):
    log = log_of(tmp_path, records("a", [1, 1e300, 3, -1e200]), records("b", [1, np.nan, 1e150, 1]), tags={"a": ["G"]})
    first, second = log.plot().axes
    assert first.get_title(loc="right") == "drawn at 1e+150, but larger: a 2"
    assert second.get_title(loc="right") == "nan or infinite: b 1"


def test_what_is_not_drawn_is_said_below_a_long_title(tmp_path):
    name = "G_" + "a_long_name_" * 5
    runs = [log_of(tmp_path / run, records(name, [1, np.nan, 3]), tags={name: ["G"]}) for run in ("a", "b")]
    figure, _ = draw_runs(dict(zip("ab", runs, strict=True)))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    title, note = axes._left_title, axes._right_title
    assert note.get_text() == "nan or infinite: a 1, b 1"
    assert title.get_window_extent().x1 < axes.get_window_extent().x1
    line = title.get_window_extent().height / 2
    assert note.get_window_extent().y1 < title.get_window_extent().y1 - 0.8 * line


def test_a_record_between_two_gaps_is_a_dot(tmp_path):
    values = np.full(200, np.nan)
    values[100] = 2.0
    axes = log_of(tmp_path, records("a", values), tags={"a": ["G"]}).plot().axes[0]
    (dots,) = [line for line in axes.get_lines() if line.get_marker() == "."]
    assert (dots.get_xdata().tolist(), dots.get_ydata().tolist()) == ([100], [2.0])


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 5, 30, 100])
def test_any_number_of_losses_is_drawn_with_a_legend_that_does_not_overlap(tmp_path, count):
    names = [f"loss{number}" for number in range(count)]
    log = log_of(tmp_path, *[records(name, np.arange(1, 101)) for name in names], tags={name: ["G"] for name in names})
    figure = log.plot()
    rendered(figure)
    axes = figure.axes[0]
    box = axes.get_legend().get_window_extent()
    assert box.x0 >= axes.get_window_extent().x1
    assert box.y0 >= 0
    assert len(legend(axes)) == {1: 1, 5: 6, 30: 31, 100: 36}[count]
    if count == 100:
        assert legend(axes)[-1] == "and 66 more"


def test_a_logarithmic_axis_shows_zeros_at_its_bottom(tmp_path):
    log = log_of(tmp_path, records("a", [1e6, 1000, 1, 0]), tags={"a": ["G"]})
    axes = log.plot().axes[0]
    assert axes.get_yscale() == "log"
    assert 0 < axes.get_ylim()[0] < 1
    rendered(log.plot())


# Peaks


def test_a_peak_of_one_step_is_in_the_pixels(tmp_path):
    values = np.random.default_rng(0).random(100_000) + 0.5
    values[43_210] = 50.0
    figure = log_of(tmp_path, records("a", values), tags={"a": ["G"]}).plot()
    assert_peak_is_drawn(figure, 43_210, 50.0)


def assert_peak_is_drawn(figure, step, height):
    axes = figure.axes[0]
    line = axes.get_lines()[0]
    assert line.get_ydata()[line.get_xdata() == step].tolist() == [height]
    pixels = rendered(figure)
    x, y = axes.transData.transform((step, height))
    column, row = round(x), pixels.shape[0] - round(y)
    # At the peak, and halfway down to the others, where nothing else is drawn.
    halfway = pixels.shape[0] - round(axes.transData.transform((step, height / 2))[1])
    for at in (row + 2, halfway):
        around = pixels[at, column - 3 : column + 4].mean(axis=1)
        assert around.min() < 0.93, (at, around)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ten_million_records_are_drawn_with_their_peak_in_half_a_minute_and_two_gigabytes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(BENCH)
    looking = runpy.run_path(str(BENCH / "looking.py"))
    run = looking["write"](tmp_path / "run", losses=4)
    out = tmp_path / "curves.png"
    program = [sys.executable, "-m", "nectargan_core", "log", "plot", str(run), "-o", str(out)]
    seconds, megabytes = looking["run_measured"](program)
    # On a machine that does other things, too, the time is no more than a hint.
    assert seconds < 120
    assert megabytes < 2000
    assert out.read_bytes().startswith(PNG)
    step = int(looking["PEAK"] * looking["RECORDS"] / 4)
    figure = LossLog(run).plot("loss2")
    assert_peak_is_drawn(figure, step, looking["HEIGHT"])
