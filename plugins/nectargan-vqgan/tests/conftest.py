"""Shared fixtures: the network and the heads of LPIPS, written out, with seeded weights in files."""

import pytest
import torch
from torch import nn
from torch.nn.utils import skip_init

CHANNELS = (64, 128, 256, 512, 512)


def stages():
    """The `features` of torchvision's vgg16, cut behind relu1_2, relu2_2, …, relu5_3; without numbers."""
    result, inputs, position = [], 3, 0
    for count, outputs in zip((2, 2, 3, 3, 3), CHANNELS, strict=True):
        stage = nn.Sequential()
        if result:
            stage.add_module(str(position), nn.MaxPool2d(2))
            position += 1
        for _ in range(count):
            stage.add_module(str(position), skip_init(nn.Conv2d, inputs, outputs, 3, padding=1))
            stage.add_module(str(position + 1), nn.ReLU())
            inputs, position = outputs, position + 2
        result.append(stage)
    return result


class LPIPS(nn.Module):
    """`taming/modules/losses/lpips.py` in eval mode."""

    def __init__(self, stages, heads):
        super().__init__()
        self.stages, self.heads = nn.ModuleList(stages), heads

    def forward(self, image, target):
        shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1)
        scale = torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1)
        one, two = (image - shift) / scale, (target - shift) / scale
        total = 0.0
        for stage, head in zip(self.stages, self.heads, strict=True):
            one, two = stage(one), stage(two)
            difference = self.normalized(one) - self.normalized(two)
            total = total + nn.functional.conv2d(difference**2, head).mean([2, 3], keepdim=True)
        return total

    @staticmethod
    def normalized(features):
        return features / ((features**2).sum(1, keepdim=True).sqrt() + 1e-10)


@pytest.fixture(scope="session")
def numbers():
    """Weights of the stages under torchvision's keys, and of the heads under those of LPIPS, in float32."""
    generator = torch.Generator().manual_seed(0)
    backbone = {}
    for name, value in nn.ModuleList(stages()).state_dict().items():
        inputs = value[0].numel() if value.dim() > 1 else 100
        random = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        backbone[f"features.{name.partition('.')[2]}"] = random * (2 / inputs) ** 0.5
    heads = {
        f"lin{number}.model.1.weight": torch.rand(1, channels, 1, 1, generator=generator, dtype=torch.float32)
        for number, channels in enumerate(CHANNELS)
    }
    return backbone, heads


@pytest.fixture
def lpips(numbers):
    """The network in the default dtype."""
    backbone, heads = numbers
    network = stages()
    for stage in network:
        stage.load_state_dict({name: backbone[f"features.{name}"] for name in stage.state_dict()})
        stage.requires_grad_(False)
    return LPIPS(network, [head.to(torch.get_default_dtype()) for head in heads.values()])


@pytest.fixture(scope="session")
def weights(numbers, tmp_path_factory):
    """The options that name the files."""
    folder = tmp_path_factory.mktemp("weights")
    files = {"backbone": folder / "vgg16.pth", "heads": folder / "heads.pth"}
    for path, state in zip(files.values(), numbers, strict=True):
        torch.save(state, path)
    return files
