"""Weightings, and managers whose losses they balance, that several test modules use."""

from __future__ import annotations

import torch
from managers import manager_of
from torch import nn

from nectargan_core import LMLoss, Weighting


class Recorded:
    """Gives the factors of a list, one list a call, and keeps the steps that it was asked at."""

    needs = "values"

    def __init__(self, *given):
        self.given = list(given)
        self.steps = []

    def __call__(self):
        return self

    def factors(self, step):
        self.steps.append(step)
        factors = self.given.pop(0) if len(self.given) > 1 else self.given[0]
        return factors if isinstance(factors, (list, torch.Tensor)) else [factors] * len(step.names)


class Inverse:
    """1 over the norm of the gradient."""

    needs = "gradients"

    def factors(self, step):
        self.step = step
        return 1 / step.norms()

    def __call__(self):
        return self


class Learned:
    """exp(-s) of a parameter a loss, with the sum of all s in the total."""

    needs = "values"

    def begin(self, names):
        self.parameters = nn.ParameterDict({name: nn.Parameter(torch.zeros(())) for name in names})

    def stacked(self, step):
        return torch.stack([self.parameters[name] for name in step.names])

    def factors(self, step):
        return torch.exp(-self.stacked(step))

    def extra(self, step):
        return self.stacked(step).sum()


def linear(slope):
    return lambda y_fake, y: slope * y_fake.sum()


def three(**kwargs):
    """Losses with gradients of 1, 2 and 3 with respect to `y_fake`, and weights of 10, 20 and 30."""
    return manager_of(
        *[
            LMLoss(name=name, function=linear(slope), loss_weight=10.0 * slope, tags=["G"])
            for name, slope in (("a", 1.0), ("b", 2.0), ("c", 3.0))
        ],
        **kwargs,
    )


def given(value=1.0):
    return {"y_fake": torch.tensor([value], requires_grad=True), "y": torch.zeros(1)}


def numbers(losses):
    return {name: result.item() for name, result in losses.items()}


def set_up(weighting, query="G", manager=None, **kwargs):
    manager = three(enable_logging=True) if manager is None else manager
    definition = {name: kwargs.pop(name) for name in ("every", "reduce") if name in kwargs}
    manager.set_weighting(Weighting(weighting, **definition), query, **kwargs)
    return manager
