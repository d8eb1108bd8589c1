"""The specs by their names: variants, weights, options, lazy computation, and training with them."""

import warnings

import numpy as np
import pytest
import torch
from nectargan_gan import Adversarial, PathLength, Relativistic, gan
from torch import nn
from torch.nn import functional

from nectargan_core import Config, LossManager
from nectargan_core.errors import NectarganWarning, SpecError, UnknownVariantError
from nectargan_core.testing import LossSpecTests, check_loss_spec

PENALTIES = {"r1": "D_R1", "r2": "D_R2", "gradient-penalty": "D_GP"}
DRAWS = "it draws where between the images it looks"
# They start processes, which takes longer than all other checks.
INSTALLED = dict.fromkeys(("entry_point", "imports"), "it is in a slow test below")


class TestGan(LossSpecTests):
    name = "gan"
    gradcheck = True


class TestGanWithOptions(LossSpecTests):
    name = "gan:relativistic"
    options = {"label_smoothing": 0.1, "over_discriminators": "sum"}
    gradcheck = True
    skip = INSTALLED


class TestFeatureMatching(LossSpecTests):
    name = "feature-matching"
    gradcheck = True
    skip = INSTALLED


class TestR1(LossSpecTests):
    name = "r1"
    gradcheck = True
    skip = INSTALLED


class TestLazyR2(LossSpecTests):
    name = "r2"
    options = {"every": 16}
    skip = INSTALLED


class TestGradientPenalty(LossSpecTests):
    name = "gradient-penalty"
    skip = {**INSTALLED, "deterministic": DRAWS}


class TestPathLength(LossSpecTests):
    """The checks that call it are those of `test_path_length.py`: its images have to be made of its latents."""

    name = "path-length"
    skip = INSTALLED


@pytest.mark.slow
@pytest.mark.parametrize("name", ["feature-matching", "gradient-penalty", "path-length", "r1", "r2"])
def test_each_entry_point_keeps_its_contract(name):
    check_loss_spec(name, skip={"deterministic": DRAWS})


def networks():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 3, padding=1))
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    return network, critic


def images(step=0, size=2):
    generator = torch.Generator().manual_seed(step)
    return [torch.rand(size, 3, 8, 8, generator=generator) * 2 - 1 for _ in range(2)]


# Names, weights and inputs


@pytest.mark.parametrize("variant", ["", ":vanilla", ":lsgan", ":hinge", ":wgan", ":softplus"])
def test_each_loss_of_a_variant_reads_one_prediction(variant):
    losses = LossManager.from_spec(f"gan{variant}").get_registered_losses()
    assert {name: (loss.tags, loss.inputs, loss.loss_weight) for name, loss in losses.items()} == {
        "G_GAN": (["G"], ("pred_fake",), 1.0),
        "D_real": (["D"], ("pred_real",), 1.0),
        "D_fake": (["D"], ("pred_fake",), 1.0),
    }
    assert all(isinstance(loss.function, Adversarial) for loss in losses.values())


def test_the_relativistic_ones_read_both():
    losses = gan(Config(), "relativistic")
    assert all(isinstance(loss.function, Relativistic) for loss in losses.values())
    assert {name: loss.inputs for name, loss in losses.items()} == {
        "G_GAN": ("pred_fake", "pred_real"),
        "D_real": ("pred_real", "pred_fake"),
        "D_fake": ("pred_fake", "pred_real"),
    }


@pytest.mark.parametrize("variant", ["vanilla", "hinge", "wgan", "softplus", "relativistic", "lsgan"])
def test_a_manager_warns_of_predictions_that_are_probabilities_but_for_lsgan(variant):
    losses = LossManager.from_spec(f"gan:{variant}")
    judgement = torch.linspace(0, 1, 72).reshape(2, 1, 6, 6)
    inputs = {"pred_fake": judgement, "pred_real": [[judgement * 9, judgement]]}
    if variant == "relativistic":
        inputs["pred_real"] = [judgement]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        losses.compute_losses(inputs)
    messages = [str(each.message) for each in caught]
    assert all("must have no sigmoid or softmax" in each for each in messages)
    assert len(messages) == {"lsgan": 0, "relativistic": 6}.get(variant, 3)


