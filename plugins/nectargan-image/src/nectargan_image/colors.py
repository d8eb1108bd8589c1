"""The colour loss as a module: differences of hue, saturation, lightness and luma."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_image.arguments import image_range, not_negative
from nectargan_image.hsluv import HSLuv, hsluv

# Rec. 601, of gamma-encoded channels.
_LUMA = (0.299, 0.587, 0.114)
# Below this saturation a colour counts as grey; this close to 0 or 1 a lightness counts as black or white.
_NEAR = 0.1


class Color(nn.Module):
    """Weighted sum of four differences: of hue, saturation and lightness in HSLuv, and of luma.

    - `hue`: the mean of the angle between the two hues, divided by π. It is 0 where both colours are nearly grey,
      nearly black or nearly white; where one of them is nearly grey, it is the larger of the two saturations.
    - `saturation`: the mean of the absolute difference, times min(L, 1 - L) of one image, plus that of the other.
    - `lightness`: the mean absolute difference of the lightness L, which is CIE L*.
    - `luma`: the mean absolute difference of Y' = 0.299·R' + 0.587·G' + 0.114·B', which is linear in the images: unlike
      the others, it has a gradient where a colour is out of the range.

    All are from 0 to 1 for images in their range. Half-precision images are computed in float32, under autocast too.

    Args:
        hue: The weight of the hue, at least 0. A component of weight 0 is left out.
        saturation: The weight of the saturation.
        lightness: The weight of the lightness.
        luma: The weight of the luma.
        input_range: The values of black and white.

    Raises:
        TypeError: If a weight is no number, or `input_range` no pair of numbers.
        ValueError: If a weight is below 0 or not finite, all are 0, or `input_range` is not ascending and finite.

    Example:
        >>> import torch
        >>> y = torch.tensor([1.0, -1.0, -1.0]).reshape(1, 3, 1, 1)  # red
        >>> y_fake = torch.tensor([-1.0, 1.0, 1.0]).reshape(1, 3, 1, 1)  # cyan
        >>> {name: round(value.item(), 3) for name, value in Color()(y_fake, y).items()}
        {'hue': 0.333, 'saturation': 0.0, 'lightness': 0.126, 'luma': 0.134}

    Source: `HSLuvLoss` of traiNNer-redux (github.com/the-database/traiNNer-redux), with its thresholds and weights of a
    third, for the first three; its `LumaLoss`, and `consistency_loss` of neosr, compare CIE L*, which is the lightness
    here. HSLuv: https://www.hsluv.org/math. Luma: ITU-R BT.601-7, section 2.5.1.
    """

    def __init__(
        self,
        *,
        hue: float = 1 / 3,
        saturation: float = 1 / 3,
        lightness: float = 1 / 3,
        luma: float = 1 / 3,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        self.hue = not_negative("Color", "hue", hue)
        self.saturation = not_negative("Color", "saturation", saturation)
        self.lightness = not_negative("Color", "lightness", lightness)
        self.luma = not_negative("Color", "luma", luma)
        if not self.hue + self.saturation + self.lightness + self.luma:
            raise ValueError("Color: hue, saturation, lightness and luma are all 0; give one of them a weight above 0")
        self.input_range = image_range("Color", input_range)

    def forward(self, y_fake: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Compare the colours of two images.

        Args:
            y_fake: The generated image, gamma-encoded sRGB, (N, 3, H, W), floating point.
            y: The target, of the same shape.

        Returns:
            The weighted components by name, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, 3, H, W).
            TypeError: If an image is not of a floating-point dtype.
        """
        check_images("Color", channels=3, y_fake=y_fake, y=y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        low, high = self.input_range
        y_fake, y = ((image.to(precise) - low) / (high - low) for image in (y_fake, y))
        components: dict[str, Tensor] = {}
        if self.hue or self.saturation or self.lightness:
            fake, target = hsluv(y_fake), hsluv(y)
            if self.hue:
                components["hue"] = self.hue * _hue_difference(fake, target).mean()
            if self.saturation:
                counts = _from_ends(fake.lightness) + _from_ends(target.lightness)
                difference = (fake.saturation - target.saturation).abs() * counts
                components["saturation"] = self.saturation * difference.mean()
            if self.lightness:
                components["lightness"] = self.lightness * (fake.lightness - target.lightness).abs().mean()
        if self.luma:
            red, green, blue = (y_fake - y).unbind(1)
            luma = red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]
            components["luma"] = self.luma * luma.abs().mean()
        return components

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        names = ("hue", "saturation", "lightness", "luma")
        weights = ", ".join(f"{name}={getattr(self, name):.4g}" for name in names)
        return f"{weights}, input_range={self.input_range}"


def _hue_difference(fake: HSLuv, target: HSLuv) -> Tensor:
    sine = fake.across * target.up - fake.up * target.across
    cosine = fake.across * target.across + fake.up * target.up
    difference = torch.atan2(sine, cosine).abs() / math.pi
    one_grey = (fake.saturation < _NEAR) != (target.saturation < _NEAR)
    difference = torch.where(one_grey, torch.maximum(fake.saturation, target.saturation), difference)
    both_grey = (fake.saturation < _NEAR) & (target.saturation < _NEAR)
    both_black = (fake.lightness < _NEAR) & (target.lightness < _NEAR)
    both_white = (fake.lightness > 1 - _NEAR) & (target.lightness > 1 - _NEAR)
    return torch.where(both_grey | both_black | both_white, 0.0, difference)


def _from_ends(lightness: Tensor) -> Tensor:
    return torch.minimum(lightness, 1 - lightness)
