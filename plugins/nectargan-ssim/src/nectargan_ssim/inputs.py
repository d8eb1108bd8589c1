"""Examples of images, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make images that are large enough for the five scales of `ms-ssim`.

    Args:
        batch_size: How many, at least 1; also the seed of their random numbers.

    Returns:
        The generated images `y_fake` and their targets `y`, (N, 2, 176, 176), from -1 to 1.

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(1).items()}
        {'y_fake': (1, 2, 176, 176), 'y': (1, 2, 176, 176)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    y, noise = torch.rand(2, batch_size, 2, 176, 176, generator=generator) * 2 - 1
    # Near to the target: of independent noise, similarities are near 0, and negative where nothing has a gradient.
    y_fake = 0.5 * y + 0.5 * noise
    return {"y_fake": y_fake.requires_grad_(), "y": y}
