"""Weightings: when factors change and when they hold, what is applied, and what is refused."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from balancing import Inverse, Learned, Recorded, given, linear, numbers, set_up, three
from managers import history, manager_of
from torch import nn
from torch.utils.checkpoint import checkpoint

from nectargan_core import LMLoss, Losses, LossManager, Schedule, Weighting, catalog
from nectargan_core.errors import (
    DuplicateLossError,
    LossResultError,
    MissingInputError,
    NectarganError,
    NonFiniteLossError,
    PluginBlockedError,
    PluginContractError,
    PluginLoadError,
    PluginNotFoundError,
    UnknownLossError,
    WeightingError,
)

WEIGHTS = {"a": 10.0, "b": 20.0, "c": 30.0}


# What is applied


def test_a_factor_multiplies_what_the_weight_says():
    manager = set_up(Recorded([2.0, 3.0, 0.5]))
    losses = manager.compute_losses(given(), "G")
    assert numbers(losses) == {"a": 20.0, "b": 120.0, "c": 45.0}
    assert losses.total.item() == 185.0


def test_applied_reported_and_recorded_is_one_number():
    manager = set_up(Recorded([0.1, 0.3, 0.7]))
    losses = manager.compute_losses(given(), "G")
    assert manager.get_loss_weights(precision=None) == {"a": 1.0, "b": 6.0, "c": 21.0}
    for name in "abc":
        assert history(manager, name).weights == [manager.get_loss_weights(name, None)[name]]
        assert history(manager, name).losses == [losses[name].item()]
        assert float(losses.unweighted[name]) == history(manager, name).unweighted[0]


def test_a_factor_multiplies_what_a_schedule_says():
    manager = set_up(Recorded(0.5))
    manager.set_schedule("a", Schedule(end=10, target_value=0.0))
    manager.tick(epoch=5)
    assert numbers(manager.compute_losses(given(), "G"))["a"] == 2.5
    manager.tick(epoch=8)
    assert manager.compute_loss_xy("a", *given().values()).item() == 1.0


def test_a_schedule_is_not_undone_by_gradients():
    manager = set_up(Inverse(), wrt="y_fake")
    manager.set_schedule("a", Schedule(end=10, target_value=0.0))
    for epoch, expected in ((0, 10.0), (5, 5.0), (9, 1.0)):
        manager.tick(epoch=epoch)
        assert manager.compute_losses(given(), "G")["a"].item() == pytest.approx(expected)


def test_weights_by_hand_and_factors_multiply():
    manager = set_up(Recorded(0.5))
    manager.set_weight("a", 8.0)
    assert numbers(manager.compute_losses(given(), "G"))["a"] == 4.0
    manager.set_weight("a", 2.0)
    assert manager.get_loss_weights("a") == {"a": 1.0}


def test_a_factor_of_zero_gives_exactly_zero_and_asks_again():
    manager = manager_of(
        LMLoss(name="a", function=lambda y_fake, y: y_fake.sum() / 0, tags=["G"]),
        LMLoss(name="b", function=linear(2.0), tags=["G"]),
        nonfinite="ignore",
    )
    weighting = Recorded([0.0, 1.0])
    set_up(weighting, manager=manager)
    for _ in range(2):
        manager.tick()
        inputs = given()
        losses = manager.compute_losses(inputs, "G")
        losses.total.backward()
        assert numbers(losses) == {"a": 0.0, "b": 2.0}
        assert inputs["y_fake"].grad.tolist() == [2.0]
        assert losses.ran == ("a", "b")
    assert [step.names for step in weighting.steps] == [("a", "b")] * 2


def test_a_loss_of_weight_zero_or_disabled_takes_no_part():
    weighting = Recorded(0.5)
    manager = set_up(weighting)
    manager.set_weight("a", 0.0)
    manager.disable("b")
    losses = manager.compute_losses(given(), "G")
    assert weighting.steps[0].names == ("c",)
    assert numbers(losses) == {"a": 0.0, "b": 0.0, "c": 45.0}


def test_a_weighting_of_nothing_that_runs_is_not_asked():
    weighting = Recorded(0.5)
    manager = set_up(weighting)
    manager.set_weight("G", 0.0)
    assert manager.compute_losses(given(), "G").total.item() == 0.0
    assert not weighting.steps


@pytest.mark.parametrize("function", [lambda y_fake, y: y_fake * torch.ones(3, 2), lambda y_fake, y: y_fake.double()])
def test_maps_and_doubles_are_balanced_by_their_means(function):
    manager = manager_of(LMLoss(name="a", function=function, tags=["G"]), enable_logging=True)
    weighting = set_up(Recorded(0.5), manager=manager)._registry.weightings[0].object.made
    result = manager.compute_losses(given(3.0), "G")["a"]
    assert result.mean() == 1.5
    assert result.dtype == function(*given().values()).dtype
    assert weighting.steps[0].values == [3.0]


def parted(count, **kwargs):
    """A loss of two components, beside others, balanced; its value is 3."""
    manager = manager_of(
        LMLoss(name="p", function=lambda y_fake, y: {"x": y_fake.sum(), "y": 2 * y_fake}, loss_weight=10.0, tags=["G"]),
        *[LMLoss(name=f"other{number}", function=linear(1.0), tags=["G"]) for number in range(count)],
        enable_logging=True,
    )
    return set_up(manager=manager, **kwargs)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("weighting", [Recorded(0.5), Recorded(0.0), Learned], ids=["half", "zero", "learned"])
def test_components_are_recorded_with_the_weight_that_was_applied(count, weighting):
    manager = parted(count, weighting=weighting)
    applied = {0.5: 5.0, 0.0: 0.0}.get(getattr(weighting, "given", [1.0])[0], 10.0)
    losses = manager.compute_losses(given(), "G")
    assert losses["p"].item() == 3 * applied
    assert {name: part.item() for name, part in losses.components["p"].items()} == {"x": applied, "y": 2 * applied}
    for name, value in (("x", 1.0), ("y", 2.0)):
        records = manager.series(f"p.{name}")
        assert (records.weight.tolist(), records.loss.tolist()) == ([applied], [value * applied])
        assert records.unweighted.tolist() == [value]


def test_the_step_has_the_sum_of_components_and_its_gradient():
    weighting = Inverse()
    manager = parted(1, weighting=weighting, wrt="y_fake")
    losses = manager.compute_losses(given(), "G")
    assert (weighting.step.values, weighting.step.norms().tolist()) == ([3.0, 1.0], [3.0, 1.0])
    assert losses["p"].item() == pytest.approx(10.0)


# When factors change, and when they hold


def test_before_any_factor_it_is_one():
    manager = set_up(Recorded(0.5))
    assert manager.get_loss_weights() == {"a": 10.0, "b": 20.0, "c": 30.0}
    assert manager.compute_loss_xy("a", *given().values()).item() == 10.0


def test_factors_change_once_a_tick():
    weighting = Recorded(2.0, 3.0)
    manager = set_up(weighting)
    for factor in (2.0, 3.0):
        manager.tick()
        for _ in range(3):  # as when gradients are accumulated
            assert numbers(manager.compute_losses(given(), "G"))["a"] == 10.0 * factor
    assert len(weighting.steps) == 2


def test_without_a_clock_they_change_at_each_computation():
    weighting = Recorded(2.0, 3.0)
    manager = set_up(weighting)
    assert [numbers(manager.compute_losses(given(), "G"))["a"] for _ in range(2)] == [20.0, 30.0]


def test_every_says_in_how_many_ticks_they_change():
    weighting = Recorded(*[float(number) for number in range(1, 9)])
    manager = set_up(weighting, every=3)
    applied = []
    for _ in range(7):
        manager.tick()
        applied.append(numbers(manager.compute_losses(given(), "G"))["a"] / 10)
    assert applied == [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]
    assert [step.step for step in weighting.steps] == [0, 3, 6]


def test_they_hold_for_single_losses_and_parts_of_the_group():
    weighting = Recorded([2.0, 3.0, 4.0])
    manager = set_up(weighting)
    manager.compute_losses(given(), "G")
    manager.tick()
    assert manager.compute_loss_xy("b", *given().values()).item() == 120.0
    assert numbers(manager.compute_losses(given(), ["a", "c"])) == {"a": 20.0, "c": 360.0}
    assert len(weighting.steps) == 1


def test_they_hold_in_splits_pauses_and_without_gradients():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    for context in (manager.split("val"), manager.paused(), torch.no_grad()):
        manager.tick()
        with context:
            assert numbers(manager.compute_losses(given(), "G"))["a"] == 10.0
    assert not weighting.steps


def test_a_query_of_more_than_the_group_changes_them():
    manager = three()
    weighting = Recorded(2.0)
    set_up(weighting, ["a", "b"], manager)
    assert numbers(manager.compute_losses(given())) == {"a": 20.0, "b": 80.0, "c": 90.0}


def test_a_loss_of_the_group_that_has_no_weight_may_be_missing():
    weighting = Recorded(2.0)
    manager = set_up(weighting)
    manager.set_weight("c", 0.0)
    assert numbers(manager.compute_losses(given(), ["a", "b"])) == {"a": 20.0, "b": 80.0}


def test_the_step_has_values_weights_and_the_clock():
    weighting = Recorded(1.0)
    manager = set_up(weighting)
    manager.tick(epoch=2.5, step=7)
    manager.compute_losses(given(), "G")
    (step,) = weighting.steps
    assert (step.names, step.values, step.weights) == (("a", "b", "c"), [1.0, 2.0, 3.0], [10.0, 20.0, 30.0])
    assert (step.step, step.epoch) == (7, 2.5)
    assert step.tensors.tolist() == [1.0, 2.0, 3.0]
    assert not step.tensors.requires_grad


def test_two_groups_are_balanced_apart():
    manager = three()
    set_up(Recorded(2.0), "a", manager)
    set_up(Recorded(3.0), ["b", "c"], manager)
    assert numbers(manager.compute_losses(given())) == {"a": 20.0, "b": 120.0, "c": 270.0}


def test_a_weighting_that_never_changed_a_factor_is_warned_of_at_close():
    manager = set_up(Recorded(2.0))
    for name in "abc":
        manager.compute_loss_xy(name, *given().values())
    with pytest.warns(UserWarning, match="weighting 'Recorded' never changed a factor, .*: a, b, c; give those"):
        manager.close()


def test_a_weighting_that_changed_factors_closes_without_a_warning():
    manager = set_up(Recorded(2.0))
    manager.compute_losses(given(), "G")
    manager.close()


# Gradients


def test_gradients_are_those_of_the_raw_losses():
    weighting = Inverse()
    manager = set_up(weighting, wrt="y_fake")
    losses = manager.compute_losses(given(), "G")
    assert numbers(losses) == pytest.approx({"a": 10.0, "b": 20.0, "c": 30.0})
    step = weighting.step
    assert [[each.tolist() for each in row] for row in step.gradients()] == [[[1.0]], [[2.0]], [[3.0]]]
    assert [[each.tolist() for each in row] for row in step.gradients(weighted=True)] == [[[10.0]], [[40.0]], [[90.0]]]
    assert step.norms(weighted=True).tolist() == [10.0, 40.0, 90.0]
    assert step.gram().tolist() == [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [3.0, 6.0, 9.0]]
    assert step.gram(weighted=True)[0].tolist() == [100.0, 400.0, 900.0]
    losses.total.backward()


def test_the_gram_matrix_of_several_tensors_is_that_of_stacked_rows():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    weighting = Inverse()
    manager = manager_of(
        *[
            LMLoss(name=name, function=function, inputs=("y_fake",), tags=["G"])
            for name, function in (("a", torch.sum), ("b", lambda x: x.square().mean()), ("c", lambda x: x[0, 0]))
        ]
    )
    set_up(weighting, manager=manager, wrt="network")
    output = network(torch.randn(5, 3))
    manager.compute_losses({"y_fake": output, "network": network}, "G")
    rows = []
    for function in (torch.sum, lambda x: x.square().mean(), lambda x: x[0, 0]):
        each = torch.autograd.grad(function(output), list(network.parameters()), retain_graph=True)
        rows.append(torch.cat([one.reshape(-1) for one in each]))
    stacked = torch.stack(rows).double()
    torch.testing.assert_close(weighting.step.gram(), stacked @ stacked.T, rtol=1e-12, atol=0)
    torch.testing.assert_close(weighting.step.norms().double(), stacked.norm(dim=1), rtol=1e-6, atol=0)


def test_wrt_may_be_lazy_and_several_tensors():
    manager = set_up(Inverse(), wrt="both")
    inputs = given()
    called = []

    def both():
        called.append(1)
        return [inputs["y_fake"]]

    assert numbers(manager.compute_losses({**inputs, "both": both}, "G")) == pytest.approx(
        {"a": 10.0, "b": 20.0, "c": 30.0}
    )
    assert called == [1]


def test_a_loss_that_does_not_reach_wrt_is_an_error_that_names_it():
    manager = set_up(Inverse(), wrt="y_fake")
    manager.register_loss_fn("d", lambda y_fake, y: y.sum())
    manager.set_weighting(None, "G")
    set_up(Inverse(), ["a", "d"], manager, wrt="y_fake")
    with pytest.raises(WeightingError, match="loss d has no gradient with respect to the input 'y_fake'"):
        manager.compute_losses(given())


def test_a_weighting_may_say_that_a_loss_need_not_reach_wrt():
    weighting = Inverse()
    weighting.allow_unreached = True
    manager = three()
    manager.register_loss_fn("d", lambda y_fake, y: y.sum() + 1, 5.0)
    set_up(weighting, None, manager, wrt="y_fake")
    assert numbers(manager.compute_losses(given())) == pytest.approx({"a": 10.0, "b": 20.0, "c": 30.0, "d": 5.0})
    assert weighting.step.names == ("a", "b", "c")


def test_wrt_that_is_not_given_is_an_error_before_anything_is_computed():
    called = []
    manager = manager_of(LMLoss(name="a", function=lambda y_fake, y: called.append(1), tags=["G"]))
    set_up(Inverse(), manager=manager, wrt="y_fak")
    with pytest.raises(MissingInputError, match="'Inverse' takes gradients .* 'y_fak', .*Did you mean .y_fake"):
        manager.compute_losses(given())
    assert not called


def test_wrt_that_requires_no_gradient_is_an_error():
    manager = set_up(Inverse(), wrt="y")
    with pytest.raises(WeightingError, match="the input 'y', the wrt of weighting .* requires no gradient"):
        manager.compute_losses(given(), "G")


def test_gradients_without_wrt_are_an_error_when_the_weighting_is_set():
    with pytest.raises(WeightingError, match="needs gradients, and nothing says of what: give wrt="):
        set_up(Inverse())


def test_a_graph_that_was_freed_is_an_error_that_names_the_loss():
    y_fake = torch.tensor([1.0], requires_grad=True)
    doubled = y_fake.exp()
    doubled.sum().backward()
    manager = set_up(Inverse(), wrt="y")
    with pytest.raises(WeightingError, match="the gradient of loss 'a' cannot be taken, since a backward"):
        manager.compute_losses({"y_fake": doubled, "y": y_fake}, "G")


def test_a_weighting_of_values_has_no_gradients():
    class Wrong(Recorded):
        def factors(self, step):
            return step.norms()

    with pytest.raises(WeightingError, match="must declare needs = 'gradients'"):
        set_up(Wrong(1.0)).compute_losses(given(), "G")


def test_gradients_go_through_the_scale_of_half_precision():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    weighting = Inverse()
    tiny = manager_of(
        # Its gradient, 2e-8, is 0 in half precision.
        LMLoss(name="a", function=lambda y_fake, y: y_fake.float().sum() * 2e-8, tags=["G"]),
        LMLoss(name="b", function=lambda y_fake, y: y_fake.float().sum(), tags=["G"]),
    )
    set_up(weighting, manager=tiny, wrt="y_fake", scaler=scaler)
    inputs = {"y_fake": torch.ones(4, dtype=torch.float16, requires_grad=True), "y": None}
    tiny.compute_losses(inputs, "G")
    assert weighting.step.norms().tolist() == pytest.approx([4e-8, 2.0], rel=1e-3)
    assert weighting.step.norms().dtype == torch.float32


def test_gradients_through_a_scale_that_overflow_leave_the_factors():
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**16)
    manager = set_up(Inverse(), wrt="y_fake", scaler=scaler)
    half = torch.ones(1, dtype=torch.float16, requires_grad=True)
    assert numbers(manager.compute_losses({"y_fake": half, "y": None}, "G")) == {"a": 10.0, "b": 40.0, "c": 90.0}


# What is learned, and what is added to the total


def test_what_a_weighting_learns_gets_gradients():
    manager = set_up(Learned)
    losses = manager.compute_losses(given(), "G")
    losses.total.backward()
    parameters = manager._registry.weightings[0].parameters
    # d/ds of exp(-s) * w * L + s at s = 0
    assert {name: float(each.grad) for name, each in parameters.items()} == {"a": -9.0, "b": -39.0, "c": -89.0}


def test_extra_is_added_to_the_total_and_recorded_under_the_name_of_the_weighting():
    manager = set_up(Learned)
    with torch.no_grad():
        for parameter in manager._registry.weightings[0].parameters.values():
            parameter.fill_(math.log(2.0))
    losses = manager.compute_losses(given(), "G")
    assert numbers(losses) == pytest.approx({"a": 5.0, "b": 20.0, "c": 45.0})
    assert losses.total.item() == pytest.approx(70.0 + 3 * math.log(2.0))
    assert manager.latest("Learned") == {"Learned": pytest.approx(3 * math.log(2.0))}


def test_what_is_learned_gets_a_gradient_at_each_computation_of_a_tick():
    manager = set_up(Learned)
    manager.tick()
    for _ in range(2):
        manager.compute_losses(given(), "G").total.backward()
    assert float(manager._registry.weightings[0].parameters["a"].grad) == -18.0


def test_what_is_learned_holds_as_numbers_in_a_split():
    manager = set_up(Learned)
    manager.compute_losses(given(), "G")
    with torch.no_grad():
        manager._registry.weightings[0].parameters["a"].fill_(5.0)
    with manager.split("val"):
        losses = manager.compute_losses(given(), "G")
        assert losses.total.item() == 140.0
        assert manager.latest().keys() == {"a", "b", "c"}


def test_records_of_what_is_learned_are_what_was_applied():
    manager = set_up(Learned)
    with torch.no_grad():
        manager._registry.weightings[0].parameters["a"].fill_(0.3)
    losses = manager.compute_losses(given(), "G")
    assert history(manager, "a").losses == [losses["a"].item()]
    assert history(manager, "a").weights == [losses["a"].item()]


def test_what_a_weighting_learns_is_in_modules():
    manager = set_up(Learned)
    assert {name for name, _ in manager.modules().named_parameters()} == {"Learned.a", "Learned.b", "Learned.c"}


# Setting and ending


def test_none_ends_it():
    manager = set_up(Recorded(0.5))
    manager.compute_losses(given(), "G")
    manager.set_weighting(None, "b")
    assert numbers(manager.compute_losses(given(), "G")) == {"a": 10.0, "b": 40.0, "c": 90.0}


def test_another_one_for_the_same_losses_takes_its_place():
    manager = set_up(Recorded(0.5))
    manager.compute_losses(given(), "G")
    set_up(Recorded(3.0), ["a", "b", "c"], manager)
    assert manager.get_loss_weights("a") == {"a": 10.0}
    assert numbers(manager.compute_losses(given(), "G"))["a"] == 30.0


def test_a_loss_belongs_to_one_weighting_at_most():
    manager = set_up(Recorded(0.5), ["a", "b"])
    with pytest.raises(WeightingError, match=r"b: balanced by .* already.*set_weighting\(None, 'b'\)"):
        set_up(Recorded(0.5), ["b", "c"], manager)
    assert numbers(manager.compute_losses(given()))["a"] == 5.0


def test_a_second_weighting_of_a_name_is_called_by_its_query():
    manager = three()
    set_up(Learned, "a", manager)
    set_up(Learned, ["b", "c"], manager)
    manager.compute_losses(given())
    assert manager.latest(["Learned", "Learned@b,c"]) == {"Learned": 0.0, "Learned@b,c": 0.0}


def test_a_weighting_named_like_a_loss_is_called_by_its_query():
    manager = three()
    manager.register_loss_fn("Learned", linear(1.0))
    set_up(Learned, "G", manager)
    manager.compute_losses(given())
    assert "Learned@G" in manager.latest()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weighting": 3}, TypeError, "a weighting is a Weighting, .* or the name of one, got 3"),
        ({"weighting": Recorded}, TypeError, "a weighting is a Weighting"),
        ({"query": "H"}, UnknownLossError, "no loss has the name or tag 'H'"),
        ({"wrt": torch.ones(1)}, TypeError, "wrt is the name of an input"),
        ({"weighting": Weighting(Inverse, wrt="y_fake"), "wrt": "x"}, WeightingError, "give one of them"),
        ({"weighting": Weighting("a:b")}, WeightingError, "does not bring the class back"),
        ({"weighting": Weighting("none-such")}, PluginNotFoundError, "weighting 'none-such'"),
        ({"weighting": Weighting(Inverse, params={"alpha": 1})}, WeightingError, "does not take these params.*none"),
        ({"weighting": Weighting(object)}, PluginContractError, r"has no method factors\(step\)"),
    ],
)
def test_what_cannot_be_set_is_refused_and_changes_nothing(arguments, error, message):
    manager = set_up(Recorded(0.5))
    with pytest.raises(error, match=message):
        manager.set_weighting(**{"weighting": Weighting(Learned), "query": "G", **arguments})
    assert numbers(manager.compute_losses(given(), "G"))["a"] == 5.0


def test_a_weighting_is_not_set_inside_a_split():
    manager = three()
    with manager.split("val"), pytest.raises(NectarganError, match="outside of split"):
        manager.set_weighting(Weighting(Learned), "G")


@pytest.mark.parametrize(
    ("factors", "error", "message"),
    [
        ([1.0, math.nan, 1.0], WeightingError, "gave the factor nan for loss 'b' at step 0.* b: 2"),
        (torch.tensor([1.0, 1.0, math.inf]), WeightingError, "gave the factor inf for loss 'c'"),
        ([1.0], PluginContractError, "gave 1 factors for 3 losses"),
        (torch.ones(3, 1), PluginContractError, r"factors of the shape \(3, 1\) for 3 losses"),
        (["x", 1.0, 1.0], PluginContractError, "expected a number for each loss"),
        (None, PluginContractError, "gave None as factors; expected a number for each loss"),
        ("123", PluginContractError, "gave '123' as factors"),
        ({1.0, 2.0, 3.0}, PluginContractError, "in the order of step.names"),
        ({1: "a", 2: "b", 3: "c"}, PluginContractError, "expected a number for each loss"),
        ([], PluginContractError, "expected a number for each loss"),
    ],
)
def test_factors_that_cannot_be_applied_are_errors_and_nothing_is_recorded(factors, error, message):
    class Giving(Recorded):
        def factors(self, step):
            return factors

    manager = set_up(Giving(1.0))
    with pytest.raises(error, match=message):
        manager.compute_losses(given(), "G")
    assert history(manager, "a").losses == []


def test_an_error_of_a_weighting_says_whose_it_is():
    class Failing(Recorded):
        def factors(self, step):
            raise KeyError("b")

    with pytest.raises(WeightingError, match="weighting 'Failing' failed in factors: .*b"):
        set_up(Failing(1.0)).compute_losses(given(), "G")


def test_what_a_weighting_is_called_is_no_name_for_a_scalar():
    manager = set_up(Learned)
    with pytest.raises(DuplicateLossError, match="a weighting is named 'Learned'"):
        manager.record("Learned", 1.0)
    manager.set_weighting(None, "G")
    manager.record("Learned", 1.0)


def test_a_weighting_named_like_a_scalar_that_was_recorded_is_called_by_its_query():
    manager = three(enable_logging=True)
    manager.record("Learned", 5.0)
    for _ in range(2):  # The second takes the place of the first, under the same name.
        set_up(Learned, "G", manager)
        manager.compute_losses(given(), "G")
    assert manager.series("Learned").loss.tolist() == [5.0]
    assert manager.series("Learned@G").loss.tolist() == [0.0, 0.0]


def test_a_weighting_that_is_blocked_says_by_what(acme):
    catalog.configure(block=["acme-half"])
    with pytest.raises(PluginBlockedError, match="acme-half"):
        three().set_weighting("half", "G")


# State


class Counting:
    """A factor that grows at each call, kept by loss name."""

    needs = "values"

    def __init__(self):
        self.counts = {}

    def factors(self, step):
        for name in step.names:
            self.counts[name] = self.counts.get(name, 0) + 1
        return [float(self.counts[name]) for name in step.names]

    def state_dict(self):
        return {"counts": self.counts}

    def load_state_dict(self, state):
        self.counts = dict(state["counts"])


def test_a_resumed_run_goes_on_with_the_same_factors():
    def run(manager, steps):
        applied = []
        for _ in range(steps):
            manager.tick()
            applied.append(numbers(manager.compute_losses(given(), "G"))["a"] / 10)
        return applied

    whole = set_up(Counting, every=2)
    expected = run(whole, 7)
    first = set_up(Counting, every=2)
    begun = run(first, 3)
    state = json.loads(json.dumps(first.state_dict()))
    second = set_up(Counting, every=2)
    second.load_state_dict(state)
    assert second.get_loss_weights("a") == {"a": 20.0}
    assert begun + run(second, 4) == expected


def test_a_state_without_weightings_is_loaded_with_a_warning():
    state = three().state_dict()
    manager = set_up(Counting)
    with pytest.warns(UserWarning, match="do not have the same weightings; only one of them has Counting"):
        manager.load_state_dict(state)


def test_a_weighting_that_cannot_load_its_state_leaves_the_manager_as_it_was():
    manager = set_up(Counting)
    manager.tick()
    manager.compute_losses(given(), "G")
    state = manager.state_dict()
    manager.tick()
    manager.compute_losses(given(), "G")
    broken = json.loads(json.dumps(state))
    broken["weightings"]["Counting"]["state"] = {}
    with pytest.raises(WeightingError, match="failed in load_state_dict: .*counts"):
        manager.load_state_dict(broken)
    assert (manager.step, manager.get_loss_weights("a")) == (1, {"a": 20.0})


# Results, factors and states that are not of the usual kind


def test_a_learned_factor_of_whole_numbers_is_not_rounded():
    manager = manager_of(LMLoss(name="a", function=lambda y_fake, y: torch.tensor(3), tags=["G"]), enable_logging=True)
    set_up(Learned, manager=manager)
    with torch.no_grad():
        manager.modules()["Learned"]["a"].fill_(math.log(2.0))
    result = manager.compute_losses(given(), "G")["a"]
    result.backward()
    assert result.item() == pytest.approx(1.5)
    assert history(manager, "a").losses == [result.item()]
    assert [each.grad.item() for each in manager.modules().parameters()] == pytest.approx([-1.5])


def test_the_gradient_of_a_learned_factor_is_added_up_in_single_precision():
    half = torch.full((1000,), 100.0, dtype=torch.float16)
    manager = manager_of(LMLoss(name="a", function=lambda y_fake, y: half, tags=["G"]))
    set_up(Learned, manager=manager)
    manager.compute_losses(given(), "G")["a"].sum().backward()  # 100,000, which half precision does not hold
    assert manager.modules()["Learned"]["a"].grad.item() == pytest.approx(-1e5)


@pytest.mark.parametrize("weighting", [Recorded(0.5), Learned])
@pytest.mark.parametrize("result", [torch.ones(3).to_sparse(), torch.ones(3) * 1j])
def test_a_result_that_has_no_mean_is_named_before_factors_change(weighting, result):
    manager = manager_of(LMLoss(name="a", function=lambda y_fake, y: result, tags=["G"]))
    set_up(weighting, manager=manager)
    with pytest.raises(LossResultError, match="loss 'a' returned a tensor of torch"):
        manager.compute_losses(given(), "G")
    assert manager.state_dict()["weightings"].popitem()[1]["step"] is None


def test_several_tensors_with_a_graph_as_factors_are_an_error_that_says_how_to_stack_them():
    class Several(Learned):
        def factors(self, step):
            return [torch.exp(-self.parameters[name]) for name in step.names]

    with pytest.raises(PluginContractError, match="several tensors with a graph.*torch.stack"):
        set_up(Several).compute_losses(given(), "G")


def test_complex_factors_are_an_error_of_the_weighting():
    with pytest.raises(PluginContractError, match="gave complex factors"):
        set_up(Recorded(torch.ones(3) * 1j)).compute_losses(given(), "G")


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_total_that_is_not_finite_for_what_a_weighting_adds_is_reported(count):
    class Broken(Recorded):
        def extra(self, step):
            return torch.tensor(math.nan)

    losses = [LMLoss(name=f"l{number}", function=linear(1.0), tags=["G"]) for number in range(count)]
    manager = set_up(Broken(1.0), manager=manager_of(*losses, nonfinite="raise"))
    with pytest.raises(NonFiniteLossError, match="the total of l0.* became nan"):
        _ = manager.compute_losses(given(), "G").total


def test_an_iterator_of_parameters_serves_two_weightings():
    network = nn.Linear(1, 1, bias=False)
    manager = three()
    set_up(Inverse(), "a", manager, wrt="parameters")
    set_up(Inverse(), ["b", "c"], manager, wrt="parameters")
    output = network(torch.ones(1, 1))
    losses = manager.compute_losses({"y_fake": output, "y": None, "parameters": network.parameters()})
    assert numbers(losses) == pytest.approx({name: weight * output.item() for name, weight in WEIGHTS.items()})


def test_a_state_stays_as_it_was_taken():
    manager = set_up(Counting)
    manager.tick()
    manager.compute_losses(given(), "G")
    state = manager.state_dict()
    before = json.dumps(state)
    manager.tick()
    manager.compute_losses(given(), "G")
    assert json.dumps(state) == before


def test_checkpointing_computes_what_is_learned_again_and_records_it_once():
    computed = []
    for is_checkpointed in (False, True):
        manager = set_up(Learned)
        for number, parameter in enumerate(manager.modules().parameters()):
            nn.init.constant_(parameter, 0.1 * number)

        def total(y_fake, manager=manager):
            return manager.compute_losses({"y_fake": y_fake.exp(), "y": None}, "G").total

        manager.tick()
        y_fake = torch.tensor([1.0], requires_grad=True)
        result = checkpoint(total, y_fake, use_reentrant=False) if is_checkpointed else total(y_fake)
        result.backward()
        gradients = [y_fake.grad.item(), *[each.grad.item() for each in manager.modules().parameters()]]
        computed.append((result.item(), gradients, history(manager, "a").losses, len(manager.series("Learned"))))
    assert computed[0] == computed[1]


def test_an_error_of_a_lazy_wrt_is_raised_as_it_is():
    class OfTheUserError(Exception):
        pass

    def failing():
        raise OfTheUserError

    with pytest.raises(OfTheUserError):
        set_up(Inverse(), wrt="z").compute_losses({**given(), "z": failing}, "G")


def test_a_schedule_without_a_value_does_not_keep_others_of_its_group_from_being_computed():
    manager = set_up(Recorded(0.5))
    manager.set_schedule("c", Schedule(lambda schedule, epoch: math.nan if epoch == 3 else 1.0))
    manager.tick(epoch=3)
    assert numbers(manager.compute_losses(given(), ["a", "b"])) == {"a": 10.0, "b": 40.0}


def test_a_result_without_a_value_is_named_as_without_a_weighting():
    class Inverted(Recorded):
        def factors(self, step):
            return [1 / value for value in step.values]

    manager = set_up(Inverted(1.0))
    with pytest.raises(LossResultError, match=r"'a' cannot be recorded, since its result has no value inside of torch"):
        torch.vmap(lambda y_fake: manager.compute_losses({"y_fake": y_fake, "y": None}, "G").total)(torch.ones(2, 1))


# Distributed runs

RANKS = """
import os
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from nectargan_core import LossManager, Weighting
from nectargan_core.errors import WeightingError

