"""Single images: files, their pixels, and tensors of them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nectargan_core.errors import NectarganError

SMALLEST_IMAGE = 32
"""The smallest height and width in pixels that both networks of the trainer can downsample."""

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Pixels: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
"""The pixels of an image, eight bits a channel."""


class DataError(NectarganError, ValueError):
    """The trainer cannot use the images under `path`."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def images_in(directory: Path) -> list[Path]:
    """Return the files in a directory that have the suffix of an image, sorted.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    except OSError as error:
        raise DataError(f"{directory} cannot be read: {error.strerror or error}", path=str(directory)) from error


def read_image(path: Path) -> Tensor:
    """Return an image as (3, H, W) from -1 to 1.

    Raises:
        DataError: If the file cannot be read, is no image, or has more than eight bits a channel.
    """
    with opened(path, bytes_of(path)) as image:
        return to_tensor(pixels_of(path, image))


def bytes_of(path: Path) -> bytes:
    """Return what a file holds.

    Raises:
        DataError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}", path=str(path)) from error


def opened(path: Path, data: bytes) -> Image.Image:
    """Return the image that a file holds, of which only the header is read.

    Raises:
        DataError: If it is no image.
    """
    try:
        return Image.open(io.BytesIO(data))
    except Exception as error:
        reason = "no known format" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(f"{path} cannot be read as an image: {reason}; replace or remove it", path=str(path)) from error


def pixels_of(path: Path, image: Image.Image) -> Pixels:
    """Return the pixels of an image in three channels (H, W, 3), turned as its EXIF orientation says.

    Raises:
        DataError: If they cannot be decoded, or have more than eight bits a channel.
    """
    if image.mode.startswith(("I", "F")):
        # Converted to RGB, all values above 255 would become 255.
        raise DataError(
            f"{path} has more than eight bits a channel (mode {image.mode}); save it with eight", path=str(path)
        )
    try:
        image.load()
        # As viewers show it, which show an image with other EXIF data than they understand as it is.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGB"))
    except Exception as error:
        raise DataError(f"{path} cannot be read: {error}; replace or remove it", path=str(path)) from error


def to_tensor(pixels: Pixels) -> Tensor:
    """Return pixels (H, W, 3) as an image (3, H, W) from -1 to 1."""
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 127.5 - 1


def to_image(image: Tensor) -> Image.Image:
    """Return (3, H, W) from -1 to 1 as an image of eight bits a channel."""
    pixels = ((image + 1) * 127.5).round().clamp(0, 255).byte().permute(1, 2, 0)
    return Image.fromarray(pixels.contiguous().numpy())
