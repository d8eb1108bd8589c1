"""The spec by its name: the checks that every plugin should pass, weights, options and inputs."""

import pytest
import torch

from nectargan_core import LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests

NAMES = ["G_GAN", "G_PL", "D_real", "D_fake", "D_R1"]


class TestStyleGAN2(LossSpecTests):
    """`G_PL` is left out where it would be called, since its images have to be made of its latents."""

    name = "stylegan2"


def weights_at(manager, step):
    manager.tick(step=step)
    return manager.get_loss_weights()


def test_lazy_losses_have_their_weight_times_the_interval_and_0_between():
    manager = LossManager.from_spec("stylegan2")
    assert {step: (weights_at(manager, step)["G_PL"], weights_at(manager, step)["D_R1"]) for step in range(18)} == {
        step: (8.0 * (step % 4 == 0), 160.0 * (step % 16 == 0)) for step in range(18)
    }


def test_every_loss_has_the_tag_of_its_network_and_the_others_the_weight_1():
    losses = LossManager.from_spec("stylegan2").get_registered_losses()
    assert {name: loss.tags for name, loss in losses.items()} == {name: [name[0]] for name in NAMES}
    assert {losses[name].loss_weight for name in ("G_GAN", "D_real", "D_fake")} == {1.0}


def test_intervals_of_1_are_no_schedules():
    manager = LossManager.from_spec("stylegan2", options={"stylegan2": {"r1_every": 1, "path_length_every": 1}})
    losses = manager.get_registered_losses()
    assert not any(loss.schedule.is_scheduled for loss in losses.values())
    assert manager.get_loss_weights(["G_PL", "D_R1"]) == {"G_PL": 2.0, "D_R1": 10.0}


def test_the_config_and_a_factor_change_weights():
    config = {"train": {"loss": {"lambda_gan": 3.0, "lambda_r1": 1.0, "lambda_path_length": 0.0}}}
    manager = LossManager.from_spec("stylegan2", config)
    expected = {"G_GAN": 3.0, "G_PL": 0.0, "D_real": 1.0, "D_fake": 1.0, "D_R1": 16.0}
    assert weights_at(manager, 0) == expected
    scaled = weights_at(LossManager.from_spec("2*stylegan2"), 0)
    assert scaled == {"G_GAN": 2.0, "G_PL": 16.0, "D_real": 1.0, "D_fake": 1.0, "D_R1": 160.0}


def test_between_no_input_of_a_lazy_loss_is_called():
    manager = LossManager.from_spec("stylegan2")
    pred = torch.zeros(2, 1, requires_grad=True)
    calls = []
    for step in range(18):
        manager.tick(step=step)
        inputs = {"pred_real": pred, "pred_fake": pred, "y": torch.ones(2, 3), "discriminator": calls.append}
        if step % 16:
            manager.compute_losses(inputs, query="D").total.backward()
    assert not calls


def test_the_running_mean_is_saved_with_the_modules():
    manager = LossManager.from_spec("stylegan2")
    assert [name.rpartition(".")[2] for name in manager.modules().state_dict()] == ["mean"]


@pytest.mark.parametrize("name", ["r1_every", "path_length_every"])
@pytest.mark.parametrize("value", [0, -4, 1.5, True, None])
def test_an_interval_is_a_number_of_steps(name, value):
    with pytest.raises(SpecError, match=f"{name} is a number of steps"):
        LossManager.from_spec("stylegan2", options={"stylegan2": {name: value}})


def test_a_decay_out_of_range_is_refused():
    with pytest.raises(SpecError, match="decay is a number above 0"):
        LossManager.from_spec("stylegan2", options={"stylegan2": {"decay": 0.0}})
