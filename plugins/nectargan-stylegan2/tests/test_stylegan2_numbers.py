"""Training against plain PyTorch that follows the authors' code: equal totals and gradients, lazy steps included."""

import math

import torch
from torch import nn
from torch.nn import functional

from nectargan_core import LossManager

# On both sides of the intervals of 4 and of 16.
STEPS = [0, 1, 2, 4, 8, 15, 16, 17, 32]


class Synthesis(nn.Module):
    """Images of latents (N, 2, 8), one for each of two layers."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 4 * 16), nn.Conv2d(4, 3, 3, padding=1)
        self.style = nn.Linear(8, 4)

    def forward(self, ws):
        image = self.first(ws[:, 0]).unflatten(1, (4, 4, 4)).tanh()
        return self.last(functional.interpolate(image * self.style(ws[:, 1])[:, :, None, None], scale_factor=2)).tanh()


class Mapping(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8)

    def forward(self, z):
        return functional.leaky_relu(self.layer(z), 0.2)[:, None].repeat(1, 2, 1)


def networks():
    torch.manual_seed(0)
    generator = nn.ModuleDict({"mapping": Mapping(), "synthesis": Synthesis()})
    critic = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.Softplus(), nn.Flatten(), nn.Linear(36, 1))
    return generator, critic, *(torch.optim.SGD(network.parameters(), lr=0.01) for network in (generator, critic))


def run(generator, z):
    ws = generator["mapping"](z)
    return generator["synthesis"](ws), ws


def data(step):
    random = torch.Generator().manual_seed(step)
    return torch.rand(4, 3, 8, 8, generator=random) * 2 - 1, *torch.randn(4, 4, 8, generator=random)


def gradients(total, network):
    gradients = torch.autograd.grad(total, list(network.parameters()), retain_graph=True, allow_unused=True)
    return [torch.zeros(()) if each is None else each for each in gradients]


def assert_same(total, expected, network):
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients(total, network), gradients(expected, network), rtol=1e-4, atol=1e-6)


def train(optimizer, total):
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


class Authors:
    """`StyleGAN2Loss` of stylegan2-ada-pytorch, with the totals that its phases send back."""

    def __init__(self, generator, critic, gamma=10.0, pl_weight=2.0, pl_decay=0.01):
        self.generator, self.critic = generator, critic
        self.gamma, self.pl_weight, self.pl_decay, self.pl_mean = gamma, pl_weight, pl_decay, torch.zeros(())

    def g_main(self, z):
        return functional.softplus(-self.critic(run(self.generator, z)[0])).mean()

    def g_reg(self, z, gain):
        image, ws = run(self.generator, z[: len(z) // 2])
        noise = torch.randn_like(image) / math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * noise).sum(), ws, create_graph=True)
        lengths = gradient.square().sum(2).mean(1).sqrt()
        mean = self.pl_mean.lerp(lengths.mean(), self.pl_decay)
        self.pl_mean = mean.detach()
        return ((lengths - mean).square() * self.pl_weight).mean() * gain

    def d_main(self, z, real):
        fake = functional.softplus(self.critic(run(self.generator, z)[0].detach())).mean()
        return fake + functional.softplus(-self.critic(real)).mean()

    def d_reg(self, real, gain):
        real = real.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(self.critic(real).sum(), real, create_graph=True)
        return (gradient.square().sum([1, 2, 3]) * (self.gamma / 2)).mean() * gain


def test_the_phases_of_the_authors_are_queries():
    """Four phases with latents of their own, each with a step of its optimizer."""
    manager = LossManager.from_spec("stylegan2")
    generator, critic, optimizer_g, optimizer_d = networks()
    authors = Authors(generator, critic)
    for step in STEPS:
        y, z_main, z_reg, z_fake, _ = data(step)
        manager.tick(step=step)

        losses = manager.compute_losses({"pred_fake": critic(run(generator, z_main)[0])}, query=["G_GAN"])
        expected = authors.g_main(z_main)
        assert_same(losses.total, expected, generator)
        train(optimizer_g, expected)

        image, w = run(generator, z_reg[:2])
        torch.manual_seed(step)
        losses = manager.compute_losses({"y_fake": image, "w": w}, query=["G_PL"])
        assert ("G_PL" in losses.ran) == (step % 4 == 0)
        if losses.ran:
            torch.manual_seed(step)
            expected = authors.g_reg(z_reg, gain=4)
            assert_same(losses.total, expected, generator)
            train(optimizer_g, expected)

        pred_fake = critic(run(generator, z_fake)[0].detach())
        losses = manager.compute_losses({"pred_real": critic(y), "pred_fake": pred_fake}, query=["D_real", "D_fake"])
        expected = authors.d_main(z_fake, y)
        assert_same(losses.total, expected, critic)
        train(optimizer_d, expected)

        losses = manager.compute_losses({"y": y, "discriminator": critic}, query=["D_R1"])
        assert ("D_R1" in losses.ran) == (step % 16 == 0)
        if losses.ran:
            expected = authors.d_reg(y, gain=16)
            assert_same(losses.total, expected, critic)
            train(optimizer_d, expected)


def test_one_step_for_all_losses_of_a_network_has_their_sum():
    config = {"train": {"loss": {"lambda_r1": 1.0, "lambda_path_length": 0.5}}}
    options = {"stylegan2": {"r1_every": 2, "path_length_every": 3, "decay": 0.1}}
    manager = LossManager.from_spec("stylegan2", config, options=options)
    generator, critic, optimizer_g, optimizer_d = networks()
    authors = Authors(generator, critic, gamma=1.0, pl_weight=0.5, pl_decay=0.1)
    for step in range(7):
        y, z, z_reg, *_ = data(step)
        manager.tick()
        fake, _ = run(generator, z)
        image, w = run(generator, z_reg[:2])
        torch.manual_seed(step)
        losses = manager.compute_losses({"pred_fake": critic(fake), "y_fake": image, "w": w}, query="G")
        torch.manual_seed(step)
        expected = authors.g_main(z)
        if step % 3 == 0:
            expected = expected + authors.g_reg(z_reg, gain=3)
        assert losses.ran == (("G_GAN",) if step % 3 else ("G_GAN", "G_PL"))
        assert_same(losses.total, expected, generator)
        fake = fake.detach()
        train(optimizer_g, expected)

        inputs = {"pred_real": critic(y), "pred_fake": critic(fake), "y": y, "discriminator": critic}
        losses = manager.compute_losses(inputs, query="D")
        expected = functional.softplus(critic(fake)).mean() + functional.softplus(-critic(y)).mean()
        if step % 2 == 0:
            expected = expected + authors.d_reg(y, gain=2)
        assert_same(losses.total, expected, critic)
        train(optimizer_d, expected)
