"""Three steps of training against plain PyTorch that follows the authors' code: equal totals and gradients."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from nectargan_core import LossManager

RANGES = [(-1.0, 1.0), (0.0, 1.0)]
# In float32 the sign of a difference of features that is almost 0, and with it its gradient, depends on the order of
# operations. In float64 the gradients are the same.
SAME = {torch.float32: 1e-2, torch.float64: 1e-7}
each_dtype = pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)])


@pytest.fixture(autouse=True)
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    yield
    torch.set_default_dtype(torch.float32)


def build(name, *, rename_inputs=None, **options):
    manager = LossManager.from_spec(name, options={name: options}, rename_inputs=rename_inputs)
    manager.modules().to(torch.get_default_dtype())
    return manager


def networks():
    """An upsampler by 2 and a discriminator of patches, with what trains them."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.LeakyReLU(0.2), nn.PixelShuffle(2))
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    return generator, critic, *(torch.optim.SGD(network.parameters(), lr=0.05) for network in (generator, critic))


def images(step, input_range):
    generator = torch.Generator().manual_seed(step)
    low, high = input_range
    x, y = (torch.rand(2, 3, size, size, generator=generator) * (high - low) + low for size in (8, 16))
    return x, y, (y + 0.5 * (y - functional.avg_pool2d(y, 3, 1, 1))).clamp(low, high)


def gradient(total, network):
    gradients = torch.autograd.grad(total, list(network.parameters()), retain_graph=True)
    return torch.cat([each.flatten() for each in gradients])


def assert_same(total, expected, network):
    torch.testing.assert_close(total, expected, rtol=1e-5, atol=1e-7)
    found, wanted = gradient(total, network), gradient(expected, network)
    assert (found - wanted).norm() <= SAME[found.dtype] * wanted.norm()


def train(optimizer, total):
    optimizer.zero_grad()
    total.backward()
    optimizer.step()


def perceptual(features, layer_weights, input_range, image, target):
    """BasicSR's PerceptualLoss with use_input_norm, criterion l1 and a style weight of 0."""
    mean = torch.tensor([0.485, 0.456, 0.406]).reshape(1, 3, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).reshape(1, 3, 1, 1)
    low, high = input_range
    one, two = (((each - low) / (high - low) - mean) / deviation for each in (image, target.detach()))
    total = torch.zeros(())
    for name, layer in features.named_children():
        one, two = layer(one), layer(two)
        if name in layer_weights:
            total = total + layer_weights[name] * functional.l1_loss(one, two)
    return total


def bce(logits, is_real):
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, float(is_real)))


@each_dtype
@pytest.mark.parametrize("input_range", RANGES)
def test_esrgan_is_that_of_basicsr(features, checkpoint, input_range):
    manager = build("esrgan", checkpoint=checkpoint, input_range=input_range)
    generator, critic, optimizer_g, optimizer_d = networks()
    for step in range(3):
        x, y, _ = images(step, input_range)
        manager.tick()
        output = generator(x)
        inputs = {"y_fake": output, "y": y, "pred_fake": critic(output), "pred_real": critic(y)}
        losses = manager.compute_losses(inputs, query="G")

        real, fake = critic(y).detach(), critic(output)
        expected = 1e-2 * functional.l1_loss(output, y) + perceptual(features, {"conv5_4": 1.0}, input_range, output, y)
        expected = expected + 5e-3 * (bce(real - fake.mean(), False) + bce(fake - real.mean(), True)) / 2
        assert_same(losses.total, expected, generator)
        train(optimizer_g, expected)

        # As the authors do, with the images from before the step of the generator.
        output = output.detach()
        inputs = {"pred_fake": critic(output), "pred_real": critic(y)}
        losses = manager.compute_losses(inputs, query="D")
        l_d_real = bce(critic(y) - critic(output).detach().mean(), True) * 0.5
        l_d_fake = bce(critic(output) - critic(y).detach().mean(), False) * 0.5
        assert_same(losses.total, l_d_real + l_d_fake, critic)
        train(optimizer_d, l_d_real + l_d_fake)


@pytest.mark.parametrize("dtype", [torch.float32])
def test_without_detached_means_the_discriminator_is_that_of_the_paper(checkpoint):
    """Equation 1, with the ½ of the code."""
    manager = build("esrgan", checkpoint=checkpoint, detach_mean=False)
    generator, critic, *_ = networks()
    x, y, _ = images(0, (-1.0, 1.0))
    real, fake = critic(y), critic(generator(x).detach())
    losses = manager.compute_losses({"pred_fake": fake, "pred_real": real}, query="D")
    expected = -torch.sigmoid(real - fake.mean()).log().mean() - (1 - torch.sigmoid(fake - real.mean())).log().mean()
    assert_same(losses.total, expected / 2, critic)


LAYERS = {"conv1_2": 0.1, "conv2_2": 0.1, "conv3_4": 1.0, "conv4_4": 1.0, "conv5_4": 1.0}
# l1_gt_usm, percep_gt_usm and gan_gt_usm of the authors' options, and how the inputs are renamed for that.
SHARPENED = {
    (True, True, False): {},
    (False, False, False): {"y_usm": "y"},
    (False, True, True): {"G_L1": {"y_usm": "y"}},
}


@each_dtype
@pytest.mark.parametrize(("sharpened", "input_range"), list(zip(SHARPENED, [*RANGES, RANGES[0]], strict=True)))
def test_real_esrgan_is_that_of_the_authors(features, checkpoint, sharpened, input_range):
    renamed = SHARPENED[sharpened]
    manager = build("real-esrgan", checkpoint=checkpoint, input_range=input_range, rename_inputs=renamed)
    generator, critic, optimizer_g, optimizer_d = networks()
    for step in range(3):
        x, y, y_usm = images(step, input_range)
        l1_gt, percep_gt, gan_gt = (y_usm if each else y for each in sharpened)
        manager.tick()
        output = generator(x)
        inputs = {"y_fake": output, "y": y, "y_usm": y_usm, "pred_fake": critic(output)}
        losses = manager.compute_losses(inputs, query="G")
        expected = functional.l1_loss(output, l1_gt) + perceptual(features, LAYERS, input_range, output, percep_gt)
        expected = expected + 0.1 * bce(critic(output), True)
        assert_same(losses.total, expected, generator)
        train(optimizer_g, expected)

        output = output.detach()
        losses = manager.compute_losses({"pred_fake": critic(output), "pred_real": critic(gan_gt)}, query="D")
        expected = bce(critic(gan_gt), True) + bce(critic(output), False)
        assert_same(losses.total, expected, critic)
        train(optimizer_d, expected)
