"""The look at the values of the inputs of a loss, at its first computation, where it says what range they are in."""

from __future__ import annotations

import inspect
import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_core._messages import warn
from nectargan_core.history import Recorder
from nectargan_core.losses._zero import tensors_in

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss

Range: TypeAlias = tuple[float, float]

# As a part of the width of the range: more than what bfloat16 and 8 bits round by.
_TOLERANCE = 0.01
# What images are often given as, from narrow to wide.
_COMMON: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# Those that values are rather in than in a range that is so many times as wide.
_NARROWER: Mapping[Range, float] = {(0.0, 1.0): 2.0, (-1.0, 1.0): 100.0}


class FirstCall:
    """Calls the function of a loss, for the first time, and then looks at the inputs that have a range.

    From then on the loss calls its function itself, so that later calls cost nothing more.

    Args:
        loss: The loss; this keeps no reference to it, so that it is freed with its manager.
        function: Its function.
        ranges: The range of each input that has one.
        recorder: What reads values from a device.
    """

    __slots__ = ("_function", "_loss", "_ranges", "_recorder")

    def __init__(
        self, loss: BoundLoss, function: Callable[..., Any], ranges: Mapping[str, Range], recorder: Recorder
    ) -> None:
        self._loss = weakref.ref(loss)
        self._function = function
        self._ranges = ranges
        self._recorder = recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # First, so that what it says of its inputs comes before what is said here.
        result = self._function(*args, **kwargs)
        loss = self._loss()
        if loss is not None and loss.ends_first_call():
            given = dict(_by_input(loss, args, kwargs))
            for name, expected in self._ranges.items():
                if name in given:
                    _look(given[name], partial(_report, loss.name, name, expected), self._recorder)
        return result


def _by_input(loss: BoundLoss, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the name and the value of each input that the function was called with."""
    if loss.parameters is None:
        yield from zip(loss.inputs, args, strict=False)
        return
    given = dict(zip(_parameters_of(loss.function), args, strict=False)) | dict(kwargs)
    for parameter, name in zip(loss.parameters, loss.inputs, strict=True):
        if parameter in given:
            yield name, given[parameter]


def _parameters_of(function: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(function.forward if isinstance(function, nn.Module) else function).parameters)
    except (TypeError, ValueError):  # a builtin without a signature
        return []


def _look(value: Any, report: Callable[[bool, Sequence[float]], None], recorder: Recorder) -> None:
    """Report the least and greatest values of the tensors in an input: on the CPU now, on a device when it is read."""
    read: list[float] = []
    later: list[Tensor] = []
    floating = True
    try:
        for tensor in () if isinstance(value, nn.Module) else tensors_in((value,)):
            if tensor.is_meta or not tensor.numel():
                continue
            floating = floating and tensor.is_floating_point()
            tensor = tensor.detach()
            least, greatest = torch.aminmax(tensor)
            if tensor.is_cpu:
                read += [float(least.item()), float(greatest.item())]
            else:
                later += [least.float(), greatest.float()]
    except Exception:  # noqa: BLE001 # values that cannot be looked at, as in torch.vmap, must not end a training
        return
    if later:
        recorder.read_later(later, lambda values: report(floating, [*read, *values]))
    elif read:
        report(floating, read)


def _report(loss_name: str, name: str, expected: Range, floating: bool, values: Sequence[float]) -> None:
    """Warn if values cannot be those of an input that has to be in a range; nothing is said of nan."""
    if any(map(math.isnan, values)):
        return
    found = min(values), max(values)
    if not _is_in(found, expected):
        what = f"they were from {found[0]:.4g} to {found[1]:.4g}"
    elif floating and (narrower := _narrower(found, expected)) is not None:
        what = f"they were from {found[0]:.4g} to {found[1]:.4g}, as in images from {narrower[0]:g} to {narrower[1]:g}"
    else:
        return
    probable = next((each for each in _COMMON if each != expected and _fills(found, each)), None)
    low, high = expected
    option = ""
    if probable is not None:
        option = (
            f", or, where the spec of the loss has the option, say what range they are in: "
            f'options={{"name": {{"input_range": {probable}}}}}'
        )
    warn(
        f"loss {loss_name!r} expects the values of the input {name!r} to be from {low:g} to {high:g}, and at its first "
        f"computation {what}; normalise them to {low:g} to {high:g}{option}"
    )


def _is_in(found: Range, expected: Range) -> bool:
    tolerance = _TOLERANCE * (expected[1] - expected[0])
    return expected[0] - tolerance <= found[0] and found[1] <= expected[1] + tolerance


def _fills(found: Range, common: Range) -> bool:
    """Whether values are in a range, and not in a small part of it only."""
    return _is_in(found, common) and found[1] - found[0] > (common[1] - common[0]) / 16


def _narrower(found: Range, expected: Range) -> Range | None:
    """Return the range that values are more likely in, which are in the one expected; constant ones say nothing."""
    width = expected[1] - expected[0]
    for (low, high), ratio in _NARROWER.items():
        if width >= ratio * (high - low) and low <= found[0] < found[1] <= high:
            return low, high
    return None
