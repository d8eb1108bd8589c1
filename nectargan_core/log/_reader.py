"""`LossLog`: reads a log back as arrays, draws it, and hands it on to other tools."""

from __future__ import annotations

import os
import stat
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, shown
from nectargan_core.errors import LossLogError, UnknownLossError
from nectargan_core.log._drawing import draw_runs
from nectargan_core.log._export import write_csv, write_parquet
from nectargan_core.log._file import log_name, log_rank, read_at
from nectargan_core.log._index import LogIndex
from nectargan_core.log._nectargan import (
    NectarganLog,
    as_nectargan_log,
    find_nectargan_log,
    no_log,
    write_nectargan_log,
)
from nectargan_core.log._records import COLUMNS, Records, merged
from nectargan_core.log._tables import as_html

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# A log of so many bytes is read at once; a larger one stays open, and is read again where a loss is asked for.
_SMALL = 1 << 20
# Where a process has so many files open, larger ones are read at once too: systems allow some hundred.
_MANY = 100


class LossLog:
    """A loss log, read back.

    Reads what has been flushed when it is made, also while the run goes on; a loss is parsed when it is asked for. What
    a resumed run superseded is left out. So is a last line that a kill left unfinished, and a damaged line, which is
    named in a warning; of many such lines the first are named and the others counted.

    Args:
        path: A log, or the directory that the logs of a run are in: one, or one for each rank. NectarGAN's own
            `loss_log.json` is read, too: if it is given, or is the only log in the directory. It has no steps and
            epochs: `step` is the place in its list, `epoch` is 0, and `unweighted` is `loss` / `weight`, nan where that
            is 0.

    Raises:
        LossLogError: If there is no log, no line of the file is one of a log, or it was written by a newer version.
        TypeError: If it is no path.

    Example:
        >>> import tempfile, torch
        >>> from nectargan_core import LossManager
        >>> directory = tempfile.mkdtemp()
        >>> with LossManager(experiment_dir=directory) as manager:
        ...     manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
        ...     _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
        >>> log = LossLog(directory)
        >>> log.names, log.series("G_L1").loss.tolist()
        (('G_L1',), [100.0])
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._logs: dict[int, NectarganLog | _Log]
        # What several ranks have recorded of a loss, as one.
        self._merged: dict[str, Records] = {}
        try:
            self._path = file = arguments.path("path", path)
            theirs = find_nectargan_log(file)
            found = {} if theirs is not None else _find(file)
        except (OSError, ValueError) as error:  # a name that no file can have, or a directory that may not be read
            if isinstance(error, LossLogError):
                raise
            raise LossLogError(f"there is no loss log there: {error}") from error
        if theirs is not None:
            self._logs = {0: NectarganLog(theirs)}
            return
        logs = _of_one_run({rank: _Log(file) for rank, file in found.items()})
        if all(log.is_other_file for log in logs.values()):
            raise no_log(next(iter(found.values())))
        self._logs = dict(logs)

    def __repr__(self) -> str:
        count = len(self.names)
        return f"<{type(self).__name__} {str(self._path)!r}: {count} series>"

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks that have a log here, in order."""
        return tuple(self._logs)

    @property
    def headers(self) -> tuple[dict[str, Any], ...]:
        """The header of each run in the log of the first rank: the one that began it, and those that resumed it."""
        return tuple(next(iter(self._logs.values())).headers)

    @property
    def header(self) -> dict[str, Any]:
        """The header of the run that began the log; empty if there is none."""
        return next(iter(self.headers), {})

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that have records, in the order of their first."""
        return tuple(dict.fromkeys(name for log in self._logs.values() for name in log.names))

    @property
    def last_step(self) -> int:
        """The last step of any loss, -1 if there are no records."""
        keep = len(self._logs) == 1  # the records of many ranks fill the memory
        steps = (log.records(name, keep).step for log in self._logs.values() for name in log.names)
        return max((int(step.max()) for step in steps if len(step)), default=-1)

    @property
    def duration(self) -> float | None:
        """The seconds that the run has taken, without those between its end and where it was resumed.

        They are counted from when a manager was made to its last flush. None where the log does not say it, such as
        NectarGAN's own.
        """
        return next(iter(self._logs.values())).duration

    def series(self, name: str, rank: int | None = None) -> Records:
        """Return the records of a loss.

        Args:
            name: The loss.
            rank: The rank whose records are asked for. None: all, in the order in which they were made if there is
                one rank; with several, one entry a step, the mean over the records of all ranks, as `per_step()` of
                records gives it. The ranks are read one after the other, so that the records of one are in memory.

        Returns:
            An object with the arrays `step`, `epoch`, `loss` (weighted), `weight`, `unweighted` and `count`; its
            `per_step()` gives one entry a step.

        Raises:
            UnknownLossError: If the log has no records of it.
            LossLogError: If there is no log of the rank.
            TypeError: If the name is no str.
        """
        if not isinstance(name, str):
            raise TypeError(f"the name of a loss is a str, got {shown(name)}")
        if name not in self.names:
            hint = did_you_mean(name, self.names)
            raise UnknownLossError(
                f"the log has no records of a loss {name!r}; it has {listed(self.names)}.{hint}",
                name=name,
                known=self.names,
            )
        if rank is not None and rank not in self._logs:
            raise LossLogError(f"there is no log of rank {rank}; there are those of {', '.join(map(str, self.ranks))}")
        if rank is not None or len(self._logs) == 1:
            return self._logs[self.ranks[0] if rank is None else rank].records(name)
        if name not in self._merged:
            self._merged[name] = self._passing(name)
        return self._merged[name]

    def _passing(self, name: str) -> Records:
        """Return what `series(name)` does, without keeping it, for what reads all losses of a large log."""
        if name in self._merged:
            return self._merged[name]
        parts = (log.records(name, keep=False) for log in self._logs.values() if name in log.names)
        return next(parts) if len(self._logs) == 1 else merged(name, parts)

    def plot(
        self,
        query: str | Iterable[str] | None = None,
        *,
        by: Literal["step", "epoch"] = "step",
        smooth: float | None = None,
    ) -> Figure:
        """Draw the log: a panel for each tag with the sum of its losses, and beside them weights, scalars and the rest.

        Losses are drawn weighted, as they are summed: the records pale, and above them a smoothed line. Weights have a
        panel where they change. What is nan or infinite is a gap. However long the run is, no peak is lost.

        Args:
            query: Tags, splits and names that are drawn, such as `"G"`, `"val"`, `"psnr"` or `["G_L1", "val/G_L1"]`; a
                name without a split stands for all splits. None: everything.
            by: Whether it is drawn over steps or over epochs.
            smooth: Over which part of the run the smoothed line averages, from 0 (none is drawn) to 1. None: 3 %, and
                at least 9 records.

        Returns:
            A figure, which a notebook shows, and whose `savefig("loss.png")` writes it. pyplot knows nothing of it.

        Raises:
            LossLogError: If there are no records.
            UnknownLossError: If there is nothing of the query.
            NectarganError: If matplotlib is not installed.
            ValueError: If `by` or `smooth` is out of range.

        Example:
            >>> import tempfile, torch
            >>> from nectargan_core import LossManager
            >>> with LossManager(experiment_dir=tempfile.mkdtemp()) as manager:
            ...     manager.register_loss_fn("G_L1", torch.nn.L1Loss(), tags=["G"])
            ...     _ = manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
            >>> figure = LossLog(manager.experiment_dir).plot()
            >>> figure.axes[0].get_title(loc="left")
            'G'
        """
        figure, _ = draw_runs({str(self.header.get("experiment") or ""): self}, query=query, by=by, smooth=smooth)
        return figure

    def _repr_html_(self) -> str:
        return as_html(self)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write every record as a row `name,step,epoch,loss,weight,unweighted`, a loss after the other.

        Of several ranks a row is the mean over the ranks at a step, as in `series`.
        """
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            write_csv({"": self}, file)

    def to_parquet(self, path: str | os.PathLike[str]) -> None:
        """Write every record as a row of a Parquet file with the columns of `to_csv`, a loss after the other.

        The names are a dictionary column, so that they take no room.

        Raises:
            NectarganError: If pyarrow is not installed.
        """
        write_parquet({"": self}, Path(path))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write NectarGAN's own log: `{"LOSSMANAGER_LOG": {..., "loss_functions": {name: {"loss", "weights"}}}}`.

        NectarGAN's own tools read it, and `LossLog` does. As in NectarGAN's logs, values that are nan or infinite are
        written as `NaN` and `Infinity`, which Python reads and strict readers of JSON refuse. `dataset_length` is 1
        where it is not known, since those tools divide by it: their graphs then count records, not epochs.

        A file there that has anything else than the begin of this, such as a log that NectarGAN itself has written, is
        moved aside to `<name>.<n>.json`, with a warning.
        """
        text = as_nectargan_log(self.header, {name: self.series(name) for name in self.names})
        write_nectargan_log(Path(path), text)

    def to_pandas(self) -> pd.DataFrame:
        """Return every record as a row of a data frame with the columns of `to_csv`.

        Raises:
            ImportError: If pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("LossLog.to_pandas needs pandas: pip install pandas") from error
        frames = [pd.DataFrame({"name": [], **{column: [] for column in COLUMNS}})]
        for name in self.names:
            records = self.series(name)
            frames.append(pd.DataFrame({"name": name, **{column: getattr(records, column) for column in COLUMNS}}))
        frame: pd.DataFrame = pd.concat([frame for frame in frames if len(frame)] or frames, ignore_index=True)
        return frame


