"""Specs: functions that return `dict[str, LMLoss]`; how they are called, checked, merged and adjusted."""

from __future__ import annotations

import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nectargan_core import catalog, names
from nectargan_core.config import Config, ConfiguredWeight
from nectargan_core.errors import (
    DuplicateLossError,
    NectarganError,
    PluginContractError,
    PluginError,
    ScheduleError,
    SpecError,
    UnknownLossError,
    UnknownVariantError,
    did_you_mean,
    warn,
)
from nectargan_core.loss import LMLoss
from nectargan_core.schedule import Schedule

Spec = Callable[..., "dict[str, LMLoss]"]
"""What a spec plugin publishes: `(config)` or `(config, subspec)`, and options by keyword."""

_SUBSPEC = "subspec"


@dataclass
class Objective:
    """Losses by name, which term each came from, and the plugins that were loaded for them."""

    losses: dict[str, LMLoss] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    plugins: list[catalog.Plugin] = field(default_factory=list)

    def add(self, losses: Mapping[str, LMLoss], origin: str) -> None:
        """Merge in the losses of one more term."""
        for name, loss in losses.items():
            if name in self.losses:
                raise DuplicateLossError(
                    f"loss {name!r} is defined twice, by {self.origins[name]} and by {origin}; leave one of them "
                    "out, or register one under a prefix (register_spec(..., prefix='second_'))",
                    name=name,
                )
            self.losses[name] = loss
            self.origins[name] = origin


def build_named(objective: str, config: Config, options: Mapping[str, Mapping[str, Any]] | None = None) -> Objective:
    """Build the losses of an objective from its name.

    Args:
        objective: Such as `"pix2pix:extended+vgg"`.
        config: What each spec is given; it carries the device.
        options: Keyword arguments for the specs, by the name of the spec (`"vgg"`) or by its whole term
            (`"vgg:style"`).

    Returns:
        The losses of all terms, in the order of the terms.

    Raises:
        SpecSyntaxError: If the name cannot be read.
        PluginError: If a term's plugin is missing, ambiguous, blocked, broken or breaks its contract.
        UnknownVariantError: If a term's spec has no such variant.
        DuplicateLossError: If two terms define a loss of one name.
        SpecError: If a spec raises, or does not take the options.
    """
    return _build_terms(names.parse(objective), config, options or {}, Objective())


def build_called(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any], config: Config) -> Objective:
    """Build the losses of a spec function with the arguments given.

    Where its parameter `subspec` is a `Literal` and the string given is none of its members, what follows the
    first `+` of the string becomes further terms, built by name.
    """
    terms: tuple[names.Term, ...] = ()
    bound = _bind(spec, args, kwargs)
    variants = variants_of(spec)
    label = getattr(spec, "__qualname__", repr(spec))
    if bound is not None and variants and isinstance(bound.arguments.get(_SUBSPEC), str):
        subspec = bound.arguments[_SUBSPEC]
        if subspec not in variants:
            variant, plus, rest = subspec.partition("+")
            if variant not in variants:
                raise _unknown_variant(label, variant, variants)
            if plus:
                terms = names.parse(rest)
            bound.arguments[_SUBSPEC] = variant
        given = bound.arguments.get("config")
        config = given if isinstance(given, Config) else config
        args, kwargs = bound.args, bound.kwargs
    result = Objective()
    result.add(_checked(_call(spec, args, kwargs, label), label, None), label)
    return _build_terms(terms, config, {}, result)


def _build_terms(
    terms: tuple[names.Term, ...],
    config: Config,
    options: Mapping[str, Mapping[str, Any]],
    result: Objective,
) -> Objective:
    known = dict.fromkeys(key for term in terms for key in (term.name, str(term)))
    for name in options:
        if name not in known:
            objective = "+".join(map(str, terms))
            raise SpecError(
                f"options are given for {name!r}, which is no term of {objective!r}.{did_you_mean(name, known)}"
            )
    plugins = [catalog.find(catalog.SPECS, term.name, term.provider) for term in terms]
    for term, plugin in zip(terms, plugins, strict=True):
        spec = typing.cast("Spec", plugin.load())
        if plugin not in result.plugins:
            result.plugins.append(plugin)
        keywords = {**options.get(term.name, {}), **options.get(str(term), {})}
        _check_options(spec, keywords, plugin)
        if term.variant is not None:
            _check_variant(spec, str(term), term.variant, plugin)
            keywords[_SUBSPEC] = term.variant
        losses = _checked(_call(spec, (config,), keywords, str(plugin)), str(plugin), plugin)
        result.add(losses, f"{str(term)!r} ({plugin.dist} {plugin.version})")
    return result


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
        parameter = inspect.signature(spec).parameters[_SUBSPEC]
        annotation = parameter.annotation
        if isinstance(annotation, str):
            # The plugin's own source, already imported; typing's names serve one that imports them for checkers only.
            annotation = eval(annotation, {**vars(typing), **_namespace(spec)})  # noqa: S307
        return _literals(annotation) or None
    except Exception:  # noqa: BLE001 # whatever an annotation does, it must not break the plugin
        return None


def _namespace(spec: Any) -> dict[str, Any]:
    """Return the globals of the function that a spec comes down to."""
    function = inspect.unwrap(spec)
    while isinstance(function, functools.partial):
        function = inspect.unwrap(function.func)
    if not hasattr(function, "__globals__"):
        # A class, or an object that can be called.
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


