"""Building an objective: its specs are found, called and checked, their losses get their factors and are merged."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import ValidationError

from nectargan_core import _arguments as arguments
from nectargan_core import catalog
from nectargan_core._messages import did_you_mean, listed, name_of, one_line, shown, warn
from nectargan_core.config import Config, read_config
from nectargan_core.errors import (
    DuplicateLossError,
    NectarganError,
    PluginContractError,
    PluginError,
    SpecError,
    UnknownVariantError,
)
from nectargan_core.losses import LMLoss, found_by
from nectargan_core.objectives._factor import with_factor
from nectargan_core.objectives._grammar import Summand, parse, split_variant
from nectargan_core.objectives._objective import ExtraLoss, ObjectiveTerm
from nectargan_core.objectives._terms import called_term, term_of_function, with_defaults
from nectargan_core.objectives._variants import SUBSPEC, variants_of, wants_config
from nectargan_core.schedules import reasons
from nectargan_core.weightings import Balance, Losses

KEYWORDS = ("weights", "schedules", "weightings", "options", "prefix", "rename_inputs")
"""What can be given with a formula."""

FILE_KEYWORDS = ("weights", "schedules", "weightings", "options", "strict")
"""What can be given with a file or an `Objective`."""

_CONFIG = "config"

_OPTIONS = "{'vgg': {'layers': 3}}"

Spec = Callable[..., "dict[str, LMLoss]"]
"""What a spec plugin publishes: `(config)` or `(config, subspec)`, and options by keyword."""


@dataclass(frozen=True)
class Origin:
    """Where a loss comes from.

    Args:
        label: What it is called in errors.
        plugin: The plugin; None of a function that is none, and of a class of `torch.nn`.
        term: The term of the formula, without a factor; None likewise.
        options: The keyword arguments of the spec, the variant and those by default included.
        extra: What a file says of it where it is a class of `torch.nn`.
    """

    label: str
    plugin: catalog.Plugin | None = None
    term: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: ExtraLoss | None = None


@dataclass
class Built:
    """Losses by name, what balances them, the plugins that were loaded for them, and which term each came from.

    Args:
        losses: The losses under their final names.
        balances: What balances them.
        plugins: The plugins that were loaded.
        origins: Where each loss comes from, by its name.
        terms: What each call registered: the definition, and the names of its losses.
        disabled: The losses that do not count.
    """

    losses: dict[str, LMLoss] = field(default_factory=dict)
    balances: list[Balance] = field(default_factory=list)
    plugins: list[catalog.Plugin] = field(default_factory=list)
    origins: dict[str, Origin] = field(default_factory=dict)
    terms: list[tuple[ObjectiveTerm, frozenset[str]]] = field(default_factory=list)
    disabled: frozenset[str] = frozenset()

    def add(self, losses: Mapping[str, LMLoss], origin: Origin) -> None:
        """Merge in the losses of one more term."""
        for name, loss in losses.items():
            if name in self.losses:
                raise DuplicateLossError(
                    f"loss {name!r} is defined twice, by {self.origins[name].label} and by {origin.label}; leave one "
                    "of them out, or register one under a prefix (register_spec(..., prefix='second_'))",
                    name=name,
                )
            self.losses[name] = loss
            self.origins[name] = origin
        for query, weighting in losses.weightings.items() if isinstance(losses, Losses) else ():
            found = tuple(loss.name for loss in found_by([query], losses.values()))
            if not found:
                raise SpecError(
                    f"{origin.label} brings the weighting {weighting.name!r} for {query!r}, which is the name or tag "
                    f"of none of its losses {listed(losses)}"
                )
            self.balances.append(Balance(weighting, found, query))

    def leave_out(self, name: str) -> None:
        """Remove a loss, which is written down with the term that it comes from."""
        del self.losses[name], self.origins[name]
        self.balances = [
            balance._replace(names=tuple(each for each in balance.names if each != name)) for balance in self.balances
        ]
        self.balances = [balance for balance in self.balances if balance.names]
        self.terms = [
            (term.model_copy(update={"without": sorted({*term.without, name})}), names - {name})
            for term, names in self.terms
        ]

    def merge(self, other: Built) -> None:
        """Merge in what another call would register.

        Raises:
            DuplicateLossError: If both have a loss of one name.
        """
        for name in other.losses:
            if name in self.losses:
                raise DuplicateLossError(
                    f"loss {name!r} is defined twice, by {self.origins[name].label} and by "
                    f"{other.origins[name].label}; leave one of them out, or give one of the terms a prefix",
                    name=name,
                )
        self.losses |= other.losses
        self.origins |= other.origins
        self.balances += other.balances
        self.terms += other.terms
        self.plugins += [plugin for plugin in other.plugins if plugin not in self.plugins]


def build_named(objective: str, config: Config, options: Mapping[str, Mapping[str, Any]] | None = None) -> Built:
    """Build the losses of an objective from its formula.

    Args:
        objective: Such as `"pix2pix:extended + 10*vgg"`.
        config: What each spec is given; it carries the device. A spec with a factor is given it without lambdas.
        options: Keyword arguments for the specs, by the name of the spec (`"vgg"`) or by its whole term
            (`"vgg:style"`), without a factor.

    Returns:
        The losses of all terms, in the order of the terms.

    Raises:
        SpecSyntaxError: If the formula cannot be read.
        PluginError: If a term's plugin is missing, ambiguous, blocked, broken or breaks its contract.
        UnknownVariantError: If a term's spec has no such variant.
        DuplicateLossError: If two terms define a loss of one name.
        SpecError: If a spec raises, or does not take the options, or a float cannot hold a weight times its factor.
        TypeError: If the options are no mapping of mappings.
    """
    given: dict[str, Mapping[str, Any]] = {}
    if options is not None:
        for name, keywords in arguments.mapping("options", options, _OPTIONS).items():
            given[name] = arguments.mapping(f"options[{name!r}]", keywords, "{'layers': 3}")
    return _build_terms(parse(objective), config, given, Built())


def build_called(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any], config: Config) -> Built:
    """Build the losses of a spec function with the arguments given.

    Where its parameter `subspec` is a `Literal` and the string given is none of its members, what follows the
    first `+` of the string is a formula of further terms, built by name. Where its parameter `config` is a `Config`,
    whatever a manager takes as a configuration can be given.
    """
    further: tuple[Summand, ...] = ()
    rest = ""
    bound = _bind(spec, args, kwargs)
    if bound is not None and bound.arguments.get(_CONFIG) is not None and wants_config(spec):
        bound.arguments[_CONFIG] = read_config(bound.arguments[_CONFIG])
        args, kwargs = bound.args, bound.kwargs
    variants = variants_of(spec)
    label = name_of(spec)
    if bound is not None and variants and isinstance(bound.arguments.get(SUBSPEC), str):
        subspec = bound.arguments[SUBSPEC]
        if subspec not in variants:
            variant, start = split_variant(subspec)
            if variant not in variants:
                raise _unknown_variant(label, variant, variants)
            if start is not None:
                further = parse(subspec, start)
                rest = f" + {subspec[start:].strip()}"
            bound.arguments[SUBSPEC] = variant
        given = bound.arguments.get(_CONFIG)
        config = given if isinstance(given, Config) else config
        args, kwargs = bound.args, bound.kwargs
    result = Built()
    advice = f"; {label} is a class, so give a function or an object of it" if isinstance(spec, type) else ""
    called = called_term(spec, bound)
    origin = Origin(label) if called is None else Origin(label, called.plugin, called.term, called.all_options)
    result.add(_checked(_call(spec, args, kwargs, label), label, None, advice), origin)
    result = _build_terms(further, config, {}, result)
    result.terms = [(term_of_function(spec, called, rest), frozenset(result.losses))]
    return result


def _build_terms(
    summands: tuple[Summand, ...],
    config: Config,
    options: Mapping[str, Mapping[str, Any]],
    result: Built,
) -> Built:
    known = dict.fromkeys(key for each in summands for key in (each.term.name, str(each.term)))
    for name in options:
        if name not in known:
            objective = " + ".join(map(str, summands))
            factor = " A key of options has no factor." if "*" in name else ""
            raise SpecError(
                f"options are given for {name!r}, which is no term of {objective!r}.{factor}{did_you_mean(name, known)}"
            )
    plugins = [catalog.find(catalog.SPECS, each.term.name, each.term.provider) for each in summands]
    unread: list[str] = []
    for summand, plugin in zip(summands, plugins, strict=True):
        term = summand.term
        spec = cast("Spec", plugin.load())
        if plugin not in result.plugins:
            result.plugins.append(plugin)
        keywords = {**options.get(term.name, {}), **options.get(str(term), {})}
        check_options(spec, keywords, plugin)
        if term.variant is not None:
            check_variant(spec, str(term), term.variant, plugin)
            keywords[SUBSPEC] = term.variant
        seen, asked = (config, {}) if summand.factor is None else config.without_lambdas()
        losses = _checked(_call(spec, (seen,), keywords, str(plugin), asked), str(plugin), plugin)
        unread += [_unread(summand, key, value) for key, value in asked.items()]
        label = f"{str(summand)!r} ({plugin.dist} {plugin.version})"
        result.add(with_factor(losses, summand), Origin(label, plugin, str(term), with_defaults(spec, keywords)))
    for message in unread:
        warn(message)
    return result


def _unread(summand: Summand, key: str, value: float) -> str:
    return (
        f"the objective says {str(summand)!r}, and the configuration sets train.loss.{key} to {value:g}, which is not "
        f"read: a factor goes before the configuration; remove the key, or write {str(summand.term)!r} to use it"
    )


def check_variant(spec: Spec, term: str, variant: str, plugin: catalog.Plugin) -> None:
    """Raise `UnknownVariantError` for a variant that a spec is known not to have."""
    try:
        takes_variant = SUBSPEC in inspect.signature(spec).parameters
    except (TypeError, ValueError):
        return
    if not takes_variant:
        raise UnknownVariantError(f"{term!r} names a variant of {plugin}, which has none; write {plugin.name!r}")
    variants = variants_of(spec)
    if variants is not None and variant not in variants:
        raise _unknown_variant(str(plugin), variant, variants)


def _unknown_variant(spec: str, variant: str, variants: tuple[str, ...]) -> UnknownVariantError:
    return UnknownVariantError(
        f"{spec} has no variant {variant!r}, only {', '.join(variants)}.{did_you_mean(variant, variants)}",
        variant=variant,
        known=variants,
    )


def _bind(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> inspect.BoundArguments | None:
    try:
        signature = inspect.signature(spec)
    except Exception:  # noqa: BLE001 # a builtin without a signature, or an object that raises anything
        return None
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        message = f"spec {name_of(spec)}{signature} cannot be called with what was given: {error}"
        taken = [f"{name}=" for name in KEYWORDS if name in kwargs and name not in signature.parameters]
        if taken:
            message += (
                f"; {listed(taken)} {'go' if len(taken) > 1 else 'goes'} with a formula, and what is given with a "
                "function is passed to it: publish the spec to name it in a formula, or change what it gave by "
                "set_weight, set_schedule and set_weighting"
            )
        raise SpecError(message) from None


def check_options(spec: Spec, options: Iterable[str], plugin: catalog.Plugin) -> None:
    """Raise `SpecError` for an option that a spec is known not to have."""
    try:
        signature = inspect.signature(spec)
    except (TypeError, ValueError):
        return
    takes = [name for name in signature.parameters if name not in (_CONFIG, SUBSPEC)]
    any_name = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in options:
        if name not in takes and not any_name:
            known = f"takes {', '.join(takes)}" if takes else "takes none"
            raise SpecError(f"spec {plugin} has no option {shown(name)}; it {known}.{did_you_mean(name, takes)}")


def _call(
    spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any], label: str, missed: Mapping[str, float] | None = None
) -> object:
    """Call a spec; `missed` are the weights that it has asked for, and that it is not given because of a factor."""
    try:
        return spec(*args, **kwargs)
    except NectarganError:
        raise
    except (Exception, SystemExit) as error:
        without = f"; because of its factor it was called without train.loss.{listed(missed)}" if missed else ""
        what = f"{error.title}: {reasons(error)}" if isinstance(error, ValidationError) else one_line(error)
        raise SpecError(f"spec {label} failed: {what}{without}") from error


def _checked(result: object, label: str, plugin: catalog.Plugin | None, advice: str = "") -> dict[str, LMLoss]:
    def broken(what: str) -> PluginError:
        returned = f"returned {what}; expected a dict that maps each loss's name to its LMLoss{advice}"
        if plugin is not None:
            return plugin.error(PluginContractError, returned)
        return PluginContractError(f"spec {label} {returned}", group=catalog.SPECS, name=label)

    if not isinstance(result, dict):
        raise broken(f"{type(result).__name__}")
    for key, loss in result.items():
        if not isinstance(loss, LMLoss):
            raise broken(f"{type(loss).__name__} under {shown(key)}")
        if not isinstance(key, str) or key != loss.name:
            raise broken(f"a loss named {loss.name!r} under the key {shown(key)}")
    return result
