"""Training: the clock, what the loggers get and when, and what other callbacks can monitor."""

import math

import pytest
import torch

from nectargan_core import LossLog, LossManager, Schedule, hookimpl

both_packages = pytest.mark.parametrize("pl", ["lightning.pytorch", "pytorch_lightning"], indirect=True)


@both_packages
def test_two_optimizers_make_one_step_a_batch(trainer, gan, batches):
    losses = LossManager.from_spec("gan + 100*l1", enable_logging=True)
    made = trainer(max_epochs=2)
    made.fit(gan(losses), batches(1, 1, 1))
    assert made.global_step == 12
    for name in ("G_L1", "D_real"):
        assert losses.series(name).step.tolist() == [0, 1, 2, 3, 4, 5]
        assert losses.series(name).epoch.tolist() == [0, 0, 0, 1, 1, 1]


def test_loggers_have_the_values_of_the_log_at_their_steps(trainer, gan, batches, rows_of):
    losses = LossManager.from_spec("gan + 100*l1", experiment_dir="run")
    trainer(max_epochs=2).fit(gan(losses), batches(1, 1, 1))
    records = losses.series("G_L1")
    assert rows_of("G_L1") == list(zip(records.step.tolist(), records.loss.tolist(), strict=True))
    assert [row[1:] for row in rows_of("epoch", "G_L1", "D_fake")] == [
        (epoch, l1, fake)
        for epoch, l1, fake in zip(records.epoch, records.loss, losses.series("D_fake").loss, strict=True)
    ]


@pytest.mark.parametrize("accumulated", [1, 3])
def test_steps_are_those_at_which_lightning_logs(trainer, regression, batches, accumulated, rows_of):
    model = regression()
    trainer(max_epochs=2, accumulate_grad_batches=accumulated).fit(model, batches(1, 2, 3, 1, 1, 2, 1))
    ours, own = rows_of("G_L1"), rows_of("own")
    assert [step for step, _ in ours] == [step for step, _ in own]
    assert [value for _, value in ours] == pytest.approx([value for _, value in own])
    assert len(ours) == 2 * math.ceil(7 / accumulated)


def test_batches_that_are_accumulated_have_one_step(trainer, regression, batches):
    losses = LossManager.from_spec("l1", enable_logging=True)
    trainer(max_epochs=2, accumulate_grad_batches=2).fit(regression(losses), batches(1, 1, 1))
    assert losses.series("G_L1").step.tolist() == [0, 0, 1, 2, 2, 3]


def test_loggers_get_a_loss_once_in_log_every_n_steps(trainer, regression, batches, rows_of):
    trainer(max_epochs=2, log_every_n_steps=4).fit(regression(), batches(*[1] * 5))
    # Lightning's own are at 3 and 7; the last step of all is ours in addition.
    assert [step for step, _ in rows_of("own")] == [3, 7]
    assert [step for step, _ in rows_of("G_L1")] == [3, 7, 9]


def test_loggers_get_nothing_of_a_step_with_log_every_n_steps_of_0(trainer, regression, batches, rows_of):
    trainer(log_every_n_steps=0).fit(regression(), batches(1, 1), batches(1))
    assert list(map(len, (rows_of("val/G_L1"), rows_of("epoch")))) == [1, 1]


def test_what_is_recorded_now_and_then_gets_to_the_loggers_at_its_own_step(trainer, regression, batches, rows_of):
    class Recording(regression):
        def training_step(self, batch, batch_idx):
            if batch_idx == 2:
                self.losses.record("psnr", 30.0)
            return super().training_step(batch, batch_idx)

    trainer(log_every_n_steps=4).fit(Recording(), batches(*[1] * 8))
    assert rows_of("psnr") == [(2, 30.0)]


def test_rows_are_whole_where_a_flush_comes_within_a_step(trainer, gan, batches, rows_of):
    # Each call flushes.
    losses = LossManager.from_spec("gan + 100*l1", experiment_dir="run", flush_every=0.0)
    trainer(log_every_n_steps=2).fit(gan(losses), batches(*[1] * 6))
    assert [step for step, *_ in rows_of("G_L1", "D_fake")] == [1, 3, 5]
    assert [step for step, _ in rows_of("G_L1")] == [1, 3, 5]


