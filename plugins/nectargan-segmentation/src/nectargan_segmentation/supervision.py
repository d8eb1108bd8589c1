"""What the losses share: options, the checks of inputs, precision, and the sum over the outputs of deep supervision."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nectargan_segmentation.arguments import several, whole
from nectargan_segmentation.labels import check_numbers, class_numbers, resized

Numbers = Sequence[float]

_PRECISE = (torch.float32, torch.float64)


class SegmentationLoss(nn.Module, ABC):
    """A loss of logits and class numbers, of one output of a network or of several.

    Of a list of outputs, from fine to coarse, it is the sum of the losses of each, weighted by `scales`. The labels
    are resized to each output by nearest neighbours.

    Args:
        ignore_index: The class number that does not count; None if all do.
        class_weights: A weight for each class; None for 1.
        scales: A weight for each output; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range.

    Source:
        The sum, its default weights and the resizing are those of `DeepSupervisionLoss` of MONAI.

    Example:
        >>> from nectargan_segmentation import Dice
        >>> issubclass(Dice, SegmentationLoss)
        True
    """

    weights_of_classes: Tensor | None

    def __init__(
        self,
        *,
        ignore_index: int | None = None,
        class_weights: Numbers | Tensor | None = None,
        scales: Numbers | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.ignore_index = None if ignore_index is None else whole(owner, "ignore_index", ignore_index)
        self.scales = None if scales is None else several(owner, "scales", scales, "output")
        self.class_weights = None if class_weights is None else several(owner, "class_weights", class_weights, "class")
        of_classes = None if class_weights is None else torch.tensor(self.class_weights, dtype=torch.float64)
        self.register_buffer("weights_of_classes", of_classes, persistent=False)

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor) -> Tensor:
        """Compare logits with labels.

        Args:
            logits: Scores of the classes without bounds, (N, K) or (N, K, ...) such as (N, K, H, W), floating point.
                With one channel they are those of class 1 of two. Or a list of them from fine to coarse.
            labels: Class numbers from 0 to K - 1, (N, ...) or (N, 1, ...), of an integer dtype or bool.

        Returns:
            A scalar, in float32, or float64 for logits in float64.

        Raises:
            TypeError: If the logits are not of a floating-point dtype, or the labels not of an integer one.
            ValueError: If the shapes do not fit, `scales` or `class_weights` are of another number, or labels on the
                CPU are no class numbers.
        """
        owner = type(self).__name__
        if not isinstance(logits, (list, tuple)):
            output, numbers = class_numbers(owner, logits, labels)
            if numbers.shape[1:] != output.shape[2:]:
                raise ValueError(
                    f"{owner} expects labels of the size of the logits; the labels are {tuple(numbers.shape[1:])} and "
                    f"the logits {tuple(output.shape[2:])}: resize one of them"
                )
            return self._checked(output, numbers)
        pairs = [class_numbers(owner, output, labels) for output in logits]
        factors = factors_of(owner, self.scales, len(pairs))
        losses = [self._checked(output, resized(numbers, output.shape[2:])) for output, numbers in pairs]
        return weighted_sum(losses, factors)

    def _checked(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output, or raise an error that says which labels are no class numbers."""
        owner, channels = type(self).__name__, logits.shape[1]
        # With more channels torch raises an error, so that only then the numbers need to be looked at.
        if channels == 1:
            check_numbers(owner, labels, channels, self.ignore_index)
        if torch.compiler.is_compiling():
            return self.of_output(precise(logits), labels)
        try:
            return self.of_output(precise(logits), labels)
        except (IndexError, RuntimeError) as raised:
            error = raised
        check_numbers(owner, labels, channels, self.ignore_index)
        raise error

    @abstractmethod
    def of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output.

        Args:
            logits: (N, K, ...), in float32 or float64.
            labels: (N, ...), in int64.
        """

    def weights_of(self, channels: int, like: Tensor) -> Tensor | None:
        """Return the weights of the classes in the dtype and on the device of a tensor.

        Raises:
            ValueError: If there are not so many as channels.
        """
        if self.weights_of_classes is None:
            return None
        if len(self.weights_of_classes) != channels:
            raise ValueError(
                f"{type(self).__name__} has class_weights of {len(self.weights_of_classes)} classes, and is given "
                f"logits of {channels}; give a weight for each channel of the logits, the background among them"
            )
        return self.weights_of_classes.to(like)

    def counted(self, labels: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return labels with 0 in the place of what does not count, and a map of what counts; None if all does."""
        if self.ignore_index is None:
            return labels, None
        ignored = labels == self.ignore_index
        return labels.masked_fill(ignored, 0), ~ignored

    def extra_repr(self) -> str:
        """Show the arguments that are not the default where the module is printed."""
        shown = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            if (value := getattr(self, name)) != parameter.default:
                shown.append(f"{name}={value!r}")
        return ", ".join(shown)


def factors_of(owner: str, scales: Numbers | None, outputs: int) -> Numbers:
    """Return the weight of each of several outputs.

    Raises:
        ValueError: If there is no output, or not one for each of `scales`.

    Example:
        >>> factors_of("Dice", None, 6)
        [1.0, 0.5, 0.25, 0.125, 0.0625, 0.0625]
    """
    if not outputs:
        raise ValueError(f"{owner} expects at least one output in a list of logits; it is empty")
    if scales is None:
        return [max(0.5**place, 0.0625) for place in range(outputs)]
    if len(scales) != outputs:
        raise ValueError(f"{owner} has scales for {len(scales)} outputs, and is given {outputs}; give one for each")
    return scales


def weighted_sum(losses: Sequence[Tensor], factors: Numbers) -> Tensor:
    """Return the sum of losses, each times its factor.

    Example:
        >>> weighted_sum([torch.tensor(1.0), torch.tensor(2.0)], (1.0, 0.5))
        tensor(2.)
    """
    total = losses[0] * factors[0]
    for loss, factor in zip(losses[1:], factors[1:], strict=True):
        total = total + loss * factor
    return total


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in float32 at least.

    Example:
        >>> precise(torch.zeros(1, dtype=torch.bfloat16)).dtype
        torch.float32
    """
    return tensor if tensor.dtype in _PRECISE else tensor.float()


def probabilities(logits: Tensor, sigmoid: bool) -> Tensor:
    """Return the probability of each class: of each by itself, or of one of them all.

    Example:
        >>> probabilities(torch.zeros(1, 4), sigmoid=False), probabilities(torch.zeros(1, 1), sigmoid=False)
        (tensor([[0.2500, 0.2500, 0.2500, 0.2500]]), tensor([[0.5000]]))
    """
    return logits.sigmoid() if sigmoid or logits.shape[1] == 1 else logits.softmax(1)


def check_background(owner: str, channels: int, include_background: bool) -> None:
    """Raise `ValueError` if the background is left out where there is nothing else.

    Example:
        >>> check_background("Dice", 2, include_background=False)
    """
    if channels == 1 and not include_background:
        raise ValueError(
            f"{owner} with include_background=False leaves out channel 0 of the logits, and they have one channel, "
            "which is that of class 1: leave the option out"
        )
