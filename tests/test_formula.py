"""Formulas: what a factor does to the losses of its term, to a configuration, and what goes before it."""

import math
import re
from typing import Literal

import pytest
import torch

from nectargan_core import Config, LMLoss, LossLog, LossManager, Schedule, Scheduler, catalog
from nectargan_core.errors import (
    DuplicateLossError,
    NectarganWarning,
    ScheduleError,
    SpecError,
    SpecSyntaxError,
    UnknownVariantError,
)

MODULE = """
from nectargan_core import LMLoss, Schedule
import torch
from typing import Literal


def made(name, weight=None, schedule=None, tags=("G",), function=torch.nn.L1Loss(), inputs=("y_fake", "y")):
    fields = {} if weight is None else {"loss_weight": weight}
    fields |= {} if schedule is None else {"schedule": schedule}
    return {name: LMLoss(name=name, function=function, tags=list(tags), inputs=inputs, **fields)}


def real(prediction):
    return torch.nn.functional.binary_cross_entropy_with_logits(prediction, torch.ones_like(prediction))


def fake(prediction):
    return torch.nn.functional.binary_cross_entropy_with_logits(prediction, torch.zeros_like(prediction))


def ramp(schedule, epoch, *, points):
    return points[min(int(epoch), len(points) - 1)]


def l1(config):
    return made("G_L1", config.loss_weight("l1", default=1.0))


def gan(config, subspec: Literal["bce", "hinge"] = "bce"):
    weight = config.loss_weight("gan", default=1.0)
    return {
        **made("G_GAN", weight, function=real, inputs=("pred_fake",)),
        **made("D_real", tags="D", function=real, inputs=("pred_real",)),
        **made("D_fake", tags="D", function=fake, inputs=("pred_fake",)),
    }


def several(config):
    return {**made("A", config.loss_weight("a", default=2.0)), **made("B", 3.0), **made("D", 5.0, tags="D")}


def untagged(config):
    return {**made("U", 2.0, tags=()), **made("V", -3.0, tags=("D",))}


def alone(config):
    return made("D_ONLY", 7.0, tags=("D",))


def negative(config):
    return made("N", -5.0)


def nothing(config):
    return {}


def decaying(config):
    return made("S", config.loss_weight("s", default=50.0), Schedule(end=10, target_value=0.0))


def warming(config):
    return made("S", schedule=Schedule(end=10, initial_value=0.0, target_value=0.5))


def falling(config):
    return made("S", schedule=Schedule(end=10, initial_value=4.0, target_value=1.0))


def rising(config):
    return made("S", config.loss_weight("s", default=0.0), Schedule(end=10, target_value=1.0))


def table(config):
    return made("S", schedule=Schedule(ramp, params={"points": [0.0, 0.5, 1.0]}))


def both(config):
    return {**decaying(config), **made("T", schedule=Schedule(ramp, params={"points": [0.0, 0.5, 1.0]}, factor=3.0))}


def attributes(config):
    weight = config.train.loss.lambda_vgg
    return made("W", 6.0 if weight is None else weight)


def items(config):
    loss = config.train.loss
    return made("W", loss["lambda_own"] if "lambda_own" in loss else getattr(loss, "lambda_their", 6.0))


def needy(config):
    return {"W": LMLoss(name="W", function=torch.nn.L1Loss(), loss_weight=config.train.loss.lambda_l1)}


def optional(config, *, weight=4.0):
    return made("O", weight)
"""
NAMES = re.findall(r"^def (\w+)\(config", MODULE, re.MULTILINE)
INPUTS = {"y_fake": torch.zeros(4), "y": torch.ones(4), "pred_fake": torch.tensor([-1.0]), "pred_real": torch.zeros(3)}


@pytest.fixture(autouse=True)
def installed(site):
    """A distribution with the specs above, beside which no other may offer `gan` or `l1`."""
    specs = {name: f"formula_losses:{name}" for name in NAMES}
    site.install("formula-losses", "1.5", specs=specs, modules={"formula_losses.py": MODULE})
    catalog.configure(plugins=["formula-losses", "nectargan-pix2pix", "other", "tiny"])
    return site


def weights(manager, epoch=None):
    if epoch is not None:
        manager.tick(epoch=epoch)
    return manager.get_loss_weights(precision=None)


def of(formula, config=None, **keywords):
    return LossManager.from_spec(formula, config, **keywords)


