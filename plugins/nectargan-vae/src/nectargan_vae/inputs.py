"""Examples of latents, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make latents of a vector-quantised autoencoder, which `vq` reads.

    Args:
        batch_size: How many, at least 1; also the seed of their random numbers.

    Returns:
        The output of the encoder `z_e`, and the codes `z_q` in its place, (N, 4, 8, 8).

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(2).items()}
        {'z_e': (2, 4, 8, 8), 'z_q': (2, 4, 8, 8)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    z_e, z_q = torch.randn(2, batch_size, 4, 8, 8, generator=generator)
    return {"z_e": z_e.requires_grad_(), "z_q": z_q.requires_grad_()}
