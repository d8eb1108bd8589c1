"""neosr's losses, as `docs/published-objectives.md` writes them: totals and gradients are those of its code.

The other side of each comparison follows neosr-project/neosr, commit 31c7022: `neosr/models/image.py`, the files in
`neosr/losses/`, and `neosr/archs/vgg_arch.py`, with the weights of `options/train_esrgan.toml`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import published
import pytest
import torch
from nectargan_lpips.backbones import VGG16
from nectargan_vgg.network import LAYERS, VGG19_WEIGHTS, parameter_shapes
from nectargan_vgg.weights import frozen_parameters, weight_source
from torch import Tensor, nn
from torch.nn import functional

from nectargan_core import LossManager

if TYPE_CHECKING:
    from collections.abc import Iterator

CPU = torch.device("cpu")


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator = nn.Conv2d(3, 3, 3, padding=1)
    # An image that resembles its source: of a mean that is negative the authors' power is nan.
    nn.init.dirac_(generator.weight)
    critic = nn.Sequential(nn.Conv2d(3, 6, 4, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3))
    return generator, critic


def batches(iterations: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
    for iteration in iterations:
        generator = torch.Generator().manual_seed(iteration)
        gt = functional.interpolate(torch.rand(2, 3, 8, 8, generator=generator), (32, 32), mode="bilinear")
        yield iteration, (gt + 0.1 * torch.randn(2, 3, 32, 32, generator=generator)).clamp(0, 1), gt


def bands(image: Tensor) -> Tensor:
    """Three images of high frequencies, as `wavelet_guided` makes them of the luma, with another wavelet."""
    luma = 16 + 65.481 * image[:, :1] + 128.553 * image[:, 1:2] + 24.966 * image[:, 2:]
    across, down = luma - luma.roll(1, 3), luma - luma.roll(1, 2)
    return torch.cat([0.035 * across, 0.025 * down, 0.02 * (across - across.roll(1, 2))], 1)


# neosr's losses


def ldl(output: Tensor, gt: Tensor) -> Tensor:
    """`ldl_loss.py`."""
    residual = (gt - output).abs().sum(1, keepdim=True)
    of_image = residual.var(dim=(-1, -2, -3), keepdim=True) ** (1 / 5)
    windows = functional.pad(residual, [3, 3, 3, 3], mode="reflect").unfold(2, 7, 1).unfold(3, 7, 1)
    weight = of_image * windows.var(dim=(-1, -2), unbiased=True)
    return functional.l1_loss(weight * output, weight * gt)


def mssim(x: Tensor, y: Tensor) -> Tensor:
    """`ssim_loss.py`."""
    places = torch.arange(-5, 6)
    gaussian = torch.exp(-0.5 * places**2 / 1.5**2)
    gaussian = gaussian / gaussian.sum()
    window = torch.outer(gaussian, gaussian).expand(3, 1, 11, 11)

    def mean(image: Tensor) -> Tensor:
        return functional.conv2d(image, window, padding=5, groups=3)

    similarity = 1.0
    for scale, power in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        one, two = mean(x), mean(y)
        covariance = mean(x * y) - one * two
        variances = mean(x * x) - one * one + mean(y * y) - two * two
        cs = (2 * covariance + 0.03**2) / (variances + 0.03**2)
        luminance = (2 * one * two + 0.01**2) / (one**2 + two**2 + 0.01**2)
        similarity = similarity * (cs if scale < 4 else luminance * cs).mean() ** power
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    return 1 - similarity


def bce(judgement: Tensor, label: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(judgement, torch.full_like(judgement, label))


def perceptual(output: Tensor, gt: Tensor) -> Tensor:
    """`vgg_perceptual_loss.py` with the criterion `huber`."""
    weights = frozen_parameters(
        weight_source(VGG19_WEIGHTS, "random"), parameter_shapes(LAYERS["conv5_4"]), CPU, torch.float32
    )
    fake, real = (published.vgg((image - 0.5) / 0.25, weights, published.VGG19) for image in (output, gt))
    layers = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
    return sum(functional.huber_loss(fake[name] * 0.1, real[name] * 0.1) * weight for name, weight in layers.items())


def l2_pool(features: Tensor) -> Tensor:
    """`L2pooling`, with a Hann window of 5, the ends of which are 0."""
    hann = torch.tensor([0.5, 1.0, 0.5])
    window = torch.outer(hann, hann) / 4
    channels = features.shape[1]
    pooled = functional.conv2d(features**2, window.expand(channels, 1, 3, 3), stride=2, padding=1, groups=channels)
    return (pooled + 1e-12).sqrt()


def dists(output: Tensor, gt: Tensor) -> Tensor:
    """`dists_loss.py`, with equal alpha and beta."""
    weights = frozen_parameters(
        weight_source(VGG16.checkpoint, "random"), dict(VGG16.checkpoint.parameters), CPU, torch.float32
    )
    maps = []
    for image in (output, gt):
        features = published.vgg(image, weights, published.VGG16, l2_pool)
        maps.append([image, *(features[name] for name in ("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"))])
    total = torch.zeros(())
    for fake, real in zip(*maps, strict=True):
        means = [each.mean((2, 3), keepdim=True) for each in (fake, real)]
        variances = [(each - mean).pow(2).mean((2, 3)) for each, mean in zip((fake, real), means, strict=True)]
        covariance = ((fake - means[0]) * (real - means[1])).mean((2, 3))
        one, two = (mean.flatten(1) for mean in means)
        total = total + ((2 * one * two + 1e-6) / (one**2 + two**2 + 1e-6)).sum(1)
        total = total + ((2 * covariance + 1e-6) / (variances[0] + variances[1] + 1e-6)).sum(1)
    channels = sum(each.shape[1] for each in maps[0])
    return 1 - (total / (2 * channels)).mean()


def focal_frequency(output: Tensor, gt: Tensor) -> Tensor:
    """`ff_loss.py`."""
    fake, real = (torch.fft.fft2(image, norm="ortho").mean(0, keepdim=True) for image in (output, gt))
    squares = (fake - real).real ** 2 + (fake - real).imag ** 2
    matrix = squares.sqrt()
    matrix = (matrix / matrix.amax((-2, -1), keepdim=True)).clamp(0, 1).detach()
    return (matrix * squares).mean() * 50


def loss_of_the_generator(generator, critic, lq, gt):
    """`image.py`, lines 505 to 602."""
    output = generator(lq)
    with torch.inference_mode():
        judgement = critic(output)
    total = mssim(output, gt) + 0.5 * perceptual(output, gt) + 0.5 * dists(output, gt) + ldl(output, gt)
    total = total + 0.35 * focal_frequency(output, gt)
    return total + 0.3 * bce(judgement, 1.0)


def loss_of_the_discriminator(iteration, critic, output, gt):
    """`image.py`, lines 642 to 670, with `wavelet_guided` and `wavelet_init = 80000`."""
    if iteration >= 80_000:
        output, gt = bands(output), bands(gt)
    return bce(critic(gt), 1.0) + bce(critic(output.detach()), 0.0)


# The objective of the page


def test_the_generator_has_the_total_and_gradients_of_neosr():
    manager = published.of_the_page("neosr")
    generator, critic = networks()
    for iteration, lq, gt in batches((1, 2, 3)):
        manager.tick(step=iteration)
        output = generator(lq)
        with torch.inference_mode():
            judgement = critic(output)
        inputs = {"y_fake": output, "y": gt, "pred_fake": judgement}
        inputs |= {"y_fake_vgg": (output - 0.5) / 0.25, "y_vgg": (gt - 0.5) / 0.25}
        losses = manager.compute_losses(inputs, query="G")
        published.assert_same(losses.total, loss_of_the_generator(generator, critic, lq, gt), generator)


def test_the_discriminator_has_the_total_and_gradients_of_neosr_before_and_with_wavelets():
    manager = published.of_the_page("neosr")
    generator, critic = networks()
    for iteration, lq, gt in batches((79_999, 80_000, 80_001)):
        manager.tick(step=iteration)
        output = generator(lq).detach()
        real, fake = (bands(gt), bands(output)) if iteration >= 80_000 else (gt, output)
        losses = manager.compute_losses({"pred_real": critic(real), "pred_fake": critic(fake)}, query="D")
        expected = loss_of_the_discriminator(iteration, critic, output, gt)
        published.assert_same(losses.total, expected, critic)


PIXEL = {
    "l1": functional.l1_loss,
    "l2": functional.mse_loss,
    "huber": functional.huber_loss,
    "charbonnier": lambda output, gt: ((output - gt) ** 2 + 1e-12).sqrt().clamp(0, 1).mean(),
}


@pytest.mark.parametrize("name", PIXEL)
def test_pixel_losses_are_those_of_neosr(name):
    """`basic_loss.py`; `chc_loss` where it does not clip: with `clip_min=0`, as the losses that use it make it."""
    options = {"charbonnier": {"epsilon": 1e-6}} if name == "charbonnier" else {}
    manager = LossManager.from_spec(f"1*{name}", options=options)
    generator, _ = networks()
    ((_, lq, gt),) = batches((1,))
    losses = manager.compute_losses({"y_fake": generator(lq), "y": gt})
    published.assert_same(losses.total, PIXEL[name](generator(lq), gt), generator)


@pytest.mark.parametrize(
    ("variant", "criterion"), [("vanilla", functional.binary_cross_entropy_with_logits), ("lsgan", functional.mse_loss)]
)
def test_adversarial_losses_are_those_of_neosr(variant, criterion):
    """`gan_loss.py`, with `bce` and `mse`."""
    manager = LossManager.from_spec(f"0.3*gan:{variant}")
    generator, critic = networks()
    ((_, lq, gt),) = batches((1,))
    fake, real = critic(generator(lq)), critic(gt)
    expected = 0.3 * criterion(fake, torch.ones_like(fake))
    published.assert_same(manager.compute_losses({"pred_fake": fake}, query="G").total, expected, generator)
    expected = criterion(real, torch.ones_like(real)) + criterion(fake, torch.zeros_like(fake))
    losses = manager.compute_losses({"pred_fake": fake, "pred_real": real}, query="D")
    published.assert_same(losses.total, expected, critic)
