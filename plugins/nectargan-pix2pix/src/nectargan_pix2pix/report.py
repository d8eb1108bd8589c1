"""The report of a training run: curves of the log, a grid of images, and a closing table."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nectargan_core import LossLog
from nectargan_pix2pix import writing
from nectargan_pix2pix.images import to_image

_GAP = 8
_CAPTION = 26
_FONT_SIZE = 16


class Result(NamedTuple):
    """A held-out pair and the output of the generator; each (3, H, W) from -1 to 1."""

    x: Tensor
    output: Tensor
    y: Tensor


def psnr(image: Tensor, target: Tensor) -> float:
    """Return the peak signal-to-noise ratio of an image in dB; infinite if it equals the target.

    Args:
        image: (3, H, W), from -1 to 1.
        target: The same.

    Example:
        >>> round(psnr(torch.full((3, 8, 8), 0.2), torch.zeros(3, 8, 8)), 2)
        20.0
    """
    peak = 2.0
    return float(10 * torch.log10(peak**2 / (image - target).square().mean()))


# Curves


def draw_curves(log: LossLog, path: Path) -> None:
    """Draw the curves of a log as a PNG."""
    buffer = io.BytesIO()
    log.plot().savefig(buffer, format="png")
    writing.replace(path, buffer.getbuffer())


# Images


def draw_grid(results: Sequence[Result], title: str, path: Path) -> None:
    """Draw input, output and target of each result in a row, pixel for pixel, as a PNG.

    A column is as wide as its widest image or caption, and the title is broken into as many lines as it needs.

    Args:
        results: At least one; a row each.
        title: What stands above them.
        path: Where the PNG is written.
    """
    font = ImageFont.load_default(_FONT_SIZE)
    captions = [
        (f"input, {psnr(x, y):.2f} dB", f"output, {psnr(output, y):.2f} dB", "target") for x, output, y in results
    ]
    widths = [
        max(*(image.shape[2] for image in images), *(round(font.getlength(caption) + 0.5) for caption in texts))
        for images, texts in zip(zip(*results, strict=True), zip(*captions, strict=True), strict=True)
    ]
    heights = [_CAPTION + result.y.shape[1] + _GAP for result in results]
    width = sum(widths) + _GAP * (len(widths) + 1)
    lines = list(_lines(title, width - 2 * _GAP, font))
    top = _CAPTION * len(lines)
    canvas = Image.new("RGB", (width, top + sum(heights) + _GAP), "white")
    draw = ImageDraw.Draw(canvas)
    for number, line in enumerate(lines):
        draw.text((_GAP, 4 + _CAPTION * number), line, "black", font)
    for result, texts, height in zip(results, captions, heights, strict=True):
        left = _GAP
        for image, caption, column in zip(result, texts, widths, strict=True):
            draw.text((left, top + 4), caption, "black", font)
            canvas.paste(to_image(image), (left, top + _CAPTION))
            left += column + _GAP
        top += height
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG")
    writing.replace(path, buffer.getbuffer())


def _lines(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Iterator[str]:
    """Break a text into lines of at most a width: between words, and inside of a word that is wider than a line."""
    line = ""
    for word in text.split():
        longer = f"{line} {word}".strip()
        if font.getlength(longer) <= width:
            line = longer
            continue
        if line:
            yield line
        line = ""
        for character in word:
            if line and font.getlength(line + character) > width:
                yield line
                line = ""
            line += character
    yield line


# The closing table


def closing_table(log: LossLog, results: Sequence[tuple[float, float]]) -> str:
    """Compare the first with the last epoch, and the outputs with the inputs.

    Args:
        log: The log of the run.
        results: The PSNR of input and output of each held-out pair, in dB.

    Returns:
        A table of the losses (weighted, mean over the epoch), and the mean PSNRs, as lines of text.
    """
    names = trained(log)
    logged = np.concatenate([log.series(name).epoch for name in names])
    # One column where there is one epoch.
    epochs = list(dict.fromkeys((float(logged.min()), float(logged.max()))))
    rows = [("loss, weighted", "weight", *(f"epoch {int(epoch) + 1}" for epoch in epochs))]
    for name in names:
        records = log.series(name)
        weights = [f"{records.weight[index]:g}" for index in (0, -1)]
        means = (_mean(records.loss[records.epoch == epoch]) for epoch in epochs)
        rows.append((name, " -> ".join(dict.fromkeys(weights)), *means))
    lines = aligned(rows)
    before, after = (float(np.mean(column)) for column in zip(*results, strict=True))
    gain = round(after - before, 2) + 0.0  # no minus sign before a zero
    lines += [
        "",
        f"held-out PSNR, mean of {len(results)}: input {before:.2f} dB, output {after:.2f} dB ({gain:+.2f} dB)",
    ]
    return "\n".join(lines)


def trained(log: LossLog) -> list[str]:
    """Return the names in a log of what was computed in training steps, which those of held-out images are not."""
    return [name for name in log.names if "/" not in name]


def _mean(losses: npt.NDArray[np.float64]) -> str:
    """Return the mean as text; a loss may have no records in an epoch."""
    return f"{losses.mean():.4f}" if len(losses) else "-"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells as lines: the first column to the left, all others to the right.

    Example:
        >>> aligned([("name", "dB"), ("0.png", "23.50")])
        ['name      dB', '0.png  23.50']
    """
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        row[0].ljust(sizes[0]) + "".join(f"  {cell:>{size}}" for cell, size in zip(row[1:], sizes[1:], strict=True))
        for row in rows
    ]
