"""Schedules: their definition, how they are copied and written, their curves, and how they are evaluated."""

import copy
import functools
import importlib
import json
import math
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from managers import mean
from pydantic import ValidationError

from nectargan_core import LMLoss, LossManager, Schedule, Scheduler
from nectargan_core.errors import ScheduleError, SnapshotError, UnknownScheduleError

DECAY = {"start_epoch": 100, "end_epoch": 200, "initial_value": 100.0, "target_value": 0.0}


def half(schedule, epoch):
    return 0.5


def scaled(schedule, epoch, factor, offset=0.0):
    return factor * epoch + offset


def value(epoch, **definition):
    return Scheduler(Schedule(**definition)).value(epoch)


# The definition


def test_nothing_set_is_not_scheduled():
    assert not Schedule().is_scheduled


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": "exponential"},
        {"start_epoch": 1},
        {"end_epoch": 5},
        {"initial_value": 1.0},
        {"target_value": 1.0},
        {"params": {"power": 2}},
    ],
)
def test_each_field_of_the_definition_makes_it_scheduled_and_is_compared(change):
    assert Schedule(**change).is_scheduled
    assert Schedule(**change) != Schedule()
    assert Schedule(**change) == Schedule(**change)


def test_by_default_it_is_linear_from_0_without_an_end():
    schedule = Schedule()
    assert (schedule.schedule, schedule.start_epoch, schedule.end_epoch) == ("linear", 0, None)
    assert (schedule.initial_value, schedule.target_value, schedule.params) == (None, None, {})


def test_the_current_value_is_not_compared():
    assert Schedule(current_value=3.0) == Schedule()
    assert not Schedule(current_value=3.0).is_scheduled


@pytest.mark.parametrize(
    ("schedule", "first"),
    [
        (Schedule(), 1.0),
        (Schedule(end=10, target_value=0.0), 1.0),
        (Schedule(end=10, initial_value=5.0, target_value=0.0), 5.0),
        (Schedule(end=10, initial_value=5.0).model_copy(update={"initial_value": 6.0}), 6.0),
        (Schedule.model_validate({"end": 10, "initial_value": 5.0}), 5.0),
        (Scheduler(Schedule(end=10, initial_value=5.0, target_value=0.0)).schedule, 5.0),
        (Scheduler(Schedule(lambda schedule, epoch: epoch)).schedule, 1.0),
    ],
)
def test_the_current_value_is_the_first_until_a_value_is_applied(schedule, first):
    assert schedule.current_value == first


@pytest.mark.parametrize("other", [None, "linear", {}, 1.0])
def test_a_schedule_does_not_equal_other_types(other):
    assert (Schedule() == other) is False
    assert Schedule() != other


def test_a_schedule_is_not_hashable():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Schedule())


@pytest.mark.parametrize(
    "definition",
    [
        {"start_epoch": 10, "end_epoch": 9},
        {"end_epoch": math.inf},
        {"start_epoch": math.nan},
        {"initial_value": math.inf},
        {"target_value": math.nan},
        {"start_epoch": "soon"},
        {"schedule": 3},
        {"epochs": 3},
        {"params": [1]},
    ],
)
def test_an_invalid_definition_is_refused(definition):
    with pytest.raises(ValidationError):
        Schedule(**definition)


def test_a_start_after_the_end_is_refused_with_both_values():
    with pytest.raises(ValidationError, match=r"start_epoch \(10\) is after end_epoch \(9\)"):
        Schedule(start_epoch=10, end_epoch=9)


def test_a_change_is_validated_too():
    schedule = Schedule(start_epoch=10, end_epoch=20)
    with pytest.raises(ValidationError):
        schedule.model_copy(update={"end_epoch": 9})


def test_model_copy_takes_either_name_of_an_end():
    schedule = Schedule(start_epoch=10, end_epoch=20, target_value=0.0)
    assert schedule.model_copy(update={"end": 30}) == schedule.model_copy(update={"end_epoch": 30})
    assert schedule.model_copy(update={"end": 30}) == Schedule(start_epoch=10, end_epoch=30, target_value=0.0)


