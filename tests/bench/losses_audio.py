"""The losses of waveforms, forward and backward, beside auraloss and the code of HiFi-GAN."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from beside import Pair, attribute, images, library, rows_of
from nectargan_audio import LogMel, MultiResolutionSTFT, mel_filter_bank
from table import Row
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]

# As many samples as HiFi-GAN trains with at a time.
SAMPLES = 8192


def of_hifigan() -> LossFunction:
    """Make the mel loss as HiFi-GAN's training has it: filters, window and transform, with real and imaginary parts."""
    bank, window = mel_filter_bank(22050, 1024, 80).float(), torch.hann_window(1024)

    def log_mel(waveform: Tensor) -> Tensor:
        padded = F.pad(waveform, (384, 384), mode="reflect").squeeze(1)
        transform = torch.stft(padded, 1024, 256, 1024, window, center=False, return_complex=True)
        magnitude = torch.sqrt(torch.view_as_real(transform).pow(2).sum(-1) + 1e-9)
        return torch.log(torch.clamp(torch.matmul(bank, magnitude), min=1e-5))

    return lambda y_fake, y: F.l1_loss(log_mel(y), log_mel(y_fake))


def ours_in_sum() -> LossFunction:
    """Make the multi-resolution STFT loss of this project, with the smallest power that auraloss has."""
    loss = MultiResolutionSTFT(epsilon=1e-8)
    return lambda y_fake, y: torch.stack([*loss(y_fake, y).values()]).sum()


def pairs() -> list[Pair]:
    """Return each loss of ours beside another that computes the same.

    auraloss takes the norm over the whole batch, this loss over each waveform: their values differ from 2 on.
    """
    stft = attribute(library("auraloss.freq"), "MultiResolutionSTFTLoss")
    waveforms = images(-0.3, 0.3, shape=(1, SAMPLES))
    return [
        Pair("mel, Nx1x8192", "the code of HiFi-GAN", of_hifigan(), LogMel(), waveforms),
        Pair("stft, Nx1x8192", "auraloss", None if stft is None else stft(), ours_in_sum(), waveforms),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
