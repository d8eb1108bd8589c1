"""Examples of images, predictions and patches, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch
from torch import Tensor

_IMAGES = ("rec_a", "rec_b", "identity_a", "identity_b")
_PREDICTIONS = ("pred_real_a", "pred_real_b", "pred_fake_a", "pred_fake_b")


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make what `cyclegan` reads of images in two domains, and the features of patches that `cut` reads.

    Args:
        batch_size: How many images of each domain, at least 1; also the seed of their random numbers.

    Returns:
        The images `real_a`, `rec_a`, `identity_a` and those of B, (N, 3, 16, 16) from -1 to 1, the predictions
        `pred_real_a`, `pred_fake_a` and those of B, (N, 1, 6, 6), and the features of two layers `patches_fake`,
        `patches_real`, `patches_identity` and `patches_y`, (N, 9, 5) and (N, 6, 4).

    Example:
        >>> inputs = example_inputs(2)
        >>> tuple(inputs["rec_a"].shape), [tuple(each.shape) for each in inputs["patches_y"]]
        ((2, 3, 16, 16), [(2, 9, 5), (2, 6, 4)])
    """
    generator = torch.Generator().manual_seed(batch_size)

    def images() -> Tensor:
        return torch.rand(batch_size, 3, 16, 16, generator=generator) * 2 - 1

    def patches() -> list[Tensor]:
        return [torch.randn(batch_size, *layer, generator=generator) for layer in ((9, 5), (6, 4))]

    return {
        **{name: images() for name in ("real_a", "real_b")},
        **{name: images().requires_grad_() for name in _IMAGES},
        **{name: torch.randn(batch_size, 1, 6, 6, generator=generator).requires_grad_() for name in _PREDICTIONS},
        **{name: patches() for name in ("patches_real", "patches_y")},
        **{name: [each.requires_grad_() for each in patches()] for name in ("patches_fake", "patches_identity")},
    }
