"""What `import nectargan_core` adds to a process that has imported torch."""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 7
CHILD = """
import gc, sys, time
if sys.argv[1] == "off":
    gc.disable()
start = time.thread_time(); import torch; torch_done = time.thread_time()
import nectargan_core; done = time.thread_time()
print(torch_done - start, done - torch_done)
"""


def main() -> None:
    """Print the medians of both imports, and their ratio."""
    print("Importing (CPU time, medians of fresh processes; aim: under 15% of torch's own import)")
    print("A full garbage collection of what torch has made falls to whoever allocates next, so both are shown.")
    taken: dict[str, list[list[float]]] = {"off": [], "on": []}
    for _ in range(ROUNDS):
        for collector, rows in taken.items():
            child = [sys.executable, "-c", CHILD, collector]
            output = subprocess.run(child, check=True, capture_output=True, text=True).stdout
            rows.append([float(seconds) for seconds in output.split()])
    for collector, rows in taken.items():
        ratio = statistics.median(core / torch for torch, core in rows)
        torch, core = (statistics.median(column) * 1e3 for column in zip(*rows, strict=True))
        print(
            f"collector {collector:<4} torch {torch:.0f} ms, then nectargan_core {core:.0f} ms: {ratio:.1%} of torch's"
        )


if __name__ == "__main__":
    main()
