"""Sends to MLflow from a thread of its own, in order, so that a slow or absent server costs the training nothing."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from mlflow import MlflowClient

Job: TypeAlias = "Callable[[MlflowClient, str], None]"
"""What is done with a client and the id of a run."""

# So many jobs wait for a server, of a thousand values each at most: an hour or so of a training with ten losses.
_MOST = 1000
# So long the end of a run waits for the server.
_PATIENCE_S = 60.0


class Sender:
    """Does jobs in the order in which they were given.

    A job that fails for a reason that may pass, such as a server that does not answer, is tried again with the next
    one; another is left out. Where too many wait, the oldest are left out.

    Args:
        begin: Makes the client and finds or makes the run; called before the first job, until it succeeds.
        check: Raises soon where the server is not there; called whenever there are new jobs. None to do without.
    """

    def __init__(self, begin: Callable[[], tuple[MlflowClient, str]], check: Callable[[], None] | None = None) -> None:
        self._begin = begin
        self._check = check
        self._run: tuple[MlflowClient, str] | None = None
        self._jobs: deque[Job] = deque()
        # Guards all of these, and says that there is a job, or that the end has come.
        self._changed = threading.Condition()
        self._has_news = self._is_ending = False
        self._thread: threading.Thread | None = None
        self._left_out = 0
        # What went wrong last, what of it was not told of yet, and whether the failure goes on.
        self._cause: str | None = None
        self._error: str | None = None
        self._is_known = False

    @property
    def run_id(self) -> str | None:
        """The id of the run; None before it is known."""
        return None if self._run is None else self._run[1]

    def put(self, job: Job) -> None:
        """Have a job done."""
        with self._changed:
            while len(self._jobs) >= _MOST:
                self._jobs.popleft()
                self._left_out += 1
            self._jobs.append(job)
            self._has_news = True
            self._changed.notify()
        self._start()

    def take_error(self) -> str | None:
        """Return what went wrong since this was asked before; a failure that goes on is told of once."""
        with self._changed:
            error, self._error = self._error, None
            return error

    def close(self) -> None:
        """Wait until all is done, or tried once more, and for a minute at most.

        How much could not be done is what `take_error` then says.
        """
        with self._changed:
            self._is_ending = self._has_news = True
            self._changed.notify()
        thread = self._thread
        if thread is not None:
            thread.join(_PATIENCE_S)
            if thread.is_alive() and self._check is not None:
                # MLflow still tries: it may be that the server went away meanwhile.
                try:
                    self._check()
                except Exception as error:  # noqa: BLE001 # it is only told of
                    self._cause = _said(error)
        with self._changed:
            missing = len(self._jobs) + self._left_out
            if missing:
                within = " within a minute" if thread is not None and thread.is_alive() else ""
                cause = "" if self._cause is None else f": {self._cause}"
                self._error = f"{missing} calls were not sent to MLflow{within}{cause}"
            self._jobs.clear()
            self._left_out = 0

    def _start(self) -> None:
        if self._thread is not None:
            return
        # Not one that Python waits for at its end, where the manager is closed only after that.
        self._thread = threading.Thread(target=self._work, name="nectargan-mlflow", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # Python ends, and starts no thread any more
            self._thread = None
            self._is_ending = True
            self._work()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._has_news:
                    self._changed.wait()
                self._has_news = False
                is_ending = self._is_ending
            self._work_off()
            if is_ending:
                return

    def _work_off(self) -> None:
        """Do all jobs there are, up to one that is to be tried again."""
        is_checked = self._check is None
        while True:
            with self._changed:
                if not self._jobs:
                    return
                job = self._jobs[0]
            try:
                if self._check is not None and not is_checked:
                    self._check()
                is_checked = True
                if self._run is None:
                    self._run = self._begin()
                job(*self._run)
            except Exception as error:  # noqa: BLE001 # whatever it is, it must not end the thread
                is_over = is_checked and self._run is not None and _is_final(error)
                with self._changed:
                    self._left_out += is_over
                    self._cause = _said(error)
                    if not self._is_known:
                        then = "this is left out" if is_over else "each flush tries again"
                        self._error, self._is_known = f"cannot send to MLflow, {then}: {self._cause}", True
                if not is_over:
                    return
            else:
                self._is_known = False
                is_over = True
            with self._changed:
                if is_over and self._jobs and self._jobs[0] is job:
                    self._jobs.popleft()


def _is_final(error: Exception) -> bool:
    """Whether MLflow refuses what was sent, and would again."""
    from mlflow.exceptions import MlflowException

    if not isinstance(error, MlflowException):
        return not isinstance(error, OSError)
    status = error.get_http_status_code()  # type: ignore[no-untyped-call] # MLflow's
    return 400 <= status < 500 and status not in (408, 429)


def _said(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
