"""A parameter that a curve cannot use is an error when a `Scheduler` is made; it names the parameter and its value."""

import pytest

from nectargan_core import LossManager, Schedule, Scheduler
from nectargan_core.errors import ScheduleError

ABOVE_ZERO = "must be a finite number above 0"


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("polynomial", {"power": 0}, f"power {ABOVE_ZERO}, got 0"),
        ("polynomial", {"power": "2"}, f"power {ABOVE_ZERO}, got '2'"),
        ("polynomial", {"power": 10**400}, f"power {ABOVE_ZERO}, got 1000"),
        ("sigmoid", {"steepness": -1.0}, f"steepness {ABOVE_ZERO}, got -1.0"),
        ("cosine-restarts", {"period": 0}, f"period {ABOVE_ZERO}, got 0"),
        ("cosine-restarts", {"period": 5, "multiplier": 0}, "multiplier must be an integer of at least 1, got 0"),
        ("cosine-restarts", {"period": 5, "multiplier": 1.5}, "multiplier must be an integer of at least 1, got 1.5"),
        ("cyclic", {"period": None}, f"period {ABOVE_ZERO}, got None"),
        ("every", {"n": 0}, "n must be an integer of at least 1, got 0"),
        ("every", {"n": 2.0}, r"n must be an integer of at least 1, got 2\.0"),
        ("step", {"every": 0}, f"every {ABOVE_ZERO}, got 0"),
        ("step", {"every": 1, "gamma": -0.1}, "gamma must be a finite number of at least 0, got -0.1"),
        ("step", {"every": 1, "gamma": 1.5}, "gamma 1.5 grows without an end from initial_value 1"),
        ("multistep", {"milestones": []}, r"milestones must be numbers .* got \[\]"),
        ("multistep", {"milestones": 30}, "milestones must be numbers .* got 30"),
        ("multistep", {"milestones": "30"}, "milestones must be numbers .* got '30'"),
        ("multistep", {"milestones": {"first": 30}}, "milestones must be numbers .* got {'first': 30}"),
        (
            "multistep",
            {"milestones": [30, 30]},
            r"milestones must be numbers .*, each larger than the one before, got \[30, 30\]",
        ),
        (
            "multistep",
            {"milestones": [80, 30]},
            r"milestones must be numbers .*, each larger than the one before, got \[80, 30\]",
        ),
        ("multistep", {"milestones": [-1, 30]}, r"milestones must be numbers from 0 to 200, each"),
        ("inverse-sqrt", {"warmup": 0}, f"warmup {ABOVE_ZERO}, got 0"),
        ("inverse-sqrt", {"warmup": 5, "begin": 2.0}, r"begin must be a number from 0 to 1, got 2\.0"),
        ("warmup-cosine", {"warmup": -1}, "warmup must be a finite number of at least 0, got -1"),
        ("warmup-cosine", {"warmup": 201}, "warmup must end before the schedule does, got 201 from 0 to 200"),
        ("one-cycle", {"rise": 0.0}, r"rise must be a number between 0 and 1, got 0\.0"),
        ("one-cycle", {"rise": 1}, "rise must be a number between 0 and 1, got 1"),
        ("one-cycle", {"begin": -0.5}, r"begin must be a number from 0 to 1, got -0\.5"),
        ("piecewise-linear", {"points": []}, r"points must be a list of pairs \[epoch, value\]"),
        ("piecewise-linear", {"points": [[0, 1.0], [5]]}, "points must be a list of pairs"),
        ("piecewise-linear", {"points": [[0, 1.0], [5, 2.0, 3.0]]}, "points must be a list of pairs"),
        ("piecewise-linear", {"points": [[0, "x"]]}, "points must be a list of pairs"),
        ("piecewise-linear", {"points": [["x", 0]]}, "the epochs of points must be numbers"),
        (
            "piecewise-linear",
            {"points": [[5, 1.0], [0, 2.0]]},
            r"the epochs of points .* each larger than the one before",
        ),
        ("sequence", {"parts": []}, r"parts must be a list of schedules, got \[\]"),
        ("sequence", {"parts": 3}, "parts must be a list of schedules, got 3"),
        (
            "sequence",
            {"parts": [{"start": 3}]},
            "each of the parts must be a Schedule, or a dict with the key 'schedule'",
        ),
        ("product", {"factors": ["linear"]}, "each of the factors must be a Schedule, .* got 'linear'"),
        ("product", {"factors": None}, "factors must be a list of schedules, got None"),
    ],
)
def test_a_parameter_out_of_its_range_is_named(name, params, said):
    with pytest.raises(ScheduleError, match=rf"^schedule '{name}': {said}"):
        Scheduler(Schedule(name, end=200, params=params))


