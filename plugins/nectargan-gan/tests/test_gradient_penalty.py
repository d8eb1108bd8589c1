"""`SquaredGradient` and `GradientPenalty` against the authors' code: conditions, precision, compilation, errors."""

import pickle
import warnings

import pytest
import torch
from nectargan_gan import GradientPenalty, SquaredGradient
from torch import nn

from nectargan_core.testing import LossTests


class TestSquaredGradient(LossTests):
    function = SquaredGradient()
    inputs = ("y", "discriminator")
    gradcheck = True


class TestGradientPenalty(LossTests):
    function = GradientPenalty()
    inputs = ("y", "y_fake", "discriminator")
    skip = {"deterministic": "it draws where between the images it looks"}


def critic(dtype=torch.float32, channels=3):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(channels, 4, 3, stride=2), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3), nn.Tanh(), nn.Flatten()
    )
    return nn.Sequential(network, nn.LazyLinear(1)).to(dtype)


def images(dtype=torch.float32, size=3):
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(size, 3, 11, 9, generator=generator, dtype=torch.float64).to(dtype) * 2 - 1 for _ in range(2)]


def weights_only(network):
    """The parameters that the gradient of a network depends on: all but the last bias."""
    return list(network.parameters())[:-1]


def r1_of_stylegan2(network, y):
    """stylegan2-ada-pytorch, `training/loss.py`, `Dr1`, with r1_gamma = 1."""
    image = y.detach().requires_grad_(True)
    logits = network(image)
    (grads,) = torch.autograd.grad(outputs=[logits.sum()], inputs=[image], create_graph=True)
    return (grads.square().sum([1, 2, 3]) * (1.0 / 2)).mean()


def penalty_of_wgan_gp(network, y, y_fake, alpha):
    """improved_wgan_training, `gan_cifar.py`: slopes over all elements of a sample; with lambda = 1."""
    between = (y + alpha * (y_fake - y)).requires_grad_()
    (grads,) = torch.autograd.grad(network(between).sum(), between, create_graph=True)
    slopes = torch.sqrt(torch.sum(torch.square(grads), dim=[1, 2, 3]))
    return torch.mean((slopes - 1.0) ** 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_r1_is_that_of_stylegan2_with_its_gradients(dtype):
    (y, _), network = images(dtype), critic(dtype)
    network(y)
    found, expected = SquaredGradient()(y, network), r1_of_stylegan2(network, y)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    for one, two in zip(*(torch.autograd.grad(each, weights_only(network)) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_penalty_is_that_of_wgan_gp_with_its_gradients(dtype):
    (y, y_fake), network = images(dtype), critic(dtype)
    network(y)
    torch.manual_seed(5)
    found = GradientPenalty()(y, y_fake, network)
    torch.manual_seed(5)
    # Ours is the share of the real sample, theirs that of the generated one; both are uniform.
    alpha = 1 - torch.rand(3, 1, 1, 1, dtype=dtype)
    expected = penalty_of_wgan_gp(network, y, y_fake, alpha)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=0)
    for one, two in zip(*(torch.autograd.grad(each, weights_only(network)) for each in (found, expected)), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-8)


def test_each_sample_has_a_place_of_its_own_between_real_and_generated():
    seen = []

    def discriminator(image):
        seen.append(image.detach())
        return image.sum(dim=(1, 2, 3))

    GradientPenalty()(torch.ones(64, 3, 4, 4), torch.zeros(64, 3, 4, 4), discriminator)
    places = seen[0][:, 0, 0, 0]
    assert torch.equal(seen[0], places[:, None, None, None].expand(64, 3, 4, 4))
    assert 0 <= places.min() < 0.2 < 0.8 < places.max() <= 1


def test_the_zero_centred_penalty_is_the_squared_norm():
    y, y_fake = images()
    weight = torch.randn(3, 11, 9, generator=torch.Generator().manual_seed(2))

    def linear(image):
        return (image * weight).sum(dim=(1, 2, 3))

    norm = weight.double().norm().item()
    for center in (0.0, 1.0, 0.5):
        found = GradientPenalty(center=center)(y, y_fake, linear).item()
        assert found == pytest.approx((norm - center) ** 2, rel=1e-5)


def test_a_patch_discriminator_is_differentiated_as_the_sum_of_its_patches():
    (y, _), network = images(), nn.Conv2d(3, 1, 3)
    weight = network.weight.detach().double()
    # Each output is a sum of weights, so that each pixel's gradient is the sum of the kernels over it.
    ones = torch.ones(1, 1, 9, 7, dtype=torch.float64)
    gradient = nn.functional.conv_transpose2d(ones, weight)
    expected = gradient.square().sum().item() / 2
    assert SquaredGradient()(y, network).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("over", "share"), [("mean", 1 / 2), ("sum", 1.0)])
@pytest.mark.parametrize("as_features", [False, True])
def test_each_of_several_discriminators_has_its_own_penalty(over, share, as_features):
    def scales(image):
        one, two = image.sum(dim=(1, 2, 3)), (3 * image).sum(dim=(1, 2, 3))
        return [[image, one], [image, two]] if as_features else [one, two]

    y, y_fake = images()
    size = y[0].numel()
    found = SquaredGradient(over_discriminators=over)(y, scales)
    assert found.item() == pytest.approx(share * (size + 9 * size) / 2, rel=1e-5)
    found = GradientPenalty(over_discriminators=over)(y, y_fake, scales)
    assert found.item() == pytest.approx(share * ((size**0.5 - 1) ** 2 + (3 * size**0.5 - 1) ** 2), rel=1e-5)


def test_a_condition_comes_with_the_discriminator():
    (y, x), network = images(), critic(channels=6)
    network(torch.cat([x, y], 1))

    def judge(image):
        return network(torch.cat([x, image], 1))

    torch.testing.assert_close(SquaredGradient()(y, judge), r1_of_stylegan2(judge, y))


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 100), (4, 1, 3, 4, 5)])
def test_samples_may_have_any_shape(shape):
    y = torch.zeros(shape)

    def total(samples):
        return 2 * samples.flatten(1).sum(1)

    assert SquaredGradient()(y, total).item() == pytest.approx(2 * y[0].numel())
    assert GradientPenalty(center=0)(y, y + 1, total).item() == pytest.approx(4 * y[0].numel(), rel=1e-6)


