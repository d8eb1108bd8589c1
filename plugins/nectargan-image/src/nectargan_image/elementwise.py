"""The losses that compare two images element by element, with or without a mask: L1, L2, Huber and smooth L1."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal, NoReturn

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor, nn

from nectargan_image.arguments import positive
from nectargan_image.masking import check_mask, masked_mean

Reduction = Literal["mean", "sum", "none"]

_PRECISE = (torch.float32, torch.float64)


class Elementwise(nn.Module, ABC):
    """What the four losses share: the checks, the dtypes, the mask and the reduction.

    Half-precision tensors are computed in float32, under autocast too: the square of a difference above 255 is
    infinite in float16. The module has no parameters and no buffers.

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        ValueError: If `reduction` is none of these.

    Example:
        >>> issubclass(L1, Elementwise)
        True
    """

    def __init__(self, reduction: Reduction = "mean") -> None:
        super().__init__()
        if reduction not in ("mean", "sum", "none"):
            name = type(self).__name__
            raise ValueError(f'{name}: reduction is "mean", "sum" or "none", got {reduction!r}')
        self.reduction: Reduction = reduction

    def forward(self, y_fake: Tensor, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """Compare two images element by element.

        Args:
            y_fake: The generated image, of any shape, such as (N, C, H, W); floating point, in any range.
            y: The target, of the same shape.
            mask: How much each element counts, at least 0: of the same shape, or with sizes of 1 in it, such as
                (N, 1, H, W); of any dtype of real numbers, or bool. The mean is then the sum of the elements times the
                mask, divided by the sum of the mask over all elements, channels included. Where nothing counts it is 0.
                None: each element counts alike.

        Returns:
            The loss, or the map, in float32, or in float64 for images in float64.

        Raises:
            TypeError: If an image is no tensor of a floating-point dtype, or the mask is complex.
            ValueError: If the shapes do not fit.
        """
        if not (isinstance(y_fake, Tensor) and isinstance(y, Tensor)):
            _refuse_types(type(self).__name__, y_fake, y)
        if y_fake.shape != y.shape:
            _refuse_shapes(type(self).__name__, y_fake, y)
        # Most calls end here, as fast as the module that torch has.
        if mask is None and y_fake.dtype is y.dtype and y.dtype in _PRECISE:
            return self.distance(y_fake, y, self.reduction)
        if not (y_fake.is_floating_point() and y.is_floating_point()):
            _refuse_dtypes(type(self).__name__, y_fake, y)
        precise = torch.promote_types(torch.promote_types(y_fake.dtype, y.dtype), torch.float32)
        y_fake, y = y_fake.to(precise), y.to(precise)
        if mask is None:
            return self.distance(y_fake, y, self.reduction)
        check_mask(type(self).__name__, mask, y)
        share = mask.to(precise)
        loss = self.distance(y_fake, y, "none") * share
        if self.reduction == "mean":
            loss = masked_mean(loss, share)
        elif self.reduction == "sum":
            loss = loss.sum()
        return loss

    @abstractmethod
    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the distance of two images of one dtype, reduced."""

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"reduction={self.reduction!r}"


class L1(Elementwise):
    """Mean of abs(d) over all elements, where d = y_fake - y: the mean absolute error.

    Half-precision images are computed in float32.

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        ValueError: If `reduction` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
        >>> L1()(y_fake, y)
        tensor(0.5000)
        >>> mask = torch.zeros(1, 1, 8, 8)
        >>> mask[..., :4] = 1.0
        >>> L1()(y_fake, y, mask)
        tensor(0.5000)

    Source: Isola, Zhu, Zhou and Efros, "Image-to-Image Translation with Conditional Adversarial Networks", CVPR 2017,
    equation 3.
    """

    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the absolute error of two images of one dtype, reduced."""
        return F.l1_loss(y_fake, y, reduction=reduction)


class L2(Elementwise):
    """Mean of d² over all elements, where d = y_fake - y: the mean squared error.

    Half-precision images are computed in float32: the square of a difference above 255 is infinite in float16.

    Args:
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        ValueError: If `reduction` is none of these.

    Example:
        >>> import torch
        >>> L2()(torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8))
        tensor(0.2500)

    Source: Dong, Loy, He and Tang, "Image Super-Resolution Using Deep Convolutional Networks", TPAMI 2016, equation 4.
    """

    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the squared error of two images of one dtype, reduced."""
        return F.mse_loss(y_fake, y, reduction=reduction)


