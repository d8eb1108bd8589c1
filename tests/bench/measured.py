"""Runs a command, and tells how much CPU time it took and how much memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

# Another process asks for the peak, since a fork of a large one would begin with the memory of that.
_CHILD = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(done.returncode)
"""


def run_measured(command: Sequence[str]) -> tuple[float, float]:
    """Return the seconds of CPU time and the megabytes, at its peak, that a command takes, which has to succeed."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *command], env=os.environ, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr}")
    seconds, peak = done.stdout.split()
    kilobytes = int(peak) / (1024 if sys.platform == "darwin" else 1)
    return float(seconds), kilobytes / 1000
