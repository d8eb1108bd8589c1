"""What a run leaves to look at beside its log: the PSNR of held-out images, loss maps; and who gets the log, too."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.inference import Trained, held_out
from nectargan_pix2pix.report import closing_table, psnr
from nectargan_pix2pix.results import Results, generated
from PIL import Image

from nectargan_core import LossLog, LossManager, catalog

TINY = ("--channels", "2", "--batch-size", "2", "--device", "cpu")
MAPPED = """
formula = "pix2pix"
[[extra]]
name = "G_MAP"
function = "torch.nn:L1Loss"
arguments = { reduction = "none" }
weight = 5.0
tags = ["G"]
"""
OBSERVER = """
import json, os, pathlib
from nectargan_core import hookimpl

class Acme:
    @hookimpl
    def nectargan_history_flushed(self, manager, chunks):
        with open(os.environ["ACME"], "a") as file:
            for chunk in chunks:
                file.write(json.dumps([chunk.name, chunk.step.tolist()]) + chr(10))

class Other(Acme):
    pass
"""

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pix2pix folder with two pairs of noise to train on, and six held out."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for part, count in (("train", 2), ("val", 6)):
        (root / part).mkdir()
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(root / part / f"{number}.png")
    return root


@pytest.fixture
def acme(tmp_path_factory, monkeypatch):
    """Install observers that note what they get; return the file of their notes."""
    site = tmp_path_factory.mktemp("site")
    (site / "acme_tools.py").write_text(OBSERVER)
    info = site / "acme_tools-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-tools\nVersion: 1.0\n")
    targets = {"acme": "Acme", "other": "Other", "broken": "Missing"}
    lines = [f"{name} = acme_tools:{target}" for name, target in targets.items()]
    (info / "entry_points.txt").write_text("\n".join(["[nectargan.observers]", *lines]))
    notes = site / "notes.jsonl"
    notes.touch()
    monkeypatch.setenv("ACME", str(notes))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", [str(site), *sys.path])
        catalog.refresh()
        yield notes
    sys.modules.pop("acme_tools", None)
    catalog.refresh()


def train(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def run(out, data, *arguments):
    result = train("--out", out, "--data", data, *TINY, *arguments)
    assert result.exit_code == 0, result.output
    return result


def steps_in(notes):
    """Return the steps of each series that was noted."""
    steps = {}
    for line in notes.read_text().splitlines():
        name, more = json.loads(line)
        steps.setdefault(name, []).extend(more)
    return steps


# PSNR


@pytest.mark.slow
def test_the_psnr_of_all_held_out_images_is_in_the_log_and_shown(data, tmp_path):
    result = run(tmp_path, data, "--epochs", 2)
    series = LossLog(tmp_path).series("val/psnr")
    assert series.step.tolist() == [0, 1]
    trained = Trained(tmp_path, torch.device("cpu"))
    _, pairs = held_out(trained, data, "val", lambda files: files)
    ratios = [psnr(trained(x, "an image").clamp(-1, 1), y) for x, y in (pairs[index] for index in range(6))]
    assert series.loss[-1] == pytest.approx(np.mean(ratios), rel=1e-5)
    assert re.search(rf"^epoch 2: output {series.loss[-1]:.2f} dB in ", result.output, re.M)


def test_the_psnr_is_measured_where_a_grid_is_due(tmp_path):
    class Unchanged:
        def generate(self, x):
            return x

    pairs = [(torch.zeros(3, 8, 8), torch.full((3, 8, 8), 0.2))] * 5
    manager = LossManager(enable_logging=True)
    shown = Results(tmp_path, "name", pairs, 30, 1)
    due = [epoch for epoch in range(1, 31) if manager.tick(epoch=epoch) or shown.measure(manager, Unchanged(), epoch)]
    assert due == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert manager.series("val/psnr").loss == pytest.approx([20.0] * 10, rel=1e-5)


def test_held_out_images_of_one_size_are_translated_together_and_stay_in_order():
    class Negative:
        seen: list[tuple[int, ...]] = []

        def generate(self, x):
            self.seen.append(tuple(x.shape))
            return -x

    sizes = [8, 8, 8, 16, 512, 512, 8]
    pairs = [
        (torch.full((3, size, size), number / 10), torch.zeros(3, size, size)) for number, size in enumerate(sizes)
    ]
    results = list(generated(Negative(), pairs))
    assert [shape[0] for shape in Negative.seen] == [3, 1, 1, 1, 1]
    for (x, y), result in zip(pairs, results, strict=True):
        assert torch.equal(result.x, x)
        assert torch.equal(result.output, -x)
        assert torch.equal(result.y, y)


def test_held_out_images_are_no_row_of_the_closing_table(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        manager.tick(epoch=0)
        manager.compute_losses({"y_fake": torch.ones(2), "y": torch.zeros(2)})
        with manager.split("val"):
            manager.record("psnr", 20.0)
    assert "val" not in closing_table(LossLog(tmp_path), [(20.0, 25.0)])


# Loss maps


@pytest.mark.slow
def test_losses_that_return_maps_are_drawn_with_each_grid(data, tmp_path):
    objective = tmp_path / "objective.toml"
    objective.write_text(MAPPED)
    run(tmp_path / "out", data, "--objective", objective, "--epochs", 2)
    names = {path.name for path in (tmp_path / "out" / "grids").iterdir()}
    assert names == {"epoch_0001.png", "epoch_0002.png", "maps_epoch_0001.png", "maps_epoch_0002.png"}
    with Image.open(tmp_path / "out" / "grids" / "maps_epoch_0002.png") as picture:
        # x, y_fake, y and the map of one loss, each of 256 pixels.
        assert picture.width == 16 + 4 * 256 + 3 * 10 + 16


@pytest.mark.slow
def test_the_maps_of_a_former_run_are_overwritten_with_it(data, tmp_path):
    objective = tmp_path / "objective.toml"
    objective.write_text(MAPPED)
    out = tmp_path / "out"
    run(out, data, "--objective", objective, "--epochs", 1)
    run(out, data, "--epochs", 1, "--overwrite")
    assert [path.name for path in (out / "grids").iterdir()] == ["epoch_0001.png"]


@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_maps_that_cannot_be_drawn_are_warned_of(tmp_path):
    (tmp_path / "grids").mkdir()
    manager = LossManager()
    manager.register_loss_fn("G_VIDEO", lambda y: y[:, :, None], inputs=("y",))
    manager.compute_losses({"y": torch.zeros(1, 3, 8, 8)})
    shown = Results(tmp_path, "name", [], 1, 1)
    with pytest.warns(UserWarning, match=r"cannot write .*maps_epoch_0001.png: no loss map can be drawn: G_VIDEO"):
        shown._draw_maps(manager, "epoch_0001.png")


# Observers


@pytest.mark.slow
def test_an_observer_gets_the_log(data, tmp_path, acme):
    run(tmp_path / "out", data, "--epochs", 2, "--log-to", "acme")
    log = LossLog(tmp_path / "out")
    assert steps_in(acme) == {name: log.series(name).step.tolist() for name in log.names}


@pytest.mark.slow
def test_a_run_that_goes_on_has_the_same_observers_unless_others_are_given(data, tmp_path, acme):
    run(tmp_path / "out", data, "--epochs", 1, "--log-to", "acme", "--log-to", "acme-tools/other")
    assert steps_in(acme)["G_L1"] == [0, 0]
    run(tmp_path / "out", data, "--epochs", 2, "--resume")
    assert steps_in(acme)["G_L1"] == [0, 0, 1, 1]
    run(tmp_path / "out", data, "--epochs", 3, "--resume", "--log-to", "other")
    assert steps_in(acme)["G_L1"] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wave", "no observer 'wave' is installed"),
        ("acme-tools/wave", "wave"),
        ("broken", "acme-tools 1.0"),
    ],
)
def test_an_observer_that_cannot_be_used_is_refused_before_anything_is_written(data, tmp_path, acme, name, expected):
    out = tmp_path / "out"
    result = train("--out", out, "--data", data, *TINY, "--log-to", name)
    assert result.exit_code == 1
    assert expected in result.output
    assert not out.exists()
    assert not acme.read_text()
