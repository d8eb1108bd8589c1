"""`Adversarial`: each variant in each role against its formula, given targets, lists, dtypes and errors."""

import pickle
from math import exp, log

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nectargan_gan import Adversarial

ROLES = ("generator", "real", "fake")
VARIANTS = ("vanilla", "lsgan", "hinge", "wgan", "softplus")


def logistic(p, real):
    return np.logaddexp(0.0, -p if real else p)


# What BasicSR's GANLoss and SPADE's GANLoss compute, in numpy's double precision.
FORMULAS = {
    "vanilla": lambda p, role: logistic(p, role != "fake"),
    "softplus": lambda p, role: logistic(p, role != "fake"),
    "lsgan": lambda p, role: (p - (role != "fake")) ** 2,
    "wgan": lambda p, role: p if role == "fake" else -p,
    "hinge": lambda p, role: -p if role == "generator" else np.maximum(0, 1 + p if role == "fake" else 1 - p),
}


def predictions(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 3


def each_variant_and_role(test):
    return pytest.mark.parametrize("variant", VARIANTS)(pytest.mark.parametrize("role", ROLES)(test))


@each_variant_and_role
@pytest.mark.parametrize("shape", [(2, 1, 5, 4), (8, 1), (4,), ()])
def test_a_value_is_the_mean_of_the_formula(variant, role, shape):
    p = predictions(*shape)
    expected = FORMULAS[variant](p.double().numpy(), role).mean()
    assert Adversarial(variant, role)(p).item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@each_variant_and_role
def test_the_gradient_in_double_precision_is_that_of_differences(variant, role):
    p = predictions(2, 1, 3, 3).double().requires_grad_()
    torch.autograd.gradcheck(Adversarial(variant, role), (p,))


@given(p=st.floats(-1e4, 1e4, width=32))
def test_vanilla_and_softplus_are_the_same_function(p):
    given = torch.tensor([p], dtype=torch.float64)
    for role in ROLES:
        vanilla, softplus = (Adversarial(variant, role)(given).item() for variant in ("vanilla", "softplus"))
        assert vanilla == pytest.approx(softplus, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("variant", VARIANTS)
def test_confident_predictions_stay_finite(variant):
    p = torch.tensor([-1e4, 1e4], requires_grad=True)
    for role in ROLES:
        loss = Adversarial(variant, role)(p)
        (gradient,) = torch.autograd.grad(loss, p)
        assert loss.isfinite()
        assert gradient.isfinite().all()


# Targets and labels


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("role", ["real", "fake"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_a_given_target_replaces_the_own_one(variant, role, dtype):
    p = predictions(2, 1, 5, 4)
    for target, other in ((torch.ones_like(p), "real"), (torch.zeros_like(p), "fake")):
        loss = Adversarial(variant, role)(p, target.to(dtype))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(Adversarial(variant, other)(p).item(), rel=1e-6)


@pytest.mark.parametrize("variant", ["vanilla", "softplus"])
def test_a_target_between_is_that_of_the_cross_entropy(variant):
    p, target = predictions(2, 1, 5, 4), torch.rand(2, 1, 5, 4, generator=torch.Generator().manual_seed(1))
    probability, t = 1 / (1 + np.exp(-p.double().numpy())), target.double().numpy()
    expected = -(t * np.log(probability) + (1 - t) * np.log(1 - probability)).mean()
    assert Adversarial(variant, "fake")(p, target).item() == pytest.approx(expected, rel=1e-5)


def test_a_target_of_lsgan_is_what_the_prediction_is_to_be():
    p, target = predictions(2, 3), predictions(2, 3, seed=1)
    expected = ((p.double() - target.double()) ** 2).mean().item()
    assert Adversarial("lsgan", "fake")(p, target).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variant", ["hinge", "wgan"])
@pytest.mark.parametrize("role", ROLES)
def test_a_target_between_mixes_the_formulas_for_real_and_generated(variant, role):
    p, share = predictions(2, 1, 5, 4), 0.25
    real, fake = (Adversarial(variant, role)(p, torch.full_like(p, value)).item() for value in (1.0, 0.0))
    mixed = Adversarial(variant, role)(p, torch.full_like(p, share)).item()
    assert mixed == pytest.approx(share * real + (1 - share) * fake, rel=1e-5, abs=1e-6)


def test_each_element_has_a_target_of_its_own():
    p, target = torch.tensor([[2.0, -3.0]]), torch.tensor([[1.0, 0.0]])
    assert Adversarial("hinge", "real")(p, target).item() == 0.0
    assert Adversarial("wgan", "generator")(p, target).item() == pytest.approx(-2.5)


@pytest.mark.parametrize("variant", ["vanilla", "softplus", "lsgan"])
def test_a_label_is_a_target_for_all_elements(variant):
    p = predictions(2, 1, 5, 4)
    expected = Adversarial(variant, "real")(p, torch.full_like(p, 0.9))
    torch.testing.assert_close(Adversarial(variant, "real", label=0.9)(p), expected)


# Several discriminators


def test_the_losses_of_several_discriminators_are_averaged():
    said = [predictions(2, 1, 8, 8), predictions(2, 1, 4, 4, seed=1)]
    expected = sum(Adversarial("hinge", "fake")(each) for each in said) / 2
    torch.testing.assert_close(Adversarial("hinge", "fake")(said), expected)
    torch.testing.assert_close(Adversarial("hinge", "fake")(tuple(said)), expected)


def test_or_summed():
    said = [predictions(2, 1, 8, 8), predictions(2, 1, 4, 4, seed=1), predictions(2, 1, seed=2)]
    expected = sum(Adversarial("lsgan", "real")(each) for each in said)
    torch.testing.assert_close(Adversarial("lsgan", "real", over_discriminators="sum")(said), expected)


def test_of_an_entry_that_is_a_list_the_last_tensor_counts():
    features = predictions(2, 16, 8, 8)
    said = [[features, predictions(2, 1, 8, 8)], (features, features, predictions(2, 1, 4, 4, seed=1)), features]
    expected = Adversarial()([said[0][-1], said[1][-1], features])
    assert torch.equal(Adversarial()(said), expected)


def test_one_discriminator_in_a_list_is_one():
    p = predictions(2, 1, 8, 8)
    for over in ("mean", "sum"):
        assert torch.equal(Adversarial(over_discriminators=over)([[p]]), Adversarial()(p))


def test_each_discriminator_may_have_a_target_of_its_own():
    said = [predictions(2, 1, 8, 8), [predictions(1), predictions(2, 1, 4, 4, seed=1)]]
    targets = [torch.zeros(2, 1, 8, 8), torch.ones(2, 1, 4, 4)]
    expected = (Adversarial("lsgan", "fake")(said[0]) + Adversarial("lsgan", "real")(said[1][-1])) / 2
    torch.testing.assert_close(Adversarial("lsgan")(said, targets), expected)


# Dtypes and devices


@each_variant_and_role
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(variant, role, dtype):
    p = (predictions(2, 1, 8, 8) * 300).to(dtype)
    loss = Adversarial(variant, role)(p)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, Adversarial(variant, role)(p.float()))


def test_its_own_target_is_no_memory_of_the_size_of_the_prediction():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda each: kept.append(each) or each, lambda each: each):
        Adversarial()(predictions(4, 1, 64, 64).requires_grad_())
    assert len({each.untyped_storage().data_ptr() for each in kept if each.untyped_storage().nbytes() > 8}) == 1


def test_it_survives_pickling_and_shows_its_arguments():
    loss = pickle.loads(pickle.dumps(Adversarial("lsgan", "real", label=0.9, over_discriminators="sum")))
    assert repr(loss) == "Adversarial('lsgan', 'real', label=0.9, over_discriminators='sum')"
    assert repr(Adversarial()) == "Adversarial('vanilla', 'generator')"
    assert loss.state_dict() == {}


def test_an_undecided_discriminator_costs_the_logarithm_of_two():
    assert Adversarial()(torch.zeros(3)).item() == pytest.approx(log(1 + exp(0)))


# Errors


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"variant": "ragan"}, ValueError, "variant is one of vanilla, lsgan, hinge, wgan, softplus, not 'ragan'"),
        ({"role": "discriminator"}, ValueError, "role is one of 'generator', 'real', 'fake', not 'discriminator'"),
        ({"label": 1.5}, ValueError, "label is a number from 0 to 1, got 1.5"),
        ({"label": float("nan")}, ValueError, "got nan"),
        ({"label": "0.9"}, TypeError, "got '0.9'"),
        ({"label": True}, TypeError, "got True"),
        ({"variant": "hinge", "label": 0.9}, ValueError, "hinge has no labels"),
        ({"over_discriminators": "max"}, ValueError, 'over_discriminators is "mean" or "sum", not \'max\''),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        Adversarial(**arguments)


