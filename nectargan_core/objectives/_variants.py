"""What the annotations of a spec say: its variants, and whether it takes a `Config`."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from nectargan_core.config import Config

SUBSPEC = "subspec"
"""The parameter of a spec that takes the variant."""


def variants_of(spec: Callable[..., Any]) -> tuple[str, ...] | None:
    """Return the variants of a spec: the members of the `Literal` that annotates its parameter `subspec`.

    Only that one annotation is evaluated, so that the others may name what is imported for type checking only.

    Returns:
        The variants in their order; None where they cannot be known.

    Example:
        >>> from typing import Literal
        >>> def spec(config: "Config", subspec: Literal["basic", "extended"] = "basic") -> "dict[str, LMLoss]":
        ...     return {}
        >>> variants_of(spec)
        ('basic', 'extended')
    """
    try:
        parameter = inspect.signature(spec).parameters[SUBSPEC]
        annotation = parameter.annotation
        if isinstance(annotation, str):
            # Text from the plugin's own code, which is imported already. The names of typing serve a plugin that
            # imports them for type checkers only.
            annotation = eval(annotation, {**vars(typing), **namespace_of(spec)})  # noqa: S307
        return _literals(annotation) or None
    except Exception:  # noqa: BLE001 # whatever an annotation does, it must not break the plugin
        return None


def wants_config(spec: Callable[..., Any]) -> bool:
    """Whether the parameter `config` of a spec is annotated with our `Config`, which may be imported for checks only.

    Example:
        >>> def spec(config: "Config") -> "dict[str, LMLoss]":
        ...     return {}
        >>> wants_config(spec)
        True
    """
    annotation = inspect.signature(spec).parameters["config"].annotation
    # Text in text, where an annotation is quoted and all of the module's are text.
    if isinstance(annotation, str) and annotation.strip("'\"") in ("Config", "nectargan_core.Config"):
        return namespace_of(spec).get("Config", Config) is Config
    return annotation is Config


def namespace_of(spec: Any) -> dict[str, Any]:
    """Return the globals of the function that a spec comes down to."""
    function = inspect.unwrap(spec)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not hasattr(function, "__globals__"):
        # A class, or an object with __call__.
        owner, method = (function, "__init__") if isinstance(function, type) else (type(function), "__call__")
        function = inspect.unwrap(getattr(owner, method))
    return typing.cast("dict[str, Any]", function.__globals__)


def _literals(annotation: Any) -> tuple[str, ...]:
    if typing.get_origin(annotation) is typing.Literal:
        return tuple(member for member in typing.get_args(annotation) if isinstance(member, str))
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return tuple(member for part in typing.get_args(annotation) for member in _literals(part))
    value = getattr(annotation, "__value__", None)  # an alias made by a `type` statement
    return _literals(value) if value is not None else ()
