"""Which process of a distributed run this is."""

from __future__ import annotations

import os

import torch


def rank_and_world_size() -> tuple[int, int | None]:
    """Return the rank of this process in a distributed run and the number of ranks, None where nothing says it."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    if not rank.isdigit():
        return 0, 1
    return int(rank), int(size) if size.isdigit() else None
