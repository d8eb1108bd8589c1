"""A loss: its fields, its weight and schedule, its copies, and that it cannot be changed."""

import copy
import math
import pickle

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from nectargan_core import LMHistory, LMLoss, Schedule
from nectargan_core.errors import ScheduleError, SnapshotError

L1 = nn.L1Loss()


def loss(**fields):
    return LMLoss(**{"name": "G_L1", "function": L1, **fields})


# Fields


def test_name_and_function_are_enough():
    made = loss()
    assert (made.loss_weight, made.tags, made.inputs, made.skip_when_zero) == (1.0, [], ("y_fake", "y"), True)
    assert made.schedule == Schedule()
    assert made.history == LMHistory()
    assert math.isnan(made.last_loss_map.item())
    assert made.function is L1


@pytest.mark.parametrize("function", [L1, torch.nn.functional.l1_loss, lambda x, y: x - y, torch.dist])
def test_any_callable_is_a_function(function):
    assert loss(function=function).function is function


@pytest.mark.parametrize("tags", [["G", "pixel"], ("G", "pixel")])
def test_tags_are_stored_as_a_list(tags):
    assert loss(tags=tags).tags == ["G", "pixel"]


def test_inputs_are_names_in_order_or_a_mapping_from_parameter_to_name():
    assert loss(inputs=["x", "mask"]).inputs == ("x", "mask")
    assert loss(inputs={"input": "y_fake", "target": "y"}).inputs == {"input": "y_fake", "target": "y"}
    assert loss(inputs=()).inputs == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": ""},
        {"name": "val/G_L1"},
        {"name": 3},
        {"function": "l1"},
        {"function": None},
        {"loss_weight": "much"},
        {"loss_weight": math.nan},
        {"loss_weight": math.inf},
        {"loss_weight": None},
        {"tags": "G"},
        {"tags": [1]},
        {"inputs": "y"},
        {"inputs": [1]},
        {"schedule": "linear"},
        {"colour": "red"},
    ],
)
def test_what_makes_no_sense_is_refused(fields):
    with pytest.raises(ValidationError):
        loss(**fields)


def test_a_slash_in_the_name_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match="stands between a split and a loss"):
        loss(name="val/G_L1")


def test_one_input_as_a_string_is_refused_with_the_right_notation():
    with pytest.raises(ValidationError, match=r"write \('y_fake',\)"):
        loss(inputs="y_fake")


def test_model_copy_validates_the_update():
    made = loss()
    with pytest.raises(ValidationError):
        made.model_copy(update={"loss_weight": math.nan})
    with pytest.raises(ValidationError):
        made.model_copy(update={"name": "a/b"})
    with pytest.raises(ValidationError):
        made.model_copy(update={"colour": "red"})


# Nothing is shared


def test_losses_share_no_schedule():
    schedule = Schedule(start_epoch=1, end_epoch=2, target_value=0.0)
    first, second = loss(schedule=schedule, loss_weight=100.0), loss(schedule=schedule, loss_weight=1.0)
    assert (first.schedule.initial_value, second.schedule.initial_value) == (100.0, 1.0)
    assert schedule.initial_value is None


def test_losses_share_no_default_schedule():
    first, second = loss(loss_weight=100.0), loss(loss_weight=1.0)
    assert (first.schedule.current_value, second.schedule.current_value) == (100.0, 1.0)


@pytest.mark.parametrize("tags", [None, ["G"]])
def test_losses_share_no_tags(tags):
    given = [] if tags is None else list(tags)
    first, second = (loss() if tags is None else loss(tags=given) for _ in range(2))
    given.append("mine")
    assert first.tags == second.tags == (tags or [])


def test_losses_share_no_inputs():
    inputs = {"input": "y_fake"}
    made = loss(inputs=inputs)
    inputs["input"] = "x"
    assert made.inputs == {"input": "y_fake"}


# Weight and schedule agree


@pytest.mark.parametrize("weight", [0.0, 1.0, -2.5, 100])
def test_unscheduled_the_current_value_is_the_weight(weight):
    made = loss(loss_weight=weight)
    assert made.schedule.current_value == made.loss_weight == weight
    assert not made.schedule.is_scheduled


def test_unscheduled_the_current_value_follows_the_weight():
    made = loss(loss_weight=1.0).model_copy(update={"loss_weight": 5.0})
    assert made.schedule.current_value == 5.0


