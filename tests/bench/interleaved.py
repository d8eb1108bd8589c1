"""Timings that hold on a loaded machine: CPU time of one thread, of several things in turn, round after round."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping


def times(
    functions: Mapping[str, Callable[[], object]],
    calls: int,
    rounds: int = 60,
    clock: Callable[[], float] = time.thread_time,
) -> dict[str, list[float]]:
    """Measure functions in turn, round after round.

    Args:
        functions: What to measure, by name.
        calls: How often each is called per round.
        rounds: How often each has its turn.
        clock: What tells the seconds; the CPU time of this thread, unless given.

    Returns:
        The seconds of one call in each round, by name.
    """
    taken: dict[str, list[float]] = {name: [] for name in functions}
    order = list(functions)
    shuffled = random.Random(0)
    for _ in range(rounds):
        shuffled.shuffle(order)  # since what went before left caches and memory in a state of its own
        for name in order:
            function = functions[name]
            start = clock()
            for _ in range(calls):
                function()
            taken[name].append((clock() - start) / calls)
    return taken
