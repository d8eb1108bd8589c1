"""Several processes that train one run: the same training as one, one that writes, and ends that leave all of it."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nectargan_pix2pix import distributed, normalisation
from nectargan_pix2pix.batches import Batches
from nectargan_pix2pix.cli import main
from nectargan_pix2pix.options import OptionError
from nectargan_pix2pix.photos import Crops
from nectargan_pix2pix.training import Learned, Networks, train
from PIL import Image

from nectargan_core import LossLog, LossManager, Weighting

# Nine pairs in batches of four, so that the last batch of an epoch has one: with two processes, one has no part in it.
PAIRS, BATCH, EPOCHS = 9, 4, 6
STEPS = EPOCHS * 3

OBJECTIVE = """
formula = "gan + 100*l1"
[losses.D_real]
schedule = { schedule = "linear", start = 1, end = 2, initial_value = 0.0, target_value = 1.0 }
[losses.D_fake]
schedule = { schedule = "linear", start = 1, end = 2, initial_value = 0.0, target_value = 1.0 }
[losses.G_GAN]
schedule = { schedule = "linear", start = 2, end = 3, initial_value = 1.0, target_value = 0.0 }
"""

# The program, with an end of its own: a signal to whom, from which process, after how many steps; or a seed of its own.
PROGRAM = """
import os, select, signal, sys
from nectargan_pix2pix import run
from nectargan_pix2pix.cli import main

original = run.train
whom, rank, step = os.environ["END"].split()
if whom == "seed" and os.environ["RANK"] == rank:
    sys.argv += ["--seed", step]

def train(*arguments):
    is_due = len(arguments) > 5 and os.environ["RANK"] == rank  # not in the step before the training
    for done in original(*arguments):
        if is_due and done == int(step) and whom == "torchrun":
            read, write = os.pipe()
            os.set_blocking(write, False)
            signal.set_wakeup_fd(write)
            os.kill(os.getppid(), signal.SIGTERM)
            select.select([read], [], [], 60)  # until torchrun has sent it on
        if is_due and done == int(step) and whom == "itself":
            os.kill(os.getpid(), signal.SIGKILL)
        yield done

