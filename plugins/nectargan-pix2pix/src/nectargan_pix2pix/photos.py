"""The images of the trainer: pix2pix folders, or photographs of scikit-image that are scratched to be restored."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import skimage.data
import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

from nectargan_core import Config
from nectargan_core.errors import ConfigError
from nectargan_pix2pix.images import (
    SMALLEST_IMAGE,
    SUFFIXES,
    DataError,
    bytes_of,
    images_in,
    opened,
    pixels_of,
    read_image,
    to_tensor,
)

Pair = tuple[Tensor, Tensor]
"""A source image and its target, each (3, H, W) from -1 to 1."""

LARGEST_CROP = 256
LARGEST_HELD_OUT = 512

# Everyday photographs are held out. The star field of scikit-image is not used, since stars look like noise, nor is
# `cat`, which is `chelsea` under another name.
TRAINING_PHOTOS = ("astronaut", "immunohistochemistry", "retina", "rocket", "stereo_motorcycle")
HELD_OUT_PHOTOS = ("chelsea", "coffee")
PHOTO_CROP = 64
CROPS_PER_PHOTO = 32

# A scratched print: how many pixels a scratch begins at, how long and how opaque it is, and the noise of the print.
SCRATCHES = 0.015
SCRATCH_LENGTH = 15
OPACITY = 0.6
NOISE = 10 / 255


class Pairs(Protocol):
    """Pairs by index, loaded on access."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Pair: ...


@dataclass(frozen=True)
class Photographs:
    """Images for training, and held-out images that are never trained on.

    Args:
        training: Random crops of the training images, mirrored at random.
        held_out: Whole images, or their middle where they are large.
        description: What they are, in one line.
        digest: The same for the same images, whatever the folder that they are in.
    """

    training: Crops
    held_out: Pairs
    description: str
    digest: str


class Crops:
    """Square crops of pairs at random positions, mirrored at random.

    Args:
        pairs: The pairs to crop.
        size: Height and width of a crop in pixels, at most those of the smallest image.
        repeats: The number of crops of each pair in an epoch.
    """

    def __init__(self, pairs: Pairs, size: int, repeats: int = 1) -> None:
        self.pairs = pairs
        self.size = size
        self._repeats = repeats

    def __len__(self) -> int:
        return len(self.pairs) * self._repeats

    def take(self, index: int, generator: torch.Generator) -> Pair:
        """Return a crop of source and target, at the same place of both.

        Args:
            index: Which crop, from 0 to the number of crops.
            generator: What draws the place, and whether the crop is mirrored.
        """
        x, y = self.pairs[index % len(self.pairs)]
        top, left = (int(torch.randint(side - self.size + 1, (), generator=generator)) for side in x.shape[1:])
        mirrored = bool(torch.rand((), generator=generator) < 0.5)

        def crop(image: Tensor) -> Tensor:
            part = image[:, top : top + self.size, left : left + self.size]
            return part.flip(-1) if mirrored else part

        return crop(x), crop(y)