class Huber(Elementwise):
    """Mean of d²/2 where abs(d) ≤ delta, and of delta·(abs(d) - delta/2) elsewhere, where d = y_fake - y.

    Half-precision images are computed in float32.

    Args:
        delta: Where the loss goes over from a square to an absolute value, in the unit of the images; above 0.
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        TypeError: If `delta` is no number.
        ValueError: If `delta` is not above 0 or not finite, or `reduction` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
        >>> Huber()(y_fake, y), Huber(delta=0.25)(y_fake, y)
        (tensor(0.1250), tensor(0.0938))

    Source: Huber, "Robust Estimation of a Location Parameter", The Annals of Mathematical Statistics 35, 1964.
    """

    def __init__(self, *, delta: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.delta = positive("Huber", "delta", delta)

    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the Huber loss of two images of one dtype, reduced."""
        return F.huber_loss(y_fake, y, reduction=reduction, delta=self.delta)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"delta={self.delta:g}, {super().extra_repr()}"


class SmoothL1(Elementwise):
    """Mean of d²/(2·beta) where abs(d) < beta, and of abs(d) - beta/2 elsewhere, where d = y_fake - y.

    It is `Huber` with a delta of beta, divided by beta, so that the gradient of large differences is that of the L1
    loss. Half-precision images are computed in float32.

    Args:
        beta: Where the loss goes over from a square to an absolute value, in the unit of the images; above 0.
        reduction: `"mean"`, `"sum"`, or `"none"` for the map in the shape of the images.

    Raises:
        TypeError: If `beta` is no number.
        ValueError: If `beta` is not above 0 or not finite, or `reduction` is none of these.

    Example:
        >>> import torch
        >>> y_fake, y = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 3, 8, 8)
        >>> SmoothL1()(y_fake, y), SmoothL1(beta=0.25)(y_fake, y)
        (tensor(0.1250), tensor(0.3750))

    Source: Girshick, "Fast R-CNN", ICCV 2015, equation 3, with a beta of 1.
    """

    def __init__(self, *, beta: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.beta = positive("SmoothL1", "beta", beta)

    def distance(self, y_fake: Tensor, y: Tensor, reduction: Reduction) -> Tensor:
        """Return the smooth L1 loss of two images of one dtype, reduced."""
        return F.smooth_l1_loss(y_fake, y, reduction=reduction, beta=self.beta)

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"beta={self.beta:g}, {super().extra_repr()}"


def _refuse_types(name: str, y_fake: object, y: object) -> NoReturn:
    raise TypeError(
        f"{name} expects two images that are tensors; y_fake is of type {type(y_fake).__name__} and y of type "
        f"{type(y).__name__}: give tensors, one loss for each where there are several"
    )


# Unlike images, two tensors that are compared element by element may have any number of dimensions.
def _refuse_shapes(name: str, y_fake: Tensor, y: Tensor) -> NoReturn:
    raise ValueError(
        f"{name} expects two images of one shape; "
        f"y_fake is {tuple(y_fake.shape)} and y is {tuple(y.shape)}: crop or resize one of them"
    )


def _refuse_dtypes(name: str, y_fake: Tensor, y: Tensor) -> NoReturn:
    raise TypeError(
        f"{name} expects floating-point images; y_fake is {y_fake.dtype} and y is {y.dtype}: convert with .float()"
    )
