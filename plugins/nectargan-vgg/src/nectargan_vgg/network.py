"""VGG19 in plain torch: its layers by name, and its published weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import nn

from nectargan_vgg.checkpoint import Checkpoint
from nectargan_vgg.weights import WeightSource, frozen_convolution, frozen_parameters

_BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))


def _architecture() -> tuple[dict[str, int], dict[int, tuple[int, int]]]:
    layers: dict[str, int] = {}
    convolutions: dict[int, tuple[int, int]] = {}
    channels = 3
    for block, (count, width) in enumerate(_BLOCKS, start=1):
        for number in range(1, count + 1):
            convolutions[len(layers)] = (channels, width)
            layers[f"conv{block}_{number}"] = len(layers)
            layers[f"relu{block}_{number}"] = len(layers)
            channels = width
        layers[f"pool{block}"] = len(layers)
    return layers, convolutions


LAYERS, CONVOLUTIONS = _architecture()
"""The position of each layer under the name that the literature gives it; input and output channels by position.

The positions are those of the keys in torchvision's checkpoint: `conv2_1` is `features.5`.
"""


def parameter_shapes(depth: int) -> dict[str, tuple[int, ...]]:
    """Return the keys and shapes of the parameters of the layers up to and including a position.

    Example:
        >>> parameter_shapes(LAYERS["relu1_1"])
        {'features.0.weight': (64, 3, 3, 3), 'features.0.bias': (64,)}
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for position, (inward, outward) in CONVOLUTIONS.items():
        if position <= depth:
            shapes[f"features.{position}.weight"] = (outward, inward, 3, 3)
            shapes[f"features.{position}.bias"] = (outward,)
    return shapes


VGG19_WEIGHTS = Checkpoint(
    network="VGG19",
    parameters=tuple(parameter_shapes(max(LAYERS.values())).items()),
    url="https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    sha256="dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    file="vgg19-dcbb9e9d.pth",
    variable="NECTARGAN_VGG19_WEIGHTS",
)
"""torchvision's VGG19_Weights.IMAGENET1K_V1; the eight digits in its name are the first of its SHA-256."""


class VGG19(nn.Module):
    """The layers of VGG19 from the first to some depth, under the keys of torchvision's checkpoint.

    Args:
        convolutions: The convolution at each position.
        depth: Position of the last layer.
        kept: Positions of layers whose output is compared.

    Source:
        K. Simonyan and A. Zisserman, "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        ICLR 2015, table 1, column E.
    """

    def __init__(self, convolutions: Mapping[int, nn.Conv2d], depth: int, kept: Iterable[int]) -> None:
        super().__init__()
        positions = {position: name for name, position in LAYERS.items()}
        self.features = nn.Sequential()
        for position in range(depth + 1):
            if position in convolutions:
                layer: nn.Module = convolutions[position]
            elif positions[position].startswith("relu"):
                # In place saves the memory of one map. It would overwrite the output of a convolution that is compared.
                layer = nn.ReLU(inplace=position - 1 not in kept)
            else:
                layer = nn.MaxPool2d(2)
            self.features.append(layer)
        self.eval()


def frozen_network(
    source: WeightSource, depth: int, kept: Iterable[int], device: torch.device, dtype: torch.dtype
) -> VGG19:
    """Return a network that shares its parameters with every other of the same source, device and dtype.

    Args:
        source: Where the weights come from.
        depth: Position of the last layer.
        kept: Positions of layers whose output is compared.
        device: The device of the network.
        dtype: The dtype of the network.

    Raises:
        WeightsError: If the weights cannot be obtained.
    """
    parameters = frozen_parameters(source, parameter_shapes(depth), device, dtype)
    convolutions = {
        position: frozen_convolution(
            parameters[f"features.{position}.weight"], parameters[f"features.{position}.bias"], padding=1
        )
        for position in CONVOLUTIONS
        if position <= depth
    }
    return VGG19(convolutions, depth, kept)
