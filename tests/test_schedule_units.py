"""The arguments of a schedule and its unit: epochs, fractional epochs, or steps, as the clock gives them."""

import json
import math

import pytest
import torch
from pydantic import ValidationError

from nectargan_core import LossManager, Schedule, Scheduler, errors

ZERO, ONE = torch.zeros(()), torch.ones(())
RISE = {"start": 0, "end": 10, "initial_value": 0.0, "target_value": 10.0}


def difference(x, y):
    return y - x


def scheduled(schedule, **options):
    manager = LossManager(**options)
    manager.register_loss_fn("loss", difference, schedule=schedule)
    return manager


def weight(manager, **call):
    """Compute the loss, whose unweighted value is 1, and return its value."""
    return manager.compute_loss_xy("loss", ZERO, ONE, **call).item()


# Arguments


def test_the_curve_comes_first():
    assert Schedule("exponential", end_epoch=5) == Schedule(schedule="exponential", end_epoch=5)


def test_only_the_curve_is_positional():
    with pytest.raises(TypeError):
        Schedule("linear", 100)


@pytest.mark.parametrize("read", [lambda fields: Schedule(**fields), Schedule.model_validate])
def test_start_and_end_are_the_epochs(read):
    schedule = read({"start": 3, "end": 7.5})
    assert (schedule.start_epoch, schedule.end_epoch) == (3, 7.5)
    assert schedule == Schedule(start_epoch=3, end_epoch=7.5)


def test_start_and_end_are_written_as_the_epochs():
    written = json.loads(Schedule(start=3, end=7.5).model_dump_json())
    assert (written["start_epoch"], written["end_epoch"]) == (3, 7.5)
    assert "start" not in written


@pytest.mark.parametrize(("short", "field"), [("start", "start_epoch"), ("end", "end_epoch")])
def test_an_end_that_is_given_twice_is_refused(short, field):
    with pytest.raises(ValidationError, match=f"{short} and {field} are the same"):
        Schedule(**{short: 1, field: 1})


def test_an_epoch_beyond_the_exact_integers_of_a_float_is_refused():
    assert Schedule(end=2**53).end_epoch == 2**53
    with pytest.raises(ValidationError, match="less than or equal to 9007199254740992"):
        Schedule(end=2**53 + 1)


# The unit


def test_the_unit_is_part_of_the_definition():
    assert Schedule(unit="step", **RISE) != Schedule(**RISE)
    assert Schedule(unit="step").is_scheduled


def test_the_unit_is_written_and_read():
    schedule = Schedule("linear", unit="step", start=0, end=10_000, target_value=0.0)
    assert json.loads(schedule.model_dump_json())["unit"] == "step"
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


def test_other_units_are_refused():
    with pytest.raises(ValidationError, match="'epoch', 'step' or 'fraction'"):
        Schedule(unit="batch")


def test_an_error_names_the_unit():
    with pytest.raises(errors.ScheduleError, match="gave nan at step 7"):
        Scheduler(Schedule(lambda schedule, step: math.nan, unit="step", end=7))


# With a clock


def test_a_schedule_by_epoch_follows_the_epoch_of_the_clock():
    manager = scheduled(Schedule(**RISE))
    seen = []
    for epoch in (0, 0, 4, 2.5, 20):
        manager.tick(epoch=epoch)
        seen.append(weight(manager))
    assert seen == [0.0, 0.0, 4.0, 2.5, 10.0]


def test_fractional_epochs_change_the_weight_at_every_step():
    manager = scheduled(Schedule(**RISE))
    seen = []
    for batch in range(4):
        manager.tick(epoch=3 + batch / 4)
        seen.append(weight(manager))
    assert seen == [3.0, 3.25, 3.5, 3.75]


def test_a_schedule_by_step_follows_the_step_of_the_clock_whatever_the_epoch():
    manager = scheduled(Schedule(unit="step", **RISE))
    seen = []
    for epoch, step in ((9, None), (9, None), (9, 7), (0, None), (0, 100)):
        manager.tick(epoch=epoch, step=step)
        seen.append(weight(manager))
    assert seen == [0.0, 1.0, 7.0, 8.0, 10.0]


def test_an_epoch_in_a_call_does_not_change_the_step():
    manager = scheduled(Schedule(unit="step", **RISE))
    manager.tick(step=3)
    assert weight(manager, epoch=9) == 3.0


def test_several_calls_in_a_step_have_one_weight():
    manager = scheduled(Schedule(unit="step", **RISE))
    manager.tick(step=3)
    assert [weight(manager) for _ in range(3)] == [3.0] * 3


def test_a_record_has_the_step_of_its_weight():
    manager = scheduled(Schedule(unit="step", **RISE), enable_logging=True)
    for step in (2, 5):
        manager.tick(step=step)
        weight(manager)
    history = manager.get_registered_losses(strip=False)["loss"].history
    assert (history.steps, history.weights) == ([2, 5], [2.0, 5.0])


def test_before_a_run_the_weight_is_that_of_the_clock_s_step():
    manager = scheduled(Schedule(unit="step", **RISE))
    assert manager.get_loss_weights() == {"loss": 0.0}
    manager.tick(step=4)
    assert manager.get_loss_weights() == {"loss": 4.0}


def test_a_loss_is_not_run_at_a_step_with_weight_0():
    calls = []
    manager = LossManager()
    manager.register_loss_fn(
        "loss", lambda x: calls.append(1) or x, schedule=Schedule(unit="step", **RISE), inputs=("x",)
    )
    for _ in range(3):
        manager.tick(epoch=5)
        manager.compute_losses({"x": ONE})
    assert len(calls) == 2


def test_parameters_of_a_call_are_for_the_step_of_the_clock():
    def scaled(schedule, step, *, factor):
        return factor * step

    manager = scheduled(Schedule(scaled, unit="step", params={"factor": 1.0}))
    manager.tick(epoch=9, step=4)
    assert weight(manager, loss_kwargs={"weight_kwargs": {"factor": 10.0}}) == 40.0
    assert weight(manager) == 4.0


# Without a clock


def test_a_schedule_by_step_follows_the_calls_of_its_loss_without_a_warning():
    manager = scheduled(Schedule(unit="step", **RISE))
    assert [weight(manager) for _ in range(4)] == [0.0, 1.0, 2.0, 3.0]


def test_each_loss_counts_its_own_calls():
    manager = scheduled(Schedule(unit="step", **RISE))
    manager.register_loss_fn("other", difference, schedule=Schedule(unit="step", **RISE))
    for _ in range(3):
        weight(manager)
    assert manager.compute_loss_xy("other", ZERO, ONE).item() == 0.0


def test_a_validation_pass_is_computed_at_the_step_that_the_training_is_at():
    manager = scheduled(Schedule(unit="step", **RISE), enable_logging=True)
    for _ in range(3):
        weight(manager)
    with manager.split("val"):
        assert [weight(manager) for _ in range(2)] == [3.0, 3.0]
    with manager.paused():
        assert weight(manager) == 3.0
    assert weight(manager) == 3.0


# The cost of a call


def test_a_weight_is_computed_once_per_epoch_or_step():
    asked = []

    def curve(schedule, at):
        asked.append(at)
        return 1.0

    manager = scheduled(Schedule(curve, end=50))
    manager.register_loss_fn("by step", difference, schedule=Schedule(curve, unit="step", end=60))
    asked.clear()
    for _ in range(3):
        manager.tick(epoch=5, step=7)
        manager.compute_losses({"y_fake": ZERO, "y": ONE})
        manager.get_loss_weights()
    assert asked == [5, 7]
