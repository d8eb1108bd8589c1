"""The two networks of the trainer: networks of MONAI, configured as in pix2pix."""

from __future__ import annotations

import torch
from monai.networks.nets.basic_unet import BasicUNet
from monai.networks.nets.patchgan_discriminator import PatchDiscriminator
from torch import Tensor, nn


class Generator(nn.Module):
    """A U-Net that predicts what to add to its input.

    Its last layer is initialised to zero, so that the initial output is the input. It can still learn a translation
    that keeps nothing of the input, since the last layer can learn to subtract it.

    Args:
        channels: Features of the first level; the deepest has four times as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        features = (channels, channels, 2 * channels, 4 * channels, 4 * channels, channels)
        # Interpolation, since transposed convolutions leave a checkerboard, which the adversarial loss amplifies.
        self.unet = BasicUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=3,
            features=features,
            norm="batch",
            upsample="nontrainable",
        )
        for parameter in self.unet.final_conv.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """Translate images.

        Args:
            x: Source images (N, 3, H, W) from -1 to 1, each side at least 32.

        Returns:
            The translated images, of the same shape; not confined to -1 to 1.
        """
        residual: Tensor = self.unet(x)
        return x + residual


class Discriminator(nn.Module):
    """Classifies each patch of 70 x 70 pixels as real or generated, given the source image.

    Args:
        channels: Features of the first layer; the last has eight times as many.

    Source:
        Isola et al., arXiv:1611.07004, section 3.2.2 and appendix 6.1.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = PatchDiscriminator(
            spatial_dims=2, channels=channels, in_channels=6, num_layers_d=3, norm="instance"
        )

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Classify the patches of images.

        Args:
            x: Source images (N, 3, H, W) from -1 to 1, each side at least 32.
            image: Real or generated images of the same shape.

        Returns:
            Logits, one for each patch: (N, 1, H / 8 - 2, W / 8 - 2).
        """
        # MONAI returns the outputs of all layers; the last one is the logits.
        logits: Tensor = self.patches(torch.cat((x, image), dim=1))[-1]
        return logits
