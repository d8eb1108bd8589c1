"""Records of objectives: each loss with its function, weight and origin, and a fingerprint of what affects numbers."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import importlib_metadata
import torch
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nectargan_core import catalog
from nectargan_core._core_requirement import CORE
from nectargan_core._names import label_of, read_name, read_term
from nectargan_core.errors import NectarganError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives._build import Built, Origin
from nectargan_core.objectives._extra import written
from nectargan_core.objectives._functions import (
    FunctionDescription,
    described,
    names_weight_file,
    plain_or_none,
    weight_files_of,
)
from nectargan_core.objectives._objective import (
    ExtraLoss,
    Objective,
    ObjectiveLoss,
    ObjectiveTerm,
    ObjectiveWeighting,
)
from nectargan_core.schedules import Schedule, schedules_in
from nectargan_core.weightings import Balance


def record_of(built: Built, total_epochs: float | None = None, total_steps: int | None = None) -> Objective:
    """Return the record of an objective that was built, and is not registered."""
    losses = [(loss, name not in built.disabled) for name, loss in built.losses.items()]
    terms = [term for term, _ in built.terms]
    totals = (total_epochs, total_steps)
    functions = {name: described(loss.function) for name, loss in built.losses.items()}
    return record(losses, built.origins, terms, built.balances, totals, functions)


def record(
    losses: Sequence[tuple[LMLoss, bool]],
    origins: Mapping[str, Origin],
    terms: Sequence[ObjectiveTerm],
    balances: Iterable[Balance],
    totals: tuple[float | None, int | None],
    functions: Mapping[str, FunctionDescription],
) -> Objective:
    """Return the record of losses that are registered.

    Args:
        losses: The losses in their order, and whether each is enabled.
        origins: Where each comes from, by its name; none of one that was registered by itself.
        terms: The calls that registered terms.
        balances: What balances which of the losses.
        totals: The length of the run in epochs, and in steps.
        functions: What is known of the function of each, by name.
    """
    weightings = _weightings(balances)
    key_of = {name: key for key, weighting in weightings.items() for name in weighting.losses or ()}
    entries: dict[str, ObjectiveLoss] = {}
    extra: list[ExtraLoss] = []
    providers: dict[str, str] = {}
    weight_files: dict[str, str] = {}
    for loss, enabled in losses:
        function, origin = functions[loss.name], origins.get(loss.name)
        given = None if origin is None else origin.extra
        if given is not None:
            # The file says what a class of torch is made with, also where the class keeps it under other names.
            function = replace(function, arguments={**function.arguments, **given.arguments}, unknown=())
        entries[loss.name] = _entry(loss, enabled, function, origin, key_of.get(loss.name))
        if origin is not None and origin.plugin is not None:
            _note(origin.plugin, providers)
        elif (again := written(loss, functions[loss.name]) or given) is not None:
            extra.append(again.model_copy(update={"weight": None, "schedule": None}))
        for name in _names(loss.schedule):
            _note_named(catalog.SCHEDULES, name, providers)
        for name, digest in weight_files_of(loss.function).items():
            weight_files[name if weight_files.get(name, digest) == digest else f"{name} ({loss.name})"] = digest
    for weighting in weightings.values():
        _note_named(catalog.WEIGHTINGS, weighting.weighting, providers)
    total_epochs, total_steps = totals
    made = Objective(
        total_epochs=total_epochs,
        total_steps=total_steps,
        terms=list(terms),
        losses=entries,
        weightings=weightings,
        extra=extra,
        providers=dict(sorted(providers.items())),
        versions=_versions(),
        weight_files=dict(sorted(weight_files.items())),
    )
    options = {loss.name: dict(origins[loss.name].options) for loss, _ in losses if loss.name in origins}
    # Nobody else has it yet; a copy would validate all of it again.
    made.__dict__["fingerprint"] = fingerprint(made, options)
    made.model_fields_set.add("fingerprint")
    return made


def fingerprint(objective: Objective, options: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the SHA-256 of what affects the numbers of an objective.

    That is, for each loss: its name, its function and what it was made with, the version of its meaning, its weight,
    schedule, tags and inputs, and whether it is enabled; then weightings, weight files, and the length of the run where
    a schedule is relative to it. Where not all of a function is known, its term and options stand for it. The order of
    the losses and the versions of distributions do not count.

    Args:
        objective: The record.
        options: The options that the term of each loss has, those by default included, by the name of the loss.
    """
    losses = {}
    for name, loss in objective.losses.items():
        said = loss.model_dump(mode="json", exclude={"provider", "weighting", "term"})
        said["tags"] = sorted(set(loss.tags))
        said["schedule"] = None if loss.schedule is None else _spelled_out(loss.schedule)
        if loss.unknown or "<" in (loss.function or ""):
            said["term"] = None if loss.term is None else read_term(loss.term)[0].name
            said["options"] = _without_files(options.get(name, {}), objective.weight_files)
        losses[name] = said
    weightings = [
        each.model_dump(mode="json", exclude={"weighting"})
        | _asked_for(catalog.WEIGHTINGS, each.weighting, each.params, 0)
        for each in objective.weightings.values()
    ]
    counted = {
        "losses": losses,
        "weightings": sorted(weightings, key=lambda each: json.dumps(each, sort_keys=True)),
        "weight_files": dict(objective.weight_files),
        "length": [objective.total_epochs, objective.total_steps] if objective.uses_fractions else None,
    }
    text = json.dumps(_same_numbers(counted), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _spelled_out(schedule: Schedule) -> dict[str, Any]:
    """Return a schedule as data, and those inside likewise, with the provider and the defaults of each curve."""

    def inside(value: Any) -> Any:
        if isinstance(value, Schedule):
            return _spelled_out(value)
        if isinstance(value, dict):
            return {name: inside(item) for name, item in value.items()}
        return [inside(item) for item in value] if isinstance(value, list) else value

    said = schedule.model_dump(mode="json", exclude={"params"})
    return said | _asked_for(catalog.SCHEDULES, said.pop("schedule"), inside(schedule.params), 2)


def _asked_for(group: str, name: str, params: Mapping[str, Any], skipped: int) -> dict[str, Any]:
    """Return the name of a plugin with its provider, and parameters with those that it has by default.

    Args:
        group: Its entry point group.
        name: The name, or the label of what is none.
        params: The parameters that were given.
        skipped: How many parameters of its signature come before them.
    """
    try:
        term = read_name(name, "plugin")
        plugin = catalog.find(group, term.name, term.provider)
        parameters = [*inspect.signature(plugin.load()).parameters.values()][skipped:]
    except (NectarganError, TypeError, ValueError):
        return {"name": name, "params": dict(params)}
    defaults = {each.name: each.default for each in parameters if each.default is not each.empty}
    plain = {each: held[0] for each, default in defaults.items() if (held := plain_or_none(default)) is not None}
    return {"name": f"{plugin.key}/{plugin.name}", "params": {**plain, **params}}


def _same_numbers(value: Any) -> Any:
    """Return data in which 1 and 1.0 are the same."""
    if type(value) is int and abs(value) < 2**53:
        return float(value)
    if isinstance(value, dict):
        return {key: _same_numbers(item) for key, item in value.items()}
    return [_same_numbers(item) for item in value] if isinstance(value, list) else value


def _without_files(options: Mapping[str, Any], weight_files: Mapping[str, str]) -> dict[str, Any]:
    """Return options as plain data; None for one that names a weight file, of which the content counts."""
    said: dict[str, Any] = {}
    for name, value in options.items():
        if names_weight_file(value, weight_files):
            said[name] = None
        else:
            held = plain_or_none(value)
            said[name] = label_of(type(value)) if held is None else held[0]
    return said


def _entry(
    loss: LMLoss, enabled: bool, function: FunctionDescription, origin: Origin | None, weighting: str | None
) -> ObjectiveLoss:
    # In text, so that what is a function is its label.
    schedule = loss.schedule.model_dump(mode="json", exclude_defaults=True) if loss.schedule.is_scheduled else None
    return ObjectiveLoss(
        weight=float(loss.loss_weight),
        schedule=None if schedule is None else Schedule.model_validate(schedule),
        enabled=enabled,
        function=function.path,
        arguments=function.arguments,
        unknown=list(function.unknown),
        tags=list(loss.tags),
        inputs=dict(loss.inputs) if isinstance(loss.inputs, dict) else list(loss.inputs),
        version=loss.version,
        provider=None if origin is None or origin.plugin is None else origin.plugin.key,
        term=None if origin is None or function.is_complete else origin.term,
        weighting=weighting,
    )


def _weightings(balances: Iterable[Balance]) -> dict[str, ObjectiveWeighting]:
    """Return weightings by what their losses were asked for by, or by their losses where another one has that."""
    found: dict[str, ObjectiveWeighting] = {}
    for balance in balances:
        key = balance.query if balance.query not in found else ",".join(balance.names)
        found[key] = ObjectiveWeighting.of(balance.weighting, list(balance.names))
    return found


def _names(schedule: Schedule) -> Iterable[str]:
    return (
        each.schedule for each in schedules_in(schedule) if isinstance(each.schedule, str) and schedule.is_scheduled
    )


def _note(plugin: catalog.Plugin, providers: dict[str, str]) -> None:
    """Note the release of a plugin, and those of the plugins that its distribution builds on."""
    if plugin.key != CORE and plugin.key not in providers:
        providers[plugin.key] = plugin.version or ""
        providers |= _built_on(plugin.key, plugin.version)


@functools.lru_cache(256)
def _built_on(dist: str, version: str | None) -> dict[str, str]:
    """Return the releases of plugins that a distribution requires, by its metadata."""
    offering = {entry.plugin.key: entry.plugin.version or "" for entry in catalog.plugins()}
    found: dict[str, str] = {}
    asked = [dist]
    while asked:
        try:
            required = importlib_metadata.requires(asked.pop()) or []
        except importlib_metadata.PackageNotFoundError:
            continue
        for name in (_of_requirement(text) for text in required):
            if name in offering and name not in (CORE, dist, *found):
                found[name] = offering[name]
                asked.append(name)
    return found


def _of_requirement(text: str) -> str:
    """Return the name of a distribution that is required without an extra; empty for another one."""
    try:
        requirement = Requirement(text)
        asked = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
    except InvalidRequirement:
        return ""
    return canonicalize_name(requirement.name) if asked else ""


def _note_named(group: str, name: str, providers: dict[str, str]) -> None:
    try:
        term = read_name(name, "plugin")
        _note(catalog.find(group, term.name, term.provider), providers)
    except NectarganError:
        return  # a label, or what has been uninstalled since


def _versions() -> dict[str, str]:
    try:
        core = {CORE: importlib_metadata.version(CORE)}
    except importlib_metadata.PackageNotFoundError:
        core = {}
    return {**core, "torch": str(torch.__version__)}
