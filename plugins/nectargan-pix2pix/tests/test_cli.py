"""The program: the files that a run writes, how it is stopped, and the errors for bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix import objective as objective_module
from nectargan_pix2pix import run as run_module
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.networks import Discriminator, Generator
from nectargan_pix2pix.photos import Crops, Photographs
from nectargan_pix2pix.results import is_due
from PIL import Image

from nectargan_core import LossLog, LossManager, Objective, Schedule
from nectargan_core.errors import NectarganWarning

TINY = ("--channels", "2", "--batch-size", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pix2pix folder with four pairs of noise to train on, and two held out."""
    root = tmp_path_factory.mktemp("pairs")
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        (root / part).mkdir()
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(root / part / f"{number}.png")
    return root


def train(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """The directory and the output of a run that was completed."""
    out = tmp_path_factory.mktemp("runs") / "finished"
    spec = "pix2pix:extended"
    return out, train("--spec", spec, "--data", data, "--epochs", 2, "--out", out, *TINY)


def test_a_run_exits_with_status_0(finished):
    _, result = finished
    assert result.exit_code == 0, result.output


def test_a_run_writes_every_documented_file(finished):
    out, _ = finished
    left = {path.relative_to(out).as_posix() for path in out.rglob("*.*")} - {"loss_log.jsonl.lock"}
    assert left == {
        "loss_log.jsonl",
        "curves.png",
        "report.html",
        "checkpoint.pt",
        "manifest.json",
        "summary.txt",
        "grids/epoch_0001.png",
        "grids/epoch_0002.png",
    }


def test_the_log_has_every_loss_at_every_step(finished):
    log = LossLog(finished[0])
    losses = {"G_GAN", "G_L1", "D_real", "D_fake", "G_L2", "G_SOBEL", "G_LAP"}
    assert set(log.names) == {*losses, "val/psnr"}
    for name in losses:
        assert log.series(name).step.tolist() == [0, 1, 2, 3]
        assert log.series(name).epoch.tolist() == [0, 0, 1, 1]


def test_schedules_may_be_relative_to_the_epochs_of_the_run(finished):
    assert LossLog(finished[0]).header["total_epochs"] == 2


def test_the_checkpoint_is_plain_data_that_the_networks_load(finished):
    checkpoint = torch.load(finished[0] / "checkpoint.pt", weights_only=True)
    assert (checkpoint["spec"], checkpoint["epochs"], checkpoint["channels"]) == ("pix2pix:extended", 2, 2)
    Generator(checkpoint["channels"]).load_state_dict(checkpoint["generator"])
    Discriminator(checkpoint["channels"]).load_state_dict(checkpoint["discriminator"])


def test_the_closing_table_is_shown_and_saved(finished):
    out, result = finished
    summary = (out / "summary.txt").read_text()
    assert summary in result.output
    assert "held-out PSNR, mean of 2: input " in summary
    for name in LossLog(out).header["tags"]:
        assert f"\n{name} " in summary


def test_progress_shows_the_losses(finished):
    _, result = finished
    assert "epoch 2/2" in result.output
    assert "G_SOBEL " in result.output.partition("loss, weighted")[0]


def test_grids_show_held_out_images(finished, data):
    with Image.open(finished[0] / "grids" / "epoch_0002.png") as grid, Image.open(data / "val" / "0.png") as pair:
        pixels, expected = np.asarray(grid), np.asarray(pair)
    # From below: a gap, two rows of images with a caption and a gap each.
    row = pixels.shape[0] - 8 - 2 * (26 + 32 + 8) + 26
    windows = [pixels[row : row + 32, left : left + 32] for left in range(pixels.shape[1] - 31)]
    assert any(np.array_equal(window, expected[:, :32]) for window in windows)
    assert any(np.array_equal(window, expected[:, 32:]) for window in windows)


@pytest.mark.slow
def test_one_seed_gives_one_log(data, tmp_path):
    losses = []
    for seed, out in ((3, "a"), (3, "b"), (4, "c")):
        train("--data", data, "--epochs", 1, "--out", tmp_path / out, "--seed", seed, *TINY)
        losses.append(LossLog(tmp_path / out).series("G_L1").loss.tolist())
    assert losses[0] == losses[1] != losses[2]


def test_a_loss_added_by_name_is_trained(data, tmp_path):
    result = train("--spec", "pix2pix+sobel", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert len(LossLog(tmp_path).series("G_SOBEL")) == 2


def test_an_objective_without_a_discriminator_is_trained(data, tmp_path):
    result = train("--spec", "sobel", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert LossLog(tmp_path).names == ("G_SOBEL", "val/psnr")


@pytest.mark.slow
def test_weights_direction_and_crop_come_from_the_config(data, tmp_path):
    config = tmp_path / "config.json"
    sections = {
        "dataloader": {"direction": "BtoA", "load": {"crop_size": 32}},
        "train": {"loss": {"lambda_l1": 7}},
    }
    config.write_text(json.dumps({"config": sections}))
    result = train("--data", data, "--epochs", 1, "--out", tmp_path, "--config", config, *TINY)
    assert result.exit_code == 0, result.output
    assert "B (right) -> A (left)" in result.output
    assert "crops of 32x32" in result.output
    assert set(LossLog(tmp_path).series("G_L1").weight) == {7.0}


@pytest.mark.slow
def test_sample_photographs_are_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr("nectargan_pix2pix.photos.CROPS_PER_PHOTO", 1)
    result = train("--sample-photos", "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert "held out: chelsea, coffee" in result.output
    assert re.search(r"held-out PSNR, mean of 2: input 15\.\d\d dB", result.output)


def test_at_most_eight_grids_and_the_last_epoch_are_drawn():
    assert [epoch for epoch in range(1, 41) if is_due(epoch, 40)] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [epoch for epoch in range(1, 4) if is_due(epoch, 3)] == [1, 2, 3]


@pytest.mark.slow
def test_held_out_images_are_never_trained_on(monkeypatch, tmp_path):
    held_out = torch.full((3, 32, 32), 0.25)
    training = torch.zeros(3, 32, 32)
    seen = []

    def watched(manager, networks, learned, batches, *others):
        for x, y in batches.of(0):
            seen.extend((*x, *y))
        return original(manager, networks, learned, batches, *others)

    original = run_module.train
    monkeypatch.setattr(run_module, "train", watched)
    monkeypatch.setattr(
        "nectargan_pix2pix.photos.folder",
        lambda *_, **__: Photographs(Crops([(training, training)], 32, 4), [(held_out, held_out)], "constants", ""),
    )
    assert train("--data", "anywhere", "--epochs", 1, "--out", tmp_path, *TINY).exit_code == 0
    # Once before the training, once in it.
    assert len(seen) == 2 * 8
    assert all(torch.equal(image, training) for image in seen)


def test_an_objective_without_losses_of_the_discriminator_says_so(data, tmp_path):
    result = train("--spec", "sobel", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert "No loss is tagged 'D': the discriminator is not trained.\n" in result.output


OBJECTIVE = """
formula = "gan + 100*l1"
total_epochs = 2
[losses.G_L1]
schedule = { schedule = "linear", unit = "fraction", end = 1.0, target_value = 0.0 }
[[extra]]
name = "G_HUBER"
function = "torch.nn:HuberLoss"
arguments = { delta = 0.5 }
weight = 5.0
tags = ["G"]
"""


@pytest.fixture
def objective(tmp_path):
    path = tmp_path / "objective.toml"
    path.write_text(OBJECTIVE)
    return path


@pytest.mark.slow
def test_an_objective_file_is_trained_for_its_epochs(data, tmp_path, objective):
    out = tmp_path / "out"
    result = train("--objective", objective, "--data", data, "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    log = LossLog(out)
    assert set(log.names) == {"G_GAN", "D_real", "D_fake", "G_L1", "G_HUBER", "val/psnr"}
    assert log.series("G_L1").weight.tolist() == [100, 100, 50, 50]


@pytest.mark.slow
def test_options_go_before_the_objective_file(data, tmp_path, objective):
    out = tmp_path / "out"
    given = ("--weight", "G_HUBER=7", "--schedule", "G_L1=linear:end=2,target_value=10", "--epochs", 1)
    result = train("--objective", objective, *given, "--data", data, "--out", out, *TINY)
    assert result.exit_code == 0, result.output
    log = LossLog(out)
    assert set(log.series("G_HUBER").weight) == {7.0}
    assert log.header["total_epochs"] == 1


@pytest.mark.slow
def test_the_manifest_beside_the_checkpoint_gives_the_same_losses(data, tmp_path, objective):
    out = tmp_path / "out"
    train("--objective", objective, "--data", data, "--out", out, *TINY)
    manifest = Objective.load(out / "manifest.json")
    assert manifest == Objective.load(out)
    assert LossManager.from_spec(manifest, strict=True).manifest() == manifest
    checkpoint = torch.load(out / "checkpoint.pt", weights_only=True)
    assert checkpoint["losses"]["manifest"]["fingerprint"] == manifest.fingerprint


@pytest.mark.slow
def test_the_manifest_of_a_run_is_an_objective_file(data, finished, tmp_path):
    result = train("--objective", finished[0] / "manifest.json", "--data", data, "--out", tmp_path / "out", *TINY)
    assert result.exit_code == 0, result.output
    for name in LossLog(finished[0]).names:
        first, second = (LossLog(place).series(name).loss for place in (finished[0], tmp_path / "out"))
        assert np.array_equal(first, second)


def test_weights_and_schedules_can_be_given(data, tmp_path):
    pytest.importorskip("nectargan_schedules")
    given = ("--weight", "G_GAN=2", "--schedule", "G_L1=cosine:start=0,end=1,unit=fraction,target_value=0")
    result = train(*given, "--data", data, "--epochs", 2, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    log = LossLog(tmp_path)
    assert set(log.series("G_GAN").weight) == {2.0}
    assert log.series("G_L1").weight == pytest.approx([100, 100, 50, 50])


@pytest.mark.slow
def test_learning_rates_can_be_given(data, tmp_path):
    result = train("--lr-g", "0.5", "--lr-d", "0.25", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    rates = [checkpoint[f"{name}_optimizer"]["param_groups"][0]["lr"] for name in ("generator", "discriminator")]
    assert rates == [0.5, 0.25]


# Stopping

# Windows has no SIGHUP.
SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), *([(signal.SIGHUP, 129)] if hasattr(signal, "SIGHUP") else [])]


def raising(number, times=1, step=1):
    """Return a training loop that raises a signal after a step."""
    original = run_module.train
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        for done in original(*arguments):
            # Not in the step that is done before the training.
            if done == step and len(calls) > 1:
                for _ in range(times):
                    signal.raise_signal(number)
            yield done

    return interrupted


@pytest.mark.parametrize(("number", "status"), SIGNALS)
def test_a_signal_ends_the_training_with_everything_saved(data, tmp_path, monkeypatch, number, status):
    monkeypatch.setattr(run_module, "train", raising(number))
    before = signal.getsignal(number)
    result = train("--data", data, "--epochs", 5, "--out", tmp_path, *TINY)
    assert result.exit_code == status
    assert f"Stopped by {signal.Signals(number).name}; log and checkpoint are saved." in result.output
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epochs"] == 0
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")} - {"loss_log.jsonl.lock"}
    assert left == {
        "loss_log.jsonl",
        "curves.png",
        "report.html",
        "checkpoint.pt",
        "manifest.json",
        "summary.txt",
        "grids/epoch_0001_step_000001.png",
    }
    assert signal.getsignal(number) is before


@pytest.mark.slow
def test_a_signal_at_the_end_of_an_epoch_leaves_its_grid(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "train", raising(signal.SIGINT, step=2))
    train("--data", data, "--epochs", 100, "--out", tmp_path, *TINY)
    assert [path.name for path in (tmp_path / "grids").iterdir()] == ["epoch_0001.png"]


@pytest.mark.slow
def test_a_signal_after_the_last_step_is_no_interruption(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "train", raising(signal.SIGINT))
    result = train("--data", data, "--epochs", 1, "--out", tmp_path, *TINY[:2], "--batch-size", 4)
    assert result.exit_code == 0, result.output


def test_a_second_ctrl_c_ends_the_program_at_once(data, tmp_path, monkeypatch, request):
    monkeypatch.setattr(run_module, "train", raising(signal.SIGINT, times=2))
    monkeypatch.setattr("nectargan_pix2pix.cli._ONE_SIGNAL", 0.0)
    # A library may have left this handler.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before or signal.default_int_handler))
    result = train("--data", data, "--epochs", 5, "--out", tmp_path, *TINY)
    assert result.exit_code == 130
    assert "what was not saved by then is lost" in result.output
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["steps"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_is_delivered_twice_at_once_counts_as_one(data, tmp_path, monkeypatch, number):
    # As far apart as the real program allows, on a machine that is slow.
    monkeypatch.setattr("nectargan_pix2pix.cli._ONE_SIGNAL", 60.0)
    monkeypatch.setattr(run_module, "train", raising(number, times=3))
    result = train("--data", data, "--epochs", 5, "--out", tmp_path, *TINY)
    assert result.exit_code == 128 + number
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["steps"] == 1


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_the_real_program_with_everything_saved(data, tmp_path):
    command = [sys.executable, "-m", "nectargan_pix2pix", "train", "--data", data, "--epochs", "100000"]
    process = subprocess.Popen(
        [*command, "--out", tmp_path, *TINY], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout.readline().startswith("pix2pix on cpu: ")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert errors == "Stopped by SIGINT; log and checkpoint are saved. Go on with --resume.\n"
    assert list((tmp_path / "grids").glob("epoch_*.png"))
    assert len(LossLog(tmp_path).series("G_L1")) >= 1
    assert "generator" in torch.load(tmp_path / "checkpoint.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="Windows has no such terminals")
def test_a_terminal_that_is_closed_stops_the_real_program_with_everything_saved(data, tmp_path):
    ours, theirs = os.openpty()
    code = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    command = [sys.executable, "-m", "nectargan_pix2pix", "train", "--data", data, "--epochs", "100000"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, command), "--out", str(tmp_path), *TINY],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said = b""
    while b"pix2pix on cpu: " not in said:
        said += os.read(ours, 4096)
    os.close(ours)
    assert process.wait(timeout=120) == 129
    for name in ("summary.txt", "curves.png"):
        assert (tmp_path / name).exists()
    assert len(LossLog(tmp_path).series("G_L1")) == torch.load(tmp_path / "checkpoint.pt", weights_only=True)["steps"]


# Bad input


def message(result):
    assert result.exit_code == 1, result.output
    # Both streams, since click 8.1 does not keep them apart.
    (said,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert result.output.endswith(f"{said}\n")
    return said


@pytest.mark.parametrize("source", [(), ("--data", "somewhere", "--sample-photos")])
def test_exactly_one_source_of_images_is_required(tmp_path, source):
    result = train(*source, "--out", tmp_path)
    assert result.exit_code == 2
    assert "give either --data DIR or --sample-photos" in result.output


def test_a_folder_without_images_is_refused_in_one_line(tmp_path):
    assert "expected a pix2pix folder" in message(train("--data", tmp_path, "--out", tmp_path / "out"))


def test_an_unknown_objective_is_refused_in_one_line(data, tmp_path):
    assert "pix2pux" in message(train("--spec", "pix2pux", "--data", data, "--out", tmp_path))


def test_a_config_that_is_missing_is_named(data, tmp_path):
    result = train("--data", data, "--out", tmp_path, "--config", tmp_path / "none.json")
    assert "none.json" in message(result)


def test_an_unknown_direction_is_refused(data, tmp_path):
    config = tmp_path / "config.json"
    config.write_text('{"dataloader": {"direction": "AB"}}')
    result = train("--data", data, "--out", tmp_path, "--config", config)
    assert "dataloader.direction is 'AtoB' or 'BtoA', got 'AB'" in message(result)


@pytest.mark.parametrize("device", ["nonsense", "cuda:99"])
def test_a_device_that_does_not_exist_is_refused(data, tmp_path, device):
    result = train("--data", data, "--out", tmp_path, "--device", device)
    assert f"the device '{device}' cannot be used" in message(result)


def with_another(monkeypatch, function, **keywords):
    """Let every objective have one more loss."""
    original = objective_module.LossManager.from_spec

    def made(*arguments, **others):
        manager = original(*arguments, **others)
        manager.register_loss_fn("ANOTHER", function, **{"tags": ["G"], **keywords})
        return manager

    monkeypatch.setattr(objective_module.LossManager, "from_spec", made)


def untouched(directory):
    """Whether a directory is as it was before a run was refused."""
    return not directory.exists()


def test_a_loss_without_the_tag_of_a_network_is_refused(data, tmp_path, monkeypatch):
    with_another(monkeypatch, torch.nn.L1Loss(), tags=["smooth"])
    result = train("--data", data, "--out", tmp_path / "out", *TINY)
    assert "does not know which network ANOTHER is to train" in message(result)
    assert untouched(tmp_path / "out")


def test_an_objective_without_losses_of_the_generator_is_refused(data, tmp_path, monkeypatch):
    original = objective_module.LossManager.from_spec

    def made(*arguments, **others):
        manager = original(*arguments, **others)
        manager.unregister("G")
        return manager

    monkeypatch.setattr(objective_module.LossManager, "from_spec", made)
    result = train("--data", data, "--out", tmp_path / "out", *TINY)
    assert "nothing would train the generator" in message(result)
    assert untouched(tmp_path / "out")


@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_an_input_that_the_trainer_does_not_have_is_refused(data, tmp_path, monkeypatch, weight):
    with_another(monkeypatch, lambda mask: mask.mean(), inputs=("mask",), loss_weight=weight)
    result = train("--data", data, "--out", tmp_path / "out", *TINY)
    assert "'ANOTHER' reads 'mask', which the trainer does not have" in message(result)
    assert untouched(tmp_path / "out")


@pytest.mark.parametrize("schedule", [None, Schedule(start=2, end=5, initial_value=0.0)])
def test_a_loss_that_fails_is_refused_before_anything_is_written(data, tmp_path, monkeypatch, schedule):
    def failing(y_fake, y):
        raise RuntimeError("sizes differ\nand more")

    with_another(monkeypatch, failing, schedule=schedule)
    result = train("--data", data, "--out", tmp_path / "out", *TINY)
    assert "the first step fails, and nothing was written: RuntimeError: sizes differ (test_cli.py" in message(result)
    assert untouched(tmp_path / "out")


def test_a_loss_whose_state_a_checkpoint_cannot_hold_is_refused(data, tmp_path, monkeypatch):
    class Odd(torch.nn.Module):
        def get_extra_state(self):
            return {"when": np.datetime64(0, "s")}

        def set_extra_state(self, state):
            pass

        def forward(self, y_fake, y):
            return (y_fake - y).mean()

    with_another(monkeypatch, Odd())
    result = train("--data", data, "--out", tmp_path / "out", *TINY)
    assert "cannot be kept in a checkpoint" in message(result)
    assert untouched(tmp_path / "out")


def test_an_image_that_cannot_be_read_is_refused_before_anything_is_written(data, tmp_path):
    copy = tmp_path / "data"
    shutil.copytree(data, copy)
    path = copy / "train" / "3.png"
    path.write_bytes(path.read_bytes()[:-1000])
    assert "3.png cannot be read" in message(train("--data", copy, "--out", tmp_path / "out", *TINY))
    assert untouched(tmp_path / "out")


def test_an_image_that_is_lost_meanwhile_ends_the_training_with_one_line(data, tmp_path, monkeypatch):
    from nectargan_pix2pix.images import DataError

    def broken(*_):
        raise DataError("train/3.png cannot be read: truncated; replace or remove it")

    monkeypatch.setattr(Crops, "take", broken)
    assert "train/3.png cannot be read" in message(train("--data", data, "--out", tmp_path, *TINY))


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--weight", "G_L1"),
        ("--weight", "G_L1=many"),
        ("--weight", "G_L1=nan"),
        ("--weight", "=3"),
        ("--schedule", "G_L1"),
        ("--schedule", "G_L1=linear:end"),
        ("--schedule", "G_L1=linear:end=1,end=2"),
        ("--schedule", "G_L1=linear:"),
        ("--schedule", "G_L1=linear:start=3,end=1"),
        ("--schedule", "G_L1=linear:unit=lightyears"),
    ],
)
def test_a_weight_or_schedule_that_cannot_be_read_is_refused(data, tmp_path, option, text):
    said = message(train(option, text, "--data", data, "--out", tmp_path / "out", *TINY))
    assert "such as 'G_L1=" in said
    assert untouched(tmp_path / "out")


@pytest.mark.parametrize(
    ("option", "text", "expected"),
    [
        ("--weight", "G_L3=5", "G_L3"),
        ("--schedule", "G_L3=linear:end=1,target_value=0", "G_L3"),
        ("--schedule", "G_L1=linnear:end=1", "linnear"),
        ("--schedule", "G_L1=linear:end=1,steepness=2", "steepness"),
        ("--schedule", "G_L1=linear:strat=1,end=2", "Did you mean 'start' for 'strat'?"),
        ("--schedule", "G_L1=linear:end=1,target_valu=0", "Did you mean 'target_value' for 'target_valu'?"),
    ],
)
def test_a_weight_or_schedule_that_does_not_fit_is_refused(data, tmp_path, option, text, expected):
    assert expected in message(train(option, text, "--data", data, "--out", tmp_path / "out", *TINY))
    assert untouched(tmp_path / "out")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("formula = 'gan +'", "column"),
        ("formula = 'gan'\nspeed = 3", "speed"),
        ("formula = ", "objective.toml"),
        ("formula = 'gan + l1'\n[losses.G_L7]\nweight = 1.0", "G_L7"),
        ("formula = 'l1'\n[[extra]]\nname = 'a'\nfunction = 'os:system'", "torch.nn"),
        ("formula = 'l1'\ntotal_epochs = 2.5", "total_epochs"),
        ("formula = 'l1'\ntotal_steps = 4", "total_steps is 4, and a training has whole epochs; write total_epochs"),
    ],
)
def test_a_wrong_objective_file_is_refused(data, tmp_path, text, expected):
    (tmp_path / "objective.toml").write_text(text)
    result = train("--objective", tmp_path / "objective.toml", "--data", data, "--out", tmp_path / "out", *TINY)
    assert result.exit_code == 1
    assert re.search(r"^Error: .*objective\.toml[: ]", result.output, re.M)
    assert expected in result.output
    assert untouched(tmp_path / "out")


def test_a_file_that_is_given_as_a_formula_is_refused_with_the_option_for_it(data, tmp_path):
    said = message(train("--spec", "some/o.toml", "--data", data, "--out", tmp_path / "out", *TINY))
    assert said.endswith("give --objective some/o.toml")


@pytest.mark.slow
@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_another_length_than_that_of_a_record_is_no_difference_if_asked_for(data, finished, tmp_path):
    given = ("--objective", finished[0] / "manifest.json", "--data", data, *TINY)
    result = train(*given, "--epochs", 1, "--out", tmp_path / "out")
    again = train("--resume", "--epochs", 2, "--out", tmp_path / "out")
    assert (result.exit_code, again.exit_code) == (0, 0)
    assert "Warning" not in result.output + again.output


def test_steps_in_an_objective_file_are_left_aside_where_epochs_are_given(data, tmp_path):
    (tmp_path / "o.toml").write_text("formula = 'l1'\ntotal_steps = 400\n")
    given = ("--objective", tmp_path / "o.toml", "--epochs", 1)
    result = train(*given, "--data", data, "--out", tmp_path / "out", *TINY)
    assert result.exit_code == 0, result.output
    assert LossLog(tmp_path / "out").header["total_epochs"] == 1


def test_an_objective_file_that_is_not_there_is_named(data, tmp_path):
    result = train("--objective", tmp_path / "none.toml", "--data", data, "--out", tmp_path / "out", *TINY)
    assert "none.toml" in message(result)


def test_a_formula_and_a_file_exclude_each_other(data, tmp_path, objective):
    result = train("--objective", objective, "--spec", "l1", "--data", data, "--out", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert "give --spec or --objective, not both" in result.output


def test_a_loss_is_given_one_weight(data, tmp_path):
    result = train("--weight", "G_L1=1", "--weight", "G_L1=2", "--data", data, "--out", tmp_path / "out", *TINY)
    assert "--weight is given twice for G_L1" in message(result)


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "fast"])
def test_a_learning_rate_is_a_finite_number_above_zero(data, tmp_path, rate):
    result = train("--lr-g", rate, "--data", data, "--out", tmp_path / "out", *TINY)
    assert result.exit_code == 2
    assert "expected a finite number above 0" in result.output


@pytest.mark.parametrize("place", ["file/out", "file"])
def test_an_output_below_a_file_is_refused(data, tmp_path, place):
    (tmp_path / "file").touch()
    assert "nothing can be written to" in message(train("--data", data, "--out", tmp_path / place, *TINY))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="whoever is root may write anywhere")
def test_an_output_that_may_not_be_written_to_is_refused(data, tmp_path):
    tmp_path.chmod(0o500)
    assert "nothing can be written to" in message(train("--data", data, "--out", tmp_path / "out", *TINY))


@pytest.mark.slow
@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_a_checkpoint_that_cannot_be_written_is_warned_of_and_the_one_before_stays(data, tmp_path, monkeypatch):
    original = run_module.writing.replace

    def full(path, content):
        if path.name == "checkpoint.pt" and (tmp_path / "grids" / "epoch_0001.png").exists():
            raise OSError(28, "No space left on device")
        original(path, content)

    monkeypatch.setattr(run_module.writing, "replace", full)
    result = train("--data", data, "--epochs", 3, "--out", tmp_path, *TINY)
    assert "Warning: cannot write the checkpoint" in result.output
    assert "held-out PSNR" in result.output
    assert "cannot write the checkpoint" in message(result)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epochs"] == 1
    assert (tmp_path / "summary.txt").exists()
    assert (tmp_path / "curves.png").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_a_grid_that_cannot_be_written_is_not_said_to_be_there(data, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nectargan_pix2pix.results.draw_grid", full)
    result = train("--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert re.search(r"^epoch 1: output [0-9.]+ dB$", result.output, re.M)
    assert re.search(r"^Warning: cannot write .*epoch_0001\.png", result.output, re.M)


@pytest.mark.slow
@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_a_training_that_ends_with_losses_that_are_nan_says_so(data, tmp_path):
    result = train("--weight", "G_L1=1e308", "--data", data, "--epochs", 2, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert re.search(r"^Warning: nan or infinite at the end of the training: .*; the networks", result.output, re.M)
    warned = [line for line in result.output.splitlines() if "Warning" in line]
    assert len([line for line in warned if not line.startswith("Warning: ")]) == 0


def test_a_missing_library_names_the_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    expected = "training needs rich, which is not installed: pip install 'nectargan-pix2pix[train]'"
    assert expected in message(train("--data", data, "--out", tmp_path))


def test_a_missing_module_of_this_package_is_not_reported_as_a_missing_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nectargan_pix2pix.run", None)
    assert isinstance(train("--data", data, "--out", tmp_path).exception, ModuleNotFoundError)


@pytest.mark.slow
def test_warnings_of_nectargan_are_shown_in_one_line_and_others_unchanged(data, tmp_path, monkeypatch):
    original = run_module.Batches

    def warning(*arguments):
        warnings.warn("the disk is full", NectarganWarning, stacklevel=1)
        warnings.warn("old way", FutureWarning, stacklevel=1)
        return original(*arguments)

    monkeypatch.setattr(run_module, "Batches", warning)
    with pytest.warns(FutureWarning, match="old way") as others:
        result = train("--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert "\nWarning: the disk is full\n" in f"\n{result.output}"
    assert len(others) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
def test_what_an_objective_warns_of_is_shown_once(data, tmp_path):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"train": {"loss": {"lambda_l1": 0}}}))
    result = train("--data", data, "--epochs", 1, "--out", tmp_path, "--config", config, *TINY)
    assert result.output.count("Warning: ") == result.output.count("lambda_l1") == 1


def test_help_and_version_need_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "--sample-photos" in CliRunner().invoke(main, ["train", "--help"]).output
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output
