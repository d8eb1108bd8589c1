"""LPIPS and DISTS of one random backbone, forward and backward, beside the packages of their authors and piq."""

from __future__ import annotations

import contextlib
import io
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from beside import OF_NETWORKS, Pair, images, library, rows_of
from nectargan_lpips import DISTS, LPIPS
from nectargan_lpips.backbones import ALEXNET, SQUEEZENET, VGG16, Backbone
from nectargan_vgg.weights import RandomWeights
from table import Row
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]


class _Fire(nn.Module):
    """SqueezeNet's module under the names of its keys."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        features = torch.relu_(self.squeeze(features))
        return torch.cat([torch.relu_(self.expand1x1(features)), torch.relu_(self.expand3x3(features))], 1)


def _network(backbone: Backbone, *features: nn.Module) -> Callable[..., types.SimpleNamespace]:
    """Make what torchvision calls a model, with our random weights."""

    def model(pretrained: bool = True, progress: bool = True) -> types.SimpleNamespace:
        network = nn.ModuleDict({"features": nn.Sequential(*features)})
        network.load_state_dict(RandomWeights(backbone.checkpoint).load(dict(backbone.checkpoint.parameters)))
        return types.SimpleNamespace(features=network["features"])

    return model


def _alexnet() -> list[nn.Module]:
    return [
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True)),
    ]


def _vgg16() -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 3
    for count, outputs in ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)):
        layers += [nn.MaxPool2d(2)] if layers else []
        for _ in range(count):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            inputs = outputs
    return layers


def _squeezenet() -> list[nn.Module]:
    return [
        *(nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(_Fire(64, 16, 64), _Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(_Fire(128, 32, 128), _Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True)),
        *(_Fire(256, 48, 192), _Fire(384, 48, 192), _Fire(384, 64, 256), _Fire(512, 64, 256)),
    ]


@contextlib.contextmanager
def stub() -> Iterator[None]:
    """Put a module with random networks in the place of torchvision, which the packages import."""
    models = types.ModuleType("torchvision.models")
    networks = {
        "alexnet": _network(ALEXNET, *_alexnet()),
        "vgg16": _network(VGG16, *_vgg16()),
        # piq imports one name, and derives classes from the others.
        "vgg19": None,
        "inception": types.SimpleNamespace(**{f"Inception{letter}": nn.Module for letter in "ABCDE"}),
        "squeezenet1_1": _network(SQUEEZENET, *_squeezenet()),
    }
    vars(models).update(networks)
    torchvision, transforms = types.ModuleType("torchvision"), types.ModuleType("torchvision.transforms")
    vars(torchvision).update(models=models, transforms=transforms)
    before = dict(sys.modules)
    sys.modules.update({"torchvision": torchvision, "torchvision.models": models, "torchvision.transforms": transforms})
    try:
        yield
    finally:
        for name in ("torchvision", "torchvision.models", "torchvision.transforms"):
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]


def piq() -> Any:
    """Import piq; None where it is not installed."""
    with stub():
        return library("piq")


def _of_lpips(package: Any, variant: str) -> Callable[[Tensor, Tensor], Tensor]:
    with stub(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return _Mean(package.LPIPS(net=variant, verbose=False))


class _Mean(nn.Module):
    """The mean over the samples of a module, from the range of images that it expects."""

    def __init__(self, module: nn.Module, unit: bool = False, **arguments: Any) -> None:
        super().__init__()
        self.module, self.unit, self.arguments = module, unit, arguments

    def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
        if self.unit:
            y_fake, y = (y_fake + 1) / 2, (y + 1) / 2
        result: Tensor = self.module(y_fake, y, **self.arguments).mean()
        return result


def _of_piq(package: Any, kind: str, weights: Any) -> nn.Module:
    """Make a loss of piq, which fetches weights when it is made."""
    loaded = torch.hub.load_state_dict_from_url
    torch.hub.load_state_dict_from_url = lambda *_, **__: weights
    try:
        with stub():
            return _Mean(getattr(package, kind)(), unit=True)
    finally:
        torch.hub.load_state_dict_from_url = loaded


def pairs() -> list[Pair]:
    """Return each variant beside the packages; the heads of LPIPS are those in the package `lpips`.

    DISTS of piq normalises the image before it compares it, and so its values differ.
    """
    with stub(), contextlib.redirect_stdout(io.StringIO()):
        lpips, authors = (library(name) for name in ("lpips", "DISTS_pytorch"))
    quality = piq()
    heads = "equal" if lpips is None else None
    found = [
        Pair(
            f"lpips:{variant}",
            "lpips",
            None if lpips is None else _of_lpips(lpips, variant),
            LPIPS(variant, backbone="random", heads=heads),  # type: ignore[arg-type]  # they are such literals
            images(),
            OF_NETWORKS,
        )
        for variant in ("vgg", "alex", "squeeze")
    ]
    channels = (64, 128, 256, 512, 512)
    ones = [torch.ones(1, count, 1, 1) for count in channels]
    of_dists = {key: torch.ones(1, 3 + sum(channels), 1, 1) for key in ("alpha", "beta")}
    equal = LPIPS("vgg", backbone="random", heads="equal")
    dists = DISTS(backbone="random", weights="equal")
    if authors is not None:
        with stub():
            theirs = authors.DISTS(load_weights=False)
        for parameter in (theirs.alpha, theirs.beta):
            parameter.data.fill_(1.0)
    return [
        *found,
        Pair(
            "lpips:vgg",
            "piq",
            None if quality is None else _of_piq(quality, "LPIPS", ones),
            equal,
            images(),
            OF_NETWORKS,
        ),
        Pair(
            "dists",
            "DISTS-pytorch",
            None if authors is None else _Mean(theirs, unit=True, require_grad=True),
            dists,
            images(),
            OF_NETWORKS,
        ),
        Pair(
            "dists",
            "piq",
            None if quality is None else _of_piq(quality, "DISTS", of_dists),
            dists,
            images(),
            OF_NETWORKS,
        ),
    ]


def rows() -> Iterator[Row]:
    """Yield a row for each loss."""
    return rows_of(pairs())