def config_of(**lambdas):
    return {"train": {"loss": {f"lambda_{name}": weight for name, weight in lambdas.items()}}}


# The losses that it concerns


def test_the_factor_is_the_weight_of_the_only_loss_whatever_its_default():
    assert weights(of("100*l1")) == {"G_L1": 100.0}
    assert weights(of("7*negative")) == {"N": 7.0}


def test_the_factor_multiplies_the_weights_of_several_losses_tagged_g():
    assert weights(of("10*several")) == {"A": 20.0, "B": 30.0, "D": 5.0}


def test_of_several_losses_the_only_one_tagged_g_is_concerned():
    assert weights(of("0.5*gan:hinge")) == {"G_GAN": 0.5, "D_real": 1.0, "D_fake": 1.0}


def test_all_losses_are_concerned_where_none_is_tagged_g():
    assert weights(of("2*untagged")) == {"U": 4.0, "V": -6.0}
    assert weights(of("2*alone")) == {"D_ONLY": 2.0}


def test_a_term_without_losses_takes_a_factor():
    assert weights(of("2*nothing + l1")) == {"G_L1": 1.0}


def test_each_term_has_a_factor_of_its_own():
    manager = of(" .5 * gan\n + 1e2*l1 + several")
    assert weights(manager) == {"G_GAN": 0.5, "D_real": 1.0, "D_fake": 1.0, "G_L1": 100.0, "A": 2.0, "B": 3.0, "D": 5.0}


def test_a_formula_is_the_published_objective_in_names_weights_and_numbers():
    formula, published = of("gan + 100*l1"), of("pix2pix")
    assert weights(formula) == weights(published)
    results = [dict(manager.compute_losses(INPUTS)) for manager in (formula, published)]
    assert results[0] == results[1]
    assert results[0]["G_L1"] == 100.0
    assert results[0]["G_GAN"].item() == pytest.approx(math.log1p(math.e))


def test_a_factor_of_0_is_a_weight_of_0_and_not_warned_of(recwarn):
    manager = of("0*l1 + 0*several + 0*both + 0*negative")
    assert weights(manager) == {"G_L1": 0.0, "A": 0.0, "B": 0.0, "D": 5.0, "S": 0.0, "T": 0.0, "N": 0.0}
    assert all(math.copysign(1.0, weight) == 1.0 for weight in weights(manager).values())
    manager.tick(epoch=1)
    assert manager.compute_losses(INPUTS).total.item() == 5.0
    manager.close()
    assert not [str(each.message) for each in recwarn.list]


@pytest.mark.parametrize("formula", ["1e308*several", "1e308*both", "1e308*untagged"])
def test_a_weight_that_is_too_large_for_a_float_is_an_error(formula):
    with pytest.raises(SpecError, match=re.escape(f"the factor of '{formula}' makes the weight of loss")):
        of(formula)


def test_a_weight_that_rounding_makes_0_is_an_error(installed):
    tiny = MODULE.replace("3.0)", "1e-200)")
    installed.install("tiny", specs={"tiny": "tiny_losses:several"}, modules={"tiny_losses.py": tiny})
    with pytest.raises(SpecError, match="makes the weight of loss 'B' too small for a float"):
        of("1e-200*tiny")


# Schedules


@pytest.mark.parametrize(
    ("formula", "at_0", "at_5", "at_10"),
    [
        ("7*decaying", 7.0, 3.5, 0.0),
        ("10*warming", 0.0, 5.0, 10.0),
        ("10*falling", 10.0, 6.25, 2.5),
        ("10*rising", 0.0, 5.0, 10.0),
        ("10*table", 0.0, 10.0, 10.0),
    ],
)
def test_the_schedule_of_the_only_loss_is_scaled_so_that_the_larger_end_is_the_factor(formula, at_0, at_5, at_10):
    manager = of(formula)
    assert [weights(manager, epoch)["S"] for epoch in (0, 5, 10)] == [at_0, at_5, at_10]


@pytest.mark.parametrize("factor", [0.1, 0.3, 3, 7, 13, 0.7, 1e-4, 1e15])
def test_an_end_that_the_spec_leaves_out_is_the_factor_exactly(factor):
    assert weights(of(f"{factor}*decaying"))["S"] == factor


