"""What a compiled step costs beside the same step without a manager, and beside eager ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from interleaved import medians
from torch import Tensor, nn

from nectargan_core import LossManager

LOSSES = 8

Step = Callable[[Tensor, Tensor], Tensor]


def steps(function: Step, manager: LossManager) -> dict[str, Step]:
    """Return a step without a manager, and two ways to take it with one."""
    weights = [1.0 + index for index in range(LOSSES)]
    for index, weight in enumerate(weights):
        manager.register_loss_fn(f"loss{index}", function, loss_weight=weight)

    def by_hand(x: Tensor, y: Tensor) -> Tensor:
        total = function(x, y) * weights[0]
        for weight in weights[1:]:
            total = total + function(x, y) * weight
        return total

    def compute_losses(x: Tensor, y: Tensor) -> Tensor:
        return manager.compute_losses({"y_fake": x, "y": y}).total

    def compute_loss_xy(x: Tensor, y: Tensor) -> Tensor:
        total = manager.compute_loss_xy("loss0", x, y)
        for index in range(1, LOSSES):
            total = total + manager.compute_loss_xy(f"loss{index}", x, y)
        return total

    return {"by hand": by_hand, "compute_losses": compute_losses, "compute_loss_xy": compute_loss_xy}


def measure(function: Step, x: Tensor, y: Tensor, calls: int) -> dict[str, float]:
    """Return median seconds of a step, forward and backward, by way of taking it."""

    def taken(step: Step) -> Callable[[], None]:
        def take() -> None:
            x.grad = None
            step(x, y).backward()  # type: ignore[no-untyped-call] # untyped in torch

        for _ in range(3):
            take()  # the first compiles
        return take

    with LossManager(enable_logging=True) as manager:
        every = steps(function, manager)
        manager.tick(epoch=0)
        ways = {f"compiled, {name}": torch.compile(step, fullgraph=True) for name, step in every.items()}
        ways |= {f"eager, {name}": step for name, step in every.items()}
        return medians({name: taken(step) for name, step in ways.items()}, calls)


def main() -> None:
    """Print a table of medians and ratios."""
    print(f"A step of {LOSSES} losses, forward and backward (CPU time of one thread, medians of interleaved runs; the")
    print("aim of compiled compute_losses is 1.5x of the same step by hand)")
    scalar = torch.tensor(0.5, requires_grad=True)
    x, y = torch.rand(2, 1, 3, 8, 8).unbind()
    cases: list[tuple[str, Step, Tensor, Tensor]] = [
        ("no-op scalar", lambda x, y: x, scalar, scalar),
        ("L1 1x3x8x8", nn.L1Loss(), x.clone().requires_grad_(), y),
    ]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for label, function, fake, real in cases:
            found = measure(function, fake, real, calls=50)
            for way, seconds in found.items():
                ratio = seconds / found["compiled, by hand"]
                print(f"{label:<16}{way:<28}{seconds * 1e6:>10.2f} us{ratio:>8.2f}x")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
