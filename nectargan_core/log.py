"""Reading a loss log: as arrays, and in the forms that other tools read."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nectargan_core.errors import LossLogError, UnknownLossError, did_you_mean, warn
from nectargan_core.history import Records
from nectargan_core.log_file import log_name, log_rank
from nectargan_core.log_format import VERSION, VERSION_KEY, decode_line

_COLUMNS = ("step", "epoch", "loss", "weight", "unweighted")


class LossLog:
    """A loss log, read back.

    Reads what has been flushed when it is made, also while the run goes on. A last line that a kill left unfinished
    is left out; a damaged line in the middle is named in a warning and left out.

    Args:
        path: The log, or the directory that it is in.

    Raises:
        LossLogError: If there is no log, or it was written by a newer version.

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
        self.path = _find(Path(path))
        self.header: dict[str, Any] = {}
        chunks: dict[str, list[Records]] = {}
        for line in self._lines():
            if isinstance(line, Records):
                chunks.setdefault(line.name, []).append(line)
            elif line.get(VERSION_KEY, 0) > VERSION:
                raise LossLogError(
                    f"{self.path} is in version {line[VERSION_KEY]} of the format, and this reads up to {VERSION}; "
                    "update nectargan-core"
                )
            else:
                self.header = self.header or line
        self._series = {name: _joined(name, parts) for name, parts in chunks.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """The losses that have records, in the order of their first."""
        return tuple(self._series)

    def series(self, name: str) -> Records:
        """Return all records of a loss, in the order in which they were made.

        Returns:
            An object with the arrays `step`, `epoch`, `loss` (weighted), `weight` and `unweighted`.

        Raises:
            UnknownLossError: If the log has no records of it.
        """
        try:
            return self._series[name]
        except KeyError:
            listed = ", ".join(self._series) or "none"
            raise UnknownLossError(
                f"{self.path} has no records of a loss {name!r}; it has {listed}.{did_you_mean(name, self._series)}",
                name=name,
                known=self.names,
            ) from None

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write every record as a row `name,step,epoch,loss,weight,unweighted`, a loss after the other."""
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("name", *_COLUMNS))
            for name, records in self._series.items():
                columns = (getattr(records, column).tolist() for column in _COLUMNS)
                writer.writerows((name, *row) for row in zip(*columns, strict=True))

    def to_json(self, path: str | os.PathLike[str]) -> None:
        """Write NectarGAN's own log: `{"LOSSMANAGER_LOG": {..., "loss_functions": {name: {"loss", "weights"}}}}`.

        Values that are nan or infinite are written as null, which JSON has in their place.
        """
        functions = {
            name: {"loss": _jsonable(records.loss), "weights": _jsonable(records.weight)}
            for name, records in self._series.items()
        }
        keys = ("device", "dataroot", "dataset_length", "experiment")
        log = {**{key: self.header.get(key) for key in keys}, "loss_functions": functions}
        text = json.dumps({"LOSSMANAGER_LOG": log}, allow_nan=False)
        Path(path).write_text(text + "\n", encoding="utf-8")

    def _lines(self) -> Iterable[dict[str, Any] | Records]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except OSError as error:
            raise LossLogError(f"cannot read {self.path}: {error.strerror or error}") from error
        # What follows the last line end is being written, or was when the process was killed.
        for number, line in enumerate(lines[:-1], start=1):
            try:
                yield decode_line(line)
            except ValueError as error:
                warn(f"{self.path}:{number} is damaged and left out: {error}")


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise LossLogError(f"there is no loss log at {path}; give the log, or the experiment_dir that it is in")
    found = sorted((rank, name) for name in path.iterdir() if (rank := log_rank(name.name)) is not None)
    if not found:
        raise LossLogError(f"there is no {log_name()} in {path}; was the run logged, and flushed or closed?")
    return found[0][1]


def _joined(name: str, parts: list[Records]) -> Records:
    columns = {column: np.concatenate([getattr(part, column) for part in parts]) for column in _COLUMNS}
    return Records(name=name, **columns)


def _jsonable(values: Any) -> list[float | None]:
    return [value if np.isfinite(value) else None for value in values.tolist()]