def test_the_values_of_the_schedules_of_several_losses_are_multiplied():
    plain, scaled = of("both"), of("3*both")
    for epoch in (0, 1, 2, 5, 10):
        expected = {name: 3.0 * weight for name, weight in weights(plain, epoch).items()}
        assert weights(scaled, epoch) == expected
    (loss,) = scaled.get_registered_losses("T").values()
    assert (loss.schedule.ends(), loss.schedule.factor, loss.schedule.current_value) == ((1.0, 1.0), 9.0, 9.0)


def test_a_schedule_with_a_factor_goes_through_json():
    schedule = of("3*both").get_registered_losses()["S"].schedule
    read = Schedule.model_validate_json(schedule.model_dump_json())
    assert read == schedule
    assert read != schedule.model_copy(update={"factor": 2.0})
    assert Scheduler(read).value(5) == Scheduler(schedule).value(5) == 75.0


@pytest.mark.parametrize("formula", ["7*decaying", "3*both", "10*table"])
def test_a_factor_comes_back_with_a_state(formula):
    manager = of(formula)
    weights(manager, 1)
    state = manager.state_dict()
    same, other = of(formula), of(formula.partition("*")[2])
    same.load_state_dict(state)
    with pytest.warns(NectarganWarning, match="weights and schedules are now those of the state"):
        other.load_state_dict(state)
    for loaded in (same, other):
        assert [weights(loaded, epoch) for epoch in (1, 7)] == [weights(manager, epoch) for epoch in (1, 7)]
    kept = of(formula.partition("*")[2])
    kept.load_state_dict(state, weights="current")
    assert weights(kept, 7) == weights(of(formula.partition("*")[2]), 7)


def test_the_schedule_of_a_snapshot_can_be_set_again():
    manager = of("3*both")
    before = weights(manager, 4)
    manager.set_schedule("S", manager.get_registered_losses()["S"].schedule)
    assert weights(manager) == before
    assert weights(manager, 8)["S"] == 30.0


def test_a_schedule_that_is_set_has_the_weight_with_the_factor_where_it_leaves_out_an_end():
    manager = of("3*both")
    weights(manager, 5)
    manager.set_schedule("S", Schedule(start=5, end=7, target_value=0.0))
    assert [weights(manager, epoch)["S"] for epoch in (5, 6, 7)] == [75.0, 37.5, 0.0]


def test_what_is_recorded_is_the_weight_with_the_factor(tmp_path):
    with of("3*both", experiment_dir=tmp_path) as manager:
        for epoch in (0, 5):
            manager.tick(epoch=epoch)
            assert manager.compute_losses(INPUTS)["S"].item() == weights(manager)["S"]
    assert LossLog(tmp_path).series("S").weight.tolist() == [150.0, 75.0]


# Precedence


def test_weights_go_before_a_factor():
    assert weights(of("100*l1", weights={"G_L1": 5.0})) == {"G_L1": 5.0}
    assert weights(of("10*several", weights={"A": 5.0})) == {"A": 5.0, "B": 30.0, "D": 5.0}


@pytest.mark.parametrize("formula", ["decaying", "7*decaying"])
def test_weights_go_before_the_factor_of_a_scheduled_loss(formula):
    manager = of(formula, weights={"S": 80.0})
    assert [weights(manager, epoch)["S"] for epoch in (0, 5, 10)] == [80.0, 40.0, 0.0]


@pytest.mark.parametrize("formula", ["both", "3*both"])
def test_weights_go_before_the_factor_of_one_of_several_scheduled_losses(formula):
    manager = of(formula, weights={"S": 80.0})
    assert [weights(manager, epoch)["S"] for epoch in (0, 5, 10)] == [80.0, 40.0, 0.0]


def test_a_weight_beside_an_initial_value_of_the_spec_contradicts_it_with_a_factor_as_without():
    for formula in ("falling", "10*falling"):
        assert weights(of(formula, weights={"S": 4.0})) == {"S": 4.0}
        with pytest.raises(ScheduleError, match="is given the weight 5 and a schedule that begins at 4"):
            of(formula, weights={"S": 5.0})


def test_schedules_go_before_a_factor():
    schedule = Schedule(end=10, initial_value=5.0, target_value=1.0)
    assert weights(of("100*l1", schedules={"G_L1": schedule}), 10) == {"G_L1": 1.0}
    assert weights(of("3*both", schedules={"S": schedule}), 10)["S"] == 1.0


