"""What a benchmark yields: a ratio of two things measured in turn, with its spread, as one row of the table."""

from __future__ import annotations

import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Row:
    """What one thing costs, as a multiple of what another costs.

    Args:
        what: What is measured.
        beside: What it is measured beside.
        ratio: The median of the ratios of all rounds; None where nothing was measured, and the note says why.
        low: Their lower quartile.
        high: Their upper quartile.
        aim: The most that the ratio should be, where somebody has decided that.
        note: For information: what it took on that machine, or by how much two results differ.
    """

    what: str
    beside: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    aim: float | None = None
    note: str = ""


def compared(
    what: str,
    beside: str,
    taken: Sequence[float],
    other: Sequence[float],
    aim: float | None = None,
    note: str | None = None,
) -> Row:
    """Return the row of two things that were measured in the same rounds.

    Args:
        what: What is measured.
        beside: What it is measured beside.
        taken: What the one took in each round; seconds, unless a note is given.
        other: What the other took in each round.
        aim: The most that the ratio should be.
        note: What to say of it instead of the seconds of the one.
    """
    ratios = [one / another for one, another in zip(taken, other, strict=True)]
    low, ratio, high = statistics.quantiles(ratios, n=4, method="inclusive") if len(ratios) > 1 else ratios * 3
    return Row(what, beside, ratio, low, high, aim, duration(statistics.median(taken)) if note is None else note)


def beside_first(
    times: Mapping[str, Sequence[float]], aims: Mapping[str, float] | None = None, label: str = ""
) -> list[Row]:
    """Return a row for each thing that was measured, beside the first of them.

    Args:
        times: What each took in each round, in seconds, by name.
        aims: The most that a ratio should be, by name.
        label: What all names begin with.
    """
    first, *others = times
    aims = aims or {}
    return [compared(label + name, first, times[name], times[first], aims.get(name)) for name in others]


def duration(seconds: float) -> str:
    """Return seconds in a readable unit.

    Example:
        >>> duration(0.0000123), duration(0.5)
        ('12.3 µs', '500 ms')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1 or unit == "µs":
            return f"{seconds * factor:.3g} {unit}"
    raise AssertionError  # for type checkers


def number(value: float | None) -> str:
    """Return a ratio with three digits that count; nothing for None.

    Example:
        >>> [number(value) for value in (1.0, 0.04567, 12.345, 345.6, None)]
        ['1.00', '0.0457', '12.3', '346', '']
    """
    if value is None:
        return ""
    text = f"{value:#.3g}"
    return f"{value:.0f}" if "e+" in text else text.removesuffix(".")


def line(row: Row) -> str:
    """Return the line that a terminal shows of a row."""
    spread = "" if row.ratio is None else f"{number(row.low)} to {number(row.high)}"
    ratio = "not measured" if row.ratio is None else number(row.ratio)
    cells = f"{row.what:<48} {row.beside:<36} {ratio:>12} {spread:>18} {number(row.aim):>6}  {row.note}"
    return cells.rstrip()


HEADING = f"{'what':<48} {'beside':<36} {'ratio':>12} {'quartiles':>18} {'aim':>6}  on this machine"


def machine(device: str = "cpu") -> str:
    """Return what was measured on: processor or GPU, system, Python and torch."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    where = f"{name}, {os.cpu_count()} CPUs"
    if device != "cpu":
        where = f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"{where}; {platform.system()}, Python {sys.version.split()[0]}, torch {torch.__version__}"