dist.init_process_group("gloo")
rank = dist.get_rank()

class ByRank:
    needs = "values"
    def factors(self, step):
        return [1.0 + rank] * len(step.names)

class Inverse:
    needs = "gradients"
    def factors(self, step):
        return 1 / step.norms()

def one(weighting, **kwargs):
    manager = LossManager()
    manager.register_loss_fn("a", lambda y_fake, y: y_fake.mean())
    manager.set_weighting(weighting, "a", **kwargs)
    return manager

x = torch.ones(1, requires_grad=True)
for reduce, expected in ((None, 1.0 + rank), ("mean", 1.5)):
    got = one(Weighting(ByRank, reduce=reduce)).compute_losses({"y_fake": x, "y": x}).total.item()
    assert got == expected, (reduce, got)

# One rank overflows, and both hold.
scaler = torch.amp.GradScaler("cpu", init_scale=2.0 ** (16 if rank else 2))
manager = one(Weighting(Inverse, reduce="mean"), wrt="y_fake", scaler=scaler)
half = torch.ones(1, dtype=torch.float16, requires_grad=True)
manager.compute_losses({"y_fake": half, "y": None})
assert manager.get_loss_weights() == {"a": 1.0}

for static, wrt in ((True, "parameters"), (True, "y_fake"), (False, "parameters")):
    torch.manual_seed(0)
    network = DistributedDataParallel(nn.Linear(2, 1), static_graph=static)
    manager = one(Weighting(Inverse, reduce="mean"), wrt=wrt)
    refused = False
    for step in range(3):
        manager.tick()
        y_fake = network(torch.full((3, 2), 1.0 + rank))
        inputs = {"y_fake": y_fake, "y": None, "parameters": network}
        try:
            losses = manager.compute_losses(inputs)
        except WeightingError as error:
            assert "static_graph=True" in str(error) and step == 0, error
            refused = True
            losses = None
        (y_fake.mean() if losses is None else losses.total).backward()
        flat = torch.cat([each.grad.reshape(-1) for each in network.parameters()])
        both = [torch.zeros_like(flat) for _ in range(2)]
        dist.all_gather(both, flat)
        assert torch.equal(*both), (static, wrt, step)
        network.zero_grad()
    assert refused == (static and wrt == "parameters")
