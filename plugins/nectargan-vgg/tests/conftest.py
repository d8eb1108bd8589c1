"""Shared fixtures: seeded weight files, and an empty cache folder for each test."""

import pytest
import torch

# torchvision's vgg19, written out: the position of each convolution in `features`, input and output channels.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64),
    5: (64, 128), 7: (128, 128),
    10: (128, 256), 12: (256, 256), 14: (256, 256), 16: (256, 256),
    19: (256, 512), 21: (512, 512), 23: (512, 512), 25: (512, 512),
    28: (512, 512), 30: (512, 512), 32: (512, 512), 34: (512, 512),
}  # fmt: skip


def seeded_state(last):
    generator = torch.Generator().manual_seed(last)
    state = {}
    for position, (inward, outward) in CONVOLUTIONS.items():
        if position <= last:
            scale = (2 / (9 * inward)) ** 0.5
            state[f"features.{position}.weight"] = torch.randn(outward, inward, 3, 3, generator=generator) * scale
            state[f"features.{position}.bias"] = torch.randn(outward, generator=generator) * 0.1
    return state


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty TORCH_HOME, and no weights named in the environment."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("NECTARGAN_VGG19_WEIGHTS", raising=False)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="session")
def state():
    """Weights up to relu3_4, seeded."""
    return seeded_state(16)


@pytest.fixture(scope="session")
def deep_state():
    """Weights of all sixteen convolutions, seeded."""
    return seeded_state(34)


@pytest.fixture(scope="session")
def weights(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="session")
def deep_weights(deep_state, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "vgg19-deep.pth"
    torch.save(deep_state, path)
    return path
