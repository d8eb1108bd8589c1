"""The observer that sends what a manager records to MLflow."""

from __future__ import annotations

import atexit
import io
import json
import math
import os
import re
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nectargan_core import LossManager, Records, Scalars, ScalarStream, hookimpl
from nectargan_core.errors import NectarganError
from nectargan_mlflow.metrics import batches
from nectargan_mlflow.names import params
from nectargan_mlflow.run import RunOfMLflow, active_run_id
from nectargan_mlflow.sender import Sender

if TYPE_CHECKING:
    from mlflow import MlflowClient

# What MLflow takes in one call.
_PARAMS = 100
# So many flushes wait for a run that could not be begun: ten minutes of a training.
_FLUSHES = 20

# The observers that send to a run, by its id and their prefix.
_SENDING: weakref.WeakValueDictionary[tuple[str, str], MLflow] = weakref.WeakValueDictionary()


class MLflow:
    """Sends what one manager records to a run of MLflow.

    Give it to a manager by name, `LossManager(observers=["mlflow"])`, or as an object where it needs options. The run
    is the one that is active (`mlflow.active_run()`, or that of `MLFLOW_RUN_ID`) at the first flush; where none is, one
    is begun then, and ended when the manager is closed. What is new is handed once a flush to a thread, which sends it,
    and nothing is done in between. In a distributed run the process of rank 0 sends.

    Args:
        experiment: Name of the experiment of a run that is begun here; it is made where there is none. None: that of
            `mlflow.set_experiment`, `MLFLOW_EXPERIMENT_NAME` or `MLFLOW_EXPERIMENT_ID`, or MLflow's default.
        name: Name of the run. None: that of the `experiment_dir`.
        tracking_uri: Where the run is, such as `"http://localhost:5000"`; a run is begun there. None: what MLflow was
            told by `mlflow.set_tracking_uri` or `MLFLOW_TRACKING_URI`, or its default.
        prefix: What stands before the names of all metrics and params, such as `"teacher/"`, where several managers
            send to one run.
        points: About how many points of a curve a flush may send, at least 1. Where there are more steps, a point is
            the mean of several. MLflow's own database takes a tenth of a second for a thousand values of one curve, and
            more for those of several.
        loss_maps: Seconds between two pictures of the loss maps, at least 0; None for no pictures. To draw them takes
            most of a second.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of its range, a text is empty, or `prefix` has a character other than letters,
            digits, `_`, `-`, `.`, blanks and `/`, or leads elsewhere, as `"../"` does.

    Example:
        >>> from nectargan_core import LossManager
        >>> manager = LossManager(observers=[MLflow("facades", points=100)])
    """

    def __init__(
        self,
        experiment: str | None = None,
        *,
        name: str | None = None,
        tracking_uri: str | None = None,
        prefix: str = "",
        points: int = 100,
        loss_maps: float | None = 300.0,
    ) -> None:
        self._experiment = _text("experiment", experiment)
        self._name = _text("name", name)
        self._tracking_uri = _text("tracking_uri", tracking_uri)
        self._prefix = _checked_prefix(prefix)
        self._loss_maps = None if loss_maps is None else _seconds(loss_maps)
        self._stream = ScalarStream(_points(points))
        # What flushes gave that could not be handed on yet.
        self._waiting: deque[Sequence[Scalars]] = deque(maxlen=_FLUSHES)
        self._run: RunOfMLflow | None = None
        self._sender: Sender | None = None
        self._pid: int | None = None
        self._manager: weakref.ref[LossManager] | None = None
        self._directory: Path | None = None
        # Whether the manager is closed because Python exits.
        self._is_exiting = False
        self._at_exit: Callable[[], None] | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        # Whether nothing more is sent: after the end, and where another manager sends under the same names.
        self._has_ended = False
        self._fingerprint: str | None = None
        # When the next picture of loss maps is due, and at which step the last one was drawn.
        self._maps_due = -math.inf
        self._maps_step: int | None = None

    @property
    def run_id(self) -> str | None:
        """The id of the run; None before it is known, which takes a server a moment after the first flush."""
        return None if self._sender is None else self._sender.run_id

    @hookimpl
    def nectargan_loss_registered(self, manager: LossManager) -> None:
        """Have the manager closed when Python exits, before MLflow ends its active run."""
        if self._sends(manager) and self._at_exit is None:
            self._close_at_exit(manager)

    @hookimpl
    def nectargan_history_flushed(self, manager: LossManager, chunks: tuple[Records, ...]) -> None:
        """Have what is new sent."""
        if not self._sends(manager):
            return
        # First, so that what cannot be sent now is sent with the next flush.
        self._waiting.append(self._stream.add(chunks, manager.get_registered_losses()))
        if self._sender is None:
            self._sender = self._begun(manager)
        self._send_waiting(self._sender)
        self._send_objective(manager, self._sender)
        self._send_loss_maps(manager, self._sender)
        _tell(self._sender)

    @hookimpl
    def nectargan_history_rewound(self, manager: LossManager, step: int) -> None:
        """Leave out what is superseded and waits for a newer step; what was sent stays in MLflow."""
        if self._sends(manager):
            self._stream.rewind(step)

    @hookimpl
    def nectargan_manager_closed(self, manager: LossManager) -> None:
        """Send what waited for a newer step, end a run that was begun here, and wait for the server."""
        if self._manager is None or not self._sends(manager):
            return
        if self._sender is None and self._waiting:
            self._sender = self._begun(manager)
        if self._run is None or self._sender is None:
            return
        run, sender, status, self._has_ended = self._run, self._sender, _status(self._is_exiting), True
        if self._finalizer is not None:
            self._finalizer.detach()
        self._send_waiting(sender)
        self._send(sender, self._stream.rest())
        self._maps_due = -math.inf
        try:
            self._send_loss_maps(manager, sender)
        finally:
            sender.put(partial(_end, run, status))
            sender.close()
            for key in [key for key, observer in _SENDING.items() if observer is self]:
                del _SENDING[key]
            if self._at_exit is not None:
                atexit.unregister(self._at_exit)
        _tell(sender)

    def _sends(self, manager: LossManager) -> bool:
        """Whether this process sends what this manager records.

        Raises:
            NectarganError: If the observer is of another manager.
        """
        if self._manager is None:
            self._manager, self._pid = weakref.ref(manager), os.getpid()
            # A program may change the working directory later.
            self._directory = None if manager.experiment_dir is None else manager.experiment_dir.absolute()
        if self._manager() is not manager:
            raise NectarganError("this MLflow sends what another manager records; give each manager one of its own")
        return self._pid == os.getpid() and not self._has_ended and manager.rank == 0

    def _begun(self, manager: LossManager) -> Sender:
        """Return what sends to the active run, or to one that is begun with the first that it sends."""
        active = None if self._tracking_uri is not None else active_run_id()
        if active is not None and _SENDING.setdefault((active, self._prefix), self) is not self:
            self._has_ended = True
            raise NectarganError(
                f"another manager sends to the run {active} under the same names; give one of them a prefix, such as "
                "MLflow(prefix='teacher/')"
            )
        directory = self._directory
        self._run = RunOfMLflow(
            active=active,
            tracking_uri=self._tracking_uri,
            experiment=self._experiment,
            name=self._name or (None if directory is None else directory.name),
            kept=None if directory is None else directory / "mlflow_run.json",
            log_started=manager.log_started,
        )
        sender = Sender(self._run.begin, self._run.check_server)
        self._finalizer = weakref.finalize(manager, _end_of_collected, sender, self._run, os.getpid())
        self._finalizer.atexit = False  # the manager has not had its last flush then
        self._close_at_exit(manager, sender)
        return sender

    def _close_at_exit(self, manager: LossManager, sender: Sender | None = None) -> None:
        """Close the manager when Python exits: before MLflow ends, since what came last ends first."""
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
        self._at_exit = partial(_close, weakref.ref(manager), weakref.ref(self), sender, os.getpid())
        atexit.register(self._at_exit)

    def _send_waiting(self, sender: Sender) -> None:
        while self._waiting:
            self._send(sender, self._waiting[0])
            self._waiting.popleft()

    def _send(self, sender: Sender, curves: Sequence[Scalars]) -> None:
        for batch in batches(curves, self._prefix):
            sender.put(batch.log)

    def _send_objective(self, manager: LossManager, sender: Sender) -> None:
        """Send what the objective is, where that has changed."""
        manifest = manager.manifest()
        if manifest.fingerprint != self._fingerprint:
            self._fingerprint = manifest.fingerprint
            sender.put(partial(_log_objective, manifest.to_dict(), self._prefix))

    def _send_loss_maps(self, manager: LossManager, sender: Sender) -> None:
        """Send a picture of the loss maps, where there are any and it is due."""
        if self._loss_maps is None or time.monotonic() < self._maps_due or manager.step == self._maps_step:
            return
        if not any(tensor.ndim for tensor in manager.get_loss_tensors().values()):
            return
        # Whether or not it can be drawn.
        self._maps_due, self._maps_step = time.monotonic() + self._loss_maps, manager.step
        picture = io.BytesIO()
        manager.save_loss_maps(picture)
        key, now = f"{self._prefix}loss_maps", int(time.time() * 1000)
        sender.put(partial(_log_picture, picture.getvalue(), key, max(manager.step, 0), now))


