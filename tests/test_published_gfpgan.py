"""GFPGAN's objective, as `docs/published-objectives.md` writes it: totals and gradients are those of the authors' code.

The other side of each comparison follows TencentARC/GFPGAN, commit 7552a77: `gfpgan/models/gfpgan_model.py` (lines are
its own), with the weights of `options/train_gfpgan_v1.yml`, and the losses of BasicSR that it names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import published
import pytest
import torch
from nectargan_vgg.network import LAYERS, VGG19_WEIGHTS, parameter_shapes
from nectargan_vgg.weights import frozen_parameters, weight_source
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Iterator

SIZE, SCALES = 32, (8, 16, 32)
# Left eye, right eye, mouth: where they are, in place of `roi_align`.
PARTS = ((slice(4, 14), slice(3, 13)), (slice(4, 14), slice(18, 28)), (slice(20, 30), slice(8, 24)))
# `options/train_gfpgan_v1.yml`, lines 156 to 162.
PERCEPTUAL = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}


class Generator(nn.Module):
    """Gives an image, and one at each scale, as the decoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, padding=1)
        self.last = nn.Conv2d(6, 3, 3, padding=1)
        self.to_rgb = nn.ModuleList(nn.Conv2d(6, 3, 1) for _ in SCALES)

    def forward(self, lq: Tensor) -> tuple[Tensor, list[Tensor]]:
        features = self.body(lq).tanh()
        rgbs = [
            layer(functional.adaptive_avg_pool2d(features, scale))
            for layer, scale in zip(self.to_rgb, SCALES, strict=True)
        ]
        return self.last(features).tanh(), rgbs


class PartDiscriminator(nn.Module):
    """Judges a part of a face, and returns two layers of features."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, stride=2), nn.Conv2d(5, 1, 2)

    def forward(self, part: Tensor) -> tuple[Tensor, list[Tensor]]:
        one = functional.leaky_relu(self.first(part), 0.2)
        two = functional.leaky_relu(self.second(one), 0.2)
        return self.last(two), [one, two]


def networks() -> tuple[nn.Module, nn.Module, nn.ModuleList, nn.Module]:
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(3, 6, 4, stride=4), nn.LeakyReLU(0.2), nn.Conv2d(6, 1, 3))
    identity = nn.Sequential(nn.Conv2d(1, 3, 8, stride=8), nn.Flatten()).requires_grad_(False)
    return Generator(), critic, nn.ModuleList(PartDiscriminator() for _ in PARTS), identity


def batches(iterations: tuple[int, ...]) -> Iterator[tuple[int, Tensor, Tensor]]:
    for iteration in iterations:
        generator = torch.Generator().manual_seed(iteration)
        lq, gt = (torch.rand(2, 3, SIZE, SIZE, generator=generator) * 2 - 1 for _ in range(2))
        yield iteration, lq, gt


def crops(image: Tensor) -> list[Tensor]:
    return [image[:, :, rows, columns] for rows, columns in PARTS]


def gram(x: Tensor) -> Tensor:
    """`_gram_mat`, lines 259 to 272, and that of BasicSR's `PerceptualLoss`, which is the same."""
    n, c, h, w = x.shape
    flat = x.reshape(n, c, h * w)
    return flat.bmm(flat.transpose(1, 2)) / (c * h * w)


def grey(image: Tensor) -> Tensor:
    """`gray_resize_for_identity`, with a smaller size."""
    red, green, blue = image.unbind(1)
    luma = (0.2989 * red + 0.5870 * green + 0.1140 * blue).unsqueeze(1)
    return functional.interpolate(luma, (16, 16), mode="bilinear", align_corners=False)


def pyramid(gt: Tensor) -> list[Tensor]:
    """`construct_img_pyramid`, lines 225 to 232."""
    images = [gt]
    while len(images) < len(SCALES):
        images.insert(0, functional.interpolate(images[0], scale_factor=0.5, mode="bilinear", align_corners=False))
    return images


# The authors' losses


def perceptual(output: Tensor, gt: Tensor) -> tuple[Tensor, Tensor]:
    """BasicSR's `PerceptualLoss` with `range_norm` and `use_input_norm`: content, and style with a weight of 50."""
    shapes = parameter_shapes(LAYERS["conv5_4"])
    weights = frozen_parameters(
        weight_source(VGG19_WEIGHTS, "random"), shapes, torch.get_default_device(), torch.float32
    )
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    fake, real = (published.vgg(((image + 1) / 2 - mean) / std, weights, published.VGG19) for image in (output, gt))
    content = style = torch.zeros(())
    for name, weight in PERCEPTUAL.items():
        content = content + functional.l1_loss(fake[name], real[name]) * weight
        style = style + functional.l1_loss(gram(fake[name]), gram(real[name])) * weight
    return content, style * 50


