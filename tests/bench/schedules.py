"""A scheduled no-op loss, at another epoch each time, beside one without a schedule."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from interleaved import times
from table import Row, beside_first

from nectargan_core import LossManager, Schedule

EPOCHS = [index / 10 for index in range(1000)]
PARTS = [Schedule("linear", end=10, initial_value=0.0), Schedule("cosine", start=50, end=100, target_value=0.5)]
CURVES: dict[str, dict[str, Any]] = {
    "constant": {},
    "window": {},
    "every": {"n": 5},
    "linear": {},
    "cosine": {},
    "polynomial": {"power": 2.0},
    "cyclic": {"period": 10},
    "sigmoid": {},
    "exponential": {},
    "step": {"every": 10},
    "cosine-restarts": {"period": 10, "multiplier": 2},
    "inverse-sqrt": {"warmup": 10},
    "warmup-cosine": {"warmup": 10},
    "one-cycle": {},
    "multistep": {"milestones": [10, 50, 90]},
    "piecewise-linear": {"points": [[0, 1.0], [10, 2.0], [50, 1.0], [100, 0.5]]},
    "sequence": {"parts": PARTS},
    "product": {"factors": PARTS},
}


def call(schedule: Schedule | None, epochs: list[float]) -> Callable[[], object]:
    """Return what computes a loss that does nothing, at the next epoch each time."""
    manager = LossManager(enable_logging=False)
    manager.register_loss_fn("loss", lambda x, y: x, schedule=schedule)
    scalar, epoch = torch.tensor(0.5), itertools.cycle(epochs)
    return lambda: manager.compute_loss_xy("loss", scalar, scalar, next(epoch))


def rows() -> Iterator[Row]:
    """Yield a row for each curve."""
    ends: dict[str, Any] = {"start": 0, "end": 100, "initial_value": 2.0, "target_value": 0.5}
    calls = {"no schedule": call(None, EPOCHS), "cosine, same epoch": call(Schedule("cosine", **ends), [30.0])}
    calls |= {name: call(Schedule(name, **ends, params=params), EPOCHS) for name, params in CURVES.items()}
    yield from beside_first(times(calls, 200, rounds=30))
