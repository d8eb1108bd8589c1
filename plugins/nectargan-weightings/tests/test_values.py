"""The weightings that need values, against an independent computation in numpy, and their special cases."""

import math

import numpy as np
import pytest
import torch
from nectargan_weightings import DynamicWeightAverage, RandomWeighting, ReLoBRaLo, SoftAdapt
from nectargan_weightings.draws import normal, uniform
from nectargan_weightings.softmax import softmax

NAMES = ("a", "b", "c")


def series(count, losses=3, seed=0):
    generator = np.random.default_rng(seed)
    return generator.uniform(0.2, 2.0, (count, losses)) * np.exp(-np.arange(count)[:, None] * [0.3, 0.1, 0.02][:losses])


def scipy_softmax(scores):
    powers = np.exp(np.asarray(scores) - np.max(scores))
    return len(powers) * powers / powers.sum()


# dwa


def mtan(costs, temperature):
    """The weights of each epoch, as the training script of MTAN has them, of the values of each batch in each epoch."""
    means = costs.mean(1)
    weights = np.ones_like(means)
    for index in range(2, len(means)):
        weights[index] = scipy_softmax(means[index - 1] / means[index - 2] / temperature)
    return weights


@pytest.mark.parametrize("temperature", [2.0, 0.1, 100.0])
def test_dwa_is_the_script_of_its_authors(step, temperature):
    costs = series(6 * 4).reshape(6, 4, 3)
    weighting = DynamicWeightAverage(temperature=temperature)
    for epoch, expected in enumerate(mtan(costs, temperature)):
        for batch, values in enumerate(costs[epoch]):
            factors = weighting.factors(step(NAMES, values.tolist(), epoch=epoch + batch / 4))
            np.testing.assert_allclose(factors, expected, rtol=1e-12)


def test_dwa_has_factors_of_exactly_1_in_the_first_two_epochs(step):
    weighting = DynamicWeightAverage()
    for epoch in (0, 0.5, 1, 1.5):
        assert weighting.factors(step(NAMES, [3.0, 2.0, 1.0], epoch=epoch)) == [1.0, 1.0, 1.0]


def test_dwa_counts_epochs_in_which_there_were_calls(step):
    weighting, others = DynamicWeightAverage(), DynamicWeightAverage()
    for epoch, values in enumerate([[4.0, 4.0], [2.0, 4.0], [1.0, 1.0]]):
        factors = weighting.factors(step(NAMES[:2], values, epoch=epoch))
        expected = others.factors(step(NAMES[:2], values, epoch=10 + 7 * epoch))
    assert factors == expected == pytest.approx(scipy_softmax([0.25, 0.5]), rel=1e-12)


def test_dwa_without_epochs_keeps_factors_of_1(step):
    weighting = DynamicWeightAverage()
    for index in range(5):
        assert weighting.factors(step(NAMES, series(5)[index].tolist(), step=index)) == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("missing", [0, 1])
def test_dwa_gives_1_to_a_loss_that_lacks_one_of_the_epochs(step, missing):
    weighting = DynamicWeightAverage()
    for epoch, values in enumerate([[4.0, 4.0, 1.0], [2.0, 4.0, 5.0]]):
        count = 2 if epoch == missing else 3
        weighting.factors(step(NAMES[:count], values[:count], epoch=epoch))
    factors = weighting.factors(step(NAMES, [1.0, 1.0, 1.0], epoch=2))
    assert factors == pytest.approx([*scipy_softmax([0.25, 0.5]), 1.0], rel=1e-12)


@pytest.mark.parametrize(("before", "after"), [(0.0, 0.0), (0.0, 1.0), (-1.0, -2.0), (-1.0, 1.0)])
def test_dwa_gives_1_to_a_loss_without_a_ratio(step, before, after):
    weighting = DynamicWeightAverage()
    for epoch, values in enumerate([[4.0, 4.0, before], [2.0, 4.0, after]]):
        weighting.factors(step(NAMES, values, epoch=epoch))
    factors = weighting.factors(step(NAMES, [1.0, 1.0, 1.0], epoch=2))
    assert factors == pytest.approx([*scipy_softmax([0.25, 0.5]), 1.0], rel=1e-12)


