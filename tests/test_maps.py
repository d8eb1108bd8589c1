"""Loss maps as pictures: which are drawn, beside which images, and where each value is in the picture."""

import gc
import io
import sys
import weakref

import numpy as np
import pytest
import torch
from devices import Elsewhere, OnDevice
from matplotlib import colormaps
from PIL import Image
from torch import nn

from nectargan_core import LMLoss, LossManager
from nectargan_core.errors import NectarganError, NectarganWarning, UnknownLossError

MAGMA = colormaps["magma"]
CYAN = (0, 229, 255)
RED = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1)
BLUE = torch.tensor([-1.0, -1.0, 1.0]).reshape(1, 3, 1, 1)


def first(result, *_):
    """Return what a test wants to be the result, which is in a list, so that it is no image that the loss reads."""
    return result[0] if isinstance(result, list) else result


def manager_of(*names, inputs=("map",), function=first, **keywords):
    """Return a manager with losses that return their first input."""
    manager = LossManager(**keywords)
    for name in names or ("a",):
        manager.register_loss_fn(name, function, tags=["G"], inputs=inputs)
    return manager


def picture(manager, query=None, **keywords):
    """Return the picture of the maps as pixels (H, W, 3)."""
    file = io.BytesIO()
    manager.save_loss_maps(file, query, **keywords)
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def box_of(pixels, *colors):
    """Return the box around all pixels of some colors: top, bottom, left, right."""
    found = np.zeros(pixels.shape[:2], dtype=bool)
    for color in colors:
        found |= (pixels == np.array(color)).all(-1)
    assert found.any(), colors
    rows, columns = np.nonzero(found)
    return rows.min(), rows.max() + 1, columns.min(), columns.max() + 1


def colors_of(values, low, high):
    """Return the colors that values (H, W) have."""
    parts = np.atleast_1d((values - low) / (high - low))
    return (MAGMA(parts)[..., :3] * 255).astype(int).reshape(*np.shape(values), 3)


def blocks_of(pixels, box, shape):
    """Return the pixels in the middle of so many equal parts of a box."""
    top, bottom, left, right = box
    rows = top + ((np.arange(shape[0]) + 0.5) * (bottom - top) / shape[0]).astype(int)
    columns = left + ((np.arange(shape[1]) + 0.5) * (right - left) / shape[1]).astype(int)
    return pixels[rows][:, columns]


def map_box(pixels, row=0):
    """Return the box of the map to the right of a red `y_fake`, in a row of the picture."""
    top, _, left, right = box_of(pixels, (255, 0, 0))
    size = right - left
    start = right + 10
    return (top + row * (size + 10), top + row * (size + 10) + size, start, start + size)


def drawn(values, **keywords):
    """Return the picture of a map beside a red image of 8 x 8 pixels, which is drawn 32 times as large."""
    manager = manager_of()
    manager.compute_losses({"map": [values], "y_fake": RED.expand(len(values), 3, 8, 8)})
    return picture(manager, **keywords)


# Values


def test_each_value_of_a_map_has_its_color_in_its_place():
    values = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0))
    values[0, 2, 5], values[0, 7, 0] = 0.0, 1.0
    pixels = drawn(values)
    box = map_box(pixels)
    assert (box[1] - box[0], box[3] - box[2]) == (256, 256)
    expected = colors_of(values[0].numpy().astype(float), 0.0, 1.0)
    assert np.abs(blocks_of(pixels, box, (8, 8)) - expected).max() <= 1
    # Pixel for pixel, up to the edges of each value.
    inside = pixels[box[0] : box[1], box[2] : box[3]]
    assert (inside.reshape(8, 32, 8, 32, 3) == inside[::32, ::32].reshape(8, 1, 8, 1, 3)).all()


def test_the_weighted_values_are_drawn():
    manager = LossManager()
    manager.register_loss_fn("a", first, -2.0, inputs=("map",))
    values = torch.arange(64.0).reshape(1, 1, 8, 8)
    manager.compute_losses({"map": [values], "y_fake": RED.expand(1, 3, 8, 8)})
    pixels = picture(manager)
    expected = colors_of(-2.0 * values[0, 0].numpy().astype(float), -126.0, 0.0)
    assert np.abs(blocks_of(pixels, map_box(pixels), (8, 8)) - expected).max() <= 1


