"""Weightings beside `torch.compile`: factors of the values of the tick before, or learned in the graph."""

from __future__ import annotations

import json
import math

import pytest
import torch
from balancing import Inverse, Learned, Recorded, numbers, set_up
from managers import history, manager_of

from nectargan_core import LMLoss, Schedule
from nectargan_core.errors import PluginContractError, WeightingError

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


class Decayed:
    """Factors from a moving sum of the values, so that each call counts."""

    needs = "values"

    def __init__(self):
        self.sums = {}

    def factors(self, step):
        for name, value in zip(step.names, step.values, strict=True):
            self.sums[name] = 0.5 * self.sums.get(name, 0.0) + value
        return [self.sums[name] for name in step.names]

    def state_dict(self):
        return {"sums": self.sums}

    def load_state_dict(self, state):
        self.sums = state["sums"]


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_run_that_is_resumed_before_the_tick_after_a_graph_goes_on_with_the_same_factors(cut):
    def run(manager, steps):
        step = compiled(manager)
        return [numbers(step())["a"] for _ in range(steps)]

    expected = run(set_up(Decayed), 4)
    first = set_up(Decayed)
    begun = run(first, cut)
    state = json.loads(json.dumps(first.state_dict()))
    second = set_up(Decayed)
    second.load_state_dict(state)
    assert begun + run(second, 4 - cut) == expected


@pytest.mark.parametrize("seen", [3, {"names": ["a"]}, {"names": [1], "values": [1.0], "weights": [1.0]}])
def test_a_state_in_which_it_is_not_what_a_graph_computed_is_refused(seen):
    manager = set_up(Decayed)
    state = manager.state_dict()
    state["weightings"]["Decayed"]["seen"] = seen
    with pytest.raises(ValueError, match="expected what LossManager.state_dict"):
        manager.load_state_dict(state)


def test_factors_change_once_a_tick_in_which_a_graph_and_eager_code_compute():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    step = compiled(manager)
    step()
    manager.compute_losses({"y_fake": torch.ones(1, requires_grad=True), "y": None}, "G")
    manager.tick()
    assert [each.step for each in weighting.steps] == [0]


def test_a_loss_that_is_unregistered_before_the_next_tick_takes_no_part():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    compiled(manager)()
    manager.unregister("b")
    manager.tick()
    assert [(each.names, each.values, each.weights) for each in weighting.steps] == [
        (("a", "c"), [1.0, 3.0], [10.0, 30.0])
    ]


def test_a_factor_of_zero_is_recorded_as_in_eager_code():
    manager = set_up(Recorded([0.0, 1.0, 1.0]))
    step = compiled(manager)
    for _ in range(2):
        step()
    records = history(manager, "a")
    assert (records.losses, records.weights, records.unweighted) == ([10.0, 0.0], [10.0, 0.0], [1.0, 1.0])
    assert manager.means("a") == {"a": 5.0}


def test_a_factor_that_is_not_finite_is_an_error_in_compiled_code():
    manager = set_up(Learned)
    step = compiled(manager, fullgraph=True)
    step()
    torch.nn.init.constant_(manager.modules()["Learned"]["b"], torch.nan)
    with pytest.raises(WeightingError, match="'Learned' gave the factor nan for loss 'b' in compiled code"):
        step()
    assert manager.get_loss_weights("b") == {"b": 20.0}


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("factors", lambda s: [1.0] * 3, "gave a list as factors inside torch.compile; expected a vector"),
        ("factors", lambda s: torch.ones(5), r"gave factors of the shape \(5,\) for 3 losses"),
        ("extra", lambda s: torch.ones(2), r"gave Tensor of shape \(2,\) as extra; expected a scalar"),
    ],
)
@pytest.mark.slow
def test_what_breaks_the_contract_in_compiled_code_is_named(method, given, message):
    class Broken(Learned):
        pass

    setattr(Broken, method, lambda self, step: given(step))
    with pytest.raises(PluginContractError, match=message):
        compiled(set_up(Broken))()


def test_an_extra_with_one_element_leaves_the_total_a_scalar():
    class Other(Learned):
        def extra(self, step):
            return self.parameters["a"].reshape(1)

    assert compiled(set_up(Other))().total.shape == ()


def test_what_is_learned_holds_without_gradients_as_in_eager_code():
    manager = set_up(Learned)
    step = compiled(manager)
    step()
    torch.nn.init.constant_(manager.modules()["Learned"]["a"], 5.0)
    with torch.no_grad():
        losses = step()
    assert numbers(losses) == {"a": 10.0, "b": 40.0, "c": 90.0}
    assert losses.total.item() == 140.0
    assert manager.series("Learned").loss.tolist() == [0.0]
    assert numbers(step())["a"] == pytest.approx(10.0 * math.exp(-5.0))


def test_a_single_loss_in_a_graph_changes_no_factor_also_where_it_is_the_whole_group():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    manager.disable(["b", "c"])
    function = torch.compile(lambda x: manager.compute_loss_xy("a", x, None), backend="eager", fullgraph=True)
    for _ in range(2):
        manager.tick()
        assert function(torch.ones(1, requires_grad=True)).item() == 10.0
    assert not weighting.steps


def test_a_factor_learned_in_half_precision_leaves_a_weight_its_digits_in_both():
    class Half(Learned):
        def begin(self, names):
            super().begin(names)
            self.parameters.bfloat16()
            torch.nn.init.constant_(self.parameters["a"], 0.3)

    eager, traced = set_up(Half), set_up(Half)
    eager.compute_losses({"y_fake": torch.ones(1, requires_grad=True), "y": None}, "G")
    compiled(traced)()
    factor = eager.state_dict()["weightings"]["Half"]["factors"]["a"]
    assert eager.get_loss_weights("a", None) == traced.get_loss_weights("a", None) == {"a": 10.0 * factor}


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
