"""The objectives of pix2pixHD (Wang et al. 2018) and SPADE (Park et al. 2019) as loss specs."""

from nectargan_pix2pixhd.spec import pix2pixhd, spade

__all__ = ["pix2pixhd", "spade"]