def test_model_copy_keeps_which_ends_were_left_out():
    filled = Schedule(end_epoch=20, target_value=0.0).with_weight(100.0)
    other = filled.model_copy(update={"end_epoch": 30})
    assert (other.initial_value, other.with_weight(5.0).initial_value) == (100.0, 5.0)


# Writing and reading


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(),
        Schedule(**DECAY),
        Schedule("acme/cosine", start=20_000_000, params={"period": 3}),
        Schedule(schedule="acme/cosine", start_epoch=0.1, end_epoch=1 / 3, initial_value=-1e-300, target_value=1e300),
        Schedule(schedule="step", params={"gamma": 0.1, "milestones": (1, 2.5), "nested": {"name": "x", "on": True}}),
    ],
)
def test_round_trips_through_json_exactly(schedule):
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule
    assert Schedule.model_validate(json.loads(json.dumps(schedule.model_dump(mode="json")))) == schedule


def test_an_unscheduled_loss_stays_unscheduled_through_json():
    loss = LMLoss(name="G_L1", function=mean, loss_weight=100.0)
    read = Schedule.model_validate_json(loss.schedule.model_dump_json())
    assert not read.is_scheduled
    assert LMLoss(name="G_L1", function=mean, loss_weight=100.0, schedule=read).schedule.current_value == 100.0


def test_the_current_value_is_not_written():
    assert "current_value" not in json.loads(Schedule(current_value=3.0).model_dump_json())


class Curves:
    @staticmethod
    def flat(schedule, epoch):
        return 1.0

    def __call__(self, schedule, epoch):
        return 2.0


@pytest.mark.parametrize(
    ("function", "label"),
    [
        (json.dumps, "json:dumps"),
        (Curves.flat, f"{__name__}:Curves.flat"),
        (Curves(), f"{__name__}:Curves"),
        (types.SimpleNamespace, "types:SimpleNamespace"),
        (functools.partial(half), "functools:partial"),
        (lambda schedule, epoch: 1.0, f"{__name__}:<lambda>"),
    ],
)
def test_a_function_is_written_as_a_label(function, label):
    assert json.loads(Schedule(schedule=function).model_dump_json())["schedule"] == label
    assert Schedule(schedule=function).model_dump()["schedule"] == label


@pytest.mark.parametrize("label", ["json:dumps", "no_such_module_of_a_test:curve", "os:system", ":", "a:b:c"])
@pytest.mark.parametrize("read", [Schedule, lambda label: Schedule.model_validate({"schedule": label})])
def test_a_label_is_read_as_text_and_nothing_is_imported_by_it(monkeypatch, label, read):
    monkeypatch.setattr(importlib, "import_module", lambda name: pytest.fail(f"imported {name}"))
    before = set(sys.modules)
    schedule = read(label)
    assert schedule.schedule == label
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule
    with pytest.raises(ScheduleError, match=f"function '{label}' written as text.*pass the function itself"):
        Scheduler(schedule)
    assert set(sys.modules) == before


def test_a_label_in_a_part_gives_no_function_either():
    schedule = Schedule("sequence", params={"parts": [{"schedule": "os:system"}]})
    with pytest.raises(ScheduleError, match="'os:system' written as text"):
        Scheduler(schedule)


# Copies


@pytest.mark.parametrize("given", [{"initial_value": 1.0}, {"initial_value": 1.0, "target_value": 0.0}, {}])
def test_the_parameters_of_a_schedule_in_a_loss_are_frozen(given):
    schedule = Schedule(schedule=scaled, params={"factor": 1.0, "offset": 0.0}, end_epoch=5, **given)
    made = LMLoss(name="a", function=mean, schedule=schedule)
    with pytest.raises(SnapshotError):
        made.schedule.params["factor"] = 2.0
    assert made.schedule.params["factor"] == schedule.params["factor"] == 1.0


