"""The SSIM and MS-SSIM modules: their values, gradients, dtypes, devices, and errors."""

import math
import pickle

import numpy as np
import pytest
import torch
from nectargan_ssim import MSSSIM, SSIM, window
from scipy.ndimage import correlate1d

KINDS = pytest.mark.parametrize(
    "loss",
    [SSIM(), MSSSIM(scale_weights=(0.3, 0.7)), SSIM(5, 0.8, (0.0, 255.0)), MSSSIM(5, padding="zeros")],
    ids=["ssim", "ms-ssim", "small", "padded"],
)
PAPER = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def images(*shape, seed=0, noise=0.3, dtype=torch.float64):
    """Return a smooth target with values from -1 to 1, and the same with noise."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(*shape[:2], 4, 4, generator=generator, dtype=torch.float64) * 2 - 1
    y = torch.nn.functional.interpolate(coarse, size=shape[2:], mode="bilinear", align_corners=True)
    y_fake = (y + noise * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1)
    return y_fake.to(dtype), y.to(dtype)


def maps(first, second, size=11, sigma=1.5, width=2.0, black=-1.0, border=0):
    """Return luminance, and contrast times structure, of two planes by pixel: equations 6, 13 and 14 to 16 of 2004."""
    window = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    window /= window.sum()

    def mean(plane):
        blurred = correlate1d(correlate1d(plane, window, axis=0), window, axis=1)
        edge = size // 2
        return blurred[edge:-edge, edge:-edge]

    first, second = (np.pad(plane - black, border) for plane in (first, second))
    m, n = mean(first), mean(second)
    variance, other = mean((first - first.mean()) ** 2), mean((second - second.mean()) ** 2)
    variance -= (m - first.mean()) ** 2
    other -= (n - second.mean()) ** 2
    covariance = mean((first - first.mean()) * (second - second.mean())) - (m - first.mean()) * (n - second.mean())
    c1, c2 = (0.01 * width) ** 2, (0.03 * width) ** 2
    luminance = (2 * m * n + c1) / (m**2 + n**2 + c1)
    return luminance, (2 * covariance + c2) / (variance + other + c2)


def halved(plane):
    plane = plane[: plane.shape[0] // 2 * 2, : plane.shape[1] // 2 * 2]
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def planes(y_fake, y):
    shape = y.shape
    pairs = zip(y_fake.double().flatten(0, 1).numpy(), y.double().flatten(0, 1).numpy(), strict=True)
    return shape[:2], list(pairs)


def ssim(y_fake, y, **options):
    """Return 1 - SSIM of each sample, by the formula."""
    shape, pairs = planes(y_fake, y)
    products = [luminance * structure for luminance, structure in (maps(*pair, **options) for pair in pairs)]
    return np.array([1 - product.mean() for product in products]).reshape(shape).mean(1)


def ms_ssim(y_fake, y, weights=PAPER, **options):
    """Return 1 - MS-SSIM of each sample, by equation 7 of 2003."""
    shape, pairs = planes(y_fake, y)
    losses = []
    for first, second in pairs:
        result = 1.0
        for scale, weight in enumerate(weights):
            luminance, structure = maps(first, second, **options)
            mean = (structure if scale < len(weights) - 1 else luminance * structure).mean()
            result *= max(mean, 0.0) ** weight
            first, second = halved(first), halved(second)
        losses.append(1 - result)
    return np.array(losses).reshape(shape).mean(1)


# Values


@pytest.mark.parametrize("shape", [(1, 1, 11, 11), (2, 3, 16, 25), (3, 1, 40, 12), (1, 4, 64, 64)])
@pytest.mark.parametrize("noise", [0.01, 0.3, 2.0])
def test_ssim_is_that_of_the_formula(shape, noise):
    y_fake, y = images(*shape, noise=noise)
    np.testing.assert_allclose(SSIM(reduction="none")(y_fake, y).numpy(), ssim(y_fake, y), rtol=1e-9)
    single = SSIM(reduction="none")(y_fake.float(), y.float())
    np.testing.assert_allclose(single.numpy(), ssim(y_fake.float(), y.float()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1, 176, 176), (2, 3, 192, 208), (1, 3, 179, 177)])
def test_ms_ssim_is_that_of_the_formula(shape):
    y_fake, y = images(*shape)
    np.testing.assert_allclose(MSSSIM(reduction="none")(y_fake, y).numpy(), ms_ssim(y_fake, y), rtol=1e-9)
    single = MSSSIM(reduction="none")(y_fake.float(), y.float())
    np.testing.assert_allclose(single.numpy(), ms_ssim(y_fake.float(), y.float()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "sigma"), [(3, 0.5), (7, 1.5), (9, 10.0)])
@pytest.mark.parametrize("weights", [(1.0,), (0.3, 0.7), (2.0, 1.0)])
def test_window_and_weights_are_those_given(size, sigma, weights):
    y_fake, y = images(2, 3, 24, 20)
    expected = ssim(y_fake, y, size=size, sigma=sigma)
    np.testing.assert_allclose(SSIM(size, sigma, reduction="none")(y_fake, y).numpy(), expected, rtol=1e-9)
    expected = ms_ssim(y_fake, y, weights, size=size, sigma=sigma)
    loss = MSSSIM(size, sigma, scale_weights=weights, reduction="none")
    np.testing.assert_allclose(loss(y_fake, y).numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 24, 33)])
def test_with_padding_the_image_goes_on_in_black(shape):
    y_fake, y = images(*shape)
    loss = SSIM(padding="zeros", reduction="none")
    np.testing.assert_allclose(loss(y_fake, y).numpy(), ssim(y_fake, y, border=5), rtol=1e-9)
    loss = MSSSIM(scale_weights=(0.3, 0.7), padding="zeros", reduction="none")
    np.testing.assert_allclose(loss(y_fake, y).numpy(), ms_ssim(y_fake, y, (0.3, 0.7), border=5), rtol=1e-9)


def test_over_the_batch_the_mean_of_all_is_raised_to_a_power():
    y_fake, y = images(2, 3, 24, 32, noise=0.8)
    y_fake[1] = y[1]
    found = MSSSIM(5, scale_weights=(0.3, 0.7), average="batch")(y_fake, y).item()
    _, pairs = planes(y_fake, y)
    fine = np.mean([maps(*pair, size=5)[1] for pair in pairs])
    coarse = np.mean([np.prod(maps(*map(halved, pair), size=5), axis=0) for pair in pairs])
    assert found == pytest.approx(1 - fine**0.3 * coarse**0.7, rel=1e-9)
    assert found != pytest.approx(MSSSIM(5, scale_weights=(0.3, 0.7))(y_fake, y).item(), rel=1e-3)


def test_over_the_batch_a_negative_mean_gives_1_and_no_gradient():
    y_fake, y = images(1, 3, 24, 24)
    y_fake = (-y).requires_grad_()
    loss = MSSSIM(scale_weights=(0.3, 0.7), average="batch")(y_fake, y)
    loss.backward()
    assert loss.item() == 1.0
    assert not y_fake.grad.any()


@pytest.mark.parametrize("kind", [SSIM, lambda **options: MSSSIM(scale_weights=(0.3, 0.7), **options)])
@pytest.mark.parametrize("to", [(0.0, 1.0), (0.0, 255.0), (-3.0, 1.0)])
def test_the_loss_does_not_depend_on_the_range_that_the_images_are_in(kind, to):
    y_fake, y = images(1, 3, 24, 24)
    low, high = to
    mapped = [(image + 1) / 2 * (high - low) + low for image in (y_fake, y)]
    assert kind(input_range=to)(*mapped).item() == pytest.approx(kind()(y_fake, y).item(), rel=1e-9)


def test_ssim_is_that_of_pytorch_msssim():
    package = pytest.importorskip("pytorch_msssim")
    y_fake, y = images(2, 3, 176, 192, dtype=torch.float32)
    given = [(image + 1) / 2 for image in (y_fake, y)]
    assert SSIM()(y_fake, y).item() == pytest.approx(1 - package.ssim(*given, data_range=1.0).item(), abs=1e-5)
    assert MSSSIM()(y_fake, y).item() == pytest.approx(1 - package.ms_ssim(*given, data_range=1.0).item(), abs=1e-5)


def test_ssim_is_that_of_torchmetrics_inside_of_the_border():
    package = pytest.importorskip("torchmetrics.functional.image")
    y_fake, y = images(2, 3, 32, 40, dtype=torch.float32)
    given = [(image + 1) / 2 for image in (y_fake, y)]
    _, whole = package.structural_similarity_index_measure(*given, data_range=1.0, return_full_image=True)
    assert SSIM()(y_fake, y).item() == pytest.approx(1 - whole[..., 5:-5, 5:-5].mean().item(), abs=1e-5)


@KINDS
def test_reductions_are_over_the_samples(loss):
    y_fake, y = images(3, 3, 24, 24)

    def reduced(reduction):
        copied = pickle.loads(pickle.dumps(loss))
        copied.reduction = reduction
        return copied(y_fake, y)

    each = reduced("none")
    assert each.shape == (3,)
    assert reduced("mean").item() == pytest.approx(each.mean().item())
    assert reduced("sum").item() == pytest.approx(each.sum().item())
    assert each[1:2].item() == pytest.approx(loss(y_fake[1:2], y[1:2]).item())


# Gradients


@KINDS
def test_equal_images_give_0_and_no_gradient(loss):
    _, y = images(2, 3, 24, 24, dtype=torch.float32)
    y_fake = y.clone().requires_grad_()
    result = loss(y_fake, y)
    result.backward()
    assert result.item() == 0.0
    assert torch.equal(y_fake.grad, torch.zeros_like(y))


@KINDS
def test_gradients_are_right_to_second_order(loss):
    y_fake, y = (image.requires_grad_() for image in images(1, 1, 22, 23))
    assert torch.autograd.gradcheck(loss, (y_fake, y), fast_mode=True)
    assert torch.autograd.gradgradcheck(loss, (y_fake, y), fast_mode=True)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
@KINDS
def test_constant_images_give_finite_gradients(loss, value):
    y_fake = torch.full((1, 3, 24, 24), value, requires_grad=True)
    result = loss(y_fake, torch.full((1, 3, 24, 24), -value))
    result.backward()
    assert result.isfinite()
    assert y_fake.grad.isfinite().all()


def test_a_similarity_without_a_power_is_0_without_a_gradient_and_others_keep_theirs():
    y_fake, y = images(2, 1, 24, 24, dtype=torch.float32)
    y_fake[0] = -y[0]
    y_fake.requires_grad_()
    losses = MSSSIM(scale_weights=(0.3, 0.7), reduction="none")(y_fake, y)
    losses.sum().backward()
    assert losses[0].item() == 1.0
    assert 0 < losses[1].item() < 1
    assert not y_fake.grad[0].any()
    assert y_fake.grad[1].isfinite().all()
    assert y_fake.grad[1].any()


def test_images_that_are_almost_equal_keep_their_digits():
    _, y = images(1, 3, 24, 24)
    y_fake = y + 1e-4 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for loss in (SSIM(), MSSSIM(scale_weights=(0.3, 0.7))):
        precise = loss(y_fake, y).item()
        assert precise < 1e-5
        assert loss(y_fake.float(), y.float()).item() == pytest.approx(precise, rel=1e-2)


# Dtypes and devices


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float16, 5e-4), (torch.bfloat16, 4e-3)])
@KINDS
def test_half_precision_is_computed_and_returned_in_float32(loss, dtype, bound):
    y_fake, y = images(2, 3, 24, 24, dtype=dtype)
    result = loss(y_fake, y)
    assert torch.equal(result, loss(y_fake.float(), y.float()))
    assert result.item() == pytest.approx(loss(y_fake.double(), y.double()).item(), rel=bound)


@KINDS
def test_images_of_two_dtypes_give_the_dtype_that_they_promote_to(loss):
    y_fake, y = images(1, 3, 24, 24, dtype=torch.float32)
    assert loss(y_fake.bfloat16(), y).dtype == torch.float32
    assert loss(y_fake, y.double()).dtype == torch.float64


@KINDS
def test_autocast_does_not_lower_the_precision(loss):
    y_fake, y = images(1, 3, 24, 24, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = loss(y_fake, y)
    assert torch.equal(result, loss(y_fake, y))


@KINDS
def test_channels_last_images_give_the_same(loss):
    y_fake, y = images(2, 3, 24, 24, dtype=torch.float32)
    y_fake.requires_grad_()
    expected = loss(y_fake, y)
    (gradient,) = torch.autograd.grad(expected, y_fake)
    given = [image.detach().to(memory_format=torch.channels_last) for image in (y_fake, y)]
    result = loss(given[0].requires_grad_(), given[1])
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(torch.autograd.grad(result, given[0])[0], gradient)


@KINDS
def test_it_works_on_the_meta_device(loss):
    y_fake, y = (image.to("meta") for image in images(2, 3, 24, 24, dtype=torch.float32))
    loss(y_fake.requires_grad_(), y).backward()
    assert y_fake.grad.shape == y.shape


def test_the_convolution_of_all_planes_at_once_gives_the_same():
    loss = SSIM()
    y_fake, y = images(2, 3, 24, 20)
    planes = [y_fake, y, y_fake * y]
    apart = window.windowed_means(planes, loss._weights)
    together = window._convolved(torch.cat(planes), loss._weights).chunk(3)
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other)


@KINDS
def test_it_compiles_to_one_graph(loss):
    y_fake, y = images(1, 3, 24, 24, dtype=torch.float32)
    y_fake.requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected, result = loss(y_fake, y), compiled(y_fake, y)
    torch.testing.assert_close(result, expected)
    (gradient,) = torch.autograd.grad(result, y_fake)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, y_fake)[0])


@KINDS
def test_nothing_that_depends_on_the_target_alone_has_a_graph(loss):
    y_fake, y = images(1, 3, 24, 24, dtype=torch.float32)
    assert loss(y_fake, y.requires_grad_()).requires_grad
    assert not loss(y_fake, y.detach()).requires_grad


@KINDS
def test_it_has_no_state_and_is_pickled_small(loss):
    assert not loss.state_dict()
    assert not list(loss.parameters())
    y_fake, y = images(1, 3, 24, 24)
    copied = pickle.loads(pickle.dumps(loss))
    assert copied(y_fake, y).item() == loss(y_fake, y).item()


# Errors


def test_it_shows_its_arguments():
    assert repr(SSIM()) == "SSIM(window_size=11, sigma=1.5, input_range=(-1.0, 1.0), reduction='mean', padding='valid')"
    assert "scale_weights=(0.3, 0.7), reduction='sum'" in repr(MSSSIM(scale_weights=[0.3, 0.7], reduction="sum"))


@pytest.mark.parametrize("kind", [SSIM, MSSSIM])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        *[
            ({"window_size": bad}, "an odd number of pixels, at least 3")
            for bad in (10, 1, -11, 11.0, True, None, "11")
        ],
        *[({"sigma": bad}, "a number of pixels above 0") for bad in (0, -1.5, math.nan, math.inf, True, None, "1")],
        *[
            ({"input_range": bad}, r"\(black, white\), two numbers with black < white")
            for bad in ((1.0, -1.0), (0, 0), (0,), (0, 1, 2), (0, math.inf), (math.nan, 1), 255, "ab", None, (True, 2))
        ],
        ({"reduction": "median"}, '"mean", "sum" or "none", not'),
        ({"padding": "same"}, '"valid" or "zeros", not'),
    ],
)
def test_options_out_of_range_are_refused(kind, options, message):
    with pytest.raises(ValueError, match=f"^{kind.__name__}: {next(iter(options))} is .*{message}"):
        kind(**options)


@pytest.mark.parametrize("bad", [(), (0.5, 0.0), (-1.0,), (math.nan,), (math.inf,), 5, "0.3", None, (True,)])
def test_scale_weights_out_of_range_are_refused(bad):
    with pytest.raises(ValueError, match="scale_weights are numbers above 0, one for each scale"):
        MSSSIM(scale_weights=bad)


def test_an_average_that_is_none_is_refused():
    with pytest.raises(ValueError, match="MSSSIM: average is .*, not 'image'"):
        MSSSIM(average="image")


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_over_the_batch_there_is_no_value_for_each_sample(reduction):
    with pytest.raises(ValueError, match=f"one value for all samples, and reduction='{reduction}' needs one for each"):
        MSSSIM(average="batch", reduction=reduction)


def test_images_that_are_too_small_are_refused():
    with pytest.raises(ValueError, match="MSSSIM expects at least 16x16 pixels for 5 scales; .* have 24x15: give"):
        MSSSIM(padding="zeros")(*images(1, 3, 24, 15))
    with pytest.raises(ValueError, match="SSIM expects at least 11x11 pixels for a window of 11; .* have 10x40: give"):
        SSIM()(*images(1, 3, 10, 40))
    with pytest.raises(ValueError, match="MSSSIM expects at least 176x176 pixels .* 11 and 5 scales; .* have 256x175"):
        MSSSIM()(*images(1, 3, 256, 175))


@KINDS
def test_what_is_no_image_is_refused(loss):
    y_fake, y = images(1, 3, 24, 24)
    with pytest.raises(ValueError, match=r"^(MS)?SSIM expects images of one shape \(N, C, H, W\)"):
        loss(y_fake, y[..., 1:])
    with pytest.raises(TypeError, match=r"y is torch\.uint8: convert with \.float\(\)"):
        loss(y_fake, y.byte())
