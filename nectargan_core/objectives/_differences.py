"""What differs between two records of objectives, each with the step that removes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nectargan_core._messages import listed, shown

if TYPE_CHECKING:
    from nectargan_core.objectives._objective import Objective, ObjectiveLoss

OF_LOSSES = frozenset({"loss", "function", "argument", "inputs", "meaning", "weight file"})
"""The kinds of differences by which losses are others, whatever their weights are."""

_ABSENT = "absent"
_UNKNOWN = object()


@dataclass(frozen=True)
class Difference:
    """One difference between two records.

    Args:
        kind: What differs: `"loss"` (only one has it), `"function"`, `"argument"`, `"meaning"` (the version that a
            plugin gives it), `"weight"`, `"schedule"`, `"enabled"`, `"tags"`, `"inputs"`, `"weighting"`,
            `"weight file"`, `"length"`, `"provider"` (of a loss), `"version"` (of a distribution) or `"fingerprint"`.
        name: Of what: a loss, `loss.argument`, a weighting, a file or a distribution.
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
        of = f"{self.kind} of {self.name}" if self.kind not in ("loss", "weight file") else f"{self.kind} {self.name}"
        return f"{of}: {self.before} -> {self.after}"

    def told(self) -> str:
        """Say it of a record and of what was built by it."""
        of = f"{self.kind} of {self.name}" if self.kind not in ("loss", "weight file") else f"{self.kind} {self.name}"
        fix = f"; {self.fix}" if self.fix else ""
        return f"{of}: recorded {self.before}, here {self.after}{fix}"


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
        *_of_mappings("weight file", before.weight_files, after.weight_files),
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
            yield Difference("loss", name, _source(loss), _ABSENT, _how_to_get(loss, before))
    for name, loss in after.losses.items():
        if name not in before.losses:
            yield Difference("loss", name, _ABSENT, _source(loss), "")
    for name, loss in before.losses.items():
        if name in after.losses:
            yield from _of_loss(name, loss, after.losses[name], _install(loss.provider, before))
    shared = [name for name in before.losses if name in after.losses]
    order = [name for name in after.losses if name in before.losses]
    if shared != order:
        yield Difference("order", "the losses", listed(shared), listed(order), "")


def _of_loss(name: str, before: ObjectiveLoss, after: ObjectiveLoss, install: str) -> Iterator[Difference]:
    def compared(kind: str, say: Callable[[ObjectiveLoss], str], fix: str = "") -> Iterator[Difference]:
        return _said(kind, name, say(before), say(after), fix)

    yield from compared("provider", lambda loss: loss.provider or "none", install)
    yield from compared("function", lambda loss: loss.function or "none", install)
    if before.function == after.function:
        for argument in dict.fromkeys((*before.arguments, *after.arguments)):
            values = [each.arguments.get(argument, _UNKNOWN) for each in (before, after)]
            if values[0] != values[1]:
                fix = "give the term the same options"
                yield Difference("argument", f"{name}.{argument}", _value(values[0]), _value(values[1]), fix)
    yield from compared("meaning", lambda loss: f"version {loss.version}", install)
    yield from compared("weight", weight_of)
    yield from compared("schedule", schedule_of)
    yield from compared("enabled", lambda loss: str(loss.enabled))
    yield from compared("tags", lambda loss: listed(sorted(set(loss.tags))), install)
    yield from compared("inputs", inputs_of, "rename_inputs gives a loss another input")


def _said(kind: str, name: str, before: str, after: str, fix: str = "") -> Iterator[Difference]:
    if before != after:
        yield Difference(kind, name, before, after, fix)


def _of_weightings(before: Objective, after: Objective) -> Iterator[Difference]:
    both = [
        {tuple(sorted(each.losses or (key,))): each for key, each in record.weightings.items()}
        for record in (before, after)
    ]
    for losses in dict.fromkeys((*both[0], *both[1])):
        first, second = (_weighting(record.get(losses)) for record in both)
        yield from _said("weighting", ", ".join(losses), first, second)


def _weighting(weighting: Any) -> str:
    if weighting is None:
        return "none"
    said = {"every": weighting.every, "wrt": weighting.wrt, "reduce": weighting.reduce}
    defaults = {"every": 1, "wrt": None, "reduce": None}
    params = {**weighting.params, **{name: value for name, value in said.items() if value != defaults[name]}}
    return f"{weighting.weighting}{_params(params)}"


def _of_length(before: Objective, after: Objective) -> Iterator[Difference]:
    if not (before.uses_fractions or after.uses_fractions):
        return
    for field in ("total_epochs", "total_steps"):
        first, second = (_number(getattr(record, field)) for record in (before, after))
        yield from _said("length", field, first, second, f"give the manager {field}={first}")


def _of_mappings(kind: str, before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[Difference]:
    for name in dict.fromkeys((*before, *after)):
        yield from _said(kind, name, _digest(before.get(name)), _digest(after.get(name)))


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
                    install_line(dist, first.get(dist)),
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
    return f"pip install {dist}=={_release(version)}" if dist and version else ""


def _install(dist: str | None, record: Objective) -> str:
    return install_line(dist, record.providers.get(dist or ""))


def _how_to_get(loss: ObjectiveLoss, record: Objective) -> str:
    if loss.provider is not None:
        return _install(loss.provider, record)
    if loss.function is not None and loss.function.startswith("torch.nn:"):
        return "register it in Python, by register_loss_fn"
    if loss.function is not None and "<" in loss.function:
        return "its function has no import path; register it in Python, by register_loss_fn"
    return "a file brings no function but plugins and classes of torch.nn; register it in Python, by register_loss_fn"


def _source(loss: ObjectiveLoss) -> str:
    return f"{loss.function}" + (f" of {loss.provider}" if loss.provider else "")


def weight_of(loss: ObjectiveLoss) -> str:
    """Return the weight of a recorded loss as text, with all its digits."""
    return _number(loss.weight)


def inputs_of(loss: ObjectiveLoss) -> str:
    """Return the inputs of a recorded loss as text."""
    inputs = loss.inputs or []
    return listed(f"{name}={read}" for name, read in inputs.items()) if isinstance(inputs, dict) else listed(inputs)


def schedule_of(loss: ObjectiveLoss) -> str:
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
    params = schedule.model_dump(mode="json")["params"]
    return f"{schedule.model_dump(mode='json')['schedule']}{ends}, {schedule.unit} {when}{_params(params)}"


def _params(params: Mapping[str, Any]) -> str:
    return "".join(f", {name}={_value(value)}" for name, value in params.items())


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.17g}" if value != float(f"{value:.12g}") else f"{value:.12g}"


def _value(value: object) -> str:
    return "unknown" if value is _UNKNOWN else _number(value) if type(value) is float else shown(value)
