"""The module `Adversarial`: its values, and the value of its own target."""

import numpy as np
import pytest
import torch
from nectargan_pix2pix import Adversarial


def cross_entropy(logits, target):
    """Binary cross-entropy from its definition, in numpy's double precision."""
    probability = 1 / (1 + np.exp(-logits.double().numpy()))
    target = np.asarray(target, dtype=float)
    return -(target * np.log(probability) + (1 - target) * np.log(1 - probability)).mean()


@pytest.fixture
def logits():
    return torch.randn(2, 1, 5, 4, generator=torch.Generator().manual_seed(0)) * 3


@pytest.mark.parametrize("real", [True, False])
def test_own_target_is_one_for_real_and_zero_for_generated(real, logits):
    expected = cross_entropy(logits, np.full(logits.shape, float(real)))
    assert Adversarial(real=real)(logits).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("real", [True, False])
def test_a_given_target_replaces_the_own_target(real, logits):
    target = torch.rand(logits.shape, generator=torch.Generator().manual_seed(1))
    expected = cross_entropy(logits, target)
    assert Adversarial(real=real)(logits, target).item() == pytest.approx(expected, rel=1e-6)


def test_gradient_is_probability_less_target_over_the_number_of_patches(logits):
    logits.requires_grad_()
    Adversarial(real=True)(logits).backward()
    expected = (torch.sigmoid(logits.detach()) - 1) / logits.numel()
    torch.testing.assert_close(logits.grad, expected)


def test_confident_predictions_stay_finite():
    assert Adversarial(real=True)(torch.tensor([-1e4])).item() == pytest.approx(1e4)


def test_target_of_another_shape_is_refused(logits):
    with pytest.raises(ValueError, match="size"):
        Adversarial(real=True)(logits, torch.ones(3))
