"""Every curve in fractions of a run has the values that it has in epochs, at jumps too, where positions are rounded."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core import LossManager, Schedule, Scheduler
from nectargan_core.errors import ScheduleError


@pytest.mark.parametrize("total", [10, 12, 30, 49, 200, 1000, 12.5])
def test_it_equals_the_curve_in_epochs(divisible, in_fractions, total):
    relative, absolute = Scheduler(in_fractions(divisible, total), total_epochs=total), Scheduler(divisible)
    epochs = [index / 2 for index in range(24)]
    expected = [absolute.value(epoch) for epoch in epochs]
    assert [relative.value(epoch) for epoch in epochs] == pytest.approx(expected, rel=1e-9)


def test_the_weight_of_a_loss_follows_it(divisible, in_fractions):
    manager = LossManager(total_epochs=12)
    manager.register_loss_fn("loss", lambda one: one, schedule=in_fractions(divisible, 12), inputs=("one",))
    seen = []
    for epoch in range(12):
        manager.tick(epoch=epoch)
        seen.append(manager.compute_losses({"one": torch.ones((), dtype=torch.float64)})["loss"].item())
    assert seen == pytest.approx([Scheduler(divisible).value(epoch) for epoch in range(12)], rel=1e-9)


@st.composite
def runs(draw):
    """A number of epochs, with start, end and a period of whole epochs in it."""
    total = draw(st.integers(2, 5000))
    start, end = sorted(draw(st.lists(st.integers(0, total), min_size=2, max_size=2, unique=True)))
    return total, start, end, draw(st.integers(1, end - start))


LEVELS = {"initial_value": 8.0, "target_value": 0.5}
JUMPING = {
    "cosine-restarts": lambda period, factor: {"period": period, "multiplier": factor},
    "multistep": lambda period, factor: {"gamma": 0.5},
    "step": lambda period, factor: {"every": period, "gamma": 0.9},
    "warmup-cosine": lambda period, factor: {"warmup": period, "begin": 0.25},
    "window": lambda period, factor: {},
}


@pytest.mark.parametrize("name", JUMPING)
@given(run=runs(), factor=st.integers(1, 4), data=st.data())
def test_a_jump_at_a_whole_epoch_is_at_that_epoch(in_fractions, name, run, factor, data):
    total, start, end, period = run
    params = JUMPING[name](period, factor)
    if name == "multistep":
        params["milestones"] = sorted({start, start + period})
    whole = Schedule(name, start=start, end=end, **LEVELS, params=params)
    relative, absolute = Scheduler(in_fractions(whole, total), total_epochs=total), Scheduler(whole)
    jumps = [start, end, *range(start, end, max(period, (end - start) // 50))]
    for epoch in [*jumps, *data.draw(st.lists(st.integers(0, total), max_size=10))]:
        assert relative.value(epoch) == pytest.approx(absolute.value(epoch), rel=1e-6), epoch


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_a_period_ends_where_it_is_written_to_end(multiplier):
    params = {"period": 0.1, "multiplier": multiplier}
    curve = Scheduler(Schedule("cosine-restarts", unit="fraction", **LEVELS, params=params))
    restarts = {1: [0.1, 0.2, 0.3, 0.6, 0.7, 0.9], 2: [0.1, 0.3, 0.7], 3: [0.1, 0.4]}[multiplier]
    assert [curve.value(at) for at in restarts] == [8.0] * len(restarts)


def test_a_step_of_fractional_epochs_is_where_it_is_written():
    curve = Scheduler(Schedule("step", initial_value=1.0, params={"every": 0.1, "gamma": 0.5}))
    assert [curve.value(index / 10) for index in range(12)] == [0.5**index for index in range(12)]


def test_an_epoch_begins_where_the_start_and_whole_epochs_add_up_to():
    curve = Scheduler(Schedule("every", start=1.1, initial_value=0.0, target_value=1.0, params={"n": 3}))
    assert 4.1 - 1.1 < 3.0
    assert [curve.value(at) for at in (1.1, 2.1, 3.1, 4.1, 5.0)] == [1.0, 0.0, 0.0, 1.0, 1.0]


def test_every_nth_step_is_exact_at_any_step():
    curve = Scheduler(Schedule("every", unit="step", initial_value=0.0, target_value=1.0, params={"n": 16}))
    assert [curve.value(2**60 + at) for at in (-1, 0, 1, 16)] == [0.0, 1.0, 0.0, 1.0]


def test_whole_steps_far_from_the_start_are_told_apart():
    curve = Scheduler(Schedule("step", unit="step", initial_value=1.0, params={"every": 10**12, "gamma": 0.5}))
    assert [curve.value(10**12 + at) for at in (-1, 0, 1)] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize(("start", "end", "warmup"), [(0.4, 0.7, 0.3), (0.7, 1.0, 0.3), (0.1, 0.3, 0.2)])
def test_a_warmup_may_be_as_long_as_the_schedule(start, end, warmup):
    curve = Scheduler(
        Schedule("warmup-cosine", unit="fraction", start=start, end=end, **LEVELS, params={"warmup": warmup})
    )
    assert curve.value(start) == 0.0
    assert curve.value(0.5 * (start + end)) == pytest.approx(4.0)
    assert curve.value(end) == 0.5


# Lengths that are no fractions


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("cosine-restarts", {"period": 20}, "period must be a fraction of the run, above 0 and at most 1, got 20"),
        ("cyclic", {"period": 20}, "period must be a fraction of the run, above 0 and at most 1, got 20"),
        ("step", {"every": 30}, "every must be a fraction of the run, above 0 and at most 1, got 30"),
        ("inverse-sqrt", {"warmup": 500}, "warmup must be a fraction of the run, above 0 and at most 1, got 500"),
        ("multistep", {"milestones": [0.5, 60]}, "milestones must be numbers from 0 to 1, .* got"),
        ("piecewise-linear", {"points": [[0, 1.0], [60, 0.0]]}, "the epochs of points must be numbers from 0 to 1"),
        ("every", {"n": 16}, "unit must be 'epoch' or 'step', which n is counted in, got 'fraction'"),
    ],
)
def test_a_length_in_epochs_is_refused_with_fractions(name, params, said):
    with pytest.raises(ScheduleError, match=rf"^schedule '{name}': {said}"):
        Scheduler(Schedule(name, unit="fraction", params=params))


@pytest.mark.parametrize("name", ["cosine-restarts", "cyclic", "step", "inverse-sqrt"])
def test_the_whole_run_is_a_fraction(name):
    length = {"step": "every", "inverse-sqrt": "warmup"}.get(name, "period")
    assert Scheduler(Schedule(name, unit="fraction", params={length: 1})).value(0.5) >= 0.0