def test_an_end_that_such_a_schedule_leaves_out_is_the_weight_with_the_factor():
    schedule = Schedule(end=10, target_value=0.0)
    assert weights(of("100*l1", schedules={"G_L1": schedule}), 5) == {"G_L1": 50.0}
    assert weights(of("3*both", schedules={"S": schedule}), 5)["S"] == 75.0
    assert weights(of("3*both", schedules={"S": schedule}, weights={"S": 2.0}), 5)["S"] == 1.0


def test_a_factor_goes_before_the_configuration_and_a_term_without_one_reads_it():
    config = config_of(l1=50.0)
    assert weights(of("l1", config)) == {"G_L1": 50.0}
    for factor in ("100", "1", "0"):
        with pytest.warns(NectarganWarning):
            assert weights(of(f"{factor}*l1", config)) == {"G_L1": float(factor)}
    with pytest.warns(NectarganWarning):
        assert weights(of("10*several", config_of(a=9.0))) == {"A": 20.0, "B": 30.0, "D": 5.0}


def test_only_the_term_with_the_factor_does_not_read_the_configuration(recwarn):
    assert weights(of("gan + 100*l1", config_of(gan=3.0)))["G_GAN"] == 3.0
    assert not [str(each.message) for each in recwarn.list]


def test_a_configuration_that_is_not_read_is_warned_of_naming_factor_and_key():
    with pytest.warns(NectarganWarning) as caught:
        of("100 * l1 + 2*gan:hinge", config_of(l1=50.0, gan=0.0, sobel=3.0))
    assert [str(warning.message) for warning in caught] == [
        "the objective says '100*l1', and the configuration sets train.loss.lambda_l1 to 50, which is not read: a "
        "factor goes before the configuration; remove the key, or write 'l1' to use it",
        "the objective says '2*gan:hinge', and the configuration sets train.loss.lambda_gan to 0, which is not read: a "
        "factor goes before the configuration; remove the key, or write 'gan:hinge' to use it",
    ]
    assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("formula", "key"), [("2*attributes", "vgg"), ("2*items", "own"), ("2*items", "their"), ("2*l1", "L1")]
)
def test_it_is_warned_of_however_a_spec_asks_for_it(formula, key):
    with pytest.warns(NectarganWarning, match=f"sets train.loss.lambda_{key} to 9, which is not read"):
        manager = of(formula, config_of(**{key: 9.0}))
    assert set(weights(manager).values()) == {2.0}


def test_what_else_the_configuration_says_is_read_beside_a_factor():
    seen = []

    def reading(config):
        loss = config.train.loss
        seen.append(
            (config.common.device, loss.mode, loss["mode"], "mode" in loss, loss.lambda_gan, config["own"]["a"])
        )
        return {"R": LMLoss(name="R", function=torch.dist)}

    import formula_losses

    formula_losses.l1 = reading
    of("2*l1", {"train": {"loss": {"mode": "x"}}, "own": {"a": 1}}, device="cpu")
    assert seen == [("cpu", "x", "x", True, None, 1)]


def test_the_configuration_of_the_manager_stays_as_it_is():
    config = Config.model_validate(config_of(l1=50.0))
    with pytest.warns(NectarganWarning):
        manager = of("100*l1", config)
    assert (manager.config, config.train.loss.lambda_l1) == (config, 50.0)


def test_a_spec_that_fails_without_the_weight_of_the_configuration_says_why():
    with pytest.raises(SpecError, match=r"failed: .*; because of its factor it was called without .*lambda_l1"):
        of("2*needy", config_of(l1=50.0))
    assert weights(of("needy", config_of(l1=50.0))) == {"W": 50.0}


# Terms


def test_options_are_given_by_name_or_term_without_the_factor():
    assert weights(of("10*both + optional", options={"optional": {"weight": 8.0}}))["O"] == 8.0
    assert weights(of("10*optional", options={"optional": {"weight": 8.0}})) == {"O": 10.0}
    with pytest.raises(SpecError, match=r"no term of '10\*optional'. A key of options has no factor. Did you mean"):
        of("10 * optional", options={"10*optional": {}})


def test_a_factor_stands_before_the_provider():
    assert weights(of("2*formula-losses/l1 + 0.5 * Formula_Losses/gan:hinge"))["G_GAN"] == 0.5


def test_one_term_may_have_losses_of_two_distributions_with_a_factor_each(installed):
    installed.install_spec("other", "l1")
    assert weights(of("2*other/l1 + 3*formula-losses/l1")) == {"l1": 2.0, "G_L1": 3.0}


