"""The checkpoint of a run: plain data and tensors, from which the run goes on as if it had never stopped."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from nectargan_core.errors import NectarganError

NAME = "checkpoint.pt"
_VERSION = 1
# The comment of the zip archive that `torch.save` writes, which `torch.load` leaves aside. An archive without a comment
# ends with its length, which is 0 in two bytes.
_COMMENT = b"sha256:"
_COMMENT_SIZE = len(_COMMENT) + 64
_LENGTH = _COMMENT_SIZE.to_bytes(2, "little")
_NO_LENGTH = bytes(2)
# What each checkpoint has, and of which type; what stands in these is checked by whoever loads it.
_PARTS: dict[str, type | tuple[type, ...]] = {
    "options": dict,
    "images": str,
    "epochs": int,
    "steps": int,
    "channels": int,
    "generator": dict,
    "discriminator": dict,
    "generator_optimizer": dict,
    "discriminator_optimizer": dict,
    "learned": dict,
    "losses": dict,
    "random": dict,
}


class CheckpointError(NectarganError, OSError):
    """There is no checkpoint at `path`, or it cannot be read or gone on from."""

    def __init__(self, message: str, *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


def pack(parts: dict[str, Any]) -> memoryview:
    """Return a checkpoint as the bytes of its file, with a checksum of all of it.

    The checksum is the comment of the zip archive: `sha256:` and the SHA-256 of what is before the comment and its
    length. `torch.load` reads the file with its defaults.

    Args:
        parts: What the checkpoint has, by name.

    Example:
        >>> len(pack({"epochs": 1})) > 0
        True
    """
    buffer = io.BytesIO()
    torch.save({"version": _VERSION, **parts}, buffer)
    end = buffer.seek(-len(_NO_LENGTH), os.SEEK_END)
    digest = hashlib.sha256(buffer.getbuffer()[:end]).hexdigest()
    buffer.write(_LENGTH + _COMMENT + digest.encode())
    return buffer.getbuffer()


def check_plain(parts: dict[str, Any]) -> None:
    """Raise if a checkpoint would hold anything else than tensors and plain data, and not be loaded again.

    Args:
        parts: What the checkpoint is to have.

    Raises:
        CheckpointError: If a loss or weighting has another state.
    """
    try:
        torch.load(io.BytesIO(pack(parts)), weights_only=True, map_location="cpu")
    except Exception as error:
        raise CheckpointError(
            "the state of a loss or weighting cannot be kept in a checkpoint, which holds tensors and plain data only: "
            f"{_first_line(error)}"
        ) from error


def load(run: Path) -> dict[str, Any]:
    """Return the checkpoint of a run, with all tensors on the CPU.

    Nothing in the file is called or imported.

    Args:
        run: The directory of the run.

    Raises:
        CheckpointError: If there is none, or the file is damaged or no checkpoint of this program.
    """
    path = run / NAME
    if not path.is_file():
        what = f"{run} has no {NAME}" if run.is_dir() else f"there is no directory {run}"
        raise CheckpointError(
            f"expected the directory of a run, as `nectargan-pix2pix train --out` makes it; {what}", path=str(path)
        )
    try:
        # Opened once, since another process may replace the file meanwhile.
        with path.open("rb") as file:
            _check_whole(path, file)
            parts = torch.load(file, weights_only=True, map_location="cpu")
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"{path} cannot be read as a checkpoint: {_first_line(error)}; it is damaged, or was made by another "
            "program",
            path=str(path),
        ) from error
    if not isinstance(parts, dict) or parts.get("version") != _VERSION:
        raise CheckpointError(
            f"{path} is no checkpoint of this program in version {_VERSION}; it was made by another program, or by "
            "another version of this one",
            path=str(path),
        )
    wrong = [name for name, kind in _PARTS.items() if not isinstance(parts.get(name), kind)]
    if wrong:
        raise CheckpointError(f"{path} is damaged: there is no proper {', '.join(wrong)} in it", path=str(path))
    return parts


def _check_whole(path: Path, file: BinaryIO) -> None:
    """Raise unless the checksum of a checkpoint is that of its contents; the file is at its beginning then."""
    left = file.seek(0, os.SEEK_END) - _COMMENT_SIZE - len(_LENGTH)
    file.seek(0)
    sha256 = hashlib.sha256()
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        sha256.update(part)
        left -= len(part)
    if file.read() != _LENGTH + _COMMENT + sha256.hexdigest().encode():
        raise CheckpointError(
            f"{path} is damaged, or was made by another program: its checksum is not that of what it holds. Put an "
            "intact copy in its place, or train again, with --overwrite or another --out",
            path=str(path),
        )
    file.seek(0)


def seed_everything(seed: int) -> None:
    """Seed the random numbers of torch, NumPy and Python.

    Args:
        seed: From 0 to 2**32 - 1.
    """
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 -- losses of others may draw from the global generator
    random.seed(seed)


def random_state() -> dict[str, Any]:
    """Return the state of the random numbers of torch, NumPy and Python, as plain data and tensors."""
    is_used: Callable[[], bool] = torch.cuda.is_initialized  # Asking for the state would set up every GPU there is.
    kind, keys, position, has_gauss, gauss = np.random.get_state()  # noqa: NPY002 -- as in `seed_everything`
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if is_used() else [],
        "numpy": [
            str(kind),
            torch.tensor(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "python": random.getstate(),
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Let random numbers go on where `random_state` was called; those of GPUs as far as there are as many.

    Raises:
        ValueError: If it is no such state.
    """
    try:
        kind, keys, position, has_gauss, gauss = state["numpy"]
        numbers = (kind, keys.numpy().astype(np.uint32), position, has_gauss, gauss)
        torch.set_rng_state(state["torch"])
        np.random.set_state(numbers)  # noqa: NPY002 -- as in `seed_everything`
        random.setstate(state["python"])
        if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["cuda"])
    except Exception as error:
        raise ValueError(f"it has no proper state of random numbers: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    if isinstance(error, pickle.UnpicklingError):
        return "it holds other things than tensors and plain data"  # torch explains how to load those all the same
    return str(error).strip().partition("\n")[0] or type(error).__name__
