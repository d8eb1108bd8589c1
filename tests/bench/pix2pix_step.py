"""The manager's own time in a training step of pix2pix: 256x256 pixels, batch size 1, on the CPU.

The loop, the networks and their size are those of the trainer of nectargan-pix2pix, with the objective
`pix2pix:extended` and a log on the disk. In one run is measured, as CPU time of its thread:

- the step: all of it, with both backward passes and both optimizers;
- all calls of the manager: `tick`, `compute_losses` and `total` of generator and discriminator, `get_loss_values`, and
  every ten steps `record` and the flush to the log, which the trainer does after each epoch or 30 seconds;
- in these, what is not the manager's: the loss functions and the discriminator, which they call;
- what plain torch would do in its place: weighting the same number of losses, and adding them up.

All calls without the functions and the discriminator are the upper figure; without what plain torch would do, it is the
manager's own time.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import torch
from nectargan_pix2pix.training import Learned, Networks, train
from table import Row, compared, duration
from torch import Tensor

from nectargan_core import ComputedLosses, LossManager

FORMULA, CHANNELS, SIZE = "pix2pix:extended", 16, 256
STEPS, ROUNDS = 10, 9
STEP = "the whole step"
CPU = torch.device("cpu")

_clock = time.thread_time


class Watch:
    """Adds up the seconds between its starts and stops."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def start(self, *_: object) -> None:
        """Begin; takes what a hook of a module is given."""
        self._started = _clock()

    def stop(self, *_: object) -> None:
        """End; likewise."""
        self.seconds += _clock() - self._started


class Watched(LossManager):
    """A manager with a watch that runs while it is called by the loop."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.watch = Watch()

    def tick(self, *arguments: Any, **keywords: Any) -> None:
        self.watch.start()
        super().tick(*arguments, **keywords)
        self.watch.stop()

    def compute_losses(self, *arguments: Any, **keywords: Any) -> ComputedLosses:
        self.watch.start()
        losses = super().compute_losses(*arguments, **keywords)
        _ = losses.total  # The loop asks for it again, which is not measured.
        self.watch.stop()
        return losses

    def look_and_flush(self) -> None:
        """Do what the trainer does beside a step."""
        self.watch.start()
        with self.split("val"):
            self.record("psnr", 20.0)
        self.update_loss_log()
        self.watch.stop()

    def look(self) -> None:
        """Get the values, as the trainer does twice a second."""
        self.watch.start()
        self.get_loss_values()
        self.watch.stop()


class Images:
    """Random images, of which there are always more."""

    def __len__(self) -> int:
        return STEPS * (ROUNDS + 1)

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield source images and targets."""
        while True:
            yield torch.rand(1, 3, SIZE, SIZE) * 2 - 1, torch.rand(1, 3, SIZE, SIZE) * 2 - 1


def by_torch(weights: dict[str, float]) -> float:
    """Return the seconds that plain torch takes to weight as many losses and to add them up."""
    raws = [torch.tensor(0.5, requires_grad=True) * 1 for _ in weights]
    taken = []
    for _ in range(300):
        start = _clock()
        first, *others = [weight * raw for weight, raw in zip(weights.values(), raws, strict=True)]
        for other in others:
            first = first + other
        taken.append(_clock() - start)
    return statistics.median(taken)


def rows() -> Iterator[Row]:
    """Yield a row of all calls but the functions, and one of the manager's own time."""
    torch.manual_seed(0)
    networks = Networks(CHANNELS, 30, CPU)
    inner = Watch()
    steps, calls = [], []
    with tempfile.TemporaryDirectory() as directory, Watched(experiment_dir=directory, fsync=True) as manager:
        manager.init_from_spec(FORMULA)
        functions = [loss.function for loss in manager.get_registered_losses().values()]
        for module in {*functions, networks.discriminator}:
            module.register_forward_pre_hook(inner.start)
            module.register_forward_hook(inner.stop)
        loop = train(manager, networks, Learned(manager, networks), Images(), 30)
        for _ in range(ROUNDS + 1):
            manager.watch.seconds = inner.seconds = 0.0
            start = _clock()
            for _ in range(STEPS):
                next(loop)
                manager.look()
            manager.look_and_flush()
            steps.append((_clock() - start) / STEPS)
            calls.append((manager.watch.seconds - inner.seconds) / STEPS)
        plain = sum(by_torch(manager.get_loss_weights(query)) for query in ("G", "D"))
    # The first round allocates, and imports what torch needs.
    steps, calls = steps[1:], calls[1:]
    own = [each - plain for each in calls]
    where = f"step {duration(statistics.median(steps))}"
    for what, taken in (("all calls but functions and networks", calls), ("the manager's own time", own)):
        yield compared(what, STEP, taken, steps, 0.003, f"{duration(statistics.median(taken))}; {where}")
