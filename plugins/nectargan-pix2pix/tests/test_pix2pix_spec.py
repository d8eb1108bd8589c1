"""The spec `pix2pix`: its variants, their weights and inputs, and its use by name."""

import subprocess
import sys

import pytest
import torch
from nectargan_gan import Adversarial, gan
from nectargan_image import L1, L2
from nectargan_laplacian import Laplacian
from nectargan_pix2pix import pix2pix
from nectargan_sobel import Sobel

from nectargan_core import Config, LossLog, LossManager
from nectargan_core.errors import DuplicateLossError, UnknownVariantError
from nectargan_core.testing import LossSpecTests

BASIC = ["G_GAN", "G_L1", "D_real", "D_fake"]
EXTENDED = [*BASIC, "G_L2", "G_SOBEL", "G_LAP"]


class TestPix2pix(LossSpecTests):
    name = "pix2pix"
    gradcheck = True


def weights(losses):
    return {name: loss.loss_weight for name, loss in losses.items()}


def test_basic_has_the_weights_of_the_paper():
    assert weights(pix2pix(Config())) == {"G_GAN": 1.0, "G_L1": 100.0, "D_real": 1.0, "D_fake": 1.0}


def test_extended_adds_three_losses_with_weights_above_zero():
    extended = weights(pix2pix(Config(), "extended"))
    assert list(extended) == EXTENDED
    assert {name: extended[name] for name in EXTENDED[4:]} == {"G_L2": 100.0, "G_SOBEL": 10.0, "G_LAP": 10.0}


def test_extended_is_built_from_the_losses_of_the_other_plugins():
    losses = pix2pix(Config(), "extended")
    assert isinstance(losses["G_L1"].function, L1)
    assert isinstance(losses["G_L2"].function, L2)
    assert isinstance(losses["G_SOBEL"].function, Sobel)
    assert isinstance(losses["G_LAP"].function, Laplacian)


def test_its_adversarial_losses_are_those_of_gan():
    found, expected = pix2pix(Config()), gan(Config(), "vanilla")
    assert all(isinstance(found[name].function, Adversarial) for name in expected)
    assert {name: repr(found[name]) for name in expected} == {name: repr(loss) for name, loss in expected.items()}


# The same as a formula

FORMULAS = {
    "pix2pix": "gan + 100*l1",
    "pix2pix:extended": "gan + 100*l1 + 100*l2 + 10*sobel + 10*laplacian",
}


def described(manager):
    """Return all that can be seen of each loss of a manager, by its name."""
    unlike = {"function", "history", "last_loss_map"}
    return {
        name: (
            {key: value for key, value in dict(loss).items() if key not in unlike},
            repr(loss.function),
            loss.history.model_dump(),
        )
        for name, loss in manager.get_registered_losses(strip=False).items()
    }


@pytest.mark.parametrize("name", FORMULAS)
def test_the_losses_are_those_of_its_formula(name):
    assert described(LossManager.from_spec(name)) == described(LossManager.from_spec(FORMULAS[name]))


def trained(formula, directory):
    """Return what three steps leave: totals and gradients, the losses with their records, and the log."""
    torch.manual_seed(0)
    generator, critic = torch.nn.Conv2d(3, 3, 3, padding=1), torch.nn.Conv2d(6, 1, 4, stride=2)
    tensors = []
    with LossManager.from_spec(formula, experiment_dir=directory) as manager:
        for step in range(3):
            x, y = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1
            manager.tick(epoch=step)
            y_fake = generator(x)
            pred_fake = critic(torch.cat([x, y_fake], 1))
            losses = manager.compute_losses({"y_fake": y_fake, "y": y, "pred_fake": pred_fake}, query="G")
            pred_real, pred_fake = critic(torch.cat([x, y], 1)), critic(torch.cat([x, y_fake.detach()], 1))
            judged = manager.compute_losses({"pred_real": pred_real, "pred_fake": pred_fake}, query="D")
            for network, total in ((generator, losses.total), (critic, judged.total)):
                gradients = torch.autograd.grad(total, list(network.parameters()))
                tensors += [total.detach(), *gradients]
                with torch.no_grad():
                    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                        parameter.sub_(0.01 * gradient)
        losses = described(manager)
    LossLog(directory).to_csv(directory / "log.csv")
    return tensors, losses, sorted((directory / "log.csv").read_text().splitlines())


