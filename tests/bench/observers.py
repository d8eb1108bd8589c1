"""Handing records to TensorBoard at a flush, beside torch's writer, and a step with an observer beside one without."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from interleaved import times
from nectargan_tensorboard import TensorBoard
from table import Row, compared

from nectargan_core import LossManager, Records

RECORDS = 20_000


def chunk(first: int) -> Records:
    """Make the records of one loss, as a flush hands them over."""
    steps, values = np.arange(first, first + RECORDS), np.random.default_rng(0).random(RECORDS)
    weight, moments = np.full(RECORDS, 100.0), 1.7e9 + steps * 0.01
    return Records("G_L1", steps, steps / 1000, values * 100.0, weight, values, time=moments)


def flush(directory: Path) -> Row:
    """Compare handing a flush to TensorBoard with what torch's writer takes for the same points."""
    from torch.utils.tensorboard import SummaryWriter

    manager = LossManager(enable_logging=False)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
    observer = TensorBoard(directory / "ours")
    firsts = iter(range(0, 10**9, RECORDS))
    observer.nectargan_history_flushed(manager, (chunk(next(firsts)),))

    def ours() -> None:
        observer.nectargan_history_flushed(manager, (chunk(next(firsts)),))

    board = SummaryWriter(directory / "board")

    def scalars() -> None:
        records = chunk(0)
        for tag, values in (("loss", records.loss), ("unweighted", records.unweighted), ("epoch", records.epoch)):
            for step, moment, value in zip(records.step, records.time, values, strict=True):
                board.add_scalar(tag, value, step, moment)
        board.flush()

    ways: dict[str, Callable[[], object]] = {"ours": ours, "theirs": scalars}
    # Of the process, since torch's writer works in a thread of its own.
    taken = times(ways, calls=1, rounds=5, clock=time.process_time)
    board.close()
    what = f"a flush of {RECORDS:,} records, three curves"
    return compared(what, "torch's SummaryWriter", taken["ours"], taken["theirs"], 0.05)


def calls(directory: Path) -> Row:
    """Compare a step with an observer with the same step without, flushes included."""
    value = torch.tensor(0.5)
    ways: dict[str, Callable[[], object]] = {}
    for name, observers in (("without", []), ("with", [TensorBoard()])):
        manager = LossManager(experiment_dir=directory / name, observers=observers)
        manager.register_loss_fn("G_L1", lambda x, y: x, loss_weight=100.0)

        def step(manager: LossManager = manager) -> None:
            manager.tick(epoch=0)
            manager.compute_loss_xy("G_L1", value, None)

        ways[name] = step
    taken = times(ways, calls=500, rounds=40)
    return compared(
        "a step of one loss, logged, with TensorBoard", "without an observer", taken["with"], taken["without"], 1.05
    )


def rows() -> Iterator[Row]:
    """Yield both."""
    with tempfile.TemporaryDirectory() as directory:
        yield flush(Path(directory))
        yield calls(Path(directory))
