"""Specs: from the name of an objective to losses, their weights and schedules, and errors."""

import re

import pytest
import torch

from nectargan_core import Config, LMLoss, LossLog, LossManager, Schedule, catalog
from nectargan_core.errors import (
    AmbiguousPluginError,
    ConfigError,
    DuplicateLossError,
    NectarganWarning,
    PluginBlockedError,
    PluginContractError,
    PluginNotFoundError,
    ScheduleError,
    SpecError,
    SpecSyntaxError,
    UnknownLossError,
    UnknownScheduleError,
    UnknownVariantError,
)

MODULE = """
from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from nectargan_core import LMLoss, Schedule
from nectargan_core.errors import ConfigError

if TYPE_CHECKING:
    from nectargan_core import Config

SHARED = {"shared": LMLoss(name="shared", function=torch.nn.L1Loss(), tags=["G"])}


def acme(config: Config, subspec: Literal["basic", "extended"] = "basic", *, power: float = 1.0) -> dict[str, LMLoss]:
    losses = {
        "G_A": LMLoss(
            name="G_A", function=torch.nn.L1Loss(), loss_weight=config.loss_weight("a", default=10.0), tags=["G"]
        )
    }
    if subspec == "extended":
        losses["G_B"] = LMLoss(name="G_B", function=torch.nn.MSELoss(), loss_weight=power, tags=["G"])
    return losses


def plain(config):
    return {"G_P": LMLoss(name="G_P", function=torch.nn.L1Loss(), loss_weight=config.loss_weight("p", default=1.0))}


def again(config):
    return {"G_A": LMLoss(name="G_A", function=torch.nn.L1Loss())}


def shared(config):
    return SHARED


def device(config):
    return {"D": LMLoss(name="D", function=torch.nn.L1Loss(), tags=[str(config.common.device)])}


def decaying(config):
    schedule = Schedule(end_epoch=10, target_value=0.0)
    return {"S": LMLoss(name="S", function=torch.nn.L1Loss(), loss_weight=50.0, schedule=schedule)}


def rising(config):
    weight = config.loss_weight("r", default=0.0)
    schedule = Schedule(end_epoch=10, target_value=1.0)
    return {"R": LMLoss(name="R", function=torch.nn.L1Loss(), loss_weight=weight, schedule=schedule)}


def raising(config):
    raise ZeroDivisionError("by the spec")


def configured_wrongly(config):
    raise ConfigError("what the spec says")


def anything(config, subspec="x", **options):
    return {"O": LMLoss(name="O", function=torch.nn.L1Loss(), tags=[subspec, *options])}
"""
NAMES = re.findall(r"^def (\w+)", MODULE, re.MULTILINE)


@pytest.fixture
def installed(site):
    """A distribution with the specs above."""
    site.install(
        "acme-losses",
        "2.5",
        specs={name: f"acme_losses:{name}" for name in NAMES},
        modules={"acme_losses.py": MODULE},
    )
    return site


pytestmark = pytest.mark.usefixtures("installed")


def weights(manager):
    return manager.get_loss_weights(precision=None)


def config_of(**lambdas):
    return {"train": {"loss": {f"lambda_{name}": weight for name, weight in lambdas.items()}}}


# By name


@pytest.mark.parametrize(
    ("objective", "names"),
    [
        ("acme", ["G_A"]),
        ("acme:basic", ["G_A"]),
        ("acme:extended", ["G_A", "G_B"]),
        ("plain+acme:extended", ["G_P", "G_A", "G_B"]),
        ("acme-losses/acme+Acme_Losses/plain", ["G_A", "G_P"]),
    ],
)
def test_an_objective_is_the_losses_of_its_terms_in_their_order(objective, names):
    assert list(LossManager.from_spec(objective).get_registered_losses()) == names


def test_a_spec_is_given_the_configuration_with_the_manager_s_device():
    assert list(LossManager.from_spec("device", device="meta").get_loss_values("meta")) == ["D"]
    assert list(LossManager.from_spec("device", {"common": {"device": "cpu"}}).get_loss_values("cpu")) == ["D"]
    assert list(LossManager.from_spec("device").get_loss_values("None")) == ["D"]


def test_init_from_spec_and_register_spec_return_the_manager():
    manager = LossManager()
    assert manager.init_from_spec("acme") is manager
    assert manager.register_spec("plain") is manager


def test_init_replaces_and_register_adds():
    manager = LossManager.from_spec("acme")
    manager.register_spec("plain")
    assert list(manager.get_registered_losses()) == ["G_A", "G_P"]
    manager.init_from_spec("plain")
    assert list(manager.get_registered_losses()) == ["G_P"]
    manager.init_from_spec(None)
    assert manager.get_registered_losses() == {}


