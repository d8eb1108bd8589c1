"""Managers in the processes of torchrun: one merged history, and what communicates, in 1, 2 and 4 processes.

The functions that begin with `rank_` run in each process; each test is about what they have returned and written.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import signal
import warnings
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from devices import elsewhere
from filelock import FileLock
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torchrun import run_functions, torchrun

from nectargan_core import LossLog, LossManager, Weighting
from nectargan_core.errors import NectarganError, NonFiniteLossError, ObjectiveError

pytestmark = pytest.mark.slow
SIZES = [1, 2, 4]
COLLECTIVES = ("all_gather", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list")


def rank():
    return distributed.get_rank()


def last():
    """The highest rank."""
    return distributed.get_world_size() - 1


def value_of(value):
    """A loss that is what it is given."""
    return value * 1.0


def manager_of(*names, tags=(), **options):
    manager = LossManager(**options)
    for name in names:
        manager.register_loss_fn(name, value_of, tags=tags, inputs=("value",))
    return manager


def give(manager, value, query=None, **options):
    tensor = torch.tensor(value, dtype=torch.float64)
    return manager.compute_losses({"value": tensor}, query=query, **options)


def caught(function, *arguments):
    """What an error says, and its attributes; None where there is none."""
    try:
        function(*arguments)
    except NectarganError as error:
        attributes = {name: value for name, value in vars(error).items() if isinstance(value, (str, int, float))}
        return {"type": type(error).__name__, "message": str(error), **attributes}
    return None


@contextlib.contextmanager
def counted():
    """Count the calls of the functions of torch.distributed that communicate, by their names."""
    calls = Counter()
    names = (
        "all_reduce",
        "all_gather",
        "all_gather_object",
        "broadcast",
        "broadcast_object_list",
        "barrier",
        "gather_object",
    )
    originals = {name: getattr(distributed, name) for name in names}

    def counting(name):
        def call(*args, **kwargs):
            calls[name] += 1
            return originals[name](*args, **kwargs)

        return call

    for name in COLLECTIVES:
        setattr(distributed, name, counting(name))
    try:
        yield calls
    finally:
        for name, original in originals.items():
            setattr(distributed, name, original)


# One history


def made_of(number, step):
    """The value of a rank at a step, and the size of its batch: fractions that are exact in binary."""
    return (3 * number + step) / 8 - 1, 1 + (number + step) % 3


def rank_merged(place):
    with manager_of("sized", "mixed", experiment_dir=place / "run") as manager:
        for step in range(6 + 2 * rank()):  # ranks with more data take more steps
            manager.tick(epoch=step // 3)
            value, size = made_of(rank(), step)
            give(manager, value, "sized", batch_size=size)
            give(manager, value, "mixed", batch_size=size if rank() != last() else None)


def rank_different(place):
    """Each rank has a loss of its own, one rank computes one that others only have, and one records a scalar."""
    own = [f"own{number}" for number in range(rank() + 1)]
    with manager_of("common", "unused", *own, experiment_dir=place / "run") as manager:
        for step in range(4):
            manager.tick(epoch=0)
            value, size = made_of(rank(), step)
            for name in ["common", own[-1], *(["unused"] if rank() == last() else [])]:
                give(manager, value, name, batch_size=size)
            if rank() == 0:
                manager.record("rate", step)
        with manager.split("val"):
            give(manager, rank(), "common", batch_size=1 + rank())
            validated = manager.reduce_means("common")
        some, rate = manager.reduce_means(["common", "own0"]), manager.reduce_means("rate")
        return [manager.reduce_means(), some, rate, validated]


def rank_alone(place):
    """A manager on rank 0 only, which logs, and ends."""
    if rank():
        return None
    with manager_of("a", experiment_dir=place / "run") as manager:
        for step in range(5):
            manager.tick(epoch=0)
            give(manager, step)
        manager.print_losses(0, 5)
    return len(LossLog(place / "run").series("a"))


# What communicates


def rank_counting(place):
    found = []
    for number in (1, 40):
        manager = manager_of(*(f"loss{index}" for index in range(number)), enable_logging=True)
        give(manager, rank(), batch_size=2)
        with counted() as calls:
            means = manager.reduce_means()
        found.append([dict(calls), means])
    return found


def rank_only_last_values(place):
    manager = manager_of("a", enable_logging=rank() != last() or None)
    give(manager, 1.0)
    return caught(manager.reduce_means)


def rank_checked(place):
    def objective(case):
        is_other = rank() == last()
        spec = "l1 + huber" if case == "loss" and is_other else "l1"
        weights = {"G_L1": 50.0 if case == "weight" and is_other else 100.0}
        manager = LossManager.from_spec(spec, weights=weights)
        beta = 0.25 if case == "argument" and is_other else 0.5
        manager.register_loss_fn("smooth", torch.nn.SmoothL1Loss(beta=beta))
        return manager

    return {case: caught(objective(case).check_ranks) for case in ("same", "weight", "loss", "argument")}


NONFINITE = ("raise", "warn", "ignore", "raise, on a device")


def trained_until_nan(bad, nonfinite, make=torch.tensor):
    """Train some steps, of which some ranks have nan in one; return where this rank stopped, with the error."""
    manager = manager_of("a", nonfinite=nonfinite)
    found = []
    for step in range(6):
        manager.tick(epoch=1)
        value = make(math.nan if (rank(), step) in bad else 1.0)
        raised = True
        try:
            with contextlib.suppress(NonFiniteLossError):
                manager.compute_losses({"value": value})
                raised = False
            manager.raise_on_any_rank()
        except NonFiniteLossError as error:
            what = {name: getattr(error, name) for name in ("rank", "loss_name", "step", "epoch")}
            found.append({"at": step, "itself": raised, "message": str(error), **what})
    return found


def rank_nan(place):
    one = {(last(), 2), (last(), 4)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = {nonfinite: trained_until_nan(one, nonfinite) for nonfinite in ("raise", "warn", "ignore")}
        found["raise, on a device"] = trained_until_nan(one, "raise", elsewhere)
        return found | {"two": trained_until_nan({(0, 3), (last(), 3)}, "ignore")}


def rank_printing(place):
    manager = manager_of("a")
    give(manager, 1.0)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        manager.print_losses(0, 1)
        manager.print_weights()
    return [printed.getvalue(), manager.print_losses(0, 1, capture=True)]


# Beside DistributedDataParallel


def trained(reduce, is_disabled=False, micro_batches=1):
    """Train a network with two outputs; return its parameters, and the factors of the weighting."""
    torch.manual_seed(rank())
    network = DistributedDataParallel(torch.nn.Linear(3, 2))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    manager = LossManager()
    manager.register_loss_fn("a", lambda one: one.square().mean(), inputs=("one",))
    manager.register_loss_fn("b", lambda two: (two - rank()).abs().mean(), inputs=("two",))
    manager.set_weighting(Weighting("balancer", wrt="output", reduce=reduce))
    if is_disabled:
        manager.disable("b")
    for _ in range(3):
        manager.tick(epoch=0)
        for number in range(micro_batches):
            is_last = number == micro_batches - 1
            with contextlib.nullcontext() if is_last else network.no_sync():
                output = network(torch.rand(4, 3))
                inputs = {"one": output[:, 0], "two": output[:, 1], "output": output}
                (manager.compute_losses(inputs, batch_size=4).total / micro_batches).backward()
        optimizer.step()
        optimizer.zero_grad()
    parameters = [value for parameter in network.parameters() for value in parameter.flatten().tolist()]
    return [parameters, manager.get_loss_weights(precision=None)]


def rank_trained(place):
    return {
        "own factors": trained(None),
        "mean of factors": trained("mean"),
        "accumulated": trained("mean", micro_batches=3),
        "disabled on the last rank": trained(None, is_disabled=rank() == last()),
    }


# Killed, and resumed with another number of processes

STEPS = {2: 40, 4: 60, 1: 70}
"""Until which step a number of processes trains, in this order."""


def rank_resumed(place):
    """Go on from the checkpoint of the number of processes before, which had gone on a little after it."""
    place = place.parent.parent / "resumed"
    place.mkdir(exist_ok=True)
    checkpoint = place / "checkpoint.pt"
    distributed.barrier()
    with manager_of("a", experiment_dir=place / "run", resume=True) as manager:
        if checkpoint.exists():
            manager.load_state_dict(torch.load(checkpoint))
        begun = manager.step + 1
        distributed.barrier()  # before rank 0 writes the next
        until = STEPS[distributed.get_world_size()]
        for step in range(begun, until):
            manager.tick(epoch=step // 10)
            value, size = made_of(rank(), step)
            give(manager, value, batch_size=size)
            if step == until - 6 and rank() == 0:
                torch.save(manager.state_dict(), checkpoint)
    return begun


ALL = [name for name in list(globals()) if name.startswith("rank_")]


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A directory for each number of processes, in which all functions have run: once for all processes of pytest."""
    base = tmp_path_factory.getbasetemp()
    root = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributed"
    root.mkdir(exist_ok=True)
    with FileLock(root / "lock"):
        if not (root / "begun").exists():
            (root / "begun").touch()
            for size in STEPS:
                (root / str(size)).mkdir()
                run_functions("test_distributed_processes", ALL, size, root / str(size))
            (root / "ended").touch()
    assert (root / "ended").exists(), "another test shows why the processes failed"
    return root


