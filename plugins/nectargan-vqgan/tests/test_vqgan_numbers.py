"""Training against plain PyTorch that follows the authors' code: equal totals, gradients and adaptive weights."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nectargan_core import LossManager

# In float32 it depends on the order of operations whether a feature that is almost 0 is active, and has a gradient. In
# float64 totals and gradients are the same.
SAME = {torch.float32: (1e-4, 1e-2), torch.float64: (1e-7, 1e-7)}
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


def build(name, options, config=None):
    manager = LossManager.from_spec(name, config, options={"vqgan": options})
    manager.modules().to(torch.get_default_dtype())
    return manager


class Quantiser(nn.Module):
    """`VectorQuantizer2` of taming-transformers, which gives its codes and their loss."""

    def __init__(self, beta=0.25):
        super().__init__()
        self.beta, self.codes = beta, nn.Embedding(6, 4)

    def forward(self, z):
        flat = z.movedim(1, -1)
        nearest = (flat[..., None, :] - self.codes.weight).square().sum(-1).argmin(-1)
        chosen = self.codes(nearest)
        loss = (chosen.detach() - flat).square().mean() + self.beta * (chosen - flat.detach()).square().mean()
        return (flat + (chosen - flat).detach()).movedim(-1, 1), loss


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.quantiser = nn.Conv2d(3, 4, 4, 2, 1), Quantiser()
        self.body = nn.Sequential(nn.ConvTranspose2d(4, 8, 4, 2, 1), nn.Tanh())
        self.last = nn.Conv2d(8, 3, 3, padding=1)

    def forward(self, x):
        codes, loss = self.quantiser(self.encoder(x))
        return self.last(self.body(codes)), loss


def networks():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 4, 1, 1))
    pair = Autoencoder(), critic
    return *pair, *(torch.optim.SGD(network.parameters(), lr=0.05) for network in pair)


def images(step):
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(step)) * 2 - 1


def gradient(total, network):
    gradients = torch.autograd.grad(total, list(network.parameters()), retain_graph=True)
    return torch.cat([each.flatten() for each in gradients])


def assert_same(total, expected, network):
    of_totals, of_gradients = SAME[total.dtype]
    torch.testing.assert_close(total, expected, rtol=of_totals, atol=1e-7)
    found, wanted = gradient(total, network), gradient(expected, network)
    assert (found - wanted).norm() <= of_gradients * wanted.norm()


def train(optimizer, total):
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


class Authors:
    """`VQLPIPSWithDiscriminator`."""

    def __init__(self, lpips, critic, disc_start, disc_weight=1.0, disc_loss="hinge", perceptual_weight=1.0):
        self.lpips, self.critic = lpips, critic
        self.disc_start, self.disc_weight, self.disc_loss = disc_start, disc_weight, disc_loss
        self.perceptual_weight = perceptual_weight
        self.applied = 0.0

    def generator(self, codebook_loss, y, y_fake, step, last_layer):
        rec_loss = (y - y_fake).abs() + self.perceptual_weight * self.lpips(y, y_fake)
        nll_loss, g_loss = rec_loss.mean(), -self.critic(y_fake).mean()
        (nll_grads,) = torch.autograd.grad(nll_loss, last_layer, retain_graph=True)
        (g_grads,) = torch.autograd.grad(g_loss, last_layer, retain_graph=True)
        d_weight = (nll_grads.norm() / (g_grads.norm() + 1e-4)).clamp(0.0, 1e4).detach() * self.disc_weight
        self.applied = d_weight.item() * (step >= self.disc_start)
        return nll_loss + d_weight * float(step >= self.disc_start) * g_loss + codebook_loss.mean()

    def discriminator(self, y, y_fake, step):
        real, fake = self.critic(y), self.critic(y_fake.detach())
        if self.disc_loss == "hinge":
            loss = 0.5 * (functional.relu(1.0 - real).mean() + functional.relu(1.0 + fake).mean())
        else:
            loss = 0.5 * (functional.softplus(-real).mean() + functional.softplus(fake).mean())
        return float(step >= self.disc_start) * loss


CASES = [
    ("vqgan", {"disc_start": 2}, {"disc_weight": 0.8}),
    ("vqgan:vanilla", {"disc_start": 1, "disc_weight": 1.0}, {"disc_weight": 1.0, "disc_loss": "vanilla"}),
    ("vqgan:hinge", {"disc_start": 0}, {"disc_weight": 0.8, "disc_loss": "hinge"}),
]


@each_dtype
@pytest.mark.parametrize(("name", "options", "arguments"), CASES, ids=["hinge", "vanilla", "from the start"])
def test_vqgan_is_that_of_the_authors(lpips, weights, name, options, arguments, dtype):
    manager = build(name, {**weights, **options})
    network, critic, optimizer_g, optimizer_d = networks()
    authors = Authors(lpips, critic, options["disc_start"], **arguments)
    for step in range(5):
        y = images(step)
        manager.tick()
        y_fake, codebook_loss = network(y)
        pred_fake = critic(y_fake)
        inputs = {"y": y, "y_fake": y_fake, "pred_fake": pred_fake, "codebook_loss": codebook_loss}
        losses = manager.compute_losses({**inputs, "last_layer": network.last.weight}, query="G")
        expected = authors.generator(codebook_loss, y, y_fake, step, network.last.weight)
        assert_same(losses.total, expected, network)
        applied = manager.get_loss_weights("G_GAN", precision=None)["G_GAN"]
        assert applied == pytest.approx(authors.applied, rel=SAME[dtype][1])
        train(optimizer_g, expected)

        inputs = {"pred_real": critic(y), "pred_fake": critic(y_fake.detach())}
        losses = manager.compute_losses(inputs, query="D")
        expected = authors.discriminator(y, y_fake, step)
        assert_same(losses.total, expected, critic)
        train(optimizer_d, expected)


@each_dtype
def test_the_weights_of_the_config_are_those_of_the_authors_arguments(lpips, weights):
    """perceptual_weight, codebook_weight and disc_weight."""
    config = {"train": {"loss": {"lambda_lpips": 0.3, "lambda_codebook": 2.0, "lambda_gan": 0.6}}}
    manager = build("vqgan", {**weights, "disc_start": 0}, config)
    network, critic, *_ = networks()
    authors = Authors(lpips, critic, 0, disc_weight=0.6, perceptual_weight=0.3)
    y = images(0)
    y_fake, codebook_loss = network(y)
    inputs = {"y": y, "y_fake": y_fake, "pred_fake": lambda: critic(y_fake), "codebook_loss": codebook_loss}
    losses = manager.compute_losses({**inputs, "last_layer": lambda: network.last.weight}, query="G")
    assert_same(losses.total, authors.generator(2 * codebook_loss, y, y_fake, 0, network.last.weight), network)


@each_dtype
def test_the_codebook_loss_has_no_part_in_the_adaptive_weight(weights):
    """Also where the last layer does have a part in it."""
    manager = build("vqgan", {**weights, "disc_start": 0})
    network, critic, *_ = networks()
    found = []
    for factor in (0.0, 100.0):
        y = images(0)
        y_fake, _ = network(y)
        inputs = {"y": y, "y_fake": y_fake, "pred_fake": critic(y_fake), "codebook_loss": factor * y_fake.square()}
        manager.tick()
        manager.compute_losses({**inputs, "last_layer": network.last.weight}, query="G")
        found.append(manager.get_loss_weights("G_GAN", precision=None)["G_GAN"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)