def test_a_name_that_two_terms_define_is_an_error_with_their_factors():
    with pytest.raises(DuplicateLossError, match=r"by '2\*l1' \(formula-losses 1.5\) and by '0.5\*l1'"):
        of("2 * l1 + .5*l1")


def test_a_term_can_be_used_twice_with_prefixes():
    manager = of("10*l1").register_spec("2*l1", prefix="cycle_")
    assert weights(manager) == {"G_L1": 10.0, "cycle_G_L1": 2.0}


def test_an_unknown_variant_after_a_factor_is_an_error():
    with pytest.raises(UnknownVariantError, match="no variant 'hing', only bce, hinge"):
        of("2*gan:hing")


# The text


def test_the_objective_of_a_manager_is_the_text_and_one_formula_a_call():
    manager = of(" 100*l1+gan:hinge")
    assert manager.objective == " 100*l1+gan:hinge"
    manager.register_spec("2*several", prefix="face_")
    assert manager.objective == " 100*l1+gan:hinge + 2*several"
    assert manager.init_from_spec("1e2 * l1").objective == "1e2 * l1"


def test_the_log_has_the_formula(tmp_path):
    with of("100 * l1", experiment_dir=tmp_path) as manager:
        manager.register_spec("2*gan")
        manager.compute_losses(INPUTS)
    assert LossLog(tmp_path).header["objective"] == "100 * l1 + 2*gan"


@pytest.mark.parametrize("formula", ["100*", "l1*100", "1e+2*l1", "-1*l1", "100 l1", "1e999*l1"])
def test_a_formula_that_cannot_be_read_leaves_the_manager_as_it_was(formula):
    manager = of("100*l1")
    for method in (manager.init_from_spec, manager.register_spec):
        with pytest.raises(SpecSyntaxError):
            method(formula)
    assert (weights(manager), manager.objective) == ({"G_L1": 100.0}, "100*l1")


# Further terms of a function


def objective(config: Config, subspec: Literal["basic", "extended"] = "basic") -> dict[str, LMLoss]:
    return {subspec: LMLoss(name=subspec, function=torch.dist, loss_weight=config.loss_weight("own", default=1.0))}


@pytest.mark.parametrize(
    ("subspec", "expected"),
    [
        ("extended + 10*l1", {"extended": 1.0, "G_L1": 10.0}),
        ("basic+1e-4 * l1\n+ 0.5*gan:hinge", {"basic": 1.0, "G_L1": 1e-4, "G_GAN": 0.5, "D_real": 1.0, "D_fake": 1.0}),
        ("\textended \n", {"extended": 1.0}),
    ],
)
def test_the_variant_of_a_function_takes_blanks_and_further_terms_with_factors(subspec, expected):
    assert weights(LossManager().init_from_spec(objective, Config(), subspec)) == expected


@pytest.mark.parametrize(
    ("subspec", "column"),
    [
        ("basic +", 7),
        ("basic + 10*", 11),
        ("basic + l1 - gan", 11),
        (" basic + l1 + 1e+5*gan", 16),
        ("basic + 1e400*l1", 8),
    ],
)
def test_the_column_of_an_error_is_that_in_the_whole_string(subspec, column):
    with pytest.raises(SpecSyntaxError) as caught:
        LossManager().init_from_spec(objective, Config(), subspec)
    assert (caught.value.column, caught.value.text) == (column, subspec)
    _, shown, caret = str(caught.value).splitlines()
    assert shown == f"  {subspec}"
    assert caret.index("^") == column + 2


@pytest.mark.parametrize("subspec", ["10*extended + l1", "extnded + l1", "+ l1", "\u00a0extended + l1"])
def test_what_is_no_variant_before_further_terms_is_an_error(subspec):
    with pytest.raises(UnknownVariantError, match="objective has no variant"):
        LossManager().init_from_spec(objective, Config(), subspec)


def test_further_terms_with_a_factor_do_not_read_the_configuration_that_the_function_reads():
    config = Config.model_validate(config_of(own=6.0, l1=50.0))
    with pytest.warns(NectarganWarning, match=r"says '10\*l1', and the configuration sets train.loss.lambda_l1 to 50"):
        manager = LossManager().init_from_spec(objective, config, "extended + 10*l1")
    assert weights(manager) == {"extended": 6.0, "G_L1": 10.0}