@pytest.fixture(params=SIZES)
def size(request):
    return request.param


@pytest.fixture
def returned(launched, size):
    """A function that returns what a function has returned in each process."""

    def read(function):
        place = launched / str(size) / function.__name__
        return [json.loads((place / f"returned{number}.json").read_text()) for number in range(size)]

    return read


def mean(values):
    """The mean of (value, weight) to the last digit."""
    total = sum(Fraction(value) * weight for value, weight in values)
    return float(total / sum(weight for _, weight in values))


@pytest.mark.parametrize("name", ["sized", "mixed"])
def test_the_merged_history_is_the_mean_over_ranks(launched, size, name):
    records = LossLog(launched / str(size) / "rank_merged" / "run").series(name)
    steps = range(6 + 2 * (size - 1))
    taking_part = {step: [number for number in range(size) if step < 6 + 2 * number] for step in steps}
    assert records.step.tolist() == list(steps)
    assert records.epoch.tolist() == [step // 3 for step in steps]
    assert records.count.tolist() == [len(taking_part[step]) for step in steps]
    expected = []
    for step in steps:
        values = [made_of(number, step) for number in taking_part[step]]
        is_sized = name == "sized"  # the last rank takes part in each step
        expected.append(mean([(value, batch if is_sized else 1) for value, batch in values]))
    assert records.loss.tolist() == expected


def test_each_rank_has_a_log_of_its_own(launched, size):
    log = LossLog(launched / str(size) / "rank_merged" / "run")
    assert log.ranks == tuple(range(size))
    for number in range(size):
        series = log.series("sized", rank=number)
        assert list(zip(series.loss.tolist(), series.batch.tolist(), strict=True)) == [
            made_of(number, step) for step in range(6 + 2 * number)
        ]


def test_ranks_with_different_losses_end_and_their_means_are_right(returned, size):
    found = returned(rank_different)
    all_of = {number: [made_of(number, step) for step in range(4)] for number in range(size)}
    expected = {"common": mean([each for number in all_of for each in all_of[number]])}
    expected |= {f"own{number}": mean(all_of[number]) for number in all_of}
    expected |= {"unused": mean(all_of[size - 1]), "rate": 1.5}
    for every, some, rate, validated in found:
        assert every == pytest.approx(expected, abs=1e-15)
        assert some == pytest.approx({name: expected[name] for name in ("common", "own0")}, abs=1e-15)
        assert rate == {"rate": 1.5}  # which rank 0 has recorded only
        assert validated == {"common": mean([(number, 1 + number) for number in range(size)])}


def test_means_are_the_same_on_all_ranks_to_the_digit(returned):
    found = returned(rank_different)
    assert all(each == found[0] for each in found)


def test_a_manager_on_rank_0_only_waits_for_nobody(returned, size):
    assert returned(rank_alone) == [5, *[None] * (size - 1)]


def test_any_number_of_losses_takes_one_all_reduce(returned, size):
    for found in returned(rank_counting):
        for number, (calls, means) in zip((1, 40), found, strict=True):
            assert calls == {"all_reduce": 1}
            assert means == {f"loss{index}": (size - 1) / 2 for index in range(number)}


def test_where_one_rank_keeps_only_last_values_all_raise(returned):
    for found in returned(rank_only_last_values):
        assert found["type"] == "NectarganError"
        assert "enable_logging=True" in found["message"]


def test_ranks_with_the_same_objective_pass(returned):
    assert all(found["same"] is None for found in returned(rank_checked))


DIFFERENCES = {"weight": ("G_L1", "100", "50"), "loss": ("HUBER",), "argument": ("smooth", "0.25", "0.5")}


@pytest.mark.parametrize("case", DIFFERENCES)
def test_another_objective_on_one_rank_is_an_error_on_all(returned, size, case):
    for found in returned(rank_checked):
        error = found[case]
        if size == 1:
            assert error is None
            continue
        assert error["type"] == ObjectiveError.__name__
        assert f"rank {size - 1}" in error["message"]
        assert all(word in error["message"] for word in DIFFERENCES[case]), error["message"]


@pytest.mark.parametrize("nonfinite", NONFINITE)
def test_nan_on_one_rank_stops_all_at_its_step(returned, size, nonfinite):
    for number, found in enumerate(returned(rank_nan)):
        for error, step in zip(found[nonfinite], (2, 4), strict=True):  # the second after the first was caught
            assert (error["at"], error["step"], error["epoch"]) == (step, step, 1)
            assert (error["rank"], error["loss_name"]) == (size - 1, "a")
            assert error["itself"] == (nonfinite == "raise" and number == size - 1)
            assert all(word in error["message"] for word in (f"rank {size - 1}", "'a'", f"step {step}"))


def test_nan_on_two_ranks_at_once_names_both(returned, size):
    for found in returned(rank_nan):
        (error,) = found["two"]
        assert (error["rank"], error["step"]) == (0, 3)
        assert all(str(number) in error["message"] for number in {0, size - 1})


def test_rank_0_prints_and_all_return_the_text(returned):
    for number, (printed, text) in enumerate(returned(rank_printing)):
        assert ("a: 1.0" in printed) == (number == 0)
        assert "a: 1.0" in text


@pytest.mark.parametrize("case", ["own factors", "mean of factors", "accumulated", "disabled on the last rank"])
def test_networks_stay_the_same_on_all_ranks(returned, case):
    parameters = [found[case][0] for found in returned(rank_trained)]
    assert all(math.isfinite(value) for value in parameters[0])
    assert all(each == parameters[0] for each in parameters)


def test_factors_are_those_of_all_ranks_where_they_are_reduced(returned, size):
    for case in ("mean of factors", "accumulated", "own factors"):
        factors = [found[case][1] for found in returned(rank_trained)]
        assert len({tuple(each.values()) for each in factors}) == (size if case == "own factors" else 1)


def test_a_run_goes_on_with_another_number_of_processes(launched):
    begun = {size: launched / str(size) / "rank_resumed" for size in STEPS}
    firsts = [json.loads((begun[size] / "returned0.json").read_text()) for size in STEPS]
    assert firsts == [0, 35, 55]  # the checkpoint was five steps before the end of each
    log = LossLog(launched / "resumed" / "run")
    records = log.series("a")
    assert [header["world_size"] for header in log.headers] == [2, 4, 1]
    assert records.step.tolist() == list(range(70))
    assert records.count.tolist() == [2] * 35 + [4] * 20 + [1] * 15
    sizes = [2] * 35 + [4] * 20 + [1] * 15
    assert records.loss.tolist() == [
        mean([made_of(number, step) for number in range(ranks)]) for step, ranks in enumerate(sizes)
    ]


KILLED = """
import os, signal, sys, time
import torch
from test_distributed_processes import give, manager_of

torch.distributed.init_process_group("gloo")
rank = torch.distributed.get_rank()
manager = manager_of("a", experiment_dir=sys.argv[1])
for step in range(100_000):
    manager.tick(epoch=0)
    give(manager, step)
    if step % 10 == 9:
        manager.update_loss_log()
    if step == 20:
        torch.distributed.barrier()
    if step == 55 and rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.001)
"""


def test_a_killed_rank_leaves_the_logs_of_the_others_whole(tmp_path):
    (tmp_path / "killed.py").write_text(KILLED)
    environment = os.environ.get("PYTHONPATH", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), environment]).rstrip(os.pathsep))
        done = torchrun(["killed.py", tmp_path / "run"], 4, tmp_path)
    assert done.returncode != 0
    assert str(-signal.SIGKILL) in done.stderr
    log = LossLog(tmp_path / "run")
    assert log.ranks == (0, 1, 2, 3)
    lengths = []
    for number in log.ranks:
        lengths.append(len(log.series("a", rank=number)))
        assert log.series("a", rank=number).loss.tolist() == list(range(lengths[-1]))
        assert lengths[-1] % 10 == 0
    # All but the last flush, of which a rank may not have got to that of the first steps.
    assert lengths[1] == 50
    assert min(lengths) >= 20
    assert log.series("a").step.tolist() == list(range(max(lengths)))
