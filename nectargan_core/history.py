"""The records of one loss: taken without waiting for a device, kept compactly, read as lists."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from nectargan_core.snapshot import Freezable

_NAN = float("nan")
_FLOAT32 = torch.float32
_FLOAT32_MAX = torch.finfo(torch.float32).max
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


@dataclass(frozen=True, eq=False)
class Records:
    """Consecutive records of one loss, as arrays of one length.

    Args:
        name: Name of the loss.
        step: Steps, int64.
        epoch: Epochs, float64.
        loss: Means of the weighted results, float64.
        weight: Weights applied, float64.
        unweighted: Means of the results before weighting, float64.
    """

    name: str
    step: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.float64]
    loss: npt.NDArray[np.float64]
    weight: npt.NDArray[np.float64]
    unweighted: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)


class Series:
    """The records of one loss since the last flush, and its last record.

    On the CPU a value is taken at once. On any other device the result is kept as it is, in blocks, until
    `settle` reads them all with one wait.

    Args:
        name: Name of the loss.
        keep: Whether all records are kept, or only the last.
        on_nonfinite: Called with `(series, step, epoch, value)` for a weighted value that is nan or infinite.
    """

    __slots__ = (
        "_blocks",
        "_epochs",
        "_last",
        "_losses",
        "_on_nonfinite",
        "_pending",
        "_unweighted",
        "_weights",
        "count",
        "dtype",
        "keep",
        "name",
        "result",
        "steps",
    )

    def __init__(self, name: str, keep: bool, on_nonfinite: Callable[[Series, int, float, float], None]) -> None:
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
        self._on_nonfinite = on_nonfinite

    def __len__(self) -> int:
        return len(self.steps)

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
            self._unweighted.append(value)
            self._weights.append(weight)
            self._epochs.append(epoch)
            try:
                self.steps.append(step)
            except OverflowError:
                self._widen_steps(step)
        else:
            self._last = (step, epoch, None, weight, value)
        if not -_FLOAT32_MAX <= value * weight <= _FLOAT32_MAX:
            self._on_nonfinite(self, step, epoch, weighted.item())

    def add_number(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        """Record a value before and after weighting."""
        self.count += 1
        self._put(step, epoch, weight, raw, weighted)
        if weighted - weighted != 0.0:
            self._on_nonfinite(self, step, epoch, weighted)

    def _put(self, step: int, epoch: float, weight: float, raw: float, weighted: float) -> None:
        if not self.keep:
            self._last = (step, epoch, weighted, weight, raw)
            return
        self._complete()
        # First what may refuse a value that is no number, so that the columns keep one length.
        self._losses.append(weighted)
        self._unweighted.append(raw)
        self._weights.append(weight)
        self._epochs.append(epoch)
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

    def add_zero(self, step: int, epoch: float) -> None:
        """Record that a weight of 0 left the function uncalled."""
        self.result = None
        self.dtype = _FLOAT32
        self.add_number(step, epoch, 0.0, _NAN, 0.0)

    def _add_tensor(self, step: int, epoch: float, weight: float, raw: Tensor, weighted: Tensor) -> None:
        self.dtype = raw.dtype
        if raw.is_cpu and not raw.ndim:
            self.result = None
            self.add_number(step, epoch, weight, raw.item(), weighted.item())
            return
        # Not the weighted result, which the user may edit in place.
        self.result = result = raw.detach()
        if raw.is_cpu:
            self.add_number(step, epoch, weight, _mean(result).item(), _mean(weighted.detach()).item())
            return
        self.count += 1
        if not self.keep:
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
            return [_Block(self, [0], raw[None], None if weighted is None else weighted[None])]
        if self._pending:
            self._pack()
        blocks, self._blocks = self._blocks, []
        return blocks

    def fill(self, indices: list[int], raw: list[float], weighted: list[float] | None, dtype: torch.dtype) -> None:
        """Put values that were read from a device where they belong; without `weighted`, weigh them here."""
        if weighted is None:
            weights = [self._last[3]] if self._last and not self.keep else [self._weights[i] for i in indices]
            weighted = _weigh(raw, weights, dtype)
        if not self.keep and self._last is not None:
            step, epoch, _, weight, _ = self._last
            self._last = (step, epoch, weighted[0], weight, raw[0])
            if weighted[0] - weighted[0] != 0.0:
                self._on_nonfinite(self, step, epoch, weighted[0])
            return
        for index, value, product in zip(indices, raw, weighted, strict=True):
            self._unweighted[index] = value
            self._losses[index] = product
            if product - product != 0.0:
                self._on_nonfinite(self, self.steps[index], self._epochs[index], product)

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

    def last_weight(self) -> float | None:
        """Return the weight that was last applied, None before the first record."""
        if self._weights:
            return self._weights[-1]
        return None if self._last is None else self._last[3]

    def last_tensor(self) -> Tensor:
        """Return the last weighted result, detached, on its device and in its dtype; nan before the first."""
        last = self.last()
        if last is None:
            return torch.tensor(_NAN)
        if self.result is not None:
            return self.result * last[3] if last[3] else torch.zeros_like(self.result)
        return torch.tensor(last[2], dtype=self.dtype)

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
            np.array(self.steps, dtype=np.int64),
            *(
                np.array(column, dtype=np.float64)
                for column in (self._epochs, self._losses, self._weights, self._unweighted)
            ),
        )

    def drop(self, count: int) -> None:
        """Forget the oldest records, settled before; the last one stays known."""
        if count and self.steps:
            self._last = self.last()  # which completes the columns, too
        for column in (self.steps, self._epochs, self._losses, self._weights, self._unweighted):
            del column[:count]


@dataclass
class _Block:
    """Values of one series that are still on a device: before weighting, and after where those differ."""

    series: Series
    indices: list[int]
    raw: Tensor
    weighted: Tensor | None


def settle(series: Iterable[Series]) -> None:
    """Read what is still on a device into its series, with one wait for each device and dtype."""
    groups: dict[Any, list[_Block]] = {}
    for one in series:
        for block in one.take_blocks():
            groups.setdefault((block.raw.device, block.raw.dtype), []).append(block)
    for blocks in groups.values():
        tensors = [tensor for block in blocks for tensor in (block.raw, block.weighted) if tensor is not None]
        # A tensor on the meta device has no value to read: what it would be is not a number.
        read = torch.cat(tensors)
        values = [_NAN] * len(read) if read.is_meta else read.tolist()
        start = 0
        for block in blocks:
            count = len(block.indices)
            raw, start = values[start : start + count], start + count
            weighted = None
            if block.weighted is not None:
                weighted, start = values[start : start + count], start + count
            block.series.fill(block.indices, raw, weighted, block.raw.dtype)


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
        factors = torch.tensor(weights, dtype=precise)
        # As when it was computed, a weight of 0 gives 0 whatever it meets.
        product = torch.where(factors == 0, 0.0, torch.tensor(values, dtype=precise) * factors)
        return product.to(dtype).tolist()
