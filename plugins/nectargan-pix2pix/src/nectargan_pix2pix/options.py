"""The options of a run: what they are as text, what a checkpoint keeps of them, and whether two runs have the same."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from nectargan_core import Schedule
from nectargan_core.errors import NectarganError

# The discriminator has the paper's learning rate. The generator, which begins as the identity and has far fewer
# channels than the paper's, learns well with five times that rate.
GENERATOR_RATE = 1e-3
DISCRIMINATOR_RATE = 2e-4

_ENDS = ("unit", "start", "end", "start_epoch", "end_epoch", "initial_value", "target_value", "factor")
_WEIGHT = "'G_L1=50'"
_SCHEDULE = "'G_L1=cosine:start=0.5,end=1,unit=fraction,target_value=0'"
# What changes neither networks nor log.
_FREE = {"device", "checkpoint_every", "log_to"}
# How an option is written where that does not follow from its name.
_FLAGS = {"weights": "--weight", "schedules": "--schedule"}


class OptionError(NectarganError, ValueError):
    """An option has a value that cannot be used; `option` is the option."""

    def __init__(self, message: str, *, option: str = "") -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True)
class Options:
    """What a run is started with. All of it is plain data.

    Args:
        spec: The formula of the objective; None where there is a file.
        objective: What the objective file holds, as plain data; None where there is a formula.
        data: The folder of the images; None for the sample photographs.
        epochs: The number of passes through the training images, at least 1.
        batch_size: Crops in a step, at least 1.
        channels: Features of the first layer of each network, at least 1.
        seed: The seed of the initial weights, the crops and their order, from 0 to 2**32 - 1.
        lr_g: The learning rate of the generator, above 0.
        lr_d: The learning rate of the discriminator, above 0.
        weights: Weights by loss name.
        schedules: Schedules by loss name, as `read_schedule` reads them.
        config: The sections of NectarGAN's configuration.
        device: The name of the device.
        checkpoint_every: How many steps there are between two checkpoints; None: those of an epoch.
        log_to: The names of the observers that get the log, too.
    """

    spec: str | None
    objective: dict[str, Any] | None
    data: str | None
    epochs: int
    batch_size: int
    channels: int
    seed: int
    lr_g: float
    lr_d: float
    weights: dict[str, float]
    schedules: dict[str, str]
    config: dict[str, Any]
    device: str
    checkpoint_every: int | None
    log_to: list[str]

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Options:
        """Return the options that `asdict` has written.

        Raises:
            ValueError: If there are others.
        """
        kinds = get_type_hints(cls)
        if plain.keys() != kinds.keys():
            raise ValueError(f"its options are {', '.join(sorted(plain))}; expected {', '.join(sorted(kinds))}")
        for name, kind in kinds.items():
            # A type, one with the types of what it holds, such as dict[str, float], or a union of these.
            each = get_args(kind) if get_origin(kind) is UnionType else (kind,)
            allowed = [get_origin(one) or one for one in each]
            if type(plain[name]) not in allowed:
                raise ValueError(f"its option {name} is {plain[name]!r}")
        return cls(**plain)

    def differences(self, given: Mapping[str, Any]) -> list[str]:
        """Return what is given otherwise than these options are, a line for each option or key.

        Args:
            given: Options that were given, by name. The device, how often checkpoints are written and who gets the log
                are left aside, and more epochs are no difference.
        """
        lines = []
        for name, value in given.items():
            mine = asdict(self)[name]
            if name in _FREE or value == mine or (name == "epochs" and value >= mine):
                continue
            if name == "objective" and mine is None:
                lines.append("--objective is left out in that run, and is given")
                continue
            for key, before, now in _different(mine, value):
                what = " ".join(filter(None, (flag(name), key)))
                lines.append(f"{what} is {_shown(before)} in that run, and {_shown(now)} is given")
        return lines


def _different(mine: object, given: object, key: str = "") -> Iterator[tuple[str, object, object]]:
    """Yield the keys at which two values differ, with what each has there; None where it has nothing."""
    # A section that is left out has none of the keys of the other.
    one, other = ({} if value is None else value for value in (mine, given))
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys((*one, *other)):
            yield from _different(one.get(name), other.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(mine, list) and isinstance(given, list) and len(mine) == len(given):
        for index, pair in enumerate(zip(mine, given, strict=True)):
            yield from _different(*pair, f"{key}[{index}]")
    elif mine != given:
        yield key, mine, given


def flag(name: str) -> str:
    """Return how an option is written.

    Example:
        >>> flag("batch_size"), flag("weights")
        ('--batch-size', '--weight')
    """
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def _shown(value: object) -> str:
    text = "left out" if value in (None, {}) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


# Weights and schedules as text


def read_weights(texts: Iterable[str]) -> dict[str, float]:
    """Read weights.

    Args:
        texts: Such as `G_L1=50`.

    Raises:
        OptionError: If one is not of this form, or a loss has two.

    Example:
        >>> read_weights(["G_L1=50", "G_VGG=1e-2"])
        {'G_L1': 50.0, 'G_VGG': 0.01}
    """
    weights: dict[str, float] = {}
    for text in texts:
        name, sign, number = text.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not sign or not name.strip() or not math.isfinite(weight):
            raise OptionError(
                f"--weight is the name of a loss and a finite number, such as {_WEIGHT}; got {text!r}",
                option="--weight",
            )
        _add(weights, name.strip(), weight, "--weight")
    return weights


def split_schedules(texts: Iterable[str]) -> dict[str, str]:
    """Return the schedules in texts by the name of the loss; each is checked.

    Args:
        texts: Such as `G_L1=cosine:end=30,target_value=0`.

    Raises:
        OptionError: If one is not of this form, or a loss has two.

    Example:
        >>> split_schedules(["G_L1=linear:end=30,target_value=0"])
        {'G_L1': 'linear:end=30,target_value=0'}
    """
    schedules: dict[str, str] = {}
    for text in texts:
        name, sign, curve = (part.strip() for part in text.partition("="))
        if not sign or not name:
            raise OptionError(
                f"--schedule is the name of a loss and its schedule, such as {_SCHEDULE}; got {text!r}",
                option="--schedule",
            )
        read_schedule(curve)
        _add(schedules, name, curve, "--schedule")
    return schedules


def read_schedule(text: str) -> Schedule:
    """Read a schedule: the name of a curve, and behind a colon what it is to have.

    `unit`, `start`, `end`, `initial_value`, `target_value` and `factor` are those of a `Schedule`; all other names are
    parameters of the curve. A value is JSON, or else text.

    Raises:
        OptionError: If it is not of this form, or there can be no such schedule.

    Example:
        >>> schedule = read_schedule("cosine:start=0.5,end=1,unit=fraction,target_value=0")
        >>> schedule.schedule, schedule.start_epoch, schedule.end_epoch, schedule.unit, schedule.target_value
        ('cosine', 0.5, 1, 'fraction', 0.0)
        >>> read_schedule("multistep:milestones=[10,20],gamma=0.1").params
        {'milestones': [10, 20], 'gamma': 0.1}
    """
    curve, colon, rest = (part.strip() for part in text.partition(":"))
    problem = "there is no name of a curve" if not curve else "nothing follows the colon" if colon and not rest else ""
    fields: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for item in _items(rest) if rest and not problem else ():
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign or not name or not value:
            problem = f"{item.strip()!r} is no name with a value"
        elif name in fields or name in params:
            problem = f"{name} is given twice"
        if problem:
            break
        (fields if name in _ENDS else params)[name] = _value(value)
    try:
        if problem:
            raise ValueError(problem)
        return Schedule.model_validate({"schedule": curve, "params": params, **fields})
    except ValueError as error:
        raise OptionError(
            f"{text!r} cannot be read as a schedule: {_reason(error)}; expected a curve and what it has, such as "
            f"{_SCHEDULE}",
            option="--schedule",
        ) from error


def _items(text: str) -> list[str]:
    """Split at commas that stand outside of brackets and quotes."""
    items, depth, quoted = [""], 0, False
    for character in text:
        quoted ^= character == '"'
        depth += 0 if quoted else (character in "[{") - (character in "]}")
        if character == "," and depth == 0 and not quoted:
            items.append("")
        else:
            items[-1] += character
    return items


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _reason(error: ValueError) -> str:
    """Return what is wrong in one line, in the words of the option; pydantic says where, too."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    # What may be an integer or another number has an error for each; the last says enough.
    found = {str(one["loc"][0]) if one["loc"] else "": one["msg"].removeprefix("Value error, ") for one in errors()}
    text = "; ".join(": ".join(filter(None, each)) for each in found.items())
    return text.replace("start_epoch", "start").replace("end_epoch", "end")


def misspelt(texts: Iterable[str]) -> str:
    """Return a hint for the names in schedules that are much like those of every schedule; else nothing.

    Args:
        texts: Schedules, as `read_schedule` reads them.

    Example:
        >>> misspelt(["linear:strat=1,end=3"])
        " Did you mean 'start' for 'strat'?"
    """
    names = (name for text in texts for name in read_schedule(text).params)
    found = [(name, close[0]) for name in names if (close := get_close_matches(name, _ENDS, 1))]
    return "".join(f" Did you mean {close!r} for {name!r}?" for name, close in found)


def _add(found: dict[str, Any], name: str, value: object, option: str) -> None:
    if name in found:
        raise OptionError(f"{option} is given twice for {name}; give it once", option=option)
    found[name] = value
