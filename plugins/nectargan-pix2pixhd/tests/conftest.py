"""A weight file of VGG19 up to relu5_1, seeded, and the same network in plain PyTorch."""

import pytest
import torch
from torch import nn

# Output channels of the convolutions of torchvision's vgg19 up to conv5_1; "M" is a pooling layer.
LAYERS = [64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512]


@pytest.fixture(scope="session")
def vgg19():
    generator = torch.Generator().manual_seed(0)
    layers, inward = [], 3
    for each in LAYERS:
        if each == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(inward, each, 3, padding=1)
        with torch.no_grad():
            convolution.weight.normal_(std=(2 / (9 * inward)) ** 0.5, generator=generator)
            convolution.bias.normal_(std=0.1, generator=generator)
        layers += [convolution, nn.ReLU()]
        inward = each
    return nn.Sequential(*layers).requires_grad_(False)


@pytest.fixture(scope="session")
def checkpoint(vgg19, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save({f"features.{key}": value for key, value in vgg19.state_dict().items()}, path)
    return path
