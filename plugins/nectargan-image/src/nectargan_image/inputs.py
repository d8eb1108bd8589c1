"""Examples of images, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make the images of an averaged generator, which `ldl` reads; all others are in the table of inputs.

    Args:
        batch_size: How many, at least 1; also the seed of their random numbers.

    Returns:
        The images `y_ema`, (N, 3, 32, 32), from -1 to 1.

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(2).items()}
        {'y_ema': (2, 3, 32, 32)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    return {"y_ema": torch.rand(batch_size, 3, 32, 32, generator=generator) * 2 - 1}
