"""What 100,000 records take in memory until they are flushed, beside lists of Python numbers with the same columns."""

from __future__ import annotations

import collections
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from table import Row, compared

from nectargan_core import LossManager

LOSSES, STEPS, ROUNDS = 8, 12_500, 3
CHILD = "import sys, torch; sys.path.append(sys.argv[1]); import memory; memory.print_measured(sys.argv[2])"
COLUMNS = "lists of step, epoch, loss, weight, value"


def ours() -> Callable[[int], object]:
    """Return a step that a manager records."""
    manager = LossManager(enable_logging=True)
    value = torch.tensor(0.5)
    for number in range(LOSSES):
        manager.register_loss_fn(f"loss{number}", lambda x, y: x * (1.0 + torch.rand(())), 2.0)

    def step(number: int) -> None:
        manager.tick(epoch=number / 100)
        manager.compute_losses({"y_fake": value, "y": value})

    step.manager = manager  # type: ignore[attr-defined]  # it has to live as long as the step
    return step


def kept(make: Callable[[], object], keep: Callable[[object, int, torch.Tensor], object]) -> Callable[[int], object]:
    """Return a step that keeps a value of each loss in what is made for it."""
    series = [make() for _ in range(LOSSES)]

    def step(number: int) -> None:
        for each in series:
            keep(each, number, 0.5 * (1.0 + torch.rand(())))

    step.series = series  # type: ignore[attr-defined]
    return step


def columns(series: object, number: int, value: torch.Tensor) -> None:
    """Keep what a manager keeps."""
    found = value.item()
    for column, each in zip(series, (number, number / 100, 2.0 * found, 2.0, found), strict=True):  # type: ignore[call-overload]
        column.append(each)


WAYS: dict[str, Callable[[], Callable[[int], object]]] = {
    COLUMNS: lambda: kept(lambda: [[] for _ in range(5)], columns),
    "ours": ours,
    "a list of floats, the value only": lambda: kept(list, lambda each, _, value: each.append(value.item())),  # type: ignore[attr-defined]
    "a deque of floats, the value only": lambda: kept(
        collections.deque,
        lambda each, _, value: each.append(value.item()),  # type: ignore[attr-defined]
    ),
    "a list of tensors, the value only": lambda: kept(list, lambda each, _, value: each.append(value.detach())),  # type: ignore[attr-defined]
}


def resident() -> int:
    """Return the bytes that this process has in memory."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024  # type: ignore[index]


def measure(way: str) -> float:
    """Return how many bytes a record takes, in a process of its own."""
    command = [sys.executable, "-c", CHILD, str(Path(__file__).parent), way]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_measured(way: str) -> None:
    """Print how many bytes a record takes in this process."""
    step = WAYS[way]()
    for number in range(100):
        step(number)
    before = resident()
    for number in range(STEPS):
        step(number)
    print((resident() - before) / (LOSSES * STEPS))


def rows() -> Iterator[Row]:
    """Yield a row for each way to keep values."""
    if not Path("/proc/self/status").exists():
        yield Row("a record in memory", COLUMNS, note="measured on Linux only")
        return
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            taken[way].append(measure(way))
    for way in list(WAYS)[1:]:
        note = f"{statistics.median(taken[way]):.0f} bytes a record"
        yield compared(way, COLUMNS, taken[way], taken[COLUMNS], note=note)
