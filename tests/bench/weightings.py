"""A step of eight losses and a small network of convolutions, with a weighting, beside the same step without."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from interleaved import times
from table import Row, beside_first
from torch import Tensor, nn

from nectargan_core import LossManager, Weighting

# Name, weighting, and the most that it should cost; `gradnorm` and `last-layer` on the weight of the last layer.
CASES = [
    ("uncertainty", Weighting("uncertainty"), 1.1),
    ("dwa", Weighting("dwa"), 1.05),
    ("relobralo", Weighting("relobralo"), 1.05),
    ("softadapt", Weighting("softadapt"), 1.05),
    ("random", Weighting("random"), 1.05),
    ("balancer", Weighting("balancer", wrt="y_fake"), 1.5),
    ("gradnorm", Weighting("gradnorm", wrt="last_layer"), 2.5),
    ("gradnorm, every=10", Weighting("gradnorm", wrt="last_layer", every=10), 1.15),
    ("last-layer", Weighting("last-layer", params={"loss": "loss 0"}, wrt="last_layer"), 2.5),
    ("last-layer, every=10", Weighting("last-layer", params={"loss": "loss 0"}, wrt="last_layer", every=10), 1.15),
]


def network() -> nn.Sequential:
    """Return a small network of convolutions."""
    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.ReLU()]
    for _ in range(3):
        layers += [nn.Conv2d(32, 32, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(32, 3, 3, padding=1))


def scaled(power: float) -> nn.Module:
    """Return a loss that is unlike the others."""

    class Power(nn.Module):
        def forward(self, y_fake: Tensor, y: Tensor) -> Tensor:
            return ((y_fake - y).abs() + 1e-3).pow(power).mean()

    return Power()


def rows() -> Iterator[Row]:
    """Yield a row for each weighting."""
    torch.manual_seed(0)
    net = network()
    x, y = torch.rand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
    losses = {f"loss {number}": scaled(1.0 + number / 4) for number in range(8)}
    last = net[-1].weight

    def by_hand() -> None:
        y_fake = net(x)
        results = [function(y_fake, y) for function in losses.values()]
        sum(results[1:], results[0]).backward()

    def step_of(weighting: Weighting | None) -> Callable[[], None]:
        manager = LossManager(enable_logging=True)
        for name, function in losses.items():
            manager.register_loss_fn(name, function)
        if weighting is not None:
            manager.set_weighting(weighting)

        def step() -> None:
            manager.tick(epoch=0)
            manager.compute_losses({"y_fake": net(x), "y": y, "last_layer": last}).total.backward()

        return step

    by = {name: step_of(weighting) for name, weighting, _ in CASES}
    aims = {name: aim for name, _, aim in CASES}
    yield from beside_first(
        times({"ours, no weighting": step_of(None), "the sum by hand": by_hand, **by}, calls=5, rounds=15), aims
    )
