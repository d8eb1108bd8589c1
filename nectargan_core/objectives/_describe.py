"""What an installed spec offers: its variants, the losses and weightings of each, and its options."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from nectargan_core import catalog
from nectargan_core._docstrings import docstring_of, section
from nectargan_core._messages import name_of, one_line, shown
from nectargan_core._names import label_of
from nectargan_core.config import ConfiguredWeight, DefaultWeights
from nectargan_core.errors import NectarganError, SpecError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives._build import build_named, check_variant
from nectargan_core.objectives._grammar import parse
from nectargan_core.objectives._variants import SUBSPEC, namespace_of, variants_of
from nectargan_core.weightings import Balance

_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\bal\.)(?<!e\.g\.)(?<!i\.e\.)\s+(?=[^a-z\s])")
_ARGUMENT = re.compile(r"(\*{0,2}\w+)(?:\s*\([^)]*\))?:\s*(.*)")


@dataclass(frozen=True)
class OptionDescription:
    """An option of a spec.

    Args:
        name: Its name, a key of `options={"vgg": {...}}`; with `**` before it where any other name is taken, too.
        type: Its annotation as written; empty without one.
        default: The value that it has when it is not given, as Python writes it.
        meaning: What the docstring says of it; empty where it says nothing.
    """

    name: str
    type: str
    default: str
    meaning: str


@dataclass(frozen=True)
class LossDescription:
    """A loss of a spec, as it is with an empty configuration.

    Args:
        name: Its name.
        tags: Its tags.
        inputs: The inputs that it reads, in the order of the parameters, or by parameter.
        ranges: The values that it expects of an input, by its name, such as `-1 to 1`; empty where it takes any.
        weight: Its weight; for a scheduled loss, the value that the schedule begins with.
        weight_key: The key of the configuration that sets the weight; None where it is not known to be read from one.
        schedule: The fields of its schedule that are not the default, as JSON has them; None for a loss without one.
    """

    name: str
    tags: tuple[str, ...]
    inputs: tuple[str, ...] | dict[str, str]
    ranges: dict[str, str]
    weight: float
    weight_key: str | None
    schedule: dict[str, Any] | None


@dataclass(frozen=True)
class WeightingDescription:
    """A weighting that a spec brings.

    Args:
        name: The name of the weighting, or the label of its class.
        query: The tag or name of the losses that it balances.
        losses: The names of these losses.
        params: Its parameters.
        every: In how many ticks factors change once.
        wrt: The input that gradients are taken with respect to; None where the caller names it, or none is needed.
    """

    name: str
    query: str
    losses: tuple[str, ...]
    params: dict[str, Any]
    every: int
    wrt: str | None


@dataclass(frozen=True)
class VariantDescription:
    """What a spec builds in one variant.

    Args:
        name: The variant; None for the spec without one.
        losses: Its losses, in their order.
        weightings: The weightings that it brings.
        formula: What the section `Formula:` of the spec's docstring says of the variant; empty where it says nothing.
        source: The same of the section `Source:`.
        problem: Why it cannot be built; empty where it can.
    """

    name: str | None
    losses: tuple[LossDescription, ...] = ()
    weightings: tuple[WeightingDescription, ...] = ()
    formula: str = ""
    source: str = ""
    problem: str = ""


@dataclass(frozen=True)
class SpecDescription:
    """An installed spec.

    Args:
        name: The name that it is asked for by.
        distribution: The distribution that offers it.
        version: The version of the distribution; None where its metadata does not say.
        target: What the name stands for, as `"module:attribute"`.
        state: As in `catalog.Entry`.
        summary: The first paragraph of its docstring, as one line; empty without one.
        default_variant: The variant that the name alone stands for; None where there is none.
        variants: What it builds: each of its variants, or the only one, without a name.
        options: Its options.
        problem: Why it cannot be used at all; empty where it can.
    """

    name: str
    distribution: str
    version: str | None
    target: str
    state: catalog.State
    summary: str = ""
    default_variant: str | None = None
    variants: tuple[VariantDescription, ...] = ()
    options: tuple[OptionDescription, ...] = ()
    problem: str = ""

    @property
    def release(self) -> str:
        """The distribution and its version."""
        return f"{self.distribution} {self.version}" if self.version else self.distribution

    @property
    def problems(self) -> tuple[str, ...]:
        """What cannot be used of it, and why; each reason once."""
        found = (self.problem, *(variant.problem for variant in self.variants))
        return tuple(dict.fromkeys(filter(None, found)))


def describe_spec(name: str) -> SpecDescription:
    """Describe an installed spec, by building it on the meta device with an empty configuration.

    Args:
        name: Its name, such as `"vgg"`, `"acme-vgg/vgg"` or, for one variant alone, `"vgg:style"`.

    Raises:
        SpecSyntaxError: If the name is none.
        SpecError: If it is a formula of several terms, or has a factor.
        PluginError: If the spec is not installed, ambiguous, blocked or broken.
        UnknownVariantError: If it has no such variant.
    """
    summands = parse(name)
    if len(summands) > 1 or summands[0].factor is not None:
        raise SpecError(
            f"expected the name of one spec, such as 'vgg', 'acme-vgg/vgg' or 'vgg:style', got the formula {name!r}"
        )
    term = summands[0].term
    plugin = catalog.find(catalog.SPECS, term.name, term.provider)
    spec = plugin.load()
    if term.variant is None:
        return _described(plugin, spec, "loaded")
    check_variant(spec, name, term.variant, plugin)
    return _described(plugin, spec, "loaded", [term.variant])


def describe_specs() -> list[SpecDescription]:
    """Describe every installed spec; of one that cannot be used, the reason.

    Raises:
        ConfigError: If `NECTARGAN_PROVIDERS` does not pair names with distributions.
    """
    found = []
    for entry in catalog.plugins(catalog.SPECS):
        plugin, state = entry.plugin, entry.state
        if state in ("blocked", "broken", "duplicate"):
            found.append(_unusable(plugin, state, entry.note))
            continue
        try:
            spec = plugin.load()
        except NectarganError as error:
            found.append(_unusable(plugin, "broken", str(error)))
        else:
            found.append(_described(plugin, spec, "loaded" if state == "available" else state))
    return found


def first_sentence(text: str) -> str:
    """Return the first sentence of a text.

    Example:
        >>> first_sentence("The loss of Lai et al. 2017. It is smooth.")
        'The loss of Lai et al. 2017.'
    """
    return _SENTENCE_END.split(text, maxsplit=1)[0]


def _unusable(plugin: catalog.Plugin, state: catalog.State, problem: str) -> SpecDescription:
    return SpecDescription(plugin.name, plugin.dist, plugin.version, plugin.target, state, problem=problem)


def _described(
    plugin: catalog.Plugin,
    spec: Callable[..., Any],
    state: catalog.State,
    variants: Sequence[str | None] | None = None,
) -> SpecDescription:
    """Describe a spec that is loaded, in the variants given; in all where none are."""
    parameters = _parameters(spec)
    default = parameters[SUBSPEC].default if SUBSPEC in parameters else None
    known = variants_of(spec) or ()
    if variants is None:
        named = known and (default is inspect.Parameter.empty or (type(default) is str and default in known))
        variants = known if named else (None, *known)
    doc = docstring_of(spec)
    formulas, sources = (_of_variants(section(doc, heading), variants) for heading in ("Formula", "Source"))
    return SpecDescription(
        name=plugin.name,
        distribution=plugin.dist,
        version=plugin.version,
        target=plugin.target,
        state=state,
        summary=" ".join(doc.partition("\n\n")[0].split()),
        default_variant=default if type(default) is str else None,
        variants=tuple(_built(plugin, variant, formulas[variant], sources[variant]) for variant in variants),
        options=_options(parameters, _meanings(doc), _names(spec)),
    )


def _built(plugin: catalog.Plugin, variant: str | None, formula: str, source: str) -> VariantDescription:
    name = f"{plugin.key}/{plugin.name}" + ("" if variant is None else f":{variant}")
    described = VariantDescription(variant, formula=formula, source=source)
    try:
        # What a manager on the meta device gives a spec: nothing is loaded or computed there.
        objective = build_named(name, DefaultWeights().on_device("meta"))
        losses = tuple(map(_loss, objective.losses.values()))
        return replace(described, losses=losses, weightings=tuple(map(_weighting, objective.balances)))
    except NectarganError as error:
        return replace(described, problem=str(error))
    except Exception as error:  # noqa: BLE001 # what a spec returns may do anything when it is looked at
        return replace(described, problem=f"{plugin.label} cannot be described: {one_line(error)}")


def _loss(loss: LMLoss) -> LossDescription:
    schedule, inputs = loss.schedule, loss.inputs
    weights = (loss.loss_weight, schedule.initial_value, schedule.target_value)
    return LossDescription(
        name=loss.name,
        tags=tuple(loss.tags),
        inputs=dict(inputs) if isinstance(inputs, dict) else tuple(inputs),
        ranges={name: _range(expected) for name, expected in loss.ranges.items()},
        weight=float(loss.loss_weight),
        weight_key=next((weight.key for weight in weights if isinstance(weight, ConfiguredWeight)), None),
        schedule=schedule.model_dump(mode="json", exclude_defaults=True) if schedule.is_scheduled else None,
    )


def _range(expected: tuple[float, float] | str) -> str:
    return expected if isinstance(expected, str) else "{:g} to {:g}".format(*expected)


def _weighting(balance: Balance) -> WeightingDescription:
    weighting = balance.weighting
    name = weighting.name if isinstance(weighting.name, str) else label_of(weighting.name)
    return WeightingDescription(
        name, balance.query, balance.names, dict(weighting.params), weighting.every, weighting.wrt
    )


def _parameters(spec: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(spec).parameters
    except Exception:  # noqa: BLE001 # a builtin without a signature, or an object that raises anything
        return {}


def _names(spec: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        return namespace_of(spec)
    except Exception:  # noqa: BLE001 # an object that has no function, or that raises anything
        return {}


def _options(
    parameters: Mapping[str, inspect.Parameter], meanings: Mapping[str, str], names: Mapping[str, Any]
) -> tuple[OptionDescription, ...]:
    found = []
    # The first is the config, whatever it is called.
    for parameter in list(parameters.values())[1:]:
        if parameter.name == SUBSPEC or parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            continue
        others = parameter.kind is parameter.VAR_KEYWORD
        found.append(
            OptionDescription(
                name=f"**{parameter.name}" if others else parameter.name,
                type=_type(parameter.annotation, names),
                default="" if others else written_default(parameter.default),
                meaning=meanings.get(parameter.name, ""),
            )
        )
    return tuple(found)


def _type(annotation: object, names: Mapping[str, Any]) -> str:
    """Return an annotation as text, with the members of a `Literal` that it names by an alias."""
    if annotation is inspect.Parameter.empty:
        return ""
    # Text in text, where an annotation is quoted and all of the module's are text.
    try:
        text = annotation.strip("'\"") if isinstance(annotation, str) else inspect.formatannotation(annotation)
    except Exception:  # noqa: BLE001 # an annotation may be anything
        return ""

    def spelled_out(match: re.Match[str]) -> str:
        alias = names.get(match[0])
        if typing.get_origin(alias) is not Literal:
            return match[0]
        return f"Literal[{', '.join(map(written_default, typing.get_args(alias)))}]"

    return re.sub(r"(?<![\w.])[A-Za-z_]\w*", spelled_out, text)


def written_default(default: object) -> str:
    """Return a default as Python writes it; a function or class by its name, and no address in memory.

    Example:
        >>> print(written_default("mean"), written_default(abs), written_default(object()))
        "mean" abs object(...)
    """
    if type(default) is str:
        return json.dumps(default, ensure_ascii=False)
    # Not isinstance(), which asks the object.
    if issubclass(type(default), (type, types.FunctionType, types.BuiltinFunctionType)):
        return name_of(default)
    text = shown(default)
    return f"{type(default).__name__}(...)" if re.search(r" at 0x[0-9a-f]+>", text) else text


def _meanings(doc: str) -> dict[str, str]:
    """Read the section `Args:` of a docstring."""
    found: dict[str, str] = {}
    name = ""
    for line in section(doc, "Args", "Arguments", "Keyword Args"):
        match = _ARGUMENT.fullmatch(line)
        if match is not None:
            name = match[1].lstrip("*")
            found[name] = match[2]
        elif name:
            found[name] = f"{found[name]} {line.strip()}".strip()
    return found


def _of_variants(lines: Sequence[str], variants: Sequence[str | None]) -> dict[str | None, str]:
    """Return what a section says of each variant.

    That is what follows `variant:`, or `one, other:`, at the beginning of a line; else what stands before that.
    """
    said: dict[str | None, str] = {}
    current: list[str | None] = [None]
    for line in lines:
        names, _, rest = line.partition(":")
        listed = [name.strip().strip('`"') for name in names.split(",")]
        if {*listed} <= {*variants}:
            current, line = [*listed], rest
        for name in current:
            said[name] = f"{said.get(name, '')} {line.strip()}".strip()
    return {variant: said.get(variant, said.get(None, "")) for variant in variants}
