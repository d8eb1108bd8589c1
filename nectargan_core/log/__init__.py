"""The log of a run: the columns of a record, the lines and the file that records are written to, and the reader."""

from nectargan_core.log._file import LogFile, is_of_system
from nectargan_core.log._format import describe_run, encode_chunk, encode_rewind
from nectargan_core.log._index import LogIndex
from nectargan_core.log._reader import LossLog
from nectargan_core.log._records import (
    COLUMNS,
    RECORD,
    Records,
    as_records,
    joined,
    pack,
    product,
    unpacked,
    with_times,
)

__all__ = [
    "COLUMNS",
    "RECORD",
    "LogFile",
    "LogIndex",
    "LossLog",
    "Records",
    "as_records",
    "describe_run",
    "encode_chunk",
    "encode_rewind",
    "is_of_system",
    "joined",
    "pack",
    "product",
    "unpacked",
    "with_times",
]
