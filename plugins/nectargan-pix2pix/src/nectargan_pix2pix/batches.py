"""The batches of each epoch, which follow from the seed and the number of the epoch alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from nectargan_pix2pix.photos import Crops


class Epochs(Protocol):
    """What the training loop asks for: batches by epoch, from any of them on."""

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        ...

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield source images and targets of an epoch, from the batch `start` on."""
        ...


class Batches:
    """Batches of crops in random order.

    Order and crops of an epoch are drawn from a generator of their own, seeded by the seed of the run and the number of
    the epoch. A run that goes on in the middle of an epoch gets the batches that it would have had, without drawing
    those before them, and whatever else draws random numbers changes none of them.

    Args:
        crops: The crops; each is taken once an epoch.
        size: Crops in a batch, at least 1; the last batch of an epoch may have fewer.
        seed: The seed of the run.
    """

    def __init__(self, crops: Crops, size: int, seed: int) -> None:
        self._crops = crops
        self._size = size
        self._seed = seed

    def __len__(self) -> int:
        return -(-len(self._crops) // self._size)

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield source images and targets of an epoch, each (N, 3, H, W) from -1 to 1.

        Args:
            epoch: The number of the epoch, from 0.
            start: The first batch that is asked for, from 0.
        """
        generator = torch.Generator().manual_seed(_mixed(self._seed, epoch))
        count = len(self._crops)
        order = torch.randperm(count, generator=generator).tolist()
        # A seed for each crop, so that a crop does not depend on how many were taken before it.
        seeds = torch.randint(2**63 - 1, (count,), generator=generator).tolist()
        for first in range(start * self._size, count, self._size):
            batch = slice(first, first + self._size)
            pairs = [
                self._crops.take(index, torch.Generator().manual_seed(seed))
                for index, seed in zip(order[batch], seeds[batch], strict=True)
            ]
            x, y = zip(*pairs, strict=True)
            yield torch.stack(x), torch.stack(y)


def _mixed(seed: int, epoch: int) -> int:
    """Return a seed of 63 bits for an epoch; the sum of both would give epoch 1 of seed 0 and epoch 0 of seed 1."""
    return int.from_bytes(hashlib.sha256(f"{seed} {epoch}".encode()).digest()[:8], "big") >> 1
