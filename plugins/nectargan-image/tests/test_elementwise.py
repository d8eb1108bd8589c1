"""L1, L2, Huber and smooth L1: their values, gradients, masks, dtypes, and errors."""

import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nectargan_image import L1, L2, Huber, SmoothL1

from nectargan_core.testing import LossTests

MASKS = [(2, 3, 6, 5), (2, 1, 6, 5), (1, 1, 6, 5), (2, 3, 1, 1), (1, 1, 1, 1)]


def huber(d, delta):
    return np.where(np.abs(d) <= delta, d**2 / 2, delta * (np.abs(d) - delta / 2))


FORMULAS = {
    "L1": (L1(), np.abs),
    "L2": (L2(), np.square),
    "Huber": (Huber(delta=0.3), lambda d: huber(d, 0.3)),
    "SmoothL1": (SmoothL1(beta=0.3), lambda d: huber(d, 0.3) / 0.3),
}
each_loss = pytest.mark.parametrize(("loss", "formula"), FORMULAS.values(), ids=FORMULAS)


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def masks(*shape, seed=1, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def difference(y_fake, y):
    return y_fake.double().numpy() - y.double().numpy()


def masked(formula, y_fake, y, mask):
    weights = np.broadcast_to(mask.double().numpy(), y.shape)
    return (weights * formula(difference(y_fake, y))).sum() / weights.sum()


class TestL2Masked(LossTests):
    function = L2()
    inputs = ("y_fake", "y", "mask")
    gradcheck = True


class TestHuberMap(LossTests):
    function = Huber(delta=0.5, reduction="none")
    inputs = ("y_fake", "y", "mask")
    gradcheck = True


class TestSmoothL1Sum(LossTests):
    function = SmoothL1(beta=0.5, reduction="sum")
    gradcheck = True


@each_loss
@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 17, 9), (4, 7), (5,), ()])
def test_mean_is_the_formula_in_double_precision(loss, formula, shape):
    y_fake, y = images(*shape)
    result = loss(y_fake, y)
    assert result.shape == ()
    assert result.item() == pytest.approx(formula(difference(y_fake, y)).mean(), rel=1e-6)


@each_loss
def test_map_and_sum_are_those_of_the_formula(loss, formula):
    kind = type(loss)
    arguments = {name: value for name, value in vars(loss).items() if name in ("delta", "beta")}
    y_fake, y = images(2, 3, 6, 5)
    mask = masks(2, 1, 6, 5)
    expected = formula(difference(y_fake, y))
    np.testing.assert_allclose(kind(**arguments, reduction="none")(y_fake, y), expected, rtol=1e-5, atol=1e-7)
    total = kind(**arguments, reduction="sum")
    assert total(y_fake, y).item() == pytest.approx(expected.sum(), rel=1e-6)
    assert total(y_fake, y, mask).item() == pytest.approx((expected * mask.double().numpy()).sum(), rel=1e-6)


@each_loss
@pytest.mark.parametrize("shape", MASKS)
def test_a_mask_weighs_each_element_and_counts_once_a_channel(loss, formula, shape):
    y_fake, y = images(2, 3, 6, 5)
    mask = masks(*shape)
    assert loss(y_fake, y, mask).item() == pytest.approx(masked(formula, y_fake, y, mask), rel=1e-6)


@each_loss
def test_a_mask_of_zeros_gives_zero_and_a_gradient_of_zero(loss, formula):
    y_fake, y = images(1, 3, 6, 5)
    result = loss(y_fake.requires_grad_(), y, torch.zeros(1, 1, 6, 5))
    result.backward()
    assert result.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