def wgan_softplus(judgement: Tensor, is_real: bool) -> Tensor:
    return functional.softplus(-judgement if is_real else judgement).mean()


def vanilla(judgement: Tensor, label: float) -> Tensor:
    return functional.binary_cross_entropy_with_logits(judgement, torch.full_like(judgement, label))


def loss_of_the_generator(iteration, generator, critic, parts, identity, lq, gt):
    """`optimize_parameters`, lines 321 to 398."""
    output, rgbs = generator(lq)
    total = 0.1 * functional.l1_loss(output, gt)
    pyramid_weight = 1e-12 if iteration > 50_000 else 1.0
    for rgb, target in zip(rgbs, pyramid(gt), strict=True):
        total = total + functional.l1_loss(rgb, target) * pyramid_weight
    content, style = perceptual(output, gt)
    total = total + content + style + 0.1 * wgan_softplus(critic(output), True)
    comp_style = 0.0
    for part, fake, real in zip(parts, crops(output), crops(gt), strict=True):
        judgement, features = part(fake)
        _, targets = part(real)
        total = total + vanilla(judgement, 1.0)
        one, two = (
            functional.l1_loss(gram(feature), gram(target.detach()))
            for feature, target in zip(features, targets, strict=True)
        )
        comp_style = comp_style + one * 0.5 + two
    total = total + comp_style * 200
    return total + functional.l1_loss(identity(grey(output)), identity(grey(gt)).detach()) * 10


def loss_of_the_discriminators(iteration, output, critic, parts, gt):
    """`optimize_parameters`, lines 419 to 467; the authors call `backward` for each summand."""
    total = wgan_softplus(critic(gt), True) + wgan_softplus(critic(output.detach()), False)
    if iteration % 16 == 0:
        image = gt.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(critic(image).sum(), image, create_graph=True)
        total = total + 10 / 2 * gradient.pow(2).reshape(len(gt), -1).sum(1).mean() * 16
    for part, fake, real in zip(parts, crops(output.detach()), crops(gt), strict=True):
        total = total + vanilla(part(real)[0], 1.0) + wgan_softplus(part(fake)[0], False)
    return total


# The objective of the page


def grams(features: list[list[Tensor]]) -> list[list[Tensor]]:
    return [[0.5 * gram(one), gram(two)] for one, two in features]


@pytest.mark.parametrize("iterations", [(1, 16, 17), (49_999, 50_000, 50_001)], ids=str)
def test_the_generator_has_the_authors_total_and_gradients(iterations):
    manager = published.of_the_page("gfpgan")
    generator, critic, parts, identity = networks()
    for iteration, lq, gt in batches(iterations):
        manager.tick(step=iteration)
        output, rgbs = generator(lq)
        judgements, features = zip(*(part(crop) for part, crop in zip(parts, crops(output), strict=True)), strict=True)
        targets = [part(crop)[1] for part, crop in zip(parts, crops(gt), strict=True)]
        losses = manager.compute_losses(
            {
                "y_fake": output,
                "y": gt,
                "pred_fake": critic(output),
                "rgbs": rgbs,
                "pyramid": pyramid(gt),
                "parts_fake": list(judgements),
                "grams_fake": grams(features),
                "grams_real": grams(targets),
                "identity_fake": identity(grey(output)),
                "identity": identity(grey(gt)),
            },
            query="G",
        )
        expected = loss_of_the_generator(iteration, generator, critic, parts, identity, lq, gt)
        published.assert_same(losses.total, expected, generator)
        assert ("pyramid_G_FM" in losses.ran) == (iteration <= 50_000)


def test_the_discriminators_have_the_authors_total_and_gradients_with_r1_at_every_16th_iteration():
    manager = published.of_the_page("gfpgan")
    generator, critic, parts, _ = networks()
    for iteration, lq, gt in batches((1, 15, 16, 17, 32)):
        manager.tick(step=iteration)
        output = generator(lq)[0].detach()
        losses = manager.compute_losses(
            {
                "y": gt,
                "pred_real": critic(gt),
                "pred_fake": critic(output),
                "discriminator": critic,
                "parts_real": [part(crop)[0] for part, crop in zip(parts, crops(gt), strict=True)],
                "parts_fake": [part(crop)[0] for part, crop in zip(parts, crops(output), strict=True)],
            },
            query="D",
        )
        expected = loss_of_the_discriminators(iteration, output, critic, parts, gt)
        published.assert_same(losses.total, expected, nn.ModuleList([critic, parts]))
        assert ("D_R1" in losses.ran) == (iteration % 16 == 0)
