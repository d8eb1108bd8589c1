"""The boundary loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from nectargan_segmentation.arguments import several, yes_or_no
from nectargan_segmentation.distances import distances_of, spacing_of
from nectargan_segmentation.labels import check_logits, check_numbers
from nectargan_segmentation.supervision import (
    SegmentationLoss,
    check_background,
    factors_of,
    precise,
    probabilities,
    weighted_sum,
)


class Boundary(SegmentationLoss):
    """Mean of p·d over classes and pixels, with p a probability and d the signed distance to the boundary of the class.

    It may be below 0, and by itself does not lead to a segmentation: add it to another loss, such as the Dice loss,
    with a weight that grows. Half-precision logits are computed in float32.

    The distances are those of `signed_distances`. By default they are computed of the labels in each call, on the CPU,
    which takes longer than all else and waits for another device. To compute them with the data, as the authors do,
    have them given: `Boundary(given="distances")`.

    Args:
        given: Whether the second input is the class numbers, `"labels"`, or their distances, `"distances"`.
        include_background: Whether class 0 counts.
        sigmoid: Whether each probability is the sigmoid of its own channel, and not the softmax of all. With one
            channel, which is that of class 1 of two, it always is.
        spacing: The size of a pixel in each dimension of the image, for distances of labels; None for 1.
        ignore_index: The class number of pixels that do not count, of no class; None if all do. For labels.
        scales: A weight for each output of deep supervision; None for 1, 1/2, 1/4, 1/8, and 1/16 for all others. The
            distances of each output are in its own pixels.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If an argument is out of its range, or does not go with distances.

    Source:
        Kervadec, Bouchtiba, Desrosiers, Granger, Dolz and Ben Ayed, "Boundary loss for highly unbalanced segmentation",
        MIDL 2019, equation 5, and `SurfaceLoss` of the authors' code, github.com/LIVIAETS/boundary-loss, losses.py
        lines 98-115. `BoundaryLoss` of MONAI 1.6 has the same numbers.

    Example:
        >>> import torch
        >>> labels = torch.tensor([[[0, 1, 1, 0, 0]]])
        >>> Boundary()(torch.zeros(1, 1, 1, 5), labels)
        tensor(0.4000)
    """

    def __init__(
        self,
        *,
        given: Literal["labels", "distances"] = "labels",
        include_background: bool = True,
        sigmoid: bool = False,
        spacing: Sequence[float] | None = None,
        ignore_index: int | None = None,
        scales: Sequence[float] | None = None,
    ) -> None:
        super().__init__(ignore_index=ignore_index, scales=scales)
        if given not in ("labels", "distances"):
            raise ValueError(f'Boundary: given is "labels" or "distances", not {given!r}')
        if given == "distances" and (spacing is not None or ignore_index is not None):
            raise ValueError(
                "Boundary: spacing and ignore_index are for labels; distances have the spacing that they were computed "
                "with, and a distance of 0 does not count"
            )
        yes_or_no("Boundary", include_background=include_background, sigmoid=sigmoid)
        self.given = given
        self.include_background = include_background
        self.sigmoid = sigmoid
        self.spacing = None if spacing is None else several("Boundary", "spacing", spacing, "dimension of the image")

    def forward(self, logits: Tensor | Sequence[Tensor], labels: Tensor | Sequence[Tensor]) -> Tensor:
        """Compare logits with labels, or weight their probabilities with distances.

        Args:
            logits: Scores of the classes without bounds, (N, K, ...) such as (N, K, H, W), floating point. With one
                channel they are those of class 1 of two. Or a list of them from fine to coarse.
            labels: Class numbers from 0 to K - 1, (N, ...) or (N, 1, ...), of an integer dtype or bool. Or the
                distances, if `given` is so: of the shape of the logits, floating point; a list for a list.

        Returns:
            A scalar, in float32, or float64 for logits in float64.

        Raises:
            TypeError: If the logits or distances are not of a floating-point dtype, or the labels not of an integer
                one.
            ValueError: If the shapes do not fit, `scales` are of another number, or labels on the CPU are no class
                numbers.
        """
        if self.given == "labels":
            return super().forward(logits, labels)  # type: ignore[arg-type] # a list of labels is refused there
        if not isinstance(logits, (list, tuple)):
            return self._of_distances(*_checked(logits, labels))
        maps = list(labels) if isinstance(labels, (list, tuple)) else [labels]
        if len(maps) != len(logits):
            raise ValueError(f"Boundary expects distances for each of {len(logits)} outputs, and is given {len(maps)}")
        factors = factors_of("Boundary", self.scales, len(logits))
        losses = [self._of_distances(*_checked(output, map_)) for output, map_ in zip(logits, maps, strict=True)]
        return weighted_sum(losses, factors)

    def of_output(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one output."""
        if logits.dim() < 3:
            raise ValueError(
                f"Boundary expects logits of pixels, (N, K, ...) such as (N, K, H, W); they are {tuple(logits.shape)}"
            )
        # A number that is no class would be one that occurs nowhere.
        check_numbers("Boundary", labels, logits.shape[1], self.ignore_index)
        spacing = spacing_of("Boundary", self.spacing, logits.dim() - 2)
        distances = distances_of(labels, logits.shape[1], spacing)
        if self.ignore_index is None:
            return self._of_distances(logits, distances)
        counts = (labels != self.ignore_index).unsqueeze(1).to(distances.dtype)
        shown = counts.sum().clamp_min(1)
        return self._of_distances(logits, distances * counts) * (counts.numel() / shown)

    def _of_distances(self, logits: Tensor, distances: Tensor) -> Tensor:
        check_background("Boundary", logits.shape[1], self.include_background)
        weighted = probabilities(logits, self.sigmoid) * distances.to(logits.dtype)
        return (weighted if self.include_background else weighted[:, 1:]).mean()


def _checked(logits: object, distances: object) -> tuple[Tensor, Tensor]:
    """Return logits in float32 at least, and the distances, which have to fit them."""
    logits = check_logits("Boundary", logits)
    if not isinstance(distances, Tensor) or not distances.is_floating_point():
        given = distances.dtype if isinstance(distances, Tensor) else type(distances).__name__
        raise TypeError(
            f"Boundary expects distances in floating point, and is given {given}; compute them of class numbers with "
            "signed_distances(labels, classes)"
        )
    if distances.shape != logits.shape:
        raise ValueError(
            f"Boundary expects distances of the shape of the logits, {tuple(logits.shape)}; they are "
            f"{tuple(distances.shape)}"
        )
    if distances.device != logits.device:
        raise ValueError(
            f"Boundary expects logits and distances on one device; they are on {logits.device} and {distances.device}: "
            "move them with .to(device)"
        )
    return precise(logits), distances
