"""One loss, forward, beside the bare `w * fn(x, y)`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import torch
from interleaved import times
from table import Row, beside_first
from torch import Tensor, nn

from nectargan_core import LossManager, Schedule

Case = tuple[str, Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, int, dict[str, float]]


def cases() -> list[Case]:
    """Return label, loss function, inputs, calls per round and aims of each case."""
    scalar = torch.tensor(0.5, requires_grad=True)
    small = [torch.rand(1, 3, 8, 8) for _ in range(2)]
    large = [torch.rand(1, 3, 256, 256) for _ in range(2)]
    for images in (small, large):
        images[0].requires_grad_()
    return [
        ("no-op", lambda x, y: x, scalar, scalar, 300, {"logging on": 1.4}),
        ("L1 1x3x8x8", nn.L1Loss(), small[0], small[1], 200, {"logging on": 1.15}),
        ("L1 1x3x256x256", nn.L1Loss(), large[0], large[1], 20, {}),
    ]


def measure(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, calls: int) -> dict[str, list[float]]:
    """Return the seconds of a call, by way of calling."""
    weight = 2.0
    schedule = Schedule(end_epoch=1000, initial_value=1.0, target_value=5.0)
    with (
        tempfile.TemporaryDirectory() as directory,
        LossManager(experiment_dir=f"{directory}/logged") as logged,
        LossManager() as unlogged,
        LossManager(experiment_dir=f"{directory}/scheduled") as scheduled,
        LossManager(experiment_dir=f"{directory}/all") as several,
    ):
        for manager in (logged, unlogged, several):
            manager.register_loss_fn("loss", function, loss_weight=weight)
        scheduled.register_loss_fn("loss", function, schedule=schedule)
        epoch = iter(range(10**9))
        inputs = {"y_fake": x, "y": y}
        return times(
            {
                "w * fn(x, y)": lambda: weight * function(x, y),
                "logging off": lambda: unlogged.compute_loss_xy("loss", x, y),
                "logging on": lambda: logged.compute_loss_xy("loss", x, y),
                "scheduled, a new epoch each time": lambda: scheduled.compute_loss_xy("loss", x, y, next(epoch) % 1000),
                "compute_losses of one loss": lambda: several.compute_losses(inputs),
            },
            calls,
            rounds=40,
        )


def rows() -> Iterator[Row]:
    """Yield a row for each way of calling and each case."""
    for label, function, x, y, calls, aims in cases():
        yield from beside_first(measure(function, x, y, calls), aims, f"{label}: ")
