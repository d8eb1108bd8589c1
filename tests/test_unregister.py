"""`unregister`: losses are removed, their names are free again, and what was recorded of them stays."""

import gc
import json
import math
import warnings
import weakref

import pytest
import torch
from devices import elsewhere
from managers import mean
from packaging.version import Version
from torch import nn
from torch._dynamo.utils import counters

from nectargan_core import LMLoss, LossLog, LossManager, Schedule, hookimpl
from nectargan_core.errors import (
    DuplicateLossError,
    NectarganError,
    NectarganWarning,
    NonFiniteLossError,
    UnknownLossError,
)

TORCH = Version(torch.__version__)
ZERO, ONE = torch.zeros(4), torch.ones(4)
INPUTS = {"y_fake": ZERO, "y": ONE}


def manager_with(*names, **keywords):
    manager = LossManager(**{"enable_logging": True, **keywords})
    for name in names:
        manager.register_loss_fn(name, nn.L1Loss(), 2.0, tags=[name[0], "all"])
    return manager


def losses_of(manager):
    return list(manager.get_registered_losses())


# Which


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("G_A", ["G_B", "D"]),
        ("G", ["D"]),
        (["D", "G_B"], ["G_A"]),
        (iter(["D", "nothing"]), ["G_A", "G_B"]),
        ("all", []),
        (None, []),
    ],
)
def test_the_losses_that_a_query_finds_are_removed(query, left):
    manager = manager_with("G_A", "G_B", "D")
    manager.compute_losses(INPUTS)
    assert manager.unregister(query) is None
    assert losses_of(manager) == left
    assert list(manager.get_loss_values()) == left
    assert list(manager.get_loss_weights()) == left
    assert list(manager.means()) == list(manager.latest()) == left


def test_a_query_that_finds_nothing_is_an_error_with_close_matches():
    manager = manager_with("G_A")
    with pytest.raises(UnknownLossError, match="no loss has the name or tag 'G_a'.*Did you mean"):
        manager.unregister("G_a")
    manager.unregister(None)
    with pytest.raises(UnknownLossError, match="no loss is registered"):
        manager.unregister(None)


@pytest.mark.parametrize("inside", [lambda manager: manager.split("val"), LossManager.paused])
def test_losses_are_removed_outside_of_splits_and_pauses(inside):
    manager = manager_with("a")
    with inside(manager), pytest.raises(NectarganError, match=r"outside of split\(\) and paused\(\)"):
        manager.unregister("a")
    assert losses_of(manager) == ["a"]


def test_a_removed_loss_is_unknown():
    manager = manager_with("a", "b")
    manager.compute_losses(INPUTS)
    manager.compute_losses(INPUTS, query="a")
    manager.unregister("a")
    with pytest.raises(UnknownLossError, match="no loss is named 'a'; registered are b"):
        manager.compute_loss_xy("a", ZERO, ONE)
    with pytest.raises(UnknownLossError):
        manager.compute_losses(INPUTS, query="a")
    with pytest.raises(UnknownLossError):
        manager.set_weight("a", 1.0)
    assert list(manager.compute_losses(INPUTS)) == list(manager.compute_losses(INPUTS, query="all")) == ["b"]


def test_a_removed_module_is_freed():
    module = nn.Linear(4, 1)
    manager = manager_with("a")
    manager.register_loss_fn("learned", module, inputs=("y",), tags=["all"])
    manager.compute_losses(INPUTS, query=["learned", "a"])
    gone = weakref.ref(module)
    del module
    manager.unregister("learned")
    gc.collect()
    assert gone() is None
    assert list(manager.modules()) == ["a"]


def test_a_function_of_a_loss_may_remove_losses():
    manager = manager_with("a")

    def removing(y_fake, y):
        manager.unregister(["a", "once"])
        return y.sum()

    manager.register_loss_fn("once", removing)
    assert manager.compute_losses(INPUTS).total.item() == 6.0
    assert losses_of(manager) == []
    assert manager.series("once").loss.tolist() == [4.0]


