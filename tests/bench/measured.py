"""Runs a command, and tells how long it took and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence

# Another process asks for the peak, since a fork of a large one would begin with the memory of that.
_CHILD = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(done.returncode)
"""


def run_measured(command: Sequence[str]) -> tuple[float, float]:
    """Return the seconds and megabytes, at its peak, that a command takes, which has to succeed."""
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *command], env=os.environ, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    kilobytes = int(done.stdout) / (1024 if sys.platform == "darwin" else 1)
    return seconds, kilobytes / 1000
