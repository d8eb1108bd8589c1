"""The observer that sends what a manager records to Weights & Biases."""

from __future__ import annotations

import atexit
import contextlib
import inspect
import io
import json
import math
import os
import re
import sys
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nectargan_core import LossManager, Records, Scalars, ScalarStream, hookimpl
from nectargan_core.errors import NectarganError
from nectargan_wandb.rows import STEP, Rows

if TYPE_CHECKING:
    import wandb

# In the directory of a log, the run that it was sent to.
_KEPT = "wandb_run.json"
# So many flushes wait for a run that could not be begun: ten minutes of a training.
_FLUSHES = 20
# To begin one may take W&B a minute and a half to fail. After a try of more than a second, the next one waits so many
# times as long.
_PAUSE, _QUICK_S = 10.0, 1.0

# The observers that send to a run, by its id and their prefix.
_SENDING: weakref.WeakValueDictionary[tuple[str, str], WandB] = weakref.WeakValueDictionary()


class WandB:
    """Sends what one manager records to a run of Weights & Biases.

    Give it to a manager by name, `LossManager(observers=["wandb"])`, or as an object where it needs options. The run is
    the one that is active (`wandb.run`) at the first flush; where none is, one is begun then, and finished when the
    manager is closed. Rows are sent once a flush, and nothing in between. In a distributed run the process of rank 0
    sends.

    Args:
        project: Project of a run that is begun here. None: `WANDB_PROJECT`, or what W&B makes of it.
        name: Its name. None: `WANDB_NAME`, or the name of the `experiment_dir`.
        run: The run to send to, in the place of the active one. It is not finished here.
        prefix: What stands before the names of all curves, such as `"teacher/"`, where several managers send to one
            run.
        points: About how many rows a flush may send, at least 1. Where there are more steps, a row has the means of
            several. W&B takes about ten rows a second, and there is a flush each 30 seconds.
        loss_maps: Seconds between two pictures of the loss maps, at least 0; None for no pictures. To draw them takes
            most of a second.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If a number is out of its range, `project` or `name` is empty, or `prefix` has a character other
            than letters, digits, `_`, `-`, `.`, blanks and `/`, or leads elsewhere, as `"../"` does.

    Example:
        >>> manager = LossManager(observers=[WandB(project="facades", loss_maps=None)])
    """

    def __init__(
        self,
        project: str | None = None,
        *,
        name: str | None = None,
        run: wandb.Run | None = None,
        prefix: str = "",
        points: int = 300,
        loss_maps: float | None = 300.0,
    ) -> None:
        self._project = _text("project", project)
        self._name = _text("name", name)
        if run is not None and not callable(getattr(run, "define_metric", None)):
            raise TypeError(f"run is a run of W&B, such as wandb.init() returns, got {type(run).__name__}")
        self._given = run
        if run is not None and (project is not None or name is not None):
            raise ValueError("project and name are of a run that is begun; with run= give neither")
        self._prefix = _checked_prefix(prefix)
        self._loss_maps = None if loss_maps is None else _seconds(loss_maps)
        self._stream = ScalarStream(_points(points))
        self._rows = Rows(self._prefix)
        # What flushes gave that could not be sent yet, how many were left out, and when a run is begun next, if it was
        # tried.
        self._waiting: deque[list[Scalars]] = deque(maxlen=_FLUSHES)
        self._left_out = 0
        self._begin_due: float | None = None
        self._cause: str | None = None
        self._run: wandb.Run | None = None
        self._pid: int | None = None
        self._manager: weakref.ref[LossManager] | None = None
        self._directory: Path | None = None
        # Whether the manager is closed because Python exits.
        self._is_exiting = False
        # Closes the manager when Python exits; and finishes the run where the manager is collected, and was not closed.
        self._at_exit: Callable[[], None] | None = None
        self._finalizer: weakref.finalize[Any, Any] | None = None
        # Whether nothing more is sent: after an error, and at the end.
        self._has_ended = False
        self._defined: set[str] = set()
        self._fingerprint: str | None = None
        # When the next picture of loss maps is due, and at which step the last one was drawn.
        self._maps_due = -math.inf
        self._maps_step: int | None = None

    @property
    def run(self) -> wandb.Run | None:
        """The run that it sends to; None before the first flush, and in a process that sends nothing."""
        return self._run

    @hookimpl
    def nectargan_loss_registered(self, manager: LossManager) -> None:
        """Have the manager closed when Python exits, before W&B is."""
        if self._sends(manager) and self._at_exit is None:
            self._close_at_exit(manager)

    @hookimpl
    def nectargan_history_flushed(self, manager: LossManager, chunks: tuple[Records, ...]) -> None:
        """Send what is new."""
        if not self._sends(manager):
            return
        # First, so that what cannot be sent now is sent with a later flush.
        self._left_out += len(self._waiting) == _FLUSHES
        self._waiting.append(self._stream.add(chunks, manager.get_registered_losses()))
        run = self._begun_run(manager)
        if run is None:
            return
        with self._giving_up():
            self._send_waiting(run)
            self._send_objective(manager, run)
        self._send_loss_maps(manager, run)

    @hookimpl
    def nectargan_history_rewound(self, manager: LossManager, step: int) -> None:
        """Leave out what is superseded and waits for a newer step; what was sent stays in the history of W&B."""
        if self._sends(manager):
            self._stream.rewind(step)

    @hookimpl
    def nectargan_manager_closed(self, manager: LossManager) -> None:
        """Send what waited for a newer step, and finish a run that was begun here."""
        if self._manager is None or self._manager() is not manager or self._pid != os.getpid():
            return
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
        run, exit_code = self._run, None
        try:
            if run is None and self._waiting and self._sends(manager):
                run = self._begun_run(manager)
            exit_code = _exit_code(self._is_exiting)
            if run is not None and not self._has_ended:
                with self._giving_up():
                    self._send_waiting(run)
                    self._send(run, self._stream.rest())
                    self._send_objective(manager, run)
                self._maps_due = -math.inf
                self._send_loss_maps(manager, run)
        finally:
            self._run = None
            self._has_ended = True
            for key in [key for key, observer in _SENDING.items() if observer is self]:
                del _SENDING[key]
            if self._finalizer is not None and self._finalizer.detach() is not None and run is not None:
                run.finish(exit_code=exit_code)
        missing = self._left_out + len(self._waiting)
        if missing and self._cause is not None:
            raise NectarganError(f"what {missing} flushes recorded was not sent to W&B: {self._cause}")

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
            raise NectarganError("this WandB sends what another manager records; give each manager one of its own")
        return self._pid == os.getpid() and not self._has_ended and manager.rank == 0

    @contextlib.contextmanager
    def _giving_up(self) -> Iterator[None]:
        """Send nothing more after an error, which the manager makes a warning of."""
        try:
            yield
        except Exception as error:
            self._has_ended = True
            raise NectarganError(f"nothing more of this run is sent to W&B: {_said(error)}") from error

    def _begun_run(self, manager: LossManager) -> wandb.Run | None:
        """Return the run to send to; None where it could not be begun and the next try is not due.

        Raises:
            NectarganError: The first time that it cannot be begun, and where another manager sends to it.
        """
        if self._run is not None:
            return self._run
        begin = time.monotonic()
        if self._begin_due is not None and begin < self._begin_due:
            return None
        is_known = self._cause is not None
        try:
            run = self._chosen(manager)
        except Exception as error:
            now = time.monotonic()
            took = now - begin
            self._begin_due, self._cause = now + (_PAUSE * took if took > _QUICK_S else 0.0), _said(error)
            if is_known:
                return None
            raise NectarganError(f"cannot send to W&B, later flushes try again: {self._cause}") from error
        with self._giving_up():
            self._share(run)
        self._run = run
        return run

    def _chosen(self, manager: LossManager) -> wandb.Run:
        """Return the run to send to: the one that was given, the active one, or one that is begun."""
        import wandb

        run = wandb.run if self._given is None else self._given
        if run is None:
            run = self._begun(manager)
        self._close_at_exit(manager)
        return run

    def _share(self, run: wandb.Run) -> None:
        """Raise `NectarganError`, and send nothing, where another manager sends under the same names."""
        if _SENDING.setdefault((run.id, self._prefix), self) is not self:
            raise NectarganError(
                f"another manager sends to the run {run.id} under the same names; give one of them a prefix, such as "
                "WandB(prefix='teacher/')"
            )
        run.define_metric(STEP, hidden=True)

    def _begun(self, manager: LossManager) -> wandb.Run:
        import wandb

        _refuse_to_ask_for_a_key()
        directory = self._directory
        former = _run_of_log(directory, manager.log_started)
        given: dict[str, Any] = {
            "project": self._project,
            "name": self._name or _unless_set("WANDB_NAME", None if directory is None else directory.name),
            "dir": _unless_set("WANDB_DIR", None if directory is None else str(directory)),
        }
        if former:
            given |= {**former, "name": None, "resume": "allow"}
        # Beside other runs, and not as the active one, which is the user's.
        run = wandb.init(**{key: value for key, value in given.items() if value is not None}, reinit="create_new")
        self._finalizer = weakref.finalize(manager, _finish, run, os.getpid())
        self._finalizer.atexit = False  # the manager has not had its last flush then
        if directory is not None and manager.log_started is not None:
            kept = {"log_started": manager.log_started, "id": run.id, "project": run.project, "entity": run.entity}
            with contextlib.suppress(OSError):  # a resumed run then has a run of its own
                (directory / _KEPT).write_text(json.dumps(kept), encoding="utf-8")
        return run

    def _close_at_exit(self, manager: LossManager) -> None:
        """Close the manager when Python exits: before W&B, which ends itself, since what came last ends first."""
        if self._at_exit is not None:
            atexit.unregister(self._at_exit)
        self._at_exit = partial(_close, weakref.ref(manager), weakref.ref(self), os.getpid())
        atexit.register(self._at_exit)

    def _send_waiting(self, run: wandb.Run) -> None:
        while self._waiting:
            self._send(run, self._waiting.popleft())

    def _send(self, run: wandb.Run, curves: list[Scalars]) -> None:
        for curve in curves:
            self._define(run, self._rows.name(curve.tag))
        for row in self._rows.of(curves):
            run.log(row)

    def _define(self, run: wandb.Run, name: str) -> None:
        """Have W&B draw a column over the steps of the clock."""
        if name not in self._defined:
            self._defined.add(name)
            if "*" not in name:  # which stands for other columns there
                run.define_metric(name, step_metric=STEP)

    def _send_objective(self, manager: LossManager, run: wandb.Run) -> None:
        """Send what the objective is, where that has changed."""
        manifest = manager.manifest()
        if manifest.fingerprint == self._fingerprint:
            return
        self._fingerprint = manifest.fingerprint
        name = self._prefix.strip("/")
        key = f"nectargan/{name}" if name else "nectargan"
        run.config.update({key: manifest.to_dict()}, allow_val_change=True)  # type: ignore[no-untyped-call] # W&B's
        path = Path(run.dir) / name / "manifest.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        manifest.save(path)
        run.save(str(path), base_path=run.dir, policy="now")

    def _send_loss_maps(self, manager: LossManager, run: wandb.Run) -> None:
        """Send a picture of the loss maps, where there are any and it is due."""
        if self._loss_maps is None or time.monotonic() < self._maps_due or manager.step == self._maps_step:
            return
        if not any(tensor.ndim for tensor in manager.get_loss_tensors().values()):
            return
        # Whether or not it can be drawn.
        self._maps_due, self._maps_step = time.monotonic() + self._loss_maps, manager.step
        picture = io.BytesIO()
        names = manager.save_loss_maps(picture)
        import wandb
        from PIL import Image

        image = wandb.Image(Image.open(picture), caption=", ".join(names))
        name = self._rows.name("loss_maps")
        self._define(run, name)
        run.log({STEP: max(manager.step, 0), name: image})


