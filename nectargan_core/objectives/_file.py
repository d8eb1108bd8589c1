"""Reads and writes the data of an objective: TOML, JSON, or the header of a loss log; errors name file and key."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core.errors import NectarganError, ObjectiveError
from nectargan_core.log import LossLog

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tomli_w

_SUFFIXES = (".toml", ".json")
_LOG_SUFFIX = ".jsonl"
# An objective is some kilobytes; a file of this size is none.
_LARGEST = 16 << 20


def read_data(path: str | os.PathLike[str]) -> tuple[dict[str, Any], Path]:
    """Return the data of an objective in a file, a log or the directory of a run, and where it was.

    Raises:
        ObjectiveError: If it cannot be read.
        LossLogError: If it is a directory without a log, or no log can be read.
        TypeError: If it is no path.
    """
    try:
        file = arguments.path("path", path)
    except ValueError as error:
        raise ObjectiveError(str(error), path=shown(path)) from None
    suffix = file.suffix.lower()
    if suffix == _LOG_SUFFIX or file.is_dir():
        return _of_log(file), file
    if suffix not in _SUFFIXES:
        raise ObjectiveError(
            f"{file}: an objective is read from a file that ends with .toml or .json, from a loss log (.jsonl), or "
            "from the directory of a run",
            path=str(file),
        )
    text = _text_of(file)
    try:
        data = tomllib.loads(text) if suffix == ".toml" else _from_json(text)
    except RecursionError:
        raise ObjectiveError(f"{file}: it is nested too deeply for an objective", path=str(file)) from None
    except ValueError as error:  # what both readers raise, and Python of an integer with thousands of digits
        kind = "TOML" if suffix == ".toml" else "JSON"
        raise ObjectiveError(f"{file} is no {kind}: {_first_line(error)}; correct it there", path=str(file)) from None
    if not isinstance(data, dict):
        raise ObjectiveError(
            f'{file}: expected an object such as {{"formula": "gan:hinge + 100*l1"}}, got {shown(data)}', path=str(file)
        )
    return data, file


def write_data(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write the data of an objective to a file, which is replaced when it is complete.

    Raises:
        ObjectiveError: If it cannot be written, or holds a None and the file is TOML.
        TypeError: If it is no path.
    """
    try:
        file = arguments.path("path", path)
    except ValueError as error:
        raise ObjectiveError(str(error), path=shown(path)) from None
    suffix = file.suffix.lower()
    if suffix == ".toml":
        nothing = next(_nones(data), None)
        if nothing is not None:
            raise ObjectiveError(
                f"{file}: {nothing} is None, which TOML cannot write; leave it out, or save to a file that ends with "
                ".json",
                path=str(file),
                key=nothing,
            )
        text = tomli_w.dumps(data)
    elif suffix == ".json":
        text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    else:
        raise ObjectiveError(f"{file}: an objective is written to a file that ends with .toml or .json", path=str(file))
    try:
        _replace(file, text.encode())
    except OSError as error:
        raise ObjectiveError(f"{file} cannot be written: {error.strerror or error}", path=str(file)) from error


@contextlib.contextmanager
def located(path: object, key: str = "") -> Iterator[None]:
    """Put file and key before the message of an error of the project that is raised inside.

    Args:
        path: The file; None where there is none.
        key: Where in it, with dots.
    """
    where = ": ".join(str(part) for part in (path, key) if part)
    try:
        yield
    except NectarganError as error:
        if where and not str(error).startswith(where):
            error.args = (f"{where}: {error}", *error.args[1:])
        if isinstance(error, ObjectiveError):
            error.path = error.path or (None if path is None else str(path))
            error.key = error.key or key or None
        raise
    except ValidationError as error:
        raise invalid(error, path, key) from None
    except (TypeError, ValueError) as error:
        raise ObjectiveError(
            f"{where}: {_first_line(error)}" if where else _first_line(error),
            path=None if path is None else str(path),
            key=key or None,
        ) from error


