"""`write_report`: what stands in the page; `test_report_in_a_browser.py` opens it."""

import base64
import html.parser
import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from logs import strictly
from PIL import Image
from test_compare import logged, trained

from nectargan_core import LossManager, Schedule, write_report
from nectargan_core.cli import main
from nectargan_core.errors import LossLogError, NectarganError
from nectargan_core.log import time_of

LIMIT = 6_000_000
BENCH = Path(__file__).parent / "bench"


class _Parser(html.parser.HTMLParser):
    """Collects the tags of a page, its text outside of scripts, and its data."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.data = [], "", ""
        self._inside = None

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._inside = dict(attributes).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._inside = None

    def handle_data(self, data):
        if self._inside is None:
            self.text += f"{data} "
        elif self._inside == "data":
            self.data += data


def page(path):
    """Return tags, text and data of a report."""
    parser = _Parser()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser.tags, " ".join(parser.text.split()), strictly(parser.data)


def written(tmp_path, *runs, **kwargs):
    write_report(list(runs), tmp_path / "report.html", **kwargs)
    return page(tmp_path / "report.html")


def numbers(packed):
    return np.frombuffer(base64.b64decode(packed["bdata"]), dtype=f"<{packed['dtype']}")


def curves(data):
    return {
        (chart["title"], curve["name"], curve["run"]): curve for chart in data["charts"] for curve in chart["curves"]
    }


def picture(path, size=(60, 40), noise=False):
    path.parent.mkdir(exist_ok=True)
    if noise:
        pixels = np.random.default_rng(0).integers(0, 255, (*size[::-1], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    else:
        Image.new("RGB", size, "red").save(path)
    return path


@pytest.fixture(autouse=True)
def library(monkeypatch):
    """Leave the plotting library out of the pages, which takes most of the time, where their size is not the matter."""
    monkeypatch.setattr("plotly.offline.get_plotlyjs", lambda: "")


class TestCurves:
    def test_values_and_steps_are_those_of_the_log(self, tmp_path):
        a = logged(tmp_path / "a", {"G_L1": [(3, 0, 0.5, 2.0, 0), (4, 0, 0.25, 2.0, 0)]})
        *_, data = written(tmp_path, a)
        curve = curves(data)["losses", "G_L1", 0]
        assert numbers(curve["x"]).tolist() == [3, 4]
        assert numbers(curve["y"]).tolist() == [1.0, 0.5]

    def test_nan_is_a_gap(self, tmp_path):
        a = logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0), (1, 0, math.nan), (2, 0, math.inf), (3, 0, 1.0)]})
        curve = curves(written(tmp_path, a)[2])["losses", "G_L1", 0]
        assert np.isnan(numbers(curve["y"])).tolist() == [False, True, True, False]
        assert curve["gaps"] == 2

    def test_a_chart_without_a_finite_value_says_so(self, tmp_path):
        series = {"G_L1": [(0, 0, math.nan), (1, 0, math.inf)], "psnr": [(0, 0, math.nan), (1, 0, 1.0)]}
        *_, data = written(tmp_path, logged(tmp_path / "a", series, losses=["G_L1"]))
        assert {chart["title"]: chart["empty"] for chart in data["charts"]} == {"losses": True, "psnr": False}

    def test_a_peak_of_one_step_survives(self, tmp_path):
        values = np.ones(200_000)
        values[123_457] = 77.0
        a = logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0)]})
        _append(a, "G_L1", values)
        curve = curves(written(tmp_path, a)[2])["losses", "G_L1", 0]
        x, y = numbers(curve["x"]), numbers(curve["y"])
        assert len(x) < 4000
        assert x[y == 77.0].tolist() == [123_457]

    def test_of_one_run_a_chart_has_the_losses_of_a_tag(self, tmp_path):
        a = logged(tmp_path / "a", {"G_A": [(0, 0, 1.0)], "G_B": [(0, 0, 2.0)]}, tags={"G_A": ["G"], "G_B": ["G"]})
        *_, data = written(tmp_path, a)
        assert [(chart["title"], [curve["name"] for curve in chart["curves"]]) for chart in data["charts"]] == [
            ("G", ["sum of G", "G_A", "G_B"])
        ]

    def test_of_several_runs_a_chart_has_one_loss(self, tmp_path):
        tags = {"G_A": ["G", "all"], "G_B": ["G"]}
        runs = [
            logged(tmp_path / name, {"G_A": [(0, 0, 1.0)], "G_B": [(0, 0, 2.0)], "val/G_A": [(0, 0, 3.0)]}, tags=tags)
            for name in "ab"
        ]
        *_, data = written(tmp_path, *runs)
        assert data["runs"] == ["a", "b"]
        assert [(chart["title"], [(c["name"], c["run"]) for c in chart["curves"]]) for chart in data["charts"]] == [
            ("sum of G", [("sum of G", 0), ("sum of G", 1)]),
            ("G_A", [("G_A", 0), ("val/G_A", 0), ("G_A", 1), ("val/G_A", 1)]),
            ("G_B", [("G_B", 0), ("G_B", 1)]),
        ]

    def test_a_loss_that_spans_decades_has_a_logarithmic_axis_and_another_of_its_tag_has_not(self, tmp_path):
        series = {"G_A": [(step, 0, 10.0 ** (3 - step)) for step in range(5)], "G_B": [(0, 0, 1.0), (1, 0, 2.0)]}
        runs = [logged(tmp_path / name, series, tags={"G_A": ["G"], "G_B": ["G"]}) for name in "ab"]
        *_, data = written(tmp_path, *runs)
        assert {chart["title"]: chart["log"] for chart in data["charts"]} == {
            "sum of G": True,
            "G_A": True,
            "G_B": False,
        }

    def test_weights_that_change_metrics_and_gradients_have_sections(self, tmp_path):
        with LossManager(experiment_dir=tmp_path / "a") as manager:
            manager.register_loss_fn(
                "G", lambda x, y: {"p": (x - y).abs().mean(), "q": x.mean()}, schedule=Schedule(end=5, target_value=0.5)
            )
            for epoch in range(4):
                x = torch.ones(2, requires_grad=True)
                manager.tick(epoch=epoch)
                losses = manager.compute_losses({"y_fake": x, "y": torch.zeros(2)})
                manager.record_gradients(losses, x)
                manager.record("psnr", 20.0 + epoch)
        tags, text, data = written(tmp_path, tmp_path / "a")
        for heading in ("Losses (weighted)", "Metrics", "Weights", "What pulls how hard", "Components"):
            assert heading in text
        assert [chart["title"] for chart in data["charts"]] == [
            "losses",
            "psnr",
            "weights",
            "gradient norm",
            "gradient share",
            "gradient cosine",
            "G",
        ]
        weights = next(chart for chart in data["charts"] if chart["title"] == "weights")
        assert weights["steps"]
        assert numbers(weights["curves"][0]["y"]).tolist() == pytest.approx([1.0, 0.9, 0.8, 0.7])
        assert ("div", {"class": "plot", "data-chart": "6"}) in tags

    def test_large_and_tiny_values_are_kept_exactly(self, tmp_path):
        values = [1e300, 1e-300, 3.0]
        a = logged(tmp_path / "a", {"psnr": [(step, 0, value) for step, value in enumerate(values)]}, losses=["G"])
        assert numbers(curves(written(tmp_path, a)[2])["psnr", "psnr", 0]["y"]).tolist() == values

    def test_a_log_without_records_has_a_page(self, tmp_path):
        (tmp_path / "loss_log.jsonl").touch()
        _, text, data = written(tmp_path, tmp_path)
        assert data["charts"] == []
        assert "There are no records to draw yet." in text

    def test_nectargans_own_log_has_a_page(self, tmp_path):
        log = {"LOSSMANAGER_LOG": {"loss_functions": {"G_L1": {"loss": [8.0, 4.0], "weights": [4.0, 4.0]}}}}
        (tmp_path / "loss_log.json").write_text(json.dumps(log), encoding="utf-8")
        _, text, data = written(tmp_path, tmp_path)
        assert numbers(curves(data)["losses", "G_L1", 0]["y"]).tolist() == [8.0, 4.0]
        assert "The log has no record of it." in text


class TestSize:
    @pytest.mark.slow
    @pytest.mark.parametrize(("runs", "names", "steps"), [(1, 1, 300_000), (1, 60, 5000), (8, 30, 300)])
    def test_it_is_less_than_6_mb(self, tmp_path, monkeypatch, runs, names, steps):
        monkeypatch.undo()
        rng = np.random.default_rng(0)
        paths = []
        for number in range(runs):
            path = logged(tmp_path / str(number), {"G_00": [(0, 0, 1.0)]})
            for name in range(names):
                _append(path, f"G_{name:02d}", rng.random(steps))
            paths.append(path)
        written(tmp_path, *paths)
        assert (tmp_path / "report.html").stat().st_size < LIMIT

    @pytest.mark.slow
    @pytest.mark.timeout(300)
    def test_ten_million_records_take_half_a_minute_and_two_gigabytes_and_keep_their_peak(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(BENCH)
        looking = runpy.run_path(str(BENCH / "looking.py"))
        run, out = looking["write"](tmp_path / "run", losses=4), tmp_path / "report.html"
        program = [sys.executable, "-m", "nectargan_core", "log", "report", str(run), "-o", str(out)]
        seconds, megabytes = looking["run_measured"](program)
        # On a machine that does other things, too, the time is no more than a hint.
        assert seconds < 120
        assert megabytes < 2000
        assert out.stat().st_size < LIMIT
        curve = curves(page(out)[2])["G", "loss2", 0]
        x, y = numbers(curve["x"]), numbers(curve["y"])
        assert x[y == looking["HEIGHT"]].tolist() == [int(looking["PEAK"] * looking["RECORDS"] / 4)]

    def test_of_more_curves_than_a_page_holds_the_least_important_are_left_out_and_named(self, tmp_path, monkeypatch):
        monkeypatch.setattr("nectargan_core.views._charts._MOST_CURVES", 3)
        a = logged(tmp_path / "a", {name: [(0, 0, 1.0)] for name in ("G", "psnr", "G@grad_norm")}, losses=["G"])
        _append(a, "G.part", np.ones(2), component_of="G")
        _, text, data = written(tmp_path, a)
        assert [chart["title"] for chart in data["charts"]] == ["losses", "psnr", "gradient norm"]
        assert "Components: 1 curves are not drawn" in text


class TestNames:
    HOSTILE = "<script>alert(1)<!--"

    def test_names_are_text_wherever_they_stand(self, tmp_path):
        run = logged(
            tmp_path / "<b>run&amp;",
            {self.HOSTILE: [(0, 0, 1.0)], '"onload="x': [(0, 0, 1.0)]},
            tags={self.HOSTILE: ["<i>"], '"onload="x': ["<i>"]},
            metadata={"<u>": "</script><img src=x>"},
        )
        picture(run / "grids" / "<s>_1.png")
        tags, text, data = written(tmp_path, run, logged(tmp_path / "b", {"G": [(0, 0, 1.0)]}))
        allowed = "html head meta link title style body h1 h2 h3 p nav a section div table thead tbody tr th td span"
        allowed += " button figure img input figcaption details summary noscript script ul li code"
        assert {tag for tag, _ in tags} <= set(allowed.split())
        assert not any(name.startswith("on") for _, attributes in tags for name in attributes)
        assert [attributes.get("id") for tag, attributes in tags if tag == "script"] == ["data", None, None]
        assert self.HOSTILE in text
        assert "<u>" in text
        assert "</script><img src=x>" in text
        assert data["runs"][0] == "<b>run&amp;"
        assert self.HOSTILE in [chart["title"] for chart in data["charts"]]

    def test_what_would_break_a_line_or_turn_its_direction_is_escaped(self, tmp_path):
        name = "G\n\u202e1"
        runs = [
            logged(tmp_path / run, {f"val\n/{name}": [(0, 0, 1.0)], name: [(0, 0, 1.0)]}, losses=[name])
            for run in ("a\u202e", "b")
        ]
        picture(runs[0] / "grids" / "\u202e1.png")
        for given in (runs, runs[:1]):
            written(tmp_path, *given)
            assert "\u202e" not in (tmp_path / "report.html").read_text(encoding="utf-8")
            data = page(tmp_path / "report.html")[2]
            assert "\u202e" not in json.dumps(data, ensure_ascii=False)  # also not as an escape
            assert "\n" not in "".join(c["name"] + c["split"] for chart in data["charts"] for c in chart["curves"])
            assert r"G\n\u202e1" in [curve["name"] for chart in data["charts"] for curve in chart["curves"]]
        assert data["runs"] == [r"a\u202e"]

    def test_it_may_load_nothing(self, tmp_path):
        tags, *_ = written(tmp_path, trained(tmp_path / "a"))
        sources = [value for _, attributes in tags for name, value in attributes.items() if name in ("src", "href")]
        assert all(source.startswith(("data:", "#")) for source in sources)
        policy = next(each["content"] for tag, each in tags if each.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none';")


class TestTables:
    def test_runs_differences_and_objectives_are_there(self, tmp_path):
        a, b = trained(tmp_path / "a"), trained(tmp_path / "b", weight=2.0, metadata={"seed": 7})
        _, text, _ = written(tmp_path, a, b)
        assert "2 runs: a, b" in text
        assert "weight G_L1 1 2" in text
        assert "torch.nn:L1Loss" in text
        assert "fingerprint" in text

    def test_what_there_is_to_note_is_there(self, tmp_path):
        _, text, _ = written(tmp_path, trained(tmp_path / "a", values=(1.0, math.nan)))
        assert "a: nan or infinite, and left out: G_L1 in 1 of 2 records" in text

    def test_objectives_that_are_the_same_are_shown_once(self, tmp_path):
        _, text, _ = written(tmp_path, *(trained(tmp_path / name) for name in "abc"))
        assert text.count("torch.nn:L1Loss") == 1
        assert "a, b, c" in text

    def test_of_one_run_metadata_and_when_it_began_are_there(self, tmp_path):
        metadata = {"seed": 7, "optimizer": {"lr": 0.0002}, "note": "<b>"}
        a = logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0)]}, metadata=metadata, device="cpu", started=1_700_000_000.0)
        _, text, _ = written(tmp_path, a)
        for row in ("metadata seed 7", "metadata optimizer.lr 0.0002", "metadata note <b>", "run device cpu"):
            assert row in text
        assert f"run started steps epochs duration a {time_of(1_700_000_000.0)} 1 1" in text

    def test_of_one_run_without_metadata_there_is_no_table_of_it(self, tmp_path):
        assert "Metadata" not in written(tmp_path, logged(tmp_path / "a", {"G_L1": [(0, 0, 1.0)]}))[1]

    def test_of_several_runs_it_is_said_when_each_began(self, tmp_path):
        times = (1_700_000_000.0, 1_700_009_000.0, "soon")
        runs = [logged(tmp_path / str(i), {"G": [(0, 0, 1.0)]}, started=time) for i, time in enumerate(times)]
        _, text, _ = written(tmp_path, *runs)
        assert f"0 {time_of(times[0])} 1 1" in text
        assert f"1 {time_of(times[1])} 1 1" in text
        assert "2 - 1 1" in text


class TestPictures:
    def test_those_of_the_run_are_in_series_by_their_names(self, tmp_path):
        a = trained(tmp_path / "a")
        for name in ("epoch_0002", "epoch_0010", "epoch_1", "maps_epoch_0001"):
            picture(a / "grids" / f"{name}.png")
        tags, _, data = written(tmp_path, a)
        captions = [[each["caption"] for each in series] for series in data["pictures"]]
        assert captions == [["epoch 1", "epoch 0002", "epoch 0010"], ["maps epoch 0001"]]
        shown = [attributes for tag, attributes in tags if tag == "img"]
        assert [each["alt"] for each in shown] == ["epoch 0010", "maps epoch 0001"]
        decoded = base64.b64decode(shown[0]["src"].removeprefix("data:image/png;base64,"))
        assert decoded == (a / "grids/epoch_0010.png").read_bytes()
        assert [attributes["max"] for tag, attributes in tags if tag == "input"] == ["2"]

    def test_of_many_some_are_there_with_the_first_and_the_last(self, tmp_path):
        a = trained(tmp_path / "a")
        for number in range(1, 41):
            picture(a / "grids" / f"epoch_{number}.png")
        _, text, data = written(tmp_path, a)
        (series,) = data["pictures"]
        assert len(series) == 12
        assert [series[0]["caption"], series[-1]["caption"]] == ["epoch 1", "epoch 40"]
        assert "(12 of 40 pictures are here)" in text

    def test_large_ones_are_made_smaller(self, tmp_path):
        a = trained(tmp_path / "a")
        large = picture(a / "grids" / "epoch_1.png", size=(2000, 400), noise=True)
        tags, *_ = written(tmp_path, a)
        (source,) = [attributes["src"] for tag, attributes in tags if tag == "img"]
        assert source.startswith("data:image/jpeg;base64,")
        assert len(source) < large.stat().st_size / 2

    def test_of_several_runs_they_say_of_which(self, tmp_path):
        runs = [trained(tmp_path / name) for name in "ab"]
        for run in runs:
            picture(run / "grids" / "epoch_1.png")
        *_, data = written(tmp_path, *runs)
        assert [each["caption"] for (each,) in data["pictures"]] == ["a: epoch 1", "b: epoch 1"]

    def test_a_caller_may_give_them(self, tmp_path):
        a = trained(tmp_path / "a")
        picture(a / "grids" / "epoch_1.png")
        other = picture(tmp_path / "other" / "input.png")
        *_, data = written(tmp_path, a, pictures=[other])
        assert [each["caption"] for (each,) in data["pictures"]] == ["input"]
        *_, data = written(tmp_path, a, pictures={"What went in": other})
        assert [each["caption"] for (each,) in data["pictures"]] == ["What went in"]
        assert written(tmp_path, a, pictures=[])[2]["pictures"] == []

    def test_one_that_is_found_and_is_none_is_noted(self, tmp_path):
        a = trained(tmp_path / "a")
        (a / "grids").mkdir()
        (a / "grids/epoch_1.png").write_text("no picture", encoding="utf-8")
        _, text, data = written(tmp_path, a)
        assert data["pictures"] == []
        assert "epoch_1.png cannot be shown: it is no PNG, JPEG, GIF or WebP picture" in text

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp"])
    @pytest.mark.parametrize("part", [0.3, 0.9])
    def test_one_that_is_torn_is_noted_where_it_is_found_and_an_error_where_it_is_given(self, tmp_path, suffix, part):
        a = trained(tmp_path / "a")
        torn = picture(a / "grids" / f"epoch_1{suffix}", size=(300, 200), noise=True)
        whole = torn.read_bytes()
        written(tmp_path, a, pictures=[torn])
        torn.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(NectarganError, match=r"epoch_1.* cannot be shown: it is damaged, and cannot be decoded"):
            written(tmp_path, a, pictures=[torn])
        torn.rename(a / "grids" / "epoch_1.png")
        assert "epoch_1.png cannot be shown: it is damaged, and cannot be decoded" in written(tmp_path, a)[1]

    @pytest.mark.parametrize("width", [110, 300])  # for PIL a warning, and an error
    def test_one_of_too_many_pixels_is_noted_where_it_is_found_and_an_error_where_it_is_given(
        self, tmp_path, monkeypatch, width
    ):
        monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 10_000)
        a = trained(tmp_path / "a")
        large = picture(a / "grids" / "epoch_1.png", size=(width, 100))
        with pytest.raises(NectarganError, match=r"epoch_1.png cannot be shown: it has more than 10,000 pixels"):
            written(tmp_path, a, pictures=[large])
        assert "epoch_1.png cannot be shown: it has more than 10,000 pixels" in written(tmp_path, a)[1]

    def test_one_that_is_higher_than_a_jpeg_can_be_is_made_smaller(self, tmp_path):
        high = picture(tmp_path / "other" / "high.png", size=(4, 66_000), noise=True)
        tags, *_ = written(tmp_path, trained(tmp_path / "a"), pictures=[high])
        (source,) = [attributes["src"] for tag, attributes in tags if tag == "img"]
        assert source.startswith("data:image/jpeg;base64,")

    def test_a_folder_that_cannot_be_read_is_noted(self, tmp_path, monkeypatch):
        a = trained(tmp_path / "a")
        (a / "grids").mkdir()

        listing = Path.iterdir

        def refuse(folder):
            if folder.name == "grids":
                raise PermissionError(13, "Permission denied", str(folder))
            return listing(folder)

        monkeypatch.setattr(Path, "iterdir", refuse)
        assert "grids cannot be read: Permission denied" in written(tmp_path, a)[1]

    @pytest.mark.parametrize(
        ("given", "kind", "message"),
        [
            (["nowhere.png"], NectarganError, r"the picture nowhere.png cannot be shown: No such file"),
            ([__file__], NectarganError, "it is no PNG"),
            ("one.png", TypeError, "pictures must be paths, or a mapping"),
            ([3], TypeError, "a picture must be a path"),
        ],
    )
    def test_one_that_is_given_and_is_none_is_an_error(self, tmp_path, given, kind, message):
        with pytest.raises(kind, match=message):
            written(tmp_path, trained(tmp_path / "a"), pictures=given)


class TestFile:
    def test_what_is_there_is_replaced_when_the_new_one_is_complete(self, tmp_path, monkeypatch):
        a, report = trained(tmp_path / "a"), tmp_path / "report.html"
        report.write_text("former", encoding="utf-8")

        def fail(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", fail)
        with pytest.raises(NectarganError, match=r"cannot write .*report.html: No space left on device"):
            write_report(a, report)
        assert report.read_text(encoding="utf-8") == "former"
        assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
        monkeypatch.undo()
        write_report(a, report)
        assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_a_directory_that_is_not_there_is_an_error(self, tmp_path):
        with pytest.raises(NectarganError, match="cannot write .*No such file or directory"):
            write_report(trained(tmp_path / "a"), tmp_path / "nowhere" / "report.html")

    @pytest.mark.parametrize("name", ["page.HTML", "page.htm", "page"])
    def test_names_that_a_browser_opens(self, tmp_path, name):
        write_report(trained(tmp_path / "a"), tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    @pytest.mark.parametrize("path", ["", ".", Path(), "page.pdf", "page.html.gz"])
    def test_what_no_page_can_be_called_is_an_error(self, tmp_path, path):
        with pytest.raises(ValueError, match="a report (needs the name of a file|is an HTML page)"):
            write_report(trained(tmp_path / "a"), path)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such modes, and links need a right")
    def test_links_and_modes_stay(self, tmp_path):
        target, link = tmp_path / "target.html", tmp_path / "link.html"
        target.touch(mode=0o600)
        link.symlink_to("target.html")
        write_report(trained(tmp_path / "a"), link)
        assert link.is_symlink()
        assert target.stat().st_mode & 0o777 == 0o600
        assert target.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")

    def test_without_plotly_it_says_what_to_install(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "plotly.offline", None)
        with pytest.raises(NectarganError, match=r"pip install 'nectargan-core\[cli\]'"):
            write_report(trained(tmp_path / "a"), tmp_path / "report.html")

    def test_what_is_no_run_is_an_error(self, tmp_path):
        with pytest.raises(LossLogError, match="there is no loss log at"):
            write_report(tmp_path / "nowhere", tmp_path / "report.html")


class TestCommand:
    def run(self, *arguments, status=0):
        result = CliRunner().invoke(main, ["log", "report", *map(str, arguments)])
        assert result.exit_code == status, result.output
        return result.output

    def test_of_one_run_it_is_in_its_directory(self, tmp_path):
        a = trained(tmp_path / "a")
        assert self.run(a) == f"{a / 'report.html'}\n"
        assert (a / "report.html").is_file()
        assert self.run(a / "loss_log.jsonl") == f"{a / 'report.html'}\n"

    def test_json_says_what_was_written(self, tmp_path):
        a = trained(tmp_path / "a")
        out = a / "report.html"
        assert strictly(self.run(a, "--json")) == {"out": str(out), "runs": ["a"], "bytes": out.stat().st_size}

    def test_of_several_it_is_in_the_current_directory(self, tmp_path, monkeypatch):
        runs = [trained(tmp_path / name) for name in "ab"]
        monkeypatch.chdir(tmp_path)
        assert self.run(*runs) == "report.html\n"
        assert (tmp_path / "report.html").is_file()

    def test_out_and_pictures_may_be_given(self, tmp_path):
        shown = picture(tmp_path / "other" / "input.png")
        out = tmp_path / "page.html"
        assert self.run(trained(tmp_path / "a"), "-o", out, "--picture", shown) == f"{out}\n"
        assert [each["caption"] for (each,) in page(out)[2]["pictures"]] == ["input"]

    @pytest.mark.parametrize(
        ("arguments", "status", "message"),
        [
            (["nowhere"], 1, "Error: there is no loss log at nowhere"),
            ([], 2, "Missing argument"),
            (["a", "-o", "nowhere/report.html"], 1, "Error: cannot write nowhere/report.html: No such file"),
            (["a", "-o", "a"], 2, "is a directory"),
            (["a", "--picture", "nowhere.png"], 1, "the picture nowhere.png cannot be shown: No such file"),
            (["a", "--picture", "a"], 1, "the picture a cannot be shown: Is a directory"),
            (["a", "-o", ""], 2, "a report needs the name of a file, such as report.html, got ''"),
            (["a", "-o", "-"], 2, "give a file, such as -o report.html"),
            (["a", "-o", "page.png"], 2, "write it to page.html, and not to page.png"),
        ],
    )
    def test_exit_statuses(self, tmp_path, monkeypatch, arguments, status, message):
        trained(tmp_path / "a")
        monkeypatch.chdir(tmp_path)
        assert message in self.run(*arguments, status=status)


def _append(directory, name, values, component_of=None):
    """Add records of one name to a log, a chunk for each hundred thousand."""
    from nectargan_core.log import Records, encode_chunk

    with (directory / "loss_log.jsonl").open("a", encoding="utf-8") as file:
        for start in range(0, len(values), 100_000):
            part = values[start : start + 100_000]
            ones = np.ones(len(part))
            steps = np.arange(start, start + len(part))
            file.write(encode_chunk(Records(name, steps, ones * 0, part, ones, part, component_of=component_of), 1.7e9))
