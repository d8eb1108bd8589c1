"""The multi-resolution STFT loss: spectral convergence and log magnitudes at several resolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nectargan_audio._waveforms import (
    Lengths,
    Resolution,
    checked_waveforms,
    positive_number,
    resolutions,
    spectrum,
    without_autocast,
)


class MultiResolutionSTFT(nn.Module):
    """Spectral convergence and L1 distance of log magnitudes, averaged over resolutions of the Fourier transform.

    Of a magnitude spectrogram S of the target and Ŝ of the generated waveform, the spectral convergence is
    ‖S - Ŝ‖ / ‖S‖ in the Frobenius norm, averaged over waveforms; the other component is the mean of
    abs(log S - log Ŝ). Frames have a Hann window, and waveforms are reflected at their ends. Magnitudes are not smaller
    than the square root of `epsilon`. Half-precision waveforms are computed in float32, under autocast too, and the
    result is float32. The module has no buffers: it works on the device of its waveforms.

    Args:
        n_fft: The length of the transform in samples, for each resolution.
        hop_length: From one frame to the next, in samples. None: a quarter of `n_fft`.
        win_length: The length of the window, in samples, at most `n_fft`. None: `n_fft`.
        epsilon: The smallest power of a frequency in a frame, above 0.

    Raises:
        TypeError: If a length is no int, or `epsilon` no number.
        ValueError: If the lengths do not fit each other, or `epsilon` is not above 0 and finite.

    Source:
        Yamamoto, Song and Kim, "Parallel WaveGAN: A Fast Waveform Generation Model Based on Generative Adversarial
        Networks with Multi-Resolution Spectrogram", ICASSP 2020, with the lengths of its table 1. The programs
        ParallelWaveGAN and auraloss take the norms over the whole batch instead of over a waveform.

    Example:
        >>> import torch
        >>> y = torch.sin(torch.arange(4096) * 0.1).expand(2, -1)
        >>> components = MultiResolutionSTFT()(0.5 * y, y)
        >>> list(components)
        ['spectral_convergence', 'log_magnitude']
        >>> round(components["spectral_convergence"].item(), 4)
        0.5
    """

    def __init__(
        self,
        *,
        n_fft: Lengths = (1024, 2048, 512),
        hop_length: Lengths | None = (120, 240, 50),
        win_length: Lengths | None = (600, 1200, 240),
        epsilon: float = 1e-7,
    ) -> None:
        super().__init__()
        self.resolutions = resolutions("MultiResolutionSTFT", n_fft, hop_length, win_length)
        self.n_fft, self.hop_length, self.win_length = zip(*self.resolutions, strict=True)
        self.epsilon = positive_number("MultiResolutionSTFT", "epsilon", epsilon)

    def forward(self, y_fake: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Compare two waveforms.

        Args:
            y_fake: The generated waveforms, (N, T) or (N, C, T), where each channel counts as a waveform; floating
                point, from -1 to 1. In another range only `epsilon` has another meaning.
            y: The target, of the same shape.

        Returns:
            The components `spectral_convergence` and `log_magnitude`: float32, or float64 if a waveform is.

        Raises:
            TypeError: If a waveform is not of a floating-point dtype.
            ValueError: If the shapes differ, have other dimensions, or the waveforms are not longer than half of the
                longest transform.
        """
        shortest = max(each.n_fft for each in self.resolutions) // 2 + 1
        generated, target = checked_waveforms("MultiResolutionSTFT", shortest, y_fake, y)
        convergence, log_magnitude = [], []
        with without_autocast(target.device.type):
            for resolution in self.resolutions:
                fake, real = self._magnitude(generated, resolution), self._magnitude(target, resolution)
                distance, length = (torch.linalg.vector_norm(each, dim=(-2, -1)) for each in (real - fake, real))
                convergence.append((distance / length).mean())
                log_magnitude.append((real.log() - fake.log()).abs().mean())
        return {
            "spectral_convergence": torch.stack(convergence).mean(),
            "log_magnitude": torch.stack(log_magnitude).mean(),
        }

    def _magnitude(self, waveform: Tensor, resolution: Resolution) -> Tensor:
        return spectrum(waveform, resolution, center=True).abs().clamp_min(self.epsilon**0.5)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return (
            f"n_fft={self.n_fft}, hop_length={self.hop_length}, win_length={self.win_length}, epsilon={self.epsilon:g}"
        )
