"""`rename_inputs=`: losses of an objective are given other inputs than those that they read."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nectargan_core import LossManager
from nectargan_core.errors import MissingInputError, SpecError, UnknownLossError

MODULE = """
import torch
from nectargan_core import LMLoss


def difference(a, b):
    return (a - b).sum()


def pair(config):
    return {
        "G_A": LMLoss(name="G_A", function=difference, tags=["G"]),
        "G_B": LMLoss(name="G_B", function=difference, loss_weight=10.0, tags=["G"], inputs=("y_fake", "x")),
    }


def by_parameter(config):
    return {"G_P": LMLoss(name="G_P", function=difference, inputs={"b": "y", "a": "y_fake"})}


def critic(config):
    return {
        "D": LMLoss(
            name="D",
            function=lambda critic, pred: critic().sum() + pred.sum(),
            inputs=("discriminator", "pred"),
            as_is=("discriminator",),
        )
    }


def ranged(config):
    ranges = {"y_fake": (0, 2), "y": (-1, 1)}
    return {"G_R": LMLoss(name="G_R", function=difference, ranges=ranges)}


def nothing(config):
    return {}
"""


@pytest.fixture(autouse=True)
def installed(site):
    site.install(
        "acme-losses",
        "2.5",
        specs={name: f"acme_losses:{name}" for name in ("pair", "by_parameter", "critic", "ranged", "nothing")},
        modules={"acme_losses.py": MODULE},
    )


def number(value):
    return torch.full((1,), float(value))


GIVEN = {"x": number(1), "y": number(2), "y_fake": number(4), "y_sharp": number(8)}


def values(manager, inputs=GIVEN):
    return {name: value.item() for name, value in manager.compute_losses(inputs).items()}


def inputs_of(manager):
    return {name: loss.inputs for name, loss in manager.get_registered_losses().items()}


def test_an_input_is_renamed_for_all_losses_of_the_call():
    manager = LossManager.from_spec("pair", rename_inputs={"y_fake": "x_rec", "y": "x"})
    assert inputs_of(manager) == {"G_A": ("x_rec", "x"), "G_B": ("x_rec", "x")}
    assert values(manager, {"x_rec": number(3), "x": number(1)}) == {"G_A": 2.0, "G_B": 20.0}


def test_losses_of_other_calls_read_what_they_did():
    manager = LossManager.from_spec("pair")
    manager.register_spec("by_parameter", rename_inputs={"y": "y_sharp"})
    assert inputs_of(manager)["G_A"] == ("y_fake", "y")
    assert values(manager) == {"G_A": 2.0, "G_B": 30.0, "G_P": -4.0}


def test_an_input_is_renamed_for_one_loss_by_its_name_with_the_prefix():
    manager = LossManager().init_from_spec("pair", prefix="my_", rename_inputs={"my_G_A": {"y": "y_sharp"}})
    assert values(manager) == {"my_G_A": -4.0, "my_G_B": 30.0}


def test_what_is_said_for_one_loss_beats_what_is_said_for_all():
    renames = {"y_fake": "y_sharp", "G_A": {"y_fake": "x"}}
    assert values(LossManager.from_spec("pair", rename_inputs=renames)) == {"G_A": -1.0, "G_B": 70.0}


def test_a_loss_keeps_an_input_that_is_renamed_for_all_others():
    renames = {"y_fake": "y_sharp", "G_A": {"y_fake": "y_fake"}}
    assert values(LossManager.from_spec("pair", rename_inputs=renames)) == {"G_A": 2.0, "G_B": 70.0}


def test_inputs_are_swapped():
    manager = LossManager.from_spec("pair", rename_inputs={"G_A": {"y_fake": "y", "y": "y_fake"}})
    assert values(manager) == {"G_A": -2.0, "G_B": 30.0}


def test_two_inputs_may_become_one():
    manager = LossManager.from_spec("pair", rename_inputs={"G_A": {"y_fake": "y"}})
    assert inputs_of(manager)["G_A"] == ("y", "y")
    assert values(manager) == {"G_A": 0.0, "G_B": 30.0}


def test_inputs_by_parameter_stay_by_parameter():
    manager = LossManager.from_spec("by_parameter", rename_inputs={"y": "y_sharp"})
    assert inputs_of(manager) == {"G_P": {"b": "y_sharp", "a": "y_fake"}}
    assert values(manager) == {"G_P": -4.0}


def test_an_input_that_is_taken_as_it_is_stays_so_under_its_new_name():
    manager = LossManager.from_spec("critic", rename_inputs={"discriminator": "critic"})
    assert manager.get_registered_losses()["D"].as_is == ("critic",)
    assert values(manager, {"critic": lambda: number(3), "pred": lambda: number(2)}) == {"D": 5.0}


def test_inputs_that_are_swapped_are_taken_as_their_places_were():
    manager = LossManager.from_spec("critic", rename_inputs={"discriminator": "pred", "pred": "discriminator"})
    loss = manager.get_registered_losses()["D"]
    assert (loss.inputs, loss.as_is) == (("pred", "discriminator"), ("pred",))


@pytest.mark.parametrize(
    "renames", [{"pred": "discriminator"}, {"discriminator": "pred"}, {"discriminator": "z", "pred": "z"}]
)
def test_one_input_cannot_be_taken_as_it_is_and_be_called(renames):
    with pytest.raises(SpecError, match="loss 'D' takes the input 'discriminator' as it is, and 'pred' called"):
        LossManager.from_spec("critic", rename_inputs=renames)


def test_a_missing_input_is_named_by_its_new_name():
    manager = LossManager.from_spec("pair", rename_inputs={"y": "y_sharp"})
    with pytest.raises(MissingInputError, match="loss 'G_A' reads the input 'y_sharp'") as caught:
        manager.compute_losses({"y_fake": number(1), "x": number(1), "y": number(1)})
    assert caught.value.input_name == "y_sharp"


def test_an_input_that_no_loss_reads_is_an_error_with_close_matches():
    with pytest.raises(SpecError, match=r"'y_fak', which no loss .*; they read y_fake, y, x\. Did you mean"):
        LossManager.from_spec("pair", rename_inputs={"y_fak": "x_rec"})


def test_an_input_that_the_loss_does_not_read_is_an_error_with_those_that_it_reads():
    with pytest.raises(SpecError, match=r"renames 'x' for loss 'G_A', which reads y_fake, y\."):
        LossManager.from_spec("pair", rename_inputs={"G_A": {"x": "y"}})


def test_an_unknown_loss_is_an_error_with_close_matches():
    with pytest.raises(UnknownLossError, match=r"is given for loss 'G_a', .* it has G_A, G_B\. Did you mean") as caught:
        LossManager.from_spec("pair", rename_inputs={"G_a": {"y": "x"}})
    assert (caught.value.name, caught.value.known) == ("G_a", ("G_A", "G_B"))


def test_a_loss_is_not_renamed_and_the_error_says_how_its_inputs_are():
    with pytest.raises(SpecError, match="'G_A', which no loss .* for the loss of this name alone give a mapping"):
        LossManager.from_spec("pair", rename_inputs={"G_A": "y_sharp"})


def test_a_name_without_its_prefix_is_an_unknown_loss():
    with pytest.raises(UnknownLossError, match='Did you mean "my_G_A"'):
        LossManager.from_spec("pair", prefix="my_", rename_inputs={"G_A": {"y": "x"}})


def test_an_objective_without_losses_reads_none():
    with pytest.raises(SpecError, match="they read none"):
        LossManager.from_spec("nothing", rename_inputs={"y": "x"})


@pytest.mark.parametrize("renames", [None, {}, {"G_A": {}}, {"y": "y"}])
def test_nothing_to_rename_changes_nothing(renames):
    assert values(LossManager.from_spec("pair", rename_inputs=renames)) == {"G_A": 2.0, "G_B": 30.0}


@pytest.mark.parametrize("value", [3, "y", [("y", "x")], {3: "x"}, b"y", torch.ones(2)])
def test_what_is_no_mapping_from_str_is_a_type_error_with_examples(value):
    with pytest.raises(TypeError, match=r"rename_inputs must be a mapping such as \{'y': 'y_sharp'\} or"):
        LossManager.from_spec("pair", rename_inputs=value)


@pytest.mark.parametrize("value", [3, None, b"x", ["x"], torch.ones(2)])
def test_a_new_name_that_is_no_str_is_a_type_error(value):
    with pytest.raises(TypeError, match=r"rename_inputs\['y'\] must be the name of an input.* for one loss a mapping"):
        LossManager.from_spec("pair", rename_inputs={"y": value})
    with pytest.raises(TypeError, match=r"rename_inputs\['G_A'\]\['y'\] must be a str, got"):
        LossManager.from_spec("pair", rename_inputs={"G_A": {"y": value}})


def test_a_new_name_that_cannot_be_written_is_a_value_error():
    with pytest.raises(ValueError, match="UTF-8"):
        LossManager.from_spec("pair", rename_inputs={"y": "\ud800"})


@pytest.mark.parametrize("renames", [{"z": "x"}, {"G_A": {"z": "x"}}, {"G_C": {"y": "x"}}, {"y": 3}, 3])
@pytest.mark.parametrize("method", [LossManager.init_from_spec, LossManager.register_spec])
def test_a_renaming_that_is_refused_leaves_the_manager_as_it_was(method, renames):
    manager = LossManager.from_spec("by_parameter")
    with pytest.raises((SpecError, UnknownLossError, TypeError)):
        method(manager, "pair", rename_inputs=renames)
    assert list(manager.get_registered_losses()) == ["G_P"]
    assert manager.objective == "by_parameter"


def test_weights_schedules_and_prefix_hold_beside_a_renaming():
    manager = LossManager.from_spec("pair", prefix="c_", weights={"c_G_A": 5.0}, rename_inputs={"y": "x"})
    assert values(manager) == {"c_G_A": 15.0, "c_G_B": 30.0}


def test_a_renamed_loss_is_computed_in_a_compiled_step():
    manager = LossManager.from_spec("by_parameter", rename_inputs={"y": "y_sharp"})
    step = torch.compile(lambda inputs: manager.compute_losses(inputs)["G_P"], backend="eager")
    assert step(GIVEN).item() == -4.0


NAMES = st.sampled_from(["x", "y", "y_fake", "y_sharp", "z"])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["x", "y", "y_fake"]), NAMES),
    st.dictionaries(st.sampled_from(["y", "y_fake"]), NAMES),
)
def test_each_input_is_replaced_once_and_by_what_is_said_for_the_loss_first(general, own):
    inputs = inputs_of(LossManager.from_spec("pair", rename_inputs={**general, "G_A": own}))
    assert inputs["G_A"] == tuple(own.get(name, general.get(name, name)) for name in ("y_fake", "y"))
    assert inputs["G_B"] == tuple(general.get(name, name) for name in ("y_fake", "x"))


@pytest.mark.parametrize(
    ("renames", "ranges"),
    [
        ({"y": "y_sharp"}, {"y_fake": (0, 2), "y_sharp": (-1, 1)}),
        ({"y": "y_fake", "y_fake": "y"}, {"y": (0, 2), "y_fake": (-1, 1)}),
        ({"y": "y_fake"}, {"y_fake": (0, 2)}),
    ],
)
def test_ranges_are_those_of_the_inputs_that_are_given(renames, ranges):
    manager = LossManager.from_spec("ranged", rename_inputs=renames)
    assert manager.get_registered_losses()["G_R"].ranges == ranges


def test_the_input_of_a_weighting_that_a_spec_brings_is_renamed():
    options = {"vqgan": {"backbone": "random", "heads": "equal", "disc_start": 0}}
    manager = LossManager.from_spec("vqgan", options=options)
    renames = {"y_fake": "second", "last_layer": "second_layer"}
    manager.register_spec("vqgan", options=options, prefix="b_", rename_inputs=renames)
    layers = {"last_layer": torch.nn.Conv2d(3, 3, 1), "second_layer": torch.nn.Conv2d(3, 3, 1)}
    x, y = (torch.rand(2, 1, 3, 32, 32) * 2 - 1).unbind()
    inputs = {name: layer.weight for name, layer in layers.items()} | {"codebook_loss": x.mean(), "y": y}
    inputs |= {"y_fake": layers["last_layer"](x), "second": layers["second_layer"](x)}
    pred_fake = inputs["y_fake"].mean() + inputs["second"].mean()
    manager.compute_losses({**inputs, "pred_fake": pred_fake}, query="G").total.backward()
    assert all(layer.weight.grad.abs().sum() > 0 for layer in layers.values())