def _find(path: Path) -> dict[int, Path]:
    if path.is_file():
        return {log_rank(path.name) or 0: path}
    if not path.is_dir():
        raise LossLogError(f"there is no loss log at {path}; give the log, or the experiment_dir that it is in")
    found = {rank: file for file in path.iterdir() if (rank := log_rank(file.name)) is not None}
    if not found:
        raise LossLogError(
            f"there is no {log_name()} in {path}; was the run logged, and flushed or closed? A running one writes "
            "it with its first flush, which is after 30 seconds unless flush_every= says otherwise"
        )
    return dict(sorted(found.items()))


def _of_one_run(logs: dict[int, _Log]) -> dict[int, _Log]:
    """Return the logs of the ranks of one run, without what other runs have left in them.

    What holds is what the log of the lowest rank says: an earlier run with more ranks may have left files, and where a
    run was resumed with fewer ranks, those that are gone could not write what is superseded of their records.
    """
    lowest, first = next(((rank, log) for rank, log in logs.items() if log.headers), (0, None))
    if first is None:
        return logs
    sizes = [_size(header) for header in first.headers]
    if 0 not in sizes:
        logs = {rank: log for rank, log in logs.items() if rank <= lowest or rank < max(sizes)}
    for header, size, rewinds in zip(first.headers, sizes, first.rewinds, strict=True):
        if not size:
            continue
        # Whatever an earlier run has left is superseded by one that began the log anew.
        limits = rewinds if header.get("resumed") else [{"step": 0}, *rewinds]
        for rank, log in logs.items():
            if rank >= size and rank > lowest:
                log.supersede(header.get("started"), limits)
    return logs


