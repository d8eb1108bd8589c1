"""The spec that makes the perceptual and the style loss available as `+vgg` and `+vgg:style`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Literal

import torch

from nectargan_core import Config, LMLoss
from nectargan_vgg.feature_loss import Reduction
from nectargan_vgg.loss import Criterion, VGGPerceptual, VGGStyle


def vgg(
    config: Config,
    subspec: Literal["perceptual", "style"] = "perceptual",
    *,
    layers: Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
    normalize: bool = True,
    input_range: tuple[float, float] = (-1.0, 1.0),
    resize: int | tuple[int, int] | None = None,
    reduction: Reduction = "mean",
    checkpoint: str | os.PathLike[str] | None = None,
    by_layer: bool = False,
) -> dict[str, LMLoss]:
    """Build a loss that compares `y_fake` and `y` by the features of VGG19.

    `perceptual` gives `G_VGG`, weighted by `train.loss.lambda_vgg` of the config, and `style` gives
    `G_STYLE`, weighted by `train.loss.lambda_style`; both have the tag `G` and a default weight of 10.
    `"vgg+vgg:style"` gives both, on one network in memory.

    Args:
        config: The configuration with the weight, and with the device that the network is loaded to.
        subspec: Which of the two losses.
        layers: The weight of each layer: `conv1_1`, `relu1_1`, ... `relu5_4`, `pool1` to `pool5`. The network ends at
            the deepest of them. None: for `perceptual` `{"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0}`, for
            `style` `relu1_1`, `relu2_1`, `relu3_1`, `relu4_1` and `relu5_1` with 0.2 each.
        criterion: How features, or Gram matrices, are compared: `"l1"`, `"l2"`, or a callable that takes those of both
            images and returns one value, or one or more per sample. None: `"l1"` for `perceptual`, `"l2"` for `style`.
        normalize: Whether `input_range` is mapped to the mean and standard deviation of ImageNet, as VGG19 expects.
        input_range: The values of black and white in the images. Where `normalize` depends on it, a manager warns once
            if the values of `y` cannot be in it.
        resize: The size that images are brought to first, bilinear and antialiased: an int for a square, or (height,
            width).
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample.
        checkpoint: A local file with the weights, or `"random"`.
        by_layer: Whether each layer is recorded beside the loss, as `G_VGG.relu3_3`: weighted distances, the sum of
            which is the loss. A module called without a manager returns them as a dict.

    Returns:
        The loss by its name.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If an argument is invalid.

    Formula:
        perceptual: sum over layers l of w_l · mean |F_l(y_fake) - F_l(y)|
        style: sum over layers l of w_l · mean (Gram(F_l(y_fake)) - Gram(F_l(y)))²

    Source:
        perceptual: Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
            ECCV 2016, arXiv:1603.08155, section 3.2.
        style: Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016,
            arXiv:1508.06576, section 2.2.

    Example:
        >>> from nectargan_core import Config
        >>> vgg(Config(), checkpoint="random")["G_VGG"].loss_weight
        10.0
        >>> list(vgg(Config(), "style", checkpoint="random", layers={"relu1_1": 1.0}))
        ['G_STYLE']
    """
    given: dict[str, Any] = {"layers": layers, "criterion": criterion}
    arguments = {name: value for name, value in given.items() if value is not None}
    kind = VGGStyle if subspec == "style" else VGGPerceptual
    name, key = ("G_STYLE", "style") if subspec == "style" else ("G_VGG", "vgg")
    device = config.common.device
    with torch.device(device) if device else contextlib.nullcontext():
        function = kind(
            **arguments,
            normalize=normalize,
            input_range=input_range,
            resize=resize,
            reduction=reduction,
            checkpoint=checkpoint,
            by_layer=by_layer,
        )
    weight = config.loss_weight(key, default=10.0)
    # Not of y_fake: without a last tanh a generator leaves the range now and then, which is no mistake.
    ranges = {"y": function.input_range} if normalize else {}
    return {name: LMLoss(name=name, function=function, loss_weight=weight, tags=["G"], ranges=ranges)}
