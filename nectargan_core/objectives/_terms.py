"""How a call that registers losses is written down, so that a file can repeat it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

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


class CalledTerm(NamedTuple):
    """The term that stands for a spec function of an installed plugin, as it was called.

    Args:
        plugin: The plugin.
        term: The term, such as `"pix2pix:extended"`.
        options: The keyword arguments that it was given.
        all_options: The variant and the keyword arguments that it has by default, too.
    """

    plugin: catalog.Plugin
    term: str
    options: dict[str, Any]
    all_options: dict[str, Any]


def called_term(spec: Callable[..., Any], bound: inspect.BoundArguments | None) -> CalledTerm | None:
    """Return the term that stands for a spec function that was called; None where there is none.

    Args:
        spec: The function.
        bound: What it was called with; None where that is not known.
    """
    plugin = plugin_of(spec)
    if plugin is None or bound is None:
        return None
    given = dict(bound.arguments)
    # What is passed on by **name.
    for parameter in bound.signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            given.update(given.pop(parameter.name, {}))
        elif parameter.kind is parameter.VAR_POSITIONAL:
            return None
    given.pop(next(iter(bound.signature.parameters), ""), None)  # the config
    every = with_defaults(spec, given)
    variant = given.pop(SUBSPEC, None)
    return CalledTerm(plugin, plugin.name if variant is None else f"{plugin.name}:{variant}", given, every)


def with_defaults(spec: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a spec with those that it has by default, as far as they can be read.

    Example:
        >>> with_defaults(lambda config, subspec="plain", *, epsilon=1e-3: {}, {"subspec": "masked"})
        {'subspec': 'masked', 'epsilon': 0.001}
    """
    try:
        parameters = [*inspect.signature(spec).parameters.values()][1:]  # without the config
    except (TypeError, ValueError):
        return dict(given)
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    return {**defaults, **given}


def term_of_function(spec: Callable[..., Any], called: CalledTerm | None, further: str) -> ObjectiveTerm:
    """Write down a spec function that was called: as a formula where it is that of an installed plugin.

    Args:
        spec: The function.
        called: The term that stands for it.
        further: The formula of further terms, with a `+` before it; empty for none.
    """
    if called is None:
        return ObjectiveTerm(function=label_of(spec))
    options = {called.plugin.name: called.options} if called.options else None
    return term_of_formula(f"{called.term}{further}", options)


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
