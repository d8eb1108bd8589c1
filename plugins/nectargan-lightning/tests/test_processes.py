"""Several processes, and copies of a LightningModule, which a manager is no part of."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
from nectargan_lightning import LossCallback

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import NectarganWarning

PROGRAM = """
import lightning
import torch
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader

from nectargan_core import LossManager
from nectargan_lightning import LossCallback


class Regression(lightning.LightningModule):
    losses = None

    def __init__(self):
        super().__init__()
        self.network = torch.nn.Conv2d(3, 3, 3, padding=1)

    def configure_model(self):
        if self.losses is None:
            self.losses = LossManager.from_spec("l1", experiment_dir="run")

    def training_step(self, batch, batch_idx):
        x, y = batch
        return self.losses.compute_losses({"y_fake": self.network(x), "y": y}, batch_size=len(x)).total

    def validation_step(self, batch, batch_idx):
        self.training_step(batch, batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def val_dataloader(self):
        sizes = [[1, 3], [2]][self.global_rank]
        return DataLoader([(torch.rand(n, 3, 8, 8), torch.zeros(n, 3, 8, 8)) for n in sizes], batch_size=None)


if __name__ == "__main__":
    data = DataLoader([(torch.rand(3, 8, 8), torch.zeros(3, 8, 8)) for _ in range(4)])
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=2,
        strategy="STRATEGY",
        max_epochs=1,
        log_every_n_steps=1,
        logger=CSVLogger("logs", "", ""),
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        callbacks=[LossCallback()],
    )
    model = Regression()
    trainer.fit(model, data)
    if model.losses is not None:
        model.losses.close()
"""


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_each_rank_logs_and_the_loggers_get_the_mean_of_all(pl, rows_of, tmp_path, strategy):
    (tmp_path / "program.py").write_text(PROGRAM.replace("STRATEGY", strategy))
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert "NectarganWarning" not in done.stderr
    log = LossLog("run")
    assert log.series("G_L1").step.tolist() == [0, 1, 2, 3]
    assert log.series("G_L1").count.tolist() == [2, 2, 2, 2]
    assert [step for step, _ in rows_of("G_L1")] == [0, 1, 2, 3]
    # Those of this rank, step by step; of a validation the mean of both, in which each sample counts the same.
    assert [value for _, value in rows_of("G_L1")] == LossLog("run/loss_log.jsonl").series("G_L1").loss.tolist()
    validated = [log.series("val/G_L1", rank=rank) for rank in (0, 1)]
    assert [records.batch.tolist() for records in validated] == [[1, 3], [2]]
    total = sum(float((records.loss * records.batch).sum()) for records in validated)
    assert rows_of("val/G_L1") == [(3, pytest.approx(total / 6))]


@pytest.mark.parametrize(
    ("environment", "rank", "warned"),
    [("LightningEnvironment", True, 1), ("LightningEnvironment", False, 0), ("TorchElasticEnvironment", True, 0)],
)
def test_a_log_that_was_begun_before_the_other_ranks_is_warned_of(
    pl, regression, tmp_path, recwarn, monkeypatch, environment, rank, warned
):
    monkeypatch.setenv("LOCAL_RANK", "0")  # as Lightning sets it in the first process, too
    model = regression(LossManager.from_spec("l1", experiment_dir="run"))
    environments = importlib.import_module(pl.__name__.replace("pytorch", "fabric")).plugins.environments
    strategy = SimpleNamespace(cluster_environment=getattr(environments, environment)())
    trainer = SimpleNamespace(world_size=2, is_global_zero=rank, strategy=strategy, loggers=[], log_every_n_steps=1)
    LossCallback().setup(trainer, model, "fit")
    assert [each.category for each in recwarn].count(NectarganWarning) == warned


@pytest.mark.parametrize("average", ["StochasticWeightAveraging", "EMAWeightAveraging"])
def test_a_module_that_leaves_the_manager_out_of_copies_can_be_averaged(pl, trainer, regression, batches, average):
    if not hasattr(pl.callbacks, average):
        pytest.skip(f"this Lightning has no {average}")

    class Copied(regression):
        def __getstate__(self):
            return {**vars(self), "losses": None}

    options = {"swa_lrs": 0.01} if average.startswith("Stoch") else {}
    losses = LossManager.from_spec("l1", enable_logging=True)
    trainer(getattr(pl.callbacks, average)(**options), max_epochs=3).fit(Copied(losses), batches(1, 1))
    assert losses.series("G_L1").step.tolist() == [0, 1, 2, 3, 4, 5]


def test_the_search_for_a_learning_rate_is_not_in_the_log(pl, trainer, regression, batches, monkeypatch):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(write=lambda _: None, flush=lambda: None, isatty=lambda: False))

    class Tuned(regression):
        lr = 0.01

    losses = LossManager.from_spec("l1", enable_logging=True)
    finder = pl.callbacks.LearningRateFinder(num_training_steps=3, update_attr=False)
    trainer(finder).fit(Tuned(losses), batches(1, 1))
    assert losses.series("G_L1").step.tolist() == [0, 1]
