"""LightningModules, data and Trainers that the tests share; all of them need Lightning, and are slow."""

import csv
import logging
import statistics
from pathlib import Path

import pytest
import torch
from nectargan_lightning import LossCallback
from torch import nn
from torch.utils.data import DataLoader

from nectargan_core import LossManager

# What Lightning says of data this small, and what its releases and torch's have with each other.
NOISE = (
    "The '.*_dataloader' does not have many workers",
    "The number of training batches",
    "The `.*_dataloader` does not have many workers",
    "Checkpoint directory .* exists and is not empty",
    "Experiment logs directory .* exists and is not empty",
    "You're resuming from a checkpoint that ended before the epoch ended",
    "The dirpath has changed from",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "You defined a `validation_step` but have no `val_dataloader`",
    "`training_step` returned `None`",
)


def pytest_collection_modifyitems(items):
    """Mark what needs Lightning as slow: importing it takes seconds."""
    for item in items:
        if "pl" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")
            for message in NOISE:
                item.add_marker(pytest.mark.filterwarnings(f"ignore:{message}"))


@pytest.fixture(params=["lightning.pytorch"])
def pl(request, monkeypatch, tmp_path):
    """Lightning, as it is imported, in an empty directory; its hints are not printed."""
    monkeypatch.chdir(tmp_path)
    for name in ("lightning.pytorch", "lightning.fabric", "pytorch_lightning", "lightning_fabric"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.ERROR)
    torch.manual_seed(0)
    return pytest.importorskip(request.param)


def loader(*sizes):
    """Return a loader of batches of these sizes, each a pair of images."""
    batches = [(torch.rand(size, 3, 8, 8), torch.rand(size, 3, 8, 8)) for size in sizes]
    return DataLoader(batches, batch_size=None)


@pytest.fixture
def batches():
    """Return the function that makes loaders."""
    return loader


@pytest.fixture
def rows_of():
    """Return a function that returns the rows of the CSVLogger that have some columns: step and numbers."""

    def read(*columns):
        with Path("logs/metrics.csv").open(encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if all(row.get(column) for column in columns)]
        return [(int(row["step"]), *(float(row[column]) for column in columns)) for row in rows]

    return read


@pytest.fixture
def trainer(pl):
    """Return a function that makes a Trainer with the callback, on the CPU, which prints nothing and logs to CSV."""

    def make(*callbacks, **options):
        options = {"max_epochs": 1, "log_every_n_steps": 1, "num_sanity_val_steps": 0, **options}
        if "logger" not in options:
            options["logger"] = pl.loggers.CSVLogger("logs", name="", version="")
        if not any(isinstance(each, pl.callbacks.ModelCheckpoint) for each in callbacks):
            options.setdefault("enable_checkpointing", False)
        given = callbacks if any(isinstance(each, LossCallback) for each in callbacks) else [LossCallback(), *callbacks]
        return pl.Trainer(
            accelerator="cpu",
            devices=1,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=list(given),
            **options,
        )

    return make


@pytest.fixture
def regression(pl):
    """Return a class of modules with automatic optimisation, which log their loss themselves, too, as `own`."""

    class Regression(pl.LightningModule):
        def __init__(self, losses=None):
            super().__init__()
            self.network = nn.Conv2d(3, 3, 3, padding=1)
            self.losses = LossManager.from_spec("2*l1") if losses is None else losses
            # The losses, with the stages that they are of.
            self.seen = []

        def compute(self, batch):
            x, y = batch
            total = self.losses.compute_losses({"y_fake": self.network(x), "y": y}).total
            self.seen.append((self.trainer.state.stage.value, float(total.detach())))
            return total

        def training_step(self, batch, batch_idx):
            total = self.compute(batch)
            self.log("own", total)
            return total

        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            self.compute(batch)

        def test_step(self, batch, batch_idx, dataloader_idx=0):
            self.compute(batch)

        def predict_step(self, batch, batch_idx):
            return self.compute(batch)

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.01)

        def mean(self, stage):
            """The mean over the batches of a stage."""
            return statistics.fmean(value for each, value in self.seen if each == stage)

    return Regression


@pytest.fixture
def gan(pl):
    """Return a class of GANs with manual optimisation and two optimizers."""

    class GAN(pl.LightningModule):
        def __init__(self, losses):
            super().__init__()
            self.automatic_optimization = False
            self.generator = nn.Conv2d(3, 3, 3, padding=1)
            self.discriminator = nn.Conv2d(6, 1, 4, 2)
            self.losses = losses

        def judge(self, x, y):
            return self.discriminator(torch.cat([x, y], dim=1))

        def training_step(self, batch, batch_idx):
            x, y = batch
            optimizer_g, optimizer_d = self.optimizers()
            y_fake = self.generator(x)
            inputs = {"x": x, "y": y, "y_fake": y_fake, "pred_fake": lambda: self.judge(x, y_fake)}
            losses = self.losses.compute_losses(inputs, query="G")
            optimizer_g.zero_grad()
            self.manual_backward(losses.total)
            optimizer_g.step()

            inputs = {"pred_real": self.judge(x, y), "pred_fake": self.judge(x, y_fake.detach())}
            losses = self.losses.compute_losses(inputs, query="D")
            optimizer_d.zero_grad()
            self.manual_backward(losses.total / 2)
            optimizer_d.step()

        def validation_step(self, batch, batch_idx):
            x, y = batch
            y_fake = self.generator(x)
            self.losses.compute_losses({"y": y, "y_fake": y_fake, "pred_fake": self.judge(x, y_fake)}, query="G")

        def configure_optimizers(self):
            return [torch.optim.Adam(net.parameters(), lr=2e-4) for net in (self.generator, self.discriminator)]

    return GAN
