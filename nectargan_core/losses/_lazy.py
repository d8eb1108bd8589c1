"""Which of the values given as inputs are lazy: called for the value that a loss reads."""

from __future__ import annotations

import inspect
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from torch import nn

_MODULE_CALL = nn.Module.__call__


def is_lazy(value: Any) -> bool:
    """Whether a value is a function, method or partial that can be called without any argument.

    What needs an argument, or takes any number of them, is a value by itself, such as a critic that a gradient
    penalty calls. So are modules, classes and other objects that can be called.

    Example:
        >>> is_lazy(lambda: 1), is_lazy(lambda x: x), is_lazy(abs), is_lazy(partial(abs, -1))
        (True, False, False, True)
    """
    kind = type(value)
    if kind is FunctionType:
        # Counted on the code object, which takes a tenth of the time that a signature takes. A wrapper is asked for the
        # signature of what it wraps. Defaults belong to the function, so nothing is kept for a code object.
        if "__wrapped__" not in value.__dict__:
            code, defaults = value.__code__, value.__defaults__ or ()
            required = code.co_argcount > len(defaults)
            # Asked for only if need be: torch.compile knows no __kwdefaults__ of a function that is made in a graph.
            if code.co_kwonlyargcount and not required:
                required = code.co_kwonlyargcount > len(value.__kwdefaults__ or ())
            return not (required or code.co_flags & inspect.CO_VARARGS)
        return _needs_nothing(value)
    if kind is MethodType:
        return _needs_nothing(value)
    if kind is partial:
        # As the signature of a module says, which takes any arguments; a signature takes a hundred times as long.
        if type(value.func).__call__ is _MODULE_CALL:
            return bool(value.args or value.keywords)
        return not isinstance(value.func, type) and _needs_nothing(value, bound=bool(value.args or value.keywords))
    return False


def _needs_nothing(function: Any, bound: bool = False) -> bool:
    """Whether a function can be called without arguments; one with `*args` only if some are bound already."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin without a signature
        return bound
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            if not bound:
                return False
        elif parameter.kind is not parameter.VAR_KEYWORD and parameter.default is parameter.empty:
            return False
    return True
