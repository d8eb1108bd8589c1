"""Published objectives as formulas: totals and gradients equal plain PyTorch, on both sides of each switch."""

from __future__ import annotations

import pytest
import torch
from published import assert_same, gradients
from torch import nn
from torch.nn import functional

from nectargan_core import LossManager, Schedule, Weighting, catalog

PARTS = '''
"""Losses that the objectives of the tests are made of."""
import torch
from torch.nn import functional
from nectargan_core import LMLoss

torch.manual_seed(7)
FEATURES = torch.nn.Conv2d(3, 4, 3)
FEATURES.requires_grad_(False)

def perceived(y_fake, y):
    return functional.l1_loss(FEATURES(y_fake), FEATURES(y))

def generator_hinge(pred_fake):
    return -pred_fake.mean()

def softplus(pred_fake):
    return functional.softplus(-pred_fake).mean()

def adversarial(config, subspec="hinge"):
    function = generator_hinge if subspec == "hinge" else softplus
    return {"G_GAN": LMLoss(name="G_GAN", function=function, inputs=("pred_fake",), tags=["G"])}

def l1(config):
    return {"G_L1": LMLoss(name="G_L1", function=torch.nn.L1Loss(), tags=["G"])}

def l2(config):
    return {"G_L2": LMLoss(name="G_L2", function=torch.nn.MSELoss(), tags=["G"])}

def features(config):
    return {"G_VGG": LMLoss(name="G_VGG", function=perceived, tags=["G"])}

def codebook(config):
    return {"G_codebook": LMLoss(name="G_codebook", function=lambda loss: loss, inputs=("codebook",), tags=["Q"])}

def matching(config):
    return {"G_FM": LMLoss(name="G_FM", function=torch.nn.L1Loss(), tags=["G"],
                           inputs=("features_fake", "features_real"))}

def penalty(y, discriminator):
    real = y.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean()

def r1(config):
    return {"D_R1": LMLoss(name="D_R1", function=penalty, inputs=("y", "discriminator"), tags=["D"])}

def logistic(config):
    return {
        "D_real": LMLoss(name="D_real", function=softplus, inputs=("pred_real",), tags=["D"]),
        "D_fake": LMLoss(name="D_fake", function=lambda pred: functional.softplus(pred).mean(), inputs=("pred_fake",),
                         tags=["D"]),
    }
'''


@pytest.fixture
def parts(site):
    """A distribution with the specs above, beside which no other may offer `l1` or another of these names."""
    names = ("adversarial", "l1", "l2", "features", "codebook", "matching", "r1", "logistic")
    site.install("acme-parts", specs={name: f"acme_parts:{name}" for name in names}, modules={"acme_parts.py": PARTS})
    catalog.configure(plugins=["acme-parts", "nectargan-schedules", "nectargan-weightings"])
    return __import__("acme_parts")


def networks():
    torch.manual_seed(0)
    body, last = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh()), nn.Conv2d(4, 3, 3, padding=1)
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    return nn.Sequential(body, last), critic


def images(step, size=2):
    generator = torch.Generator().manual_seed(step)
    return torch.rand(size, 3, 8, 8, generator=generator), torch.rand(size, 3, 8, 8, generator=generator)


def test_vqgan_weighs_its_discriminator_by_the_last_layer_from_step_10_000_on(parts):
    """Esser et al. 2021; the loss of their vqperceptual.py with disc_start 10,000 and disc_weight 0.8."""
    manager = LossManager.from_spec(
        "l1 + features + adversarial:hinge + codebook",
        schedules={
            "G_GAN": Schedule("window", unit="step", start=10_000, initial_value=0.0, target_value=0.8),
        },
        weightings={"G": Weighting("last-layer", params={"loss": "G_GAN"}, wrt="last_layer")},
    )
    network, critic = networks()
    for step in range(9_998, 10_004):
        x, y = images(step)
        y_fake = network(x)
        book = network[0](x).square().mean()
        manager.tick(step=step)
        inputs = {"y_fake": y_fake, "y": y, "pred_fake": lambda fake=y_fake: critic(fake), "codebook": book}
        losses = manager.compute_losses({**inputs, "last_layer": network[1].weight})

        nll = functional.l1_loss(y_fake, y) + parts.perceived(y_fake, y)
        g_loss = -critic(y_fake).mean()
        (nll_grads,) = torch.autograd.grad(nll, network[1].weight, retain_graph=True)
        (g_grads,) = torch.autograd.grad(g_loss, network[1].weight, retain_graph=True)
        d_weight = (nll_grads.norm() / (g_grads.norm() + 1e-4)).clamp(0.0, 1e4).detach() * 0.8
        expected = nll + (d_weight if step >= 10_000 else 0.0) * g_loss + book
        assert_same(losses.total, expected, network)
        applied = manager.get_loss_weights("G_GAN", None)["G_GAN"]
        assert applied == pytest.approx(d_weight.item() if step >= 10_000 else 0.0, rel=1e-5)


