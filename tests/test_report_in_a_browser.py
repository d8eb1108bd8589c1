"""A report in a headless Chromium: it opens without a network, and what one clicks does what it says."""

import math

import numpy as np
import pytest
import torch
from browser import Browser, Page, executable
from test_compare import logged
from test_report import picture

from nectargan_core import LossManager, write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(executable() is None, reason="there is no Chromium on the path"),
]

SIZES = {"wide": 1300, "phone": 400}
LONG = "N" * 60
TURNING = "T\n\u202eurning"
HOSTILE = "<script>alert(1)<!--"

# What each chart shows: [[name of the curve, whether it is seen], ...].
SEEN = """Array.from(document.querySelectorAll('.plot')).map(plot =>
    plot.data.map(trace => [trace.name, trace.visible !== 'legendonly']))"""
RANGES = "Array.from(document.querySelectorAll('.plot')).map(plot => plot.layout.xaxis.range)"
LEGEND = ".plot[data-chart='0'] .legendtoggle"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def of_run(directory, scale):
    rng = np.random.default_rng(0)

    def rows(gap=False):
        values = scale * np.exp(-np.arange(300) / 100) * (1 + 0.1 * rng.standard_normal(300))
        return [(s, s // 100, math.nan if gap and 100 <= s < 150 else v) for s, v in enumerate(values.tolist())]

    series = {"G_L1": rows(), "G_GAN": rows(gap=True), HOSTILE: rows(), "val/psnr": [(99, 0, 20.0), (199, 1, 22.0)]}
    tags = {name: ["G"] for name in ("G_L1", "G_GAN", HOSTILE)}
    logged(directory, series, tags=tags, metadata={"a_long_key": "x" * 200, "scale": scale})
    for number in range(3):
        picture(directory / "grids" / f"epoch_{number}.png", size=(900 + number, 300))
    return directory


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The address of the report of one run."""
    directory = of_run(tmp_path_factory.mktemp("one") / "a", 1.0)
    write_report(directory, directory / "report.html")
    return (directory / "report.html").as_uri()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """The address of the report of two runs."""
    directory = tmp_path_factory.mktemp("two")
    runs = [of_run(directory / name, scale) for name, scale in (("a", 1.0), ("b", 50.0))]
    write_report(runs, directory / "report.html")
    return (directory / "report.html").as_uri()


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """The address of the report of two runs with long names, and of names that would turn the direction of a line."""
    directory = tmp_path_factory.mktemp("long")
    runs = []
    for name in ("a", "R" * 60):
        with LossManager(experiment_dir=directory / name, nonfinite="ignore") as manager:
            for loss in (LONG, LONG.lower(), TURNING):
                manager.register_loss_fn(loss, torch.nn.L1Loss(), tags=[loss])
            manager.tick()
            manager.compute_losses({"y_fake": torch.tensor([math.nan]), "y": torch.zeros(1)})
            manager.record(f"p_{TURNING}", 1.0)
        runs.append(directory / name)
    write_report(runs, directory / "report.html")
    write_report(runs[0], directory / "one.html")
    return [(directory / name).as_uri() for name in ("report.html", "one.html")]


@pytest.fixture(params=SIZES)
def width(request):
    return SIZES[request.param]


def opened(browser, address, width):
    page = Page(browser, address, width)
    page.wait("document.querySelectorAll('.plot .legend').length === document.querySelectorAll('.plot').length")
    browser.pump(0.3)
    return page


@pytest.mark.parametrize("report", ["one", "two"])
def test_it_asks_for_nothing_says_no_error_and_fits_the_screen(browser, request, report, width):
    address = request.getfixturevalue(report)
    page = opened(browser, address, width)
    assert page.requests() == [address]
    assert page.complaints() == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = """Array.from(document.querySelectorAll('.plot, figure, img, h1, h2, p')).filter(
        each => each.getBoundingClientRect().right > innerWidth + 1).length"""
    assert page.evaluate(outside) == 0


def test_curves_are_drawn_and_a_gap_is_one(browser, one, width):
    page = opened(browser, one, width)
    assert page.evaluate("document.querySelectorAll('.plot').length") == 2
    lines = """Array.from(document.querySelectorAll(".plot[data-chart='0'] .scatterlayer .trace")).map(
        trace => trace.querySelectorAll('.js-line').length)"""
    # The sum, G_L1, G_GAN and the last loss, each with its records and its smoothed line.
    assert page.evaluate(lines) == [2, 2, 1, 1, 2, 2, 1, 1]


def test_names_are_shown_as_they_are(browser, one, width):
    page = opened(browser, one, width)
    legend = "Array.from(document.querySelectorAll(\".plot[data-chart='0'] .legendtext\")).map(e => e.textContent)"
    assert page.evaluate(legend) == ["sum of G", "G_L1", "G_GAN", HOSTILE]
    assert page.evaluate("document.querySelectorAll('script').length") == 3


def test_what_stands_in_a_cell_stays_in_it(browser, long, width):
    beyond = """Array.from(document.querySelectorAll('td, th')).filter(cell => {
        const range = document.createRange();
        range.selectNodeContents(cell);
        return range.getBoundingClientRect().right > cell.getBoundingClientRect().right + 1;
    }).map(cell => cell.textContent)"""
    for address in long:
        page = opened(browser, address, width)
        assert page.evaluate(beyond) == []
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_legend_stays_in_its_chart(browser, long, width):
    beyond = """Array.from(document.querySelectorAll('.legendtext')).filter(
        text => text.getBoundingClientRect().right > text.closest('.plot').getBoundingClientRect().right + 1).length"""
    for address in long:
        assert opened(browser, address, width).evaluate(beyond) == 0


def test_a_legend_escapes_what_tables_escape(browser, long):
    page = opened(browser, long[1], SIZES["wide"])
    legends = page.evaluate("Array.from(document.querySelectorAll('.legendtext')).map(text => text.textContent)")
    assert r"T\n\u202eurning" in legends
    assert not set("\n\u202e") & set("".join(legends))


def test_a_chart_of_nothing_finite_says_so(browser, long, width):
    page = opened(browser, long[1], width)
    said = """Array.from(document.querySelectorAll('.plot')).map(
        plot => Array.from(plot.querySelectorAll('.annotation-text')).map(text => text.textContent).join())"""
    assert page.evaluate(said) == ["no finite values", "no finite values", "no finite values", ""]


def test_a_click_in_the_legend_hides_a_curve_and_shows_it_again(browser, one, width):
    page = opened(browser, one, width)
    assert all(seen for _, seen in page.evaluate(SEEN)[0])
    page.click(LEGEND, 1)
    page.wait(f"({SEEN})[0].some(trace => !trace[1])")
    hidden = [name for name, seen in page.evaluate(SEEN)[0] if not seen]
    assert hidden == ["G_L1", "G_L1"]  # the records and the smoothed line
    browser.pump(0.6)  # not a double click
    page.click(LEGEND, 1)
    page.wait(f"({SEEN})[0].every(trace => trace[1])")


def test_of_several_runs_a_click_hides_a_run_in_all_charts(browser, two, width):
    page = opened(browser, two, width)
    page.click(LEGEND, 1)
    page.wait(f"({SEEN}).every(chart => chart.some(trace => !trace[1]))")
    browser.pump(0.6)
    for chart in page.evaluate(SEEN):
        assert {(name.partition(" ")[0], seen) for name, seen in chart} == {("a", True), ("b", False)}
    page.click(LEGEND, 1)
    page.wait(f"({SEEN}).every(chart => chart.every(trace => trace[1]))")


def test_what_is_zoomed_in_one_chart_is_zoomed_in_all(browser, one, width):
    page = opened(browser, one, width)
    before = page.evaluate(RANGES)
    x, y, across, _ = page.place(".plot[data-chart='0'] .nsewdrag")
    page.drag((x - across / 4, y), (x + across / 4, y))
    page.wait(f"JSON.stringify({RANGES}) !== {str(before).replace(' ', '')!r}")
    browser.pump(0.5)
    first, second = page.evaluate(RANGES)
    low, high = before[0]
    assert first == pytest.approx([low + (high - low) / 4, high - (high - low) / 4], rel=0.05)
    assert second == first
    page.evaluate("new Promise(done => setTimeout(done, 500))")
    for _ in range(2):
        page.click(".plot[data-chart='1'] .modebar-btn[data-attr='zoom']", 1)  # out
        browser.pump(0.5)
    first, second = page.evaluate(RANGES)
    assert second == pytest.approx(first)
    assert first[1] - first[0] > high - low
    page.click(".plot[data-chart='1'] .modebar-btn[data-attr='zoom'][data-val='reset']")
    page.wait(f"JSON.stringify({RANGES}) === {str(before).replace(' ', '')!r}")


def test_a_double_click_zooms_out_again(browser, one, width):
    page = opened(browser, one, width)
    before = page.evaluate(RANGES)
    x, y, across, _ = page.place(".plot[data-chart='0'] .nsewdrag")
    page.drag((x - across / 4, y), (x + across / 4, y))
    page.wait(f"JSON.stringify({RANGES}) !== {str(before).replace(' ', '')!r}")
    browser.pump(1.0)
    for _ in range(2):
        page.mouse("mousePressed", x, y)
        page.mouse("mouseReleased", x, y)
    page.wait(f"JSON.stringify({RANGES}) === {str(before).replace(' ', '')!r}")


def test_a_button_switches_the_axis_of_the_values(browser, two, width):
    page = opened(browser, two, width)
    kinds = "Array.from(document.querySelectorAll('.plot')).map(plot => plot.layout.yaxis.type)"
    before = page.evaluate(kinds)
    page.click("button.scale", 0)
    page.wait(f"({kinds})[0] !== {before[0]!r}")
    assert page.evaluate(kinds)[1:] == before[1:]
    assert page.complaints() == []


def test_the_slider_shows_other_pictures(browser, one, width):
    page = opened(browser, one, width)
    shown = "[document.querySelector('figure img').naturalWidth, document.querySelector('figcaption span').textContent]"
    assert page.evaluate(shown) == [902, "epoch 2"]
    page.evaluate("document.querySelector('figure input').focus()")
    for kind in ("keyDown", "keyUp"):
        page.call("Input.dispatchKeyEvent", type=kind, key="Home", code="Home", windowsVirtualKeyCode=36)
    page.wait(f"JSON.stringify({shown}) === '[900,\"epoch 0\"]'")
