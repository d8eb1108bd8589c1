"""Which weights a loss uses: a local file, random ones, or those that torchvision publishes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nectargan_vgg import checkpoint as checkpoint_file
from nectargan_vgg.checkpoint import ENVIRONMENT_VARIABLE, read_checkpoint, weights_error
from nectargan_vgg.network import WeightSource
from nectargan_vgg.published import PublishedWeights


def weight_source(checkpoint: str | os.PathLike[str] | None) -> WeightSource:
    """Return the source of the weights that a `checkpoint` argument names.

    Args:
        checkpoint: A local file, `"random"`, or None for the file that `NECTARGAN_VGG19_WEIGHTS` names, or else
            the published weights.

    Raises:
        WeightsError: If there is no such local file.
    """
    if checkpoint == "random":
        return RandomWeights()
    if checkpoint is not None:
        return _local_file(checkpoint)
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    return (
        _local_file(named, f", which {ENVIRONMENT_VARIABLE} names")
        if named
        else PublishedWeights(checkpoint_file.URL, checkpoint_file.SHA256)
    )


def _local_file(checkpoint: str | os.PathLike[str], origin: str = "") -> LocalFile:
    path = Path(checkpoint).expanduser()
    try:
        stat = path.stat()
    except OSError as error:
        raise weights_error(f"there is no file {path}{origin} ({error.strerror})") from error
    return LocalFile(path.resolve(), stat.st_mtime_ns, stat.st_size)


@dataclass(frozen=True)
class LocalFile:
    """A file on disk; a file that has changed is another source, so that a new loss reads it again."""

    path: Path
    modified: int
    size: int

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the tensors under these keys.

        Raises:
            WeightsError: If the file cannot be read, or is not a checkpoint of VGG19.
        """
        return read_checkpoint(self.path, shapes)


@dataclass(frozen=True)
class RandomWeights:
    """Random weights, the same in every process, drawn as He et al. do (arXiv:1502.01852, section 2.2)."""

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
