"""The Charbonnier module: its values, gradients, masks, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_charbonnier import Charbonnier

SHAPES = [(1, 1, 8, 8), (2, 3, 17, 9), (3, 2, 5, 32), (2, 3, 1, 1), (4, 7), (5,), ()]
MASKS = [(2, 3, 6, 5), (2, 1, 6, 5), (1, 1, 6, 5), (2, 3, 1, 1), (1, 1, 1, 1)]


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def masks(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def formula(y_fake, y, epsilon=1e-3):
    return np.sqrt((y_fake.double().numpy() - y.double().numpy()) ** 2 + epsilon**2)


def masked(y_fake, y, mask, epsilon=1e-3):
    weights = np.broadcast_to(mask.double().numpy(), y.shape)
    return (weights * formula(y_fake, y, epsilon)).sum() / weights.sum()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("epsilon", [1e-3, 1e-6, 0.5])
def test_mean_is_the_formula_in_double_precision(shape, epsilon):
    y_fake, y = images(*shape)
    loss = Charbonnier(epsilon=epsilon)(y_fake, y)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(formula(y_fake, y, epsilon).mean(), rel=1e-6)


def test_map_and_sum_are_those_of_the_formula():
    y_fake, y = images(2, 3, 8, 8)
    np.testing.assert_allclose(Charbonnier(reduction="none")(y_fake, y).numpy(), formula(y_fake, y), rtol=1e-6)
    assert Charbonnier(reduction="sum")(y_fake, y).item() == pytest.approx(formula(y_fake, y).sum(), rel=1e-6)


def test_equal_images_give_epsilon_and_a_gradient_of_zero():
    y_fake = torch.zeros(1, 3, 8, 8, requires_grad=True)
    loss = Charbonnier(epsilon=0.25)(y_fake, torch.zeros(1, 3, 8, 8))
    loss.backward()
    assert loss.item() == 0.25
    assert torch.equal(y_fake.grad, torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize("epsilon", [1e-18, 1e18])
def test_the_ends_of_the_range_of_epsilon_give_finite_values_and_gradients(epsilon):
    y_fake = torch.tensor([0.0, 1.0], requires_grad=True)
    loss = Charbonnier(epsilon=epsilon)(y_fake, torch.zeros(2))
    loss.backward()
    assert loss.item() == pytest.approx(formula(y_fake.detach(), torch.zeros(2), epsilon).mean(), rel=1e-6)
    assert y_fake.grad.isfinite().all()


def test_the_gradient_is_that_of_the_formula():
    y_fake, y = images(2, 3, 8, 8)
    Charbonnier(epsilon=0.1)(y_fake.requires_grad_(), y).backward()
    expected = (y_fake.detach() - y).double().numpy() / formula(y_fake.detach(), y, 0.1) / y.numel()
    np.testing.assert_allclose(y_fake.grad.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_of_images_and_mask_are_right_to_second_order(reduction):
    y_fake, y = (image.requires_grad_() for image in images(2, 2, 3, 2, dtype=torch.float64))
    mask = masks(2, 1, 3, 2, dtype=torch.float64).requires_grad_()
    loss = Charbonnier(epsilon=0.1, reduction=reduction)
    torch.autograd.gradcheck(loss, (y_fake, y))
    torch.autograd.gradcheck(loss, (y_fake, y, mask))
    torch.autograd.gradgradcheck(loss, (y_fake, y, mask))


@pytest.mark.parametrize("shape", MASKS)
def test_a_mask_weighs_each_element_and_counts_once_a_channel(shape):
    y_fake, y = images(2, 3, 6, 5)
    mask = masks(*shape)
    assert Charbonnier()(y_fake, y, mask).item() == pytest.approx(masked(y_fake, y, mask), rel=1e-6)


def test_a_mask_of_ones_changes_nothing():
    y_fake, y = images(2, 3, 6, 5)
    assert Charbonnier()(y_fake, y, torch.ones(2, 1, 6, 5)).item() == pytest.approx(Charbonnier()(y_fake, y).item())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_a_mask_may_have_any_dtype_of_real_numbers(dtype):
    y_fake, y = images(2, 3, 6, 5)
    mask = (masks(2, 1, 6, 5) > 0.5).to(dtype)
    loss = Charbonnier()(y_fake, y, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(masked(y_fake, y, mask), rel=1e-6)


def test_pixels_that_the_mask_hides_have_no_gradient():
    y_fake, y = images(1, 3, 6, 5)
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., :3, :] = 1.0
    Charbonnier()(y_fake.requires_grad_(), y, mask).backward()
    assert torch.equal(y_fake.grad != 0, mask.bool().expand_as(y))


def test_a_mask_of_zeros_gives_zero_and_a_gradient_of_zero():
    y_fake, y = images(1, 3, 6, 5)
    loss = Charbonnier()(y_fake.requires_grad_(), y, torch.zeros(1, 1, 6, 5))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_half_precision_is_computed_and_returned_in_float32(dtype, reduction):
    y_fake, y = images(2, 3, 8, 8, dtype=dtype)
    loss = Charbonnier(reduction=reduction)
    assert torch.equal(loss(y_fake, y), loss(y_fake.float(), y.float()))


def test_half_precision_neither_loses_epsilon_nor_overflows():
    near, far = torch.full((4,), 1e-3).half(), torch.full((4,), 1000.0).half()
    zero = torch.zeros(4).half()
    assert Charbonnier()(near, zero).item() == pytest.approx(math.sqrt(2) * 1e-3, rel=2e-3)
    assert Charbonnier()(far, zero).item() == 1000.0


def test_images_of_two_dtypes_give_the_dtype_that_they_promote_to():
    y_fake, y = images(1, 3, 8, 8)
    assert Charbonnier()(y_fake.bfloat16(), y).dtype == torch.float32
    assert Charbonnier()(y_fake, y.double()).dtype == torch.float64


def test_autocast_does_not_lower_the_precision():
    y_fake, y = images(1, 3, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Charbonnier()(y_fake, y)
    assert torch.equal(loss, Charbonnier()(y_fake, y))


def test_it_shows_its_arguments():
    assert repr(Charbonnier(epsilon=0.5, reduction="sum")) == "Charbonnier(epsilon=0.5, reduction='sum')"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"epsilon": 0.0}, ValueError, "epsilon is a number from 1e-18 to 1e\\+18, got 0.0"),
        ({"epsilon": -1e-3}, ValueError, "got -0.001"),
        ({"epsilon": math.nan}, ValueError, "got nan"),
        ({"epsilon": math.inf}, ValueError, "got inf"),
        ({"epsilon": 10**400}, ValueError, "got 1000"),
        ({"epsilon": True}, TypeError, "got True"),
        ({"epsilon": "1e-3"}, TypeError, "got '1e-3'"),
        ({"reduction": "median"}, ValueError, 'reduction is "mean", "sum" or "none", got \'median\''),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        Charbonnier(**arguments)


def test_images_of_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"y_fake is \(1, 3, 8, 8\) and y is \(1, 1, 8, 8\)"):
        Charbonnier()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))


def test_integers_are_refused():
    with pytest.raises(TypeError, match="y_fake is torch.uint8 and y is torch.float32: convert with .float()"):
        Charbonnier()(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(2, 2))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (2, 1, 8, 8), (1, 2, 8, 8), (1, 1, 4, 4)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"a mask of the shape of the images, \(1, 3, 8, 8\), or with"):
        Charbonnier()(y, y, torch.ones(shape))


def test_a_complex_mask_is_refused():
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(TypeError, match="a mask of real numbers; it is torch.complex64"):
        Charbonnier()(y, y, torch.ones(1, 1, 8, 8, dtype=torch.complex64))
