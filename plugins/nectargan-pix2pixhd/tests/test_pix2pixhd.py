"""The specs `pix2pixhd` and `spade`: contract, and totals and gradients beside those of the authors' code."""

import copy
from itertools import pairwise

import pytest
import torch
from nectargan_pix2pixhd import pix2pixhd, spade
from torch import nn
from torch.nn import functional

from nectargan_core import Config, LossManager
from nectargan_core.errors import NectarganWarning, SpecError
from nectargan_core.testing import LossSpecTests

# They start processes, which takes longer than all other checks.
INSTALLED = dict.fromkeys(("entry_point", "imports"), "the spec `pix2pixhd` of the same module is checked so")


@pytest.mark.slow
class TestPix2pixHD(LossSpecTests):
    name = "pix2pixhd"
    options = {"checkpoint": "random"}


@pytest.mark.slow
class TestSPADE(LossSpecTests):
    name = "spade"
    options = {"checkpoint": "random"}
    skip = {**INSTALLED, "compiles": "its losses are compiled as those of `pix2pixhd` and `kl`"}


# The networks of both sides


class Scale(nn.Module):
    """The discriminator of one scale: returns the map of each of its n_layers + 2 layers, the last the judgement."""

    def __init__(self, channels, n_layers):
        super().__init__()
        widths = [channels, *(4 + 2 * each for each in range(n_layers + 1)), 1]
        self.layers = nn.ModuleList(
            nn.Conv2d(inward, outward, 3, stride=2 if place < n_layers - 1 else 1, padding=1)
            for place, (inward, outward) in enumerate(pairwise(widths))
        )

    def forward(self, image):
        maps = [image]
        for place, layer in enumerate(self.layers):
            given = layer(maps[-1])
            maps.append(given if place == len(self.layers) - 1 else functional.leaky_relu(given, 0.2))
        return maps[1:]


class MultiScale(nn.Module):
    def __init__(self, channels, n_layers, num_d):
        super().__init__()
        self.scales = nn.ModuleList(Scale(channels, n_layers) for _ in range(num_d))

    def forward(self, x, image):
        result, image = [], torch.cat([x, image], dim=1)
        for scale in self.scales:
            result.append(scale(image))
            image = functional.avg_pool2d(image, 3, stride=2, padding=1, count_include_pad=False)
        return result


