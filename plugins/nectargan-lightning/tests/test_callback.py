"""The callback: what it is for either package, which managers it finds, how it ends, and what it refuses."""

import copy
import importlib.util
import pickle
import sys
from types import ModuleType

import pytest
import torch
from nectargan_lightning import LossCallback

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import DuplicateLossError, NectarganError, NonFiniteLossError

both_packages = pytest.mark.parametrize("pl", ["lightning.pytorch", "pytorch_lightning"], indirect=True)


@both_packages
def test_it_is_a_callback_of_each_package_that_is_imported(pl):
    assert isinstance(LossCallback(), pl.Callback)
    assert isinstance(LossCallback(), LossCallback)
    assert pl.Trainer(callbacks=LossCallback(), logger=False, enable_checkpointing=False).callbacks


@both_packages
def test_its_class_is_one_too_where_lightning_was_imported_first(pl):
    spec = importlib.util.find_spec("nectargan_lightning.callback")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert issubclass(module.LossCallback, pl.Callback)
    assert type(module.LossCallback()) is module.LossCallback


def test_a_subclass_is_one_too(pl):
    class Mine(LossCallback):
        pass

    assert isinstance(Mine(), pl.Callback)
    assert Mine().state_key == Mine.__qualname__


def test_without_either_package_both_are_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] in ("lightning", "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install lightning, or pip install pytorch-lightning"):
        LossCallback()


def test_only_the_package_that_is_imported_is_used(monkeypatch):
    class Callback:
        pass

    for name in [name for name in sys.modules if name.partition(".")[0] in ("lightning", "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, name)
    module = ModuleType("pytorch_lightning")
    module.Callback = Callback
    monkeypatch.setitem(sys.modules, "pytorch_lightning", module)
    assert isinstance(LossCallback(), Callback)
    assert "lightning.pytorch" not in sys.modules


def test_it_can_be_copied_and_pickled_for_other_processes(pl):
    for made in (copy.deepcopy(LossCallback()), pickle.loads(pickle.dumps(LossCallback()))):
        assert isinstance(made, LossCallback)
        assert isinstance(made, pl.Callback)


def test_several_managers_are_found_in_submodules_too(trainer, regression, batches):
    model = regression(LossManager.from_spec("l1", enable_logging=True))
    model.network.others = LossManager.from_spec("l2", enable_logging=True)
    made = trainer(max_epochs=2)

    def step(batch, batch_idx):
        x, y = batch
        inputs = {"y_fake": model.network(x), "y": y}
        return model.losses.compute_losses(inputs).total + model.network.others.compute_losses(inputs).total

    model.training_step = step
    made.fit(model, batches(1, 1))
    assert (
        model.losses.series("G_L1").step.tolist() == model.network.others.series("G_L2").step.tolist() == [0, 1, 2, 3]
    )
    assert {"G_L1", "G_L2"} <= made.callback_metrics.keys()


def test_a_manager_may_be_made_in_setup(trainer, regression, batches):
    class Late(regression):
        def setup(self, stage):
            self.losses = LossManager.from_spec("2*l1", experiment_dir=self.trainer.log_dir)

    model = Late()
    made = trainer()
    made.fit(model, batches(1, 1), batches(1))
    assert model.losses.series("G_L1").step.tolist() == [0, 1]
    assert "val/G_L1" in made.callback_metrics


def test_no_manager_is_an_error(trainer, regression, batches):
    model = regression()
    model.losses = [model.losses]
    with pytest.raises(NectarganError, match="found no LossManager in Regression; assign it to an attribute"):
        trainer().fit(model, batches(1))


def test_two_managers_with_one_name_are_an_error(trainer, regression, batches):
    model = regression()
    model.others = LossManager.from_spec("l1")
    with pytest.raises(DuplicateLossError, match="'losses' and 'others' .* both have a loss 'G_L1'"):
        trainer().fit(model, batches(1))


@pytest.mark.parametrize("stage", ["train", "validate"])
def test_an_exception_leaves_a_complete_log_and_a_manager_that_goes_on(trainer, regression, batches, rows_of, stage):
    class Failing(regression):
        def compute(self, batch):
            total = super().compute(batch)
            if self.trainer.state.stage.value == stage and len(self.seen) >= 2:
                raise ZeroDivisionError
            return total

    losses = LossManager.from_spec("l1", experiment_dir="run")
    model = Failing(losses)
    with pytest.raises(ZeroDivisionError):
        trainer().fit(model, batches(1, 1) if stage == "train" else batches(1), batches(1))
    assert LossLog("run").series("G_L1").step.tolist() == ([0, 1] if stage == "train" else [0])
    assert rows_of("G_L1")
    losses.tick()
    losses.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1))
    assert losses.step == len(losses.series("G_L1")) - 1  # in no split any more


def test_nothing_is_logged_after_the_run(pl, trainer, regression, batches, rows_of):
    losses = LossManager.from_spec("l1", experiment_dir="run")
    trainer().fit(regression(losses), batches(1))
    losses.tick()
    losses.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1))
    losses.close()
    assert [step for step, _ in rows_of("G_L1")] == [0]


def test_a_manager_may_be_closed_when_training_ends(trainer, regression, batches):
    class Closing(regression):
        def on_train_end(self):
            self.losses.close()

    made = trainer()
    made.fit(Closing(LossManager.from_spec("l1", experiment_dir="run")), batches(1))
    made.save_checkpoint("made.ckpt")
    assert torch.load("made.ckpt", weights_only=True)["callbacks"]["LossCallback"]["losses"]["manager"]["step"] == 0


def test_a_fast_dev_run_is_one_step(trainer, regression, batches):
    losses = LossManager.from_spec("l1", enable_logging=True)
    made = trainer(fast_dev_run=True)
    made.fit(regression(losses), batches(1, 1), batches(1, 1))
    assert losses.series("G_L1").step.tolist() == losses.series("val/G_L1").step.tolist() == [0]
    assert "val/G_L1" in made.callback_metrics


def test_nan_stops_the_training_where_it_is_asked_to(trainer, regression, batches):
    losses = LossManager(nonfinite="raise")
    losses.register_loss_fn("G_NAN", lambda y_fake, y: (y_fake - y).mean() * float("nan"))
    with pytest.raises(NonFiniteLossError):
        trainer().fit(regression(losses), batches(1))


def test_hyperparameters_hold_the_formula(pl, trainer, regression, batches):
    class Configured(regression):
        def __init__(self, spec="2*l1"):
            super().__init__(LossManager.from_spec(spec))
            self.save_hyperparameters()

    made = trainer()
    made.fit(Configured("3*l1"), batches(1))
    made.save_checkpoint("made.ckpt")
    assert Configured.load_from_checkpoint("made.ckpt").losses.get_loss_weights() == {"G_L1": 3.0}
