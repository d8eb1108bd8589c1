"""The losses of VGG19, forward and backward, beside plain code of two passes, that of the target without a graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from beside import OF_NETWORKS, Pair, images, rows_of
from nectargan_vgg import VGGContextual, VGGPerceptual, VGGStyle
from nectargan_vgg.network import LAYERS
from table import Row
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


class Plain(nn.Module):
    """VGG19 as it is usually written: the features of an image, of the weights of a loss of ours."""

    def __init__(self, ours: VGGPerceptual | VGGStyle | VGGContextual) -> None:
        super().__init__()
        self.layers = {LAYERS[name]: weight for name, weight in ours.layers.items()}
        self.features = nn.ModuleList()
        for position, layer in enumerate(ours._network.features):
            if isinstance(layer, nn.Conv2d):
                copied = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1).requires_grad_(False)
                copied.load_state_dict(layer.state_dict())
                self.features.append(copied)
            else:
                in_place = position - 1 not in self.layers
                self.features.append(nn.ReLU(inplace=in_place) if isinstance(layer, nn.ReLU) else nn.MaxPool2d(2))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).reshape(3, 1, 1))

    def of(self, image: Tensor) -> list[Tensor]:
        """Return the features of an image at each layer that is compared."""
        image = ((image + 1) / 2 - self.mean) / self.std
        found = []
        for position, layer in enumerate(self.features):
            image = layer(image)
            if position in self.layers:
                found.append(image)
        return found


class TwoPasses(Plain):
    """A loss of two passes; the target is passed without a graph."""

    def __init__(self, ours: VGGPerceptual | VGGStyle | VGGContextual, distance: Loss) -> None:
        super().__init__(ours)
        self.distance = distance

    def real(self, y: Tensor) -> list[Tensor]:
        """Return the features of the target."""
        with torch.no_grad():
            return self.of(y)

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        real = self.real(y)
        pairs = zip(self.layers.values(), self.of(y_fake), real, strict=True)
        return torch.stack([weight * self.distance(one, other) for weight, one, other in pairs]).sum()


class TargetInInferenceMode(TwoPasses):
    """Two passes, that of the target under `torch.inference_mode`."""

    def real(self, y: Tensor) -> list[Tensor]:
        """Return the features of the target."""
        with torch.inference_mode():
            return self.of(y)

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        # F.l1_loss would keep the features of the target for the backward pass, which such tensors refuse.
        pairs = zip(self.of(y_fake), self.real(y), strict=True)
        return torch.stack([(one - other).abs().mean() for one, other in pairs]).sum()


class OneBatch(TwoPasses):
    """Both images in one batch, whose second half takes the backward pass, too."""

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        both = [each.split(len(y)) for each in self.of(torch.cat([y_fake, y]))]
        return torch.stack([self.distance(one, other) for one, other in both]).sum()


class ChannelsLast(TwoPasses):
    """Two passes of images that are brought to channels_last."""

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        first, second = (image.contiguous(memory_format=torch.channels_last) for image in (y_fake, y))
        return super().forward(first, second)


class Autocast(TwoPasses):
    """Two passes under autocast to bfloat16."""

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(y.device.type, dtype=torch.bfloat16):
            return super().forward(y_fake, y)


def gram_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Compare Gram matrices."""
    grams = [flat @ flat.mT / flat.shape[2] for flat in (fake.flatten(2), real.flatten(2))]
    return F.mse_loss(*grams)


def contextual_distance(fake: Tensor, real: Tensor) -> Tensor:
    """Compute the contextual loss of features as published PyTorch code does."""
    mean = real.mean((2, 3), keepdim=True)
    fake, real = (F.normalize(each - mean, dim=1).flatten(2) for each in (fake, real))
    distance = 1 - torch.bmm(fake.mT, real)
    relative = distance / (distance.min(2, keepdim=True).values + 1e-5)
    weights = torch.exp((1 - relative) / 0.5)
    found = (weights / weights.sum(2, keepdim=True)).max(1).values
    return -torch.log(found.mean(1)).mean()


def pairs() -> list[Pair]:
    """Return each loss beside two passes."""
    perceptual, style = VGGPerceptual(checkpoint="random"), VGGStyle(checkpoint="random")
    contextual = VGGContextual(checkpoint="random")
    rough = VGGPerceptual(checkpoint="random", precision="bfloat16")
    return [
        Pair("vgg", "two passes", TwoPasses(perceptual, F.l1_loss), perceptual, images(), OF_NETWORKS),
        Pair("vgg:style", "two passes", TwoPasses(style, gram_distance), style, images(), OF_NETWORKS),
        Pair(
            "vgg:contextual",
            "two passes",
            TwoPasses(contextual, contextual_distance),
            contextual,
            images(),
            OF_NETWORKS,
        ),
        Pair("vgg, bfloat16", "two passes, autocast", Autocast(rough_base(), F.l1_loss), rough, images(), OF_NETWORKS),
    ]


@functools.cache
def rough_base() -> VGGPerceptual:
    """Return a loss in float32, whose weights the plain ones copy."""
    return VGGPerceptual(checkpoint="random")


def other_ways() -> list[Pair]:
    """Return other ways to compute the perceptual loss, in the place of ours, beside two passes."""
    base = rough_base()
    ways = {
        "target in inference mode": TargetInInferenceMode,
        "both in one batch": OneBatch,
        "channels_last": ChannelsLast,
        "autocast to bfloat16": Autocast,
    }
    return [
        Pair(name, "two passes", TwoPasses(base, F.l1_loss), way(base, F.l1_loss), images(), OF_NETWORKS)
        for name, way in ways.items()
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
