"""The specs by their names: the checks that every plugin should pass, weights, options and inputs."""

import pytest
import torch
from nectargan_esrgan import esrgan, real_esrgan

from nectargan_core import Config, LossManager
from nectargan_core.errors import MissingInputError, SpecError
from nectargan_core.testing import LossSpecTests, check_loss_spec

# They start processes, which takes longer than all other checks.
INSTALLED = dict.fromkeys(("entry_point", "imports"), "it is in a slow test below")
COMPILED = {"compiles": "the tests of the plugins that the losses are of do it"}
NAMES = ["G_L1", "G_VGG", "G_GAN", "D_real", "D_fake"]


@pytest.mark.slow
class TestESRGAN(LossSpecTests):
    name = "esrgan"
    options = {"checkpoint": "random"}
    skip = {
        **COMPILED,
        **INSTALLED,
        "differentiable": "of one prediction the discriminator takes the mean as a constant",
    }


@pytest.mark.slow
class TestESRGANWithMeansThatCount(LossSpecTests):
    name = "esrgan"
    options = {"checkpoint": "random", "detach_mean": False}
    skip = {**COMPILED, **INSTALLED}


class TestRealESRGAN(LossSpecTests):
    name = "real-esrgan"
    options = {"checkpoint": "random", "by_layer": True}
    skip = {**COMPILED, **INSTALLED}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["esrgan", "real-esrgan"])
def test_each_entry_point_keeps_its_contract(name):
    skip = {each: reason for each, reason in TestESRGAN.skip.items() if each not in INSTALLED}
    check_loss_spec(name, options={"checkpoint": "random"}, skip=skip)


def build(name, **keywords):
    return LossManager.from_spec(name, options={name: {"checkpoint": "random"}}, device="meta", **keywords)


@pytest.mark.parametrize(
    ("name", "weights"), [("esrgan", [0.01, 1.0, 5e-3, 0.5, 0.5]), ("real-esrgan", [1.0, 1.0, 0.1, 1.0, 1.0])]
)
def test_weights_are_those_of_the_authors(name, weights):
    manager = build(name)
    assert manager.get_loss_weights(precision=None) == dict(zip(NAMES, weights, strict=True))
    assert {loss: each.tags for loss, each in manager.get_registered_losses().items()} == {
        loss: [loss[0]] for loss in NAMES
    }


@pytest.mark.parametrize("name", ["esrgan", "real-esrgan"])
def test_the_config_and_a_factor_change_the_weights_of_the_generator(name):
    config = {"train": {"loss": {"lambda_l1": 2.0, "lambda_vgg": 3.0, "lambda_gan": 4.0}}}
    configured = build(name, config=config).get_loss_weights("G", precision=None)
    assert configured == {"G_L1": 2.0, "G_VGG": 3.0, "G_GAN": 4.0}
    default = build(name).get_loss_weights(precision=None)
    scaled = LossManager.from_spec(f"2*{name}", options={name: {"checkpoint": "random"}}, device="meta")
    expected = {loss: weight * (1 + (loss[0] == "G")) for loss, weight in default.items()}
    assert scaled.get_loss_weights(precision=None) == expected


def test_features_are_taken_before_the_activation():
    assert esrgan(Config(), checkpoint="random")["G_VGG"].function.layers == {"conv5_4": 1.0}
    layers = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    assert real_esrgan(Config(), checkpoint="random")["G_VGG"].function.layers == layers


@pytest.mark.parametrize(("spec", "target"), [(esrgan, "y"), (real_esrgan, "y_usm")])
def test_the_range_of_the_target_is_looked_at(spec, target):
    losses = spec(Config(), checkpoint="random", input_range=(0.0, 1.0))
    assert losses["G_VGG"].ranges == {target: (0.0, 1.0)}
    assert losses["G_L1"].inputs == losses["G_VGG"].inputs == ("y_fake", target)


def test_by_layer_a_manager_records_each_layer():
    options = {"real-esrgan": {"checkpoint": "random", "by_layer": True}}
    manager = LossManager.from_spec("real-esrgan", options=options, enable_logging=True)
    y_fake, y_usm = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    losses = manager.compute_losses({"y_fake": y_fake, "y_usm": y_usm}, query="G_VGG")
    assert list(losses.components["G_VGG"]) == ["conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"]


def test_without_a_sharpened_target_the_error_names_it():
    with pytest.raises(MissingInputError, match="y_usm"):
        y_fake, y = torch.rand(2, 1, 3, 16, 16)
        build("real-esrgan").compute_losses({"y_fake": y_fake, "y": y}, query="G_L1")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"detach_mean": 1}, "detach_mean is True or False"), ({"input_range": (1.0, 0.0)}, "input_range")],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(SpecError, match=message):
        LossManager.from_spec("esrgan", options={"esrgan": {"checkpoint": "random", **options}})
