"""Resuming: logs that are continued, saved states, and the records that a state supersedes."""

from __future__ import annotations

import copy
import importlib
import io
import json
import math
import pickle

import numpy as np
import pytest
import torch

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.errors import NectarganWarning, ObjectiveError, ScheduleError, UnknownScheduleError

ZERO, ONE = torch.zeros(2), torch.ones(2)


def start(directory, weight=10.0, **keywords):
    manager = LossManager(experiment_dir=directory, **keywords)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=weight)
    return manager


def run(manager, steps, epoch=0.0):
    for _ in range(steps):
        manager.tick(epoch=epoch)
        manager.compute_loss_xy("G_L1", ZERO, ONE)


def test_resuming_continues_after_the_last_step(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 3)
    with start(tmp_path, resume=True) as manager:
        run(manager, 2)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2, 3, 4]


def test_resuming_continues_the_count_of_calls_without_a_clock(tmp_path):
    for resume in (False, True):
        with start(tmp_path, resume=resume) as manager:
            manager.compute_loss_xy("G_L1", ZERO, ONE)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1]


def test_resuming_without_a_log_starts_one(tmp_path):
    with start(tmp_path, resume=True) as manager:
        run(manager, 1)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0]


def test_a_resumed_run_has_a_header_of_its_own(tmp_path):
    for number in range(2):
        with start(tmp_path, resume=True, metadata={"run": number}) as manager:
            run(manager, 1)
    headers = LossLog(tmp_path).headers
    assert [header["metadata"]["run"] for header in headers] == [0, 1]
    assert [header.get("resumed", False) for header in headers] == [False, True]


def test_a_resumed_run_has_the_log_that_another_started(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 1)
        started = manager.log_started
    assert started == LossLog(tmp_path).header["started"]
    with start(tmp_path, resume=True) as manager:
        run(manager, 1)
        assert manager.log_started == started
    with start(tmp_path) as manager:
        assert manager.log_started > started
    assert LossManager(enable_logging=True).log_started is None


def test_without_resume_a_log_is_moved_aside_and_named_in_the_header(tmp_path):
    for _ in range(3):
        with start(tmp_path) as manager:
            run(manager, 1)
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == [
        "loss_log.1.jsonl",
        "loss_log.2.jsonl",
        "loss_log.jsonl",
    ]
    assert LossLog(tmp_path).header["moved_aside"] == "loss_log.2.jsonl"
    assert LossLog(tmp_path / "loss_log.1.jsonl").series("G_L1").step.tolist() == [0]


def test_a_manager_that_records_nothing_does_not_move_the_log(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 1)
    start(tmp_path).close()
    assert [path.name for path in tmp_path.glob("*.jsonl")] == ["loss_log.jsonl"]


def test_a_truncated_line_is_removed_before_appending(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 2)
    path = tmp_path / "loss_log.jsonl"
    with path.open("a") as file:
        file.write('{"loss_name":"G_L1","ti')
    with start(tmp_path, resume=True) as manager:
        run(manager, 1)
    assert all(json.loads(line) for line in path.read_text().splitlines())
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2]


def test_a_state_loads_as_weights_only(tmp_path):
    manager = start(tmp_path)
    run(manager, 2)
    buffer = io.BytesIO()
    torch.save(manager.state_dict(), buffer)
    buffer.seek(0)
    assert torch.load(buffer, weights_only=True) == manager.state_dict()
    manager.close()


def test_state_dict_flushes(tmp_path):
    manager = start(tmp_path)
    run(manager, 2)
    manager.state_dict()
    assert len(LossLog(tmp_path).series("G_L1")) == 2
    manager.close()


def test_loading_an_older_state_supersedes_the_later_records(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 3)
        state = manager.state_dict()
        run(manager, 5)
        size = (tmp_path / "loss_log.jsonl").stat().st_size
    with start(tmp_path, resume=True) as manager:
        manager.load_state_dict(state)
        run(manager, 2, epoch=9)
    assert (tmp_path / "loss_log.jsonl").stat().st_size > size
    records = LossLog(tmp_path).series("G_L1")
    assert records.step.tolist() == [0, 1, 2, 3, 4]
    assert records.epoch.tolist() == [0, 0, 0, 9, 9]


