"""Losses, forward and backward, beside the libraries or plain code that people use for them."""

from __future__ import annotations

import importlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from interleaved import times
from table import Row, compared, duration
from torch import Tensor, nn

Inputs = Callable[[int], Sequence[Any]]

BATCHES = (1, 8)
OF_NETWORKS = (1,)
"""The sizes of batches on a CPU for losses that run a network, which take seconds."""

INSTALL = {
    "auraloss": "auraloss",
    "DISTS-pytorch": "dists-pytorch",
    "kornia": "kornia kornia-rs",
    "lpips": "lpips tqdm",
    "MONAI": "monai",
    "piq": "piq",
    "pytorch-msssim": "pytorch-msssim",
    "the authors' package": "focal-frequency-loss",
    "torchmetrics": "torchmetrics",
}
"""What of `of` is a library, with what pip installs for it."""

# Each measurement takes about as long, in as many rounds as fit, and never in fewer than three.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS, LEAST_SECONDS = 1.0, 3, 30, 0.01


@dataclass(frozen=True)
class Pair:
    """A loss beside another implementation of it.

    Args:
        loss: Its name.
        of: Whose the other implementation is.
        theirs: The other one; None where it is not installed. Of what either returns, a dict is summed up.
        ours: This project's.
        inputs: Makes the arguments of both for a batch size. The gradients are those of the tensors that require one.
        batches: The sizes of batches to measure on a CPU.
    """

    loss: str
    of: str
    theirs: Callable[..., Any] | None
    ours: Callable[..., Any]
    inputs: Inputs
    batches: tuple[int, ...] = BATCHES

    @property
    def install(self) -> str:
        """How the library of the other implementation is installed, as far as it has one."""
        return f"pip install --no-deps {INSTALL[self.of.partition(' (')[0]]}"


def library(name: str) -> Any:
    """Import a module of a library; return None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of Python and of torch
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def attribute(module: ModuleType | None, name: str) -> Any:
    """Return what a module has under a name; None where there is no module."""
    return None if module is None else getattr(module, name)


def images(low: float = -1.0, high: float = 1.0, count: int = 2, shape: Sequence[int] = (3, 256, 256)) -> Inputs:
    """Return what makes images: the first is generated, and the others are near to it."""

    def make(batch: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(0)
        y = torch.rand(batch, *shape, generator=generator) * (high - low) + low
        noise = torch.randn(count - 1, *y.shape, generator=generator) * 0.1 * (high - low)
        y_fake = (y + noise[0]).clamp(low, high) if count > 1 else y
        return [y_fake.requires_grad_(), *([y] if count > 1 else []), *(y + each for each in noise[1:])]

    return make


def rows_of(pairs: Iterable[Pair], device: str = "cpu") -> Iterator[Row]:
    """Measure losses, and yield a row for each and each size of batch.

    Args:
        pairs: What is measured.
        device: Where.
    """
    for pair in pairs:
        for batch in pair.batches if device == "cpu" else BATCHES:
            if pair.theirs is None:
                yield Row(f"{pair.loss}, batch {batch}", pair.of, note=f"not installed: {pair.install}")
            else:
                yield _measured(pair, batch, device)


def _measured(pair: Pair, batch: int, device: str) -> Row:
    arguments = [_on(value, device) for value in pair.inputs(batch)]
    assert pair.theirs is not None  # for type checkers
    steps = {"theirs": _step(pair.theirs, arguments, device), "ours": _step(pair.ours, arguments, device)}
    values = {}
    taken = 0.0
    for name, step in steps.items():
        start = time.perf_counter()
        values[name] = float(step().detach())
        if time.perf_counter() - start < 1:  # the first takes longer, which matters where it is short
            start = time.perf_counter()
            step()
        taken += time.perf_counter() - start
    calls = max(1, math.ceil(LEAST_SECONDS / taken))
    rounds = min(MOST_ROUNDS, max(LEAST_ROUNDS, int(SECONDS / (taken * calls))))
    clock = time.thread_time if device == "cpu" else time.perf_counter
    found = times(steps, calls, rounds, clock)
    difference = abs(values["ours"] - values["theirs"]) / max(abs(values["theirs"]), 1e-12)
    note = f"{duration(statistics.median(found['ours']))}, values differ by {difference:.0e}"
    return compared(f"{pair.loss}, batch {batch}", pair.of, found["ours"], found["theirs"], 1.0, note)


def _step(loss: Callable[..., Any], arguments: Sequence[Any], device: str) -> Callable[[], Tensor]:
    if isinstance(loss, nn.Module):
        loss = loss.to(device)
    leaves = [leaf for value in arguments for leaf in _tensors(value) if leaf.requires_grad]

    def step() -> Tensor:
        for leaf in leaves:
            leaf.grad = None
        result = loss(*arguments)
        total: Tensor = torch.stack([*result.values()]).sum() if isinstance(result, dict) else result
        total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        if device != "cpu":
            torch.cuda.synchronize()
        return total

    return step


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, nn.Module):
        yield from value.parameters()


def _on(value: Any, device: str) -> Any:
    if isinstance(value, (list, tuple)):
        return [_on(each, device) for each in value]
    if isinstance(value, Tensor):
        return value.detach().to(device).requires_grad_(value.requires_grad)
    return value.to(device) if isinstance(value, nn.Module) else value
