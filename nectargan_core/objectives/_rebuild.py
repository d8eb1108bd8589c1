"""Builds an `Objective`: its terms and extra losses, with what it sets for them; compares a record with the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import importlib_metadata
import torch

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, warn
from nectargan_core._names import is_label
from nectargan_core.config import Config
from nectargan_core.errors import ObjectiveError, PluginNotFoundError, ScheduleError, SpecError, UnknownLossError
from nectargan_core.losses import LMLoss, found_by
from nectargan_core.objectives._adjust import adjust
from nectargan_core.objectives._balances import balances_of, checked_balances
from nectargan_core.objectives._build import Built, Origin
from nectargan_core.objectives._differences import Difference, differences, install_line
from nectargan_core.objectives._extra import made
from nectargan_core.objectives._file import located
from nectargan_core.objectives._grammar import Summand, parse
from nectargan_core.objectives._objective import Objective, ObjectiveLoss, ObjectiveTerm, ObjectiveWeighting
from nectargan_core.objectives._options import typed_options
from nectargan_core.objectives._record import record_of
from nectargan_core.schedules import Functions, Schedule, Scheduler, functions_in, with_functions
from nectargan_core.weightings import Balance, Weighting, bind

Options = Mapping[str, Mapping[str, Any]]
Totals = tuple[float | None, int | None]


def rebuild(
    objective: Objective,
    config: Config,
    totals: Totals,
    of_formula: Callable[..., Built],
    *,
    weights: Mapping[str, float] | None = None,
    schedules: Mapping[str, Schedule] | None = None,
    weightings: Mapping[str, Weighting | str | None] | None = None,
    options: Options | None = None,
    strict: bool = False,
) -> Built:
    """Build the losses of an `Objective`.

    Args:
        objective: What a person has written, or the record of a run.
        config: What specs are given. What the objective says goes before its weights.
        totals: The length of the run.
        of_formula: Builds a term.
        weights: Weights by final name; they go before those of the objective.
        schedules: Schedules by final name; likewise.
        weightings: Weightings by tag or final name; likewise.
        options: Keyword arguments for specs; likewise, one by one.
        strict: Whether it is an error that what is built differs from a record, and not only a warning.

    Raises:
        ObjectiveError: If the objective cannot be built as it says, or in strict mode differs from the record.
        NectarganError: As for a formula; the message begins with the file and the key.
    """
    strict = arguments.flag("strict", strict)
    passed = _options(options)
    built = Built()
    for number, term in enumerate(objective.terms):
        _add_term(built, objective, number, term, passed, config, of_formula)
    _refuse_unused(objective, passed)
    _add_extra(built, objective)
    _set_losses(built, objective, totals)
    built.balances = _balances(built, objective)
    if objective.is_record:
        _compare(built, objective, totals, passed, strict)
    built.losses = adjust(built.losses, weights, schedules)
    built.balances = balances_of(built.balances, built.losses, weightings)
    return built


def _options(options: Options | None) -> dict[str, dict[str, Any]]:
    if options is None:
        return {}
    given = arguments.mapping("options", options, "{'vgg': {'layers': 3}}")
    return {name: arguments.mapping(f"options[{name!r}]", own, "{'layers': 3}") for name, own in given.items()}


# Terms


def _add_term(
    built: Built,
    objective: Objective,
    number: int,
    term: ObjectiveTerm,
    passed: Options,
    config: Config,
    of_formula: Callable[..., Built],
) -> None:
    if term.formula is None:
        return  # of a record; its losses are missed
    source, key = objective.source, f"terms[{number}]" if len(objective.terms) > 1 else ""
    with located(source, _joined(key, "formula")):
        summands = parse(term.formula)
    names = _names(summands)
    for name in term.options:
        if name not in names:
            with located(source, _joined(key, f"options.{name}")):
                raise SpecError(f"the formula has no term {name!r}, only {listed(names)}.{did_you_mean(name, names)}")
    written = _merged(names, objective.options, term.options)
    with _naming_releases(objective):
        with located(source, _joined(key, "options")):
            typed = typed_options(summands, written)
        with located(source, key):
            part = of_formula(
                term.formula,
                config,
                options=_merged(names, typed, passed) or None,
                prefix=term.prefix,
                rename_inputs=term.rename_inputs or None,
            )
    for name in term.without:
        if name not in part.losses:
            with located(source, _joined(key, "without")):
                known = tuple(part.losses)
                hint = did_you_mean(name, known)
                raise UnknownLossError(
                    f"there is no loss {name!r} to leave out, only {listed(known)}.{hint}", name=name, known=known
                )
        part.leave_out(name)
    with located(source, key):
        built.merge(part)


def _names(summands: tuple[Summand, ...]) -> list[str]:
    return list(dict.fromkeys(word for each in summands for word in (each.term.name, str(each.term))))


def _merged(names: list[str], *sources: Options) -> dict[str, dict[str, Any]]:
    """Return the options for the terms of these names; a later source goes before an earlier one."""
    merged: dict[str, dict[str, Any]] = {}
    for source in sources:
        for name, keywords in source.items():
            if name in names:
                merged[name] = {**merged.get(name, {}), **keywords}
    return merged


def _refuse_unused(objective: Objective, passed: Options) -> None:
    """Raise for options of a term that no formula has."""
    names = [name for term in objective.terms if term.formula is not None for name in _names(parse(term.formula))]
    for given, source, where in ((objective.options, objective.source, "options."), (passed, None, "")):
        for name in given:
            if name not in names:
                with located(source, f"{where}{name}" if where else ""):
                    raise SpecError(
                        f"options are given for {name!r}, which is no term of this objective; it has {listed(names)}."
                        f"{did_you_mean(name, names)}"
                    )


@contextlib.contextmanager
def _naming_releases(objective: Objective) -> Iterator[None]:
    """Name the releases that a record was made with to whom a plugin is missing."""
    try:
        yield
    except PluginNotFoundError as error:
        lines = [install_line(dist, version) for dist, version in objective.providers.items() if not _installed(dist)]
        if lines:
            error.args = (f"{error} The record was made with releases that are not installed: {'; '.join(lines)}",)
        raise


def _installed(dist: str) -> bool:
    try:
        importlib_metadata.version(dist)
    except importlib_metadata.PackageNotFoundError:
        return False
    return True


# Extra losses


def _add_extra(built: Built, objective: Objective) -> None:
    for number, extra in enumerate(objective.extra):
        with located(objective.source, f"extra[{number}]"):
            loss = made(extra)
            part = Built(losses={loss.name: loss}, origins={loss.name: Origin(f"extra[{number}]")})
            built.merge(part)
            # It has no origin, as one that is registered in Python.
            del built.origins[loss.name]


# What is set for losses


def _set_losses(built: Built, objective: Objective, totals: Totals) -> None:
    disabled = set()
    for name, entry in objective.losses.items():
        with located(objective.source, f"losses.{name}"):
            if name in built.losses:
                built.losses[name] = _as_set(built.losses[name], entry, totals)
            elif not entry.is_record:
                raise UnknownLossError(
                    f"this objective has no loss {name!r}, only {listed(built.losses)}; correct the name, or remove "
                    f"the key.{did_you_mean(name, built.losses)}",
                    name=name,
                    known=tuple(built.losses),
                )
        if not entry.enabled and name in built.losses:
            disabled.add(name)
    for number, extra in enumerate(objective.extra):
        with located(objective.source, f"extra[{number}]"):
            _check(built.losses[extra.name], totals)
    built.disabled = frozenset(disabled)
    # In the order of the record: the order of a sum counts for its last bit.
    order = [name for name in objective.losses if name in built.losses] if objective.is_record else []
    built.losses = {name: built.losses[name] for name in dict.fromkeys((*order, *built.losses))}


def _as_set(loss: LMLoss, entry: ObjectiveLoss, totals: Totals) -> LMLoss:
    update: dict[str, Any] = {}
    if entry.weight is not None:
        update["loss_weight"] = entry.weight
    schedule = entry.schedule
    if schedule is not None:
        with contextlib.suppress(ScheduleError) if entry.is_record else contextlib.nullcontext():
            # Of a function that is not to be had here, the record differs from what is built.
            functions = Functions(functions_in(loss.schedule), f"loss {loss.name!r}")
            update["schedule"] = with_functions(schedule, functions)
    elif entry.is_record:
        update["schedule"] = Schedule()
    if entry.is_record and schedule is not None and "schedule" not in update:
        return loss
    if not update:
        return loss
    changed = loss.model_copy(update=update)
    if schedule is not None:
        _check(changed, totals)
    return changed


def _check(loss: LMLoss, totals: Totals) -> None:
    """Evaluate the schedule of a loss as it is when the loss is registered, so that an error can name its place."""
    if loss.schedule.is_scheduled:
        Scheduler(loss.schedule, loss_name=loss.name, total_epochs=totals[0], total_steps=totals[1])


# Weightings


def _balances(built: Built, objective: Objective) -> list[Balance]:
    given: list[Balance] = []
    for key, weighting in objective.weightings.items():
        with located(objective.source, f"weightings.{key}"):
            balance = _balance(built, key, weighting, whole=objective.is_record)
        if balance is not None:
            given.append(balance)
    replaced = {name for balance in given for name in balance.names}
    kept = [] if objective.is_record else [each for each in built.balances if replaced.isdisjoint(each.names)]
    with located(objective.source, "weightings"):
        return checked_balances(kept + given)


def _balance(built: Built, key: str, weighting: ObjectiveWeighting, *, whole: bool) -> Balance | None:
    asked = [key] if weighting.losses is None else list(weighting.losses)
    names = tuple(loss.name for loss in found_by(asked, built.losses.values()))
    if not whole and (not names or (weighting.losses and len(names) < len(asked))):
        known = (*built.losses, *sorted({tag for loss in built.losses.values() for tag in loss.tags}))
        missing = next(name for name in asked if name not in known)
        raise UnknownLossError(
            f"{missing!r} is the name or tag of no loss of this objective; there are {listed(known)}."
            f"{did_you_mean(missing, known)}",
            name=missing,
            known=known,
        )
    for brought in built.balances:
        # A spec may bring a class, for which the record has its label.
        if brought.names == names and ObjectiveWeighting.of(brought.weighting, list(names)) == weighting:
            return brought
    if not names or (whole and is_label(weighting.weighting)):
        return None
    balance = Balance(weighting.definition, names, key)
    with torch.random.fork_rng(devices=[]):
        bind([balance], built.losses, [], None)
    return balance


# Comparing with a record


def _compare(built: Built, objective: Objective, totals: Totals, passed: Options, strict: bool) -> None:
    if totals == (None, None):
        totals = (objective.total_epochs, objective.total_steps)
    found = [*differences(objective, record_of(built, *totals)), *_unwritten(objective, passed)]
    if not found:
        return
    where = f"{objective.source}: " if objective.source else ""
    lines = "".join(f"\n  {difference.told()}" for difference in found)
    message = f"{where}what is built is not what was recorded:{lines}"
    if strict:
        raise ObjectiveError(
            message,
            path=None if objective.source is None else str(objective.source),
            differences=tuple(found),
        )
    warn(message)


def _unwritten(objective: Objective, passed: Options) -> Iterator[Difference]:
    for term in objective.terms:
        for option in term.unwritten:
            name, _, keyword = option.rpartition(".")
            if keyword not in passed.get(name, {}):
                fix = f"pass options={{{name!r}: {{{keyword!r}: ...}}}}"
                yield Difference("option", option, "an object that no file can hold", "not given", fix)


def _joined(*keys: str) -> str:
    return ".".join(filter(None, keys))
