"""The observer that writes what a manager records to files that TensorBoard reads."""

from __future__ import annotations

import io
import math
import os
import socket
import time
import warnings
import weakref
from pathlib import Path
from typing import Any

from nectargan_core import LossManager, Records, Scalars, ScalarStream, hookimpl
from nectargan_core.errors import NectarganError, NectarganWarning
from nectargan_tensorboard import events, objective
from nectargan_tensorboard.file import EventFile, has_events

# The observers that write to a directory, by its path without links.
_WRITING: weakref.WeakValueDictionary[str, TensorBoard] = weakref.WeakValueDictionary()


class TensorBoard:
    """Writes what one manager records to a directory that TensorBoard shows as a run.

    Give it to a manager by name, `LossManager(observers=["tensorboard"])`, or as an object where it needs options. It
    writes once a flush, and nothing in between. In a distributed run the process of rank 0 writes.

    Args:
        log_dir: A local directory for this run alone: a second manager that would write to it at the same time is
            refused, with a warning. None: `tensorboard` in the `experiment_dir` of the manager, and
            without one `runs/<date>_<host>` in the working directory, as for `torch.utils.tensorboard`.
        loss_maps: Seconds between two pictures of the loss maps, at least 0; None for no pictures. To draw them takes
            most of a second.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the directory is none of this machine, or the seconds are negative.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as directory:
        ...     observer = TensorBoard(log_dir=directory)
        ...     with LossManager(observers=[observer]) as manager:
        ...         manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=100.0)
        ...         manager.tick(epoch=0)
        ...         _ = manager.compute_loss_xy("G_L1", torch.zeros(4), torch.ones(4))
        ...     print([path.name.split(".")[2] for path in observer.log_dir.iterdir()])
        ['tfevents']
    """

    def __init__(self, log_dir: str | os.PathLike[str] | None = None, *, loss_maps: float | None = 300.0) -> None:
        self._given = None if log_dir is None else _local(log_dir)
        self._working = Path.cwd()
        self._loss_maps = None if loss_maps is None else _seconds(loss_maps)
        self._pid: int | None = None
        self._manager: weakref.ref[LossManager] | None = None
        # The directory of the log, which stays where it is wherever the program goes.
        self._experiment_dir: Path | None = None
        self._file: EventFile | None = None
        # Writes what waits where the manager is collected, and was not closed.
        self._finalizer: weakref.finalize[Any, Any] | None = None
        # Whether nothing is written, since another manager writes to the directory.
        self._is_refused = False
        self._stream = ScalarStream()
        # From which step on records are superseded, where the next block says so.
        self._restart: int | None = None
        # What the text of the objective says, and when loss maps are due.
        self._fingerprint: str | None = None
        self._maps_due = -math.inf

    @property
    def log_dir(self) -> Path | None:
        """Where it writes; None before the first flush, and where nothing is written."""
        return None if self._file is None else self._file.directory

    @hookimpl
    def nectargan_loss_registered(self, manager: LossManager) -> None:
        """Find out where the directory of the log is, before the program may go elsewhere."""
        if self._manager is None:
            self._see(manager)

    @hookimpl
    def nectargan_history_flushed(self, manager: LossManager, chunks: tuple[Records, ...]) -> None:
        """Write what is new."""
        if not self._writes(manager):
            return
        if self._file is None:
            self._file = self._begun(manager, chunks)
            self._finalizer = weakref.finalize(manager, self._write_rest_of_collected)
            self._finalizer.atexit = False  # the manager has not had its last flush then
        self._file.append(self._restarted() + _encoded(self._stream.add(chunks, manager.get_registered_losses())))
        self._write_objective(manager, self._file, min(int(chunk.step.min()) for chunk in chunks))
        self._write_loss_maps(manager, self._file)

    @hookimpl
    def nectargan_history_rewound(self, manager: LossManager, step: int) -> None:
        """Have TensorBoard forget what is superseded, once something follows."""
        if not self._writes(manager):
            return
        self._stream.rewind(step)
        self._restart = step if self._restart is None else min(step, self._restart)

    @hookimpl
    def nectargan_manager_closed(self, manager: LossManager) -> None:
        """Write what waited for a newer step."""
        if self._file is None or not self._writes(manager):
            return
        if self._finalizer is not None:
            self._finalizer.detach()
        try:
            self._file.append(_encoded(self._stream.rest()), is_last=True)
            self._maps_due = -math.inf
            self._write_loss_maps(manager, self._file)
        finally:
            for key in [key for key, observer in _WRITING.items() if observer is self]:
                del _WRITING[key]

    def _writes(self, manager: LossManager) -> bool:
        """Whether this process writes what this manager records.

        Raises:
            NectarganError: If the observer is of another manager.
        """
        if self._manager is None:
            self._see(manager)
        if self._manager is None or self._manager() is not manager:
            raise NectarganError(
                "this TensorBoard writes what another manager records; give each manager one of its own"
            )
        if self._pid is None:
            self._pid = os.getpid()
        return self._pid == os.getpid() and manager.rank == 0 and not self._is_refused

    def _see(self, manager: LossManager) -> None:
        self._manager = weakref.ref(manager)
        if manager.experiment_dir is not None:
            # The manager has made it, here or where it was given this observer.
            is_here = os.path.isdir(manager.experiment_dir)  # noqa: PTH112 # Path.is_dir may raise
            self._experiment_dir = (Path.cwd() if is_here else self._working) / manager.experiment_dir

    def _begun(self, manager: LossManager, chunks: tuple[Records, ...]) -> EventFile:
        """Return the file to write to, at the first flush.

        Raises:
            NectarganError: If another manager writes to its directory.
        """
        is_new = False
        if self._given is not None:
            directory = self._working / self._given
        elif self._experiment_dir is not None:
            directory = self._experiment_dir / "tensorboard"
        else:
            directory, is_new = self._working / "runs" / _name_of_run(), True
        if not is_new:
            self._claim(directory)
        if is_new or manager.step < 0 or not has_events(directory):
            # A run begins, and takes the place of what is there. TensorBoard heeds a restart only after a start.
            self._restart = 0
        elif max(int(chunk.step.max()) for chunk in chunks) <= manager.step:
            # It goes on, and was perhaps interrupted further on. Not so without a clock, where each loss has its own
            # steps, which go beyond those of the log.
            steps = [int(chunk.step.min()) for chunk in chunks]
            self._restart = min([*steps, *([] if self._restart is None else [self._restart])])
        return EventFile(directory, is_new=is_new)

    def _claim(self, directory: Path) -> None:
        """Be the only one of this process that writes to a directory, until the manager is closed."""
        other = _WRITING.setdefault(os.path.realpath(directory), self)
        if other is self:
            return
        if other._pid == os.getpid() and other._manager is not None and other._manager() is not None:
            self._is_refused = True
            raise NectarganError(
                f"another manager writes to {directory}, so nothing of this one is written; give this one another "
                "log_dir, or close the other one before"
            )
        # Of a manager that was collected, or of the process that this one was forked from.
        _WRITING[os.path.realpath(directory)] = self

    def _write_rest_of_collected(self) -> None:
        if self._file is None or self._pid != os.getpid():
            return
        try:
            self._file.append(_encoded(self._stream.rest()), is_last=True)
        except NectarganError as error:
            warnings.warn(f"TensorBoard: {error}", NectarganWarning, stacklevel=2)

    def _restarted(self) -> bytes:
        step, self._restart = self._restart, None
        return b"" if step is None else events.restart(time.time(), step)

    def _write_objective(self, manager: LossManager, file: EventFile, step: int) -> None:
        """Write what the objective is, where that has changed."""
        manifest = manager.manifest()
        if manifest.fingerprint == self._fingerprint:
            return
        now = time.time()
        block = events.text("objective", now, step, objective.markdown(manifest))
        if self._fingerprint is None:
            block += events.hyperparameters(now, objective.hyperparameters(manifest))
        file.append(block)
        self._fingerprint = manifest.fingerprint

    def _write_loss_maps(self, manager: LossManager, file: EventFile) -> None:
        """Write a picture of the loss maps, where there are any and it is due."""
        if self._loss_maps is None or time.monotonic() < self._maps_due:
            return
        if not any(tensor.ndim for tensor in manager.get_loss_tensors().values()):
            return
        # Whether or not it can be drawn.
        self._maps_due = time.monotonic() + self._loss_maps
        picture = io.BytesIO()
        manager.save_loss_maps(picture)
        file.append(events.png("loss_maps", time.time(), max(manager.step, 0), picture.getvalue()))


def _encoded(scalars: list[Scalars]) -> bytes:
    return b"".join(events.scalars(each.tag, each.step, each.time, each.value) for each in scalars)


def _local(log_dir: str | os.PathLike[str]) -> Path:
    try:
        text = os.fspath(log_dir)
    except TypeError:
        text = None
    if not isinstance(text, str):
        raise TypeError(f"log_dir is a directory as str or Path, or None, got {type(log_dir).__name__}")
    if not text or "://" in text:
        raise ValueError(f"log_dir is a directory of this machine, such as 'runs/first', got {text!r}")
    return Path(text)


def _seconds(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"loss_maps is a number of seconds, or None, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"loss_maps is a number of seconds of at least 0, or None, got {value}")
    return float(value)


def _name_of_run() -> str:
    return f"{time.strftime('%b%d_%H-%M-%S')}_{socket.gethostname()}"
