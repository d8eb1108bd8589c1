"""What a loss call costs beside the bare `w * fn(x, y)`."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch
from interleaved import medians
from torch import Tensor, nn

from nectargan_core import LossManager, Schedule

Case = tuple[str, Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, int]


def cases() -> list[Case]:
    """Return label, loss function, inputs and calls per round of each case."""
    scalar = torch.tensor(0.5, requires_grad=True)
    small = [torch.rand(1, 3, 8, 8) for _ in range(2)]
    large = [torch.rand(1, 3, 256, 256) for _ in range(2)]
    for images in (small, large):
        images[0].requires_grad_()
    return [
        ("no-op scalar", lambda x, y: x, scalar, scalar, 300),
        ("L1 1x3x8x8", nn.L1Loss(), small[0], small[1], 200),
        ("L1 1x3x256x256", nn.L1Loss(), large[0], large[1], 20),
    ]


def measure(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor, calls: int) -> dict[str, float]:
    """Return median seconds a call, by way of calling."""
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
        return medians(
            {
                "bare": lambda: weight * function(x, y),
                "logging on": lambda: logged.compute_loss_xy("loss", x, y),
                "logging off": lambda: unlogged.compute_loss_xy("loss", x, y),
                "scheduled": lambda: scheduled.compute_loss_xy("loss", x, y, next(epoch) % 1000),
                "compute_losses": lambda: several.compute_losses(inputs),
            },
            calls,
        )


def main() -> None:
    """Print a table of medians and ratios."""
    print("A loss call (CPU time of one thread, medians of interleaved runs; aim with logging on: 1.4x on the no-op")
    print('loss, 1.15x on the small L1; "scheduled" is a linear schedule with a new epoch at every call)')
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for label, function, x, y, calls in cases():
            taken = measure(function, x, y, calls)
            for way, seconds in taken.items():
                print(f"{label:<16}{way:<16}{seconds * 1e6:>10.2f} us{seconds / taken['bare']:>8.2f}x")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
