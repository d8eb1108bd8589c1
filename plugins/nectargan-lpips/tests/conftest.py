"""Shared fixtures: an empty cache for each test, torchvision's networks written out, and seeded weight files."""

import pytest
import torch
from torch import nn

CHANNELS = {
    "vgg": (64, 128, 256, 512, 512),
    "alex": (64, 192, 384, 256, 256),
    "squeeze": (64, 128, 256, 384, 384, 512, 512),
}


class Fire(nn.Module):
    def __init__(self, inputs, squeezed, expanded):
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x):
        x = torch.relu(self.squeeze(x))
        return torch.cat([torch.relu(self.expand1x1(x)), torch.relu(self.expand3x3(x))], 1)


def alexnet():
    return nn.Sequential(
        nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2),
    )  # fmt: skip


def vgg16():
    layers, inputs = [], 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
            inputs = outputs
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def squeezenet():
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


NETWORKS = {"vgg": vgg16, "alex": alexnet, "squeeze": squeezenet}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty TORCH_HOME, no records of copies, and no weights named in the environment."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "state"))
    for network in ("VGG16", "ALEXNET", "SQUEEZENET"):
        monkeypatch.delenv(f"NECTARGAN_{network}_WEIGHTS", raising=False)
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def features():
    """The `features` of torchvision's networks by variant, with seeded weights."""
    found = {}
    for seed, (variant, make) in enumerate(NETWORKS.items()):
        generator = torch.Generator().manual_seed(seed)
        found[variant] = make().requires_grad_(False)
        for name, value in found[variant].named_parameters():
            inputs = value[0].numel() if name.endswith("weight") else 100
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / inputs) ** 0.5)
    return found


@pytest.fixture(scope="session")
def backbones(features, tmp_path_factory):
    """Files of these weights under the keys of torchvision, with a key of the classifier."""
    folder = tmp_path_factory.mktemp("backbones")
    for variant, network in features.items():
        state = {f"features.{key}": value for key, value in network.state_dict().items()}
        torch.save({**state, "classifier.1.bias": torch.zeros(9)}, folder / f"{variant}.pth")
    return {variant: folder / f"{variant}.pth" for variant in features}


@pytest.fixture(scope="session")
def head_states():
    generator = torch.Generator().manual_seed(7)
    return {
        variant: {
            f"lin{number}.model.1.weight": torch.rand(1, width, 1, 1, generator=generator)
            for number, width in enumerate(widths)
        }
        for variant, widths in CHANNELS.items()
    }


@pytest.fixture(scope="session")
def heads(head_states, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heads")
    for variant, state in head_states.items():
        torch.save(state, folder / f"{variant}.pth")
    return {variant: folder / f"{variant}.pth" for variant in head_states}


@pytest.fixture(scope="session")
def alpha_and_beta():
    generator = torch.Generator().manual_seed(8)
    return {name: torch.rand(1, 1475, 1, 1, generator=generator) for name in ("alpha", "beta")}


@pytest.fixture(scope="session")
def dists_weights(alpha_and_beta, tmp_path_factory):
    path = tmp_path_factory.mktemp("dists") / "weights.pt"
    torch.save(alpha_and_beta, path)
    return path
