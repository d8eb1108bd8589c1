"""Reading VGG19 checkpoints: the file formats, the checks of their contents, and the errors."""

from __future__ import annotations

import importlib
import io
import pickle
import struct
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nectargan_core.errors import WeightsError
from nectargan_vgg.network import CONVOLUTIONS

URL = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
"""torchvision's VGG19_Weights.IMAGENET1K_V1; the eight digits in its name are the first of its SHA-256."""

# All of it, since somebody who tries long enough finds another file whose SHA-256 begins with the same eight digits.
SHA256 = "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"
ENVIRONMENT_VARIABLE = "NECTARGAN_VGG19_WEIGHTS"

# Those that become float32 by themselves. Numbers of 8 bits need scales, which these keys do not hold.
_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def cache_folder() -> Path:
    """Return the folder where `torch.hub` keeps checkpoints; `TORCH_HOME` changes it."""
    return Path(torch.hub.get_dir()).expanduser() / "checkpoints"


def weights_error(cause: str) -> WeightsError:
    """Return an error that gives the cause and every way to provide the weights."""
    return WeightsError(
        f"weights of VGG19: {cause}.\n"
        f"Ways out: download {URL} elsewhere and put it into {cache_folder()}; or name a local file with "
        'checkpoint=PATH (by name: options={"vgg": {"checkpoint": PATH}}) or in the environment variable '
        f"{ENVIRONMENT_VARIABLE}."
    )


def read_checkpoint(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read those tensors of a checkpoint that are needed, as float32 in CPU memory.

    Where the format allows it, nothing else is read. That holds for safetensors and for the zip archives that
    `torch.save` writes. The published checkpoint has an older format and is read whole.

    Args:
        path: A file as `torch.save` writes it, or `.safetensors`.
        shapes: The keys to read, and the shapes they must have.

    Raises:
        WeightsError: If the file is missing, truncated, not a checkpoint, or not of VGG19; or if a tensor under these
            keys is not dense, floating-point, in memory and finite.
    """
    if not path.is_file():
        raise weights_error(f"there is no file {path}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, shapes)
    return _read_torch(path, path, shapes)


def parse_checkpoint(data: bytes, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Read those tensors of a checkpoint that are needed, from the content of the file.

    Args:
        data: The content, as `torch.save` writes it.
        path: The file, for messages.
        shapes: The keys to read, and the shapes they must have.

    Raises:
        WeightsError: As by `read_checkpoint`.
    """
    return _read_torch(io.BytesIO(data), path, shapes)


def _read_torch(source: Path | io.BytesIO, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    try:
        archive = _beginning(source) == b"PK"
        if archive and not zipfile.is_zipfile(source):
            raise EOFError("the end of the archive is missing")
        if isinstance(source, io.BytesIO):
            source.seek(0)
        mapped = archive and source is path
        state = torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except (EOFError, IndexError, struct.error) as error:  # what a truncated pickle raises, depending on where it ends
        raise weights_error(f"{path} is truncated ({_first_line(error)})") from error
    except Exception as error:
        if "EOF" in str(error) or "truncated" in str(error):
            raise weights_error(f"{path} is truncated ({_first_line(error)})") from error
        if isinstance(error, pickle.UnpicklingError):
            raise weights_error(f"{path} is no checkpoint that torch.load reads with weights_only=True") from error
        raise weights_error(f"{path} cannot be read ({_first_line(error)})") from error
    if not isinstance(state, Mapping):
        raise weights_error(f"{path} holds a {type(state).__name__}, not a state_dict of torchvision's vgg19")
    return _selected(path, state.keys(), state.__getitem__, shapes)


def _beginning(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[:2])
    with source.open("rb") as file:
        return file.read(2)


def _read_safetensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    try:
        safetensors: Any = importlib.import_module("safetensors")
    except ImportError as error:
        raise weights_error(f'to read {path}, install safetensors: pip install "nectargan-vgg[safetensors]"') from error
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            return _selected(path, file.keys(), file.get_tensor, shapes)
    except safetensors.SafetensorError as error:
        raise weights_error(f"{path} is truncated, or no safetensors file ({_first_line(error)})") from error


def _selected(
    path: Path, keys: Collection[Any], get: Callable[[str], Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    known = {f"features.{position}" for position in CONVOLUTIONS}
    for key in keys:
        # Other networks of the family begin with layers of the same names and shapes; later ones differ.
        if str(key).startswith("features.") and str(key).rpartition(".")[0] not in known:
            raise weights_error(f"{path} is of another architecture: it has {key!r}, which VGG19 has not")
    selected = {}
    for key, shape in shapes.items():
        if key not in keys:
            raise weights_error(
                f"{path} lacks {key!r}: it is of another architecture, or of fewer layers than are needed"
            )
        selected[key] = _checked(path, key, get(key), shape)
    return selected


def _checked(path: Path, key: str, value: Any, shape: tuple[int, ...]) -> Tensor:
    fault = _fault(value)
    if fault is None:
        if tuple(value.shape) != shape:
            raise weights_error(
                f"{path} is of another architecture: {key!r} has the shape {tuple(value.shape)}, not {shape}"
            )
        numbers: Tensor = value.detach().float()
        wrong = numbers.numel() - int(numbers.isfinite().sum())
        if not wrong:
            return numbers
        fault = f"{wrong} of its {numbers.numel()} values are nan or infinite as float32"
    raise weights_error(
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
