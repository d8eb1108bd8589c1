"""A detail loss for image-to-image training: the L1 distance between Laplacians."""

from nectargan_laplacian.loss import Laplacian
from nectargan_laplacian.spec import laplacian

__all__ = ["Laplacian", "laplacian"]
