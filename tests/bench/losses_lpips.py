"""What LPIPS and DISTS cost forward and backward, beside the packages of their authors, of one backbone."""

from __future__ import annotations

import contextlib
import importlib
import io
import itertools
import sys
import types
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from interleaved import medians
from nectargan_lpips import DISTS, LPIPS
from nectargan_lpips.backbones import ALEXNET, SQUEEZENET, VGG16, Backbone
from nectargan_vgg.weights import RandomWeights
from torch import Tensor, nn

LossFunction = Callable[[Tensor, Tensor], Tensor]

SHAPES = ((1, 3, 256, 256), (8, 3, 256, 256))
ROUNDS = {1: 9, 8: 3}


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

    def model(pretrained: bool = True) -> types.SimpleNamespace:
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


def _theirs() -> tuple[dict[str, LossFunction], list[str]]:
    """Return the losses of the authors' packages by our names, and a note of each package that is not there."""
    losses: dict[str, LossFunction] = {}
    notes = []
    with stub(), warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            package: Any = importlib.import_module("lpips")
            for variant in ("vgg", "alex", "squeeze"):
                module = package.LPIPS(net=variant, verbose=False)
                losses[f"lpips:{variant}"] = lambda y_fake, y, module=module: module(y_fake, y).mean()
        except ImportError as error:
            notes.append(f"lpips is left out ({error}); pip install --no-deps lpips, and tqdm")
        try:
            package = importlib.import_module("DISTS_pytorch")
            dists = package.DISTS(load_weights=False)
            dists.alpha.data.fill_(1.0)
            dists.beta.data.fill_(1.0)
            losses["dists"] = lambda y_fake, y: dists((y_fake + 1) / 2, (y + 1) / 2, require_grad=True).mean()
        except ImportError as error:
            notes.append(f"DISTS-pytorch is left out ({error}); pip install --no-deps DISTS-pytorch")
    return losses, notes


def _ours(theirs: Mapping[str, LossFunction]) -> dict[str, LossFunction]:
    """Return our losses; the heads of LPIPS are those in the package `lpips`."""
    variants = ("vgg", "alex", "squeeze")
    losses: dict[str, LossFunction] = {
        f"lpips:{variant}": LPIPS(variant, backbone="random") for variant in variants if f"lpips:{variant}" in theirs
    }
    return losses | {"dists": DISTS(backbone="random", weights="equal")}


def _step(loss: LossFunction, shape: tuple[int, ...]) -> Callable[[], None]:
    y_fake, y = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).unbind()
    y_fake = y_fake.clone().requires_grad_()

    def step() -> None:
        y_fake.grad = None
        loss(y_fake, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def _difference(ours: LossFunction, theirs: LossFunction) -> float:
    y_fake, y = torch.rand(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).unbind()
    with torch.no_grad():
        return abs(ours(y_fake, y) - theirs(y_fake, y)).item() / theirs(y_fake, y).item()


def compare(ours: Mapping[str, LossFunction], theirs: Mapping[str, LossFunction]) -> None:
    """Print a line for each loss and shape."""
    print(f"{'loss':<15}{'shape':<14}{'theirs ms':>11}{'ours ms':>10}{'ours/theirs':>13}{'difference':>12}")
    for name, shape in itertools.product(theirs, SHAPES):
        steps = {"theirs": _step(theirs[name], shape), "ours": _step(ours[name], shape)}
        slow, fast = medians(steps, calls=1, rounds=ROUNDS[shape[0]]).values()
        size = "x".join(map(str, shape))
        print(
            f"{name:<15}{size:<14}{slow * 1e3:>11.0f}{fast * 1e3:>10.0f}{fast / slow:>13.2f}"
            f"{_difference(ours[name], theirs[name]):>12.0e}"
        )


def main() -> None:
    """Print a table of medians and ratios."""
    print("LPIPS and DISTS, forward + backward, beside lpips and DISTS-pytorch (aim: no slower)")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        theirs, notes = _theirs()
        if theirs:
            compare(_ours(theirs), theirs)
        print(*notes, sep="\n", end="\n" if notes else "")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
