"""What `compute_losses` costs beside the loop that one would write by hand, and what ticking and asking cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable

import torch
from interleaved import medians
from torch import Tensor, nn

from nectargan_core import LossManager

LossFunction = Callable[[Tensor, Tensor], Tensor]


class ByHand:
    """A dict of weights, a sum, and lists with the same five columns as the manager keeps."""

    def __init__(self, functions: dict[str, LossFunction], weights: dict[str, float]) -> None:
        self.functions = functions
        self.weights = weights
        self.step = 0
        self.epoch = 0.0
        self.history: dict[str, tuple[list[float], ...]] = {name: ([], [], [], [], []) for name in functions}

    def tick(self, epoch: float) -> None:
        """Go on to the next step."""
        self.step += 1
        self.epoch = epoch

    def total(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute, weight and record every loss, and add up."""
        losses = []
        for name, function in self.functions.items():
            weight = self.weights[name]
            raw = function(x, y)
            value = raw.item()
            steps, epochs, values, weights, unweighted = self.history[name]
            steps.append(self.step)
            epochs.append(self.epoch)
            values.append(weight * value)
            weights.append(weight)
            unweighted.append(value)
            losses.append(weight * raw)
        return sum(losses[1:], losses[0])


def cases() -> list[tuple[str, LossFunction, Tensor, Tensor, int, float | None]]:
    """Return label, loss function, inputs, number of losses and aim of each case."""
    scalar = torch.tensor(0.5, requires_grad=True)
    x, y = torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 8, 8)
    large, other = torch.rand(1, 3, 256, 256, requires_grad=True), torch.rand(1, 3, 256, 256)

    def no_op(x: Tensor, y: Tensor) -> Tensor:
        return x

    return [
        *(("no-op", no_op, scalar, scalar, count, aim) for count, aim in ((1, 1.1), (4, None), (8, 0.8), (32, None))),
        *(("L1 1x3x8x8", nn.L1Loss(), x, y, count, aim) for count, aim in ((1, None), (8, 0.95))),
        ("L1 1x3x256x256", nn.L1Loss(), large, other, 8, None),
    ]


def steps(function: LossFunction, x: Tensor, y: Tensor, count: int, calls: int) -> dict[str, float]:
    """Return median seconds of a step, forward and backward, by hand and with a manager that logs."""
    weights = {f"loss{number}": 1.0 + number for number in range(count)}
    by_hand = ByHand(dict.fromkeys(weights, function), weights)
    inputs = {"y_fake": x, "y": y}
    with tempfile.TemporaryDirectory() as directory, LossManager(experiment_dir=directory) as manager:
        for name, weight in weights.items():
            manager.register_loss_fn(name, function, weight)
        manager.tick(epoch=0)

        def hand() -> None:
            by_hand.total(x, y).backward()  # type: ignore[no-untyped-call] # untyped in torch

        def ours() -> None:
            manager.compute_losses(inputs).total.backward()  # type: ignore[no-untyped-call] # untyped in torch

        return medians({"hand": hand, "ours": ours}, calls, rounds=40)


def asking() -> dict[str, float]:
    """Return median seconds of what one does beside computing, with eight losses."""
    scalar = torch.tensor(0.5, requires_grad=True)
    hand = ByHand({}, {})
    names = [f"loss{number}" for number in range(8)]
    with tempfile.TemporaryDirectory() as directory, LossManager(experiment_dir=directory) as manager:
        for name in names:
            manager.register_loss_fn(name, lambda x, y: x, 2.0)

        def calls() -> None:
            for name in names:
                manager.compute_loss_xy(name, scalar, scalar)

        def split() -> None:
            with manager.split("val"):
                pass

        calls()
        return medians(
            {
                "step += 1; epoch = epoch": lambda: hand.tick(1.0),
                "tick(epoch)": lambda: manager.tick(1.0),
                "eight logged no-op calls": calls,
                "get_loss_values()": manager.get_loss_values,
                "latest()": manager.latest,
                "means()": manager.means,
                "split": split,
                "state_dict()": manager.state_dict,
            },
            calls=100,
        )


def main() -> None:
    """Print tables of medians and ratios."""
    print("A step beside the loop by hand, which keeps the same columns (forward and backward, CPU time of one thread,")
    print("medians of interleaved runs)")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for label, function, x, y, count, aim in cases():
            taken = steps(function, x, y, count, calls=4 if x.numel() > 1000 else 100)
            ratio = taken["ours"] / taken["hand"]
            print(f"{count:>2} x {label:<16}by hand {taken['hand'] * 1e6:>8.1f} us", end="")
            print(f"{taken['ours'] * 1e6:>10.1f} us{ratio:>7.2f}x{'' if aim is None else f'  (aim: {aim}x)'}")
        taken = asking()
        tick, eight = taken["step += 1; epoch = epoch"], taken["eight logged no-op calls"]
        print(f"tick(epoch)                  {taken['tick(epoch)'] * 1e6:>10.2f} us", end="")
        print(f"{taken['tick(epoch)'] / tick:>7.2f}x  step += 1; epoch = epoch (aim: 4x)")
        for way in ("get_loss_values()", "latest()", "means()", "split", "state_dict()"):
            print(
                f"{way:<28} {taken[way] * 1e6:>10.2f} us{taken[way] / eight:>7.2f}x  eight logged no-op calls", end=""
            )
            print("  (aim: 1x)" if way == "get_loss_values()" else "")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
