"""What ranks do together when they are asked to: reduced means, one objective, and one error for all."""

import contextlib
import json
import os
import subprocess
import sys
import textwrap

import pytest
import torch

from nectargan_core import LossManager, Weighting
from nectargan_core._distributed import of_ranks
from nectargan_core.errors import NectarganError, NonFiniteLossError

START = """
import contextlib, json, sys
import torch
import torch.distributed as dist
from nectargan_core import LossManager, LMLoss
from nectargan_core.errors import NectarganError, NonFiniteLossError, ObjectiveError

rank, size, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=size)
calls = []
def counted(name):
    function = getattr(dist, name)
    def call(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)
    setattr(dist, name, call)
for name in ("all_reduce", "all_gather_object", "all_gather", "broadcast", "barrier"):
    counted(name)

def manager_of(*names, **keywords):
    manager = LossManager(enable_logging=True, **keywords)
    for name in names:
        manager.register_loss_fn(name, torch.nn.L1Loss())
    return manager

def compute(manager, name, value, **keywords):
    images = {"y_fake": torch.zeros(2), "y": torch.full((2,), float(value))}
    return manager.compute_losses(images, name, **keywords)

said = {}
def trying(name, function):
    calls.clear()
    try:
        said[name] = function()
    except NectarganError as error:
        said[name] = {"error": type(error).__name__, "text": str(error), "rank": getattr(error, "rank", "none")}
    said[name + " calls"] = calls[:]
"""
END = """
print(json.dumps(said))
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    """Return what runs a piece of code in each of several processes, and returns what each has said."""

    def run(code, size=2):
        directory = tmp_path_factory.mktemp("group")
        (directory / "code.py").write_text(START + textwrap.dedent(code) + END, encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
        processes = [
            subprocess.Popen(
                [sys.executable, directory / "code.py", str(rank), str(size), directory / "store"],
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            printed = [process.communicate(timeout=120)[0] for process in processes]
        finally:
            for process in processes:
                process.kill()
        assert [process.returncode for process in processes] == [0] * size
        return [json.loads(text.splitlines()[-1]) for text in printed]

    return run


@pytest.fixture(scope="module")
def means(group):
    return group(
        """
        manager = manager_of("a", "b", "c")
        manager.tick(epoch=0)
        compute(manager, "a", rank + 1.0)           # 1 and 2
        if rank == 0:
            compute(manager, "b", 5.0)              # run on one rank only; c on none
        trying("plain", manager.reduce_means)
        trying("one", lambda: manager.reduce_means("b"))
        if rank == 1:
            manager.record("psnr", 20.0)            # known to one rank only
        trying("psnr", manager.reduce_means)

        sized = manager_of("a")
        for size, value in [(8, 1.0), (2, 6.0)] if rank == 0 else [(10, 5.0)]:
            compute(sized, "a", value, batch_size=size)
        trying("sized", sized.reduce_means)
        if rank == 0:
            compute(sized, "a", 9.0)
        trying("unsized", sized.reduce_means)

        many = manager_of(*(f"loss{number}" for number in range(40)))
        compute(many, None, rank)
        trying("many", many.reduce_means)
        more = manager_of(*(f"loss{number}" for number in range(1100)))
        compute(more, None, rank)
        trying("more", more.reduce_means)

        last = LossManager(enable_logging=rank == 0)
        last.register_loss_fn("a", torch.nn.L1Loss())
        compute(last, "a", 1.0)
        trying("last", last.reduce_means)
        with last.split("val"):
            compute(last, "a", rank)
            trying("val", last.reduce_means)
        compute(manager, "a", torch.nan if rank == 1 else 1.0)
        trying("nan", lambda: str(manager.reduce_means("a")["a"]))
        """
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("one", {"b": 5.0}),
        ("psnr", {"a": 1.5, "b": 5.0, "c": pytest.approx(float("nan"), nan_ok=True), "psnr": 20.0}),
        ("plain", {"a": 1.5, "b": 5.0, "c": pytest.approx(float("nan"), nan_ok=True)}),
        ("sized", {"a": pytest.approx((8 * 1 + 2 * 6 + 10 * 5) / 20)}),
        ("unsized", {"a": pytest.approx((1 + 6 + 9 + 5) / 4)}),
        ("many", {f"loss{number}": 0.5 for number in range(40)}),
        ("more", {f"loss{number}": 0.5 for number in range(1100)}),
        ("val", {"a": 0.5}),
        ("nan", "nan"),
    ],
)
def test_reduced_means_are_those_of_all_records_of_all_ranks(means, name, expected):
    assert means[0][name] == expected
    assert str(means[1][name]) == str(means[0][name])  # nan is not equal to itself


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "one", "sized", "unsized", "many"])
def test_ranks_with_the_same_names_need_one_all_reduce(means, name):
    assert [rank[f"{name} calls"] for rank in means] == [["all_reduce"]] * 2


@pytest.mark.slow
def test_ranks_with_other_names_gather_them(means):
    assert [rank["psnr calls"] for rank in means] == [["all_reduce", "all_gather_object"]] * 2


@pytest.mark.slow
def test_a_rank_that_keeps_only_last_values_is_an_error_on_all(means):
    for rank in means:
        assert rank["last"]["error"] == "NectarganError"
        assert "there is none of rank 1, where only the last values are kept" in rank["last"]["text"]


@pytest.mark.slow
def test_ranks_with_other_objectives_are_shown_the_differences(group):
    said = group(
        """
        same = LossManager.from_spec("gan:hinge + 100*l1")
        trying("same", same.check_ranks)
        other = LossManager.from_spec("gan:hinge + 100*l1" if rank != 1 else "gan:hinge + 10*l1")
        trying("weight", other.check_ranks)
        trying("loss", LossManager.from_spec("l1" if rank == 0 else "l2").check_ranks)
        failing = LossManager.from_spec("l1")
        if rank == 2:
            failing.manifest = lambda: 1 / 0
        trying("failing", failing.check_ranks)
        same.tick(epoch=0, step=rank)
        trying("clock", same.check_ranks)
        """,
        size=3,
    )
    for rank in said:
        assert rank["same"] is None
        assert rank["same calls"] == ["all_gather_object"]
        assert rank["weight"]["error"] == "ObjectiveError"
        assert "on rank 1: weight of G_L1: 100 -> 10" in rank["weight"]["text"]
        assert "on ranks 1 and 2: loss G_L2" in rank["loss"]["text"]
        assert "on rank 2: ZeroDivisionError" in rank["failing"]["text"]
        assert "the last step is 0 on rank 0, 1 on rank 1, 2 on rank 2" in rank["clock"]["text"]


@pytest.mark.slow
def test_nan_on_one_rank_raises_on_all(group):
    said = group(
        """
        for nonfinite in ("warn", "raise", "ignore"):
            manager = manager_of("a", "b", nonfinite=nonfinite)
            for step in range(3):
                manager.tick(epoch=0)
                bad = torch.nan if (rank, step) == (1, 2) else 1.0
                with contextlib.suppress(NonFiniteLossError):
                    compute(manager, None, bad)
                trying(f"{nonfinite} {step}", manager.raise_on_any_rank)
            trying(f"{nonfinite} again", manager.raise_on_any_rank)
        for step in range(2):
            with contextlib.suppress(NonFiniteLossError):
                compute(manager, "b", torch.inf)
        trying("all", manager.raise_on_any_rank)
        """,
    )
    for rank in said:
        for nonfinite in ("warn", "raise", "ignore"):
            for step in (0, 1, "again"):
                assert rank[f"{nonfinite} {step}"] is None
                assert rank[f"{nonfinite} {step} calls"] == ["all_reduce"]
            error = rank[f"{nonfinite} 2"]
            assert (error["error"], error["rank"]) == ("NonFiniteLossError", 1)
            assert error["text"].startswith("on rank 1 loss 'a' became nan at step 2, epoch 0")
        assert "on rank 0 loss 'b' became inf" in rank["all"]["text"]
        assert "on rank 1 loss 'b' became inf" in rank["all"]["text"]


@pytest.mark.slow
def test_rank_0_prints_and_the_others_return_what_is_captured(group):
    said = group(
        """
        import io
        manager = manager_of("a")
        compute(manager, "a", rank)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            manager.print_losses(1, 2)
            manager.print_weights()
            manager.update_loss_log(silent=False)
        said["printed"] = printed.getvalue()
        said["captured"] = [manager.print_losses(1, 2, capture=True), manager.print_weights(capture=True)]
        """
    )
    assert said[0]["printed"].startswith("(epoch: 1, iters: 2) Loss: a: 0.0\nLoss weights: a: 1.0\nLoss log: ")
    assert said[1]["printed"] == ""
    assert said[1]["captured"] == ["(epoch: 1, iters: 2) Loss: a: 1.0", "Loss weights: a: 1.0"]


# Without a group


def bad(manager):
    with contextlib.suppress(NonFiniteLossError):
        manager.compute_loss_xy("a", torch.zeros(2), torch.full((2,), torch.nan))


@pytest.mark.parametrize("nonfinite", ["raise", "ignore"])
def test_one_process_raises_for_itself_once(nonfinite):
    manager = LossManager(nonfinite=nonfinite)
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.raise_on_any_rank()
    bad(manager)
    with pytest.raises(NonFiniteLossError, match="^loss 'a' became nan at step 0, epoch 0") as caught:
        manager.raise_on_any_rank()
    assert (caught.value.loss_name, caught.value.step, caught.value.rank) == ("a", 0, None)
    manager.raise_on_any_rank()


def test_a_state_that_is_loaded_forgets_what_was_nan():
    manager = LossManager(nonfinite="ignore")
    manager.register_loss_fn("a", torch.nn.L1Loss())
    state = manager.state_dict()
    bad(manager)
    manager.load_state_dict(state)
    manager.raise_on_any_rank()


def test_one_process_has_its_own_means_and_objective():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.compute_loss_xy("a", torch.zeros(2), torch.full((2,), 3.0))
    assert manager.reduce_means() == manager.means() == {"a": 3.0}
    assert manager.reduce_means("b") == {}
    manager.check_ranks()


@pytest.mark.parametrize("call", ["reduce_means", "check_ranks", "raise_on_any_rank"])
def test_several_processes_without_a_group_are_an_error(monkeypatch, call):
    manager = LossManager(enable_logging=True, nonfinite="ignore")
    manager.register_loss_fn("a", torch.nn.L1Loss())
    bad(manager)
    with monkeypatch.context() as context:
        context.setenv("RANK", "0")
        context.setenv("WORLD_SIZE", "2")
        with pytest.raises(NectarganError, match=r"one of 2 processes .* call torch.distributed.init_process_group"):
            getattr(manager, call)()
    with pytest.raises(NonFiniteLossError):
        manager.raise_on_any_rank()


def test_factors_of_several_processes_without_a_group_are_an_error(monkeypatch):
    manager = LossManager.from_spec("100*l1 + l2", weightings={"G": Weighting("dwa", reduce="mean")})
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(NectarganError, match="init_process_group"):
        for epoch in range(4):
            manager.tick(epoch=epoch)
            manager.compute_losses({"y_fake": torch.zeros(2, requires_grad=True), "y": torch.ones(2)})


def test_ranks_are_named():
    assert [of_ranks([0]), of_ranks([1, 2]), of_ranks([1, 2, 5])] == ["rank 0", "ranks 1 and 2", "ranks 1, 2 and 5"]


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_only_rank_0_prints_where_a_launcher_says_the_rank(monkeypatch, capsys, variable):
    manager = LossManager()
    manager.register_loss_fn("a", torch.nn.L1Loss())
    monkeypatch.setenv(variable, "1")
    manager.print_losses(0, 0)
    assert capsys.readouterr().out == ""
    assert manager.print_losses(0, 0, capture=True)
    monkeypatch.setenv(variable, "none")
    manager.print_losses(0, 0)
    assert capsys.readouterr().out
