"""Losses of structural similarity for images: SSIM and multi-scale SSIM."""

from nectargan_ssim.loss import MSSSIM, SSIM
from nectargan_ssim.spec import ms_ssim, ssim

__all__ = ["MSSSIM", "SSIM", "ms_ssim", "ssim"]
