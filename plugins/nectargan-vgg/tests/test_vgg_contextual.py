"""The contextual loss: its values and gradients beside the formula and the authors' code, sampling and memory."""

import math

import pytest
import torch
import torch.nn.functional as F
from nectargan_vgg import VGGContextual
from torch.autograd.graph import saved_tensors_hooks

LAYERS = {"relu1_2": 1.0, "relu2_1": 0.3}
OPTIONS = {"layers": LAYERS, "normalize": False}


def images(*shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(2, *shape, generator=generator, dtype=torch.float64) * 2 - 1).to(dtype).unbind()


def features(state, image, name):
    """The features of a layer of the first two blocks."""
    found, positions = {}, {"relu1_1": 0, "relu1_2": 2, "relu2_1": 5, "relu2_2": 7}
    for layer, position in positions.items():
        weight, bias = (state[f"features.{position}.{part}"].to(image.dtype) for part in ("weight", "bias"))
        image = F.max_pool2d(image, 2) if layer == "relu2_1" else image
        image = found[layer] = F.relu(F.conv2d(image, weight, bias, padding=1))
    return found[name]


def formula(x, y, h=0.5, epsilon=1e-5):
    """Equations 1 to 5 of the paper, of the features of one image each, (C, height, width)."""
    x, y = x.flatten(1).T, y.flatten(1).T
    mean = y.mean(0)
    d = torch.stack([1 - F.cosine_similarity(each - mean, y - mean, dim=1) for each in x])
    relative = d / (d.min(1, keepdim=True).values + epsilon)
    w = torch.exp((1 - relative) / h)
    cx = w / w.sum(1, keepdim=True)
    return -torch.log(cx.max(0).values.mean())


def of_the_authors(target, image, sigma=0.5):
    """`CSFlow.CX_loss` with dot products, of features (N, C, height, width)."""
    mean = target.mean((0, 2, 3), keepdim=True)
    target, image = target - mean, image - mean
    target, image = target / target.norm(dim=1, keepdim=True), image / image.norm(dim=1, keepdim=True)
    raw = -(torch.einsum("nchw,ncp->nhwp", image, target.flatten(2)) - 1) / 2
    relative = raw / (raw.min(3, keepdim=True).values + 1e-5)
    weights = torch.exp((1.0 - relative) / sigma)
    cs = weights / weights.sum(3, keepdim=True)
    return -torch.log(cs.amax((1, 2)).mean(1))


