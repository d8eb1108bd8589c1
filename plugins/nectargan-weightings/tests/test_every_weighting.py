"""What holds for every weighting beside the contract: sums, losses that left, and values of any kind."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = ("a", "b", "c")
numbers = st.one_of(st.sampled_from([0.0, -0.0, 1e-300, -1e-300, 1e300, -1e300, 1.0, -1.0]), st.floats(-1e30, 1e30))
hostile = st.one_of(numbers, st.sampled_from([math.nan, math.inf, -math.inf]))


def chosen(step, names):
    """Return a step with some of its losses, in another order."""
    places = [step.names.index(name) for name in names]
    return type(step)(
        tuple(names),
        [step.values[place] for place in places],
        [step.weights[place] for place in places],
        step.step,
        step.epoch,
        [step.rows[place] for place in places],
    )


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.tuples(hostile, hostile, hostile), min_size=1, max_size=8))
def test_values_of_any_kind_give_finite_factors(make, step, values):
    weighting = make()
    rows = [[torch.full((2, 2), size)] for size in (1.0, 2.0, 3.0)]
    for index, each in enumerate(values):
        factors = weighting.factors(step(NAMES, list(each), None, index, index / 2, rows))
        assert all(0.0 <= factor < math.inf for factor in factors)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.tuples(*[st.floats(0.0, 1e15)] * 3), min_size=1, max_size=8))
def test_gradients_of_any_size_give_finite_factors(make, step, sizes):
    weighting = make()
    for index, each in enumerate(sizes):
        rows = [[torch.full((2, 2), size)] for size in each]
        factors = weighting.factors(step(NAMES, [1.0, 2.0, 3.0], None, index, index / 2, rows))
        assert all(0.0 <= factor < math.inf for factor in factors)


def test_factors_sum_to_the_number_of_losses(make_of_sum_n, steps):
    weighting = make_of_sum_n()
    for step in steps(12):
        assert sum(weighting.factors(step)) == pytest.approx(3.0, rel=1e-12)


def test_a_loss_that_left_does_not_count(make_of_sum_n, steps):
    weighting = make_of_sum_n()
    for step in steps(12):
        weighting.factors(step)
    for step in steps(12, seed=1):
        assert sum(weighting.factors(chosen(step, ("c", "a")))) == pytest.approx(2.0, rel=1e-12)


def test_one_loss_alone_keeps_the_factor_1(make_of_1_alone, steps):
    weighting = make_of_1_alone()
    for step in steps(6, names=("b",)):
        assert weighting.factors(step) == pytest.approx([1.0], rel=1e-12)
