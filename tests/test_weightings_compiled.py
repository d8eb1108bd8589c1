"""Weightings beside `torch.compile`: factors of the values of the tick before, or learned in the graph."""

from __future__ import annotations

import pytest
import torch
from balancing import Inverse, Learned, Recorded, numbers, set_up
from managers import history, manager_of

from nectargan_core import LMLoss, Schedule
from nectargan_core.errors import WeightingError

# What compilers of torch warn of themselves.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch"),
]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(manager, query="G", **kwargs):
    function = torch.compile(lambda inputs: manager.compute_losses(inputs, query), backend="eager", **kwargs)

    def step():
        manager.tick()
        return function({"y_fake": torch.ones(1, requires_grad=True), "y": None})

    return step


def test_factors_come_from_the_values_of_the_tick_before():
    weighting = Recorded(2.0, 3.0)
    manager = set_up(weighting)
    step = compiled(manager, fullgraph=True)
    assert [numbers(step())["a"] for _ in range(3)] == [10.0, 20.0, 30.0]
    assert [(each.names, each.values, each.step) for each in weighting.steps] == [
        (("a", "b", "c"), [1.0, 2.0, 3.0], 0),
        (("a", "b", "c"), [1.0, 2.0, 3.0], 1),
    ]
    assert history(manager, "a").weights == [10.0, 20.0, 30.0]
    assert history(manager, "a").losses == [10.0, 20.0, 30.0]


def test_changing_factors_compile_once():
    step = compiled(set_up(Recorded(*[float(number) for number in range(1, 9)])), fullgraph=True)
    step()
    with torch.compiler.set_stance("fail_on_recompile"):
        assert [numbers(step())["a"] for _ in range(4)] == [10.0, 20.0, 30.0, 40.0]


def test_every_holds_in_compiled_code():
    step = compiled(set_up(Recorded(2.0, 3.0, 4.0), every=2))
    assert [numbers(step())["a"] for _ in range(6)] == [10.0, 20.0, 20.0, 30.0, 30.0, 40.0]


def test_a_compiled_split_or_evaluation_changes_no_factors():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    step = compiled(manager)
    with manager.split("val"):
        step()
    with torch.no_grad():
        step()
    manager.tick()
    assert not weighting.steps


def test_what_is_learned_is_part_of_the_graph():
    eager, traced = set_up(Learned), set_up(Learned)
    step = compiled(traced, fullgraph=True)
    totals = []
    for manager in (eager, traced):
        parameters = manager._registry.weightings[0].parameters
        optimizer = torch.optim.SGD(parameters.parameters(), lr=0.01)
        each = []
        for _ in range(3):
            optimizer.zero_grad()
            if manager is traced:
                losses = step()
            else:
                manager.tick()
                losses = manager.compute_losses({"y_fake": torch.ones(1, requires_grad=True), "y": None}, "G")
            losses.total.backward()
            optimizer.step()
            each.append(losses.total.item())
        totals.append([*each, *[parameter.item() for parameter in parameters.values()]])
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)
    for name in "abc":
        assert history(traced, name).weights == pytest.approx(history(eager, name).weights, rel=1e-6)
    assert traced.latest("Learned") == {"Learned": pytest.approx(eager.latest("Learned")["Learned"], rel=1e-6)}


def test_a_loss_whose_schedule_is_zero_takes_no_part_in_a_graph():
    manager = set_up(Learned)
    manager.set_schedule("b", Schedule(lambda schedule, step: float(step >= 2), unit="step", end=2))
    step = compiled(manager, fullgraph=True)
    parameter = manager._registry.weightings[0].parameters["b"]
    for reached in (False, False, True):
        parameter.grad = None
        step().total.backward()
        assert (parameter.grad is not None) == reached


def test_a_weighting_of_gradients_says_that_a_graph_gives_none():
    with pytest.raises(WeightingError, match="needs gradients, which a compiled graph does not give"):
        compiled(set_up(Inverse(), wrt="y_fake"))()


def test_a_single_loss_in_a_graph_keeps_its_factor():
    manager = set_up(Learned)
    with torch.no_grad():
        manager._registry.weightings[0].parameters["a"].fill_(-0.5)
    manager.compute_losses({"y_fake": torch.ones(1, requires_grad=True), "y": None}, "G")
    function = torch.compile(lambda x: manager.compute_loss_xy("a", x, None), backend="eager", fullgraph=True)
    expected = manager.get_loss_weights("a", None)["a"]
    assert function(torch.ones(1)).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("weighting", [Learned, Recorded(2.0)])
def test_components_are_recorded_with_the_weight_that_was_applied(weighting):
    losses = [
        LMLoss(name="p", function=lambda y_fake, y: {"x": y_fake.sum(), "y": 2 * y_fake}, tags=["G"]),
        LMLoss(name="q", function=lambda y_fake, y: y_fake.sum(), tags=["G"]),
    ]
    manager = set_up(weighting, manager=manager_of(*losses, enable_logging=True))
    step = compiled(manager, fullgraph=True)
    for expected in (1.0, 2.0):
        losses = step()
        if weighting is not Learned:
            assert losses["p"].item() == 3 * expected
    assert manager.series("p.y").loss.tolist() == [2.0, 2.0 * history(manager, "p").weights[1]]
    assert manager.series("p.y").weight.tolist() == history(manager, "p").weights


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
@pytest.mark.parametrize("weighting", [Learned, Recorded(2.0, 3.0, 4.0)])
def test_other_backends_give_the_same(backend, weighting):
    manager = set_up(weighting)
    function = torch.compile(lambda x: manager.compute_losses({"y_fake": x, "y": None}, "G").total, backend=backend)
    for _ in range(3):
        manager.tick()
        x = torch.ones(1, requires_grad=True)
        total = function(x)
        total.backward()
        weights = manager.get_loss_weights(precision=None)
        assert total.item() == pytest.approx(weights["a"] + 2 * weights["b"] + 3 * weights["c"])
        assert x.grad.item() == pytest.approx(total.item())
