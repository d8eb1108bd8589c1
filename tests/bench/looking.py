"""Commands that look at a log of two million records, beside a script that has the same numbers in an npz file."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measured import run_measured
from table import Row, compared

from nectargan_core import LossLog
from nectargan_core.log import LogFile, Records, encode_chunk

# As many as the tests look at, and as many as are looked at here, several times.
RECORDS, FEWER = 10_000_000, 2_000_000
AT_ONCE = 1000
PEAK, HEIGHT = 0.4321, 50.0
# What is measured, with the file that it writes.
COMMANDS = {"plot": "curves.png", "report": "report.html", "show": None}
SCRIPT = "numpy.load and pyplot.plot"


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


BY_HAND = """
import sys
import numpy
import matplotlib
matplotlib.use("agg")
from matplotlib import pyplot
with numpy.load(sys.argv[1]) as file:
    losses = {name: file[name] for name in file.files}
for name, values in losses.items():
    print(name, values[-1], values.mean(), values.min(), values.max())
    pyplot.plot(values, label=name)
pyplot.legend()
pyplot.savefig(sys.argv[2])
"""


def commands(run: Path, folder: Path) -> dict[str, list[str]]:
    """Return what is measured, as the arguments of a process: first a script by hand."""
    log = LossLog(run)
    np.savez(folder / "losses.npz", **{name: log.series(name).loss for name in log.names})
    ours = {
        f"nectargan log {name}": [
            *("-m", "nectargan_core", "log", name, str(run)),
            *([] if out is None else ["-o", str(folder / out)]),
        ]
        for name, out in COMMANDS.items()
    }
    return {SCRIPT: ["-c", BY_HAND, str(folder / "losses.npz"), str(folder / "by_hand.png")], **ours}


def rows() -> Iterator[Row]:
    """Yield a row of time and one of memory for each command."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        ways = commands(write(folder / "run", 8, FEWER), folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(3):
            for name, arguments in ways.items():
                taken[name].append(run_measured([sys.executable, *arguments]))
    (seconds, megabytes), *others = [zip(*taken[name], strict=True) for name in taken]
    seconds, megabytes = [*seconds], [*megabytes]
    for name, (ours, peaks) in zip([*taken][1:], others, strict=True):
        yield compared(name, SCRIPT, ours, seconds)
        note = f"{statistics.median(peaks):.0f} MB"
        yield compared(f"{name}: peak memory", SCRIPT, peaks, megabytes, note=note)
