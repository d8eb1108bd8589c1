"""What logging costs: a flush early and late, a million records written and read, memory, and other ways to log."""

from __future__ import annotations

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from interleaved import medians

from nectargan_core import LossLog, LossManager
from nectargan_core.history import Series
from nectargan_core.log import COLUMNS, RECORD, Records, encode_chunk

EPOCHS, STEPS = 60, 500

# What memory a process has taken at its peak, in MB, when it has read one loss, and when it has read and kept all.
PEAKS = """
import pathlib, re, sys
from nectargan_core import LossLog

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text())[1]) / 1e3

log = LossLog(sys.argv[1])
print(len(log.series(log.names[0])), peak())
print(sum(len(records) for records in [log.series(name) for name in log.names]), peak())
"""


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


def chunks(losses: int, count: int) -> Iterator[Records]:
    """Make so many records of each loss, a chunk per thousand steps."""
    generator = np.random.default_rng(0)
    for first in range(0, count, 1000):
        steps, epoch, weight = np.arange(first, first + 1000), np.full(1000, first / 1000), np.full(1000, 100.0)
        for loss in range(losses):
            values = generator.random(1000, dtype=np.float32)
            weighted = (values * np.float32(100.0)).astype(np.float64)
            yield Records(f"loss{loss}", steps, epoch, weighted, weight, values.astype(np.float64))


def write(directory: Path, losses: int, count: int) -> Path:
    """Write a log without a header; returns its directory."""
    directory.mkdir()
    with (directory / "loss_log.jsonl").open("w", encoding="utf-8", newline="") as file:
        file.writelines(encode_chunk(chunk, 1.7e9) for chunk in chunks(losses, count))
    return directory


def load(path: Path) -> dict[str, np.ndarray]:
    """Load the arrays of an npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def reading(directory: Path) -> None:
    """Compare reading a million records of eight losses, and one of these, with `numpy.load` of the same columns."""
    log = LossLog(write(directory, losses=8, count=125_000))
    series = {name: log.series(name) for name in log.names}
    columns = {(name, column): getattr(series[name], column) for name in series for column in COLUMNS}
    np.savez(directory / "all.npz", **{".".join(key): values for key, values in columns.items()})
    np.savez(directory / "one.npz", **{column: columns["loss3", column] for column in COLUMNS})
    del log, series, columns
    rounds = 30
    opened = [LossLog(directory) for _ in range(rounds)]

    def every() -> list[Records]:
        log = LossLog(directory)
        return [log.series(name) for name in log.names]

    ways: dict[str, Callable[[], object]] = {
        "numpy, all": lambda: load(directory / "all.npz"),
        "all": every,
        "numpy, one": lambda: load(directory / "one.npz"),
        "one": lambda: LossLog(directory).series("loss3"),
        "one, opened": lambda: opened.pop().series("loss3"),
    }
    taken = medians(ways, calls=1, rounds=rounds)
    ratios = {way: taken[way] / taken["numpy, all" if way == "all" else "numpy, one"] for way in taken}
    print(f"1,000,000 records of 8 losses: {taken['all'] * 1e3:.1f} ms, ", end="")
    print(f"{ratios['all']:.2f}x numpy.load of the same columns (aim: 2.5x)")
    print(f"one of the losses, of an open log: {taken['one, opened'] * 1e3:.1f} ms, ", end="")
    print(f"{ratios['one, opened']:.2f}x numpy.load of its columns (aim: 2x)")
    print("the same with opening the log, which checks the checksums of all losses: ", end="")
    print(f"{taken['one'] * 1e3:.1f} ms, {ratios['one']:.2f}x")


def memory(directory: Path) -> None:
    """Measure in processes of their own what memory it takes to read ten million records."""
    if not Path("/proc/self/status").exists():
        print("memory for 10,000,000 records: measured on Linux only")
        return
    for losses in (8, 1):
        log = write(directory / str(losses), losses, 10_000_000 // losses)
        done = subprocess.run([sys.executable, "-c", PEAKS, log], capture_output=True, text=True, check=True)
        one, every = (line.split() for line in done.stdout.splitlines())
        print(f"a process that holds {int(every[0]):,} records, of losses of {int(one[0]):,}: ", end="")
        print(f"{float(every[1]):.0f} MB (aim: 500); that holds one loss of them: {float(one[1]):.0f} MB")


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
            reading(Path(directory) / "reading")
            memory(Path(directory))
            others(Path(directory))
    finally:
        torch.set_num_threads(threads)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
