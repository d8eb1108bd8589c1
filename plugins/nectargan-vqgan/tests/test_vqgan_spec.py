"""The spec by its name: the checks that every plugin should pass, weights, options, inputs and the weighting."""

import math

import pytest
import torch
from nectargan_vqgan import CodebookLoss, example_inputs, vqgan

from nectargan_core import Config, LossManager, Schedule
from nectargan_core.errors import MissingInputError, SpecError, UnknownVariantError
from nectargan_core.testing import LossSpecTests, LossTests

RANDOM = {"backbone": "random", "heads": "equal"}
WEIGHTS = {"G_L1": 1.0, "G_LPIPS": 1.0, "G_GAN": 0.8, "G_CODEBOOK": 1.0, "D_real": 0.5, "D_fake": 0.5}


@pytest.mark.slow
class TestVQGAN(LossSpecTests):
    name = "vqgan"
    options = RANDOM
    skip = {"compiles": "the tests of the plugins that the losses are of do it"}


class TestCodebookLoss(LossTests):
    function = CodebookLoss()
    inputs = ("codebook_loss",)
    gradcheck = True

    def make_inputs(self, batch_size):
        return example_inputs(batch_size)


def build(term="vqgan", options=None, **keywords):
    return LossManager.from_spec(term, options={"vqgan": {**RANDOM, **(options or {})}}, device="meta", **keywords)


def weights_at(manager, step):
    manager.tick(step=step)
    return manager.get_loss_weights(precision=None)


@pytest.mark.parametrize(
    ("options", "start"), [({}, 10_000), ({"disc_start": 250_001}, 250_001), ({"disc_start": 1}, 1)]
)
def test_adversarial_losses_begin_at_disc_start(options, start):
    manager = build(options=options)
    before = {name: 0.0 if name in ("G_GAN", "D_real", "D_fake") else weight for name, weight in WEIGHTS.items()}
    assert weights_at(manager, 0) == weights_at(manager, start - 1) == before
    assert weights_at(manager, start) == weights_at(manager, start + 1) == WEIGHTS


def test_from_the_start_there_are_no_schedules():
    manager = build(options={"disc_start": 0}, weights={"G_GAN": 1.0})
    assert not any(loss.schedule.is_scheduled for loss in manager.get_registered_losses().values())
    assert weights_at(manager, 0) == {**WEIGHTS, "G_GAN": 1.0}


def test_each_loss_has_the_tag_of_its_network():
    losses = vqgan(Config(), **RANDOM)
    assert {name: loss.tags[0] for name, loss in losses.items()} == {name: name[0] for name in WEIGHTS}
    assert [name for name, loss in losses.items() if "balanced" in loss.tags] == ["G_L1", "G_LPIPS", "G_GAN"]


def test_before_the_start_no_prediction_is_made():
    manager, calls = LossManager.from_spec("vqgan", options={"vqgan": RANDOM}), []
    y_fake, y = torch.rand(2, 1, 3, 16, 16) * 2 - 1
    inputs = {"y_fake": y_fake.requires_grad_(), "y": y, "codebook_loss": y_fake.mean()}
    inputs["last_layer"] = y_fake
    manager.tick()
    predictions = {name: lambda: calls.append(1) for name in ("pred_real", "pred_fake")}
    manager.compute_losses({**inputs, **predictions}, query="G").total.backward()
    losses = manager.compute_losses(predictions, query="D")
    assert (losses.ran, losses.total.item(), calls) == ((), 0.0, [])


def test_a_factor_multiplies_the_weights_of_the_generator():
    expected = {name: weight * (1 + (name[0] == "G")) for name, weight in WEIGHTS.items()}
    assert weights_at(build("2*vqgan"), 10_000) == expected


def test_an_option_gives_the_weight_unless_the_config_does():
    assert weights_at(build(options={"disc_weight": 0.5}), 10_000)["G_GAN"] == 0.5
    config = {"train": {"loss": {"lambda_gan": 0.25}}}
    assert weights_at(build(options={"disc_weight": 0.5}, config=config), 10_000)["G_GAN"] == 0.25