run.train = train
main(prog_name="nectargan-pix2pix")
"""


# What a process has to do


def crops(count):
    return Crops([(torch.full((3, 32, 32), float(number)),) * 2 for number in range(count)], 32)


@pytest.mark.parametrize("processes", [2, 3, 4])
def test_the_parts_of_all_processes_are_the_batches_of_one(processes):
    alone = [x for x, _ in Batches(crops(9), 4, 0).of(1)]
    parts = [Batches(crops(9), 4, 0, rank, processes) for rank in range(processes)]
    together = [list(part.of(1)) for part in parts]
    for number, batch in enumerate(alone):
        images = [
            image
            for part, found in zip(parts, together, strict=True)
            for image in found[number][0]
            if part.share(number)
        ]
        assert sorted(image.mean().item() for image in images) == sorted(image.mean().item() for image in batch)


def test_the_share_of_a_process_is_the_size_of_its_part_over_the_mean_size():
    shares = [[Batches(crops(6), 5, 0, rank, 3).share(number) for rank in range(3)] for number in range(2)]
    assert shares == [pytest.approx([2 * 3 / 5, 2 * 3 / 5, 3 / 5]), [3, 0, 0]]


def test_a_process_without_a_part_gets_the_first_crop_of_the_batch():
    first = [list(Batches(crops(5), 4, 0, rank, 2).of(0))[1] for rank in range(2)]
    assert torch.equal(first[0][0], first[1][0])


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.Processes(3, 4, 1).device_name("cuda") == "cuda:1"
    assert distributed.Processes(3, 4, 1).device_name("cpu") == "cpu"
    assert distributed.ONE.device_name("cuda:1") == "cuda:1"
    with pytest.raises(OptionError, match="there are 2 for more processes"):
        distributed.Processes(3, 4, 3).device_name("cuda")
    with pytest.raises(OptionError, match="--device is cuda:1, and several"):
        distributed.Processes(3, 4, 1).device_name("cuda:1")


def test_torchrun_with_one_process_is_one_process(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.setenv("RANK", "0")
    with distributed.joined() as processes:
        assert processes is distributed.ONE


def test_an_environment_that_does_not_say_where_the_others_are_is_named(monkeypatch):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(main, ["train", "--sample-photos", "--out", "x"])
    assert result.exit_code == 1
    assert "2 processes (WORLD_SIZE), and not where" in result.output
    assert "start them with torchrun" in result.output


@pytest.mark.parametrize(("rank", "said"), [("0", "Error: Invalid value"), ("1", "")])
def test_the_first_process_of_a_machine_says_what_is_wrong_with_the_options(monkeypatch, rank, said):
    monkeypatch.setenv("LOCAL_RANK", rank)
    result = CliRunner().invoke(main, ["train", "--epochs", "0"])
    assert result.exit_code == 2
    assert said in result.output
    assert bool(said) is bool(result.output)


@pytest.mark.parametrize("command", [["demo"], ["predict", ".", ".", "-o", "x"], ["evaluate", "."]])
def test_other_commands_are_refused_in_several_processes(monkeypatch, command):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert f"only train works in several processes; start {command[0]} without torchrun" in result.output


def test_an_error_of_other_things_than_communication_stays_what_it_is():
    processes = distributed.Processes(0, 2)
    with pytest.raises(RuntimeError, match="sizes differ"), processes.noticing_failures():
        raise RuntimeError("sizes differ")
    with pytest.raises(distributed.ProcessError, match="another process"), processes.noticing_failures():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:1234")


@pytest.fixture
def group():
    """A group of this process alone, in which communicating is allowed."""
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    "keywords", [{}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1}]
)
def test_batch_normalisation_is_that_of_torch(keywords):
    torch.manual_seed(0)
    expected, ours = torch.nn.BatchNorm2d(5, **keywords), normalisation.BatchNorm(5, **keywords)
    for parameter in expected.parameters():
        torch.nn.init.normal_(parameter)
    ours.load_state_dict(expected.state_dict())
    for _ in range(3):
        # Far from 0 in comparison with their spread.
        image = 100 + torch.randn(2, 5, 8, 9)
        gradient = torch.randn_like(image)
        results = []
        for module in (expected, ours):
            module.zero_grad()
            x = image.clone().requires_grad_()
            output = module(x)
            output.backward(gradient)
            results.append([output, x.grad, *(parameter.grad for parameter in module.parameters())])
        for theirs, mine in zip(*results, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.state_dict(), expected.state_dict())
    torch.testing.assert_close(ours.eval()(image), expected.eval()(image), rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("group")
def test_what_has_no_gradient_anywhere_keeps_none():
    one, other = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    one.grad = torch.tensor([2.0, 4.0])
    # As if there were a second process whose gradients are 0.
    distributed.Processes(0, 2).average([one, other])
    assert one.grad.tolist() == [1.0, 2.0]
    assert other.grad is None


@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(("reduce", "recorded"), [(None, [0]), ("mean", [0, 1])])
def test_what_a_process_has_no_part_in_is_recorded_only_where_a_weighting_waits_for_it(monkeypatch, reduce, recorded):
    pytest.importorskip("nectargan_weightings")
    # There is no other process here whose statistics could be taken.
    monkeypatch.setattr("nectargan_pix2pix.training.count_batch", lambda *_: None)
    # The second of two processes, of which the first has the last crop.
    batches = Batches(crops(5), 4, 0, 1, 2)
    weightings = {"G": Weighting("relobralo", reduce=reduce)}
    manager = LossManager.from_spec("pix2pix", weightings=weightings, enable_logging=True)
    networks = Networks(2, 1, torch.device("cpu"))
    before = [parameter.detach().clone() for parameter in networks.generator.parameters()]
    steps = train(manager, networks, Learned(manager, networks), batches, 1, 0, distributed.Processes(1, 2))
    next(steps)
    assert not all(map(torch.equal, before, networks.generator.parameters()))
    assert list(steps) == [2]
    assert manager.get_registered_losses(strip=False)["G_L1"].history.steps == recorded
    assert manager.step == 1


def test_a_text_is_said_by_the_first_to_say_it():
    store = torch.distributed.HashStore()
    one, other = (distributed.Processes(rank, 2, rank, store) for rank in range(2))
    assert one.is_first_to_say("nan")
    assert not other.is_first_to_say("nan")
    assert other.is_first_to_say("inf")


def test_an_error_that_follows_from_one_that_was_said_is_not_said():
    store = torch.distributed.HashStore()
    one, other, third = (distributed.Processes(rank, 3, rank, store) for rank in range(3))
    assert one.is_first_to_fail(OptionError("bad"))
    assert not other.is_first_to_fail(OptionError("bad"))
    assert not third.is_first_to_fail(distributed.ProcessError("another process"))


def test_the_end_of_a_process_that_said_nothing_is_said_once():
    store = torch.distributed.HashStore()
    one, other = (distributed.Processes(rank, 2, rank, store) for rank in range(2))
    assert one.is_first_to_fail(distributed.ProcessError("another process"))
    assert not other.is_first_to_fail(distributed.ProcessError("another process"))


# In processes


def torchrun(count, *arguments, end="nobody 0 0", cwd=None):
    """Run a program in so many processes; return what it printed, without the traces of torchrun, and the seconds."""
    began = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "END": end}
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", count, *arguments]
    result = subprocess.run(
        list(map(str, command)),
        env=environment,
        cwd=cwd,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
    )
    return result.returncode, result.stdout, time.monotonic() - began


def trained(count, program, *arguments, **keywords):
    return torchrun(count, program, "train", *arguments, **keywords)


def in_one_process(*arguments):
    result = CliRunner().invoke(main, ["train", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result


def steps_in(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)["steps"]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """What all runs here are started with."""
    root = tmp_path_factory.mktemp("pairs")
    noise = np.random.default_rng(0)
    for part, count in (("train", PAIRS), ("val", 1)):
        (root / part).mkdir()
        for number in range(count):
            Image.fromarray(noise.integers(0, 256, (32, 64, 3), dtype=np.uint8)).save(root / part / f"{number}.png")
    objective = root / "objective.toml"
    try:
        import nectargan_weightings  # noqa: F401 -- what a weighting learns is averaged, too
    except ImportError:
        objective.write_text(OBJECTIVE)
    else:
        objective.write_text(f'{OBJECTIVE}[weightings.G]\nweighting = "uncertainty"\n')
    tiny = ("--channels", 2, "--batch-size", BATCH, "--device", "cpu", "--epochs", EPOCHS, "--checkpoint-every", 1)
    return ("--data", root, "--objective", objective, *tiny)


@pytest.fixture(scope="module")
def one(options, tmp_path_factory):
    """A run in one process."""
    out = tmp_path_factory.mktemp("runs") / "one"
    in_one_process(*options, "--out", out)
    return out


@pytest.fixture(scope="module")
def several(program, options, tmp_path_factory):
    """The same run: in two processes until torchrun is stopped, then in four until one of them is killed."""
    out = tmp_path_factory.mktemp("runs") / "several"
    status, said, _ = trained(2, program, *options, "--out", out, end="torchrun 1 4")
    stopped = {"status": status, "said": said, "steps": steps_in(out), "names": {path.name for path in out.iterdir()}}
    status, said, seconds = trained(4, program, "--out", out, "--resume", end="itself 2 10")
    killed = {"status": status, "said": said, "steps": steps_in(out), "seconds": seconds}
    return out, stopped, killed


@pytest.fixture(scope="module")
def ended(program, several):
    """And in two until it is complete."""
    out = several[0]
    status, said, _ = trained(2, program, "--out", out, "--resume")
    assert status == 0, said
    return out, said


def assert_same_training(first, second):
    a, b = LossLog(first), LossLog(second)
    assert a.names == b.names
    for name in a.names:
        ours, theirs = a.series(name), b.series(name)
        assert ours.step.tolist() == theirs.step.tolist(), name
        assert ours.epoch.tolist() == theirs.epoch.tolist(), name
        # Biases before batch normalisation have gradients of rounding alone, and move its running means.
        allowed = 1e-2 if name == "val/psnr" else 1e-4
        assert ours.loss == pytest.approx(theirs.loss, rel=allowed, abs=1e-6), name
        assert ours.weight == pytest.approx(theirs.weight, rel=1e-4), name
        assert ours.batch.tolist() == theirs.batch.tolist(), name


@pytest.mark.slow
@pytest.mark.usefixtures("without_curves")
class TestTraining:
    def test_all_stop_after_the_same_step_and_the_first_says_so(self, several):
        _, stopped, _ = several
        assert stopped["status"] != 0
        assert stopped["said"].count("Stopped by SIGTERM; log and checkpoint are saved. Go on with --resume.") == 1
        assert stopped["steps"] == 4
        assert {"summary.txt", "report.html", "loss_log.jsonl", "loss_log.rank1.jsonl"} <= stopped["names"]

    def test_a_process_that_is_killed_ends_the_others_which_say_so_once(self, several):
        _, _, killed = several
        assert killed["status"] != 0
        assert killed["said"].count("Error: another process of this run has failed or was killed") == 1
        assert "Traceback" not in killed["said"].partition("Error: another")[0]
        # The step after it was done, and logged, and is done again.
        assert killed["steps"] == 9

    def test_the_logs_of_the_others_are_whole(self, ended):
        log = LossLog(ended[0])
        assert log.ranks == (0, 1, 2, 3)
        assert [header["world_size"] for header in log.headers] == [2, 4, 2]
        # It had no part in steps 5 and 8.
        assert log.series("G_L1", rank=3).step.tolist() == [4, 6, 7]

    def test_it_is_the_training_of_one_process(self, one, ended):
        assert_same_training(ended[0], one)
        ours, theirs = (torch.load(out / "checkpoint.pt", weights_only=True) for out in (ended[0], one))
        for name, tensor in theirs["discriminator"].items():
            assert ours["discriminator"][name].numpy() == pytest.approx(tensor.numpy(), rel=1e-3, abs=1e-5), name

    def test_it_goes_on_in_one_process_too(self, one, several, tmp_path):
        out = tmp_path / "alone"
        out.mkdir()
        for path in several[0].glob("*"):
            if path.is_file():
                (out / path.name).write_bytes(path.read_bytes())
        in_one_process("--out", out, "--resume", "--epochs", EPOCHS + 1)
        assert LossLog(out).series("G_L1").step.tolist() == list(range(STEPS + 3))

    def test_the_first_process_alone_evaluates_and_writes(self, one, ended):
        out, said = ended
        assert said.count("held-out PSNR, mean of 1") == 1
        assert said.count(f"epoch {EPOCHS}: output") == 1
        assert "Warning" not in said
        log = LossLog(out)
        assert set(log.series("val/psnr").count.tolist()) == {1}
        assert "val/psnr" not in (out / "loss_log.rank1.jsonl").read_text()
        assert (out / "summary.txt").read_text().count("\n") == (one / "summary.txt").read_text().count("\n")


@pytest.mark.slow
def test_processes_with_different_options_are_refused_which_is_said_once(program, options, tmp_path):
    status, said, _ = trained(2, program, *options, "--out", tmp_path / "run", end="seed 1 5")
    assert status != 0
    assert said.count("Error: the processes of this run have different options, images or checkpoints") == 1
    assert "another process" not in said
    assert not (tmp_path / "run").exists()