def test_later_records_are_superseded_as_soon_as_a_state_is_loaded(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 2)
        state = manager.state_dict()
        run(manager, 3)
        manager.load_state_dict(state)
        assert manager.series("G_L1").step.tolist() == [0, 1]
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1]


def test_a_state_can_be_loaded_repeatedly(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 2)
        state = manager.state_dict()
    for epoch in (1, 2, 3):
        with start(tmp_path, resume=True) as manager:
            manager.load_state_dict(state)
            run(manager, 3, epoch=epoch)
    records = LossLog(tmp_path).series("G_L1")
    assert records.step.tolist() == [0, 1, 2, 3, 4]
    assert records.epoch.tolist() == [0, 0, 3, 3, 3]


def test_a_state_supersedes_later_records_without_a_clock(tmp_path):
    with start(tmp_path) as manager:
        manager.compute_loss_xy("G_L1", ZERO, ONE)
        state = manager.state_dict()
        manager.compute_loss_xy("G_L1", ZERO, 2 * ONE)
    with start(tmp_path, resume=True) as manager:
        manager.load_state_dict(state)
        manager.compute_loss_xy("G_L1", ZERO, 3 * ONE)
    records = LossLog(tmp_path).series("G_L1")
    assert (records.step.tolist(), records.loss.tolist()) == ([0, 1], [10.0, 30.0])


def test_a_state_supersedes_later_records_in_memory():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss())
    run(manager, 2)
    state = manager.state_dict()
    run(manager, 3)
    manager.load_state_dict(state)
    run(manager, 1)
    assert manager.series("G_L1").step.tolist() == [0, 1, 2]


def test_a_state_restores_weights_and_schedules(tmp_path):
    schedule = Schedule(start_epoch=0, end_epoch=10, target_value=0.0)
    with start(tmp_path / "a") as manager:
        manager.register_loss_fn("decaying", torch.nn.L1Loss(), loss_weight=4.0)
        manager.set_weight("G_L1", 3.0)
        manager.set_schedule("decaying", schedule)
        run(manager, 1, epoch=5)
        manager.compute_loss_xy("decaying", ZERO, ONE)
        state = manager.state_dict()
    with start(tmp_path / "b") as manager:
        manager.register_loss_fn("decaying", torch.nn.L1Loss(), loss_weight=4.0)
        manager.load_state_dict(state)
        assert manager.get_loss_weights() == {"G_L1": 3.0, "decaying": 2.0}


def test_a_state_of_a_loss_that_was_registered_with_another_weight_is_warned_of(tmp_path):
    with start(tmp_path / "a") as manager:
        manager.set_weight("G_L1", 3.0)
        state = manager.state_dict()
    with LossManager() as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=8.0)
        with pytest.warns(NectarganWarning, match="weight of G_L1: recorded 10, here 8"):
            manager.load_state_dict(state)
        assert manager.get_loss_weights() == {"G_L1": 3.0}


def test_a_state_restores_which_losses_are_disabled(tmp_path):
    with start(tmp_path / "a") as manager:
        manager.disable("G_L1")
        state = manager.state_dict()
    with start(tmp_path / "b") as manager:
        manager.load_state_dict(state)
        assert manager.get_loss_weights() == {"G_L1": 0.0}


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(start_epoch=5, end_epoch=15),
        Schedule(start_epoch=5, end_epoch=15, target_value=0.0),
        Schedule(start_epoch=5, end_epoch=15, initial_value=3.0),
        Schedule(start_epoch=5, end_epoch=15, initial_value=3.0, target_value=0.0),
    ],
)
def test_a_state_restores_a_schedule_with_its_left_out_ends(schedule):
    def make():
        manager = LossManager()
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), 100.0, Schedule(end_epoch=10, target_value=0.0))
        return manager

    old, new = make(), make()
    old.tick(epoch=4)
    old.set_schedule("G_L1", schedule)
    new.load_state_dict(old.state_dict())
    for epoch in (4, 10, 15):
        old.tick(epoch=epoch)
        new.tick(epoch=epoch)
        assert new.get_loss_weights(precision=None) == old.get_loss_weights(precision=None)


