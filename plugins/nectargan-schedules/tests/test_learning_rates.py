"""Every curve as a learning rate: by epoch, by step, at fractional epochs, and after a checkpoint is loaded."""

import io

import pytest
import torch

from nectargan_core import Scheduler, TorchScheduler

LR = 0.1


def make(curve):
    one, other = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = torch.optim.SGD([{"params": [one], "lr": LR}, {"params": [other], "lr": 0.5}])
    return optimizer, TorchScheduler(optimizer, curve)


def rates(optimizer):
    return [group["lr"] for group in optimizer.param_groups]


def expected(curve, epochs):
    scheduler = Scheduler(curve)
    return [[LR * scheduler.value(epoch), 0.5 * scheduler.value(epoch)] for epoch in epochs]


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_every_step_sets_the_base_times_the_value(curve, in_steps, unit):
    schedule = curve if unit == "epoch" else in_steps(curve)
    optimizer, scheduler = make(schedule)
    seen = [rates(optimizer)]
    for _ in range(12):
        optimizer.step()
        scheduler.step()
        seen.append(rates(optimizer))
    assert seen == expected(curve, range(13))


def test_the_scheduler_can_be_stepped_to_fractional_epochs(curve):
    optimizer, scheduler = make(curve)
    seen = []
    for index in range(24):
        optimizer.step()
        scheduler.step(index / 2)
        seen.append(rates(optimizer))
    assert seen == expected(curve, [index / 2 for index in range(24)])


def test_a_loaded_checkpoint_continues_with_the_same_rates(curve, in_steps):
    optimizer, scheduler = make(in_steps(curve))
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    optimizer, scheduler = make(in_steps(curve))
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    assert rates(optimizer) == expected(curve, [5])[0]
    seen = []
    for _ in range(6):
        optimizer.step()
        scheduler.step()
        seen.append(rates(optimizer))
    assert seen == expected(curve, range(6, 12))
