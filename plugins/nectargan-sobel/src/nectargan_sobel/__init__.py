"""An edge loss for image-to-image training: L1 between Sobel gradient magnitudes."""

from nectargan_sobel.loss import Sobel
from nectargan_sobel.spec import sobel

__all__ = ["Sobel", "sobel"]