@pytest.mark.parametrize("given", [{"initial_value": 1.0, "target_value": 0.0}, {}])
def test_a_scheduler_does_not_see_later_changes_of_the_parameters(given):
    params = {"factor": 1.0}
    scheduler = Scheduler(Schedule(schedule=scaled, params=params, **given))
    params["factor"] = 2.0
    assert scheduler.value(3) == 3.0
    assert scheduler.schedule.params == {"factor": 1.0}


def test_parameters_are_copied_deeply():
    params = {"milestones": [1, 2]}
    schedule = Schedule(schedule="step", params=params)
    params["milestones"].append(3)
    assert schedule.params == {"milestones": [1, 2]}


@pytest.mark.parametrize(
    "made",
    [
        Schedule(**DECAY, params={"a": [1]}),
        Schedule(**DECAY, params={"a": [1]}).model_copy(),
        copy.deepcopy(Schedule(**DECAY, params={"a": [1]})),
        pickle.loads(pickle.dumps(Schedule(**DECAY, params={"a": [1]}))),
    ],
)
def test_a_schedule_and_its_copies_are_frozen(made):
    with pytest.raises(SnapshotError, match="model_copy"):
        made.end_epoch = 5
    with pytest.raises(SnapshotError):
        made.params["a"] = 2
    with pytest.raises(SnapshotError):
        made.params["a"].append(2)
    assert made == Schedule(**DECAY, params={"a": [1]})


def test_is_scheduled_is_computed_once():
    schedule = Schedule(**DECAY)
    assert "is_scheduled" not in vars(schedule)
    assert schedule.is_scheduled
    assert vars(schedule)["is_scheduled"] is True
    assert "is_scheduled" not in schedule.model_dump()


# Ends left out


def test_an_end_that_is_left_out_is_one_outside_of_a_loss():
    assert value(5, end_epoch=10, target_value=0.0) == 0.5
    assert value(5, end_epoch=10, initial_value=0.0) == 0.5


def test_an_end_that_is_left_out_is_the_weight_of_the_loss():
    schedule = Schedule(start_epoch=100, end_epoch=200, target_value=0.0)
    loss = LMLoss(name="G_L1", function=mean, loss_weight=80.0, schedule=schedule)
    assert Scheduler(loss.schedule).value(150) == 40.0
    assert schedule.initial_value is None


def test_with_weight_keeps_the_ends_that_were_given():
    filled = Schedule(initial_value=3.0).with_weight(100.0)
    assert (filled.initial_value, filled.target_value) == (3.0, 100.0)


# Without an end


@pytest.mark.parametrize("schedule", ["linear", "exponential"])
@pytest.mark.parametrize("given", [{"start_epoch": 5}, {"target_value": 2.0}, {"end_epoch": None, "unit": "step"}])
def test_a_curve_that_needs_an_end_is_refused_without_one_when_it_is_registered(schedule, given):
    manager = LossManager()
    with pytest.raises(ScheduleError, match=f"schedule '{schedule}' of loss 'a': this curve needs an end.*end_epoch"):
        manager.register_loss_fn("a", mean, schedule=Schedule(schedule, **given))
    assert not manager.get_registered_losses()


def test_a_schedule_that_is_given_without_an_end_changes_no_weight():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 3.0)
    with pytest.raises(ScheduleError, match="needs an end"):
        manager.set_schedule("a", Schedule(target_value=0.0))
    assert manager.get_loss_weights() == {"a": 3.0}


def test_what_is_not_scheduled_keeps_the_weight_at_every_epoch():
    assert [Scheduler(Schedule()).value(epoch) for epoch in (0, 1e9)] == [1.0, 1.0]


def test_a_part_that_is_not_scheduled_keeps_the_weight():
    assert Scheduler(Schedule()).with_weight(8.0).value(3) == 8.0


