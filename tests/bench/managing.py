"""What it costs to make a manager from the name of an objective, and to change a weight while it runs."""

from __future__ import annotations

import torch
from interleaved import medians
from nectargan_pix2pix import pix2pix

from nectargan_core import Config, LossManager


def main() -> None:
    """Print the medians, and their ratios to the bare calls."""
    print("Managing (CPU time of one thread, medians of interleaved runs; aim for set_weight: 3x the bare no-op call)")
    scalar, config = torch.tensor(0.5, requires_grad=True), Config()
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("loss", lambda x, y: x, loss_weight=2.0)
    taken = medians(
        {
            "bare w * fn(x, y)": lambda: 2.0 * (lambda x, y: x)(scalar, scalar),
            "set_weight": lambda: manager.set_weight("loss", 3.0),
        },
        calls=300,
    )
    taken |= medians(
        {
            "pix2pix(config, 'extended')": lambda: pix2pix(config, "extended"),
            "LossManager()": LossManager,
            "from_spec('pix2pix:extended')": lambda: LossManager.from_spec("pix2pix:extended"),
        },
        calls=10,
    )
    bare = taken["bare w * fn(x, y)"]
    for way, seconds in taken.items():
        print(f"{way:<32}{seconds * 1e6:>10.2f} us{seconds / bare:>9.2f}x")


if __name__ == "__main__":
    main()
