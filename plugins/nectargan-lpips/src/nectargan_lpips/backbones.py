"""AlexNet, VGG16 and SqueezeNet 1.1 in plain torch: their layers in stages, and their published weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import torch
from nectargan_vgg.checkpoint import Checkpoint
from nectargan_vgg.weights import frozen_convolution
from torch import Tensor, nn


class Convolution(NamedTuple):
    """A convolution and the ReLU after it: two positions in torchvision's `features`."""

    inputs: int
    outputs: int
    size: int
    stride: int = 1
    padding: int = 0


class Fire(NamedTuple):
    """The module of SqueezeNet: a convolution of 1x1, then two side by side, of 1x1 and of 3x3; one position."""

    inputs: int
    squeezed: int
    expanded: int


class Pool(NamedTuple):
    """A max pooling: one position."""

    size: int
    up: bool = False


Layer: TypeAlias = Convolution | Fire | Pool


@dataclass(frozen=True)
class Backbone:
    """A network in stages, the outputs of which are compared.

    Args:
        checkpoint: Its published weights.
        stages: The layers of each stage, by the name of its output.
        least: The least height and width of an image, in pixels, that each stage has an output for.
    """

    checkpoint: Checkpoint
    stages: Mapping[str, tuple[Layer, ...]]
    least: int

    def channels(self) -> list[int]:
        """Return the number of channels of each stage's output."""
        return [_outputs(layers[-1]) for layers in self.stages.values()]

    def build(
        self, parameters: Mapping[str, nn.Parameter], pool: Callable[[Pool], nn.Module] | None = None
    ) -> nn.ModuleList:
        """Return the stages as modules.

        Args:
            parameters: The parameters under their keys in torchvision's checkpoint.
            pool: What makes a pooling; None for max pooling.
        """
        stages = nn.ModuleList()
        position = 0
        for layers in self.stages.values():
            stage = nn.Sequential()
            for layer in layers:
                key = f"features.{position}"
                if isinstance(layer, Convolution):
                    stage.append(_convolution(parameters, key, stride=layer.stride, padding=layer.padding))
                    # In place saves the memory of one map; the backward of a convolution does not need its output.
                    stage.append(nn.ReLU(inplace=True))
                elif isinstance(layer, Fire):
                    stage.append(_FireModule(parameters, key))
                else:
                    stage.append(pool(layer) if pool else nn.MaxPool2d(layer.size, 2, ceil_mode=layer.up))
                position += _positions(layer)
            stages.append(stage)
        return stages.eval()