def test_an_end_of_none_is_the_same_as_no_end():
    assert Schedule("exponential", end=None) == Schedule("exponential")
    assert not Schedule(end_epoch=None).is_scheduled


def test_an_end_that_is_far_away_is_an_end():
    assert value(5_000_000, end_epoch=10_000_000, target_value=0.0) == 0.5


def test_no_end_is_written_as_null():
    assert json.loads(Schedule("exponential", start=5).model_dump_json())["end_epoch"] is None


def test_an_end_can_be_taken_away():
    assert Schedule(start=1, end=5).model_copy(update={"end": None}) == Schedule(start=1)


@pytest.mark.parametrize(("epoch", "running"), [(9.9, False), (10, True), (19.9, True), (20, False)])
def test_a_schedule_is_running_from_its_start_up_to_its_end(epoch, running):
    assert Schedule(start=10, end=20).is_running(epoch) is running


def test_a_schedule_without_an_end_never_stops_running():
    assert Schedule(start=10).is_running(2.0**53)


@pytest.mark.parametrize(("end", "held"), [(None, 1e9), (20, 20), (2e9, 1e9)])
def test_an_epoch_is_held_at_the_end_if_there_is_one(end, held):
    assert Schedule(end=end).until_end(1e9) == held


# Progress


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 0.0), (10, 0.0), (12.5, 0.25), (19.999, 0.9999), (20, 1.0), (1e9, 1.0)]
)
def test_progress_is_clamped(epoch, expected):
    assert Schedule(start_epoch=10, end_epoch=20).progress(epoch) == pytest.approx(expected, abs=1e-12)


def test_progress_without_an_end_is_an_error_that_says_what_to_set():
    with pytest.raises(ScheduleError, match="needs an end, and the schedule has none; set end_epoch to the step"):
        Schedule(unit="step").progress(3)


@pytest.mark.parametrize(("epoch", "expected"), [(9.999, 0.0), (10, 1.0), (11, 1.0)])
def test_progress_jumps_where_the_start_is_the_end(epoch, expected):
    assert Schedule(start_epoch=10, end_epoch=10).progress(epoch) == expected


# Curves


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 100.0), (99.5, 100.0), (100, 100.0), (150, 50.0), (175.5, 24.5), (200, 0.0), (999, 0.0)]
)
def test_linear_is_constant_then_falls_then_is_constant(epoch, expected):
    assert value(epoch, **DECAY) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("initial", "target"), [(0.0, 5.0), (-1.0, 1.0), (2.0, -2.0), (-3.0, -5.0)])
def test_linear_runs_between_any_signs_rising_and_falling(initial, target):
    curve = Scheduler(Schedule(end_epoch=4, initial_value=initial, target_value=target))
    assert [curve.value(epoch) for epoch in range(5)] == [initial + (target - initial) * k / 4 for k in range(5)]


def test_linear_jumps_where_the_start_is_the_end():
    definition = {"start_epoch": 3, "end_epoch": 3, "initial_value": 1.0, "target_value": 2.0}
    assert [value(epoch, **definition) for epoch in (2.9, 3, 3.1)] == [1.0, 2.0, 2.0]


def test_linear_spans_the_whole_range_of_floats():
    largest = sys.float_info.max
    assert value(5, end_epoch=10, initial_value=-largest, target_value=largest) == 0.0


@pytest.mark.parametrize(("initial", "target"), [(100.0, 1.0), (1.0, 100.0), (-100.0, -1.0), (1e-300, 1e300)])
def test_exponential_changes_by_a_constant_factor(initial, target):
    curve = Scheduler(Schedule(schedule="exponential", end_epoch=4, initial_value=initial, target_value=target))
    factor = math.exp((math.log(abs(target)) - math.log(abs(initial))) / 4)
    for epoch in range(4):
        assert curve.value(epoch + 1) / curve.value(epoch) == pytest.approx(factor, rel=1e-9)
    assert (curve.value(0), curve.value(4), curve.value(7.5)) == (initial, target, target)


