"""Shared fixtures: a step as core gives it to a weighting, and a weighting of every class with steps for it."""

import json
from dataclasses import dataclass, field

import nectargan_weightings as weightings
import pytest
import torch


@dataclass
class Step:
    """What a weighting reads of a step; gradients are given, one tensor of `wrt` each, or norms stand for them."""

    names: tuple
    values: list
    weights: list = None
    step: int = 0
    epoch: float = 0.0
    rows: list = field(default_factory=list)

    def __post_init__(self):
        self.weights = [1.0] * len(self.names) if self.weights is None else self.weights

    @property
    def tensors(self):
        return torch.tensor(self.values)

    def gradients(self):
        return self.rows

    def norms(self):
        return torch.stack([torch.cat([each.reshape(-1).float() for each in row]).norm() for row in self.rows])


MAKES = {
    "balancer": lambda: weightings.Balancer(ema_decay=0.9),
    "dwa": weightings.DynamicWeightAverage,
    "gradnorm": weightings.GradNorm,
    "last-layer": lambda: weightings.LastLayer(loss="b"),
    "random": lambda: weightings.RandomWeighting(seed=3),
    "relobralo": lambda: weightings.ReLoBRaLo(alpha=0.9, rho=0.7),
    "softadapt": lambda: weightings.SoftAdapt(accuracy_order=2),
    "softadapt normalized": lambda: weightings.SoftAdapt(accuracy_order=2, variant="normalized"),
    "softadapt loss-weighted": lambda: weightings.SoftAdapt(accuracy_order=2, variant="loss-weighted"),
}


def pytest_generate_tests(metafunc):
    if "make" in metafunc.fixturenames:
        metafunc.parametrize("make", MAKES.values(), ids=MAKES)


@pytest.fixture(scope="session")
def step():
    return Step


@pytest.fixture(scope="session")
def steps():
    """Return a function that makes steps of arbitrary values, two in an epoch, for losses that come and go."""

    def made(count, names=("a", "b", "c"), seed=0):
        generator = torch.Generator().manual_seed(seed)
        made = []
        for index in range(count):
            values = (torch.rand(len(names), generator=generator, dtype=torch.float64) + 0.1).tolist()
            rows = [[torch.randn(4, 3, generator=generator)] for _ in names]
            made.append(Step(tuple(names), values, None, index, index / 2, rows))
        return made

    return made


@pytest.fixture(scope="session")
def resumed():
    """Return a function that goes on where a weighting is, in a new one that has seen its state as JSON only."""

    def resume(weighting, make):
        state = (
            json.loads(json.dumps(weighting.state_dict(), allow_nan=False))
            if hasattr(weighting, "state_dict")
            else None
        )
        new = make()
        if state is not None:
            new.load_state_dict(state)
        return new

    return resume
