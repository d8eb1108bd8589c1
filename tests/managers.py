"""Managers and losses that several test modules use."""

from __future__ import annotations

import math

import torch
from torch import nn

from nectargan_core import LMLoss, LossManager, Schedule

ZERO, ONE = torch.zeros(4), torch.ones(4)


def mean(x, y):
    return (x + y).mean()


def manager_of(*losses, **kwargs):
    manager = LossManager(**kwargs)
    manager.register_spec(lambda: {loss.name: loss for loss in losses})
    return manager


def one(weight=3.0, function=mean, **fields):
    return manager_of(LMLoss(name="a", function=function, loss_weight=weight, **fields))


def decaying(weight=100.0, **kwargs):
    manager = LossManager(**kwargs)
    manager.register_loss_fn("a", mean, weight, Schedule(start_epoch=10, end_epoch=20, target_value=0.0))
    return manager


def adversarial(**kwargs):
    return manager_of(
        LMLoss(name="G_L1", function=nn.L1Loss(), loss_weight=100.0, tags=["G"]),
        LMLoss(name="G_GAN", function=lambda pred: -pred.mean(), tags=["G"], inputs=("pred_fake",)),
        LMLoss(name="D_real", function=lambda pred: pred.mean(), tags=["D"], inputs=("pred_real",)),
        **kwargs,
    )


def identity(x, y):
    return x * 1


def logged(function=identity, weight=3.0, **kwargs):
    manager = LossManager(enable_logging=True, **kwargs)
    manager.register_loss_fn("a", function, weight)
    return manager


def history(manager, name="a"):
    return manager.get_registered_losses(strip=False)[name].history


def loss(function, **kwargs):
    return LMLoss(name="a", function=function, **kwargs)


def same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))
