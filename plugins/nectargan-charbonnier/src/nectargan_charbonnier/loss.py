"""The Charbonnier loss as a module, with or without a mask."""

from __future__ import annotations

import torch
from nectargan_image.elementwise import Elementwise, Reduction
from torch import Tensor

# The square of epsilon is a normal number of single precision from about 1e-19 to 1e19. If it were 0, the derivative
# of equal elements would be nan.
_SMALLEST, _LARGEST = 1e-18, 1e18


class Charbonnier(Elementwise):
    """Mean of sqrt(d² + epsilon²) over all elements, where d = y_fake - y.

    The loss of an element is about d²/(2·epsilon) + epsilon where d is small, and abs(d) where it is large; of equal
    images it is epsilon. Its derivative is d/sqrt(d² + epsilon²). Half-precision images are computed in float32, under
    autocast too: float16 has only four bits left for the square of 1e-3.

    Args:
        epsilon: Where the loss goes over from a square to an absolute value, in the unit of the images; from 1e-18 to
            1e18.
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        TypeError: If `epsilon` is no number.
        ValueError: If `epsilon` is out of its range, or `reduction` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.full((1, 3, 8, 8), 4e-3), torch.full((1, 3, 8, 8), 1e-3)
        >>> round(Charbonnier(epsilon=4e-3)(y_fake, y).item(), 6)
        0.005

    Source: Lai, Huang, Ahuja and Yang, "Deep Laplacian Pyramid Networks for Fast and Accurate Super-Resolution", CVPR
    2017, section 3.3, with an epsilon of 1e-3. The paper sums over the pixels and divides by the number of samples; the
    authors' `vllab_nn_L1_loss` sums, with a square of 1e-6. Charbonnier, Blanc-Féraud, Aubert and Barlaud, "Two
    Deterministic Half-Quadratic Regularization Algorithms for Computed Imaging", ICIP 1994, have the function.
    """

    def __init__(self, *, epsilon: float = 1e-3, reduction: Reduction = "mean") -> None:
        if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float)):
            raise TypeError(f"Charbonnier: epsilon is a number from {_SMALLEST:g} to {_LARGEST:g}, got {epsilon!r}")
        if not _SMALLEST <= epsilon <= _LARGEST:
            raise ValueError(f"Charbonnier: epsilon is a number from {_SMALLEST:g} to {_LARGEST:g}, got {epsilon!r}")
        super().__init__(reduction)
        self.epsilon = float(epsilon)

    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the Charbonnier loss of two images of one dtype, reduced."""
        loss = torch.sqrt((y_fake - y).square() + self.epsilon**2)
        if reduction == "mean":
            return loss.mean()
        return loss.sum() if reduction == "sum" else loss

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"epsilon={self.epsilon:g}, {super().extra_repr()}"
