"""The weightings that need gradients, against an independent computation in torch, and their special cases."""

import math

import numpy as np
import pytest
import torch
from nectargan_weightings import Balancer, GradNorm, LastLayer

NAMES = ("a", "b", "c")


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def rows_of(norms):
    """Return gradients with these norms."""
    return [[torch.tensor([0.6, 0.8], dtype=torch.float64) * norm] for norm in norms]


# gradnorm


def paper(values, norms, alpha, lr):
    """The factors of each step by algorithm 1 of the paper, its gradient by autograd and its update by torch's Adam."""
    weights = torch.ones(values.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=lr)
    factors = []
    for value, norm in zip(values, norms, strict=True):
        factors.append(weights.detach().clone())
        sizes = weights * norm
        left = value / values[0]
        target = (sizes.mean() * (left / left.mean()) ** alpha).detach()
        optimizer.zero_grad()
        (sizes - target).abs().sum().backward()
        optimizer.step()
        with torch.no_grad():
            weights.clamp_(min=1e-3)
            weights.mul_(len(weights) / weights.sum())
    return factors


@pytest.mark.parametrize(("alpha", "lr"), [(1.5, 0.025), (0.0, 0.1), (0.12, 0.5)])
def test_gradnorm_is_algorithm_1_of_the_paper(step, alpha, lr):
    values = random(60, 3).abs() + 0.1
    norms = (random(60, 3, seed=1).abs() * torch.tensor([10.0, 1.0, 0.1])).float().double()
    weighting = GradNorm(alpha=alpha, lr=lr)
    for index, expected in enumerate(paper(values, norms, alpha, lr)):
        now = step(NAMES, values[index].tolist(), rows=rows_of(norms[index].tolist()))
        torch.testing.assert_close(torch.tensor(weighting.factors(now)).double(), expected, rtol=1e-4, atol=1e-6)


def test_gradnorm_begins_with_1(step):
    now = step(NAMES, [1.0, 2.0, 3.0], rows=rows_of([100.0, 1.0, 0.01]))
    assert GradNorm().factors(now) == [1.0, 1.0, 1.0]


def test_gradnorm_does_not_read_the_weights_of_losses(step):
    one, other = GradNorm(), GradNorm()
    for index in range(20):
        rows = rows_of([100.0, 1.0, 0.01])
        weighted = step(NAMES, [1.0, 1.0, 1.0], [index / 20, 5.0, -3.0], rows=rows)
        assert one.factors(step(NAMES, [1.0, 1.0, 1.0], rows=rows)) == other.factors(weighted)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_gradnorm_moves_as_fast_whatever_the_scale_of_the_losses(step, scale):
    weighting = GradNorm(lr=0.1)
    for _ in range(5):
        factors = weighting.factors(step(NAMES[:2], [scale, scale], rows=rows_of([3.0 * scale, 1.0 * scale])))
    assert factors == pytest.approx([0.6, 1.4], abs=0.02)


def test_gradnorm_makes_gradients_of_one_size(step):
    weighting = GradNorm(alpha=0.0, lr=0.01)
    for _ in range(600):
        factors = weighting.factors(step(NAMES, [1.0, 1.0, 1.0], rows=rows_of([4.0, 2.0, 1.0])))
    sizes = np.multiply(factors, [4.0, 2.0, 1.0])
    assert sizes == pytest.approx(sizes.mean(), rel=0.1)


def test_gradnorm_gives_a_larger_gradient_to_a_loss_that_is_behind(step):
    weighting = GradNorm(alpha=1.0, lr=0.01)
    weighting.factors(step(NAMES[:2], [1.0, 1.0], rows=rows_of([1.0, 1.0])))
    for _ in range(300):
        factors = weighting.factors(step(NAMES[:2], [0.5, 1.0], rows=rows_of([1.0, 1.0])))
    assert factors[1] / factors[0] == pytest.approx(2.0, rel=0.1)


