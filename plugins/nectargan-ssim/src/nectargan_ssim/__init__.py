"""Losses of structural similarity for images: SSIM and multi-scale SSIM."""

from nectargan_ssim.inputs import example_inputs
from nectargan_ssim.loss import MSSSIM, SSIM
from nectargan_ssim.spec import ms_ssim, ssim

__all__ = ["MSSSIM", "SSIM", "example_inputs", "ms_ssim", "ssim"]
