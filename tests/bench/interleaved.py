"""Timings that hold on a loaded machine: CPU time of one thread, round after round, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def medians(
    functions: Mapping[str, Callable[[], object]],
    calls: int,
    rounds: int = 60,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, float]:
    """Measure functions in turn, round after round.

    Args:
        functions: What to measure, by name.
        calls: How often each is called per round.
        rounds: How often each has its turn.
        clock: What tells the seconds; the CPU time of this thread, unless given.

    Returns:
        The median seconds of one call, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            start = clock()
            for _ in range(calls):
                function()
            times[name].append((clock() - start) / calls)
    return {name: statistics.median(taken) for name, taken in times.items()}
