"""What autograd says of the graph of a result, for some of which torch has no public name."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nectargan_core.losses._factors import PLAIN

# -1 outside of backward(), inside of which activation checkpointing computes a loss again, which is not recorded again.
current_graph_task = torch._C._current_graph_task_id

# The number that the next node of a graph gets in this thread.
next_node: Callable[[], int] = getattr(torch._C._autograd, "_get_sequence_nr", lambda: 0)


def is_older(raw: Tensor, number: int) -> bool:
    """Whether a result that requires a gradient was there before: an input, a parameter, or what the function kept.

    Args:
        raw: The result.
        number: What `next_node` returned before the function was called.
    """
    node = raw.grad_fn
    return node is None or node._sequence_nr() < number


def as_new(raw: Tensor) -> Tensor:
    """Return a result that was there before as a new node of the graph.

    Its gradient then comes when it is the turn of its loss, so that gradients are added up in the order of the losses.
    """
    if type(raw) not in PLAIN or raw.layout is not torch.strided or raw.is_nested:
        return raw
    return raw.view_as(raw) if raw.ndim else raw.clone()