def _run_of_log(directory: Path | None, log_started: float | None) -> dict[str, str]:
    """Return `id`, `project` and `entity` of the run that what is in the log was sent to; nothing if there is none."""
    if directory is None or log_started is None:
        return {}
    try:
        kept = json.loads((directory / _KEPT).read_text(encoding="utf-8"))
        if kept["log_started"] != log_started:  # of a log that was moved aside
            return {}
        return {key: kept[key] for key in ("id", "project", "entity") if kept[key]}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _close(manager: weakref.ref[LossManager], observer: weakref.ref[WandB], pid: int) -> None:
    """Close a manager, but not in a process that was forked from that of this id."""
    if os.getpid() != pid:
        return
    if (closed := observer()) is not None:
        closed._is_exiting = True
    if (alive := manager()) is not None:
        alive.close()


def _finish(run: wandb.Run, pid: int) -> None:
    if os.getpid() == pid:
        run.finish()


def _exit_code(is_exiting: bool) -> int:
    """Return how a run ends that is closed now: not with 0 because of an exception, or because Python exits after one.

    W&B does not say so itself of a run that is finished before it ends, only of one that nobody finishes.
    """
    if sys.exc_info()[0] is not None:
        return 1
    if not is_exiting:
        return 0
    # W&B, once it has begun a run, has a function of its own there, to know with which code Python exits.
    code = getattr(getattr(sys.exit, "__self__", None), "exit_code", None)
    if isinstance(code, int) and code:
        return code
    # In a session at a prompt, the last exception did not end Python.
    return 0 if hasattr(sys, "ps1") or getattr(sys, "last_type", None) is None else 1