def test_gradnorm_never_gives_a_negative_factor(step):
    weighting = GradNorm(lr=5.0)
    for index in range(50):
        factors = weighting.factors(step(NAMES[:2], [1.0, 1.0], rows=rows_of([1.0, 100.0 if index % 2 else 0.01])))
        assert min(factors) > 0.0
        assert sum(factors) == pytest.approx(2.0, rel=1e-12)


@pytest.mark.parametrize("first", [0.0, -2.0])
def test_gradnorm_counts_a_loss_without_a_ratio_as_neither_ahead_nor_behind(step, first):
    weighting = GradNorm(alpha=2.0, lr=0.01)
    weighting.factors(step(NAMES[:2], [1.0, first], rows=rows_of([2.0, 1.0])))
    for value in (first, 1.0, -1.0) * 100:
        factors = weighting.factors(step(NAMES[:2], [0.3, value], rows=rows_of([2.0, 1.0])))
    assert np.multiply(factors, [2.0, 1.0]) == pytest.approx(4 / 3, rel=0.05)


@pytest.mark.parametrize(("values", "norms"), [([math.nan, 1.0], [1.0, 2.0]), ([1.0, 1.0], [math.inf, 2.0])])
def test_gradnorm_updates_nothing_where_something_is_not_finite(step, values, norms):
    weighting = GradNorm()
    for _ in range(3):
        weighting.factors(step(NAMES[:2], [1.0, 1.0], rows=rows_of([1.0, 2.0])))
    before = weighting.state_dict()
    weighting.factors(step(NAMES[:2], values, rows=[[torch.tensor([norm])] for norm in norms]))
    assert weighting.state_dict() == before


# last-layer


def taming(network, losses, weights, place):
    """The adaptive weight as the code of VQGAN computes it."""
    rest = sum(
        weight * loss for index, (weight, loss) in enumerate(zip(weights, losses, strict=True)) if index != place
    )
    of_rest = torch.autograd.grad(rest, network.weight, retain_graph=True)[0]
    own = torch.autograd.grad(losses[place], network.weight, retain_graph=True)[0]
    return torch.clamp(torch.norm(of_rest) / (torch.norm(own) + 1e-4), 0.0, 1e4).item()


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-6, 1e4])
def test_last_layer_is_the_code_of_vqgan(step, scale):
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3)
    output = network(torch.randn(2, 3, 8, 8))
    losses = [output.abs().mean(), scale * -torch.tanh(output).mean(), (output**2).mean()]
    weights = [1.0, 0.8, 0.3]
    rows = [[torch.autograd.grad(loss, network.weight, retain_graph=True)[0]] for loss in losses]
    now = step(("G_L1", "G_GAN", "G_VGG"), [loss.item() for loss in losses], weights, rows=rows)
    factors = LastLayer(loss="G_GAN").factors(now)
    assert factors == pytest.approx([1.0, taming(network, losses, weights, 1), 1.0], rel=1e-5)


def test_last_layer_takes_several_tensors_as_one(step):
    rows = [[random(4, 3, seed=2 * place), random(4, seed=2 * place + 1)] for place in range(3)]
    flat = [torch.cat([each.reshape(-1) for each in row]) for row in rows]
    factors = LastLayer(loss="c").factors(step(NAMES, [1.0] * 3, [2.0, -0.5, 9.0], rows=rows))
    expected = (2.0 * flat[0] - 0.5 * flat[1]).norm() / (flat[2].norm() + 1e-4)
    assert factors == pytest.approx([1.0, 1.0, expected.item()], rel=1e-12)


@pytest.mark.parametrize("names", [("a", "c"), ("b",), ("a",)])
def test_last_layer_gives_1_to_all_while_the_loss_or_every_other_one_does_not_run(step, names):
    now = step(names, [1.0] * len(names), rows=rows_of([3.0] * len(names)))
    assert LastLayer(loss="b").factors(now) == [1.0] * len(names)


