"""Input that cannot be taken as it was given is refused before anything is counted, and never silently changed."""

import copy
import math

import numpy as np
import pytest
import torch
from managers import ONE, ZERO, logged, mean
from pydantic import ValidationError
from torch import nn

from nectargan_core import ComputedLosses, Config, LMLoss, LossManager, Schedule
from nectargan_core.errors import NectarganWarning, ScheduleError, UnknownLossError

EPOCHS = [math.nan, math.inf, -math.inf, -1, -0.5, "x", "3", 10**400, [1], {}, 1j, torch.ones(2)]
CALLS = {
    "tick": lambda manager, epoch: manager.tick(epoch=epoch),
    "compute_loss_xy": lambda manager, epoch: manager.compute_loss_xy("a", ONE, ONE, epoch=epoch),
    "compute_loss": lambda manager, epoch: manager.compute_loss("a", ONE, ONE, epoch=epoch),
    "compute_losses": lambda manager, epoch: manager.compute_losses({"y_fake": ONE, "y": ONE}, epoch=epoch),
}


def everything(manager):
    return copy.deepcopy(manager.state_dict()), manager.get_loss_weights(), manager.series("a").loss.tolist()


# Positions


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("epoch", EPOCHS)
def test_an_epoch_that_is_none_is_refused_and_counts_nothing(call, epoch):
    manager = logged(mean)
    manager.compute_loss_xy("a", ONE, ONE)
    before = everything(manager)
    with pytest.raises(ValueError, match="epoch must be a finite number of at least 0"):
        CALLS[call](manager, epoch)
    assert everything(manager) == before


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("epoch", [0, 2.5, np.float32(1.5), np.int64(3), torch.tensor(1.5), True])
def test_any_number_is_an_epoch(call, epoch):
    CALLS[call](logged(mean), epoch)


@pytest.mark.parametrize(
    "change",
    [
        {"step": "7"},
        {"step": -2},
        {"step": 2**63},
        {"step": None},
        {"epoch": math.nan},
        {"epoch": "soon"},
        {"ticked": "yes"},
        {"counts": [1]},
        {"counts": {"a": "many"}},
        {"losses": []},
        {"losses": {"a": 3}},
        {"losses": {"a": {}}},
        {"losses": {"a": {"enabled": True, "weight": math.nan}}},
        {"losses": {"a": {"enabled": True, "schedule": {"schedule": "linear", "end": "late"}}}},
        {"losses": {"a": {"enabled": True, "schedule": {"schedule": "no-such-curve"}}}},
        {"version": 2},
    ],
)
def test_a_state_with_something_wrong_in_it_changes_nothing(change):
    manager = logged(mean)
    manager.tick(epoch=1)
    manager.compute_loss_xy("a", ONE, ONE)
    state, before = {**manager.state_dict(), "step": 0, "epoch": 0}, everything(manager)
    with pytest.raises(Exception) as caught:  # noqa: PT011 # which one is a matter of the field
        manager.load_state_dict({**state, **change})
    assert isinstance(caught.value, (ValueError, LookupError))
    assert everything(manager) == before


# Scalars


@pytest.mark.parametrize("value", ["abc", None, [1.0], {}, 1j, 10**400])
def test_a_scalar_that_is_no_number_is_refused_and_reserves_no_name(value):
    manager = logged(mean)
    with pytest.raises(TypeError, match="the value of 'lr' must be a number or a tensor"):
        manager.record("lr", value)
    manager.register_loss_fn("lr", mean)


# Weights


@pytest.mark.parametrize("weight", [nn.Parameter(torch.tensor(2.0)), torch.tensor(2.0, requires_grad=True) * 1])
def test_a_weight_that_could_be_learned_is_refused_and_not_made_a_number(weight):
    manager = logged(mean)
    for attempt in (
        lambda: LMLoss(name="b", function=mean, loss_weight=weight),
        lambda: manager.register_loss_fn("b", mean, weight),
        lambda: manager.set_weight("a", weight),
        lambda: LossManager.from_spec("sobel", weights={"G_SOBEL": weight}),
    ):
        with pytest.raises(ValidationError, match=r"requires a gradient.*manager\.modules\(\)"):
            attempt()
    assert manager.get_loss_weights() == {"a": 3.0}


@pytest.mark.parametrize("weight", [2, np.float32(2.0), torch.tensor(2.0), True * 2])
def test_any_number_is_a_weight(weight):
    manager = logged(mean)
    manager.set_weight("a", weight)
    assert manager.get_loss_weights() == {"a": 2.0}


