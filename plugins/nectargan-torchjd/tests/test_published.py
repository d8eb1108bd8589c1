"""Each weighting against the formula of its paper, computed from the gradients themselves, without TorchJD."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

SEEDS = range(5)


def factors(weighting, step, jacobian, at=0):
    return torch.tensor(weighting.factors(step(jacobian, step=at)), dtype=torch.float64)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def nearest(target, rows, bounds):
    """The vector nearest to a target with inner products with rows of at least bounds, by trying all sets of them."""
    candidates = []
    for size in range(len(rows) + 1):
        for chosen in map(list, itertools.combinations(range(len(rows)), size)):
            active = rows[chosen]
            multipliers = torch.linalg.solve(active @ active.T, bounds[chosen] - active @ target)
            found = target + multipliers @ active
            if (multipliers >= 0).all() and (rows @ found >= bounds - 1e-9).all():
                candidates.append(found)
    return min(candidates, key=lambda found: (found - target).norm())


@pytest.mark.parametrize("seed", SEEDS)
def test_mgda_of_two_losses_is_the_point_of_the_segment_nearest_to_zero(make, step, rows, seed):
    first, second = jacobian = rows(seed, losses=2)
    # Sener and Koltun, algorithm 1.
    share = ((second - first) @ second / (first - second).square().sum()).clamp(0, 1)
    close(factors(make("torchjd-mgda"), step, jacobian), torch.stack([share, 1 - share]))


@pytest.mark.parametrize("seed", SEEDS)
def test_mgda_is_near_the_shortest_average(make, step, rows, seed):
    jacobian = rows(seed, losses=4)
    weights = factors(make("torchjd-mgda", epsilon=1e-7, max_iters=500), step, jacobian)
    shortest = weights @ jacobian
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    # The optimality condition: no gradient has a smaller projection onto it than itself.
    assert ((jacobian @ shortest) - shortest @ shortest >= -1e-2 * shortest @ shortest).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_pcgrad_projects_each_gradient_out_of_those_that_it_conflicts_with(make, step, rows, seed):
    first, second = jacobian = rows(seed, losses=2)
    expected = torch.zeros_like(first)
    for one, other in ((first, second), (second, first)):
        dot = one @ other
        expected += one - dot / (other @ other) * other if dot < 0 else one
    close(factors(make("torchjd-pcgrad"), step, jacobian) @ jacobian, expected)


@pytest.mark.parametrize("at", range(5))
def test_pcgrad_visits_the_others_in_the_order_that_is_drawn(make, step, rows, drawing_at, at):
    jacobian = rows(at, losses=5)
    with drawing_at(at):
        orders = [torch.randperm(5).tolist() for _ in range(5)]
    expected = torch.zeros(jacobian.shape[1], dtype=torch.float64)
    for index, order in enumerate(orders):
        changed = jacobian[index].clone()
        for other in order:
            dot = changed @ jacobian[other]
            if other != index and dot < 0:
                changed -= dot / jacobian[other].square().sum() * jacobian[other]
        expected += changed
    close(factors(make("torchjd-pcgrad"), step, jacobian, at) @ jacobian, expected)


def test_gradvac_turns_a_gradient_to_the_usual_angle(make, step, rows):
    weighting = make("torchjd-gradvac", beta=0.25, eps=0.0)
    usual = {(0, 1): 0.0, (1, 0): 0.0}
    for seed in SEEDS:
        jacobian = rows(seed, losses=2)
        expected = torch.zeros(jacobian.shape[1], dtype=torch.float64)
        for one, other in usual:
            mine, theirs = jacobian[one], jacobian[other]
            now, target = torch.cosine_similarity(mine, theirs, dim=0), usual[one, other]
            if now < target:
                # Wang et al., equation 2: what makes the cosine the target.
                added = mine.norm() * (target * (1 - now**2).sqrt() - now * math.sqrt(1 - target**2))
                turned = mine + added / (theirs.norm() * math.sqrt(1 - target**2)) * theirs
                close(torch.cosine_similarity(turned, theirs, dim=0), torch.tensor(target, dtype=torch.float64))
                mine = turned
            expected += mine
            usual[one, other] = 0.75 * target + 0.25 * now.item()
        close(factors(weighting, step, jacobian) @ jacobian, expected, 1e-10)


@pytest.mark.parametrize(("mode", "length"), [("min", lambda s: s.min()), ("rmse", lambda s: s.square().mean().sqrt())])
@pytest.mark.parametrize("seed", SEEDS)
def test_aligned_mtl_gives_all_principal_components_one_length(make, step, rows, seed, mode, length):
    jacobian = rows(seed, losses=4)
    left, singular, right = torch.linalg.svd(jacobian, full_matrices=False)
    aligned = length(singular) * left @ right
    close(factors(make("torchjd-aligned-mtl", scale_mode=mode), step, jacobian) @ jacobian, aligned.mean(0))


@pytest.mark.parametrize("seed", SEEDS)
def test_imtl_g_has_one_projection_onto_all_gradients(make, step, rows, seed):
    jacobian = rows(seed, losses=4)
    weights = factors(make("torchjd-imtl-g"), step, jacobian)
    projections = torch.nn.functional.normalize(jacobian) @ (weights @ jacobian)
    assert weights.sum() == pytest.approx(1.0)
    close(projections, projections[0].expand(4))


def test_krum_averages_those_with_the_smallest_distances(make, step, rows):
    jacobian = rows(0, losses=6)
    distances = torch.cdist(jacobian, jacobian)
    # Without the largest 1 + 1 distances and the one of 0 to itself.
    scores = distances.sort(dim=1).values[:, 1:4].sum(1)
    expected = torch.zeros(6, dtype=torch.float64)
    expected[scores.argsort()[:2]] = 0.5
    close(factors(make("torchjd-krum", n_byzantine=1, n_selected=2), step, jacobian), expected)


@pytest.mark.parametrize("seed", SEEDS)
def test_pcd_is_nearest_to_the_primary_gradient_where_the_others_progress(make, step, rows, seed):
    jacobian = rows(seed, losses=3, entries=4)
    normalized = torch.nn.functional.normalize(jacobian)
    found = nearest(normalized[0], normalized[1:], torch.full((2,), 0.3, dtype=torch.float64))
    expected = found / found.norm() * jacobian[0].norm()
    close(factors(make("torchjd-pcd", tau=0.3, eps=0.0), step, jacobian) @ jacobian, expected, 1e-9)


def test_pcd_follows_the_loss_that_is_named(make, step):
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    close(
        factors(make("torchjd-pcd", primary="G_L1", tau=0.0), step, jacobian),
        torch.tensor([0.0, 1.0], dtype=torch.float64),
    )


def test_cr_mogm_is_a_moving_average_of_weights(make, step, rows):
    smooth, plain = make("torchjd-cr-mogm", alpha=0.8), make("torchjd-mgda")
    average = None
    for seed in SEEDS:
        new = factors(plain, step, rows(seed))
        average = new if average is None else 0.8 * average + 0.2 * new
        close(factors(smooth, step, rows(seed)), average)


@pytest.mark.parametrize("seed", SEEDS)
def test_cagrad_serves_the_loss_that_gains_least_in_a_ball_about_the_average(make, step, rows, seed):
    jacobian = rows(seed, losses=3, entries=4)
    array, average = jacobian.numpy(), jacobian.mean(0).numpy()
    radius = 0.4 * np.linalg.norm(average)
    # Liu et al., equation 1: the largest t such that each inner product is at least t.
    rises = [{"type": "ineq", "fun": lambda v, row=row: row @ v[:-1] - v[-1]} for row in array]
    ball = {"type": "ineq", "fun": lambda v: radius**2 - ((v[:-1] - average) ** 2).sum()}
    start = np.append(average, (array @ average).min())
    solved = minimize(lambda v: -v[-1], start, method="SLSQP", constraints=[*rises, ball], options={"ftol": 1e-12}).x
    found = factors(make("torchjd-cagrad", c=0.4), step, jacobian) @ jacobian
    assert (jacobian @ found).min() == pytest.approx(solved[-1], rel=1e-3)
    assert np.linalg.norm(found.numpy() - average) == pytest.approx(radius)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_fairgrad_solves_its_equation(make, step, rows, seed, alpha):
    jacobian = rows(seed, losses=4)
    weights = factors(make("torchjd-fairgrad", alpha=alpha), step, jacobian)
    # Ban and Ji, equation 4.
    close(jacobian @ (weights @ jacobian), weights ** (-1 / alpha), 1e-6)


def test_fairgrad_with_alpha_0_is_the_average(make, step, rows):
    close(factors(make("torchjd-fairgrad", alpha=0), step, rows(0)), torch.full((3,), 1 / 3, dtype=torch.float64))


def projected(vector, jacobian):
    return nearest(vector, jacobian, torch.zeros(len(jacobian), dtype=torch.float64))


@pytest.mark.parametrize("seed", SEEDS)
def test_upgrad_averages_projected_gradients(make, step, rows, seed):
    jacobian = rows(seed, losses=3, entries=4)
    expected = torch.stack([projected(row, jacobian) for row in jacobian]).mean(0)
    close(factors(make("torchjd-upgrad", reg_eps=1e-10), step, jacobian) @ jacobian, expected, 1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_dualproj_projects_the_average(make, step, rows, seed):
    jacobian = rows(seed, losses=3, entries=4)
    expected = projected(jacobian.mean(0), jacobian)
    close(factors(make("torchjd-dualproj", reg_eps=1e-10), step, jacobian) @ jacobian, expected, 1e-4)
