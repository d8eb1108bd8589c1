"""A trained generator at work: translating images, and comparing translations with their targets."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nectargan_core import Config
from nectargan_pix2pix import checkpoint, photos, writing
from nectargan_pix2pix.checkpoint import CheckpointError
from nectargan_pix2pix.images import SMALLEST_IMAGE, SUFFIXES, DataError, images_in, read_image, to_image
from nectargan_pix2pix.networks import Generator
from nectargan_pix2pix.options import Options
from nectargan_pix2pix.photos import Pairs, Watch, is_b_to_a
from nectargan_pix2pix.quality import ssim
from nectargan_pix2pix.report import aligned, psnr
from nectargan_pix2pix.training import translate


class Trained:
    """The generator of a run.

    Args:
        run: The directory of the run.
        device: Where it is to work.

    Raises:
        CheckpointError: If there is no checkpoint, or it does not hold a generator.
    """

    def __init__(self, run: Path, device: torch.device) -> None:
        saved = checkpoint.load(run)
        self.device = device
        try:
            self.options = Options.of(saved["options"])
            self.generator = Generator(saved["channels"])
            self.generator.load_state_dict(saved["generator"])
        except (RuntimeError, TypeError, ValueError) as error:
            path = run / checkpoint.NAME
            reason = str(error).partition("\n")[0]
            raise CheckpointError(f"{path} holds no generator of this program: {reason}", path=str(path)) from error
        self.generator.to(device).eval()
        self._run = run

    def __call__(self, x: Tensor, name: object) -> Tensor:
        """Translate one image (3, H, W) from -1 to 1.

        Args:
            x: The image.
            name: What it is called in an error.

        Raises:
            DataError: If it is too large for the memory of the device.
            CheckpointError: If the generator gives values that are nan or infinite.
        """
        try:
            output = translate(self.generator, x, self.device)
        except RuntimeError as error:
            reason = str(error).strip().partition("\n")[0]
            raise DataError(
                f"{name} ({x.shape[2]}x{x.shape[1]} pixels) cannot be translated on {self.device}: {reason}; use a "
                "smaller image, or another --device",
                path=str(name),
            ) from error
        if not output.isfinite().all():
            raise CheckpointError(
                f"the generator of {self._run} makes values of {name} that are nan or infinite, since its training has "
                "failed; take another run, or train again with lower learning rates (--lr-g, --lr-d) or weights",
                path=str(self._run / checkpoint.NAME),
            )
        return output.clamp(-1, 1)


# Translating


def outputs(images: Sequence[Path], directory: Path, *, overwrite: bool = False) -> dict[Path, Path]:
    """Return where the translation of each image goes; nothing is written.

    Args:
        images: Image files, and directories, of which all images are taken.
        directory: Where the translations go: `<name of the image>.png`.
        overwrite: Whether files may be replaced that are there.

    Raises:
        DataError: If an image does not exist, cannot be read or is too small, if two would have one translation, if
            one is there already, or if nothing can be written to the directory.
    """
    found: dict[Path, Path] = {}
    sources: dict[Path, Path] = {}
    for given in images:
        files = images_in(given) if given.is_dir() else [given]
        if not files:
            raise DataError(f"{given} has no images in it ({', '.join(SUFFIXES)})", path=str(given))
        for file in files:
            target = directory / f"{file.stem}.png"
            other = sources.setdefault(target, file)
            if other.resolve() != file.resolve():
                raise DataError(
                    f"{other} and {file} would both become {target}; translate them into two directories",
                    path=str(file),
                )
            found[file] = target
    try:
        writing.check_writable(directory)
    except OSError as error:
        raise DataError(
            f"nothing can be written to {directory}: {error.strerror or error}; choose another directory with --out",
            path=str(directory),
        ) from error
    originals = {file.resolve() for file in found}
    for file, target in found.items():
        if target.resolve() in originals:
            raise DataError(
                f"{target} is an image to translate, and would be replaced by the translation of {file}; choose "
                "another directory",
                path=str(target),
            )
        if target.exists() and not overwrite:
            raise DataError(
                f"{target} is there already; choose another directory, or replace it with --overwrite", path=str(target)
            )
        height, width = read_image(file).shape[1:]
        if min(height, width) < SMALLEST_IMAGE:
            raise DataError(
                f"{file} has {width}x{height} pixels; the generator needs {SMALLEST_IMAGE} on each side", path=str(file)
            )
    return found


def predict(trained: Trained, files: dict[Path, Path]) -> Iterator[Path]:
    """Translate images, each as a whole, and write them as PNGs.

    Args:
        trained: The generator.
        files: Where the translation of each image goes, as `outputs` returns it.

    Yields:
        Each file that is written.

    Raises:
        DataError: If an image cannot be read any more, is too large, or its translation cannot be written.
        CheckpointError: If a translation has values that are nan or infinite.
    """
    for file, target in files.items():
        buffer = io.BytesIO()
        to_image(trained(read_image(file), file)).save(buffer, format="PNG")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            writing.replace(target, buffer.getbuffer())
        except OSError as error:
            raise DataError(f"cannot write {target}: {error.strerror or error}", path=str(target)) from error
        yield target


# Comparing


class Scores(NamedTuple):
    """How near images are to their target: PSNR in dB, and SSIM up to 1; of the input, and of its translation."""

    input_psnr: float
    psnr: float
    input_ssim: float
    ssim: float


def held_out(trained: Trained, data: Path | None, part: str, watch: Watch = iter) -> tuple[list[str], Pairs]:
    """Return the names and the pairs that a run is evaluated on.

    Args:
        trained: The generator, with the options that its run had.
        data: The folder of the images; None: that of the run.
        part: The name of the folder in it.
        watch: Shows how far the reading is.

    Raises:
        DataError: If there are no such images, or one cannot be used.
        ConfigError: If the configuration of the run has no such direction.
    """
    folder = data or (None if trained.options.data is None else Path(trained.options.data))
    if folder is None:
        if part != "val":
            raise DataError(f"the sample photographs have no part {part!r}; give --data with a folder")
        return list(photos.HELD_OUT_PHOTOS), photos.sample_photographs().held_out
    direction = is_b_to_a(Config.model_validate(trained.options.config))
    return photos.held_out(folder, part, b_to_a=direction, watch=watch)


def evaluate(trained: Trained, names: Iterable[str], pairs: Pairs) -> dict[str, Scores]:
    """Compare the translation of each source image with its target.

    Args:
        trained: The generator.
        names: The names of the pairs.
        pairs: Source images and targets.

    Returns:
        Scores by the name of the pair.

    Raises:
        DataError: If an image cannot be read any more, or is too large.
        CheckpointError: If a translation has values that are nan or infinite.
    """
    scores = {}
    for index, name in enumerate(names):
        x, y = pairs[index]
        output = trained(x, name)
        scores[name] = Scores(psnr(x, y), psnr(output, y), ssim(x, y), ssim(output, y))
    return scores


def mean(scores: dict[str, Scores]) -> Scores:
    """Return the mean of each score."""
    return Scores(*(float(np.mean(column)) for column in zip(*scores.values(), strict=True)))


def as_table(scores: dict[str, Scores]) -> str:
    """Return scores as lines of text, the mean last."""
    rows: list[Sequence[str]] = [("image", "PSNR of input", "of output, dB", "SSIM of input", "of output")]
    for name, one in {**scores, f"mean of {len(scores)}": mean(scores)}.items():
        rows.append((name, *(f"{value:.{digits}f}" for value, digits in zip(one, (2, 2, 4, 4), strict=True))))
    return "\n".join(aligned(rows))


def as_plain(scores: dict[str, Scores]) -> dict[str, Any]:
    """Return scores as what JSON can hold; the PSNR of an image that equals its target is `"inf"`."""

    def plain(one: Scores) -> dict[str, float | str]:
        return {name: value if math.isfinite(value) else str(value) for name, value in one._asdict().items()}

    images = [{"image": name, **plain(one)} for name, one in scores.items()]
    return {"images": images, "mean": plain(mean(scores))}
