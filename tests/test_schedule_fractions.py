"""Schedules relative to the run: positions are fractions of a length that the manager is told."""

import inspect
import json
import math
import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from nectargan_core import LMLoss, LossLog, LossManager, Schedule, Scheduler, TorchScheduler, plot, preview
from nectargan_core.cli import main
from nectargan_core.errors import NectarganWarning, ScheduleError

ZERO, ONE = torch.zeros(()), torch.ones(())
INPUTS = {"y_fake": ZERO, "y": ONE}
RISE = Schedule(unit="fraction", start=0.5, end=1.0, initial_value=0.0, target_value=10.0)


def difference(x, y):
    return y - x


def scheduled(schedule=RISE, **options):
    manager = LossManager(**options)
    manager.register_loss_fn("loss", difference, schedule=schedule)
    return manager


def weight(manager, **call):
    """Compute the loss, whose unweighted value is 1, and return its value."""
    return manager.compute_loss_xy("loss", ZERO, ONE, **call).item()


def with_a_loss_of_weight_3():
    manager = LossManager()
    manager.register_loss_fn("loss", difference, 3.0)
    return manager


# The definition


@pytest.mark.parametrize(
    "ends", [{"start": 100}, {"end": 100}, {"end": 1.01}, {"start": -0.1}, {"start": 0.2, "end": 200}]
)
def test_an_end_that_is_no_fraction_is_refused(ends):
    with pytest.raises(ValidationError, match=r"_epoch \(.*\) is not from 0 to 1, as with unit='fraction'"):
        Schedule(unit="fraction", **ends)


def test_epochs_do_not_become_fractions():
    with pytest.raises(ValidationError, match=r"start_epoch \(100\) is not from 0 to 1"):
        Schedule(start=100, end=200).model_copy(update={"unit": "fraction"})


def test_0_and_1_are_fractions():
    schedule = Schedule(unit="fraction", start=0, end=1)
    assert (schedule.start_epoch, schedule.end_epoch) == (0, 1)


def test_the_unit_is_written_and_read():
    assert json.loads(RISE.model_dump_json())["unit"] == "fraction"
    assert Schedule.model_validate_json(RISE.model_dump_json()) == RISE
    assert Schedule(unit="fraction", end=1.0) != Schedule(end=1.0)


# The length of the run


@pytest.mark.parametrize(
    "total", [0, -1, math.nan, math.inf, "200", True, 10**400, [200], 1j, torch.ones((), requires_grad=True)]
)
def test_epochs_that_are_no_finite_number_above_0_are_a_value_error(total):
    with pytest.raises(ValueError, match="total_epochs must be a finite number above 0, got"):
        LossManager(total_epochs=total)


@pytest.mark.parametrize("total", ["200", 200.0, True, [200], math.nan])
def test_steps_that_are_no_integer_are_a_type_error(total):
    with pytest.raises(TypeError, match="total_steps must be an integer, got"):
        LossManager(total_steps=total)


@pytest.mark.parametrize("total", [0, -5, 2**63])
def test_steps_out_of_range_are_a_value_error(total):
    with pytest.raises(ValueError, match="total_steps must be at least 1"):
        LossManager(total_steps=total)


@pytest.mark.parametrize("make", [LossManager, lambda **totals: Scheduler(RISE, **totals)])
def test_a_run_has_one_length(make):
    with pytest.raises(ValueError, match=r"total_epochs \(200\) and total_steps \(10000\) are both given"):
        make(total_epochs=200, total_steps=10_000)


def test_both_are_keywords_without_a_default_length():
    parameters = inspect.signature(LossManager).parameters
    for name in ("total_epochs", "total_steps"):
        assert (parameters[name].kind, parameters[name].default) == (inspect.Parameter.KEYWORD_ONLY, None)


@pytest.mark.parametrize(
    ("totals", "expected"),
    [
        ({}, (None, None)),
        ({"total_epochs": 200}, (200, None)),
        ({"total_epochs": 2.5}, (2.5, None)),
        ({"total_steps": 10_000}, (None, 10_000)),
    ],
)
def test_the_manager_says_how_long_the_run_is(tmp_path, totals, expected):
    with LossManager(experiment_dir=tmp_path, **totals) as manager:
        manager.register_loss_fn("loss", difference)
        weight(manager)
    assert (manager.total_epochs, manager.total_steps) == expected
    header = LossLog(tmp_path).header
    assert (header["total_epochs"], header["total_steps"]) == expected


