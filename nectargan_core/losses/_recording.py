"""Records that are added once all losses of a call are computed: all of them, or none."""

from __future__ import annotations

from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from nectargan_core.history import Recorder, Series, add_together, check_real
from nectargan_core.losses._autograd import current_graph_task

_FLOAT32 = torch.float32

Later: TypeAlias = "list[tuple[Series, int, float, float, Tensor | None, Tensor]]"
"""Records that are added once all losses of a call are computed: series, step, epoch, weight, and the result before
weighting (None of a loss that was skipped) and after it."""

Scalars: TypeAlias = "list[tuple[Series, int, float, float]]"
"""Records of scalars in single precision on the CPU: series, step, weight, and value before weighting."""


def record_all(later: Later, recorder: Recorder, scalars: Scalars | None = None) -> bool:
    """Add the records that were put off, and scalars of the same epoch; if one result cannot be recorded, none.

    Returns:
        Whether one of them is of a map.

    Raises:
        NonFiniteLossError: If one is due, after all are added.
    """
    has_maps = False
    for series, _, epoch, _, raw, _ in later:
        # A scalar in single precision is what most losses give, and can always be recorded.
        if raw is not None and (raw.ndim or raw.dtype is not _FLOAT32):
            check_real(series.name, raw, epoch)
            has_maps = has_maps or raw.ndim > 0
    if current_graph_task() >= 0:
        return False
    if not scalars:
        recorder.add_all(partial(add_each, later))
        return has_maps
    # Losses in one step with their components, where these are such scalars, too.
    others: Later = []
    for row in later:
        series, step, epoch, weight, raw, _ = row
        if raw is not None and not raw.ndim and raw.dtype is _FLOAT32 and raw.is_cpu:
            scalars.append((series, step, weight, series.value_of(raw)))
        else:
            others.append(row)
    recorder.add_all(partial(add_rows, scalars, others, later[0][2], _FLOAT32))
    return has_maps


def add_rows(scalars: Scalars, later: Later, epoch: float, dtype: torch.dtype) -> None:
    """Add the records that were put off one by one, then those of scalars on the CPU in one step.

    In this order, so that the components of a loss are there when it is reported as not finite.

    Args:
        scalars: Records of scalars.
        later: Other records.
        epoch: The epoch of the scalars.
        dtype: Their dtype, float32 or float64.
    """
    add_each(later)
    if scalars:
        several, steps, weights, values = zip(*scalars, strict=True)
        add_together(several, steps, epoch, weights, values, dtype)


def add_each(later: Later) -> None:
    """Add the records that were put off, one by one."""
    for series, step, epoch, weight, raw, weighted in later:
        if raw is None:
            series.add_zero(step, epoch, weighted)
        else:
            series.add(step, epoch, weight, raw, weighted)
