"""Which run of W&B belongs to a log, kept beside the log so that a resumed run goes on in it."""

from __future__ import annotations

import json
import os
from pathlib import Path

_LOG = "loss_log.jsonl"
_FILE = "wandb_run.json"
_KEYS = ("id", "project", "entity")


def read(directory: Path | None) -> dict[str, str]:
    """Return `id`, `project` and `entity` of the run of the log in a directory; nothing if there is none.

    A log that was moved aside, since its run began anew, had another run of W&B.
    """
    began = _began(directory)
    if directory is None or began is None:
        return {}
    try:
        kept = json.loads((directory / _FILE).read_text(encoding="utf-8"))
        return {key: str(kept[key]) for key in _KEYS if kept.get(key)} if kept["log_began"] == began else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write(directory: Path | None, run: dict[str, str]) -> None:
    """Keep `id`, `project` and `entity` of the run of the log in a directory, if there is a log.

    Raises:
        OSError: If the file cannot be written.
    """
    began = _began(directory)
    if directory is not None and began is not None:
        path = directory / f"{_FILE}.{os.getpid()}"
        path.write_text(json.dumps({**run, "log_began": began}), encoding="utf-8")
        path.replace(directory / _FILE)


def _began(directory: Path | None) -> float | None:
    """Return when the log of a directory was begun, in seconds since 1970: its first line says so."""
    if directory is None:
        return None
    try:
        with (directory / _LOG).open("rb") as file:
            return float(json.loads(file.readline())["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
