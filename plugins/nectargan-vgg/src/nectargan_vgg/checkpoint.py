"""Reading VGG19 checkpoints: the file formats, the checks of their contents, and the errors."""

from __future__ import annotations

import importlib
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

SHA256_PREFIX = "dcbb9e9d"
ENVIRONMENT_VARIABLE = "NECTARGAN_VGG19_WEIGHTS"


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
        WeightsError: If the file is missing, truncated, not a checkpoint, or not of VGG19.
    """
    if not path.is_file():
        raise weights_error(f"there is no file {path}")
    read = _read_safetensors if path.suffix == ".safetensors" else _read_torch
    return read(path, shapes)


def _read_torch(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            archive = file.read(2) == b"PK"
        if archive and not zipfile.is_zipfile(path):
            raise EOFError("the end of the archive is missing")
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
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
        value = get(key) if key in keys else None
        if not isinstance(value, Tensor):
            raise weights_error(
                f"{path} lacks {key!r}: it is of another architecture, or of fewer layers than are needed"
            )
        if tuple(value.shape) != shape:
            raise weights_error(
                f"{path} is of another architecture: {key!r} has the shape {tuple(value.shape)}, not {shape}"
            )
        selected[key] = value.float()
    return selected


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
