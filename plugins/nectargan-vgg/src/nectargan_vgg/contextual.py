"""The contextual loss as a module: how well the features of the target are found anywhere in the generated image."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

from nectargan_vgg.feature_loss import Precision, Reduction
from nectargan_vgg.layered import LayeredLoss

Center: TypeAlias = Literal["image", "batch"]

BAND_WIDTH, EPSILON = 0.5, 1e-5
"""The h and the ε of the formula by default, those of the authors' code, in which ε is of halved distances."""

POSITIONS = 65**2
"""The most positions of a layer that are compared by default, as many as in the authors' code."""

_LAYERS = MappingProxyType({"relu3_2": 1.0, "relu4_2": 1.0})


class VGGContextual(LayeredLoss):
    """Contextual loss of the VGG19 features of two images, which need not be aligned.

    At each of `layers`, an image is the set of its feature vectors, one for each of P positions: xᵢ of the generated
    image and yⱼ of the target. With μ the mean of the yⱼ:

        dᵢⱼ = 1 - cos(xᵢ - μ, yⱼ - μ)
        wᵢⱼ = exp((1 - dᵢⱼ / (minₖ dᵢₖ + ε)) / h)
        CXᵢⱼ = wᵢⱼ / Σₖ wᵢₖ
        loss = -log(1/P · Σⱼ maxᵢ CXᵢⱼ)

    It is the weighted sum over the layers, averaged over the samples. The loss of equal images is close to 0, and that
    of any two at most log P.

    Every position is compared with every other, so that time and memory grow with P²: for the backward pass two maps of
    P² values of 4 bytes are kept for each sample and layer, 134 MB at `relu3_2` of 256x256 pixels (P = 4096). Where a
    layer has more than `positions`, as many are drawn at random, by torch's global generator: anew at each call, the
    same in both images and in all samples.

    The network is shared and hidden as that of `VGGPerceptual`. What follows it is computed in float32 at least.

    Args:
        layers: The weight of each layer, by its name, as for `VGGPerceptual`. The authors' code calls the default ones
            `conv3_2` and `conv4_2`, and takes them after the activation.
        band_width: The h of the formula, above 0: the smaller, the more only the nearest vector counts.
        epsilon: The ε of the formula, above 0. The authors' code halves the distances: that is 2e-5 here.
        positions: The most positions of a layer that are compared, 1 at least; None for all, whatever memory it takes.
            The default is 65², as in the authors' code.
        center: The μ of the formula: `"image"` for the mean of each target, as in the paper, or `"batch"` for the mean
            of all targets of the batch, as in the authors' code. Those of a batch of one are the same.
        normalize: As for `VGGPerceptual`, like all arguments below.
        input_range: The values that stand for black and white in the images.
        resize: Height and width in pixels that images are brought to first.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        checkpoint: A local file with the weights, or `"random"`.
        by_layer: Whether to return the distance of each layer, in a dict.
        precision: The dtype of the network.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        R. Mechrez, I. Talmi and L. Zelnik-Manor, "The Contextual Loss for Image Transformation with Non-Aligned Data",
        ECCV 2018, equations 1 to 5; the authors' code, github.com/roimehrez/contextualLoss, `CX/CSFlow.py` (formula),
        `CX/CX_helper.py` (sampling), `config.py` lines 54 to 59 (layers, h, positions).

    Example:
        >>> import torch
        >>> loss = VGGContextual(layers={"relu2_1": 1.0}, checkpoint="random")
        >>> y_fake, y = torch.rand(2, 1, 3, 16, 16).unbind()
        >>> loss(y_fake, y) > loss(y, y)
        tensor(True)
    """

    def __init__(
        self,
        layers: Mapping[str, float] = _LAYERS,
        band_width: float = BAND_WIDTH,
        epsilon: float = EPSILON,
        positions: int | None = POSITIONS,
        center: Center = "image",
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        checkpoint: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
        precision: Precision = "float32",
    ) -> None:
        for name, value in (("band_width", band_width), ("epsilon", epsilon)):
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
                raise ValueError(f"{name} is a finite number above 0, not {value!r}")
        if positions is not None and (isinstance(positions, bool) or not isinstance(positions, int) or positions < 1):
            raise ValueError(f"positions is an int, 1 at least, or None for all; not {positions!r}")
        if center not in ("image", "batch"):
            raise ValueError(f'center is "image" or "batch", not {center!r}')
        super().__init__(layers, normalize, input_range, resize, reduction, checkpoint, by_layer, precision)
        self.band_width = float(band_width)
        self.epsilon = float(epsilon)
        self.positions = positions
        self.center = center

    def _distance(self, fake: Tensor, real: Tensor) -> Tensor:
        fake, real = fake.flatten(2), real.flatten(2)
        if self.positions is not None and fake.shape[2] > self.positions:
            drawn = torch.randperm(fake.shape[2], device=fake.device)[: self.positions]
            fake, real = fake[:, :, drawn], real[:, :, drawn]
        precise = torch.promote_types(fake.dtype, torch.float32)
        fake, real = fake.to(precise), real.to(precise)
        mean = real.mean(2 if self.center == "image" else (0, 2), keepdim=True)
        similarity = _directions(fake - mean).mT @ _directions(real - mean)  # (N, P of fake, P of real)
        # Not amax, whose derivative needs the whole map again. Where several are the greatest, one is taken.
        nearest = similarity.max(2, keepdim=True).values
        # The logarithm of w but for a constant in each row, which the softmax takes away: exactly 0 at the nearest.
        logits = (similarity - nearest) * (1 / (self.band_width * (1 - nearest + self.epsilon)))
        found = logits.log_softmax(2).max(1).values
        return math.log(found.shape[1]) - found.logsumexp(1)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in (
                *("layers", "band_width", "epsilon", "positions", "center"),
                *("normalize", "input_range", "resize", "reduction", "by_layer"),
            )
        )


def _directions(vectors: Tensor) -> Tensor:
    # The bound keeps what is finite finite where a vector is the mean, as those of an image of one color may be.
    return F.normalize(vectors, dim=1, eps=1e-6)