def test_from_spec_takes_the_arguments_of_the_manager(tmp_path):
    manager = LossManager.from_spec(
        "acme", config_of(a=5.0), tmp_path / "run", enable_logging=False, device="cpu", weights={"G_A": 7.0}
    )
    assert (weights(manager), str(manager.experiment_dir)) == ({"G_A": 7.0}, str(tmp_path / "run"))


def test_from_spec_releases_the_log_if_it_fails(tmp_path):
    with pytest.raises(PluginNotFoundError):
        LossManager.from_spec("acmee", experiment_dir=tmp_path)
    LossManager.from_spec("acme", experiment_dir=tmp_path).close()


# Weights


def test_the_configuration_overrides_the_default_of_the_spec_and_weights_override_both():
    assert weights(LossManager.from_spec("acme")) == {"G_A": 10.0}
    assert weights(LossManager.from_spec("acme", config_of(a=20.0))) == {"G_A": 20.0}
    assert weights(LossManager.from_spec("acme", config_of(a=20.0), weights={"G_A": 30.0})) == {"G_A": 30.0}


def test_a_weight_that_the_configuration_sets_to_zero_warns_once_naming_loss_and_key():
    with pytest.warns(NectarganWarning) as caught:
        LossManager.from_spec("acme+plain", config_of(a=0.0, p=0.0))
    for warning, loss, key in zip(caught, ("G_A", "G_P"), ("lambda_a", "lambda_p"), strict=True):
        assert f"loss {loss!r} does nothing: the configuration sets train.loss.{key} to 0" in str(warning.message)


def test_a_zero_of_the_configuration_is_warned_of_for_a_spec_function_too():
    def spec(config):
        return {"a": LMLoss(name="a", function=torch.dist, loss_weight=config.loss_weight("a", default=1.0))}

    manager = LossManager(config_of(a=0.0))
    with pytest.warns(NectarganWarning, match=r"loss 'a' does nothing"):
        manager.init_from_spec(spec, manager.config)


@pytest.mark.parametrize(
    "keywords",
    [
        {"weights": {"G_A": 1.0}},
        {"weights": {"G_A": 0.0}},
        {"schedules": {"G_A": Schedule(end_epoch=5, target_value=1.0)}},
    ],
)
def test_a_zero_of_the_configuration_that_is_replaced_is_not_warned_of(keywords, recwarn):
    LossManager.from_spec("acme", config_of(a=0.0), **keywords)
    assert not recwarn.list


def test_a_zero_of_the_configuration_that_a_schedule_raises_is_not_warned_of(recwarn):
    manager = LossManager.from_spec("rising", config_of(r=0.0))
    manager.tick(epoch=10)
    assert (weights(manager), recwarn.list) == ({"R": 1.0}, [])


def test_a_weight_for_an_unknown_loss_is_an_error_with_close_matches():
    with pytest.raises(UnknownLossError, match=r"a weight is given for loss 'G_a'.* has G_A. Did you mean \"G_A\""):
        LossManager.from_spec("acme", weights={"G_a": 1.0})


def test_a_schedule_for_an_unknown_loss_is_an_error():
    with pytest.raises(UnknownLossError, match="a schedule is given for loss 'G_B'"):
        LossManager.from_spec("acme", schedules={"G_B": Schedule(end_epoch=1, target_value=0.0)})


# Schedules


def test_a_schedule_replaces_the_weight_of_spec_and_configuration():
    schedule = Schedule(end_epoch=10, initial_value=5.0, target_value=0.0)
    manager = LossManager.from_spec("acme", config_of(a=20.0), schedules={"G_A": schedule})
    assert weights(manager) == {"G_A": 5.0}


def test_an_end_that_a_schedule_leaves_out_is_the_weight_without_the_schedule():
    schedules = {"G_A": Schedule(end_epoch=10, target_value=0.0)}
    assert weights(LossManager.from_spec("acme", schedules=schedules)) == {"G_A": 10.0}
    assert weights(LossManager.from_spec("acme", config_of(a=20.0), schedules=schedules)) == {"G_A": 20.0}
    assert weights(LossManager.from_spec("acme", schedules=schedules, weights={"G_A": 7.0})) == {"G_A": 7.0}


def test_a_weight_replaces_the_initial_value_of_a_schedule_of_a_spec():
    manager = LossManager.from_spec("decaying", weights={"S": 80.0})
    manager.tick(epoch=5)
    assert weights(manager) == {"S": 40.0}


def test_a_weight_that_contradicts_the_schedule_of_the_same_call_is_an_error():
    with pytest.raises(ScheduleError, match=r"loss 'G_A' is given the weight 7 and a schedule that begins at 5"):
        LossManager.from_spec(
            "acme", weights={"G_A": 7.0}, schedules={"G_A": Schedule(end_epoch=10, initial_value=5.0)}
        )


