"""What segmentation losses cost, forward and backward, beside MONAI and torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import torch
from interleaved import medians
from nectargan_segmentation import Boundary, CrossEntropy, Dice, DiceCrossEntropy, Focal
from torch import Tensor, nn

CLASSES = 4
SHAPES = ((1, CLASSES, 256, 256), (8, CLASSES, 256, 256))
ROUNDS = 10


def monai() -> Any:
    """Return the losses of MONAI; with none in it if it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import monai.losses
        except ImportError:
            return SimpleNamespace()
    return monai.losses


def theirs(losses: Any) -> Mapping[str, Callable[[Tensor, Tensor], Tensor] | None]:
    """Make what is compared with: of MONAI, of torch for the cross-entropy."""
    options = {"to_onehot_y": True}
    names = {
        "dice": ("DiceLoss", {"softmax": True}),
        "dice-ce": ("DiceCELoss", {"softmax": True}),
        "focal": ("FocalLoss", {"use_softmax": True}),
        "focal, sigmoid": ("FocalLoss", {}),
        "boundary": ("BoundaryLoss", {"softmax": True}),
    }
    made = {name: getattr(losses, kind, None) for name, (kind, _) in names.items()}
    return {
        "ce": lambda logits, labels: nn.functional.cross_entropy(logits, labels[:, 0]),
        **{name: None if kind is None else kind(**options, **names[name][1]) for name, kind in made.items()},
    }


def backward(loss: Callable[[Tensor, Tensor], Any], logits: Tensor, labels: Tensor) -> Callable[[], None]:
    """Make a function of no arguments that goes forward and backward once."""

    def step() -> None:
        logits.grad = None
        result = loss(logits, labels)
        total: Tensor = sum(result.values()) if isinstance(result, dict) else result
        total.backward()  # type: ignore[no-untyped-call] # untyped in torch

    return step


def main() -> None:
    """Print a table of medians and ratios."""
    print("Segmentation, forward + backward (CPU time of one thread, medians of interleaved runs; aim: 1x at most)")
    print(f"{'loss':<16}{'shape':<16}{'ours ms':>10}{'MONAI; ce: torch':>22}")
    ours = {
        "ce": CrossEntropy(),
        "dice": Dice(),
        "dice-ce": DiceCrossEntropy(),
        "focal": Focal(),
        "focal, sigmoid": Focal(sigmoid=True),
        "boundary": Boundary(),
    }
    others = theirs(monai())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for shape in SHAPES:
            generator = torch.Generator().manual_seed(0)
            logits = torch.randn(shape, generator=generator).requires_grad_()
            # Regions, and not noise, as labels are.
            coarse = torch.randint(CLASSES, (shape[0], 1, 8, 8), generator=generator).float()
            labels = nn.functional.interpolate(coarse, shape[2:]).long()
            for name, loss in ours.items():
                functions = {"ours": loss, "theirs": others[name]}
                steps = {key: backward(each, logits, labels) for key, each in functions.items() if each is not None}
                taken = medians(steps, calls=1, rounds=ROUNDS)
                beside = "not installed"
                if "theirs" in taken:
                    beside = f"{taken['theirs'] * 1e3:.1f} ms, {taken['ours'] / taken['theirs']:.2f}x"
                print(f"{name:<16}{'x'.join(map(str, shape)):<16}{taken['ours'] * 1e3:>10.1f}{beside:>22}")
    finally:
        torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
