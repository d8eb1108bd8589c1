"""What LPIPS and DISTS learned from human judgements: published, in the authors' packages, or in a local file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from nectargan_vgg.checkpoint import Checkpoint, parse_checkpoint
from nectargan_vgg.files import read_regular
from nectargan_vgg.published import PublishedWeights
from nectargan_vgg.weights import WeightSource, weight_source
from torch import Tensor

from nectargan_lpips.backbones import ALEXNET, SQUEEZENET, VGG16, Backbone

_LPIPS_COMMIT = "082bb24f84c091ea94de2867d34c4544f68e0963"
_DISTS_COMMIT = "1267d8cb626c98706db3697422701c56a85ebf2e"


@dataclass(frozen=True)
class LearnedWeights:
    """Published weights, which a distribution of the authors has in a file, too.

    Args:
        checkpoint: The published weights.
        package: The distribution.
        path: The file, from the folder that packages are installed to.
    """

    checkpoint: Checkpoint
    package: str
    path: str

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Read the tensors under these keys from the installed distribution, else from the published file.

        The distribution is not imported. Its file has to be the published one, to the bit.

        Raises:
            WeightsError: If there is neither.
        """
        data, note = self._installed()
        if data is not None:
            return parse_checkpoint(self.checkpoint, data, Path(self.path), shapes)
        checkpoint = replace(self.checkpoint, advice=f"{self.checkpoint.advice} ({note})")
        return PublishedWeights(checkpoint).load(shapes)

    def files(self) -> dict[str, str]:
        """Return the name and the SHA-256 of the published file, which that of the distribution is, too."""
        return PublishedWeights(self.checkpoint).files()

    def _installed(self) -> tuple[bytes | None, str]:
        """Return the content of the file, or say why it is not used."""
        try:
            distribution = importlib.metadata.distribution(self.package)
        except importlib.metadata.PackageNotFoundError:
            return None, f"{self.package} is not installed"
        path = Path(str(distribution.locate_file(self.path)))
        try:
            data = read_regular(path, follow=True)
        except OSError as error:
            return None, f"cannot read {path} of {self.package} {distribution.version} ({error.strerror})"
        if hashlib.sha256(data).hexdigest() != self.checkpoint.sha256:
            return None, f"{path} of {self.package} {distribution.version} is not the published file"
        return data, ""


@dataclass(frozen=True)
class EqualWeights:
    """The weight 1 for everything, which is nothing learned."""

    checkpoint: Checkpoint

    def load(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
        """Return tensors of ones under these keys."""
        return {key: torch.ones(shape) for key, shape in shapes.items()}

    def files(self) -> dict[str, str]:
        """Return no file."""
        return {}


def learned_source(published: LearnedWeights, given: str | os.PathLike[str] | None) -> WeightSource:
    """Return the source of the weights that an option names.

    Args:
        published: The published weights.
        given: A local file, `"equal"`, or None for the published weights.

    Raises:
        WeightsError: If there is no such local file.
    """
    if given == "equal":
        return EqualWeights(published.checkpoint)
    # No file of this option is drawn by chance: LPIPS and DISTS ask for weights that are not negative.
    return published if given is None else weight_source(published.checkpoint, Path(given))


def _heads(variant: str, network: Backbone, sha256: str) -> LearnedWeights:
    path = f"lpips/weights/v0.1/{variant}.pth"
    checkpoint = Checkpoint(
        network=f"LPIPS, its heads for {network.checkpoint.network}",
        parameters=tuple(
            (f"lin{number}.model.1.weight", (1, channels, 1, 1)) for number, channels in enumerate(network.channels())
        ),
        url=f"https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/{_LPIPS_COMMIT}/{path}",
        sha256=sha256,
        file=f"lpips-v0.1-{variant}-{sha256[:8]}.pth",
        copied=False,
        spec="lpips",
        option="heads",
        advice="install the package that has them: pip install --no-deps lpips",
        distribution="nectargan-lpips",
    )
    return LearnedWeights(checkpoint, "lpips", path)


HEADS = {
    "vgg": _heads("vgg", VGG16, "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"),
    "alex": _heads("alex", ALEXNET, "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"),
    "squeeze": _heads("squeeze", SQUEEZENET, "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76"),
}
"""The heads of LPIPS 0.1: a weight for each channel of each stage, not negative."""

CHANNELS = [3, *VGG16.channels()]

ALPHA_AND_BETA = LearnedWeights(
    Checkpoint(
        network="DISTS, its alpha and beta",
        parameters=(("alpha", (1, sum(CHANNELS), 1, 1)), ("beta", (1, sum(CHANNELS), 1, 1))),
        url=f"https://raw.githubusercontent.com/dingkeyan93/DISTS/{_DISTS_COMMIT}/DISTS_pytorch/weights.pt",
        sha256="f5e65c96230b7f6ca995691647d482237e4cab8a50c5c4a5784f219ef0748218",
        file="dists-f5e65c96.pt",
        copied=False,
        spec="dists",
        option="weights",
        advice="install the package that has them: pip install --no-deps DISTS-pytorch",
        distribution="nectargan-lpips",
    ),
    "DISTS-pytorch",
    "DISTS_pytorch/weights.pt",
)
"""The weights of DISTS: of the texture and of the structure of each channel of the image and of each stage."""
