"""The module that a loss function is, or is made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import MethodType
from typing import Any

from torch import nn


def module_of(function: Callable[..., Any]) -> nn.Module | None:
    """Return the module of a loss function: itself, that of a bound method, or that of a `functools.partial`.

    Example:
        >>> module_of(partial(nn.L1Loss(), None)), module_of(nn.L1Loss().forward), module_of(abs)
        (L1Loss(), L1Loss(), None)
    """
    found: object = function
    while isinstance(found, (partial, MethodType)):
        found = found.func if isinstance(found, partial) else found.__self__
    return found if isinstance(found, nn.Module) else None
