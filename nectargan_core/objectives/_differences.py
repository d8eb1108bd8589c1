"""What differs between two records of objectives, each with the step that removes it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import importlib_metadata

from nectargan_core._messages import listed
from nectargan_core._names import is_label
from nectargan_core._printable import printable
from nectargan_core.errors import SpecSyntaxError
from nectargan_core.objectives._functions import names_weight_file
from nectargan_core.objectives._grammar import parse
from nectargan_core.schedules import schedules_in

if TYPE_CHECKING:
    from nectargan_core.objectives._objective import ExtraLoss, Objective, ObjectiveLoss, ObjectiveWeighting

OF_LOSSES = frozenset({"loss", "function", "argument", "inputs", "meaning", "weight file"})
"""The kinds of differences by which losses are others, whatever their weights are."""

_ABSENT = "absent"
_UNKNOWN = object()
_NOTHING = object()
# In a message; the fields of a difference have all of it.
_LONGEST = 200
_DISTRIBUTION = re.compile("[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_VERSION = re.compile("[0-9][A-Za-z0-9.!+_-]*")
# Lists that differ in more places than these are shown as a whole.
_FEW_PLACES = 4


@dataclass(frozen=True)
class Difference:
    """One difference between two records.

    Args:
        kind: What differs: `"loss"` (only one has it), `"function"`, `"argument"`, `"meaning"` (the version that a
            plugin gives it), `"option"` (of a term of which not all arguments are known), `"weight"`, `"schedule"`,
            `"enabled"`, `"tags"`, `"inputs"`, `"order"`, `"weighting"`, `"weight file"`, `"length"`, `"provider"` (of
            a loss), `"version"` (of a distribution) or `"fingerprint"`.
        name: Of what: a loss, `loss.argument`, `loss: term.option`, the losses of a weighting, a file or a
            distribution.
        before: What the first record says.
        after: What the second one says.
        fix: What to do so that the second becomes as the first; empty where that depends.

    Example:
        >>> print(Difference("weight", "G_L1", "100", "50"))
        weight of G_L1: 100 -> 50
    """

    kind: str
    name: str
    before: str
    after: str
    fix: str = ""

    def __str__(self) -> str:
        return printable(f"{self._what}: {_cut(self.before)} -> {_cut(self.after)}")

    def told(self) -> str:
        """Say it of a record and of what was built by it."""
        fix = f"; {self.fix}" if self.fix else ""
        return printable(f"{self._what}: recorded {_cut(self.before)}, here {_cut(self.after)}{fix}")

    @property
    def _what(self) -> str:
        return f"{self.kind} {self.name}" if self.kind in ("loss", "weight file") else f"{self.kind} of {self.name}"


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def differences(before: Objective, after: Objective) -> tuple[Difference, ...]:
    """Compare two records.

    Args:
        before: The first one; what it says is taken as what is wanted.
        after: The second one.

    Returns:
        What differs, losses first and versions last.
    """
    found = [
        *_of_losses(before, after),
        *_of_weightings(before, after),
        *_of_length(before, after),
        *_of_weight_files(before.weight_files, after.weight_files),
        *_of_versions(before, after),
    ]
    if not found and before.fingerprint and after.fingerprint and before.fingerprint != after.fingerprint:
        found.append(
            Difference(
                "fingerprint",
                "the objective",
                before.fingerprint,
                after.fingerprint,
                "the record was edited, or an option or the order of something that is not recorded is another one",
            )
        )
    return tuple(found)


def _of_losses(before: Objective, after: Objective) -> Iterator[Difference]:
    for name, loss in before.losses.items():
        if name not in after.losses:
            yield Difference("loss", name, _source(loss), _ABSENT, _how_to_get(loss, before, after))
    for name, loss in after.losses.items():
        if name not in before.losses:
            yield Difference("loss", name, _ABSENT, _source(loss), "")
    for name, loss in before.losses.items():
        if name in after.losses:
            found = list(_of_loss(name, loss, after.losses[name], _install(loss.provider, before, after)))
            yield from found
            seen = {(each.name, each.before, each.after) for each in found if each.kind == "argument"}
            yield from _of_options(name, before, after, seen)
    shared = [name for name in before.losses if name in after.losses]
    order = [name for name in after.losses if name in before.losses]
    if shared != order:
        yield Difference("order", "the losses", listed(shared), listed(order), "")


def _of_loss(name: str, before: ObjectiveLoss, after: ObjectiveLoss, install: str) -> Iterator[Difference]:
    def compared(kind: str, say: Callable[[ObjectiveLoss], str], fix: str = "") -> Iterator[Difference]:
        return _said(kind, name, say(before), say(after), fix)

    yield from compared("provider", lambda loss: loss.provider or "none", install)
    if before.function != after.function:
        yield Difference("function", name, function_of(before), function_of(after), install)
    else:
        for argument in dict.fromkeys((*before.arguments, *after.arguments, *before.unknown, *after.unknown)):
            values = [_argument(each, argument) for each in (before, after)]
            for place, first, second in _places(f"{name}.{argument}", *values):
                yield Difference("argument", place, first, second, "give the term the same options")
    yield from compared("meaning", lambda loss: f"version {loss.version}", install)
    yield from compared("weight", weight_of)
    yield from compared("schedule", schedule_of, _how_to_schedule(name, before))
    yield from compared("enabled", lambda loss: str(loss.enabled))
    yield from compared("tags", lambda loss: listed(sorted(set(loss.tags))), install)
    yield from compared("inputs", inputs_of, "rename_inputs gives a loss another input")


def _argument(loss: ObjectiveLoss, name: str) -> object:
    # None is left out, since TOML cannot write it.
    return _UNKNOWN if name in loss.unknown else loss.arguments.get(name)


def _of_options(
    name: str, before: Objective, after: Objective, seen: set[tuple[str, str, str]]
) -> Iterator[Difference]:
    """Compare the options of the term of a loss, where not all of them are seen in its arguments."""
    term, other_term = before.losses[name].term, after.losses[name].term
    if term is None or other_term is None:
        return
    first, second = _options(name, term, before), _options(name, other_term, after)
    for option in dict.fromkeys((*first, *second)):
        values = (first.get(option, _NOTHING), second.get(option, _NOTHING))
        for place, one, other in _places(option, *values):
            if (f"{name}.{place}", one, other) not in seen:
                of = f"{name}: {term}.{place}"
                yield Difference("option", of, one, other, "give the term the same options")


def _options(name: str, text: str, record: Objective) -> dict[str, Any]:
    """Return the options that the term of a loss was given."""
    options: dict[str, Any] = {}
    for term in record.terms:
        try:
            words = {word for each in parse(term.formula or "") for word in (each.term.name, str(each.term))}
            short = parse(text)[0].term.name
        except SpecSyntaxError:
            continue
        if text in words and name.startswith(term.prefix):
            options |= {**term.options.get(short, {}), **term.options.get(text, {})}
    # Of a weight file the content counts, which is compared by itself, and not the place.
    return {key: value for key, value in options.items() if not names_weight_file(value, record.weight_files)}


def _places(name: str, before: object, after: object) -> Iterator[tuple[str, str, str]]:
    """Yield where two values differ, and how: inside of mappings, and of lists that differ in few places."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in dict.fromkeys((*before, *after)):
            yield from _places(f"{name}.{key}", before.get(key, _NOTHING), after.get(key, _NOTHING))
        return
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = zip(before, after, strict=True)
        found = [place for number, pair in enumerate(pairs) for place in _places(f"{name}[{number}]", *pair)]
        if len(found) <= _FEW_PLACES:
            yield from found
            return
    # To Python, True and 1 are the same.
    if before != after or isinstance(before, bool) is not isinstance(after, bool):
        yield name, value_of(before), value_of(after)


