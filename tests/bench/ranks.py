"""One loss of many ranks, read as one series by a process of its own, beside one rank."""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from measured import run_measured
from table import Row, compared

from nectargan_core.log import LogFile, Records, encode_chunk

RANKS, RECORDS, ROUNDS = 64, 1_000_000, 2
AT_ONCE = 1000
# So many ranks have values of their own; the others have the same file as one of these, which is read all the same.
DIFFERENT = 4

MERGE = """
import sys, time
from nectargan_core import LossLog

start = time.process_time()
records = LossLog(sys.argv[1]).series("loss")
with open(sys.argv[4], "w") as file:
    file.write(str(time.process_time() - start))
assert (len(records), int(records.count[0])) == (int(sys.argv[2]), int(sys.argv[3])), records
"""


def write(directory: Path, ranks: int, records: int, batch: bool) -> Path:
    """Write the logs of ranks that have so many records of a loss each; returns their directory."""
    directory.mkdir()
    written: list[Path] = []
    for rank in range(min(ranks, DIFFERENT)):
        file = LogFile(directory, rank, False, {"started": 0.0, "world_size": ranks, "tags": {"loss": ["G"]}})
        generator = np.random.default_rng(rank)
        for number, first in enumerate(range(0, records, AT_ONCE)):
            step = np.arange(first, min(first + AT_ONCE, records))
            values = generator.random(len(step), dtype=np.float32).astype(np.float64) + 0.5
            values, ones = values.astype(np.float32).astype(np.float64), np.ones(len(step))
            sizes = {"batch": np.full(len(step), 8 + rank)} if batch else {}
            chunk = Records("loss", step, np.full(len(step), float(number)), values, ones, values, **sizes)
            file.append(encode_chunk(chunk, 1.7e9), number)
        file.close()
        written.append(file.path)
    for rank in range(DIFFERENT, ranks):
        os.link(written[rank % DIFFERENT], directory / f"loss_log.rank{rank}.jsonl")
    return directory


def merged(directory: Path, ranks: int, records: int) -> tuple[float, float]:
    """Return the seconds that reading the loss of all ranks takes, and the megabytes of the process that does."""
    taken = directory / "seconds.txt"
    _, megabytes = run_measured([sys.executable, "-c", MERGE, str(directory), str(records), str(ranks), str(taken)])
    return float(taken.read_text()), megabytes


def rows(ranks: int = RANKS, records: int = RECORDS) -> Iterator[Row]:
    """Yield what reading takes, in time and in memory, with and without sizes of batches."""
    with tempfile.TemporaryDirectory() as folder:
        for batch in (False, True):
            one, many = (write(Path(folder) / f"{count}{batch}", count, records, batch) for count in (1, ranks))
            found = [(*merged(many, ranks, records), *merged(one, 1, records)) for _ in range(ROUNDS)]
            seconds, peaks, of_one, peaks_of_one = zip(*found, strict=True)
            what = f"{ranks} ranks of {records:,} records{', of known batch sizes' if batch else ''}"
            yield compared(what, f"{ranks} times what one takes", seconds, [ranks * each for each in of_one])
            note = f"{statistics.median(peaks):.0f} MB"
            yield compared(f"{what}: peak memory", "that of one", peaks, peaks_of_one, note=note)
