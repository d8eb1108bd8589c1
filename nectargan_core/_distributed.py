"""What the ranks of a distributed run tell each other when they are asked to; nothing else communicates."""

from __future__ import annotations

import os
from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import torch

from nectargan_core.errors import NectarganError

_T = TypeVar("_T")
_H = TypeVar("_H", bound=Hashable)


def is_distributed() -> bool:
    """Whether this process is one of a group that can communicate."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def world_size() -> int:
    """Return the number of ranks, 1 outside of a group."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def check_group() -> None:
    """Raise where this is one of several processes of torchrun, and there is no group by which they communicate.

    Raises:
        NectarganError: If that is so.
    """
    if not is_distributed() and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        raise NectarganError(
            f"this is one of {os.environ['WORLD_SIZE']} processes (WORLD_SIZE), which cannot communicate; call "
            "torch.distributed.init_process_group before, and destroy_process_group after"
        )


def summed(numbers: Sequence[float]) -> list[float]:
    """Return the sum of each number over the ranks, by one all-reduce; the numbers themselves outside of a group.

    Every rank has to call this, with as many numbers.

    Example:
        >>> summed([1.0, 2.0])
        [1.0, 2.0]
    """
    if not is_distributed():
        return list(numbers)
    # NCCL communicates between accelerators only.
    device = torch.device("cuda", torch.cuda.current_device()) if torch.distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.tensor(numbers, dtype=torch.float64, device=device)
    torch.distributed.all_reduce(tensor)
    sums: list[float] = tensor.tolist()
    return sums


def gathered(value: _T) -> list[_T]:
    """Return the value of each rank, in their order; the value itself outside of a group.

    Every rank has to call this. The values are pickled.

    Example:
        >>> gathered("here")
        ['here']
    """
    if not is_distributed():
        return [value]
    values: list[_T] = [value] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def alike(values: Iterable[_H]) -> dict[_H, list[int]]:
    """Return which ranks have each value.

    Args:
        values: The value of each rank, in their order.

    Example:
        >>> alike(["a", "b", "a"])
        {'a': [0, 2], 'b': [1]}
    """
    ranks: dict[_H, list[int]] = {}
    for rank, value in enumerate(values):
        ranks.setdefault(value, []).append(rank)
    return ranks


def of_ranks(ranks: Sequence[int]) -> str:
    """Say which ranks something is of.

    Example:
        >>> of_ranks([3]), of_ranks([0, 2, 3])
        ('rank 3', 'ranks 0, 2 and 3')
    """
    *others, last = map(str, ranks)
    return f"ranks {', '.join(others)} and {last}" if others else f"rank {last}"
