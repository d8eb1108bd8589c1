"""What weightings do with gradients that are 0, equal, opposite, very short, very long or in another order."""

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nectargan_torchjd import FairGrad
from nectargan_torchjd.smoothing import OTHERS

from nectargan_core.errors import NectarganWarning

FIRST = torch.tensor([3.0, 0.0, 0.0, 4.0], dtype=torch.float64)
SECOND = torch.tensor([0.0, 2.0, 1.0, 0.5], dtype=torch.float64)
DEGENERATE = {
    "all are 0": torch.zeros(3, 4, dtype=torch.float64),
    "one is 0": torch.stack([FIRST, 0 * FIRST, SECOND]),
    "all are equal": torch.stack([FIRST, FIRST, FIRST]),
    "two are opposite": torch.stack([FIRST, -FIRST, SECOND]),
    "all are parallel": torch.stack([FIRST, 2 * FIRST, -3 * FIRST]),
    "one is a sum of others": torch.stack([FIRST, SECOND, FIRST + SECOND]),
    "lengths differ a million times": torch.stack([1e-3 * FIRST, 1e3 * SECOND, FIRST - SECOND]),
}


@pytest.mark.filterwarnings("ignore::nectargan_core.errors.NectarganWarning")
@pytest.mark.parametrize("case", DEGENERATE)
def test_factors_are_finite_whatever_the_gradients_are(name, make, step, case):
    assert all(map(math.isfinite, make(name).factors(step(DEGENERATE[case]))))


@pytest.mark.parametrize("name_of_one", [name for name in OTHERS if name != "torchjd-krum"])
def test_one_loss_has_a_factor_that_is_not_negative(name_of_one, make, step):
    (factor,) = make(name_of_one).factors(step(FIRST[None]))
    assert factor > 0.0


@pytest.mark.parametrize(
    ("name_of_one", "expected"),
    [
        ("torchjd-mgda", 1.0),
        ("torchjd-pcgrad", 1.0),
        ("torchjd-gradvac", 1.0),
        ("torchjd-aligned-mtl", 1.0),
        ("torchjd-imtl-g", 1.0),
        ("torchjd-pcd", 1.0),
        ("torchjd-upgrad", 1.0),
        ("torchjd-dualproj", 1.0),
        ("torchjd-cagrad", 1.5),
        ("torchjd-fairgrad", 1 / 5),
    ],
)
def test_one_loss_alone_is_trained_as_it_is(name_of_one, expected, make, step):
    assert make(name_of_one).factors(step(FIRST[None])) == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize(
    "name_of_one", ["torchjd-mgda", "torchjd-imtl-g", "torchjd-aligned-mtl", "torchjd-upgrad", "torchjd-dualproj"]
)
def test_equal_gradients_are_averaged(name_of_one, make, step):
    rows = torch.stack([FIRST, FIRST, FIRST])
    factors = torch.tensor(make(name_of_one).factors(step(rows)), dtype=torch.float64)
    torch.testing.assert_close(factors @ rows, FIRST, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name_of_one", ["torchjd-pcgrad", "torchjd-gradvac"])
def test_equal_gradients_are_summed_by_those_that_sum(name_of_one, make, step):
    assert make(name_of_one).factors(step(torch.stack([FIRST, FIRST]))) == [1.0, 1.0]


@pytest.mark.parametrize(
    "name_of_one", ["torchjd-mgda", "torchjd-pcgrad", "torchjd-aligned-mtl", "torchjd-imtl-g", "torchjd-cagrad"]
)
def test_opposite_gradients_cancel(name_of_one, make, step):
    rows = torch.stack([FIRST, -FIRST])
    factors = torch.tensor(make(name_of_one).factors(step(rows)), dtype=torch.float64)
    assert (factors @ rows).norm() < 1e-12


@pytest.mark.parametrize(
    "name_of_one",
    ["torchjd-mgda", "torchjd-pcgrad", "torchjd-aligned-mtl", "torchjd-imtl-g", "torchjd-krum", "torchjd-cr-mogm"],
)
@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1e6, 1e10])
def test_the_scale_of_all_gradients_does_not_matter(name_of_one, scale, make, step, rows):
    expected = make(name_of_one).factors(step(rows(2)))
    assert make(name_of_one).factors(step(scale * rows(2))) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [10.0, 1e4])