def test_dwa_leaves_values_out_that_are_not_finite(step):
    weighting, clean = DynamicWeightAverage(), DynamicWeightAverage()
    for epoch, values in enumerate([[4.0, 4.0], [2.0, 4.0], [1.0, 1.0]]):
        weighting.factors(step(NAMES[:2], [math.nan, math.inf], epoch=epoch))
        factors = weighting.factors(step(NAMES[:2], values, epoch=epoch))
        assert factors == clean.factors(step(NAMES[:2], values, epoch=epoch))


# relobralo


def relobralo(losses, alpha, temperature, rho):
    """The factors of each step, with rho_t given for each, as in the paper, but for the first two steps."""
    factors = [np.ones(losses.shape[1])]
    for t in range(1, len(losses)):
        last = scipy_softmax(losses[t] / (temperature * losses[t - 1] + 1e-12))
        first = scipy_softmax(losses[t] / (temperature * losses[0] + 1e-12))
        history = rho[t] * factors[-1] + (1 - rho[t]) * first
        factors.append(last if t == 1 else alpha * history + (1 - alpha) * last)
    return factors


@pytest.mark.parametrize("params", [(0.999, 0.1, 0.99), (0.9, 1.0, 0.5), (0.0, 0.5, 1.0), (1.0, 2.0, 0.0)])
def test_relobralo_is_the_equations_of_the_paper(step, params):
    losses, (alpha, temperature, rho) = series(40), params
    draws = [1.0 if uniform(5, index) <= rho else 0.0 for index in range(40)]
    weighting = ReLoBRaLo(alpha=alpha, temperature=temperature, rho=rho, seed=5)
    for index, expected in enumerate(relobralo(losses, alpha, temperature, draws)):
        factors = weighting.factors(step(NAMES, losses[index].tolist(), step=index))
        np.testing.assert_allclose(factors, expected, rtol=1e-9)


def test_relobralo_looks_back_as_often_as_rho_says(step):
    weighting = ReLoBRaLo(alpha=1.0, temperature=1.0, rho=0.75)
    back = 0
    for index in range(2000):
        # Factors stay but for a look back, after which they follow from the first values again.
        before = weighting.state_dict()["factors"]
        weighting.factors(step(NAMES[:2], [1.0 + index / 1000, 1.0], step=index))
        back += index > 1 and weighting.state_dict()["factors"] != before
    assert back == pytest.approx(500, abs=60)


def test_relobralo_begins_anew_with_a_loss_that_joins(step):
    weighting = ReLoBRaLo(temperature=1.0)
    for index, values in enumerate([[2.0, 2.0], [1.0, 2.0]]):
        weighting.factors(step(NAMES[:2], values, step=index))
    first = weighting.factors(step(NAMES, [1.0, 1.0, 8.0], step=2))
    second = weighting.factors(step(NAMES, [1.0, 1.0, 4.0], step=3))
    assert first[2] == 1.0
    assert second[2] == pytest.approx(scipy_softmax([1.0, 1.0, 0.5])[2], rel=1e-9)


@pytest.mark.parametrize("first", [0.0, -1.0])
def test_relobralo_gives_1_to_a_loss_without_a_ratio(step, first):
    weighting = ReLoBRaLo(temperature=1.0)
    weighting.factors(step(NAMES, [2.0, 2.0, first], step=0))
    factors = weighting.factors(step(NAMES, [1.0, 2.0, 0.5], step=1))
    assert factors == pytest.approx([*scipy_softmax([0.5, 1.0]), 1.0], rel=1e-9)


