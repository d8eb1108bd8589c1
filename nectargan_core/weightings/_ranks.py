"""Weightings in a distributed run: the mean of factors over all ranks, and a case that would let ranks diverge."""

from __future__ import annotations

import gc
from collections.abc import Sequence

from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from nectargan_core._distributed import check_group, is_distributed, summed, world_size
from nectargan_core.errors import WeightingError


def mean_over_ranks(numbers: Sequence[float]) -> list[float]:
    """Return the mean of each number over the ranks of a distributed run; the numbers themselves outside of one.

    Every rank has to call this, with as many numbers.

    Example:
        >>> mean_over_ranks([1.0, 2.0])
        [1.0, 2.0]
    """
    check_group()
    ranks = world_size()
    return [total / ranks for total in summed(numbers)]


def refuse_static_graph(tensors: Sequence[Tensor], who: str) -> None:
    """Raise for parameters of a `DistributedDataParallel` with `static_graph=True` before its first backward pass.

    In that pass it counts how often each parameter gets a gradient. One that is taken in between counts, too, so that
    it would stop to average gradients over the ranks, and say nothing.

    Args:
        tensors: What gradients are taken with respect to.
        who: What takes them, for the error.

    Raises:
        WeightingError: If that is so.
    """
    if not is_distributed():
        return
    wanted = {id(tensor) for tensor in tensors if tensor.is_leaf}
    for module in gc.get_objects():
        if (
            issubclass(type(module), DistributedDataParallel)
            and module.static_graph
            and not getattr(module, "_static_graph_delay_allreduce_enqueued", True)
            and any(id(parameter) in wanted for parameter in module.parameters())
        ):
            raise WeightingError(
                f"{who} would take gradients with respect to parameters of a DistributedDataParallel "
                "with static_graph=True in its first iteration, after which it would no longer average gradients over "
                "the ranks; begin after the first backward(), take gradients with respect to what the "
                "network returned (wrt='y_fake'), or leave out static_graph=True"
            )
