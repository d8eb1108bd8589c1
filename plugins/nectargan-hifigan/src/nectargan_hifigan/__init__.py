"""The objective of HiFi-GAN (Kong, Kim and Bae 2020), a vocoder, as a loss spec."""

from nectargan_hifigan.inputs import example_inputs
from nectargan_hifigan.spec import hifigan

__all__ = ["example_inputs", "hifigan"]
