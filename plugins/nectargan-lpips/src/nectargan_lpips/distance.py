"""LPIPS as a module: the distance of two images by the features of a network, each channel weighted as was learned."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from nectargan_vgg.feature_loss import FeatureLoss, Reduction
from nectargan_vgg.weights import WeightSource, frozen_parameters, weight_source
from torch import Tensor, nn

from nectargan_lpips.backbones import ALEXNET, SQUEEZENET, VGG16, Backbone
from nectargan_lpips.learned import HEADS, learned_source

Variant: TypeAlias = Literal["vgg", "alex", "squeeze"]

_BACKBONES: Mapping[str, Backbone] = MappingProxyType({"vgg": VGG16, "alex": ALEXNET, "squeeze": SQUEEZENET})


class _Network(nn.Module):
    """The stages of a backbone, with a head for each: the weights of its channels."""

    def __init__(self, stages: nn.ModuleList, heads: list[nn.Parameter]) -> None:
        super().__init__()
        self.stages = stages
        self.heads = nn.ParameterList(heads)


class LPIPS(FeatureLoss):
    """Learned perceptual image patch similarity (LPIPS) 0.1, a distance: 0 for equal images.

    At each stage of a network the features of both images are divided, at each pixel, by their norm over the channels.
    The distance of the stage is the mean over the pixels of Σ w·(difference)² over the channels, with weights w that
    were fitted to human judgements. The loss is the sum over the stages, averaged over the samples.

    The network is frozen and shared by all losses that use the same weights. It is not a submodule: it is in no
    optimizer and in no `state_dict`, and `.train()` does not affect it, while `.to()` moves it. It computes in float32,
    under autocast too, unless `.to(dtype)` changes its dtype; images are converted, and norms are float32 at least.

    Args:
        variant: The network: `"vgg"` (VGG16), `"alex"` (AlexNet) or `"squeeze"` (SqueezeNet 1.1). The authors recommend
            `"alex"` to measure, and `"vgg"` to optimize, which is the default here.
        normalize: Whether to map `input_range` to the mean and standard deviation of ImageNet, by channel, as the
            network expects. False passes the images unchanged.
        input_range: The values that stand for black and white in the images; `normalize=False` ignores it.
        resize: Height and width in pixels that images are brought to first, bilinear and antialiased; an int for a
            square; None for the size that they have.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        backbone: A local file with the weights of the network under the keys of torchvision's checkpoint (`.pth`, or
            `.safetensors` with `nectargan-vgg[safetensors]`), or `"random"` for reproducible random weights. None for
            the file that the environment variable `NECTARGAN_VGG16_WEIGHTS`, `NECTARGAN_ALEXNET_WEIGHTS` or
            `NECTARGAN_SQUEEZENET_WEIGHTS` names, or else torchvision's published weights, downloaded once into the
            cache of `torch.hub`. On the meta device nothing is read.
        heads: A local file with the weights of the channels under the keys of `lpips`, or `"equal"` for a weight of 1
            for each, as with `lpips.LPIPS(lpips=False)`. None for those of LPIPS 0.1: from the distribution `lpips` if
            it is installed, or else from the authors' repository.
        by_layer: Whether to return a dict with the distance of each stage, by the name of its last layer, the sum of
            which is the loss.

    Raises:
        WeightsError: If weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        R. Zhang, P. Isola, A. A. Efros, E. Shechtman and O. Wang, "The Unreasonable Effectiveness of Deep Features as a
        Perceptual Metric", CVPR 2018, section 3, equation 1, in the release 0.1 of the authors' `lpips`, whose readme
        says: `net='alex'` "best forward scores", `net='vgg'` "closer to 'traditional' perceptual loss, when used for
        optimization".

    Example:
        >>> import torch
        >>> loss = LPIPS("squeeze", backbone="random", heads="equal")
        >>> y_fake, y = torch.rand(2, 2, 3, 32, 32).mul(2).sub(1).unbind()
        >>> loss(y, y), loss(y_fake, y) > 0
        (tensor(0.), tensor(True))
        >>> list(loss.parameters()), loss.state_dict()
        ([], OrderedDict())
    """

    _network: _Network

    def __init__(
        self,
        variant: Variant = "vgg",
        *,
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        backbone: str | os.PathLike[str] | None = None,
        heads: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
    ) -> None:
        super().__init__(input_range, resize, reduction, by_layer, normalize)
        if variant not in _BACKBONES:
            raise ValueError(f'LPIPS: variant is "vgg", "alex" or "squeeze", not {variant!r}')
        self.variant = variant
        # No paths, which say nothing elsewhere: `weight_files` has the names and the hashes of the files.
        self.backbone = "random" if backbone == "random" else None
        self.heads = "equal" if heads == "equal" else None
        self._source = weight_source(_BACKBONES[variant].checkpoint, backbone)
        self._heads = learned_source(HEADS[variant], heads)
        self._attach()

    def _sources(self) -> Mapping[str, WeightSource]:
        return {"backbone": self._source, "heads": self._heads}

    def _network_on(self, device: torch.device, dtype: torch.dtype) -> _Network:
        backbone = _BACKBONES[self.variant]
        parameters = frozen_parameters(self._source, dict(backbone.checkpoint.parameters), device, dtype)
        # The heads weigh means, which are float32 at least in a network of half precision, too.
        precise = torch.promote_types(dtype, torch.float32)
        heads = frozen_parameters(self._heads, dict(HEADS[self.variant].checkpoint.parameters), device, precise)
        return _Network(backbone.build(parameters), list(heads.values()))

    def _least_size(self) -> tuple[int, str]:
        backbone = _BACKBONES[self.variant]
        return backbone.least, list(backbone.stages)[-1]

    def _distances(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        distances: dict[str, Tensor] = {}
        # Both images go through the network together, so that the features of the target are freed once they are
        # compared. They have no graph, unless the target itself requires a gradient.
        names = _BACKBONES[self.variant].stages
        for name, stage, head in zip(names, self._network.stages, self._network.heads, strict=True):
            fake, real = stage(fake), stage(real)
            distances[name] = _distance(fake.to(head.dtype), real.to(head.dtype), head)
        return distances

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("variant", "input_range", "resize", "reduction", "by_layer", "normalize")
        )


def _distance(fake: Tensor, real: Tensor, head: Tensor) -> Tensor:
    difference = fake * _reciprocal_norm(fake) - real * _reciprocal_norm(real)
    return F.conv2d(difference.square(), head).mean((1, 2, 3))


def _reciprocal_norm(features: Tensor) -> Tensor:
    # Not torch.linalg.vector_norm, which takes twice as long along the channels. Where no feature is active, the bound
    # keeps the derivative of the root finite.
    squares = features.square().sum(1, keepdim=True).clamp_min(torch.finfo(features.dtype).tiny)
    return 1 / (squares.sqrt() + 1e-10)
