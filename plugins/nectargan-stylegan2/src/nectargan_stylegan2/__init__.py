"""The objective of StyleGAN2 (Karras et al. 2020) as a loss spec."""

from nectargan_stylegan2.spec import stylegan2

__all__ = ["stylegan2"]