def _size(header: Mapping[str, Any]) -> int:
    """Return the number of ranks that a header says; 0 where it does not say it."""
    size = header.get("world_size")
    return size if isinstance(size, int) and size > 0 else 0


class _Log:
    """One log file as it was when it was read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._index = LogIndex(path)
        try:
            self._file = _Snapshot(path)
            self._index.extend(self._file.read, complete=True)
        except OSError as error:
            raise self._unreadable(error) from error
        self.headers = self._index.headers
        self.names = self._index.names
        self.is_other_file = self._index.is_other_file
        self.duration = _duration(self.headers, self._index.written)

    @property
    def rewinds(self) -> list[list[Mapping[str, Any]]]:
        """What the rewinds of the run of each header say."""
        return [[to for run, to in self._index.rewinds if run == number + 1] for number in range(len(self.headers))]

    def supersede(self, started: object, limits: Iterable[Mapping[str, Any]]) -> None:
        """Leave out what rewinds of another rank supersede of what was recorded before a run.

        Args:
            started: When that run started, in seconds since 1970; anything else is none.
            limits: What the rewinds say.
        """
        if not isinstance(started, (int, float)):
            return
        starts = (header.get("started") for header in self.headers)
        later = (isinstance(start, (int, float)) and start >= started for start in starts)
        run = next((number for number, is_later in enumerate(later) if is_later), len(self.headers))
        for limit in limits:
            self._index.supersede(run, limit)

    def records(self, name: str, keep: bool = True) -> Records:
        try:
            return self._index.records(name, self._file.read, keep)
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> LossLogError:
        return LossLogError(f"cannot read {self._path}: {error.strerror or error}")


def _duration(headers: Sequence[Mapping[str, Any]], written: Sequence[float | None]) -> float | None:
    spans = [
        max(0.0, end - header["started"])
        for header, end in zip(headers, written, strict=True)
        if end is not None and isinstance(header.get("started"), (int, float))
    ]
    return sum(spans) if spans else None


class _Snapshot:
    """A file as it was when it was opened, also when it was renamed, removed or appended to since.

    A small file is read at once. A larger one stays open, and is closed when this is collected.

    Args:
        path: The file; a link to one is followed.

    Raises:
        LossLogError: If it is not an ordinary file.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        # Reading a FIFO would wait, and reading a device would not end.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise LossLogError(f"{path} is not an ordinary file")
        self._size = status.st_size
        self._data: bytes | None = None
        if self._size <= _SMALL or descriptor >= _MANY:
            self._hold()

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes from one position up to another, or up to the end.

        Raises:
            OSError: If they cannot be read.
        """
        stop = min(stop, self._size)
        return read_at(self._descriptor, start, stop - start) if self._data is None else self._data[start:stop]

    def _hold(self) -> bytes:
        if self._data is None:
            self._data = read_at(self._descriptor, 0, self._size)
            self._close()
        return self._data

    def __getstate__(self) -> dict[str, Any]:
        # A descriptor means nothing in another process, and two copies cannot both close it.
        return {"_size": self._size, "_data": self._hold()}
