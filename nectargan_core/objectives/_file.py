"""Reads and writes the data of an objective: TOML, JSON, or the header of a loss log; errors name file and key."""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import sys
import typing
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core._printable import printable
from nectargan_core._writing import replace_file
from nectargan_core.errors import NectarganError, ObjectiveError
from nectargan_core.log import LossLog

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import tomli_w

_SUFFIXES = (".toml", ".json")
_LOG_SUFFIX = ".jsonl"
_BARE = re.compile("[A-Za-z0-9_-]+")
_LONGEST_KEY = 100
# What pydantic's complaints of a wrong type are in the words of a file.
_EXPECTED = {
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "bool_type": "expected true or false",
    "list_type": "expected a list",
    "dict_type": "expected a table of keys and values",
    "model_type": "expected a table of keys and values",
    "string_unicode": "expected text that UTF-8 can write",
    "string_too_short": "expected a text that is not empty",
    "finite_number": "expected a finite number",
}
# Keys that a person may look for at the top.
_BELONGS = {
    "schedules": " A schedule is written as losses.NAME.schedule.",
    "schedule": " A schedule is written as losses.NAME.schedule.",
    "weights": " A weight is written as losses.NAME.weight.",
    "weight": " A weight is written as losses.NAME.weight.",
}
# An objective is some kilobytes; a file of this size is none.
_LARGEST = 16 << 20
FILE_ENDS = (*_SUFFIXES, _LOG_SUFFIX)
"""What the name of a file ends with that an objective is read from."""


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
    if suffix == _LOG_SUFFIX or os.path.isdir(file):  # noqa: PTH112 # which raises nothing of a long name
        return _of_log(file), file
    if suffix not in _SUFFIXES and not os.path.lexists(file):
        raise ObjectiveError(f"{file}: there is no such file or directory", path=str(file))
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
        raise ObjectiveError(f"{file} is no {kind}: {_unreadable(error)}; correct it there", path=str(file)) from None
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
        replace_file(file, text.encode())
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
        own = error.key if isinstance(error, ObjectiveError) and error.path is None else None
        if where and not str(error).startswith(where):
            # The key that the error names already is one inside.
            joint = "." if key and own and str(error).startswith(f"{own}: ") else ": "
            error.args = (f"{where}{joint}{error}", *error.args[1:])
        if isinstance(error, ObjectiveError):
            error.path = error.path or (None if path is None else str(path))
            error.key = ".".join(filter(None, (key, own))) or error.key
        raise
    except ValidationError as error:
        raise invalid(error, path, key) from None
    except (TypeError, ValueError) as error:
        raise ObjectiveError(
            f"{where}: {_first_line(error)}" if where else _first_line(error),
            path=None if path is None else str(path),
            key=key or None,
        ) from error


def key_of(*parts: int | str) -> str:
    """Return where in a file something is, as TOML writes it.

    Example:
        >>> key_of("extra", 0, "inputs"), key_of("losses", "a.b")
        ('extra[0].inputs', 'losses."a.b"')
    """
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            part = part if len(part) <= _LONGEST_KEY else f"{part[:_LONGEST_KEY]}..."
            bare = part if _BARE.fullmatch(part) else printable(json.dumps(part, ensure_ascii=False))
            text += f".{bare}" if text else bare
    return text


def invalid(
    error: ValidationError,
    path: object,
    inside: str = "",
    model: type[BaseModel] | None = None,
    at_the_top: tuple[str, ...] = (),
) -> ObjectiveError:
    """Make the error for data that pydantic does not take: the first of its complaints, and how many more there are.

    Args:
        error: What pydantic has raised.
        path: The file; None where there is none.
        inside: Where in it the data is.
        model: The model of the data.
        at_the_top: Further keys of the model, which are those of the first of its `terms`.
    """
    complaints = error.errors(include_url=False, include_context=True)
    first = complaints[0]
    # A value that may be of several kinds has a complaint of each; the longest path is the closest one.
    first = max(
        (each for each in complaints if each["loc"][: len(first["loc"]) - 1] == first["loc"][:-1]),
        key=lambda each: len(each["loc"]),
    )
    location = first["loc"]
    if at_the_top and location[:2] == ("terms", 0):
        location = location[2:]
    key = ".".join(filter(None, (inside, _place(location))))
    message, given = str(first["msg"]).removeprefix("Value error, "), first.get("input")
    if first["type"] == "extra_forbidden":
        name = str(first["loc"][-1])
        known = _fields_at(model, first["loc"][:-1])
        if len(location) == 1:
            known = [*dict.fromkeys((*at_the_top, *known))]
        takes = f"; there {'are' if len(known) > 1 else 'is'} {listed(known)}" if known else ""
        hint = _BELONGS.get(name, "") if len(location) == 1 else ""
        if len(location) > 1 and model is not None and name in (*at_the_top, *model.model_fields):
            hint = f" {name} belongs at the top of the file, before the first table."
        hint = hint or did_you_mean(name, known)
        message = f"there is no key {shown(name)} here{takes}; remove it, or correct it.{hint}"
    elif first["type"] == "missing":
        # Its name is what Python's own definition has in that place.
        hint = ", as which name is written here" if isinstance(given, Mapping) and "name" in given else ""
        message = f"it is missing; add it{hint}"
    elif first["type"] == "list_type" and len(location) == 1 and isinstance(given, Mapping):
        message = f"expected a list of tables, each of which begins with [[{location[0]}]], got one table; write it so"
    elif first["type"] != "value_error":
        said = _EXPECTED.get(first["type"], f"{message[:1].lower()}{message[1:]}")
        message = f"{said}, got {shown(given)}; correct it"
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
        if _is_model(current):
            field = current.model_fields.get(str(part))
            current = None if field is None else field.annotation
            if typing.get_origin(current) not in (list, dict):
                current = _inner_model(current)
        else:
            current = _inner_model(current)
    fields = current.model_fields.items() if _is_model(current) else ()
    recorded = getattr(current, "recorded", ())
    return [str(field.validation_alias or name) for name, field in fields if not field.exclude and name not in recorded]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _inner_model(annotation: Any) -> Any:
    """Return the model in an annotation such as `list[Model]`, `dict[str, Model]` or `Model | None`."""
    if _is_model(annotation):
        return annotation
    return next(filter(None, map(_inner_model, typing.get_args(annotation))), None)


def _place(location: tuple[int | str, ...]) -> str:
    """Return the key at a location of pydantic's, without what names one of several kinds of a value."""
    parts = [
        part
        for number, part in enumerate(location)
        if isinstance(part, int)
        or not (
            part.startswith(("function-", "dict[", "list[", "constrained-", "lax-or-strict", "[key]"))
            # The curve of a schedule is text or a function.
            or (part in ("str", "callable") and number == len(location) - 1 and location[number - 1] == "schedule")
        )
    ]
    return key_of(*parts)


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
            return opened.read().decode("utf-8-sig")  # which some editors begin a file with
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


def _unreadable(error: ValueError) -> str:
    """Say what is wrong with a text that is no TOML or JSON."""
    text = _first_line(error)
    return "a number in it has too many digits" if "integer string conversion" in text else text


def _first_line(error: BaseException) -> str:
    return one_line(error).partition(": ")[2] or one_line(error)
