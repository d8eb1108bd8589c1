"""Losses without a plugin: classes of `torch.nn`, made from a file and written into one."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nectargan_core._messages import did_you_mean, listed, one_line, shown
from nectargan_core.errors import ObjectiveError
from nectargan_core.losses import LMLoss
from nectargan_core.objectives._file import key_of
from nectargan_core.objectives._functions import FunctionDescription, described
from nectargan_core.objectives._objective import ExtraLoss

_MODULE = "torch.nn:"
_FUNCTION, _ARGUMENTS = "function", "arguments"


def made(extra: ExtraLoss, *, called: bool = True) -> LMLoss:
    """Make the loss that a file describes.

    Args:
        extra: What the file says.
        called: Whether it must be possible to call the function with the inputs.

    Raises:
        ObjectiveError: If there is no such class, or it does not take the arguments or the inputs.
        pydantic.ValidationError: If the name is none.
        ScheduleError: If the weight contradicts the schedule.
    """
    module = _module(extra.function, extra.arguments)
    if called:
        _check_inputs(extra, module)
    fields: dict[str, Any] = {"name": extra.name, "function": module}
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
    if loss.as_is or loss.version != 1:  # which a file does not say of such a loss
        return None
    said = _written(loss.function, description)
    if said is None:
        return None
    return ExtraLoss(
        name=loss.name,
        function=said[_FUNCTION],
        arguments=said[_ARGUMENTS],
        tags=list(loss.tags),
        inputs=dict(loss.inputs) if isinstance(loss.inputs, dict) else list(loss.inputs),
        skip_when_zero=loss.skip_when_zero,
    )


def written_option(value: object) -> dict[str, Any] | None:
    """Return how a file says that an option is a module of `torch.nn`; None for anything else.

    Example:
        >>> written_option(nn.HuberLoss(delta=0.5))
        {'function': 'torch.nn:HuberLoss', 'arguments': {'reduction': 'mean', 'delta': 0.5}}
    """
    return _written(value, described(value)) if isinstance(value, nn.Module) else None


def made_option(value: object) -> nn.Module | None:
    """Return the module of `torch.nn` that an option in a file describes; None for any other option.

    Raises:
        ObjectiveError: If there is no such class, or it does not take the arguments.

    Example:
        >>> made_option({"function": "torch.nn:HuberLoss", "arguments": {"delta": 0.5}})
        HuberLoss()
    """
    if not isinstance(value, Mapping) or not {_FUNCTION} <= value.keys() <= {_FUNCTION, _ARGUMENTS}:
        return None
    path, arguments = value[_FUNCTION], value.get(_ARGUMENTS, {})
    if not isinstance(path, str) or not path.startswith(_MODULE) or not isinstance(arguments, Mapping):
        return None
    return _module(path, arguments)


def _written(function: object, description: FunctionDescription) -> dict[str, Any] | None:
    """Return path and arguments of a module of `torch.nn`; None for what these do not make anew."""
    if not (description.path.startswith(_MODULE) and isinstance(function, nn.Module) and description.is_complete):
        return None
    arguments = {name: value for name, value in description.arguments.items() if value is not None}
    try:
        same = described(_module(description.path, arguments)).arguments == description.arguments
    except ObjectiveError:
        return None
    return {_FUNCTION: description.path, _ARGUMENTS: arguments} if same else None


def _module(path: str, arguments: Mapping[str, Any]) -> nn.Module:
    name = path.removeprefix(_MODULE)
    kind = vars(nn).get(name)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module) and kind.forward is not nn.Module.forward):
        losses = [each for each in vars(nn) if each.endswith("Loss")]
        raise ObjectiveError(
            f"function: torch.nn has no class {shown(name)} of modules that can be called.{did_you_mean(name, losses)}",
            key="function",
        )
    # What is frozen in an objective is a plain list or dict for the class.
    arguments = json.loads(json.dumps(dict(arguments)))
    signature = inspect.signature(kind)
    takes = [parameter.name for parameter in signature.parameters.values() if parameter.kind not in (2, 4)]
    for given in arguments:
        if given not in takes:
            key, hint = key_of("arguments", given), did_you_mean(given, takes)
            raise ObjectiveError(
                f"{key}: {path} takes no {shown(given)}, only {listed(takes)}.{hint}",
                key=key,
            )
    try:
        # Whatever device is the default: a loss is moved when it is registered.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            return kind(**{each: _argument(kind, each, value) for each, value in arguments.items()})
    except Exception as error:
        raise ObjectiveError(
            f"arguments: {path} cannot be made with {shown(arguments)}: {one_line(error)}; correct them",
            key="arguments",
        ) from error


def _argument(kind: type, name: str, value: Any) -> Any:
    """Return an argument of a class as it takes it: a float32 tensor for a list, where it takes a tensor.

    Raises:
        TypeError: If it takes another type.
        ValueError: If it is none of the words that it takes, or a list that is no tensor.
    """
    annotation = inspect.signature(kind).parameters[name].annotation
    if name == "reduction":
        # The class looks at it when it is called.
        words = ("none", "mean", "sum", *(["batchmean"] if kind is nn.KLDivLoss else []))
        if value not in words:
            raise ValueError(f"reduction must be {' or '.join(map(repr, words))}, got {shown(value)}")
    if isinstance(value, list) and "Tensor" in str(annotation) and _is_of_numbers(value):
        return torch.tensor(value, dtype=torch.float32)
    takes = _PLAIN.get(annotation, ())
    if takes and type(value) not in takes:
        raise TypeError(f"{name} must be of type {annotation.__name__}, got {shown(value)}")
    return value


_PLAIN: dict[Any, tuple[type, ...]] = {int: (int,), bool: (bool,), str: (str,), float: (float, int)}


def _check_inputs(extra: ExtraLoss, module: nn.Module) -> None:
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):
        return
    try:
        if isinstance(extra.inputs, dict):
            signature.bind(**extra.inputs)
        else:
            signature.bind(*extra.inputs)
    except TypeError as error:
        names = list(signature.parameters)
        raise ObjectiveError(
            f"inputs: {extra.function} is called with {listed(names)}, and cannot be with the inputs "
            f"{shown(extra.inputs)}: {error}; name one for each",
            key="inputs",
        ) from None


def _is_of_numbers(value: list[Any]) -> bool:
    return all(
        _is_of_numbers(item) if isinstance(item, list) else type(item) in (int, float) and not isinstance(item, bool)
        for item in value
    )
