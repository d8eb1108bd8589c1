"""Runs that go on: exactly as if they had never stopped, with the options that they had, and over nobody's files."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix import run as run_module
from nectargan_pix2pix.cli import main
from PIL import Image

from nectargan_core import LossLog, LossManager

TINY = ("--channels", "1", "--batch-size", "2", "--device", "cpu")
LOCK = "loss_log.jsonl.lock"
COLUMNS = ("step", "epoch", "loss", "weight", "unweighted")

pytestmark = pytest.mark.usefixtures("without_curves")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A pix2pix folder with five pairs of noise to train on, so that a batch is not full, and one held out."""
    root = tmp_path_factory.mktemp("pairs")
    noise = np.random.default_rng(0)
    for part, count in (("train", 5), ("val", 1)):
        (root / part).mkdir()
        for number in range(count):
            Image.fromarray(noise.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(root / part / f"{number}.png")
    return root


def train(*arguments):
    return CliRunner().invoke(main, ["train", *map(str, arguments)])


def run(out, data, *arguments):
    result = train("--out", out, "--data", data, "--epochs", 3, *TINY, *arguments)
    assert result.exit_code == 0, result.output
    return result


def message(result):
    assert result.exit_code == 1, result.output
    (said,) = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    return said


def files(directory):
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*.*")}


def files_only(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def state_of(directory):
    return torch.load(directory / "checkpoint.pt", weights_only=True)


def assert_same(first, second, where="checkpoint"):
    """Compare what two checkpoints hold, to the last bit."""
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second), where
    elif isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            assert_same(first[key], second[key], f"{where}.{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), where
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{where}[{index}]")
    else:
        assert first == second, where


def assert_same_run(first, second):
    a, b = LossLog(first), LossLog(second)
    assert a.names == b.names
    for name in a.names:
        for column in COLUMNS:
            ours, theirs = getattr(a.series(name), column), getattr(b.series(name), column)
            assert np.array_equal(ours, theirs, equal_nan=True), (name, column)
    assert_same(state_of(first), state_of(second))


def stopping(monkeypatch, *steps):
    """Let the first runs of the program be stopped after these steps."""
    original = run_module.train
    left = list(steps)
    calls = []

    def stopped(*arguments):
        calls.append(arguments)
        # Each run does one step before its training.
        is_training = len(calls) % 2 == 0
        step = left.pop(0) if is_training and left else None
        for done in original(*arguments):
            if done == step:
                signal.raise_signal(signal.SIGTERM)
            yield done

    monkeypatch.setattr(run_module, "train", stopped)


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that was never stopped: three epochs of three steps."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(out, data)
    return out


# Going on


@pytest.mark.parametrize("steps", [(3, 7), pytest.param((1, 2, 5, 6), marks=pytest.mark.slow)])
def test_a_run_that_is_stopped_and_resumed_is_the_same_run(data, whole, tmp_path, monkeypatch, steps):
    stopping(monkeypatch, *steps)
    result = train("--out", tmp_path, "--data", data, "--epochs", 3, *TINY)
    for _ in steps:
        assert result.exit_code == 143, result.output
        result = train("--out", tmp_path, "--resume")
    assert result.exit_code == 0, result.output
    assert_same_run(tmp_path, whole)


@pytest.mark.slow
def test_random_numbers_of_losses_go_on(data, tmp_path, monkeypatch):
    original = LossManager.from_spec

    def with_noise(*arguments, **keywords):
        manager = original(*arguments, **keywords)
        noise = {
            "TORCH": lambda y_fake: y_fake.mean() * 0 + torch.rand(()),
            "NUMPY": lambda y_fake: y_fake.mean() * 0 + np.random.standard_normal(),  # noqa: NPY002
            "PYTHON": lambda y_fake: y_fake.mean() * 0 + random.random(),
        }
        for name, function in noise.items():
            manager.register_loss_fn(name, function, tags=["G"], inputs=("y_fake",))
        return manager

    monkeypatch.setattr("nectargan_pix2pix.objective.LossManager.from_spec", with_noise)
    run(tmp_path / "whole", data)
    stopping(monkeypatch, 4)
    train("--out", tmp_path / "stopped", "--data", data, "--epochs", 3, *TINY)
    assert train("--out", tmp_path / "stopped", "--resume").exit_code == 0
    assert_same_run(tmp_path / "stopped", tmp_path / "whole")


def test_a_run_that_was_killed_goes_on_after_its_last_checkpoint(data, whole, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "run")
    stopping(monkeypatch, 4)
    train("--out", tmp_path / "stopped", "--data", data, "--epochs", 3, *TINY)
    # As if it had gone on without another checkpoint: the log is ahead.
    shutil.copy(tmp_path / "stopped" / "checkpoint.pt", tmp_path / "run" / "checkpoint.pt")
    result = train("--out", tmp_path / "run", "--resume")
    assert "Resumed after step 4, in epoch 2 of 3." in result.output
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
@pytest.mark.parametrize(("often", "expected"), [(2, [0, 2, 3, 4, 6, 8, 9]), (None, [0, 3, 6, 9])])
def test_checkpoints_are_written_each_epoch_and_as_often_as_asked(data, tmp_path, monkeypatch, often, expected):
    written = []
    original = run_module.checkpoint.pack

    def noting(parts):
        written.append(parts["steps"])
        return original(parts)

    monkeypatch.setattr(run_module.checkpoint, "pack", noting)
    run(tmp_path, data, *(("--checkpoint-every", often) if often else ()))
    assert written[1:] == expected  # the first is not written, but looked at


def test_a_run_that_is_complete_says_so_and_is_left_as_it_is(data, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    before = files(out)
    result = train("--out", out, "--resume", "--data", data)
    assert result.exit_code == 0
    assert "is complete: 3 of 3 epochs" in result.output
    assert files(out) == before


def test_a_run_that_was_killed_before_its_report_gets_it(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for name in ("summary.txt", "curves.png"):
        (out / name).unlink()
    result = train("--out", out, "--resume")
    assert result.exit_code == 0, result.output
    assert (out / "summary.txt").read_bytes() == (whole / "summary.txt").read_bytes()
    assert (out / "curves.png").exists()
    assert_same_run(out, whole)


@pytest.mark.slow
def test_more_epochs_continue_a_run_at_the_rates_of_the_new_length(data, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    result = train("--out", out, "--resume", "--epochs", 8)
    assert result.exit_code == 0, result.output
    log = LossLog(out)
    assert log.series("G_L1").step.tolist() == list(range(24))
    assert [header["total_epochs"] for header in log.headers] == [3, 8]
    assert np.array_equal(log.series("G_L1").loss[:9], LossLog(whole).series("G_L1").loss)
    state = state_of(out)
    assert state["options"]["epochs"] == 8
    # In the last epoch, of which there are four in the second half.
    assert state["generator_optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-3 / 4)


@pytest.mark.filterwarnings("always::nectargan_core.errors.NectarganWarning")
@pytest.mark.slow
def test_a_log_that_was_lost_is_warned_of_and_begun_again(data, tmp_path, monkeypatch):
    stopping(monkeypatch, 4)
    train("--out", tmp_path, "--data", data, "--epochs", 3, *TINY)
    (tmp_path / "loss_log.jsonl").unlink()
    result = train("--out", tmp_path, "--resume")
    assert re.search(r"\nWarning: the log in .* ends at step -1, and the checkpoint is of step 3", result.output)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [4, 5, 6, 7, 8]


# With the options that it had


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--batch-size", 4), "--batch-size is 2 in that run, and 4 is given"),
        (("--spec", "pix2pix+sobel"), "--spec is pix2pix in that run, and pix2pix+sobel is given"),
        (("--seed", 1), "--seed is 0 in that run, and 1 is given"),
        (("--epochs", 2), "--epochs is 3 in that run, and 2 is given"),
        (("--weight", "G_L1=1"), "--weight G_L1 is left out in that run, and 1.0 is given"),
        (("--lr-d", 1), "--lr-d is 0.0002 in that run, and 1.0 is given"),
    ],
)
def test_other_options_are_refused(data, whole, arguments, expected):
    before = files(whole)
    assert expected in message(train("--out", whole, "--resume", *arguments))
    assert files(whole) == before


@pytest.mark.slow
def test_an_objective_file_is_kept_by_the_run(data, tmp_path, monkeypatch):
    path = tmp_path / "objective.toml"
    path.write_text('formula = "gan + 100*l1"\n[losses.G_L1]\nweight = 50.0\n')
    stopping(monkeypatch, 2)
    train("--objective", path, "--out", tmp_path / "run", "--data", data, "--epochs", 1, *TINY)
    path.write_text('formula = "gan + 100*l1"\n[losses.G_L1]\nweight = 60.0\n')
    said = message(train("--objective", path, "--out", tmp_path / "run", "--resume"))
    assert "--objective losses.G_L1.weight is 50.0 in that run, and 60.0 is given" in said
    path.unlink()
    assert train("--out", tmp_path / "run", "--resume").exit_code == 0
    assert LossLog(tmp_path / "run").series("G_L1").weight.tolist() == [50, 50, 50]


def test_a_key_of_the_config_that_differs_is_named(data, whole, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"config": {"train": {"loss": {"lambda_l1": 8}}}}))
    said = message(train("--out", whole, "--resume", "--config", tmp_path / "config.json"))
    assert "train.loss.lambda_l1 is left out in that run, and 8 is given" in said


def test_losses_that_are_others_by_now_are_refused(data, tmp_path, monkeypatch):
    stopping(monkeypatch, 2)
    train("--out", tmp_path, "--data", data, "--epochs", 1, *TINY)
    original = LossManager.from_spec

    def another(*arguments, **keywords):
        manager = original(*arguments, **keywords)
        manager.unregister("G_L1")
        manager.register_loss_fn("G_L1", torch.nn.HuberLoss(), 100.0, tags=["G"])
        return manager

    monkeypatch.setattr("nectargan_pix2pix.objective.LossManager.from_spec", another)
    before = files(tmp_path)
    said = train("--out", tmp_path, "--resume").output
    assert "Error: the state is of other losses" in said
    assert "G_L1" in said
    lock = "loss_log.jsonl.lock"
    assert {**files(tmp_path), lock: b""} == {**before, lock: b""}


def test_options_may_be_given_again(data, whole):
    result = train("--out", whole, "--resume", "--data", data, "--epochs", 3, "--spec", "pix2pix", *TINY)
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_the_same_images_may_be_elsewhere(data, whole, tmp_path, monkeypatch):
    stopping(monkeypatch, 4)
    train("--out", tmp_path / "run", "--data", data, "--epochs", 3, *TINY)
    shutil.copytree(data, tmp_path / "moved")
    result = train("--out", tmp_path / "run", "--resume", "--data", tmp_path / "moved")
    assert result.exit_code == 0, result.output
    for name in LossLog(whole).names:
        ours, theirs = (LossLog(place).series(name).loss for place in (tmp_path / "run", whole))
        assert np.array_equal(ours, theirs)


def test_other_images_are_refused(data, whole, tmp_path):
    shutil.copytree(data, tmp_path / "other")
    (tmp_path / "other" / "train" / "4.png").unlink()
    before = files(whole)
    result = train("--out", whole, "--resume", "--data", tmp_path / "other", "--epochs", 4)
    assert "the images are not those that the run" in message(result)
    assert "the images are not those" in message(train("--out", whole, "--resume", "--sample-photos", "--epochs", 4))
    assert files(whole) == before


@pytest.mark.parametrize("place", [".", "none"])
def test_where_no_run_is_there_is_nothing_to_resume(tmp_path, place):
    assert "expected the directory of a run" in message(train("--out", tmp_path / place, "--resume"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("generator", {}),
        ("options", {}),
        ("learned", {"modules": {"a": torch.zeros(1)}, "optimizer": None}),
        ("random", {}),
        ("losses", {}),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(whole, tmp_path, key, value):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "checkpoint.pt").write_bytes(run_module.checkpoint.pack({**state_of(out), key: value}))
    before = files(out)
    assert "checkpoint.pt" in message(train("--out", out, "--resume", "--epochs", 4))
    lock = "loss_log.jsonl.lock"
    assert {**files(out), lock: b""} == {**before, lock: b""}


def test_a_damaged_checkpoint_is_refused_and_nothing_is_touched(whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    content = bytearray((out / "checkpoint.pt").read_bytes())
    for position in range(0, len(content), len(content) // 5):
        content[position] ^= 4
        (out / "checkpoint.pt").write_bytes(content)
        content[position] ^= 4
        before = files(out)
        assert "checkpoint.pt is damaged" in message(train("--out", out, "--resume", "--epochs", 4))
        assert files(out) == before


# Over nobody's files


def test_a_second_run_into_the_same_directory_is_refused(data, whole):
    before = files(whole)
    said = message(train("--out", whole, "--data", data, *TINY))
    assert "has a run in it" in said
    assert "--resume" in said
    assert "--overwrite" in said
    assert files(whole) == before


@pytest.mark.parametrize(
    "name", ["checkpoint.pt", "loss_log.jsonl", "curves.png", "summary.txt", "grids/epoch_0001.png"]
)
def test_any_file_of_a_run_is_kept_from_another(data, tmp_path, name):
    (tmp_path / "grids").mkdir()
    (tmp_path / name).write_bytes(b"old")
    assert name in message(train("--out", tmp_path, "--data", data, *TINY))
    assert (tmp_path / name).read_bytes() == b"old"


def test_other_files_are_in_nobodys_way(data, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    run(tmp_path, data)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_overwriting_replaces_all_files_of_a_run(data, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    (out / "notes.txt").write_text("mine")
    result = train("--out", out, "--data", data, "--overwrite", "--epochs", 1, *TINY)
    assert result.exit_code == 0, result.output
    assert [path.name for path in (out / "grids").iterdir()] == ["epoch_0001.png"]
    assert LossLog(out).series("G_L1").epoch.tolist() == [0, 0, 0]
    assert (out / "notes.txt").read_text() == "mine"


def test_a_run_that_cannot_write_its_checkpoint_leaves_the_old_one(data, whole, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = files(whole)
    monkeypatch.setattr(run_module.writing, "replace", full)
    assert "cannot write the checkpoint" in message(train("--out", whole, "--data", data, "--overwrite", *TINY))
    lock = "loss_log.jsonl.lock"
    assert {**files(whole), lock: b""} == {**before, lock: b""}


def test_a_file_that_cannot_be_removed_is_named_and_the_old_run_is_left(data, whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    original = run_module.Path.replace

    def immutable(path, target):
        if path.name == "summary.txt":
            raise PermissionError(1, "Operation not permitted", str(path))
        return original(path, target)

    before = files(out)
    monkeypatch.setattr(run_module.Path, "replace", immutable)
    said = message(train("--out", out, "--data", data, "--overwrite", *TINY))
    assert "summary.txt: Operation not permitted; nothing was changed there" in said
    assert {**files(out), LOCK: b""} == {**before, LOCK: b""}


def test_a_summary_that_cannot_be_removed_is_named_by_a_run_that_goes_on(whole, tmp_path, monkeypatch):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    original = run_module.Path.unlink

    def immutable(path, missing_ok=False):
        if path.name == "summary.txt":
            raise PermissionError(1, "Operation not permitted", str(path))
        original(path, missing_ok=missing_ok)

    before = files(out)
    monkeypatch.setattr(run_module.Path, "unlink", immutable)
    said = message(train("--out", out, "--resume", "--epochs", 4))
    assert "cannot go on in" in said
    assert "summary.txt: Operation not permitted" in said
    after = files(out)
    # What is added to the log says only that it was to go on after its last step.
    assert after.pop("loss_log.jsonl").startswith(before.pop("loss_log.jsonl"))
    assert {**after, LOCK: b""} == {**before, LOCK: b""}
    assert LossLog(out).series("G_L1").step.tolist() == list(range(9))


@pytest.mark.parametrize("how", ["begin", "--overwrite", "--resume"])
@pytest.mark.parametrize(
    "name",
    ["grids/epoch_0009.png", "summary.txt", "curves.png", "manifest.json", "checkpoint.pt", ".checkpoint.pt.tmp"],
)
def test_a_directory_in_the_place_of_a_file_is_named_before_anything_is_touched(data, whole, tmp_path, how, name):
    out = tmp_path / "run"
    if how != "begin":
        shutil.copytree(whole, out)
        (out / name).unlink(missing_ok=True)
    (out / name).mkdir(parents=True)
    before = files_only(out)
    given = ("--resume", "--epochs", 4) if how == "--resume" else ("--data", data, *TINY)
    assert name in message(train("--out", out, *given, *((how,) if how == "--overwrite" else ())))
    assert files_only(out) == before


@pytest.mark.parametrize("how", ["begin", "--overwrite", "--resume"])
def test_a_file_in_the_place_of_the_grids_is_named_before_anything_is_touched(data, whole, tmp_path, how):
    out = tmp_path / "run"
    if how != "begin":
        shutil.copytree(whole, out)
        shutil.rmtree(out / "grids")
    out.mkdir(exist_ok=True)
    (out / "grids").write_text("mine")
    before = files_only(out)
    given = ("--resume", "--epochs", 4) if how == "--resume" else ("--data", data, *TINY)
    said = message(train("--out", out, *given, *((how,) if how == "--overwrite" else ())))
    assert f"nothing can be written to {out / 'grids'}" in said
    assert files_only(out) == before


def test_overwriting_leaves_nothing_of_the_old_run_even_of_one_that_was_being_overwritten(data, whole, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(whole, out / ".overwritten")
    assert "has a run in it" in message(train("--out", out, "--data", data, *TINY))
    assert train("--out", out, "--data", data, "--overwrite", "--epochs", 1, *TINY).exit_code == 0
    assert not (out / ".overwritten").exists()


def test_overwriting_with_a_run_that_cannot_start_leaves_the_old_one(data, whole):
    before = files(whole)
    for wrong in (("--spec", "pix2pux"), ("--weight", "G_L9=1"), ("--device", "cuda:99")):
        message(train("--out", whole, "--data", data, *TINY, "--overwrite", *wrong))
    assert files(whole) == before


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--overwrite", "--resume"])
def test_a_run_that_another_process_is_at_is_left_alone(data, whole, tmp_path, how):
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    code = (
        "import sys; from nectargan_core import LossManager; m = LossManager(experiment_dir=sys.argv[1], resume=True)"
    )
    code += "; print('ready', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(out)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        before = files(out)
        images = ("--data", data) if how == "--overwrite" else ()
        said = message(train("--out", out, how, *images, "--epochs", 4))
        assert "loss_log.jsonl is being written by another process" in said
        assert "give this run an --out of its own" in said
        assert files(out) == before


@pytest.mark.parametrize(("how", "expected"), [((), "has a run in it"), (("--resume",), "another process has gone on")])
def test_a_run_that_another_process_has_begun_meanwhile_is_left_alone(
    data, whole, tmp_path, monkeypatch, how, expected
):
    out = tmp_path / "run"
    if how:
        stopping(monkeypatch, 2)
        train("--out", out, "--data", data, "--epochs", 3, *TINY)
    original = run_module.Run._rehearse

    def meanwhile(run):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(whole, out)
        return original(run)

    monkeypatch.setattr(run_module.Run, "_rehearse", meanwhile)
    assert expected in message(train("--out", out, *(how or ("--data", data, "--epochs", 3, *TINY))))
    lock = "loss_log.jsonl.lock"
    assert {**files(out), lock: b""} == {**files(whole), lock: b""}


def test_resuming_and_overwriting_exclude_each_other(tmp_path):
    result = train("--out", tmp_path, "--resume", "--overwrite")
    assert result.exit_code == 2
    assert "give --resume or --overwrite, not both" in result.output


# The real program

OBJECTIVE = """
formula = "gan + 100*l1 + sobel"
[losses.G_L1]
schedule = { schedule = "cosine", unit = "fraction", start = 0.25, end = 1.0, target_value = 0.0 }
[weightings.G]
weighting = "relobralo"
params = { rho = 0.5 }
[weightings.D]
weighting = "uncertainty"
"""


def started(out, *arguments):
    command = [sys.executable, "-m", "nectargan_pix2pix", "train", "--out", str(out), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)


def wait_for(out, step, process):
    """Wait until the checkpoint of a run is of a step or a later one."""
    path, seen = out / "checkpoint.pt", None
    while process.poll() is None:
        identity = path.stat().st_ino if path.exists() else None
        if identity != seen:
            seen = identity
            if state_of(out)["steps"] >= step:
                return
        time.sleep(0.001)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGTERM for one process")
def test_twenty_random_stops_change_nothing(data, tmp_path):
    pytest.importorskip("nectargan_weightings")
    (tmp_path / "objective.toml").write_text(OBJECTIVE)
    epochs, per_epoch = 80, 3
    objective = ("--objective", tmp_path / "objective.toml")
    options = (*objective, "--data", data, "--epochs", epochs, "--checkpoint-every", 2, *TINY)
    with started(tmp_path / "whole", *options) as process:
        assert process.wait() == 0, process.stdout.read()

    chance = random.Random(0)
    out, again, killed, done = tmp_path / "stopped", options, [], -1
    for stop in sorted(chance.sample(range(epochs * per_epoch * 2 // 3), 20)):
        with started(out, *again) as process:
            # It has begun, so that what is stopped is a training and not the import of torch.
            wait_for(out, max(stop, done + 1), process)
            # Somewhere in the steps that follow, whatever is done there.
            time.sleep(0.05 * chance.random())
            process.send_signal(chance.choice((signal.SIGTERM, signal.SIGKILL)))
            said, _ = process.communicate()
            assert process.returncode in (-signal.SIGKILL, 128 + signal.SIGTERM), said
            killed.append(process.returncode)
        again, done = ("--resume",), state_of(out)["steps"]
    assert len(set(killed)) == 2
    with started(out, "--resume") as process:
        assert process.wait() == 0, process.stdout.read()
    assert_same_run(out, tmp_path / "whole")
