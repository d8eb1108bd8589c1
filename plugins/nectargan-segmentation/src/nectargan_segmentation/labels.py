"""What labels are: class numbers that fit logits, resized to an output of a network, and as maps of ones and zeros."""

from __future__ import annotations

from typing import NoReturn

import torch
import torch.nn.functional as F  # noqa: N812 -- the name that torch itself documents
from torch import Tensor

EVERY_NUMBER_COUNTS = torch.iinfo(torch.int64).min
"""What no label is, for the `ignore_index` of torch, which is -100 where none is given."""


def class_numbers(owner: str, logits: object, labels: object) -> tuple[Tensor, Tensor]:
    """Check that logits and labels fit, but for the sizes of images.

    Args:
        owner: The loss, for the message.
        logits: (N, K) or (N, K, ...), floating point.
        labels: (N, ...) or (N, 1, ...), of an integer dtype or bool.

    Returns:
        The logits as they are, and the labels (N, ...) in int64.

    Raises:
        TypeError: If one is no tensor, or has another dtype.
        ValueError: If the shapes do not fit, or they are on different devices.

    Example:
        >>> _, labels = class_numbers("Dice", torch.zeros(2, 3, 8, 8), torch.zeros(2, 1, 8, 8, dtype=torch.uint8))
        >>> labels.shape, labels.dtype
        (torch.Size([2, 8, 8]), torch.int64)
    """
    logits = check_logits(owner, logits)
    if not isinstance(labels, Tensor):
        raise TypeError(f"{owner} expects labels that are a tensor of class numbers, got {type(labels).__name__}")
    if labels.is_floating_point() or labels.is_complex():
        raise TypeError(
            f"{owner} expects labels that are class numbers, of an integer dtype; they are {labels.dtype}: convert "
            "with .long(), or, if there is a map for each class, with .argmax(1)"
        )
    if labels.dim() == logits.dim() and labels.shape[1] == 1:
        labels = labels.squeeze(1)
    if labels.dim() != logits.dim() - 1 or labels.shape[0] != logits.shape[0]:
        _refuse_shapes(owner, logits, labels)
    if labels.device != logits.device:
        raise ValueError(
            f"{owner} expects logits and labels on one device; they are on {logits.device} and {labels.device}: move "
            "them with .to(device)"
        )
    return logits, labels.long()


def check_logits(owner: str, logits: object) -> Tensor:
    """Return logits.

    Raises:
        TypeError: If they are no tensor, or not floating point.
        ValueError: If they have fewer than two dimensions.

    Example:
        >>> check_logits("Dice", torch.zeros(1, 2)).shape
        torch.Size([1, 2])
    """
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"{owner} expects logits that are a tensor (N, K, ...), or a list of them from fine to coarse; got "
            f"{type(logits).__name__}"
        )
    if not logits.is_floating_point():
        raise TypeError(f"{owner} expects floating-point logits; they are {logits.dtype}: convert with .float()")
    if logits.dim() < 2:
        raise ValueError(f"{owner} expects logits (N, K) or (N, K, ...); they are {tuple(logits.shape)}")
    return logits


def check_numbers(owner: str, labels: Tensor, classes: int, ignore_index: int | None) -> None:
    """Check that labels on the CPU are numbers of classes; of those on another device a look would wait for it.

    Args:
        owner: The loss, for the message.
        labels: Class numbers in int64.
        classes: The number of channels of the logits; 1 stands for two classes.
        ignore_index: The number that is not looked at.

    Raises:
        ValueError: If a number is below 0, or above the last class.

    Example:
        >>> check_numbers("Dice", torch.tensor([0, 1, 255]), 2, ignore_index=255)
    """
    if torch.compiler.is_compiling() or not labels.is_cpu or not labels.numel():
        return
    if ignore_index is not None:
        labels = labels.masked_fill(labels == ignore_index, 0)
    try:
        least, greatest = (int(each) for each in torch.aminmax(labels))
    except RuntimeError:  # Inside of torch.func there are no values.
        return
    last = max(classes - 1, 1)
    if least < 0 or greatest > last:
        ignored = "ignore_index= says which number does not count"
        if ignore_index is not None:
            ignored = f"{ignore_index} does not count"
        raise ValueError(
            f"{owner} expects labels from 0 to {last}, for logits of {classes} channel{'s' * (classes != 1)}; they are "
            f"from {least} to {greatest} ({ignored})"
        )


def resized(labels: Tensor, size: torch.Size) -> Tensor:
    """Return labels (N, ...) in the size of an output, from their nearest neighbours.

    Example:
        >>> resized(torch.arange(4).reshape(1, 4), torch.Size([2]))
        tensor([[1, 3]])
    """
    if labels.shape[1:] == size:
        return labels
    # In float32, which has all numbers of classes exactly: torch interpolates no integers.
    return F.interpolate(labels.unsqueeze(1).float(), list(size), mode="nearest-exact").squeeze(1).long()


def one_hot(labels: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """Return a map for each class that is 1 where the labels have its number: (N, classes, ...).

    Args:
        labels: Class numbers (N, ...) in int64, from 0 to classes - 1.
        classes: The number of maps; with 1 it is that of class 1.
        dtype: The dtype of the maps.

    Example:
        >>> one_hot(torch.tensor([0, 2]), 3, torch.float32).tolist()
        [[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    """
    labels = labels.unsqueeze(1)
    if classes == 1:
        return labels.to(dtype)
    shape = (labels.shape[0], classes, *labels.shape[2:])
    return torch.zeros(shape, dtype=dtype, device=labels.device).scatter_(1, labels, 1.0)


def _refuse_shapes(owner: str, logits: Tensor, labels: Tensor) -> NoReturn:
    advice = "give one class number for each sample, or for each pixel"
    if labels.shape == logits.shape:
        advice = "if there is a map for each class, give labels.argmax(1)"
    elif labels.dim() == logits.dim() - 2 or (labels.dim() == logits.dim() - 1 and labels.shape[:1] == (1,)):
        advice = "give them a batch dimension, of the size of that of the logits"
    raise ValueError(
        f"{owner} expects labels (N, ...) or (N, 1, ...) for logits (N, K, ...); the labels are {tuple(labels.shape)} "
        f"and the logits {tuple(logits.shape)}: {advice}"
    )
