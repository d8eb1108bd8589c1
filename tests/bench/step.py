"""A step of eight losses, forward and backward, computed and recorded in each way, beside the bare weighted sum."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import torch
from interleaved import times
from table import Row, compared
from torch import Tensor, nn

from nectargan_core import LossManager, Schedule, Weighting

Loss = Callable[..., Any]
Step = Callable[[int], object]
Parts = tuple[Step, Callable[[], object]]

WEIGHTS = {f"loss{number}": 1.0 + number for number in range(8)}
STEPS, ROUNDS = 50, 15
BARE, COMPILED, TERMS = "the bare sum", "the bare sum, compiled", "the bare sum of both terms of each"
MISSING = {
    "torchmetrics MeanMetric": "pip install torchmetrics",
    "TensorBoard add_scalar": "pip install tensorboard",
    "ignite RunningAverage": "pip install --no-deps pytorch-ignite",
}
"""How a library is installed that is not there."""


class Bare:
    """The weighted sum of a function with each weight, and what keeps the values of a step."""

    def __init__(self, function: Loss, x: Tensor, y: Tensor) -> None:
        self.function, self.x, self.y = function, x, y

    def results(self) -> list[Tensor]:
        """Return the weighted losses."""
        return [weight * self.function(self.x, self.y) for weight in WEIGHTS.values()]

    def backward(self, results: list[Tensor]) -> list[Tensor]:
        """Add up and go backward; returns the results."""
        self.x.grad = None
        reduce(add, results).backward()
        return results

    def step(self, number: int) -> list[Tensor]:
        """Take a step and keep nothing."""
        return self.backward(self.results())

    def values(self) -> dict[str, float]:
        """Take a step, and return the numbers, by name."""
        return {name: result.item() for name, result in zip(WEIGHTS, self.step(0), strict=True)}


def managed(manager: LossManager, function: Loss, x: Tensor, y: Tensor) -> Step:
    """Return a step with a manager."""
    if not manager.get_registered_losses():
        for name, weight in WEIGHTS.items():
            manager.register_loss_fn(name, function, weight)
    inputs = {"y_fake": x, "y": y}

    def step(number: int) -> None:
        x.grad = None
        manager.tick(epoch=number / 1000)
        manager.compute_losses(inputs).total.backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def loggers(bare: Bare, folder: Path, stack: contextlib.ExitStack) -> Iterator[tuple[str, Callable[[], Parts]]]:
    """Yield the ways to record that others offer: what makes a step, and what ends a round of them."""

    def by_hand() -> Parts:
        kept: dict[str, list[float]] = {name: [] for name in WEIGHTS}

        def step(number: int) -> None:
            for name, value in bare.values().items():
                kept[name].append(value)

        return step, lambda: None

    def mean_metric() -> Parts:
        from torchmetrics import MeanMetric

        metrics = [MeanMetric() for _ in WEIGHTS]

        def step(number: int) -> None:
            for metric, result in zip(metrics, bare.step(number), strict=True):
                metric.update(result.detach())

        return step, lambda: [metric.compute() for metric in metrics]

    def add_scalar() -> Parts:
        from torch.utils.tensorboard import SummaryWriter

        board = SummaryWriter(folder / "board")
        stack.callback(board.close)

        def step(number: int) -> None:
            for name, result in zip(WEIGHTS, bare.step(number), strict=True):
                board.add_scalar(name, result.detach(), number)

        return step, board.flush

    def csv_row() -> Parts:
        file = stack.enter_context((folder / "losses.csv").open("w", newline="", encoding="utf-8"))
        writer = csv.writer(file)
        return lambda number: writer.writerow([number, *bare.values().values()]), file.flush

    def json_line() -> Parts:
        file = stack.enter_context((folder / "losses.jsonl").open("w", encoding="utf-8"))
        return lambda number: file.write(json.dumps({"step": number, **bare.values()}) + "\n"), file.flush

    yield "by hand, .item() into lists", by_hand
    yield "torchmetrics MeanMetric", mean_metric
    yield "TensorBoard add_scalar", add_scalar
    yield "a CSV row", csv_row
    yield "a JSON line", json_line


def ignite(bare: Bare) -> Callable[[int], object]:
    """Return what takes a number of steps in an Engine, without and with a running average of each loss."""
    from ignite.engine import Engine
    from ignite.metrics import RunningAverage

    engine = Engine(lambda engine, batch: bare.step(batch))
    for position, name in enumerate(WEIGHTS):
        RunningAverage(output_transform=lambda output, position=position: output[position]).attach(engine, name)
    return lambda count: engine.run(range(count), max_epochs=1)


def ways(
    function: Loss, x: Tensor, y: Tensor, steps: int, folder: Path, stack: contextlib.ExitStack
) -> Iterator[tuple[str, Any]]:
    """Yield each way by its name: what takes a round of steps, or the error of a library that is not there."""
    bare = Bare(function, x, y)
    numbers = itertools.count()

    def round_of(step: Step, end: Callable[[], object] = lambda: None) -> Callable[[], None]:
        def take() -> None:
            for _ in range(steps):
                step(next(numbers))
            end()

        return take

    yield BARE, round_of(bare.step)
    for name, make in loggers(bare, folder, stack):
        try:
            yield name, round_of(*make())
        except ImportError as error:
            yield name, error
    try:
        run = ignite(bare)
        yield "ignite RunningAverage", lambda: run(steps)
    except ImportError as error:
        yield "ignite RunningAverage", error

    def ours(manager: LossManager, function: Loss = function) -> Callable[[], None]:
        stack.enter_context(manager)
        return round_of(managed(manager, function, x, y), manager.update_loss_log)

    yield "ours, logging off", ours(LossManager())
    yield "ours, logging on", ours(LossManager(experiment_dir=folder / "on"))
    scheduled = LossManager(experiment_dir=folder / "scheduled")
    for name, weight in WEIGHTS.items():
        scheduled.register_loss_fn(name, function, schedule=Schedule("linear", end=10**6, initial_value=weight))
    yield "ours, all scheduled", ours(scheduled)
    weighted = LossManager(experiment_dir=folder / "weighted")
    yield "ours, weighted by dwa", ours(weighted)
    weighted.set_weighting(Weighting("dwa"))

    def two(x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"one": function(x, y), "other": function(y, x)}

    yield TERMS, round_of(Bare(lambda x, y: reduce(add, two(x, y).values()), x, y).step)
    yield "ours, of two components each", ours(LossManager(experiment_dir=folder / "components"), two)


def compiled(function: Loss, x: Tensor, y: Tensor, manager: LossManager) -> dict[str, Callable[[], object]]:
    """Return steps whose forward pass is compiled: the bare sum, all losses at once, and loss by loss."""
    for name, weight in WEIGHTS.items():
        manager.register_loss_fn(name, function, weight)
    manager.tick(epoch=0)
    totals: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        COMPILED: lambda x, y: reduce(add, [weight * function(x, y) for weight in WEIGHTS.values()]),
        "ours, compiled": lambda x, y: manager.compute_losses({"y_fake": x, "y": y}).total,
        "ours, compiled, loss by loss": lambda x, y: reduce(
            add, [manager.compute_loss_xy(name, x, y) for name in WEIGHTS]
        ),
    }

    def taken(total: Callable[[Tensor, Tensor], Tensor]) -> Callable[[], None]:
        total = torch.compile(total, fullgraph=True)

        def take() -> None:
            x.grad = None
            total(x, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

        for _ in range(3):
            take()  # the first compiles
        return take

    return {name: taken(total) for name, total in totals.items()}


def of_images(size: int) -> tuple[Tensor, Tensor]:
    """Return two images, of which the first takes a gradient."""
    x, y = torch.rand(2, 1, 3, size, size).unbind()
    return x.clone().requires_grad_(), y


def rows() -> Iterator[Row]:
    """Yield a row for each way, for losses that take next to no time and for those of images."""
    aims = {"ours, compiled": 1.5}
    with (
        tempfile.TemporaryDirectory() as directory,
        contextlib.ExitStack() as stack,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # theirs
        for size, steps in ((8, STEPS), (256, STEPS // 5)):
            folder = Path(directory) / str(size)
            folder.mkdir()
            label = f"{size}x{size}: "
            x, y = of_images(size)
            found = dict(ways(nn.L1Loss(), x, y, steps, folder, stack))
            functions = {name: way for name, way in found.items() if not isinstance(way, ImportError)}
            # The time of the process, since TensorBoard writes in a thread of its own.
            taken = times(functions, 1, ROUNDS, time.process_time)
            taken = {name: [seconds / steps for seconds in each] for name, each in taken.items()}
            for name, way in found.items():
                if isinstance(way, ImportError):
                    yield Row(label + name, BARE, note=MISSING[name])
                elif name not in (BARE, TERMS):
                    beside = TERMS if "components" in name else BARE
                    yield compared(label + name, beside, taken[name], taken[beside])
        x, y = of_images(8)
        manager = stack.enter_context(LossManager(experiment_dir=f"{directory}/compiled"))
        try:
            steps_of = compiled(nn.L1Loss(), x, y, manager)
        except Exception as error:  # noqa: BLE001  # no compiler is there, or it does not support this system
            yield Row("8x8: ours, compiled", COMPILED, note=f"not compiled: {str(error).splitlines()[0]}")
            return
        taken = times(steps_of, 25, rounds=30)
        for name in list(taken)[1:]:
            yield compared(f"8x8: {name}", COMPILED, taken[name], taken[COMPILED], aims.get(name))
