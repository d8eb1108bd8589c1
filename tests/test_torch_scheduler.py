"""Learning rates that follow a schedule: an ordinary scheduler of torch, whose state is plain data."""

import io

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import ConstantLR, LambdaLR, LRScheduler, SequentialLR

from nectargan_core import Schedule, TorchScheduler
from nectargan_core.errors import ScheduleError, UnknownScheduleError

DECAY = Schedule(start_epoch=2, end_epoch=6, target_value=0.0)


def optimizer_of(*rates, tensor=False):
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": torch.tensor(lr) if tensor else lr} for lr in rates]
    return torch.optim.Adam(groups, capturable=False, foreach=False) if tensor else torch.optim.SGD(groups)


def rates(scheduler):
    return [float(lr) for lr in scheduler.get_last_lr()]


def run(scheduler, steps):
    """Return the learning rate of the first group at each epoch, from the present one on."""
    seen = [rates(scheduler)[0]]
    for _ in range(steps):
        scheduler.optimizer.step()
        scheduler.step()
        seen.append(rates(scheduler)[0])
    return seen


def test_it_is_a_scheduler_of_torch():
    assert isinstance(TorchScheduler(optimizer_of(0.1), DECAY), LRScheduler)


def test_the_rate_is_the_base_times_the_value_of_the_schedule():
    seen = run(TorchScheduler(optimizer_of(0.4), DECAY), 8)
    assert seen == pytest.approx([0.4, 0.4, 0.4, 0.3, 0.2, 0.1, 0.0, 0.0, 0.0])


def test_it_agrees_with_lambda_lr():
    ours = TorchScheduler(optimizer_of(0.4), Schedule("exponential", end_epoch=10, target_value=0.01))
    theirs = LambdaLR(optimizer_of(0.4), lambda epoch: 0.01 ** min(1.0, epoch / 10))
    assert run(ours, 12) == pytest.approx(run(theirs, 12))


def test_every_group_has_its_own_base():
    scheduler = TorchScheduler(optimizer_of(0.4, 0.8), Schedule(end_epoch=2, target_value=0.0))
    run(scheduler, 1)
    assert rates(scheduler) == pytest.approx([0.2, 0.4])
    assert [group["lr"] for group in scheduler.optimizer.param_groups] == pytest.approx([0.2, 0.4])


def test_the_value_at_the_beginning_is_applied_at_once():
    scheduler = TorchScheduler(optimizer_of(0.4), Schedule(end_epoch=4, initial_value=0.5, target_value=1.0))
    assert rates(scheduler) == pytest.approx([0.2])


@pytest.mark.parametrize("tensor", [False, True])
def test_get_lr_change_returns_the_rate_before_and_after_the_last_step(tensor):
    scheduler = TorchScheduler(optimizer_of(0.4, tensor=tensor), DECAY)
    run(scheduler, 3)
    previous, new = scheduler.get_lr_change()
    assert (previous, new) == pytest.approx((0.4, 0.3))
    assert type(previous) is type(new) is float
    run(scheduler, 1)
    assert scheduler.get_lr_change() == pytest.approx((0.3, 0.2))


def test_get_lr_change_before_any_step_returns_the_same_rate_twice():
    assert TorchScheduler(optimizer_of(0.4), DECAY).get_lr_change() == (0.4, 0.4)


@pytest.mark.parametrize("tensor", [False, True])
def test_its_state_is_plain_data_that_loads_by_default(tensor):
    scheduler = TorchScheduler(optimizer_of(0.4, tensor=tensor), DECAY)
    run(scheduler, 3)
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    assert state.keys() == scheduler.state_dict().keys()
    assert not [key for key, value in state.items() if callable(value)]


def test_a_scheduler_with_a_function_as_the_schedule_can_be_saved():
    scheduler = TorchScheduler(optimizer_of(0.4), Schedule(lambda schedule, epoch: 0.5, end_epoch=3))
    file = io.BytesIO()
    torch.save(scheduler.state_dict(), file)
    file.seek(0)
    torch.load(file, weights_only=True)


@pytest.mark.parametrize("at", range(9))
def test_a_resumed_run_continues_with_the_same_rates(at):
    whole = run(TorchScheduler(optimizer_of(0.4), DECAY), 8)
    first = TorchScheduler(optimizer_of(0.4), DECAY)
    before = run(first, at)
    optimizer = optimizer_of(0.4)
    optimizer.load_state_dict(first.optimizer.state_dict())
    second = TorchScheduler(optimizer_of(0.4), DECAY)
    second.load_state_dict(first.state_dict())
    assert rates(second) == before[-1:]
    assert second.get_lr_change() == first.get_lr_change()
    assert before + run(second, 8 - at)[1:] == whole


def test_it_begins_at_last_epoch():
    optimizer = optimizer_of(0.4)
    optimizer.param_groups[0]["initial_lr"] = 0.4
    scheduler = TorchScheduler(optimizer, DECAY, last_epoch=3)
    assert rates(scheduler) == pytest.approx([0.2])


@pytest.mark.parametrize(("epoch", "rate"), [(0, 0.4), (3, 0.3), (4.5, 0.15), (100, 0.0)])
def test_step_goes_to_a_given_epoch_without_a_warning(epoch, rate):
    scheduler = TorchScheduler(optimizer_of(0.4), DECAY)
    scheduler.optimizer.step()
    scheduler.step(epoch)
    assert rates(scheduler) == pytest.approx([rate])
    assert scheduler.last_epoch == epoch


def test_it_works_in_sequential_lr():
    optimizer = optimizer_of(0.4)
    warmup = ConstantLR(optimizer, factor=0.5, total_iters=2)
    ours = TorchScheduler(optimizer, Schedule(end_epoch=2, target_value=0.0))
    combined = SequentialLR(optimizer, [warmup, ours], milestones=[2])
    seen = []
    for _ in range(5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        combined.step()
    assert seen == pytest.approx([0.2, 0.2, 0.4, 0.2, 0.0])


def test_an_invalid_schedule_is_an_error_and_does_not_change_the_optimizer():
    optimizer = optimizer_of(0.4)
    with pytest.raises(UnknownScheduleError):
        TorchScheduler(optimizer, Schedule("no-such-curve"))
    with pytest.raises(ScheduleError):
        TorchScheduler(optimizer, Schedule("exponential", end_epoch=3, target_value=0.0))
    assert "initial_lr" not in optimizer.param_groups[0]


def test_a_curve_that_needs_an_end_is_refused_without_one():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    with pytest.raises(ScheduleError, match="needs an end"):
        TorchScheduler(optimizer, Schedule(target_value=0.0))


def test_what_is_not_scheduled_keeps_the_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    scheduler = TorchScheduler(optimizer, Schedule())
    optimizer.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [0.1]
