"""What it takes to look at a log of ten million records: seconds, and memory, of each command."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measured import run_measured

from nectargan_core.cli._log import log
from nectargan_core.log import LogFile, Records, encode_chunk

RECORDS = 10_000_000
AT_ONCE = 1000
PEAK, HEIGHT = 0.4321, 50.0
# What is measured, with the file that it writes. A command that is not there is left out.
COMMANDS = {"plot": "curves.png", "report": "report.html", "show": None}


def write(directory: Path, losses: int, records: int = RECORDS) -> Path:
    """Write a log of losses around 1 that have a value of 50 at one step; returns its directory."""
    file = LogFile(
        directory, 0, False, {"experiment": directory.name, "tags": {f"loss{n}": ["G"] for n in range(losses)}}
    )
    generator = np.random.default_rng(0)
    steps = records // losses
    peak = int(PEAK * steps)
    for number, first in enumerate(range(0, steps, AT_ONCE)):
        step = np.arange(first, min(first + AT_ONCE, steps))
        ones = np.ones(len(step))
        lines = []
        for loss in range(losses):
            values = generator.random(len(step), dtype=np.float32).astype(np.float64) + 0.5
            if step[0] <= peak <= step[-1]:
                values[peak - step[0]] = HEIGHT
            values = values.astype(np.float32).astype(np.float64)
            epoch = np.full(len(step), float(first * 100 // steps))
            lines.append(encode_chunk(Records(f"loss{loss}", step, epoch, values, ones, values), 1.7e9))
        file.append("".join(lines), number)
    file.close()
    return directory


def main() -> None:
    """Print what each command takes."""
    print(f"Looking at a log of {RECORDS:,} records (aim: each in 30 s and 2,000 MB)")
    with tempfile.TemporaryDirectory() as folder:
        for losses in (1, 8):
            start = time.perf_counter()
            run = write(Path(folder) / f"of{losses}", losses)
            size = (run / "loss_log.jsonl").stat().st_size
            print(f"{losses} losses: {size / 1e6:.0f} MB, written in {time.perf_counter() - start:.1f} s")
            for command in COMMANDS:
                if command not in log.commands:
                    continue
                out = COMMANDS[command]
                options = [] if out is None else ["-o", str(Path(folder) / out)]
                program = [sys.executable, "-m", "nectargan_core", "log", command, str(run), *options]
                seconds, megabytes = run_measured(program)
                print(f"  log {command:<8}{seconds:>6.1f} s{megabytes:>8.0f} MB")


if __name__ == "__main__":
    main()
