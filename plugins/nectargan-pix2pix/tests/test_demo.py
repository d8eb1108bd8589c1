"""The demo: its networks and filters, the picture, what it writes and shows, and how near it comes to the originals."""

import io
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix import photos
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.demo import classical, running
from nectargan_pix2pix.demo.comparison import PARTS, Column, draw
from nectargan_pix2pix.demo.networks import Critic, Restorer, SmallNetworks
from nectargan_pix2pix.demo.running import TRIALS, run
from nectargan_pix2pix.options import OptionError
from nectargan_pix2pix.photos import Crops, Photographs
from nectargan_pix2pix.quality import detail
from nectargan_pix2pix.report import psnr
from PIL import Image
from rich.console import Console

from nectargan_core import LossLog
from nectargan_core.errors import LossLogError


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def smooth(height, width):
    """Return a photograph without detail: a ramp of colours."""
    ramp = torch.linspace(-0.8, 0.4, height * width).reshape(height, width)
    return torch.stack([ramp, -ramp, ramp.flip(1)])


def printed(photo):
    return photos.scratch(photo, torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def small():
    """Photographs that are small: one to train on, and two held out."""
    pairs = [(printed(photo), photo) for photo in (smooth(64, 64), smooth(300, 300), smooth(300, 302))]
    found = Photographs(Crops(pairs[:1], 64, repeats=8), pairs[1:], "small photographs", "0")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(photos, "sample_photographs", lambda: found)
        yield


SAMPLE_PHOTOGRAPHS = photos.sample_photographs
SHORT = [trial._replace(epochs=4) for trial in TRIALS]


# Networks


def test_the_generator_begins_as_the_identity_and_has_62_thousand_parameters():
    generator, x = Restorer(), images(2, 3, 16, 20)
    assert torch.equal(generator(x), x)
    assert sum(parameter.numel() for parameter in generator.parameters()) == 62444


def test_the_discriminator_classifies_patches_given_the_source_image():
    critic, x = Critic(), images(2, 3, 64, 64)
    logits = critic(x, x)
    assert logits.shape == (2, 1, 14, 14)
    assert not torch.equal(critic(-x, x), logits)


def test_the_discriminator_sees_detail_only():
    critic, x = Critic(), images(1, 3, 32, 32)
    # A shift of all pixels is no detail.
    torch.testing.assert_close(critic(x, x + 0.3), critic(x, x))


def test_the_rate_of_the_generator_rises_and_then_falls_to_zero():
    networks = SmallNetworks(60)
    rates = []
    for epoch in range(60):
        networks.begin_epoch(epoch)
        rates.append(networks.generator_optimizer.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(1e-3)
    assert np.argmax(rates) == 3
    assert rates[3] == pytest.approx(4e-3, rel=0.01)
    assert rates[30] == pytest.approx(2e-3)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 1e-5


# Filters


def test_filters_remove_scratches_and_noise():
    photo = smooth(96, 96)
    x = printed(photo)
    restored = classical.restore(x)
    assert restored.shape == x.shape
    assert restored.dtype == x.dtype
    assert psnr(restored, photo) > psnr(x, photo) + 15


def test_tuning_finds_the_best_of_the_choices(monkeypatch):
    best = classical.Settings(7, 0.2, 0.05, 0.12)
    distance = [0.0]

    def restore(x, settings):
        distance[0] = sum(abs(one - other) for one, other in zip(settings, best, strict=True))
        return x

    monkeypatch.setattr(classical, "restore", restore)
    monkeypatch.setattr(classical, "psnr", lambda image, y: -distance[0])
    assert classical.tuned([(torch.zeros(3, 8, 8),) * 2]) == best


@pytest.mark.slow
def test_filters_are_tuned_on_the_photographs_to_train_on():
    pairs = SAMPLE_PHOTOGRAPHS().training.pairs
    assert classical.tuned(classical.middles(pairs, 192)) == classical.TUNED


# Measures and the picture


def test_detail_is_relative_to_the_target():
    y = images(3, 16, 16)
    assert detail(y, y) == 1
    assert detail(y / 4, y) == pytest.approx(0.25)
    assert detail(smooth(16, 16), y) < 0.05


def test_the_picture_shows_the_same_parts_in_each_column(tmp_path):
    targets = [images(3, 300, 300), images(3, 300, 302)]
    titles = ["input", "A", "target"]
    columns = [
        Column(title, "", [image / (3 - number) for image in targets]) for number, title in enumerate(titles[:2])
    ]
    draw([*columns, Column("target", "", targets)], targets, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        drawn = np.asarray(picture.convert("RGB"), dtype=float)
    for part in PARTS:
        pixel = targets[part.photograph][:, part.top, part.left]
        for number in range(3):
            wanted = ((pixel / (3 - number) + 1) * 127.5).round().numpy()
            assert (np.abs(drawn - wanted).max(axis=2) <= 1).any()


# What it writes and shows


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    """The directory of a short demo, its scores, and what it printed."""
    out, printed = tmp_path_factory.mktemp("runs") / "demo", io.StringIO()
    scores = run(out, Console(file=printed, width=100), SHORT)
    return out, scores, printed.getvalue()


def test_both_logs_are_written_with_the_psnr_of_held_out_photographs(finished):
    out, scores, _ = finished
    for name in ("A", "B"):
        log = LossLog(out / name.lower())
        assert log.series("val/psnr").loss.tolist() == [pytest.approx(scores[name].psnr)]
        assert log.series("G_L1").step.tolist() == list(range(4))
    assert set(LossLog(out / "b").names) == {"G_GAN", "G_L1", "G_SOBEL", "D_real", "D_fake", "val/psnr"}
    # From nothing at a quarter of the run to what the formula says at three quarters.
    weight = LossLog(out / "b").series("G_GAN").weight
    assert weight[:2].tolist() == [0, 0]
    assert weight[2] == weight[3] / 2 > 0


def test_the_picture_and_the_table_are_written(finished):
    out, scores, output = finished
    with Image.open(out / "comparison.png") as picture:
        width, height = picture.size
    assert width > 5 * 200
    assert height > 3 * 200
    table = (out / "summary.txt").read_text()
    assert table.strip() in output
    for label, one in zip(("input", "classical filters", "A  100*l1", "B  "), scores.values(), strict=True):
        line = next(line for line in table.splitlines() if line.startswith(label))
        assert f" {one.psnr:.2f} " in line
        assert f" {one.ssim:.3f} " in line
    assert "B is for texture, not for PSNR" in table


def test_the_report_has_both_runs_and_the_picture(finished):
    out, _, output = finished
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(trial.formula in page for trial in TRIALS)
    assert "val/psnr" in page
    assert "data:image/" in page
    assert str(out / "report.html") in output


def test_what_was_measured_is_shown_in_a_pipe_line_by_line(finished):
    _, _, output = finished
    assert "A: epoch 4 of 4, " in output
    assert "B: epoch 4 of 4, " in output
    assert "\x1b" not in output


@pytest.mark.slow
def test_the_same_demo_comes_to_the_same_numbers_whatever_the_seed_and_the_threads(small, finished, tmp_path):
    _, scores, _ = finished
    torch.manual_seed(99)
    before = torch.get_rng_state(), torch.get_num_threads()
    again = run(tmp_path / "again", Console(quiet=True), SHORT)
    assert [one[:3] for one in again.values()] == [one[:3] for one in scores.values()]
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.get_num_threads() == before[1]


@pytest.mark.slow
def test_a_second_demo_replaces_its_own_files_only(small, tmp_path):
    kept = [tmp_path / name for name in ("loss_log.jsonl", "checkpoint.pt", "a/notes.txt")]
    for path in kept:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    for _ in range(2):
        run(tmp_path, Console(quiet=True), SHORT)
    assert len(LossLog(tmp_path / "a").series("G_L1")) == 4
    assert [path.name for path in sorted((tmp_path / "a").iterdir())] == [
        "loss_log.jsonl",
        "loss_log.jsonl.lock",
        "notes.txt",
    ]
    assert all(path.read_text() == "mine" for path in kept)


@pytest.mark.slow
def test_a_demo_that_is_at_work_is_left_alone(small, tmp_path):
    run(tmp_path, Console(quiet=True), SHORT)
    before = (tmp_path / "summary.txt").read_bytes()
    code = (
        "import sys; from nectargan_core import LossManager\n"
        "with LossManager.from_spec('l1', experiment_dir=sys.argv[1]): print('locked', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "b"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        with pytest.raises(LossLogError):
            run(tmp_path, Console(quiet=True), SHORT)
        other.stdin.close()
    assert (tmp_path / "summary.txt").read_bytes() == before
    assert len(LossLog(tmp_path / "a").series("G_L1")) == 4


def test_a_directory_that_cannot_be_written_to_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OptionError, match="choose another --out"):
        run(tmp_path / "file" / "demo", Console(quiet=True), SHORT)
    (tmp_path / "comparison.png").mkdir()
    with pytest.raises(OptionError, match=r"comparison\.png is a directory"):
        run(tmp_path, Console(quiet=True), SHORT)


@pytest.mark.slow
def test_where_one_training_fails_the_other_ends_and_the_error_is_raised(small, tmp_path):
    class Failing(Restorer):
        def forward(self, x):
            raise RuntimeError("no more memory")

    made = running._networks

    def networks(trials):
        first, second = made(trials)
        second.generator = Failing()
        return [first, second]

    before = threading.active_count()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(running, "_networks", networks)
        trials = [TRIALS[0]._replace(epochs=10**6), TRIALS[1]]
        with pytest.raises(RuntimeError, match="no more memory"):
            run(tmp_path, Console(quiet=True), trials)
    assert threading.active_count() == before


# The program


@pytest.mark.slow
def test_the_program_runs_the_demo(small, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "TRIALS", SHORT)
    monkeypatch.setattr(running.run, "__defaults__", (SHORT,))
    result = CliRunner().invoke(main, ["demo"])
    assert result.exit_code == 0, result.output
    assert "runs/demo/comparison.png" in result.output
    assert (tmp_path / "runs/demo/comparison.png").exists()


@pytest.mark.slow
def test_the_demo_imports_no_library_that_it_does_not_need():
    code = "import sys, nectargan_pix2pix.demo.running; print(*(m for m in sys.modules if m in set(sys.argv[1:])))"
    others = ["monai", "pandas", "lightning", "wandb", "mlflow", "tensorboard"]
    result = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.slow
def test_ctrl_c_ends_the_demo_with_one_line(tmp_path):
    command = [sys.executable, "-m", "nectargan_pix2pix", "demo", "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("A: "):  # The trainings are at work.
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT
    assert errors == "Interrupted; what was not saved by then is lost.\n"
    assert len(LossLog(tmp_path / "b").series("G_L1")) > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_objectives_restore_better_than_filters(tmp_path, monkeypatch):
    monkeypatch.setattr(photos, "sample_photographs", SAMPLE_PHOTOGRAPHS)  # and not the small ones
    scores = run(tmp_path, Console())
    assert max(scores["A"].psnr, scores["B"].psnr) > scores["filters"].psnr + 1
    assert scores["B"].psnr > scores["filters"].psnr + 0.5
    assert scores["A"].ssim > scores["filters"].ssim
    # What B is for.
    assert scores["B"].detail > scores["A"].detail > scores["filters"].detail
