"""Reporting: values, tensors, weights, snapshots and printed lines."""

import inspect
import math

import pytest
from managers import ONE, ZERO, adversarial, decaying, mean, one
from torch import nn

from nectargan_core import LossManager, Schedule
from nectargan_core.errors import (
    NectarganError,
)

# Getters


def test_every_getter_works_before_the_first_call():
    manager = one(3.0)
    assert math.isnan(manager.get_loss_values()["a"])
    assert math.isnan(manager.get_loss_tensors()["a"].item())
    assert manager.get_loss_weights() == {"a": 3.0}
    assert manager.print_losses(0, 0, capture=True) == "(epoch: 0, iters: 0) Loss: a: nan"
    assert manager.get_registered_losses(strip=False)["a"].history.losses == []


def test_every_getter_works_after_a_flush(tmp_path):
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.update_loss_log()
    assert manager.get_loss_values() == {"a": 3.0}
    assert manager.get_loss_tensors()["a"].item() == 3.0
    assert manager.get_loss_weights() == {"a": 3.0}


def test_after_close_values_can_be_read_and_computing_is_an_error():
    manager = one(3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.close()
    manager.close()
    assert manager.get_loss_values() == {"a": 3.0}
    with pytest.raises(NectarganError, match="this manager is closed"):
        manager.compute_loss_xy("a", ZERO, ONE)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (None, ["G_L1", "G_GAN", "D_real"]),
        ("G", ["G_L1", "G_GAN"]),
        ("G_GAN", ["G_GAN"]),
        (["G"], ["G_L1", "G_GAN"]),
        (["D", "G_L1"], ["G_L1", "D_real"]),
        (("D_real", "nothing"), ["D_real"]),
        ({"D"}, ["D_real"]),
        ((name for name in ["D"]), ["D_real"]),
        ("GAN", []),
        ("", []),
        ([], []),
        (["g"], []),
    ],
)
def test_a_query_finds_the_losses_with_the_name_or_tag(query, found):
    manager = adversarial()
    if inspect.isgenerator(query):
        assert list(manager.get_loss_values(query)) == found
        return
    for ask in (
        manager.get_registered_losses,
        manager.get_loss_values,
        manager.get_loss_tensors,
        manager.get_loss_weights,
    ):
        assert list(ask(query)) == found


@pytest.mark.parametrize("query", [3, [3], [["G"]]])
def test_a_query_of_another_type_is_refused(query):
    with pytest.raises(TypeError):
        adversarial().get_loss_values(query)


def test_a_query_finds_a_loss_that_was_registered_after_the_same_query():
    manager = adversarial()
    manager.get_loss_values("G")
    manager.register_loss_fn("G_L2", nn.MSELoss(), tags=["G"])
    assert list(manager.get_loss_values("G")) == ["G_L1", "G_GAN", "G_L2"]


def test_weights_before_a_run_are_those_at_the_epoch_of_the_clock():
    manager = decaying()
    assert manager.get_loss_weights() == {"a": 100.0}
    manager.tick(epoch=15)
    assert manager.get_loss_weights() == {"a": 50.0}


def test_weights_after_a_run_are_those_last_applied():
    manager = decaying()
    manager.tick(epoch=15)
    manager.compute_loss_xy("a", ONE, ONE)
    manager.tick(epoch=20)
    assert manager.get_loss_weights() == {"a": 50.0}


def test_weights_are_rounded_to_two_digits_unless_asked_otherwise():
    manager = one(1.23456)
    assert manager.get_loss_weights() == {"a": 1.23}
    assert manager.get_loss_weights(precision=3) == {"a": 1.235}
    assert manager.get_loss_weights(precision=None) == {"a": 1.23456}


