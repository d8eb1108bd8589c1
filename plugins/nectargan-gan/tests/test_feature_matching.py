"""`FeatureMatching`: its values against the authors' code, its gradients, lists and errors."""

import pytest
import torch
from nectargan_gan import FeatureMatching

from nectargan_core.testing import LossTests

SHAPES = [(2, 8, 16, 16), (2, 16, 8, 8), (2, 32, 4, 4)]


def features(seed, discriminators=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES[place:]]
        for place in range(discriminators)
    ]


class TestFeatureMatching(LossTests):
    function = FeatureMatching()
    inputs = ("features_fake", "features_real")
    gradcheck = True


class TestSeveralDiscriminators(LossTests):
    function = FeatureMatching(over_discriminators="sum")
    inputs = ("features_fake", "features_real")
    gradcheck = True

    def make_inputs(self, batch_size):
        generator = torch.Generator().manual_seed(batch_size)
        made = [
            [[torch.randn(batch_size, 4, 6, generator=generator)], [torch.randn(batch_size, 2, generator=generator)]]
            for _ in range(2)
        ]
        return {"features_fake": made[0], "features_real": made[1]}


def test_it_is_the_loss_of_spade():
    """`compute_generator_loss` of `pix2pix_model.py`, without lambda_feat: features are without the judgement."""
    fake, real = features(0), features(1)
    expected = 0.0
    for one, two in zip(fake, real, strict=True):
        for each, other in zip(one, two, strict=True):
            expected += (each.double() - other.double()).abs().mean().item() / len(fake)
    assert FeatureMatching()(fake, real).item() == pytest.approx(expected, rel=1e-5)


def test_a_sum_is_half_the_loss_of_hifigan():
    """`feature_loss` of `models.py`, which multiplies by 2."""
    fake, real = features(0), features(1)
    expected = 0.0
    for one, two in zip(fake, real, strict=True):
        for each, other in zip(one, two, strict=True):
            expected += torch.mean(torch.abs(each - other)).item()
    found = 2 * FeatureMatching(over_discriminators="sum")(fake, real)
    assert found.item() == pytest.approx(2 * expected, rel=1e-5)


def test_a_list_of_maps_is_one_discriminator():
    fake, real = features(0), features(1)
    assert torch.equal(FeatureMatching()(fake[0], real[0]), FeatureMatching()(fake[:1], real[:1]))
    assert torch.equal(FeatureMatching()(tuple(fake[0]), real[0]), FeatureMatching()(fake[:1], real[:1]))


def test_features_of_real_samples_get_no_gradient():
    fake, real = torch.zeros(2, 3, requires_grad=True), torch.ones(2, 3, requires_grad=True)
    FeatureMatching()([fake], [real]).backward()
    torch.testing.assert_close(fake.grad, torch.full((2, 3), -1 / 6))
    assert real.grad is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_averaged_in_float32(dtype):
    fake, real = features(0, dtype=dtype), features(1, dtype=dtype)
    found = FeatureMatching()(fake, real)
    wide = FeatureMatching()([[m.float() for m in maps] for maps in fake], [[m.float() for m in maps] for maps in real])
    assert found.dtype == torch.float32
    # Of each difference, rounded once.
    torch.testing.assert_close(found, wide, rtol=torch.finfo(dtype).eps, atol=0)


def test_maps_of_two_dtypes_are_compared_in_the_wider_one():
    fake, real = features(0, dtype=torch.bfloat16), features(1)
    assert FeatureMatching()(fake, real).dtype == torch.float32
    assert FeatureMatching()(features(0, dtype=torch.float64), real).dtype == torch.float64


MAP = torch.zeros(1, 2)


@pytest.mark.parametrize(
    ("fake", "real", "error", "said"),
    [
        (MAP, [MAP], TypeError, "features_fake is of type Tensor"),
        ([MAP], {"conv1": MAP}, TypeError, "features_real is of type dict"),
        ([], [], ValueError, "at least one map; features_fake is empty"),
        ([[MAP], []], [[MAP], [MAP]], ValueError, r"features_fake\[1\] is empty"),
        ([MAP, [MAP]], [MAP, [MAP]], TypeError, r"features_fake\[0\] is of type Tensor"),
        ([[MAP, None]], [[MAP, MAP]], TypeError, r"features_fake\[0\]\[1\] is of type NoneType"),
        ([MAP, MAP], [MAP], ValueError, r"they are \[2\] and \[1\]"),
        ([[MAP], [MAP]], [[MAP]], ValueError, r"they are \[1, 1\] and \[1\]"),
        ([MAP, MAP], [MAP, torch.zeros(1, 1)], ValueError, r"map 1 of discriminator 0 is \(1, 2\) in features_fake"),
        ([MAP.int()], [MAP], TypeError, "map 0 of discriminator 0 in features_fake is torch.int32"),
    ],
)
def test_what_does_not_match_is_refused(fake, real, error, said):
    with pytest.raises(error, match=said):
        FeatureMatching()(fake, real)


def test_a_reduction_that_is_none_is_refused():
    with pytest.raises(ValueError, match='over_discriminators is "mean" or "sum", not \'none\''):
        FeatureMatching(over_discriminators="none")


def test_it_shows_its_argument():
    assert repr(FeatureMatching(over_discriminators="sum")) == "FeatureMatching(over_discriminators='sum')"
    assert repr(FeatureMatching()) == "FeatureMatching()"
