"""The Sobel module: its values, gradients, dtypes, memory, and errors."""

import numpy as np
import pytest
import torch
from nectargan_sobel import Sobel
from scipy import ndimage
from torch.autograd.graph import saved_tensors_hooks

from nectargan_core.testing import LossTests

ACROSS = np.array([[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]])
DOWN = np.array([[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]])


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def scipy_magnitude(image):
    grey = image.double().numpy().mean(1)
    squares = sum(
        np.stack([ndimage.correlate(one, kernel, mode="constant") for one in grey]) ** 2 for kernel in (ACROSS, DOWN)
    )
    return np.sqrt(squares + 1e-6)[:, None]


def scipy_map(y_fake, y):
    return np.abs(scipy_magnitude(y_fake) - scipy_magnitude(y))


def plain_loss(y_fake, y):
    def magnitude(image):
        grey = image.mean(1, keepdim=True)
        across, down = (
            torch.nn.functional.conv2d(grey, torch.tensor(kernel, dtype=image.dtype)[None, None], padding=1)
            for kernel in (ACROSS, DOWN)
        )
        return torch.sqrt(across**2 + down**2 + 1e-6)

    return torch.nn.functional.l1_loss(magnitude(y_fake), magnitude(y))


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 17, 9), (3, 2, 5, 32), (1, 5, 1, 7), (1, 3, 1, 1)])
def test_map_is_the_definition_computed_with_scipy(shape):
    y_fake, y = images(*shape)
    result = Sobel(reduction="none")(y_fake, y)
    assert result.shape == (shape[0], 1, *shape[2:])
    np.testing.assert_allclose(result.numpy(), scipy_map(y_fake, y), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("reduction", "reduce"), [("mean", np.mean), ("sum", np.sum)])
def test_mean_and_sum_reduce_the_map(reduction, reduce):
    y_fake, y = images(2, 3, 16, 16)
    expected = reduce(scipy_map(y_fake, y))
    assert Sobel(reduction)(y_fake, y).item() == pytest.approx(expected, rel=1e-6)


def test_mean_is_the_default():
    y_fake, y = images(1, 3, 16, 16)
    assert torch.equal(Sobel()(y_fake, y), Sobel("mean")(y_fake, y))


def test_gradient_is_that_of_the_plain_definition():
    y_fake, y = images(2, 3, 16, 12)
    gradients = []
    for loss in (Sobel(), plain_loss):
        leaf = y_fake.clone().requires_grad_()
        loss(leaf, y).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_of_both_images_are_right_to_second_order(reduction):
    y_fake, y = (image.requires_grad_() for image in images(1, 2, 4, 5, dtype=torch.float64))
    torch.autograd.gradcheck(Sobel(reduction), (y_fake, y))
    torch.autograd.gradgradcheck(Sobel(reduction), (y_fake, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    y_fake, y = images(1, 3, 16, 16, dtype=dtype)
    assert torch.equal(Sobel()(y_fake, y), Sobel()(y_fake.float(), y.float()))


def test_half_precision_does_not_overflow_on_a_range_of_255():
    y_fake, y = (image.mul(127.5).add(127.5).half() for image in images(1, 3, 16, 16))
    assert Sobel()(y_fake, y).item() == pytest.approx(scipy_map(y_fake, y).mean(), rel=1e-3)


def test_images_of_two_dtypes_give_the_dtype_that_they_promote_to():
    y_fake, y = images(1, 3, 8, 8)
    assert Sobel()(y_fake.bfloat16(), y).dtype == torch.float32


def test_autocast_does_not_lower_the_precision():
    y_fake, y = images(1, 3, 16, 16)
    y_fake.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Sobel()(y_fake, y)
    loss.backward()
    outside = y_fake.detach().clone().requires_grad_()
    Sobel()(outside, y).backward()
    assert loss.dtype == torch.float32
    assert torch.equal(y_fake.grad, outside.grad)


def saved_for_backward(y_fake, y):
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.detach().clone()), lambda _: None):
        Sobel()(y_fake.clone().requires_grad_(), y)
    return kept


def test_nothing_that_depends_on_the_target_alone_is_kept_for_backward():
    (y_fake, y), (other_fake, other_y) = images(1, 3, 8, 8), images(1, 3, 8, 8, seed=1)
    runs = zip(
        saved_for_backward(y_fake, y),
        saved_for_backward(other_fake, y),
        saved_for_backward(y_fake, other_y),
        strict=True,
    )
    assert not [
        here for here, fake_changed, y_changed in runs if here.equal(fake_changed) and not here.equal(y_changed)
    ]


def test_at_most_four_maps_of_one_channel_are_kept_for_backward():
    y_fake, y = images(1, 3, 8, 8)
    y_fake.requires_grad_()
    kept = {}
    with saved_tensors_hooks(lambda tensor: kept.setdefault(tensor.data_ptr(), tensor.detach()), lambda _: None):
        loss = Sobel()(y_fake, y)  # kept alive, so that no address is reused
    assert loss.requires_grad
    assert sum(tensor.numel() for tensor in kept.values()) <= 4 * 8 * 8


def test_images_without_gradient_make_no_graph():
    assert not Sobel()(*images(1, 3, 8, 8)).requires_grad


def test_module_has_no_state_to_move_or_to_save():
    module = Sobel()
    assert not [*module.parameters(), *module.buffers(), *module.state_dict()]


def test_per_sample_gradients_through_vmap():
    y_fake, y = images(3, 1, 2, 6, 6)
    per_sample = torch.func.vmap(torch.func.grad(Sobel()))(y_fake, y)
    one_by_one = torch.stack([torch.func.grad(Sobel())(*pair) for pair in zip(y_fake, y, strict=True)])
    torch.testing.assert_close(per_sample, one_by_one)


@pytest.mark.parametrize(
    ("fake_shape", "shape"),
    [
        ((3, 8, 8), (3, 8, 8)),
        ((1, 3, 8, 8), (1, 3, 8, 9)),
        ((2, 3, 8, 8), (1, 3, 8, 8)),
        ((1, 1, 8, 8), (1, 3, 8, 8)),
    ],
)
def test_wrong_shapes_are_refused_and_named(fake_shape, shape):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)") as caught:
        Sobel()(torch.zeros(fake_shape), torch.zeros(shape))
    assert f"y_fake is {fake_shape} and y is {shape}" in str(caught.value)


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match=r"y is torch\.uint8: convert with \.float\(\)"):
        Sobel()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match=r"reduction is .* not 'average'"):
        Sobel("average")


def test_repr_shows_the_reduction():
    assert repr(Sobel("sum")) == "Sobel(reduction='sum')"


class TestSobelMap(LossTests):
    function = Sobel("none")
    gradcheck = True


class TestSobelSum(LossTests):
    function = Sobel("sum")
