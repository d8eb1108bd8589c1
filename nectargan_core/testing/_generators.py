"""The generators of random numbers of the process: seeded or watched in a block, and afterwards as they were."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch

from nectargan_core.testing._outcomes import CheckFailed

# A seed that nobody else takes: seeding with the same one again would change nothing.
_SEED = 0x6E656374


@contextlib.contextmanager
def seeded(seed: int = _SEED) -> Iterator[None]:
    """Seed all of them, and put their states back afterwards."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 # what plugins draw from
    # Not torch.manual_seed(), which would seed the devices, too.
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 # likewise
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])  # noqa: NPY002 # likewise
        torch.set_rng_state(before[2])


@contextlib.contextmanager
def watched(advice: str) -> Iterator[None]:
    """Raise `CheckFailed` where code in the block draws from one of them, or seeds it.

    Args:
        advice: What to draw from instead.
    """
    with seeded():
        before = states()
        yield
        for name, state in states().items():
            if state != before[name]:
                raise CheckFailed(
                    f"it draws from, or seeds, the generator of {name}, which belongs to the training; {advice}"
                )


def states() -> dict[str, object]:
    """Return the state of each, by the module that it belongs to."""
    numbers = np.random.get_state()  # noqa: NPY002 # what plugins draw from
    return {
        "random": random.getstate(),
        "numpy.random": [each.tolist() if isinstance(each, np.ndarray) else each for each in numbers],
        "torch": torch.get_rng_state().tolist(),
    }