def test_an_observer_of_the_flush_may_remove_losses_too():
    class Removing:
        @hookimpl
        def nectargan_history_flushed(self, manager):
            if "b" in manager.get_registered_losses():
                manager.unregister("b")

    manager = manager_with("a", "b", "c", observers=[Removing()])
    manager.compute_losses(INPUTS)
    manager.unregister("a")
    assert losses_of(manager) == ["c"]


# What stays


@pytest.mark.parametrize("make", [lambda path: {}, lambda path: {"experiment_dir": path}], ids=["memory", "file"])
def test_what_was_recorded_stays_readable(tmp_path, make):
    manager = manager_with("a", **make(tmp_path))
    manager.compute_loss_xy("a", ZERO, ONE)
    with manager.split("val"):
        manager.compute_loss_xy("a", ZERO, 3 * ONE)
    manager.unregister("a")
    assert manager.series("a").loss.tolist() == [2.0]
    assert manager.series("val/a").loss.tolist() == [6.0]


def test_what_is_pending_goes_to_the_log_first(tmp_path):
    manager = manager_with("a", experiment_dir=tmp_path)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.unregister("a")
    assert LossLog(tmp_path).series("a").loss.tolist() == [2.0]


@pytest.mark.parametrize("keep", [True, False])
def test_values_on_a_device_are_read_first(keep):
    seen = []

    class Noting:
        @hookimpl
        def nectargan_nonfinite_loss(self, loss_name):
            seen.append(loss_name)

    manager = LossManager(enable_logging=keep, nonfinite="ignore", observers=[Noting()])
    manager.register_loss_fn("a", lambda y_fake, y: y)
    manager.compute_loss_xy("a", None, elsewhere(math.inf))
    manager.unregister("a")
    assert seen == ["a"]


def test_a_pending_error_is_raised_first_and_nothing_is_removed():
    manager = LossManager(enable_logging=True, nonfinite="raise")
    manager.register_loss_fn("a", lambda y_fake, y: y)
    manager.compute_loss_xy("a", None, elsewhere(math.inf))
    with pytest.raises(NonFiniteLossError):
        manager.unregister("a")
    assert losses_of(manager) == ["a"]


def test_the_other_losses_are_as_they_were():
    manager = manager_with("a", "b")
    manager.set_schedule("b", Schedule(end_epoch=10, target_value=0.0))
    manager.tick(epoch=5)
    manager.compute_losses(INPUTS)
    before = manager.get_registered_losses("b", strip=False), manager.means("b"), manager.get_loss_values("b")
    manager.unregister("a")
    assert (manager.get_registered_losses("b", strip=False), manager.means("b"), manager.get_loss_values("b")) == before
    manager.tick(epoch=10)
    assert manager.compute_losses(INPUTS).total.item() == 0.0


def test_results_of_before_still_have_their_total():
    manager = manager_with("a", "b", "c", "d")
    losses = manager.compute_losses(INPUTS)
    manager.unregister(None)
    assert losses.total.item() == 8.0


# The name is free


@pytest.mark.parametrize("make", [lambda path: {}, lambda path: {"experiment_dir": path}], ids=["memory", "file"])
def test_another_loss_of_the_same_name_goes_on_in_the_same_series(tmp_path, make):
    manager = manager_with("a", **make(tmp_path))
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.unregister("a")
    manager.register_loss_fn("a", nn.MSELoss(), 3.0)
    manager.compute_loss_xy("a", ZERO, 2 * ONE)
    assert manager.series("a").loss.tolist() == [2.0, 12.0]
    assert manager.series("a").step.tolist() == [0, 1]


@pytest.mark.parametrize("keep", [True, False])
def test_another_loss_of_the_same_name_has_not_run(keep):
    manager = manager_with("a", enable_logging=keep)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.unregister("a")
    manager.register_loss_fn("a", nn.MSELoss(), 3.0)
    assert math.isnan(manager.get_loss_values()["a"])
    assert math.isnan(manager.latest()["a"])
    assert math.isnan(manager.get_loss_tensors()["a"])
    assert manager.get_loss_weights() == {"a": 3.0}
    if keep:
        assert math.isnan(manager.means()["a"])
        manager.compute_loss_xy("a", ZERO, 2 * ONE)
        assert manager.means() == manager.latest() == {"a": 12.0}


