"""Which process of a distributed run this is, from torch or from what launchers set in the environment."""

from __future__ import annotations

import os
import re

import torch

from nectargan_core.errors import ConfigError

# The variables of rank and number of ranks, by launcher: torchrun and its like, Slurm, Open MPI, MPICH.
_LAUNCHERS = (
    ("RANK", "WORLD_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
)


def rank_and_world_size() -> tuple[int, int | None]:
    """Return the rank of this process in a distributed run and the number of ranks, None where nothing says it.

    Raises:
        ConfigError: If a variable cannot be a rank or a number of ranks.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    for rank_name, size_name in _LAUNCHERS:
        rank, size = _number(rank_name), _number(size_name, least=1)
        if rank is not None:
            if size is not None and rank >= size:
                raise ConfigError(f"{rank_name}={rank} is no rank of {size_name}={size} processes", key=rank_name)
            return rank, size
    local = _number("LOCAL_RANK")
    if local is None:
        return 0, 1
    node = _number("NODE_RANK") or _number("GROUP_RANK") or 0
    per_node = _number("LOCAL_WORLD_SIZE", least=1)
    if node and per_node is None:
        raise ConfigError(
            f"LOCAL_RANK={local} on node {node} gives no rank without LOCAL_WORLD_SIZE; set RANK", key="LOCAL_RANK"
        )
    return node * (per_node or 1) + local, None


def _number(name: str, least: int = 0) -> int | None:
    """Return the number in an environment variable, None where it is unset or empty."""
    text = os.environ.get(name, "").strip()
    if not text:
        return None
    if not re.fullmatch("[0-9]+", text) or int(text) < least:
        message = f"{name} must be a whole number of at least {least}, got {text!r}; correct or unset it"
        raise ConfigError(message, key=name)
    return int(text)
