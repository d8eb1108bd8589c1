"""Every curve in a run: the weights that are applied, reported and logged are equal."""

import torch

from nectargan_core import LossLog, LossManager, Scheduler

ONE = torch.ones((), dtype=torch.float64)
EPOCHS = [index / 4 for index in range(48)]


def identity(value):
    return value


def run(curve, directory, clock):
    """Compute a loss whose unweighted value is 1 at every tick; return what was applied and what was reported."""
    applied, reported = [], []
    with LossManager(experiment_dir=directory) as manager:
        manager.register_loss_fn("loss", identity, schedule=curve, inputs=("one",))
        for tick in clock:
            manager.tick(**tick)
            applied.append(manager.compute_losses({"one": ONE})["loss"].item())
            reported.append(manager.get_loss_weights(precision=None)["loss"])
    return applied, reported


def test_applied_reported_and_logged_weights_are_equal_at_every_epoch(curve, tmp_path):
    applied, reported = run(curve, tmp_path, [{"epoch": epoch} for epoch in EPOCHS])
    series = LossLog(tmp_path).series("loss")
    expected = [Scheduler(curve).value(epoch) for epoch in EPOCHS]
    assert applied == reported == series.weight.tolist() == series.loss.tolist() == expected
    assert series.epoch.tolist() == EPOCHS


def test_applied_reported_and_logged_weights_are_equal_at_every_step(curve, in_steps, tmp_path):
    applied, reported = run(in_steps(curve), tmp_path, [{"epoch": 100, "step": step} for step in range(12)])
    series = LossLog(tmp_path).series("loss")
    expected = [Scheduler(curve).value(step) for step in range(12)]
    assert applied == reported == series.weight.tolist() == series.loss.tolist() == expected
    assert series.step.tolist() == list(range(12))


def test_a_resumed_run_continues_with_the_same_weights(curve, in_steps, tmp_path):
    clock = [{"step": step} for step in range(12)]
    whole, _ = run(in_steps(curve), tmp_path / "whole", clock)

    def manager():
        made = LossManager(enable_logging=True)
        made.register_loss_fn("loss", identity, schedule=in_steps(curve), inputs=("one",))
        return made

    first, second, applied = manager(), manager(), []
    for tick in clock[:5]:
        first.tick(**tick)
        applied.append(first.compute_losses({"one": ONE})["loss"].item())
    second.load_state_dict(first.state_dict())
    for tick in clock[5:]:
        second.tick(**tick)
        applied.append(second.compute_losses({"one": ONE})["loss"].item())
    assert applied == whole
