"""What the perceptual loss costs in time and memory beside the naive way: two passes, a graph on both sides."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from interleaved import medians
from nectargan_vgg import VGGPerceptual
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]

SHAPES = ((1, 3, 256, 256), (4, 3, 256, 256))
CONVOLUTIONS = ((0, 2), (5, 7), (10, 12, 14))
ROUNDS = 7


def naive(ours: VGGPerceptual) -> LossFunction:
    """Make the loss as it is usually written, of the same weights: the target has a graph like the output."""
    network = ours._network
    parameters = dict(network.state_dict())
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]

    def features(image: Tensor) -> list[Tensor]:
        found: list[Tensor] = []
        image = ((image + 1) / 2 - mean) / std
        for block in CONVOLUTIONS:
            if found:
                image = F.max_pool2d(image, 2)
            for position in block:
                weight, bias = (parameters[f"features.{position}.{part}"] for part in ("weight", "bias"))
                image = F.relu(F.conv2d(image, weight, bias, padding=1))
            found.append(image)
        return found

    def loss(y_fake: Tensor, y: Tensor) -> Tensor:
        y = y.clone().requires_grad_()
        pairs = zip(features(y_fake), features(y), strict=True)
        return torch.stack([F.l1_loss(fake, real) for fake, real in pairs]).sum()

    return loss


def inputs(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Make an output and a target between -1 and 1."""
    y_fake, y = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).mul(2).sub(1).unbind()
    return y_fake.clone().requires_grad_(), y


def backward(loss: LossFunction, shape: tuple[int, ...]) -> Callable[[], None]:
    """Make a function of no arguments that goes forward and backward once."""
    y_fake, y = inputs(shape)

    def step() -> None:
        y_fake.grad = None
        loss(y_fake, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def difference(ours: LossFunction, plain: LossFunction) -> float:
    """Return by how much the two losses differ, relative to their value."""
    y_fake, y = inputs(SHAPES[0])
    with torch.no_grad():
        expected = plain(y_fake, y)
        return abs(ours(y_fake, y) - expected).item() / expected.item()


def peak_bytes(which: str, shape: tuple[int, ...]) -> int:
    """Measure, in a process of its own, what one forward and backward adds to its memory at the most."""
    command = [sys.executable, __file__, which, *map(str, shape)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _child(which: str, shape: tuple[int, ...]) -> None:
    ours = VGGPerceptual(checkpoint="random")
    function = naive(ours) if which == "naive" else ours
    backward(function, (1, 3, 32, 32))()
    step = backward(function, shape)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark begins anew at what is in use now
    before = _high_water()
    step()
    print(_high_water() - before)


def _high_water() -> int:
    # Not getrusage: what it says of a child begins with the size of the parent.
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Print a table of medians, peaks and ratios."""
    ours = VGGPerceptual(checkpoint="random")
    plain = naive(ours)
    print("Perceptual loss, forward + backward, beside two passes with a graph on both sides (aim: 1.3x, -30 % memory)")
    print(f"relative difference of the losses: {difference(ours, plain):.1e}")
    print(f"{'shape':<16}{'naive ms':>10}{'ours ms':>10}{'faster':>9}{'naive MB':>11}{'ours MB':>10}{'memory':>9}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape in SHAPES:
            functions = {"naive": backward(plain, shape), "ours": backward(ours, shape)}
            slow, fast = medians(functions, calls=1, rounds=ROUNDS).values()
            size = "x".join(map(str, shape))
            print(f"{size:<16}{slow * 1e3:>10.0f}{fast * 1e3:>10.0f}{slow / fast:>8.2f}x", end="")
            if Path("/proc/self/clear_refs").exists():
                large, small = peak_bytes("naive", shape), peak_bytes("ours", shape)
                print(f"{large / 1e6:>11.0f}{small / 1e6:>10.0f}{small / large - 1:>+9.0%}")
            else:
                print("   memory is measured on Linux only")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    if sys.argv[1:]:
        _child(sys.argv[1], tuple(map(int, sys.argv[2:])))
    else:
        main()
