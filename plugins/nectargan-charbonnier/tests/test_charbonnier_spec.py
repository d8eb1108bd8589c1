"""The spec: the checks that every plugin should pass, its variants, its option, and its numbers by name."""

import numpy as np
import pytest
import torch

from nectargan_core import LossManager
from nectargan_core.errors import MissingInputError, SpecError, UnknownVariantError
from nectargan_core.testing import LossSpecTests


class TestCharbonnier(LossSpecTests):
    name = "charbonnier"
    gradcheck = True


def inputs():
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, 3, 8, 8, generator=generator) for name in ("y_fake", "y")}
    return images | {"mask": (torch.rand(2, 1, 8, 8, generator=generator) > 0.5).float()}


def test_a_formula_gives_one_loss_of_the_generator():
    (loss,) = LossManager.from_spec("charbonnier").get_registered_losses(query="G").values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_CHARBONNIER", ["G"], ("y_fake", "y"), 10.0)


@pytest.mark.parametrize("epsilon", [1e-3, 0.5])
@pytest.mark.parametrize("variant", ["", ":plain", ":masked"])
def test_variants_and_epsilon_reach_the_loss(variant, epsilon):
    manager = LossManager.from_spec(f"1*charbonnier{variant}", options={"charbonnier": {"epsilon": epsilon}})
    given = inputs()
    y_fake, y, mask = (tensor.double().numpy() for tensor in given.values())
    terms = np.sqrt((y_fake - y) ** 2 + epsilon**2)
    expected = (terms * mask).sum() / (3 * mask.sum()) if variant == ":masked" else terms.mean()
    assert manager.compute_losses(given).total.item() == pytest.approx(expected, rel=1e-6)


def test_the_masked_variant_needs_a_mask():
    given = inputs()
    del given["mask"]
    with pytest.raises(MissingInputError, match="mask"):
        LossManager.from_spec("charbonnier:masked").compute_losses(given)


def test_a_misspelt_variant_is_refused():
    with pytest.raises(UnknownVariantError, match='Did you mean "masked"'):
        LossManager.from_spec("charbonnier:maskd")


def test_an_epsilon_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="epsilon is a number from 1e-18"):
        LossManager.from_spec("charbonnier", options={"charbonnier": {"epsilon": 0.0}})