def test_a_log_of_scalars_alone_says_how_long_the_run_is(tmp_path):
    with LossManager(experiment_dir=tmp_path, total_epochs=200) as manager:
        manager.record("psnr", 31.5)
    assert LossLog(tmp_path).header["total_epochs"] == 200


@pytest.mark.parametrize("name", ["total_epochs", "total_steps"])
def test_the_length_cannot_be_set_afterwards(name):
    manager = scheduled(total_epochs=200)
    with pytest.raises(AttributeError):
        setattr(manager, name, 300)


def test_from_spec_takes_the_length():
    def spec(config):
        return {"loss": LMLoss(name="loss", function=difference, schedule=RISE)}

    manager = LossManager.from_spec(spec, total_epochs=200)
    manager.tick(epoch=150)
    assert weight(manager) == 5.0


# The position


def test_the_position_is_the_epoch_divided_by_all_epochs():
    asked = []
    manager = scheduled(Schedule(lambda schedule, at: asked.append(at) or 1.0, unit="fraction"), total_epochs=200)
    asked.clear()
    for epoch in (0, 60, 99.5, 199, 200, 300):
        manager.tick(epoch=epoch)
        weight(manager)
    assert asked == [0.0, 0.3, 0.4975, 199 / 200, 1.0, 1.5]


def test_beyond_the_length_the_target_is_kept():
    manager = scheduled(total_epochs=200)
    seen = []
    for epoch in (0, 100, 150, 200, 1000):
        manager.tick(epoch=epoch)
        seen.append(weight(manager))
    assert seen == [0.0, 0.0, 5.0, 10.0, 10.0]


def test_an_epoch_in_a_call_is_divided_too():
    assert weight(scheduled(total_epochs=200), epoch=150) == 5.0


def test_a_length_may_have_a_fraction():
    assert weight(scheduled(total_epochs=2.5), epoch=2) == pytest.approx(6.0)


def test_with_all_steps_the_position_follows_the_step_whatever_the_epoch():
    manager = scheduled(total_steps=10)
    seen = []
    for epoch, step in ((9, 5), (0, None), (100, 9), (1, 10), (1, 11)):
        manager.tick(epoch=epoch, step=step)
        seen.append(weight(manager, epoch=3))
    assert seen == pytest.approx([0.0, 2.0, 8.0, 10.0, 10.0])


def test_without_a_clock_steps_are_the_calls_of_a_loss():
    manager = scheduled(total_steps=4)
    assert [weight(manager) for _ in range(6)] == [0.0, 0.0, 0.0, 5.0, 10.0, 10.0]


def test_without_a_clock_a_validation_pass_is_at_the_step_of_the_training():
    manager = scheduled(total_steps=4, enable_logging=True)
    for _ in range(3):
        weight(manager)
    with manager.split("val"):
        assert [weight(manager) for _ in range(2)] == [5.0, 5.0]
    assert weight(manager) == 5.0


def test_computed_without_an_epoch_it_warns_once():
    manager = scheduled(total_epochs=4)
    with pytest.warns(NectarganWarning, match="is scheduled and is computed without an epoch") as caught:
        weight(manager)
        weight(manager)
    assert len(caught) == 1


def test_applied_reported_and_recorded_are_one_number(tmp_path):
    applied, reported = [], []
    with scheduled(total_epochs=8, experiment_dir=tmp_path) as manager:
        for epoch in range(8):
            manager.tick(epoch=epoch)
            applied.append(manager.compute_losses(INPUTS)["loss"].item())
            reported.append(manager.get_loss_weights(precision=None)["loss"])
    records = LossLog(tmp_path).series("loss")
    assert applied == reported == records.weight.tolist() == records.loss.tolist()
    assert applied == [0.0, 0.0, 0.0, 0.0, 0.0, 2.5, 5.0, 7.5]


def test_parameters_of_a_call_are_for_the_position_of_the_clock():
    def scaled(schedule, at, *, factor):
        return factor * at

    manager = scheduled(Schedule(scaled, unit="fraction", params={"factor": 1.0}), total_epochs=8)
    manager.tick(epoch=6)
    assert weight(manager, loss_kwargs={"weight_kwargs": {"factor": 100.0}}) == 75.0
    assert weight(manager) == 0.75


