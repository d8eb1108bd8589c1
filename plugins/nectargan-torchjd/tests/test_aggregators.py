"""The gradients, summed with the factors, are what the aggregator of TorchJD gives for them as rows."""

import pytest
import torch


def largest_difference(found, expected):
    return ((found - expected).norm() / expected.norm().clamp_min(1.0)).item()


def summed(factors, rows, weights=None):
    weights = [1.0] * len(rows) if weights is None else weights
    return torch.tensor(factors, dtype=torch.float64) * torch.tensor(weights, dtype=torch.float64) @ rows


def test_a_sum_of_gradients_is_what_the_aggregator_gives(pair, step, rows, drawing_at):
    cls, params, aggregator = pair
    for seed in range(5):
        jacobian = rows(seed)
        found = summed(cls(**params).factors(step(jacobian)), jacobian)
        with drawing_at(0):
            expected = aggregator()(jacobian)
        assert largest_difference(found, expected) <= 2e-15


def test_so_it_is_over_several_steps(pair, step, rows, drawing_at):
    cls, params, aggregator = pair
    weighting, aggregator = cls(**params), aggregator()
    for at in range(6):
        jacobian = rows(100 + at)
        found = summed(weighting.factors(step(jacobian, step=at)), jacobian)
        with drawing_at(at):
            expected = aggregator(jacobian)
        assert largest_difference(found, expected) <= 2e-15


def test_the_rows_are_the_gradients_of_the_weighted_losses(pair, step, rows, drawing_at):
    cls, params, aggregator = pair
    jacobian, weights = rows(7), [10.0, 0.5, 2.0]
    found = summed(cls(**params).factors(step(jacobian, weights)), jacobian, weights)
    with drawing_at(0):
        expected = aggregator()(jacobian * torch.tensor(weights, dtype=torch.float64)[:, None])
    assert largest_difference(found, expected) <= 2e-15


def test_factors_can_follow_from_the_gradients_of_the_losses_as_they_are(pair, step, rows):
    cls, params, _ = pair
    raw, weighted = step(rows(7)), step(rows(7), [10.0, 0.5, 2.0])
    assert cls(**params, weighted=False).factors(weighted) == cls(**params).factors(raw)


@pytest.mark.parametrize("losses", [1, 2, 4])
def test_there_may_be_any_number_of_losses(pair_for_any_number, losses, step, rows, drawing_at):
    cls, params, aggregator = pair_for_any_number
    if cls.__name__ == "Krum":
        losses += 2
    jacobian = rows(3, losses)
    found = summed(cls(**params).factors(step(jacobian)), jacobian)
    with drawing_at(0):
        expected = aggregator()(jacobian)
    assert largest_difference(found, expected) <= 2e-15


def test_factors_are_plain_numbers(name, make, step, rows):
    assert all(type(factor) is float for factor in make(name).factors(step(rows(1))))


def test_the_default_device_does_not_matter(name, make, step, rows):
    expected = make(name).factors(step(rows(1)))
    here = step(rows(1))
    gram = here.gram()
    here.gram = lambda weighted: gram
    with torch.device("meta"):
        assert make(name).factors(here) == expected


def test_the_default_dtype_does_not_matter(name, make, step, rows):
    expected = make(name).factors(step(rows(1)))
    torch.set_default_dtype(torch.float64)
    try:
        assert make(name).factors(step(rows(1))) == expected
    finally:
        torch.set_default_dtype(torch.float32)
