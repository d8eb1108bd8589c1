"""Checkpoints of networks: what is in them, where they are published, and how a file of one is read and checked."""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nectargan_core.errors import WeightsError

# Those that become float32 by themselves. Numbers of 8 bits need scales, which these keys do not hold.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def cache_folder() -> Path:
    """Return the folder where `torch.hub` keeps checkpoints; `TORCH_HOME` changes it."""
    return Path(torch.hub.get_dir()).expanduser() / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """Weights that are published as a file: of which network, where, and how a user names another file of them.

    Two that differ only in how the user names a file are equal, so that what they load is shared.

    Args:
        network: What the weights are of, for messages.
        parameters: Key and shape of each parameter that may be read, from the first layer to the last; a weight and a
            bias for each layer where `copied` is true.
        url: Where the file is.
        sha256: Its SHA-256, in hexadecimal digits: all of them, since somebody who tries long enough finds another
            file whose SHA-256 begins as this one does.
        file: Its name in the cache.
        copied: Whether copies are kept of the layers in use, since the file holds much more.
        spec: The spec that reads it, for messages.
        option: The option of the spec that names a local file.
        variable: The environment variable that names a local file.
        advice: What else a user can do to provide the weights, for messages.
        distribution: The distribution that the spec is of.
    """

    network: str
    parameters: tuple[tuple[str, tuple[int, ...]], ...] = field(repr=False)
    url: str
    sha256: str
    file: str
    copied: bool = True
    spec: str = field(default="vgg", compare=False)
    option: str = field(default="checkpoint", compare=False)
    variable: str | None = field(default=None, compare=False)
    advice: str = field(default="", compare=False)
    distribution: str = field(default="nectargan-vgg", compare=False)

    def error(self, cause: str) -> WeightsError:
        """Return an error that gives the cause and every way to provide the weights."""
        name = f" as {self.file}" if self.file != self.url.rpartition("/")[2] else ""
        variable = f" or in the environment variable {self.variable}" if self.variable else ""
        return WeightsError(
            f"weights of {self.network}: {cause}.\n"
            f"Ways out: download {self.url} elsewhere and put it into {cache_folder()}{name}; or name a local file "
            f'with {self.option}=PATH (by name: options={{"{self.spec}": {{"{self.option}": PATH}}}}){variable}, where '
            f'an objective such as "esrgan" has the options under its own name'
            f"{self.advice and '; or '}{self.advice}."
        )