@pytest.mark.parametrize(("initial", "target"), [(100.0, 0.0), (0.0, 100.0), (-100.0, 0.0)])
def test_exponential_reaches_zero_only_with_an_epsilon(initial, target):
    definition = {"schedule": "exponential", "end_epoch": 2, "initial_value": initial, "target_value": target}
    with pytest.raises(ScheduleError, match="never reaches 0"):
        Scheduler(Schedule(**definition))
    curve = Scheduler(Schedule(**definition, params={"epsilon": 1.0}))
    assert (curve.value(0), curve.value(2)) == (initial, target)
    assert curve.value(1) == pytest.approx(math.copysign(10.0, initial or target))


@pytest.mark.parametrize(("initial", "target"), [(1.0, -1.0), (-1e-200, 1e-200)])
def test_exponential_does_not_cross_zero(initial, target):
    definition = {"schedule": "exponential", "end_epoch": 2, "initial_value": initial, "target_value": target}
    with pytest.raises(ScheduleError, match="one sign"):
        Scheduler(Schedule(**definition))


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.inf])
def test_exponential_refuses_an_epsilon_that_is_not_finite_and_above_zero(epsilon):
    schedule = Schedule(end_epoch=2, target_value=0.0, schedule="exponential", params={"epsilon": 1.0})
    with pytest.raises(ScheduleError, match="finite epsilon above 0"):
        Scheduler(schedule).value(1, epsilon=epsilon)


def test_exponential_between_equals_is_constant():
    assert value(1, schedule="exponential", end_epoch=2, initial_value=0.0, target_value=0.0) == 0.0


# Evaluating


def test_a_function_is_given_the_schedule_the_epoch_and_the_parameters():
    seen = []

    def curve(schedule, epoch, **params):
        seen.append((schedule.end_epoch, epoch, params))
        return 1.0

    Scheduler(Schedule(schedule=curve, end_epoch=7, params={"a": 1})).value(0.5)
    assert seen == [(7, 7, {"a": 1}), (7, 0.5, {"a": 1})]


def test_parameters_of_a_call_override_those_of_the_schedule():
    curve = Scheduler(Schedule(schedule=scaled, params={"factor": 2.0}))
    assert curve.value(3, factor=10.0, offset=1.0) == 31.0
    assert curve.value(3) == 6.0


def test_a_function_may_return_any_type_of_number():
    for number in (1, True, np.float32(1), np.array(1.0), torch.tensor(1.0)):
        got = Scheduler(Schedule(schedule=lambda schedule, epoch, number=number: number)).value(1)
        assert (type(got), got) == (float, 1.0)


@pytest.mark.parametrize("result", [None, "1.0", math.nan, math.inf, 1j, [1.0], 10**400])
def test_a_result_that_is_not_a_finite_number_is_an_error_naming_loss_and_epoch(result):
    curve = Scheduler(Schedule(schedule=lambda schedule, epoch: result if epoch > 1 else 1.0), loss_name="G_L1")
    with pytest.raises(ScheduleError, match=r"of loss 'G_L1' gave .* at epoch 2.5; expected a finite number"):
        curve.value(2.5)


def test_a_function_that_raises_is_named_with_loss_and_epoch():
    def broken(schedule, epoch):
        return 1 / (epoch - 3)

    curve = Scheduler(Schedule(schedule=broken), loss_name="G_L1")
    with pytest.raises(ScheduleError, match=r"broken of loss 'G_L1' failed at epoch 3: ZeroDivisionError") as caught:
        curve.value(3)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


# Errors when a scheduler is made


def test_an_unknown_name_is_an_error_with_close_matches():
    with pytest.raises(UnknownScheduleError, match='Did you mean "linear"') as caught:
        Scheduler(Schedule(schedule="lineaer"))
    assert isinstance(caught.value, KeyError)
    assert caught.value.name == "lineaer"


@pytest.mark.parametrize("name", ["linear+exponential", "vgg::", "linear:fast:er"])
def test_an_invalid_name_is_an_error(name):
    with pytest.raises(ValueError, match=r"name|import"):
        Scheduler(Schedule(schedule=name))


