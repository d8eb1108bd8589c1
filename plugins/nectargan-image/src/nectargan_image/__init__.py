"""Losses of images: L1, L2, Huber, total variation, spectra, wavelets, colours, and LDL."""

from nectargan_image.artifacts import LDL
from nectargan_image.colors import Color
from nectargan_image.elementwise import L1, L2, Huber, SmoothL1
from nectargan_image.focal import FocalFrequency
from nectargan_image.fourier import FFT
from nectargan_image.inputs import example_inputs
from nectargan_image.specs import color, fft, focal_frequency, huber, l1, l2, ldl, smooth_l1, tv, wavelet
from nectargan_image.variation import TotalVariation
from nectargan_image.wavelets import Wavelet

__all__ = [
    "FFT",
    "L1",
    "L2",
    "LDL",
    "Color",
    "FocalFrequency",
    "Huber",
    "SmoothL1",
    "TotalVariation",
    "Wavelet",
    "color",
    "example_inputs",
    "fft",
    "focal_frequency",
    "huber",
    "l1",
    "l2",
    "ldl",
    "smooth_l1",
    "tv",
    "wavelet",
]
