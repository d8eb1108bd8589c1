"""Total variation: its values, gradient, dtypes, and errors."""

import numpy as np
import pytest
import torch
from nectargan_image import TotalVariation


def image(*shape, dtype=torch.float32):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("shape", [(1, 1, 2, 2), (2, 3, 17, 9), (3, 2, 5, 32)])
def test_it_is_the_mean_difference_across_plus_that_down(shape):
    y_fake = image(*shape)
    numbers = y_fake.double().numpy()
    expected = np.abs(np.diff(numbers, axis=3)).mean() + np.abs(np.diff(numbers, axis=2)).mean()
    assert TotalVariation()(y_fake).item() == pytest.approx(expected, rel=1e-6)


def test_a_direction_of_one_pixel_adds_nothing():
    row = image(1, 3, 1, 8)
    assert TotalVariation()(row).item() == pytest.approx(np.abs(np.diff(row.double().numpy())).mean(), rel=1e-6)
    assert TotalVariation()(row.transpose(2, 3)).item() == pytest.approx(TotalVariation()(row).item())
    assert TotalVariation()(image(1, 3, 1, 1)).item() == 0.0


def test_its_gradient_is_right():
    torch.autograd.gradcheck(TotalVariation(), (image(2, 2, 4, 3, dtype=torch.float64).requires_grad_(),))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    y_fake = image(2, 3, 8, 8, dtype=dtype)
    assert torch.equal(TotalVariation()(y_fake), TotalVariation()(y_fake.float()))


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match=r"TotalVariation .*\(N, C, H, W\).*y_fake is \(3, 8, 8\)"):
        TotalVariation()(torch.zeros(3, 8, 8))
    with pytest.raises(TypeError, match="floating-point"):
        TotalVariation()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
