"""A parameter, a state or losses that a weighting cannot use: the error says what is wrong."""

import copy
import math

import nectargan_weightings as weightings
import pytest

from nectargan_core import LossManager, Weighting
from nectargan_core.errors import WeightingError

ABOVE_ZERO = "must be a finite number above 0"
AT_LEAST_ZERO = "must be a finite number of at least 0"


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("dwa", {"temperature": 0}, f"temperature {ABOVE_ZERO}, got 0"),
        ("dwa", {"temperature": "2"}, f"temperature {ABOVE_ZERO}, got '2'"),
        ("dwa", {"temperature": True}, f"temperature {ABOVE_ZERO}, got True"),
        ("dwa", {"temperature": 10**400}, f"temperature {ABOVE_ZERO}, got 1000"),
        ("random", {"seed": 1.0}, r"seed must be an integer, got 1\.0"),
        ("random", {"seed": -1}, "seed must be an integer from 0 to 9223372036854775807, got -1"),
        ("relobralo", {"alpha": 1.5}, r"alpha must be a number from 0 to 1, got 1\.5"),
        ("relobralo", {"rho": -0.1}, r"rho must be a number from 0 to 1, got -0\.1"),
        ("relobralo", {"temperature": -1.0}, rf"temperature {ABOVE_ZERO}, got -1\.0"),
        ("relobralo", {"seed": None}, "seed must be an integer, got None"),
        ("softadapt", {"beta": None}, "beta must be a finite number, got None"),
        ("softadapt", {"accuracy_order": 0}, "accuracy_order must be an integer from 1 to 20, got 0"),
        ("softadapt", {"accuracy_order": 21}, "accuracy_order must be an integer from 1 to 20, got 21"),
        ("softadapt", {"variant": "normalised"}, "variant must be one of .* Did you mean 'normalized'"),
        ("softadapt", {"variant": 1}, "variant must be one of 'original', 'normalized', 'loss-weighted', got 1"),
        ("gradnorm", {"alpha": -0.5}, rf"alpha {AT_LEAST_ZERO}, got -0\.5"),
        ("gradnorm", {"lr": 0.0}, rf"lr {ABOVE_ZERO}, got 0\.0"),
        ("last-layer", {"loss": 3}, "loss must be the name of a loss, got 3"),
        ("last-layer", {"loss": "a", "epsilon": -1}, f"epsilon {AT_LEAST_ZERO}, got -1"),
        ("last-layer", {"loss": "a", "maximum": 0}, f"maximum {ABOVE_ZERO}, got 0"),
        ("balancer", {"total_norm": 0}, f"total_norm {ABOVE_ZERO}, got 0"),
        ("balancer", {"ema_decay": 1.1}, r"ema_decay must be a number from 0 to 1, got 1\.1"),
        ("balancer", {"per_batch_item": 1}, "per_batch_item must be True or False, got 1"),
        ("balancer", {"epsilon": -1e-9}, f"epsilon {AT_LEAST_ZERO}, got -1e-09"),
    ],
)
def test_a_parameter_out_of_its_range_is_named(name, params, said):
    manager = LossManager()
    for loss in ("a", "b"):
        manager.register_loss_fn(loss, abs)
    with pytest.raises(WeightingError, match=said):
        manager.set_weighting(Weighting(name, params=params, wrt="y_fake"))


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        ("G_gan", "'G_gan' is none of these. Did you mean 'G_GAN'"),
        ("D", "'G_GAN', 'G_L1', and 'D' is none of these"),
    ],
)
def test_last_layer_refuses_a_loss_that_it_does_not_balance(loss, said):
    manager = LossManager()
    for name in ("G_GAN", "G_L1"):
        manager.register_loss_fn(name, abs)
    with pytest.raises(WeightingError, match=said):
        manager.set_weighting(Weighting("last-layer", params={"loss": loss}, wrt="last_layer"))


def test_last_layer_refuses_to_balance_one_loss():
    with pytest.raises(ValueError, match="no loss to weigh 'a' against"):
        weightings.LastLayer(loss="a").begin(["a"])


def test_last_layer_has_no_default_for_the_loss():
    manager = LossManager()
    manager.register_loss_fn("a", abs)
    with pytest.raises(WeightingError, match="missing a required .*argument: 'loss'"):
        manager.set_weighting(Weighting("last-layer", wrt="last_layer"))


def broken(state):
    """Return states that differ from a valid one in one place."""
    yield {}
    yield dict.fromkeys(state)
    for key, value in state.items():
        yield state | {key: 3.5}
        yield {other: state[other] for other in state if other != key}
        if isinstance(value, dict):
            yield state | {key: {**value, "a": "text"}}
            yield state | {key: {**value, "a": [None]}}
            yield state | {key: {**value, "a": [math.inf]}}
            yield state | {key: {**value, "a": math.nan}}


def test_a_state_that_is_something_else_is_refused_and_changes_nothing(make_with_state, steps):
    weighting = make_with_state()
    for step in steps(5):
        weighting.factors(step)
    before = copy.deepcopy(weighting.state_dict())
    for state in broken(before):
        with pytest.raises(ValueError, match="the state of a weighting"):
            weighting.load_state_dict(state)
        assert weighting.state_dict() == before
