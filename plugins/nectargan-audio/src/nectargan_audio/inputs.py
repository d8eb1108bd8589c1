"""Examples of waveforms, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import torch


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make waveforms of noise, which are long enough for the default lengths of `stft` and `mel`.

    Args:
        batch_size: How many, at least 1; also the seed of their random numbers.

    Returns:
        The generated waveforms `y_fake` and their targets `y`, (N, 1, 2048), from -1 to 1.

    Example:
        >>> {name: tuple(each.shape) for name, each in example_inputs(2).items()}
        {'y_fake': (2, 1, 2048), 'y': (2, 1, 2048)}
    """
    generator = torch.Generator().manual_seed(batch_size)
    y_fake, y = torch.rand(2, batch_size, 1, 2048, generator=generator) * 2 - 1
    return {"y_fake": y_fake.requires_grad_(), "y": y}
