"""The registry: losses are registered one by one, changed by hand, and returned as snapshots."""

import gc
import inspect
import math
import weakref

import pytest
import torch
from managers import mean
from pydantic import ValidationError
from torch import nn

from nectargan_core import LMLoss, LossManager, Schedule
from nectargan_core.errors import (
    DuplicateLossError,
    ScheduleError,
    SnapshotError,
    UnknownLossError,
    UnknownScheduleError,
)

ZERO, ONE = torch.zeros(4), torch.ones(4)
INPUTS = {"y_fake": ZERO, "y": ONE}
DECAY = Schedule(start_epoch=0, end_epoch=10, target_value=0.0)


def manager_with(**weights):
    manager = LossManager(enable_logging=True)
    for name, weight in weights.items():
        manager.register_loss_fn(name, mean, weight, tags=[name[0]])
    return manager


def weights(manager):
    return manager.get_loss_weights(precision=None)


def values(manager):
    return {name: value.item() for name, value in manager.compute_losses(INPUTS).items()}


# Registering


def test_the_signature_of_register_loss_fn_is_the_documented_one():
    parameters = inspect.signature(LossManager.register_loss_fn).parameters
    assert list(parameters) == [
        *["self", "loss_name", "loss_fn", "loss_weight", "schedule", "tags", "inputs", "skip_when_zero"]
    ]
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    assert (defaults["loss_weight"], defaults["schedule"], defaults["tags"]) == (None, None, ())
    assert defaults["inputs"] == ("y_fake", "y")
    assert parameters["inputs"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("arguments", [{}, {"loss_weight": None, "schedule": None}, {"schedule": Schedule()}])
def test_the_default_weight_is_one(arguments):
    manager = LossManager()
    manager.register_loss_fn("a", mean, **arguments)
    assert weights(manager) == {"a": 1.0}


def test_get_registered_losses_returns_what_was_registered():
    manager = LossManager()
    l1 = nn.L1Loss()
    manager.register_loss_fn("a", l1, 100.0, DECAY, ["G", "pixel"], inputs=("y_fake", "x"))
    loss = manager.get_registered_losses()["a"]
    assert (loss.name, loss.function, loss.loss_weight) == ("a", l1, 100.0)
    assert (loss.tags, loss.inputs, loss.schedule.initial_value) == (["G", "pixel"], ("y_fake", "x"), 100.0)


@pytest.mark.parametrize("tags", [["pixel"], ("pixel",), {"pixel"}, "pixel", (tag for tag in ["pixel"])])
def test_tags_are_one_or_several(tags):
    manager = LossManager()
    manager.register_loss_fn("a", mean, tags=tags)
    assert manager.get_registered_losses()["a"].tags == ["pixel"]


def test_losses_are_found_in_the_order_in_which_they_were_registered():
    assert list(manager_with(c=1.0, a=1.0, b=1.0).get_registered_losses()) == ["c", "a", "b"]


def test_a_name_is_registered_once():
    manager = manager_with(a=1.0)
    with pytest.raises(DuplicateLossError, match="loss 'a' is registered already; choose another name") as caught:
        manager.register_loss_fn("a", nn.L1Loss(), 5.0)
    assert caught.value.name == "a"
    assert isinstance(caught.value, ValueError)
    assert weights(manager) == {"a": 1.0}


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss_name": "val/a"},
        {"loss_name": ""},
        {"loss_fn": None},
        {"loss_weight": math.nan},
        {"loss_weight": "much"},
        {"schedule": "linear"},
        {"inputs": "y"},
        {"tags": [1]},
        {"loss_weight": 5.0, "schedule": Schedule(end_epoch=9, initial_value=7.0)},
        {"schedule": Schedule("no-such-curve")},
        {"schedule": Schedule(lambda schedule, epoch: None, end_epoch=9)},
    ],
)
def test_a_refused_registration_leaves_the_manager_unchanged(arguments):
    manager = LossManager()
    with pytest.raises((ValueError, LookupError)):
        manager.register_loss_fn(**{"loss_name": "a", "loss_fn": mean, **arguments})
    assert manager.get_registered_losses() == {}
    manager.register_loss_fn("a", mean)


