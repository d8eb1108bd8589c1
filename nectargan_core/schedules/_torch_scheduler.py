"""`TorchScheduler`: learning rates that follow a schedule, as an ordinary scheduler of torch."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from nectargan_core import _arguments as arguments
from nectargan_core.errors import ScheduleError
from nectargan_core.schedules._schedule import Schedule
from nectargan_core.schedules._scheduler import Scheduler


class TorchScheduler(LRScheduler):
    """Sets learning rates to `base_lr * value`, in which the values of the schedule are factors.

    Step it as any scheduler of torch: once an epoch, or once a step for a schedule with `unit="step"`; for one with
    `unit="fraction"` as often as `total` says.

    Args:
        optimizer: The optimizer; its present learning rates are the base.
        schedule: The factors. An end that is left out is 1.0.
        last_epoch: As for torch's schedulers: the epoch (or step) to go on after, -1 to begin.
        total: How many epochs (or steps, if it is stepped once a step) the run has, above 0, which a schedule with
            `unit="fraction"` needs and others leave aside. It is no part of the state.

    Raises:
        UnknownScheduleError: If no installed plugin has the schedule's name.
        ScheduleError: If the schedule cannot be evaluated, or is one of fractions and there is no `total`.
        ValueError: If `total` is no finite number above 0.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
        >>> scheduler = TorchScheduler(optimizer, Schedule(end_epoch=2, target_value=0.0))
        >>> optimizer.step(); scheduler.step()
        >>> scheduler.get_lr_change()
        (0.1, 0.05)
    """

    def __init__(
        self, optimizer: Optimizer, schedule: Schedule, last_epoch: int = -1, *, total: float | None = None
    ) -> None:
        epochs = None if total is None else arguments.length("total", total)
        self._scheduler = Scheduler(schedule, total_epochs=epochs)
        if self._scheduler.unit == "fraction":
            raise ScheduleError(
                "the schedule has unit='fraction', and the length of the run is not known; give TorchScheduler(..., "
                "total=200), the number of epochs, or of steps if it is stepped once a step"
            )
        self._previous_lr: list[float | Tensor] = []
        self._given: float | None = None
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of each parameter group at the present epoch."""
        factor = self._scheduler.value(self.last_epoch if self._given is None else self._given)
        return [base * factor for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go on by one epoch (or step), or to the one given.

        Args:
            epoch: Where to go, fractions included: `epoch + batch / batches` moves any curve at every batch.
        """
        lrs = [group["lr"] for group in self.optimizer.param_groups]
        # torch fills a learning rate that is a tensor in place.
        self._previous_lr = [lr.clone() if isinstance(lr, Tensor) else lr for lr in lrs]
        # Not passed to torch, which warns of any epoch, since some of its own schedulers only compute the next one.
        self._given = epoch
        try:
            super().step()
        finally:
            self._given = None
        if epoch is not None:
            self.last_epoch = epoch  # type: ignore[assignment] # an int for those that count, a number for this one

    def get_lr_change(self) -> tuple[float, float]:
        """Return the learning rate of the first parameter group before and after the last `step`."""
        return float(self._previous_lr[0]), float(self.get_last_lr()[0])

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain data: where the schedule stands, not the schedule itself."""
        return {key: value for key, value in super().state_dict().items() if key != "_scheduler"}
