"""Examples of features, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make features of patches, which `patchnce` reads, and embeddings, which `info-nce` reads.

    Args:
        batch_size: How many images or pairs, at least 1; also the seed of their random numbers.

    Returns:
        The features of two layers `patches_fake` and `patches_real`, (N, 16, 8) and (N, 9, 4), and the embeddings
        `queries` and `keys`, (N, 16).

    Example:
        >>> inputs = example_inputs(2)
        >>> [tuple(each.shape) for each in inputs["patches_fake"]], tuple(inputs["keys"].shape)
        ([(2, 16, 8), (2, 9, 4)], (2, 16))
    """
    generator = torch.Generator().manual_seed(batch_size)
    layers = ((batch_size, 16, 8), (batch_size, 9, 4))
    queries, keys = torch.randn(2, batch_size, 16, generator=generator)
    return {
        "patches_fake": [torch.randn(layer, generator=generator).requires_grad_() for layer in layers],
        "patches_real": [torch.randn(layer, generator=generator) for layer in layers],
        "queries": queries.requires_grad_(),
        "keys": keys.requires_grad_(),
    }
