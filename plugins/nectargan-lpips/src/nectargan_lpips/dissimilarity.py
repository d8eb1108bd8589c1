"""DISTS as a module: how far two images are from alike in structure and texture, by the features of a network."""

from __future__ import annotations

import os
from collections.abc import Mapping

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from nectargan_vgg.feature_loss import IMAGENET_MEAN, IMAGENET_STD, FeatureLoss, Reduction
from nectargan_vgg.weights import WeightSource, frozen_parameters, weight_source
from torch import Tensor, nn

from nectargan_lpips.backbones import VGG16_OF_DISTS
from nectargan_lpips.learned import ALPHA_AND_BETA, CHANNELS, learned_source

# The constants c1 and c2 of the authors' code.
_STABILIZER = 1e-6


class _L2Pool(nn.Module):
    """The root of the mean square, weighted by the window (1, 2, 1)/4 in both directions, at every second pixel."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        # Squares are beyond half precision.
        self.precise = torch.promote_types(like.dtype, torch.float32)
        window = torch.tensor([0.25, 0.5, 0.25], device=like.device, dtype=self.precise)
        self.window = torch.outer(window, window).reshape(1, 1, 3, 3)

    def forward(self, features: Tensor) -> Tensor:
        squares = features.to(self.precise).square()
        channels = squares.shape[1]
        window = self.window.expand(channels, 1, 3, 3)
        means = F.conv2d(squares, window, stride=2, padding=1, groups=channels)
        return (means + 1e-12).sqrt().to(features.dtype)


class _Network(nn.Module):
    """The stages of VGG16 with L2 pooling, what comes before them, and the weights of texture and structure."""

    def __init__(self, stages: nn.ModuleList, alpha: Tensor, beta: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.stages = stages
        total = alpha.sum() + beta.sum()
        self.alphas = torch.split(alpha.flatten() / total, CHANNELS)
        self.betas = torch.split(beta.flatten() / total, CHANNELS)
        std = torch.tensor(IMAGENET_STD, device=alpha.device, dtype=dtype).reshape(3, 1, 1)
        self.scale = 1 / std
        self.shift = -torch.tensor(IMAGENET_MEAN, device=alpha.device, dtype=dtype).reshape(3, 1, 1) / std

    def normalized(self, image: Tensor) -> Tensor:
        """Map an image from 0 to 1 to the mean and standard deviation of ImageNet."""
        return torch.addcmul(self.shift, image, self.scale)


class DISTS(FeatureLoss):
    """Deep image structure and texture similarity (DISTS), as a distance: 0 for equal images.

    The images, and their features at five stages of VGG16 with L2 pooling, are compared channel by channel, by their
    means m (texture) and their variances v and covariances (structure):

        1 - Σ alpha·(2·mx·my + c)/(mx² + my² + c) - Σ beta·(2·vxy + c)/(vx + vy + c),    c = 1e-6,

    with weights alpha and beta of each channel that were fitted to human judgements, and sum to 1. The loss is averaged
    over the samples. Textures that look alike are close, whether or not their pixels correspond.

    The network is frozen, shared, hidden from parents and moved as that of `LPIPS`. It computes in float32, under
    autocast too, unless `.to(dtype)` changes its dtype; means and variances are float32 at least.

    Args:
        normalize: Whether to bring `input_range` to 0 to 1, in which the images are compared, and that to the mean and
            standard deviation of ImageNet, by channel, as the network expects. False passes the images unchanged.
        input_range: The values that stand for black and white in the images; `normalize=False` ignores it.
        resize: Height and width in pixels that images are brought to first, bilinear and antialiased; an int for a
            square; None for the size that they have. The authors resize to 256 on the shorter side.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        backbone: A local file with the weights of VGG16 under the keys of torchvision's checkpoint, or `"random"`. None
            for the file that the environment variable `NECTARGAN_VGG16_WEIGHTS` names, or else torchvision's published
            weights, downloaded once into the cache of `torch.hub`. On the meta device nothing is read.
        weights: A local file with `alpha` and `beta`, or `"equal"` for the same weight for all. None for the published
            ones: from the distribution `DISTS-pytorch` if it is installed, or else from the authors' repository.
        by_layer: Whether to return a dict with the share of the image and of each stage, the sum of which is the loss.

    Raises:
        WeightsError: If weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        K. Ding, K. Ma, S. Wang and E. P. Simoncelli, "Image Quality Assessment: Unifying Structure and Texture
        Similarity", IEEE TPAMI 2022, arXiv:2004.07728, equations 4 to 6, in the authors' `DISTS_pytorch`.

    Example:
        >>> import torch
        >>> loss = DISTS(backbone="random", weights="equal")
        >>> y_fake, y = torch.rand(2, 2, 3, 32, 32).mul(2).sub(1).unbind()
        >>> loss(y_fake, y) > loss(y, y)
        tensor(True)
    """

    _mean = (0.0, 0.0, 0.0)
    _std = (1.0, 1.0, 1.0)
    _network: _Network

    def __init__(
        self,
        *,
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        backbone: str | os.PathLike[str] | None = None,
        weights: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
    ) -> None:
        super().__init__(input_range, resize, reduction, by_layer, normalize)
        # No paths, which say nothing elsewhere: `weight_files` has the names and the hashes of the files.
        self.backbone = "random" if backbone == "random" else None
        self.weights = "equal" if weights == "equal" else None
        self._source = weight_source(VGG16_OF_DISTS.checkpoint, backbone)
        self._weights = learned_source(ALPHA_AND_BETA, weights)
        self._attach()

    def _sources(self) -> Mapping[str, WeightSource]:
        return {"backbone": self._source, "weights": self._weights}

    def _network_on(self, device: torch.device, dtype: torch.dtype) -> _Network:
        parameters = frozen_parameters(self._source, dict(VGG16_OF_DISTS.checkpoint.parameters), device, dtype)
        precise = torch.promote_types(dtype, torch.float32)
        weights = frozen_parameters(self._weights, dict(ALPHA_AND_BETA.checkpoint.parameters), device, precise)
        pool = _L2Pool(parameters["features.0.weight"])
        stages = VGG16_OF_DISTS.build(parameters, lambda _: pool)
        return _Network(stages, weights["alpha"], weights["beta"], dtype)

    def _least_size(self) -> tuple[int, str]:
        return VGG16_OF_DISTS.least, list(VGG16_OF_DISTS.stages)[-1]

    def _distances(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        network = self._network
        names = ["image", *VGG16_OF_DISTS.stages]
        distances: dict[str, Tensor] = {}
        for number, name in enumerate(names):
            if number == 1 and self.normalize:
                fake, real = network.normalized(fake), network.normalized(real)
            if number:
                stage = network.stages[number - 1]
                fake, real = stage(fake), stage(real)
            distances[name] = _dissimilarity(fake, real, network.alphas[number], network.betas[number])
        return distances

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("input_range", "resize", "reduction", "by_layer", "normalize")
        )


def _dissimilarity(fake: Tensor, real: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    fake, real = fake.to(alpha.dtype), real.to(alpha.dtype)
    fake_mean, real_mean = fake.mean((2, 3), keepdim=True), real.mean((2, 3), keepdim=True)
    fake, real = fake - fake_mean, real - real_mean
    covariance = (fake * real).mean((2, 3))
    variances = fake.square().mean((2, 3)) + real.square().mean((2, 3))
    fake_mean, real_mean = fake_mean.flatten(1), real_mean.flatten(1)
    texture = (2 * fake_mean * real_mean + _STABILIZER) / (fake_mean.square() + real_mean.square() + _STABILIZER)
    structure = (2 * covariance + _STABILIZER) / (variances + _STABILIZER)
    # 1 - similarity of each channel, so that equal images give exactly 0.
    return (1 - texture) @ alpha + (1 - structure) @ beta
