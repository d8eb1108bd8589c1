"""The specs that make these losses available by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import nn

from nectargan_core import Config, LMLoss
from nectargan_segmentation.boundary import Boundary
from nectargan_segmentation.cross_entropy import CrossEntropy
from nectargan_segmentation.dice import Dice, DiceCrossEntropy
from nectargan_segmentation.focal import Focal


def ce(
    config: Config,
    *,
    ignore_index: int | None = None,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    scales: Sequence[float] | None = None,
) -> dict[str, LMLoss]:
    """Build the cross-entropy: `G_CE`, tag `G`, of `logits` and `labels`.

    Its weight is `train.loss.lambda_ce` of the config, or 1. It is for pixels and for whole samples: logits (N, K, ...)
    with labels (N, ...), or (N, K) with (N,). With one channel the logits are those of class 1 of two. `logits` may be
    a list of outputs from fine to coarse.

    Args:
        config: The configuration with the weight.
        ignore_index: The class number that does not count; None if all do.
        class_weights: A weight for each class, by which it is a weighted mean; for logits of one channel two.
        label_smoothing: The share of each label that is spread over all classes, from 0 to 1.
        scales: A weight for each output in a list of logits; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range.

    Formula:
        mean -log softmax(logits)[labels]

    Source:
        Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567,
        section 7, for the label smoothing; the loss is `torch.nn.functional.cross_entropy`.

    Example:
        >>> from nectargan_core import Config
        >>> ce(Config())["G_CE"].inputs
        ('logits', 'labels')
    """
    function = CrossEntropy(
        ignore_index=ignore_index, class_weights=class_weights, label_smoothing=label_smoothing, scales=scales
    )
    return _loss("G_CE", function, config.loss_weight("ce", default=1.0))


def dice(
    config: Config,
    *,
    include_background: bool = True,
    sigmoid: bool = False,
    squared_pred: bool = False,
    jaccard: bool = False,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    ignore_index: int | None = None,
    class_weights: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
) -> dict[str, LMLoss]:
    """Build the Dice loss: `G_DICE`, tag `G`, of `logits` and `labels`.

    Its weight is `train.loss.lambda_dice` of the config, or 1. With one channel the logits are those of class 1 of two.
    `logits` may be a list of outputs from fine to coarse.

    Args:
        config: The configuration with the weight.
        include_background: Whether class 0 counts.
        sigmoid: Whether each probability is the sigmoid of its own channel, and not the softmax of all.
        squared_pred: Whether the denominator has the squares of the probabilities.
        jaccard: Whether it is the loss of the Jaccard index.
        smooth_nr: Added to the numerator; at least 0.
        smooth_dr: Added to the denominator; at least 0.
        batch: Whether the sums are over all samples, and not over each.
        ignore_index: The class number of pixels that do not count; None if all do.
        class_weights: What the loss of each class is multiplied by; one number for each channel of the logits.
        scales: A weight for each output in a list of logits; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range.

    Formula:
        1 - mean over classes of 2 sum(p g) / (sum p + sum g); p = softmax(logits); g = labels as maps of 0 and 1

    Source:
        Milletari, Navab and Ahmadi, "V-Net: Fully Convolutional Neural Networks for Volumetric Medical Image
        Segmentation", 3DV 2016, arXiv:1606.04797, section 3; the numbers of `DiceLoss` of MONAI.

    Example:
        >>> from nectargan_core import Config
        >>> dice(Config(), include_background=False)["G_DICE"].loss_weight
        1.0
    """
    function = Dice(
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
    return _loss("G_DICE", function, config.loss_weight("dice", default=1.0))


def dice_ce(
    config: Config,
    *,
    include_background: bool = True,
    sigmoid: bool = False,
    squared_pred: bool = False,
    jaccard: bool = False,
    smooth_nr: float = 1e-5,
    smooth_dr: float = 1e-5,
    batch: bool = False,
    ignore_index: int | None = None,
    class_weights: Sequence[float] | None = None,
    label_smoothing: float = 0.0,
    lambda_dice: float = 1.0,
    lambda_ce: float = 1.0,
    scales: Sequence[float] | None = None,
) -> dict[str, LMLoss]:
    """Build the sum of Dice loss and cross-entropy: `G_DICE_CE`, tag `G`, of `logits` and `labels`.

    The two are recorded as the components `dice` and `ce`. The weight is `train.loss.lambda_dice_ce` of the config, or
    1. With one channel the logits are those of class 1 of two. `logits` may be a list of outputs from fine to coarse.

    Args:
        config: The configuration with the weight.
        include_background: Whether class 0 counts in the Dice loss.
        sigmoid: Whether each probability of the Dice loss is the sigmoid of its own channel.
        squared_pred: Whether the denominator of the Dice loss has the squares of the probabilities.
        jaccard: Whether it is the loss of the Jaccard index in the place of the Dice loss.
        smooth_nr: Added to the numerator of the Dice loss; at least 0.
        smooth_dr: Added to its denominator; at least 0.
        batch: Whether the sums of the Dice loss are over all samples, and not over each.
        ignore_index: The class number of pixels that do not count; None if all do.
        class_weights: A weight for each class in both losses; for logits of one channel two, for the cross-entropy.
        label_smoothing: The share of each label that the cross-entropy spreads over all classes, from 0 to 1.
        lambda_dice: What the Dice loss is multiplied by; at least 0.
        lambda_ce: What the cross-entropy is multiplied by; at least 0.
        scales: A weight for each output in a list of logits; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range.

    Formula:
        dice + ce

    Source:
        Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical image segmentation",
        Nature Methods 2021; the numbers of `DiceCELoss` of MONAI.

    Example:
        >>> from nectargan_core import Config
        >>> list(dice_ce(Config()))
        ['G_DICE_CE']
    """
    function = DiceCrossEntropy(
        include_background=include_background,
        sigmoid=sigmoid,
        squared_pred=squared_pred,
        jaccard=jaccard,
        smooth_nr=smooth_nr,
        smooth_dr=smooth_dr,
        batch=batch,
        ignore_index=ignore_index,
        class_weights=class_weights,
        label_smoothing=label_smoothing,
        lambda_dice=lambda_dice,
        lambda_ce=lambda_ce,
        scales=scales,
    )
    return _loss("G_DICE_CE", function, config.loss_weight("dice-ce", default=1.0))


def focal(
    config: Config,
    *,
    gamma: float = 2.0,
    alpha: float | Sequence[float] | None = None,
    include_background: bool = True,
    sigmoid: bool = False,
    ignore_index: int | None = None,
    class_weights: Sequence[float] | None = None,
    scales: Sequence[float] | None = None,
) -> dict[str, LMLoss]:
    """Build the focal loss: `G_FOCAL`, tag `G`, of `logits` and `labels`.

    Its weight is `train.loss.lambda_focal` of the config, or 1. It is for pixels and for whole samples: logits
    (N, K, ...) with labels (N, ...), or (N, K) with (N,). With one channel the logits are those of class 1 of two.
    `logits` may be a list of outputs from fine to coarse.

    Args:
        config: The configuration with the weight.
        gamma: How much less what is known well counts; at least 0.
        alpha: What all classes but the first are multiplied by, with a sigmoid the answer yes, from 0 to 1; the first
            class and the answer no are multiplied by 1 - alpha. Or a number for each channel of the logits.
        include_background: Whether class 0 counts.
        sigmoid: Whether each class is a question of its own, as in the paper, and not one of several.
        ignore_index: The class number of pixels that do not count; None if all do.
        class_weights: What the loss of each class is multiplied by; one number for each channel of the logits.
        scales: A weight for each output in a list of logits; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range.

    Formula:
        mean over pixels and classes of (1 - p)^gamma · -log p · [class = label]; p = softmax(logits)

    Source:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, equations 4 and 5; the options
        of `FocalLoss` of MONAI.

    Example:
        >>> from nectargan_core import Config
        >>> focal(Config(), gamma=3.0)["G_FOCAL"].function
        Focal(gamma=3.0)
    """
    function = Focal(
        gamma=gamma,
        alpha=alpha,
        include_background=include_background,
        sigmoid=sigmoid,
        ignore_index=ignore_index,
        class_weights=class_weights,
        scales=scales,
    )
    return _loss("G_FOCAL", function, config.loss_weight("focal", default=1.0))


def boundary(
    config: Config,
    subspec: Literal["labels", "distances"] = "labels",
    *,
    include_background: bool = True,
    sigmoid: bool = False,
    spacing: Sequence[float] | None = None,
    ignore_index: int | None = None,
    scales: Sequence[float] | None = None,
) -> dict[str, LMLoss]:
    """Build the boundary loss.

    | loss         | tag | reads                 | weight                             | variant     |
    |--------------|-----|-----------------------|------------------------------------|-------------|
    | `G_BOUNDARY` | `G` | `logits`, `labels`    | `train.loss.lambda_boundary`, or 1 | `labels`    |
    | `G_BOUNDARY` | `G` | `logits`, `distances` | `train.loss.lambda_boundary`, or 1 | `distances` |

    It goes with another loss, such as the Dice loss, and is below 0 at its best. The paper raises its weight from 0.01
    by 0.01 in each epoch. With `labels`, the distances to the boundaries are computed on the CPU in each call.
    `distances` are signed distances, of the shape of the logits, that the data brings: those of `signed_distances`, in
    pixels or in the unit of its `spacing`, below 0 inside of a class. With one channel the logits are those of class 1
    of two. `logits` may be a list of outputs from fine to coarse, and `distances` is then one, too.

    Args:
        config: The configuration with the weight.
        subspec: The second input: the class numbers, or their distances.
        include_background: Whether class 0 counts.
        sigmoid: Whether each probability is the sigmoid of its own channel, and not the softmax of all.
        spacing: The size of a pixel in each dimension of the image, for `labels`; None for 1.
        ignore_index: The class number of pixels that do not count, for `labels`; None if all do.
        scales: A weight for each output in a list of logits; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Returns:
        The loss by its name.

    Raises:
        TypeError: If an option has the wrong type.
        ValueError: If an option is out of its range, or not for this variant.

    Formula:
        mean p · distance; p = softmax(logits); distance = that to the boundary of the class, negative inside

    Source:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019, arXiv:1812.07032, equation 5.

    Example:
        >>> from nectargan_core import Config
        >>> boundary(Config(), "distances")["G_BOUNDARY"].inputs
        ('logits', 'distances')
    """
    function = Boundary(
        given=subspec,
        include_background=include_background,
        sigmoid=sigmoid,
        spacing=spacing,
        ignore_index=ignore_index,
        scales=scales,
    )
    return _loss("G_BOUNDARY", function, config.loss_weight("boundary", default=1.0), subspec)


def _loss(name: str, function: nn.Module, weight: float, second: str = "labels") -> dict[str, LMLoss]:
    loss = LMLoss(
        name=name,
        function=function,
        loss_weight=weight,
        tags=["G"],
        inputs=("logits", second),
        ranges={"logits": "logits"},
    )
    return {name: loss}
