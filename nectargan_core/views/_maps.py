"""Loss maps as a picture: where in the images each loss is, as heat maps beside input, output and target."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from nectargan_core._printable import printable
from nectargan_core.errors import NectarganError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

_Array: TypeAlias = npt.NDArray[np.float64]
_Picture: TypeAlias = npt.NDArray[np.uint8]

_ROWS = 4
_DPI = 100
# The longer side of a cell in pixels: small images are shown several times as large, large ones smaller.
_SMALL, _LARGE = 256, 512
# The height of a cell where all results are one number for each image, or one line.
_LINE = 64
_GAP, _MARGIN = 10, 16
_HEADER, _FOOTER, _NOTE = 46, 34, 20
_NARROWEST, _WIDEST = 150, 420
_COLORS = "magma"
_NOT_FINITE = (0, 229, 255)


@dataclass(frozen=True)
class LossMap:
    """The last result of a loss that is more than a number, and what it is of.

    Args:
        name: What it is called.
        values: The weighted result, detached.
        weight: The weight that was applied.
        mean: The mean of the values.
        images: The images (N, C, H, W) that are shown beside it, by name.
    """

    name: str
    values: Tensor
    weight: float
    mean: float
    images: Mapping[str, Tensor]


def draw_maps(maps: Sequence[LossMap], suffix: str) -> tuple[bytes, tuple[str, ...]]:
    """Draw loss maps beside the images that they are of.

    Maps of the same images stand beside each other, in a row for each of the first four images of the batch. Others are
    drawn below them, beside their own images.

    Args:
        maps: The maps, at least one.
        suffix: The format, such as `.png`, which is that of an empty suffix.

    Returns:
        The picture, and the names of the maps that are in it.

    Raises:
        NectarganError: If matplotlib is not installed, it has no such format, or no map can be drawn.
    """
    blocks, notes = _blocks(maps)
    if not blocks:
        raise NectarganError(f"no loss map can be drawn: {'; '.join(notes)}")
    drawn = {column.name for block in blocks for column in block.columns if isinstance(column, _Map)}
    picture = _rendered(blocks, notes, suffix.removeprefix(".").lower() or "png")
    return picture, tuple(each.name for each in maps if each.name in drawn)


# What is drawn


@dataclass(frozen=True)
class _Image:
    """A column of images: pixels (H, W, 3) of each."""

    name: str
    caption: str
    pixels: Sequence[_Picture]

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels[0].shape[0], self.pixels[0].shape[1]


@dataclass(frozen=True)
class _Map:
    """A column of heat maps: values (N, h, w)."""

    name: str
    caption: str
    values: _Array
    # How many values of the whole batch are nan or infinite.
    not_finite: int

    @property
    def size(self) -> tuple[int, int]:
        return self.values.shape[1], self.values.shape[2]

    @property
    def ends(self) -> tuple[float, float] | None:
        """The least and the greatest finite value that is drawn, None if there is none."""
        finite = self.values[np.isfinite(self.values)]
        return (float(finite.min()), float(finite.max())) if finite.size else None


@dataclass
class _Block:
    """Maps of the same images."""

    images: dict[str, Tensor]
    maps: list[LossMap]
    columns: list[_Image | _Map] = field(default_factory=list)
    # How many images the batch has.
    batch: int = 0

    @property
    def rows(self) -> int:
        return min(self.batch, _ROWS)


def _blocks(maps: Iterable[LossMap]) -> tuple[list[_Block], list[str]]:
    """Return the maps in blocks of the same images, and notes of what is not drawn."""
    blocks: list[_Block] = []
    for each in maps:
        block = next((block for block in blocks if _are_same(block.images, each.images)), None)
        if block is None:
            blocks.append(block := _Block({}, []))
        block.images.update(each.images)
        block.maps.append(each)
    notes: list[str] = []
    for block in blocks:
        notes += _fill(block)
    return [block for block in blocks if block.columns], notes


def _are_same(some: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    """Whether images are the same tensors, as far as both have one of a name; or there are none at all."""
    both = some.keys() & others.keys()
    if not both:
        return not some and not others
    return all(_memory(some[name]) == _memory(others[name]) for name in both)


def _memory(tensor: Tensor) -> tuple[Any, ...]:
    try:
        place: object = tensor.data_ptr()
    except RuntimeError:  # some subclasses have none
        place = id(tensor)
    return place, tensor.device, tensor.dtype, tuple(tensor.shape), tensor.stride()


def _fill(block: _Block) -> Iterator[str]:
    """Set the columns of a block; yields notes of what is not drawn."""
    shown = {name: image for name, image in block.images.items() if image.numel() and not image.is_meta}
    batches = [len(tensor) for tensor in (*shown.values(), *(each.values for each in block.maps))]
    block.batch = batches[0]
    made: list[_Map] = []
    for each in block.maps:
        reason = _reason(each.values, block.batch if shown else None)
        if reason:
            yield f"{each.name} is left out: {reason}"
        else:
            made.append(_map(each))
    if not made:
        return
    if not shown:
        block.batch = max(len(each.values) for each in block.maps)
    first = {name: _array(image) for name, image in shown.items() if len(image) == block.batch}
    ranges = {name: _range(image, first[name]) for name, image in shown.items() if name in first}
    if "y" in ranges and "y_fake" in ranges:
        ranges["y_fake"] = ranges["y"]
    block.columns = [*(_image(name, image, ranges[name]) for name, image in first.items()), *made]
    if block.batch > _ROWS:
        yield f"The first {_ROWS} of a batch of {block.batch} are shown."


def _reason(values: Tensor, batch: int | None) -> str:
    """Return why a result cannot be drawn as maps of so many images; nothing if it can."""
    shape = tuple(values.shape)
    if values.is_meta:
        return "it is on the meta device, and has no values"
    if not values.numel():
        return f"its shape {shape} has no values"
    if len(shape) > 4:
        return f"its shape {shape} is not that of maps (N, C, H, W) or (N, H, W)"
    if batch is not None and shape[0] != batch:
        return f"the first dimension of its shape {shape} is not the {batch} images of the batch"
    return ""


def _map(given: LossMap) -> _Map:
    values = _array(given.values)
    if values.ndim == 4:
        values = values.mean(1)
    elif values.ndim < 3:
        values = values.reshape(len(values), 1, -1)
    not_finite = int((~given.values.isfinite()).sum()) if given.values.is_floating_point() else 0
    caption = f"weight {given.weight:.4g}, mean {given.mean:.4g}"
    return _Map(given.name, caption, values, not_finite)


def _array(tensor: Tensor) -> _Array:
    """Return the first of a batch as an array."""
    array: _Array = tensor[:_ROWS].detach().cpu().double().numpy()
    return array


def _range(image: Tensor, values: _Array) -> tuple[float, float]:
    """Return the range that images are in, as far as their least value tells: that is the darkest and the lightest."""
    finite = values[np.isfinite(values)]
    if not image.is_floating_point():
        return (0.0, 255.0) if finite.size and finite.max() > 1 else (0.0, 1.0)
    return (-1.0, 1.0) if finite.size and finite.min() < 0 else (0.0, 1.0)


def _image(name: str, values: _Array, ends: tuple[float, float]) -> _Image:
    pixels = values[:, :3] if values.shape[1] >= 3 else values[:, :1].repeat(3, axis=1)
    low, high = ends
    pixels = pixels.transpose(0, 2, 3, 1)
    finite = np.isfinite(pixels).all(-1)
    gray = np.where(finite[..., None], (pixels - low) / (high - low), 0.0)
    colors = (gray.clip(0, 1) * 255).round().astype(np.uint8)
    colors[~finite] = _NOT_FINITE
    return _Image(name, f"from {low:g} to {high:g}", list(colors))


# How it is drawn


def _rendered(blocks: Sequence[_Block], notes: Iterable[str], suffix: str) -> bytes:
    """Draw blocks below each other."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise NectarganError(
            "drawing loss maps needs matplotlib; pip install 'nectargan-core[cli]' brings it"
        ) from error
    cells = [_cell(block) for block in blocks]
    widths = [[_width(column, cell) for column in block.columns] for block, cell in zip(blocks, cells, strict=True)]
    heights = [_HEADER + (cell[0] + _GAP) * block.rows + _FOOTER for block, cell in zip(blocks, cells, strict=True)]
    lines = list(_lines(notes, blocks))
    width = max(sum(each) + _GAP * (len(each) - 1) for each in widths) + 2 * _MARGIN
    height = sum(heights) + _NOTE * len(lines) + _MARGIN
    # pyplot would keep every figure, and may need a display.
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor="white")
    formats = FigureCanvasAgg(figure).get_supported_filetypes()
    if suffix not in formats:
        raise NectarganError(f"loss maps cannot be drawn as .{suffix}; there are {', '.join(sorted(formats))}")
    page = _Page(figure, width, height)
    top = 0
    for block, cell, each, size in zip(blocks, cells, widths, heights, strict=True):
        left = _MARGIN
        for column, wide in zip(block.columns, each, strict=True):
            _draw(page, column, left, top, cell, wide)
            left += wide + _GAP
        top += size
    for number, line in enumerate(lines):
        page.text(_MARGIN, top + _NOTE * number + 4, line, size=8, color="0.3")
    return page.saved(suffix)


