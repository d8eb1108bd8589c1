"""Values that are nested deeply, or that contain themselves."""

from __future__ import annotations


def deep(kind=list, depth=100_000):
    value = kind()
    for _ in range(depth):
        value = [value] if kind is list else {"a": value}
    return value


def cyclic():
    value = []
    value.append(value)
    return value
