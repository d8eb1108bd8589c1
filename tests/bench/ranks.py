"""What it takes to read one loss of many ranks as one series: seconds, and memory at its peak."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from measured import run_measured

from nectargan_core.log import LogFile, Records, encode_chunk

RANKS, RECORDS = 64, 1_000_000
AT_ONCE = 1000
# So many ranks have values of their own; the others have the same file as one of these, which is read all the same.
DIFFERENT = 4

IMPORT = "import nectargan_core.log"
MERGE = """
import sys
from nectargan_core import LossLog

records = LossLog(sys.argv[1]).series("loss")
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
    """Return the seconds and megabytes of a process that reads the loss of all ranks."""
    return run_measured([sys.executable, "-c", MERGE, str(directory), str(records), str(ranks)])


def main(ranks: int = RANKS, records: int = RECORDS) -> None:
    """Print what reading takes, with and without sizes of batches."""
    seconds, megabytes = run_measured([sys.executable, "-c", IMPORT])
    print(f"Merging ranks of {records:,} records each (a process that imports and reads; importing takes ", end="")
    print(f"{seconds:.1f} s and {megabytes:.0f} MB; aim: {RANKS} ranks of {RECORDS:,} in 2,000 MB)")
    with tempfile.TemporaryDirectory() as folder:
        for batch in (False, True):
            for count in (1, ranks):
                run = write(Path(folder) / f"{count}{batch}", count, records, batch)
                seconds, megabytes = merged(run, count, records)
                print(f"{count:>3} ranks, batch sizes {'known' if batch else 'unknown'}: ", end="")
                print(f"{seconds:.1f} s, {megabytes:.0f} MB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
