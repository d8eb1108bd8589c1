"""Options that come from a file: checked against the signature of the spec, and in the types that it asks for."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from nectargan_core import catalog
from nectargan_core._messages import shown
from nectargan_core.errors import SpecError
from nectargan_core.objectives._build import check_options
from nectargan_core.objectives._extra import made_option
from nectargan_core.objectives._file import key_of, located
from nectargan_core.objectives._grammar import Summand
from nectargan_core.objectives._variants import SUBSPEC, namespace_of


def typed_options(
    summands: tuple[Summand, ...], options: Mapping[str, Mapping[str, Any]], key: tuple[int | str, ...] = ()
) -> dict[str, dict[str, Any]]:
    """Return options of a file in the types that the specs of a formula ask for, such as a tuple for a list.

    A table with a `function` of `torch.nn`, and its `arguments`, is that module.

    Args:
        summands: The summands of the formula.
        options: By the name of the term, or the whole term; as JSON holds them.
        key: Where in the file they are.

    Raises:
        SpecError: If the spec does not have one, or has another type for it; the message begins with the key.
        ObjectiveError: If a module cannot be made.
        PluginError: If a spec is missing, ambiguous, blocked or broken.
    """
    typed = {name: dict(keywords) for name, keywords in options.items()}
    for summand in summands:
        term = summand.term
        for name in dict.fromkeys((term.name, str(term))):
            if name in typed:
                plugin = catalog.find(catalog.SPECS, term.name, term.provider)
                spec = plugin.load()
                for option, value in typed[name].items():
                    where = key_of(*key, name, option)
                    with located(None, where):
                        check_options(spec, [option], plugin)
                        module = made_option(value)
                    typed[name][option] = _typed(spec, where, option, value) if module is None else module
    return typed


def _typed(spec: Callable[..., Any], where: str, option: str, value: Any) -> Any:
    adapter = _adapter(spec, option)
    if adapter is None:
        return value
    try:
        # As JSON: strict, and yet a list may stand for a tuple or a set, and text for a path.
        return adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        # Of the kinds that it may have, the last complaint is the closest.
        said = error.errors(include_url=False)[0]["msg"]
        plain = json.loads(json.dumps(value))
        raise SpecError(
            f"{where}: expected {_annotation(spec, option)}, got {shown(plain)} ({said[:1].lower()}{said[1:]})"
        ) from None
    except (ValueError, TypeError, RecursionError):
        return value


def _adapter(spec: Callable[..., Any], option: str) -> TypeAdapter[Any] | None:
    """Return what checks an option; None where its annotation cannot be read, or is none that data has."""
    try:
        parameter = inspect.signature(spec).parameters[option]
        if option == SUBSPEC or parameter.annotation is inspect.Parameter.empty:
            return None
        annotation = parameter.annotation
        if isinstance(annotation, str):
            # Text from the plugin's own code, which is imported already.
            annotation = eval(annotation, {**vars(typing), **namespace_of(spec)})  # noqa: S307
        return TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except Exception:  # noqa: BLE001 # whatever an annotation does, the spec itself can still take the option
        return None


def _annotation(spec: Callable[..., Any], option: str) -> str:
    annotation = inspect.signature(spec).parameters[option].annotation
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