def test_losses_that_replace_others_of_their_names_have_not_run_either():
    def spec():
        return {"a": LMLoss(name="a", function=nn.L1Loss())}

    manager = manager_with("a")
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.init_from_spec(spec)
    assert math.isnan(manager.latest()["a"])
    assert math.isnan(manager.means()["a"])


def test_another_loss_of_the_same_name_is_warned_of_anew():
    manager = manager_with("a")
    for _ in range(2):
        with pytest.warns(NectarganWarning, match="'a' became inf at step"):
            manager.compute_loss_xy("a", ZERO, math.inf * ONE)
        with manager.split("val"), pytest.warns(NectarganWarning, match="'val/a' became inf at step"):
            manager.compute_loss_xy("a", ZERO, math.inf * ONE)
        manager.unregister("a")
        manager.register_loss_fn("a", nn.L1Loss())


def test_a_scalar_may_have_the_name():
    manager = manager_with("a")
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.unregister("a")
    manager.record("a", 7.0)
    assert manager.series("a").loss.tolist() == [2.0, 7.0]
    assert manager.latest() == manager.means() == {"a": 7.0}
    with pytest.raises(DuplicateLossError, match="recorded as a scalar"):
        manager.register_loss_fn("a", nn.L1Loss())


def test_a_scalar_that_is_not_finite_is_no_loss_that_is():
    manager = manager_with("a", nonfinite="raise")
    manager.unregister("a")
    manager.record("a", math.inf)


def test_a_loss_is_watched_in_a_split_in_which_a_scalar_has_had_its_name():
    manager = manager_with("a")
    manager.unregister("a")
    with manager.split("val"):
        manager.record("a", math.inf)
    manager.register_loss_fn("a", nn.L1Loss())
    with manager.split("val"), pytest.warns(NectarganWarning, match="'val/a' became inf"):
        manager.compute_loss_xy("a", ZERO, math.inf * ONE)


# State, log and the end


def test_a_state_has_no_entry_of_a_removed_loss_but_its_count():
    manager = manager_with("a", "b")
    manager.compute_losses(INPUTS)
    manager.unregister("a")
    state = manager.state_dict()
    assert list(state["losses"]) == ["b"]
    assert state["counts"] == {"a": 1, "b": 1}
    manager.load_state_dict(state)


def test_a_state_of_before_is_loaded_with_a_warning_that_names_the_loss():
    manager = manager_with("a", "b")
    state = manager.state_dict()
    manager.unregister("a")
    with pytest.warns(NectarganWarning, match="loss a: recorded torch.nn:L1Loss.*, here absent"):
        manager.load_state_dict(state, strict=False)


def test_the_log_says_which_losses_are_left(tmp_path):
    manager = manager_with("a", "b", experiment_dir=tmp_path)
    manager.compute_losses(INPUTS)
    manager.unregister("a")
    manager.compute_losses(INPUTS)
    manager.close()
    lines = [json.loads(line) for line in (tmp_path / "loss_log.jsonl").read_text().splitlines()]
    assert [list(line["tags"]) for line in lines if "tags" in line] == [["a", "b"], ["b"]]
    assert LossLog(tmp_path).names == ("a", "b")


def test_a_run_goes_on_after_losses_were_removed(tmp_path):
    manager = manager_with("a", "b", experiment_dir=tmp_path)
    manager.tick()
    manager.compute_losses(INPUTS)
    manager.unregister("a")
    manager.tick()
    manager.compute_losses(INPUTS)
    state = manager.state_dict()
    manager.tick()
    manager.compute_losses(INPUTS)
    manager.close()
    manager = manager_with("b", experiment_dir=tmp_path, resume=True)
    manager.load_state_dict(state)
    manager.tick()
    manager.compute_losses(INPUTS)
    assert manager.series("a").step.tolist() == [0]
    assert manager.series("b").step.tolist() == [0, 1, 2]


def test_a_removed_loss_is_not_warned_of_as_never_computed():
    manager = manager_with("a", "b")
    manager.compute_loss_xy("b", ZERO, ONE)
    manager.unregister("a")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manager.close()


