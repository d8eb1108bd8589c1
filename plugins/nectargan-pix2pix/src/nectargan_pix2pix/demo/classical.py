"""What classical filters make of a scratched print: scratches are found and inpainted, and noise is smoothed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from skimage.morphology import white_tophat
from skimage.restoration import denoise_tv_chambolle, inpaint_biharmonic
from torch import Tensor

from nectargan_pix2pix.photos import Pair, Pairs
from nectargan_pix2pix.report import psnr

_Array: TypeAlias = npt.NDArray[np.float64]

# Luminance and two differences of colours, orthonormal. Photographs vary less in the latter, which are smoothed more.
_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])


class Settings(NamedTuple):
    """How the filters work.

    Args:
        width: The top-hat takes for a scratch what is narrower than so many pixels.
        threshold: A scratch is brighter than its surroundings by more than this, where white is 1.
        luminance: Weight of the total variation of the luminance.
        colour: Likewise of each difference of colours.
    """

    width: int
    threshold: float
    luminance: float
    colour: float


TUNED = Settings(width=6, threshold=0.175, luminance=0.05, colour=0.09)
"""What `tuned` finds on the photographs that the networks are trained on."""

CHOICES = {
    "width": (5, 6, 7, 8, 9),
    "threshold": (0.1, 0.125, 0.15, 0.175, 0.2, 0.225),
    "luminance": (0.04, 0.05, 0.06, 0.07, 0.08),
    "colour": (0.06, 0.09, 0.12, 0.16, 0.2),
}
"""What `tuned` tries of each setting."""


def restore(x: Tensor, settings: Settings = TUNED) -> Tensor:
    """Restore a scratched print.

    Args:
        x: The print (3, H, W) from -1 to 1.
        settings: How.

    Returns:
        The restored image, of the same shape and range.
    """
    pixels = (x.permute(1, 2, 0).double().numpy() + 1) / 2
    scratches = white_tophat(pixels.min(axis=2), np.ones((1, settings.width), dtype=bool)) > settings.threshold
    whole = inpaint_biharmonic(pixels, scratches, channel_axis=-1) @ _COLOURS.T
    weights = (settings.luminance, settings.colour, settings.colour)
    smooth = [
        denoise_tv_chambolle(plane, weight)  # type: ignore[no-untyped-call]  # untyped in scikit-image
        for plane, weight in zip(np.moveaxis(whole, 2, 0), weights, strict=True)
    ]
    restored = torch.from_numpy(np.stack(smooth, axis=2) @ _COLOURS).permute(2, 0, 1)
    return (2 * restored - 1).clamp(-1, 1).float()


def tuned(pairs: Sequence[Pair], start: Settings = TUNED) -> Settings:
    """Return the settings with the highest mean PSNR: one after the other is chosen, until none changes any more.

    Args:
        pairs: Prints and originals to tune on.
        start: Where the search begins.
    """

    def score(settings: Settings) -> float:
        return float(np.mean([psnr(restore(x, settings), y) for x, y in pairs]))

    best, highest = start, score(start)
    while True:
        before = best
        for name, values in CHOICES.items():
            for value in values:
                tried = Settings(**{**best._asdict(), name: value})
                if tried != best and (reached := score(tried)) > highest:
                    best, highest = tried, reached
        if best == before:
            return best


def middles(pairs: Pairs, side: int) -> list[Pair]:
    """Return the middle of each pair, a square of `side` pixels."""
    cropped = []
    for index in range(len(pairs)):
        x, y = pairs[index]
        top, left = ((length - side) // 2 for length in y.shape[1:])
        rows, columns = slice(top, top + side), slice(left, left + side)
        cropped.append((x[:, rows, columns], y[:, rows, columns]))
    return cropped