def test_scheduled_the_weight_becomes_the_initial_value():
    made = loss(schedule=Schedule(start_epoch=100, end_epoch=200, initial_value=80.0, target_value=0.0))
    assert made.loss_weight == made.schedule.current_value == made.schedule.initial_value == 80.0


def test_an_end_that_is_left_out_is_the_weight():
    made = loss(loss_weight=80.0, schedule=Schedule(start_epoch=100, end_epoch=200, target_value=0.0))
    assert (made.loss_weight, made.schedule.initial_value, made.schedule.target_value) == (80.0, 80.0, 0.0)


def test_an_end_that_is_left_out_is_one_if_no_weight_is_given():
    made = loss(schedule=Schedule(end_epoch=200, target_value=0.0))
    assert (made.loss_weight, made.schedule.initial_value) == (1.0, 1.0)


def test_an_end_that_is_left_out_follows_the_weight():
    made = loss(loss_weight=80.0, schedule=Schedule(end_epoch=200, target_value=0.0))
    made = made.model_copy(update={"loss_weight": 40.0})
    assert (made.loss_weight, made.schedule.initial_value, made.schedule.target_value) == (40.0, 40.0, 0.0)


def test_scheduled_with_a_factor_the_weight_is_what_it_begins_with():
    decay = Schedule(end_epoch=10, target_value=0.0, factor=3.0)
    made = loss(loss_weight=5.0, schedule=decay)
    assert (made.loss_weight, made.schedule.current_value, made.schedule.ends()) == (15.0, 15.0, (5.0, 0.0))
    for made_again in (
        made.model_copy(),
        made.model_copy(update={"name": "b"}),
        made.model_copy(update={"tags": ["G"]}),
    ):
        assert (made_again.loss_weight, made_again.schedule) == (15.0, made.schedule)
    given = loss(schedule=Schedule(end_epoch=10, initial_value=5.0, factor=3.0))
    assert given.loss_weight == given.model_copy(update={"tags": ["G"]}).loss_weight == 15.0


def test_a_weight_replaces_the_factor_of_a_schedule():
    made = loss(loss_weight=5.0, schedule=Schedule(end_epoch=10, target_value=0.0, factor=3.0))
    changed = made.model_copy(update={"loss_weight": 7.0})
    assert (changed.loss_weight, changed.schedule.ends(), changed.schedule.factor) == (7.0, (7.0, 0.0), 1.0)


def test_a_schedule_that_leaves_out_an_end_has_the_weight_with_the_factor_of_the_one_before():
    made = loss(loss_weight=5.0, schedule=Schedule(end_epoch=10, target_value=0.0, factor=3.0))
    assert made.model_copy(update={"schedule": Schedule(end_epoch=5, target_value=1.0)}).loss_weight == 15.0


def test_an_update_of_other_fields_keeps_the_weight():
    made = loss(schedule=Schedule(end_epoch=200, initial_value=80.0))
    changed = made.model_copy(update={"tags": ["G"], "skip_when_zero": False})
    assert (changed.schedule, changed.loss_weight) == (made.schedule, 80.0)
    assert (changed.tags, changed.skip_when_zero) == (["G"], False)


def test_a_schedule_that_is_replaced_begins_at_the_weight():
    made = loss(loss_weight=80.0).model_copy(update={"schedule": Schedule(end_epoch=200, target_value=0.0)})
    assert (made.loss_weight, made.schedule.initial_value, made.schedule.target_value) == (80.0, 80.0, 0.0)


def test_a_schedule_that_is_replaced_by_an_empty_one_keeps_the_weight():
    made = loss(loss_weight=80.0, schedule=Schedule(end_epoch=200, target_value=0.0))
    made = made.model_copy(update={"schedule": Schedule()})
    assert (made.loss_weight, made.schedule.is_scheduled, made.schedule.current_value) == (80.0, False, 80.0)


def test_a_schedule_with_an_initial_value_replaces_the_weight():
    made = loss(loss_weight=80.0).model_copy(update={"schedule": Schedule(end_epoch=200, initial_value=5.0)})
    assert made.loss_weight == made.schedule.current_value == 5.0


def test_a_schedule_of_another_loss_keeps_the_ends_that_it_shows():
    schedule = loss(loss_weight=10.0, schedule=Schedule(end_epoch=5, target_value=0.0)).schedule
    assert loss(schedule=schedule).loss_weight == 10.0
    assert loss(loss_weight=3.0, schedule=schedule).schedule.initial_value == 3.0


