"""The perceptual and the style loss as modules, on a frozen VGG19 that is hidden from their parents."""

from __future__ import annotations

import contextlib
import difflib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_vgg.network import LAYERS, VGG19, frozen_network
from nectargan_vgg.weights import weight_source

Criterion: TypeAlias = Literal["l1", "l2"] | Callable[[Tensor, Tensor], Tensor]
Reduction: TypeAlias = Literal["mean", "sum", "none"]

# Of the images that VGG19 was trained on, with values from 0 to 1, by channel.
_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)

_PERCEPTUAL_LAYERS = MappingProxyType({"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0})
_STYLE_LAYERS = MappingProxyType(dict.fromkeys(["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"], 0.2))


class _VGGLoss(nn.Module, ABC):
    """Base of both losses: the network, the preparation of images, the sum over layers, the reduction."""

    _anchor: Tensor
    _network: VGG19

    def __init__(
        self,
        layers: Mapping[str, float],
        criterion: Criterion,
        normalize: bool,
        input_range: tuple[float, float],
        resize: int | tuple[int, int] | None,
        reduction: Reduction,
        checkpoint: str | os.PathLike[str] | None,
        by_layer: bool,
    ) -> None:
        super().__init__()
        self.layers = _checked_layers(layers)
        if not callable(criterion) and criterion not in ("l1", "l2"):
            raise ValueError(f'criterion is "l1", "l2" or a callable of two tensors, not {criterion!r}')
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
        low, high = input_range
        if not low < high:
            raise ValueError(f"input_range is (black, white) with black < white, not {input_range!r}")
        self.criterion = criterion
        self.normalize = normalize
        self.input_range = (float(low), float(high))
        self.resize = resize
        if not isinstance(by_layer, bool):
            raise ValueError(f"by_layer is True or False, not {by_layer!r}")
        self.reduction = reduction
        self.by_layer = by_layer
        self._source = weight_source(checkpoint)
        # An empty tensor that follows .to() and pickling, and so gives the device and dtype of the network.
        self.register_buffer("_anchor", torch.empty(0, dtype=torch.float32), persistent=False)
        self._attach()

    @torch.inference_mode(False)  # tensors made here may be shared with other losses, and autograd must accept them
    def _attach(self) -> None:
        positions = [LAYERS[name] for name in self.layers]
        network = frozen_network(self._source, max(positions), positions, self._anchor.device, self._anchor.dtype)
        # Not by nn.Module's __setattr__: a submodule would be in the parent's parameters and checkpoint.
        self.__dict__["_network"] = network
        low, high = self.input_range
        std = self._anchor.new_tensor(_IMAGENET_STD).reshape(3, 1, 1)
        mean = self._anchor.new_tensor(_IMAGENET_MEAN).reshape(3, 1, 1)
        self._scale = 1 / ((high - low) * std)
        self._shift = (-low / (high - low) - mean) / std

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _VGGLoss:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # untyped in torch
        self._attach()
        return self

    def __getstate__(self) -> dict[str, Any]:
        # Without the network, a copy uses the shared one, and a pickle is small and loads the weights when unpickled.
        return {key: value for key, value in self.__dict__.items() if key not in ("_network", "_scale", "_shift")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]  # untyped in torch
        self._attach()

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor | dict[str, Tensor]:
        """Compare two images.

        Args:
            y_fake: The generated image, (N, 3, H, W) or (N, 1, H, W), floating point, values in `input_range`.
            y: The target, of the same shape.

        Returns:
            The loss, or one value per sample, in the dtype that the two images promote to; with `by_layer` that of each
            layer, weighted, by its name, the sum of which is the loss.

        Raises:
            ValueError: If the shapes differ, are not as above, or are too small for the layers; if the images are
                on another device than the loss; if `criterion` returns one value where one for each sample is needed.
            TypeError: If an image is not of a floating-point dtype.
        """
        self._check(y_fake, y)
        names = {LAYERS[name]: name for name in self.layers}
        distances: dict[str, Tensor] = {}
        with _without_autocast(y_fake.device.type):
            fake, real = self._prepared(y_fake), self._prepared(y)
            # Both images go through the network together, so that the features of the target are freed once they are
            # compared. They have no graph, unless the target itself requires a gradient.
            for position, layer in enumerate(self._network.features):
                fake, real = layer(fake), layer(real)
                if position in names:
                    name = names[position]
                    distances[name] = self.layers[name] * self._distance(fake, real)
        dtype = torch.promote_types(y_fake.dtype, y.dtype)
        if self.by_layer:
            return {name: self._reduced(distance).to(dtype) for name, distance in distances.items()}
        total = torch.zeros((), device=y_fake.device)
        for distance in distances.values():
            total = total + distance
        return self._reduced(total).to(dtype)

    def _reduced(self, values: Tensor) -> Tensor:
        if self.reduction == "mean":
            return values.mean()
        return values.sum() if self.reduction == "sum" else values

    def _check(self, y_fake: Tensor, y: Tensor) -> None:
        name = type(self).__name__
        check_images(name, channels=(1, 3), y_fake=y_fake, y=y)
        shape = y_fake.shape
        here = self._anchor.device
        if y_fake.device != here:
            raise ValueError(f"{name} is on {here}, y_fake and y are on {y_fake.device}; move the loss with .to()")
        deepest = max(self.layers, key=LAYERS.__getitem__)
        least = 2 ** sum(layer.startswith("pool") for layer in LAYERS if LAYERS[layer] <= LAYERS[deepest])
        if self.resize is None and min(shape[2:]) < least:
            raise ValueError(
                f"{name} expects at least {least}x{least} pixels for the layer {deepest}; these images have "
                f"{shape[2]}x{shape[3]}: leave deep layers out, or use resize="
            )

    def _prepared(self, image: Tensor) -> Tensor:
        image = image.to(self._anchor.dtype)
        if self.resize is not None:
            image = F.interpolate(image, self.resize, mode="bilinear", antialias=True)
        if self.normalize:
            return torch.addcmul(self._shift, image, self._scale)
        return image.expand(-1, 3, -1, -1)

    @abstractmethod
    def _described(self, features: Tensor) -> Tensor:
        """Return the representation of a layer's features that is compared."""

    def _distance(self, fake: Tensor, real: Tensor) -> Tensor:
        fake, real = self._described(fake), self._described(real)
        if not callable(self.criterion):
            # Not F.l1_loss or F.mse_loss: they would reduce over the samples, and mse_loss keeps both maps.
            difference = fake - real
            distances = difference.abs() if self.criterion == "l1" else difference.square()
            return distances.flatten(1).mean(1)
        result = self.criterion(fake, real)
        if result.dim() == 0:
            if self.reduction != "mean":
                raise ValueError(
                    f'reduction="{self.reduction}" needs a value for each sample, and the criterion gave one for '
                    'all; give one that does not reduce, such as torch.nn.L1Loss(reduction="none")'
                )
            return result
        if len(result) != len(fake):
            raise ValueError(
                f"the criterion is to give one value, or values for each of the {len(fake)} samples; it "
                f"gave the shape {tuple(result.shape)}"
            )
        return result.flatten(1).mean(1) if result.dim() > 1 else result

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("layers", "criterion", "normalize", "input_range", "resize", "reduction", "by_layer")
        )


class VGGPerceptual(_VGGLoss):
    """Distance between the VGG19 features of two images.

    Features are compared at each of `layers`: the distance is the mean over channels and pixels of the
    absolute difference (`"l1"`) or of its square (`"l2"`), and the loss is the weighted sum over the layers,
    averaged over the samples.

    The network is frozen and shared by all losses that use the same weights. It is not a submodule: it is in
    no optimizer and in no `state_dict`, and `.train()` does not affect it, while `.to()` moves it. It computes
    in float32, under autocast too, unless `.to(dtype)` changes its dtype; images are converted. With the three
    default layers and `normalize=False` the values are those of NectarGAN.

    Args:
        layers: The weight of each layer, by its name: `conv1_1`, `relu1_1`, ... `relu5_4`, and `pool1` to
            `pool5`. The network ends at the deepest of them.
        criterion: `"l1"`, `"l2"`, or a callable that is called for each layer with the features of both images,
            (N, C, h, w). It returns one value, or one or more for each sample, which are averaged.
        normalize: Whether to map `input_range` to the mean and standard deviation of ImageNet, by channel, as
            VGG19 expects. False passes the images unchanged.
        input_range: The values that stand for black and white in the images; `normalize=False` ignores it.
        resize: Height and width in pixels that images are brought to first, bilinear and antialiased; an int
            for a square; None for the size that they have.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        checkpoint: A local file with the weights under the keys of torchvision's checkpoint (`.pth`, or
            `.safetensors` with `nectargan-vgg[safetensors]`), or `"random"` for reproducible random weights.
            None for the file that the environment variable `NECTARGAN_VGG19_WEIGHTS` names, or else
            torchvision's published weights, downloaded once into the cache of `torch.hub`. On the meta device
            nothing is read.
        by_layer: Whether to return a dict with the weighted distance of each layer, the sum of which is the loss. A
            `LossManager` then records each layer beside the loss, as `G_VGG.relu3_3`.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        J. Johnson, A. Alahi and L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
        Super-Resolution", ECCV 2016, section 3.2 (feature reconstruction; there with squares and VGG16).

    Example:
        >>> import torch
        >>> loss = VGGPerceptual(layers={"relu1_2": 1.0, "relu2_2": 0.5}, checkpoint="random")
        >>> y_fake, y = torch.rand(2, 2, 3, 16, 16).unbind()
        >>> loss(y_fake, y) > loss(y, y)
        tensor(True)
        >>> list(loss.parameters()), loss.state_dict()
        ([], OrderedDict())
    """

    def __init__(
        self,
        layers: Mapping[str, float] = _PERCEPTUAL_LAYERS,
        criterion: Criterion = "l1",
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        checkpoint: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
    ) -> None:
        super().__init__(layers, criterion, normalize, input_range, resize, reduction, checkpoint, by_layer)

    def _described(self, features: Tensor) -> Tensor:
        return features


class VGGStyle(_VGGLoss):
    """Distance between the Gram matrices of the VGG19 features of two images, which describe their style.

    At each of `layers`, the features F of an image, a matrix of C channels and M pixels, give the Gram matrix
    F Fᵀ / M, which measures how strongly channels occur together, regardless of position. With the default
    criterion the distance is the mean squared difference of the two matrices. That is the squared Frobenius
    norm of Johnson et al., and 4 times the E of Gatys et al. at each layer; the default layers and their equal
    weights are those of Gatys et al.

    Args:
        layers: The weight of each layer, by its name, as for `VGGPerceptual`.
        criterion: As for `VGGPerceptual`; a callable is given the Gram matrices, (N, C, C).
        normalize: As for `VGGPerceptual`, like all arguments below.
        input_range: The values that stand for black and white in the images.
        resize: Height and width in pixels that images are brought to first.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        checkpoint: A local file with the weights, or `"random"`.
        by_layer: Whether to return the distance of each layer, in a dict.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
        CVPR 2016, section 2.2; J. Johnson, A. Alahi and L. Fei-Fei, ECCV 2016, section 3.2 (style
        reconstruction).

    Example:
        >>> import torch
        >>> style = VGGStyle(layers={"relu1_1": 1.0}, checkpoint="random")
        >>> y = torch.rand(1, 3, 16, 16)
        >>> style(y, y), style(y, 1 - y) > 0
        (tensor(0.), tensor(True))
    """

    def __init__(
        self,
        layers: Mapping[str, float] = _STYLE_LAYERS,
        criterion: Criterion = "l2",
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        checkpoint: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
    ) -> None:
        super().__init__(layers, criterion, normalize, input_range, resize, reduction, checkpoint, by_layer)

    def _described(self, features: Tensor) -> Tensor:
        flat = features.flatten(2)
        # Divided before the product, since without that it would overflow in half precision.
        return flat @ (flat / flat.shape[2]).mT


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


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    # torch up to 2.8 cannot trace the question, and compiled code runs where there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
