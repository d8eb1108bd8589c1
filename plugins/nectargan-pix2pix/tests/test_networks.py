"""The networks: output shapes, the initial generator, the size of a patch, and the source image."""

import pytest
import torch
from nectargan_pix2pix.images import SMALLEST_IMAGE
from nectargan_pix2pix.networks import Discriminator, Generator


def images(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_generator_begins_as_the_identity():
    x = images(2, 3, 64, 64)
    assert torch.equal(Generator(channels=2)(x), x)


@pytest.mark.slow
def test_the_generator_learns_from_its_first_step():
    generator = Generator(channels=2)
    generator(images(2, 3, 32, 32)).abs().mean().backward()
    assert generator.unet.final_conv.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("size", [(SMALLEST_IMAGE, SMALLEST_IMAGE), (45, 70)])
def test_the_generator_takes_images_of_different_sizes(size):
    x = images(1, 3, *size)
    assert Generator(channels=2).eval()(x).shape == x.shape


@pytest.mark.parametrize("size", [SMALLEST_IMAGE, 64])
def test_the_discriminator_returns_a_logit_for_each_patch(size):
    image = images(2, 3, size, size)
    assert Discriminator(channels=2)(image, image).shape == (2, 1, size // 8 - 2, size // 8 - 2)


def test_a_patch_is_70_pixels_wide():
    discriminator = Discriminator(channels=2)
    # With normalisation over the whole image, every logit would depend on every pixel.
    for module in discriminator.modules():
        if isinstance(module, torch.nn.InstanceNorm2d):
            module.forward = lambda image: image
    image = images(1, 3, 256, 256).requires_grad_()
    discriminator(image.detach(), image)[0, 0, 15, 15].backward()
    reached = image.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (reached.amax(0) - reached.amin(0) + 1).tolist() == [70, 70]


def test_the_discriminator_uses_the_source_image():
    discriminator = Discriminator(channels=2)
    source, image = images(2, 1, 3, 32, 32)
    assert not torch.equal(discriminator(source, image), discriminator(-source, image))
