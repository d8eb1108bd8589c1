"""Logs that several test modules use."""

from __future__ import annotations

import json

import torch

from nectargan_core import LossManager

NAME = "loss_log.jsonl"


def identity(x, y):
    return x * 1


def manager_in(directory, weight=3.0, names=("a",), **kwargs):
    manager = LossManager(experiment_dir=directory, **kwargs)
    for name in names:
        manager.register_loss_fn(name, identity, weight)
    return manager


def write(directory, values, weight=3.0, **kwargs):
    """Log the values of a loss `a`, one per step; return the reported values."""
    reported = []
    with manager_in(directory, weight, nonfinite="ignore", **kwargs) as manager:
        for value in values:
            manager.tick()
            manager.compute_loss_xy("a", value if isinstance(value, torch.Tensor) else torch.tensor(value), None)
            reported.append(manager.get_loss_values(precision=None)["a"])
    return reported


def strictly(text):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)