def test_an_unknown_schedule_is_an_error():
    with pytest.raises(UnknownScheduleError):
        LossManager.from_spec("acme", schedules={"G_A": Schedule("no-such-curve")})


# Options and prefix


def test_options_reach_the_spec_of_their_term():
    manager = LossManager.from_spec("plain+acme:extended", options={"acme": {"power": 4.0}})
    assert weights(manager)["G_B"] == 4.0


def test_a_spec_may_take_any_option():
    assert LossManager.from_spec("anything:v", options={"anything": {"a": 1}}).get_loss_values("a").keys() == {"O"}


def test_options_for_an_unknown_term_are_an_error():
    with pytest.raises(SpecError, match=r"options are given for 'acm'.*Did you mean \"acme\""):
        LossManager.from_spec("acme+plain", options={"acm": {}})


def test_an_unknown_option_is_an_error_with_those_that_the_spec_takes():
    with pytest.raises(SpecError, match=r"acme_losses:acme\) has no option 'powr'; it takes power. Did you mean"):
        LossManager.from_spec("acme", options={"acme": {"powr": 1}})
    with pytest.raises(SpecError, match="it takes none"):
        LossManager.from_spec("plain", options={"plain": {"power": 1}})


@pytest.mark.parametrize("name", ["config", "subspec"])
def test_config_and_subspec_are_refused_as_options(name):
    with pytest.raises(SpecError, match=f"has no option '{name}'"):
        LossManager.from_spec("acme:basic", options={"acme": {name: "basic"}})


def test_a_spec_can_be_used_twice_with_a_prefix():
    manager = LossManager.from_spec("acme")
    manager.register_spec("acme:extended", prefix="face_", weights={"face_G_A": 3.0})
    assert weights(manager) == {"G_A": 10.0, "face_G_A": 3.0, "face_G_B": 1.0}
    assert list(manager.get_registered_losses("face_G_A")) == ["face_G_A"]


def test_a_name_with_other_arguments_is_an_error():
    with pytest.raises(
        TypeError,
        match=r"takes weights=, schedules=, weightings=, options=, prefix=, rename_inputs=; got 1 positional",
    ):
        LossManager().init_from_spec("acme", Config(), lambda_a=1.0)


# Errors


@pytest.mark.parametrize("objective", ["", "acme++plain", "acme plain", "a/b/c", "C:\\specs\\acme"])
def test_an_invalid_name_is_a_syntax_error(objective):
    with pytest.raises(SpecSyntaxError):
        LossManager.from_spec(objective)


def test_an_unknown_spec_is_an_error_with_close_matches():
    with pytest.raises(PluginNotFoundError, match="Did you mean"):
        LossManager.from_spec("acmee")


@pytest.mark.parametrize(("name", "home"), [("vgg", "nectargan-vgg"), ("pix2pix", "nectargan-pix2pix")])
def test_a_first_party_spec_that_is_not_installed_says_how_to_install_it(alone, name, home):
    with pytest.raises(PluginNotFoundError, match=f"pip install {home}"):
        LossManager.from_spec(name)


def test_two_distributions_of_one_name_are_ambiguous_and_both_reachable(installed):
    installed.install_spec("other-acme", "acme")
    with pytest.raises(AmbiguousPluginError, match=r"'acme-losses/acme' or 'other-acme/acme'"):
        LossManager.from_spec("acme")
    assert list(LossManager.from_spec("other-acme/acme").get_registered_losses()) == ["acme"]


def test_the_error_for_a_blocked_spec_names_the_setting():
    catalog.configure(block=["acme-losses"])
    with pytest.raises(PluginBlockedError, match="acme-losses"):
        LossManager.from_spec("acme")


def test_an_unknown_variant_is_an_error_with_the_known_ones():
    with pytest.raises(
        UnknownVariantError, match=r"no variant 'extnded', only basic, extended.*\"extended\""
    ) as caught:
        LossManager.from_spec("acme:extnded")
    assert (caught.value.variant, caught.value.known) == ("extnded", ("basic", "extended"))


def test_a_variant_of_a_spec_without_any_is_an_error():
    with pytest.raises(UnknownVariantError, match=r"names a variant of .*, which has none; write 'plain'"):
        LossManager.from_spec("plain:deep")


def test_a_variant_is_passed_on_where_the_variants_are_not_declared():
    assert list(LossManager.from_spec("anything:free").get_loss_values("free")) == ["O"]


def test_a_name_that_two_terms_define_is_an_error_naming_both():
    with pytest.raises(DuplicateLossError) as caught:
        LossManager.from_spec("acme:basic+again")
    assert caught.value.name == "G_A"
    assert "by 'acme:basic' (acme-losses 2.5) and by 'again' (acme-losses 2.5)" in str(caught.value)


