"""Where the weights of a network come from, and its parameters: frozen, and each in memory once for all that use it."""

from __future__ import annotations

import functools
import hashlib
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from nectargan_vgg.checkpoint import Checkpoint, read_checkpoint
from nectargan_vgg.files import open_regular
from nectargan_vgg.published import PublishedWeights

_CHUNK = 1 << 20


class WeightSource(Protocol):
    """Where weights come from; hashable, and equal to another that gives the same weights."""

    def __hash__(self) -> int: ...

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return the float32 tensors under these keys, in CPU memory.

        Raises:
            WeightsError: If they cannot be obtained.
        """

    def files(self) -> dict[str, str]:
        """Return the SHA-256 of each file that the weights are from, in hexadecimal digits, by its name.

        It is the published file that counts, also where a copy of its tensors is read. Weights that are from no file
        have none.

        Raises:
            WeightsError: If a local file cannot be read, or has changed since this source was made.
        """


def weight_source(checkpoint: Checkpoint, given: str | os.PathLike[str] | None) -> WeightSource:
    """Return the source of the weights that the option of a spec names.

    Args:
        checkpoint: The published weights.
        given: A local file, `"random"`, or None for the file that the environment variable of the checkpoint names, or
            else the published weights.

    Raises:
        WeightsError: If there is no such local file.
    """
    if given == "random":
        return RandomWeights(checkpoint)
    if given is not None:
        return _local_file(checkpoint, given)
    named = os.environ.get(checkpoint.variable) if checkpoint.variable else None
    if named:
        return _local_file(checkpoint, named, f", which {checkpoint.variable} names")
    return PublishedWeights(checkpoint)


def _local_file(checkpoint: Checkpoint, given: str | os.PathLike[str], origin: str = "") -> LocalFile:
    path = Path(given).expanduser()
    try:
        stat = path.stat()
    except OSError as error:
        raise checkpoint.error(f"there is no file {path}{origin} ({error.strerror})") from error
    return LocalFile(checkpoint, path.resolve(), stat.st_mtime_ns, stat.st_size)


@dataclass(frozen=True)
class LocalFile:
    """A file on disk; a file that has changed is another source, so that a new loss reads it again."""

    checkpoint: Checkpoint
    path: Path
    modified: int
    size: int

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the tensors under these keys.

        Raises:
            WeightsError: If the file cannot be read, or is not a checkpoint of the network.
        """
        return read_checkpoint(self.checkpoint, self.path, shapes)

    def files(self) -> dict[str, str]:
        """Return the name and the SHA-256 of the file; those of the published one where it is that, or a copy of it.

        The file is read when this is first asked, once in a process.

        Raises:
            WeightsError: If the file cannot be read, or has changed since this source was made.
        """
        try:
            found = _sha256(self.path, self.modified, self.size)
        except OSError as error:
            raise self.checkpoint.error(
                f"cannot tell the SHA-256 of {self.path} ({error.strerror or error})"
            ) from error
        published = PublishedWeights(self.checkpoint)
        if found == self.checkpoint.sha256 or published.has_copy(found):
            return published.files()
        return {self.path.name: found}


@dataclass(frozen=True)
class RandomWeights:
    """Random weights, the same in every process, drawn as He et al. do (arXiv:1502.01852, section 2.2)."""

    checkpoint: Checkpoint

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Draw the tensors under these keys, each from a generator of its own."""
        state = {}
        for seed, (key, shape) in enumerate(shapes.items()):
            if len(shape) == 1:
                state[key] = torch.zeros(shape)
            else:
                generator = torch.Generator().manual_seed(seed)
                state[key] = torch.randn(shape, generator=generator) * math.sqrt(2 / math.prod(shape[1:]))
        return state

    def files(self) -> dict[str, str]:
        """Return no file."""
        return {}


@functools.cache
def _sha256(path: Path, modified: int, size: int) -> str:
    digest = hashlib.sha256()
    with open_regular(path, follow=True) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        stat = os.fstat(file.fileno())
    if (stat.st_mtime_ns, stat.st_size) != (modified, size):
        raise OSError("the file has changed since the loss was made")
    return digest.hexdigest()


_loaded: WeakValueDictionary[tuple[WeightSource, torch.device, torch.dtype, str], nn.Parameter] = WeakValueDictionary()
_loading = threading.Lock()


def frozen_parameters(
    source: WeightSource, shapes: Mapping[str, tuple[int, ...]], device: torch.device, dtype: torch.dtype
) -> dict[str, nn.Parameter]:
    """Return parameters that are shared with every other network of the same source, device and dtype.

    Each is shared by itself, so that a shallow and a deep network share the layers that both have. A parameter is freed
    with the last network that uses it. On the meta device nothing is loaded.

    Args:
        source: Where the weights come from.
        shapes: The keys of the parameters, and their shapes.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        WeightsError: If the weights cannot be obtained.
    """
    with _loading:
        found = {key: _loaded.get((source, device, dtype, key)) for key in shapes}
        if any(value is None for value in found.values()):
            with torch.device("cpu"):  # not on a default device that the caller has set
                state = {} if device.type == "meta" else source.load(shapes)
                for key, shape in shapes.items():
                    if found[key] is None:
                        value = (
                            # A copy: a tensor that is mapped from a file keeps more than this one in memory.
                            state[key].to(device, dtype, copy=True)
                            if state
                            else torch.empty(shape, device=device, dtype=dtype)
                        )
                        found[key] = _loaded[source, device, dtype, key] = nn.Parameter(value, requires_grad=False)
    return {key: value for key, value in found.items() if value is not None}


def frozen_convolution(weight: nn.Parameter, bias: nn.Parameter, **geometry: Any) -> nn.Conv2d:
    """Return a convolution of these parameters.

    Args:
        weight: The weight, (outputs, inputs, height, width).
        bias: The bias, (outputs,).
        geometry: `stride`, `padding` and the like, as `torch.nn.Conv2d` takes them.
    """
    outward, inward, *size = weight.shape
    convolution = nn.Conv2d(inward, outward, (size[0], size[1]), device="meta", dtype=weight.dtype, **geometry)
    convolution.weight, convolution.bias = weight, bias
    return convolution.eval()
