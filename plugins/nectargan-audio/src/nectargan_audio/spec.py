"""The specs that make the losses available as `+stft` and `+mel`."""

from __future__ import annotations

from nectargan_audio._waveforms import Lengths
from nectargan_audio.logmel import LogMel
from nectargan_audio.melscale import MelScale, Norm
from nectargan_audio.spectral import MultiResolutionSTFT
from nectargan_core import Config, LMLoss


def stft(
    config: Config,
    *,
    n_fft: Lengths = (1024, 2048, 512),
    hop_length: Lengths | None = (120, 240, 50),
    win_length: Lengths | None = (600, 1200, 240),
    epsilon: float = 1e-7,
) -> dict[str, LMLoss]:
    """Build the multi-resolution STFT loss of waveforms: `G_STFT`, tag `G`, of `y_fake` and `y`.

    Its components are `spectral_convergence` and `log_magnitude`, recorded as `G_STFT.spectral_convergence` and
    `G_STFT.log_magnitude`. Its weight is `train.loss.lambda_stft` of the config, 1 by default. `y_fake` and `y` are
    waveforms (N, T) or (N, C, T) from -1 to 1.

    Args:
        config: The configuration with the weight.
        n_fft: The length of the Fourier transform in samples, for each resolution.
        hop_length: From one frame to the next, in samples. None: a quarter of `n_fft`.
        win_length: The length of the window, in samples, at most `n_fft`. None: `n_fft`.
        epsilon: The smallest power of a frequency in a frame, above 0.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If a length is no int, or `epsilon` no number.
        ValueError: If the lengths do not fit each other, or `epsilon` is not above 0 and finite.

    Formula:
        mean over resolutions of ‖M(y) - M(y_fake)‖ / ‖M(y)‖ + mean |log M(y) - log M(y_fake)|; M = |STFT|

    Source:
        Yamamoto, Song and Kim, "Parallel WaveGAN: A Fast Waveform Generation Model Based on Generative Adversarial
        Networks with Multi-Resolution Spectrogram", ICASSP 2020, arXiv:1910.11480.

    Example:
        >>> from nectargan_core import Config
        >>> stft(Config())["G_STFT"].loss_weight
        1.0
    """
    loss = LMLoss(
        name="G_STFT",
        function=MultiResolutionSTFT(n_fft=n_fft, hop_length=hop_length, win_length=win_length, epsilon=epsilon),
        loss_weight=config.loss_weight("stft", default=1.0),
        tags=["G"],
    )
    return {loss.name: loss}


def mel(
    config: Config,
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
) -> dict[str, LMLoss]:
    """Build the L1 distance of log mel spectrograms: `G_MEL`, tag `G`, of `y_fake` and `y`.

    Its weight is `train.loss.lambda_mel` of the config, 1 by default; HiFi-GAN has `45*mel`. `y_fake` and `y` are
    waveforms (N, T) or (N, C, T) from -1 to 1.

    Args:
        config: The configuration with the weight.
        sample_rate: Samples per second of the waveforms, above 0.
        n_fft: The length of the Fourier transform in samples; a sequence for several resolutions, whose distances are
            averaged.
        hop_length: From one frame to the next, in samples. None: a quarter of `n_fft`.
        win_length: The length of the window, in samples, at most `n_fft`. None: `n_fft`.
        n_mels: How many bands; a sequence for a number of each resolution.
        f_min: The frequency in Hz at which the lowest band begins, 0 or greater.
        f_max: The frequency in Hz at which the highest band ends, at most half of the sample rate. None: half of the
            sample rate.
        mel_scale: `"slaney"` or `"htk"`.
        norm: `"slaney"` for filters of one area, or None for filters of the height 1.
        floor: The smallest value of a mel spectrogram, above 0.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or the lengths do not fit each other.

    Formula:
        mean |log M(y) - log M(y_fake)|; M = mel spectrogram

    Source:
        Kong, Kim and Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
        NeurIPS 2020, arXiv:2010.05646, equation 3.

    Example:
        >>> from nectargan_core import Config
        >>> mel(Config())["G_MEL"].inputs
        ('y_fake', 'y')
    """
    function = LogMel(
        sample_rate=sample_rate,
        n_fft=n_fft,
        hop_length=hop_length,
        win_length=win_length,
        n_mels=n_mels,
        f_min=f_min,
        f_max=f_max,
        mel_scale=mel_scale,
        norm=norm,
        floor=floor,
    )
    weight = config.loss_weight("mel", default=1.0)
    return {"G_MEL": LMLoss(name="G_MEL", function=function, loss_weight=weight, tags=["G"])}