@pytest.mark.parametrize("schedule", [Schedule(), Schedule(end_epoch=5, target_value=0.0)])
def test_a_weight_of_another_one_is_validated(schedule):
    made = loss(loss_weight=5.0, schedule=schedule)
    with pytest.raises(ValidationError):
        made.model_copy(update={"loss_weight": None})
    changed = made.model_copy(update={"loss_weight": 9})
    assert type(changed.loss_weight) is type(changed.schedule.current_value) is float


def test_a_weight_that_contradicts_the_initial_value_is_refused():
    contradiction = {"loss_weight": 100.0, "schedule": Schedule(end_epoch=5, initial_value=80.0)}
    for make in (lambda: loss(**contradiction), lambda: loss().model_copy(update=contradiction)):
        with pytest.raises(ScheduleError, match="weight 100 and a schedule that begins at 80; give one of them"):
            make()


def test_a_weight_that_equals_the_initial_value_is_accepted():
    assert loss(loss_weight=80.0, schedule=Schedule(end_epoch=5, initial_value=80.0)).loss_weight == 80.0


# Values that do not change


def test_a_loss_equals_its_copies():
    made = loss(loss_weight=80.0, schedule=Schedule(end_epoch=200, target_value=0.0), tags=["G"])
    for other in (copy.copy(made), made.model_copy(), made.model_copy(update={"tags": ["G"]})):
        assert other == made
    assert LMLoss.model_construct(**{**made.__dict__, "last_loss_map": torch.zeros(3)}) == made
    assert loss(tags=["G"]) != loss(tags=["D"])
    assert loss() != "G_L1"


@pytest.mark.parametrize("field", list(LMLoss.model_fields))
def test_setting_any_field_is_an_error(field):
    made = loss()
    with pytest.raises(SnapshotError, match=r"model_copy\(update=.*set_weight"):
        setattr(made, field, getattr(made, field))
    with pytest.raises(SnapshotError):
        delattr(made, field)


@pytest.mark.parametrize(
    "change",
    [
        lambda made: setattr(made.schedule, "current_value", 5.0),
        lambda made: setattr(made.schedule, "target_value", 5.0),
        lambda made: setattr(made.history, "losses", []),
        lambda made: made.history.losses.append(1.0),
        lambda made: made.tags.append("D"),
        lambda made: made.tags.clear(),
        lambda made: made.tags.sort(),
        lambda made: made.tags.__setitem__(0, "D"),
        lambda made: made.tags.__delitem__(0),
        lambda made: made.tags.__iadd__(["D"]),
        lambda made: made.inputs.update(a="b"),
        lambda made: made.inputs.__setitem__("a", "b"),
        lambda made: made.inputs.pop("input"),
        lambda made: made.inputs.__ior__({"a": "b"}),
        lambda made: made.schedule.params.setdefault("a", 1),
    ],
)
@pytest.mark.parametrize("copied", [lambda made: made, copy.copy, copy.deepcopy, LMLoss.model_copy])
def test_a_loss_and_its_copies_are_frozen_with_all_their_parts(change, copied):
    made = loss(tags=["G"], inputs={"input": "y_fake"}, schedule=Schedule(end_epoch=5, target_value=0.0))
    other = copied(made)
    with pytest.raises(SnapshotError):
        change(other)
    assert (other.tags, other.inputs, other.schedule) == (["G"], {"input": "y_fake"}, made.schedule)


def test_a_snapshot_error_is_an_attribute_error():
    assert issubclass(SnapshotError, AttributeError)


def test_a_loss_can_be_pickled():
    made = loss(loss_weight=3.0, tags=["G"], inputs={"input": "y_fake"})
    read = pickle.loads(pickle.dumps(made))
    assert (read.loss_weight, read.tags, read.inputs) == (3.0, ["G"], {"input": "y_fake"})
    with pytest.raises(SnapshotError):
        read.tags.append("D")


def test_copies_of_its_lists_can_be_changed():
    tags = copy.copy(loss(tags=["G"]).tags)
    tags.append("D")
    assert tags == ["G", "D"]


def test_a_copy_keeps_the_function_itself():
    assert loss().model_copy().function is loss().model_copy(update={"loss_weight": 2.0}).function is L1
