"""The spec that makes the losses of VGG19 available as `+vgg`, `+vgg:style` and `+vgg:contextual`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any, Literal

import torch

from nectargan_core import Config, LMLoss
from nectargan_vgg.contextual import BAND_WIDTH, EPSILON, POSITIONS, Center, VGGContextual
from nectargan_vgg.feature_loss import Precision, Reduction
from nectargan_vgg.layered import LayeredLoss
from nectargan_vgg.loss import Criterion, Gram, VGGPerceptual, VGGStyle

Variant = Literal["perceptual", "style", "contextual"]


def vgg(
    config: Config,
    subspec: Variant = "perceptual",
    *,
    layers: Mapping[str, float] | None = None,
    criterion: Criterion | None = None,
    gram: Gram = "pixels",
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
) -> dict[str, LMLoss]:
    """Build a loss that compares `y_fake` and `y` by the features of VGG19.

    | loss           | tag | reads         | weight                               | variant      |
    |----------------|-----|---------------|--------------------------------------|--------------|
    | `G_VGG`        | `G` | `y_fake`, `y` | `train.loss.lambda_vgg`, or 10       | `perceptual` |
    | `G_STYLE`      | `G` | `y_fake`, `y` | `train.loss.lambda_style`, or 10     | `style`      |
    | `G_CONTEXTUAL` | `G` | `y_fake`, `y` | `train.loss.lambda_contextual`, or 1 | `contextual` |

    The formulas, and their sources, are those of `VGGPerceptual`, `VGGStyle` and `VGGContextual`. Several of them, as
    in `"vgg+vgg:style"`, use one network in memory.

    Args:
        config: The configuration with the weight, and with the device that the network is loaded to.
        subspec: Which of the losses.
        layers: The weight of each layer: `conv1_1`, `relu1_1`, ... `relu5_4`, `pool1` to `pool5`; `conv` is before the
            activation. The network ends at the deepest of them. None: for `perceptual` `{"relu1_2": 1.0, "relu2_2":
            1.0, "relu3_3": 1.0}`, for `style` `relu1_1`, `relu2_1`, `relu3_1`, `relu4_1` and `relu5_1` with 0.2 each,
            for `contextual` `{"relu3_2": 1.0, "relu4_2": 1.0}`.
        criterion: How features, or Gram matrices, are compared: `"l1"`, `"l2"`, `"fro"` (the norm of the difference in
            the whole batch), or a callable that takes those of both images and returns one value, or one or more per
            sample. None: `"l1"` for `perceptual`, `"l2"` for `style`. Not for `contextual`.
        gram: What the Gram matrix is divided by: `"pixels"`, or `"elements"`, channels times pixels. Only for `style`.
        band_width: The h of the formula, above 0: the smaller, the more only the nearest features count. Only for
            `contextual`, like the next three.
        epsilon: The ε of the formula, above 0.
        positions: The most positions of a layer that are compared, drawn at random where there are more; None for all,
            in memory that grows with the square of the pixels.
        center: Whether features are centred by the mean of each target, `"image"`, or of all in the batch, `"batch"`.
        normalize: Whether `input_range` is mapped to the mean and standard deviation of ImageNet, as VGG19 expects.
        input_range: The values of black and white in the images. Where `normalize` depends on it, a manager warns once
            if the values of `y` cannot be in it.
        resize: The size that images are brought to first, bilinear and antialiased: an int for a square, or (height,
            width).
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample.
        checkpoint: A local file with the weights, or `"random"`.
        by_layer: Whether each layer is recorded beside the loss, as `G_VGG.relu3_3`: weighted distances, the sum of
            which is the loss. A module called without a manager returns them as a dict.
        precision: The dtype of the network, `"float32"` or `"bfloat16"`, which is faster and less exact.

    Returns:
        The loss by its name.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If an argument is invalid, or not for this variant.

    Formula:
        perceptual: sum over layers l of w_l · mean |F_l(y_fake) - F_l(y)|
        style: sum over layers l of w_l · mean (Gram(F_l(y_fake)) - Gram(F_l(y)))²
        contextual: sum over layers l of w_l · -log mean over j of max over i of CX_ij; CX_ij = the share of vector j of
            y in what is similar to vector i of y_fake

    Source:
        perceptual: Johnson, Alahi and Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
            ECCV 2016, arXiv:1603.08155, section 3.2.
        style: Gatys, Ecker and Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016,
            arXiv:1508.06576, section 2.2.
        contextual: Mechrez, Talmi and Zelnik-Manor, "The Contextual Loss for Image Transformation with Non-Aligned
            Data", ECCV 2018, arXiv:1803.02077, equations 1 to 5.

    Example:
        >>> from nectargan_core import Config
        >>> vgg(Config(), checkpoint="random")["G_VGG"].loss_weight
        10.0
        >>> list(vgg(Config(), "style", checkpoint="random", layers={"relu1_1": 1.0}))
        ['G_STYLE']
    """
    contextual = {"band_width": band_width, "epsilon": epsilon, "positions": positions, "center": center}
    defaults = {"band_width": BAND_WIDTH, "epsilon": EPSILON, "positions": POSITIONS, "center": "image"}
    arguments: dict[str, Any] = {} if layers is None else {"layers": layers}
    kind: type[LayeredLoss]
    if subspec == "contextual":
        kind, name, default = VGGContextual, "G_CONTEXTUAL", 1.0
        _refuse(subspec, "perceptual or style", criterion=criterion is not None)
        arguments |= contextual
    else:
        kind, name, default = (VGGStyle, "G_STYLE", 10.0) if subspec == "style" else (VGGPerceptual, "G_VGG", 10.0)
        _refuse(subspec, "contextual", **{key: contextual[key] != defaults[key] for key in contextual})
        arguments |= {} if criterion is None else {"criterion": criterion}
    if subspec == "style":
        arguments["gram"] = gram
    else:
        _refuse(subspec, "style", gram=gram != "pixels")
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
            precision=precision,
        )
    weight = config.loss_weight("vgg" if subspec == "perceptual" else subspec, default=default)
    # Not of y_fake: without a last tanh a generator leaves the range now and then, which is no mistake.
    ranges = {"y": function.input_range} if normalize else {}
    return {name: LMLoss(name=name, function=function, loss_weight=weight, tags=["G"], ranges=ranges)}


def _refuse(subspec: Variant, variants: str, **given: bool) -> None:
    for option in (name for name, found in given.items() if found):
        raise ValueError(f"vgg: {option} is for the variant {variants}, not {subspec!r}")