@pytest.mark.parametrize(
    ("prediction", "error", "said"),
    [
        ([], ValueError, "the prediction is empty"),
        ([torch.zeros(1), []], ValueError, r"the prediction\[1\] is empty"),
        (0.5, TypeError, "the prediction is of type float"),
        ({"mpd": torch.zeros(1)}, TypeError, "the prediction is of type dict"),
        ([torch.zeros(1), None], TypeError, r"the prediction\[1\] is of type NoneType"),
        ([[[torch.zeros(1)]]], TypeError, r"the prediction\[0\]\[-1\] is of type list"),
        (torch.zeros(1, dtype=torch.int64), TypeError, "floating-point predictions; the prediction is torch.int64"),
    ],
)
def test_what_is_no_prediction_is_refused(prediction, error, said):
    with pytest.raises(error, match=said):
        Adversarial()(prediction)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("shape", [(3,), (), (2, 1, 1, 1)])
def test_a_target_of_another_shape_is_refused(variant, shape):
    with pytest.raises(ValueError, match=r"same size as the prediction; the prediction is \(2, 1, 5, 4\)"):
        Adversarial(variant)(predictions(2, 1, 5, 4), torch.ones(shape))


def test_too_few_targets_are_refused():
    with pytest.raises(ValueError, match="there are 2 predictions and 1 targets"):
        Adversarial()([torch.zeros(1), torch.zeros(1)], torch.zeros(1))


def test_a_target_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="targets that are tensors, got float"):
        Adversarial()(torch.zeros(1), 1.0)
