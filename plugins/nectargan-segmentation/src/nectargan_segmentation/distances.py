"""Signed distances to the boundary of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nectargan_segmentation.arguments import several

_NAME = "nectargan_segmentation::signed_distances"


def signed_distances(labels: Tensor, classes: int, *, spacing: Sequence[float] | None = None) -> Tensor:
    """Compute the distance of each pixel to the boundary of each class: below 0 inside, above 0 outside.

    Outside it is the Euclidean distance to the nearest pixel of the class, inside 1 minus that to the nearest pixel of
    another one. Where a class does not occur, or nothing else does, it is 0. It is computed on the CPU by scipy; labels
    on another device are copied, which waits for it.

    Args:
        labels: Class numbers, (N, H, W) or (N, 1, H, W), (N, D, H, W) or (N, 1, D, H, W), of an integer dtype or bool.
            Of four dimensions of which the second is 1, they are those of images.
        classes: The number of channels of the logits; with 1 the distances are those of class 1.
        spacing: The size of a pixel in each dimension of the image; None for 1.

    Returns:
        (N, classes, ...), in float32, on the device of the labels.

    Raises:
        TypeError: If the labels are not of an integer dtype.
        ValueError: If `classes` or `spacing` does not fit.

    Source:
        Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019, section 2, and `one_hot2dist` of
        the authors' code, github.com/LIVIAETS/boundary-loss, utils.py lines 294-310.

    Example:
        >>> signed_distances(torch.tensor([[[0, 1, 1, 0, 0]]]), 2)[0, 1]
        tensor([[1., 0., 0., 1., 2.]])
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        given = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"signed_distances expects labels that are class numbers, of an integer dtype; got {given}")
    if isinstance(classes, bool) or not isinstance(classes, int) or classes < 1:
        raise ValueError(f"signed_distances: classes is a number of channels, at least 1; got {classes!r}")
    if labels.dim() >= 4 and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    dimensions = labels.dim() - 1
    if dimensions < 1:
        raise ValueError(
            f"signed_distances expects labels of pixels, (N, ...) such as (N, H, W); they are {tuple(labels.shape)}"
        )
    return distances_of(labels, classes, spacing_of("signed_distances", spacing, dimensions))


def spacing_of(owner: str, spacing: Sequence[float] | None, dimensions: int) -> list[float]:
    """Return the size of a pixel in each dimension of an image.

    Raises:
        TypeError: If it is no sequence of numbers.
        ValueError: If a number is not above 0, or there is not one for each dimension.

    Example:
        >>> spacing_of("Boundary", None, 2)
        [1.0, 1.0]
    """
    if spacing is None:
        return [1.0] * dimensions
    sizes = several(owner, "spacing", spacing, "dimension of the image")
    if not all(sizes) or len(sizes) != dimensions:
        raise ValueError(f"{owner}: spacing is {dimensions} numbers above 0, for images such as these; got {spacing!r}")
    return list(sizes)


def distances_of(labels: Tensor, classes: int, spacing: list[float]) -> Tensor:
    """Compute signed distances of labels (N, ...) in an operator that torch.compile leaves as it is.

    Example:
        >>> distances_of(torch.tensor([[0, 1, 0]]), 1, [1.0])
        tensor([[[1., 0., 1.]]])
    """
    result: Tensor = torch.ops.nectargan_segmentation.signed_distances(labels, classes, spacing)
    return result


def _compute(labels: Tensor, classes: int, spacing: list[float]) -> Tensor:
    # Only this loss needs it, and it takes as long to import as all else here.
    from scipy.ndimage import distance_transform_edt  # type: ignore[import-untyped] # scipy has no types

    numbers = labels.cpu().numpy()
    shape = (len(numbers), classes, *numbers.shape[1:])
    distances = np.zeros(shape, dtype=np.float32)
    for sample, of_sample in zip(numbers, distances, strict=True):
        for number, map_ in enumerate(of_sample):
            inside = sample == (number if classes > 1 else 1)
            if not inside.any() or inside.all():
                continue
            map_[:] = distance_transform_edt(~inside, sampling=spacing)
            map_[inside] = 1 - distance_transform_edt(inside, sampling=spacing)[inside]
    return torch.from_numpy(distances).to(labels.device)


def _empty(labels: Tensor, classes: int, spacing: list[float]) -> Tensor:
    return labels.new_empty((labels.shape[0], classes, *labels.shape[1:]), dtype=torch.float32)


torch.library.define(_NAME, "(Tensor labels, int classes, float[] spacing) -> Tensor")
torch.library.impl(_NAME, "default", _compute)
torch.library.register_fake(_NAME, _empty)