@pytest.mark.parametrize("total", [5e-324, 1e-300])
def test_a_length_close_to_0_is_no_infinite_position(total):
    seen = []
    manager = scheduled(Schedule(lambda schedule, at: seen.append(at) or 1.0, unit="fraction"), total_epochs=total)
    weight(manager, epoch=2**53 - 1)
    assert seen[-1] == 2**53


def test_an_end_that_is_left_out_is_the_weight_of_the_loss():
    manager = LossManager(total_epochs=200)
    manager.register_loss_fn("loss", difference, 100.0, Schedule(unit="fraction", start=0.5, end=1.0, target_value=0.0))
    assert (weight(manager, epoch=50), weight(manager, epoch=150)) == (100.0, 50.0)


def test_units_may_differ_between_losses():
    manager = scheduled(total_epochs=4)
    manager.register_loss_fn("by step", difference, schedule=Schedule(unit="step", end=4, initial_value=0.0))
    manager.register_loss_fn("by epoch", difference, schedule=Schedule(end=4, initial_value=0.0))
    for _ in range(4):
        manager.tick(epoch=3)
    assert manager.get_loss_weights() == {"loss": 5.0, "by step": 0.75, "by epoch": 0.75}


# Against epochs

values = st.floats(1e-3, 1e3)


@pytest.mark.parametrize("curve", ["linear", "exponential"])
@pytest.mark.parametrize("unit", ["epoch", "step"])
@given(
    ends=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted),
    total=st.integers(1, 100_000),
    position=st.floats(0.0, 1.5),
    levels=st.tuples(values, values),
)
def test_it_equals_the_schedule_of_epochs_or_steps_with_multiplied_ends(curve, unit, ends, total, position, levels):
    assume(ends[1] - ends[0] > 1e-3)
    levels = dict(zip(("initial_value", "target_value"), levels, strict=True))
    length = {"total_epochs": total} if unit == "epoch" else {"total_steps": total}
    relative = Scheduler(Schedule(curve, unit="fraction", start=ends[0], end=ends[1], **levels), **length)
    absolute = Scheduler(Schedule(curve, unit=unit, start=ends[0] * total, end=ends[1] * total, **levels))
    at = position * total if unit == "epoch" else round(position * total)
    assert relative.value(at) == pytest.approx(absolute.value(at), rel=1e-10)


@given(total=st.integers(1, 10_000), data=st.data())
def test_start_and_end_at_whole_epochs_are_exact(total, data):
    start = data.draw(st.integers(0, total - 1))
    end = data.draw(st.integers(start + 1, total))
    schedule = Schedule(unit="fraction", start=start / total, end=end / total, initial_value=3.0, target_value=-1.0)
    curve = Scheduler(schedule, total_epochs=total)
    assert (curve.value(start), curve.value(end)) == (3.0, -1.0)
    assert curve.value(start + 0.5) < 3.0
    assert curve.value(end - 0.5) > -1.0


# A length that is not known

MISSING = r"the schedule of loss 'loss' has unit='fraction', and the length of the run is not known; give LossManager\("


def test_a_loss_with_such_a_schedule_is_not_registered():
    manager = LossManager()
    with pytest.raises(ScheduleError, match=MISSING):
        manager.register_loss_fn("loss", difference, schedule=RISE)
    assert manager.get_registered_losses() == {}


@pytest.mark.parametrize("method", ["init_from_spec", "register_spec"])
def test_nor_are_the_losses_of_a_spec(method):
    manager = LossManager()
    manager.register_loss_fn("before", difference, 3.0)
    spec = {
        "other": LMLoss(name="other", function=difference),
        "loss": LMLoss(name="loss", function=difference, schedule=RISE),
    }
    with pytest.raises(ScheduleError, match=MISSING):
        getattr(manager, method)(lambda: spec)
    assert manager.get_loss_weights() == {"before": 3.0}


def test_schedules_by_name_are_refused_likewise(site):
    site.install_spec("acme", "acme")
    with pytest.raises(ScheduleError, match=MISSING.replace("'loss'", "'acme'")):
        LossManager.from_spec("acme", schedules={"acme": RISE})
    manager = LossManager.from_spec("acme", schedules={"acme": RISE}, total_epochs=4)
    manager.tick(epoch=3)
    assert manager.get_loss_weights() == {"acme": 5.0}


def test_set_schedule_changes_no_loss():
    manager = with_a_loss_of_weight_3()
    manager.register_loss_fn("another", difference, 4.0)
    with pytest.raises(ScheduleError, match=MISSING):
        manager.set_schedule(["loss", "another"], RISE)
    assert manager.get_loss_weights() == {"loss": 3.0, "another": 4.0}


