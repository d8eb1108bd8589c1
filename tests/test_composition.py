"""Schedules in the parameters of schedules: how they are written, read, copied, checked and passed to a curve."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from nectargan_core import LMLoss, Schedule, Scheduler
from nectargan_core.errors import ScheduleError, SnapshotError, UnknownScheduleError

RISE = Schedule("linear", end=10, initial_value=0.0)
FALL = Schedule("linear", start=20, end=30, target_value=0.0)


def largest(schedule, epoch, *, parts):
    return max(part.value(epoch) for part in parts)


def largest_of_the_weight(schedule, epoch, *, parts):
    return max(part.with_weight(schedule.ends()[0]).value(epoch) for part in parts)


def power(schedule, epoch, *, power=1.0):
    if not power > 0:
        raise ScheduleError(f"power must be above 0, got {power!r}")
    return epoch**power


def echo(schedule, epoch, **params):
    echo.params = params
    return 1.0


# Writing and reading


def test_it_round_trips_through_json_exactly():
    inner = Schedule("product", unit="step", end=1 / 3, params={"factors": [RISE, FALL], "by name": {"rise": RISE}})
    whole = Schedule("sequence", params={"parts": [inner, FALL], "name": "x", "on": True, "nothing": None})
    read = Schedule.model_validate_json(whole.model_dump_json())
    assert read == whole
    assert read.params["parts"][0].params["by name"]["rise"] == RISE
    assert Schedule.model_validate(whole.model_dump()) == whole
    assert read.model_dump_json() == whole.model_dump_json()


def test_it_differs_from_one_with_another_part():
    assert Schedule("sequence", params={"parts": [RISE]}) != Schedule("sequence", params={"parts": [FALL]})


def test_a_dict_with_the_key_schedule_is_a_schedule():
    written = {"schedule": "linear", "end": 10, "initial_value": 0.0}
    assert Schedule("sequence", params={"parts": [written]}).params["parts"] == [RISE]


def test_other_dicts_are_unchanged():
    assert Schedule("table", params={"points": {"start": 3}}).params == {"points": {"start": 3}}


def test_a_parameter_may_be_named_schedule():
    schedule = Schedule("table", params={"schedule": "x"})
    assert schedule.params == schedule.with_weight(2.0).params == {"schedule": "x"}


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"schedule": "linear", "ends": 3}, "ends: Extra inputs are not permitted"),
        ({"schedule": "linear", "start": 3, "end": 2}, r"start_epoch \(3\) is after end_epoch \(2\)"),
        ({"schedule": "linear", "unit": "batch"}, "unit: Input should be 'epoch', 'step' or 'fraction'"),
    ],
)
def test_an_invalid_part_is_an_error_with_the_reason(part, said):
    with pytest.raises(ValidationError, match=f"a schedule in params is wrong: {said}"):
        Schedule("sequence", params={"parts": [part]})


def test_the_function_of_a_part_is_written_as_a_label():
    schedule = Schedule("sequence", params={"parts": [Schedule(largest)]})
    (part,) = json.loads(schedule.model_dump_json())["params"]["parts"]
    assert part["schedule"] == f"{__name__}:largest"


def test_numpy_numbers_become_python_numbers():
    params = {"milestones": list(np.arange(3)), "gamma": np.float32(0.5)}
    schedule = Schedule("multistep", params=params)
    assert schedule.params == {"milestones": [0, 1, 2], "gamma": 0.5}
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], np.float32("-inf")])
def test_a_number_that_is_not_finite_is_refused(value):
    with pytest.raises(ValidationError, match="params may hold finite numbers only, got"):
        Schedule("table", params={"points": value})


def test_a_key_that_is_not_a_string_is_refused():
    with pytest.raises(ValidationError, match=r"str keys only, got \{0: 1\.0\}; give a list of pairs"):
        Schedule("table", params={"points": {0: 1.0}})


# Copies


def test_the_parts_of_a_schedule_in_a_loss_are_frozen():
    schedule = Schedule(largest, params={"parts": [RISE]})
    made = LMLoss(name="a", function=torch.sum, schedule=schedule)
    with pytest.raises(SnapshotError):
        made.schedule.params["parts"][0].end_epoch = 99
    assert made.schedule.params["parts"][0].end_epoch == RISE.end_epoch == 10


def test_a_schedule_is_frozen_in_its_parts():
    frozen = Schedule(largest, params={"parts": [RISE]})
    with pytest.raises(SnapshotError):
        frozen.params["parts"][0].end_epoch = 99
    with pytest.raises(SnapshotError):
        frozen.params["parts"][0].params["power"] = 2
    assert Scheduler(frozen).value(5) == 0.5


# Evaluating


def test_a_part_is_passed_as_a_scheduler():
    assert Scheduler(Schedule(largest, params={"parts": [RISE, FALL]})).value(25) == 1.0
    assert Scheduler(Schedule(largest, params={"parts": [RISE]})).value(2.5) == 0.25


def test_a_part_is_passed_as_a_scheduler_wherever_it_is_nested():
    Scheduler(Schedule(echo, params={"a": RISE, "b": {"c": [RISE]}, "d": [1, "x"]}))
    assert isinstance(echo.params["a"], Scheduler)
    assert isinstance(echo.params["b"]["c"][0], Scheduler)
    assert echo.params["d"] == [1, "x"]


def test_a_part_given_to_a_call_is_passed_as_a_scheduler_too():
    curve = Scheduler(Schedule(largest, params={"parts": [RISE]}))
    assert curve.value(5, parts=[FALL]) == 1.0
    assert curve.value(5) == 0.5


def test_a_value_that_a_part_leaves_out_is_one_unless_the_curve_gives_a_weight():
    assert Scheduler(Schedule(largest, params={"parts": [RISE]}).with_weight(8.0)).value(5) == 0.5
    assert Scheduler(Schedule(largest_of_the_weight, params={"parts": [RISE]}).with_weight(8.0)).value(5) == 4.0


def test_with_weight_keeps_the_values_that_were_given():
    curve = Scheduler(Schedule("linear", end=10, initial_value=2.0))
    assert [curve.with_weight(8.0).value(epoch) for epoch in (0, 10)] == [2.0, 8.0]
    assert curve.with_weight(4.0).value(10) == 4.0
    assert curve.value(10) == 1.0


# Errors when a scheduler is made


def test_an_unknown_part_is_an_error_when_a_scheduler_is_made():
    with pytest.raises(UnknownScheduleError, match='Did you mean "linear"'):
        Scheduler(Schedule(largest, params={"parts": [Schedule("lineaer")]}))


def test_a_parameter_that_a_part_does_not_take_is_an_error_with_the_path_to_it():
    inner = Schedule(largest, params={"parts": [Schedule("linear", params={"speed": 2})]})
    with pytest.raises(
        ScheduleError, match=r"^schedule largest of loss 'G': schedule largest: schedule 'linear': .*speed"
    ):
        Scheduler(Schedule(largest, params={"parts": [inner]}), loss_name="G")


@pytest.mark.parametrize("definition", [{}, {"start": 3}, {"end": 3}])
def test_a_value_that_a_part_cannot_use_is_an_error_when_a_scheduler_is_made(definition):
    part = Schedule(power, params={"power": 0}, **definition)
    with pytest.raises(ScheduleError, match="schedule largest: schedule power: power must be above 0, got 0"):
        Scheduler(Schedule(largest, params={"parts": [part]}))


def test_it_is_evaluated_at_the_ends_of_its_parts():
    tried = []

    def curve(schedule, epoch, *, parts):
        tried.append(epoch)
        return 1.0

    Scheduler(Schedule(curve, end=50, params={"parts": [RISE, FALL]}))
    assert tried == [0, 10, 20, 30, 50]


def test_without_an_end_that_was_set_it_is_evaluated_at_the_start():
    with pytest.raises(ScheduleError, match="power must be above 0"):
        Scheduler(Schedule(power, params={"power": -1}))


def test_a_part_has_the_unit_of_the_whole():
    part = Schedule("linear", unit="step", end=10)
    with pytest.raises(ScheduleError, match="largest counts epochs, and the schedule 'linear' in its params steps"):
        Scheduler(Schedule(largest, params={"parts": [part]}))
    assert Scheduler(Schedule(largest, unit="step", params={"parts": [part]})).value(5) == 1.0


def test_its_plugins_include_those_of_its_parts():
    inner = Schedule(largest, params={"parts": [Schedule("exponential", end=10)]})
    curve = Scheduler(Schedule("linear", end=10))
    assert [plugin.name for plugin in curve.plugins] == ["linear"]
    curve = Scheduler(Schedule(largest, params={"parts": [RISE, inner]}))
    assert [plugin.name for plugin in curve.plugins] == ["linear", "exponential"]


# Values that a loss has filled in


def test_a_value_that_a_loss_filled_in_was_not_given():
    filled = Schedule("linear", initial_value=0.0).with_weight(5.0)
    assert filled.target_value == 5.0
    assert (filled.gives("initial_value"), filled.gives("target_value")) == (True, False)


def test_json_distinguishes_values_that_were_given_from_those_that_were_filled_in():
    filled = Schedule("linear", initial_value=0.0).with_weight(5.0)
    read = Schedule.model_validate_json(filled.model_dump_json())
    assert read == filled
    assert (read.gives("initial_value"), read.gives("target_value")) == (True, False)
    assert read.with_weight(7.0).target_value == 7.0


def test_a_value_that_is_set_later_is_given():
    filled = Schedule("linear", initial_value=0.0).with_weight(5.0)
    filled = filled.model_copy(update={"target_value": 6.0})
    assert "left_out" not in json.loads(filled.model_dump_json())
    assert filled.with_weight(7.0).target_value == 6.0


@pytest.mark.parametrize("left_out", [3, "target_value", ["end_epoch"], [["x"]]])
def test_only_values_can_be_left_out(left_out):
    with pytest.raises(ValidationError, match="left_out lists which of initial_value and target_value"):
        Schedule.model_validate({"left_out": left_out})