def _log_objective(manifest: dict[str, Any], prefix: str, client: MlflowClient, run_id: str) -> None:
    from mlflow.entities import Param

    client.log_text(run_id, json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", f"{prefix}manifest.json")
    # A param that is there cannot be changed, not even in a resumed run with another objective.
    known = client.get_run(run_id).data.params
    found = [Param(key, value) for key, value in params(manifest, prefix).items() if key not in known]
    for first in range(0, len(found), _PARAMS):
        client.log_batch(run_id, params=found[first : first + _PARAMS], synchronous=True)


def _log_picture(picture: bytes, key: str, step: int, timestamp: int, client: MlflowClient, run_id: str) -> None:
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        client.log_image(run_id, image, key=key, step=step, timestamp=timestamp, synchronous=True)


def _end(run: RunOfMLflow, status: str, client: MlflowClient, run_id: str) -> None:
    if run.is_own:
        client.set_terminated(run_id, status)


def _end_of_collected(sender: Sender, run: RunOfMLflow, pid: int) -> None:
    """End the run of a manager that was collected and not closed, but not in a forked process."""
    if os.getpid() == pid:
        sender.put(partial(_end, run, "FINISHED"))


def _close(manager: weakref.ref[LossManager], observer: weakref.ref[MLflow], sender: Sender | None, pid: int) -> None:
    """Close a manager, and wait for what sends, but not in a process that was forked from that of this id."""
    if os.getpid() != pid:
        return
    if (closed := observer()) is not None:
        closed._is_exiting = True
    if (alive := manager()) is not None:
        alive.close()
    if sender is not None:
        sender.close()


def _tell(sender: Sender) -> None:
    """Raise `NectarganError`, of which the manager makes a warning, for what went wrong in the thread."""
    if (error := sender.take_error()) is not None:
        raise NectarganError(error)


def _status(is_exiting: bool) -> str:
    """Return how a run ends that is closed now, because of an exception or because Python exits after one."""
    kind = sys.exc_info()[0]
    # In a session at a prompt, the last exception did not end Python.
    if kind is None and is_exiting and not hasattr(sys, "ps1"):
        kind = getattr(sys, "last_type", None)
    if kind is None:
        return "FINISHED"
    return "KILLED" if issubclass(kind, (KeyboardInterrupt, SystemExit)) else "FAILED"


def _text(what: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} is a text, or None, got {type(value).__name__}")
    if value is not None and not value.strip():
        raise ValueError(f"{what} is empty; leave it out to have MLflow choose one")
    return value


def _checked_prefix(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"prefix is a text such as 'teacher/', got {type(value).__name__}")
    if re.fullmatch(r"[\w. /-]*", value, re.ASCII) is None:
        raise ValueError(
            f"prefix has letters a to z, digits, '_', '-', '.', blanks and '/', such as 'teacher/', got {value!r}"
        )
    if value.startswith(("/", "..")) or "//" in value or {".", ".."} & set(value.split("/")):
        raise ValueError(f"prefix is the beginning of a path inside of the run, such as 'teacher/', got {value!r}")
    return value


def _points(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"points is a whole number of points, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"points is a number of points of at least 1, got {value}")
    return value


def _seconds(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"loss_maps is a number of seconds, or None, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"loss_maps is a number of seconds of at least 0, or None, got {value}")
    return float(value)
