"""The specs that make LPIPS and DISTS available as `+lpips`, `+lpips:alex` and `+dists`."""

from __future__ import annotations

import contextlib
import os
from typing import Literal

import torch
from nectargan_vgg.feature_loss import Reduction

from nectargan_core import Config, LMLoss
from nectargan_lpips.dissimilarity import DISTS
from nectargan_lpips.distance import LPIPS


def lpips(
    config: Config,
    subspec: Literal["vgg", "alex", "squeeze"] = "vgg",
    *,
    normalize: bool = True,
    input_range: tuple[float, float] = (-1.0, 1.0),
    resize: int | tuple[int, int] | None = None,
    reduction: Reduction = "mean",
    backbone: str | os.PathLike[str] | None = None,
    heads: str | os.PathLike[str] | None = None,
    by_layer: bool = False,
) -> dict[str, LMLoss]:
    """Build LPIPS: `G_LPIPS`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_lpips` of the config, 1 by default. The variants are networks. The authors
    recommend `alex` to measure, and `vgg` to optimize, which is the default.

    Args:
        config: The configuration with the weight, and with the device that the network is loaded to.
        subspec: The network: `"vgg"` (VGG16), `"alex"` (AlexNet) or `"squeeze"` (SqueezeNet 1.1).
        normalize: Whether `input_range` is mapped to the mean and standard deviation of ImageNet, as the network
            expects; False passes the images unchanged.
        input_range: The values of black and white in the images, for `normalize`. A manager warns once if the values of
            `y` cannot be in it.
        resize: The size that images are brought to first, bilinear and antialiased: an int for a square, or (height,
            width).
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample.
        backbone: A local file with the weights of the network, or `"random"`. None: torchvision's.
        heads: A local file with the weights of the channels, or `"equal"`. None: those of LPIPS 0.1.
        by_layer: Whether each stage is recorded beside the loss, as `G_LPIPS.relu3_3`. A module called without a
            manager returns them as a dict.

    Returns:
        The loss by its name.

    Raises:
        WeightsError: If weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If an argument is invalid.

    Formula:
        sum over stages s of mean over pixels of sum over channels of w_s (n_s(y_fake) - n_s(y))²; n = features of
        length 1

    Source:
        Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric", CVPR 2018,
        arXiv:1801.03924, equation 1.

    Example:
        >>> from nectargan_core import Config
        >>> lpips(Config(), "alex", backbone="random", heads="equal")["G_LPIPS"].loss_weight
        1.0
    """
    with _device(config):
        function = LPIPS(
            subspec,
            input_range=input_range,
            resize=resize,
            reduction=reduction,
            backbone=backbone,
            heads=heads,
            by_layer=by_layer,
            normalize=normalize,
        )
    weight = config.loss_weight("lpips", default=1.0)
    return _built("G_LPIPS", function, weight)


def dists(
    config: Config,
    *,
    normalize: bool = True,
    input_range: tuple[float, float] = (-1.0, 1.0),
    resize: int | tuple[int, int] | None = None,
    reduction: Reduction = "mean",
    backbone: str | os.PathLike[str] | None = None,
    weights: str | os.PathLike[str] | None = None,
    by_layer: bool = False,
) -> dict[str, LMLoss]:
    """Build DISTS: `G_DISTS`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_dists` of the config, 1 by default.

    Args:
        config: The configuration with the weight, and with the device that the network is loaded to.
        normalize: Whether `input_range` is mapped to 0 to 1 for the image, and to the mean and standard deviation of
            ImageNet for the network; False passes the images unchanged.
        input_range: The values of black and white in the images, for `normalize`. A manager warns once if the values of
            `y` cannot be in it.
        resize: The size that images are brought to first, bilinear and antialiased: an int for a square, or (height,
            width).
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample.
        backbone: A local file with the weights of VGG16, or `"random"`. None: torchvision's.
        weights: A local file with alpha and beta, or `"equal"`. None: the published ones.
        by_layer: Whether the image and each stage are recorded beside the loss, as `G_DISTS.relu3_3`. A module called
            without a manager returns them as a dict.

    Returns:
        The loss by its name.

    Raises:
        WeightsError: If weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If an argument is invalid.

    Formula:
        1 - sum over stages and channels of alpha · texture + beta · structure

    Source:
        Ding et al., "Image Quality Assessment: Unifying Structure and Texture Similarity", TPAMI 2020,
        arXiv:2004.07728.

    Example:
        >>> from nectargan_core import Config
        >>> dists(Config(), backbone="random", weights="equal")["G_DISTS"].loss_weight
        1.0
    """
    with _device(config):
        function = DISTS(
            input_range=input_range,
            resize=resize,
            reduction=reduction,
            backbone=backbone,
            weights=weights,
            by_layer=by_layer,
            normalize=normalize,
        )
    weight = config.loss_weight("dists", default=1.0)
    return _built("G_DISTS", function, weight)


def _built(name: str, function: LPIPS | DISTS, weight: float) -> dict[str, LMLoss]:
    # Not of y_fake: without a last tanh a generator leaves the range now and then, which is no mistake.
    ranges = {"y": function.input_range} if function.normalize else {}
    return {name: LMLoss(name=name, function=function, loss_weight=weight, tags=["G"], ranges=ranges)}


def _device(config: Config) -> contextlib.AbstractContextManager[object]:
    device = config.common.device
    return torch.device(device) if device else contextlib.nullcontext()