def test_fairgrad_keeps_its_sum_whatever_the_scale(scale, make, step, rows):
    expected = make("torchjd-fairgrad").factors(step(rows(2)))
    found = make("torchjd-fairgrad").factors(step(scale * rows(2)))
    assert [factor * scale for factor in found] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "name_of_one",
    [name for name in OTHERS if name not in {"torchjd-pcd", "torchjd-pcgrad", "torchjd-gradvac"}],
)
@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(4)))
def test_the_order_of_the_losses_does_not_matter(name_of_one, make, step, rows, order):
    jacobian = rows(5, losses=4)
    expected = make(name_of_one).factors(step(jacobian))
    names = ("a", "b", "c", "d")
    found = make(name_of_one).factors(step(jacobian[list(order)], names=tuple(names[place] for place in order)))
    assert found == pytest.approx([expected[place] for place in order], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name_of_one", ["torchjd-imtl-g", "torchjd-fairgrad"])
def test_own_weights_change_nothing_where_only_angles_count(name_of_one, make, step, rows):
    jacobian, weights = rows(1), [10.0, 0.5, 2.0]
    applied = [
        factor * weight
        for factor, weight in zip(make(name_of_one).factors(step(jacobian, weights)), weights, strict=True)
    ]
    plain = make(name_of_one).factors(step(jacobian))
    assert [each / applied[0] for each in applied] == pytest.approx([each / plain[0] for each in plain], rel=1e-5)


@pytest.mark.parametrize("name_of_one", ["torchjd-mgda", "torchjd-upgrad", "torchjd-dualproj"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_no_loss_grows_along_the_sum(name_of_one, make, step, rows, seed):
    jacobian = rows(seed)
    params = {"epsilon": 1e-6, "max_iters": 300} if name_of_one == "torchjd-mgda" else {"reg_eps": 1e-9}
    direction = torch.tensor(make(name_of_one, **params).factors(step(jacobian)), dtype=torch.float64) @ jacobian
    assert (jacobian @ direction).min() >= -1e-2 * direction.norm() * jacobian.norm()


@pytest.mark.parametrize("name_of_one", ["torchjd-cagrad", "torchjd-upgrad", "torchjd-dualproj"])
def test_gradients_that_torchjd_takes_for_0_are_named_once(name_of_one, make, step, rows):
    weighting = make(name_of_one)
    with pytest.warns(NectarganWarning, match=r"of G_GAN, G_L1, G_VGG sum to .*below norm_eps, which is 0\.0001"):
        weighting.factors(step(1e-4 * rows(0)))
    weighting.factors(step(1e-4 * rows(0), step=1))


@pytest.mark.parametrize("name_of_one", ["torchjd-cagrad", "torchjd-upgrad", "torchjd-dualproj"])
def test_a_smaller_norm_eps_keeps_short_gradients(name_of_one, make, step, rows):
    expected = make(name_of_one, norm_eps=1e-12).factors(step(rows(0)))
    assert make(name_of_one, norm_eps=1e-12).factors(step(1e-4 * rows(0))) == pytest.approx(expected, rel=1e-3)


def test_cagrad_without_norm_eps_gives_0_for_gradients_of_0(make, step):
    assert make("torchjd-cagrad", norm_eps=0.0).factors(step(torch.zeros(2, 4))) == [0.0, 0.0]


def test_gradients_that_are_too_short_for_the_solver_of_fairgrad_are_named_once(step, rows):
    weighting = FairGrad(alpha=1.0)
    with pytest.warns(NectarganWarning, match=r"of G_GAN, G_L1, G_VGG have a norm of .*below 0\.01; multiply"):
        weighting.factors(step(1e-4 * rows(0)))
    weighting.factors(step(1e-4 * rows(0), step=1))
    FairGrad(alpha=0.0).factors(step(1e-4 * rows(0)))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_named(name, make, step, rows, value):
    jacobian = rows(0)
    jacobian[1, 3] = value
    weighting = make(name)
    before = json.dumps(weighting.state_dict()) if hasattr(weighting, "state_dict") else None
    with pytest.raises(ValueError, match=r"^the gradient of G_L1 is not finite"):
        weighting.factors(step(jacobian))
    assert before is None or json.dumps(weighting.state_dict()) == before


def test_what_a_solver_cannot_solve_is_said_with_the_norms(make, step, name, monkeypatch):
    def fail(self, gramian):
        raise ArithmeticError("Failed to solve")

    weighting = make(name)
    monkeypatch.setattr(type(weighting.torchjd), "forward", fail)
    with pytest.raises(ValueError, match=r"^TorchJD cannot weigh .* the norms 5, 2.29, .*: Failed to solve$"):
        weighting.factors(step(torch.stack([FIRST, SECOND, FIRST])))
