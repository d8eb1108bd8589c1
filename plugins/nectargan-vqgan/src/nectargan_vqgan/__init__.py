"""The objective of VQGAN (Esser, Rombach and Ommer 2021) as a loss spec."""

from nectargan_vqgan.codebook import CodebookLoss
from nectargan_vqgan.inputs import example_inputs
from nectargan_vqgan.spec import vqgan

__all__ = ["CodebookLoss", "example_inputs", "vqgan"]