def test_the_default_schedule_and_tags_are_not_shared():
    manager = LossManager()
    manager.register_loss_fn("L1", mean, 100.0)
    manager.register_loss_fn("GAN", mean, 1.0)
    assert values(manager) == {"L1": 100.0, "GAN": 1.0}
    assert weights(manager) == {"L1": 100.0, "GAN": 1.0}


def test_managers_share_no_state_of_a_schedule_or_tags():
    schedule, tags = Schedule(end_epoch=10, target_value=0.0), ["G"]
    first, second = LossManager(), LossManager()
    first.register_loss_fn("a", mean, 100.0, schedule, tags)
    second.register_loss_fn("a", mean, 1.0, schedule, tags)
    tags.append("late")
    first.tick(epoch=5)
    second.tick(epoch=5)
    assert (weights(first), weights(second)) == ({"a": 50.0}, {"a": 0.5})
    assert first.get_registered_losses("late") == {}


def test_a_manager_without_references_is_freed_with_its_losses():
    module = nn.Linear(1, 1)
    manager = LossManager()
    manager.register_loss_fn("a", module)
    gone = weakref.ref(module)
    del module, manager
    gc.collect()
    assert gone() is None


# Snapshots


def test_setting_a_field_of_a_snapshot_is_an_error_that_names_set_weight():
    manager = manager_with(a=1.0)
    with pytest.raises(SnapshotError, match="set_weight"):
        manager.get_registered_losses()["a"].loss_weight = 5.0
    assert weights(manager) == {"a": 1.0}


def test_changing_the_dict_of_snapshots_does_not_change_the_manager():
    manager = manager_with(a=1.0)
    manager.get_registered_losses().clear()
    assert list(manager.get_registered_losses()) == ["a"]


def test_a_snapshot_may_be_registered_elsewhere():
    snapshots = manager_with(a=2.0, b=3.0).get_registered_losses()
    other = LossManager().init_from_spec(lambda: dict(snapshots))
    other.set_weight("a", 5.0)
    assert weights(other) == {"a": 5.0, "b": 3.0}


# Changes by hand


def test_a_weight_that_is_set_is_applied_reported_and_recorded():
    manager = manager_with(a=1.0)
    values(manager)
    manager.set_weight("a", 5.0)
    assert weights(manager) == {"a": 5.0}
    assert manager.get_registered_losses()["a"].loss_weight == 5.0
    assert manager.get_registered_losses()["a"].schedule.current_value == 5.0
    assert values(manager) == {"a": 5.0}
    assert manager.get_registered_losses(strip=False)["a"].history.weights == [1.0, 5.0]


def test_setting_a_weight_ends_a_schedule():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 100.0, DECAY)
    manager.set_weight("a", 5.0)
    manager.tick(epoch=5)
    assert values(manager) == {"a": 5.0}
    assert not manager.get_registered_losses()["a"].schedule.is_scheduled


@pytest.mark.parametrize("weight", [math.nan, math.inf, "much"])
def test_an_invalid_weight_is_refused_and_changes_nothing(weight):
    manager = manager_with(a=1.0)
    with pytest.raises(ValidationError):
        manager.set_weight("a", weight)
    assert weights(manager) == {"a": 1.0}


def test_a_schedule_that_is_set_begins_at_the_present_weight():
    manager = manager_with(a=80.0)
    manager.set_schedule("a", DECAY)
    for epoch, weight in ((0, 80.0), (5, 40.0), (10, 0.0)):
        manager.tick(epoch=epoch)
        assert values(manager) == weights(manager) == {"a": weight}


def test_a_schedule_that_is_set_during_a_run_begins_at_the_present_weight():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 100.0, DECAY)
    manager.tick(epoch=5)
    manager.set_schedule("a", Schedule(start_epoch=5, end_epoch=15, target_value=0.0))
    assert weights(manager) == {"a": 50.0}
    manager.tick(epoch=10)
    assert weights(manager) == {"a": 25.0}


