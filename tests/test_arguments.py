"""Arguments of a wrong type or out of range: each is an error of ours that names it, and changes nothing."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from managers import ONE, ZERO, logged, mean
from nesting import cyclic, deep
from pydantic import ValidationError

from nectargan_core import (
    ConfigManager,
    LMLoss,
    LossLog,
    LossManager,
    Schedule,
    Scheduler,
    catalog,
    hookimpl,
    preview,
)
from nectargan_core.errors import (
    ConfigError,
    LossLogError,
    LossResultError,
    MissingInputError,
    ObjectiveError,
    PluginContractError,
    ScheduleError,
    UnknownLossError,
)


class Silent:
    """An object that raises whatever is asked of it."""

    def _raise(self, *_):
        raise RuntimeError("not for us")

    __repr__ = __str__ = __eq__ = __hash__ = __float__ = __index__ = __iter__ = __bool__ = __fspath__ = _raise


class Quiet:
    @hookimpl
    def nectargan_loss_registered(self, loss):
        pass


# Its text is longer than Python makes of an integer, so that pytest needs another for it.
HUGE = pytest.param(10**5000, id="10**5000")


# Names


@pytest.mark.parametrize("name", [3, None, b"a", ["a"], Silent(), ONE])
@pytest.mark.parametrize(
    "call",
    [
        lambda manager, name: manager.compute_loss_xy(name, ONE, ZERO),
        lambda manager, name: manager.compute_loss_xyz(name, ONE, ZERO, ONE),
        lambda manager, name: manager.compute_loss(name, ONE, ZERO),
    ],
)
def test_the_name_of_a_loss_that_is_no_str_is_a_type_error(call, name):
    with pytest.raises(TypeError, match="the name of a loss is a str, got"):
        call(logged(mean), name)


@pytest.mark.parametrize("name", [3, None, b"a", ["a"], Silent()])
def test_the_name_of_a_series_that_is_no_str_is_a_type_error(name):
    with pytest.raises(TypeError, match="the name of a series is a str, got"):
        logged(mean).series(name)


@pytest.mark.parametrize("name", [3, None, b"a", Silent(), ONE])
@pytest.mark.parametrize("call", ["record", "split"])
def test_the_name_of_a_scalar_or_split_that_is_no_str_is_a_type_error(call, name):
    manager = logged(mean)
    with pytest.raises(TypeError, match="must be a str, got"):
        manager.record(name, 1.0) if call == "record" else manager.split(name)


@pytest.mark.parametrize("name", ["", "a/b", "a\ud800"])
@pytest.mark.parametrize("call", ["record", "split"])
def test_a_name_that_no_record_can_have_is_a_value_error(call, name):
    manager = logged(mean)
    with pytest.raises(ValueError, match="the name of a (scalar|split)"):
        manager.record(name, 1.0) if call == "record" else manager.split(name)
    assert set(manager.latest()) == {"a"}


@pytest.mark.parametrize("name", ["", "a/b", "a\ud800", 3, None, b"a", Silent()])
def test_a_loss_is_not_registered_under_a_name_that_it_cannot_have(name):
    manager = logged(mean)
    with pytest.raises(ValidationError):
        manager.register_loss_fn(name, mean)
    assert list(manager.get_registered_losses()) == ["a"]


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "a\0b", "\U0001f600", "a" * 100_000])
def test_any_other_text_is_a_name(tmp_path, name):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn(name, mean)
        manager.compute_loss_xy(name, ONE, ZERO)
        manager.update_loss_log()
        assert manager.series(name).loss.tolist() == [1.0]


def test_long_names_that_are_nearly_the_same_are_told_apart_at_once():
    manager = logged(mean)
    manager.register_loss_fn("ab" * 50_000, mean)
    with pytest.raises(UnknownLossError):
        manager.compute_loss_xy("ab" * 50_000 + "c", ONE, ZERO)


# Queries

QUERIES = [3, {"a": 1}, ["a", None], [["a"]], b"a", ONE, Silent(), np.array(["a"])[0:0].dtype, object()]
ASKING = {
    "get_registered_losses": lambda manager, query: manager.get_registered_losses(query),
    "get_loss_values": lambda manager, query: manager.get_loss_values(query),
    "get_loss_tensors": lambda manager, query: manager.get_loss_tensors(query),
    "get_loss_weights": lambda manager, query: manager.get_loss_weights(query),
    "latest": lambda manager, query: manager.latest(query),
    "means": lambda manager, query: manager.means(query),
    "set_weight": lambda manager, query: manager.set_weight(query, 2.0),
    "set_schedule": lambda manager, query: manager.set_schedule(query, Schedule()),
    "unregister": lambda manager, query: manager.unregister(query),
    "disable": lambda manager, query: manager.disable(query),
    "enable": lambda manager, query: manager.enable(query),
    "compute_losses": lambda manager, query: manager.compute_losses({"y_fake": ONE, "y": ZERO}, query),
}


@pytest.mark.parametrize("call", ASKING)
@pytest.mark.parametrize("query", QUERIES)
def test_what_is_no_query_is_a_type_error(call, query):
    with pytest.raises(TypeError, match="a query is a tag or loss name, a list of them, or None for all losses; got"):
        ASKING[call](logged(mean), query)


@pytest.mark.parametrize(
    "query", [("a",), {"a"}, frozenset({"a"}), iter(["a"]), (name for name in "a"), {"a": 1}.keys()]
)
def test_several_names_may_be_any_iterable(query):
    manager = logged(mean)
    manager.set_weight(query, 2.0)
    assert manager.get_loss_weights() == {"a": 2.0}


def test_what_an_iterator_found_nothing_for_is_named():
    with pytest.raises(UnknownLossError, match="no loss has the name or tag 'x' or 'y'"):
        logged(mean).set_weight(iter("xy"), 2.0)


# Inputs


@pytest.mark.parametrize("inputs", [ONE, [ONE, ZERO], "y", 3, None, dict, Silent()])
def test_inputs_that_are_no_mapping_are_a_type_error_with_an_example(inputs):
    with pytest.raises(TypeError, match=r"a mapping from names to values, such as \{'y_fake': y_fake, 'y': y\}.*; got"):
        logged(mean).compute_losses(inputs)


def test_inputs_whose_names_are_no_text_are_ignored():
    with pytest.raises(MissingInputError, match="given were y_fake"):
        logged(mean).compute_losses({3: ONE, "y_fake": ONE})


@pytest.mark.parametrize("value", [deep(), cyclic(), deep(dict)])
def test_what_a_skipped_loss_is_given_is_not_gone_through_for_ever(value):
    manager = logged(mean, 0.0)
    with pytest.raises(ValueError, match="contains itself, or is nested too deeply"):
        manager.compute_loss_xy("a", value, ONE)
    assert manager.state_dict()["counts"] == {"a": 0}


@pytest.mark.parametrize("value", [deep(), cyclic()])
def test_what_a_loss_that_runs_at_weight_zero_is_given_is_not_gone_through_for_ever(value):
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: ONE, 0.0, skip_when_zero=False)
    with pytest.raises(ValueError, match="contains itself, or is nested too deeply"):
        manager.compute_loss_xy("a", value, ONE)


@pytest.mark.filterwarnings("ignore:.*sparse:UserWarning", "ignore:.*Sparse:UserWarning")
@pytest.mark.parametrize(
    "given",
    [
        lambda: torch.eye(2).to_sparse(),
        lambda: torch.eye(2).to_sparse_csr(),
        lambda: torch.ones(2, dtype=torch.complex64),
        lambda: torch.ones(2, device="meta"),
        lambda: torch.ones(0),
    ],
)
def test_a_skipped_loss_takes_any_tensor(given):
    zero = logged(mean, 0.0).compute_loss_xy("a", given().requires_grad_(), None)
    assert zero.is_meta or zero.item() == 0.0


# Keyword arguments of a call


@pytest.mark.parametrize("kwargs", [3, "weight_kwargs", ["weight_kwargs"], {3: {}}, Silent()])
def test_loss_kwargs_that_are_no_mapping_from_str_are_a_type_error(kwargs):
    with pytest.raises(TypeError, match="loss_kwargs must be a mapping such as"):
        logged(mean).compute_loss_xy("a", ONE, ZERO, loss_kwargs=kwargs)


@pytest.mark.parametrize("kind", ["weight_kwargs", "function_kwargs"])
@pytest.mark.parametrize("kwargs", [3, "power", ["power"], {3: 1}, Silent(), ONE])
def test_keyword_arguments_that_are_no_mapping_from_str_are_a_type_error(kind, kwargs):
    with pytest.raises(TypeError, match=f"{kind} must be a mapping such as"):
        logged(mean).compute_loss("a", ONE, ZERO, **{kind: kwargs})


@pytest.mark.parametrize("name", ["epoch", "schedule", "self"])
def test_parameters_that_are_not_those_of_the_curve_are_a_schedule_error(name):
    manager = logged(mean)
    manager.set_schedule("a", Schedule(lambda schedule, epoch, power=1.0: power, end=10))
    with pytest.raises(ScheduleError, match=name):
        manager.compute_loss("a", ONE, ZERO, epoch=1, weight_kwargs={name: 1.0})


# Positions


@pytest.mark.parametrize("step", ["7", 7.0, True, [7], 1j, torch.ones(2), Silent()])
def test_a_step_that_is_no_integer_is_a_type_error(step):
    manager = logged(mean)
    with pytest.raises(TypeError, match="step must be an integer, got"):
        manager.tick(step=step)
    assert manager.step == -1


@pytest.mark.parametrize("step", [-1, 2**63, 10**400])
def test_a_step_out_of_range_is_a_value_error(step):
    with pytest.raises(ValueError, match=r"step must be at least 0 and below 2\*\*63"):
        logged(mean).tick(step=step)


def test_the_clock_does_not_tick_beyond_the_last_step():
    manager = logged(mean)
    manager.tick(epoch=0, step=2**63 - 1)
    with pytest.raises(ValueError, match="step must be at least 0 and below"):
        manager.tick(epoch=1)
    assert (manager.step, manager.epoch) == (2**63 - 1, 0)


@pytest.mark.parametrize("step", [np.int64(7), torch.tensor(7)])
def test_any_integer_is_a_step(step):
    manager = logged(mean)
    manager.tick(step=step)
    assert (manager.step, type(manager.step)) == (7, int)


@pytest.mark.parametrize(
    "epoch",
    [torch.tensor(1.0, requires_grad=True), torch.tensor(1j), np.complex64(1), HUGE, Silent(), b"1", object()],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda manager, epoch: manager.tick(epoch=epoch),
        lambda manager, epoch: manager.compute_loss_xy("a", ONE, ONE, epoch=epoch),
        lambda manager, epoch: manager.compute_loss_xyz("a", ONE, ONE, ONE, epoch=epoch),
        lambda manager, epoch: manager.compute_loss("a", ONE, ONE, epoch=epoch),
        lambda manager, epoch: manager.compute_losses({"y_fake": ONE, "y": ONE}, epoch=epoch),
        lambda manager, epoch: manager.print_losses(epoch, 0),
    ],
)
def test_an_epoch_that_a_number_would_lose_is_a_value_error(call, epoch):
    with pytest.raises(ValueError, match="epoch must be a finite number of at least 0, got"):
        call(logged(mean), epoch)


@pytest.mark.parametrize("changes", [{"epoch": torch.tensor(2.0)}, {"epoch": np.float32(2.0)}])
def test_an_epoch_of_a_state_becomes_a_plain_number(changes):
    manager = logged(mean)
    manager.load_state_dict({**manager.state_dict(), **changes})
    assert (manager.epoch, type(manager.epoch)) == (2.0, float)


@pytest.mark.parametrize("changes", [{"counts": {"a": -1}}, {"counts": {"a": 2**60}}, {"version": 1.0}, {"step": True}])
@pytest.mark.parametrize("more", [{}, {"epoch": 1}])
def test_a_state_with_numbers_out_of_range_is_refused(changes, more):
    manager = logged(mean)
    with pytest.raises(ValueError, match="expected what LossManager.state_dict"):
        manager.load_state_dict({**manager.state_dict(), **changes})


@pytest.mark.parametrize("state", [None, 3, "state", [], {}, {"version": Silent()}, Silent()])
def test_what_is_no_state_is_a_value_error(state):
    with pytest.raises(ValueError, match="expected what LossManager.state_dict"):
        logged(mean).load_state_dict(state)


def test_a_state_that_is_nested_too_deeply_changes_nothing():
    manager = logged(mean)
    state = manager.state_dict()
    state["losses"]["a"]["schedule"] = {"schedule": "linear", "end_epoch": 3, "params": {"a": deep()}}
    with pytest.raises(ValidationError, match="params may be nested 50 deep at most"):
        manager.load_state_dict(state)
    assert manager.get_loss_weights() == {"a": 3.0}


@pytest.mark.parametrize("weights", ["all", None, 3, Silent()])
def test_the_weights_of_a_state_are_saved_or_current(weights):
    manager = logged(mean)
    with pytest.raises(ValueError, match="weights must be 'saved' or 'current', got"):
        manager.load_state_dict(manager.state_dict(), weights=weights)


# Scalars


@pytest.mark.parametrize(
    "value",
    [
        "3",
        b"3",
        np.complex64(1j),
        Silent(),
        torch.tensor(1j),
        torch.eye(2).to_sparse(),
        torch.tensor(1.0, dtype=torch.float8_e4m3fn),
        torch.ones(2, device="meta", dtype=torch.complex64),
    ],
)
def test_a_scalar_that_would_lose_something_is_refused_and_reserves_no_name(value):
    manager = logged(mean)
    with pytest.raises(TypeError, match="the value of 'lr' must be a number or a tensor, dense and of real numbers"):
        manager.record("lr", value)
    manager.register_loss_fn("lr", mean)


@pytest.mark.parametrize(
    "value", [torch.ones(2, requires_grad=True), torch.tensor(1, dtype=torch.int8), np.float64(1), True]
)
def test_any_real_number_is_a_scalar(value):
    manager = logged(mean)
    manager.record("lr", value)
    assert manager.latest("lr") == {"lr": 1.0}


def test_a_closed_manager_records_no_scalar_and_reserves_no_name():
    manager = logged(mean)
    manager.close()
    with pytest.raises(Exception, match="this manager is closed"):
        manager.record("lr", 1.0)
    assert set(manager.latest()) == {"a"}


# Precision and flags


@pytest.mark.parametrize("call", ["get_loss_values", "get_loss_weights", "print_losses", "print_weights"])
@pytest.mark.parametrize("precision", ["2", 2.0, True, [2], Silent()])
def test_a_precision_that_is_no_integer_is_a_type_error(call, precision):
    arguments = (0, 0) if call == "print_losses" else ()
    with pytest.raises(TypeError, match="precision must be an integer, got"):
        getattr(logged(mean), call)(*arguments, precision=precision)


@pytest.mark.parametrize(("precision", "weight"), [(10**12, 1.23456), (-(10**12), 1.0), (-308, 1e308)])
def test_any_integer_is_a_precision(precision, weight):
    assert logged(mean, 1.23456 if weight != 1e308 else 1.7e308).get_loss_weights(precision=precision)["a"] > 0


@pytest.mark.parametrize("value", [1, 0, "no", None, ONE, Silent(), np.bool_(True)])
@pytest.mark.parametrize(
    "call",
    [
        lambda manager, value: manager.get_registered_losses(strip=value),
        lambda manager, value: manager.print_losses(0, 0, capture=value),
        lambda manager, value: manager.print_weights(capture=value),
        lambda manager, value: manager.update_loss_log(silent=value),
        lambda manager, value: manager.update_loss_log(capture=value),
        lambda manager, value: LossManager(resume=value),
        lambda manager, value: LossManager(fsync=value),
    ],
)
def test_a_flag_is_true_or_false(call, value):
    with pytest.raises(TypeError, match="must be True or False, got"):
        call(logged(mean), value)


@pytest.mark.parametrize("iterations", ["3", 3.5, None])
def test_the_iterations_that_are_printed_are_an_integer(iterations):
    with pytest.raises(TypeError, match="iter must be an integer"):
        logged(mean).print_losses(0, iterations)


# The constructor


@pytest.mark.parametrize("size", ["10", 10.0, None, True, math.nan, Silent()])
def test_a_buffer_size_that_is_no_integer_is_a_type_error(size):
    with pytest.raises(TypeError, match="history_buffer_size must be an integer, got"):
        LossManager(history_buffer_size=size)


@pytest.mark.parametrize("seconds", ["30", None, math.nan, -1.0, 1j, ONE, Silent()])
def test_seconds_that_are_no_number_of_at_least_0_are_a_value_error(seconds):
    with pytest.raises(ValueError, match="flush_every must be a number of seconds of at least 0, got"):
        LossManager(flush_every=seconds)


@pytest.mark.parametrize("value", [0, "yes", Silent()])
def test_whether_to_log_is_true_false_or_none(value):
    with pytest.raises(TypeError, match="enable_logging must be True or False, got"):
        LossManager(enable_logging=value)


@pytest.mark.parametrize("word", ["stop", None, 3, ["warn"], ONE, Silent()])
def test_what_happens_to_nan_is_one_of_three_words(word):
    with pytest.raises(ValueError, match="nonfinite must be 'warn' or 'raise' or 'ignore', got"):
        LossManager(nonfinite=word)


@pytest.mark.parametrize("device", ["nowhere", 3.5, [], object(), "cpu\0", 10**400, Silent()])
def test_a_device_that_torch_does_not_know_is_a_config_error(device):
    with pytest.raises(ConfigError, match="is no device that torch knows"):
        LossManager(device=device)


@pytest.mark.parametrize("directory", [3, b"a", ["a"], Silent(), object()])
def test_a_directory_that_is_no_path_is_a_type_error(directory):
    with pytest.raises(TypeError, match="experiment_dir must be a path, a str or a pathlib.Path, got"):
        LossManager(experiment_dir=directory)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_directory_that_no_file_system_has_is_a_log_error(tmp_path, name):
    with pytest.raises(LossLogError, match="experiment_dir has a character that no file name can have"):
        LossManager(experiment_dir=f"{tmp_path}/{name}")


def test_a_directory_whose_name_is_too_long_is_a_log_error(tmp_path):
    with pytest.raises(LossLogError, match="cannot log to"):
        LossManager(experiment_dir=tmp_path / ("a" * 1000))


def test_a_directory_that_is_a_link_to_itself_is_a_log_error(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(LossLogError, match="cannot log to"):
        LossManager(experiment_dir=tmp_path / "loop" / "run")


@pytest.mark.parametrize("observers", ["alarm", 3, None, Quiet(), Silent()])
def test_observers_that_are_no_list_are_a_type_error(observers):
    with pytest.raises(TypeError, match=r"observers is a list of names, such as \['tensorboard'\], or of objects"):
        LossManager(observers=observers)


@pytest.mark.parametrize(
    ("observer", "said"),
    [
        (Quiet, r"Quiet cannot observe this manager: it is a class; give an object of it, such as Quiet\(\)"),
        (3, "none of its functions is marked with nectargan_core.hookimpl"),
        ([], "none of its functions is marked with nectargan_core.hookimpl"),
        (ONE, "Tensor cannot observe this manager"),
        (Silent(), "Silent cannot observe this manager"),
    ],
)
def test_what_cannot_observe_is_named_with_what_to_do(observer, said):
    with pytest.raises(PluginContractError, match=said):
        LossManager(observers=[Quiet(), observer])


@pytest.mark.parametrize("metadata", [3, "seed", ["seed"], {3: 4}, Silent()])
def test_metadata_that_is_no_mapping_from_str_is_a_type_error(metadata):
    with pytest.raises(TypeError, match="metadata must be a mapping such as"):
        LossManager(metadata=metadata)


@pytest.mark.parametrize("value", [deep(), cyclic(), object(), math.nan, "\ud800", {1: 2}.keys(), Silent()])
def test_metadata_that_json_cannot_hold_is_a_value_error(value):
    with pytest.raises(ValueError, match="metadata must be what JSON can hold"):
        LossManager(metadata={"seed": value})


# Objectives


@pytest.mark.parametrize("spec", [3, {"a": 1}, ["sobel"], b"sobel", ONE])
def test_a_spec_that_is_neither_a_name_nor_a_function_is_named_with_an_example(spec):
    with pytest.raises(TypeError, match="a spec is a formula, .* or a function, got .*such as 'pix2pix:ext"):
        LossManager.from_spec(spec)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(ObjectiveError, match="pix2pix.toml cannot be read: No such file"):
        LossManager.from_spec(Path("pix2pix.toml"))


class Builder:
    def __init__(self, config):
        self.config = config


def test_a_class_whose_objects_are_no_losses_is_said_to_be_one():
    with pytest.raises(PluginContractError, match="returned Builder; .*; Builder is a class, so give a function"):
        LossManager.from_spec(Builder)


@pytest.mark.parametrize("given", ["weights", "schedules", "options"])
@pytest.mark.parametrize("value", [3, "G_SOBEL", [("G_SOBEL", 1.0)], {3: 1.0}, Silent()])
def test_what_is_given_for_an_objective_is_a_mapping_from_str(given, value):
    with pytest.raises(TypeError, match=f"{given} must be a mapping such as"):
        LossManager.from_spec("sobel", **{given: value})


@pytest.mark.parametrize("value", [3, "layers", None])
def test_the_options_of_a_spec_are_a_mapping(value):
    with pytest.raises(TypeError, match=r"options\['sobel'\] must be a mapping such as"):
        LossManager.from_spec("sobel", options={"sobel": value})


@pytest.mark.parametrize("prefix", [3, None, b"face_", ["face_"], Silent()])
def test_a_prefix_that_is_no_str_is_a_type_error(prefix):
    with pytest.raises(TypeError, match="prefix must be a str, got"):
        LossManager.from_spec("sobel", prefix=prefix)


def test_a_result_of_a_spec_whose_keys_are_no_names_breaks_the_contract():
    with pytest.raises(PluginContractError, match="a loss named 'a' under the key 3"):
        LossManager.from_spec(lambda config: {3: LMLoss(name="a", function=mean)})


# Losses and schedules


@pytest.mark.parametrize("tags", [3, None, [3], ONE, Silent()])
def test_tags_that_are_no_names_are_a_validation_error(tags):
    manager = LossManager()
    with pytest.raises(ValidationError):
        manager.register_loss_fn("a", mean, tags=tags)
    assert not manager.get_registered_losses()


@pytest.mark.parametrize("update", [3, "end", [("end", 3)], {3: 4}, Silent()])
@pytest.mark.parametrize("made", [Schedule(end=5), LMLoss(name="a", function=mean)])
def test_an_update_that_is_no_mapping_from_fields_is_a_type_error(made, update):
    with pytest.raises(TypeError, match="update must be a mapping such as"):
        made.model_copy(update=update)


@pytest.mark.parametrize("value", [object(), mean, ONE, {1, 2}, b"a", 1j, Silent(), "\ud800", {"\ud800": 1}, HUGE])
def test_a_parameter_that_no_state_can_hold_is_refused(value):
    with pytest.raises(ValidationError, match="params may hold"):
        Schedule("step", params={"every": [value]})


@pytest.mark.parametrize("value", [deep(), deep(dict), cyclic(), deep(depth=60)])
def test_parameters_that_are_nested_too_deeply_are_refused(value):
    with pytest.raises(ValidationError, match="params may be nested 50 deep at most, and may not contain themselves"):
        Schedule("step", params={"every": value})


def test_schedules_that_are_nested_too_deeply_are_refused():
    definition = {"schedule": "linear"}
    for _ in range(1000):
        definition = {"schedule": "sequence", "params": {"parts": [definition]}}
    with pytest.raises(ValidationError, match="nested"):
        Schedule(**definition)


def test_parameters_that_are_nested_as_deeply_as_they_may_be_round_trip():
    schedule = Schedule("step", params={"every": deep(depth=48)})
    assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule


def test_the_name_of_a_schedule_can_be_written():
    with pytest.raises(ValidationError, match="the name of a schedule is text that UTF-8 can write"):
        Schedule("a\ud800")


@pytest.mark.parametrize("end", [math.nan, math.inf, -math.inf, "late", 1j, 10**400, [], Silent()])
@pytest.mark.parametrize("name", ["start", "end"])
def test_an_end_that_is_no_position_is_a_validation_error(name, end):
    with pytest.raises(ValidationError):
        Schedule(**{name: end})


@pytest.mark.parametrize("made", [Scheduler, lambda schedule: preview(schedule, 3)])
@pytest.mark.parametrize("schedule", ["linear", None, 3, {}, Silent()])
def test_what_evaluates_a_schedule_takes_nothing_else(made, schedule):
    with pytest.raises(TypeError, match="a Scheduler is made of a Schedule, got"):
        made(schedule)


@pytest.mark.parametrize("epochs", ["soon", None, [[1]], [math.nan], 3.5, ["a"], Silent()])
def test_what_is_no_epochs_is_a_type_error_of_a_preview(epochs):
    with pytest.raises(TypeError, match="epochs must be an int, or finite numbers in a list or array, got"):
        preview(Schedule(end=3), epochs)


def test_a_curve_that_returns_an_object_that_raises_is_named():
    with pytest.raises(ScheduleError, match="gave an object of Silent|gave <Silent"):
        Scheduler(Schedule(lambda schedule, epoch: Silent()))


def test_an_observer_of_a_plugin_is_not_kept_when_the_schedule_of_another_loss_fails(monkeypatch):
    manager = LossManager()
    manager.register_loss_fn("a", mean, tags=["G"])
    manager.register_loss_fn("b", mean, -1.0, tags=["G"])
    before = manager.hooks.get_plugins()
    schedule = Schedule("sequence", params={"parts": [Schedule("exponential", end=10, target_value=5.0)]})
    with pytest.raises(ScheduleError):
        manager.set_schedule("G", schedule)
    assert manager.hooks.get_plugins() == before


# Configurations, logs and plugins


@pytest.mark.parametrize("config", [3, b"a", ["a"], Silent(), object()])
def test_a_configuration_that_is_neither_a_path_nor_has_sections_is_a_config_error(config):
    with pytest.raises(ConfigError, match="config(: expected| must be a path)"):
        ConfigManager(config)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_a_configuration_that_no_file_system_has_is_a_config_error(name):
    with pytest.raises(ConfigError, match="config has a character that no file name can have"):
        ConfigManager(name)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_configuration_file_that_is_nested_too_deeply_is_a_config_error(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match="config.json: (nested too deeply|not valid JSON)"):
        ConfigManager(path)


def test_a_configuration_that_is_nested_absurdly_deep_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match="is nested more than 100 deep"):
        LossManager({"mine": deep(dict), "common": {"device": "cpu"}}, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", [3, b"a", None, Silent()])
def test_a_log_that_is_no_path_is_a_type_error(path):
    with pytest.raises(TypeError, match="path must be a path, a str or a pathlib.Path, got"):
        LossLog(path)


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b", "a" * 10_000])
def test_a_log_that_no_file_system_has_is_a_log_error(name):
    with pytest.raises(LossLogError, match="no loss log"):
        LossLog(name)


@pytest.mark.parametrize("group", ["nectargan.nothing", "", 3, None, Silent()])
@pytest.mark.parametrize("function", [catalog.find, catalog.taken])
def test_a_group_that_there_is_not_is_named(function, group):
    with pytest.raises((TypeError, ValueError), match="an entry point group"):
        function(group, "sobel")


@pytest.mark.parametrize("name", [3, None, ["sobel"], Silent()])
@pytest.mark.parametrize("function", [catalog.find, catalog.taken])
def test_the_name_of_a_plugin_is_a_str(function, name):
    with pytest.raises(TypeError, match="the name of a plugin must be a str"):
        function(catalog.SPECS, name)


@pytest.mark.parametrize("given", ["plugins", "block", "providers"])
@pytest.mark.parametrize("value", [3, [3], b"a", Silent()])
def test_a_setting_of_the_catalog_is_text_or_several(given, value):
    with pytest.raises(TypeError, match=f"{given}"):
        catalog.configure(**{given: value})


# Errors of others


def test_an_error_of_a_loss_comes_through_as_it_is():
    def broken(x, y):
        raise KeyError(Silent())

    manager = logged(broken)
    with pytest.raises(KeyError):
        manager.compute_loss_xy("a", ONE, ZERO)
    assert manager.state_dict()["counts"] == {"a": 0}


def test_a_result_that_cannot_be_shown_is_named_by_its_type():
    with pytest.raises(LossResultError, match="returned Silent"):
        logged(lambda x, y: Silent()).compute_loss_xy("a", ONE, ZERO)


def test_a_message_is_cut_where_a_value_is_long():
    with pytest.raises(TypeError) as caught:
        logged(mean).tick(step="x" * 10_000)
    assert len(str(caught.value)) < 200


def test_a_tensor_is_named_by_its_shape_and_not_read():
    with pytest.raises(ValueError, match=r"got Tensor of shape \(3, 4\)"):
        logged(mean).tick(epoch=torch.ones(3, 4))


def test_an_empty_experiment_dir_is_not_the_current_directory():
    with pytest.raises(LossLogError, match="experiment_dir is empty"):
        LossManager(experiment_dir="")


@pytest.mark.parametrize("config", ["config.json", Path("config.json")])
def test_a_path_given_as_a_configuration_says_how_a_file_is_read(config):
    with pytest.raises(ConfigError, match=r"a file is read with ConfigManager\(path\).data"):
        LossManager(config)


def test_a_config_manager_given_as_a_configuration_says_to_pass_its_data():
    with pytest.raises(ConfigError, match=r"pass its .data"):
        LossManager(ConfigManager())