def _said(error: Exception) -> str:
    return str(error).strip() or type(error).__name__


def _unless_set(variable: str, value: str | None) -> str | None:
    return None if os.environ.get(variable) else value


def _refuse_to_ask_for_a_key() -> None:
    """Raise `NectarganError` where W&B would stop the training to ask for a key on the terminal."""
    import wandb

    if wandb.setup().settings.mode in ("offline", "disabled", "dryrun"):
        return
    if "prompt" in inspect.signature(wandb.login).parameters:
        has_key = wandb.login(prompt=False, verify=False)
    else:
        has_key = wandb.api.api_key is not None
    if not has_key:
        raise NectarganError(
            "there is no API key for W&B: call `wandb login` before the training, or set WANDB_MODE=offline"
        )


def _text(what: str, value: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} is a text, or None, got {type(value).__name__}")
    if value is not None and not value.strip():
        raise ValueError(f"{what} is empty; leave it out to have W&B choose one")
    return value


def _checked_prefix(value: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"prefix is a text such as 'teacher/', got {type(value).__name__}")
    if re.fullmatch(r"[\w. /-]*", value) is None:
        raise ValueError(
            f"prefix has letters, digits, '_', '-', '.', blanks and '/', such as 'teacher/', got {value!r}"
        )
    if value.startswith("/") or "//" in value or {".", ".."} & set(value.split("/")):
        raise ValueError(f"prefix is the beginning of a path inside of the run, such as 'teacher/', got {value!r}")
    return value


def _points(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"points is a whole number of rows, got {type(value).__name__}")
    if value < 1:
        raise ValueError(f"points is a number of rows of at least 1, got {value}")
    return value


def _seconds(value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"loss_maps is a number of seconds, or None, got {type(value).__name__}")
    if not value >= 0:
        raise ValueError(f"loss_maps is a number of seconds of at least 0, or None, got {value}")
    return float(value)
