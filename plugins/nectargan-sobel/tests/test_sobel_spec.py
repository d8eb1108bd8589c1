"""The spec `sobel`: the loss that it builds, the source of its weight, and its use by name."""

import pytest
import torch
from nectargan_sobel import Sobel, sobel

from nectargan_core import Config, LossManager


def test_loss_is_named_tagged_and_reads_output_and_target():
    losses = sobel(Config())
    assert list(losses) == ["G_SOBEL"]
    loss = losses["G_SOBEL"]
    assert (loss.name, loss.tags, loss.inputs) == ("G_SOBEL", ["G"], ("y_fake", "y"))
    assert isinstance(loss.function, Sobel)


def test_default_weight_is_10():
    assert sobel(Config())["G_SOBEL"].loss_weight == 10.0


def test_weight_comes_from_the_config():
    config = Config.model_validate({"train": {"loss": {"lambda_sobel": 2.5}}})
    assert sobel(config)["G_SOBEL"].loss_weight == 2.5


def test_two_builds_share_nothing():
    first, second = sobel(Config())["G_SOBEL"], sobel(Config())["G_SOBEL"]
    assert first.function is not second.function
    assert first.tags is not second.tags


def test_name_finds_the_spec_and_its_loss_trains():
    manager = LossManager.from_spec("sobel")
    y = torch.rand(1, 3, 8, 8)
    y_fake = torch.rand(1, 3, 8, 8, requires_grad=True)
    manager.tick(epoch=0)
    losses = manager.compute_losses({"y_fake": y_fake, "y": y}, query="G")
    losses.total.backward()
    assert losses["G_SOBEL"].item() == pytest.approx(10.0 * Sobel()(y_fake, y).item())
    assert y_fake.grad.abs().sum() > 0