@each_loss
def test_gradients_of_images_and_mask_are_right(loss, formula):
    y_fake, y = (image.requires_grad_() for image in images(2, 2, 3, 2, dtype=torch.float64))
    mask = masks(2, 1, 3, 2, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(loss, (y_fake, y))
    torch.autograd.gradcheck(loss, (y_fake, y, mask))


@each_loss
def test_pixels_that_the_mask_hides_have_no_gradient(loss, formula):
    y_fake, y = images(1, 3, 6, 5)
    mask = torch.zeros(1, 1, 6, 5)
    mask[..., :3, :] = 1.0
    loss(y_fake.requires_grad_(), y, mask).backward()
    assert torch.equal(y_fake.grad != 0, mask.bool().expand_as(y))


@given(
    shown=st.integers(1, 4),
    fake=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    target=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
)
def test_a_mask_of_zeros_and_ones_gives_the_loss_of_what_it_shows(shown, fake, target):
    y_fake, y = (torch.tensor(values, dtype=torch.float64).reshape(1, 1, 2, 2) for values in (fake, target))
    mask = (torch.arange(4) < shown).reshape(1, 1, 2, 2)
    assert L1()(y_fake, y, mask).item() == pytest.approx(L1()(y_fake[mask], y[mask]).item())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_a_mask_may_have_any_dtype_of_real_numbers(dtype):
    y_fake, y = images(2, 3, 6, 5)
    mask = (masks(2, 1, 6, 5) > 0.5).to(dtype)
    loss = L1()(y_fake, y, mask)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(masked(np.abs, y_fake, y, mask), rel=1e-6)


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("mask", [None, masks(2, 1, 8, 8)], ids=["plain", "masked"])
def test_half_precision_is_computed_and_returned_in_float32(loss, formula, dtype, mask):
    y_fake, y = images(2, 3, 8, 8, dtype=dtype)
    assert torch.equal(loss(y_fake, y, mask), loss(y_fake.float(), y.float(), mask))


def test_the_square_of_half_precision_is_finite_for_images_up_to_255():
    y_fake, y = torch.full((1, 3, 4, 4), 255.0).half(), torch.zeros(1, 3, 4, 4).half()
    y_fake[..., 0] = 300.0
    y_fake[..., 1:] = 1.0
    assert L2()(y_fake, y).item() == pytest.approx((300**2 + 3) / 4, rel=1e-3)


def test_a_mask_of_half_precision_is_summed_in_float32():
    y_fake, y = images(1, 3, 300, 300, dtype=torch.float16)
    mask = torch.ones(1, 1, 300, 300, dtype=torch.float16)
    assert L1()(y_fake, y, mask).item() == pytest.approx(L1()(y_fake, y).item(), rel=1e-3)


@each_loss
def test_images_of_two_dtypes_give_the_dtype_that_they_promote_to(loss, formula):
    y_fake, y = images(1, 3, 8, 8)
    assert loss(y_fake.bfloat16(), y).dtype == torch.float32
    assert loss(y_fake, y.double()).dtype == torch.float64
    assert loss(y_fake.half(), y.bfloat16()).dtype == torch.float32


def test_they_survive_pickling_and_show_their_arguments():
    for loss, shown in [(L1(), "L1(reduction='mean')"), (Huber(delta=0.5), "Huber(delta=0.5, reduction='mean')")]:
        assert repr(pickle.loads(pickle.dumps(loss))) == shown


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda: Huber(delta=0.0), ValueError, "Huber: delta is a number above 0, got 0.0"),
        (lambda: Huber(delta=math.inf), ValueError, "got inf"),
        (lambda: Huber(delta=10**400), ValueError, "got 1000"),
        (lambda: Huber(delta="1"), TypeError, "got '1'"),
        (lambda: SmoothL1(beta=-1.0), ValueError, "SmoothL1: beta is a number above 0, got -1.0"),
        (lambda: SmoothL1(beta=math.nan), ValueError, "got nan"),
        (lambda: SmoothL1(beta=True), TypeError, "got True"),
        (lambda: L1("median"), ValueError, 'L1: reduction is "mean", "sum" or "none", got \'median\''),
    ],
)
def test_an_argument_out_of_its_range_is_refused(made, error, said):
    with pytest.raises(error, match=said):
        made()


@each_loss
def test_images_of_two_shapes_are_refused(loss, formula):
    with pytest.raises(ValueError, match=rf"{type(loss).__name__} .*y_fake is \(1, 3, 8, 8\) and y is \(1, 1, 8, 8\)"):
        loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8))


@each_loss
def test_integers_are_refused(loss, formula):
    with pytest.raises(TypeError, match="y_fake is torch.uint8 and y is torch.uint8: convert with .float()"):
        loss(torch.zeros(2, 2, dtype=torch.uint8), torch.zeros(2, 2, dtype=torch.uint8))


@pytest.mark.parametrize("shape", [(8, 8), (1, 8, 8), (2, 1, 8, 8), (1, 2, 8, 8), (1, 1, 4, 4)])
def test_a_mask_that_does_not_fit_is_refused(shape):
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"a mask of the shape of the images, \(1, 3, 8, 8\), or with"):
        L1()(y, y, torch.ones(shape))


def test_a_complex_mask_is_refused():
    y = torch.zeros(1, 3, 8, 8)
    with pytest.raises(TypeError, match="a mask of real numbers; it is torch.complex64"):
        L1()(y, y, torch.ones(1, 1, 8, 8, dtype=torch.complex64))


@pytest.mark.parametrize("value", [None, [torch.zeros(1)], np.zeros(1)])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError, match=f"L1 expects two images that are tensors; .*{type(value).__name__}"):
        L1()(torch.zeros(1), value)
