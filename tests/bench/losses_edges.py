"""What the Sobel and Laplacian losses cost, forward and backward, beside their plain definitions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from interleaved import medians
from nectargan_laplacian import Laplacian
from nectargan_sobel import Sobel
from torch import Tensor

LossFunction = Callable[[Tensor, Tensor], Tensor]

ACROSS = torch.tensor([[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]]])
DOWN = torch.tensor([[[[1.0, 2.0, 1.0], [0.0, 0.0, 0.0], [-1.0, -2.0, -1.0]]]])
LAPLACE = torch.tensor([[[[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]]]])
SHAPES = ((1, 3, 256, 256), (4, 3, 256, 256))
ROUNDS = 40


def plain_sobel(y_fake: Tensor, y: Tensor) -> Tensor:
    """Compute the Sobel loss as its definition reads."""

    def magnitude(image: Tensor) -> Tensor:
        grey = image.mean(1, keepdim=True)
        across, down = F.conv2d(grey, ACROSS, padding=1), F.conv2d(grey, DOWN, padding=1)
        return torch.sqrt(across**2 + down**2 + 1e-6)

    return F.l1_loss(magnitude(y_fake), magnitude(y))


def plain_laplacian(y_fake: Tensor, y: Tensor) -> Tensor:
    """Compute the Laplacian loss as its definition reads."""

    def laplacian(image: Tensor) -> Tensor:
        return F.conv2d(image.mean(1, keepdim=True), LAPLACE, padding=1)

    return F.l1_loss(laplacian(y_fake), laplacian(y))


def backward(loss: LossFunction, y_fake: Tensor, y: Tensor) -> Callable[[], None]:
    """Make a function of no arguments that goes forward and backward once."""

    def step() -> None:
        y_fake.grad = None
        loss(y_fake, y).backward()  # type: ignore[no-untyped-call]  # untyped in torch

    return step


def main() -> None:
    """Print a table of medians and ratios."""
    print("Edge losses, forward + backward (CPU time of one thread, medians of interleaved runs; aim: 2x)")
    print(f"{'loss':<12}{'shape':<20}{'plain ms':>10}{'ours ms':>10}{'faster':>9}")
    pairs: tuple[tuple[str, LossFunction, LossFunction], ...] = (
        ("Sobel", plain_sobel, Sobel()),
        ("Laplacian", plain_laplacian, Laplacian()),
    )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape in SHAPES:
            generator = torch.Generator().manual_seed(0)
            y_fake, y = torch.rand(2, *shape, generator=generator).unbind()
            y_fake = y_fake.clone().requires_grad_()
            for name, plain, ours in pairs:
                functions = {"plain": backward(plain, y_fake, y), "ours": backward(ours, y_fake, y)}
                slow, fast = medians(functions, calls=1, rounds=ROUNDS).values()
                size = "x".join(map(str, shape))
                print(f"{name:<12}{size:<20}{slow * 1e3:>10.2f}{fast * 1e3:>10.2f}{slow / fast:>8.1f}x")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
