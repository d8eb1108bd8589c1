"""Spectral losses of waveforms: the multi-resolution STFT loss, and the distance of log mel spectrograms."""

from nectargan_audio.inputs import example_inputs
from nectargan_audio.logmel import LogMel
from nectargan_audio.melscale import mel_filter_bank
from nectargan_audio.spec import mel, stft
from nectargan_audio.spectral import MultiResolutionSTFT

__all__ = ["LogMel", "MultiResolutionSTFT", "example_inputs", "mel", "mel_filter_bank", "stft"]
