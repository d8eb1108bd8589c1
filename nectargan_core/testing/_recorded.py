"""The check of what a record of an objective can say of a loss: its arguments, and its weight files."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from nectargan_core._messages import listed, one_line, shown
from nectargan_core.errors import WeightsError
from nectargan_core.losses import module_of
from nectargan_core.testing._call import explained
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable, NotKnown
from nectargan_core.testing._subject import LossSubject

_SHA256 = re.compile("[0-9a-f]{64}")
# Parameters of torch's own losses that `reduction` has replaced, and those that say where a module is.
_NO_ARGUMENTS = ("size_average", "reduce", "device", "dtype")
_LARGEST_TENSOR = 1024
_UNKNOWN = "a record cannot say what {} was given for {}, so that losses with other values look alike"


def recorded(loss: LossSubject) -> None:
    """A record of it can say which arguments it was made with, and which weight files it reads."""
    _check_weight_files(loss.function)
    for message in _not_known(loss.function):
        raise NotKnown(message)


def _check_weight_files(function: Callable[..., Any]) -> None:
    module = module_of(function)
    for each in () if module is None else module.modules():
        # Not hasattr(), which says no where a property raises AttributeError.
        if inspect.getattr_static(each, "weight_files", None) is None:
            continue
        where = f"{type(each).__name__}.weight_files"
        try:
            files = each.weight_files
        except WeightsError as error:
            raise NotApplicable(one_line(error)) from error
        except Exception as error:
            raise CheckFailed(f"{where} raised {explained(error)}; it must map file names to their SHA-256") from error
        if not isinstance(files, Mapping):
            hint = "; make it a property" if callable(files) else ""
            raise CheckFailed(f"{where} is {shown(files)}; it must map file names to their SHA-256{hint}")
        for name, digest in files.items():
            if not isinstance(name, str) or not isinstance(digest, str) or not _SHA256.fullmatch(digest):
                raise CheckFailed(
                    f"{where} has {shown(digest)} under {shown(name)}; it must map file names to their SHA-256, 64 "
                    "hexadecimal digits in lower case, as hashlib.sha256(data).hexdigest() returns them"
                )


def _not_known(function: Any) -> Iterator[str]:
    """Yield of each object whose arguments cannot be read which these are, and what to change."""
    if isinstance(function, functools.partial):
        yield from _not_known(function.func)
        given = {**{f"argument {place + 1}": value for place, value in enumerate(function.args)}, **function.keywords}
        if unknown := [name for name, value in given.items() if not _is_plain(value)]:
            yield f"{_UNKNOWN.format('the functools.partial', listed(unknown))}; give it plain data"
    elif isinstance(function, MethodType):
        yield from _not_known(function.__self__)
    elif isinstance(function, type) or hasattr(function, "__qualname__"):
        return
    elif unknown := [name for name in _parameters(function) if not _is_plain(_attribute(function, name))]:
        yield (
            f"{_UNKNOWN.format(type(function).__name__, listed(unknown))}; keep each as an attribute of its name, as "
            f"plain data: self.{unknown[0]} = {unknown[0]}"
        )


def _attribute(made: object, name: str) -> Any:
    try:
        return getattr(made, name)
    except Exception:  # noqa: BLE001 # a property may raise anything
        return inspect.Parameter.empty


def _parameters(made: object) -> list[str]:
    """Return the names of the parameters that the class of an object has of its own."""
    if type(made).__init__ in (nn.Module.__init__, object.__init__):
        return []
    try:
        found = inspect.signature(type(made)).parameters.values()
    except (TypeError, ValueError):  # a class written in C
        return []
    return [each.name for each in found if each.name not in _NO_ARGUMENTS or not isinstance(made, nn.Module)]


def _is_plain(value: Any) -> bool:
    if value is None or isinstance(value, (bool, int, float, str, torch.dtype, os.PathLike)):
        return True
    if isinstance(value, Tensor):
        return not value.is_meta and value.numel() <= _LARGEST_TENSOR and value.dtype in (torch.float32, torch.int64)
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(each) for key, each in value.items())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_plain, value))
    # A loss function, which is described likewise; a method of the class is the value of no argument.
    return callable(value) and not isinstance(value, (type, MethodType)) and not any(_not_known(value))