def test_channels_are_averaged():
    values = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pixels, mean = drawn(values), values[0].mean(0).numpy()
    expected = colors_of(mean, mean.min(), mean.max())
    assert np.abs(blocks_of(pixels, map_box(pixels), (8, 8)) - expected).max() <= 1


def test_a_patch_map_is_drawn_over_all_of_the_image():
    values = torch.arange(9.0).reshape(1, 1, 3, 3)
    pixels = drawn(values)
    box = map_box(pixels)
    assert (blocks_of(pixels, box, (3, 3)) == colors_of(values[0, 0].numpy(), 0.0, 8.0)).all()
    # Nearest: there are no colors in between.
    inside = pixels[box[0] : box[1], box[2] : box[3]].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) == 9


def test_a_large_map_is_drawn_smaller_by_means():
    values = torch.rand(1, 1024, 2048, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    manager = manager_of()
    manager.compute_losses({"map": [values], "y_fake": RED.expand(1, 3, 1024, 2048)})
    pixels = picture(manager)
    top, bottom, left, right = box_of(pixels, (255, 0, 0))
    assert (bottom - top, right - left) == (256, 512)
    means = values[0].reshape(256, 4, 512, 4).mean((1, 3)).numpy()
    expected = colors_of(means, values.min().item(), values.max().item())
    assert np.abs(pixels[top:bottom, right + 10 : right + 522] - expected).max() <= 1


def test_one_value_that_is_not_finite_is_seen_in_a_large_map():
    values = torch.zeros(1, 1024, 1024)
    values[0, 500, 300] = float("inf")
    manager = manager_of(nonfinite="ignore")
    manager.compute_losses({"map": [values], "y_fake": RED.expand(1, 3, 1024, 1024)})
    pixels = picture(manager)
    top, _, _, right = box_of(pixels, (255, 0, 0))
    assert box_of(pixels[:600], CYAN) == (top + 250, top + 251, right + 160, right + 161)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_not_finite_are_cyan_and_scale_nothing(bad):
    values = torch.arange(64.0).reshape(1, 8, 8)
    values[0, 3, 4] = bad
    with pytest.warns(NectarganWarning, match="nan|inf"):
        pixels = drawn(values)
    expected = colors_of(torch.arange(64.0).reshape(8, 8).numpy(), 0.0, 63.0)
    expected[3, 4] = CYAN
    assert np.abs(blocks_of(pixels, map_box(pixels), (8, 8)) - expected).max() <= 1


def test_a_map_without_a_finite_value_is_drawn():
    with pytest.warns(NectarganWarning, match="nan"):
        pixels = drawn(torch.full((1, 8, 8), float("nan")))
    assert (blocks_of(pixels, map_box(pixels), (8, 8)) == CYAN).all()


def test_a_constant_map_is_drawn():
    pixels = drawn(torch.full((1, 8, 8), 3.0))
    assert (blocks_of(pixels, map_box(pixels), (8, 8)) == colors_of(np.zeros((8, 8)), 0.0, 1.0)).all()


def test_the_largest_numbers_are_drawn():
    pixels = drawn(torch.tensor([[[-1.7e308, 1.7e308], [1.7e308, -1.7e308]]], dtype=torch.float64))
    expected = colors_of(np.array([[0.0, 1.0], [1.0, 0.0]]), 0.0, 1.0)
    assert (blocks_of(pixels, map_box(pixels), (2, 2)) == expected).all()


def test_all_rows_of_a_loss_have_one_scale():
    values = torch.stack([torch.full((8, 8), float(number)) for number in range(4)])
    pixels = drawn(values)
    found = [blocks_of(pixels, map_box(pixels, row), (1, 1))[0, 0] for row in range(4)]
    assert (np.array(found) == colors_of(np.arange(4.0), 0.0, 3.0)).all()


def test_four_images_of_a_batch_are_drawn():
    small, large = (drawn(torch.rand(number, 8, 8)).shape for number in (4, 9))
    assert large[1] == small[1]
    assert large[0] == small[0] + 20  # a line that says so
    assert drawn(torch.rand(3, 8, 8)).shape[0] == small[0] - 266


@pytest.mark.parametrize(
    "values",
    [
        torch.rand(2, 8, 8, 3).permute(0, 3, 1, 2),
        torch.rand(2, 3, 8, 8).half(),
        torch.rand(2, 3, 8, 8).bfloat16(),
        torch.rand(2, 3, 8, 8, dtype=torch.float64),
        torch.rand(2, 3, 8, 8, requires_grad=True),
        torch.rand(2, 3, 8, 8).to(memory_format=torch.channels_last),
        torch.rand(2, 3, 8, 8).expand(2, 3, 8, 8)[:, :, ::2, ::2],
        torch.randint(0, 9, (2, 3, 8, 8)),
        torch.rand(2, 3, 8, 8) > 0.5,
    ],
)
def test_a_map_of_any_kind_is_drawn(values):
    plain = values.detach().double().mean(1).numpy()
    pixels = drawn(values)
    expected = colors_of(plain, plain.min(), plain.max())
    for row in range(2):
        found = blocks_of(pixels, map_box(pixels, row), plain.shape[1:])
        # A mean in half precision is rounded.
        assert np.abs(found - expected[row]).max() <= 1


# Results that are not maps of pixels


def test_a_result_for_each_image_is_a_number_on_its_color():
    pixels = drawn(torch.tensor([0.0, 1.0]))
    top, _, left, _ = map_box(pixels)
    assert (pixels[top, left] == colors_of(np.zeros(()), 0.0, 1.0)).all()
    assert (pixels[top + 266, left] == colors_of(np.ones(()), 0.0, 1.0)).all()
    # The number is in the middle of it.
    assert len(np.unique(pixels[top + 100 : top + 156, left : left + 256].reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize("shape", [(2, 16), (2, 1, 16)])
def test_a_result_along_time_is_a_line(shape):
    manager = manager_of()
    values = torch.arange(32.0).reshape(shape)
    manager.compute_losses({"map": [values]})
    pixels = picture(manager)
    top, _, left, _ = box_of(pixels, colors_of(np.zeros(()), 0.0, 1.0))
    for row in range(2):
        box = (top + row * 74, top + row * 74 + 64, left, left + 256)
        expected = colors_of(np.arange(16.0) + 16 * row, 0.0, 31.0)
        assert np.abs(blocks_of(pixels, box, (1, 16))[0] - expected).max() <= 1


def test_what_is_no_map_of_images_is_left_out():
    manager = manager_of("a", "b")
    manager.register_loss_fn("video", first, inputs=("video",))
    manager.compute_losses({"map": [torch.rand(1, 8, 8)], "video": [torch.rand(1, 3, 4, 8, 8)]})
    assert manager.save_loss_maps(io.BytesIO()) == ("a", "b")


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((1, 3, 4, 8, 8), r"its shape \(1, 3, 4, 8, 8\) is not that of maps"),
        ((2, 8, 8), "is not the 1 images of the batch"),
        ((100,), "is not the 1 images of the batch"),
        ((1, 0, 8), "has no values"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the mean of no values is nan
def test_if_nothing_can_be_drawn_the_error_says_why(shape, reason):
    manager = manager_of()
    manager.compute_losses({"map": [torch.rand(shape)], "y_fake": RED.expand(1, 3, 8, 8)})
    with pytest.raises(NectarganError, match=reason):
        manager.save_loss_maps(io.BytesIO())


def test_a_map_on_the_meta_device_has_no_values():
    manager = manager_of()
    manager.compute_losses({"map": [torch.rand(1, 8, 8, device="meta")]})
    with pytest.raises(NectarganError, match="meta device"):
        manager.save_loss_maps(io.BytesIO())


# Images


def image_of(**images):
    """Return the pixels of the first column of images, of which a map is drawn."""
    manager = manager_of()
    (shape,) = {image.shape for image in images.values()}
    manager.compute_losses({"map": [torch.zeros(shape[0], *shape[2:])], **images})
    pixels = picture(manager)
    return blocks_of(pixels, (46, 46 + 256, 16, 16 + 256), shape[2:])


def test_an_image_from_minus_1_to_1_is_drawn_so():
    x = torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)
    expected = ((x[0].permute(1, 2, 0) + 1) * 127.5).round().numpy()
    assert np.abs(image_of(x=x) - expected).max() <= 1


def test_an_image_from_0_to_1_is_drawn_so():
    x = torch.linspace(0, 1, 192).reshape(1, 3, 8, 8)
    assert np.abs(image_of(x=x) - (x[0].permute(1, 2, 0) * 255).round().numpy()).max() <= 1


def test_the_output_counts_as_the_target_does():
    y = torch.zeros(1, 3, 8, 8)
    y[0, 0, 0, 0] = -1.0
    assert (image_of(y_fake=torch.full((1, 3, 8, 8), 0.5), y=y) == round(0.75 * 255)).all()


def test_an_image_of_eight_bits_is_drawn():
    x = torch.arange(192, dtype=torch.uint8).reshape(1, 3, 8, 8)
    assert (image_of(x=x) == x[0].permute(1, 2, 0).numpy()).all()


def test_an_image_of_one_channel_is_gray():
    x = torch.linspace(0, 1, 64).reshape(1, 1, 8, 8)
    assert np.abs(image_of(x=x) - (x[0].permute(1, 2, 0) * 255).round().numpy()).max() <= 1


@pytest.mark.parametrize("channels", [4, 7])
def test_of_many_channels_three_are_drawn(channels):
    x = torch.rand(1, channels, 8, 8)
    assert np.abs(image_of(x=x) - (x[0, :3].permute(1, 2, 0) * 255).round().numpy()).max() <= 1


def test_pixels_of_an_image_that_are_not_finite_are_cyan():
    x = torch.zeros(1, 3, 8, 8)
    x[0, 1, 2, 3] = float("nan")
    assert (image_of(x=x)[2, 3] == CYAN).all()


def test_the_columns_are_source_output_target_and_maps():
    manager = manager_of()
    images = {"y": -RED, "x": BLUE, "y_fake": RED}
    manager.compute_losses(
        {"map": [torch.zeros(1, 8, 8)], **{name: image.expand(1, 3, 8, 8) for name, image in images.items()}}
    )
    pixels = picture(manager)
    colors = [(0, 0, 255), (255, 0, 0), (0, 255, 255), colors_of(np.zeros(()), 0.0, 1.0)]
    lefts = [box_of(pixels, color)[2] for color in colors]
    assert lefts == [16, 282, 548, 814]


def test_an_input_that_a_loss_reads_is_a_column():
    manager = manager_of(inputs=("map", "real_A"))
    manager.compute_losses({"map": [torch.rand(1, 1, 8, 8)], "real_A": RED.expand(1, 3, 8, 8), "other": torch.rand(1)})
    assert picture(manager).shape[1] == 16 + 2 * 256 + 10 + 16


def test_scores_are_no_images():
    manager = manager_of(inputs=("pred_fake",))
    manager.compute_losses({"pred_fake": torch.rand(1, 1, 8, 8)})
    assert picture(manager).shape[1] == 16 + 256 + 16


# Which inputs


def test_the_images_are_those_of_the_last_call():
    manager = manager_of()
    for color in (RED, BLUE):
        manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": color.expand(1, 3, 8, 8)})
    pixels = picture(manager)
    assert box_of(pixels, (0, 0, 255))
    assert not (pixels == (255, 0, 0)).all(-1).any()


def test_inputs_that_are_given_take_their_place():
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": RED.expand(1, 3, 8, 8)})
    pixels = picture(manager, inputs={"y_fake": BLUE.expand(1, 3, 8, 8), "pred_fake": lambda: 1 / 0})
    assert box_of(pixels, (0, 0, 255))
    assert not (pixels == (255, 0, 0)).all(-1).any()


def kept(manager, name="a"):
    return dict(manager._registry[name].series.images)


@pytest.mark.parametrize("number", [1, 2, 4, 6])
def test_images_are_kept_by_any_number_of_losses(number):
    manager = manager_of(*"abcdef"[:number])
    images = {"x": BLUE.expand(1, 3, 8, 8), "y_fake": RED.expand(1, 3, 8, 8)}
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)], **images})
    for name in "abcdef"[:number]:
        assert {key: value.data_ptr() for key, value in kept(manager, name).items()} == {
            key: value.data_ptr() for key, value in images.items()
        }


