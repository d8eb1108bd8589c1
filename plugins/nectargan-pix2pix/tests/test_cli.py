"""The program: the files that a run writes, how it is stopped, and the errors for bad input."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix import run as run_module
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.networks import Discriminator, Generator
from nectargan_pix2pix.photos import Crops, Photographs
from PIL import Image

from nectargan_core import LossLog
from nectargan_core.errors import NectarganError, NectarganWarning

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
        "checkpoint.pt",
        "summary.txt",
        "grids/epoch_0001.png",
        "grids/epoch_0002.png",
    }


def test_the_log_has_every_loss_at_every_step(finished):
    log = LossLog(finished[0])
    assert set(log.names) == {"G_GAN", "G_L1", "D_real", "D_fake", "G_L2", "G_SOBEL", "G_LAP"}
    for name in log.names:
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
    for name in LossLog(out).names:
        assert f"\n{name} " in summary


def test_progress_shows_the_losses(finished):
    _, result = finished
    assert "epoch 2/2" in result.output
    assert "G_SOBEL " in result.output.partition("loss, weighted")[0]


def test_grids_show_held_out_images(finished, data):
    with Image.open(finished[0] / "grids" / "epoch_0002.png") as grid, Image.open(data / "val" / "0.png") as pair:
        pixels, expected = np.asarray(grid), np.asarray(pair)
    assert np.array_equal(pixels[52:84, 8:40], expected[:, :32])
    assert np.array_equal(pixels[52:84, 8 + 2 * 40 : 40 + 2 * 40], expected[:, 32:])


@pytest.mark.slow
def test_one_seed_gives_one_log(data, tmp_path):
    losses = []
    for seed, out in ((3, "a"), (3, "b"), (4, "c")):
        train("--data", data, "--epochs", 1, "--out", tmp_path / out, "--seed", seed, *TINY)
        losses.append(LossLog(tmp_path / out).series("G_L1").loss.tolist())
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.slow
def test_another_run_into_the_same_folder_replaces_the_results(data, tmp_path):
    for epochs in (3, 1):
        assert train("--data", data, "--epochs", epochs, "--out", tmp_path, *TINY).exit_code == 0
    assert [path.name for path in (tmp_path / "grids").iterdir()] == ["epoch_0001.png"]
    assert LossLog(tmp_path).series("G_L1").epoch.tolist() == [0, 0]
    assert "epoch 1  epoch 1" in (tmp_path / "summary.txt").read_text()


def test_a_loss_added_by_name_is_trained(data, tmp_path):
    result = train("--spec", "pix2pix+sobel", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert len(LossLog(tmp_path).series("G_SOBEL")) == 2


def test_an_objective_without_a_discriminator_is_trained(data, tmp_path):
    result = train("--spec", "sobel", "--data", data, "--epochs", 1, "--out", tmp_path, *TINY)
    assert result.exit_code == 0, result.output
    assert LossLog(tmp_path).names == ("G_SOBEL",)


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
    assert re.search(r"held-out PSNR, mean of 2: input 23\.\d\d dB", result.output)


def test_at_most_eight_grids_and_the_last_epoch_are_drawn():
    assert [epoch for epoch in range(1, 41) if run_module._due(epoch, 40)] == [5, 10, 15, 20, 25, 30, 35, 40]
    assert [epoch for epoch in range(1, 4) if run_module._due(epoch, 3)] == [1, 2, 3]


@pytest.mark.slow
def test_held_out_images_are_never_trained_on(monkeypatch, tmp_path):
    held_out = torch.full((3, 32, 32), 0.25)
    training = torch.zeros(3, 32, 32)
    seen = []

    def watched(manager, networks, batches, epochs):
        for x, y in batches:
            seen.extend((*x, *y))
        return original(manager, networks, batches, epochs)

    original = run_module.train
    monkeypatch.setattr(run_module, "train", watched)
    monkeypatch.setattr(
        "nectargan_pix2pix.photos.folder",
        lambda *_, **__: Photographs(Crops([(training, training)], 32, 4), [(held_out, held_out)], "constants"),
    )
    assert train("--data", "anywhere", "--epochs", 1, "--out", tmp_path, *TINY).exit_code == 0
    assert len(seen) == 8
    assert all(torch.equal(image, training) for image in seen)


# Stopping


def raising(number, times=1):
    """Return a training loop that raises a signal after its first step."""
    original = run_module.train

    def interrupted(*arguments):
        for count, epoch in enumerate(original(*arguments)):
            if count == 0:
                for _ in range(times):
                    signal.raise_signal(number)
            yield epoch

    return interrupted


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_training_with_everything_saved(data, tmp_path, monkeypatch, number, status):
    monkeypatch.setattr(run_module, "train", raising(number))
    before = signal.getsignal(number)
    result = train("--data", data, "--epochs", 5, "--out", tmp_path, *TINY)
    assert result.exit_code == status
    assert f"Stopped by {signal.Signals(number).name}; log and checkpoint are saved." in result.output
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["epochs"] == 0
    assert {"curves.png", "summary.txt"} <= {path.name for path in tmp_path.iterdir()}
    assert signal.getsignal(number) is before


def test_a_signal_after_the_last_step_is_no_interruption(data, tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "train", raising(signal.SIGINT))
    result = train("--data", data, "--epochs", 1, "--out", tmp_path, *TINY[:2], "--batch-size", 4)
    assert result.exit_code == 0, result.output


def test_a_second_ctrl_c_ends_the_program_at_once(data, tmp_path, monkeypatch, request):
    monkeypatch.setattr(run_module, "train", raising(signal.SIGINT, times=2))
    # A library may have left this handler.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before or signal.default_int_handler))
    result = train("--data", data, "--epochs", 5, "--out", tmp_path, *TINY)
    assert result.exit_code == 130
    assert "what was not saved by then is lost" in result.output
    assert not (tmp_path / "checkpoint.pt").exists()


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
    assert errors == "Stopped by SIGINT; log and checkpoint are saved.\n"
    assert len(LossLog(tmp_path).series("G_L1")) >= 1
    assert "generator" in torch.load(tmp_path / "checkpoint.pt", weights_only=True)


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


def test_an_output_that_is_a_file_is_refused(data, tmp_path):
    (tmp_path / "file").touch()
    assert "file" in message(train("--data", data, "--out", tmp_path / "file", *TINY))


def test_a_loss_without_the_tag_of_a_network_is_refused(data, tmp_path, monkeypatch):
    original = run_module.LossManager.from_spec

    def with_another(*arguments, **keywords):
        manager = original(*arguments, **keywords)
        manager.register_loss_fn("TV", torch.nn.L1Loss(), tags=["smooth"])
        return manager

    monkeypatch.setattr(run_module.LossManager, "from_spec", with_another)
    result = train("--data", data, "--out", tmp_path, *TINY)
    assert "does not know which network TV is to train" in message(result)


def test_an_image_that_cannot_be_read_ends_the_training_with_one_line(data, tmp_path, monkeypatch):
    from nectargan_pix2pix.photos import DataError

    def broken(*_):
        raise DataError("train/3.png cannot be read: truncated; replace or remove it")

    monkeypatch.setattr(Crops, "__getitem__", broken)
    assert "train/3.png cannot be read" in message(train("--data", data, "--out", tmp_path, *TINY))


def test_a_missing_library_names_the_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    expected = "training needs rich, which is not installed: pip install 'nectargan-pix2pix[train]'"
    assert expected in message(train("--data", data, "--out", tmp_path))


def test_a_missing_module_of_this_package_is_not_reported_as_a_missing_extra(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "nectargan_pix2pix.run", None)
    assert isinstance(train("--data", data, "--out", tmp_path).exception, ModuleNotFoundError)


def test_warnings_of_nectargan_are_shown_in_one_line_and_others_unchanged(data, tmp_path, monkeypatch):
    def warning(*_):
        warnings.warn("the disk is full", NectarganWarning, stacklevel=1)
        warnings.warn("old way", FutureWarning, stacklevel=1)
        raise NectarganError("enough")

    monkeypatch.setattr(Crops, "__getitem__", warning)
    with pytest.warns(FutureWarning, match="old way") as others:
        result = train("--data", data, "--out", tmp_path, *TINY)
    assert "\nWarning: the disk is full\n" in f"\n{result.output}"
    assert len(others) == 1


def test_help_and_version_need_no_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert "--sample-photos" in CliRunner().invoke(main, ["train", "--help"]).output
    assert "0.1.0" in CliRunner().invoke(main, ["--version"]).output