class _Middles:
    """Pairs, cropped to their middle where they are larger than `LARGEST_HELD_OUT`."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int, /) -> Pair:
        x, y = self._pairs[index]
        return _middle(x), _middle(y)


def _middle(image: Tensor) -> Tensor:
    for dim in (1, 2):
        spare = max(image.shape[dim] - LARGEST_HELD_OUT, 0)
        image = image.narrow(dim, spare // 2, image.shape[dim] - spare)
    return image


# Photographs to restore


def sample_photographs(crop: int | None = None) -> Photographs:
    """Return photographs to restore: scratched and noisy prints on one side, the originals on the other.

    Args:
        crop: Height and width of the crops for training, in pixels. None: 64.

    Raises:
        DataError: If the crop is too small for the networks or too large for the photographs.
    """
    pairs = [_restoration(name) for name in TRAINING_PHOTOS]
    largest = min(side for _, y in pairs for side in y.shape[1:])
    size = _checked_crop(PHOTO_CROP if crop is None else crop, largest, "the sample photographs")
    return Photographs(
        training=Crops(pairs, size, repeats=CROPS_PER_PHOTO),
        held_out=_Middles([_restoration(name) for name in HELD_OUT_PHOTOS]),
        description=(
            f"sample photographs, scratched print -> original; training on crops of {size}x{size} from "
            f"{', '.join(TRAINING_PHOTOS)}; held out: {', '.join(HELD_OUT_PHOTOS)}"
        ),
        digest=_digest(f"{name} {_checksum(y)}" for name, (_, y) in zip(TRAINING_PHOTOS, pairs, strict=True)),
    )


def scratch(photo: Tensor, generator: torch.Generator) -> Tensor:
    """Make a scratched print of a photograph: fine, slanted, bright lines, and noise.

    Args:
        photo: (3, H, W) from -1 to 1.
        generator: The generator of the scratches and of the noise, whose standard deviation is 10 of 255 grey levels.

    Returns:
        An image of the same shape and range. Under a scratch, 60 % of it is white; about a fifth of the pixels are.
    """
    begins = (torch.rand((1, 1, *photo.shape[1:]), generator=generator) < SCRATCHES).float()
    scratches = OPACITY * F.conv2d(begins, _line(), padding=SCRATCH_LENGTH // 2).squeeze(0).clamp(max=1)
    # The range from -1 to 1 is twice the unit that NOISE is given in.
    noise = 2 * NOISE * torch.randn(photo.shape, generator=generator)
    return (photo + scratches * (1 - photo) + noise).clamp(-1, 1)


def _line() -> Tensor:
    """Return a scratch as the kernel of a convolution: a pixel in each row, and a column to the left every fourth."""
    kernel = torch.zeros(1, 1, SCRATCH_LENGTH, SCRATCH_LENGTH)
    middle = SCRATCH_LENGTH // 2
    for row in range(SCRATCH_LENGTH):
        kernel[0, 0, row, middle - (row - middle) // 4] = 1
    return kernel


def _restoration(name: str) -> Pair:
    photo = getattr(skimage.data, name)()
    # The motorcycle is a tuple: the left view, the right view and the disparities between them.
    image = to_tensor(photo[0] if isinstance(photo, tuple) else photo)
    original = image[:, : image.shape[1] // 2 * 2, : image.shape[2] // 2 * 2]
    # Seeded by the name, so that a photograph is scratched in the same way in every run, whatever the seed.
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return scratch(original, generator), original


# Folders


Watch = Callable[[Sequence[Path]], Iterable[Path]]
"""What shows progress: it is given the files, and returns them while they are read."""


def folder(path: Path, crop: int | None = None, *, b_to_a: bool = False, watch: Watch = iter) -> Photographs:
    """Return the pairs in a pix2pix folder: images in `train/` and `val/`, each with A left and B right.

    Every image is read once, so that one that cannot be read is found before the training begins.

    Args:
        path: The folder that holds `train/` and `val/`.
        crop: Height and width of the crops for training, in pixels. None: the largest multiple of 16 up to 256
            that fits every image.
        b_to_a: Whether B is the source and A the target.
        watch: Shows how far the reading is; it yields each file that it is given.

    Raises:
        DataError: If a folder is missing or without images, an image cannot be read or is not an A|B pair, or the
            images are too small.
    """
    training, validation = (_ABImages(path, part, ("train", "val"), b_to_a, watch) for part in ("train", "val"))
    fits = training.smallest // 16 * 16
    size = min(fits, LARGEST_CROP) if crop is None else crop
    size = _checked_crop(size, training.smallest, str(path / "train"))
    return Photographs(
        training=Crops(training, size),
        held_out=_Middles(validation),
        description=(
            f"{path}, {_direction(b_to_a)}: {len(training)} pairs to train on in crops of {size}x{size}, "
            f"{len(validation)} held out"
        ),
        digest=_digest([*training.checksums, *validation.checksums]),
    )


def held_out(path: Path, part: str = "val", *, b_to_a: bool = False, watch: Watch = iter) -> tuple[list[str], Pairs]:
    """Return the names and the pairs of one part of a pix2pix folder, whole or, where they are large, their middle.

    Args:
        path: The folder that holds the part.
        part: The name of the part, a folder of images with A left and B right.
        b_to_a: Whether B is the source and A the target.
        watch: As for `folder`.

    Raises:
        DataError: As `folder` raises.
    """
    images = _ABImages(path, part, (part,), b_to_a, watch)
    return [file.name for file in images.paths], _Middles(images)


class _ABImages:
    """The images of a folder, split in two; all are read at construction, and again on access."""

    def __init__(self, root: Path, part: str, parts: Sequence[str], b_to_a: bool, watch: Watch) -> None:
        self._b_to_a = b_to_a
        self.paths = _images_in(root, root / part, parts)
        examined = list(_examined(self.paths, watch))
        self.smallest = min(min(one.height, one.width // 2) for one in examined)
        self.checksums = [f"{part}/{path.name} {one.checksum}" for path, one in zip(self.paths, examined, strict=True)]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int, /) -> Pair:
        a, b = read_image(self.paths[index]).chunk(2, dim=2)
        return (b, a) if self._b_to_a else (a, b)


class _Examined(NamedTuple):
    """What is kept of an image that was read: its size in pixels, and a checksum of the file."""

    width: int
    height: int
    checksum: str


def _examined(paths: Sequence[Path], watch: Watch) -> Iterator[_Examined]:
    """Read images, several at once; decoding one leaves Python to the others."""
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        results = pool.map(_examine_pair, paths)
        for _, result in zip(watch(paths), results, strict=True):
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def _examine_pair(path: Path) -> _Examined:
    data = bytes_of(path)
    with opened(path, data) as image:
        height, width = pixels_of(path, image).shape[:2]
    # A file does not declare that it holds a pair. But two images side by side have an even width and, unless they are
    # very tall, are wider than high.
    if width % 2 or width <= height:
        problem = "an odd width" if width % 2 else "not wider than high"
        raise DataError(
            f"{path} is no A|B pair: expected two images of one size side by side, found {width}x{height} pixels, "
            f"{problem}; put source and target next to each other in one file",
            path=str(path),
        )
    if min(width // 2, height) < SMALLEST_IMAGE:
        raise DataError(
            f"{path} is a pair of images of {width // 2}x{height} pixels, and the networks need {SMALLEST_IMAGE} on "
            "each side; use a larger one, or remove it",
            path=str(path),
        )
    return _Examined(width, height, f"{zlib.crc32(data):08x}")


def _images_in(root: Path, directory: Path, parts: Sequence[str]) -> list[Path]:
    where = " and ".join(str(root / part) for part in parts)
    expected = f"expected a pix2pix folder, with images ({', '.join(SUFFIXES)}) in {where}"
    if not root.is_dir():
        what = "it is a file" if root.exists() else "there is no such folder"
        raise DataError(f"{expected}; found that {root}: {what}", path=str(root))
    if not directory.is_dir():
        raise DataError(f"{expected}; found no {directory.name}/, but {_listed(root)}", path=str(directory))
    paths = images_in(directory)
    if not paths:
        raise DataError(f"{expected}; found in {directory.name}/ {_listed(directory)}", path=str(directory))
    return paths


def _listed(directory: Path) -> str:
    names = sorted(path.name + "/" * path.is_dir() for path in directory.iterdir())
    if not names:
        return "nothing"
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _checked_crop(crop: int, largest: int, where: str) -> int:
    if not SMALLEST_IMAGE <= crop <= largest:
        raise DataError(
            f"{where}: crops must be from {SMALLEST_IMAGE} pixels, which the networks need, up to {largest}, the "
            f"shortest side there is; asked for {crop}. Use larger images, or set dataloader.load.crop_size",
            path=where,
        )
    return crop


def _direction(b_to_a: bool) -> str:
    return "B (right) -> A (left)" if b_to_a else "A (left) -> B (right)"


def is_b_to_a(config: Config) -> bool:
    """Return whether B is the source and A the target.

    Raises:
        ConfigError: If the configuration has another direction than `AtoB` and `BtoA`.
    """
    direction = (config.dataloader.model_extra or {}).get("direction") or "AtoB"
    if direction not in ("AtoB", "BtoA"):
        raise ConfigError(f"dataloader.direction is 'AtoB' or 'BtoA', got {direction!r}", key="dataloader.direction")
    return bool(direction == "BtoA")


def _checksum(image: Tensor) -> str:
    return f"{zlib.crc32(image.numpy().tobytes()):08x}"


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
