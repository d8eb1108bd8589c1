"""A detail loss for image-to-image training: L1 between Laplacians."""

from nectargan_laplacian.loss import Laplacian
from nectargan_laplacian.spec import laplacian

__all__ = ["Laplacian", "laplacian"]