def _said(kind: str, name: str, before: str, after: str, fix: str = "") -> Iterator[Difference]:
    if before != after:
        yield Difference(kind, name, before, after, fix)


def _of_weightings(before: Objective, after: Objective) -> Iterator[Difference]:
    both = [
        {tuple(sorted(each.losses or (key,))): each for key, each in record.weightings.items()}
        for record in (before, after)
    ]
    for losses in dict.fromkeys((*both[0], *both[1])):
        found = (record.get(losses) for record in both)
        first, second = ("none" if each is None else weighting_of(each) for each in found)
        yield from _said("weighting", ", ".join(losses), first, second, _how_to_weight(both[0].get(losses)))


def _of_length(before: Objective, after: Objective) -> Iterator[Difference]:
    if not (before.uses_fractions or after.uses_fractions):
        return
    for field in ("total_epochs", "total_steps"):
        first, second = (_number(getattr(record, field)) for record in (before, after))
        yield from _said("length", field, first, second, f"give the manager {field}={first}")


def _of_weight_files(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        yield from _said("weight file", name, _digest(before.get(name)), _digest(after.get(name)))


def _digest(text: str | None) -> str:
    return _ABSENT if text is None else f"SHA-256 {text[:12]}"


def _of_versions(before: Objective, after: Objective) -> Iterator[Difference]:
    for versions in ("providers", "versions"):
        first, second = getattr(before, versions), getattr(after, versions)
        for dist in dict.fromkeys((*first, *second)):
            if _release(first.get(dist)) != _release(second.get(dist)):
                yield Difference(
                    "version",
                    dist,
                    first.get(dist) or _ABSENT,
                    second.get(dist) or _ABSENT,
                    "" if installed_version(dist) == first.get(dist) else install_line(dist, first.get(dist)),
                )


def _release(version: str | None) -> str | None:
    """Return a version without the build that it is of, such as `+cpu`."""
    return None if version is None else version.partition("+")[0]


def install_line(dist: str | None, version: str | None) -> str:
    """Return the command that installs a release; empty where it is not known.

    Example:
        >>> install_line("nectargan-vgg", "0.1.0")
        'pip install nectargan-vgg==0.1.0'
    """
    # A record is data, which anybody may have written, and this is a command.
    if not (dist and version and _DISTRIBUTION.fullmatch(dist) and _VERSION.fullmatch(version)):
        return ""
    return f"pip install {dist}=={_release(version)}"


def installed_version(dist: str) -> str | None:
    """Return the version of a distribution that is installed here; None where none is."""
    try:
        return importlib_metadata.version(dist) if _DISTRIBUTION.fullmatch(dist) else None
    except importlib_metadata.PackageNotFoundError:
        return None


def _install(dist: str | None, before: Objective, after: Objective) -> str:
    """Return the command that installs the release of the first record, if neither the second has it nor it is here."""
    version = before.providers.get(dist or "")
    here = (after.providers.get(dist or ""), installed_version(dist or ""))
    return "" if version in here else install_line(dist, version)


def _how_to_get(loss: ObjectiveLoss, before: Objective, after: Objective) -> str:
    if loss.provider is not None:
        release = f"{loss.provider} {installed_version(loss.provider)}"
        same = [term.formula for term in before.terms] == [term.formula for term in after.terms]
        there = f"{release} is here, and does not bring it" if same else "add its term"
        return _install(loss.provider, before, after) or there
    if loss.function is not None and loss.function.startswith("torch.nn:"):
        unknown = f"what it was given as {listed(loss.unknown)} is not known; " if loss.unknown else ""
        return f"{unknown}register it in Python, by register_loss_fn"
    if loss.function is not None and "<" in loss.function:
        return "its function has no import path; register it in Python, by register_loss_fn"
    return "a file brings no function but plugins and classes of torch.nn; register it in Python, by register_loss_fn"


def _how_to_schedule(name: str, loss: ObjectiveLoss) -> str:
    if loss.schedule is None or not any(is_label(str(each.schedule)) for each in schedules_in(loss.schedule)):
        return ""
    return f"a file brings no function; give the schedule in Python, by schedules={{{name!r}: ...}} or set_schedule"


def _how_to_weight(weighting: ObjectiveWeighting | None) -> str:
    if weighting is None or not is_label(weighting.weighting):
        return ""
    return "a file brings no class; give the weighting in Python, by weightings= or set_weighting"


def _source(loss: ObjectiveLoss) -> str:
    provider = f" of {loss.provider}" if loss.provider else ""
    return f"{loss.function or 'a loss'}{provider}, weight {weight_of(loss)}"


def weight_of(loss: ObjectiveLoss | ExtraLoss) -> str:
    """Return the weight of a recorded loss as text, with all its digits."""
    return _number(loss.weight)


def inputs_of(loss: ObjectiveLoss | ExtraLoss) -> str:
    """Return the inputs of a recorded loss as text."""
    inputs = loss.inputs or []
    return listed(f"{name}={read}" for name, read in inputs.items()) if isinstance(inputs, dict) else listed(inputs)


def schedule_of(loss: ObjectiveLoss | ExtraLoss) -> str:
    """Return the schedule of a recorded loss in one line.

    Example:
        >>> from nectargan_core import Objective
        >>> data = {"schedule": {"start": 100, "end": 200, "target_value": 0.0}}
        >>> schedule_of(Objective(losses={"G_L1": data}).losses["G_L1"])
        'linear to 0, epoch 100 to 200'
    """
    schedule = loss.schedule
    if schedule is None or not schedule.is_scheduled:
        return "none"
    ends = ""
    if schedule.initial_value is not None:
        ends += f" from {_number(schedule.initial_value * schedule.factor)}"
    if schedule.target_value is not None:
        ends += f" to {_number(schedule.target_value * schedule.factor)}"
    start, end = _number(schedule.start_epoch), schedule.end_epoch
    when = f"{start} to {_number(end)}" if end is not None else f"{start} on"
    said = schedule.model_dump(mode="json", exclude_defaults=True)
    return f"{said.get('schedule', schedule.schedule)}{ends}, {schedule.unit} {when}{_params(said.get('params', {}))}"


def function_of(loss: ObjectiveLoss) -> str:
    """Return the function of a recorded loss as text, with what it was made with.

    Example:
        >>> from nectargan_core import Objective
        >>> data = {"function": "torch.nn:HuberLoss", "arguments": {"delta": 0.5}}
        >>> function_of(Objective(losses={"G_HUBER": data}).losses["G_HUBER"])
        'torch.nn:HuberLoss (delta=0.5)'
    """
    arguments = arguments_of(loss.arguments, loss.unknown)
    return f"{loss.function or 'none'} ({arguments})" if arguments else loss.function or "none"


def arguments_of(known: Mapping[str, Any], unknown: Sequence[str] = ()) -> str:
    """Return what a function was made with as text; `?` where that is not known.

    Example:
        >>> arguments_of({"delta": 0.5}, ["reduction"])
        'delta=0.5, reduction=?'
    """
    return ", ".join([*(f"{name}={value_of(value)}" for name, value in known.items()), *(f"{n}=?" for n in unknown)])


def weighting_of(weighting: ObjectiveWeighting) -> str:
    """Return a weighting as text: its name, its parameters, and what else is not as by default."""
    said = {"every": weighting.every, "wrt": weighting.wrt, "reduce": weighting.reduce}
    defaults = {"every": 1, "wrt": None, "reduce": None}
    params = {**weighting.params, **{name: value for name, value in said.items() if value != defaults[name]}}
    return f"{weighting.weighting}{_params(params)}"


def _params(params: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value_of(value)}" for name, value in params.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.17g}" if value != float(f"{value:.12g}") else f"{value:.12g}"


def value_of(value: object) -> str:
    """Return plain data as JSON, with a float that is whole as an integer.

    Example:
        >>> value_of({"relu1_2": 1.0, "name": "a"})
        '{"relu1_2": 1, "name": "a"}'
    """
    if value is _UNKNOWN:
        return "unknown"
    if value is _NOTHING:
        return "not given"
    if value is None:
        return "None"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)}: {value_of(item)}" for key, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(value_of, value))}]"
    return _number(value) if type(value) is float else json.dumps(value, ensure_ascii=False, default=str)
