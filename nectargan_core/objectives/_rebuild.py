"""Builds an `Objective`: its terms and extra losses, with what it sets for them; compares a record with the result."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from nectargan_core import _arguments as arguments
from nectargan_core._messages import did_you_mean, listed, shown, warn
from nectargan_core._names import is_label
from nectargan_core.config import Config
from nectargan_core.errors import (
    DuplicateLossError,
    NectarganError,
    ObjectiveError,
    PluginError,
    PluginNotFoundError,
    ScheduleError,
    SpecError,
    UnknownLossError,
    UnknownVariantError,
)
from nectargan_core.losses import LMLoss, found_by
from nectargan_core.objectives._adjust import adjust
from nectargan_core.objectives._balances import balances_of, checked_balances
from nectargan_core.objectives._build import Built, Origin
from nectargan_core.objectives._differences import Difference, differences, install_line, installed_version
from nectargan_core.objectives._extra import made
from nectargan_core.objectives._file import key_of, located
from nectargan_core.objectives._grammar import Summand, parse
from nectargan_core.objectives._objective import Objective, ObjectiveLoss, ObjectiveWeighting
from nectargan_core.objectives._options import typed_options
from nectargan_core.objectives._record import record_of
from nectargan_core.schedules import Functions, Schedule, Scheduler, functions_in, schedules_in, with_functions
from nectargan_core.weightings import Balance, Weighting, bind

Options = Mapping[str, Mapping[str, Any]]
Totals = tuple[float | None, int | None]

_OF_FORMULA = (PluginError, UnknownVariantError, DuplicateLossError)
# No weights and schedules are given with a term, so that these can only be of its renaming.
_OF_RENAMING = (UnknownLossError,)


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
    _refuse_empty(objective)
    _refuse_parts_of_a_record(objective)
    formulas = [_summands(objective, number) for number in range(len(objective.terms))]
    _refuse_unused(objective, passed, [name for summands in formulas for name in _names(summands)])
    built = Built()
    for number, summands in enumerate(formulas):
        _add_term(built, objective, number, summands, passed, config, of_formula)
    _add_extra(built, objective)
    _set_losses(built, objective, totals, schedules)
    built.balances = _balances(built, objective, weightings)
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
    summands: tuple[Summand, ...],
    passed: Options,
    config: Config,
    of_formula: Callable[..., Built],
) -> None:
    term = objective.terms[number]
    if term.formula is None and not objective.is_record:
        with located(objective.source, key_of("terms", number, "function")):
            raise ObjectiveError('only a record has a function here; write a formula, such as formula = "gan:hinge"')
    if term.formula is None:
        # Those of its losses that are classes of torch.nn are extra ones, and the others are missed.
        built.terms.append((term, frozenset()))
        return
    source, key = objective.source, _key(objective, number)
    names = _names(summands)
    for name in term.options:
        if name not in names:
            with located(source, key_of("terms", number, "options", name)):
                raise SpecError(
                    f"the formula has no term {shown(name)}, only {listed(names)}.{did_you_mean(name, names)}"
                )
    with _naming_releases(objective):
        typed: list[Options] = []
        for own, written in ((("options",), objective.options), (("terms", number, "options"), term.options)):
            with located(source):
                typed.append(typed_options(summands, _merged(names, written), own))
        # What the formula itself is wrong in has its key; all else says what it is about.
        with (
            located(source, key),
            _located_only(_OF_RENAMING, source, _joined(key, "rename_inputs")),
            _located_only(_OF_FORMULA, source, _joined(key, "formula")),
        ):
            part = of_formula(
                term.formula,
                config,
                options=_merged(names, *typed, passed) or None,
                prefix=term.prefix,
                rename_inputs=term.rename_inputs or None,
            )
    for name in term.without:
        if name not in part.losses:
            with located(source, _joined(key, "without")):
                known = tuple(part.losses)
                hint = did_you_mean(name, known)
                raise UnknownLossError(
                    f"there is no loss {shown(name)} to leave out, only {listed(known)}.{hint}", name=name, known=known
                )
        part.leave_out(name)
    with located(source, key):
        built.merge(part)


@contextlib.contextmanager
def _located_only(kinds: tuple[type[NectarganError], ...], path: object, key: str) -> Iterator[None]:
    try:
        yield
    except kinds:
        with located(path, key):
            raise


def _key(objective: Objective, number: int) -> str:
    """Return the key of a term, which has none of its own where it stands at the top of a file."""
    return key_of("terms", number) if len(objective.terms) > 1 else ""


def _summands(objective: Objective, number: int) -> tuple[Summand, ...]:
    """Return the formula of a term; nothing for that of a record which a function was called for."""
    formula = objective.terms[number].formula
    with located(objective.source, _joined(_key(objective, number), "formula")):
        return () if formula is None else parse(formula)


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


def _refuse_empty(objective: Objective) -> None:
    """Raise for an objective that a person has written and that has no losses: its formula was forgotten."""
    if not (objective.terms or objective.extra or objective.is_record):
        with located(objective.source, "formula"):
            raise ObjectiveError('it is missing; write one, such as formula = "gan:hinge + 100*l1"')


def _refuse_parts_of_a_record(objective: Objective) -> None:
    """Raise for what only a record has, such as versions, in an objective that a person has written."""
    for field in () if objective.is_record else sorted(objective.recorded):
        if getattr(objective, field):
            with located(objective.source, field):
                raise ObjectiveError(
                    "only the record of a run, which has a fingerprint, has it, and nothing is checked by it here; "
                    "remove it"
                )


def _refuse_unused(objective: Objective, passed: Options, names: list[str]) -> None:
    """Raise for options of a term that no formula has."""
    for given, source, where in ((objective.options, objective.source, "options"), (passed, None, "")):
        for name in given:
            if name not in names:
                with located(source, key_of(where, name) if where else ""):
                    raise SpecError(
                        f"options are given for {shown(name)}, which is no term of this objective; it has "
                        f"{listed(names)}.{did_you_mean(name, names)}"
                    )


@contextlib.contextmanager
def _naming_releases(objective: Objective) -> Iterator[None]:
    """Name the releases that a record was made with to whom a plugin is missing."""
    try:
        yield
    except PluginNotFoundError as error:
        lines = [
            install_line(dist, version) for dist, version in objective.providers.items() if not installed_version(dist)
        ]
        if lines:
            error.args = (f"{error} The record was made with releases that are not installed: {'; '.join(lines)}",)
        raise


# Extra losses


def _add_extra(built: Built, objective: Objective) -> None:
    for number, extra in enumerate(objective.extra):
        with located(objective.source, key_of("extra", number)):
            # A record is of losses that need not have been called by their inputs.
            loss = made(extra, called=not objective.is_record)
            part = Built(losses={loss.name: loss}, origins={loss.name: Origin(f"extra[{number}]", extra=extra)})
            built.merge(part)


# What is set for losses


def _set_losses(built: Built, objective: Objective, totals: Totals, passed: Mapping[str, Schedule] | None) -> None:
    disabled = set()
    # A record has the labels of functions, for which the caller may give them.
    given = dict(passed) if objective.is_record and isinstance(passed, Mapping) else {}
    for name, entry in objective.losses.items():
        with located(objective.source, key_of("losses", name)):
            _refuse_twice(objective, name, entry)
            if entry.is_record and not objective.is_record:
                raise ObjectiveError(
                    "function: only a record, which has a fingerprint, says where a function comes from; remove it, "
                    "and what goes with it",
                    key="function",
                )
            if name in built.losses:
                with located(objective.source, key_of("losses", name, "schedule") if entry.schedule else ""):
                    built.losses[name] = _as_set(built.losses[name], entry, totals, given.get(name))
            elif not entry.is_record:
                raise UnknownLossError(
                    f"this objective has no loss {shown(name)}, only {listed(built.losses)}; correct the name, or "
                    f"remove the key.{did_you_mean(name, built.losses)}",
                    name=name,
                    known=tuple(built.losses),
                )
        if not entry.enabled and name in built.losses:
            disabled.add(name)
    for number, extra in enumerate(objective.extra):
        with located(objective.source, key_of("extra", number, "schedule")):
            _check(built.losses[extra.name], totals)
    built.disabled = frozenset(disabled)
    # In the order of the record: the order of a sum counts for its last bit.
    order = [name for name in objective.losses if name in built.losses] if objective.is_record else []
    built.losses = {name: built.losses[name] for name in dict.fromkeys((*order, *built.losses))}


def _refuse_twice(objective: Objective, name: str, entry: ObjectiveLoss) -> None:
    """Raise where a person has given the weight or schedule of an extra loss in two places."""
    extra = next((each for each in objective.extra if each.name == name), None)
    for field in ("weight", "schedule") if extra is not None and not objective.is_record else ():
        if getattr(extra, field) is not None and getattr(entry, field) is not None:
            raise ObjectiveError(f"{field}: the entry of {name!r} in extra has one, too; remove one of them", key=field)


def _as_set(loss: LMLoss, entry: ObjectiveLoss, totals: Totals, passed: Schedule | None) -> LMLoss:
    update: dict[str, Any] = {}
    if entry.weight is not None:
        update["loss_weight"] = entry.weight
    schedule = entry.schedule
    if schedule is not None:
        known = [each for source in (loss.schedule, passed) for each in functions_in(source or Schedule())]
        try:
            update["schedule"] = with_functions(schedule, Functions(known, f"loss {loss.name!r}"))
        except ScheduleError:
            if not entry.is_record:
                raise
            # Without a function that is not to be had here the weight stays what it was at first.
            schedule = update["schedule"] = Schedule()
    elif entry.is_record:
        update["schedule"] = Schedule()
    if not update:
        return loss
    changed = loss.model_copy(update=update)
    if schedule is not None:
        _check(changed, totals)
    return changed


def _check(loss: LMLoss, totals: Totals) -> None:
    """Evaluate the schedule of a loss as it is when the loss is registered, so that an error can name its place."""
    if totals == (None, None) and any(each.unit == "fraction" for each in schedules_in(loss.schedule)):
        raise ScheduleError(
            'it has unit = "fraction", and the length of the run is not known; write total_epochs or total_steps at '
            "the top of the file, or give it to LossManager"
        )
    if loss.schedule.is_scheduled:
        Scheduler(loss.schedule, loss_name=loss.name, total_epochs=totals[0], total_steps=totals[1])


# Weightings


def _balances(built: Built, objective: Objective, passed: Mapping[str, Weighting | str | None] | None) -> list[Balance]:
    given: list[Balance] = []
    # A record has the labels of classes, for which a spec may bring them, or the caller give them.
    known = [each.weighting for each in built.balances]
    known += [each for each in dict(passed or {}).values() if isinstance(each, Weighting)]
    for key, weighting in objective.weightings.items():
        with located(objective.source, key_of("weightings", key)):
            balance = _balance(built, key, weighting, known, whole=objective.is_record)
        if balance is not None:
            given.append(balance)
    replaced = {name for balance in given for name in balance.names}
    kept = [] if objective.is_record else [each for each in built.balances if replaced.isdisjoint(each.names)]
    with located(objective.source, "weightings"):
        return checked_balances(kept + given)


def _balance(
    built: Built, key: str, weighting: ObjectiveWeighting, known: Iterable[Weighting], *, whole: bool
) -> Balance | None:
    if weighting.losses is not None and not weighting.losses and not whole:
        raise ObjectiveError(
            "losses: it lists none; name some, or remove it, for those that its key finds", key="losses"
        )
    if weighting.losses is None:
        names = tuple(loss.name for loss in found_by([key], built.losses.values()))
        missing, what = [] if names else [key], "name or tag"
        there = (*built.losses, *sorted({tag for loss in built.losses.values() for tag in loss.tags}))
    else:
        names = tuple(name for name in built.losses if name in weighting.losses)
        missing, what = [name for name in weighting.losses if name not in names], "name"
        there = tuple(built.losses)
    if missing and not whole:
        raise UnknownLossError(
            f"{shown(missing[0])} is the {what} of no loss of this objective; there are {listed(there)}."
            f"{did_you_mean(missing[0], there)}",
            name=missing[0],
            known=there,
        )
    for brought in built.balances:
        if brought.names == names and ObjectiveWeighting.of(brought.weighting, list(names)) == weighting:
            return brought
    definition: Weighting | None = weighting.definition
    if whole and is_label(weighting.weighting):
        recorded = ObjectiveWeighting.of(weighting.definition, list(names))
        definition = next((each for each in known if ObjectiveWeighting.of(each, list(names)) == recorded), None)
    if not names or definition is None:
        return None
    balance = Balance(definition, names, key)
    with torch.random.fork_rng(devices=[]):
        bind([balance], built.losses, [], None)
    return balance


# Comparing with a record


def _compare(built: Built, objective: Objective, totals: Totals, passed: Options, strict: bool) -> None:
    if totals == (None, None):
        totals = (objective.total_epochs, objective.total_steps)
    found = [*differences(objective, record_of(built, *totals)), *_unwritten(objective, passed)]
    # What is not in use here, and is there: what it is missed for is said already.
    found = [each for each in found if not (each.kind == "version" and each.before == installed_version(each.name))]
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