def read_checkpoint(checkpoint: Checkpoint, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read those tensors of a checkpoint that are needed, as float32 in CPU memory.

    Where the format allows it, nothing else is read. That holds for safetensors and for the zip archives that
    `torch.save` writes. A file of the older format, as the published ones have it, is read whole.

    Args:
        checkpoint: What the file is to hold.
        path: A file as `torch.save` writes it, or `.safetensors`.
        shapes: The keys to read, and the shapes they must have.

    Raises:
        WeightsError: If the file is missing, truncated, not a checkpoint, or not of this network; or if a tensor under
            these keys is not dense, floating-point, in memory and finite.
    """
    if not path.is_file():
        raise checkpoint.error(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(checkpoint, path, shapes)
    return _read_torch(checkpoint, path, path, shapes)


def parse_checkpoint(
    checkpoint: Checkpoint, data: bytes, path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Read those tensors of a checkpoint that are needed, from the content of the file.

    Args:
        checkpoint: What the file is to hold.
        data: The content, as `torch.save` writes it.
        path: The file, for messages.
        shapes: The keys to read, and the shapes they must have.

    Raises:
        WeightsError: As by `read_checkpoint`.
    """
    return _read_torch(checkpoint, io.BytesIO(data), path, shapes)


def _read_torch(
    checkpoint: Checkpoint, source: Path | io.BytesIO, path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    try:
        archive = _beginning(source) == b"PK"
        if archive and not zipfile.is_zipfile(source):
            raise EOFError("the end of the archive is missing")
        if isinstance(source, io.BytesIO):
            source.seek(0)
        mapped = archive and source is path
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (EOFError, IndexError, struct.error) as error:  # what a truncated pickle raises, depending on where it ends
        raise checkpoint.error(f"{path} is truncated ({_first_line(error)})") from error
    except Exception as error:
        if "EOF" in str(error) or "truncated" in str(error):
            raise checkpoint.error(f"{path} is truncated ({_first_line(error)})") from error
        if isinstance(error, pickle.UnpicklingError):
            raise checkpoint.error(f"{path} is no checkpoint that torch.load reads with weights_only=True") from error
        raise checkpoint.error(f"{path} cannot be read ({_first_line(error)})") from error
    if not isinstance(state, Mapping):
        raise checkpoint.error(f"{path} holds a {type(state).__name__}, not a state_dict of {checkpoint.network}")
    return _selected(checkpoint, path, state.keys(), state.__getitem__, shapes)


def _beginning(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[:2])
    with source.open("rb") as file:
        return file.read(2)


def _read_safetensors(checkpoint: Checkpoint, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    try:
        safetensors: Any = importlib.import_module("safetensors")
    except ImportError as error:
        raise checkpoint.error(
            f'to read {path}, install safetensors: pip install "nectargan-vgg[safetensors]"'
        ) from error
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return _selected(checkpoint, path, file.keys(), file.get_tensor, shapes)
    except safetensors.SafetensorError as error:
        raise checkpoint.error(f"{path} is truncated, or no safetensors file ({_first_line(error)})") from error


def _selected(
    checkpoint: Checkpoint,
    path: Path,
    keys: Collection[Any],
    get: Callable[[str], Any],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Tensor]:
    layers = {key.rpartition(".")[0] for key, _ in checkpoint.parameters}
    parts = {key.partition(".")[0] for key, _ in checkpoint.parameters}
    for key in keys:
        # Other networks of a family begin with layers of the same names and shapes; later ones differ.
        if str(key).partition(".")[0] in parts and str(key).rpartition(".")[0] not in layers:
            raise checkpoint.error(
                f"{path} is of another architecture: it has {key!r}, which {checkpoint.network} has not"
            )
    selected = {}
    for key, shape in shapes.items():
        if key not in keys:
            raise checkpoint.error(
                f"{path} lacks {key!r}: it is of another architecture, or of fewer layers than are needed"
            )
        selected[key] = _checked(checkpoint, path, key, get(key), shape)
    return selected


def _checked(checkpoint: Checkpoint, path: Path, key: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    fault = _fault(value)
    if fault is None:
        if tuple(value.shape) != shape:
            raise checkpoint.error(
                f"{path} is of another architecture: {key!r} has the shape {tuple(value.shape)}, not {shape}"
            )
        numbers: Tensor = value.detach().float()
        wrong = numbers.numel() - int(numbers.isfinite().sum())
        if not wrong:
            return numbers
        fault = f"{wrong} of its {numbers.numel()} values are nan or infinite as float32"
    raise checkpoint.error(
        f"{path} has no usable {key!r}: expected a dense tensor of the shape {shape}, in memory, of "
        f"{', '.join(str(dtype).removeprefix('torch.') for dtype in _DTYPES)}, all values finite; {fault}"
    )


def _fault(value: Any) -> str | None:
    """Say what keeps a value from being read as float32, whatever its shape."""
    if not isinstance(value, Tensor):
        return f"it is a {type(value).__name__}"
    if value.is_meta:
        return "it is on the meta device, without values"
    if value.is_nested:  # before anything that asks for its shape
        return "it is nested"
    if value.layout is not torch.strided:
        return f"its layout is {value.layout}"
    if value.is_quantized:
        return f"it is quantized, {value.dtype}"
    if value.dtype not in _DTYPES:
        return f"its dtype is {value.dtype}"
    return None


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
