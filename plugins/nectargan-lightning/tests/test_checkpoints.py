"""Checkpoints: a run goes on where it was, and what was recorded after that is superseded."""

import pytest
import torch
from torch import nn

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.errors import NectarganWarning, ObjectiveError

both_packages = pytest.mark.parametrize("pl", ["lightning.pytorch", "pytorch_lightning"], indirect=True)


def logged(**options):
    """A manager of a run that was begun before, or begins."""
    fade = Schedule(end_epoch=4, target_value=0.0)
    return LossManager.from_spec("8*l1", schedules={"G_L1": fade}, experiment_dir="run", resume=True, **options)


@both_packages
def test_a_run_goes_on_where_its_checkpoint_was_taken(pl, trainer, regression, batches):
    data = batches(1, 1, 1)
    with logged() as losses:
        made = trainer(max_epochs=2)
        made.fit(regression(losses), data)
        made.save_checkpoint("half.ckpt")
        made.fit_loop.max_epochs = 3
        made.fit(made.lightning_module, data)  # and is killed
    with logged() as losses:
        trainer(max_epochs=4).fit(regression(losses), data, ckpt_path="half.ckpt")
    records = LossLog("run").series("G_L1")
    assert records.step.tolist() == list(range(12))
    assert records.epoch.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert records.weight.tolist() == [8] * 3 + [6] * 3 + [4] * 3 + [2] * 3


@pytest.mark.parametrize(
    "options", [{"every_n_train_steps": 5}, {"every_n_epochs": 2}, {"save_on_train_epoch_end": True}]
)
@pytest.mark.parametrize("validated", [True, False])
def test_steps_are_neither_left_out_nor_counted_twice_wherever_it_was_taken(
    pl, trainer, regression, batches, options, validated
):
    data = (batches(1, 1, 1), batches(1)) if validated else (batches(1, 1, 1),)
    checkpoint = pl.callbacks.ModelCheckpoint("checkpoints", **options)
    with LossManager.from_spec("l1", experiment_dir="run", resume=True) as losses:
        trainer(checkpoint, max_epochs=2).fit(regression(losses), *data)
    again = pl.callbacks.ModelCheckpoint("checkpoints", **options)
    with LossManager.from_spec("l1", experiment_dir="run", resume=True) as losses:
        model = regression(losses)
        trainer(again, max_epochs=4).fit(model, *data, ckpt_path=checkpoint.best_model_path)
    begun = options.get("every_n_train_steps", 6)
    assert [stage for stage, _ in model.seen].count("train") == 12 - begun
    assert LossLog("run").series("G_L1").step.tolist() == list(range(12))


def test_a_run_that_begins_again_supersedes_what_was_logged(trainer, regression, batches):
    for count in (3, 2):
        with logged() as losses:
            trainer().fit(regression(losses), batches(*[1] * count))
    assert LossLog("run").series("G_L1").step.tolist() == [0, 1]


def test_a_checkpoint_loads_without_running_code(trainer, regression, batches):
    made = trainer()
    made.fit(regression(logged()), batches(1))
    made.save_checkpoint("made.ckpt")
    state = torch.load("made.ckpt", weights_only=True)["callbacks"]["LossCallback"]
    assert state["losses"]["manager"]["step"] == 0


def test_a_checkpoint_of_other_losses_is_refused(trainer, regression, batches):
    made = trainer()
    made.fit(regression(LossManager.from_spec("l1")), batches(1))
    made.save_checkpoint("made.ckpt")
    with pytest.raises(ObjectiveError, match="the state is of other losses"):
        trainer(max_epochs=2).fit(regression(LossManager.from_spec("l2")), batches(1), ckpt_path="made.ckpt")


