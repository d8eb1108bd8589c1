"""Text for messages: warnings, names, suggestions of close ones, exceptions in one line, and short numbers."""

from __future__ import annotations

import difflib
import reprlib
import sys
import warnings
from collections.abc import Iterable
from types import FrameType

from nectargan_core._printable import printable, printable_lines
from nectargan_core.errors import NectarganWarning

# A message is one line: whatever is shown in it is cut.
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 100
# Comparing long names takes time that grows with the square of their length.
_LONGEST_NAME = 200


def shown(value: object) -> str:
    """Return a value for a message: its repr, cut where it is long, or its type where its repr fails.

    Of a tensor or an array the shape is shown, and no value, which might be on a device.

    Example:
        >>> shown([1, 2]), shown("x" * 1000)[:5]
        ('[1, 2]', "'xxxx")
    """
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple) and shape:
            return f"{type(value).__name__} of shape {tuple(shape)}"
        return _REPR.repr(value)
    except Exception:  # noqa: BLE001 # an object may raise anything
        return f"an object of {type(value).__name__}"


def name_of(function: object) -> str:
    """Return what a function, class or other object is called in a message.

    Example:
        >>> name_of(abs), name_of(3)
        ('abs', '3')
    """
    try:
        name = getattr(function, "__qualname__", None)
    except Exception:  # noqa: BLE001 # an object may raise anything
        name = None
    return name if type(name) is str else shown(function)


def warn(message: str) -> None:
    """Warn with a `NectarganWarning` that points at the line outside of NectarGAN that led here."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("nectargan_core"):
        frame, level = frame.f_back, level + 1
    warnings.warn(printable_lines(message), NectarganWarning, stacklevel=level)


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Say which of `candidates` look like `name`, as a sentence to append to a message.

    Returns:
        `' Did you mean "G_L1"?'`, or the empty string where nothing comes close.

    Example:
        >>> did_you_mean("G_l1", ["G_L1", "G_GAN"])
        ' Did you mean "G_L1"?'
    """
    if len(name) > _LONGEST_NAME:
        return ""
    folded: dict[str, list[str]] = {}
    for candidate in filter(lambda candidate: len(candidate) <= _LONGEST_NAME, candidates):
        folded.setdefault(candidate.casefold(), []).append(candidate)
    found = difflib.get_close_matches(name.casefold(), folded, n=3, cutoff=0.6)
    matches = [f'"{printable(match)}"' for key in found for match in folded[key]]
    return f" Did you mean {' or '.join(matches)}?" if matches else ""


def listed(names: Iterable[str]) -> str:
    """Return names as a list for a message, safe to print; `none` of none.

    Example:
        >>> listed(["G_L1", "G_GAN"]), listed([])
        ('G_L1, G_GAN', 'none')
    """
    return ", ".join(map(printable, names)) or "none"


def one_line(error: BaseException) -> str:
    """Name an exception and quote the first line of what it says, whatever it does when asked."""
    try:
        text = next(filter(None, map(str.strip, str(error).splitlines())), "")
    except Exception:  # noqa: BLE001 # a stranger's __str__
        text = ""
    text = text if len(text) <= 200 else f"{text[:200]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def short(value: float | None) -> str:
    """Return a number with four significant digits for a table; empty for None.

    Example:
        >>> [short(value) for value in (0.0985131, 1234567.0, 2e-4, float("nan"), 0.0, 100.0, None)]
        ['0.09851', '1.235e+06', '0.0002', 'nan', '0', '100', '']
    """
    return "" if value is None else f"{value:.4g}"