@pytest.mark.parametrize("name", FORMULAS)
def test_three_steps_train_and_record_the_same_as_its_formula(name, tmp_path):
    tensors, *seen = trained(name, tmp_path / "named")
    expected, *seen_of_formula = trained(FORMULAS[name], tmp_path / "written")
    torch.testing.assert_close(tensors, expected, rtol=0, atol=0)
    assert seen == seen_of_formula


# Tags, inputs and weights


def test_every_loss_is_tagged_with_the_network_that_it_trains():
    tags = {name: loss.tags for name, loss in pix2pix(Config(), "extended").items()}
    assert tags == {name: [name[0]] for name in EXTENDED}


def test_inputs_say_what_each_loss_reads():
    inputs = {name: loss.inputs for name, loss in pix2pix(Config(), "extended").items()}
    expected = dict.fromkeys(EXTENDED, ("y_fake", "y"))
    expected |= {"G_GAN": ("pred_fake",), "D_fake": ("pred_fake",), "D_real": ("pred_real",)}
    assert inputs == expected


@pytest.mark.parametrize(
    ("key", "name"),
    [("gan", "G_GAN"), ("l1", "G_L1"), ("l2", "G_L2"), ("sobel", "G_SOBEL"), ("laplacian", "G_LAP")],
)
def test_weight_comes_from_the_config(key, name):
    config = Config.model_validate({"train": {"loss": {f"lambda_{key}": 2.5}}})
    changed = weights(pix2pix(config, "extended"))
    assert changed == {**weights(pix2pix(Config(), "extended")), name: 2.5}


def test_only_the_generator_takes_the_weight_of_the_gan_loss():
    config = Config.model_validate({"train": {"loss": {"lambda_gan": 5.0}}})
    losses = pix2pix(config)
    assert (losses["D_real"].loss_weight, losses["D_fake"].loss_weight) == (1.0, 1.0)


def test_name_and_variant_find_the_spec():
    assert list(LossManager.from_spec("pix2pix:extended").get_registered_losses()) == EXTENDED


def test_unknown_variant_names_the_known_ones():
    with pytest.raises(UnknownVariantError, match="extended"):
        LossManager.from_spec("pix2pix:extnded")


def test_basic_composes_with_sobel():
    names = list(LossManager.from_spec("pix2pix+sobel").get_registered_losses())
    assert names == [*BASIC, "G_SOBEL"]


def test_extended_and_sobel_define_the_same_loss():
    with pytest.raises(DuplicateLossError, match="G_SOBEL"):
        LossManager.from_spec("pix2pix:extended+sobel")


def test_init_from_spec_takes_the_function_with_a_composed_variant():
    manager = LossManager()
    manager.init_from_spec(pix2pix, Config(), "basic+sobel")
    assert list(manager.get_registered_losses()) == [*BASIC, "G_SOBEL"]


def test_an_adversarial_loss_computed_by_name_uses_the_given_target():
    manager = LossManager.from_spec("pix2pix")
    prediction = torch.tensor([[0.3, -1.2]])
    given = manager.compute_loss_xy("G_GAN", prediction, torch.zeros_like(prediction))
    own = manager.compute_loss("D_fake", prediction)
    assert given.item() == pytest.approx(own.item())


@pytest.mark.slow
def test_importing_the_spec_imports_nothing_of_the_trainer():
    code = "import sys, nectargan_pix2pix; print(*(m for m in sys.modules if m in set(sys.argv[1:])))"
    trainer = ["monai", "skimage", "matplotlib", "PIL", "rich", "nectargan_pix2pix.training"]
    result = subprocess.run([sys.executable, "-c", code, *trainer], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""