def test_last_layer_is_limited(step):
    rows = rows_of([5.0, 0.0])
    assert LastLayer(loss="b").factors(step(("a", "b"), [1.0] * 2, rows=rows)) == [1.0, 1e4]
    assert LastLayer(loss="b", maximum=7.0).factors(step(("a", "b"), [1.0] * 2, rows=rows)) == [1.0, 7.0]
    assert LastLayer(loss="b", epsilon=0.0).factors(step(("a", "b"), [1.0] * 2, rows=rows)) == [1.0, 1e4]


@pytest.mark.parametrize("epsilon", [0.0, 1e-4])
def test_last_layer_gives_0_where_the_others_have_no_gradient(step, epsilon):
    for own in (0.0, 3.0):
        now = step(("a", "b"), [1.0] * 2, rows=rows_of([0.0, own]))
        assert LastLayer(loss="b", epsilon=epsilon).factors(now) == [1.0, 0.0]


@pytest.mark.parametrize(("norms", "broken"), [([math.inf, 1.0], "a"), ([1.0, math.nan], "b")])
def test_last_layer_refuses_a_gradient_that_is_not_finite(step, norms, broken):
    rows = [[torch.tensor([norm])] for norm in norms]
    with pytest.raises(ValueError, match=f"^the gradient of {broken} is not finite"):
        LastLayer(loss="b").factors(step(("a", "b"), [1.0] * 2, rows=rows))


def test_last_layer_refuses_gradients_whose_sum_is_not_finite(step):
    rows = [[torch.tensor([3e38])] for _ in range(3)]
    with pytest.raises(ValueError, match="^the sum of the gradients of a, b, c is not finite"):
        LastLayer(loss="c").factors(step(("a", "b", "c"), [1.0] * 3, rows=rows))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_last_layer_sums_half_precision_in_single(step, dtype):
    rows = [[random(400, seed=place, dtype=dtype) * 100] for place in range(3)]
    expected = LastLayer(loss="c").factors(step(NAMES, [1.0] * 3, rows=[[row[0].double()] for row in rows]))
    factors = LastLayer(loss="c").factors(step(NAMES, [1.0] * 3, [1.0] * 3, rows=rows))
    assert factors == pytest.approx(expected, rel=1e-5)
    small = [[row[0] * 1e-5] for row in rows]
    large = LastLayer(loss="c").factors(step(NAMES, [1.0] * 3, [1e6, 1e6, 1.0], rows=small))
    assert 1e4 >= large[2] > 1e3


# balancer


def audiocraft(gradients, weights, decay, total_norm=1.0):
    """The gradient that the balancer of audiocraft hands back at each step, of one tensor a loss and step."""
    sums, count, results = np.zeros(len(weights)), 0.0, []
    for each in gradients:
        norms = np.array([np.linalg.norm(one.reshape(len(one), -1), axis=1).mean() for one in each])
        sums, count = sums * decay + norms, count * decay + 1.0
        scales = np.array(weights) / sum(weights) * total_norm / (1e-12 + sums / count)
        results.append(sum(scale * one for scale, one in zip(scales, each, strict=True)))
    return results


@pytest.mark.parametrize(("decay", "total_norm"), [(0.999, 1.0), (0.5, 3.0), (1.0, 1.0), (0.0, 0.1)])
def test_balancer_is_that_of_the_authors(step, decay, total_norm):
    weights = [4.0, 0.1, 2.0]
    gradients = random(12, 3, 5, 2, 7).numpy() * np.array([100.0, 1.0, 1e-4])[:, None, None, None]
    weighting = Balancer(ema_decay=decay, total_norm=total_norm)
    for each, expected in zip(gradients, audiocraft(gradients, weights, decay, total_norm), strict=True):
        factors = weighting.factors(step(NAMES, [1.0] * 3, weights, rows=[[torch.tensor(one)] for one in each]))
        applied = sum(weight * factor * one for weight, factor, one in zip(weights, factors, each, strict=True))
        np.testing.assert_allclose(applied, expected, rtol=1e-12)


