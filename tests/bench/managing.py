"""Making a manager, changing a weight, ticking and asking, beside the plain code that comes nearest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import torch
from interleaved import times
from nectargan_pix2pix import pix2pix
from table import Row, beside_first

from nectargan_core import Config, LossManager


class Counter:
    """A clock by hand."""

    def __init__(self) -> None:
        self.step, self.epoch = 0, 0.0

    def tick(self, epoch: float) -> None:
        """Go on to the next step."""
        self.step += 1
        self.epoch = epoch


def making() -> Iterator[Row]:
    """Yield what it takes to make a manager."""
    config = Config()
    taken = times(
        {
            "pix2pix(config, 'extended')": lambda: pix2pix(config, "extended"),
            "LossManager()": LossManager,
            "from_spec('pix2pix:extended')": lambda: LossManager.from_spec("pix2pix:extended"),
        },
        calls=10,
        rounds=30,
    )
    return iter(beside_first(taken))


def asking(directory: str) -> Iterator[Row]:
    """Yield what one does beside computing, with eight losses."""
    scalar, hand = torch.tensor(0.5, requires_grad=True), Counter()
    names = [f"loss{number}" for number in range(8)]
    with LossManager(experiment_dir=directory) as manager:
        for name in names:
            manager.register_loss_fn(name, lambda x, y: x, 2.0)

        def calls() -> None:
            for name in names:
                manager.compute_loss_xy(name, scalar, scalar)

        def split() -> None:
            with manager.split("val"):
                pass

        def bare() -> None:
            for _ in names:
                scalar * 2.0

        calls()
        beside_bare = {"tick(epoch)": manager.tick, "set_weight": lambda epoch: manager.set_weight("loss0", 3.0)}
        plain = {"step += 1; self.epoch = epoch": hand.tick, **beside_bare}
        yield from beside_first(
            times({name: lambda way=way: way(1.0) for name, way in plain.items()}, calls=100, rounds=40),
            {"tick(epoch)": 4.0},
        )
        yield from beside_first(
            times(
                {
                    "eight products loss * weight": bare,
                    "get_loss_values()": manager.get_loss_values,
                    "latest()": manager.latest,
                    "means()": manager.means,
                    "entering and leaving a split": split,
                    "state_dict()": manager.state_dict,
                },
                calls=100,
                rounds=40,
            )
        )


def rows() -> Iterator[Row]:
    """Yield all of them."""
    yield from making()
    with tempfile.TemporaryDirectory() as directory:
        yield from asking(directory)
