"""Batch normalisation whose statistics are those of the batches of all processes, on CPUs and on GPUs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


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


def share_statistics(network: nn.Module, timeout: timedelta) -> None:
    """Let the batch normalisation in a network be that of all processes; parameters and buffers stay the same."""
    norms = [module for module in network.modules() if type(module) is nn.BatchNorm2d]
    if not norms:
        return
    # A group of its own: gradients are averaged meanwhile, in an order of their own.
    group = dist.new_group(timeout=timeout)
    for norm in norms:
        # The same module with another forward pass, so that nothing that refers to it has to be replaced.
        norm.__class__ = BatchNorm
        cast("BatchNorm", norm).group = group


def count_batch(network: nn.Module, is_counted: bool) -> None:
    """Set whether the batch of this process counts in the batch normalisation of a network."""
    for module in network.modules():
        if isinstance(module, BatchNorm):
            module.is_counted = is_counted
