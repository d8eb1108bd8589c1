"""The focal loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

from nectargan_segmentation.arguments import not_negative, several, yes_or_no
from nectargan_segmentation.labels import EVERY_NUMBER_COUNTS, one_hot
from nectargan_segmentation.supervision import Numbers, SegmentationLoss, check_background


class Focal(SegmentationLoss):
    """Mean of -a·(1 - p)^gamma·log p over classes and pixels, where p is the probability of what is right.

    With a softmax, p is the probability of the class of the label, and the loss of all other classes is 0. With
    `sigmoid` each class is a question of its own, and p the probability of the right answer. The mean is over all
    channels in both cases. Half-precision logits are computed in float32.

    Args:
        gamma: How much less what is known well counts; at least 0. With 0 it is a cross-entropy; the mean
            is over the classes, too, so that with a softmax it is that of `ce` divided by their number.
        alpha: The a: of all classes but the first, and of the right answer yes; 1 - alpha is that of the first class,
            and of the answer no. Or a number for each channel, the background among them; the answer no then has 1.
            None for 1.
        include_background: Whether class 0 counts. The probabilities are those of all classes in either case.
        sigmoid: Whether each probability is the sigmoid of its own channel, and not the softmax of all. With one
            channel, which is that of class 1 of two, it always is.
        ignore_index: The class number of pixels that do not count; None if all do. Where nothing counts, the loss is 0.
        class_weights: What the loss of each class is multiplied by, before the mean; one number for each channel. None
            for 1.
        scales: A weight for each output of deep supervision; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        Lin, Goyal, Girshick, He and Dollár, "Focal Loss for Dense Object Detection", ICCV 2017, equations 4 and 5; with
        a softmax Zhu et al., "AnatomyNet", Medical Physics 2018. It has the options of `FocalLoss` of MONAI and, but
        for `include_background=False` with a softmax and the mean with `ignore_index`, its numbers.

    Example:
        >>> import torch
        >>> labels = torch.ones(1, 8, 8, dtype=torch.int64)
        >>> Focal()(torch.zeros(1, 2, 8, 8), labels), Focal(gamma=0.0)(torch.zeros(1, 2, 8, 8), labels)
        (tensor(0.0866), tensor(0.3466))
    """

    alpha_of_classes: Tensor | None

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        alpha: float | Numbers | None = None,
        include_background: bool = True,
        sigmoid: bool = False,
        ignore_index: int | None = None,
        class_weights: Numbers | Tensor | None = None,
        scales: Numbers | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, scales=scales)
        yes_or_no("Focal", include_background=include_background, sigmoid=sigmoid)
        self.gamma = not_negative("Focal", "gamma", gamma)
        self.alpha: float | tuple[float, ...] | None = None
        of_classes = None
        if isinstance(alpha, (int, float)):
            self.alpha = not_negative("Focal", "alpha", alpha, 1.0)
        elif alpha is not None:
            self.alpha = several("Focal", "alpha", alpha, "class")
            of_classes = torch.tensor(self.alpha, dtype=torch.float64)
        self.register_buffer("alpha_of_classes", of_classes, persistent=False)
        self.include_background = include_background
        self.sigmoid = sigmoid

    def of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output."""
        channels = logits.shape[1]
        check_background("Focal", channels, self.include_background)
        weights = self.weights_of(channels, logits)
        alpha = self._alpha(channels, logits)
        labels, counts = self.counted(labels)
        if self.sigmoid or channels == 1:
            loss = self._of_answers(logits, one_hot(labels, channels, logits.dtype), alpha, weights)
            if counts is not None:
                loss = loss * counts.unsqueeze(1)
        else:
            loss = self._focused(F.cross_entropy(logits, labels, ignore_index=EVERY_NUMBER_COUNTS, reduction="none"))
            factors = self._factors(alpha, weights, channels, logits)
            if factors is not None:
                loss = loss * factors[labels]
            if counts is not None:
                loss = loss * counts
        if counts is None:
            counted: float | Tensor = labels.numel()
        else:
            counted = counts.sum().clamp_min(1)
        return loss.sum() / (counted * (channels - (not self.include_background)))

    def _of_answers(self, logits: Tensor, t: Tensor, alpha: Tensor | None, weights: Tensor | None) -> Tensor:
        """Return the loss of each class at each pixel, where each is a question of its own."""
        loss = self._focused(F.binary_cross_entropy_with_logits(logits, t, reduction="none"))
        if isinstance(self.alpha, float):
            loss = loss * (t * self.alpha + (1 - t) * (1 - self.alpha))
        elif alpha is not None:
            loss = loss * (1 + t * (_by_channel(alpha, t) - 1))
        if weights is not None:
            loss = loss * _by_channel(weights, t)
        return loss if self.include_background else loss[:, 1:]

    def _focused(self, cross_entropy: Tensor) -> Tensor:
        """Return -(1 - p)^gamma·log p, of -log p."""
        if not self.gamma:
            return cross_entropy
        missing = -torch.expm1(-cross_entropy)
        if self.gamma < 1:
            # The derivative of a root is infinite at 0.
            missing = missing.clamp_min(torch.finfo(missing.dtype).tiny)
        return missing.pow(self.gamma) * cross_entropy

    def _alpha(self, channels: int, like: Tensor) -> Tensor | None:
        """Return the alpha of each class."""
        if self.alpha_of_classes is not None:
            if len(self.alpha_of_classes) != channels:
                raise ValueError(
                    f"Focal has an alpha for {len(self.alpha_of_classes)} classes, and is given logits of {channels}; "
                    "give one for each channel of the logits, the background among them"
                )
            return self.alpha_of_classes.to(like)
        if not isinstance(self.alpha, float):
            return None
        return _with_first(1 - self.alpha, self.alpha, channels, like)

    def _factors(self, alpha: Tensor | None, weights: Tensor | None, channels: int, like: Tensor) -> Tensor | None:
        """Return what the loss of a pixel is multiplied by, by its class; None for 1."""
        shown = None if self.include_background else _with_first(0.0, 1.0, channels, like)
        product: Tensor | None = None
        for each in (alpha, weights, shown):
            if each is not None:
                product = each if product is None else product * each
        return product


def _with_first(first: float, others: float, channels: int, like: Tensor) -> Tensor:
    """Return a number for each channel, filled in on the device: a copy from the host would wait for it."""
    values = like.new_full((channels,), others)
    values[:1].fill_(first)
    return values


def _by_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *([1] * (like.dim() - 2)))
