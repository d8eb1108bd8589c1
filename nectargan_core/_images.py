"""The check of the images that a loss is given, which image losses share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeVar

from torch import Tensor

from nectargan_core._messages import shown

_T = TypeVar("_T")


def check_images(owner: str, /, *, channels: int | Sequence[int] | None = None, **images: Tensor) -> None:
    """Check that images are what most image losses read: floating point, of one shape (N, C, H, W), on one device.

    Reads no values: it works on the meta device and inside of `torch.compile`, and waits for no device. The images may
    have different floating-point dtypes.

    Args:
        owner: What reads the images, such as the name of the loss, for the error.
        channels: How many channels an image may have, one number or several; None for any.
        **images: The images by the names that the error calls them.

    Raises:
        ValueError: If the images are not of one shape (N, C, H, W), have another number of channels, or are on
            different devices.
        TypeError: If an image is no tensor, or not of a floating-point dtype.

    Example:
        >>> import torch
        >>> y_fake, y = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 9)
        >>> check_images("Sobel", y_fake=y_fake, y=y_fake)
        >>> check_images("Sobel", y_fake=y_fake, y=y)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        ValueError: Sobel expects images of one shape (N, C, H, W); y_fake is (1, 3, 8, 8) and y is (1, 3, 8, 9): ...
    """
    first: Tensor | None = None
    for image in images.values():
        if not isinstance(image, Tensor):
            _refuse_type(owner, images)
        if first is None:
            first = image
        if image.dim() != 4 or image.shape != first.shape:
            _refuse_shape(owner, images)
        if not image.is_floating_point():
            _refuse_dtype(owner, images)
        if image.device != first.device:
            _refuse_device(owner, images)
    if channels is not None and first is not None:
        allowed = (channels,) if isinstance(channels, int) else channels
        if first.shape[1] not in allowed:
            _refuse_channels(owner, allowed, images)


def _refuse_type(owner: str, images: Mapping[str, object]) -> NoReturn:
    given = _each(images, lambda image: "a tensor" if isinstance(image, Tensor) else shown(image))
    raise TypeError(f"{owner} expects images that are tensors (N, C, H, W); {given}: convert with torch.as_tensor")


def _each(images: Mapping[str, _T], said: Callable[[_T], object]) -> str:
    """Say something of each image, as in `y_fake is torch.uint8 and y is torch.float32`."""
    return " and ".join(f"{name} is {said(image)}" for name, image in images.items())


def _refuse_shape(owner: str, images: Mapping[str, Tensor]) -> NoReturn:
    if all(image.dim() == 4 for image in images.values()):
        advice = "bring them to one shape"
    elif any(image.dim() == 3 for image in images.values()):
        advice = "give one image a batch dimension with image.unsqueeze(0)"
    else:
        advice = "bring them to this shape"
    given = _each(images, lambda image: tuple(image.shape))
    raise ValueError(f"{owner} expects images of one shape (N, C, H, W); {given}: {advice}")


def _refuse_dtype(owner: str, images: Mapping[str, Tensor]) -> NoReturn:
    given = _each(images, lambda image: image.dtype)
    raise TypeError(f"{owner} expects floating-point images; {given}: convert with .float()")


def _refuse_device(owner: str, images: Mapping[str, Tensor]) -> NoReturn:
    given = _each(images, lambda image: f"on {image.device}")
    raise ValueError(f"{owner} expects images on one device; {given}: move them with .to(device)")


def _refuse_channels(owner: str, allowed: Sequence[int], images: Mapping[str, Tensor]) -> NoReturn:
    numbers = " or ".join(map(str, allowed))
    (shape, *_) = [tuple(image.shape) for image in images.values()]
    raise ValueError(
        f"{owner} expects images with {numbers} channels, (N, C, H, W); {', '.join(images)} have {shape[1]}, in the "
        f"shape {shape}: convert them to {numbers} channels"
    )
