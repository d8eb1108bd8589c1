"""Errors and warnings: their base classes, their attributes, and the line that a warning points at."""

import copy
import pickle
import warnings

import pytest
import torch
from managers import ONE

from nectargan_core import LossManager, _messages, errors
from nectargan_core.errors import NectarganError, NectarganWarning, PluginError

KINDS = {
    "UnknownLossError": KeyError,
    "DuplicateLossError": ValueError,
    "SnapshotError": AttributeError,
    "SpecError": RuntimeError,
    "SpecSyntaxError": ValueError,
    "UnknownVariantError": ValueError,
    "ConfigError": ValueError,
    "ScheduleError": ValueError,
    "WeightingError": ValueError,
    "LossLogError": OSError,
    "MissingInputError": KeyError,
    "LossResultError": TypeError,
    "NonFiniteLossError": ArithmeticError,
    "WeightsError": OSError,
    "PluginError": NectarganError,
    "PluginNotFoundError": LookupError,
    "UnknownScheduleError": KeyError,
    "PluginLoadError": ImportError,
    "PluginBlockedError": PluginError,
    "AmbiguousPluginError": PluginError,
    "PluginContractError": TypeError,
    "ObjectiveError": ValueError,
}
PLUGIN_ERRORS = [name for name in KINDS if issubclass(getattr(errors, name), PluginError)]
CARRIED = {
    "UnknownLossError": {"name": "G_L1", "known": ("G_GAN",)},
    "DuplicateLossError": {"name": "G_L1"},
    "SpecSyntaxError": {"text": "a+", "column": 2},
    "UnknownVariantError": {"variant": "x", "known": ("a", "b")},
    "ObjectiveError": {"path": "objective.toml", "key": "losses.G_L1", "differences": ("x",)},
    "ConfigError": {"path": "config.json", "key": "common.device"},
    "MissingInputError": {"loss_name": "G_L1", "input_name": "y", "given": ("x",)},
    "LossResultError": {"loss_name": "G_L1"},
    "NonFiniteLossError": {"loss_name": "G_L1", "step": 3, "epoch": 1.5},
    **{name: {"group": "g", "name": "vgg", "dist": "acme", "version": "1.0"} for name in PLUGIN_ERRORS},
}


def test_every_error_is_in_this_list():
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
    assert defined - {"NectarganError", "NectarganWarning"} == KINDS.keys()


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_an_error_is_a_nectargan_error_and_of_the_matching_python_class(name, kind):
    error = getattr(errors, name)("what happened")
    assert isinstance(error, NectarganError)
    assert isinstance(error, kind)


@pytest.mark.parametrize("name", ["NectarganError", *KINDS])
def test_the_text_of_an_error_is_its_message(name):
    assert str(getattr(errors, name)("what happened, 'quoted'\nand below")) == "what happened, 'quoted'\nand below"


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("copied", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_an_error_can_be_copied_and_pickled(name, copied):
    error = getattr(errors, name)("what happened", **CARRIED.get(name, {}))
    again = copied(error)
    assert (type(again), str(again)) == (type(error), "what happened")
    for attribute, value in CARRIED.get(name, {}).items():
        assert getattr(again, attribute) == value


def test_an_unknown_schedule_is_a_plugin_that_is_not_found():
    assert issubclass(errors.UnknownScheduleError, errors.PluginNotFoundError)


@pytest.mark.parametrize(
    ("name", "candidates", "said"),
    [
        ("G_l1", ["G_L1", "G_GAN"], ' Did you mean "G_L1"?'),
        ("G_L", ["G_L1", "G_L2"], ' Did you mean "G_L2" or "G_L1"?'),
        ("VGG", ["vgg", "Vgg"], ' Did you mean "vgg" or "Vgg"?'),
        ("nothing", ["G_L1"], ""),
        ("a", [], ""),
    ],
)
def test_close_matches_are_suggested_whatever_their_case(name, candidates, said):
    assert sorted(_messages.did_you_mean(name, candidates)) == sorted(said)


def test_a_warning_points_at_the_caller_outside_of_the_package():
    module = {"__name__": "nectargan_core.made_up", "warn": _messages.warn}
    exec(compile("def inner(): warn('careful')\ndef outer(): inner()", "<made up>", "exec"), module)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module["outer"]()
    assert [(str(each.message), each.category, each.filename) for each in caught] == [
        ("careful", NectarganWarning, __file__)
    ]


def test_a_nectargan_warning_is_a_user_warning():
    assert issubclass(NectarganWarning, UserWarning)


NASTY = "G_\x1b[2J\u202eL1\r"
SAFE = r"G_\x1b[2J\u202eL1\r"


def assert_safe(text):
    assert all(line.isprintable() for line in text.split("\n")), text
    assert SAFE in text


def nasty_manager():
    manager = LossManager()
    manager.register_loss_fn(NASTY, torch.nn.L1Loss(), tags=["G"])
    return manager


@pytest.mark.parametrize("name", ["NectarganError", *KINDS])
def test_no_error_hands_control_characters_to_a_terminal(name):
    assert_safe(str(getattr(errors, name)(f"there is {NASTY}\nand more")))


@pytest.mark.parametrize(
    "ask",
    [
        lambda manager: manager.compute_loss_xy("other", None, None),
        lambda manager: manager.compute_losses({}, query="other"),
        lambda manager: manager.compute_losses({"y": ONE}),
        lambda manager: manager.compute_losses({NASTY: ONE}),
        lambda manager: manager.register_loss_fn(NASTY, torch.nn.L1Loss()),
        lambda manager: manager.series("other"),
        lambda manager: manager.init_from_spec("sobel", weights={NASTY: 1.0}),
        lambda manager: manager.set_weight(NASTY[:-1], 1.0),
    ],
)
def test_errors_about_losses_escape_their_names(ask):
    with pytest.raises(NectarganError) as caught:
        ask(nasty_manager())
    assert_safe(str(caught.value) + SAFE)


def test_what_is_printed_of_losses_escapes_their_names(capsys):
    manager = nasty_manager()
    manager.print_losses(epoch=1, iter=2)
    manager.print_weights()
    for line in capsys.readouterr().out.splitlines():
        assert_safe(line)
    assert_safe(manager.print_losses(1, 2, capture=True))
    assert_safe(repr(manager))


def test_warnings_escape_names():
    manager = nasty_manager()
    manager.register_loss_fn("other", torch.nn.L1Loss())
    manager.compute_loss_xy("other", ONE, ONE)
    with pytest.warns(NectarganWarning) as caught:
        manager.close()
    assert_safe(str(caught[0].message))