def test_a_state_is_not_loaded():
    first, second = scheduled(total_epochs=10), with_a_loss_of_weight_3()
    first.tick(epoch=7)
    second.tick(epoch=1)
    with pytest.raises(ScheduleError, match=MISSING):
        second.load_state_dict(first.state_dict())
    assert (second.epoch, second.get_loss_weights()) == (1, {"loss": 3.0})


def test_a_state_is_loaded_for_its_clock_alone():
    first, second = scheduled(total_epochs=10), with_a_loss_of_weight_3()
    first.tick(epoch=7)
    second.load_state_dict(first.state_dict(), weights="current")
    assert (second.epoch, second.get_loss_weights()) == (7, {"loss": 3.0})


def test_set_schedule_takes_one_where_the_length_is_known():
    manager = LossManager(total_epochs=8)
    manager.register_loss_fn("loss", difference, 100.0)
    manager.set_schedule("loss", Schedule(unit="fraction", start=0.5, end=1.0, target_value=0.0))
    manager.tick(epoch=6)
    assert weight(manager) == 50.0


# Going on


@pytest.mark.parametrize(
    ("options", "expected"), [({"total_epochs": 10}, 4.0), ({"total_epochs": 14}, 0.0), ({"total_steps": 8}, 0.0)]
)
def test_a_resumed_run_follows_its_own_length(options, expected):
    first = scheduled(total_epochs=10)
    first.tick(epoch=7)
    assert weight(first) == pytest.approx(4.0)
    state = json.loads(json.dumps(first.state_dict()))
    second = scheduled(Schedule(), **options)
    with pytest.warns(NectarganWarning, match="weights and schedules are now those of the state"):
        second.load_state_dict(state)
    assert weight(second) == pytest.approx(expected)
    assert second.get_registered_losses()["loss"].schedule == RISE


# Schedules inside


def half(schedule, epoch, *, part):
    return 0.5 * part.value(epoch)


def test_a_part_is_evaluated_at_fractions():
    manager = scheduled(Schedule(half, unit="fraction", params={"part": RISE}), total_epochs=200)
    assert weight(manager, epoch=150) == 2.5


@pytest.mark.parametrize(
    ("whole", "part", "said"),
    [
        ("fraction", Schedule(end=10), "counts fractions, and the schedule 'linear' in its params epochs; give both"),
        ("epoch", RISE, "counts epochs, and the schedule 'linear' in its params fractions; give both"),
        ("step", RISE, "counts steps, and the schedule 'linear' in its params fractions; give both"),
    ],
)
def test_a_part_has_the_unit_of_the_whole(whole, part, said):
    with pytest.raises(ScheduleError, match=said):
        scheduled(Schedule(half, unit=whole, params={"part": part}), total_epochs=200)


# Compiled


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.*:UserWarning:torch")
@pytest.mark.parametrize(
    ("length", "ticks"), [({"total_epochs": 4}, True), ({"total_steps": 4}, True), ({"total_steps": 4}, False)]
)
def test_a_compiled_step_follows_the_clock_with_one_graph(length, ticks):
    torch._dynamo.reset()
    manager = scheduled(**length, enable_logging=True)
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    @torch.compile(backend=backend, fullgraph=True)
    def step(x, y):
        return manager.compute_loss_xy("loss", x, y)

    seen = []
    for number in range(6):
        if ticks:
            manager.tick(epoch=number)
        seen.append(step(ZERO, ONE).item())
    assert seen == [0.0, 0.0, 0.0, 5.0, 10.0, 10.0]
    assert manager.series("loss").weight.tolist() == seen
    assert len(graphs) == 1
    torch._dynamo.reset()


# Evaluated on its own


def test_a_scheduler_is_evaluated_at_fractions_or_if_it_knows_the_length_at_epochs_or_steps():
    assert (Scheduler(RISE).unit, Scheduler(RISE).value(0.75)) == ("fraction", 5.0)
    for unit in ("epoch", "step"):
        scheduler = Scheduler(RISE, **{f"total_{unit}s": 200})
        assert (scheduler.unit, scheduler.value(150)) == (unit, 5.0)
        assert scheduler.with_weight(3.0).value(150) == 5.0


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_the_length_makes_no_difference_to_other_units(unit):
    scheduler = Scheduler(Schedule(unit=unit, end=10, target_value=0.0), total_epochs=200)
    assert (scheduler.unit, scheduler.value(5)) == (unit, 0.5)


