"""The L1 distance of log mel spectrograms, at one resolution or several."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_audio._waveforms import (
    Lengths,
    Resolution,
    checked_waveforms,
    positive_number,
    resolutions,
    spectrum,
    whole_numbers,
    without_autocast,
)
from nectargan_audio.melscale import MelScale, Norm, mel_filter_bank

# What HiFi-GAN adds to the power, so that the magnitude has a gradient where it is 0.
_EPSILON = 1e-9


class LogMel(nn.Module):
    """Mean of abs(log M - log M̂), M and M̂ the mel spectrograms of the target and of the generated waveform.

    A mel spectrogram is sqrt(power + 1e-9) of the short-time Fourier transform under a Hann window, summed to bands by
    `mel_filter_bank`; none of its values is smaller than `floor`. Waveforms are reflected at their ends by half of what
    a transform is longer than a hop, so that T samples give T // hop_length frames. With several resolutions their
    distances are averaged. Half-precision waveforms are computed in float32, under autocast too, and the result is
    float32.

    Args:
        sample_rate: Samples per second of the waveforms, above 0.
        n_fft: The length of the transform in samples; a sequence for several resolutions.
        hop_length: From one frame to the next, in samples. None: a quarter of `n_fft`.
        win_length: The length of the window, in samples, at most `n_fft`. None: `n_fft`.
        n_mels: How many bands.
        f_min: The frequency in Hz at which the lowest band begins, 0 or greater.
        f_max: The frequency in Hz at which the highest band ends, at most half of the sample rate. None: half of the
            sample rate.
        mel_scale: `"slaney"` or `"htk"`.
        norm: `"slaney"` for filters of one area, or None for filters of the height 1.
        floor: The smallest value of a mel spectrogram, above 0.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or the lengths do not fit each other.

    Source:
        Kong, Kim and Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
        NeurIPS 2020, equation 3, and the authors' `mel_spectrogram` with the settings of `config_v1.json` that the loss
        has: 22.05 kHz, 80 bands up to half of the sample rate, 1024 samples, a hop of 256. There its weight is 45.

    Example:
        >>> import torch
        >>> y = torch.sin(torch.arange(4096) * 0.1).expand(2, -1)
        >>> LogMel()(y, y)
        tensor(0.)
        >>> bool(LogMel()(0.5 * y, y) > 0.1)
        True
    """

    def __init__(
        self,
        *,
        sample_rate: float = 22050,
        n_fft: Lengths = 1024,
        hop_length: Lengths | None = None,
        win_length: Lengths | None = None,
        n_mels: Lengths = 80,
        f_min: float = 0.0,
        f_max: float | None = None,
        mel_scale: MelScale = "slaney",
        norm: Norm = "slaney",
        floor: float = 1e-5,
    ) -> None:
        super().__init__()
        self.sample_rate = positive_number("LogMel", "sample_rate", sample_rate)
        self.resolutions = resolutions("LogMel", n_fft, hop_length, win_length)
        self.n_fft, self.hop_length, self.win_length = zip(*self.resolutions, strict=True)
        self.n_mels = whole_numbers("LogMel", "n_mels", n_mels, len(self.resolutions))
        self.floor = positive_number("LogMel", "floor", floor)
        for number, (resolution, bands) in enumerate(zip(self.resolutions, self.n_mels, strict=True)):
            bank = mel_filter_bank(
                self.sample_rate, resolution.n_fft, bands, f_min=f_min, f_max=f_max, mel_scale=mel_scale, norm=norm
            )
            if empty := int((bank.sum(1) == 0).sum()):
                warnings.warn(
                    f"LogMel: {empty} of {bands} bands of the transform of {resolution.n_fft} samples lie between its "
                    "frequencies and are always empty; choose a smaller n_mels, or a larger n_fft",
                    stacklevel=2,
                )
            # Not float64, which not every device has.
            self.register_buffer(f"_bank{number}", bank.float(), persistent=False)
        self.f_min, self.f_max = float(f_min), None if f_max is None else float(f_max)
        self.mel_scale, self.norm = mel_scale, norm

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare two waveforms.

        Args:
            y_fake: The generated waveforms, (N, T) or (N, C, T), where each channel counts as a waveform; floating
                point, from -1 to 1. In another range only `floor` has another meaning.
            y: The target, of the same shape.

        Returns:
            The loss, in float32, or in float64 if a waveform is.

        Raises:
            TypeError: If a waveform is not of a floating-point dtype.
            ValueError: If the shapes differ, have other dimensions, or the waveforms are too short for the longest
                transform.
        """
        shortest = max(max(_padding(each) + 1, each.n_fft - 2 * _padding(each)) for each in self.resolutions)
        generated, target = checked_waveforms("LogMel", shortest, y_fake, y)
        with without_autocast(target.device.type):
            distances = [
                F.l1_loss(self._log_mel(generated, number), self._log_mel(target, number))
                for number in range(len(self.resolutions))
            ]
        return torch.stack(distances).mean() if len(distances) > 1 else distances[0]

    def _log_mel(self, waveform: Tensor, number: int) -> Tensor:
        resolution = self.resolutions[number]
        padding = _padding(resolution)
        padded = F.pad(waveform, (padding, padding), mode="reflect")
        transform = spectrum(padded, resolution, center=False)
        magnitude = (transform.real.square() + transform.imag.square() + _EPSILON).sqrt()
        bank = self.get_buffer(f"_bank{number}").to(waveform.dtype)
        return torch.matmul(bank, magnitude).clamp_min(self.floor).log()

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        f_max = "None" if self.f_max is None else f"{self.f_max:g}"
        return (
            f"sample_rate={self.sample_rate:g}, n_fft={self.n_fft}, hop_length={self.hop_length}, "
            f"win_length={self.win_length}, n_mels={tuple(self.n_mels)}, f_min={self.f_min:g}, f_max={f_max}, "
            f"mel_scale={self.mel_scale!r}, norm={self.norm!r}, floor={self.floor:g}"
        )


def _padding(resolution: Resolution) -> int:
    return (resolution.n_fft - resolution.hop_length) // 2
