"""How a call that registers losses is written down, so that a file can repeat it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from nectargan_core import catalog
from nectargan_core._names import label_of
from nectargan_core.objectives._functions import plain_or_none
from nectargan_core.objectives._grammar import parse
from nectargan_core.objectives._objective import ObjectiveTerm
from nectargan_core.objectives._variants import SUBSPEC


def term_of_formula(
    formula: str,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    prefix: str = "",
    rename_inputs: Mapping[str, Any] | None = None,
) -> ObjectiveTerm:
    """Write down a formula with what was given beside it.

    An option that is None, as it is by default, is left out, since TOML cannot write it.

    Example:
        >>> term_of_formula("vgg", {"vgg": {"layers": (1, 2), "network": object()}}).unwritten
        ['vgg.network']
    """
    written: dict[str, dict[str, Any]] = {}
    unwritten: list[str] = []
    for name, keywords in (options or {}).items():
        for option, value in keywords.items():
            if value is None and _is_none_by_default(formula, name, option):
                continue
            held = plain_or_none(value)
            if held is None:
                unwritten.append(f"{name}.{option}")
            else:
                written.setdefault(name, {})[option] = held[0]
    return ObjectiveTerm(
        formula=formula,
        options=written,
        prefix=prefix,
        rename_inputs=_plain_renames(rename_inputs),
        unwritten=unwritten,
    )


def plugin_of(spec: Callable[..., Any]) -> catalog.Plugin | None:
    """Return the installed plugin whose spec a function is; None where it is of none."""
    return next((entry.plugin for entry in catalog.plugins(catalog.SPECS) if entry.plugin.imported() is spec), None)


def term_of_function(spec: Callable[..., Any], bound: inspect.BoundArguments | None) -> ObjectiveTerm:
    """Write down a spec function that was called: as a formula where it is that of an installed plugin.

    Args:
        spec: The function.
        bound: What it was called with; None where that is not known.
    """
    plugin = plugin_of(spec)
    if plugin is None or bound is None:
        return ObjectiveTerm(function=label_of(spec))
    given = dict(bound.arguments)
    # What is passed on by **name.
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(parameter.name, {}))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            return ObjectiveTerm(function=label_of(spec))
    given.pop(next(iter(bound.signature.parameters), ""), None)  # the config
    variant = given.pop(SUBSPEC, None)
    name = plugin.name if variant is None else f"{plugin.name}:{variant}"
    return term_of_formula(name, {plugin.name: given} if given else None)


def _is_none_by_default(formula: str, name: str, option: str) -> bool:
    defaults: list[Any] = []
    for term in (summand.term for summand in parse(formula)):
        if name in (term.name, str(term)):
            spec = catalog.find(catalog.SPECS, term.name, term.provider).imported()
            try:
                defaults.append(inspect.signature(spec).parameters[option].default)  # type: ignore[arg-type] # if None
            except (TypeError, ValueError, KeyError):
                return False
    return bool(defaults) and all(default is None for default in defaults)


def _plain_renames(given: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        str(name): {str(read): str(to) for read, to in value.items()} if isinstance(value, Mapping) else str(value)
        for name, value in (given or {}).items()
    }
