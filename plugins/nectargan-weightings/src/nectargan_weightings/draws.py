"""Random numbers that follow from a key alone, so that a resumed run and each rank draw the same."""

from __future__ import annotations

import math
from hashlib import blake2b


def uniform(*key: int | str) -> float:
    """Return a number above 0 and up to 1.

    Example:
        >>> uniform(0, 7) == uniform(0, 7) != uniform(0, 8)
        True
    """
    return _pair(key)[0]


def normal(*key: int | str) -> float:
    """Return a number of the standard normal distribution (Box and Muller 1958).

    Example:
        >>> normal(0, 7, "G_L1") == normal(0, 7, "G_L1") != normal(0, 7, "G_GAN")
        True
    """
    first, second = _pair(key)
    return math.sqrt(-2.0 * math.log(first)) * math.cos(2.0 * math.pi * second)


def _pair(key: tuple[int | str, ...]) -> tuple[float, float]:
    digest = blake2b(repr(key).encode("utf-8", "backslashreplace"), digest_size=16).digest()
    first, second = (int.from_bytes(part, "big") >> 11 for part in (digest[:8], digest[8:]))
    return (first + 1) / 2**53, (second + 1) / 2**53
