"""VGG19 in plain torch: frozen layers by name, each in memory once and shared by all losses that use it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

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


class WeightSource(Protocol):
    """Where weights come from; hashable, and equal to another that gives the same weights."""

    def __hash__(self) -> int: ...

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return the float32 tensors under these keys, in CPU memory.

        Raises:
            WeightsError: If they cannot be obtained.
        """


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


_loaded: WeakValueDictionary[tuple[WeightSource, torch.device, torch.dtype, int], nn.Conv2d] = WeakValueDictionary()
_loading = threading.Lock()


def frozen_network(
    source: WeightSource, depth: int, kept: Iterable[int], device: torch.device, dtype: torch.dtype
) -> VGG19:
    """Return a network that shares its convolutions with every other of the same source, device and dtype.

    Each layer is shared by itself, so that a shallow and a deep network share the layers that both have. A
    convolution is freed with the last network that uses it. On the meta device nothing is loaded.

    Args:
        source: Where the weights come from.
        depth: Position of the last layer.
        kept: Positions of layers whose output is compared.
        device: The device of the network.
        dtype: The dtype of the network.

    Raises:
        WeightsError: If the weights cannot be obtained.
    """
    positions = [position for position in CONVOLUTIONS if position <= depth]
    with _loading:
        convolutions = {position: _loaded.get((source, device, dtype, position)) for position in positions}
        if None in convolutions.values():
            with torch.device("cpu"):  # not on a default device that the caller has set
                state = {} if device.type == "meta" else source.load(parameter_shapes(depth))
                for position in positions:
                    if convolutions[position] is None:
                        convolution = _frozen_convolution(position, state, device, dtype)
                        convolutions[position] = _loaded[source, device, dtype, position] = convolution
    return VGG19({position: layer for position, layer in convolutions.items() if layer}, depth, kept)


def _frozen_convolution(
    position: int, state: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype
) -> nn.Conv2d:
    convolution = nn.Conv2d(*CONVOLUTIONS[position], 3, padding=1, device="meta", dtype=dtype)
    convolution.requires_grad_(False)
    if state:
        for name in ("weight", "bias"):
            # A copy: a tensor that is mapped from a file keeps more than this layer in memory.
            value = state[f"features.{position}.{name}"].to(device, dtype, copy=True)
            setattr(convolution, name, nn.Parameter(value, requires_grad=False))
    return convolution.eval()