@pytest.mark.parametrize("params", [{}, {"factor": 1.0, "facter": 2.0}, {"factor": 1.0, "epoch": 2}])
def test_parameters_that_the_function_does_not_take_are_an_error(params):
    with pytest.raises(ScheduleError, match="it takes \\(schedule, epoch, factor, offset\\)"):
        Scheduler(Schedule(schedule=scaled, params=params))


def test_parameters_of_a_call_are_checked_too():
    with pytest.raises(ScheduleError, match="factr"):
        Scheduler(Schedule(schedule=half, end_epoch=3)).value(1, factr=2.0)


@pytest.mark.parametrize("bad", [3, 8])
def test_it_is_evaluated_at_the_ends_that_were_set(bad):
    def curve(schedule, epoch):
        return math.nan if epoch == bad else 1.0

    with pytest.raises(ScheduleError, match=f"at epoch {bad}"):
        Scheduler(Schedule(schedule=curve, start_epoch=3, end_epoch=8))


def test_it_is_not_evaluated_at_ends_that_were_not_set():
    epochs = []
    Scheduler(Schedule(schedule=lambda schedule, epoch: epochs.append(epoch) or 1.0, end_epoch=8))
    assert epochs == [8]


def test_registering_a_loss_checks_its_schedule():
    manager = LossManager()
    with pytest.raises(ScheduleError, match="G_L1"):
        manager.register_loss_fn("G_L1", mean, schedule=Schedule(schedule=half, params={"speed": 2}))
    with pytest.raises(UnknownScheduleError):
        manager.register_loss_fn("G_L1", mean, schedule=Schedule(schedule="no-such-curve"))
    assert manager.get_registered_losses() == {}


def test_the_schedules_of_core_are_found_under_the_name_of_its_distribution():
    assert value(5, schedule="nectargan-core/linear", end_epoch=10, target_value=0.0) == 0.5


# The factor


def test_the_factor_multiplies_what_the_curve_gives_and_not_its_ends():
    def beyond(schedule, epoch):
        assert schedule.ends() == (2.0, 0.0)
        return 1.0 + schedule.ends()[0] * epoch

    curve = Scheduler(Schedule(beyond, initial_value=2.0, target_value=0.0, factor=-10.0))
    assert [curve.value(epoch) for epoch in (0, 1)] == [-10.0, -30.0]


def test_the_factor_is_a_field_as_the_others_are():
    schedule = Schedule(end_epoch=10, target_value=0.0, factor=3.0)
    assert (schedule.current_value, schedule.is_scheduled) == (3.0, True)
    assert Schedule(factor=3.0).is_scheduled
    assert schedule != schedule.model_copy(update={"factor": 1.0})
    assert schedule.with_weight(5.0).factor == 3.0
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule
    assert "factor" in repr(schedule)


def test_a_definition_without_a_factor_has_the_factor_1():
    assert Schedule.model_validate({"schedule": "linear", "end_epoch": 3}).factor == 1.0


@pytest.mark.parametrize("factor", [math.nan, math.inf, "x", None])
def test_a_factor_is_a_finite_number(factor):
    with pytest.raises(ValidationError, match="factor"):
        Schedule(end_epoch=3, factor=factor)


def test_a_product_that_no_float_can_hold_is_an_error():
    with pytest.raises(ScheduleError, match="gave inf at epoch 0"):
        Scheduler(Schedule(lambda schedule, epoch: 10.0, initial_value=1.0, factor=1e308))


def test_a_part_of_a_curve_has_its_own_factor():
    def through(schedule, epoch, *, part):
        return part.with_weight(schedule.ends()[0]).value(epoch)

    part = Schedule(end_epoch=10, target_value=0.0, factor=3.0)
    assert value(5, schedule=through, initial_value=8.0, params={"part": part}, factor=2.0) == 24.0
