"""The check of what a record of an objective can say of a loss: its arguments, and its weight files."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any

from nectargan_core._messages import listed, one_line, shown
from nectargan_core.errors import WeightsError
from nectargan_core.losses import module_of
from nectargan_core.objectives import described, is_digest
from nectargan_core.testing._call import explained
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable, NotKnown
from nectargan_core.testing._subject import LossSubject

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
            if not is_digest(name, digest):
                raise CheckFailed(
                    f"{where} has {shown(digest)} under {shown(name)}; it must map file names to their SHA-256, 64 "
                    "hexadecimal digits in lower case, as hashlib.sha256(data).hexdigest() returns them"
                )


def _not_known(function: Any) -> Iterator[str]:
    """Yield what a record cannot know of a function, and what to change."""
    if isinstance(function, MethodType):
        function = function.__self__
    unknown = described(function).unknown
    if isinstance(function, functools.partial):
        yield from _not_known(function.func)
        if own := [name for name in unknown if name not in described(function.func).unknown]:
            yield f"{_UNKNOWN.format('the functools.partial', listed(own))}; give it plain data"
    elif unknown and not hasattr(function, "__qualname__"):
        yield (
            f"{_UNKNOWN.format(type(function).__name__, listed(unknown))}; keep each as an attribute of its name, as "
            f"plain data: self.{unknown[0]} = {unknown[0]}"
        )
