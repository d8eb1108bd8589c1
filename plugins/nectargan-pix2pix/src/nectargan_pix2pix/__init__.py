"""The objective of pix2pix (Isola et al. 2017) as a loss spec, with a trainer for it in the extra `train`."""

from nectargan_pix2pix.spec import pix2pix

__all__ = ["pix2pix"]