def test_snapshots_have_the_last_result_and_weight():
    manager = one(3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    snapshot = manager.get_registered_losses()["a"]
    assert snapshot.last_loss_map.item() == 3.0
    assert snapshot.schedule.current_value == 3.0
    assert snapshot.name == "a"


def test_strip_does_not_empty_the_history_of_the_manager():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert manager.get_registered_losses()["a"].history.losses == []
    assert manager.get_registered_losses(strip=True)["a"].history.weights == []
    assert manager.get_registered_losses(strip=False)["a"].history.losses == [3.0]


def test_a_snapshot_does_not_change_with_later_calls():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    snapshot = manager.get_registered_losses(strip=False)["a"]
    manager.compute_loss_xy("a", ONE, ONE)
    assert (snapshot.history.losses, snapshot.last_loss_map.item()) == ([3.0], 3.0)


# Printing


def ran(**kwargs):
    manager = adversarial(**kwargs)
    manager.compute_losses({"y_fake": ZERO, "y": ONE / 3, "pred_fake": ONE, "pred_real": ONE})
    return manager


def test_losses_are_printed_as_in_the_reference(capsys):
    assert ran().print_losses(epoch=3, iter=20) is None
    assert capsys.readouterr().out == "(epoch: 3, iters: 20) Loss: G_L1: 33.33 G_GAN: -1.0 D_real: 1.0\n"


def test_weights_are_printed_as_in_the_reference(capsys):
    assert ran().print_weights() is None
    assert capsys.readouterr().out == "Loss weights: G_L1: 100.0 G_GAN: 1.0 D_real: 1.0\n"


def test_captured_lines_are_returned_and_not_printed(capsys):
    manager = ran()
    assert manager.print_losses(3, 20, precision=0, capture=True) == (
        "(epoch: 3, iters: 20) Loss: G_L1: 33.0 G_GAN: -1.0 D_real: 1.0"
    )
    assert manager.print_weights(capture=True) == "Loss weights: G_L1: 100.0 G_GAN: 1.0 D_real: 1.0"
    assert capsys.readouterr().out == ""


def test_a_flush_is_silent_unless_asked_otherwise(tmp_path, capsys):
    manager = ran(experiment_dir=tmp_path)
    assert manager.update_loss_log() is None
    assert capsys.readouterr().out == ""
    ran_again = ran(experiment_dir=tmp_path / "other")
    assert ran_again.update_loss_log(silent=False) is None
    assert "3 records in 0." in capsys.readouterr().out
    text = ran_again.update_loss_log(silent=False, capture=True)
    assert text.startswith("Loss log: 0 records in 0.")
    assert text.endswith(f"{tmp_path / 'other' / 'loss_log.jsonl'}")
    assert capsys.readouterr().out == ""


def test_a_flush_without_a_log_prints_that_there_is_none():
    assert ran().update_loss_log(silent=False, capture=True) == "Loss log: logging to a file is off"


def state_of(manager):
    again = LossManager()
    schedule = manager.get_registered_losses()["a"].schedule
    again.register_loss_fn("a", mean, schedule=schedule if schedule.is_scheduled else None)
    again.load_state_dict(manager.state_dict())
    return again


@pytest.mark.parametrize(
    "change",
    [
        lambda manager: manager,
        lambda manager: manager.set_weight("a", 7.0) or manager,
        lambda manager: manager.set_schedule("a", Schedule(end=10, initial_value=2.0, target_value=0.0)) or manager,
        lambda manager: manager.disable("a") or manager,
        state_of,
    ],
    ids=["registered", "set_weight", "set_schedule", "disable", "load_state_dict"],
)
@pytest.mark.parametrize("schedule", [None, Schedule(end=10, initial_value=5.0, target_value=0.0)])
def test_the_current_value_of_a_snapshot_is_the_weight_to_be_applied_before_the_first(schedule, change):
    manager = LossManager()
    manager.register_loss_fn("a", mean, schedule=schedule)
    changed = change(manager)
    current = changed.get_registered_losses()["a"].schedule.current_value
    assert current == changed.get_loss_weights(precision=None)["a"]
    assert isinstance(current, float)
