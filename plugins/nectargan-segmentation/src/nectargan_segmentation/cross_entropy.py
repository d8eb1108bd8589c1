"""Cross-entropy: of classes, of pixels, or of two classes with one channel."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

from nectargan_segmentation.arguments import not_negative
from nectargan_segmentation.labels import EVERY_NUMBER_COUNTS
from nectargan_segmentation.supervision import Numbers, SegmentationLoss


class CrossEntropy(SegmentationLoss):
    """Mean of -log p over all pixels, or samples, where p is the softmax probability of the class that is right.

    With class weights it is the sum of -w·log p, divided by the sum of w. With one channel, which is that of class 1 of
    two, p is a sigmoid. Half-precision logits are computed in float32.

    Args:
        ignore_index: The class number that does not count; None if all do. Where nothing counts, the loss is 0.
        class_weights: A weight for each class; for logits of one channel two, of class 0 and 1. None for 1.
        label_smoothing: The share of each label that is spread over all classes, from 0 to 1.
        scales: A weight for each output of deep supervision; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        It is `torch.nn.functional.cross_entropy`. Label smoothing: Szegedy et al., "Rethinking the Inception
        Architecture for Computer Vision", CVPR 2016, section 7.

    Example:
        >>> import torch
        >>> logits, labels = torch.zeros(2, 4, 8, 8), torch.ones(2, 8, 8, dtype=torch.int64)
        >>> CrossEntropy()(logits, labels)
        tensor(1.3863)
        >>> CrossEntropy()(torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.tensor([0, 1]))
        tensor(0.3466)
    """

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        class_weights: Numbers | Tensor | None = None,
        label_smoothing: float = 0.0,
        scales: Numbers | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, scales=scales)
        self.label_smoothing = not_negative("CrossEntropy", "label_smoothing", label_smoothing, 1.0)

    def of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output."""
        if logits.shape[1] == 1:
            if self.ignore_index is None and self.class_weights is None and not self.label_smoothing:
                return F.binary_cross_entropy_with_logits(logits, labels.unsqueeze(1).to(logits.dtype))
            logits = torch.cat([torch.zeros_like(logits), logits], 1)
        weights = self.weights_of(logits.shape[1], logits)
        if self.ignore_index is None:
            return F.cross_entropy(
                logits, labels, weights, ignore_index=EVERY_NUMBER_COUNTS, label_smoothing=self.label_smoothing
            )
        total = F.cross_entropy(
            logits,
            labels,
            weights,
            ignore_index=self.ignore_index,
            reduction="sum",
            label_smoothing=self.label_smoothing,
        )
        numbers, counts = self.counted(labels)
        assert counts is not None  # noqa: S101 -- there is an index to ignore
        share = counts.to(logits.dtype) if weights is None else weights[numbers] * counts
        return total / share.sum().clamp_min(torch.finfo(share.dtype).tiny)
