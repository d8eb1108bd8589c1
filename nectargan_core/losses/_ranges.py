"""The look at the values of the inputs of a loss, at its first computation, where it says what range they are in."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor, nn

from nectargan_core._messages import warn
from nectargan_core.history import Recorder
from nectargan_core.losses._inputs import by_input
from nectargan_core.losses._zero import tensors_in

if TYPE_CHECKING:
    from nectargan_core.losses._bound import BoundLoss

Range: TypeAlias = tuple[float, float]
Expected: TypeAlias = Range | Literal["logits"]

# As a part of the width of the range: more than what bfloat16 and 8 bits round by.
_TOLERANCE = 0.01
# What images are often given as, from narrow to wide.
_COMMON: tuple[Range, ...] = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
# Those that values are rather in than in a range that is so many times as wide.
_NARROWER: Mapping[Range, float] = {(0.0, 1.0): 2.0, (-1.0, 1.0): 100.0}
# Of so many values from 0 to 1, which reach from near one end to near the other, it is unlikely that they are scores.
_ENOUGH, _NEAR = 64, 0.1
# How far from 1 a sum of probabilities may be, or so far as its dtype rounds by.
_SUM_TOLERANCE = 1e-3


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
        self, loss: BoundLoss, function: Callable[..., Any], ranges: Mapping[str, Expected], recorder: Recorder
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
            given = by_input(loss, args, kwargs)
            for name, expected in self._ranges.items():
                value = given.get(name)
                if isinstance(value, nn.Module):
                    continue
                if expected == "logits":
                    report: _Report = partial(_report_scores, loss.name, name)
                    _look(_scores_in(value), _extremes_and_sums, report, self._recorder)
                else:
                    report = partial(_report_range, loss.name, name, expected)
                    _look(tensors_in((value,)), torch.aminmax, report, self._recorder)
        return result


class _Seen(NamedTuple):
    """What is known of a tensor without its values."""

    floating: bool
    size: int
    classes: bool


_Report: TypeAlias = Callable[[Sequence[_Seen], Sequence[float]], None]


def _look(
    tensors: Iterable[Tensor], scalars: Callable[[Tensor], Sequence[Tensor]], report: _Report, recorder: Recorder
) -> None:
    """Report some scalars of each tensor, one tensor after another: on the CPU now, on a device when they are read."""
    seen: list[_Seen] = []
    read: list[float] = []
    later: list[Tensor] = []
    try:
        for tensor in tensors:
            if tensor.is_meta or not tensor.numel():
                continue
            tensor = tensor.detach()
            seen.append(_Seen(tensor.is_floating_point(), tensor.numel(), _has_classes(tensor)))
            if tensor.is_cpu:
                read += [float(scalar.item()) for scalar in scalars(tensor)]
            else:
                later += [scalar.float() for scalar in scalars(tensor)]
    except Exception:  # noqa: BLE001 # values that cannot be looked at, as in torch.vmap, must not end a training
        return
    if later:
        recorder.read_later(later, lambda values: report(seen, [*read, *values]))
    elif read:
        report(seen, read)


def _scores_in(value: Any) -> Iterator[Tensor]:
    """Go through the outputs of networks; of one that is itself a list, as with features, the last is the score."""
    for output in value if isinstance(value, (list, tuple)) else (value,):
        score = output[-1] if isinstance(output, (list, tuple)) and output else output
        if isinstance(score, Tensor):
            yield score


def _has_classes(tensor: Tensor) -> bool:
    return tensor.dim() >= 2 and tensor.shape[1] >= 2


def _extremes_and_sums(tensor: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the least and the greatest value, and whether the sums over dimension 1, if there are any, are 1."""
    least, greatest = torch.aminmax(tensor)
    if not _has_classes(tensor):
        return least, greatest, torch.ones_like(least)
    sums = tensor.sum(1, dtype=torch.promote_types(tensor.dtype, torch.float32))
    tolerance = max(_SUM_TOLERANCE, torch.finfo(tensor.dtype).eps)
    return least, greatest, ((sums - 1).abs() <= tolerance).all().to(least.dtype)


def _report_range(loss_name: str, name: str, expected: Range, seen: Sequence[_Seen], values: Sequence[float]) -> None:
    """Warn if values cannot be those of an input that has to be in a range; nothing is said of nan."""
    if any(map(math.isnan, values)):
        return
    found = min(values), max(values)
    if not _is_in(found, expected):
        what = f"they were from {found[0]:.4g} to {found[1]:.4g}"
    elif all(each.floating for each in seen) and (narrower := _narrower(found, expected)) is not None:
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


def _report_scores(loss_name: str, name: str, seen: Sequence[_Seen], values: Sequence[float]) -> None:
    """Warn if values that have to be unbounded scores are probabilities; nothing is said of nan.

    Args:
        loss_name: The loss.
        name: The input.
        seen: What is known of each tensor.
        values: Of each tensor the least value, the greatest value, and 1 unless its sums say that it is something else.
    """
    least, greatest = min(values[0::3]), max(values[1::3])
    floating = all(each.floating for each in seen)
    if not floating or any(map(math.isnan, values)) or not 0 <= least <= greatest <= 1:
        return
    count = sum(each.size for each in seen)
    if any(each.classes for each in seen) and all(values[2::3]):
        what = "and their sums over dimension 1 were 1, as after a softmax"
    elif count >= _ENOUGH and least <= _NEAR and greatest >= 1 - _NEAR:
        what = "as after a sigmoid"
    else:
        return
    warn(
        f"loss {loss_name!r} expects the values of the input {name!r} to be logits, which have no bounds, and at its "
        f"first computation they were from {least:.4g} to {greatest:.4g}, {what}; the last layer of the network that "
        "makes them must have no sigmoid or softmax, since the loss applies what it needs"
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
