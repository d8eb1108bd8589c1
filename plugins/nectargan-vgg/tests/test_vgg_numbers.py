"""The values and gradients of both losses, compared with a plain implementation of VGG19 and Gram matrices."""

import functools

import pytest
import torch
import torch.nn.functional as F
from nectargan_vgg import VGGPerceptual, VGGStyle

# Table 1, column E of the paper, by the names that the literature uses.
SEQUENCE = []
for block, count in enumerate((2, 2, 4, 4, 4), start=1):
    for number in range(1, count + 1):
        SEQUENCE += [f"conv{block}_{number}", f"relu{block}_{number}"]
    SEQUENCE.append(f"pool{block}")

DEFAULT = {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0}


def images(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype) for _ in range(2)]


def plain_features(state, image, names):
    found = {}
    for position, name in enumerate(SEQUENCE[: max(map(SEQUENCE.index, names)) + 1]):
        if name.startswith("conv"):
            weight, bias = (state[f"features.{position}.{part}"].to(image.dtype) for part in ("weight", "bias"))
            image = F.conv2d(image, weight, bias, stride=1, padding=1)
        else:
            image = image.clamp(min=0) if name.startswith("relu") else F.max_pool2d(image, 2, 2)
        found[name] = image
    return {name: found[name] for name in names}