@pytest.mark.parametrize("name", ["step", "multistep", "inverse-sqrt"])
@pytest.mark.parametrize(("initial", "target"), [(1.0, 2.0), (1.0, -0.5), (-1.0, 0.5), (0.0, 1.0)])
def test_a_target_that_a_decay_cannot_reach_is_refused(name, initial, target):
    params = {"step": {"every": 1}, "multistep": {"milestones": [3]}, "inverse-sqrt": {"warmup": 3}}[name]
    with pytest.raises(
        ScheduleError, match=f"from initial_value {initial:g} towards 0, never to target_value {target:g}"
    ):
        Scheduler(Schedule(name, initial_value=initial, target_value=target, params=params))


@pytest.mark.parametrize("target", [0.5, -2.0])
def test_a_gamma_that_grows_away_from_the_target_is_refused(target):
    with pytest.raises(ScheduleError, match="gamma 2 grows without an end"):
        Scheduler(Schedule("step", initial_value=1.0, target_value=target, params={"every": 1, "gamma": 2.0}))


@pytest.mark.parametrize("starts", [(0, 0), (5, 3)])
def test_parts_out_of_order_are_refused(starts):
    parts = [Schedule("linear", start=start, end=9) for start in starts]
    with pytest.raises(ScheduleError, match=rf"one that starts at {starts[1]} after one at {starts[0]}"):
        Scheduler(Schedule("sequence", params={"parts": parts}))


@pytest.mark.parametrize("wrong", [0, 1])
def test_every_part_is_evaluated_when_a_scheduler_is_made(wrong):
    powers = [0.0 if index == wrong else 1.0 for index in range(2)]
    parts = [
        Schedule("polynomial", start=index * 10, end=90, params={"power": power}) for index, power in enumerate(powers)
    ]
    with pytest.raises(ScheduleError, match="'sequence': schedule 'polynomial': power must be"):
        Scheduler(Schedule("sequence", params={"parts": parts}))


@pytest.mark.parametrize(
    "missing", ["cosine-restarts", "cyclic", "every", "inverse-sqrt", "multistep", "piecewise-linear"]
)
def test_a_parameter_without_a_default_has_to_be_given(missing):
    with pytest.raises(ScheduleError, match="missing a required .*argument"):
        Scheduler(Schedule(missing))


def test_a_parameter_that_a_curve_does_not_have_is_refused_when_a_loss_is_registered():
    manager = LossManager()
    with pytest.raises(ScheduleError, match=r"'cosine' of loss 'G_L1': .*'power'; it takes \(schedule, epoch\)"):
        manager.register_loss_fn("G_L1", abs, schedule=Schedule("cosine", params={"power": 2}))


def test_a_parameter_of_a_call_is_checked_like_one_of_the_schedule():
    curve = Scheduler(Schedule("polynomial", end=10))
    with pytest.raises(ScheduleError, match=f"power {ABOVE_ZERO}, got nan"):
        curve.value(5, power=float("nan"))


@pytest.mark.parametrize("name", ["cosine", "polynomial", "sigmoid", "warmup-cosine", "one-cycle"])
def test_a_curve_that_goes_to_its_end_is_refused_without_one(name):
    params = {"warmup": 3} if name == "warmup-cosine" else {}
    with pytest.raises(ScheduleError, match=f"^schedule '{name}': this curve needs an end.*set end_epoch"):
        Scheduler(Schedule(name, target_value=0.0, params=params))


def test_a_part_that_needs_an_end_is_refused_without_one():
    parts = [Schedule("linear", end=5, initial_value=0.0), Schedule("cosine", start=10, target_value=0.0)]
    with pytest.raises(ScheduleError, match="schedule 'sequence': schedule 'cosine': this curve needs an end"):
        Scheduler(Schedule("sequence", params={"parts": parts}))