dist.barrier()
sys.stdout.flush()
os._exit(0)  # Threads of gloo may abort a process that ends while another still reads.
"""


@pytest.mark.slow
def test_ranks_agree_with_reduce_and_a_static_graph_is_refused_in_its_first_iteration(tmp_path):
    path = tmp_path / "train.py"
    path.write_text(RANKS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr


# From specs, callers and plugins

SPEC = """
import torch
from nectargan_core import LMLoss, Losses, Weighting

class Half:
    '''Half of everything.'''
    needs = "values"
    def __init__(self, *, by=0.5):
        if by < 0:
            raise ValueError("by must not be negative")
        self.by = by
    def factors(self, step):
        return [self.by] * len(step.names)

def first(y_fake, y):
    return y_fake.sum()

def acme(config):
    losses = {name: LMLoss(name=name, function=first, loss_weight=10.0, tags=["G"]) for name in ("a", "b")}
    return Losses(losses, weightings={"G": "half"})

class Named:
    needs = "values"
    def __init__(self, *, loss):
        self.loss = loss
    def begin(self, names):
        if self.loss not in names:
            raise ValueError(f"{self.loss} is none of {names}")
    def factors(self, step):
        half = 0.5 if step.values[0] == 1 else float("nan")
        return [half if name == self.loss else 1.0 for name in step.names]