def _check_variant(spec: Spec, term: str, variant: str, plugin: catalog.Plugin) -> None:
    try:
        takes_variant = _SUBSPEC in inspect.signature(spec).parameters
    except (TypeError, ValueError):
        return
    if not takes_variant:
        raise UnknownVariantError(f"{term!r} asks {plugin} for a variant, and it has none; write {plugin.name!r}")
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
    except (TypeError, ValueError):
        return None
    try:
        return signature.bind(*args, **kwargs)
    except TypeError as error:
        label = getattr(spec, "__qualname__", repr(spec))
        raise SpecError(f"spec {label}{signature} cannot be called with what was given: {error}") from None


def _check_options(spec: Spec, options: Mapping[str, Any], plugin: catalog.Plugin) -> None:
    try:
        signature = inspect.signature(spec)
    except (TypeError, ValueError):
        return
    takes = [name for name in signature.parameters if name not in ("config", _SUBSPEC)]
    any_name = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for name in options:
        if name not in takes and not any_name:
            listed = f"takes {', '.join(takes)}" if takes else "takes none"
            raise SpecError(f"spec {plugin} has no option {name!r}; it {listed}.{did_you_mean(name, takes)}")


def _call(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any], label: str) -> object:
    try:
        return spec(*args, **kwargs)
    except NectarganError:
        raise
    except Exception as error:
        raise SpecError(f"spec {label} failed: {type(error).__name__}: {error}") from error


def _checked(result: object, label: str, plugin: catalog.Plugin | None) -> dict[str, LMLoss]:
    def broken(what: str) -> PluginError:
        returned = f"returned {what}; expected a dict that maps each loss's name to its LMLoss"
        if plugin is not None:
            return plugin.error(PluginContractError, returned)
        return PluginContractError(f"spec {label} {returned}", group=catalog.SPECS, name=label)

    if not isinstance(result, dict):
        raise broken(f"{type(result).__name__}")
    for key, loss in result.items():
        if not isinstance(loss, LMLoss):
            raise broken(f"{type(loss).__name__} under {key!r}")
        if key != loss.name:
            raise broken(f"a loss named {loss.name!r} under the key {key!r}")
    return result


def warn_of_zeros(losses: Mapping[str, LMLoss]) -> None:
    """Warn of each loss that does nothing because a configuration sets its weight to 0."""
    for name, loss in losses.items():
        weight = loss.loss_weight
        if isinstance(weight, ConfiguredWeight) and not weight and not loss.schedule.is_scheduled:
            warn(
                f"loss {name!r} does nothing: the configuration sets {weight.key} to 0; remove the key "
                "for the spec's own weight, or choose an objective without this loss"
            )


def adjust(
    objective: Objective,
    weights: Mapping[str, float] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    prefix: str = "",
) -> dict[str, LMLoss]:
    """Return the losses of an objective under their final names, with the weights and schedules asked for.

    Args:
        objective: What was built.
        weights: Weights by final name. They beat those of config and spec.
        schedules: Schedules by final name. They replace weights and schedules of config and spec; an end that
            is left out is the weight that the loss would have had.
        prefix: Put before every name.

    Raises:
        UnknownLossError: If a weight or schedule is for a loss that the objective does not have.
        ScheduleError: If a weight contradicts the `initial_value` of a schedule.
    """
    weights, schedules = dict(weights or {}), dict(schedules or {})
    final = {prefix + name: loss for name, loss in objective.losses.items()}
    for what, given in (("weight", weights), ("schedule", schedules)):
        for name in given:
            if name not in final:
                raise UnknownLossError(
                    f"a {what} is given for loss {name!r}, which this objective does not have; it has "
                    f"{', '.join(final) or 'none'}.{did_you_mean(name, final)}",
                    name=name,
                    known=tuple(final),
                )
    return {name: replaced(loss, name, weights.get(name), schedules.get(name)) for name, loss in final.items()}


def replaced(loss: LMLoss, name: str, weight: float | None, schedule: Schedule | None) -> LMLoss:
    """Return a copy of a loss under a name, with another weight and schedule where given.

    Raises:
        ScheduleError: If the weight contradicts the `initial_value` of the schedule.
    """
    base = loss.loss_weight if weight is None else weight
    schedule = loss.schedule if schedule is None else schedule
    check_schedule(name, schedule)
    if schedule.is_scheduled:
        if weight is not None and schedule.gives("initial_value") and schedule.initial_value != weight:
            raise ScheduleError(
                f"loss {name!r} is given the weight {weight:g} and a schedule that begins at "
                f"{schedule.initial_value:g}; give one of them"
            )
        if weight is not None or None in (schedule.initial_value, schedule.target_value):
            schedule = schedule.with_weight(base)
        base = schedule.ends()[0]
    return LMLoss(
        name=name,
        function=loss.function,
        loss_weight=base,
        schedule=schedule,
        tags=loss.tags,
        inputs=loss.inputs,
        skip_when_zero=loss.skip_when_zero,
    )


def check_schedule(name: str, schedule: object) -> None:
    """Refuse what is no `Schedule`."""
    if not isinstance(schedule, Schedule):
        raise TypeError(
            f"the schedule of loss {name!r} must be a Schedule, such as Schedule('linear', start=0, end=10, "
            f"target_value=0.0), got {schedule!r}"
        )