class Generator(nn.Module):
    """Makes an image of a label map, and of a style that an encoder takes from the target, if there is one."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.encoder = nn.Linear(3, 8)

    def encode(self, y):
        return self.encoder(y.mean((2, 3))).chunk(2, dim=1)

    def forward(self, x, style=None):
        features = self.first(x) if style is None else self.first(x) + style[..., None, None]
        return torch.tanh(self.last(torch.tanh(features)))


def networks(n_layers, num_d):
    torch.manual_seed(0)
    return Generator(), MultiScale(5, n_layers, num_d)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.rand(2, 2, 32, 32, generator=generator), torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1


# The authors' code


def authors_vgg(vgg19, fake, real):
    total, weights = 0.0, iter([1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0])
    for place, layer in enumerate(vgg19):
        fake, real = layer(fake), layer(real)
        if place in (1, 6, 11, 20, 29):
            total = total + next(weights) * functional.l1_loss(fake, real.detach())
    return total


def pix2pixhd_step(net_g, net_d, vgg19, label, image, n_layers):
    """Return the totals of generator and discriminator of a step of train.py."""

    def criterion_gan(predictions, target):
        return sum(functional.mse_loss(each[-1], torch.full_like(each[-1], target)) for each in predictions)

    fake_image = net_g(label)
    loss_d_fake = criterion_gan(net_d(label, fake_image.detach()), 0.0)
    pred_real = net_d(label, image)
    loss_d_real = criterion_gan(pred_real, 1.0)
    pred_fake = net_d(label, fake_image)
    loss_g_gan = criterion_gan(pred_fake, 1.0)
    feat_weights, d_weights = 4.0 / (n_layers + 1), 1.0 / len(pred_fake)
    loss_g_gan_feat = 0.0
    for fakes, reals in zip(pred_fake, pred_real, strict=True):
        for fake, real in zip(fakes[:-1], reals[:-1], strict=True):
            loss_g_gan_feat += d_weights * feat_weights * functional.l1_loss(fake, real.detach()) * 10.0
    loss_g_vgg = authors_vgg(vgg19, fake_image, image) * 10.0
    return loss_g_gan + loss_g_gan_feat + loss_g_vgg, (loss_d_fake + loss_d_real) * 0.5


def spade_step(net_g, net_d, vgg19, label, image, use_vae, noise):
    """Return the totals of generator and discriminator of a step of the trainer."""

    def criterion_gan(predictions, target_is_real, for_discriminator):
        loss = 0.0
        for each in predictions:
            pred = each[-1]
            if not for_discriminator:
                loss = loss - pred.mean()
            else:
                nearest = pred - 1 if target_is_real else -pred - 1
                loss = loss - torch.min(nearest, torch.zeros_like(pred)).mean()
        return loss / len(predictions)

    def discriminate(fake_image):
        both = net_d(torch.cat([label, label]), torch.cat([fake_image, image]))
        half = len(label)
        return [[each[:half] for each in maps] for maps in both], [[each[half:] for each in maps] for maps in both]

    style, total = None, 0.0
    if use_vae:
        mu, logvar = net_g.encode(image)
        style = noise * torch.exp(0.5 * logvar) + mu
        total = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) * 0.05
    fake_image = net_g(label, style)
    pred_fake, pred_real = discriminate(fake_image)
    total = total + criterion_gan(pred_fake, True, for_discriminator=False)
    for fakes, reals in zip(pred_fake, pred_real, strict=True):
        for fake, real in zip(fakes[:-1], reals[:-1], strict=True):
            total = total + functional.l1_loss(fake, real.detach()) * 10.0 / len(pred_fake)
    total = total + authors_vgg(vgg19, fake_image, image) * 10.0
    pred_fake, pred_real = discriminate(fake_image.detach())
    return total, criterion_gan(pred_fake, False, True) + criterion_gan(pred_real, True, True)


# Ours


def our_step(manager, generator, critic, x, y, noise=None):
    manager.tick()
    inputs = {"y": y}
    style = None
    if noise is not None:
        inputs["mu"], inputs["logvar"] = generator.encode(y)
        style = noise * torch.exp(0.5 * inputs["logvar"]) + inputs["mu"]
    y_fake = generator(x, style)
    said_fake, said_real = critic(x, y_fake), critic(x, y)
    inputs |= {"y_fake": y_fake, "pred_fake": said_fake}
    inputs["features_fake"] = [maps[:-1] for maps in said_fake]
    inputs["features_real"] = [maps[:-1] for maps in said_real]
    of_generator = manager.compute_losses(inputs, query="G")
    inputs = {"pred_real": said_real, "pred_fake": critic(x, y_fake.detach())}
    return of_generator.total, manager.compute_losses(inputs, query="D").total


def assert_same_step(totals, expected, networks, their_networks):
    """Compare totals and gradients of a step, and train both sides by their own gradients."""
    found = []
    for total, their_total, network, theirs in zip(totals, expected, networks, their_networks, strict=True):
        torch.testing.assert_close(total, their_total, rtol=1e-5, atol=1e-6)
        for each, of in ((total, network), (their_total, theirs)):
            found.append(torch.autograd.grad(each, list(of.parameters()), retain_graph=True, allow_unused=True))
        torch.testing.assert_close(found[-2], found[-1], rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        for network, gradients in zip(
            [networks[0], their_networks[0], networks[1], their_networks[1]], found, strict=True
        ):
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                if gradient is not None:
                    parameter.sub_(0.01 * gradient)


@pytest.mark.parametrize(("n_layers", "num_d"), [(3, 2), (2, 3), (4, 1)])
def test_three_steps_are_those_of_pix2pixhd(vgg19, checkpoint, n_layers, num_d):
    options = {"pix2pixhd": {"checkpoint": checkpoint, "n_layers": n_layers}}
    manager = LossManager.from_spec("pix2pixhd", options=options)
    ours = networks(n_layers, num_d)
    theirs = copy.deepcopy(ours)
    for step in range(3):
        x, y = batch(step)
        totals = our_step(manager, *ours, x, y)
        assert_same_step(totals, pix2pixhd_step(*theirs, vgg19, x, y, n_layers), ours, theirs)


@pytest.mark.parametrize(("n_layers", "num_d"), [(4, 2), (2, 3)])
@pytest.mark.parametrize("variant", ["plain", "vae"])
def test_three_steps_are_those_of_spade(vgg19, checkpoint, variant, n_layers, num_d):
    manager = LossManager.from_spec(f"spade:{variant}", options={"spade": {"checkpoint": checkpoint}})
    ours = networks(n_layers, num_d)
    theirs = copy.deepcopy(ours)
    for step in range(3):
        x, y = batch(step)
        noise = torch.randn(2, 4, generator=torch.Generator().manual_seed(step))
        totals = our_step(manager, *ours, x, y, noise if variant == "vae" else None)
        expected = spade_step(*theirs, vgg19, x, y, variant == "vae", noise)
        assert_same_step(totals, expected, ours, theirs)


# Names, weights and options

RANDOM = {"checkpoint": "random"}
LAYERS = {"relu1_1": 1 / 32, "relu2_1": 1 / 16, "relu3_1": 1 / 8, "relu4_1": 1 / 4, "relu5_1": 1.0}


def described(manager):
    losses = manager.get_registered_losses()
    return [(name, loss.loss_weight, loss.tags, loss.inputs, repr(loss.function)) for name, loss in losses.items()]


def test_pix2pixhd_is_a_formula_of_the_losses_it_is_made_of():
    perceptual = {"layers": LAYERS, "normalize": False, **RANDOM}
    manager = LossManager.from_spec(
        "gan:lsgan + 10*feature-matching + 10*vgg",
        options={"gan": {"over_discriminators": "sum"}, "vgg": perceptual},
        weights={"D_real": 0.5, "D_fake": 0.5},
    )
    named = LossManager.from_spec("pix2pixhd", options={"pix2pixhd": RANDOM})
    assert described(named) == described(manager)


def test_spade_is_a_formula_of_the_losses_it_is_made_of():
    manager = LossManager.from_spec(
        "gan:hinge + 10*feature-matching + 10*vgg + 0.05*kl",
        options={"vgg": {"layers": LAYERS, "normalize": False, **RANDOM}, "kl": {"reduction": "sum"}},
    )
    named = LossManager.from_spec("spade:vae", options={"spade": RANDOM})
    assert described(named) == described(manager)


@pytest.mark.parametrize(("key", "name"), [("gan", "G_GAN"), ("feature_matching", "G_FM"), ("vgg", "G_VGG")])
@pytest.mark.parametrize("spec", [pix2pixhd, spade])
def test_each_key_of_the_configuration_sets_its_loss(spec, key, name):
    before = spec(Config(), checkpoint="random")
    after = spec(Config.model_validate({"train": {"loss": {f"lambda_{key}": 2.5}}}), checkpoint="random")
    changed = {name: loss.loss_weight for name, loss in after.items() if loss.loss_weight != before[name].loss_weight}
    assert changed == {name: 2.5}


def test_the_configuration_sets_the_weight_of_the_kl_divergence():
    config = Config.model_validate({"train": {"loss": {"lambda_kl": 0.1}}})
    assert spade(config, "vae", checkpoint="random")["G_KL"].loss_weight == 0.1


@pytest.mark.parametrize(("n_layers", "weight"), [(1, 20.0), (3, 10.0), (4, 8.0)])
def test_the_default_weight_of_feature_matching_depends_on_the_layers(n_layers, weight):
    assert pix2pixhd(Config(), n_layers=n_layers, checkpoint="random")["G_FM"].loss_weight == weight


@pytest.mark.parametrize("n_layers", [0, -1, 2.0, "3", True, None])
def test_a_number_of_layers_that_is_none_is_refused(n_layers):
    with pytest.raises(SpecError, match=r"n_layers is a number of layers, .*at least 1"):
        LossManager.from_spec("pix2pixhd", options={"pix2pixhd": {**RANDOM, "n_layers": n_layers}})


@pytest.mark.parametrize("name", ["pix2pixhd", "spade"])
def test_images_from_0_to_1_are_warned_of(name):
    inputs = {"y_fake": torch.rand(1, 3, 16, 16), "y": torch.rand(1, 3, 16, 16)}
    manager = LossManager.from_spec(name, options={name: RANDOM})
    with pytest.warns(NectarganWarning, match="G_VGG.*input_range"):
        manager.compute_losses(inputs, query="G_VGG")
    manager = LossManager.from_spec(name, options={name: {**RANDOM, "normalize": True, "input_range": (0.0, 1.0)}})
    assert manager.compute_losses(inputs, query="G_VGG").total > 0


@pytest.mark.parametrize("name", ["pix2pixhd", "spade"])
def test_images_pass_to_vgg_as_they_are_unless_told_otherwise(name):
    y_fake, y = torch.rand(2, 1, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = []
    for normalize in (False, True):
        manager = LossManager.from_spec(name, options={name: {**RANDOM, "normalize": normalize}})
        assert manager.get_registered_losses()["G_VGG"].function.normalize is normalize
        values.append(manager.compute_losses({"y_fake": y_fake, "y": y}, query="G_VGG").total.item())
    assert values[0] != values[1]
