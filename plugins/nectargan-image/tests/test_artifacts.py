"""LDL: its values, gradient, dtypes, and errors."""

import numpy as np
import pytest
import torch
from nectargan_image import LDL
from nectargan_image.artifacts import _variance_of_rows, _variance_of_windows
from numpy.lib.stride_tricks import sliding_window_view

from nectargan_core.testing import LossTests


class TestLDLOfSmallWindows(LossTests):
    function = LDL(ksize=3, input_range=(0, 1))
    gradcheck = True
    inputs = ("y_fake", "y", "y_ema")

    def make_inputs(self, batch_size):
        generator = torch.Generator().manual_seed(batch_size)
        y_fake, y, y_ema = torch.rand(3, batch_size, 3, 16, 16, generator=generator) * 2 - 1
        return {"y_fake": y_fake.requires_grad_(), "y": y, "y_ema": y_ema}


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.rand(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(3)]


def formula(y_fake, y, y_ema, ksize=7):
    y_fake, y, y_ema = (image.double().numpy() for image in (y_fake, y, y_ema))
    residual, of_average = np.abs(y - y_fake).sum(1), np.abs(y - y_ema).sum(1)
    margin = ksize // 2
    padded = np.pad(residual, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    local = sliding_window_view(padded, (ksize, ksize), axis=(1, 2)).var((-2, -1), ddof=1)
    weights = residual.var((1, 2), ddof=1)[:, None, None] ** 0.2 * local
    weights = np.where(residual < of_average, 0.0, weights)
    return np.abs(weights[:, None] * (y_fake - y)).mean()


def with_windows(y_fake, y, y_ema, ksize=7):
    """The same in PyTorch, with each window written out, for the gradient."""
    residual = (y - y_fake).abs().sum(1, keepdim=True)
    margin = ksize // 2
    padded = torch.nn.functional.pad(residual, (margin,) * 4, mode="reflect")
    local = padded.unfold(2, ksize, 1).unfold(3, ksize, 1).var((-2, -1))
    weights = residual.var((1, 2, 3), keepdim=True) ** 0.2 * local
    weights = weights * (residual >= (y - y_ema).abs().sum(1, keepdim=True))
    return torch.nn.functional.l1_loss(weights * y_fake, weights * y)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 1, 9, 12), (3, 4, 4, 7)])
@pytest.mark.parametrize("ksize", [3, 5, 7])
def test_it_is_the_formula_in_double_precision(shape, ksize):
    three = images(*shape)
    loss = LDL(ksize=ksize, input_range=(0, 1))(*three)
    assert loss.item() == pytest.approx(formula(*three, ksize), rel=1e-5)


def test_a_nearly_constant_residual_loses_nothing_to_rounding():
    y_fake, y, y_ema = images(1, 3, 16, 16)
    y_fake = y + 0.9 + 1e-3 * y_fake
    y_ema = y
    assert LDL(input_range=(0, 1))(y_fake, y, y_ema).item() == pytest.approx(formula(y_fake, y, y_ema), rel=1e-3)


def test_its_gradient_flows_through_the_weights_as_in_the_authors_code():
    y_fake, y, y_ema = images(2, 3, 12, 10, dtype=torch.float64)
    gradients = []
    for loss in (LDL(input_range=(0, 1)), with_windows):
        leaf = y_fake.clone().requires_grad_()
        loss(leaf, y, y_ema).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_its_gradient_is_right():
    y_fake, y, y_ema = images(1, 2, 5, 6, dtype=torch.float64)
    torch.autograd.gradcheck(LDL(ksize=5), (y_fake.requires_grad_(), y.requires_grad_(), y_ema))


def test_the_average_gets_no_gradient():
    y_fake, y, y_ema = (image.requires_grad_() for image in images(1, 3, 8, 8))
    LDL()(y_fake, y, y_ema).backward()
    assert y_ema.grad is None


def test_pixels_that_the_average_does_worse_count_nothing():
    y_fake, y, y_ema = images(1, 3, 16, 16)
    assert LDL()(y_fake, y, y_fake + (y_fake - y)).item() == 0.0
    counted_all = LDL()(y_fake, y, y)
    assert 0 < LDL()(y_fake, y, y_ema) < counted_all
    # Equally good counts, so that the output in place of its average does the same.
    assert LDL()(y_fake, y, y_fake) == counted_all


@pytest.mark.parametrize("constant", [0.0, 0.5])
def test_a_constant_residual_gives_zero_and_a_finite_gradient(constant):
    _, y, _ = images(1, 3, 16, 16)
    y_fake = (torch.zeros_like(y) + constant).requires_grad_()
    loss = LDL()(y_fake, torch.zeros_like(y), torch.zeros_like(y))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


def test_the_range_is_scaled_to_length_1():
    three = images(1, 3, 16, 16, dtype=torch.float64)
    expected = LDL(input_range=(0, 1))(*three)
    torch.testing.assert_close(LDL()(*(2 * image - 1 for image in three)), expected)
    assert LDL(input_range=(0, 1))(*(2 * image for image in three)).item() == pytest.approx(2**3.4 * expected.item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    three = images(1, 3, 16, 16, dtype=dtype)
    assert torch.equal(LDL()(*three), LDL()(*(image.float() for image in three)))


def test_the_dtype_of_the_average_does_not_matter_to_that_of_the_loss():
    y_fake, y, y_ema = images(1, 3, 16, 16)
    assert LDL()(y_fake.half(), y.half(), y_ema.double()).dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"ksize": 4}, ValueError, "ksize is an odd integer, at least 3, got 4"),
        ({"ksize": 1}, ValueError, "got 1"),
        ({"ksize": 7.0}, TypeError, "got 7.0"),
        ({"ksize": True}, TypeError, "got True"),
        ({"input_range": (1, -1)}, ValueError, "input_range is a pair"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        LDL(**arguments)


def test_images_that_are_too_small_for_the_window_are_refused():
    three = images(1, 3, 3, 16)
    with pytest.raises(ValueError, match=r"LDL with a ksize of 7 expects images with more than 3 pixels"):
        LDL()(*three)


def test_images_of_two_shapes_are_refused():
    y_fake, y, y_ema = images(1, 3, 16, 16)
    with pytest.raises(ValueError, match=r"LDL .*y_ema is \(1, 3, 16, 8\)"):
        LDL()(y_fake, y, y_ema[..., :8])


def test_it_shows_its_arguments():
    assert repr(LDL(ksize=5)) == "LDL(ksize=5, input_range=(-1.0, 1.0))"


@pytest.mark.parametrize("size", [3, 7])
def test_both_ways_to_compute_the_variance_in_a_window_agree(size):
    image = torch.rand(2, 1, 20, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_variance_of_rows(image, size), _variance_of_windows(image, size))