def test_encodec_balances_the_gradients_of_its_output(parts):
    """Défossez et al. 2022, section 3.4: g_i is scaled to R w_i / sum(w) over the average of its norm."""
    weights = {"G_L1": 0.1, "G_L2": 1.0, "G_GAN": 3.0, "G_FM": 3.0}
    manager = LossManager.from_spec(
        "0.1*l1 + 1*l2 + 3*adversarial:hinge + 3*matching + codebook",
        weightings={"G": Weighting("balancer", params={"ema_decay": 0.9}, wrt="y_fake")},
    )
    network, critic = networks()
    averages, fix = dict.fromkeys(weights, 0.0), 0.0
    for step in range(5):
        x, y = images(step)
        output = network(x)
        book = network[0](x).square().mean()
        manager.tick()

        def fake(given, layers=critic):
            return layers[0](given)

        inputs = {"y_fake": output, "y": y, "pred_fake": critic(output), "codebook": book}
        losses = manager.compute_losses({**inputs, "features_fake": fake(output), "features_real": fake(y).detach()})

        raw = {
            "G_L1": functional.l1_loss(output, y),
            "G_L2": functional.mse_loss(output, y),
            "G_GAN": -critic(output).mean(),
            "G_FM": functional.l1_loss(fake(output), fake(y).detach()),
        }
        # As their balancer does: one gradient with respect to the output, which is then sent back.
        fix = fix * 0.9 + 1.0
        sent = torch.zeros_like(output)
        for name, result in raw.items():
            (gradient,) = torch.autograd.grad(result, output, retain_graph=True)
            averages[name] = averages[name] * 0.9 + gradient.flatten(1).norm(dim=1).mean().item()
            scale = weights[name] / sum(weights.values()) / (averages[name] / fix + 1e-12)
            sent += scale * gradient
        expected = torch.autograd.grad(output, network.parameters(), sent, retain_graph=True)
        codebook = torch.autograd.grad(book, network.parameters(), retain_graph=True, allow_unused=True)
        both = [one if more is None else one + more for one, more in zip(expected, codebook, strict=True)]
        torch.testing.assert_close(
            gradients(losses.total, network), torch.cat([each.reshape(-1) for each in both]), rtol=1e-4, atol=1e-7
        )


def test_real_esrgan_sharpens_the_target_of_two_of_its_three_losses(parts):
    """Wang et al. 2021: the L1 and the perceptual loss see a sharpened target; the discriminator sees the plain one."""
    manager = LossManager.from_spec(
        "1*l1 + 1*features + 0.1*adversarial:logistic",
        rename_inputs={"G_L1": {"y": "y_sharp"}, "G_VGG": {"y": "y_sharp"}},
    )
    network, critic = networks()
    for step in range(2):
        x, y = images(step)
        sharp = y + 0.5 * (y - functional.avg_pool2d(y, 3, 1, 1))
        y_fake = network(x)
        inputs = {"y_fake": y_fake, "y_sharp": sharp, "pred_fake": critic(y_fake)}
        losses = manager.compute_losses(inputs, query="G")
        expected = (
            functional.l1_loss(y_fake, sharp)
            + parts.perceived(y_fake, sharp)
            + 0.1 * functional.softplus(-critic(y_fake)).mean()
        )
        assert_same(losses.total, expected, network)


def test_stylegan2_regularises_every_16_steps_with_16_times_the_weight(parts):
    """Karras et al. 2020, section 3.1: R1 with gamma 10, lazily."""
    lazy = Schedule("every", unit="step", initial_value=0.0, target_value=10.0 * 16, params={"n": 16})
    manager = LossManager.from_spec("logistic + r1", schedules={"D_R1": lazy})
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
            expected = expected + 10.0 / 2 * 16 * gradient.square().sum(dim=(1, 2, 3)).mean()
        assert_same(losses.total, expected, critic)
        assert ("D_R1" in losses.ran) == (step % 16 == 0)
