"""Shared fixtures: a step as core gives it to a weighting, and a weighting of every class with steps for it."""

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


# Those whose factors sum to the number of losses, those that have a state, and those that leave one loss alone.
SOME = {
    "make": lambda name: True,
    "make_of_sum_n": lambda name: name.startswith(("dwa", "gradnorm", "random", "softadapt")),
    "make_with_state": lambda name: name not in ("last-layer", "random"),
    "make_of_1_alone": lambda name: name != "balancer",
}


def pytest_generate_tests(metafunc):
    for argument, chosen in SOME.items():
        if argument in metafunc.fixturenames:
            makes = {name: make for name, make in MAKES.items() if chosen(name)}
            metafunc.parametrize(argument, makes.values(), ids=makes)


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
