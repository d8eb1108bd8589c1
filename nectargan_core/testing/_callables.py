"""How what a plugin publishes is found by name, called with params, and documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import nn

from nectargan_core import catalog
from nectargan_core._docstrings import docstring_of
from nectargan_core._messages import did_you_mean, listed, name_of
from nectargan_core._names import read_name
from nectargan_core._params import plain_params
from nectargan_core.catalog import Plugin
from nectargan_core.errors import NectarganError
from nectargan_core.testing._outcomes import CheckFailed, NotApplicable


def installed(group: str, name: str, kind: str) -> Plugin:
    """Find the plugin of a name, `provider/name` where several distributions offer it.

    Raises:
        PluginNotFoundError: If none is installed.
        AmbiguousPluginError: If several distributions offer it.
        SpecSyntaxError: If it is no name.
    """
    term = read_name(name, kind)
    return catalog.find(group, term.name, term.provider)


@dataclass(frozen=True)
class CallableSubject:
    """What the checks of a schedule or weighting look at.

    Args:
        given: The function or class, where it is no installed plugin.
        params: What it is called with, as its definition keeps it.
        plugin: The installed plugin, if it is one.
    """

    noun: ClassVar[str]

    given: Any
    params: Mapping[str, Any] = field(default_factory=dict)
    plugin: Plugin | None = None

    def load(self) -> Callable[..., Any]:
        """Return the function or class.

        Raises:
            PluginError: If it cannot be loaded.
        """
        return self.given if self.plugin is None else self.plugin.load()

    @property
    def label(self) -> str:
        """What it is called in messages."""
        return f"{self.noun} {name_of(self.given) if self.plugin is None else repr(self.plugin.name)}"


def ready(function: Callable[[], Callable[..., Any]], params: Mapping[str, Any], leading: Sequence[str]) -> None:
    """Raise `NotApplicable` where the check `params` fails, so that it alone says why.

    Args:
        function: Returns the function or class, or raises.
        params: What it is to be called with.
        leading: What it takes before its params.
    """
    try:
        faults = signature_faults(function(), params, leading)
    except NectarganError:
        faults = ["it cannot be loaded"]
    if faults:
        raise NotApplicable("it cannot be called, as the check `params` tells")


def check_params(function: Callable[[], Callable[..., Any]], params: Mapping[str, Any], leading: Sequence[str]) -> None:
    """Raise `CheckFailed` where a function or class cannot be called with params, or takes any by accident."""
    try:
        found = function()
    except NectarganError as error:
        raise CheckFailed(str(error)) from error
    if faults := signature_faults(found, params, leading) or [*_names(found, leading), *_defaults(found, leading)]:
        raise CheckFailed("; ".join(faults))


def signature_faults(function: Callable[..., Any], params: Mapping[str, Any], leading: Sequence[str]) -> list[str]:
    """Return why a function or class cannot be called with params."""
    own = _own(function, leading)
    names = [each.name for each in own]
    takes_any = any(each.kind is each.VAR_KEYWORD for each in own)
    faults = []
    if leading:
        faults += _leading_faults(function, leading)
    unknown = [name for name in params if name not in names]
    if unknown and not takes_any:
        named = [each.name for each in own if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
        hints = "".join(did_you_mean(name, named) for name in unknown)
        faults.append(f"params has {listed(unknown)}, and it takes {listed(named)}.{hints}")
    missing = [each.name for each in own if _is_required(each) and each.name not in params]
    if missing:
        example = ", ".join(f'"{name}": ...' for name in missing)
        faults.append(
            f"it cannot be checked without values for {listed(missing)}, which have no default; give "
            f"params={{{example}}}, or --param {missing[0]}=VALUE"
        )
    return faults


def check_docstring(
    function: Callable[[], Callable[..., Any]], leading: Sequence[str], example: str, undocumented: Sequence[str] = ()
) -> None:
    """Raise `CheckFailed` where a function or class has no docstring, or it leaves out a param.

    Args:
        function: Returns the function or class.
        leading: What it takes before its params.
        example: A docstring that would do, for the message.
        undocumented: Params that need no word.
    """
    try:
        found = function()
    except NectarganError:
        raise NotApplicable("it cannot be loaded, as the check `params` tells") from None
    name = getattr(found, "__name__", type(found).__name__)
    told = docstring_of(found)
    if not told:
        raise CheckFailed(
            f"{name} has no docstring, whose first line `nectargan plugins` shows; write one, such as {example}"
        )
    if isinstance(found, type):
        # Params that are those of a base may be documented there, and those of a class where it takes them.
        places = [getattr(found, "__init__", None), *inspect.getmro(found)]
        told = "\n".join(docstring_of(each) for each in places if each not in (object, nn.Module))
    names = [each.name for each in _own(found, leading) if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)]
    left_out = [each for each in names if each not in undocumented and not re.search(rf"\b{re.escape(each)}\b", told)]
    if left_out:
        raise CheckFailed(
            f"the docstring of {name} says nothing about {listed(left_out)}; say under Args what each is, with its "
            "unit and range"
        )


def _own(function: Callable[..., Any], leading: Sequence[str]) -> list[inspect.Parameter]:
    """Return the parameters after those that core gives; none of a builtin, whose signature cannot be read."""
    if isinstance(function, type) and getattr(function, "__init__", None) is nn.Module.__init__:
        return []  # It says (*args, **kwargs), and refuses any.
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []
    for index, each in enumerate(parameters[: len(leading)]):
        if each.kind in (each.VAR_POSITIONAL, each.KEYWORD_ONLY, each.VAR_KEYWORD):
            return parameters[index:]
    return parameters[len(leading) :]


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind in (
        parameter.KEYWORD_ONLY,
        parameter.POSITIONAL_OR_KEYWORD,
    )


def _leading_faults(function: Callable[..., Any], leading: Sequence[str]) -> list[str]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return []
    try:
        signature.bind_partial(*leading)
    except TypeError:
        takes = ", ".join(map(str, signature.parameters.values()))
        return [f"it is called with ({', '.join(leading)}, **params), and takes ({takes})"]
    return []


def _names(function: Callable[..., Any], leading: Sequence[str]) -> list[str]:
    """Return what is wrong with the names that params are given by."""
    faults = []
    for each in _own(function, leading):
        if each.kind is each.VAR_KEYWORD:
            faults.append(
                f"**{each.name} takes any name, so that a misspelt param is ignored; give each param a name and a "
                "default of its own"
            )
        elif each.kind is each.VAR_POSITIONAL:
            faults.append(
                f"*{each.name} takes any number of values, and params are keyword arguments; write "
                f"({', '.join([*leading, '*', '...'])})"
            )
        elif each.kind is each.POSITIONAL_ONLY:
            faults.append(
                f"{each.name} is positional only, and params are keyword arguments; write it after *, as in "
                f"({', '.join([*leading, '*', each.name])}=...)"
            )
    return faults


def _defaults(function: Callable[..., Any], leading: Sequence[str]) -> list[str]:
    """Return which defaults could not be written into a configuration."""
    faults = []
    for each in _own(function, leading):
        if each.default is each.empty:
            continue
        try:
            plain_params({each.name: each.default})
        except ValueError as error:
            faults.append(
                f"the default of {each.name} is nothing that JSON can hold, and so no configuration could give it "
                f"({error}); use None, a finite number, text, or a list or dict of them"
            )
    return faults