@pytest.mark.parametrize(("h", "epsilon"), [(0.5, 1e-5), (0.1, 1e-5), (1.0, 1e-3)])
def test_it_is_the_formula_of_the_paper(weights, state, h, epsilon):
    y_fake, y = images(3, 3, 12, 8)
    loss = VGGContextual(**OPTIONS, band_width=h, epsilon=epsilon, reduction="none", checkpoint=weights)
    expected = [
        sum(
            w * formula(features(state, a[None], name)[0], features(state, b[None], name)[0], h, epsilon)
            for name, w in LAYERS.items()
        )
        for a, b in zip(y_fake, y, strict=True)
    ]
    torch.testing.assert_close(loss(y_fake, y), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_with_two_options_it_is_the_code_of_the_authors(weights, state):
    y_fake, y = images(3, 3, 12, 8)
    loss = VGGContextual(**OPTIONS, epsilon=2e-5, center="batch", reduction="none", checkpoint=weights)
    expected = sum(
        w * of_the_authors(features(state, y, name), features(state, y_fake, name)) for name, w in LAYERS.items()
    )
    torch.testing.assert_close(loss(y_fake, y), expected, rtol=1e-5, atol=1e-6)


def test_its_gradient_is_that_of_the_formula(weights, state):
    y_fake, y = images(1, 3, 8, 8, dtype=torch.float64)
    leaf, other = (y_fake.clone().requires_grad_() for _ in range(2))
    VGGContextual({"relu2_1": 1.0}, normalize=False, checkpoint=weights).double()(leaf, y).backward()
    formula(features(state, other, "relu2_1")[0], features(state, y, "relu2_1")[0]).backward()
    torch.testing.assert_close(leaf.grad, other.grad)


def test_gradients_of_both_images_are_right_in_float64(weights):
    y_fake, y = (image.clone().requires_grad_() for image in images(1, 1, 4, 4, dtype=torch.float64))
    loss = VGGContextual({"relu1_1": 1.0}, checkpoint=weights).double()
    torch.autograd.gradcheck(loss, (y_fake, y))


def test_default_layers_are_those_of_the_authors_after_the_activation(deep_weights):
    assert VGGContextual(checkpoint=deep_weights).layers == {"relu3_2": 1.0, "relu4_2": 1.0}


def test_positions_may_be_exchanged(weights):
    y_fake, y = images(1, 3, 8, 8)
    loss = VGGContextual({"relu1_1": 1.0}, checkpoint=weights)
    # A shift by whole pixels moves the features, but for those at the border.
    aligned, shifted = loss(y, y), loss(y.roll(2, 3), y)
    assert aligned < 0.01
    assert aligned < shifted < loss(y_fake, y)


@pytest.mark.parametrize("image", [torch.zeros, torch.ones])
@pytest.mark.parametrize("center", ["image", "batch"])
def test_images_of_one_color_have_finite_values_and_gradients(weights, image, center):
    loss = VGGContextual(LAYERS, center=center, checkpoint=weights)
    y = image(2, 3, 8, 8)
    for y_fake in (y.clone(), images(2, 3, 8, 8)[0].clone()):
        for one, other in ((y_fake, y), (y, y_fake)):
            leaf = one.clone().requires_grad_()
            value = loss(leaf, other)
            value.backward()
            assert value.isfinite()
            assert leaf.grad.isfinite().all()


def test_it_is_at_most_the_logarithm_of_the_number_of_positions(weights):
    y_fake, y = images(4, 3, 8, 8)
    values = VGGContextual({"relu1_1": 1.0}, band_width=1e-3, reduction="none", checkpoint=weights)(y_fake, y)
    assert ((values >= 0) & (values <= math.log(64))).all()


def test_as_many_positions_as_allowed_are_all_compared(weights):
    y_fake, y = images(1, 3, 8, 8)
    limited, unlimited = (VGGContextual({"relu1_1": 1.0}, positions=p, checkpoint=weights) for p in (64, None))
    assert torch.equal(limited(y_fake, y), unlimited(y_fake, y))


def test_of_more_positions_the_same_are_drawn_in_both_images_and_all_samples(weights, state):
    y_fake, y = images(2, 3, 8, 8)
    loss = VGGContextual({"relu1_1": 1.0}, positions=20, normalize=False, reduction="none", checkpoint=weights)
    torch.manual_seed(3)
    found, again = loss(y_fake, y), loss(y_fake, y)
    torch.manual_seed(3)
    drawn = torch.randperm(64)[:20]
    fake, real = (features(state, image, "relu1_1").flatten(2)[:, :, drawn, None] for image in (y_fake, y))
    expected = torch.stack([formula(a, b) for a, b in zip(fake, real, strict=True)])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found, again)


@pytest.mark.parametrize("positions", [None, 16])
def test_two_maps_of_all_pairs_of_positions_are_kept_for_backward(weights, positions):
    y_fake, y = images(2, 3, 8, 10)
    sizes = []
    loss = VGGContextual({"relu1_1": 1.0}, positions=positions, checkpoint=weights)
    with saved_tensors_hooks(lambda tensor: sizes.append(tensor.numel()), lambda _: None):
        loss(y_fake.clone().requires_grad_(), y)
    assert sizes.count(2 * (positions or 80) ** 2) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"band_width": 0.0}, "band_width is a finite number above 0, not 0.0"),
        ({"band_width": "wide"}, "band_width is a finite number above 0, not 'wide'"),
        ({"epsilon": -1.0}, "epsilon is a finite number above 0, not -1.0"),
        ({"epsilon": math.inf}, "epsilon is a finite number above 0, not inf"),
        ({"positions": 0}, "positions is an int, 1 at least, or None for all; not 0"),
        ({"positions": 65.0}, "positions is an int"),
        ({"center": "layer"}, "center is .* not 'layer'"),
    ],
)
def test_invalid_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VGGContextual(checkpoint="random", **arguments)


def test_repr_shows_the_arguments():
    text = repr(VGGContextual({"relu1_1": 1.0}, checkpoint="random"))
    assert text.startswith(
        "VGGContextual(layers={'relu1_1': 1.0}, band_width=0.5, epsilon=1e-05, positions=4225, center='image'"
    )
