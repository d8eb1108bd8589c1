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

    def share(self, batch: int) -> float:
        """Return the share of this process in a batch, in parts of the same size; asked for where there are several."""
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
        rank: Which of several processes this is, from 0: each gets its part of every batch, and together they get what
            one process would.
        processes: How many there are, at most `size`.
    """

    def __init__(self, crops: Crops, size: int, seed: int, rank: int = 0, processes: int = 1) -> None:
        self._crops = crops
        self._size = size
        self._seed = seed
        self._rank = rank
        self._processes = processes

    def __len__(self) -> int:
        return -(-len(self._crops) // self._size)

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield source images and targets of an epoch, each (N, 3, H, W) from -1 to 1.

        A process that has no part in a last batch of few crops gets the first crop of it, with a share of 0.

        Args:
            epoch: The number of the epoch, from 0.
            start: The first batch that is asked for, from 0.
        """
        generator = torch.Generator().manual_seed(mixed(self._seed, epoch))
        count = len(self._crops)
        order = torch.randperm(count, generator=generator).tolist()
        # A seed for each crop, so that a crop does not depend on how many were taken before it.
        seeds = torch.randint(2**63 - 1, (count,), generator=generator).tolist()
        for first in range(start * self._size, count, self._size):
            last = min(first + self._size, count)
            part = range(first + self._rank, last, self._processes) or [first]
            pairs = [self._crops.take(order[at], torch.Generator().manual_seed(seeds[at])) for at in part]
            x, y = zip(*pairs, strict=True)
            yield torch.stack(x), torch.stack(y)

    def share(self, batch: int) -> float:
        """Return the size of the part of this process in a batch, over the mean of those of all processes.

        Args:
            batch: The number of the batch in its epoch, from 0.
        """
        size = min(self._size, len(self._crops) - batch * self._size)
        return len(range(self._rank, size, self._processes)) * self._processes / size


def mixed(*numbers: int) -> int:
    """Return a seed of 63 bits for several numbers, such as those of run and epoch.

    Their sum would give epoch 1 of seed 0 and epoch 0 of seed 1 the same.

    Example:
        >>> mixed(0, 1) == mixed(1, 0)
        False
    """
    text = " ".join(map(str, numbers))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