@pytest.mark.parametrize(
    ("weight", "precision", "shown"),
    [
        (1e-4, 2, 1e-4),
        (-1.23456e-7, 2, -1.2e-7),
        (0.004, 2, 0.004),
        (0.006, 2, 0.01),
        (1e-4, 0, 1e-4),
        (0.0, 2, 0.0),
        (1.2345, 2, 1.23),
        (5e-324, 3, 5e-324),
        (1e-4, None, 1e-4),
    ],
)
def test_rounding_never_makes_a_number_zero(weight, precision, shown):
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: x, weight)
    assert manager.get_loss_weights(precision=precision) == {"a": shown}
    manager.compute_loss_xy("a", torch.tensor(1.0, dtype=torch.float64), None)
    assert manager.get_loss_values(precision=precision) == {"a": shown}
    if precision is not None:
        assert f"a: {shown}" in manager.print_losses(0, 0, precision, capture=True)


def test_weights_and_schedules_are_set_by_a_query():
    manager = LossManager()
    for name, tag in (("G_A", "G"), ("G_B", "G"), ("D_A", "D")):
        manager.register_loss_fn(name, mean, tags=[tag])
    manager.set_weight("G", 5.0)
    assert manager.get_loss_weights() == {"G_A": 5.0, "G_B": 5.0, "D_A": 1.0}
    manager.set_schedule(["G_B", "D"], Schedule(end=10, target_value=0.0))
    manager.tick(epoch=5)
    assert manager.get_loss_weights() == {"G_A": 5.0, "G_B": 2.5, "D_A": 0.5}
    with pytest.raises(UnknownLossError, match="no loss has the name or tag 'X'"):
        manager.set_weight("X", 1.0)


def test_a_schedule_that_one_loss_cannot_have_changes_none():
    manager = LossManager()
    manager.register_loss_fn("a", mean, 1.0, tags=["G"])
    manager.register_loss_fn("b", mean, -1.0, tags=["G"])
    with pytest.raises(ScheduleError):
        manager.set_schedule("G", Schedule("exponential", end=10, target_value=5.0))
    assert not any(loss.schedule.is_scheduled for loss in manager.get_registered_losses().values())


# Configuration


@pytest.mark.parametrize("key", ["lambda_L1", "lambda-l1", "Lambda_l1", "lambda.l1", "lambdal1"])
def test_a_key_that_differs_by_case_or_separators_only_is_warned_of(key):
    config = Config.model_validate({"train": {"loss": {key: 50}}})
    with pytest.warns(NectarganWarning, match=rf"sets train\.loss\.{key}.*write train\.loss\.lambda_l1"):
        assert config.loss_weight("l1", default=100.0) == 100.0


def test_keys_of_losses_that_are_not_in_use_are_not_warned_of(recwarn):
    config = Config.model_validate(
        {"train": {"loss": {"lambda_vgg": 1, "lambda_mine": 2, "lambda_l1": 3, "lambda_L1": 4}}}
    )
    assert config.loss_weight("l1", default=100.0) == 3.0
    assert not recwarn.list


# Results


def test_a_total_of_half_precision_does_not_overflow():
    losses = ComputedLosses({name: torch.tensor(4e4, dtype=torch.float16) for name in "abc"})
    assert (losses.total.item(), losses.total.dtype) == (120000.0, torch.float32)


def test_a_mask_of_one_channel_gives_the_mean_over_what_it_leaves():
    manager = LossManager()
    masked = {"y_fake": torch.zeros(1, 3, 8, 8), "y": torch.ones(1, 3, 8, 8), "mask": torch.ones(1, 1, 8, 8)}

    def masked_l1(y_fake, y, mask):
        mask = mask.expand_as(y)
        return ((y_fake - y).abs() * mask).sum() / mask.sum()

    manager.register_loss_fn("a", masked_l1, inputs=("y_fake", "y", "mask"))
    assert manager.compute_losses(masked).total.item() == 1.0


def test_a_loss_that_is_registered_alone_may_run_at_weight_zero():
    manager, calls = LossManager(), []
    manager.register_loss_fn("a", lambda x, y: calls.append(1) or x.sum(), 0.0, skip_when_zero=False)
    manager.compute_loss_xy("a", ONE, ZERO)
    assert calls == [1]
