"""The picture of the demo: parts of held-out photographs, as each column has them, with the PSNR of the whole."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from nectargan_pix2pix import writing
from nectargan_pix2pix.images import to_image
from nectargan_pix2pix.report import psnr

_ENLARGED = 2
_GAP = 6
_FONT_SIZE = 19
_LINE = 26


class Part(NamedTuple):
    """A square of a held-out photograph that shows much: which photograph, its upper left corner, and its side."""

    photograph: int
    top: int
    left: int
    side: int


PARTS = (Part(0, 66, 136, 116), Part(0, 150, 200, 116), Part(1, 160, 100, 116))
"""An eye, the nose, and the rim of the cup."""


class Column(NamedTuple):
    """What stands in a column: a title, a line below it, and each of the photographs (3, H, W) from -1 to 1."""

    title: str
    below: str
    images: Sequence[Tensor]


def draw(columns: Sequence[Column], targets: Sequence[Tensor], path: Path) -> None:
    """Draw the parts as rows, enlarged without smoothing, as a PNG.

    Args:
        columns: What stands beside each other.
        targets: The originals, which the PSNR is of; the column that shows them has none.
        path: Where the PNG is written.
    """
    large, font = ImageFont.load_default(_FONT_SIZE), ImageFont.load_default(_FONT_SIZE - 4)
    side = _ENLARGED * PARTS[0].side
    row = side + _LINE + _GAP
    header = 2 * _LINE + _GAP
    canvas = Image.new("RGB", (len(columns) * (side + _GAP) + _GAP, header + len(PARTS) * row), "white")
    pen = ImageDraw.Draw(canvas)
    for number, column in enumerate(columns):
        left = _GAP + number * (side + _GAP)
        pen.text((left, _GAP), column.title, "black", large)
        pen.text((left, _GAP + _LINE), column.below, "black", font)
        for place, part in enumerate(PARTS):
            image, target = column.images[part.photograph], targets[part.photograph]
            top = header + place * row
            square = to_image(image[:, part.top : part.top + part.side, part.left : part.left + part.side])
            canvas.paste(square.resize((side, side), Image.Resampling.NEAREST), (left, top))
            if image is not target:
                pen.text((left, top + side + 2), f"{psnr(image, target):.2f} dB, whole photograph", "black", font)
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG")
    writing.replace(path, buffer.getbuffer())
