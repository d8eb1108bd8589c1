"""Both losses as modules: hidden from parents, moved, shared, copied, their dtypes, memory and errors."""

import copy
import gc
import pickle
import weakref

import pytest
import torch
from nectargan_vgg import VGGContextual, VGGPerceptual, VGGStyle
from torch.autograd.graph import saved_tensors_hooks

SMALL = {"relu1_2": 1.0, "relu2_1": 1.0}
KINDS = pytest.mark.parametrize("kind", [VGGPerceptual, VGGStyle, VGGContextual])


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator) * 2 - 1).to(dtype) for _ in range(2)]


def tensors(loss):
    return list(loss._network.parameters())


@KINDS
def test_parent_has_nothing_to_train_or_to_save(weights, kind):
    parent = torch.nn.Sequential(kind(SMALL, checkpoint=weights))
    assert not [*parent.parameters(), *parent.state_dict()]
    parent.load_state_dict({}, strict=True)


@KINDS
def test_network_stays_frozen_and_in_eval_mode_whatever_the_parent_does(weights, kind):
    loss = kind(SMALL, checkpoint=weights)
    torch.nn.Sequential(loss).train().requires_grad_(True)
    assert not any(module.training for module in loss._network.modules())
    assert not any(tensor.requires_grad for tensor in tensors(loss))


def test_network_has_the_keys_of_torchvision_and_only_the_depth_needed(weights, state):
    loss = VGGPerceptual({"relu2_1": 1.0}, checkpoint=weights)
    keys = [f"features.{position}.{part}" for position in (0, 2, 5) for part in ("weight", "bias")]
    assert list(loss._network.state_dict()) == keys
    assert all(torch.equal(loss._network.state_dict()[key], state[key]) for key in keys)


def test_to_moves_the_network_with_the_parent(weights):
    loss = VGGPerceptual(SMALL, checkpoint=weights)
    torch.nn.Sequential(loss).to(torch.float64)
    assert {tensor.dtype for tensor in tensors(loss)} == {torch.float64}
    torch.nn.Sequential(loss).to("meta")
    assert {tensor.device.type for tensor in tensors(loss)} == {"meta"}


def test_moving_one_loss_does_not_move_another_that_shares_its_network(weights):
    moved, kept = VGGPerceptual(SMALL, checkpoint=weights), VGGPerceptual(SMALL, checkpoint=weights)
    moved.double()
    assert {tensor.dtype for tensor in tensors(kept)} == {torch.float32}


def test_a_loss_cast_to_half_and_back_has_the_exact_weights(weights, state):
    loss = VGGPerceptual(SMALL, checkpoint=weights).half().float()
    assert torch.equal(loss._network.state_dict()["features.0.weight"], state["features.0.weight"])


def test_perceptual_and_style_share_one_copy_of_the_weights(weights):
    perceptual, style = VGGPerceptual(checkpoint=weights), VGGStyle({"relu2_1": 1.0}, checkpoint=weights)
    assert {id(tensor) for tensor in tensors(style)} < {id(tensor) for tensor in tensors(perceptual)}


def test_a_deeper_loss_shares_what_a_shallower_one_has_loaded(weights):
    shallow, deep = VGGPerceptual({"relu1_1": 1.0}, checkpoint=weights), VGGPerceptual(checkpoint=weights)
    assert {id(tensor) for tensor in tensors(shallow)} < {id(tensor) for tensor in tensors(deep)}


def test_weights_are_freed_with_the_last_loss(weights):
    loss = VGGPerceptual(SMALL, checkpoint=weights)
    weight = weakref.ref(tensors(loss)[0])
    del loss
    gc.collect()
    assert weight() is None


