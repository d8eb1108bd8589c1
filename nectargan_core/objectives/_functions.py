"""What a record says of a loss function: its import path, its arguments, and the weight files that it reads."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import math
import os
import re
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from nectargan_core import _arguments as arguments
from nectargan_core._messages import one_line, shown, warn
from nectargan_core._names import label_of
from nectargan_core.losses import module_of

# Arguments that torch has replaced by `reduction`, and those that say where a module is and not what it computes.
_NO_ARGUMENTS = {"size_average", "reduce", "device", "dtype"}
_LARGEST_TENSOR = 1024
# Of a list, a dict or text. Beyond that it is data, and no argument.
_LONGEST = 10_000
_MOST_BITS = 1024
_DEEPEST = 8
_SHA256 = re.compile("[0-9a-f]{64}")


class _NotPlainError(Exception):
    """A value is none that a file can hold."""


@dataclasses.dataclass(frozen=True)
class FunctionDescription:
    """What is known of a loss function.

    Args:
        path: Where it is defined, as `"module:name"`: the function, or the class of a module. A function that was
            defined inside of another one, or a lambda, has a `<` in it, and cannot be imported by it.
        arguments: What it was made with, as plain data: the attributes of an object that have the names of parameters
            of its class, and the keywords of a `functools.partial`. None is left out, since TOML cannot write it.
        unknown: The parameters of which it is not known what was given.
    """

    path: str
    arguments: dict[str, Any]
    unknown: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether two functions of which the same is known give the same numbers."""
        return not self.unknown and "<" not in self.path


def described(function: Callable[..., Any]) -> FunctionDescription:
    """Describe a loss function by what can be read of it; it is not called, and whatever its attributes do is survived.

    Example:
        >>> known = described(nn.HuberLoss(delta=0.5))
        >>> known.path, known.arguments
        ('torch.nn:HuberLoss', {'reduction': 'mean', 'delta': 0.5})
        >>> described(lambda prediction: prediction.mean()).is_complete
        False
    """
    try:
        path, known, unknown = _described(function, 0)
    except Exception:  # noqa: BLE001 # an object may raise anything
        path, known, unknown = label_of(type(function)), {}, ("its arguments",)
    path = path.encode(errors="replace").decode()
    return FunctionDescription(path, _without_none(known), unknown)


def public_path(kind: type) -> str:
    """Return the import path of a class, which for one that `torch.nn` has is that of `torch.nn`."""
    return f"torch.nn:{kind.__name__}" if getattr(nn, kind.__name__, None) is kind else label_of(kind)


def _described(function: Any, depth: int) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    if isinstance(function, functools.partial):
        path, known, unknown = _described(function.func, depth)
        given = {**{f"argument {number}": value for number, value in enumerate(function.args, 1)}, **function.keywords}
        own, others = _plain_items(given, depth)
        return path, {**known, **own}, (*(name for name in unknown if name not in given), *others)
    if isinstance(function, MethodType):
        owner = function.__self__
        _, known, unknown = _described(owner, depth) if not isinstance(owner, type) else ("", {}, ())
        return label_of(function.__func__), known, unknown
    function = _attribute(function, "_orig_mod", function)  # what torch.compile wraps
    if isinstance(function, type) or _attribute(function, "__qualname__", None) is not None:
        return label_of(function), {}, ("its closure",) if _attribute(function, "__closure__", None) else ()
    return public_path(type(function)), *_made_with(function, depth)


def _attribute(function: Any, name: str, default: Any) -> Any:
    try:
        return getattr(function, name, default)
    except Exception:  # noqa: BLE001 # an object may raise anything
        return default


