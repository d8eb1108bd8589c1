"""A step of eight losses in a Trainer of Lightning, log_every_n_steps=50, beside the same step without logging."""

from __future__ import annotations

import logging
import tempfile
import time
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from table import Row, beside_first, compared
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nectargan_core import LossManager

LOSSES, STEPS, ROUNDS = 8, 200, 5
NOTHING = "no logging"


class Scaled(nn.Module):
    """A loss of next to no work, so that the rest of a step is seen."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Return the mean of the difference, times the factor."""
        return (y_fake - y).mean() * self.factor


def measure() -> dict[str, list[float]]:
    """Return the seconds of a step in each round, by way of logging."""
    import lightning
    from nectargan_lightning import LossCallback

    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    functions = {f"G_{number}": Scaled(1.0 + number) for number in range(LOSSES)}
    loader: Any = DataLoader([(torch.zeros(4), torch.ones(4))] * STEPS, batch_size=None)

    class Module(lightning.LightningModule):
        def __init__(self, way: str) -> None:
            super().__init__()
            self.network = nn.Linear(4, 4)
            self.way = way
            if way.startswith("manager"):
                self.losses = LossManager(experiment_dir=tempfile.mkdtemp())
                for name, function in functions.items():
                    self.losses.register_loss_fn(name, function)

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            y_fake = self.network(x)
            if self.way.startswith("manager"):
                total: Tensor = self.losses.compute_losses({"y_fake": y_fake, "y": y}).total
                return total
            values = {name: function(y_fake, y) for name, function in functions.items()}
            if self.way == "self.log":
                for name, value in values.items():
                    self.log(name, value)
            elif self.way == "self.log of epochs, too":
                for name, value in values.items():
                    self.log(name, value, on_step=True, on_epoch=True)
            elif self.way == "self.log_dict":
                self.log_dict(values)
            return torch.stack([*values.values()]).sum()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=1e-6)

    class Clock(lightning.Callback):
        def on_train_start(self, *_: object) -> None:
            self.start = time.thread_time()

        def on_train_end(self, *_: object) -> None:
            self.seconds = time.thread_time() - self.start

    def step(way: str) -> float:
        clock = Clock()
        # With the time of the last flush, which is when the loggers get the values.
        callbacks = [*([LossCallback()] if way == "manager and LossCallback" else []), clock]
        logger = lightning.pytorch.loggers.CSVLogger(tempfile.mkdtemp())
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, logger=logger, callbacks=callbacks, **quiet)
        trainer.fit(Module(way), loader)
        return clock.seconds / STEPS

    ways = (NOTHING, "manager", "manager and LossCallback", "self.log", "self.log_dict", "self.log of epochs, too")
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way in ways:
            times[way].append(step(way))
    return times


def rows() -> Iterator[Row]:
    """Yield a row for each way to log, and what ours adds beside what `self.log` adds."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            times = measure()
    except ImportError:
        yield Row("Lightning self.log_dict", NOTHING, note="pip install lightning ./plugins/nectargan-lightning")
        return
    yield from beside_first(times)
    ours = [one - other for one, other in zip(times["manager and LossCallback"], times["manager"], strict=True)]
    theirs = [one - other for one, other in zip(times["self.log"], times[NOTHING], strict=True)]
    yield compared("what LossCallback adds", "what self.log adds", ours, theirs, 0.1, note="")
