"""Validation, test and prediction: where losses are recorded, and what their means are."""

import pytest

from nectargan_core import LossLog, LossManager


def test_validation_is_recorded_in_the_split_val(trainer, regression, batches):
    losses = LossManager.from_spec("2*l1", experiment_dir="run")
    trainer(max_epochs=2).fit(regression(losses), batches(1, 1, 1), batches(1, 1))
    losses.close()
    log = LossLog("run")
    assert log.series("G_L1").step.tolist() == [0, 1, 2, 3, 4, 5]
    assert log.series("val/G_L1").step.tolist() == [2, 2, 5, 5]
    assert log.series("val/G_L1").epoch.tolist() == [0, 0, 1, 1]


def test_sanity_checks_are_recorded_nowhere(trainer, regression, batches):
    losses = LossManager.from_spec("l1", enable_logging=True)
    model = regression(losses)
    trainer(num_sanity_val_steps=2, limit_val_batches=2).fit(model, batches(1), batches(1, 1, 1))
    assert [stage for stage, _ in model.seen].count("sanity_check") == 2
    assert len(losses.series("val/G_L1")) == 2
    assert len(losses.series("G_L1")) == 1


def test_the_mean_of_a_validation_is_over_its_batches(trainer, regression, batches, rows_of):
    model = regression()
    made = trainer()
    made.fit(model, batches(1), batches(2, 2, 1))
    assert float(made.callback_metrics["val/G_L1"]) == pytest.approx(model.mean("validate"))
    assert rows_of("val/G_L1") == [(0, pytest.approx(model.mean("validate")))]


@pytest.mark.parametrize("is_sized", [True, False])
def test_with_their_sizes_each_sample_of_a_validation_counts_the_same(trainer, regression, batches, is_sized):
    class Sized(regression):
        def compute(self, batch):
            x, y = batch
            size = len(x) if is_sized or len(x) == 4 else None  # one without a size makes all batches count alike
            losses = self.losses.compute_losses({"y_fake": x, "y": y}, batch_size=size)
            self.seen.append((float(losses.total), len(x)))
            return losses.total + 0 * self.network(x).sum()

    model = Sized()
    made = trainer()
    made.fit(model, batches(2), batches(4, 4, 1))
    values, sizes = zip(*model.seen[1:], strict=True)
    sizes = sizes if is_sized else (1, 1, 1)
    mean = sum(value * size for value, size in zip(values, sizes, strict=True)) / sum(sizes)
    assert float(made.callback_metrics["val/G_L1"]) == pytest.approx(mean)


def test_each_validation_has_a_mean_of_its_own(trainer, regression, batches, rows_of):
    model = regression()
    trainer(val_check_interval=2).fit(model, batches(1, 1, 1, 1), batches(1, 1))
    values = [value for stage, value in model.seen if stage == "validate"]
    means = [sum(values[:2]) / 2, sum(values[2:]) / 2]
    assert rows_of("val/G_L1") == [(1, pytest.approx(means[0])), (3, pytest.approx(means[1]))]


def test_a_second_dataloader_has_a_split_of_its_own(trainer, regression, batches):
    losses = LossManager.from_spec("2*l1", enable_logging=True)
    model = regression(losses)
    made = trainer()
    made.fit(model, batches(1), [batches(1, 1), batches(1)])
    values = [value for stage, value in model.seen if stage == "validate"]
    assert losses.series("val/G_L1").loss.tolist() == pytest.approx(values[:2])
    assert losses.series("val_1/G_L1").loss.tolist() == pytest.approx(values[2:])
    assert float(made.callback_metrics["val_1/G_L1"]) == pytest.approx(values[2])


def test_what_is_recorded_at_the_end_of_a_validation_is_logged_and_monitored(pl, trainer, regression, batches, rows_of):
    class Judged(regression):
        def on_validation_epoch_end(self):
            self.losses.record("fid", 42.0)

    checkpoint = pl.callbacks.ModelCheckpoint("checkpoints", monitor="val/fid")
    losses = LossManager.from_spec("2*l1", experiment_dir="run")
    trainer(checkpoint).fit(Judged(losses), batches(1), batches(1))
    assert float(checkpoint.best_model_score) == 42.0
    assert rows_of("val/fid") == [(0, 42.0)]
    assert losses.series("val/fid").loss.tolist() == [42.0]


@pytest.mark.parametrize(("entry", "split"), [("validate", "val"), ("test", "test")])
def test_entry_points_of_their_own_return_the_means(trainer, regression, batches, entry, split):
    losses = LossManager.from_spec("2*l1", enable_logging=True)
    model = regression(losses)
    (returned,) = getattr(trainer(), entry)(model, batches(3, 1), verbose=False)
    assert returned == {f"{split}/G_L1": pytest.approx(model.mean(entry))}
    assert len(losses.series(f"{split}/G_L1")) == 2


def test_predictions_are_recorded_nowhere(trainer, regression, batches):
    losses = LossManager.from_spec("l1", enable_logging=True)
    model = regression(losses)
    trainer().predict(model, batches(1, 1))
    assert len(model.seen) == 2
    assert losses.get_registered_losses(strip=False)["G_L1"].history.losses == []


def test_a_test_after_training_has_the_clock_of_its_end(trainer, regression, batches):
    losses = LossManager.from_spec("l1", enable_logging=True)
    model = regression(losses)
    made = trainer(max_epochs=2)
    made.fit(model, batches(1, 1))
    made.test(model, batches(1), verbose=False)
    assert losses.series("test/G_L1").step.tolist() == [3]
    assert losses.series("test/G_L1").epoch.tolist() == [1]
