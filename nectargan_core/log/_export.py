"""Writes the records of runs as rows: as CSV, and as Parquet."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from nectargan_core.errors import NectarganError
from nectargan_core.log._records import COLUMNS, DTYPE

if TYPE_CHECKING:
    from nectargan_core.log._reader import LossLog

# So many records are Python objects at a time while they are written as rows.
_ROWS = 10_000


def write_csv(runs: Mapping[str, LossLog], file: TextIO) -> int:
    """Write every record as a row `name,step,epoch,loss,weight,unweighted`, a loss after the other.

    Args:
        runs: The log of each run by its label. Where there are several, each row begins with the label.
        file: Where it is written, open with `newline=""`.

    Returns:
        How many records were written.
    """
    writer = csv.writer(file)
    several = len(runs) > 1
    writer.writerow((*(["run"] if several else []), "name", *COLUMNS))
    count = 0
    for label, log in runs.items():
        for name in log.names:
            records = log._passing(name)
            count += len(records)
            begin = (label, name) if several else (name,)
            for start in range(0, len(records), _ROWS):
                columns = (getattr(records, column)[start : start + _ROWS].tolist() for column in COLUMNS)
                writer.writerows((*begin, *row) for row in zip(*columns, strict=True))
    return count


def write_parquet(runs: Mapping[str, LossLog], path: Path) -> int:
    """Write every record as a row of a Parquet file, with the columns that `write_csv` writes.

    Args:
        runs: As for `write_csv`.
        path: The file.

    Returns:
        How many records were written.

    Raises:
        NectarganError: If pyarrow is not installed.
        OSError: If the file cannot be written.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet
    except ImportError as error:
        raise NectarganError("Parquet needs pyarrow; pip install pyarrow") from error
    several = len(runs) > 1
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [(name, text) for name in ([*(["run"] if several else []), "name"])]
    schema = pa.schema([*fields, *((name, pa.from_numpy_dtype(DTYPE[name])) for name in COLUMNS)])
    count = 0
    with pa.parquet.ParquetWriter(path, schema) as writer:
        for label, log in runs.items():
            for name in log.names:
                records = log._passing(name)
                count += len(records)
                repeated = [label, name] if several else [name]
                texts = [pa.array([each], pa.string()).take(pa.repeat(0, len(records))) for each in repeated]
                columns = [each.dictionary_encode() for each in texts]
                columns += [pa.array(getattr(records, column)) for column in COLUMNS]
                writer.write_table(pa.table(columns, schema=schema))
    return count