@pytest.mark.parametrize(
    ("term", "name", "key", "default"),
    [
        ("gan", "G_GAN", "gan", 1.0),
        ("feature-matching", "G_FM", "feature_matching", 10.0),
        ("r1", "D_R1", "r1", 10.0),
        ("r2", "D_R2", "r2", 10.0),
        ("gradient-penalty", "D_GP", "gradient_penalty", 10.0),
        ("path-length", "G_PL", "path_length", 2.0),
    ],
)
def test_a_weight_is_the_factor_or_that_of_the_config_or_the_default(term, name, key, default):
    config = {"train": {"loss": {f"lambda_{key}": 2.5}}}
    weights = [
        LossManager.from_spec(term).get_loss_weights()[name],
        LossManager.from_spec(term, config=config).get_loss_weights()[name],
        LossManager.from_spec(f"3*{term}").get_loss_weights()[name],
    ]
    assert weights == [default, 2.5, 3.0]


def test_a_factor_is_the_weight_of_the_generator_only():
    weights = LossManager.from_spec("0.1*gan:hinge").get_loss_weights()
    assert weights == {"G_GAN": 0.1, "D_real": 1.0, "D_fake": 1.0}


def test_a_misspelt_variant_is_refused():
    with pytest.raises(UnknownVariantError, match="lsgan"):
        LossManager.from_spec("gan:lsgna")


# Options


@pytest.mark.parametrize("variant", ["vanilla", "lsgan", "softplus", "relativistic"])
def test_labels_of_real_samples_are_smoothed_for_the_discriminator_only(variant):
    losses = gan(Config(), variant, label_smoothing=0.1)
    # The relativistic generator has two labels, which no other replaces.
    of_generator = None if variant == "relativistic" else 1.0
    assert [loss.function.label for loss in losses.values()] == [of_generator, 0.9, 0.0]


def test_options_reach_the_losses_by_name():
    options = {"gan": {"label_smoothing": 0.25, "over_discriminators": "sum"}}
    manager = LossManager.from_spec("gan:lsgan", options=options)
    said = [torch.zeros(2, 1), torch.ones(2, 1)]
    assert manager.compute_loss("D_real", said).item() == pytest.approx(0.75**2 + 0.25**2)


def test_esrgan_has_constant_means_by_option():
    losses = gan(Config(), "relativistic", detach_mean=True)
    assert losses["D_real"].function.detach_mean


@pytest.mark.parametrize(
    ("term", "options", "said"),
    [
        ("gan", {"label_smoothing": 1.5}, "label_smoothing is a number from 0 to 1, got 1.5"),
        ("gan", {"label_smoothing": "0.1"}, "label_smoothing is a number from 0 to 1, got '0.1'"),
        ("gan:hinge", {"label_smoothing": 0.1}, "'hinge' has no labels that label_smoothing=0.1 could lower"),
        ("gan:wgan", {"label_smoothing": 0.1}, "'wgan' has no labels"),
        ("gan:hinge", {"detach_mean": True}, "detach_mean is for the variant 'relativistic', not 'hinge'"),
        ("gan", {"over_discriminators": "max"}, "over_discriminators"),
        ("feature-matching", {"over_discriminators": "max"}, "over_discriminators"),
        ("r1", {"every": 0}, "every is a number of steps, an integer of at least 1; got 0"),
        ("r2", {"every": 1.5}, "got 1.5"),
        ("gradient-penalty", {"every": True}, "got True"),
        ("gradient-penalty", {"center": -1.0}, "center is a number from 0 on, got -1.0"),
        ("path-length", {"every": "4"}, "got '4'"),
        ("path-length", {"decay": 0}, "decay is a number above 0"),
    ],
)
def test_an_option_out_of_its_range_is_refused(term, options, said):
    with pytest.raises(SpecError, match=said):
        LossManager.from_spec(term, options={term.partition(":")[0]: options})


# As in the reference


def test_a_loss_computed_by_name_uses_the_given_target():
    manager = LossManager.from_spec("gan")
    prediction = torch.tensor([[0.3, -1.2]])
    given = manager.compute_loss_xy("G_GAN", prediction, torch.zeros_like(prediction))
    assert given.item() == pytest.approx(manager.compute_loss("D_fake", prediction).item())


