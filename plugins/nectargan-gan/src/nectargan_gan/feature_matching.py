"""Feature matching: the L1 distance between a discriminator's features of generated and of real samples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nectargan_gan.judgements import OverDiscriminators, check_reduction, over_discriminators

_PRECISE = (torch.float32, torch.float64)


class FeatureMatching(nn.Module):
    """L1 distance between features of generated and of real samples, layer by layer.

    The mean absolute difference of each map is summed over the maps of a discriminator; the sums are averaged over
    discriminators. Features of real samples are taken as constants. Each mean is computed in float32 at least. The
    module has no parameters and no buffers.

    Args:
        over_discriminators: How the losses of several discriminators become one: `"mean"` or `"sum"`.

    Raises:
        ValueError: If `over_discriminators` is none of these.

    Source:
        Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs" (pix2pixHD),
        arXiv:1711.11585, equation 4; averaged over discriminators as in the code of pix2pixHD and SPADE. HiFi-GAN,
        arXiv:2010.05646, equation 7, sums over them.

    Example:
        >>> import torch
        >>> fake = [torch.zeros(1, 4, 8, 8), torch.zeros(1, 8, 4, 4)]
        >>> real = [each + 0.5 for each in fake]
        >>> float(FeatureMatching()(fake, real)), float(FeatureMatching()([fake, fake], [real, fake]))
        (1.0, 0.5)
    """

    def __init__(self, *, over_discriminators: OverDiscriminators = "mean") -> None:
        super().__init__()
        check_reduction("FeatureMatching", over_discriminators)
        self.over_discriminators = over_discriminators

    def forward(
        self, features_fake: list[Tensor] | list[list[Tensor]], features_real: list[Tensor] | list[list[Tensor]]
    ) -> Tensor:
        """Compare two lists of features.

        Args:
            features_fake: Features of generated samples: a list of maps of any shapes, in floating point; or a list of
                such lists, one for each discriminator.
            features_real: Features of real samples, of the same shapes.

        Returns:
            A scalar, in float32, or float64 for features in float64.

        Raises:
            TypeError: If either is no list of maps, or list of such lists, or a map is not of a floating-point dtype.
            ValueError: If they differ in the number of discriminators or maps or in a shape, or a list is empty.
        """
        fake, real = _maps("features_fake", features_fake), _maps("features_real", features_real)
        if [len(maps) for maps in fake] != [len(maps) for maps in real]:
            raise ValueError(
                "FeatureMatching expects as many maps of each discriminator in features_fake as in features_real; "
                f"they are {[len(maps) for maps in fake]} and {[len(maps) for maps in real]}"
            )
        losses = []
        for discriminator, (fakes, reals) in enumerate(zip(fake, real, strict=True)):
            total: Tensor | None = None
            for layer, (one, two) in enumerate(zip(fakes, reals, strict=True)):
                if one.shape != two.shape:
                    raise ValueError(
                        f"FeatureMatching expects maps of one shape; map {layer} of discriminator {discriminator} is "
                        f"{tuple(one.shape)} in features_fake and {tuple(two.shape)} in features_real"
                    )
                distance = _distance(one, two.detach())
                total = distance if total is None else total + distance
            assert total is not None  # noqa: S101 # for type checkers: no list is empty
            losses.append(total)
        return over_discriminators(losses, self.over_discriminators)

    def extra_repr(self) -> str:
        """Show the argument where the module is printed."""
        return "" if self.over_discriminators == "mean" else f"over_discriminators={self.over_discriminators!r}"


def _distance(fake: Tensor, real: Tensor) -> Tensor:
    if fake.dtype not in _PRECISE or real.dtype not in _PRECISE:
        precise = torch.promote_types(torch.promote_types(fake.dtype, real.dtype), torch.float32)
        fake, real = fake.to(precise), real.to(precise)
    return (fake - real).abs().mean()


def _maps(name: str, features: object) -> list[list[Tensor]]:
    """Return the maps of each discriminator."""
    if not isinstance(features, (list, tuple)):
        raise _unexpected(name, features)
    if not features:
        raise ValueError(f"FeatureMatching expects at least one map; {name} is empty")
    if all(isinstance(each, Tensor) for each in features):
        features = [features]
    for place, maps in enumerate(features):
        if not isinstance(maps, (list, tuple)):
            raise _unexpected(f"{name}[{place}]", maps)
        if not maps:
            raise ValueError(
                f"FeatureMatching expects at least one map of each discriminator; {name}[{place}] is empty"
            )
        for layer, each in enumerate(maps):
            if not isinstance(each, Tensor):
                raise _unexpected(f"{name}[{place}][{layer}]", each)
            if not each.is_floating_point():
                raise TypeError(
                    f"FeatureMatching expects floating-point maps; map {layer} of discriminator {place} in {name} is "
                    f"{each.dtype}"
                )
    return [list(maps) for maps in features]


def _unexpected(where: str, value: object) -> TypeError:
    return TypeError(
        "FeatureMatching expects a list of maps, which are tensors, or a list of such lists, one for each "
        f"discriminator; {where} is of type {type(value).__name__}"
    )
