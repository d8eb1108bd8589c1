"""The specs `ssim` and `ms-ssim`: the checks that every plugin should pass, their options, and what they warn of."""

import pytest
import torch
from nectargan_ssim import MSSSIM, SSIM

from nectargan_core import LossManager
from nectargan_core.errors import NectarganWarning, SpecError
from nectargan_core.testing import LossSpecTests


class TestSSIM(LossSpecTests):
    name = "ssim"
    gradcheck = True


class TestMSSSIM(LossSpecTests):
    name = "ms-ssim"
    options = {"scale_weights": (0.3, 0.7)}
    gradcheck = True


def images(size=32):
    return dict(zip(("y_fake", "y"), torch.rand(2, 1, 3, size, size) * 2 - 1, strict=True))


def test_a_formula_gives_a_loss_of_the_generator():
    ssim, ms_ssim = LossManager.from_spec("ssim + 0.84*ms-ssim").get_registered_losses(query="G").values()
    assert (ssim.name, ssim.inputs, ssim.loss_weight) == ("G_SSIM", ("y_fake", "y"), 1.0)
    assert (ms_ssim.name, ms_ssim.inputs, ms_ssim.loss_weight) == ("G_MS_SSIM", ("y_fake", "y"), 0.84)


def test_the_weights_are_those_of_the_configuration():
    config = {"train": {"loss": {"lambda_ssim": 3.0, "lambda_ms_ssim": 4.0}}}
    assert LossManager.from_spec("ssim + ms-ssim", config).get_loss_weights() == {"G_SSIM": 3.0, "G_MS_SSIM": 4.0}


def test_every_option_reaches_the_modules():
    shared = {"window_size": 5, "sigma": 0.8, "input_range": (0.0, 1.0), "padding": "zeros"}
    options = {"ssim": shared, "ms-ssim": {**shared, "scale_weights": (0.4, 0.6), "average": "batch"}}
    ssim, ms_ssim = LossManager.from_spec("ssim + ms-ssim", options=options).get_registered_losses().values()
    assert repr(ssim.function) == repr(SSIM(5, 0.8, (0.0, 1.0), padding="zeros"))
    expected = MSSSIM(5, 0.8, (0.0, 1.0), (0.4, 0.6), padding="zeros", average="batch")
    assert repr(ms_ssim.function) == repr(expected)
    assert ssim.ranges == ms_ssim.ranges == {"y": (0.0, 1.0)}


def test_by_name_it_trains_a_step():
    manager = LossManager.from_spec("ssim + ms-ssim", options={"ms-ssim": {"scale_weights": (0.3, 0.7)}})
    given = images()
    given["y_fake"].requires_grad_()
    manager.tick(epoch=0)
    losses = manager.compute_losses(given, query="G")
    losses.total.backward()
    assert losses["G_SSIM"].item() == pytest.approx(SSIM()(given["y_fake"], given["y"]).item())
    assert given["y_fake"].grad.abs().sum() > 0


def test_a_target_of_another_range_is_warned_of_once():
    manager = LossManager.from_spec("ssim")
    given = {"y_fake": torch.zeros(1, 3, 16, 16), "y": torch.rand(1, 3, 16, 16)}
    with pytest.warns(NectarganWarning, match=r"'G_SSIM' .*'y' to be from -1 to 1, .*\"input_range\": \(0\.0, 1\.0\)"):
        manager.compute_losses(given)
    manager.compute_losses(given)


def test_an_option_out_of_range_is_an_error_of_the_spec():
    with pytest.raises(SpecError, match="window_size is an odd number"):
        LossManager.from_spec("ssim", options={"ssim": {"window_size": 10}})