def test_balancer_takes_the_batch_as_a_whole_where_it_is_told_to(step):
    gradient = random(5, 2, 7)
    factors = Balancer(per_batch_item=False).factors(step(("a",), [1.0], [3.0], rows=[[gradient]]))
    assert factors == pytest.approx([1.0 / (3.0 * gradient.norm().item())], rel=1e-12)


def test_balancer_takes_several_outputs_as_one(step):
    rows = [[random(5, 2, 7), random(5, seed=1)]]
    expected = torch.cat([rows[0][0].flatten(1), rows[0][1][:, None]], dim=1).norm(dim=1).mean()
    assert Balancer().factors(step(("a",), [1.0], rows=rows)) == pytest.approx([1.0 / expected.item()], rel=1e-12)


def test_balancer_gives_0_to_a_loss_whose_gradients_were_0(step):
    weighting = Balancer()
    assert weighting.factors(step(("a", "b"), [1.0] * 2, rows=rows_of([0.0, 2.0])))[0] == 0.0
    factors = weighting.factors(step(("a", "b"), [1.0] * 2, rows=rows_of([3.0, 2.0])))
    norm = np.mean([0.6 * 3.0, 0.8 * 3.0])
    assert factors[0] == pytest.approx(0.5 / (norm / 1.999), rel=1e-9)


def test_balancer_averages_a_loss_over_the_steps_in_which_it_runs(step):
    weighting, alone = Balancer(ema_decay=0.5), Balancer(ema_decay=0.5)
    for index in range(6):
        rows = [[random(4, 3, seed=2 * index)], [random(4, 3, seed=2 * index + 1)]]
        count = 2 if index % 2 else 1
        factors = weighting.factors(step(NAMES[:count], [1.0] * count, rows=rows[:count]))
        if count == 2:
            expected = alone.factors(step(("b",), [1.0], rows=rows[1:]))[0]
            assert factors[1] == pytest.approx(expected / 2, rel=1e-12)


def test_balancer_shares_by_the_size_of_a_weight_that_is_negative(step):
    rows = rows_of([1.0, 1.0])
    assert Balancer().factors(step(("a", "b"), [1.0] * 2, [1.0, -1.0], rows=rows)) == Balancer().factors(
        step(("a", "b"), [1.0] * 2, [1.0, 1.0], rows=rows)
    )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_balancer_takes_norms_of_half_precision_in_single(step, dtype):
    gradient = torch.full((2, 10_000), 200.0, dtype=dtype)
    assert Balancer().factors(step(("a",), [1.0], rows=[[gradient]])) == pytest.approx([1 / 20_000], rel=1e-6)


def test_balancer_leaves_norms_out_that_are_not_finite(step):
    weighting = Balancer()
    before = weighting.factors(step(("a",), [1.0], rows=rows_of([2.0])))
    assert weighting.factors(step(("a",), [1.0], rows=[[torch.tensor([math.inf, 1.0])]])) == before


def test_balancer_begins_with_1_where_no_norm_has_been_finite(step):
    assert Balancer().factors(step(("a",), [1.0], rows=[[torch.tensor([math.nan])]])) == [1.0]


@pytest.mark.parametrize("shapes", [[()], [(3, 2), (2,)]])
def test_balancer_refuses_a_wrt_that_is_no_batch(step, shapes):
    with pytest.raises(ValueError, match="the first dimension counts the samples of a batch"):
        Balancer().factors(step(("a",), [1.0], rows=[[torch.ones(shape) for shape in shapes]]))
    assert len(Balancer(per_batch_item=False).factors(step(("a",), [1.0], rows=[[torch.ones(s) for s in shapes]]))) == 1
