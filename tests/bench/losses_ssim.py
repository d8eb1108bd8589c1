"""What SSIM and MS-SSIM cost, forward and backward, beside the packages that people use for them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from interleaved import medians
from nectargan_ssim import MSSSIM, SSIM
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]

SHAPES = ((1, 3, 256, 256), (8, 3, 256, 256))
ROUNDS = 10


def package(module: str, name: str) -> LossFunction | None:
    """Return 1 minus a similarity of a package; None if it is not installed."""
    try:
        similarity: Any = getattr(importlib.import_module(module), name)
    except ImportError:
        return None
    return lambda y_fake, y: 1 - similarity(y_fake, y, data_range=1.0)


def backward(loss: LossFunction, y_fake: Tensor, y: Tensor) -> Callable[[], None]:
    """Make a function of no arguments that goes forward and backward once."""

    def step() -> None:
        y_fake.grad = None
        loss(y_fake, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def main() -> None:
    """Print a table of medians and ratios."""
    print("SSIM, forward + backward (CPU time of one thread, medians of interleaved runs; aim: 1x at most)")
    print(f"{'loss':<10}{'shape':<16}{'ours ms':>10}{'pytorch-msssim':>20}{'torchmetrics':>20}")
    images = "torchmetrics.functional.image"
    losses: tuple[tuple[str, dict[str, LossFunction | None]], ...] = (
        (
            "SSIM",
            {
                "ours": SSIM(input_range=(0.0, 1.0)),
                "pytorch-msssim": package("pytorch_msssim", "ssim"),
                "torchmetrics": package(images, "structural_similarity_index_measure"),
            },
        ),
        (
            "MS-SSIM",
            {
                "ours": MSSSIM(input_range=(0.0, 1.0)),
                "pytorch-msssim": package("pytorch_msssim", "ms_ssim"),
                "torchmetrics": package(images, "multiscale_structural_similarity_index_measure"),
            },
        ),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape in SHAPES:
            generator = torch.Generator().manual_seed(0)
            y = torch.rand(shape, generator=generator)
            y_fake = (y + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1).requires_grad_()
            for name, functions in losses:
                steps = {key: backward(each, y_fake, y) for key, each in functions.items() if each is not None}
                taken = medians(steps, calls=1, rounds=ROUNDS)
                ours = taken["ours"]
                others = [
                    f"{taken[key] * 1e3:.1f} ms, {ours / taken[key]:.2f}x" if key in taken else "not installed"
                    for key in ("pytorch-msssim", "torchmetrics")
                ]
                print(f"{name:<10}{'x'.join(map(str, shape)):<16}{ours * 1e3:>10.1f}{others[0]:>20}{others[1]:>20}")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