class _FireModule(nn.Module):
    def __init__(self, parameters: Mapping[str, nn.Parameter], key: str) -> None:
        super().__init__()
        self.squeeze = _convolution(parameters, f"{key}.squeeze")
        self.expand1x1 = _convolution(parameters, f"{key}.expand1x1")
        self.expand3x3 = _convolution(parameters, f"{key}.expand3x3", padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = self.squeeze(features).relu_()
        return torch.cat([self.expand1x1(features), self.expand3x3(features)], 1).relu_()


def _convolution(parameters: Mapping[str, nn.Parameter], key: str, **geometry: int) -> nn.Conv2d:
    return frozen_convolution(parameters[f"{key}.weight"], parameters[f"{key}.bias"], **geometry)


def _positions(layer: Layer) -> int:
    return 2 if isinstance(layer, Convolution) else 1


def _outputs(layer: Layer) -> int:
    if isinstance(layer, Pool):
        raise TypeError("a stage ends with a convolution or a fire module")
    return layer.outputs if isinstance(layer, Convolution) else 2 * layer.expanded


def _weights(stages: Mapping[str, tuple[Layer, ...]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    position = 0
    for layer in (layer for layers in stages.values() for layer in layers):
        if isinstance(layer, Convolution):
            yield f"features.{position}", (layer.outputs, layer.inputs, layer.size, layer.size)
        elif isinstance(layer, Fire):
            yield f"features.{position}.squeeze", (layer.squeezed, layer.inputs, 1, 1)
            yield f"features.{position}.expand1x1", (layer.expanded, layer.squeezed, 1, 1)
            yield f"features.{position}.expand3x3", (layer.expanded, layer.squeezed, 3, 3)
        position += _positions(layer)


def _parameters(stages: Mapping[str, tuple[Layer, ...]]) -> tuple[tuple[str, tuple[int, ...]], ...]:
    parameters: list[tuple[str, tuple[int, ...]]] = []
    for key, shape in _weights(stages):
        parameters += [(f"{key}.weight", shape), (f"{key}.bias", shape[:1])]
    return tuple(parameters)


def _backbone(
    network: str, file: str, sha256: str, variable: str, least: int, stages: Mapping[str, tuple[Layer, ...]]
) -> Backbone:
    checkpoint = Checkpoint(
        network=network,
        parameters=_parameters(stages),
        url=f"https://download.pytorch.org/models/{file}",
        sha256=sha256,
        file=file,
        spec="lpips",
        option="backbone",
        variable=variable,
        distribution="nectargan-lpips",
    )
    return Backbone(checkpoint, stages, least)


def _block(inputs: int, outputs: int, count: int) -> tuple[Layer, ...]:
    return tuple(Convolution(outputs if number else inputs, outputs, 3, padding=1) for number in range(count))


ALEXNET = _backbone(
    "AlexNet",
    "alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
    "NECTARGAN_ALEXNET_WEIGHTS",
    31,
    {
        "relu1": (Convolution(3, 64, 11, stride=4, padding=2),),
        "relu2": (Pool(3), Convolution(64, 192, 5, padding=2)),
        "relu3": (Pool(3), Convolution(192, 384, 3, padding=1)),
        "relu4": (Convolution(384, 256, 3, padding=1),),
        "relu5": (Convolution(256, 256, 3, padding=1),),
    },
)
"""torchvision's AlexNet_Weights.IMAGENET1K_V1: Krizhevsky, "One weird trick for parallelizing convolutional neural
networks", arXiv:1404.5997."""

VGG16 = _backbone(
    "VGG16",
    "vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    "NECTARGAN_VGG16_WEIGHTS",
    16,
    {
        "relu1_2": _block(3, 64, 2),
        "relu2_2": (Pool(2), *_block(64, 128, 2)),
        "relu3_3": (Pool(2), *_block(128, 256, 3)),
        "relu4_3": (Pool(2), *_block(256, 512, 3)),
        "relu5_3": (Pool(2), *_block(512, 512, 3)),
    },
)
"""torchvision's VGG16_Weights.IMAGENET1K_V1: Simonyan and Zisserman, ICLR 2015, table 1, column D."""

SQUEEZENET = _backbone(
    "SqueezeNet 1.1",
    "squeezenet1_1-b8a52dc0.pth",
    "b8a52dc049b60e4b6ab68ad0df457362afab8b6304b2febdc1650a5dab4d7e7b",
    "NECTARGAN_SQUEEZENET_WEIGHTS",
    17,
    {
        "relu1": (Convolution(3, 64, 3, stride=2),),
        "relu2": (Pool(3, up=True), Fire(64, 16, 64), Fire(128, 16, 64)),
        "relu3": (Pool(3, up=True), Fire(128, 32, 128), Fire(256, 32, 128)),
        "relu4": (Pool(3, up=True), Fire(256, 48, 192)),
        "relu5": (Fire(384, 48, 192),),
        "relu6": (Fire(384, 64, 256),),
        "relu7": (Fire(512, 64, 256),),
    },
)
"""torchvision's SqueezeNet1_1_Weights.IMAGENET1K_V1: Iandola et al., arXiv:1602.07360, in release 1.1."""

VGG16_OF_DISTS = replace(VGG16, checkpoint=replace(VGG16.checkpoint, spec="dists"), least=1)
"""The same network and weights, for `dists`: its pooling has an output for images of any size."""