def test_a_file_that_has_changed_is_read_again(state, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(state, path)
    before = VGGPerceptual(SMALL, checkpoint=path)
    torch.save({**state, "more": torch.zeros(1)} | {"features.0.bias": state["features.0.bias"] + 1}, path)
    after = VGGPerceptual(SMALL, checkpoint=path)
    assert not torch.equal(tensors(before)[1], tensors(after)[1])


def test_a_copy_shares_the_weights(weights):
    loss = VGGPerceptual(SMALL, checkpoint=weights)
    twin = copy.deepcopy(torch.nn.Sequential(loss))[0]
    assert twin is not loss
    assert [id(tensor) for tensor in tensors(twin)] == [id(tensor) for tensor in tensors(loss)]


def test_a_pickle_is_small_and_gives_the_same_numbers(weights):
    loss = VGGPerceptual(SMALL, "l2", checkpoint=weights)
    data = pickle.dumps(loss)
    assert len(data) < 10_000
    y_fake, y = images(1, 3, 8, 8)
    assert torch.equal(pickle.loads(data)(y_fake, y), loss(y_fake, y))


def test_a_criterion_with_parameters_is_a_submodule(weights):
    criterion = torch.nn.PReLU()

    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.curve = criterion

        def forward(self, fake, real):
            return self.curve(fake - real).square()

    loss = VGGPerceptual(SMALL, Learned(), checkpoint=weights)
    loss(*images(1, 3, 8, 8)).backward()
    assert [*loss.parameters()] == [criterion.weight]
    assert criterion.weight.grad is not None


@KINDS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_images_of_another_dtype_are_computed_in_float32(weights, kind, dtype):
    y_fake, y = images(1, 3, 16, 16, dtype=dtype)
    loss = kind(SMALL, checkpoint=weights)
    y_fake.requires_grad_()
    result = loss(y_fake, y)
    result.backward()
    assert (result.dtype, y_fake.grad.dtype) == (torch.promote_types(dtype, torch.float32), dtype)
    assert torch.equal(result, loss(y_fake.float(), y.float()).to(result.dtype))


def test_autocast_does_not_lower_the_precision(weights):
    y_fake, y = images(1, 3, 16, 16)
    loss = VGGPerceptual(SMALL, checkpoint=weights)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(y_fake, y)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(y_fake, y))


@KINDS
@pytest.mark.parametrize("way", ["to", "precision"])
def test_in_bfloat16_the_value_is_right_to_one_percent_and_the_gradient_to_twenty(weights, kind, way):
    found = []
    for precision in ("float32", "bfloat16"):
        y_fake, y = images(1, 3, 32, 32)
        loss = kind(SMALL, checkpoint=weights, **({"precision": precision} if way == "precision" else {}))
        if way == "to":
            loss.to(getattr(torch, precision))
        value = loss(y_fake.requires_grad_(), y)
        value.backward()
        assert (value.dtype, {tensor.dtype for tensor in tensors(loss)}) == (torch.float32, {getattr(torch, precision)})
        found.append((value, y_fake.grad))
    (exact, gradient), (rough, rough_gradient) = found
    assert rough != exact
    torch.testing.assert_close(rough, exact, rtol=0.01, atol=0)
    assert (rough_gradient - gradient).norm() < 0.2 * gradient.norm()


@pytest.mark.parametrize("resize", [None, 12])
def test_channels_last_images_stay_so_through_the_network(weights, resize):
    def criterion(fake, real):
        assert fake.is_contiguous(memory_format=torch.channels_last)
        assert real.is_contiguous(memory_format=torch.channels_last)
        return (fake - real).abs().mean()

    loss = VGGPerceptual(SMALL, criterion, resize=resize, checkpoint=weights)
    loss(*(image.to(memory_format=torch.channels_last) for image in images(2, 3, 16, 16)))


@KINDS
def test_channels_last_images_give_the_same(weights, kind):
    y_fake, y = images(2, 3, 16, 16)
    loss = kind(SMALL, checkpoint=weights)
    last = loss(*(image.to(memory_format=torch.channels_last) for image in (y_fake, y)))
    torch.testing.assert_close(last, loss(y_fake, y), rtol=1e-5, atol=1e-6)


@KINDS
def test_on_the_meta_device_nothing_is_loaded(kind):
    with torch.device("meta"):
        loss = kind()  # from an empty cache: on any other device this would download
    y_fake, y = (torch.empty(2, 3, 32, 32, device="meta") for _ in range(2))
    assert loss(y_fake, y).device.type == "meta"


def test_a_loss_built_on_meta_loads_its_weights_when_it_gets_a_real_device(weights, state):
    with torch.device("meta"):
        loss = VGGPerceptual(SMALL, checkpoint=weights)
    loss.to_empty(device="cpu")
    assert torch.equal(loss._network.state_dict()["features.0.weight"], state["features.0.weight"])


def test_a_loss_built_under_inference_mode_still_trains(weights):
    with torch.inference_mode():
        loss = VGGPerceptual(SMALL, checkpoint=weights)
    y_fake, y = images(1, 3, 8, 8)
    loss(y_fake.requires_grad_(), y).backward()
    assert y_fake.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", [VGGPerceptual, VGGStyle])
@pytest.mark.parametrize("criterion", ["l1", "l2"])
def test_nothing_that_depends_on_the_target_alone_is_kept_for_backward(weights, kind, criterion):
    loss = kind(SMALL, criterion, checkpoint=weights)

    def kept(y_fake, y):
        found = []
        with saved_tensors_hooks(lambda tensor: found.append(tensor.detach().clone()), lambda _: None):
            loss(y_fake.clone().requires_grad_(), y)
        return found

    (y_fake, y), (other_fake, other_y) = images(1, 3, 8, 8), images(1, 3, 8, 8, seed=1)
    runs = zip(kept(y_fake, y), kept(other_fake, y), kept(y_fake, other_y), strict=True)
    assert not [
        here for here, fake_changed, y_changed in runs if here.equal(fake_changed) and not here.equal(y_changed)
    ]


