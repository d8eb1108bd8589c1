"""Examples of waveforms, judgements and features, with which the kit of nectargan-core checks this package."""

from __future__ import annotations

import nectargan_audio
import torch
from torch import Tensor


def example_inputs(batch_size: int) -> dict[str, object]:
    """Make waveforms, and what two sub-discriminators return for them.

    Args:
        batch_size: How many waveforms, at least 1; also the seed of their random numbers.

    Returns:
        The waveforms `y_fake` and `y`, (N, 1, 2048) from -1 to 1, the judgements `pred_real` and `pred_fake`, (N, 12)
        and (N, 9), and the features `features_real` and `features_fake`, with the maps (N, 4, 16) and (N, 1, 8) of the
        one sub-discriminator, and (N, 2, 8, 3) of the other.

    Example:
        >>> inputs = example_inputs(2)
        >>> tuple(inputs["y_fake"].shape), [tuple(each.shape) for each in inputs["pred_fake"]]
        ((2, 1, 2048), [(2, 12), (2, 9)])
    """
    generator = torch.Generator().manual_seed(batch_size)

    def tensors(*shapes: tuple[int, ...], generated: bool) -> list[Tensor]:
        made = [torch.randn(batch_size, *shape, generator=generator) for shape in shapes]
        return [each.requires_grad_(generated) for each in made]

    return {
        **nectargan_audio.example_inputs(batch_size),
        **{name: tensors((12,), (9,), generated=True) for name in ("pred_real", "pred_fake")},
        **{
            name: [tensors((4, 16), (1, 8), generated=generated), tensors((2, 8, 3), generated=generated)]
            for name, generated in (("features_real", False), ("features_fake", True))
        },
    }
