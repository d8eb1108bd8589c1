"""Weights for the examples that use the plugin `vgg`, without a download."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from pathlib import Path

# The first convolutions of torchvision's vgg19: position in `features`, input and output channels.
_CONVOLUTIONS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256)}


def save_random(path: Path) -> None:
    """Write random weights of the layers that the losses read by default."""
    state = {}
    for position, (inward, outward) in _CONVOLUTIONS.items():
        state[f"features.{position}.weight"] = torch.randn(outward, inward, 3, 3) * (2 / (9 * inward)) ** 0.5
        state[f"features.{position}.bias"] = torch.zeros(outward)
    torch.save(state, path)