def test_a_spec_that_raises_is_a_spec_error_from_the_cause():
    with pytest.raises(SpecError, match=r"acme_losses:raising\) failed: ZeroDivisionError: by the spec") as caught:
        LossManager.from_spec("raising")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_errors_of_nectargan_pass_through_a_spec_unchanged():
    with pytest.raises(ConfigError, match=r"^what the spec says$"):
        LossManager.from_spec("configured_wrongly")


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (None, "NoneType"),
        ([], "list"),
        ({"a": torch.nn.L1Loss()}, "L1Loss under 'a'"),
        ({"b": LMLoss(name="a", function=torch.dist)}, "a loss named 'a' under the key 'b'"),
        ({1: LMLoss(name="1", function=torch.dist)}, "a loss named '1' under the key 1"),
    ],
)
def test_a_result_that_violates_the_contract_is_an_error_with_spec_and_result(result, said):
    def spec():
        return result

    with pytest.raises(PluginContractError, match=f"spec .*spec returned .*{said}; expected a dict") as caught:
        LossManager().init_from_spec(spec)
    assert isinstance(caught.value, TypeError)
    assert caught.value.group == catalog.SPECS


FAILURES = {
    "syntax": ("acme+", {}),
    "unknown": ("nothing", {}),
    "variant": ("acme:none", {}),
    "duplicate": ("acme+again", {}),
    "raising": ("plain+raising", {}),
    "weight": ("acme", {"weights": {"X": 1.0}}),
    "bad weight": ("acme", {"weights": {"G_A": float("nan")}}),
    "schedule": ("acme", {"schedules": {"G_A": Schedule("no-such-curve")}}),
    "options": ("acme", {"options": {"acme": {"x": 1}}}),
    "prefix": ("acme", {"prefix": "a/"}),
    "keyword": ("acme", {"lambda_a": 1.0}),
}


@pytest.mark.parametrize(("objective", "keywords"), FAILURES.values(), ids=FAILURES.keys())
@pytest.mark.parametrize("method", [LossManager.init_from_spec, LossManager.register_spec])
def test_a_failure_leaves_the_manager_as_it_was(method, objective, keywords):
    manager = LossManager.from_spec("plain", enable_logging=True)
    manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.ones(1)})
    before, plugins = manager.get_registered_losses(strip=False), list(manager.hooks.get_plugins())
    with pytest.raises((ValueError, TypeError, LookupError, RuntimeError)):
        method(manager, objective, **keywords)
    assert manager.get_registered_losses(strip=False) == before
    assert manager.get_loss_values() == {"G_P": 1.0}
    assert list(manager.hooks.get_plugins()) == plugins


def test_a_device_that_cannot_be_used_leaves_the_manager_as_it_was():
    class Immovable(torch.nn.Module):
        def to(self, *args, **kwargs):
            raise RuntimeError("no such device")

    manager = LossManager.from_spec("plain", device="cpu")
    with pytest.raises(ConfigError, match=r"loss 'a' cannot be moved to the device 'cpu' of this manager: no such dev"):
        manager.init_from_spec(lambda: {"a": LMLoss(name="a", function=Immovable())})
    assert list(manager.get_registered_losses()) == ["G_P"]


def test_adding_a_loss_that_is_registered_already_is_an_error():
    manager = LossManager.from_spec("acme")
    with pytest.raises(DuplicateLossError, match=r"loss 'G_A' is registered already; choose another name") as caught:
        manager.register_spec("again")
    assert caught.value.name == "G_A"


def test_managers_share_no_losses_of_a_spec_that_returns_the_same_objects():
    first, second = LossManager.from_spec("shared"), LossManager.from_spec("shared")
    first.set_weight("shared", 5.0)
    assert weights(second) == {"shared": 1.0}
    import acme_losses

    assert acme_losses.SHARED["shared"].loss_weight == 1.0


def test_pending_records_are_written_before_their_losses_are_replaced(tmp_path):
    manager = LossManager.from_spec("plain", experiment_dir=tmp_path)
    manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.ones(1)})
    manager.init_from_spec("acme")
    assert LossLog(tmp_path).series("G_P").loss.tolist() == [1.0]


def test_a_misspelt_keyword_of_from_spec_is_an_error_with_the_right_ones():
    with pytest.raises(TypeError, match=r"from_spec takes no weigths=, only weights, .*resume.*Did you mean .weights"):
        LossManager.from_spec(None, weigths={})


def test_what_goes_with_a_formula_is_explained_where_a_function_does_not_take_it():
    with pytest.raises(SpecError, match="weights= goes with a formula, and what is given with a function"):
        LossManager().init_from_spec(lambda config: {}, None, weights={"a": 1.0})


def test_a_spec_that_makes_a_loss_of_wrong_fields_names_them():
    with pytest.raises(SpecError, match="failed: LMLoss: weight: Extra inputs are not permitted"):
        LossManager().init_from_spec(lambda: {"a": LMLoss(name="a", function=abs, weight=3.0)})