def test_a_target_that_is_left_out_is_the_present_weight():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 100.0, DECAY)
    manager.tick(epoch=5)
    manager.set_schedule("a", Schedule(start_epoch=5, end_epoch=15, initial_value=10.0))
    assert weights(manager) == {"a": 10.0}
    manager.tick(epoch=15)
    assert weights(manager) == {"a": 50.0}


def test_a_schedule_that_is_set_replaces_the_weight():
    manager = manager_with(a=80.0)
    manager.set_schedule("a", Schedule(end_epoch=10, initial_value=5.0, target_value=1.0))
    assert weights(manager) == {"a": 5.0}


def test_setting_an_empty_schedule_keeps_the_present_weight():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 100.0, DECAY)
    manager.tick(epoch=5)
    manager.set_schedule("a", Schedule())
    manager.tick(epoch=10)
    assert weights(manager) == {"a": 50.0}


@pytest.mark.parametrize(
    ("schedule", "error"),
    [(Schedule("no-such-curve"), UnknownScheduleError), (Schedule(lambda s, e: None, end_epoch=3), ScheduleError)],
)
def test_a_schedule_that_cannot_be_used_changes_nothing(schedule, error):
    manager = manager_with(a=80.0)
    with pytest.raises(error):
        manager.set_schedule("a", schedule)
    assert weights(manager) == {"a": 80.0}


def test_a_schedule_that_is_set_follows_the_clock():
    manager = manager_with(a=80.0)
    manager.set_schedule("a", Schedule(end_epoch=10, initial_value=1.0, target_value=0.0, params={}))
    manager.tick(epoch=5)
    assert weights(manager) == {"a": 0.5}


@pytest.mark.parametrize(
    "change",
    [
        lambda manager: manager.set_weight("A", 1.0),
        lambda manager: manager.set_schedule("A", DECAY),
        lambda manager: manager.disable("A"),
        lambda manager: manager.enable(["A"]),
    ],
)
def test_changing_an_unknown_loss_is_an_error_with_close_matches(change):
    with pytest.raises(UnknownLossError, match='Did you mean "a"'):
        change(manager_with(a=1.0))


@pytest.mark.parametrize("query", ["a", ["a", "x"], None])
def test_a_disabled_loss_counts_zero_and_stays_in_the_results(query):
    manager = manager_with(a=3.0)
    manager.disable(query)
    assert values(manager) == manager.get_loss_values() == weights(manager) == {"a": 0.0}
    manager.enable(query)
    assert weights(manager) == {"a": 3.0}
    assert values(manager) == {"a": 3.0}
    history = manager.get_registered_losses(strip=False)["a"].history
    assert (history.losses, history.weights) == ([0.0, 3.0], [0.0, 3.0])
    assert math.isnan(history.unweighted[0])


def test_disabling_chooses_by_tag():
    manager = manager_with(Ga=1.0, Gb=2.0, Da=3.0)
    manager.disable("G")
    assert values(manager) == {"Ga": 0.0, "Gb": 0.0, "Da": 3.0}


def test_the_function_of_a_disabled_loss_is_not_run():
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: 1 / 0)
    manager.disable("a")
    assert values(manager) == {"a": 0.0}


def test_a_schedule_continues_while_its_loss_is_disabled():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 100.0, DECAY)
    manager.disable("a")
    manager.tick(epoch=5)
    assert values(manager) == {"a": 0.0}
    manager.enable("a")
    assert values(manager) == {"a": 50.0}


def test_a_weight_that_is_set_while_disabled_applies_once_enabled():
    manager = manager_with(a=1.0)
    manager.disable("a")
    manager.set_weight("a", 7.0)
    assert weights(manager) == {"a": 0.0}
    manager.enable("a")
    assert values(manager) == {"a": 7.0}


def test_a_loss_of_a_spec_keeps_its_inputs_and_skip_when_zero():
    loss = LMLoss(name="a", function=mean, inputs={"x": "mask", "y": "y"}, skip_when_zero=False)
    manager = LossManager().init_from_spec(lambda: {"a": loss})
    assert manager.get_registered_losses()["a"] == loss
