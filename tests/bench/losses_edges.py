"""The Sobel and Laplacian losses, forward and backward, beside their plain definitions."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from beside import Pair, images, rows_of
from nectargan_laplacian import Laplacian
from nectargan_sobel import Sobel
from table import Row
from torch import Tensor, nn

ACROSS = [[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]]]
DOWN = [[[[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]]]
LAPLACE = [[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]]


class PlainSobel(nn.Module):
    """The Sobel loss as its definition reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("across", torch.tensor(ACROSS))
        self.register_buffer("down", torch.tensor(DOWN))

    def magnitude(self, image: Tensor) -> Tensor:
        """Return the length of the gradient of each pixel."""
        grey = image.mean(1, keepdim=True)
        across, down = F.conv2d(grey, self.across, padding=1), F.conv2d(grey, self.down, padding=1)
        return torch.sqrt(across**2 + down**2 + 1e-6)

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the lengths."""
        return F.l1_loss(self.magnitude(y_fake), self.magnitude(y))


class PlainLaplacian(nn.Module):
    """The Laplacian loss as its definition reads."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.tensor(LAPLACE))

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        """Compare the filtered images."""
        first, second = (F.conv2d(image.mean(1, keepdim=True), self.kernel, padding=1) for image in (y_fake, y))
        return F.l1_loss(first, second)


def pairs() -> list[Pair]:
    """Return each loss beside its definition."""
    return [
        Pair("sobel", "definition", PlainSobel(), Sobel(), images(0.0, 1.0)),
        Pair("laplacian", "definition", PlainLaplacian(), Laplacian(), images(0.0, 1.0)),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
