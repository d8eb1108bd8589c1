"""The two small networks of the demo, which a CPU trains in about a minute."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

GENERATOR_RATE = 4e-3
DISCRIMINATOR_RATE = 1e-3
_WARM_UP = 3
_CHANNELS = 32
_BLOCKS = 3
_SCALE = 2


class Restorer(nn.Module):
    """Residual blocks at half the resolution, which predict what to add to an image.

    Each square of 2x2 pixels becomes one place with their twelve values, so that a step costs a quarter and nothing is
    lost. The last layer is initialised to zero, so that the initial output is the input.

    Source:
        Zhang et al., "FFDNet", arXiv:1710.04026, section III-B, for the squares; Lim et al., "Enhanced Deep Residual
        Networks for Single Image Super-Resolution", arXiv:1707.02921, section 3.1, for the blocks.
    """

    def __init__(self) -> None:
        super().__init__()
        values = 3 * _SCALE**2
        self.first = nn.Conv2d(values, _CHANNELS, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU(), nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1)
            )
            for _ in range(_BLOCKS)
        )
        self.last = nn.Conv2d(_CHANNELS, values, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Restore images.

        Args:
            x: Images (N, 3, H, W) from -1 to 1, H and W even.

        Returns:
            The restored images, of the same shape; not confined to -1 to 1.
        """
        first = features = self.first(F.pixel_unshuffle(x, _SCALE))
        for block in self.blocks:
            features = features + block(features)
        return x + F.pixel_shuffle(self.last(features + first), _SCALE)


class Critic(nn.Module):
    """Classifies each patch of 34 x 34 pixels as real or generated, given the source image.

    Source:
        Isola et al., arXiv:1611.07004, section 3.2.2, with two layers that halve the resolution in place of three.
    """

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.patches = nn.Sequential(
            nn.Conv2d(6, channels, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(channels, 2 * channels, 4, 2, 1),
            nn.InstanceNorm2d(2 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * channels, 4 * channels, 4, 1, 1),
            nn.InstanceNorm2d(4 * channels),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * channels, 1, 4, 1, 1),
        )

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Classify the patches of images.

        Args:
            x: Source images (N, 3, H, W) from -1 to 1.
            image: Real or generated images of the same shape.

        Returns:
            Logits, one for each patch: (N, 1, H / 4 - 2, W / 4 - 2).
        """
        logits: Tensor = self.patches(torch.cat((x, image), dim=1))
        return logits


class SmallNetworks:
    """Generator and discriminator with their optimizers, as the training loop wants them.

    The rate of the generator rises in the first epochs and falls to zero with the cosine; that of the discriminator
    stays.

    Args:
        epochs: The number of epochs of the training.
    """

    device = torch.device("cpu")

    def __init__(self, epochs: int) -> None:
        self.generator = Restorer()
        self.discriminator = Critic()
        self.generator_optimizer = torch.optim.Adam(self.generator.parameters(), GENERATOR_RATE, betas=(0.9, 0.99))
        self.discriminator_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), DISCRIMINATOR_RATE, betas=(0.5, 0.999)
        )
        self._epochs = epochs

    def begin_epoch(self, epoch: int) -> None:
        """Set the learning rate of an epoch."""
        warm_up = min(1.0, (epoch + 1) / (_WARM_UP + 1))
        for group in self.generator_optimizer.param_groups:
            group["lr"] = GENERATOR_RATE * warm_up * (1 + math.cos(math.pi * epoch / self._epochs)) / 2
