"""The base of losses that compare two images by a frozen network, which is hidden from the parents of the loss."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeAlias

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_vgg.weights import WeightSource

Reduction: TypeAlias = Literal["mean", "sum", "none"]
Precision: TypeAlias = Literal["float32", "bfloat16"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
"""Mean and standard deviation, by channel, of the images from 0 to 1 that the networks were trained on."""


class FeatureLoss(nn.Module, ABC):
    """Base of losses that compare two images by a frozen network: its device, images as it expects them, the sum.

    A subclass makes the network in `_network_on` of the weights in `_sources`, compares in `_distances`, and calls
    `_attach` at the end of its `__init__`. The network is in `_network`, and not a submodule: it is in no optimizer and
    in no `state_dict`.

    Args:
        input_range: The values that stand for black and white in the images.
        resize: Height and width in pixels that images are brought to first; an int for a square; None for the size that
            they have.
        reduction: `"mean"`, `"sum"` or `"none"` over the samples.
        by_layer: Whether to return the distance of each layer.
        normalize: Whether images are mapped to the mean and standard deviation of ImageNet, or to those that the
            subclass has in `_mean` and `_std`.
        precision: The dtype that the network is made in; `.to()` changes it.

    Raises:
        TypeError: If `input_range` is no pair of numbers.
        ValueError: If another argument is invalid.
    """

    _mean: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    _std: ClassVar[tuple[float, float, float]] = IMAGENET_STD
    _anchor: Tensor
    _network: nn.Module

    def __init__(
        self,
        input_range: tuple[float, float],
        resize: int | tuple[int, int] | None,
        reduction: Reduction,
        by_layer: bool,
        normalize: bool = True,
        precision: Precision = "float32",
    ) -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            raise ValueError(f'reduction is "mean", "sum" or "none", not {reduction!r}')
        if not isinstance(input_range, (tuple, list)) or len(input_range) != 2 or not all(map(_is_number, input_range)):
            raise TypeError(f"input_range is (black, white), two numbers such as (0.0, 1.0), not {input_range!r}")
        low, high = input_range
        if not low < high:
            raise ValueError(f"input_range is (black, white) with black < white, not {input_range!r}")
        if not isinstance(by_layer, bool):
            raise ValueError(f"by_layer is True or False, not {by_layer!r}")
        if precision not in ("float32", "bfloat16"):
            raise ValueError(f'precision is "float32" or "bfloat16", not {precision!r}')
        self.normalize = normalize
        self.input_range = (float(low), float(high))
        self.resize = resize
        self.reduction = reduction
        self.by_layer = by_layer
        # An empty tensor that follows .to() and pickling, and so gives the device and dtype of the network.
        self.register_buffer("_anchor", torch.empty(0, dtype=getattr(torch, precision)), persistent=False)

    @torch.inference_mode(False)  # tensors made here may be shared with other losses, and autograd must accept them
    def _attach(self) -> None:
        # Not by nn.Module's __setattr__: a submodule would be in the parent's parameters and checkpoint.
        self.__dict__["_network"] = self._network_on(self._anchor.device, self._anchor.dtype)
        low, high = self.input_range
        # In float32 at least: rounded to half precision they would shift and stretch all images alike.
        precise = self._anchor.new_empty(0, dtype=torch.promote_types(self._anchor.dtype, torch.float32))
        std = precise.new_tensor(self._std).reshape(3, 1, 1)
        mean = precise.new_tensor(self._mean).reshape(3, 1, 1)
        self._scale = 1 / ((high - low) * std)
        self._shift = (-low / (high - low) - mean) / std

    @property
    def weight_files(self) -> dict[str, str]:
        """The SHA-256 of each file that the weights are from, in hexadecimal digits, by its name.

        A published file has its published name, also where a copy of its tensors is read, or a local file has the same
        bytes. Of any other local file it is the SHA-256 of its bytes, which are read when this is first asked. Weights
        that are from no file have none. On the meta device it is the same.

        Raises:
            WeightsError: If a local file cannot be read, or has changed since the loss was made.
        """
        found: dict[str, str] = {}
        for option, source in self._sources().items():
            for name, sha256 in source.files().items():
                # Two local files of one name, in two folders.
                found[name if found.get(name, sha256) == sha256 else f"{name} ({option})"] = sha256
        return found

    @abstractmethod
    def _sources(self) -> Mapping[str, WeightSource]:
        """Return where the weights come from, by the argument that names a local file."""

    @abstractmethod
    def _network_on(self, device: torch.device, dtype: torch.dtype) -> nn.Module:
        """Return the frozen network on a device and in a dtype."""

    @abstractmethod
    def _distances(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return the distance of each layer by its name, one value per sample or one for all.

        Args:
            fake: The generated image as `_prepared` returns it.
            real: The target, likewise.
        """

    @abstractmethod
    def _least_size(self) -> tuple[int, str]:
        """Return the least height and width that the network can do with, and the layer that needs it."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> FeatureLoss:
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
            The loss, or one value per sample, in float32, or in float64 for images in float64; with `by_layer` that of
            each layer, weighted, by its name, the sum of which is the loss.

        Raises:
            ValueError: If the shapes differ, are not as above, or are too small for the layers; if the images are
                on another device than the loss; if `criterion` returns one value where one for each sample is needed.
            TypeError: If an image is not of a floating-point dtype.
        """
        self._check(y_fake, y)
        with _without_autocast(y_fake.device.type):
            distances = self._distances(self._prepared(y_fake), self._prepared(y))
        dtype = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
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
        shape, here = y_fake.shape, self._anchor.device
        if y_fake.device != here:
            raise ValueError(f"{name} is on {here}, y_fake and y are on {y_fake.device}; move the loss with .to()")
        least, layer = self._least_size()
        if self.resize is None and min(shape[2:]) < least:
            raise ValueError(
                f"{name} expects at least {least}x{least} pixels for the layer {layer}; these images have "
                f"{shape[2]}x{shape[3]}: use resize=, or leave out deep layers where that can be chosen"
            )

    def _prepared(self, image: Tensor) -> Tensor:
        image = image.to(self._shift.dtype)
        if self.resize is not None:
            image = F.interpolate(image, self.resize, mode="bilinear", antialias=True)
        if self.normalize:
            image = torch.addcmul(self._shift, image, self._scale)
        return image.to(self._anchor.dtype).expand(-1, 3, -1, -1)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _without_autocast(device_type: str) -> contextlib.AbstractContextManager[Any]:
    # torch up to 2.8 cannot trace the question, and compiled code runs where there is autocast.
    if torch.compiler.is_compiling() or torch.amp.is_autocast_available(device_type):
        return torch.autocast(device_type, enabled=False)
    return contextlib.nullcontext()
