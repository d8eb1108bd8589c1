"""The Charbonnier loss, a smooth L1 loss: of whole images, or of what a mask shows."""

from nectargan_charbonnier.loss import Charbonnier
from nectargan_charbonnier.spec import charbonnier

__all__ = ["Charbonnier", "charbonnier"]
