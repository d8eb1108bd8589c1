"""The PatchNCE loss: a patch of the generated image is to be like the patch of its source at the same position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_contrastive._checks import check_floating, checked_count, checked_temperature
from nectargan_contrastive._similarity import classified, precise, similarities
from nectargan_contrastive.patches import chosen, positions, rows_of

Negatives: TypeAlias = Literal["image", "batch"]


class PatchNCE(nn.Module):
    """Cross-entropy of finding, for each patch of the generated image, the patch of its source at the same position.

    Of a patch q with the features k⁺ at its position in the source and the features k at all positions, it is
    -log(exp(q·k⁺/τ) / Σ exp(q·k/τ)), averaged over patches and images, and then over layers. The features of the
    source are held constant. Half-precision features are computed in float32, under autocast too, and the result is
    float32.

    Which patches are compared is up to the training loop, as is the network that projects them, if there is one:
    `sample_patches` draws positions, the same in both images. Each patch is compared with each other, so that time and
    memory grow with the square of their number: some hundreds of a layer are usual.

    Args:
        temperature: τ, above 0.
        negatives: Which patches a patch is told from: `"image"` for those of the same image, `"batch"` for those of all
            images of the batch, as the authors have it for a single high-resolution image in crops.
        num_patches: How many of the patches that are given are drawn at each call, the same for both images, 1 at
            least: the loss is then random. None: all, and the loss is deterministic.
        normalize: Whether features are brought to the length 1 first. Those of the authors' projection have it already.

    Raises:
        TypeError: If `temperature` is no number, or `num_patches` no int.
        ValueError: If an argument is out of its range.

    Source:
        Park, Efros, Zhang and Zhu, "Contrastive Learning for Unpaired Image-to-Image Translation", ECCV 2020, equations
        2 and 3, with a temperature of 0.07. The paper sums over patches and layers; the authors' code averages.

    Example:
        >>> import torch
        >>> patches = torch.eye(4).expand(2, 4, 4)  # of 2 images, 4 patches with 4 features each
        >>> bool(PatchNCE()([patches], [patches]) < PatchNCE()([patches], [patches.flip(1)]))
        True
    """

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        negatives: Negatives = "image",
        num_patches: int | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = checked_temperature("PatchNCE", temperature)
        if negatives not in ("image", "batch"):
            raise ValueError(f'PatchNCE: negatives is "image" or "batch", got {negatives!r}')
        self.negatives = negatives
        self.num_patches = checked_count("PatchNCE", num_patches)
        self.normalize = normalize

    def forward(self, patches_fake: Tensor | Sequence[Tensor], patches_real: Tensor | Sequence[Tensor]) -> Tensor:
        """Compare the patches of two images layer by layer.

        Args:
            patches_fake: Features of the generated image: a list with patches (N, P, C) of each layer, or maps
                (N, C, H, W), of which each position is a patch; one tensor for one layer. Floating point, any range.
            patches_real: Those of its source, at the same positions and in the same shapes.

        Returns:
            The loss, in float32, or in float64 if a tensor is.

        Raises:
            TypeError: If a tensor is not of a floating-point dtype.
            ValueError: If there is no layer, the shapes differ or have other dimensions, or a patch has no negatives.
        """
        pairs = _layers(patches_fake, patches_real)
        losses = [self._layer(number, fake, real) for number, (fake, real) in enumerate(pairs)]
        return torch.stack(losses).mean() if len(losses) > 1 else losses[0]

    def _layer(self, number: int, fake: Tensor, real: Tensor) -> Tensor:
        check_floating("PatchNCE", **{f"patches_fake[{number}]": fake, f"patches_real[{number}]": real})
        if fake.shape != real.shape or fake.dim() not in (3, 4):
            hint = (
                "split its batch off: .unflatten(0, (N, P))" if fake.dim() == 2 else "give the same positions of both"
            )
            raise ValueError(
                f"PatchNCE expects patches (N, P, C) or maps (N, C, H, W), of one shape in a layer; in layer {number} "
                f"patches_fake is {tuple(fake.shape)} and patches_real is {tuple(real.shape)}: {hint}"
            )
        if fake.dim() == 4:
            fake, real = rows_of(fake), rows_of(real)
        drawn = positions(fake.shape[1], self.num_patches, fake.device)
        fake, real = precise(chosen(fake, drawn), chosen(real.detach(), drawn))
        if self.negatives == "batch":
            fake, real = fake.flatten(0, 1), real.flatten(0, 1)
        elif fake.shape[1] == 1:
            raise ValueError(
                f"PatchNCE tells a patch from others of its image, and layer {number} has one patch an image; give "
                'more patches, leave the layer out, or use negatives="batch"'
            )
        return classified(similarities(fake, real, self.temperature, self.normalize))

    def extra_repr(self) -> str:
        """Show the arguments where the module is printed."""
        return (
            f"temperature={self.temperature:g}, negatives={self.negatives!r}, num_patches={self.num_patches}, "
            f"normalize={self.normalize}"
        )


def _layers(
    patches_fake: Tensor | Sequence[Tensor], patches_real: Tensor | Sequence[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    """Return the pairs of a layer each; raise where the lists are no lists, or have not as many layers."""
    given = {"patches_fake": patches_fake, "patches_real": patches_real}
    for name, value in given.items():
        if not isinstance(value, (Tensor, list, tuple)):
            kind = type(value).__name__
            raise TypeError(f"PatchNCE expects {name} to be a list of tensors, one per layer; it is a {kind}")
    fake, real = ([value] if isinstance(value, Tensor) else value for value in given.values())
    if len(fake) != len(real) or not len(fake):
        raise ValueError(
            f"PatchNCE expects as many layers of both images, one at least; patches_fake has {len(fake)} and "
            f"patches_real has {len(real)}: give the same layers"
        )
    return list(zip(fake, real, strict=True))