def test_an_error_names_the_fraction():
    def failing(schedule, at):
        return math.nan if at > 0.7 else 1.0

    with pytest.raises(ScheduleError, match=r"gave nan at fraction 0\.75"):
        Scheduler(Schedule(failing, unit="fraction"), total_epochs=4).value(3)


# Learning rates


def rates(total, steps, schedule):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = TorchScheduler(optimizer, schedule, total=total)
    seen = [scheduler.get_last_lr()[0]]
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
        seen.append(scheduler.get_last_lr()[0])
    return seen


DECAY = Schedule(unit="fraction", start=0.5, end=1.0, target_value=0.0)


def test_a_learning_rate_follows_fractions_of_the_total():
    assert rates(4, 5, DECAY) == [0.5, 0.5, 0.5, 0.25, 0.0, 0.0]


def test_other_learning_rates_leave_the_total_aside():
    assert rates(200, 3, Schedule(end=2, target_value=0.0)) == [0.5, 0.25, 0.0, 0.0]


def test_a_learning_rate_goes_to_a_given_epoch():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    scheduler = TorchScheduler(optimizer, DECAY, total=4)
    optimizer.step()
    scheduler.step(3.5)
    assert scheduler.get_last_lr() == [0.125]


def test_a_learning_rate_of_fractions_needs_a_total():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    with pytest.raises(ScheduleError, match=r"the length of the run is not known; give TorchScheduler\(\.\.\., total="):
        TorchScheduler(optimizer, DECAY)
    assert "initial_lr" not in optimizer.param_groups[0]


@pytest.mark.parametrize("total", [0, -1, math.nan, math.inf, "4", True])
def test_a_total_that_is_no_finite_number_above_0_is_a_value_error(total):
    with pytest.raises(ValueError, match="total must be a finite number above 0, got"):
        rates(total, 0, DECAY)


def test_a_resumed_scheduler_follows_its_own_total():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    first = TorchScheduler(optimizer, DECAY, total=4)
    for _ in range(3):
        optimizer.step()
        first.step()
    second = TorchScheduler(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5), DECAY, total=10)
    second.load_state_dict(first.state_dict())
    second.optimizer.step()
    second.step()
    assert second.get_last_lr() == [0.5]


# Previews


def test_a_preview_of_n_epochs_is_at_their_fractions():
    positions, values = preview(RISE, 4)
    assert positions.tolist() == [0.0, 0.25, 0.5, 0.75]
    assert values.tolist() == [0.0, 0.0, 0.0, 5.0]
    assert [column.tolist() for column in preview(RISE, 0)] == [[], []]


def test_a_preview_at_positions_takes_fractions():
    positions, values = preview(RISE, [0.0, 0.75, 1.0])
    assert (positions.tolist(), values.tolist()) == ([0.0, 0.75, 1.0], [0.0, 5.0, 10.0])


@pytest.mark.parametrize("epochs", [1, 200, 10_000])
def test_it_is_drawn_from_0_to_1_with_a_label(tmp_path, monkeypatch, epochs):
    asked = []
    monkeypatch.setattr(Scheduler, "value", lambda self, at: asked.append(at) or 1.0)
    plot(RISE, epochs, tmp_path / "rise.svg")
    drawn = asked[2:]
    assert (len(drawn), drawn[0], drawn[-1]) == (1001, 0.0, 1.0)
    assert "<!-- fraction of the run -->" in (tmp_path / "rise.svg").read_text()


@pytest.fixture
def nectargan(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: CliRunner().invoke(main, ["schedules", "plot", *arguments])


def test_the_command_draws_fractions(nectargan):
    result = nectargan("linear", "--unit", "fraction", "--start", "0.5", "--end", "1", "--target", "0")
    assert (result.exit_code, result.output) == (0, "linear.png\n")
    assert Path("linear.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--end", "1", "--epochs", "200"), "--unit fraction is drawn from 0 to 1; leave --epochs out"),
        (("--end", "200"), "end_epoch (200) is not from 0 to 1"),
    ],
)
def test_the_command_refuses_epochs_with_fractions(nectargan, arguments, said):
    result = nectargan("linear", "--unit", "fraction", *arguments)
    assert result.exit_code == 2
    assert said in re.sub(r"\s+", " ", result.output)
