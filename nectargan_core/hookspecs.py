"""Every event that a plugin can observe. None of them is called per step, and none can change what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from nectargan_core.config import Config
    from nectargan_core.log import Records
    from nectargan_core.losses import LMLoss
    from nectargan_core.manager import LossManager

PROJECT = "nectargan"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as an observer of the event of its name."""


@hookspec
def nectargan_losses_built(spec: Any, losses: Mapping[str, LMLoss], config: Config) -> None:
    """Specs have been called and their losses checked, and none is registered yet.

    Args:
        spec: What was asked for: the formula, or the spec function.
        losses: The losses under their final names, read-only.
        config: What the specs were given.
    """


@hookspec
def nectargan_loss_registered(manager: LossManager, loss: LMLoss) -> None:
    """A loss has been registered; `loss` is its definition."""


@hookspec
def nectargan_history_flushed(manager: LossManager, chunks: tuple[Records, ...]) -> None:
    """New records are in the log or, where a manager keeps its history in memory, there; called once a flush.

    Args:
        manager: The manager.
        chunks: The new records of each loss and scalar that has any, in the order of their first steps. They have
            their `time`, worked out in proportion to the steps since the flush before.
    """


@hookspec
def nectargan_history_rewound(manager: LossManager, step: int) -> None:
    """The run goes on from an earlier state; what was recorded at `step` and later is superseded.

    That was in this process or in a former one; there may be none. A run without a clock has no such event.
    """


@hookspec
def nectargan_nonfinite_loss(manager: LossManager, loss_name: str, step: int, epoch: float, value: float) -> None:
    """A weighted loss became nan or infinite; called once per loss and flush, with the first such step."""


@hookspec
def nectargan_manager_closed(manager: LossManager) -> None:
    """The manager was closed; its log is complete."""
