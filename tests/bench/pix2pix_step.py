"""The manager's own time in a training step of pix2pix: 256x256 pixels, batch size 1, on the CPU.

The loop, the networks and their size are those of the trainer of nectargan-pix2pix, with the objective
`pix2pix:extended` and a log on the disk. In one run is measured, as CPU time of its thread:

- the step: all of it, with both backward passes and both optimizers;
- all calls of the manager: `tick`, `compute_losses` and `total` of generator and discriminator, `get_loss_values` twice
  a second as the trainer does, and every 50 steps `record` and a flush to the disk, more often than in a training;
- in these, what is not the manager's: the loss functions and the discriminator, which they call;
- what plain torch does in its place, once after each step: weighting the same number of losses, and adding them up.

All calls without the functions and the discriminator are the upper figure; without what plain torch does, it is the
manager's own time. Python runs slowly here, since each step sweeps it out of the caches of the processor.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from nectargan_pix2pix.training import Learned, Networks, train
from table import Row, compared, duration
from torch import Tensor, nn

from nectargan_core import ComputedLosses, LossManager

FORMULA, CHANNELS, SIZE = "pix2pix:extended", 16, 256
STEPS, ROUNDS = 50, 3
STEP = "the whole step"
CPU = torch.device("cpu")

_clock = time.thread_time


class Watch:
    """Adds up the seconds between its starts and stops."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._started = 0.0

    def start(self) -> None:
        """Begin."""
        self._started = _clock()

    def stop(self) -> None:
        """End."""
        self.seconds += _clock() - self._started

    def runs_in(self, module: nn.Module) -> None:
        """Run whenever a module is called."""
        inner: Callable[..., Any] = module._call_impl

        def call(*arguments: Any) -> Any:
            self.start()
            result = inner(*arguments)
            self.stop()
            return result

        # What torch puts a compiled module into. A hook would add its own time, and leave out that of the call.
        module._compiled_call_impl = call


class Watched(LossManager):
    """A manager with a watch that runs while it is called by the loop."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.watch = Watch()
        self._looked = 0.0

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

    def look(self) -> None:
        """Get the values, if half a second is over."""
        if _clock() - self._looked > 0.5:
            self._looked = _clock()
            self.watch.start()
            self.get_loss_values()
            self.watch.stop()

    def end_round(self) -> None:
        """Do what a training does once in a while."""
        self.watch.start()
        with self.split("val"):
            self.record("psnr", 20.0)
        self.update_loss_log()
        self.watch.stop()


class Images:
    """Random images, of which there are always more."""

    def __len__(self) -> int:
        return STEPS * (ROUNDS + 1)

    def of(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield source images and targets."""
        while True:
            yield torch.rand(1, 3, SIZE, SIZE) * 2 - 1, torch.rand(1, 3, SIZE, SIZE) * 2 - 1


def weigh_and_add(weights: list[float], raws: list[Tensor]) -> Tensor:
    """Do what a loop by hand does with the results of its losses."""
    total = weights[0] * raws[0]
    for weight, raw in zip(weights[1:], raws[1:], strict=True):
        total = total + weight * raw
    return total


def rows() -> Iterator[Row]:
    """Yield a row of all calls but the functions, and one of the manager's own time."""
    torch.manual_seed(0)
    networks = Networks(CHANNELS, 30, CPU)
    inner, plain = Watch(), Watch()
    steps, calls, own = [], [], []
    with tempfile.TemporaryDirectory() as directory:
        manager = Watched(experiment_dir=directory, fsync=True)
        manager.init_from_spec(FORMULA)
        for module in {networks.discriminator, *manager.modules().values()}:
            inner.runs_in(module)
        weights = [list(manager.get_loss_weights(query).values()) for query in ("G", "D")]
        raws = [torch.tensor(0.5, requires_grad=True) * 1 for _ in weights[0]]
        loop = train(manager, networks, Learned(manager, networks), Images(), 30)
        for _ in range(ROUNDS + 1):
            manager.watch.seconds = inner.seconds = plain.seconds = 0.0
            start = _clock()
            for _ in range(STEPS):
                next(loop)
                manager.look()
                plain.start()
                for each in weights:
                    weigh_and_add(each, raws[: len(each)])
                plain.stop()
            manager.end_round()
            steps.append((_clock() - start - plain.seconds) / STEPS)
            calls.append((manager.watch.seconds - inner.seconds) / STEPS)
            own.append(calls[-1] - plain.seconds / STEPS)
        manager.close()
    # The first round imports what torch needs.
    where = f"of {duration(statistics.median(steps[1:]))}"
    for what, taken in (("all calls but functions and networks", calls), ("the manager's own time", own)):
        yield compared(what, STEP, taken[1:], steps[1:], 0.003, f"{duration(statistics.median(taken[1:]))} {where}")
