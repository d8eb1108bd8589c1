"""The runs that are looked at together: each a log under a label that tells it from the others."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from nectargan_core import _arguments as arguments
from nectargan_core._messages import shown
from nectargan_core.errors import ObjectiveError
from nectargan_core.log import LossLog, labels
from nectargan_core.objectives import Difference, Objective

Paths: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str]]"
"""Runs as a caller gives them: a directory or log, several, or several by label."""


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is looked at.

    Args:
        label: What it is called.
        path: The directory or log that was given.
        log: Its log.
    """

    label: str
    path: Path
    log: LossLog

    @property
    def directory(self) -> Path:
        """Where the run has its files."""
        return self.path if self.path.is_dir() else self.path.parent

    def objectives(self) -> tuple[list[Objective], list[str]]:
        """Return the objectives that the run has recorded, one for each time that it was begun or resumed.

        Returns:
            Those that can be read, and for each other one what is wrong with it.
        """
        found: list[Objective] = []
        wrong: list[str] = []
        for header in self.log.headers:
            manifest = header.get("manifest")
            if manifest is None:
                continue
            try:
                found.append(Objective.from_dict(manifest))
            except (ObjectiveError, TypeError) as error:
                wrong.append(str(error).partition("\n")[0])
        return found, wrong


def open_runs(runs: Paths) -> list[Run]:
    """Open the logs of runs.

    Args:
        runs: The directory of a run, or its log; several of them; or a mapping from labels to them.

    Raises:
        LossLogError: If there is no log at one of them.
        TypeError: If one is no path.
        ValueError: If none is given, or one is given twice.
    """
    paths = _paths(runs)
    if not paths:
        raise ValueError("no run is given; give at least one directory of a run, or loss log")
    return [Run(label, path, LossLog(path)) for label, path in paths.items()]


def _paths(runs: Any) -> dict[str, Path]:
    if isinstance(runs, Mapping):
        return {arguments.text("the label of a run", label): _path(path) for label, path in runs.items()}
    if isinstance(runs, (str, os.PathLike, LossLog)):
        runs = [runs]
    if not isinstance(runs, Iterable):
        raise TypeError(f"runs must be paths of directories of runs or loss logs, got {shown(runs)}")
    paths = [_path(run) for run in runs]
    return dict(zip(labels(paths), paths, strict=True))


def _path(value: object) -> Path:
    if isinstance(value, LossLog):
        raise TypeError("a run must be a path, got a LossLog; give the directory or file that it was opened with")
    return arguments.path("a run", value)


def named(differences: Iterable[Difference]) -> str:
    """Return differences in one line each, joined.

    Example:
        >>> named([Difference("weight", "G_L1", "100", "50"), Difference("version", "torch", "2.6", "2.7")])
        'weight of G_L1: 100 -> 50; version of torch: 2.6 -> 2.7'
    """
    return "; ".join(map(str, differences))
