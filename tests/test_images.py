"""check_images: what images it lets pass, and what it says of others."""

import pytest
import torch

from nectargan_core import check_images
from nectargan_core.errors import NectarganError

IMAGE = torch.zeros(2, 3, 8, 8)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_images_of_one_shape_in_any_floating_point_dtype_pass(dtype):
    check_images("Loss", y_fake=IMAGE.to(dtype), y=IMAGE, x=IMAGE.to(dtype))


def test_one_image_and_none_pass():
    check_images("Loss", y=IMAGE)
    check_images("Loss")


def test_images_on_meta_pass():
    check_images("Loss", channels=3, y_fake=IMAGE.to("meta"), y=IMAGE.to("meta"))


@pytest.mark.parametrize("channels", [3, (1, 3), [3], range(1, 5)])
def test_the_channels_may_be_one_number_or_several(channels):
    check_images("Loss", channels=channels, y_fake=IMAGE, y=IMAGE)


def test_images_may_have_any_names():
    check_images("Loss", owner=IMAGE, images=IMAGE)


def test_it_is_compiled_without_a_break_of_the_graph():
    def loss(y_fake, y):
        check_images("Loss", channels=(1, 3), y_fake=y_fake, y=y)
        return (y_fake - y).abs().mean()

    assert torch.compile(loss, fullgraph=True, backend="eager")(IMAGE + 1, IMAGE) == 1


def test_it_passes_inside_of_vmap_and_with_sizes_that_are_symbols():
    def loss(y_fake, y):
        check_images("Loss", y_fake=y_fake, y=y)
        return (y_fake - y).abs().mean()

    assert torch.vmap(loss)(IMAGE[None] + 1, IMAGE[None]) == 1
    compiled = torch.compile(loss, fullgraph=True, backend="eager", dynamic=True)
    assert [compiled(torch.ones(2, 3, size, 9), torch.zeros(2, 3, size, 9)).item() for size in (5, 6)] == [1, 1]


@pytest.mark.parametrize(
    ("fake", "real", "advice"),
    [
        ((3, 8, 8), (3, 8, 8), "give one image a batch dimension with image.unsqueeze(0)"),
        ((1, 3, 8, 8), (3, 8, 8), "give one image a batch dimension with image.unsqueeze(0)"),
        ((1, 3, 8, 8), (1, 3, 8, 9), "bring them to one shape"),
        ((1, 3, 8, 8), (1, 1, 8, 8), "bring them to one shape"),
        ((2, 3, 8, 8), (1, 3, 8, 8), "bring them to one shape"),
        ((1, 3, 8, 8, 8), (1, 3, 8, 8, 8), "bring them to this shape"),
        ((), (), "bring them to this shape"),
    ],
)
def test_other_shapes_are_refused_and_named(fake, real, advice):
    with pytest.raises(ValueError, match="expects") as caught:
        check_images("Sobel", y_fake=torch.zeros(fake), y=torch.zeros(real))
    expected = f"Sobel expects images of one shape (N, C, H, W); y_fake is {fake} and y is {real}: {advice}"
    assert str(caught.value) == expected
    assert not isinstance(caught.value, NectarganError)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_another_dtype_than_floating_point_is_refused(dtype):
    with pytest.raises(TypeError, match=r"y_fake is torch.float32 and y is torch\.\w+: convert with \.float\(\)"):
        check_images("Loss", y_fake=IMAGE, y=IMAGE.to(dtype))


@pytest.mark.parametrize("value", [None, [[0.0]], 1.0, IMAGE.numpy()])
def test_what_is_no_tensor_is_refused(value):
    with pytest.raises(TypeError, match=r"expects images that are tensors .* y_fake is a tensor and y is .*as_tensor"):
        check_images("Loss", y_fake=IMAGE, y=value)


def test_images_on_different_devices_are_refused():
    with pytest.raises(ValueError, match=r"y_fake is on meta and y is on cpu: move them with \.to\(device\)"):
        check_images("Loss", y_fake=IMAGE.to("meta"), y=IMAGE)


def test_another_number_of_channels_is_refused():
    with pytest.raises(ValueError, match="channels") as caught:
        check_images("LPIPS", channels=(1, 3), y_fake=IMAGE[:, :2], y=IMAGE[:, :2])
    assert str(caught.value) == (
        "LPIPS expects images with 1 or 3 channels, (N, C, H, W); y_fake, y have 2, in the shape (2, 2, 8, 8): "
        "convert them to 1 or 3 channels"
    )
