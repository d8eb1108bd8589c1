"""The base of the losses that compare two images at layers of VGG19, each of which has a weight."""

from __future__ import annotations

import difflib
import math
import os
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from nectargan_vgg import network
from nectargan_vgg.feature_loss import FeatureLoss, Precision, Reduction
from nectargan_vgg.network import LAYERS, VGG19
from nectargan_vgg.weights import WeightSource, weight_source


class LayeredLoss(FeatureLoss):
    """Base of the losses of VGG19: the weighted sum, over some of its layers, of a distance of features.

    A subclass measures the distance at a layer in `_distance`.

    Args:
        layers: The weight of each layer, by its name.
        normalize: Whether images are mapped to the mean and standard deviation of ImageNet.
        input_range: The values that stand for black and white in the images.
        resize: Height and width in pixels that images are brought to first.
        reduction: `"mean"`, `"sum"` or `"none"` over the samples.
        checkpoint: A local file with the weights, or `"random"`; None for the published ones.
        by_layer: Whether to return the distance of each layer.
        precision: The dtype of the network.

    Raises:
        WeightsError: If the weights cannot be obtained or used.
        ValueError: If an argument is invalid.
    """

    _network: VGG19

    def __init__(
        self,
        layers: Mapping[str, float],
        normalize: bool,
        input_range: tuple[float, float],
        resize: int | tuple[int, int] | None,
        reduction: Reduction,
        checkpoint: str | os.PathLike[str] | None,
        by_layer: bool,
        precision: Precision,
    ) -> None:
        super().__init__(input_range, resize, reduction, by_layer, normalize, precision)
        self.layers = _checked_layers(layers)
        # No path, which says nothing elsewhere: `weight_files` has the name and the hash of the file.
        self.checkpoint = "random" if checkpoint == "random" else None
        self.precision = precision
        self._source = weight_source(network.VGG19_WEIGHTS, checkpoint)
        self._attach()

    def _sources(self) -> Mapping[str, WeightSource]:
        return {"checkpoint": self._source}

    def _network_on(self, device: torch.device, dtype: torch.dtype) -> VGG19:
        positions = [LAYERS[name] for name in self.layers]
        return network.frozen_network(self._source, max(positions), positions, device, dtype)

    def _least_size(self) -> tuple[int, str]:
        deepest = max(self.layers, key=LAYERS.__getitem__)
        return 2 ** sum(layer.startswith("pool") for layer in LAYERS if LAYERS[layer] <= LAYERS[deepest]), deepest

    def _distances(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        names = {LAYERS[name]: name for name in self.layers}
        distances: dict[str, Tensor] = {}
        # Both images go through the network together, so that the features of the target are freed once they are
        # compared. They have no graph, unless the target itself requires a gradient.
        for position, layer in enumerate(self._network.features):
            fake, real = layer(fake), layer(real)
            if position in names:
                name = names[position]
                distances[name] = self.layers[name] * self._distance(fake, real)
        return distances

    @abstractmethod
    def _distance(self, fake: Tensor, real: Tensor) -> Tensor:
        """Return the distance of the features of two images at a layer, one value per sample or one for all."""


def _checked_layers(layers: Mapping[str, float]) -> dict[str, float]:
    if not isinstance(layers, Mapping) or not layers:
        raise ValueError(f'layers maps names to weights, such as {{"relu1_2": 1.0}}, one at least; got {layers!r}')
    for name, weight in layers.items():
        if name not in LAYERS:
            close = "".join(f' Did you mean "{each}"?' for each in difflib.get_close_matches(str(name), LAYERS, n=1))
            raise ValueError(
                f"VGG19 has no layer {name!r}; it has conv1_1, relu1_1, ... relu5_4, and pool1 to pool5.{close}"
            )
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight):
            raise ValueError(f"the weight of the layer {name} is to be a finite number, not {weight!r}")
    return {name: float(layers[name]) for name in sorted(layers, key=LAYERS.__getitem__)}