def test_a_manager_without_a_state_is_told_of(trainer, regression, batches):
    made = trainer()
    made.fit(regression(), batches(1))
    made.save_checkpoint("made.ckpt")
    model = regression()
    model.others = LossManager.from_spec("l2")
    with pytest.warns(NectarganWarning, match="states of the managers 'losses', and the Light.* 'losses', 'others'"):
        trainer(max_epochs=2).fit(model, batches(1), ckpt_path="made.ckpt")


@pytest.mark.parametrize("entry", ["validate", "test"])
def test_a_test_of_an_earlier_checkpoint_supersedes_nothing(trainer, regression, batches, entry):
    losses = logged()
    model = regression(losses)
    made = trainer(max_epochs=1)
    made.fit(model, batches(1, 1))
    made.save_checkpoint("early.ckpt")
    made.fit_loop.max_epochs = 2
    made.fit(model, batches(1, 1))
    getattr(made, entry)(model, batches(1), ckpt_path="early.ckpt", verbose=False)
    assert losses.series("G_L1").step.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("resume", [True, False])
def test_a_test_in_a_new_process_has_the_clock_and_weights_of_the_checkpoint(trainer, regression, batches, resume):
    made = trainer(max_epochs=3)
    with logged() as losses:
        made.fit(regression(losses), batches(1, 1))
        made.save_checkpoint("made.ckpt")
    fade = Schedule(end_epoch=4, target_value=0.0)
    losses = LossManager.from_spec("8*l1", schedules={"G_L1": fade}, experiment_dir="run", resume=resume)
    trainer().test(regression(losses), batches(1), ckpt_path="made.ckpt", verbose=False)
    records = losses.series("test/G_L1")
    assert (records.step.tolist(), records.epoch.tolist(), records.weight.tolist()) == ([5], [2], [4.0])
    assert len(LossLog("run").series("G_L1") if resume else LossLog("run/loss_log.1.jsonl").series("G_L1")) == 6


class Learned(nn.Module):
    """A loss that learns how much a channel counts."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, y_fake, y):
        return ((y_fake - y).abs().mean(dim=(0, 2, 3)) * self.scale.exp() - self.scale).sum()


def learning(pl, regression, *, as_attribute):
    """A module whose loss learns, with the parameters of the loss in the module or beside it."""
    losses = LossManager()
    losses.register_loss_fn("G_LEARNED", Learned())

    class Module(regression):
        def configure_optimizers(self):
            mine = [] if as_attribute else self.losses.modules().parameters()
            return torch.optim.SGD([*self.parameters(), *mine], lr=0.1)

    module = Module(losses)
    if as_attribute:
        module.learned = losses.modules()
    return module


@pytest.mark.parametrize("as_attribute", [True, False])
def test_what_losses_learn_is_trained_and_restored_once(pl, trainer, regression, batches, as_attribute):
    made, model = trainer(), learning(pl, regression, as_attribute=as_attribute)
    made.fit(model, batches(1, 1))
    made.save_checkpoint("made.ckpt")
    learned = model.losses.modules()["G_LEARNED"].scale.detach()
    assert not torch.equal(learned, torch.ones(3))

    state = torch.load("made.ckpt", weights_only=True)
    assert ("learned.G_LEARNED.scale" in state["state_dict"]) is as_attribute
    assert set(state["callbacks"]["LossCallback"]["losses"]["learned"]) == (set() if as_attribute else {"G_LEARNED"})

    again = learning(pl, regression, as_attribute=as_attribute)
    trainer().test(again, batches(1), ckpt_path="made.ckpt", verbose=False)
    assert torch.equal(again.losses.modules()["G_LEARNED"].scale, learned)


def test_a_frozen_network_is_no_part_of_the_state(trainer, regression, batches):
    losses = LossManager()
    losses.register_loss_fn("G_FROZEN", Learned().requires_grad_(False))
    made = trainer()
    made.fit(regression(losses), batches(1))
    made.save_checkpoint("made.ckpt")
    assert torch.load("made.ckpt", weights_only=True)["callbacks"]["LossCallback"]["losses"]["learned"] == {}