def test_a_gradient_of_zero_gives_finite_derivatives():
    weight = torch.zeros((), requires_grad=True)
    loss = GradientPenalty()(torch.zeros(2, 3), torch.ones(2, 3), lambda samples: (weight * samples).sum(1))
    loss.backward()
    assert loss.item() == 1.0
    assert weight.grad.isfinite()


def test_images_are_constants_and_stay_as_they_are():
    y, y_fake = (each.requires_grad_() for each in images())
    network = critic()
    network(y)
    (SquaredGradient()(y, network) + GradientPenalty()(y, y_fake, network)).backward()
    assert (y.grad, y_fake.grad, y.requires_grad) == (None, None, True)


# Where it is called


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("loss", [SquaredGradient(), GradientPenalty(center=0.0)])
def test_without_gradients_it_gives_the_same_number(context, loss):
    network = critic()
    y, y_fake = images()
    network(y)
    names = (y,) if isinstance(loss, SquaredGradient) else (y, y_fake)
    torch.manual_seed(0)
    expected = loss(*names, network).item()
    with context():
        torch.manual_seed(0)
        found = loss(*(each.clone() for each in names), network)
    assert not found.requires_grad
    assert found.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast_the_discriminator_computes_in_float32(dtype):
    network, seen = critic(), []
    (y, _) = images()
    network(y)

    def judge(image):
        result = network(image)
        seen.append((image.dtype, result.dtype))
        return result

    expected = SquaredGradient()(y, judge)
    with torch.autocast("cpu", dtype=dtype):
        found = SquaredGradient()(y, judge)
        rounded = SquaredGradient()(y.to(dtype), judge)
    assert torch.equal(found, expected)
    assert rounded.item() == pytest.approx(expected.item(), rel=0.05)
    assert set(seen) == {(torch.float32, torch.float32)}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_discriminator_in_half_precision_is_penalised_in_float32(dtype):
    (y, _) = images()
    network = critic()
    expected = SquaredGradient()(y, network).item()
    found = SquaredGradient()(y.to(dtype), network.to(dtype))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(expected, rel=0.05)


def test_squares_of_half_precision_do_not_overflow():
    found = SquaredGradient()(torch.zeros(1, 4).half(), lambda samples: (1000 * samples).sum(1))
    assert found.item() == 2e6


def test_a_gradient_scaler_leaves_its_size_as_it_is():
    network, (y, _) = critic(), images()
    network(y)
    expected = torch.autograd.grad(SquaredGradient()(y, network), weights_only(network))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    scaler.scale(SquaredGradient()(y, network)).backward()
    scaler.unscale_(optimizer)
    for parameter, gradient in zip(weights_only(network), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)


def compiled(function):
    return torch.compile(function, backend="aot_eager")


def test_a_compiled_discriminator_is_differentiated_twice():
    torch.compiler.reset()
    network, (y, y_fake) = critic(), images()
    expected = r1_of_stylegan2(network, y)
    judge = compiled(network)
    judge(y)
    found = SquaredGradient()(y, judge)
    torch.testing.assert_close(found, expected)
    (found + GradientPenalty()(y, y_fake, judge)).backward()
    torch.compiler.reset()


