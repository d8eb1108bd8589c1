"""FFT and focal frequency: their values, gradients, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_image import FFT, FocalFrequency

from nectargan_core.testing import LossTests

SHAPES = [(1, 1, 8, 8), (2, 3, 17, 9), (3, 2, 6, 5), (1, 3, 1, 7), (1, 3, 7, 1), (2, 1, 1, 2), (1, 1, 1, 1)]
OPTIONS = [
    {},
    {"alpha": 2.0},
    {"alpha": 0.5},
    {"alpha": 0},
    {"patch_factor": 2},
    {"ave_spectrum": True},
    {"log_matrix": True},
    {"batch_matrix": True},
    {"alpha": 1.5, "patch_factor": 3, "ave_spectrum": True, "log_matrix": True, "batch_matrix": True},
]


class TestFocalFrequencyOfPatches(LossTests):
    function = FocalFrequency(alpha=1.5, patch_factor=2, log_matrix=True, batch_matrix=True)


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def focal(y_fake, y, alpha=1.0, patch_factor=1, ave_spectrum=False, log_matrix=False, batch_matrix=False, weights=None):
    """The loss from the equations of the paper: each patch by itself, all frequencies, two transforms."""
    height, width = (size // patch_factor for size in y.shape[2:])
    distances = []
    for row in range(patch_factor):
        for column in range(patch_factor):
            place = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
            of_fake, of_real = torch.fft.fft2(y_fake[place], norm="ortho"), torch.fft.fft2(y[place], norm="ortho")
            if ave_spectrum:
                of_fake, of_real = of_fake.mean(0, keepdim=True), of_real.mean(0, keepdim=True)
            distances.append((of_fake - of_real).abs())
    distance = torch.stack(distances)
    if weights is None:
        weights = distance.detach() ** alpha
        if log_matrix:
            weights = torch.log(weights + 1)
        weights = weights / (weights.max() if batch_matrix else weights.amax((-2, -1), keepdim=True))
    return (weights * distance**2).mean()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("norm", ["backward", "ortho", "forward"])
def test_fft_is_the_l1_distance_of_all_real_and_imaginary_parts(shape, norm):
    y_fake, y = images(*shape)
    spectrum = np.fft.fft2(y_fake.double().numpy() - y.double().numpy(), norm=norm)
    expected = np.abs(np.stack([spectrum.real, spectrum.imag])).mean()
    assert FFT(norm=norm)(y_fake, y).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 12, 6), (1, 2, 6, 9), (3, 1, 6, 6)])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_focal_frequency_and_its_gradient_are_those_of_the_paper(shape, options):
    if options.get("patch_factor") == 2 and shape[3] % 2:
        shape = (*shape[:3], shape[3] + 1)
    y_fake, y = images(*shape, dtype=torch.float64)
    results = []
    for loss in (FocalFrequency(**options), lambda y_fake, y: focal(y_fake, y, **options)):
        leaf = y_fake.clone().requires_grad_()
        value = loss(leaf, y)
        value.backward()
        results.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*results, rtol=1e-10, atol=1e-14)
    single = FocalFrequency(**options)(y_fake.float(), y.float())
    assert single.item() == pytest.approx(results[1][0].item(), rel=1e-5)


def test_the_gradient_of_fft_is_right():
    torch.autograd.gradcheck(FFT(), tuple(each.requires_grad_() for each in images(1, 2, 4, 5, dtype=torch.float64)))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equal_images_give_zero_and_a_gradient_of_zero(options):
    y_fake, _ = images(2, 3, 6, 6)
    leaf = y_fake.clone().requires_grad_()
    loss = FocalFrequency(**options)(leaf, y_fake)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(leaf.grad, torch.zeros_like(y_fake))


def test_a_range_of_twice_the_length_doubles_fft_and_makes_focal_frequency_four_times_as_large():
    y_fake, y = images(2, 3, 8, 8)
    assert FFT()(2 * y_fake, 2 * y).item() == pytest.approx(2 * FFT()(y_fake, y).item(), rel=1e-6)
    assert FocalFrequency()(2 * y_fake, 2 * y).item() == pytest.approx(4 * FocalFrequency()(y_fake, y).item(), rel=1e-6)


@pytest.mark.parametrize("loss", [FFT(), FocalFrequency()])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(loss, dtype):
    y_fake, y = images(2, 3, 16, 16, dtype=dtype)
    assert torch.equal(loss(y_fake, y), loss(y_fake.float(), y.float()))


@pytest.mark.parametrize("loss", [FFT(), FocalFrequency()])
def test_images_of_two_shapes_are_refused(loss):
    with pytest.raises(ValueError, match=rf"{type(loss).__name__} .*\(N, C, H, W\)"):
        loss(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 4))


def test_patches_that_do_not_fit_are_refused():
    y = torch.zeros(1, 3, 8, 9)
    with pytest.raises(ValueError, match="patch_factor 2 divides .* they are 8 and 9: crop"):
        FocalFrequency(patch_factor=2)(y, y)


@pytest.mark.parametrize(
    ("made", "error", "said"),
    [
        (lambda: FFT(norm="none"), ValueError, "FFT: norm is .* got 'none'"),
        (lambda: FocalFrequency(alpha=-1.0), ValueError, "alpha is a number, at least 0, got -1.0"),
        (lambda: FocalFrequency(alpha=math.inf), ValueError, "got inf"),
        (lambda: FocalFrequency(alpha=None), TypeError, "got None"),
        (lambda: FocalFrequency(patch_factor=0), ValueError, "patch_factor is an integer, at least 1, got 0"),
        (lambda: FocalFrequency(patch_factor=1.0), TypeError, "got 1.0"),
        (lambda: FocalFrequency(patch_factor=True), TypeError, "got True"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(made, error, said):
    with pytest.raises(error, match=said):
        made()


def test_they_show_their_arguments():
    assert repr(FFT(norm="ortho")) == "FFT(norm='ortho')"
    assert repr(FocalFrequency(alpha=2)).startswith("FocalFrequency(alpha=2.0, patch_factor=1, ave_spectrum=False")
