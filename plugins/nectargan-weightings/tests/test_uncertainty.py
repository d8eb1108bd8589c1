"""`uncertainty` against a plain loop of torch, its parameters, and the same in compiled code."""

import pytest
import torch
from nectargan_weightings import Uncertainty
from packaging.version import Version

from nectargan_core import LossManager, Weighting


def quadratic(place, scale):
    return lambda p: scale * (p[place] - 1.0) ** 2


def manager_of(names, weights=(1.0, 1.0), **kwargs):
    manager = LossManager(enable_logging=True)
    for place, (name, weight) in enumerate(zip(names, weights, strict=True)):
        manager.register_loss_fn(name, quadratic(place, 10.0**place), loss_weight=weight, inputs=("p",), tags=["G"])
    manager.set_weighting(Weighting("uncertainty", **kwargs), query="G")
    return manager


def plain(weights, steps, lr):
    """The objective of the paper, times 2, with its variances as parameters; returns p, s and the totals."""
    p, s = torch.zeros(2, requires_grad=True), torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([p, s], lr=lr)
    totals = []
    for _ in range(steps):
        losses = torch.stack([quadratic(place, 10.0**place)(p) for place in range(2)])
        total = (torch.tensor(weights) * losses * torch.exp(-s) + s).sum()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    return p.tolist(), s.tolist(), totals


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5)])
def test_it_is_the_objective_of_the_paper_in_torch(weights):
    manager = manager_of(("a.b", "keys"), weights)
    p = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.Adam([p, *manager.modules().parameters()], lr=0.05)
    totals = []
    for _ in range(30):
        manager.tick()
        total = manager.compute_losses({"p": p}).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    expected = plain(weights, 30, 0.05)
    assert totals == pytest.approx(expected[2], rel=1e-5)
    assert p.tolist() == pytest.approx(expected[0], rel=1e-5)
    assert [each.item() for each in manager.modules().parameters()] == pytest.approx(expected[1], rel=1e-5)


def test_only_losses_that_run_have_a_term(step):
    weighting = Uncertainty()
    weighting.begin(["a", "b", "c"])
    for value, parameter in enumerate(weighting.parameters.parameters()):
        parameter.data.fill_(value + 1.0)
    now = step(("c", "a"), [1.0, 1.0])
    assert weighting.factors(now).tolist() == pytest.approx(torch.exp(torch.tensor([-3.0, -1.0])).tolist())
    weighting.extra(now).backward()
    assert weighting.extra(now).item() == 4.0
    assert [parameter.grad is None for parameter in weighting.parameters.parameters()] == [False, True, False]


@pytest.mark.parametrize("names", [("a.b", "a%2Eb", "a%b"), ("", " ", "é"), ("keys", "train", "training")])
def test_a_loss_may_have_any_name(step, names):
    weighting = Uncertainty()
    weighting.begin(names)
    assert len(weighting.parameters.state_dict()) == 3
    assert weighting.factors(step(names, [1.0] * 3)).tolist() == [1.0] * 3


def test_a_loss_of_weight_0_is_not_learned():
    manager = manager_of(("a", "b"), (1.0, 0.0))
    manager.compute_losses({"p": torch.zeros(2, requires_grad=True)}).total.backward()
    a, b = manager.modules().parameters()
    assert a.grad is not None
    assert b.grad is None


def test_the_terms_are_recorded_under_its_name():
    manager = manager_of(("a", "b"))
    for parameter in manager.modules().parameters():
        parameter.data.fill_(0.25)
    manager.compute_losses({"p": torch.zeros(2, requires_grad=True)})
    assert manager.latest("uncertainty") == {"uncertainty": 0.5}


@pytest.mark.skipif(Version(torch.__version__) < Version("2.7"), reason="needs PyTorch 2.7")
def test_compiled_code_learns_the_same():
    compiled, eager, results = manager_of(("a.b", "c")), manager_of(("a.b", "c")), []
    for manager in (compiled, eager):
        p = torch.zeros(2, requires_grad=True)

        def total(p, manager=manager):
            return manager.compute_losses({"p": p}).total

        function = torch.compile(total, backend="eager", fullgraph=True) if manager is compiled else total
        optimizer = torch.optim.SGD([p, *manager.modules().parameters()], lr=0.02)
        for _ in range(5):
            manager.tick()
            optimizer.zero_grad()
            function(p).backward()
            optimizer.step()
        results.append([*p.tolist(), *(each.item() for each in manager.modules().parameters())])
        results[-1] += manager.get_loss_weights(precision=None).values()
    assert results[0] == pytest.approx(results[1], rel=1e-6)
