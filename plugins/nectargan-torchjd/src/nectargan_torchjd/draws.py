"""Random choices of TorchJD that depend on nothing but a seed and the step."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator

import torch

from nectargan_torchjd.parameters import whole


class Draws:
    """What TorchJD draws at a step.

    It draws from the generator of the process. A run that was resumed would find that generator elsewhere, and every
    other draw of the process would depend on whether a weighting is used. So the generator is set for the
    length of a call, and restored.

    Args:
        seed: An integer of at least 0.

    Raises:
        ValueError: If it is not one.
    """

    def __init__(self, seed: object) -> None:
        self._seed = whole("seed", seed, low=0)

    @contextlib.contextmanager
    def at(self, step: int) -> Iterator[None]:
        """Set the generator of the CPU, and restore it.

        Example:
            >>> with Draws(0).at(7):
            ...     first = torch.randperm(5)
            >>> with Draws(0).at(7):
            ...     print(bool((torch.randperm(5) == first).all()))
            True
        """
        digest = hashlib.blake2b(f"{self._seed} {step}".encode(), digest_size=4).digest()
        # torch.manual_seed would set the generators of all devices.
        with torch.random.fork_rng(devices=()):
            torch.default_generator.manual_seed(int.from_bytes(digest, "big"))
            yield