def test_images_are_kept_by_a_map_among_scalars():
    manager = manager_of("a")
    for name in "bcde":
        manager.register_loss_fn(name, lambda image: image.mean(), inputs=("y_fake",))
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": RED.expand(1, 3, 8, 8)})
    assert list(kept(manager)) == ["y_fake"]
    assert kept(manager, "b") == {}
    assert manager.save_loss_maps(io.BytesIO()) == ("a",)


def test_a_lazy_image_is_kept_as_its_value():
    manager = manager_of(inputs=("map", "y_fake"))
    y_fake = RED.expand(1, 3, 8, 8)
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": lambda: y_fake, "x": lambda: 1 / 0})
    assert [value.data_ptr() for value in kept(manager).values()] == [y_fake.data_ptr()]


def test_images_that_are_given_one_by_one_are_kept():
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"))
    manager.compute_loss_xy("a", RED.expand(1, 3, 8, 8), BLUE.expand(1, 3, 8, 8))
    assert list(kept(manager)) == ["y_fake", "y"]
    pixels = picture(manager)
    assert box_of(pixels, (255, 0, 0))[2] < box_of(pixels, (0, 0, 255))[2]


def test_images_that_are_given_one_by_one_have_the_names_of_their_parameters():
    def difference(target, output):
        return (target - output).abs()

    manager = LossManager()
    manager.register_loss_fn("a", difference, inputs={"output": "y_fake", "target": "y"})
    target, output = torch.zeros(1, 3, 8, 8), torch.ones(1, 3, 8, 8)
    manager.compute_loss_xy("a", target, output)
    assert kept(manager)["y"].data_ptr() == target.data_ptr()
    assert kept(manager)["y_fake"].data_ptr() == output.data_ptr()


