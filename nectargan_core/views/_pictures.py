"""The pictures of runs as a report holds them: found, put in order, made smaller where they are large, and embedded."""

from __future__ import annotations

import base64
import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from nectargan_core import _arguments as arguments
from nectargan_core._messages import one_line, shown
from nectargan_core.errors import NectarganError
from nectargan_core.views._runs import Run

if TYPE_CHECKING:
    from PIL.Image import Image as OpenedImage

Pictures: TypeAlias = "Iterable[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]"
"""Pictures as a caller gives them: paths, or paths by what is written below them."""

# Where a training leaves its pictures.
_FOLDER = "grids"
_SIGNATURES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}
# A picture of more bytes is made smaller.
_LARGE = 250_000
_WIDEST, _TALLEST = 1600, 16_000
_QUALITY = 88
# A report has about so many pictures; each series of them has at least a few.
_MOST = 60
_FEWEST_OF_SERIES, _MOST_OF_SERIES = 2, 12


@dataclass(frozen=True)
class Picture:
    """A picture of a report.

    Args:
        caption: What is written below it.
        uri: The picture itself, as a URI.
    """

    caption: str
    uri: str


@dataclass(frozen=True)
class PictureSeries:
    """Pictures of the same thing at different times.

    Args:
        title: What they show.
        pictures: At least one, in their order.
        left_out: How many others there are.
    """

    title: str
    pictures: tuple[Picture, ...]
    left_out: int


def series_of(runs: Sequence[Run], given: Pictures | None) -> tuple[list[PictureSeries], list[str]]:
    """Return the pictures of a report, and what is to be said of those that cannot be read.

    Args:
        runs: The runs.
        given: The pictures. None: those in the folder `grids` of each run.

    Raises:
        NectarganError: If one that was given cannot be read, or is damaged.
        TypeError: If one is no path.
    """
    notes: list[str] = []
    files = _found(runs, notes) if given is None else _given(runs, given)
    groups: dict[str, list[tuple[str, Path]]] = {}
    for title, caption, file in files:
        groups.setdefault(title, []).append((caption, file))
    most = max(_FEWEST_OF_SERIES, min(_MOST_OF_SERIES, _MOST // max(1, len(groups))))
    found: list[PictureSeries] = []
    for title, members in groups.items():
        kept = _spread(members, most)
        pictures: list[Picture] = []
        for caption, file in kept:
            try:
                pictures.append(Picture(caption, _embedded(file)))
            except (OSError, ValueError, NectarganError) as error:
                if given is not None:
                    raise NectarganError(f"the picture {file} cannot be shown: {_reason(error)}") from error
                notes.append(f"the picture {file} cannot be shown: {_reason(error)}")
        if pictures:
            found.append(PictureSeries(title, tuple(pictures), len(members) - len(kept)))
    return found, notes


def _reason(error: Exception) -> str:
    return str(error.strerror) if isinstance(error, OSError) and error.strerror else one_line(error).partition(": ")[2]


def _found(runs: Sequence[Run], notes: list[str]) -> list[tuple[str, str, Path]]:
    found = []
    for run in runs:
        folder = run.directory / _FOLDER
        try:
            files = [file for file in folder.iterdir() if file.suffix.lower() == ".png"] if folder.is_dir() else []
        except OSError as error:
            notes.append(f"the pictures in {folder} cannot be read: {_reason(error)}")
            continue
        found += [_titled(run.label if len(runs) > 1 else "", file) for file in sorted(files, key=_natural)]
    return found


def _given(runs: Sequence[Run], given: Any) -> list[tuple[str, str, Path]]:
    if isinstance(given, (str, os.PathLike)) or not isinstance(given, Iterable):
        raise TypeError(f"pictures must be paths, or a mapping from captions to paths, got {shown(given)}")
    if isinstance(given, Mapping):
        captions = [arguments.text("the caption of a picture", caption) for caption in given]
        files = [arguments.path("a picture", path) for path in given.values()]
        return [(caption, caption, file) for caption, file in zip(captions, files, strict=True)]
    files = [arguments.path("a picture", path) for path in given]
    return [_titled(_owner(runs, file), file) for file in files]


def _owner(runs: Sequence[Run], file: Path) -> str:
    """Return the label of the run in whose directory a file is; empty of one run, or of none."""
    inside = [run for run in runs if file.resolve().is_relative_to(run.directory.resolve())]
    return inside[0].label if len(runs) > 1 and inside else ""


def _titled(label: str, file: Path) -> tuple[str, str, Path]:
    """Return a picture with its title, which pictures share that are numbered, and its caption."""
    words = [word for word in re.split(r"[\W_]+", re.sub(r"\d+", " ", file.stem)) if word]
    title = " ".join(words) or file.stem
    own = file.stem.replace("_", " ")
    return f"{label}: {title}" if label else title, f"{label}: {own}" if label else own, file


def _natural(file: Path) -> list[tuple[int, str]]:
    """Order names as people do, 9 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", file.name)]


def _spread(members: Sequence[tuple[str, Path]], most: int) -> list[tuple[str, Path]]:
    """Return so many members at most, the first and the last and others evenly between them."""
    if len(members) <= most:
        return list(members)
    places = [round(number * (len(members) - 1) / (most - 1)) for number in range(most)]
    return [members[place] for place in places]


def _embedded(file: Path) -> str:
    data = file.read_bytes()
    kind = next((name for start, name in _SIGNATURES.items() if data.startswith(start)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        raise NectarganError("it is no PNG, JPEG, GIF or WebP picture")
    data, kind = _checked(data, kind)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _checked(data: bytes, kind: str) -> tuple[bytes, str]:
    """Return a picture that can be decoded, made smaller where it is large.

    Raises:
        NectarganError: If it is damaged, or has so many pixels that neither this nor a browser should decode it.
    """
    try:
        from PIL import Image, ImageSequence
    except ImportError:  # matplotlib, of the same extra, brings it
        return data, kind
    too_large = (Image.DecompressionBombError, Image.DecompressionBombWarning)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a decoder notes of a picture that it can read
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as opened:
                for frame in ImageSequence.Iterator(opened):
                    frame.load()
                opened.seek(0)
                is_large = len(data) > _LARGE and kind != "image/gif"
                return _smaller(opened, data, kind) if is_large else (data, kind)
    except too_large as error:
        raise NectarganError(f"it has more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller") from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise NectarganError("it is damaged, and cannot be decoded") from error


def _smaller(opened: OpenedImage, data: bytes, kind: str) -> tuple[bytes, str]:
    from PIL import Image

    picture: OpenedImage = opened
    part = min(1.0, _WIDEST / picture.width, _TALLEST / picture.height)
    if part < 1.0:
        picture = picture.resize((max(1, round(picture.width * part)), max(1, round(picture.height * part))))
    if picture.mode not in ("RGB", "L"):
        # What is transparent becomes white, as the page is.
        whole = picture.convert("RGBA")
        picture = Image.new("RGB", whole.size, "white")
        picture.paste(whole, mask=whole.getchannel("A"))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    made = buffer.getvalue()
    return (made, "image/jpeg") if len(made) < len(data) else (data, kind)
