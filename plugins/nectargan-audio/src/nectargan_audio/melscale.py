"""Filters that sum the frequencies of a Fourier transform to bands of the mel scale, as librosa has them."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nectargan_audio._waveforms import positive_number, whole_numbers

MelScale: TypeAlias = Literal["slaney", "htk"]
Norm: TypeAlias = Literal["slaney"] | None

# Slaney's scale is linear up to 1 kHz, where it is 15, and logarithmic above, with 27 steps for a factor of 6.4.
_KNEE, _PER_HERTZ, _PER_LOG = 1000.0, 3.0 / 200.0, 27.0 / math.log(6.4)


def mel_filter_bank(
    sample_rate: float,
    n_fft: int,
    n_mels: int,
    *,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: MelScale = "slaney",
    norm: Norm = "slaney",
) -> Tensor:
    """Return triangular filters, evenly spaced on a mel scale.

    Args:
        sample_rate: Samples per second, above 0.
        n_fft: The length of the Fourier transform, 2 at least.
        n_mels: How many filters.
        f_min: The frequency in Hz at which the first filter begins, 0 or greater.
        f_max: The frequency in Hz at which the last filter ends, above `f_min`, and half of the sample rate at most.
            None: half of the sample rate.
        mel_scale: `"slaney"`, linear up to 1 kHz, or `"htk"`, 2595 log10(1 + f / 700).
        norm: `"slaney"` for filters of one area, with which white noise is equally loud in each band, or None for
            filters of the height 1.

    Returns:
        The filters, (n_mels, n_fft // 2 + 1), float64 on the CPU. Of more filters than the transform can tell apart,
        some are 0 everywhere.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        Slaney, "Auditory Toolbox, version 2", 1998; Young et al., "The HTK Book". The numbers are those of
        `librosa.filters.mel`.

    Example:
        >>> bank = mel_filter_bank(22050, 1024, 80)
        >>> bank.shape
        torch.Size([80, 513])
        >>> bank.max(1).indices[[0, 79]].tolist()  # frequencies of 0 to 512
        [2, 491]
    """
    owner = "mel_filter_bank"
    rate = positive_number(owner, "sample_rate", sample_rate)
    (size,), (number,) = whole_numbers(owner, "n_fft", n_fft, 1), whole_numbers(owner, "n_mels", n_mels, 1)
    low = positive_number(owner, "f_min", f_min, or_zero=True)
    high = rate / 2 if f_max is None else positive_number(owner, "f_max", f_max)
    if not low < high <= rate / 2:
        raise ValueError(
            f"{owner}: f_min is below f_max, and f_max half of the sample rate at most, {rate / 2:g} Hz; got f_min "
            f"{low:g} and f_max {high:g}"
        )
    if mel_scale not in ("slaney", "htk"):
        raise ValueError(f'{owner}: mel_scale is "slaney" or "htk", got {mel_scale!r}')
    if norm not in ("slaney", None):
        raise ValueError(f'{owner}: norm is "slaney" or None, got {norm!r}')
    ends = (_mel(low, mel_scale), _mel(high, mel_scale))
    spaced = torch.linspace(*ends, number + 2, dtype=torch.float64, device="cpu")
    edges = torch.tensor([_hertz(each, mel_scale) for each in spaced.tolist()], dtype=torch.float64, device="cpu")
    frequencies = torch.arange(size // 2 + 1, dtype=torch.float64, device="cpu") * (rate / size)
    begin, middle, end = (edges[first : first + number, None] for first in range(3))
    rising, falling = (frequencies - begin) / (middle - begin), (end - frequencies) / (end - middle)
    bank = torch.minimum(rising, falling).clamp_min(0.0)
    return bank * (2.0 / (end - begin)) if norm == "slaney" else bank


def _mel(hertz: float, scale: MelScale) -> float:
    if scale == "htk":
        return 2595.0 * math.log10(1.0 + hertz / 700.0)
    if hertz < _KNEE:
        return hertz * _PER_HERTZ
    return _KNEE * _PER_HERTZ + math.log(hertz / _KNEE) * _PER_LOG


def _hertz(mel: float, scale: MelScale) -> float:
    if scale == "htk":
        return 700.0 * (math.pow(10.0, mel / 2595.0) - 1.0)
    if mel < _KNEE * _PER_HERTZ:
        return mel / _PER_HERTZ
    return _KNEE * math.exp((mel - _KNEE * _PER_HERTZ) / _PER_LOG)