def test_images_are_kept_where_the_weight_is_0_and_the_function_is_called():
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"), 0.0, skip_when_zero=False)
    images = {"y_fake": RED.expand(1, 3, 8, 8), "y": BLUE.expand(1, 3, 8, 8)}
    manager.compute_losses(images)
    assert list(kept(manager)) == ["y_fake", "y"]
    manager.compute_loss_xy("a", *images.values())
    assert list(kept(manager)) == ["y_fake", "y"]
    assert manager.save_loss_maps(io.BytesIO()) == ("a",)


def test_a_split_has_maps_of_its_own():
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": RED.expand(1, 3, 8, 8)})
    with manager.split("val"):
        with pytest.raises(NectarganError, match="no map"):
            manager.save_loss_maps(io.BytesIO())
        manager.compute_losses({"map": [torch.zeros(1, 8, 8)], "y_fake": BLUE.expand(1, 3, 8, 8)})
        assert box_of(picture(manager), (0, 0, 255))
    assert box_of(picture(manager), (255, 0, 0))


class Doubled(torch.autograd.Function):
    """Twice an image, whose graph holds an object that one can watch."""

    @staticmethod
    def forward(context, image):
        context.held = Held()
        Doubled.held = weakref.ref(context.held)
        return image * 2

    @staticmethod
    def backward(context, gradient):
        return gradient * 2


