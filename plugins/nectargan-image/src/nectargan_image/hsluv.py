"""The HSLuv colour space: the hue and saturation of sRGB images, and their lightness."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Of linear sRGB: CIE Y, and X + 15·Y + 3·Z, by which u' = 4·X and v' = 9·Y are divided.
_X = (0.41239079926595, 0.35758433938387, 0.18048078840183)
_Y = (0.21263900587151, 0.71516867876775, 0.072192315360733)
_Z = (0.019330818715591, 0.11919477979462, 0.95053215224966)
_WHITE_U, _WHITE_V = 0.19783000664283, 0.46831999493879
_DIVISOR = tuple(x + 15 * y + 3 * z for x, y, z in zip(_X, _Y, _Z, strict=True))
_WHITE_DIVISOR = 9 / _WHITE_V
# How far u' and v' are from those of white, times the divisor: 0 of grey, whose rounding errors these sums keep small.
_FROM_WHITE_U = tuple(4 * x - _WHITE_U * divisor for x, divisor in zip(_X, _DIVISOR, strict=True))
_FROM_WHITE_V = tuple(9 * y - _WHITE_V * divisor for y, divisor in zip(_Y, _DIVISOR, strict=True))

_KAPPA = 903.2962962
_EPSILON = 0.0088564516
# In float32 greys have a chroma up to 7e-5, and the least coloured of 8 bits one of 0.029.
_GREY = 0.028972067
_SMALLEST = 1e-12


class HSLuv(NamedTuple):
    """The colours of an image, (N, H, W) each.

    Args:
        across: The first coordinate of a vector whose angle is the hue; its length means nothing.
        up: Its second coordinate. The vector of a grey is (1, 0).
        saturation: The saturation, 0 to 1.
        lightness: The lightness, CIE L*, 0 to 1.
    """

    across: Tensor
    up: Tensor
    saturation: Tensor
    lightness: Tensor


# HSLuv's saturation is the chroma of a colour, divided by the largest chroma that sRGB has at its lightness and hue.
# Along the ray from white through the colour in the plane of u' and v', each channel divided by the divisor is a linear
# function of the place. The ray leaves sRGB where a channel becomes 0 or 1, which gives the two terms here without an
# angle, and without a division by what may be 0.
def hsluv(image: Tensor) -> HSLuv:
    """Convert an sRGB image to HSLuv.

    Args:
        image: Gamma-encoded sRGB, (N, 3, H, W), in float32 or float64, from 0 to 1; what is outside is clamped.

    Returns:
        Hue, saturation and lightness.

    Example:
        >>> import torch
        >>> red = hsluv(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1))
        >>> round(torch.atan2(red.up, red.across).rad2deg().item(), 2), round(red.saturation.item(), 3)
        (12.18, 1.0)

    Source: Boronine, HSLuv revision 4, https://www.hsluv.org/math, with its constants.
    """
    encoded = image.clamp(_SMALLEST, 1.0)
    linear = torch.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    channels = linear.unbind(1)
    luminance, divisor = _weighted(channels, _Y), _weighted(channels, _DIVISOR)
    across, up = _weighted(channels, _FROM_WHITE_U), _weighted(channels, _FROM_WHITE_V)

    bright = luminance > _EPSILON
    lightness = torch.where(
        bright, 116 * torch.where(bright, luminance, 1.0) ** (1 / 3) - 16, luminance * _KAPPA
    ).clamp_max(100.0)

    to_black = linear.amin(1)
    to_white = (1 - linear.amax(1)) * luminance / (1 - luminance).clamp_min(1e-5)
    saturation = (1 - torch.minimum(to_black, to_white) * _WHITE_DIVISOR / divisor).clamp(0.0, 1.0)
    saturation = torch.where((lightness > 99.99) | (lightness < 0.01), 0.0, saturation)

    grey = (13 * lightness).square() * (across.square() + up.square()) < (_GREY * divisor).square()
    return HSLuv(torch.where(grey, 1.0, across), torch.where(grey, 0.0, up), saturation, lightness / 100)


def _weighted(channels: tuple[Tensor, ...], weights: tuple[float, ...]) -> Tensor:
    red, green, blue = channels
    return red * weights[0] + green * weights[1] + blue * weights[2]
