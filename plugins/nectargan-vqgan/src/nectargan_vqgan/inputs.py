"""Examples of what a quantiser returns, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make the codebook loss that `vqgan` reads; all others are in the table of inputs.

    Args:
        batch_size: The size of the batch, at least 1; also the seed of the random numbers.

    Returns:
        The elements of the `codebook_loss`, (N, 4, 2, 2), from 0 to 1.

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(2).items()}
        {'codebook_loss': (2, 4, 2, 2)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    return {"codebook_loss": torch.rand(batch_size, 4, 2, 2, generator=generator).requires_grad_()}
