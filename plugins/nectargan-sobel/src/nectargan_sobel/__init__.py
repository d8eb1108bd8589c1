"""An edge loss for image-to-image training: the L1 distance between Sobel gradient magnitudes."""

from nectargan_sobel.loss import Sobel
from nectargan_sobel.spec import sobel

__all__ = ["Sobel", "sobel"]
