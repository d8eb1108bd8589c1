"""The names of inputs that losses share: what each is, and how the kit makes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import torch
from torch import Tensor, nn

_SIZE = 32
_CLASSES = 10
_LATENT = 16


@dataclass(frozen=True)
class Input:
    """One input of the vocabulary.

    Args:
        name: The name that losses read it by.
        description: What it is.
        shape: Its shape, in words.
        range: The values that it has.
        made_by: Who makes it in a training loop.
        generated: Whether a network under training made it, so that a loss is differentiated with respect to it.
        make: Makes one for a batch size, in float32 on the CPU, with the random numbers of a generator.
    """

    name: str
    description: str
    shape: str
    range: str
    made_by: str
    generated: bool
    make: Callable[[int, torch.Generator], object]


class PatchDiscriminator(nn.Module):
    """The discriminator that the kit makes: small, smooth, and for images of three channels.

    Example:
        >>> PatchDiscriminator()(torch.zeros(2, 3, 32, 32)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 1, 4, stride=4)
        weight = self.convolution.weight
        with torch.no_grad():
            weight.copy_(torch.linspace(-0.2, 0.3, weight.numel()).reshape(weight.shape))
            self.convolution.bias.zero_()  # type: ignore[union-attr] # a convolution made so has one

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit for each patch of an image (N, 3, H, W)."""
        result: Tensor = self.convolution(image).tanh()
        return result


def _uniform(*shape: int) -> Callable[[int, torch.Generator], Tensor]:
    return lambda batch, generator: torch.rand(batch, *shape, generator=generator) * 2 - 1


def _normal(*shape: int) -> Callable[[int, torch.Generator], Tensor]:
    return lambda batch, generator: torch.randn(batch, *shape, generator=generator)


def _features(batch: int, generator: torch.Generator) -> list[Tensor]:
    return [torch.randn(batch, 8, 16, 16, generator=generator), torch.randn(batch, 16, 8, 8, generator=generator)]


def _mask(batch: int, generator: torch.Generator) -> Tensor:
    return (torch.rand(batch, 1, _SIZE, _SIZE, generator=generator) > 0.5).float()


def _labels(batch: int, generator: torch.Generator) -> Tensor:
    return torch.randint(0, _CLASSES, (batch,), generator=generator)


def _discriminator(batch: int, generator: torch.Generator) -> nn.Module:
    return PatchDiscriminator()


def _weight(batch: int, generator: torch.Generator) -> nn.Parameter:
    return nn.Parameter(torch.randn(8, 8, generator=generator))


_IMAGE = _uniform(3, _SIZE, _SIZE)
_PREDICTION = _normal(1, 6, 6)

# Beside what a table of the documentation shows, an input has a function that makes it.
_INPUTS = (
    Input("x", "source image", "(N, C, H, W)", "-1 to 1", "the data", False, _IMAGE),
    Input("y", "target image", "(N, C, H, W)", "-1 to 1", "the data", False, _IMAGE),
    Input("y_fake", "generated image", "(N, C, H, W)", "-1 to 1", "the generator", True, _IMAGE),
    Input(
        "pred_real",
        "what the discriminator says of the target",
        "(N, 1, h, w) or (N, 1)",
        "logits",
        "the discriminator",
        True,
        _PREDICTION,
    ),
    Input(
        "pred_fake",
        "what the discriminator says of the generated image",
        "(N, 1, h, w) or (N, 1)",
        "logits",
        "the discriminator",
        True,
        _PREDICTION,
    ),
    Input(
        "features_real",
        "features of the target, such as those of the discriminator's layers",
        "a list of (N, c, h, w)",
        "any",
        "the discriminator or another network",
        False,
        _features,
    ),
    Input(
        "features_fake",
        "features of the generated image, layer by layer as `features_real`",
        "a list of (N, c, h, w)",
        "any",
        "the discriminator or another network",
        True,
        _features,
    ),
    Input(
        "discriminator",
        "the discriminator itself, for a loss that calls it",
        "a callable of one batch (N, C, H, W)",
        "gives logits",
        "the training loop",
        False,
        _discriminator,
    ),
    Input("mask", "where the loss counts", "(N, 1, H, W)", "0 to 1", "the data", False, _mask),
    Input("mu", "mean of the latent distribution", "(N, d)", "any", "the encoder", True, _normal(_LATENT)),
    Input(
        "logvar",
        "logarithm of the variance of the latent distribution",
        "(N, d)",
        "any",
        "the encoder",
        True,
        _normal(_LATENT),
    ),
    Input(
        "logits",
        "scores of the classes, of a sample or of each pixel; may be a list of outputs from fine to coarse",
        "(N, K), or (N, K, H, W) or (N, K, D, H, W)",
        "logits",
        "the classifier or segmentation network",
        True,
        _normal(_CLASSES),
    ),
    Input(
        "labels",
        "number of the class of each sample, or of each pixel, int64",
        "(N,), or (N, H, W) or (N, D, H, W), with a 1 after the N or without",
        "0 to K - 1",
        "the data",
        False,
        _labels,
    ),
    Input(
        "last_layer",
        "weight of the last layer that the losses share, or a list of such weights",
        "any",
        "any",
        "the network under training",
        False,
        _weight,
    ),
)

VOCABULARY: Final[Mapping[str, Input]] = MappingProxyType({each.name: each for each in _INPUTS})
"""The inputs by name, in the order in which documentation lists them."""
