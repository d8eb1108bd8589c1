"""The objective of HiFi-GAN (Kong, Kim and Bae 2020), a vocoder, as a loss spec."""

from nectargan_hifigan.spec import hifigan

__all__ = ["hifigan"]
