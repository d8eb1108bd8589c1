"""Flushing, writing and reading a log, beside numpy, CSV and the first flush of the same run."""

from __future__ import annotations

import csv
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from interleaved import times
from measured import run_measured
from table import Row, compared

from nectargan_core import LossLog, LossManager
from nectargan_core.log import COLUMNS, Records, encode_chunk

EPOCHS, STEPS, RUNS = 60, 200, 5
RECORDS, LOSSES = 1_000_000, 8
READ_LOG = "import sys; from nectargan_core import LossLog; log = LossLog(sys.argv[1]); "
READ_ALL = READ_LOG + "kept = [log.series(name) for name in log.names]"
READ_ONE = READ_LOG + "kept = log.series('loss3')"
READ_NUMPY = "import sys, numpy; kept = dict(numpy.load(sys.argv[1] + '/all.npz'))"


def flushes(directory: Path) -> Iterator[Row]:
    """Compare the flush of the last epoch with that of the first, in several runs."""
    names = [f"loss{number}" for number in range(LOSSES)]
    value = torch.tensor(0.5)
    first, last = [], []
    for run in range(RUNS):
        taken = []
        with LossManager(experiment_dir=directory / str(run)) as manager:
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
        # Of the second, since the first makes the file; with those after and before, since one of them says little.
        first += taken[1:6]
        last += taken[-5:]
    what = f"flush of {LOSSES} losses x {STEPS} steps: epoch {EPOCHS}"
    yield compared(what, "epoch 1", last, first, 1.2)


def chunks() -> Iterator[Records]:
    """Make as many records of each loss, a chunk per thousand steps."""
    generator = np.random.default_rng(0)
    for first in range(0, RECORDS // LOSSES, 1000):
        steps, epoch, weight = np.arange(first, first + 1000), np.full(1000, first / 1000), np.full(1000, 100.0)
        for loss in range(LOSSES):
            values = generator.random(1000, dtype=np.float32)
            weighted = (values * np.float32(100.0)).astype(np.float64)
            yield Records(f"loss{loss}", steps, epoch, weighted, weight, values.astype(np.float64))


def write(directory: Path) -> Path:
    """Write a log without a header; returns its directory."""
    with (directory / "loss_log.jsonl").open("w", encoding="utf-8", newline="") as file:
        file.writelines(encode_chunk(chunk, 1.7e9) for chunk in chunks())
    return directory


def write_csv(directory: Path) -> Path:
    """Write the same numbers as rows of a CSV file; returns its path."""
    path = directory / "losses.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        for chunk in chunks():
            columns = (getattr(chunk, name).tolist() for name in ("step", "epoch", "loss", "weight", "unweighted"))
            writer.writerows(zip([chunk.name] * len(chunk), *columns, strict=True))
    return path


def load(path: Path) -> dict[str, np.ndarray]:
    """Load the arrays of an npz file."""
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def writing(directory: Path) -> Iterator[Row]:
    """Compare writing a million records of eight losses with writing the same as CSV."""
    ways = {"ours": lambda: write(directory), "csv": lambda: write_csv(directory)}
    taken = times(ways, calls=1, rounds=3)
    what = f"{RECORDS:,} records of {LOSSES} losses: written"
    yield compared(what, "csv.writer", taken["ours"], taken["csv"])
    sizes = [(directory / name).stat().st_size for name in ("loss_log.jsonl", "losses.csv")]
    note = f"{sizes[0] / RECORDS:.1f} bytes a record"
    yield compared("their size on disk", "the CSV file", sizes[:1], sizes[1:], note=note)


def reading(directory: Path) -> Iterator[Row]:
    """Compare reading them, and one of the losses, with `numpy.load` of the same columns."""
    log = LossLog(directory)
    series = {name: log.series(name) for name in log.names}
    columns = {(name, column): getattr(series[name], column) for name in series for column in COLUMNS}
    np.savez(directory / "all.npz", **{".".join(key): values for key, values in columns.items()})
    np.savez(directory / "one.npz", **{column: columns["loss3", column] for column in COLUMNS})
    del log, series, columns
    rounds = 15
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
    taken = times(ways, calls=1, rounds=rounds)
    yield compared("all of them: read", "numpy.load", taken["all"], taken["numpy, all"], 2.5)
    yield compared("one loss, of an open log", "numpy.load of one", taken["one, opened"], taken["numpy, one"], 2.0)
    yield compared("one loss, with opening the log", "numpy.load of one", taken["one"], taken["numpy, one"])


def memory(directory: Path) -> Iterator[Row]:
    """Compare the memory of processes that read the log with one that has loaded the same columns."""
    peaks: dict[str, list[float]] = {READ_NUMPY: [], READ_ALL: [], READ_ONE: []}
    for _ in range(3):
        for code, found in peaks.items():
            found.append(run_measured([sys.executable, "-c", code, str(directory)])[1])
    for what, code in (("peak memory of reading all", READ_ALL), ("peak memory of reading one loss", READ_ONE)):
        note = f"{sorted(peaks[code])[1]:.0f} MB"
        yield compared(what, "numpy.load of all", peaks[code], peaks[READ_NUMPY], note=note)


def rows() -> Iterator[Row]:
    """Yield all of them."""
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        yield from flushes(directory)
        yield from writing(directory)
        yield from reading(directory)
        yield from memory(directory)
