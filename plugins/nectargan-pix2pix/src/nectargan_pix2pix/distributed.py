"""The processes that train one run together, as torchrun starts them: each its part of every batch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeAlias, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from nectargan_core.errors import ConfigError, NectarganError
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
        _share_statistics(network)
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


# Batch normalisation


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation whose statistics are those of the batches of all processes, on a CPU, too.

    The result, the gradients and the running statistics are those of one process with the whole batch.
    `torch.nn.SyncBatchNorm` is the same for GPUs only.
    """

    is_counted = True
    """Whether the batch of this process counts."""
    group: dist.ProcessGroup | None = None
    """What it communicates through; None for the default."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise images (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        output, mean, variance = _Normalised.apply(  # type: ignore[no-untyped-call] # as it is in torch
            x, self.weight, self.bias, self.eps, self.is_counted, self.group
        )
        self._follow(mean, variance)
        return cast("Tensor", output)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        """Move the running statistics towards those of this batch."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class _Normalised(torch.autograd.Function):
    """Images normalised by mean and variance over all processes; then that mean, and the variance of the population."""

    @staticmethod
    def forward(  # as the base class defines it
        context: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
        is_counted: bool,
        group: dist.ProcessGroup | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        size = x.numel() // x.shape[1] if is_counted else 0
        # This is what batch normalisation takes itself, and several times as fast as `torch.var_mean`.
        means, variances = (each.double() for each in torch.batch_norm_update_stats(x, None, None, 0.0))
        # In double precision, since it is the difference of squares that counts.
        ours = torch.cat((means * size, (variances + means.square()) * size, means.new_full((1,), size)))
        dist.all_reduce(ours, group=group)
        sums, squares, counts = torch.split(ours, [len(means), len(means), 1])
        average = sums / counts
        spread = (squares / counts - average.square()).clamp(min=0)
        mean, variance = average.to(x), spread.to(x)
        context.save_for_backward(x, weight, mean, variance, counts)
        context.eps, context.is_counted, context.group = eps, is_counted, group
        output = nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        of_population = (spread * counts / (counts - 1).clamp(min=1)).to(mean)
        context.mark_non_differentiable(mean, of_population)
        return output, mean, of_population

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:  # as the base class has it
        x, weight, mean, variance, counts = context.saved_tensors
        # By how much all outputs together move with weight and bias, which is what the statistics answer for, too.
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, context.eps, [False, True, True]
        )
        both = torch.stack((of_weight, of_bias))
        dist.all_reduce(both, group=context.group)
        by_weight, by_bias = both / counts.to(both)
        inverse = torch.rsqrt(variance + context.eps)
        scale = inverse if weight is None else inverse * weight
        slope = -scale * inverse * by_weight if context.is_counted else torch.zeros_like(scale)
        shift = -scale * by_bias - slope * mean if context.is_counted else slope
        of_x = torch.addcmul(_by_channel(shift), x, _by_channel(slope)).addcmul_(gradient, _by_channel(scale))
        return of_x, None if weight is None else of_weight, None if weight is None else of_bias, None, None, None


def _by_channel(values: Tensor) -> Tensor:
    return values.view(1, -1, 1, 1)


def _share_statistics(network: nn.Module) -> None:
    """Let the batch normalisation in a network be that of all processes; parameters and buffers stay the same."""
    norms = [module for module in network.modules() if type(module) is nn.BatchNorm2d]
    if not norms:
        return
    # A group of its own: gradients are averaged meanwhile, in an order of their own.
    group = dist.new_group(timeout=_TIMEOUT)
    for norm in norms:
        # The same module with another forward pass, so that nothing that refers to it has to be replaced.
        norm.__class__ = BatchNorm
        cast("BatchNorm", norm).group = group


def count_batch(network: nn.Module, is_counted: bool) -> None:
    """Set whether the batch of this process counts in the batch normalisation of a network."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.is_counted = is_counted
