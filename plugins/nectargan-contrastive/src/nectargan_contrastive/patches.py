"""Patches of feature maps: the features at positions that are drawn by chance, the same for several images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nectargan_contrastive._checks import check_floating, checked_count


def sample_patches(*maps: Sequence[Tensor], num_patches: int | None = 256) -> tuple[list[Tensor], ...]:
    """Draw positions of each layer by chance, and return the features there.

    The positions of a layer are the same for all images of the batch and for all lists that are given, and no position
    is drawn twice. They come from torch's random numbers of the device that the maps are on.

    Args:
        *maps: Lists of feature maps (N, C, H, W), a map per layer, such as those of the generated image and those of
            its source. The maps of a layer have the same height and width in each list.
        num_patches: How many positions are drawn per layer, 1 at least; all where a map has no more. None: all, in
            their order.

    Returns:
        For each list a list of patches (N, P, C), layer by layer.

    Raises:
        TypeError: If what is given is no list, a map is not of a floating-point dtype, or `num_patches` no int.
        ValueError: If a map is not (N, C, H, W), the sizes differ, or `num_patches` is less than 1.

    Source:
        Park, Efros, Zhang and Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, and
        the authors' `PatchSampleF`, which draws 256 positions.

    Example:
        >>> import torch
        >>> of_fake, of_source = [torch.rand(2, 8, 32, 32)], [torch.rand(2, 8, 32, 32)]
        >>> patches_fake, patches_real = sample_patches(of_fake, of_source, num_patches=64)
        >>> patches_fake[0].shape
        torch.Size([2, 64, 8])
    """
    count = checked_count("sample_patches", num_patches)
    for each in maps:
        if not isinstance(each, (list, tuple)):
            kind = type(each).__name__
            raise TypeError(f"sample_patches expects lists of maps, one per layer, got a {kind}: put it into a list")
    layers = {len(each) for each in maps}
    if len(layers) > 1:
        numbers = ", ".join(str(len(each)) for each in maps)
        raise ValueError(f"sample_patches expects lists of as many layers; they have {numbers}: give the same layers")
    for each in maps:
        for layer, tensor in enumerate(each):
            check_floating("sample_patches", **{f"layer {layer}": tensor})
            first = maps[0][layer]
            if tensor.dim() != 4 or tensor.shape[2:] != first.shape[2:]:
                raise ValueError(
                    "sample_patches expects maps (N, C, H, W), of one height and width in a layer; layer "
                    f"{layer} has {tuple(first.shape)} and {tuple(tensor.shape)}: give features of images of one size"
                )
    result: tuple[list[Tensor], ...] = tuple([] for _ in maps)
    for tensors in zip(*maps, strict=True):
        drawn = positions(tensors[0].shape[2] * tensors[0].shape[3], count, tensors[0].device)
        for patches, tensor in zip(result, tensors, strict=True):
            patches.append(chosen(rows_of(tensor), drawn))
    return result


def positions(available: int, count: int | None, device: torch.device) -> Tensor | None:
    """Return so many of the positions, drawn by chance; None for all."""
    if count is None or count >= available:
        return None
    return torch.randperm(available, device=device)[:count]


def chosen(patches: Tensor, drawn: Tensor | None) -> Tensor:
    """Return the patches (N, P, C) at the positions drawn."""
    return patches if drawn is None else patches.index_select(1, drawn)


def rows_of(tensor: Tensor) -> Tensor:
    """Return a map (N, C, H, W) as patches (N, H·W, C), row by row."""
    return tensor.flatten(2).transpose(1, 2)