def invalid(
    error: ValidationError, path: object, inside: str = "", model: type[BaseModel] | None = None
) -> ObjectiveError:
    """Make the error for data that pydantic does not take: the first of its complaints, and how many more there are."""
    complaints = error.errors(include_url=False, include_context=True)
    # A value that may be of several kinds has a complaint of each; the longest path is the closest one.
    first = complaints[0]
    location = _key_of(first["loc"])
    key = ".".join(filter(None, (inside, location)))
    message, given = str(first["msg"]).removeprefix("Value error, "), first.get("input")
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = _fields_at(model, first["loc"][:-1])
        takes = f"; there {'are' if len(known) > 1 else 'is'} {listed(known)}" if known else ""
        message = f"there is no key {name!r} here{takes}; remove it, or correct it.{did_you_mean(name, known)}"
    elif first["type"] != "value_error":
        message = f"{message[:1].lower()}{message[1:]}, got {shown(given)}; correct it"
    others = len({complaint["loc"][:2] for complaint in complaints}) - 1
    more = f" (and {others} more)" if others > 0 else ""
    where = ": ".join(str(part) for part in (path, key) if part)
    return ObjectiveError(
        f"{where}: {message}{more}" if where else f"{message}{more}",
        path=None if path is None else str(path),
        key=key or None,
    )


def _fields_at(model: type[BaseModel] | None, location: Iterable[int | str]) -> list[str]:
    """Return the fields of the model at a place; none where that is not known."""
    current: Any = model
    for part in location:
        if isinstance(current, type) and issubclass(current, BaseModel):
            if part not in current.model_fields:
                return []
            current = current.model_fields[str(part)].annotation
        current = _inner_model(current) if not _is_model(current) else current
    return list(current.model_fields) if _is_model(current) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner_model(annotation: Any) -> Any:
    """Return the model in an annotation such as `list[Model]`, `dict[str, Model]` or `Model | None`."""
    inside = (part if _is_model(part) else _inner_model(part) for part in getattr(annotation, "__args__", ()))
    return next(filter(None, inside), None)


def _key_of(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part.startswith(("function-", "str", "dict[", "list[", "constrained-")) or part.isidentifier():
            text += f".{part}" if text else part
    return text


def _of_log(path: Path) -> dict[str, Any]:
    found = [header["manifest"] for header in LossLog(path).headers if header.get("manifest")]
    if not found or not isinstance(found[-1], dict):
        raise ObjectiveError(
            f"{path}: this log has no record of its objective; it was written by an earlier version, or no loss was "
            "registered",
            path=str(path),
        )
    return found[-1]


def _text_of(file: Path) -> str:
    try:
        # Opening a FIFO would wait.
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise ObjectiveError(f"{file} is not an ordinary file", path=str(file))
            if status.st_size > _LARGEST:
                raise ObjectiveError(
                    f"{file} has {status.st_size} bytes, which is too large for an objective", path=str(file)
                )
            return opened.read().decode()
    except UnicodeDecodeError as error:
        raise ObjectiveError(
            f"{file} is not text in UTF-8 (byte {error.start}); save it as UTF-8", path=str(file)
        ) from None
    except OSError as error:
        if isinstance(error, NectarganError):
            raise
        raise ObjectiveError(f"{file} cannot be read: {error.strerror or error}", path=str(file)) from error


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_each_key_once, parse_constant=_no_number)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {key!r} is there twice")
        made[key] = value
    return made


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number that JSON has")


def _nones(value: Any, key: str = "") -> Iterator[str]:
    if value is None:
        yield key
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _nones(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _nones(item, f"{key}[{number}]")


def _replace(file: Path, data: bytes) -> None:
    temporary = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _first_line(error: BaseException) -> str:
    return one_line(error).partition(": ")[2] or one_line(error)