class Held:
    pass


@pytest.mark.parametrize("by_name", [True, False])
def test_no_graph_is_kept(by_name):
    weight = torch.ones(1, 3, 8, 8, requires_grad=True)
    y_fake = Doubled.apply(weight)
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"))
    if by_name:
        manager.compute_losses({"y_fake": y_fake, "y": torch.zeros(1, 3, 8, 8)})
    else:
        manager.compute_loss_xy("a", y_fake, torch.zeros(1, 3, 8, 8))
    assert not any(image.requires_grad for image in kept(manager).values())
    del y_fake
    gc.collect()
    assert Doubled.held() is None


@pytest.mark.parametrize("logging", [True, False])
def test_on_a_device_images_are_kept_without_a_copy_or_a_wait(logging):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"))
    images = {name: OnDevice(torch.rand(1, 3, 8, 8)) for name in ("x", "y_fake", "y")}
    manager.compute_losses(images)
    OnDevice.done = []
    for _ in range(3):
        manager.compute_losses(images)
        manager.compute_loss_xy("a", images["y_fake"], images["y"])
    assert set(OnDevice.done) <= {"sub", "abs", "l1_loss", "mul", "mean", "detach"}
    assert list(kept(manager)) == ["y_fake", "y"]


@pytest.mark.parametrize("logging", [True, False])
def test_maps_on_a_device_are_drawn(logging):
    manager = manager_of(enable_logging=logging)
    values = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(0)).as_subclass(Elsewhere)
    manager.compute_losses({"map": [values], "y_fake": RED.expand(1, 3, 8, 8).as_subclass(Elsewhere)})
    pixels, plain = picture(manager), values.as_subclass(torch.Tensor)[0].double().numpy()
    expected = colors_of(plain, plain.min(), plain.max())
    assert np.abs(blocks_of(pixels, map_box(pixels), (8, 8)) - expected).max() <= 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_maps_on_a_gpu_are_drawn():
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"))
    images = {name: torch.rand(2, 3, 8, 8, device="cuda") for name in ("x", "y_fake", "y")}
    manager.compute_losses(images)
    on_the_cpu = LossManager()
    on_the_cpu.register_loss_fn("a", nn.L1Loss(reduction="none"))
    on_the_cpu.compute_losses({name: image.cpu() for name, image in images.items()})
    assert np.abs(picture(manager) - picture(on_the_cpu)).max() <= 1


