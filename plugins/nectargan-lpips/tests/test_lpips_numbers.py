"""Values and gradients of LPIPS and DISTS, compared with their equations and the authors' packages."""

import copy
import importlib
import importlib.util
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from nectargan_lpips import DISTS, LPIPS

VARIANTS = ("vgg", "alex", "squeeze")
# The positions in torchvision's `features` whose outputs the authors' package compares.
COMPARED = {"vgg": (3, 8, 15, 22, 29), "alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12)}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = [(1, 3, 32, 32), (2, 3, 41, 34)]


def images(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    y_fake = (y + 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)).clamp(-1, 1)
    return y_fake.to(dtype), y.to(dtype)


def imagenet(unit):
    mean, std = (unit.new_tensor(values)[:, None, None] for values in (MEAN, STD))
    return (unit - mean) / std


def outputs(network, image, positions):
    found = []
    for position, layer in enumerate(network[: max(positions) + 1]):
        image = layer(image)
        if position in positions:
            found.append(image)
    return found


def plain_lpips(network, head_state, variant, y_fake, y):
    """Equation 1 of Zhang et al., a value for each sample and stage."""
    network = copy.deepcopy(network).to(y.dtype)
    pairs = zip(*(outputs(network, imagenet((image + 1) / 2), COMPARED[variant]) for image in (y_fake, y)), strict=True)
    values = []
    for (fake, real), head in zip(pairs, head_state.values(), strict=True):
        fake, real = (each / (each.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for each in (fake, real))
        values.append(((fake - real).pow(2) * head.to(y.dtype)).sum(1).mean((1, 2)))
    return torch.stack(values, 1)


def l2_pool(features):
    window = torch.outer(*[torch.tensor([1.0, 2.0, 1.0], dtype=features.dtype) / 4] * 2)
    window = window.expand(features.shape[1], 1, 3, 3)
    return (F.conv2d(features**2, window, stride=2, padding=1, groups=features.shape[1]) + 1e-12).sqrt()


def plain_dists(network, weights, y_fake, y, normalize=imagenet):
    """Equations 4 to 6 of Ding et al., a value for each sample of images from 0 to 1."""
    network = copy.deepcopy(network).to(y.dtype)
    alpha, beta = (weights[name].to(y.dtype).flatten() for name in ("alpha", "beta"))
    total = alpha.sum() + beta.sum()

    def maps(image):
        found, features = [image], normalize(image)
        for position, layer in enumerate(network):
            features = l2_pool(features) if isinstance(layer, torch.nn.MaxPool2d) else layer(features)
            if position in COMPARED["vgg"]:
                found.append(features)
        return found

    score, channel = 0.0, 0
    for fake, real in zip(maps(y_fake), maps(y), strict=True):
        width = fake.shape[1]
        means = [each.mean((2, 3)) for each in (fake, real)]
        variances = [each.var((2, 3), correction=0) for each in (fake, real)]
        covariance = (fake * real).mean((2, 3)) - means[0] * means[1]
        texture = (2 * means[0] * means[1] + 1e-6) / (means[0] ** 2 + means[1] ** 2 + 1e-6)
        structure = (2 * covariance + 1e-6) / (variances[0] + variances[1] + 1e-6)
        span = slice(channel, channel + width)
        score = score + (texture * alpha[span] + structure * beta[span]).sum(1) / total
        channel += width
    return 1 - score


def value_and_gradient(loss, y_fake, y):
    y_fake = y_fake.clone().requires_grad_()
    value = loss(y_fake, y)
    (gradient,) = torch.autograd.grad(value.sum(), y_fake)
    return value.detach(), gradient


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_lpips_and_its_gradient_are_those_of_the_equation(features, head_states, backbones, heads, variant, shape):
    loss = LPIPS(variant, backbone=backbones[variant], heads=heads[variant], reduction="none").double()
    found = value_and_gradient(loss, *images(*shape))
    expected = value_and_gradient(
        lambda y_fake, y: plain_lpips(features[variant], head_states[variant], variant, y_fake, y).sum(1),
        *images(*shape),
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_lpips_without_normalization_takes_images_as_the_network_does(backbones, heads, variant):
    y_fake, y = images(2, 3, 40, 40)
    options = {"backbone": backbones[variant], "heads": heads[variant]}
    expected = value_and_gradient(LPIPS(variant, **options).double(), y_fake, y)[0]
    prepared = [imagenet((image + 1) / 2) for image in (y_fake, y)]
    found = value_and_gradient(LPIPS(variant, normalize=False, **options).double(), *prepared)[0]
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("variant", VARIANTS)
def test_lpips_in_float32_is_the_equation_in_float64(features, head_states, backbones, heads, variant):
    y_fake, y = images(2, 3, 40, 40)
    loss = LPIPS(variant, backbone=backbones[variant], heads=heads[variant])(y_fake.float(), y.float())
    expected = plain_lpips(features[variant], head_states[variant], variant, y_fake, y).sum(1).mean()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("shape", [*SIZES, (2, 3, 1, 1), (1, 3, 2, 3)])
def test_dists_and_its_gradient_are_those_of_the_equation(features, alpha_and_beta, backbones, dists_weights, shape):
    loss = DISTS(backbone=backbones["vgg"], weights=dists_weights, reduction="none").double()
    found = value_and_gradient(loss, *images(*shape))
    expected = value_and_gradient(
        lambda y_fake, y: plain_dists(features["vgg"], alpha_and_beta, (y_fake + 1) / 2, (y + 1) / 2), *images(*shape)
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_dists_in_float32_is_the_equation_in_float64(features, alpha_and_beta, backbones, dists_weights):
    y_fake, y = images(2, 3, 40, 40)
    loss = DISTS(backbone=backbones["vgg"], weights=dists_weights)(y_fake.float(), y.float())
    expected = plain_dists(features["vgg"], alpha_and_beta, (y_fake + 1) / 2, (y + 1) / 2).mean()
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=0)


def test_dists_without_normalization_takes_images_as_they_are(features, alpha_and_beta, backbones, dists_weights):
    options = {"backbone": backbones["vgg"], "weights": dists_weights, "reduction": "none"}
    found = value_and_gradient(DISTS(normalize=False, **options).double(), *images(2, 3, 40, 40))
    expected = value_and_gradient(
        lambda y_fake, y: plain_dists(features["vgg"], alpha_and_beta, y_fake, y, lambda image: image),
        *images(2, 3, 40, 40),
    )
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("variant", VARIANTS)
def test_by_layer_each_stage_has_its_term(features, head_states, backbones, heads, variant):
    y_fake, y = images(2, 3, 40, 40)
    options = {"backbone": backbones[variant], "heads": heads[variant], "reduction": "none"}
    found = LPIPS(variant, by_layer=True, **options).double()(y_fake, y)
    expected = plain_lpips(features[variant], head_states[variant], variant, y_fake, y)
    torch.testing.assert_close(torch.stack([*found.values()], 1), expected, rtol=1e-10, atol=1e-14)


def test_by_layer_the_image_and_the_stages_add_up_to_dists(backbones, dists_weights):
    y_fake, y = images(2, 3, 32, 32)
    options = {"backbone": backbones["vgg"], "weights": dists_weights}
    found = DISTS(by_layer=True, **options)(y_fake.float(), y.float())
    assert [*found] == ["image", "relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3"]
    torch.testing.assert_close(sum(found.values()), DISTS(**options)(y_fake.float(), y.float()))


def test_equal_heads_weigh_each_channel_by_one(features, head_states, backbones):
    y_fake, y = images(1, 3, 40, 40)
    ones = {key: torch.ones_like(value) for key, value in head_states["alex"].items()}
    loss = LPIPS("alex", backbone=backbones["alex"], heads="equal").double()(y_fake, y)
    expected = plain_lpips(features["alex"], ones, "alex", y_fake, y).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)


def test_equal_weights_of_all_variants_live_side_by_side(backbones):
    losses = [LPIPS(variant, backbone=backbones[variant], heads="equal") for variant in VARIANTS]
    y_fake, y = images(1, 3, 40, 40, dtype=torch.float32)
    assert len({loss(y_fake, y).item() for loss in losses}) == 3


# Those of VGG16 take a second or two each.
LOSSES = [
    pytest.param(LPIPS, {"variant": "alex", "heads": "equal"}, id="alex"),
    pytest.param(LPIPS, {"variant": "squeeze", "heads": "equal"}, id="squeeze"),
    pytest.param(LPIPS, {"variant": "vgg", "heads": "equal"}, id="vgg", marks=pytest.mark.slow),
    pytest.param(DISTS, {"weights": "equal"}, id="dists", marks=pytest.mark.slow),
]


@pytest.fixture
def build(backbones):
    def make(kind, options, **more):
        return kind(backbone=backbones[options.get("variant", "vgg")], **options, **more)

    return make


@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_equal_images_give_exactly_zero_and_no_gradient(build, kind, options):
    y_fake, y = images(2, 3, 32, 32, dtype=torch.float32)
    value, gradient = value_and_gradient(build(kind, options), y, y)
    assert value == 0
    assert gradient.abs().max() < 1e-6
    assert build(kind, options)(y_fake, y) > 0


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(("kind", "options"), LOSSES)
@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_images_of_one_colour_give_finite_gradients(build, kind, options, value):
    y = torch.full((1, 3, 32, 32), value)
    y_fake = torch.zeros(1, 3, 32, 32)
    with torch.autograd.detect_anomaly(check_nan=True):
        found, gradient = value_and_gradient(build(kind, options), y_fake, y)
    assert found.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_where_no_feature_is_active_gradients_are_finite(kind, options, features, tmp_path):
    variant = options.get("variant", "vgg")
    state = {f"features.{key}": -value.abs() for key, value in features[variant].state_dict().items()}
    torch.save(state, tmp_path / "dead.pth")
    loss = kind(backbone=tmp_path / "dead.pth", **options)
    y_fake, y = images(1, 3, 32, 32, dtype=torch.float32)
    with torch.autograd.detect_anomaly(check_nan=True):
        value, gradient = value_and_gradient(loss, y_fake, y)
    assert value.isfinite()
    assert gradient.isfinite().all()


@pytest.mark.parametrize(("kind", "options"), LOSSES)
@pytest.mark.parametrize("input_range", [(0.0, 1.0), (0, 255), (-0.5, 1.5)])
def test_input_range_gives_the_values_of_black_and_white(build, kind, options, input_range):
    black, white = input_range
    y_fake, y = images(1, 3, 32, 32)
    scaled = [(image + 1) / 2 * (white - black) + black for image in (y_fake, y)]
    loss = build(kind, options, input_range=input_range).double()(*scaled)
    torch.testing.assert_close(loss, build(kind, options).double()(y_fake, y))


@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_a_batch_gives_the_values_of_its_samples(build, kind, options):
    y_fake, y = images(2, 3, 32, 32)
    single = build(kind, options, reduction="none").double()
    alone = torch.cat([single(y_fake[i : i + 1], y[i : i + 1]) for i in range(2)])
    for reduction, expected in (("none", alone), ("sum", alone.sum()), ("mean", alone.mean())):
        torch.testing.assert_close(build(kind, options, reduction=reduction).double()(y_fake, y), expected)


@pytest.mark.parametrize(("kind", "options"), LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_images_are_computed_in_float32(build, kind, options, dtype):
    y_fake, y = images(2, 3, 32, 32, dtype=dtype)
    loss = build(kind, options)
    result = loss(y_fake, y)
    assert torch.equal(result, loss(y_fake.float(), y.float()))


@pytest.mark.parametrize(("kind", "options"), LOSSES)
@pytest.mark.parametrize(("dtype", "bound", "cosine"), [(torch.float16, 0.005, 0.95), (torch.bfloat16, 0.03, 0.7)])
def test_a_network_of_half_precision_is_within_its_bound(build, kind, options, dtype, bound, cosine):
    y_fake, y = images(4, 3, 32, 32, dtype=torch.float32)
    rough, gradient = value_and_gradient(build(kind, options).to(dtype), y_fake, y)
    exact, expected = value_and_gradient(build(kind, options), y_fake, y)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=bound, atol=0)
    assert torch.cosine_similarity(gradient.flatten(), expected.flatten(), 0) > cosine


@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_autocast_does_not_lower_the_precision(build, kind, options):
    y_fake, y = images(1, 3, 32, 32, dtype=torch.float32)
    loss = build(kind, options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(y_fake, y)
    assert torch.equal(inside, loss(y_fake, y))


@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_channels_last_images_give_the_same(build, kind, options):
    y_fake, y = images(2, 3, 32, 32)
    loss = build(kind, options).double()
    last = loss(*(image.to(memory_format=torch.channels_last) for image in (y_fake, y)))
    torch.testing.assert_close(last, loss(y_fake, y))


@pytest.mark.parametrize(("kind", "options"), LOSSES)
def test_one_channel_is_used_for_all_three(build, kind, options):
    y_fake, y = images(1, 1, 32, 32)
    loss = build(kind, options).double()
    expected = loss(y_fake.expand(-1, 3, -1, -1), y.expand(-1, 3, -1, -1))
    torch.testing.assert_close(loss(y_fake, y), expected)


# The authors' packages, with these networks in the place of torchvision's


@pytest.fixture
def torchvision(features, monkeypatch):
    """A module in torchvision's place, whose networks have our weights."""
    models = types.ModuleType("torchvision.models")
    for name, variant in (("vgg16", "vgg"), ("alexnet", "alex"), ("squeezenet1_1", "squeeze")):
        network = types.SimpleNamespace(features=copy.deepcopy(features[variant]).double())
        setattr(models, name, lambda network=network, **_: network)
    top, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    top.models, top.transforms = models, transforms
    for module in (top, models, transforms):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def package(name):
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return importlib.import_module(name)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("variant", VARIANTS)
def test_lpips_is_that_of_the_package(torchvision, backbones, heads, variant):
    theirs = package("lpips").LPIPS(net=variant, model_path=str(heads[variant]), verbose=False).double()
    # In the buffers of the package they are rounded to float32.
    theirs.scaling_layer.shift = torch.tensor([-0.030, -0.088, -0.188], dtype=torch.float64)[None, :, None, None]
    theirs.scaling_layer.scale = torch.tensor([0.458, 0.448, 0.450], dtype=torch.float64)[None, :, None, None]
    ours = LPIPS(variant, backbone=backbones[variant], heads=heads[variant], reduction="none").double()
    expected = value_and_gradient(lambda y_fake, y: theirs(y_fake, y).flatten(), *images(2, 3, 40, 36))
    torch.testing.assert_close(value_and_gradient(ours, *images(2, 3, 40, 36)), expected, rtol=1e-9, atol=1e-14)


@pytest.mark.filterwarnings("ignore")
def test_dists_is_that_of_the_package(torchvision, backbones, dists_weights, alpha_and_beta):
    theirs = package("DISTS_pytorch").DISTS(load_weights=False).double()
    theirs.load_state_dict({name: value.double() for name, value in alpha_and_beta.items()}, strict=False)
    theirs.mean, theirs.std = (torch.tensor(each, dtype=torch.float64)[None, :, None, None] for each in (MEAN, STD))
    ours = DISTS(backbone=backbones["vgg"], weights=dists_weights, reduction="none").double()
    expected = value_and_gradient(
        lambda y_fake, y: theirs((y_fake + 1) / 2, (y + 1) / 2, require_grad=True), *images(2, 3, 40, 36)
    )
    torch.testing.assert_close(value_and_gradient(ours, *images(2, 3, 40, 36)), expected, rtol=1e-9, atol=1e-12)