def test_random_weights_are_reproducible_and_leave_the_global_generator_unchanged():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    first = VGGPerceptual(SMALL, checkpoint="random")
    weight = tensors(first)[0].clone()
    del first
    gc.collect()
    assert torch.equal(tensors(VGGPerceptual(SMALL, checkpoint="random"))[0], weight)
    assert torch.equal(torch.rand(1), expected)


@KINDS
@pytest.mark.parametrize("channels", [2, 4])
def test_other_channel_counts_are_refused(weights, kind, channels):
    with pytest.raises(ValueError, match=f"1 or 3 channels, .* y_fake, y have {channels}"):
        kind(SMALL, checkpoint=weights)(*images(1, channels, 8, 8))


@pytest.mark.parametrize(("fake_shape", "shape"), [((3, 8, 8), (3, 8, 8)), ((1, 3, 8, 8), (2, 3, 8, 8))])
def test_wrong_shapes_are_refused_and_named(weights, fake_shape, shape):
    with pytest.raises(ValueError, match=r"\(N, C, H, W\)") as caught:
        VGGPerceptual(SMALL, checkpoint=weights)(torch.zeros(fake_shape), torch.zeros(shape))
    assert f"y_fake is {fake_shape} and y is {shape}" in str(caught.value)


def test_integer_images_are_refused(weights):
    with pytest.raises(TypeError, match=r"convert with \.float\(\)"):
        VGGPerceptual(SMALL, checkpoint=weights)(*(torch.zeros(1, 3, 8, 8, dtype=torch.uint8) for _ in range(2)))


def test_images_on_another_device_are_refused(weights):
    with pytest.raises(ValueError, match=r"y_fake is on meta and y is on cpu: move them"):
        VGGPerceptual(SMALL, checkpoint=weights)(torch.zeros(1, 3, 8, 8, device="meta"), torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"is on cpu, y_fake and y are on meta; move the loss with \.to\(\)"):
        VGGPerceptual(SMALL, checkpoint=weights)(*torch.zeros(2, 1, 3, 8, 8, device="meta"))


def test_images_too_small_for_the_layers_are_refused(weights):
    with pytest.raises(ValueError, match="at least 4x4 pixels for the layer relu3_3; these images have 4x3"):
        VGGPerceptual(checkpoint=weights)(*images(1, 3, 4, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": {"relu1_3": 1.0}}, "no layer 'relu1_3'.*Did you mean"),
        ({"layers": {}}, "one at least"),
        ({"layers": "relu1_2"}, "maps names to weights"),
        ({"layers": {"relu1_2": float("nan")}}, "weight of the layer relu1_2"),
        ({"criterion": "l3"}, "criterion is .* not 'l3'"),
        ({"criterion": "fro", "reduction": "none"}, "one norm over the whole batch.*'none'"),
        ({"precision": "float16"}, "precision is .* not 'float16'"),
        ({"reduction": "avg"}, "reduction is .* not 'avg'"),
        ({"input_range": (1.0, -1.0)}, "black < white"),
        ({"by_layer": "yes"}, "by_layer is True or False, not .yes."),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VGGPerceptual(checkpoint="random", **arguments)


@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_a_criterion_that_reduces_is_refused_where_each_sample_needs_a_value(weights, reduction):
    loss = VGGPerceptual(SMALL, torch.nn.L1Loss(), reduction=reduction, checkpoint=weights)
    with pytest.raises(ValueError, match=r"value for each sample.*L1Loss\(reduction=\"none\"\)"):
        loss(*images(2, 3, 8, 8))


def test_a_criterion_that_returns_another_number_of_values_is_refused(weights):
    loss = VGGPerceptual(SMALL, lambda fake, real: torch.zeros(5), checkpoint=weights)
    with pytest.raises(ValueError, match=r"each of the 2 samples; it gave the shape \(5,\)"):
        loss(*images(2, 3, 8, 8))


def test_repr_shows_the_arguments():
    text = repr(VGGStyle({"relu1_1": 1.0}, checkpoint="random"))
    assert text.startswith("VGGStyle(layers={'relu1_1': 1.0}, criterion='l2', normalize=True")
    assert text.endswith("gram='pixels')")


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (VGGPerceptual, {"criterion": "l3"}),
        (VGGStyle, {"gram": "channels"}),
        (VGGContextual, {"band_width": 0.0}),
    ],
)
def test_an_invalid_argument_is_refused_before_weights_are_read(kind, arguments, monkeypatch):
    monkeypatch.setattr("nectargan_vgg.layered.weight_source", lambda *_: pytest.fail("weights are read"))
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} is "):
        kind(**arguments)
