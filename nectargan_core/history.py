"""The records of one loss: taken without waiting for a device, kept compactly, read as lists."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from nectargan_core.errors import LossResultError, warn
from nectargan_core.records import Records
from nectargan_core.snapshot import Freezable

_NAN = float("nan")
_FLOAT32 = torch.float32
_FLOAT32_MIN, _FLOAT32_MAX = torch.finfo(torch.float32).min, torch.finfo(torch.float32).max
# So many device scalars are kept apart before they are stacked into one tensor.
_BLOCK = 64


class LMHistory(Freezable):
    """What a loss has been, one entry a record in each list.

    Args:
        losses: Mean of the weighted result, as it was in the result's own dtype.
        weights: The weight applied.
        unweighted: Mean of the result before weighting; nan where a weight of 0 left the function uncalled.
        steps: Step of the record: the manager's clock, or the number of the loss's own call from 0.
        epochs: Epoch of the record.

    Example:
        >>> LMHistory().losses
        []
    """

    losses: list[float] = Field(default_factory=list)
    weights: list[float] = Field(default_factory=list)
    unweighted: list[float] = Field(default_factory=list)
    steps: list[int] = Field(default_factory=list)
    epochs: list[float] = Field(default_factory=list)


class Series:
    """The records of one loss since the last flush, and its last record.

    On the CPU a value is taken at once. On any other device the result is kept as it is, in blocks, until
    `settle` reads them all with one wait.

    Args:
        name: Name of the loss.
        keep: Whether all records are kept, or only the last.
        on_nonfinite: Called with `(series, step, epoch, value)` for a weighted value that is nan or infinite; None
            where that is nothing to speak of.
        on_device: Called before the first value is left on a device.
    """

    __slots__ = (
        "_blocks",
        "_carried",
        "_carried_count",
        "_epochs",
        "_known",
        "_last",
        "_losses",
        "_on_device",
        "_on_nonfinite",
        "_pending",
        "_unweighted",
        "_weights",
        "_window",
        "count",
        "dtype",
        "keep",
        "name",
        "result",
        "steps",
    )

    def __init__(
        self,
        name: str,
        keep: bool,
        on_nonfinite: Callable[[Series, int, float, float], None] | None = None,
        on_device: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self.keep = keep
        self.count = 0
        self.dtype = torch.float32
        # The last result before weighting, where it is more than a number: a map, or a scalar on a device.
        self.result: Tensor | None = None
        # Four bytes for a step, eight for each number: 36 a record.
        self.steps = array("I")
        self._epochs, self._losses, self._weights, self._unweighted = (array("d") for _ in range(4))
        self._last: tuple[int, float, float | None, float, float] | None = None
        self._pending: list[tuple[int, Tensor, Tensor | None]] = []
        self._blocks: list[_Block] = []
        self._on_nonfinite = on_nonfinite or _ignore
        self._on_device = on_device
        # Where the records begin that `mean` is over, and what of them has been dropped since: sum and count.
        self._window = 0
        self._carried, self._carried_count = 0.0, 0
        # The newest value that has been read, where the last one is still on a device.
        self._known = _NAN

    def __len__(self) -> int:
        return len(self.steps)

    def watch_nonfinite(self, on_nonfinite: Callable[[Series, int, float, float], None] | None) -> None:
        """Call this for a weighted value that is nan or infinite, or nothing."""
        self._on_nonfinite = on_nonfinite or _ignore

    def add(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        """Record a result before (`raw`) and after weighting (`weighted`)."""
        if raw.dtype is not _FLOAT32 or raw.ndim or not raw.is_cpu:
            self._add_tensor(step, epoch, weight, raw, weighted)
            return
        # The hot path. One number is taken; the product, which float32 determines, is worked out when it is read.
        value = raw.item()
        self.count += 1
        self.result = None
        self.dtype = _FLOAT32
        if self.keep:
            # First what may refuse a value, the caller's epoch, so that the columns keep one length.
            self._epochs.append(epoch)
            self._unweighted.append(value)
            self._weights.append(weight)
            try:
                self.steps.append(step)
            except OverflowError:
                self._widen_steps(step)
        else:
            self._last = (step, epoch, None, weight, value)
        if not _FLOAT32_MIN <= value * weight <= _FLOAT32_MAX:
            # Maybe: the bounds are not rounded as the product is, and a weight of 0 makes nothing of an infinity.
            self.look_at(step, epoch, weighted.item())

    def look_at(self, step: int, epoch: float, weighted: float) -> None:
        """Tell of a weighted value that is nan or infinite."""
        if weighted - weighted != 0.0:
            self._on_nonfinite(self, step, epoch, weighted)

    def add_number(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        """Record a value before and after weighting."""
        self.count += 1
        self._put(step, epoch, weight, raw, weighted)
        self.look_at(step, epoch, weighted)

    def _put(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        if not self.keep:
            self._last = (step, epoch, weighted, weight, raw)
            return
        self._complete()
        self._epochs.append(epoch)  # first, as above
        self._losses.append(weighted)
        self._unweighted.append(raw)
        self._weights.append(weight)
        try:
            self.steps.append(step)
        except OverflowError:
            self._widen_steps(step)

    def _complete(self) -> None:
        """Work out the products that the hot path left out."""
        done = len(self._losses)
        if done < len(self.steps):
            self._losses.extend(_weigh(self._unweighted[done:], self._weights[done:], _FLOAT32))

    def _widen_steps(self, step: int) -> None:
        self.steps = array("Q", self.steps)
        self.steps.append(step)

    def add_scalar(self, step: int, epoch: float, value: float | Tensor) -> None:
        """Record a value that is not weighted."""
        if isinstance(value, Tensor):
            # On a device it is read later, and until then its owner may write to it, as schedulers do to rates.
            value = value if value.is_cpu else value.detach().clone()
            self.add(step, epoch, 1.0, value, value)
        else:
            self.result = None
            self.dtype = torch.float64
            self.add_number(step, epoch, 1.0, float(value), float(value))

    def add_zero(self, step: int, epoch: float, zero: Tensor) -> None:
        """Record that a weight of 0 left the function uncalled, and gave this result."""
        self.result = None if zero.is_cpu else zero.detach()
        self.dtype = zero.dtype
        self.add_number(step, epoch, 0.0, _NAN, 0.0)

    def _add_tensor(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        if raw.is_complex():
            raise LossResultError(
                f"loss {self.name!r} returned a tensor of {raw.dtype} at epoch {epoch:g}; expected one of real numbers",
                loss_name=self.name,
            )
        self.dtype = weighted.dtype
        if raw.is_cpu and not raw.ndim:
            self.result = None
            self.add_number(step, epoch, weight, raw.item(), weighted.item())
            return
        # Not the weighted result, which the user may edit in place.
        result = raw.detach()
        if raw.is_leaf and raw.requires_grad and not raw.is_cpu:
            result = result.clone()  # a parameter, which its optimizer edits in place
        self.result = result
        if raw.is_cpu:
            self.add_number(step, epoch, weight, _mean(result).item(), _mean(weighted.detach()).item())
            return
        if self._on_device is not None:
            self._on_device()
            self._on_device = None
        self.count += 1
        if not self.keep:
            self._known = self.latest()
            self._last = (step, epoch, None, weight, _NAN)
            return
        self._put(step, epoch, weight, _NAN, _NAN)
        mean = _mean(weighted.detach()) if raw.ndim else None
        self._pending.append((len(self.steps) - 1, _mean(result), mean))
        if len(self._pending) >= _BLOCK:
            self._pack()

    def _pack(self) -> None:
        groups: dict[Any, list[tuple[int, Tensor, Tensor | None]]] = {}
        for row in self._pending:
            groups.setdefault((row[1].device, row[1].dtype, row[2] is None), []).append(row)
        for rows in groups.values():
            raw = torch.stack([row[1] for row in rows])
            means = [row[2] for row in rows if row[2] is not None]
            self._blocks.append(_Block(self, [row[0] for row in rows], raw, torch.stack(means) if means else None))
        self._pending.clear()

    def take_blocks(self) -> list[_Block]:
        """Hand over what is still on a device, for `settle` to read."""
        if not self.keep:
            if self._last is None or self._last[2] is not None or self.result is None:
                return []
            raw = _mean(self.result)
            weighted = _mean(self.result * self._last[3]) if self.result.ndim else None
            return [_Block(self, [0], raw.reshape(1), None if weighted is None else weighted.reshape(1))]
        if self._pending:
            self._pack()
        blocks, self._blocks = self._blocks, []
        return blocks

    def fill(
        self, indices: list[int], raw: list[float], weighted: list[float] | None, dtype: torch.dtype
    ) -> list[tuple[int, float, float]]:
        """Put values that were read from a device where they belong; without `weighted`, weigh them here.

        Returns:
            `(step, epoch, weighted)` of what was filled in.
        """
        if weighted is None:
            weights = [self._last[3]] if self._last and not self.keep else [self._weights[i] for i in indices]
            weighted = _weigh(raw, weights, dtype)
        if not self.keep and self._last is not None:
            step, epoch, _, weight, _ = self._last
            self._last = (step, epoch, weighted[0], weight, raw[0])
            return [(step, epoch, weighted[0])]
        for index, value, product in zip(indices, raw, weighted, strict=True):
            self._unweighted[index] = value
            self._losses[index] = product
        places = [(self.steps[index], self._epochs[index]) for index in indices]
        return [(*place, product) for place, product in zip(places, weighted, strict=True)]

    def last(self) -> tuple[int, float, float, float, float] | None:
        """Return `(step, epoch, loss, weight, unweighted)` of the last record, as far as it has been settled."""
        if self.steps:
            self._complete()
            return self.steps[-1], self._epochs[-1], self._losses[-1], self._weights[-1], self._unweighted[-1]
        if self._last is None:
            return None
        step, epoch, loss, weight, raw = self._last
        if loss is None:
            loss = _weigh([raw], [weight], _FLOAT32)[0]
        return step, epoch, loss, weight, raw

    def latest(self) -> float:
        """Return the newest weighted value that can be had without waiting for a device, nan if there is none."""
        waiting = [block.indices[0] for block in self._blocks[:1]] + [row[0] for row in self._pending[:1]]
        known = min(waiting, default=len(self.steps))
        if known:
            self._complete()
            return self._losses[known - 1]
        last = self._last
        if last is None or (last[2] is None and self.result is not None):
            return self._known
        return _weigh([last[4]], [last[3]], _FLOAT32)[0] if last[2] is None else last[2]

    def begin_window(self) -> None:
        """Let `mean` be over the records from now on."""
        self._window = len(self.steps)
        self._carried, self._carried_count = 0.0, 0

    def mean(self) -> float:
        """Return the mean of the weighted values since `begin_window`, settled before; nan of none."""
        self._complete()
        values = self._losses[self._window :]
        count = self._carried_count + len(values)
        return (self._carried + sum(values)) / count if count else _NAN

    def last_weight(self) -> float | None:
        """Return the weight that was last applied, None before the first record."""
        if self._weights:
            return self._weights[-1]
        return None if self._last is None else self._last[3]

    def last_tensor(self) -> Tensor:
        """Return the last weighted result, detached, on its device and in its dtype; nan before the first."""
        last = self.last()
        if last is None:
            return torch.tensor(_NAN, device="cpu")
        if self.result is not None:
            return self.result * last[3] if last[3] else torch.zeros_like(self.result)
        return torch.tensor(last[2], dtype=self.dtype, device="cpu")

    def history(self) -> LMHistory:
        """Return the records that are in memory, as lists."""
        last = self.last()
        if not self.keep and last is not None:
            step, epoch, loss, weight, raw = last
            columns: list[list[Any]] = [[loss], [weight], [raw], [step], [epoch]]
        else:
            arrays = (self._losses, self._weights, self._unweighted, self.steps, self._epochs)
            columns = [column.tolist() for column in arrays]
        losses, weights, unweighted, steps, epochs = columns
        return LMHistory.model_construct(
            losses=losses, weights=weights, unweighted=unweighted, steps=steps, epochs=epochs
        )

    def records(self) -> Records:
        """Return the records that are in memory, as arrays."""
        self._complete()
        return Records(
            self.name,
            step=np.array(self.steps, dtype=np.int64),
            epoch=np.array(self._epochs),
            loss=np.array(self._losses),
            weight=np.array(self._weights),
            unweighted=np.array(self._unweighted),
        )

    def rewind(self, step: int) -> None:
        """Forget the records of a step and later ones, settled before."""
        self._complete()
        columns = (self.steps, self._epochs, self._losses, self._weights, self._unweighted)
        for index in reversed(range(len(self.steps))):
            if self.steps[index] >= step:
                for column in columns:
                    del column[index]
        self._window = min(self._window, len(self.steps))
        self._last, self._known, self.result = None, _NAN, None

    def drop(self, count: int) -> None:
        """Forget the oldest records, settled before; the last one stays known."""
        if count and self.steps:
            self._last = self.last()  # which completes the columns, too
            gone = self._losses[self._window : count]
            self._carried += sum(gone)
            self._carried_count += len(gone)
            self._window = max(0, self._window - count)
        for column in (self.steps, self._epochs, self._losses, self._weights, self._unweighted):
            del column[:count]


@dataclass
class _Block:
    """Values of one series that are still on a device: before weighting, and after where those differ."""

    series: Series
    indices: list[int]
    raw: Tensor
    weighted: Tensor | None


def _ignore(series: Series, step: int, epoch: float, value: float) -> None:
    """Take a value that may be nan or infinite."""


def settle(series: Iterable[Series]) -> None:
    """Read what is still on a device into its series, with one wait for each device and dtype."""
    groups: dict[Any, list[_Block]] = {}
    filled: list[tuple[Series, list[tuple[int, float, float]]]] = []
    for one in series:
        for block in one.take_blocks():
            groups.setdefault((block.raw.device, block.raw.dtype), []).append(block)
    for blocks in groups.values():
        tensors = [tensor for block in blocks for tensor in (block.raw, block.weighted) if tensor is not None]
        if tensors[0].is_meta:
            continue  # It has no values; what would be read stays nan.
        try:
            values, start = torch.cat(tensors).tolist(), 0
        except RuntimeError as error:  # the device failed; what is on the host already is not to be lost with it
            warn(f"values of losses on {tensors[0].device} cannot be read, and count as nan: {error}")
            continue
        for block in blocks:
            count = len(block.indices)
            raw, start = values[start : start + count], start + count
            weighted = None
            if block.weighted is not None:
                weighted, start = values[start : start + count], start + count
            filled.append((block.series, block.series.fill(block.indices, raw, weighted, block.raw.dtype)))
    # Once all is in its place, since who is told may ask for values, or flush.
    for one, values_of_one in filled:
        for step, epoch, value in values_of_one:
            one.look_at(step, epoch, value)


def _mean(tensor: Tensor) -> Tensor:
    if not tensor.ndim:
        return tensor
    return tensor.mean() if tensor.is_floating_point() else tensor.double().mean()


def _weigh(values: Sequence[float], weights: Sequence[float], dtype: torch.dtype) -> list[float]:
    """Multiply as the device did: in float32 at least, rounded to the dtype of the result."""
    if not dtype.is_floating_point:
        dtype = torch.get_default_dtype()
    precise = torch.float64 if dtype == torch.float64 else torch.float32
    with torch.inference_mode():
        # On the CPU whatever the default device is.
        factors = torch.tensor(weights, dtype=torch.float64, device="cpu")
        numbers = torch.tensor(values, dtype=precise, device="cpu")
        # As when it was computed, a weight of 0 gives 0 whatever it meets, and only a weight that was not rounded to 0.
        product = torch.where(factors == 0, 0.0, numbers * factors.to(precise))
        return product.to(dtype).tolist()