def test_a_state_takes_the_functions_of_a_schedule_from_the_manager_that_loads_it():
    def make(first, second):
        manager = LossManager()
        schedule = Schedule("product", params={"factors": [Schedule(first), Schedule(second)]}, end_epoch=10)
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), schedule=schedule)
        return manager

    old = make(lambda schedule, epoch: 2.0 * epoch, lambda schedule, epoch: 3.0)
    new = make(lambda schedule, epoch: 2.0 * epoch, lambda schedule, epoch: 3.0)
    old.tick(epoch=4)
    state = json.loads(json.dumps(old.state_dict()))
    new.load_state_dict(state)
    assert new.get_loss_weights() == old.get_loss_weights() == {"G_L1": 24.0}


@pytest.mark.parametrize("label", ["click:edit", "os:system", "test_resume:<lambda>"])
def test_a_state_never_imports_or_calls_what_it_names(label, monkeypatch):
    manager = LossManager()
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), 100.0)
    state = manager.state_dict()
    state["losses"]["G_L1"]["schedule"] = {"schedule": label, "params": {"filename": "$(touch owned)"}}
    state["step"] = 7
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    with pytest.raises(ScheduleError, match=f"schedule of loss 'G_L1' is the function '{label}' written as text"):
        manager.load_state_dict(state)
    assert (manager.step, manager.get_loss_weights()) == (-1, {"G_L1": 100.0})


def test_a_state_can_be_saved_with_a_schedule_that_has_a_lambda():
    def make():
        manager = LossManager()
        schedule = Schedule(lambda schedule, epoch: 2.0 * epoch, end_epoch=10)
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), schedule=schedule)
        return manager

    old, new = make(), make()
    old.tick(epoch=4)
    old.disable("G_L1")
    new.load_state_dict(old.state_dict())
    assert new.get_loss_weights() == {"G_L1": 0.0}
    new.enable("G_L1")
    assert new.get_loss_weights() == {"G_L1": 8.0}


