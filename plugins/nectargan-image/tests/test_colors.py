"""The colour loss: HSLuv, its components, gradient, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_image import Color
from nectargan_image.hsluv import hsluv

from nectargan_core.testing import LossTests

TO_RGB = np.array(
    [
        [3.240969941904521, -1.537383177570093, -0.498610760293],
        [-0.96924363628087, 1.87596750150772, 0.041555057407175],
        [0.055630079696993, -0.20397695888897, 1.056971514242878],
    ]
)
NAMES = ("hue", "saturation", "lightness", "luma")


class TestLumaOnly(LossTests):
    function = Color(hue=0, saturation=0, lightness=0, luma=1, input_range=(0, 1))
    gradcheck = True


def images(*shape, seed=0, dtype=torch.float32):
    """Images with soft colours, lighter and darker ones, from 0 to 1."""
    generator = torch.Generator().manual_seed(seed)
    level = torch.rand(2, shape[0], 1, *shape[2:], generator=generator, dtype=torch.float64)
    colour = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
    strength = torch.rand(2, shape[0], 1, *shape[2:], generator=generator, dtype=torch.float64)
    return [image.to(dtype) for image in (level + strength * (colour - level)).unbind()]


def of_pixels(image):
    """HSLuv as its reference has it, pixel by pixel: the largest chroma by the lines that bound sRGB."""
    result = []
    for red, green, blue in image.double().permute(0, 2, 3, 1).reshape(-1, 3).tolist():
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        x, y, z = np.linalg.inv(TO_RGB) @ linear
        lightness = 116 * y ** (1 / 3) - 16 if y > 0.0088564516 else y * 903.2962962
        divisor = x + 15 * y + 3 * z
        u = 13 * lightness * (4 * x / divisor - 0.19783000664283) if divisor else 0.0
        v = 13 * lightness * (9 * y / divisor - 0.46831999493879) if divisor else 0.0
        chroma, hue = math.hypot(u, v), math.atan2(v, u)
        saturation = 0.0 if lightness > 99.99 or lightness < 0.01 else chroma / largest_chroma(lightness, hue)
        # A grey has no hue: in single precision, chroma this small is a grey.
        result.append((hue if chroma >= 0.028972067 else 0.0, min(saturation, 1.0), lightness / 100))
    return np.array(result).T


def largest_chroma(lightness, hue):
    sub = (lightness + 16) ** 3 / 1560896
    if sub <= 0.0088564516:
        sub = lightness / 903.2962962
    lengths = []
    for m1, m2, m3 in TO_RGB:
        for t in (0, 1):
            top1 = (284517 * m1 - 94839 * m3) * sub
            top2 = (838422 * m3 + 769860 * m2 + 731718 * m1) * lightness * sub - 769860 * t * lightness
            bottom = (632260 * m3 - 126452 * m2) * sub + 126452 * t
            length = top2 / bottom / (math.sin(hue) - top1 / bottom * math.cos(hue))
            if length >= 0:
                lengths.append(length)
    return min(lengths)


def expected_components(y_fake, y):
    (h1, s1, l1), (h2, s2, l2) = of_pixels(y_fake), of_pixels(y)
    turn = np.abs(h1 - h2) / np.pi
    hue = np.minimum(turn, 2 - turn)
    hue = np.where((s1 < 0.1) != (s2 < 0.1), np.maximum(s1, s2), hue)
    alike = ((s1 < 0.1) & (s2 < 0.1)) | ((l1 < 0.1) & (l2 < 0.1)) | ((l1 > 0.9) & (l2 > 0.9))
    return {
        "hue": np.where(alike, 0.0, hue).mean(),
        "saturation": (np.abs(s1 - s2) * (np.minimum(l1, 1 - l1) + np.minimum(l2, 1 - l2))).mean(),
        "lightness": np.abs(l1 - l2).mean(),
        "luma": np.abs((y_fake - y).double().numpy().transpose(0, 2, 3, 1) @ (0.299, 0.587, 0.114)).mean(),
    }


def test_hue_saturation_and_lightness_are_those_of_the_reference_of_hsluv():
    image, _ = images(2, 3, 16, 16, dtype=torch.float64)
    hue, saturation, lightness = of_pixels(image)
    found = hsluv(image)
    angle = torch.atan2(found.up, found.across).flatten().numpy()
    np.testing.assert_allclose(np.cos(angle - hue), 1.0, atol=1e-12)
    np.testing.assert_allclose(found.saturation.flatten(), saturation, atol=1e-7)
    np.testing.assert_allclose(found.lightness.flatten(), lightness, atol=1e-8)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (3, 3, 17, 9)])
def test_components_are_those_of_the_definitions(shape):
    y_fake, y = images(*shape)
    found = Color(hue=1, saturation=1, lightness=1, luma=1, input_range=(0, 1))(y_fake, y)
    assert list(found) == list(NAMES)
    for name, expected in expected_components(y_fake, y).items():
        assert found[name].item() == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("grey", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_greys_have_no_saturation_and_no_hue(grey):
    found = hsluv(torch.full((1, 3, 1, 1), grey))
    assert found.saturation.item() == pytest.approx(0.0, abs=1e-3)
    assert (found.across.item(), found.up.item()) == (1.0, 0.0)
    assert found.lightness.item() <= 1.0


@pytest.mark.parametrize(
    "pixel", [(0, 0, 0), (1, 1, 1), (1, 0, 0), (0, 0, 1), (1, 1, 0), (0.5, 0.5, 0.5), (0, 0, 1e-6)]
)
@pytest.mark.parametrize("other", [(0, 0, 0), (1, 1, 1), (0, 1, 0), (0.5, 0.5, 0.5)])
def test_gradients_are_finite_at_the_corners_of_the_colour_cube(pixel, other):
    y_fake = torch.tensor(pixel, dtype=torch.float32).reshape(1, 3, 1, 1).requires_grad_()
    y = torch.tensor(other, dtype=torch.float32).reshape(1, 3, 1, 1)
    sum(Color(input_range=(0, 1))(y_fake, y).values()).backward()
    assert y_fake.grad.isfinite().all()


def test_colours_out_of_the_range_count_as_at_its_end_but_for_luma():
    inside, outside = torch.ones(1, 3, 4, 4), torch.full((1, 3, 4, 4), 2.0)
    y = torch.zeros(1, 3, 4, 4)
    at_end, beyond = Color()(inside, y), Color()(outside, y)
    assert all(torch.equal(at_end[name], beyond[name]) for name in ("hue", "saturation", "lightness"))
    assert beyond["luma"].item() == pytest.approx(2 * at_end["luma"].item())


def test_the_range_is_scaled_to_0_to_1():
    y_fake, y = images(1, 3, 16, 16, dtype=torch.float64)
    expected = Color(input_range=(0, 1))(y_fake, y)
    torch.testing.assert_close(Color()(2 * y_fake - 1, 2 * y - 1), expected)
    torch.testing.assert_close(Color(input_range=(0, 255))(255 * y_fake, 255 * y), expected)


def test_a_component_of_weight_0_is_left_out():
    pair = images(1, 3, 8, 8)
    for name in NAMES:
        left = [other for other in NAMES if other != name]
        assert list(Color(**{name: 0})(*pair)) == left
        assert list(Color(**dict.fromkeys(left, 0))(*pair)) == [name]


def test_its_gradient_is_right():
    pair = tuple(image.requires_grad_() for image in images(1, 3, 4, 4, dtype=torch.float64))
    loss = Color(input_range=(0, 1))
    torch.autograd.gradcheck(lambda *pair: sum(loss(*pair).values()), pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    y_fake, y = images(1, 3, 16, 16, dtype=dtype)
    halves, singles = Color()(y_fake, y), Color()(y_fake.float(), y.float())
    assert all(torch.equal(halves[name], single) for name, single in singles.items())


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"hue": -1}, ValueError, "Color: hue is a number, at least 0, got -1"),
        ({"luma": math.nan}, ValueError, "luma is a number, at least 0, got nan"),
        ({"saturation": "1"}, TypeError, "got '1'"),
        (dict.fromkeys(NAMES, 0), ValueError, "are all 0; give one of them a weight above 0"),
        ({"input_range": (0.0, 0.0)}, ValueError, "input_range is a pair"),
        ({"input_range": "01"}, TypeError, "got '01'"),
        ({"input_range": (0.0, math.inf)}, ValueError, "got inf"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        Color(**arguments)


def test_grey_images_are_refused():
    with pytest.raises(ValueError, match="Color expects images with 3 channels"):
        Color()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8))


def test_it_shows_its_arguments():
    assert repr(Color(luma=0.5)).startswith("Color(hue=0.3333, saturation=0.3333, lightness=0.3333, luma=0.5, input")
