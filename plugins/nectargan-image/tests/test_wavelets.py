"""The wavelet loss: its sub-bands, gradient, dtypes, and errors."""

import numpy as np
import pytest
import torch
from nectargan_image import Wavelet
from nectargan_image.wavelets import _LOW_PASS
from scipy.ndimage import convolve1d

from nectargan_core.testing import LossTests

DB2 = (-0.12940952255126037, 0.2241438680420134, 0.8365163037378079, 0.48296291314453416)


class TestWaveletOfAnotherFilter(LossTests):
    function = Wavelet(wavelet=DB2, weights=(0, 1, 1, 1), input_range=(0, 1))


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def bands(image, low):
    """The four sub-bands of images (N, 3, H, W) from 0 to 1, by convolution in space."""
    red, green, blue = image.double().numpy().transpose(1, 0, 2, 3)
    luma = 16 + 65.481 * red + 128.553 * green + 24.966 * blue
    high = [-tap if place % 2 == 0 else tap for place, tap in enumerate(low[::-1])]
    filters = {"L": np.array(low) / sum(low), "H": np.array(high)}
    return {
        across + down: convolve1d(
            convolve1d(luma, filters[across], axis=2, mode="wrap"), filters[down], axis=1, mode="wrap"
        )
        for across in "LH"
        for down in "LH"
    }


@pytest.mark.parametrize("shape", [(1, 3, 40, 40), (2, 3, 47, 38), (2, 3, 32, 51)])
@pytest.mark.parametrize("wavelet", ["haar", "sym7", "sym19", DB2])
def test_components_are_the_l1_distances_of_the_sub_bands(shape, wavelet):
    y_fake, y = images(*shape)
    low = _LOW_PASS[wavelet] if isinstance(wavelet, str) else wavelet
    of_fake, of_real = bands((y_fake + 1) / 2, low), bands((y + 1) / 2, low)
    found = Wavelet(wavelet=wavelet, weights=(0.5, 1, 2, 4))(y_fake, y)
    for weight, name in zip((0.5, 1, 2, 4), ("LL", "LH", "HL", "HH"), strict=True):
        expected = weight * np.abs(of_fake[name] - of_real[name]).mean()
        assert found[name].item() == pytest.approx(expected, rel=1e-5), name


def test_images_smaller_than_the_filter_go_on_periodically():
    y_fake, y = images(1, 3, 3, 5)
    tiled = (image.repeat(1, 1, 16, 8) for image in (y_fake, y))
    for found, expected in zip(Wavelet()(y_fake, y).values(), Wavelet()(*tiled).values(), strict=True):
        assert found.item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("name", _LOW_PASS)
def test_filters_are_orthogonal(name):
    low = np.array(_LOW_PASS[name])
    assert low.sum() == pytest.approx(np.sqrt(2), abs=1e-10)
    for shift in range(0, len(low), 2):
        assert (low[shift:] * low[: len(low) - shift]).sum() == pytest.approx(float(shift == 0), abs=1e-10)


def test_a_grey_image_has_the_luma_of_its_three_equal_channels():
    y_fake, y = images(1, 1, 16, 16)
    coloured = Wavelet()(y_fake.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1))
    torch.testing.assert_close(Wavelet()(y_fake, y), coloured)


def test_only_a_scale_depends_on_the_range():
    y_fake, y = images(1, 3, 16, 16)
    for found, unit in zip(Wavelet()(y_fake, y).values(), Wavelet(input_range=(0, 1))(y_fake, y).values(), strict=True):
        assert 2 * found.item() == pytest.approx(unit.item(), rel=1e-6)


def test_a_component_of_weight_0_is_left_out():
    assert list(Wavelet(weights=(0, 1, 1, 0))(*images(1, 3, 8, 8))) == ["LH", "HL"]


def test_its_gradient_is_right():
    loss = Wavelet(wavelet="haar")
    pair = tuple(image.requires_grad_() for image in images(1, 3, 4, 5, dtype=torch.float64))
    torch.autograd.gradcheck(lambda *pair: sum(loss(*pair).values()), pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    y_fake, y = images(1, 3, 16, 16, dtype=dtype)
    halves, singles = Wavelet()(y_fake, y), Wavelet()(y_fake.float(), y.float())
    assert all(torch.equal(halves[name], single) for name, single in singles.items())


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"wavelet": "db4"}, ValueError, "wavelet is 'haar', 'sym7', 'sym19', or .* got 'db4'"),
        ({"wavelet": 3}, TypeError, "got 3"),
        ({"wavelet": ("a", "b")}, TypeError, "got 'a'"),
        ({"wavelet": (0.5, 0.5)}, ValueError, "2 taps with the sum 1"),
        ({"wavelet": ()}, ValueError, "0 taps"),
        ({"wavelet": (*DB2, 0.0)}, ValueError, "5 taps"),
        ({"weights": (1, 1)}, TypeError, r"weights is a tuple of four numbers, .* got \(1, 1\)"),
        ({"weights": (1, 1, 1, -1)}, ValueError, "at least 0, got -1"),
        ({"weights": (0, 0, 0, 0)}, ValueError, "give one of them a weight above 0"),
        ({"input_range": (1, 0)}, ValueError, r"input_range is a pair .* got \(1, 0\)"),
        ({"input_range": 255}, TypeError, "got 255"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        Wavelet(**arguments)


def test_images_of_two_channels_are_refused():
    with pytest.raises(ValueError, match="Wavelet expects images with 1 or 3 channels"):
        Wavelet()(torch.zeros(1, 2, 8, 8), torch.zeros(1, 2, 8, 8))


def test_it_shows_its_arguments():
    assert repr(Wavelet(wavelet="haar")).startswith("Wavelet(wavelet='haar', weights=(0.05, 0.025, 0.025, 0.02), input")


def test_it_shows_which_filter_it_was_given():
    assert Wavelet(wavelet=DB2).wavelet == tuple(map(float, DB2))
    assert repr(Wavelet(wavelet=DB2)) != repr(Wavelet(wavelet=DB2[::-1]))