def imagenet(image, black=-1.0, white=1.0):
    unit = (image - black) / (white - black)
    mean, std = (image.new_tensor(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return (unit - mean) / std


def plain_perceptual(state, y_fake, y, layers, distance=F.l1_loss):
    fake, real = plain_features(state, y_fake, layers), plain_features(state, y, layers)
    return sum(weight * distance(fake[name], real[name]) for name, weight in layers.items())


def plain_gram(features):
    samples, channels, height, width = features.shape
    gram = torch.zeros(samples, channels, channels, dtype=features.dtype)
    for sample in range(samples):
        for row in range(channels):
            for column in range(channels):
                gram[sample, row, column] = (features[sample, row] * features[sample, column]).sum() / (height * width)
    return gram


def squared_difference(fake, real):
    return (fake - real) ** 2


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(
    ("criterion", "distance"),
    [("l1", F.l1_loss), ("l2", F.mse_loss), (F.smooth_l1_loss, F.smooth_l1_loss), (squared_difference, F.mse_loss)],
)
def test_perceptual_is_the_plain_definition(weights, state, normalize, criterion, distance):
    y_fake, y = images(2, 3, 32, 24)
    loss = VGGPerceptual(DEFAULT, criterion, normalize, checkpoint=weights)(y_fake, y)
    given = (imagenet(y_fake), imagenet(y)) if normalize else (y_fake, y)
    torch.testing.assert_close(loss, plain_perceptual(state, *given, DEFAULT, distance), rtol=1e-6, atol=1e-6)


def test_defaults_are_three_layers_l1_and_normalized(weights, state):
    y_fake, y = images(1, 3, 16, 16)
    expected = plain_perceptual(state, imagenet(y_fake), imagenet(y), DEFAULT)
    torch.testing.assert_close(VGGPerceptual(checkpoint=weights)(y_fake, y), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "layers",
    [
        {"conv1_1": 1.0},
        {"relu1_1": -0.5},
        {"conv1_2": 1.0, "relu1_2": 2.0, "pool1": 3.0},
        {"pool2": 1.0, "relu2_1": 0.1},
        dict.fromkeys(SEQUENCE[:18], 0.5),
    ],
    ids=lambda layers: "+".join(layers)[:30],
)
def test_any_subset_of_layers_counts_with_its_weights(weights, state, layers):
    y_fake, y = images(1, 3, 16, 16)
    loss = VGGPerceptual(layers, normalize=False, checkpoint=weights)(y_fake, y)
    torch.testing.assert_close(loss, plain_perceptual(state, y_fake, y, layers), rtol=1e-6, atol=1e-6)


# The layers of BasicSR's configurations of ESRGAN and of Real-ESRGAN and LDL: all before the activation.
OF_ESRGAN = {"conv5_4": 1.0}
OF_REAL_ESRGAN = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
EVERY_CONVOLUTION = {name: 1.0 for name in SEQUENCE if name.startswith("conv")}


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("layers", [OF_ESRGAN, OF_REAL_ESRGAN, EVERY_CONVOLUTION, {"conv5_4": 1.0, "relu5_4": 2.0}])
def test_convolutions_are_compared_before_the_activation(deep_weights, deep_state, layers, by_layer):
    y_fake, y = images(2, 3, 32, 32)
    loss = VGGPerceptual(layers, checkpoint=deep_weights, by_layer=by_layer)
    expected_fake = y_fake.clone().requires_grad_()
    fake, real = (plain_features(deep_state, imagenet(image), layers) for image in (expected_fake, y))
    assert min(fake[name].min() for name in layers if name.startswith("conv")) < 0
    expected = {name: weight * F.l1_loss(fake[name], real[name]) for name, weight in layers.items()}
    sum(expected.values()).backward()
    found = loss(y_fake.requires_grad_(), y)
    if by_layer:
        assert list(found) == sorted(layers, key=SEQUENCE.index)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6)
    total = sum(found.values()) if by_layer else found
    torch.testing.assert_close(total, sum(expected.values()), rtol=1e-5, atol=1e-6)
    total.backward()
    torch.testing.assert_close(y_fake.grad, expected_fake.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("layers", [{"relu5_4": 1.0}, dict.fromkeys(SEQUENCE, 1.0)], ids=["relu5_4", "all"])
def test_deepest_layers_are_where_torchvision_has_them(deep_weights, deep_state, layers):
    y_fake, y = images(1, 3, 32, 32)
    loss = VGGPerceptual(layers, normalize=False, checkpoint=deep_weights)(y_fake, y)
    torch.testing.assert_close(loss, plain_perceptual(deep_state, y_fake, y, layers), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("input_range", [(0.0, 1.0), (0, 255), (-0.5, 1.5)])
def test_input_range_gives_the_values_of_black_and_white(weights, state, input_range):
    black, white = input_range
    scaled = [(image + 1) / 2 * (white - black) + black for image in images(1, 3, 16, 16)]
    loss = VGGPerceptual(input_range=input_range, checkpoint=weights)(*scaled)
    expected = plain_perceptual(state, *(imagenet(image, black, white) for image in scaled), DEFAULT)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-6)


def test_one_channel_is_used_for_all_three(weights):
    y_fake, y = images(2, 1, 16, 16)
    loss = VGGPerceptual(checkpoint=weights)
    assert torch.equal(loss(y_fake, y), loss(y_fake.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(("reduction", "reduce"), [("none", lambda v: v), ("sum", torch.sum), ("mean", torch.mean)])
@pytest.mark.parametrize("kind", [VGGPerceptual, VGGStyle])
def test_reduction_combines_the_values_of_the_samples(weights, kind, reduction, reduce):
    y_fake, y = images(3, 3, 16, 16)
    options = {"layers": {"relu1_2": 1.0, "relu2_1": 0.3}, "checkpoint": weights}
    alone = torch.stack([kind(**options)(y_fake[i : i + 1], y[i : i + 1]) for i in range(3)])
    result = kind(reduction=reduction, **options)(y_fake, y)
    torch.testing.assert_close(result, reduce(alone), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("kind", [VGGPerceptual, VGGStyle])
def test_by_layer_the_values_of_the_layers_add_up_to_the_loss(weights, kind, reduction):
    y_fake, y = images(3, 3, 16, 16)
    options = {"layers": {"relu1_2": 1.0, "relu2_1": 0.3}, "reduction": reduction, "checkpoint": weights}
    found = kind(by_layer=True, **options)(y_fake, y)
    assert list(found) == ["relu1_2", "relu2_1"]
    torch.testing.assert_close(sum(found.values()), kind(**options)(y_fake, y))
    options["layers"] = {"relu2_1": 0.3}
    torch.testing.assert_close(found["relu2_1"], kind(**options)(y_fake, y))


@pytest.mark.parametrize(("resize", "size"), [(24, (24, 24)), ((16, 40), (16, 40))])
def test_resize_is_bilinear_and_antialiased(weights, resize, size):
    y_fake, y = images(1, 3, 48, 32)
    loss = VGGPerceptual(resize=resize, checkpoint=weights)(y_fake, y)
    resized = [F.interpolate(image, size, mode="bilinear", antialias=True) for image in (y_fake, y)]
    torch.testing.assert_close(loss, VGGPerceptual(checkpoint=weights)(*resized))


@pytest.mark.parametrize("normalize", [True, False])
def test_style_is_the_squared_difference_of_plain_gram_matrices(weights, state, normalize):
    y_fake, y = images(2, 3, 12, 8)
    layers = {"relu1_1": 0.7, "conv1_2": 0.3}
    given = (imagenet(y_fake), imagenet(y)) if normalize else (y_fake, y)
    fake, real = (plain_features(state, image, layers) for image in given)
    expected = sum(w * F.mse_loss(plain_gram(fake[name]), plain_gram(real[name])) for name, w in layers.items())
    loss = VGGStyle(layers, normalize=normalize, checkpoint=weights)(y_fake, y)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)


def test_style_is_four_times_the_energy_of_gatys(weights, state):
    y_fake, y = images(1, 3, 8, 8)
    fake, real = (plain_features(state, image, ["relu1_1"])["relu1_1"].flatten(2) for image in (y_fake, y))
    squares = ((fake @ fake.mT - real @ real.mT) ** 2).sum()
    energy = squares / (4 * 64**2 * (8 * 8) ** 2)
    loss = VGGStyle({"relu1_1": 1.0}, normalize=False, checkpoint=weights)(y_fake, y)
    torch.testing.assert_close(loss, 4 * energy, rtol=1e-5, atol=1e-6)


def test_default_layers_of_style_are_those_of_gatys(deep_weights):
    layers = VGGStyle(checkpoint=deep_weights).layers
    assert layers == dict.fromkeys(["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"], 0.2)


def of_basicsr(state, y_fake, y, layers, criterion, style):
    """The perceptual, or the style loss of BasicSR's `PerceptualLoss`, of images from -1 to 1."""
    total = 0
    for name, weight in layers.items():
        fake, real = (plain_features(state, imagenet(image), layers)[name] for image in (y_fake, y))
        if style:
            n, c, h, w = fake.shape
            fake, real = (
                torch.einsum("nip,njp->nij", f.view(n, c, -1), f.view(n, c, -1)) / (c * h * w) for f in (fake, real)
            )
        if criterion == "fro":
            total = total + weight * (fake - real).square().sum().sqrt()
        else:
            total = total + weight * (F.l1_loss if criterion == "l1" else F.mse_loss)(fake, real)
    return total


@pytest.mark.parametrize("style", [False, True], ids=["perceptual", "style"])
@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
@pytest.mark.slow
@pytest.mark.parametrize("layers", [OF_REAL_ESRGAN, {"conv5_4": 1.0}], ids=["Real-ESRGAN", "ESRGAN"])
def test_values_and_gradients_are_those_of_basicsr(deep_weights, deep_state, layers, criterion, style):
    y_fake, y = images(2, 3, 32, 32)
    expected_fake = y_fake.clone().requires_grad_()
    expected = of_basicsr(deep_state, expected_fake, y, layers, criterion, style)
    options = {"layers": layers, "criterion": criterion, "checkpoint": deep_weights}
    loss = VGGStyle(gram="elements", **options) if style else VGGPerceptual(**options)
    found = loss(y_fake.requires_grad_(), y)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    found.backward()
    expected.backward()
    scale = expected_fake.grad.abs().max().item()
    torch.testing.assert_close(y_fake.grad, expected_fake.grad, rtol=1e-4, atol=1e-5 * scale)


def test_the_norm_of_equal_images_has_a_gradient_of_zero(weights):
    y = images(1, 3, 8, 8)[0]
    y_fake = y.clone().requires_grad_()
    loss = VGGPerceptual({"relu1_1": 1.0}, "fro", checkpoint=weights)(y_fake, y)
    loss.backward()
    assert loss == 0
    assert not y_fake.grad.any()


@pytest.mark.parametrize("kind", [VGGPerceptual, VGGStyle])
@pytest.mark.parametrize("criterion", ["l1", "l2", "fro"])
def test_gradients_of_both_images_are_right_in_float64(weights, kind, criterion):
    y_fake, y = (image.requires_grad_() for image in images(1, 1, 4, 4, dtype=torch.float64))
    loss = kind({"relu1_1": 1.0, "conv2_1": 0.5}, criterion, checkpoint=weights).double()
    torch.autograd.gradcheck(loss, (y_fake, y))


def test_second_gradients_are_right_in_float64(weights):
    y_fake, y = images(1, 1, 3, 3, dtype=torch.float64)
    loss = VGGPerceptual({"relu1_1": 1.0}, "l2", checkpoint=weights).double()
    torch.autograd.gradgradcheck(functools.partial(loss, y=y), (y_fake.requires_grad_(),))


def test_gradient_is_that_of_the_plain_definition(weights, state):
    y_fake, y = images(2, 3, 16, 16, dtype=torch.float64)
    gradients = []
    for loss in (VGGPerceptual(normalize=False, checkpoint=weights).double(), None):
        leaf = y_fake.clone().requires_grad_()
        (loss(leaf, y) if loss else plain_perceptual(state, leaf, y, DEFAULT)).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)
