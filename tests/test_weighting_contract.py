"""What a weighting's class has to be and return, and what happens to it when its losses go."""

from __future__ import annotations

import pytest
import torch
from balancing import Inverse, Learned, Recorded, given, numbers, set_up, three
from torch import nn

from nectargan_core import Weighting
from nectargan_core.errors import PluginContractError, SpecSyntaxError, WeightingError


def with_attributes(base, **attributes):
    return type("Broken", (base,), attributes)


class Plain:
    needs = "values"

    def factors(self, step):
        return [0.5] * len(step.names)


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"needs": "tensors"}, "has needs = 'tensors'; expected 'values' or 'gradients'"),
        ({"needs": None}, "has needs = None; expected 'values' or 'gradients'"),
        ({"factors": 3}, r"has no method factors\(step\)"),
        ({"parameters": [nn.Parameter(torch.ones(1))]}, "as parameters, which must be an nn.Module"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused_when_it_is_set(attributes, message):
    manager = three()
    with pytest.raises(PluginContractError, match=message):
        manager.set_weighting(Weighting(with_attributes(Plain, **attributes)))
    assert numbers(manager.compute_losses(given())) == {"a": 10.0, "b": 40.0, "c": 90.0}


@pytest.mark.parametrize("extra", [1.0, torch.ones(2), torch.ones((), dtype=torch.complex64)])
def test_what_is_added_to_the_total_is_a_scalar_tensor(extra):
    manager = set_up(with_attributes(Plain, extra=lambda self, step: extra))
    with pytest.raises(PluginContractError, match="as extra; expected a scalar tensor, or None"):
        manager.compute_losses(given())


def test_an_extra_that_is_none_adds_nothing():
    losses = set_up(with_attributes(Plain, extra=lambda self, step: None)).compute_losses(given())
    assert losses.total.item() == 70.0


def test_an_error_of_this_library_comes_out_of_a_class_as_it_is():
    def refuse():
        raise WeightingError("not on this machine")

    with pytest.raises(WeightingError, match=r"^not on this machine$"):
        three().set_weighting(Weighting(refuse))


def test_a_builtin_without_a_signature_is_called_for_what_it_makes():
    with pytest.raises(PluginContractError, match="is a dict, which has no method factors"):
        three().set_weighting(Weighting(dict))


def test_a_state_for_a_class_that_loads_none_is_refused_and_changes_nothing():
    made = set_up(with_attributes(Plain, state_dict=lambda self: {"seen": 3}))
    made.compute_losses(given())
    manager = set_up(with_attributes(Plain))
    with pytest.raises(WeightingError, match="has no load_state_dict, and the state has data of it"):
        manager.load_state_dict(made.state_dict())
    assert numbers(manager.compute_losses(given())) == {"a": 5.0, "b": 20.0, "c": 45.0}


@pytest.mark.parametrize("name", ["-gradnorm", "acme/", "/gradnorm"])
def test_a_name_that_is_none_is_a_syntax_error_about_a_weighting(name):
    with pytest.raises(SpecSyntaxError, match="expected the name of a weighting"):
        three().set_weighting(name)


@pytest.mark.parametrize("name", ["gradnorm dwa", "gradnorm + dwa", "2*gradnorm"])
def test_a_formula_is_no_name_of_a_weighting(name):
    with pytest.raises(WeightingError, match="a weighting is named by one name, optionally provider/name"):
        three().set_weighting(name)


def test_where_no_loss_reaches_wrt_that_is_an_error_although_some_may_not():
    manager = set_up(with_attributes(Inverse, allow_unreached=True), wrt="last_layer")
    with pytest.raises(WeightingError, match="a, b, c have no gradient with respect to the input 'last_layer'"):
        manager.compute_losses({**given(), "last_layer": nn.Linear(1, 1).weight})


def test_a_learned_factor_of_a_loss_that_does_not_reach_wrt_is_1():
    class Half(Learned):
        needs = "gradients"
        allow_unreached = True

        def factors(self, step):
            step.norms()
            return torch.exp(-self.stacked(step)) / 2

    manager = three()
    manager.register_loss_fn("d", lambda x: x.sum(), 7.0, tags=["G"], inputs=("x",))
    manager.set_weighting(Weighting(Half), "G", wrt="y_fake")
    losses = manager.compute_losses({**given(), "x": torch.ones(1)})
    assert numbers(losses) == {"a": 5.0, "b": 20.0, "c": 45.0, "d": 7.0}
    losses.total.backward()
    assert manager.modules()["Half"]["d"].grad is None
    assert manager.modules()["Half"]["a"].grad.item() == 1.0 - 5.0


# Losses that go


def test_a_weighting_goes_on_with_the_losses_that_are_left_to_it():
    weighting = Recorded([2.0, 3.0, 4.0], [5.0, 6.0])
    manager = set_up(weighting)
    manager.tick()
    manager.compute_losses(given())
    manager.unregister("a")
    manager.tick()
    assert numbers(manager.compute_losses(given())) == {"b": 200.0, "c": 540.0}
    assert weighting.steps[-1].names == ("b", "c")
    assert manager.state_dict()["weightings"]["Recorded"]["factors"] == {"b": 5.0, "c": 6.0}


def test_a_loss_of_a_name_that_was_balanced_before_is_not_balanced():
    manager = set_up(Recorded([2.0, 3.0, 4.0], [5.0, 6.0]))
    manager.compute_losses(given())
    manager.unregister("a")
    manager.register_loss_fn("a", lambda y_fake, y: y_fake.sum(), 10.0, tags=["G"])
    assert manager.compute_losses(given())["a"].item() == 10.0


def test_a_weighting_without_losses_is_gone():
    manager = set_up(Learned)
    manager.unregister(None)
    assert len(manager.modules()) == 0
    assert manager.state_dict()["weightings"] == {}
