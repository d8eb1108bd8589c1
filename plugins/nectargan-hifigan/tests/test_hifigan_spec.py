"""The spec by its name: the checks that every plugin should pass, weights, options and inputs."""

import pytest
import torch
from nectargan_hifigan import example_inputs

from nectargan_core import LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests

WEIGHTS = {"G_GAN": 1.0, "G_FM": 2.0, "G_MEL": 45.0, "D_real": 1.0, "D_fake": 1.0}


class TestHiFiGAN(LossSpecTests):
    name = "hifigan"


def test_weights_are_those_of_the_authors():
    losses = LossManager.from_spec("hifigan").get_registered_losses()
    assert {name: loss.loss_weight for name, loss in losses.items()} == WEIGHTS
    assert {name: loss.tags for name, loss in losses.items()} == {name: [name[0]] for name in WEIGHTS}


def test_the_config_and_a_factor_change_the_weights_of_the_generator():
    config = {"train": {"loss": {"lambda_gan": 2.0, "lambda_feature_matching": 3.0, "lambda_mel": 4.0}}}
    assert LossManager.from_spec("hifigan", config).get_loss_weights("G") == {"G_GAN": 2.0, "G_FM": 3.0, "G_MEL": 4.0}
    scaled = {name: weight * (1 + (name[0] == "G")) for name, weight in WEIGHTS.items()}
    assert LossManager.from_spec("2*hifigan").get_loss_weights() == scaled


def test_a_sum_over_discriminators_grows_with_each():
    manager = LossManager.from_spec("hifigan")
    one, two = torch.zeros(2, 8), torch.zeros(2, 4)
    values = [manager.compute_loss("G_GAN", said).item() for said in ([one], [one, two])]
    assert values == [1.0, 2.0]


def test_it_is_the_formula_of_the_readme():
    formula = LossManager.from_spec(
        "gan:lsgan + 2*feature-matching + 45*mel",
        options={"gan:lsgan": {"over_discriminators": "sum"}, "feature-matching": {"over_discriminators": "sum"}},
    )
    manager = LossManager.from_spec("hifigan")
    assert manager.get_loss_weights() == formula.get_loss_weights()
    inputs = example_inputs(2)
    expected = formula.compute_losses(inputs)
    found = manager.compute_losses(inputs)
    assert {name: loss.item() for name, loss in found.items()} == {name: loss.item() for name, loss in expected.items()}


def test_options_are_those_of_the_spectrogram():
    options = {"sample_rate": 24000, "n_fft": [512, 1024], "hop_length": None, "win_length": None, "n_mels": [40, 80]}
    function = LossManager.from_spec("hifigan", options={"hifigan": options}).get_registered_losses()["G_MEL"].function
    assert (function.sample_rate, function.n_mels) == (24000, [40, 80])
    assert [each.hop_length for each in function.resolutions] == [128, 256]


def test_a_wrong_option_is_named():
    with pytest.raises(SpecError, match="no option 'fmax'.*Did you mean"):
        LossManager.from_spec("hifigan", options={"hifigan": {"fmax": 8000}})
    with pytest.raises(SpecError, match="f_max"):
        LossManager.from_spec("hifigan", options={"hifigan": {"f_max": 12000.0}})
