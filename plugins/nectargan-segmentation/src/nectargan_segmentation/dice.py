"""The Dice loss, by itself and with cross-entropy."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nectargan_segmentation.arguments import not_negative, yes_or_no
from nectargan_segmentation.cross_entropy import CrossEntropy
from nectargan_segmentation.labels import one_hot
from nectargan_segmentation.supervision import Numbers, SegmentationLoss, check_background, probabilities


class Dice(SegmentationLoss):
    """Mean of 1 - (2·I + smooth_nr) / (P + T + smooth_dr) over classes and samples.

    With p the probabilities of a class, and t 1 where the label is its number and 0 elsewhere, I is the sum of p·t over
    the pixels of a sample, P that of p and T that of t. Half-precision logits are computed in float32.

    Args:
        include_background: Whether class 0 counts.
        sigmoid: Whether each probability is the sigmoid of its own channel, and not the softmax of all. With one
            channel, which is that of class 1 of two, it always is.
        squared_pred: Whether P is the sum of p².
        jaccard: Whether it is the loss of the Jaccard index, 1 - (I + ½·smooth_nr) / (P + T - I + ½·smooth_dr).
        smooth_nr: Added to the numerator; at least 0.
        smooth_dr: Added to the denominator; at least 0. A class that occurs neither in the labels nor in the
            probabilities has a loss of nan if it is 0.
        batch: Whether the sums are over all samples, so that it is a mean over classes only.
        ignore_index: The class number of pixels that do not count; None if all do.
        class_weights: What the loss of each class is multiplied by, before the mean; one number for each channel. None
            for 1.
        scales: A weight for each output of deep supervision; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        Milletari, Navab and Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation", 3DV 2016, section 3, with `squared_pred`. It has the options and the numbers of `DiceLoss` of
        MONAI.

    Example:
        >>> import torch
        >>> labels = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> labels[:, :, 4:] = 1
        >>> Dice()(torch.zeros(1, 2, 8, 8), labels)
        tensor(0.5000)
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        sigmoid: bool = False,
        squared_pred: bool = False,
        jaccard: bool = False,
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        ignore_index: int | None = None,
        class_weights: Numbers | Tensor | None = None,
        scales: Numbers | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, class_weights=class_weights, scales=scales)
        yes_or_no(
            "Dice",
            include_background=include_background,
            sigmoid=sigmoid,
            squared_pred=squared_pred,
            jaccard=jaccard,
            batch=batch,
        )
        self.include_background = include_background
        self.sigmoid = sigmoid
        self.squared_pred = squared_pred
        self.jaccard = jaccard
        self.smooth_nr = not_negative("Dice", "smooth_nr", smooth_nr)
        self.smooth_dr = not_negative("Dice", "smooth_dr", smooth_dr)
        self.batch = batch

    def of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output."""
        channels = logits.shape[1]
        check_background("Dice", channels, self.include_background)
        weights = self.weights_of(channels, logits)
        labels, counts = self.counted(labels)
        t = one_hot(labels, channels, logits.dtype)
        p = probabilities(logits, self.sigmoid)
        if counts is not None:
            share = counts.unsqueeze(1).to(p.dtype)
            p, t = p * share, t * share
        if not self.include_background:
            p, t = p[:, 1:], t[:, 1:]
            weights = None if weights is None else weights[1:]
        dims = [*([0] if self.batch else []), *range(2, p.dim())]
        # Before the product: autograd then adds its gradient, that of a sum, in place to that of the product.
        union = _summed(p.square() if self.squared_pred else p, dims) + _summed(t, dims)
        common = _summed(p * t, dims)
        if self.jaccard:
            union = 2 * (union - common)
        loss = 1 - (2 * common + self.smooth_nr) / (union + self.smooth_dr)
        return (loss if weights is None else loss * weights).mean()


def _summed(maps: Tensor, dims: list[int]) -> Tensor:
    # Without dimensions torch would sum over all.
    return maps.sum(dims) if dims else maps


class DiceCrossEntropy(nn.Module):
    """The sum of the Dice loss and the cross-entropy, with the two as components.

    Args:
        include_background: Whether class 0 counts in the Dice loss.
        sigmoid: Whether each probability of the Dice loss is the sigmoid of its own channel.
        squared_pred: Whether the Dice loss has the squares of probabilities in its denominator.
        jaccard: Whether it is the loss of the Jaccard index in the place of the Dice loss.
        smooth_nr: Added to the numerator of the Dice loss; at least 0.
        smooth_dr: Added to its denominator; at least 0.
        batch: Whether the sums of the Dice loss are over all samples.
        ignore_index: The class number of pixels that do not count; None if all do.
        class_weights: A weight for each class in both losses. For logits of one channel two, which are those of the
            cross-entropy. None for 1.
        label_smoothing: The share of each label that the cross-entropy spreads over all classes, from 0 to 1.
        lambda_dice: What the Dice loss is multiplied by; at least 0.
        lambda_ce: What the cross-entropy is multiplied by; at least 0.
        scales: A weight for each output of deep supervision; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        It has the options and the numbers of `DiceCELoss` of MONAI; the sum is that of Isensee et al., "nnU-Net: a
        self-configuring method for deep learning-based biomedical image segmentation", Nature Methods 2021.

    Example:
        >>> import torch
        >>> labels = torch.zeros(1, 8, 8, dtype=torch.int64)
        >>> labels[:, :, 4:] = 1
        >>> DiceCrossEntropy()(torch.zeros(1, 2, 8, 8), labels)
        {'dice': tensor(0.5000), 'ce': tensor(0.6931)}
    """

    def __init__(
        self,
        *,
        include_background: bool = True,
        sigmoid: bool = False,
        squared_pred: bool = False,
        jaccard: bool = False,
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        ignore_index: int | None = None,
        class_weights: Numbers | Tensor | None = None,
        label_smoothing: float = 0.0,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        scales: Numbers | None = None,
    ) -> None:
        super().__init__()
        self.lambda_dice = not_negative("DiceCrossEntropy", "lambda_dice", lambda_dice)
        self.lambda_ce = not_negative("DiceCrossEntropy", "lambda_ce", lambda_ce)
        self.dice = Dice(
            include_background=include_background,
            sigmoid=sigmoid,
            squared_pred=squared_pred,
            jaccard=jaccard,
            smooth_nr=smooth_nr,
            smooth_dr=smooth_dr,
            batch=batch,
            ignore_index=ignore_index,
            class_weights=class_weights,
            scales=scales,
        )
        self.cross_entropy = CrossEntropy(
            ignore_index=ignore_index, class_weights=class_weights, label_smoothing=label_smoothing, scales=scales
        )
        self.include_background, self.sigmoid, self.batch = include_background, sigmoid, batch
        self.squared_pred, self.jaccard = squared_pred, jaccard
        self.smooth_nr, self.smooth_dr = self.dice.smooth_nr, self.dice.smooth_dr
        self.ignore_index, self.class_weights = self.dice.ignore_index, self.dice.class_weights
        self.label_smoothing, self.scales = self.cross_entropy.label_smoothing, self.dice.scales

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Compare logits with labels.

        Args:
            logits: Scores of the classes without bounds, (N, K, ...) such as (N, K, H, W), floating point. With one
                channel they are those of class 1 of two. Or a list of them from fine to coarse.
            labels: Class numbers from 0 to K - 1, (N, ...) or (N, 1, ...), of an integer dtype or bool.

        Returns:
            The two losses, `dice` and `ce`, in float32, or float64 for logits in float64.

        Raises:
            TypeError: If the logits are not of a floating-point dtype, or the labels not of an integer one.
            ValueError: If the shapes do not fit, `scales` or `class_weights` are of another number, or labels on the
                CPU are no class numbers.
        """
        ce = self.cross_entropy(logits, labels)
        return {"dice": self.lambda_dice * self.dice(logits, labels), "ce": self.lambda_ce * ce}

    def extra_repr(self) -> str:
        """Show the factors where the module is printed."""
        return f"lambda_dice={self.lambda_dice:g}, lambda_ce={self.lambda_ce:g}"
