"""The perceptual and the style loss as modules: the difference of features, and that of their Gram matrices."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from nectargan_vgg.feature_loss import Precision, Reduction
from nectargan_vgg.layered import LayeredLoss

Criterion: TypeAlias = Literal["l1", "l2", "fro"] | Callable[[Tensor, Tensor], Tensor]
Gram: TypeAlias = Literal["pixels", "elements"]

_PERCEPTUAL_LAYERS = MappingProxyType({"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0})
_STYLE_LAYERS = MappingProxyType(dict.fromkeys(["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"], 0.2))


class _Difference(LayeredLoss):
    """Base of both losses: the difference of what describes the features of a layer, by some criterion."""

    def __init__(
        self,
        layers: Mapping[str, float],
        criterion: Criterion,
        normalize: bool,
        input_range: tuple[float, float],
        resize: int | tuple[int, int] | None,
        reduction: Reduction,
        checkpoint: str | os.PathLike[str] | None,
        by_layer: bool,
        precision: Precision,
    ) -> None:
        _check_criterion(criterion, reduction)  # before the network is loaded, which may take a download
        super().__init__(layers, normalize, input_range, resize, reduction, checkpoint, by_layer, precision)
        self.criterion = criterion

    @abstractmethod
    def _described(self, features: Tensor) -> Tensor:
        """Return the representation of a layer's features that is compared."""

    def _distance(self, fake: Tensor, real: Tensor) -> Tensor:
        fake, real = self._described(fake), self._described(real)
        if not callable(self.criterion):
            # Not F.l1_loss or F.mse_loss: they would reduce over the samples, and mse_loss keeps both maps.
            difference = fake - real
            precise = torch.promote_types(difference.dtype, torch.float32)
            if self.criterion == "fro":
                norm: Tensor = torch.linalg.vector_norm(difference, dtype=precise)
                return norm
            distances = difference.abs() if self.criterion == "l1" else difference.square()
            # Not flattened, which would copy what is channels_last. In float32 at least: of features of half precision
            # the mean would have three digits.
            return distances.sum(tuple(range(1, distances.dim())), dtype=precise) / distances[0].numel()
        result = self.criterion(fake, real)
        if result.dim() == 0:
            if self.reduction != "mean":
                raise ValueError(
                    f'reduction="{self.reduction}" needs a value for each sample, and the criterion gave one for '
                    'all; give one that does not reduce, such as torch.nn.L1Loss(reduction="none")'
                )
            return result
        if len(result) != len(fake):
            raise ValueError(
                f"the criterion is to give one value, or values for each of the {len(fake)} samples; it "
                f"gave the shape {tuple(result.shape)}"
            )
        return result.flatten(1).mean(1) if result.dim() > 1 else result

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return ", ".join(
            f"{name}={getattr(self, name)!r}"
            for name in ("layers", "criterion", "normalize", "input_range", "resize", "reduction", "by_layer")
        )


class VGGPerceptual(_Difference):
    """Distance between the VGG19 features of two images.

    Features are compared at each of `layers`: the distance is the mean over channels and pixels of the
    absolute difference (`"l1"`) or of its square (`"l2"`), and the loss is the weighted sum over the layers,
    averaged over the samples.

    The network is frozen and shared by all losses that use the same weights. It is not a submodule: it is in
    no optimizer and in no `state_dict`, and `.train()` does not affect it, while `.to()` moves it. It computes
    in float32, under autocast too, unless `.to(dtype)` changes its dtype; images are converted. With the three
    default layers and `normalize=False` the values are those of NectarGAN.

    Args:
        layers: The weight of each layer, by its name: `conv1_1`, `relu1_1`, ... `relu5_4`, and `pool1` to
            `pool5`. A `conv` layer is compared before its activation. The network ends at the deepest of them.
        criterion: `"l1"`, `"l2"`, `"fro"` (the Frobenius norm of the difference in the whole batch, as BasicSR has
            it; only with `reduction="mean"`), or a callable that is called for each layer with the features of both
            images, (N, C, h, w). It returns one value, or one or more for each sample, which are averaged.
        normalize: Whether to map `input_range` to the mean and standard deviation of ImageNet, by channel, as
            VGG19 expects. False passes the images unchanged.
        input_range: The values that stand for black and white in the images; `normalize=False` ignores it.
        resize: Height and width in pixels that images are brought to first, bilinear and antialiased; an int
            for a square; None for the size that they have.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        checkpoint: A local file with the weights under the keys of torchvision's checkpoint (`.pth`, or
            `.safetensors` with `nectargan-vgg[safetensors]`), or `"random"` for reproducible random weights.
            None for the file that the environment variable `NECTARGAN_VGG19_WEIGHTS` names, or else
            torchvision's published weights, downloaded once into the cache of `torch.hub`. On the meta device
            nothing is read.
        by_layer: Whether to return a dict with the weighted distance of each layer, the sum of which is the loss. A
            `LossManager` then records each layer beside the loss, as `G_VGG.relu3_3`.
        precision: The dtype of the network: `"float32"`, or `"bfloat16"`, which takes about half of the time and memory
            where the hardware has it. The value is then right to about 1 %, and the gradient to 10 to 20 % of its
            norm with shallow layers. Errors are larger with deep layers, and for images that are nearly equal.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        J. Johnson, A. Alahi and L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and
        Super-Resolution", ECCV 2016, section 3.2 (feature reconstruction; there with squares and VGG16).

    Example:
        >>> import torch
        >>> loss = VGGPerceptual(layers={"relu1_2": 1.0, "relu2_2": 0.5}, checkpoint="random")
        >>> y_fake, y = torch.rand(2, 2, 3, 16, 16).unbind()
        >>> loss(y_fake, y) > loss(y, y)
        tensor(True)
        >>> list(loss.parameters()), loss.state_dict()
        ([], OrderedDict())
    """

    def __init__(
        self,
        layers: Mapping[str, float] = _PERCEPTUAL_LAYERS,
        criterion: Criterion = "l1",
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        checkpoint: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
        precision: Precision = "float32",
    ) -> None:
        super().__init__(layers, criterion, normalize, input_range, resize, reduction, checkpoint, by_layer, precision)

    def _described(self, features: Tensor) -> Tensor:
        return features


