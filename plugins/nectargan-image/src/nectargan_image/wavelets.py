"""The wavelet loss as a module: the L1 distance of the sub-bands of the stationary wavelet transform."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from nectargan_core import check_images
from nectargan_image.arguments import image_range, not_negative, number

_BANDS = ("LL", "LH", "HL", "HH")
# Rec. 601 luma from 16 to 235, of channels from 0 to 1; that 16 is added cancels in a difference.
_LUMA = (65.481, 128.553, 24.966)

# The low-pass filters of orthogonal wavelets (Daubechies' least asymmetric ones are called symlets).
_LOW_PASS = {
    "haar": (math.sqrt(0.5), math.sqrt(0.5)),
    "sym7": (
        0.002681814568257878,
        -0.0010473848886829163,
        -0.01263630340325193,
        0.03051551316596357,
        0.0678926935013727,
        -0.049552834937127255,
        0.017441255086855827,
        0.5361019170917628,
        0.767764317003164,
        0.2886296317515146,
        -0.14004724044296152,
        -0.10780823770381774,
        0.004010244871533663,
        0.010268176708511255,
    ),
    "sym19": (
        5.487732768215838e-07,
        -6.463651303345963e-07,
        -1.1880518269823984e-05,
        8.873312173729286e-06,
        0.0001155392333357879,
        -4.612039600210587e-05,
        -0.000635764515004334,
        0.00015915804768084938,
        0.0021214250281823303,
        -0.0011607032572062486,
        -0.005122205002583014,
        0.007968438320613306,
        0.01579743929567463,
        -0.02265199337824595,
        -0.046635983534938946,
        0.0070155738571741596,
        0.008954591173043624,
        -0.06752505804029409,
        0.10902582508127781,
        0.578144945338605,
        0.7195555257163943,
        0.2582661692372836,
        -0.17659686625203097,
        -0.11624173010739675,
        0.09363084341589714,
        0.08407267627924504,
        -0.016908234861345205,
        -0.02770989693131125,
        0.004319351874894969,
        0.008262236955528255,
        -0.0006179223277983108,
        -0.0017049602611649971,
        0.00012930767650701415,
        0.0002762187768573407,
        -1.6821387029373716e-05,
        -2.8151138661550245e-05,
        2.0623170632395688e-06,
        1.7509367995348687e-06,
    ),
}


class Wavelet(nn.Module):
    """Weighted sum of the mean absolute differences of the four sub-bands of the luma.

    The difference of the images becomes Rec. 601 luma on a scale of 0 to 255, and is filtered with a low-pass and a
    high-pass filter across, then with both down, without downsampling; the image goes on periodically. The low-pass
    filter sums to 1. The components are `LL`, `LH` (low across, high down), `HL` and `HH`. Half-precision images are
    computed in float32, under autocast too.

    Args:
        wavelet: `"haar"`, `"sym7"`, `"sym19"`, or the low-pass filter of another orthogonal wavelet, such as
            `pywt.Wavelet("db4").dec_lo`.
        weights: The weights of LL, LH, HL and HH, at least 0. A component of weight 0 is left out.
        input_range: The values of black and white. Only a scale depends on it.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If `wavelet` has another name or is no such filter, a weight is below 0 or not finite, all are 0, or
            `input_range` is not ascending and finite.

    Example:
        >>> import torch
        >>> y_fake, y = torch.ones(1, 3, 32, 32), torch.zeros(1, 3, 32, 32)
        >>> {name: round(value.item(), 3) for name, value in Wavelet()(y_fake, y).items()}
        {'LL': 5.475, 'LH': 0.0, 'HL': 0.0, 'HH': 0.0}

    Source: Korkmaz and Tekalp, "Training Transformer Models by Wavelet Losses Improves Quantitative and Visual
    Performance in Single Image Super-Resolution", CVPR Workshops 2024. The wavelet is that of the authors'
    `SWTLoss`, and the weights are those of options/train_Wavelettention_SRx4.yml
    (github.com/mandalinadagi/Wavelettention), beside an L1 loss of weight 1.
    """

    filters: Tensor

    def __init__(
        self,
        *,
        wavelet: Literal["haar", "sym7", "sym19"] | Sequence[float] = "sym19",
        weights: tuple[float, float, float, float] = (0.05, 0.025, 0.025, 0.02),
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        super().__init__()
        low = _low_pass(wavelet)
        self.wavelet = wavelet if isinstance(wavelet, str) else tuple(low)
        high = [-tap if place % 2 == 0 else tap for place, tap in enumerate(reversed(low))]
        scale = math.fsum(low)
        self.register_buffer("filters", torch.tensor([[tap / scale for tap in low], high]), persistent=False)
        if not isinstance(weights, (tuple, list)) or len(weights) != len(_BANDS):
            raise TypeError(f"Wavelet: weights is a tuple of four numbers, of LL, LH, HL and HH, got {weights!r}")
        self.weights = tuple(not_negative("Wavelet", "weights", weight) for weight in weights)
        if not any(self.weights):
            raise ValueError("Wavelet: weights is (0, 0, 0, 0); give one of them a weight above 0")
        self.input_range = image_range("Wavelet", input_range)

    def forward(self, y_fake: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Compare the sub-bands of two images.

        Args:
            y_fake: The generated image, sRGB (N, 3, H, W) or grey (N, 1, H, W), floating point.
            y: The target, of the same shape.

        Returns:
            The weighted components by name, in float32, or in float64 for images in float64.

        Raises:
            ValueError: If the shapes differ, or are not (N, 3, H, W) or (N, 1, H, W).
            TypeError: If an image is not of a floating-point dtype.
        """
        check_images("Wavelet", channels=(1, 3), y_fake=y_fake, y=y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        low, high = self.input_range
        difference = (y_fake.to(precise) - y.to(precise)) / (high - low)
        means = _means_of_bands(_luma(difference), self.filters.to(difference))
        return {
            name: weight * mean
            for name, weight, mean in zip(_BANDS, self.weights, means.unbind(), strict=True)
            if weight
        }

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"wavelet={self.wavelet!r}, weights={self.weights}, input_range={self.input_range}"


def _low_pass(wavelet: object) -> list[float]:
    expected = f"{', '.join(map(repr, _LOW_PASS))}, or the low-pass filter of an orthogonal wavelet"
    if isinstance(wavelet, str):
        if wavelet not in _LOW_PASS:
            raise ValueError(f"Wavelet: wavelet is {expected}, got {wavelet!r}")
        return list(_LOW_PASS[wavelet])
    if not isinstance(wavelet, Sequence) or isinstance(wavelet, (bytes, bytearray)):
        raise TypeError(f"Wavelet: wavelet is {expected}, got {wavelet!r}")
    taps = [number("Wavelet", "wavelet", tap, expected) for tap in wavelet]
    orthogonal = abs(math.fsum(taps) - math.sqrt(2)) < 1e-3 and abs(math.fsum(tap * tap for tap in taps) - 1) < 1e-3
    if len(taps) % 2 or not orthogonal:
        raise ValueError(
            f"Wavelet: wavelet is {expected}: an even number of taps with the sum sqrt(2), whose squares sum to 1; "
            f"got {len(taps)} taps with the sum {math.fsum(taps):.6g}"
        )
    return taps


def _luma(image: Tensor) -> Tensor:
    if image.shape[1] == 1:
        return image.squeeze(1) * sum(_LUMA)
    red, green, blue = image.unbind(1)
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


# A circular convolution is a product of spectra: exact for each size, however long the filter, and neither TF32 nor
# autocast can lower its precision. Where the filter begins does not matter to the mean of a band.
def _means_of_bands(image: Tensor, filters: Tensor) -> Tensor:
    """Return the mean absolute value of LL, LH, HL and HH of an image (N, H, W)."""
    height, width = image.shape[-2:]
    across = _response(filters, width)[:, : width // 2 + 1]
    down = _response(filters, height)
    spectrum = torch.fft.rfft2(image)[:, None, None]
    bands = torch.fft.irfft2(spectrum * (across[:, None, None, :] * down[None, :, :, None]), s=(height, width))
    return cast("Tensor", bands.abs().mean((0, 3, 4)).flatten())


def _response(filters: Tensor, size: int) -> Tensor:
    """Return the discrete Fourier transform of filters that go on periodically, (filters, size)."""
    place = torch.arange(filters.shape[1], device=filters.device)
    turns = torch.arange(size, device=filters.device)[:, None] * place % size
    angles = turns.to(filters.dtype) * (-2 * math.pi / size)
    return (filters[:, None, :] * torch.polar(torch.ones_like(angles), angles)).sum(-1)
