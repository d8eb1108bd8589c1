"""The processes that train one run together, as torchrun starts them: each its part of every batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from nectargan_core.errors import ConfigError, NectarganError
from nectargan_pix2pix.normalisation import share_statistics
from nectargan_pix2pix.options import OptionError

# How long a process waits for the others, one of which may measure many held-out images meanwhile. One that has died is
# noticed at once.
_TIMEOUT = timedelta(hours=2)
_FAILED = "failed"
_Store: TypeAlias = Any  # torch exports the names of its stores for a type checker in no release.
# What stands in the errors of a communication that fails, which gloo raises as plain `RuntimeError`.
_OF_COMMUNICATION = ("gloo", "nccl", "connection closed", "connection reset", "broken pipe", "socket")


class ProcessError(NectarganError, RuntimeError):
    """Another process of the run has ended before its time."""


@dataclass(frozen=True)
class Processes:
    """The processes of a run, seen from one of them.

    What communicates (`wait`, `largest`, `agree`, `average`, and a network of `parallel`) is to be called by all of
    them, in the same order, or by none. With one process, nothing communicates.

    Args:
        rank: The number of this process, from 0.
        count: How many there are.
        local_rank: The number of this process among those of its machine, from 0.
        store: What all of them can write to; None where there is one.

    Example:
        >>> ONE.is_first, ONE.largest(3)
        (True, 3)
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    store: _Store | None = None

    @property
    def is_first(self) -> bool:
        """Whether this is the process that evaluates, prints, and writes all files but the logs of the others."""
        return self.rank == 0

    def device_name(self, name: str) -> str:
        """Return the device of this process: of several on GPUs, each has one of its own.

        Args:
            name: The device that was asked for.

        Raises:
            OptionError: If several processes cannot work there.
        """
        if self.count == 1:
            return name
        kind, _, index = name.partition(":")
        if index or kind not in ("cpu", "cuda"):
            raise OptionError(
                f"--device is {name}, and several processes work on cpu, or on a GPU each; give --device cpu or "
                "--device cuda",
                option="--device",
            )
        if kind == "cpu":
            return name
        if self.local_rank >= torch.cuda.device_count():
            raise OptionError(
                f"each process needs a GPU of its own, and there are {torch.cuda.device_count()} for more processes; "
                "give torchrun a smaller --nproc-per-node, or --device cpu",
                option="--device",
            )
        return f"cuda:{self.local_rank}"

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.largest(0)

    def largest(self, number: int) -> int:
        """Return the largest of the numbers of all processes. Nothing waits for a GPU."""
        if self.count == 1:
            return number
        shared = torch.tensor(number)
        with self.noticing_failures():
            dist.all_reduce(shared, dist.ReduceOp.MAX)
        return int(shared)

    def agree(self, text: str) -> bool:
        """Return whether all processes have the same text."""
        number = int(hashlib.sha256(text.encode()).hexdigest()[:15], 16)
        return self.largest(number) == -self.largest(-number)

    def average(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace the gradients of parameters by their means over all processes; one that has none counts as 0."""
        every = list(parameters)
        if self.count == 1 or not every:
            return
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in every]
        flat = torch.cat([each.flatten() for each in gradients])
        dist.all_reduce(flat)
        # On the CPU, so that nothing waits for a GPU.
        holders = torch.tensor([each.grad is not None for each in every], dtype=torch.int64)
        dist.all_reduce(holders)
        means = torch.split(flat / self.count, [each.numel() for each in every])
        for parameter, mean, number in zip(every, means, holders.tolist(), strict=True):
            # One that has none anywhere keeps none, and its optimizer leaves it aside.
            if number:
                parameter.grad = mean.view_as(parameter).to(parameter)

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return a network to be called in place of another, whose gradients are then averaged over all processes.

        Both have the same parameters, which become those of the first process. Batch normalisation takes its
        statistics from the batches of all processes.

        Args:
            network: The network, on its device.
            device: That device.
        """
        if self.count == 1:
            return network
        share_statistics(network, _TIMEOUT)
        return DistributedDataParallel(network, device_ids=None if device.type == "cpu" else [device])

    def is_first_to_say(self, text: str) -> bool:
        """Return whether no other process has asked this about the same text, so that it is shown once."""
        if self.store is None:
            return True
        # Where the store is gone with its process, rather twice than not at all.
        with suppress(RuntimeError):
            return bool(self.store.add(hashlib.sha256(text.encode()).hexdigest(), 1) == 1)
        return True

    def is_first_to_fail(self, error: Exception) -> bool:
        """Return whether an error is to be shown: no other process has shown it, or the one that this follows from."""
        if self.store is None:
            return True
        with suppress(RuntimeError):
            follows = isinstance(error, ProcessError) and self.store.check([_FAILED])
            self.store.set(_FAILED, "")
            return not follows and self.is_first_to_say(str(error))
        return True

    @contextmanager
    def noticing_failures(self) -> Iterator[None]:
        """Say what it means where the communication fails.

        Raises:
            ProcessError: If that is so.
        """
        try:
            yield
        except RuntimeError as error:
            text = str(error).lower()
            is_of_it = isinstance(error, dist.DistError) or any(word in text for word in _OF_COMMUNICATION)
            if self.count == 1 or isinstance(error, NectarganError) or not is_of_it:
                raise
            raise ProcessError(
                "another process of this run has failed or was killed; the run can be gone on from its last "
                "checkpoint, with --resume"
            ) from error


ONE = Processes()
"""The only process of a run."""


def count_of_processes() -> int:
    """Return how many processes the environment says that there are, 1 where it does not say which of them this is."""
    count = os.environ.get("WORLD_SIZE", "") if os.environ.get("RANK") else ""
    return int(count) if count.isascii() and count.isdigit() else 1


def local_rank() -> int:
    """Return the number of this process among those of its machine, 0 where the environment does not say it."""
    rank = os.environ.get("LOCAL_RANK", "0")
    return int(rank) if rank.isascii() and rank.isdigit() else 0


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes that torchrun has started, if there are any, until all are done.

    Raises:
        ConfigError: If the environment does not say where they are.
    """
    if count_of_processes() == 1:
        yield ONE
        return
    if not dist.is_available():
        raise ConfigError("this PyTorch was built without torch.distributed; leave out torchrun", key="WORLD_SIZE")
    is_on_gpus = torch.cuda.is_available() and dist.is_nccl_available()
    if is_on_gpus and local_rank() < torch.cuda.device_count():
        torch.cuda.set_device(local_rank())
    try:
        store, rank, count = next(rendezvous("env://", timeout=_TIMEOUT))
    except ValueError as error:
        raise ConfigError(
            f"the environment says that there are {count_of_processes()} processes (WORLD_SIZE), and not where: "
            f"{error}; start them with torchrun",
            key="WORLD_SIZE",
        ) from error
    # What is on the CPU goes by gloo, so that nothing waits for a GPU.
    backend = "cpu:gloo,cuda:nccl" if is_on_gpus else "gloo"
    prefixed: Any = getattr(dist, "PrefixStore")  # noqa: B009 -- not exported for a type checker
    dist.init_process_group(backend, store=prefixed("group", store), rank=rank, world_size=count, timeout=_TIMEOUT)
    try:
        processes = Processes(rank, count, local_rank(), prefixed("said", store))
        yield processes
        processes.wait()  # torchrun ends the others where one ends with an exit status.
    except BaseException:
        # By its end the others notice it. NCCL would first wait for what they no longer send.
        if not is_on_gpus:
            with suppress(RuntimeError):
                dist.destroy_process_group()
        raise
    dist.destroy_process_group()
