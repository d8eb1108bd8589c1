"""The spec that makes the objective of HiFi-GAN available by its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from nectargan_audio import mel
from nectargan_gan import feature_matching, gan

from nectargan_core import Config, LMLoss


def hifigan(
    config: Config,
    *,
    sample_rate: float = 22050,
    n_fft: int | Sequence[int] = 1024,
    hop_length: int | Sequence[int] | None = 256,
    win_length: int | Sequence[int] | None = 1024,
    n_mels: int | Sequence[int] = 80,
    f_min: float = 0.0,
    f_max: float | None = None,
    mel_scale: Literal["slaney", "htk"] = "slaney",
    norm: Literal["slaney"] | None = "slaney",
    floor: float = 1e-5,
) -> dict[str, LMLoss]:
    """Build the objective of HiFi-GAN, a vocoder: log mel spectrograms, feature matching and adversarial losses.

    | loss     | tag | reads                            | weight                                     | source          |
    |----------|-----|----------------------------------|--------------------------------------------|-----------------|
    | `G_GAN`  | `G` | `pred_fake`                      | `train.loss.lambda_gan`, or 1              | models.py, 278  |
    | `G_FM`   | `G` | `features_fake`, `features_real` | `train.loss.lambda_feature_matching`, or 2 | models.py, 257  |
    | `G_MEL`  | `G` | `y_fake`, `y`                    | `train.loss.lambda_mel`, or 45             | train.py, 145   |
    | `D_real` | `D` | `pred_real`                      | 1                                          | models.py, 265  |
    | `D_fake` | `D` | `pred_fake`                      | 1                                          | models.py, 266  |

    The adversarial losses are those of `gan:lsgan`. They and `G_FM` are means over the elements of a tensor, summed
    over the sub-discriminators, and `G_FM` over the maps of each. `G_MEL` is the L1 distance of log mel spectrograms.

    Predictions and features are lists with an entry for each sub-discriminator, of the multi-period and of the
    multi-scale discriminator in one list (train.py, lines 136 and 153). The features are all that a sub-discriminator
    returns, its judgement included (models.py, line 158). `y_fake` and `y` are waveforms (N, 1, T), or (N, T), from -1
    to 1.

    The options are those of the mel spectrogram, with the numbers of `config_v1.json`. There `fmax` is 8000 for what
    the generator is given, and `fmax_for_loss`, the `f_max` of this loss, is half of the sample rate.

    Args:
        config: The configuration with the weights.
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
        The losses by their names.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range, or the lengths do not fit each other.

    Formula:
        gan:lsgan + 2*feature-matching + 45*mel; summed over discriminators

    Source:
        Kong, Kim and Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis"
        (NeurIPS 2020), arXiv:2010.05646, section 2.3. The lines are those of `models.py`, `train.py` and
        `meldataset.py` (49 to 72, the spectrogram) in the authors' repository.

    Example:
        >>> from nectargan_core import Config
        >>> {name: loss.loss_weight for name, loss in hifigan(Config()).items()}
        {'G_GAN': 1.0, 'G_FM': 2.0, 'G_MEL': 45.0, 'D_real': 1.0, 'D_fake': 1.0}
    """
    spectrograms = mel(
        config,
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
    matching = feature_matching(config, over_discriminators="sum")["G_FM"]
    adversarial = gan(config, "lsgan", over_discriminators="sum")
    losses = [
        adversarial["G_GAN"],
        matching.model_copy(update={"loss_weight": config.loss_weight("feature-matching", default=2.0)}),
        spectrograms["G_MEL"].model_copy(update={"loss_weight": config.loss_weight("mel", default=45.0)}),
        adversarial["D_real"],
        adversarial["D_fake"],
    ]
    return {loss.name: loss for loss in losses}