@pytest.mark.parametrize("epoch", [np.float32(1.5), np.float64(1.5), torch.tensor(1.5)])
def test_a_state_is_plain_data_for_any_number_type_of_the_clock(epoch):
    manager = LossManager()
    manager.tick(epoch=epoch, step=np.int64(3))
    file = io.BytesIO()
    torch.save(manager.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert (state["epoch"], state["step"]) == (1.5, 3)


def test_a_new_run_may_keep_its_own_weights(tmp_path):
    with start(tmp_path / "a", weight=1.0) as manager:
        run(manager, 4, epoch=2)
        state = manager.state_dict()
    with start(tmp_path / "b", weight=7.0) as manager:
        manager.load_state_dict(state, weights="current")
        assert manager.get_loss_weights() == {"G_L1": 7.0}
        assert (manager.step, manager.epoch) == (3, 2)


def test_a_state_with_other_losses_is_warned_of_by_name(tmp_path):
    with start(tmp_path / "a") as manager:
        state = manager.state_dict()
    with start(tmp_path / "b") as manager:
        manager.register_loss_fn("new", torch.nn.L1Loss())
        with pytest.warns(NectarganWarning, match="loss new: recorded absent, here torch.nn:L1Loss"):
            manager.load_state_dict(state, strict=False)


def test_a_state_with_other_losses_is_refused_with_the_difference(tmp_path):
    with start(tmp_path / "a") as manager:
        state = manager.state_dict()
    with start(tmp_path / "b") as manager:
        manager.register_loss_fn("new", torch.nn.L1Loss())
        manager.set_weight("G_L1", 3.0)
        with pytest.raises(ObjectiveError, match="loss new: recorded absent") as caught:
            manager.load_state_dict(state)
        assert [each.name for each in caught.value.differences] == ["new"]
        assert manager.get_loss_weights("G_L1") == {"G_L1": 3.0}


def test_values_from_before_the_state_are_not_reported_by_the_new_manager(tmp_path, recwarn):
    with start(tmp_path / "a") as manager:
        run(manager, 3)
        state = manager.state_dict()
    with start(tmp_path / "b") as manager:
        manager.load_state_dict(state)
        assert math.isnan(manager.get_loss_values()["G_L1"])
    assert not recwarn.list


@pytest.mark.parametrize("state", [None, {}, {"version": 2}, [1]])
def test_an_invalid_state_is_refused(tmp_path, state):
    with start(tmp_path) as manager, pytest.raises(ValueError, match="state_dict"):
        manager.load_state_dict(state)


@pytest.mark.parametrize("part", ["losses", "counts", "step"])
def test_a_state_that_lacks_a_part_changes_nothing(tmp_path, part):
    with start(tmp_path) as manager:
        run(manager, 2)
        state = manager.state_dict()
        run(manager, 3)
        del state[part]
        with pytest.raises(ValueError, match="state_dict"):
            manager.load_state_dict(state)
        assert manager.step == 4
    assert len(LossLog(tmp_path).series("G_L1")) == 5


def test_a_state_with_a_schedule_that_is_not_installed_changes_nothing(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 2)
        state = manager.state_dict()
        run(manager, 3)
        state["losses"]["G_L1"]["schedule"] = {"schedule": "no-such-curve", "initial_value": 1.0, "target_value": 0.0}
        with pytest.raises(UnknownScheduleError):
            manager.load_state_dict(state)
        assert manager.step == 4
    assert len(LossLog(tmp_path).series("G_L1")) == 5


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_manager_cannot_be_copied_as_the_protocols_expect(tmp_path, copied):
    with start(tmp_path) as manager, pytest.raises(TypeError, match="state_dict"):
        copied(manager)


def test_the_first_step_that_is_given_after_a_resume_supersedes_what_lies_beyond_it(tmp_path):
    for values, start, resume in (([1.0, 2.0, 3.0, 4.0], 0, False), ([30.0, 40.0], 2, True)):
        with LossManager(experiment_dir=tmp_path, resume=resume) as manager:
            manager.register_loss_fn("a", lambda x, y: x)
            for step, value in enumerate(values, start):
                manager.tick(step=step)
                manager.compute_loss_xy("a", torch.tensor(value), None)
    records = LossLog(tmp_path).series("a")
    assert (records.step.tolist(), records.loss.tolist()) == ([0, 1, 2, 3], [1.0, 2.0, 30.0, 40.0])


def test_going_back_later_in_a_resumed_run_supersedes_nothing(tmp_path):
    with start(tmp_path) as manager:
        run(manager, 3)
    with start(tmp_path, resume=True) as manager:
        run(manager, 1)
        with pytest.warns(NectarganWarning, match="the step goes back from 3 to 1"):
            manager.tick(step=1)
        manager.compute_loss_xy("G_L1", ZERO, ONE)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1, 2, 3, 1]


def test_the_header_of_a_resumed_log_has_the_weights_that_hold(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", torch.nn.L1Loss(), 10.0)
        manager.tick(epoch=0)
        manager.compute_loss_xy("a", ONE, 0 * ONE)
        state = manager.state_dict()
    with LossManager(experiment_dir=tmp_path, resume=True) as manager:
        manager.register_loss_fn("a", torch.nn.L1Loss(), 20.0)
        with pytest.warns(NectarganWarning, match="weights and schedules are now those of the state"):
            manager.load_state_dict(state)
        manager.tick(epoch=1)
        manager.compute_loss_xy("a", ONE, 0 * ONE)
    log = LossLog(tmp_path)
    assert log.series("a").weight.tolist() == [10.0, 10.0]
    assert [header["manifest"]["losses"]["a"]["weight"] for header in log.headers] == [10.0, 10.0]
