"""Segmentation losses of four classes, forward and backward, beside MONAI and torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from beside import Pair, attribute, library, rows_of
from nectargan_segmentation import Boundary, CrossEntropy, Dice, DiceCrossEntropy, Focal
from table import Row
from torch import Tensor, nn

CLASSES = 4


def pixels(batch: int) -> list[Tensor]:
    """Make logits and class numbers of 256x256 pixels, in regions, as labels are, and not in noise."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(batch, CLASSES, 256, 256, generator=generator).requires_grad_()
    coarse = torch.randint(CLASSES, (batch, 1, 8, 8), generator=generator).float()
    return [logits, nn.functional.interpolate(coarse, (256, 256)).long()]


def pairs() -> Sequence[Pair]:
    """List the losses with what each is compared with."""
    losses = library("monai.losses")

    def monai(name: str, **options: Any) -> Any:
        make = attribute(losses, name)
        return None if make is None else make(to_onehot_y=True, **options)

    def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.cross_entropy(logits, labels[:, 0])

    return [
        Pair("ce", "torch", cross_entropy, CrossEntropy(), pixels),
        Pair("dice", "MONAI", monai("DiceLoss", softmax=True), Dice(), pixels),
        Pair("dice-ce", "MONAI", monai("DiceCELoss", softmax=True), DiceCrossEntropy(), pixels),
        Pair("focal", "MONAI", monai("FocalLoss", use_softmax=True), Focal(), pixels),
        Pair("focal, sigmoid", "MONAI", monai("FocalLoss"), Focal(sigmoid=True), pixels),
        Pair("boundary", "MONAI", monai("BoundaryLoss", softmax=True), Boundary(), pixels),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
