"""The log of a run: the columns of a record, the lines and the file that records are written to, and the reader."""

from nectargan_core.log._curves import Curve, Panel, PanelKind, extremes, matching, panels
from nectargan_core.log._drawing import draw_runs, save_figure
from nectargan_core.log._export import write_csv, write_parquet
from nectargan_core.log._file import LogFile, is_of_system
from nectargan_core.log._follow import Follower, Newest, log_in
from nectargan_core.log._format import describe_run, encode_chunk, encode_rewind
from nectargan_core.log._index import LogIndex
from nectargan_core.log._kinds import GRADIENTS, Entry, Kind, entries
from nectargan_core.log._labels import labels
from nectargan_core.log._nectargan import as_nectargan_log
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
from nectargan_core.log._scalars import Scalars, ScalarStream
from nectargan_core.log._summary import Summary, Value, summaries, summary
from nectargan_core.log._tables import about, nonfinite, span_of, tables, time_of

__all__ = [
    "COLUMNS",
    "GRADIENTS",
    "RECORD",
    "Curve",
    "Entry",
    "Follower",
    "Kind",
    "LogFile",
    "LogIndex",
    "LossLog",
    "Newest",
    "Panel",
    "PanelKind",
    "Records",
    "ScalarStream",
    "Scalars",
    "Summary",
    "Value",
    "about",
    "as_nectargan_log",
    "as_records",
    "describe_run",
    "draw_runs",
    "encode_chunk",
    "encode_rewind",
    "entries",
    "extremes",
    "is_of_system",
    "joined",
    "labels",
    "log_in",
    "matching",
    "nonfinite",
    "pack",
    "panels",
    "product",
    "save_figure",
    "span_of",
    "summaries",
    "summary",
    "tables",
    "time_of",
    "unpacked",
    "with_times",
    "write_csv",
    "write_parquet",
]
