"""Losses without a plugin: classes of `torch.nn`, made from a file and written into one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core.errors import ObjectiveError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives._functions import FunctionDescription, described
from nectargan_core.objectives._objective import ExtraLoss

_MODULE = "torch.nn:"


def made(extra: ExtraLoss) -> LMLoss:
    """Make the loss that a file describes.

    Raises:
        ObjectiveError: If there is no such class, or it does not take the arguments.
        pydantic.ValidationError: If the name is none.
        ScheduleError: If the weight contradicts the schedule.
    """
    fields: dict[str, Any] = {"name": extra.name, "function": _module(extra.function, extra.arguments)}
    fields["tags"] = list(extra.tags)
    fields["inputs"] = dict(extra.inputs) if isinstance(extra.inputs, dict) else tuple(extra.inputs)
    fields["skip_when_zero"] = extra.skip_when_zero
    if extra.weight is not None:
        fields["loss_weight"] = extra.weight
    if extra.schedule is not None:
        fields["schedule"] = extra.schedule
    return LMLoss(**fields)


def written(loss: LMLoss, description: FunctionDescription) -> ExtraLoss | None:
    """Return what a file says of a loss that was registered in Python; None where no file can bring it back."""
    kind = type(loss.function)
    if not (description.path.startswith(_MODULE) and isinstance(loss.function, nn.Module) and description.is_complete):
        return None
    arguments = {name: value for name, value in description.arguments.items() if value is not None}
    try:
        again = described(_module(description.path, arguments))
        # Made anew it must be the same, and nothing else must have been set on it.
        same = again.arguments == description.arguments and isinstance(loss.function, kind)
    except ObjectiveError:
        same = False
    if not same:
        return None
    return ExtraLoss(
        name=loss.name,
        function=description.path,
        arguments=arguments,
        tags=list(loss.tags),
        inputs=dict(loss.inputs) if isinstance(loss.inputs, dict) else list(loss.inputs),
        skip_when_zero=loss.skip_when_zero,
    )


def _module(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    name = path.removeprefix(_MODULE)
    kind = vars(nn).get(name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        losses = [each for each in vars(nn) if each.endswith("Loss")]
        raise ObjectiveError(
            f"function: torch.nn has no class {name!r} of modules.{did_you_mean(name, losses)}", key="function"
        )
    signature = inspect.signature(kind)
    takes = [parameter.name for parameter in signature.parameters.values() if parameter.kind not in (2, 4)]
    for given in arguments:
        if given not in takes:
            raise ObjectiveError(
                f"arguments.{given}: {path} takes no {given!r}, only {listed(takes)}.{did_you_mean(given, takes)}",
                key=f"arguments.{given}",
            )
    tensors = {
        each: torch.tensor(value)
        for each, value in arguments.items()
        if isinstance(value, list) and "Tensor" in str(signature.parameters[each].annotation) and _is_of_numbers(value)
    }
    try:
        # Whatever device is the default: a loss is moved when it is registered.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            return kind(**{**arguments, **tensors})
    except Exception as error:
        raise ObjectiveError(
            f"arguments: {path} cannot be made with {shown(dict(arguments))}: {one_line(error)}; correct them",
            key="arguments",
        ) from error


def _is_of_numbers(value: list[Any]) -> bool:
    return all(
        _is_of_numbers(item) if isinstance(item, list) else type(item) in (int, float) and not isinstance(item, bool)
        for item in value
    )
