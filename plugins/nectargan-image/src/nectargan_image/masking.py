"""What a mask is, and the mean of a loss over what it shows."""

from __future__ import annotations

import torch
from torch import Tensor


def check_mask(owner: str, mask: Tensor, y: Tensor) -> None:
    """Check that a mask fits images.

    Args:
        owner: The loss that is given the mask, for the message.
        mask: The mask.
        y: An image.

    Raises:
        TypeError: If the mask is complex.
        ValueError: If it has neither the shape of the images nor sizes of 1 in it.

    Example:
        >>> import torch
        >>> check_mask("L1", torch.ones(2, 1, 8, 8), torch.zeros(2, 3, 8, 8))
    """
    if mask.dim() != y.dim() or any(size not in (1, of) for size, of in zip(mask.shape, y.shape, strict=True)):
        raise ValueError(
            f"{owner} expects a mask of the shape of the images, {tuple(y.shape)}, or with sizes of 1 in it; the mask "
            f"is {tuple(mask.shape)}: resize it, or add a dimension with .unsqueeze(1)"
        )
    if mask.is_complex():
        raise TypeError(f"{owner} expects a mask of real numbers; it is {mask.dtype}: convert with .real")


def masked_mean(weighted: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of a map over what a mask shows.

    Args:
        weighted: The map times the mask, in the shape of the images.
        mask: The mask, of the shape of the images or with sizes of 1 in it.

    Returns:
        The sum of the map, divided by the sum of the mask over all elements of the images: a mask of one channel counts
        once for each channel. Of a mask of zeros it is 0.

    Example:
        >>> import torch
        >>> mask = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
        >>> masked_mean(torch.full((1, 3, 2, 2), 0.5) * mask, mask)
        tensor(0.5000)
    """
    counted = mask.sum() * (weighted.numel() / mask.numel())
    return weighted.sum() / counted.clamp_min(torch.finfo(counted.dtype).tiny)