def test_images_are_let_go_by_the_next_result():
    manager = LossManager()
    manager.register_loss_fn("a", lambda image, reduce: image.mean() if reduce else image, inputs=("y_fake", "reduce"))
    manager.compute_losses({"y_fake": RED.expand(1, 3, 8, 8), "reduce": False})
    assert list(kept(manager)) == ["y_fake"]
    manager.compute_losses({"y_fake": RED.expand(1, 3, 8, 8), "reduce": True})
    assert kept(manager) == {}
    with pytest.raises(NectarganError, match="no map"):
        manager.save_loss_maps(io.BytesIO())


@pytest.mark.parametrize("logging", [True, False])
def test_a_loss_without_a_map_keeps_no_image(logging):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", nn.L1Loss())
    images = {"y_fake": torch.ones(1, 3, 8, 8), "y": torch.zeros(1, 3, 8, 8)}
    references = [weakref.ref(image) for image in images.values()]
    manager.compute_losses(images)
    manager.compute_loss_xy("a", *images.values())
    images.clear()
    gc.collect()
    assert [reference() for reference in references] == [None, None]


def test_maps_of_one_call_stand_beside_each_other_and_others_below():
    manager = manager_of("a", "b", inputs=("map",))
    call = {"map": [torch.zeros(1, 8, 8)], "y_fake": RED.expand(1, 3, 8, 8)}
    manager.compute_losses(call)
    together = picture(manager).shape
    manager.compute_losses({**call, "y_fake": BLUE.expand(1, 3, 8, 8)}, query="b")
    apart = picture(manager)
    assert apart.shape[1] == together[1] - 266
    assert box_of(apart, (255, 0, 0))[1] < box_of(apart, (0, 0, 255))[0]


