"""Shared fixtures: torchvision's VGG19 written out with seeded weights, as modules and as a file."""

import pytest
import torch
from torch import nn
from torch.nn.utils import skip_init


def vgg19():
    """The `features` of torchvision's vgg19 up to conv5_4, by the names of BasicSR, without numbers."""
    layers, inputs = nn.Sequential(), 3
    for block, (count, outputs) in enumerate(((2, 64), (2, 128), (4, 256), (4, 512), (4, 512)), start=1):
        for number in range(1, count + 1):
            layers.add_module(f"conv{block}_{number}", skip_init(nn.Conv2d, inputs, outputs, 3, padding=1))
            layers.add_module(f"relu{block}_{number}", nn.ReLU())
            inputs = outputs
        layers.add_module(f"pool{block}", nn.MaxPool2d(2, 2))
    return layers[:-2]


@pytest.fixture(scope="session")
def weights():
    network, generator = vgg19().float(), torch.Generator().manual_seed(0)
    state = {}
    for name, value in network.state_dict().items():
        inputs = value[0].numel() if value.dim() > 1 else 100
        random = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        state[name] = random * (2 / inputs) ** 0.5
    return state


@pytest.fixture
def features(weights):
    """The network in the default dtype."""
    network = vgg19().requires_grad_(False)
    network.load_state_dict(weights)
    return network


@pytest.fixture(scope="session")
def checkpoint(weights, tmp_path_factory):
    """The weights under torchvision's keys."""
    positions = {name: position for position, name in enumerate(vgg19()._modules)}
    state = {}
    for name, value in weights.items():
        layer, _, kind = name.partition(".")
        state[f"features.{positions[layer]}.{kind}"] = value
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path