class VGGStyle(_Difference):
    """Distance between the Gram matrices of the VGG19 features of two images, which describe their style.

    At each of `layers`, the features F of an image, a matrix of C channels and M pixels, give the Gram matrix
    F Fᵀ / M, which measures how strongly channels occur together, regardless of position. With the default
    criterion the distance is the mean squared difference of the two matrices. That is the squared Frobenius
    norm of Johnson et al., and 4 times the E of Gatys et al. at each layer; the default layers and their equal
    weights are those of Gatys et al.

    With `gram="elements"` the Gram matrix is F Fᵀ / (C M). With the criterion `"l1"`, `"l2"` or `"fro"` the values are
    then those of the style loss in BasicSR's `PerceptualLoss`.

    Args:
        layers: The weight of each layer, by its name, as for `VGGPerceptual`.
        criterion: As for `VGGPerceptual`; a callable is given the Gram matrices, (N, C, C).
        gram: What F Fᵀ is divided by: `"pixels"` for M, or `"elements"` for C M.
        normalize: As for `VGGPerceptual`, like all arguments below.
        input_range: The values that stand for black and white in the images.
        resize: Height and width in pixels that images are brought to first.
        reduction: `"mean"` or `"sum"` over the samples, or `"none"` for one value per sample, shape (N,).
        checkpoint: A local file with the weights, or `"random"`.
        by_layer: Whether to return the distance of each layer, in a dict.
        precision: The dtype of the network.

    Raises:
        WeightsError: If the weights cannot be obtained or used; the message names the ways to provide them.
        ValueError: If another argument is invalid.

    Source:
        L. A. Gatys, A. S. Ecker and M. Bethge, "Image Style Transfer Using Convolutional Neural Networks",
        CVPR 2016, section 2.2; J. Johnson, A. Alahi and L. Fei-Fei, ECCV 2016, section 3.2 (style
        reconstruction); BasicSR, `basicsr/losses/basic_loss.py`, `PerceptualLoss._gram_mat`.

    Example:
        >>> import torch
        >>> style = VGGStyle(layers={"relu1_1": 1.0}, checkpoint="random")
        >>> y = torch.rand(1, 3, 16, 16)
        >>> style(y, y), style(y, 1 - y) > 0
        (tensor(0.), tensor(True))
    """

    def __init__(
        self,
        layers: Mapping[str, float] = _STYLE_LAYERS,
        criterion: Criterion = "l2",
        gram: Gram = "pixels",
        normalize: bool = True,
        input_range: tuple[float, float] = (-1.0, 1.0),
        resize: int | tuple[int, int] | None = None,
        reduction: Reduction = "mean",
        checkpoint: str | os.PathLike[str] | None = None,
        by_layer: bool = False,
        precision: Precision = "float32",
    ) -> None:
        if gram not in ("pixels", "elements"):
            raise ValueError(f'gram is "pixels" or "elements", not {gram!r}')
        super().__init__(layers, criterion, normalize, input_range, resize, reduction, checkpoint, by_layer, precision)
        self.gram = gram

    def _described(self, features: Tensor) -> Tensor:
        flat = features.flatten(2)
        divisor = flat.shape[2] if self.gram == "pixels" else flat.shape[1] * flat.shape[2]
        # Divided before the product, since without that it would overflow in half precision.
        return flat @ (flat / divisor).mT

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return f"{super().extra_repr()}, gram={self.gram!r}"


def _check_criterion(criterion: Criterion, reduction: Reduction) -> None:
    if not callable(criterion) and criterion not in ("l1", "l2", "fro"):
        raise ValueError(f'criterion is "l1", "l2", "fro" or a callable of two tensors, not {criterion!r}')
    if criterion == "fro" and reduction != "mean":
        raise ValueError(
            f'criterion="fro" is one norm over the whole batch, and reduction={reduction!r} needs a value for each '
            'sample: use "l1", "l2" or a callable that gives one'
        )