@pytest.mark.parametrize("variant", ["vanilla", "lsgan", "hinge", "wgan", "softplus"])
def test_targets_of_ones_and_zeros_change_nothing_in_any_variant(variant):
    manager = LossManager.from_spec(f"gan:{variant}")
    prediction = torch.tensor([[0.3, -1.2]])
    for name, target in (("G_GAN", 1.0), ("D_real", 1.0), ("D_fake", 0.0)):
        given = manager.compute_loss_xy(name, prediction, torch.full_like(prediction, target))
        assert given.item() == pytest.approx(manager.compute_loss(name, prediction).item(), rel=1e-6)


# Training


@pytest.mark.parametrize("variant", ["vanilla", "lsgan", "hinge", "wgan", "softplus", "relativistic"])
def test_the_same_loop_trains_with_each_variant(variant):
    manager = LossManager.from_spec(f"gan:{variant}")
    network, critic = networks()
    for step in range(2):
        x, y = images(step)
        manager.tick()
        y_fake = network(x)
        inputs = {"y": y, "y_fake": y_fake, "pred_fake": lambda fake=y_fake: critic(fake), "pred_real": critic(y)}
        manager.compute_losses(inputs, query="G").total.backward()
        inputs["pred_fake"] = critic(y_fake.detach())
        manager.compute_losses(inputs, query="D").total.backward()
    assert all(parameter.grad.isfinite().all() for net in (network, critic) for parameter in net.parameters())


@pytest.mark.parametrize("wrap", [lambda D: D, lambda D: lambda image: D(image), lambda D: D.forward])
@pytest.mark.parametrize("term", PENALTIES)
def test_a_discriminator_is_passed_as_it_is(term, wrap):
    manager = LossManager.from_spec(term)
    _, critic = networks()
    y, y_fake = images()
    losses = manager.compute_losses({"y": y, "y_fake": y_fake, "discriminator": wrap(critic)}, query="D")
    losses.total.backward()
    assert list(losses.ran) == [PENALTIES[term]]
    assert critic[0].weight.grad.count_nonzero()


def test_wgan_gp_is_its_paper():
    """Gulrajani et al. 2017, algorithm 1, with lambda = 10."""
    manager = LossManager.from_spec("gan:wgan + gradient-penalty")
    network, critic = networks()
    for step in range(3):
        x, y = images(step)
        y_fake = network(x).detach()
        manager.tick()
        torch.manual_seed(step)
        inputs = {"y": y, "y_fake": y_fake, "pred_real": critic(y), "pred_fake": critic(y_fake)}
        losses = manager.compute_losses({**inputs, "discriminator": critic}, query="D")
        torch.manual_seed(step)
        share = torch.rand(2, 1, 1, 1)
        between = (share * y + (1 - share) * y_fake).requires_grad_()
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
        penalty = ((gradient.square().sum(dim=(1, 2, 3)).sqrt() - 1) ** 2).mean()
        expected = critic(y_fake).mean() - critic(y).mean() + 10 * penalty
        torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=1e-6)
        found, wanted = (
            torch.cat([each.reshape(-1) for each in torch.autograd.grad(total, list(critic.parameters())[:-1])])
            for total in (losses.total, expected)
        )
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)


# Lazy computation


def test_lazy_regularisation_is_that_of_stylegan2():
    """Karras et al. 2020, appendix B: each 16 steps, with 16 times the weight; r1_gamma is 10."""
    manager = LossManager.from_spec("gan:softplus + r1", options={"r1": {"every": 16}})
    network, critic = networks()
    for step in (0, 1, 15, 16, 17, 32):
        x, y = images(step)
        manager.tick(step=step)
        fake = network(x).detach()
        inputs = {"pred_real": critic(y), "pred_fake": critic(fake), "y": y, "discriminator": critic}
        losses = manager.compute_losses(inputs, query="D")
        expected = functional.softplus(-critic(y)).mean() + functional.softplus(critic(fake)).mean()
        if step % 16 == 0:
            real = y.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(critic(real).sum(), real, create_graph=True)
            expected = expected + (gradient.square().sum([1, 2, 3]) * (10 / 2)).mean() * 16
        torch.testing.assert_close(losses.total, expected, rtol=1e-5, atol=1e-7)
        assert ("D_R1" in losses.ran) == (step % 16 == 0)


@pytest.mark.parametrize(("formula", "weight"), [("r1", 10.0), ("3*r1", 3.0)])
def test_the_factor_of_the_interval_multiplies_any_weight(formula, weight):
    manager = LossManager.from_spec(formula, options={"r1": {"every": 4}})
    manager.tick(step=8)
    assert manager.get_loss_weights() == {"D_R1": 4 * weight}
    manager.tick(step=9)
    assert manager.get_loss_weights() == {"D_R1": 0.0}