def test_losses_are_removed_after_the_end():
    manager = manager_with("a")
    manager.close()
    manager.unregister("a")
    assert losses_of(manager) == []


# The name of the objective


def spec(*names):
    return {name: LMLoss(name=name, function=mean) for name in names}


def one():
    return spec("a", "b")


def two():
    return spec("c")


def none():
    return {}


def test_an_objective_is_left_out_once_all_of_its_losses_are_removed():
    manager = LossManager().register_spec(one).register_spec(two).register_spec(none)
    assert manager.objective == "one + two + none"
    manager.unregister("a")
    assert manager.objective == "one + two + none"
    manager.unregister("c")
    assert manager.objective == "one + none"
    manager.register_loss_fn("a", mean)
    manager.unregister("b")
    assert manager.objective == "none"
    assert manager.init_from_spec(two).objective == "two"
    manager.unregister(None)
    assert manager.objective is None


# Compiled graphs

NO_DICTS = pytest.mark.skipif(Version("2.7") > TORCH, reason="the compiler cannot make a subclass of dict there")


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def compiled(step):
    return torch.compile(step, backend="eager", fullgraph=True)


@NO_DICTS
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_step_computes_what_is_left():
    manager = manager_with("a", "b")
    step = compiled(lambda x, y: manager.compute_losses({"y_fake": x, "y": y}).total)
    assert step(ZERO, ONE).item() == 4.0
    manager.unregister("a")
    assert step(ZERO, ONE).item() == 2.0
    assert [len(manager.series(name)) for name in "ab"] == [1, 2]


@NO_DICTS
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiled_step_without_the_loss_makes_no_other_graph():
    manager = manager_with("a", "b")
    step = compiled(lambda x, y: manager.compute_losses({"y_fake": x, "y": y}, "b").total)
    step(ZERO, ONE)
    manager.unregister("a")
    manager.set_weight("b", 5.0)
    assert step(ZERO, ONE).item() == 5.0
    assert counters["stats"]["unique_graphs"] == 1


@NO_DICTS
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize(
    "step",
    [
        lambda manager, x, y: manager.compute_losses({"y_fake": x, "y": y}, "a").total,
        lambda manager, x, y: manager.compute_loss_xy("a", x, y),
    ],
)
def test_a_compiled_step_with_the_loss_says_that_it_is_unknown(step):
    manager = manager_with("a", "b")
    run = torch.compile(step, backend="eager")
    run(manager, ZERO, ONE)
    manager.unregister("a")
    with pytest.raises(UnknownLossError, match="no loss .*'a'"):
        run(manager, ZERO, ONE)
    manager.register_loss_fn("a", nn.MSELoss(), 3.0)
    assert run(manager, ZERO, ONE).item() == 3.0
    assert manager.series("a").loss.tolist() == [2.0, 3.0]


@NO_DICTS
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_program_whose_losses_were_removed_says_so():
    class Step(nn.Module):
        def forward(self, x):
            return manager.compute_losses({"y_fake": x, "y": x}).total

    manager = manager_with("a")
    program = torch.export.export(Step(), (torch.ones(2),), strict=True).module()
    manager.unregister("a")
    with pytest.raises(NectarganError, match="is gone, or has other losses now"):
        program(torch.ones(2))


@pytest.mark.skipif(
    Version("2.9") > TORCH,
    reason="there a graph that raises ends in an error of the compiler's own",
)
@pytest.mark.usefixtures("fresh_compiler")
def test_losses_are_removed_outside_of_a_graph():
    manager = manager_with("a", "b")

    def step(x):
        manager.unregister("a")
        return manager.compute_loss_xy("b", x, x + 1)

    with pytest.raises(torch._dynamo.exc.Unsupported, match="outside of torch.compile"):
        compiled(step)(ZERO)
    assert losses_of(manager) == ["a", "b"]
    # Where the graph may break, they are removed between two graphs.
    assert torch.compile(step, backend="eager")(ZERO).item() == 2.0
    assert losses_of(manager) == ["b"]
