"""What people look at that needs several runs or the losses themselves: loss maps as pictures."""

from nectargan_core.views._maps import LossMap, draw_maps

__all__ = ["LossMap", "draw_maps"]
