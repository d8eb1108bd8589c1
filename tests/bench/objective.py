"""Few and many losses, forward and backward, beside a loop by hand that keeps the same columns in lists."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import torch
from interleaved import times
from table import Row, compared
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


def steps(function: LossFunction, x: Tensor, y: Tensor, count: int, calls: int) -> dict[str, list[float]]:
    """Return the seconds of a step, forward and backward, by hand and with a manager that logs."""
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

        return times({"by hand": hand, "ours": ours}, calls, rounds=20)


def rows() -> Iterator[Row]:
    """Yield a row for each number of losses."""
    for label, function, x, y, count, aim in cases():
        taken = steps(function, x, y, count, calls=4 if x.numel() > 1000 else 50)
        yield compared(f"{count} x {label}", "by hand", taken["ours"], taken["by hand"], aim)
