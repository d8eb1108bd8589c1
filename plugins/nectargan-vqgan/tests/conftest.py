"""Shared fixtures: the network and the heads of LPIPS, written out, with seeded weights in files."""

import pytest
import torch
from torch import nn

CHANNELS = (64, 128, 256, 512, 512)


def stages():
    """The `features` of torchvision's vgg16, cut behind relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3."""
    result, inputs, position = [], 3, 0
    for count, outputs in zip((2, 2, 3, 3, 3), CHANNELS, strict=True):
        stage = nn.Sequential()
        if result:
            stage.add_module(str(position), nn.MaxPool2d(2))
            position += 1
        for _ in range(count):
            stage.add_module(str(position), nn.Conv2d(inputs, outputs, 3, padding=1))
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
def lpips():
    generator = torch.Generator().manual_seed(0)
    network = nn.ModuleList(stages()).requires_grad_(False)
    for value in network.parameters():
        inputs = value[0].numel() if value.dim() > 1 else 100
        value.copy_(torch.randn(value.shape, generator=generator) * (2 / inputs) ** 0.5)
    heads = [torch.rand(1, channels, 1, 1, generator=generator) for channels in CHANNELS]
    return LPIPS(network, heads)


@pytest.fixture(scope="session")
def weights(lpips, tmp_path_factory):
    """The options that name the files."""
    folder = tmp_path_factory.mktemp("weights")
    backbone = {f"features.{name.partition('.')[2]}": value for name, value in lpips.stages.state_dict().items()}
    torch.save(backbone, folder / "vgg16.pth")
    heads = {f"lin{number}.model.1.weight": head for number, head in enumerate(lpips.heads)}
    torch.save(heads, folder / "heads.pth")
    return {"backbone": folder / "vgg16.pth", "heads": folder / "heads.pth"}
