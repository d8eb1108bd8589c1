"""What adversarial losses, feature matching and penalties cost, forward and backward, beside plain code."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from interleaved import medians
from nectargan_gan import (
    Adversarial,
    FeatureMatching,
    GradientPenalty,
    PathLength,
    Relativistic,
    SquaredGradient,
)
from torch import Tensor, nn

Step = Callable[[], object]

BATCHES = (1, 8)
SIZE = 256
# Rounds and calls of what looks at predictions, which takes microseconds, and of what runs networks.
SMALL = (200, 40)
LARGE = (1, 12)


class PlainAdversarial(nn.Module):
    """An adversarial loss as a training repository has it: a target of its own for each call."""

    def __init__(self, variant: str, real: bool) -> None:
        super().__init__()
        self.variant, self.real = variant, real
        self.loss = {"vanilla": nn.BCEWithLogitsLoss(), "lsgan": nn.MSELoss(), "hinge": nn.ReLU()}.get(variant)

    def forward(self, prediction: Tensor) -> Tensor:
        """Compare a prediction with "real" or "generated"."""
        if self.variant == "wgan":
            return -prediction.mean() if self.real else prediction.mean()
        if self.variant == "softplus":
            return F.softplus(-prediction).mean() if self.real else F.softplus(prediction).mean()
        assert self.loss is not None  # for type checkers
        if self.variant == "hinge":
            result: Tensor = self.loss(1 - prediction if self.real else 1 + prediction).mean()
            return result
        compared: Tensor = self.loss(prediction, torch.full_like(prediction, float(self.real)))
        return compared


def plain_relativistic(real: Tensor, fake: Tensor) -> Tensor:
    """Compute `D_real` of the relativistic average loss."""
    return F.binary_cross_entropy_with_logits(real - fake.mean(), torch.ones_like(real))


def plain_matching(fake: list[list[Tensor]], real: list[list[Tensor]]) -> Tensor:
    """Compute feature matching in two loops."""
    total = torch.zeros(())
    for one, two in zip(fake, real, strict=True):
        for each, other in zip(one, two, strict=True):
            total = total + F.l1_loss(each, other.detach()) / len(fake)
    return total


def plain_r1(y: Tensor, discriminator: nn.Module) -> Tensor:
    """Compute R1."""
    image = y.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(image).sum(), image, create_graph=True)
    return gradient.square().sum([1, 2, 3]).mean() / 2


def plain_penalty(y: Tensor, y_fake: Tensor, discriminator: nn.Module) -> Tensor:
    """Compute the gradient penalty of WGAN-GP."""
    alpha = torch.rand(len(y), 1, 1, 1)
    between = (alpha * y + (1 - alpha) * y_fake).detach().requires_grad_()
    said = discriminator(between)
    (gradient,) = torch.autograd.grad(said, between, torch.ones_like(said), create_graph=True, retain_graph=True)
    return ((gradient.view(len(y), -1).norm(2, dim=1) - 1) ** 2).mean()


class PlainPathLength:
    """Path length regularisation in plain code."""

    def __init__(self) -> None:
        self.mean = torch.zeros(())

    def __call__(self, image: Tensor, w: Tensor) -> Tensor:
        """Compare the lengths of a batch with their running mean."""
        noise = torch.randn_like(image) / math.sqrt(image.shape[2] * image.shape[3])
        (gradient,) = torch.autograd.grad((image * noise).sum(), w, create_graph=True)
        lengths = gradient.square().sum(1).sqrt()
        mean = self.mean.lerp(lengths.mean(), 0.01)
        self.mean.copy_(mean.detach())
        return (lengths - mean).square().mean()


def discriminator() -> nn.Module:
    """Make a small patch discriminator."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(8, 16, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(16, 1, 4)
    )


class Generator(nn.Module):
    """A small generator of images from latents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(16, 8 * 32 * 32)
        self.last = nn.Sequential(nn.Tanh(), nn.Upsample(scale_factor=8), nn.Conv2d(8, 3, 3, padding=1))

    def forward(self, w: Tensor) -> Tensor:
        """Make images (N, 3, 256, 256)."""
        image: Tensor = self.last(self.first(w).view(-1, 8, 32, 32))
        return image


def differentiated(loss: Callable[..., Tensor], *inputs: Any) -> Step:
    """Make a function of no arguments that goes forward and backward once."""

    def step() -> None:
        loss(*inputs).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def regularised(loss: Callable[..., Tensor], generator: Generator, w: Tensor) -> Step:
    """Make a function of no arguments that makes images and differentiates their path lengths."""

    def step() -> None:
        loss(generator(w), w).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def pairs(batch: int) -> list[tuple[str, Step, Step, tuple[int, int]]]:
    """Return for each loss its name, plain code, ours, and how often to measure it."""
    real, fake = (torch.randn(batch, 1, 30, 30).requires_grad_() for _ in range(2))
    found = []
    for variant in ("vanilla", "lsgan", "hinge", "wgan", "softplus"):
        for role in ("real", "fake"):
            ours = Adversarial(variant, role)  # type: ignore[arg-type]  # they are such literals
            plain = PlainAdversarial(variant, role == "real")
            found.append((f"{variant}, {role}", differentiated(plain, real), differentiated(ours, real), SMALL))
    relativistic = Relativistic("real")
    found.append(
        (
            "relativistic, real",
            differentiated(plain_relativistic, real, fake),
            differentiated(relativistic, real, fake),
            SMALL,
        )
    )
    maps = [
        [[torch.randn(batch, 16 * 2**k, SIZE // 2**k, SIZE // 2**k) for k in range(1 + scale, 4)] for scale in range(2)]
        for _ in range(2)
    ]
    for one in maps[0]:
        for each in one:
            each.requires_grad_()
    matching = FeatureMatching()
    found.append(("feature-matching", differentiated(plain_matching, *maps), differentiated(matching, *maps), LARGE))
    network, generator = discriminator(), Generator()
    y, y_fake = (torch.rand(batch, 3, SIZE, SIZE) * 2 - 1 for _ in range(2))
    for name, plain_loss, our_loss, images in (
        ("r1", plain_r1, SquaredGradient(), (y,)),
        ("gradient-penalty", plain_penalty, GradientPenalty(), (y, y_fake)),
    ):
        losses = [functools.partial(loss, *images) for loss in (plain_loss, our_loss)]
        found.append((name, *(differentiated(loss, network) for loss in losses), LARGE))
    w = torch.randn(batch, 16).requires_grad_()
    lengths = [regularised(loss, generator, w) for loss in (PlainPathLength(), PathLength())]
    found.append(("path-length", lengths[0], lengths[1], LARGE))
    return found


def main() -> None:
    """Print a table of medians and ratios."""
    print("Adversarial losses and penalties, forward + backward (CPU time of one thread, medians of interleaved runs)")
    print(f"{'loss':<22}{'batch':>6}{'plain ms':>12}{'ours ms':>12}{'ours/plain':>12}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for batch in BATCHES:
            torch.manual_seed(0)
            for name, plain, ours, (calls, rounds) in pairs(batch):
                slow, fast = medians({"plain": plain, "ours": ours}, calls=calls, rounds=rounds).values()
                print(f"{name:<22}{batch:>6}{slow * 1e3:>12.3f}{fast * 1e3:>12.3f}{fast / slow:>12.2f}", flush=True)
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