def test_maps_of_the_same_images_stand_beside_each_other_whoever_computed_them():
    manager = LossManager()
    for name in "ab":
        manager.register_loss_fn(name, nn.L1Loss(reduction="none"))
    images = {"y_fake": torch.rand(1, 3, 8, 8), "y": torch.rand(1, 3, 8, 8)}
    manager.compute_losses(images)
    together = picture(manager).shape
    for name in "ab":
        manager.compute_loss_xy(name, *images.values())
    assert picture(manager).shape == together


@pytest.mark.slow
def test_a_compiled_graph_keeps_no_images():
    manager = LossManager()
    manager.register_loss_fn("a", nn.L1Loss(reduction="none"))
    images = {"y_fake": torch.rand(1, 3, 8, 8), "y": torch.rand(1, 3, 8, 8)}
    manager.compute_losses(images)
    step = torch.compile(lambda y_fake, y: manager.compute_losses({"y_fake": y_fake, "y": y}).total, backend="eager")
    step(*images.values())
    assert kept(manager) == {}
    assert manager.save_loss_maps(io.BytesIO(), inputs=images) == ("a",)


# Losses and files


def test_a_query_says_which_maps_are_drawn():
    manager = manager_of("a", "b", "c")
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    assert manager.save_loss_maps(io.BytesIO(), ["c", "a"]) == ("a", "c")
    assert manager.save_loss_maps(io.BytesIO(), "G") == ("a", "b", "c")


def test_a_query_that_finds_nothing_is_an_error():
    with pytest.raises(UnknownLossError, match="no loss has the name or tag 'b'"):
        manager_of().save_loss_maps(io.BytesIO(), "b")


@pytest.mark.parametrize("runs", [True, False])
def test_without_a_map_the_error_says_how_to_get_one(runs):
    manager = LossManager()
    manager.register_loss_fn("G_L1", nn.L1Loss())
    if runs:
        manager.compute_loss_xy("G_L1", torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    with pytest.raises(NectarganError, match='no map to draw: G_L1 returned none.*reduction="none"'):
        manager.save_loss_maps(io.BytesIO())


@pytest.mark.parametrize("inputs", [[1], "y", {1: torch.zeros(1)}])
def test_inputs_are_a_mapping_from_names(inputs):
    with pytest.raises(TypeError, match="inputs must be a mapping"):
        manager_of().save_loss_maps(io.BytesIO(), inputs=inputs)


@pytest.mark.parametrize(("name", "begins"), [("a.png", b"\x89PNG"), ("a.PNG", b"\x89PNG"), ("a", b"\x89PNG")])
def test_the_suffix_says_the_format(tmp_path, name, begins):
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    manager.save_loss_maps(str(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_vector_format_is_written(tmp_path):
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    manager.save_loss_maps(tmp_path / "a.svg")
    assert "<svg" in (tmp_path / "a.svg").read_text()


def test_an_unknown_format_is_an_error_that_lists_the_known_ones(tmp_path):
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    with pytest.raises(NectarganError, match=r"cannot be drawn as \.txt; there are .*png"):
        manager.save_loss_maps(tmp_path / "a.txt")
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_the_error_names_the_extra(monkeypatch):
    manager = manager_of()
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(NectarganError, match=r"needs matplotlib; pip install 'nectargan-core\[cli\]'"):
        manager.save_loss_maps(io.BytesIO())


@pytest.mark.parametrize("name", ["$x_1$", "損失", "a" * 300, "G\N{ZERO WIDTH SPACE}"])
def test_any_name_is_written_as_it_is(name):
    manager = LossManager()
    manager.register_loss_fn(name, first, inputs=("map",))
    manager.compute_losses({"map": [torch.zeros(1, 8, 8)]})
    assert manager.save_loss_maps(io.BytesIO()) == (name,)


def test_a_mapping_of_parameters_to_inputs_keeps_images():
    loss = LMLoss(name="a", function=nn.L1Loss(reduction="none"), inputs={"target": "y", "input": "y_fake"})
    manager = LossManager().init_from_spec(lambda: {"a": loss})
    manager.compute_losses({"y_fake": RED.expand(1, 3, 8, 8), "y": BLUE.expand(1, 3, 8, 8)})
    assert list(kept(manager)) == ["y_fake", "y"]