def test_in_a_compiled_step_it_runs_outside_of_the_graph():
    torch.compiler.reset()
    network, (y, _) = critic(), images()
    network(y)
    penalty = SquaredGradient()

    def step(image):
        return 2 * penalty(image, network) + network(image).mean()

    expected = step(y)
    with warnings.catch_warnings():
        # torch hides a warning of its own, which is an error here before it can.
        warnings.simplefilter("ignore")
        found = compiled(step)(y)
    torch.testing.assert_close(found, expected)
    found.backward()
    torch.compiler.reset()


def test_it_works_where_the_discriminator_is_frozen():
    network, (y, _) = critic(), images()
    network(y)
    expected = SquaredGradient()(y, network)
    assert SquaredGradient()(y, network.requires_grad_(False)).item() == pytest.approx(expected.item())


def test_gradients_of_parameters_are_those_of_differences():
    network, (y, y_fake) = critic(torch.float64), images(torch.float64, size=2)
    network[0] = nn.Sequential(nn.Conv2d(3, 2, 5, stride=4), nn.Tanh(), nn.Flatten()).double()
    network[1] = nn.Linear(2 * 2 * 2, 1).double()
    names = [name for name, _ in network.named_parameters()]

    for loss, samples in ((SquaredGradient(), (y,)), (GradientPenalty(), (y, y_fake))):

        def penalty(*values, loss=loss, samples=samples):
            torch.manual_seed(0)
            given = dict(zip(names, values, strict=True))
            return loss(*samples, lambda image: torch.func.functional_call(network, given, (image,)))

        values = [each.detach().requires_grad_() for each in network.parameters()]
        torch.autograd.gradcheck(penalty, values)


# Errors


def test_a_discriminator_that_cannot_be_called_is_refused():
    with pytest.raises(TypeError, match=r"SquaredGradient expects a discriminator that is a callable .* type Tensor"):
        SquaredGradient()(torch.zeros(2, 3), torch.zeros(2, 1))


def test_a_discriminator_that_returns_no_prediction_is_refused():
    with pytest.raises(TypeError, match="what the discriminator returned is of type NoneType"):
        SquaredGradient()(torch.zeros(2, 3), lambda samples: None)


@pytest.mark.parametrize(
    "discriminator",
    [
        lambda samples: torch.zeros(2, 1),
        lambda samples: samples.detach().sum(1),
        lambda samples: torch.zeros(2, 1, requires_grad=True).exp(),
        torch.no_grad()(lambda samples: samples.sum(1)),
    ],
)
def test_a_discriminator_that_ignores_its_argument_is_refused(discriminator):
    with pytest.raises(ValueError, match="to depend on the batch that it is given, and no gradient reaches that"):
        GradientPenalty()(torch.zeros(2, 3), torch.zeros(2, 3), discriminator)


@pytest.mark.parametrize(
    ("y", "y_fake", "error", "said"),
    [
        (torch.zeros(2, 3), torch.zeros(2, 4), ValueError, r"y is \(2, 3\) and y_fake is \(2, 4\)"),
        (torch.zeros(2, 3), torch.zeros(1, 3), ValueError, r"y is \(2, 3\) and y_fake is \(1, 3\)"),
        (torch.zeros(2), torch.zeros(2), ValueError, r"a batch \(N, ...\) of samples; y is \(2,\)"),
        (torch.zeros(0, 3), torch.zeros(0, 3), ValueError, r"y is \(0, 3\)"),
        (torch.zeros(2, 3).int(), torch.zeros(2, 3), TypeError, "y is torch.int32: convert with .float()"),
        (torch.zeros(2, 3), [torch.zeros(2, 3)], TypeError, "y_fake is of type list"),
    ],
)
def test_samples_that_do_not_fit_are_refused(y, y_fake, error, said):
    with pytest.raises(error, match=said):
        GradientPenalty()(y, y_fake, lambda samples: samples.sum(1))


@pytest.mark.parametrize(
    ("center", "error"), [(-1.0, ValueError), (float("inf"), ValueError), ("1", TypeError), (True, TypeError)]
)
def test_a_center_out_of_its_range_is_refused(center, error):
    with pytest.raises(error, match="center is a number from 0 on"):
        GradientPenalty(center=center)


@pytest.mark.parametrize("loss", [SquaredGradient, GradientPenalty])
def test_a_reduction_that_is_none_is_refused(loss):
    with pytest.raises(ValueError, match="over_discriminators"):
        loss(over_discriminators="none")


def test_they_survive_pickling_and_show_their_arguments():
    losses = [
        SquaredGradient(),
        SquaredGradient(over_discriminators="sum"),
        GradientPenalty(center=0, over_discriminators="sum"),
    ]
    assert [repr(pickle.loads(pickle.dumps(loss))) for loss in losses] == [
        "SquaredGradient()",
        "SquaredGradient(over_discriminators='sum')",
        "GradientPenalty(center=0, over_discriminators='sum')",
    ]