class _Page:
    """A figure on which things have their places in pixels from the upper left corner.

    Args:
        figure: The figure.
        width: Its width in pixels.
        height: Its height.
    """

    def __init__(self, figure: Figure, width: int, height: int) -> None:
        self._figure = figure
        # All pictures are one, since axes of its own for each take most of the time.
        self._pixels: _Picture = np.full((height, width, 3), 255, dtype=np.uint8)

    def picture(self, left: int, top: int, pixels: _Picture) -> None:
        """Draw pixels as they are."""
        height, width = pixels.shape[:2]
        self._pixels[top : top + height, left : left + width] = pixels

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write a line, whose upper left corner this is unless the style says another."""
        style = {"ha": "left", "va": "top", "color": "black", **style}
        height, width = self._pixels.shape[:2]
        self._figure.text(left / width, 1 - top / height, text, parse_math=False, **style)

    def saved(self, suffix: str) -> bytes:
        """Return the page in a format."""
        self._figure.figimage(self._pixels)
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            # A name may have characters that the font has not, which are drawn as boxes.
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            self._figure.savefig(buffer, format=suffix, dpi=_DPI)
        return buffer.getvalue()


def _lines(notes: Iterable[str], blocks: Sequence[_Block]) -> Iterator[str]:
    maps = [column for block in blocks for column in block.columns if isinstance(column, _Map)]
    if any(column.not_finite for column in maps):
        yield "Where a value is nan or infinite, the color is cyan."
    yield from dict.fromkeys(map(printable, notes))


def _cell(block: _Block) -> tuple[int, int]:
    """Return height and width of the cell that each image or map of a block is drawn in."""
    images = [column.size for column in block.columns if isinstance(column, _Image)]
    height, width = max(images or [column.size for column in block.columns], key=lambda size: size[0] * size[1])
    is_line = height == 1 and not images
    longer = max(height, width)
    if longer > _LARGE:
        height, width = (max(1, round(side * _LARGE / longer)) for side in (height, width))
    else:
        times = max(1, _SMALL // longer)
        height, width = height * times, width * times
    return (_LINE if is_line else height, width)


def _width(column: _Image | _Map, cell: tuple[int, int]) -> int:
    """Return the width of a column, in which its captions have room."""
    needed = max(9 * len(printable(column.name)), 7 * len(column.caption))
    return max(cell[1], _NARROWEST, min(needed, _WIDEST))


def _draw(page: _Page, column: _Image | _Map, left: int, top: int, cell: tuple[int, int], width: int) -> None:
    """Draw a column of a block."""
    page.text(left, top + 8, _cut(printable(column.name), width // 9), size=10, weight="bold")
    page.text(left, top + 27, _cut(column.caption, width // 7), size=8, color="0.3")
    top += _HEADER
    if isinstance(column, _Image):
        for pixels in column.pixels:
            page.picture(left, top, _inside(pixels, cell))
            top += cell[0] + _GAP
        return
    ends = column.ends
    for values in column.values:
        page.picture(left, top, _stretched(_colored(_pooled(values, cell), ends), cell))
        if values.size == 1:
            bright = ends is not None and values[0, 0] > sum(ends) / 2
            place = left + cell[1] / 2, top + cell[0] / 2
            page.text(*place, f"{values[0, 0]:.4g}", ha="center", va="center", size=10, color="k" if bright else "w")
        top += cell[0] + _GAP
    if ends is None:
        page.text(left, top, "no finite value", size=8, color="0.3")
        return
    parts = np.linspace(0.0, float(ends[0] < ends[1]), cell[1])[None]
    page.picture(left, top, _stretched(_colored(parts, (0.0, 1.0)), (8, cell[1])))
    page.text(left, top + 11, f"{ends[0]:.3g}", size=8)
    page.text(left + cell[1], top + 11, f"{ends[1]:.3g}", size=8, ha="right")
    if column.not_finite:
        page.text(left + cell[1] / 2, top + 11, f"{column.not_finite} not finite", size=8, ha="center", color="#00838f")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\N{HORIZONTAL ELLIPSIS}"


def _colored(values: _Array, ends: tuple[float, float] | None) -> _Picture:
    """Return values (h, w) as colors (h, w, 3)."""
    from matplotlib import colormaps

    low, high = ends or (0.0, 1.0)
    finite = np.isfinite(values)
    # Halved, so that the difference of the largest numbers does not overflow.
    width = (high / 2 - low / 2) or 1.0
    parts = np.where(finite, (np.where(finite, values, low) / 2 - low / 2) / width, 0.0)
    colors: _Picture = colormaps[_COLORS](parts.clip(0, 1), bytes=True)[..., :3]
    colors[~finite] = _NOT_FINITE
    return colors


def _inside(pixels: _Picture, cell: tuple[int, int]) -> _Picture:
    """Return an image in its own proportions, as large as a cell allows, in its upper left corner."""
    height, width = pixels.shape[:2]
    times = min(cell[0] / height, cell[1] / width)
    size = max(1, round(height * times)), max(1, round(width * times))
    channels = [_pooled(pixels[..., channel].astype(np.float64), size) for channel in range(3)]
    return _stretched(np.stack(channels, -1).round().astype(np.uint8), size)


def _pooled(values: _Array, most: tuple[int, int]) -> _Array:
    """Return values (h, w) in at most so many rows and columns, by means; a mean with nan is nan."""
    for axis, limit in enumerate(most):
        length = values.shape[axis]
        if length > limit:
            starts = np.arange(limit) * length // limit
            counts = np.diff(np.append(starts, length))
            with np.errstate(invalid="ignore", over="ignore"):
                values = np.add.reduceat(values, starts, axis=axis) / np.expand_dims(counts, 1 - axis)
    return values


def _stretched(pixels: _Picture, size: tuple[int, int]) -> _Picture:
    """Return pixels in another size, in which each is that of the nearest one before."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(int) for old, new in zip(pixels.shape, size, strict=False)
    )
    stretched: _Picture = pixels[rows][:, columns]
    return stretched
