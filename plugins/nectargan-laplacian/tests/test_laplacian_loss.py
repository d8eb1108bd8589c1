"""The Laplacian module: its values, gradients, dtypes, memory, and errors."""

import numpy as np
import pytest
import torch
from nectargan_laplacian import Laplacian
from scipy import ndimage
from torch.autograd.graph import saved_tensors_hooks

from nectargan_core.testing import LossTests

KERNEL = np.array([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def scipy_laplacian(image):
    grey = image.double().numpy().mean(1)
    return np.stack([ndimage.correlate(one, KERNEL, mode="constant") for one in grey])[:, None]


def scipy_map(y_fake, y):
    return np.abs(scipy_laplacian(y_fake) - scipy_laplacian(y))


def plain_loss(y_fake, y):
    kernel = torch.tensor(KERNEL, dtype=y.dtype)[None, None]
    laplacians = (torch.nn.functional.conv2d(image.mean(1, keepdim=True), kernel, padding=1) for image in (y_fake, y))
    return torch.nn.functional.l1_loss(*laplacians)


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (2, 3, 17, 9), (3, 2, 5, 32), (1, 5, 1, 7), (1, 3, 1, 1)])
def test_map_is_the_definition_computed_with_scipy(shape):
    y_fake, y = images(*shape)
    result = Laplacian(reduction="none")(y_fake, y)
    assert result.shape == (shape[0], 1, *shape[2:])
    np.testing.assert_allclose(result.numpy(), scipy_map(y_fake, y), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("reduction", "reduce"), [("mean", np.mean), ("sum", np.sum)])
def test_mean_and_sum_reduce_the_map(reduction, reduce):
    y_fake, y = images(2, 3, 16, 16)
    expected = reduce(scipy_map(y_fake, y))
    assert Laplacian(reduction)(y_fake, y).item() == pytest.approx(expected, rel=1e-6)


def test_mean_is_the_default():
    y_fake, y = images(1, 3, 16, 16)
    assert torch.equal(Laplacian()(y_fake, y), Laplacian("mean")(y_fake, y))


def test_gradient_is_that_of_the_plain_definition():
    y_fake, y = images(2, 3, 16, 12)
    gradients = []
    for loss in (Laplacian(), plain_loss):
        leaf = y_fake.clone().requires_grad_()
        loss(leaf, y).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradients_of_both_images_are_right_to_second_order(reduction):
    y_fake, y = (image.requires_grad_() for image in images(1, 2, 4, 5, dtype=torch.float64))
    torch.autograd.gradcheck(Laplacian(reduction), (y_fake, y))
    torch.autograd.gradgradcheck(Laplacian(reduction), (y_fake, y))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    y_fake, y = images(1, 3, 16, 16, dtype=dtype)
    assert torch.equal(Laplacian()(y_fake, y), Laplacian()(y_fake.float(), y.float()))


def test_half_precision_does_not_overflow_on_a_range_of_255():
    y_fake, y = (image.mul(127.5).add(127.5).half() for image in images(1, 3, 16, 16))
    assert Laplacian()(y_fake, y).item() == pytest.approx(scipy_map(y_fake, y).mean(), rel=1e-3)


def test_images_of_two_dtypes_give_the_dtype_that_they_promote_to():
    y_fake, y = images(1, 3, 8, 8)
    assert Laplacian()(y_fake.bfloat16(), y).dtype == torch.float32


def test_autocast_does_not_lower_the_precision():
    y_fake, y = images(1, 3, 16, 16)
    y_fake.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = Laplacian()(y_fake, y)
    loss.backward()
    outside = y_fake.detach().clone().requires_grad_()
    Laplacian()(outside, y).backward()
    assert loss.dtype == torch.float32
    assert torch.equal(y_fake.grad, outside.grad)


def saved_for_backward(y_fake, y):
    kept = []
    with saved_tensors_hooks(lambda tensor: kept.append(tensor.detach().clone()), lambda _: None):
        Laplacian()(y_fake.clone().requires_grad_(), y)
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


def test_one_map_of_one_channel_is_kept_for_backward():
    y_fake, y = images(1, 3, 8, 8)
    y_fake.requires_grad_()
    kept = {}
    with saved_tensors_hooks(lambda tensor: kept.setdefault(tensor.data_ptr(), tensor.detach()), lambda _: None):
        loss = Laplacian()(y_fake, y)  # kept alive, so that no address is reused
    assert loss.requires_grad
    assert sum(tensor.numel() for tensor in kept.values()) == 8 * 8


def test_images_without_gradient_make_no_graph():
    assert not Laplacian()(*images(1, 3, 8, 8)).requires_grad


def test_module_has_no_state_to_move_or_to_save():
    module = Laplacian()
    assert not [*module.parameters(), *module.buffers(), *module.state_dict()]


def test_per_sample_gradients_through_vmap():
    y_fake, y = images(3, 1, 2, 6, 6)
    per_sample = torch.func.vmap(torch.func.grad(Laplacian()))(y_fake, y)
    one_by_one = torch.stack([torch.func.grad(Laplacian())(*pair) for pair in zip(y_fake, y, strict=True)])
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
        Laplacian()(torch.zeros(fake_shape), torch.zeros(shape))
    assert f"y_fake is {fake_shape} and y is {shape}" in str(caught.value)


def test_integer_images_are_refused():
    with pytest.raises(TypeError, match=r"y is torch\.uint8: convert with \.float\(\)"):
        Laplacian()(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match=r"reduction is .* not 'average'"):
        Laplacian("average")


def test_repr_shows_the_reduction():
    assert repr(Laplacian("sum")) == "Laplacian(reduction='sum')"


class TestLaplacianMap(LossTests):
    function = Laplacian("none")
    gradcheck = True


class TestLaplacianSum(LossTests):
    function = Laplacian("sum")