def test_the_start_may_be_a_schedule_of_the_caller():
    rise = Schedule("linear", unit="step", start=0, end=10, initial_value=0.0, target_value=0.8)
    assert weights_at(build(schedules={"G_GAN": rise}), 5)["G_GAN"] == pytest.approx(0.4)


def given(network, y):
    y_fake = network(y)
    return {"y_fake": y_fake, "y": y, "pred_fake": y_fake.mean((1, 2, 3)), "codebook_loss": y_fake.new_zeros(())}


@pytest.mark.parametrize("keywords", [{}, {"prefix": "face_"}, {"weightings": {"G": None}}])
def test_the_weighting_is_found_under_a_prefix_and_can_be_left_out(keywords):
    options = {"vqgan": {**RANDOM, "disc_start": 0}}
    manager = LossManager.from_spec("vqgan", options=options, **keywords)
    torch.manual_seed(0)
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    inputs = given(network, torch.rand(1, 3, 16, 16) * 2 - 1)
    manager.tick()
    manager.compute_losses({**inputs, "last_layer": network.weight}, query="G")
    weight = manager.get_loss_weights(f"{keywords.get('prefix', '')}G_GAN", precision=None).popitem()[1]
    assert math.isclose(weight, 0.8) == ("weightings" in keywords)


def test_without_the_last_layer_the_error_names_it():
    manager = LossManager.from_spec("vqgan", options={"vqgan": {**RANDOM, "disc_start": 0}})
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    manager.tick()
    with pytest.raises(MissingInputError, match="last_layer"):
        manager.compute_losses(given(network, torch.rand(1, 3, 16, 16) * 2 - 1), query="G")


def test_in_validation_the_last_layer_is_not_needed():
    manager = LossManager.from_spec("vqgan", options={"vqgan": {**RANDOM, "disc_start": 0}})
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    with torch.no_grad(), manager.split("val"):
        losses = manager.compute_losses(given(network, torch.rand(1, 3, 16, 16) * 2 - 1), query="G")
    assert torch.isfinite(losses.total)


def test_the_generator_of_vanilla_is_that_of_hinge():
    found = vqgan(Config(), "vanilla", **RANDOM)
    assert [repr(found[name].function) for name in ("G_GAN", "D_real", "D_fake")] == [
        "Adversarial('hinge', 'generator')",
        "Adversarial('softplus', 'real')",
        "Adversarial('softplus', 'fake')",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"disc_start": -1}, "disc_start is a number of steps, an integer from 0 on; got -1"),
        ({"disc_start": 1e4}, "disc_start is a number of steps"),
        ({"disc_start": True}, "disc_start is a number of steps"),
        ({"disc_weight": "0.8"}, "disc_weight is a finite number"),
        ({"disc_weight": math.inf}, "disc_weight is a finite number"),
        ({"input_range": (1.0, 1.0)}, "input_range"),
        ({"start": 3}, "no option 'start'"),
    ],
)
def test_a_wrong_option_is_refused(options, message):
    with pytest.raises(SpecError, match=message):
        build(options=options)


def test_a_misspelt_variant_is_refused():
    with pytest.raises(UnknownVariantError, match='Did you mean "vanilla"'):
        build("vqgan:vanila")


@pytest.mark.parametrize(
    ("value", "error"),
    [(1.5, TypeError), (torch.tensor(1), TypeError), (torch.zeros(0), ValueError), ({"codebook": 1.0}, TypeError)],
)
def test_a_codebook_loss_is_a_tensor_with_numbers(value, error):
    with pytest.raises(error, match="CodebookLoss expects"):
        CodebookLoss()(value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_codebook_loss_is_averaged_in_float32_at_least(dtype):
    value = torch.full((4096, 64), 3.0, dtype=dtype)
    mean = CodebookLoss()(value)
    assert (mean.item(), mean.dtype) == (3.0, torch.promote_types(dtype, torch.float32))