def test_loggers_get_weights_where_they_change(trainer, regression, batches, rows_of):
    fade = Schedule(start_epoch=1, end_epoch=2, target_value=0.5)
    losses = LossManager.from_spec("l1 + 2*l2", weights={"G_L1": 1.0}, schedules={"G_L1": fade})
    trainer(max_epochs=4).fit(regression(losses), batches(1, 1))
    assert rows_of("weight/G_L1") == [(0, 1.0), (4, 0.5)]
    assert rows_of("weight/G_L2") == [(0, 2.0)]


@both_packages
def test_each_logger_gets_the_values(pl, trainer, regression, batches, rows_of):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    loggers = [
        pl.loggers.CSVLogger("logs", name="", version=""),
        pl.loggers.TensorBoardLogger("tb", name="", version=""),
    ]
    trainer(logger=loggers, log_every_n_steps=2).fit(regression(), batches(*[1] * 4), batches(1))
    events = accumulator.EventAccumulator("tb")
    events.Reload()
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("G_L1")] == rows_of("G_L1")
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("val/G_L1")] == rows_of("val/G_L1")


def test_without_a_logger_there_is_nothing_to_log_to(trainer, regression, batches):
    model = regression()
    made = trainer(logger=False)
    made.fit(model, batches(1, 1), batches(1))
    assert made.callback_metrics["val/G_L1"] == pytest.approx(model.mean("validate"))


def test_the_mean_of_the_training_is_that_of_its_epoch(trainer, regression, batches):
    losses = LossManager.from_spec("2*l1", enable_logging=True)
    made = trainer(max_epochs=2)
    made.fit(regression(losses), batches(1, 1, 1))
    last = losses.series("G_L1").loss[3:]
    assert float(made.callback_metrics["G_L1"]) == pytest.approx(last.mean())
    assert "G_L1_epoch" not in made.callback_metrics


@pytest.mark.parametrize("monitored", ["val/G_L1", "G_L1"])
def test_checkpoints_and_stopping_can_monitor_means(pl, trainer, regression, batches, monitored):
    checkpoint = pl.callbacks.ModelCheckpoint("checkpoints", monitor=monitored)
    stopping = pl.callbacks.EarlyStopping(monitored, patience=2)
    trainer(stopping, checkpoint, max_epochs=2).fit(regression(), batches(1, 1), batches(1))
    assert checkpoint.best_model_score is not None
    assert stopping.best_score.isfinite()


def test_a_loss_of_weight_0_has_no_mean(trainer, regression, batches):
    made = trainer()
    made.fit(regression(LossManager.from_spec("l1 + l2", weights={"G_L2": 0.0})), batches(1), batches(1))
    assert {"G_L1", "val/G_L1"} == {name for name in made.callback_metrics if name.endswith(("L1", "L2"))}


def test_the_log_is_complete_after_fit_and_the_manager_open(trainer, regression, batches):
    class Watching:
        def __init__(self):
            self.told, self.closed = {}, 0

        @hookimpl
        def nectargan_history_flushed(self, chunks):
            for chunk in chunks:
                self.told.setdefault(chunk.name, []).extend(chunk.step.tolist())

        @hookimpl
        def nectargan_manager_closed(self):
            self.closed += 1

    class RecordingLate(regression):
        def on_fit_end(self):
            self.losses.record("late", 1.0)

    watching = Watching()
    losses = LossManager.from_spec("2*l1", experiment_dir="run", observers=[watching])
    made, model = trainer(max_epochs=2), RecordingLate(losses)
    made.fit(model, batches(1, 1), batches(1))
    log = LossLog("run")
    expected = {"G_L1": [0, 1, 2, 3], "val/G_L1": [1, 3], "late": [3]}
    assert {name: log.series(name).step.tolist() for name in log.names} == watching.told == expected
    assert watching.closed == 0
    made.test(model, batches(1))
    losses.close()
    assert watching.closed == 1


def test_losses_are_moved_to_the_device_of_the_module(trainer, regression, batches):
    moved = []

    class Watched(torch.nn.L1Loss):
        def _apply(self, function, recurse=True):
            moved.append(function(torch.zeros(1)).device)
            return super()._apply(function, recurse)

    losses = LossManager()
    losses.register_loss_fn("G_L1", Watched())
    trainer().fit(regression(losses), batches(1))
    assert moved[:1] == [torch.device("cpu")]
