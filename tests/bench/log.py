"""What logging costs: a flush early and late, a million records written and read, and other ways to log."""

from __future__ import annotations

import csv
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from interleaved import medians

from nectargan_core import LossLog, LossManager
from nectargan_core.history import Series
from nectargan_core.log import RECORD

EPOCHS, STEPS = 60, 500


def flushes(directory: Path) -> None:
    """Compare the flushes of the last epochs with those of the first."""
    names = [f"loss{number}" for number in range(8)]
    value = torch.tensor(0.5)
    taken = []
    with LossManager(experiment_dir=directory) as manager:
        for name in names:
            manager.register_loss_fn(name, lambda x, y: x)
        for epoch in range(EPOCHS):
            for step in range(STEPS):
                manager.tick(epoch=epoch)
                for name in names:
                    manager.compute_loss_xy(name, value * step, None)
            start = time.thread_time()
            manager.update_loss_log()
            taken.append(time.thread_time() - start)
    first, last = statistics.median(taken[1:6]), statistics.median(taken[-5:])
    print(
        f"flush of 8 losses x {STEPS} steps: epochs 2-6 {first * 1e3:.2f} ms, epochs 56-60 {last * 1e3:.2f} ms: ",
        end="",
    )
    print(f"{last / first:.2f}x (aim: 1.2x)")


def million(directory: Path) -> None:
    """Write and read a million records, a flush per thousand steps."""
    generator = torch.Generator().manual_seed(0)
    values = torch.rand(1000, generator=generator)
    pairs = list(zip(values.tolist(), (values * 100.0).tolist(), strict=True))
    writing = 0.0
    with LossManager(experiment_dir=directory) as manager:
        manager.register_loss_fn("loss", lambda x, y: x, loss_weight=100.0)
        series: Series = manager._recorder.open("loss")
        for flush in range(1000):
            for number, (value, weighted) in enumerate(pairs):
                series.add_number(1000 * flush + number, float(flush), 100.0, value, weighted)
            start = time.thread_time()
            manager.update_loss_log()
            writing += time.thread_time() - start
    start = time.thread_time()
    records = LossLog(directory).series("loss")
    reading = time.thread_time() - start
    size = sum(path.stat().st_size for path in directory.glob("*.jsonl"))
    print(
        f"{len(records):,} records: written in {writing:.2f} s (aim: 0.35), read in {reading:.2f} s (aim: 0.2), ",
        end="",
    )
    print(f"{size / len(records):.1f} bytes on disk (aim: 16), {RECORD.size} in memory")


def others(directory: Path) -> None:
    """Compare recording one value with other ways to record one."""
    from torch.utils.tensorboard import SummaryWriter
    from torchmetrics import MeanMetric

    value = torch.tensor(0.5)
    logged = LossManager(experiment_dir=directory / "ours")
    logged.register_loss_fn("loss", lambda x, y: x)
    board = SummaryWriter(directory / "board")
    file = (directory / "plain.csv").open("w", newline="")
    rows, mean = csv.writer(file), MeanMetric()
    step = iter(range(10**9))

    def bare() -> torch.Tensor:
        return value * 1.0

    ways: dict[str, Callable[[], object]] = {
        "bare w * fn(x, y)": bare,
        "compute_loss_xy, logged": lambda: logged.compute_loss_xy("loss", value, None),
        "plain CSV row": lambda: rows.writerow((next(step), bare().item())),
        "torchmetrics MeanMetric": lambda: mean.update(bare()),
        "TensorBoard add_scalar": lambda: board.add_scalar("loss", bare(), next(step)),
    }
    for way, seconds in medians(ways, calls=100).items():
        print(f"{way:<26}{seconds * 1e6:>9.2f} us")
    logged.close()
    board.close()
    file.close()


def main() -> None:
    """Print what logging costs."""
    print("Logging (CPU time of one thread)")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as directory:
            flushes(Path(directory) / "flushes")
            million(Path(directory) / "million")
            others(Path(directory))
    finally:
        torch.set_num_threads(threads)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
