"""Each curve compared with an independent source: a scheduler of torch, SciPy, NumPy, or a table of values."""

import math
import warnings

import numpy as np
import pytest
import scipy.special
import torch
from torch.optim import lr_scheduler

from nectargan_core import Schedule, Scheduler
from nectargan_core.errors import ScheduleError


def values(epochs, name, **definition):
    curve = Scheduler(Schedule(name, **definition))
    return [curve.value(epoch) for epoch in epochs]


def torch_values(count, base, make, *, epochs=None):
    """Run a scheduler of torch, and return the learning rate of each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=base)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's composed schedulers cause warnings by their own calls
        scheduler = make(optimizer)
        rates = [optimizer.param_groups[0]["lr"]]
        for index in range(1, count):
            optimizer.step()
            scheduler.step(*([] if epochs is None else [epochs[index]]))
            rates.append(optimizer.param_groups[0]["lr"])
    return rates


def close(expected, rel=1e-9):
    return pytest.approx(expected, rel=rel, abs=1e-12)


# Compared with torch


def test_cosine_is_torch_s_cosine_annealing():
    expected = torch_values(101, 5.0, lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=100, eta_min=0.5))
    assert values(range(101), "cosine", end=100, initial_value=5.0, target_value=0.5) == close(expected)


@pytest.mark.parametrize("multiplier", [1, 2, 3])
def test_cosine_restarts_are_torch_s_warm_restarts_at_fractions_too(multiplier):
    epochs = [index / 4 for index in range(400)]
    expected = torch_values(
        400,
        5.0,
        lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=10, T_mult=multiplier, eta_min=0.5),
        epochs=epochs,
    )
    params = {"period": 10, "multiplier": multiplier}
    assert values(epochs, "cosine-restarts", initial_value=5.0, target_value=0.5, params=params) == close(expected)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.7])
def test_polynomial_is_torch_s(power):
    expected = torch_values(121, 5.0, lambda opt: lr_scheduler.PolynomialLR(opt, total_iters=100, power=power))
    got = values(range(121), "polynomial", end=100, initial_value=5.0, target_value=0.0, params={"power": power})
    assert got == close(expected, rel=1e-7)


def test_step_is_torch_s():
    expected = torch_values(100, 5.0, lambda opt: lr_scheduler.StepLR(opt, step_size=7, gamma=0.5))
    assert values(range(100), "step", initial_value=5.0, params={"every": 7, "gamma": 0.5}) == close(expected)


def test_multistep_is_torch_s():
    expected = torch_values(100, 5.0, lambda opt: lr_scheduler.MultiStepLR(opt, milestones=[30, 31, 80], gamma=0.2))
    params = {"milestones": [30, 31, 80], "gamma": 0.2}
    assert values(range(100), "multistep", initial_value=5.0, params=params) == close(expected)


def test_warmup_cosine_is_torch_s_linear_and_cosine_in_sequence():
    def make(optimizer):
        rise = lr_scheduler.LinearLR(optimizer, start_factor=0.1, total_iters=10)
        fall = lr_scheduler.CosineAnnealingLR(optimizer, T_max=90, eta_min=0.5)
        return lr_scheduler.SequentialLR(optimizer, [rise, fall], milestones=[10])

    params = {"warmup": 10, "begin": 0.1}
    got = values(range(101), "warmup-cosine", end=100, initial_value=5.0, target_value=0.5, params=params)
    assert got == close(torch_values(101, 5.0, make))


def test_one_cycle_is_torch_s():
    def make(optimizer):
        # Its phases end one step before the shares of total_steps that it is given.
        return lr_scheduler.OneCycleLR(
            optimizer, max_lr=5.0, total_steps=101, pct_start=31 / 101, final_div_factor=100.0, cycle_momentum=False
        )

    expected = torch_values(101, 1.0, make)
    assert values(range(101), "one-cycle", end=100, initial_value=5.0, target_value=0.002) == close(expected)


def test_cyclic_is_torch_s_triangular():
    def make(optimizer):
        return lr_scheduler.CyclicLR(optimizer, base_lr=0.5, max_lr=5.0, step_size_up=8, cycle_momentum=False)

    got = values(range(100), "cyclic", initial_value=0.5, target_value=5.0, params={"period": 16})
    assert got == close(torch_values(100, 1.0, make))


def test_product_is_torch_s_chain():
    def make(optimizer):
        fall = lr_scheduler.PolynomialLR(optimizer, total_iters=50)
        steps = lr_scheduler.StepLR(optimizer, step_size=10, gamma=0.5)
        return lr_scheduler.ChainedScheduler([fall, steps], optimizer=optimizer)

    factors = [
        Schedule("linear", end=50, target_value=0.0),
        Schedule("step", params={"every": 10, "gamma": 0.5}),
    ]
    got = values(range(51), "product", initial_value=5.0, params={"factors": factors})
    assert got == close(torch_values(51, 5.0, make), rel=1e-7)


# Compared with SciPy and NumPy


@pytest.mark.parametrize("steepness", [0.01, 1.0, 10.0, 200.0])
def test_sigmoid_is_the_rescaled_logistic_function(steepness):
    epochs = np.linspace(0.0, 100.0, 401)
    logistic = scipy.special.expit(steepness * (epochs / 100.0 - 0.5))
    fraction = (logistic - logistic[0]) / (logistic[-1] - logistic[0])
    got = values(
        epochs.tolist(), "sigmoid", end=100, initial_value=5.0, target_value=-2.0, params={"steepness": steepness}
    )
    assert got == close(5.0 - 7.0 * fraction)


def test_sigmoid_steepens_to_a_jump_and_flattens_to_a_line():
    ends = {"end": 100, "initial_value": 0.0, "target_value": 1.0}
    assert values([49, 50, 51], "sigmoid", **ends, params={"steepness": 1e300}) == [0.0, 0.5, 1.0]
    assert values([25, 50, 75], "sigmoid", **ends, params={"steepness": 5e-324}) == [0.25, 0.5, 0.75]


def test_piecewise_linear_is_numpy_s_interpolation():
    points = [[3, 0.0], [10, 1.0], [10.5, -2.0], [100, 7.0]]
    epochs = np.linspace(0.0, 120.0, 481)
    expected = np.interp(epochs, *np.array(points).T)
    assert values(epochs.tolist(), "piecewise-linear", params={"points": points}) == close(expected)


# Compared with tables of values


def test_constant_is_the_initial_value_whatever_else_is_set():
    definition = {"start": 3, "end": 9, "initial_value": 5.0, "target_value": 0.0}
    assert values([0, 3, 6.5, 9, 1000], "constant", **definition) == [5.0] * 5


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.0), (100, 0.0), (110, 0.5), (150, 2.5), (200, 5.0), (500, 2.5), (2600, 1.0), (10_100, 0.5), (50_000, 0.5)],
)
def test_inverse_sqrt_rises_and_falls_with_the_root_of_the_time(step, expected):
    curve = Schedule("inverse-sqrt", unit="step", start=100, end=10_100, initial_value=5.0, params={"warmup": 100})
    assert Scheduler(curve).value(step) == close(expected)


def test_inverse_sqrt_is_the_formula_of_the_transformer():
    warmup, width = 4000, 512
    steps = [1, 10, 3999, 4000, 4001, 20_000]
    expected = [width**-0.5 * min(step**-0.5, step * warmup**-1.5) for step in steps]
    height = (width * warmup) ** -0.5
    assert values(steps, "inverse-sqrt", unit="step", initial_value=height, params={"warmup": warmup}) == close(
        expected
    )


def test_inverse_sqrt_without_a_rise_is_constant_first():
    got = values([0, 50, 100, 400], "inverse-sqrt", initial_value=2.0, params={"warmup": 100, "begin": 1.0})
    assert got == [2.0, 2.0, 2.0, 1.0]


def test_window_is_the_target_from_the_start_up_to_the_end():
    definition = {"start": 3, "end": 5, "initial_value": 1.0, "target_value": 8.0}
    assert values([0, 2.99, 3, 4.99, 5, 6], "window", **definition) == [1.0, 1.0, 8.0, 8.0, 1.0, 1.0]


def test_every_takes_each_nth_epoch_from_the_start_up_to_the_end():
    definition = {"start": 2, "end": 11, "initial_value": 0.0, "target_value": 1.0, "params": {"n": 3}}
    on = [epoch for epoch, value in enumerate(values(range(20), "every", **definition)) if value == 1.0]
    assert on == [2, 5, 8]


def test_every_ignores_the_fraction_of_an_epoch():
    definition = {"initial_value": 0.0, "target_value": 1.0, "params": {"n": 2}}
    assert values([0, 0.5, 0.999, 1, 1.5, 2.0], "every", **definition) == [1.0, 1.0, 1.0, 0.0, 0.0, 1.0]


def test_every_on_average_is_the_target():
    definition = {"end": 12, "initial_value": 0.5, "target_value": 2.0, "params": {"n": 4, "average": True}}
    taken = values(range(13), "every", **definition)
    assert taken == [6.5, 0.5, 0.5, 0.5] * 3 + [0.5]
    assert sum(taken[:12]) / 12 == 2.0


def test_every_refuses_an_average_that_is_no_bool():
    with pytest.raises(ScheduleError, match="average"):
        values([0], "every", initial_value=0.0, params={"n": 4, "average": 2})


def test_cyclic_is_the_initial_value_before_the_start_and_from_the_end_on():
    definition = {"start": 10, "end": 25, "initial_value": 1.0, "target_value": 2.0, "params": {"period": 10}}
    assert values([0, 10, 15, 20, 24, 25, 40], "cyclic", **definition) == [1.0, 1.0, 2.0, 1.0, 1.8, 1.0, 1.0]


def test_cosine_restarts_end_at_the_target():
    definition = {"end": 15, "initial_value": 1.0, "target_value": 0.0, "params": {"period": 10}}
    assert values([15, 16, 20, 100], "cosine-restarts", **definition) == [0.0] * 4


# Where a decay stops


def test_step_stops_at_the_target():
    definition = {"initial_value": 8.0, "target_value": 1.5, "params": {"every": 1, "gamma": 0.5}}
    assert values(range(5), "step", **definition) == [8.0, 4.0, 2.0, 1.5, 1.5]


def test_step_of_negative_values_stops_at_the_target():
    definition = {"initial_value": -8.0, "target_value": -3.0, "params": {"every": 1, "gamma": 0.5}}
    assert values(range(4), "step", **definition) == [-8.0, -4.0, -3.0, -3.0]


def test_step_grows_to_a_target_and_no_farther():
    definition = {"initial_value": 1.0, "target_value": 5.0, "params": {"every": 1, "gamma": 2.0}}
    assert values([0, 1, 2, 3, 1e6], "step", **definition) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_step_changes_at_the_end_for_the_last_time():
    definition = {"start": 10, "end": 30, "initial_value": 8.0, "params": {"every": 10, "gamma": 0.5}}
    assert values([0, 19, 20, 30, 40, 1000], "step", **definition) == [8.0, 8.0, 4.0, 2.0, 2.0, 2.0]


def test_a_target_that_a_loss_fills_in_does_not_stop_a_decay():
    curve = Scheduler(Schedule("step", params={"every": 1, "gamma": 0.5}).with_weight(8.0))
    assert [curve.value(epoch) for epoch in range(4)] == [8.0, 4.0, 2.0, 1.0]


def test_a_decay_without_a_target_may_become_zero():
    assert values([1e15], "step", initial_value=8.0, params={"every": 0.001, "gamma": 0.9}) == [0.0]
    assert values([5], "step", initial_value=8.0, params={"every": 1, "gamma": 0.0}) == [0.0]


def test_inverse_sqrt_stops_at_the_target():
    definition = {"initial_value": 8.0, "target_value": 3.0, "params": {"warmup": 1}}
    assert values([4, 7, 8, 100], "inverse-sqrt", **definition) == close([4.0, 8.0 / math.sqrt(7.0), 3.0, 3.0])


# Warm-up


def test_a_warmup_of_zero_epochs_is_the_cosine_alone():
    ends = {"start": 3, "end": 20, "initial_value": 5.0, "target_value": 1.0}
    epochs = [3.5, 10, 19, 25]
    assert values(epochs, "warmup-cosine", **ends, params={"warmup": 0}) == values(epochs, "cosine", **ends)


def test_a_warmup_as_long_as_the_schedule_jumps_to_the_target_at_the_end():
    definition = {"start": 10, "end": 20, "initial_value": 5.0, "target_value": 1.0, "params": {"warmup": 10}}
    assert values([10, 15, 19.98, 20], "warmup-cosine", **definition) == close([0.0, 2.5, 4.99, 1.0])


@pytest.mark.parametrize("name", ["warmup-cosine", "one-cycle", "inverse-sqrt"])
def test_a_rise_begins_at_a_share_of_the_initial_value(name):
    params = {"begin": 0.25} | ({} if name == "one-cycle" else {"warmup": 10})
    definition = {"start": 10, "end": 100, "initial_value": 8.0, "target_value": 1.0, "params": params}
    assert values([0, 10], name, **definition) == [2.0, 2.0]


# Composed curves


def test_sequence_follows_the_last_part_that_has_started():
    parts = [
        Schedule("linear", start=2, end=4, initial_value=0.0, target_value=1.0),
        Schedule("constant", start=6, initial_value=7.0),
        Schedule("linear", start=8, end=10, initial_value=3.0, target_value=0.0),
    ]
    got = values(range(12), "sequence", params={"parts": parts})
    assert got == [0.0, 0.0, 0.0, 0.5, 1.0, 1.0, 7.0, 7.0, 3.0, 1.5, 0.0, 0.0]


def test_what_a_part_leaves_out_is_the_weight_of_the_loss():
    parts = [Schedule("linear", end=4, initial_value=0.0), Schedule("linear", start=6, end=8, target_value=0.0)]
    curve = Scheduler(Schedule("sequence", params={"parts": parts}).with_weight(10.0))
    assert [curve.value(epoch) for epoch in (0, 2, 4, 6, 7, 8)] == [0.0, 5.0, 10.0, 10.0, 5.0, 0.0]


def test_what_a_part_of_a_part_leaves_out_is_the_weight_of_the_loss():
    inner = Schedule("sequence", params={"parts": [Schedule("linear", end=4, initial_value=0.0)]})
    curve = Scheduler(Schedule("sequence", params={"parts": [inner]}).with_weight(10.0))
    assert curve.value(2) == 5.0


def test_what_a_factor_leaves_out_is_one():
    factors = [Schedule("linear", end=4, initial_value=0.0), Schedule("linear", start=6, end=8, target_value=0.0)]
    curve = Scheduler(Schedule("product", params={"factors": factors}).with_weight(10.0))
    assert [curve.value(epoch) for epoch in (0, 2, 4, 6, 7, 8)] == [0.0, 5.0, 10.0, 10.0, 5.0, 0.0]


@pytest.mark.parametrize("name", ["sequence", "product"])
def test_a_composed_curve_is_constant_before_its_start_and_after_its_end(name):
    parts = {"parts" if name == "sequence" else "factors": [Schedule("linear", end=10, initial_value=0.0)]}
    assert values([0, 2, 5, 8, 20], name, start=2, end=8, params=parts) == close([0.2, 0.2, 0.5, 0.8, 0.8])


def test_a_composed_curve_may_be_part_of_another():
    rise, fall = Schedule("linear", end=4, initial_value=0.0), Schedule("linear", start=4, end=8, target_value=0.0)
    both = Schedule("sequence", params={"parts": [rise, fall]})
    got = values(range(9), "product", initial_value=2.0, params={"factors": [both, both]})
    assert got == close([2 * (min(epoch, 8 - epoch) / 4) ** 2 for epoch in range(9)])


# Parameters of a call


def test_parameters_of_a_call_override_those_of_the_schedule():
    curve = Scheduler(Schedule("polynomial", end=100, target_value=0.0, params={"power": 1.0}))
    assert (curve.value(50, power=3.0), curve.value(50)) == (0.125, 0.5)


def test_parts_of_a_call_override_those_of_the_schedule():
    half, third = ([Schedule("constant", initial_value=value)] for value in (0.5, 0.25))
    curve = Scheduler(Schedule("product", params={"factors": half}))
    assert (curve.value(0, factors=third), curve.value(0)) == (0.25, 0.5)


# Without an end

LATE = 2.0**53


def test_window_without_an_end_never_switches_off():
    assert Scheduler(Schedule("window", start=10, target_value=5.0)).value(LATE) == 5.0


def test_every_without_an_end_never_stops():
    curve = Scheduler(Schedule("every", unit="step", target_value=16.0, params={"n": 16}))
    assert [curve.value(step) for step in (16 * 10**9, 16 * 10**9 + 1)] == [16.0, 1.0]


def test_cyclic_without_an_end_never_stops():
    curve = Scheduler(Schedule("cyclic", target_value=0.0, params={"period": 4}))
    assert [curve.value(epoch) for epoch in (4e9, 4e9 + 2)] == [1.0, 0.0]


@pytest.mark.parametrize("multiplier", [1, 2])
def test_cosine_restarts_without_an_end_never_stop(multiplier):
    params = {"period": 4, "multiplier": multiplier}
    assert Scheduler(Schedule("cosine-restarts", target_value=0.0, params=params)).value(4 * (2**40 - 1)) == 1.0


def test_step_without_an_end_never_stops():
    curve = Scheduler(Schedule("step", params={"every": 1e9, "gamma": 0.5}))
    assert curve.value(3e9) == 0.125


def test_milestones_without_an_end_may_be_any_epochs():
    curve = Scheduler(Schedule("multistep", params={"milestones": [3, 10**9], "gamma": 0.5}))
    assert curve.value(10**9) == 0.25


def test_inverse_sqrt_without_an_end_never_stops():
    assert Scheduler(Schedule("inverse-sqrt", params={"warmup": 1})).value(4e8) == pytest.approx(5e-5)


def test_a_table_without_an_end_has_all_its_points():
    points = [[0, 1.0], [4e8, 3.0]]
    assert Scheduler(Schedule("piecewise-linear", params={"points": points})).value(2e8) == 2.0


@pytest.mark.parametrize(("name", "key"), [("sequence", "parts"), ("product", "factors")])
def test_a_composed_curve_without_an_end_is_never_constant(name, key):
    part = Schedule("linear", end=4e8, target_value=0.0)
    assert Scheduler(Schedule(name, params={key: [part]})).value(2e8) == 0.5


def test_a_part_that_is_not_scheduled_is_the_weight_of_the_loss():
    rise = Schedule("linear", start=10, end=20, target_value=0.0)
    curve = Scheduler(Schedule("sequence", initial_value=8.0, params={"parts": [Schedule(), rise]}))
    assert curve.value(5) == 8.0
