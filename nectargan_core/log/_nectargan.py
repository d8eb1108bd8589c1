"""The log that NectarGAN itself writes, `loss_log.json`: how it is recognised, read, and written for its tools."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nectargan_core._messages import warn
from nectargan_core.errors import LossLogError
from nectargan_core.log._file import free_name
from nectargan_core.log._format import decode_line
from nectargan_core.log._records import Records

_NAME = "loss_log.json"
_ROOT = "LOSSMANAGER_LOG"
_FUNCTIONS = "loss_functions"
_HEADER = ("device", "dataroot", "dataset_length", "experiment")
_BEGINNING = re.compile(rb'\s*\{\s*"' + _ROOT.encode() + rb'"')
_OURS = ("loss_log.jsonl", "loss_log.rank*.jsonl")


def find_nectargan_log(path: Path) -> Path | None:
    """Return a log of NectarGAN's: the file itself, or the one in a directory that has no log of ours.

    Raises:
        LossLogError: If it is a JSON file of another kind.
    """
    if path.is_dir():
        inside = path / _NAME
        return inside if inside.is_file() and not any(any(path.glob(name)) for name in _OURS) else None
    if not path.is_file():
        return None  # it is not there, or reading it would wait or not end; the caller says so
    try:
        with path.open("rb") as file:
            first = file.readline()
            if _BEGINNING.match(first + file.readline()):
                return path
        if _is_ours(first) or not (first.strip() or path.suffix == ".json"):
            return None
        whole = _parsed(path.read_bytes())
    except OSError:
        return None  # likewise
    if isinstance(whole, dict) and _ROOT in whole:
        return path
    if whole is not None or path.suffix == ".json":
        raise no_log(path)
    return None


def no_log(path: Path) -> LossLogError:
    """Return the error of a file that is neither a log of ours nor one of NectarGAN's."""
    return LossLogError(
        f"{path} is no loss log; expected lines as LossManager writes them to loss_log.jsonl, or NectarGAN's "
        f'loss_log.json, an object with the key "{_ROOT}"'
    )


class NectarganLog:
    """A log that NectarGAN has written.

    It holds values and weights only: `step` is the place in the list, `epoch` is 0, and `unweighted` is the value
    divided by the weight, nan where that is 0. Of a loss with a schedule it holds the weight that the loss began with.

    Args:
        path: The file.

    Raises:
        LossLogError: If it cannot be read, or is cut short or changed.
    """

    def __init__(self, path: Path) -> None:
        try:
            # Python reads the NaN and Infinity that it writes, which are no JSON.
            log = json.loads(path.read_bytes())[_ROOT]
            functions = log.get(_FUNCTIONS, {})
            series = {name: _records(name, functions[name]) for name in functions}
        except OSError as error:
            raise LossLogError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, RecursionError) as error:
            raise LossLogError(f"{path} is damaged, or was cut short while NectarGAN wrote it: {error}") from error
        except (LookupError, TypeError, AttributeError) as error:
            raise LossLogError(
                f'{path} is not as NectarGAN writes it; expected {{"{_ROOT}": {{..., "{_FUNCTIONS}": {{name: '
                f'{{"loss": [...], "weights": [...]}}}}}}}}, got {error!r}'
            ) from error
        self.headers: list[dict[str, Any]] = [{key: value for key, value in log.items() if key != _FUNCTIONS}]
        # A loss that was never computed has empty lists.
        self._series = {name: records for name, records in series.items() if len(records)}
        self.names = tuple(self._series)
        self.duration: float | None = None

    def records(self, name: str, keep: bool = True) -> Records:
        """Return the records of a loss, which are kept in any case."""
        return self._series[name]


def as_nectargan_log(header: Mapping[str, Any], series: Mapping[str, Records]) -> str:
    """Return the text of a log that NectarGAN's own tools read."""
    functions = {
        name: {"loss": records.loss.tolist(), "weights": records.weight.tolist()} for name, records in series.items()
    }
    log = {key: header.get(key) for key in _HEADER}
    # Its tools divide by this number.
    log["dataset_length"] = log["dataset_length"] or 1
    return json.dumps({_ROOT: {**log, _FUNCTIONS: functions}})


def write_nectargan_log(path: Path, text: str) -> None:
    """Write the text of a log to a file, and move one aside that has anything else than the begin of it."""
    try:
        former = json.loads(path.read_bytes())[_ROOT][_FUNCTIONS]
        now = json.loads(text)[_ROOT][_FUNCTIONS]
        kept = all(
            repr(values) == repr(now[name][column][: len(values)])  # in which nan is nan
            for name, columns in former.items()
            for column, values in columns.items()
            if values
        )
    except FileNotFoundError:
        kept = True
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError):
        kept = False  # a loss that is not in the text, or no log at all
    if not kept:
        aside = free_name(path)
        path.rename(aside)
        warn(f"{path} has what this log has not, and is moved aside to {aside.name}")
    path.write_text(text, encoding="utf-8")


def _records(name: str, function: Mapping[str, Any]) -> Records:
    loss, weight = _numbers(name, function["loss"]), _numbers(name, function["weights"])
    if len(loss) != len(weight):
        raise ValueError(f"loss {name!r} has {len(loss)} values and {len(weight)} weights")
    unweighted = np.full(len(loss), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        np.divide(loss, weight, out=unweighted, where=weight != 0)
    return Records(name, np.arange(len(loss)), np.zeros(len(loss)), loss, weight, unweighted)


def _numbers(name: str, values: Any) -> npt.NDArray[np.float64]:
    # numpy would also read a number out of text.
    if not isinstance(values, list) or not all(type(value) in (int, float) for value in values):
        raise ValueError(f"loss {name!r} does not hold lists of numbers")
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError as error:
        raise ValueError(f"loss {name!r}: {error}") from error


def _is_ours(line: bytes) -> bool:
    try:
        decode_line(line)
    except ValueError:
        return False
    return True


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