def test_relobralo_keeps_the_factor_of_a_loss_that_is_not_finite(step):
    weighting = ReLoBRaLo(temperature=1.0)
    for index, values in enumerate([[2.0, 2.0], [1.0, 2.0]]):
        before = weighting.factors(step(NAMES[:2], values, step=index))
    after = weighting.factors(step(NAMES[:2], [math.nan, 2.0], step=2))
    assert after[0] == before[0]
    assert weighting.state_dict()["last"]["a"] == 1.0


def test_relobralo_draws_the_same_for_a_step_whatever_came_before(step):
    losses = series(40)
    short, whole = ReLoBRaLo(rho=0.5), ReLoBRaLo(rho=0.5)
    for index in range(40):
        factors = whole.factors(step(NAMES, losses[index].tolist(), step=index))
        if index == 20:
            short.load_state_dict(whole.state_dict())
        if index > 20:
            assert short.factors(step(NAMES, losses[index].tolist(), step=index)) == factors


# softadapt


def slope(values):
    """The derivative at the first of the points 0, 1, … of the polynomial through all of them."""
    return np.polynomial.polynomial.polyfit(np.arange(len(values)), values, len(values) - 1)[1]


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("variant", ["original", "normalized", "loss-weighted"])
def test_softadapt_is_the_softmax_of_slopes(step, order, variant):
    losses = series(20)
    weighting = SoftAdapt(beta=0.7, accuracy_order=order, variant=variant)
    for index in range(20):
        factors = weighting.factors(step(NAMES, losses[index].tolist()))
        if index < order:
            assert factors == [1.0, 1.0, 1.0]
            continue
        window = losses[index - order : index + 1]
        slopes = np.array([slope(column) for column in window.T])
        if variant == "normalized":
            slopes = slopes / (np.abs(slopes).sum() + 1e-8)
        expected = np.exp(0.7 * slopes) * (window.mean(0) if variant == "loss-weighted" else 1.0)
        np.testing.assert_allclose(factors, 3 * expected / expected.sum(), rtol=1e-6)


# What the authors' package gives, times 3, for five values of three losses; for its README and for another set.
README = [[1, 2, 3, 4, 5], [150, 100, 50, 10, 0.1], [1500, 1000, 500, 100, 1]]
OTHER = [[0.5, 0.4, 0.45, 0.3, 0.31], [2.0, 1.9, 1.7, 1.6, 1.2], [0.1, 0.3, 0.2, 0.25, 0.2]]


@pytest.mark.parametrize(
    ("variant", "order", "losses", "expected"),
    [
        ("original", 4, README, [2.98030008, 0.0196998813, 1.16724268e-21]),
        ("original", 3, README, [2.97847600, 0.0215239666, 2.84538594e-21]),
        ("original", 1, OTHER, [1.01562467, 0.974826147, 1.00954917]),
        ("original", 4, OTHER, [0.941363267, 1.00316215, 1.05547457]),
        ("loss-weighted", 4, README, [2.63933160, 0.36066839, 2.13700548e-19]),
        ("loss-weighted", 1, OTHER, [0.488673749, 2.15298573, 0.358340504]),
        ("loss-weighted", 2, OTHER, [0.500032348, 2.18305665, 0.316910986]),
    ],
)
def test_softadapt_gives_what_the_package_of_its_authors_gives(step, variant, order, losses, expected):
    weighting = SoftAdapt(accuracy_order=order, variant=variant)
    for values in zip(*losses, strict=True):
        factors = weighting.factors(step(NAMES, list(values)))
    assert factors == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])
def test_softadapt_gives_nothing_to_a_loss_whose_mean_is_not_above_0(step, values):
    weighting = SoftAdapt(accuracy_order=2, variant="loss-weighted")
    for value in values:
        factors = weighting.factors(step(("a", "b"), [1.0, value]))
    assert factors == [2.0, 0.0]


