"""What a schedule adds to a loss call, curve by curve, when every call is at another epoch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from interleaved import medians

from nectargan_core import LossManager, Schedule

EPOCHS = [index / 10 for index in range(1000)]
PARTS = [Schedule("linear", end=10, initial_value=0.0), Schedule("cosine", start=50, end=100, target_value=0.5)]
SIMPLE = ("constant", "window", "every", "linear", "cosine", "polynomial", "cyclic", "sigmoid", "exponential", "step")
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


def main() -> None:
    """Print a table of medians and differences."""
    print("A scheduled loss call over an unscheduled one, both of a no-op loss (CPU time of one thread, medians of")
    print("interleaved runs; aim for the simple curves: at most 1 us more)")
    ends: dict[str, Any] = {"start": 0, "end": 100, "initial_value": 2.0, "target_value": 0.5}
    calls = {"unscheduled": call(None, EPOCHS), "cosine, same epoch": call(Schedule("cosine", **ends), [30.0])}
    calls |= {name: call(Schedule(name, **ends, params=params), EPOCHS) for name, params in CURVES.items()}
    taken = medians(calls, 300)
    plain = taken["unscheduled"]
    for name, seconds in taken.items():
        simple = "simple" if name in SIMPLE else ""
        print(
            f"{name:<20}{seconds * 1e6:>8.2f} us{(seconds - plain) * 1e6:>+8.2f} us{seconds / plain:>7.2f}x  {simple}"
        )


if __name__ == "__main__":
    main()