def _made_with(made: object, depth: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the arguments of an object that its attributes say, and the names of the others."""
    try:
        parameters = inspect.signature(type(made)).parameters.values()
    except (TypeError, ValueError):  # a class written in C
        return {}, ("its arguments",)
    if type(made).__init__ in (nn.Module.__init__, object.__init__):
        return {}, ()
    given: dict[str, Any] = {}
    missing: list[str] = []
    if isinstance(made, (nn.Sequential, nn.ModuleList)):
        return _plain_items({str(number): child for number, child in enumerate(made)}, depth)
    for parameter in parameters:
        if parameter.name in _NO_ARGUMENTS and isinstance(made, nn.Module):
            continue
        if type(made).__init__ is nn.Module.__init__:  # which takes *args and **kwargs, and uses none
            continue
        try:
            given[parameter.name] = getattr(made, parameter.name)
        except Exception:  # noqa: BLE001 # a property may raise anything
            missing.append(parameter.name)
    known, others = _plain_items(given, depth)
    return known, (*missing, *others)


def _plain_items(values: Mapping[str, Any], depth: int) -> tuple[dict[str, Any], tuple[str, ...]]:
    known: dict[str, Any] = {}
    unknown: list[str] = []
    for name, value in values.items():
        try:
            known[name] = plain(value, depth + 1)
        except Exception:  # noqa: BLE001 # besides what no file can hold, an object that raises anything
            unknown.append(name)
    return known, tuple(unknown)


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return ["None" if item is None else _without_none(item) for item in value]
    return value


def plain_or_none(value: object) -> tuple[Any] | None:
    """Return a value as what a file can hold, in a tuple of one; None for what no file can hold.

    Example:
        >>> plain_or_none((1, 0.5)), plain_or_none(object())
        (([1, 0.5],), None)
    """
    try:
        return (plain(value, 0, functions=False),)
    except Exception:  # noqa: BLE001 # as above
        return None


def plain(value: Any, depth: int, *, functions: bool = True) -> Any:
    """Return a value as plain data; a loss function in it as its path and arguments, if `functions`.

    Raises:
        _NotPlainError: If it cannot be.
    """
    if depth > _DEEPEST:
        raise _NotPlainError
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, (str, Mapping, list, tuple, set, frozenset)) and len(value) > _LONGEST:
        raise _NotPlainError
    if isinstance(value, str):
        if not arguments.is_unicode(value):
            raise _NotPlainError
        return str.__str__(value)
    if isinstance(value, Integral):
        whole = int(value)
        if whole.bit_length() > _MOST_BITS:
            raise _NotPlainError
        return whole
    if isinstance(value, Tensor):
        return _of_tensor(value)
    if isinstance(value, Real):
        number = arguments.as_float(value)
        if number is None or not math.isfinite(number):
            raise _NotPlainError
        return number
    if hasattr(value, "__fspath__"):
        return plain(value.__fspath__(), depth + 1)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {_key(key): plain(item, depth + 1, functions=functions) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth + 1, functions=functions) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((plain(item, depth + 1, functions=functions) for item in value), key=repr)
    if dataclasses.is_dataclass(value) and not isinstance(value, type) and not callable(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return plain(fields, depth + 1, functions=functions)
    if functions and callable(value):
        path, known, unknown = _described(value, depth + 1)
        if unknown or "<" in path:
            raise _NotPlainError
        return {"function": path, "arguments": known}
    raise _NotPlainError


def _of_tensor(value: Tensor) -> Any:
    usable = (
        value.numel() <= _LARGEST_TENSOR
        and not isinstance(value, nn.Parameter)  # which is learned, and no longer what was given
        and not value.is_meta
        and value.layout is torch.strided
        and value.dtype in (torch.float32, torch.int64)
        and bool(value.isfinite().all())
    )
    if not usable:
        raise _NotPlainError
    if value.dtype == torch.int64:
        return value.tolist()
    # Each number in the fewest digits that give the same float32.
    return value.detach().cpu().numpy().astype(str).astype(float).tolist()


def _key(key: object) -> str:
    if isinstance(key, str):
        return str(plain(key, 0))
    if isinstance(key, (bool, int, float, tuple)):
        return str(key)
    raise _NotPlainError


def names_weight_file(value: object, weight_files: Mapping[str, str]) -> bool:
    """Whether an option is the path of one of the weight files of a record, of which the content counts.

    Example:
        >>> names_weight_file("/data/vgg.pth", {"vgg.pth": "0" * 64})
        True
    """
    is_path = isinstance(value, (str, os.PathLike))
    return is_path and str(value).replace("\\", "/").rpartition("/")[2] in weight_files


def weight_files_of(function: Callable[..., Any]) -> dict[str, str]:
    """Return the SHA-256 of each file with pretrained weights that a loss function reads, as its modules say."""
    module = module_of(function)
    found: dict[str, str] = {}
    for each in () if module is None else module.modules():
        try:
            files = getattr(each, "weight_files", None)
            items = files.items() if isinstance(files, Mapping) else ()
            valid = files is None or (isinstance(files, Mapping) and all(is_digest(*item) for item in items))
        except Exception as error:  # noqa: BLE001 # a record must not end a training
            warn(f"the weight files of {type(each).__name__} are not known: {one_line(error)}")
            continue
        if files is None:
            continue
        if not valid:
            warn(
                f"{type(each).__name__}.weight_files must map file names to their SHA-256 in hexadecimal digits, got "
                f"{shown(files)}; they are left out of the record"
            )
            continue
        for name, digest in files.items():
            # Two files of one name, from two folders, are two.
            found[name if found.get(name, digest) == digest else f"{name} ({type(each).__name__})"] = digest
    return found


def is_digest(name: object, digest: object) -> bool:
    """Whether an entry of `weight_files` is a name with a SHA-256."""
    if not isinstance(name, str) or not name or not arguments.is_unicode(name):
        return False
    return isinstance(digest, str) and _SHA256.fullmatch(digest) is not None
