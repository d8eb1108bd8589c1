"""Adversarial losses, feature matching and penalties, forward and backward, beside plain code."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from beside import Pair, rows_of
from nectargan_gan import (
    Adversarial,
    FeatureMatching,
    GradientPenalty,
    PathLength,
    Relativistic,
    SquaredGradient,
)
from table import Row
from torch import Tensor, nn

SIZE = 256


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
    total = fake[0][0].new_zeros(())
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
    alpha = torch.rand(len(y), 1, 1, 1, device=y.device)
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
        self.mean = self.mean.to(lengths.device)
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


class OfGenerator(nn.Module):
    """A loss of images and latents as one of latents and the generator."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, w: Tensor, generator: nn.Module) -> Tensor:
        """Compute the loss of the images that the generator makes of latents."""
        result: Tensor = self.loss(generator(w), w)
        return result


def predictions(batch: int) -> Sequence[Tensor]:
    """Make what a discriminator says of real and of generated images."""
    real, fake = torch.randn(2, batch, 1, 30, 30, generator=torch.Generator().manual_seed(0)).unbind()
    return [real.clone().requires_grad_(), fake.clone().requires_grad_()]


def features(batch: int) -> Sequence[list[list[Tensor]]]:
    """Make the features of generated and of real images by two discriminators."""
    generator = torch.Generator().manual_seed(0)
    made: list[list[list[Tensor]]] = []
    for _ in range(2):
        shapes = [[(16 * 2**k, SIZE // 2**k, SIZE // 2**k) for k in range(1 + scale, 4)] for scale in range(2)]
        made.append([[torch.randn(batch, *shape, generator=generator) for shape in each] for each in shapes])
    for one in made[0]:
        for each in one:
            each.requires_grad_()
    return made


def judged(count: int) -> Callable[[int], Sequence[Tensor | nn.Module]]:
    """Return what makes images and a discriminator."""

    def make(batch: int) -> Sequence[Tensor | nn.Module]:
        made = torch.rand(count, batch, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
        return [*made.unbind(), discriminator()]

    return make


def latents(batch: int) -> Sequence[Tensor | nn.Module]:
    """Make latents and a generator."""
    return [torch.randn(batch, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(), Generator()]


def pairs() -> list[Pair]:
    """Return each loss beside plain code. The values of those that draw random numbers differ."""
    found = []
    for variant in ("vanilla", "lsgan", "hinge", "wgan", "softplus"):
        for role in ("real", "fake"):
            ours = Adversarial(variant, role)  # type: ignore[arg-type]  # they are such literals
            plain = PlainAdversarial(variant, role == "real")
            inputs = lambda batch: predictions(batch)[:1]  # noqa: E731
            found.append(Pair(f"gan:{variant}, {role}, 30x30", "plain code", plain, ours, inputs))
    return [
        *found,
        Pair("gan:relativistic, 30x30", "plain code", plain_relativistic, Relativistic("real"), predictions),
        Pair("feature-matching", "plain code", plain_matching, FeatureMatching(), features),
        Pair("r1", "plain code", plain_r1, SquaredGradient(), judged(1)),
        Pair("gradient-penalty", "plain code", plain_penalty, GradientPenalty(), judged(2)),
        Pair("path-length", "plain code", OfGenerator(PlainPathLength()), OfGenerator(PathLength()), latents),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
