"""What segmentation losses cost beside MONAI and torch, for logits of four classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from beside import Row, attribute, device_of_command_line, library, print_table
from nectargan_segmentation import Boundary, CrossEntropy, Dice, DiceCrossEntropy, Focal
from torch import Tensor, nn

CLASSES = 4


def pixels(batch: int) -> list[Tensor]:
    """Make logits and class numbers of 256x256 pixels, in regions, as labels are, and not in noise."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, CLASSES, 256, 256, generator=generator).requires_grad_()
    coarse = torch.randint(CLASSES, (batch, 1, 8, 8), generator=generator).float()
    return [logits, nn.functional.interpolate(coarse, (256, 256)).long()]


def rows() -> Sequence[Row]:
    """List the losses with what each is compared with."""
    losses = library("monai.losses", "it is in the group dev of pyproject.toml")

    def monai(name: str, **options: Any) -> Any:
        make = attribute(losses, name)
        return None if make is None else make(to_onehot_y=True, **options)

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels[:, 0])

    return [
        Row("ce", "torch", cross_entropy, CrossEntropy(), pixels),
        Row("dice", "MONAI", monai("DiceLoss", softmax=True), Dice(), pixels),
        Row("dice-ce", "MONAI", monai("DiceCELoss", softmax=True), DiceCrossEntropy(), pixels),
        Row("focal", "MONAI", monai("FocalLoss", use_softmax=True), Focal(), pixels),
        Row("focal, sigmoid", "MONAI", monai("FocalLoss"), Focal(sigmoid=True), pixels),
        Row("boundary", "MONAI", monai("BoundaryLoss", softmax=True), Boundary(), pixels),
    ]


def main() -> None:
    """Print a table of ratios."""
    print_table("Segmentation (of 4x256x256 logits)", rows(), device_of_command_line())


if __name__ == "__main__":
    main()