def test_the_config_sets_the_weight_of_a_lazy_loss_too():
    config = {"train": {"loss": {"lambda_gradient_penalty": 5.0}}}
    manager = LossManager.from_spec("gradient-penalty", config=config, options={"gradient-penalty": {"every": 2}})
    manager.tick(step=0)
    assert manager.get_loss_weights() == {"D_GP": 10.0}


def test_in_the_steps_between_nothing_is_called():
    manager = LossManager.from_spec(
        "r1 + path-length", options={"r1": {"every": 2}, "path-length": {"every": 2}}, enable_logging=True
    )
    called = []

    def discriminator(image):
        called.append("discriminator")
        return image.sum(dim=(1, 2, 3))

    def made():
        called.append("y_fake")
        return w.sum(1)[:, None, None, None].expand(-1, 3, 4, 4)

    w = torch.zeros(2, 4, requires_grad=True)
    manager.tick(step=1)
    losses = manager.compute_losses(
        {"y": torch.zeros(2, 3, 4, 4), "y_fake": made, "w": w, "discriminator": discriminator}
    )
    assert (called, set(losses.ran), losses.total.item()) == ([], set(), 0.0)
    manager.tick(step=2)
    losses = manager.compute_losses(
        {"y": torch.zeros(2, 3, 4, 4), "y_fake": made, "w": w, "discriminator": discriminator}
    )
    assert (sorted(called), set(losses.ran)) == (["discriminator", "y_fake"], {"D_R1", "G_PL"})


def test_the_schedule_of_a_lazy_loss_is_written_to_a_state_and_read_back():
    options = {"r1": {"every": 16}}
    manager = LossManager.from_spec("r1", options=options)
    manager.tick(step=16)
    state = manager.state_dict()
    other = LossManager.from_spec("5*r1", options=options)
    with pytest.warns(NectarganWarning, match="schedule of D_R1: recorded .* from 0 to 10,.* here .* from 0 to 5,"):
        other.load_state_dict(state)
    assert other.get_loss_weights() == manager.get_loss_weights() == {"D_R1": 160.0}


def test_the_running_mean_of_path_lengths_is_saved_with_the_modules():
    managers = [LossManager.from_spec("path-length") for _ in range(2)]
    w = torch.ones(2, 4, requires_grad=True)
    managers[0].compute_losses({"w": w, "y_fake": w.square().sum(1)[:, None, None, None].expand(-1, 3, 4, 4)})
    managers[1].modules().load_state_dict(managers[0].modules().state_dict())
    first, second = (manager.modules()["G_PL"] for manager in managers)
    assert isinstance(second, PathLength)
    assert first.mean == second.mean != 0


def test_path_lengths_are_those_of_stylegan2_in_a_manager():
    """Karras et al. 2020: each 4 steps, with 4 times the weight of 2."""
    manager = LossManager.from_spec("path-length", options={"path-length": {"every": 4}})
    matrix = torch.randn(4, 48, generator=torch.Generator().manual_seed(0), requires_grad=True)
    pl_mean = torch.zeros([])
    for step in range(6):
        w = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(step), requires_grad=True)
        manager.tick(step=step)
        image = (w.mean(1).sin() @ matrix).reshape(3, 3, 4, 4)
        torch.manual_seed(step)
        total = manager.compute_losses({"y_fake": image, "w": w}, query="G").total
        if step % 4:
            assert total.item() == 0.0
            continue
        torch.manual_seed(step)
        noise = torch.randn_like(image) / np.sqrt(16)
        (grads,) = torch.autograd.grad((image * noise).sum(), w, create_graph=True)
        lengths = grads.square().sum(2).mean(1).sqrt()
        mean = pl_mean.lerp(lengths.mean(), 0.01)
        pl_mean = mean.detach()
        expected = (lengths - mean).square().mean() * 2 * 4
        torch.testing.assert_close(total, expected, rtol=1e-5, atol=0)
        torch.testing.assert_close(
            *(torch.autograd.grad(each, matrix, retain_graph=True)[0] for each in (total, expected)),
            rtol=1e-4,
            atol=1e-7,
        )
