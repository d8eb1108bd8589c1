"""The record of what a command is given: a formula, a file of an objective, the directory of a run, or a loss log."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from nectargan_core._messages import one_line, shown
from nectargan_core.config import Config
from nectargan_core.errors import LossLogError, NectarganError, PluginNotFoundError, SpecError, SpecSyntaxError
from nectargan_core.objectives._file import FILE_ENDS
from nectargan_core.objectives._grammar import parse
from nectargan_core.objectives._objective import Objective
from nectargan_core.objectives._record import record_of
from nectargan_core.objectives._request import build
from nectargan_core.schedules import Scheduler
from nectargan_core.weightings import bind

# For schedules that are relative to a run of which nobody knows the length: any will do to look at them.
_SOME_LENGTH = (1.0, None)


def record_from(source: str) -> Objective:
    r"""Return the record of an objective, which needs neither a GPU nor files with pretrained weights.

    What a run has recorded is returned as it is. A formula, or a file that a person wrote, is built on the meta device
    with an empty configuration; its schedules may be relative to a run whose length is not known.

    Args:
        source: A path that exists, or that ends with `.toml`, `.json` or `.jsonl`, is a file, a log or the directory of
            a run; all else is a formula.

    Raises:
        ObjectiveError: If a file cannot be read, is no objective, or cannot be built.
        LossLogError: If a directory has no log, or a log cannot be read.
        NectarganError: As `LossManager.from_spec` raises for a formula.
        TypeError: If it is no str.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "objective.toml")
        >>> text = '[[extra]]\nname = "G_L1"\nfunction = "torch.nn:L1Loss"\ntags = ["G"]'
        >>> _ = path.write_text(text)
        >>> record_from(str(path)).losses["G_L1"].arguments
        {'reduction': 'mean'}
    """
    if not isinstance(source, str):
        raise TypeError(f"source must be a str, a formula or the path of a file, got {shown(source)}")
    given = _read(source)
    if isinstance(given, Objective) and given.is_record:
        return given
    totals = (given.total_epochs, given.total_steps) if isinstance(given, Objective) else (None, None)
    length = _SOME_LENGTH if totals == (None, None) else totals
    try:
        # What a manager on the meta device gives a spec, where nothing is loaded or computed; and its checks.
        built = build(given, (), {}, Config().on_device("meta"), length)
        for loss in built.losses.values():
            if loss.schedule.is_scheduled:
                Scheduler(loss.schedule, loss_name=loss.name, total_epochs=length[0], total_steps=length[1])
        with torch.random.fork_rng(devices=[]):
            bind(built.balances, built.losses, [], None)
        return record_of(built, *totals)
    except (SpecSyntaxError, PluginNotFoundError) as error:
        if isinstance(given, str) and not any(sign in given for sign in "+*"):
            first, *place = str(error).split("\n")
            error.args = ("\n".join([f"{first} Neither is there a file or directory {given!r}.", *place]),)
        raise
    except NectarganError:
        raise
    except Exception as error:  # what a spec returns may do anything when it is looked at
        raise SpecError(f"{source} cannot be described: {one_line(error)}") from error


def _read(source: str) -> str | Objective:
    if not (source.lower().endswith(FILE_ENDS) or _exists(source)):
        return source
    try:
        return Objective.load(Path(source))
    except LossLogError as error:
        if _is_formula(source):
            error.args = (f"{error} For the formula, write a blank before it: ' {source}'.",)
        raise


def _exists(source: str) -> bool:
    try:
        return os.path.lexists(source)
    except ValueError:  # a null character
        return False


def _is_formula(source: str) -> bool:
    try:
        return bool(parse(source))
    except SpecSyntaxError:
        return False
