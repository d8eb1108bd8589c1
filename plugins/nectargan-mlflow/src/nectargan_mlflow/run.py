"""Which run of MLflow is sent to: the active one, that of the log that is resumed, or a new one."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import os
import ssl
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from nectargan_core.errors import NectarganError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# So long a server has to take a connection, and to answer.
_PATIENCE_S = 5.0


def active_run_id() -> str | None:
    """Return the id of the run that is active in this thread, or that `MLFLOW_RUN_ID` names; None if there is none."""
    active = None
    if "mlflow" in sys.modules:  # where it was not imported, there is none
        import mlflow  # waits until a thread that imports it just now has done so

        active = mlflow.active_run()
    return os.environ.get("MLFLOW_RUN_ID") or None if active is None else str(active.info.run_id)


@dataclass(frozen=True)
class RunOfMLflow:
    """Says where a run is and how it is begun.

    Args:
        active: The id of the run that is active; it is used and not ended.
        tracking_uri: Where runs are; None for what MLflow was told.
        experiment: The name of the experiment of a new run; None for what MLflow was told.
        name: The name of a new run; None to have MLflow choose one.
        kept: The file that keeps which run belongs to a log; None where there is none.
        log_started: When that log was begun; None where there is none.
    """

    active: str | None
    tracking_uri: str | None
    experiment: str | None
    name: str | None
    kept: Path | None
    log_started: float | None

    @property
    def is_own(self) -> bool:
        """Whether the run is begun here, and ended here."""
        return self.active is None

    def begin(self) -> tuple[MlflowClient, str]:
        """Return what talks to MLflow, and the id of the run.

        Raises:
            NectarganError: If MLflow needs a package for where runs are, or refuses to keep them there.
            MlflowException: If MLflow cannot begin it.
        """
        client = self._client()
        if self.active is not None:
            return client, self.active
        return client, self._resumed(client) or self._new(client)

    def check_server(self) -> None:
        """Ask a server whether it is there, and no more, since MLflow itself tries for minutes before it says so.

        Raises:
            ConnectionError: If it cannot be reached.
        """
        uri = urlsplit(self._uri())
        if uri.scheme not in ("http", "https"):
            return
        host = uri.netloc.rpartition("@")[2]  # without a password
        url = urlunsplit((uri.scheme, host, uri.path, "", ""))
        try:
            asked = urllib.request.Request(url, method="HEAD")  # noqa: S310 # http or https
            urllib.request.urlopen(asked, timeout=_PATIENCE_S).close()  # noqa: S310
        except urllib.error.URLError as error:
            # Another answer than the one that was asked for is one, too.
            if not isinstance(error, urllib.error.HTTPError) and not isinstance(error.reason, ssl.SSLError):
                raise ConnectionError(f"{uri.scheme}://{host} does not answer: {error.reason}") from error
        except (OSError, http.client.HTTPException):
            pass

    def _uri(self) -> str:
        if self.tracking_uri is not None:
            return self.tracking_uri
        import mlflow

        return mlflow.get_tracking_uri()

    def _client(self) -> MlflowClient:
        import mlflow
        from mlflow.exceptions import MlflowException

        uri = self._uri()
        if uri.startswith(_DATABASES) and importlib.util.find_spec("sqlalchemy") is None:
            raise NectarganError(
                f"{uri} needs the whole of MLflow: pip install mlflow, or set MLFLOW_TRACKING_URI to a server's address"
            )
        try:
            return mlflow.MlflowClient(self.tracking_uri)
        except MlflowException as error:
            if "MLFLOW_ALLOW_FILE_STORE" not in str(error):
                raise
            # What MLflow says names the remedy after 400 characters.
            raise NectarganError(
                "set MLFLOW_ALLOW_FILE_STORE=true to keep runs in files, or MLFLOW_TRACKING_URI to a server's address; "
                f"MLflow refuses {uri}"
            ) from error

    def _resumed(self, client: MlflowClient) -> str | None:
        """Return the id of the run that what is in the log was sent to, which goes on; None if there is none."""
        from mlflow.exceptions import MlflowException

        if self.kept is None or self.log_started is None:
            return None
        try:
            kept = json.loads(self.kept.read_text(encoding="utf-8"))
            if kept["log_started"] != self.log_started:  # of a log that was moved aside
                return None
            run_id = str(kept["run_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        try:
            if client.get_run(run_id).info.lifecycle_stage == "deleted":  # MLflow keeps it for a while
                return None
            client.update_run(run_id, status="RUNNING")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":  # gone, or elsewhere
                return None
            raise
        return run_id

    def _new(self, client: MlflowClient) -> str:
        run = client.create_run(self._experiment_id(client), run_name=self.name)
        run_id = str(run.info.run_id)
        if self.kept is not None and self.log_started is not None:
            with contextlib.suppress(OSError):  # a resumed run then has a run of its own
                text = json.dumps({"log_started": self.log_started, "run_id": run_id})
                self.kept.write_text(text, encoding="utf-8")
        return run_id

    def _experiment_id(self, client: MlflowClient) -> str:
        # `mlflow.set_experiment` sets these variables, too.
        name = self.experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME")
        if not name:
            return os.environ.get("MLFLOW_EXPERIMENT_ID") or "0"
        found = client.get_experiment_by_name(name)
        return str(client.create_experiment(name) if found is None else found.experiment_id)