def named(config):
    losses = {name: LMLoss(name=name, function=first, tags=["G"]) for name in ("a", "b")}
    return Losses(losses, weightings={"G": Weighting("named", params={"loss": "a"})})

def plain(config):
    return {"c": LMLoss(name="c", function=first, tags=["G"])}
"""


@pytest.fixture
def acme(site):
    entry_points = """
[nectargan.loss_specs]
acme = acme_half:acme
plain = acme_half:plain
named = acme_half:named
[nectargan.weightings]
half = acme_half:Half
named = acme_half:Named
broken = acme_broken:Missing
"""
    modules = {"acme_half.py": SPEC, "acme_broken.py": "raise RuntimeError('boom')"}
    site.install("acme-half", entry_points=entry_points, modules=modules)
    return site


def test_a_spec_brings_a_weighting_for_its_own_losses(acme):
    manager = LossManager.from_spec("acme+plain")
    assert numbers(manager.compute_losses(given())) == {"a": 5.0, "b": 5.0, "c": 1.0}


def test_a_factor_leaves_the_weighting_of_a_spec(acme):
    manager = LossManager.from_spec("2*acme")
    assert numbers(manager.compute_losses(given())) == {"a": 10.0, "b": 10.0}


def test_a_prefix_is_put_before_the_losses_that_a_spec_balances(acme):
    manager = LossManager.from_spec("acme", prefix="face_").register_spec("acme", prefix="hand_")
    assert set(numbers(manager.compute_losses(given())).values()) == {5.0}


def test_a_weighting_that_a_spec_brings_knows_its_losses_without_the_prefix(acme):
    manager = LossManager.from_spec("named", prefix="face_")
    assert numbers(manager.compute_losses(given())) == {"face_a": 0.5, "face_b": 1.0}
    with pytest.raises(WeightingError, match="factor nan for loss 'face_a' .* face_a: 2"):
        manager.compute_losses(given(2.0))


def test_a_caller_gives_weightings_by_name(acme):
    manager = LossManager.from_spec("plain", weightings={"G": Weighting("half", params={"by": 0.25})})
    assert numbers(manager.compute_losses(given())) == {"c": 0.25}


def test_weightings_of_a_caller_replace_those_of_a_spec(acme):
    for weighting, expected in ((None, 10.0), (Weighting("half", params={"by": 2.0}), 20.0)):
        manager = LossManager.from_spec("acme", weightings={"G": weighting})
        assert numbers(manager.compute_losses(given())) == {"a": expected, "b": expected}


def test_other_losses_end_the_weightings_of_those_before(acme):
    manager = LossManager.from_spec("acme").init_from_spec("plain")
    assert manager.state_dict()["weightings"] == {}


@pytest.mark.parametrize(
    ("weightings", "error", "message"),
    [
        ({"H": "half"}, UnknownLossError, "'H', which is the name or tag of no loss of this objective; .* c, G"),
        ({"G": "half", "c": "half"}, WeightingError, "loss 'c' is balanced by two weightings, 'half'"),
        ({"G": 3}, TypeError, "a weighting is a Weighting"),
        (["G"], TypeError, "weightings"),
        ({"G": Weighting("half", params={"by": -1})}, WeightingError, "cannot be made .* by must not be negative"),
        ({"G": Weighting("half", params={"bye": 1})}, WeightingError, "it takes by.*Did you mean .by"),
        ({"G": "broken"}, PluginLoadError, "boom"),
    ],
)
def test_weightings_that_cannot_be_used_register_nothing(acme, weightings, error, message):
    manager = LossManager.from_spec("acme")
    with pytest.raises(error, match=message):
        manager.register_spec("plain", weightings=weightings)
    assert list(manager.get_registered_losses()) == ["a", "b"]


def test_a_broken_weighting_harms_only_who_asks_for_it(acme):
    assert LossManager.from_spec("acme").get_registered_losses()
    with pytest.raises(PluginLoadError, match="acme-half 1.0.*boom"):
        three().set_weighting("broken", "G")


def test_a_spec_that_balances_losses_it_does_not_have_is_named():
    manager = LossManager()
    spec = Losses({"a": LMLoss(name="a", function=linear(1.0))}, weightings={"G": "half"})
    with pytest.raises(NectarganError, match="brings the weighting 'half' for 'G', which is the name or tag of none"):
        manager.init_from_spec(lambda: spec)


def test_a_weighting_whose_name_is_taken_twice_is_refused():
    manager = three()
    manager.register_loss_fn("Learned", linear(1.0))
    manager.register_loss_fn("Learned@G", linear(1.0))
    manager.register_loss_fn("Learned@a,b,c", linear(1.0))
    with pytest.raises(DuplicateLossError, match=r"of a, b, c would be called 'Learned', 'Learned@G' or .* choose"):
        set_up(Learned, "G", manager)


def test_a_spec_that_balances_its_losses_is_registered_any_number_of_times(acme):
    manager = LossManager()
    for prefix in ("face_", "hand_", "eye_"):
        manager.register_spec("acme", prefix=prefix)
    assert set(numbers(manager.compute_losses(given())).values()) == {5.0}
    assert list(manager.state_dict()["weightings"]) == ["half", "half@G", "half@eye_a,eye_b"]


# The definition


@pytest.mark.parametrize(
    "params", [{}, {"by": [1, 2.5, None]}, {"by": (np.int64(1), np.float32(0.5))}, {"by": {"x": True}}]
)
def test_a_definition_survives_json(params):
    made = Weighting("acme/half", params=params, every=3)
    assert Weighting.model_validate_json(made.model_dump_json()) == made


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "fields",
    [
        {"every": 0},
        {"every": 1.5},
        {"params": {"by": math.inf}},
        {"params": {"by": object()}},
        {"params": {"by": "\ud800"}},
        {"params": {"\ud800": 1}},
        {"params": {"by": 10**5000}},
        {"params": {"by": nested(60)}},
        {"name": ""},
        {"name": "\ud800"},
        {"wrt": "\ud800"},
        {"reduce": "sum"},
        {"wrt": ""},
    ],
)
def test_a_definition_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match="validation error"):
        Weighting(**{"name": "half", **fields})
