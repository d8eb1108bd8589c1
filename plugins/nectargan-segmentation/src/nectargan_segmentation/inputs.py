"""Examples of logits and labels, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch

from nectargan_segmentation.distances import signed_distances

_CLASSES = 3


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make the segmentation of images into three classes.

    Args:
        batch_size: How many images, at least 1; also the seed of their random numbers.

    Returns:
        The `logits` of a network (N, 3, 8, 8), the `labels` (N, 8, 8), and their signed `distances` (N, 3, 8, 8).

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(2).items()}
        {'logits': (2, 3, 8, 8), 'labels': (2, 8, 8), 'distances': (2, 3, 8, 8)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    logits = torch.randn(batch_size, _CLASSES, 8, 8, generator=generator)
    labels = torch.randint(0, _CLASSES, (batch_size, 8, 8), generator=generator)
    return {"logits": logits.requires_grad_(), "labels": labels, "distances": signed_distances(labels, _CLASSES)}