def test_softadapt_gives_1_to_all_where_no_mean_is_above_0(step):
    weighting = SoftAdapt(accuracy_order=1, variant="loss-weighted")
    for _ in range(3):
        factors = weighting.factors(step(("a", "b"), [0.0, -1.0]))
    assert factors == [1.0, 1.0]


def test_softadapt_gives_1_to_all_where_nothing_changes(step):
    for variant in ("original", "normalized"):
        weighting = SoftAdapt(accuracy_order=2, variant=variant)
        for _ in range(4):
            factors = weighting.factors(step(NAMES, [5.0, 1.0, 0.0]))
        assert factors == [1.0, 1.0, 1.0]


def test_softadapt_with_a_beta_below_0_favours_the_loss_that_falls(step):
    weighting = SoftAdapt(beta=-1.0, accuracy_order=1)
    for values in ([2.0, 2.0], [1.0, 2.0]):
        factors = weighting.factors(step(("a", "b"), values))
    assert factors[0] > 1.0 > factors[1]


# random


def test_random_is_the_softmax_of_a_normal_draw_for_each_name(step):
    factors = RandomWeighting(seed=7).factors(step(NAMES, [1.0, 1.0, 1.0], step=11))
    assert factors == pytest.approx(scipy_softmax([normal(7, 11, name) for name in NAMES]), rel=1e-12)


def test_random_draws_by_seed_and_step_alone(step):
    first, second, other = RandomWeighting(seed=1), RandomWeighting(seed=1), RandomWeighting(seed=2)
    for index in (3, 4, 10**15):
        now = step(NAMES, [1.0, 2.0, 3.0], step=index)
        assert first.factors(now) == second.factors(step(NAMES, [9.0, 9.0, 9.0], step=index)) != other.factors(now)
    assert first.factors(step(NAMES, [1.0] * 3, step=1)) != first.factors(step(NAMES, [1.0] * 3, step=2))


def test_random_draws_the_same_relative_to_each_other_with_one_loss_more(step):
    two = RandomWeighting().factors(step(("a", "b"), [1.0] * 2, step=5))
    three = RandomWeighting().factors(step(("c", "a", "b"), [1.0] * 3, step=5))
    assert three[1] / three[2] == pytest.approx(two[0] / two[1], rel=1e-12)


def test_draws_follow_their_distributions():
    count, even = 4000, (np.arange(4000) + 0.5) / 4000
    a, b = ([normal(0, index, name) for index in range(count)] for name in "ab")
    for draws in (
        [uniform(0, index) for index in range(count)],
        [0.5 + 0.5 * math.erf(each / math.sqrt(2.0)) for each in a],
    ):
        # The critical value of Kolmogorov and Smirnov for 1 percent.
        assert np.abs(np.sort(draws) - even).max() < 1.63 / math.sqrt(count)
    assert np.corrcoef(a, b)[0, 1] == pytest.approx(0.0, abs=0.05)


def test_a_name_that_no_encoding_has_can_be_drawn_for():
    assert math.isfinite(normal(0, 0, "\udc80"))


# softmax


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([], []),
        ([math.inf, 1.0], [2.0, 0.0]),
        ([math.inf, math.inf, 0.0], [1.5, 1.5, 0.0]),
        ([-math.inf, -math.inf], [1.0, 1.0]),
        ([-math.inf, 3.0], [0.0, 2.0]),
        ([1e308, -1e308], [2.0, 0.0]),
        ([0.1] * 49, [1.0] * 49),
    ],
)
def test_the_softmax_of_large_scores_is_finite(scores, expected):
    assert list(softmax(dict(enumerate(scores))).values()) == expected


def test_the_softmax_is_that_of_torch():
    scores = torch.randn(7, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 10
    factors = softmax(dict(enumerate(scores.tolist())))
    assert list(factors.values()) == pytest.approx((7 * torch.softmax(scores, 0)).tolist(), rel=1e-12)
