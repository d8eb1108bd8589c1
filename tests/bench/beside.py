"""Tables of what losses cost, forward and backward, beside the libraries or plain code that people use for them."""

from __future__ import annotations

import importlib
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from interleaved import medians
from torch import Tensor, nn

Inputs = Callable[[int], Sequence[Any]]

BATCHES = (1, 8)
# Each measurement takes about as long, in as many rounds as fit, and never in fewer than three.
SECONDS, LEAST_ROUNDS, MOST_ROUNDS, LEAST_SECONDS = 4.0, 3, 40, 0.02


@dataclass(frozen=True)
class Row:
    """A loss beside another implementation of it.

    Args:
        loss: Its name.
        of: Whose the other implementation is.
        theirs: The other one; None where it is not installed. Of what either returns, a dict is summed up.
        ours: This project's.
        inputs: Makes the arguments of both for a batch size. The gradients are those of the tensors that require one.
    """

    loss: str
    of: str
    theirs: Callable[..., Any] | None
    ours: Callable[..., Any]
    inputs: Inputs


def library(name: str, install: str) -> Any:
    """Import a module of a library; where it is not installed, say how it is, and return None."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of Python and of torch
        try:
            return importlib.import_module(name)
        except ImportError as error:
            print(f"{name.partition('.')[0]} is not measured ({error}): {install}")
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


def print_table(title: str, rows: Iterable[Row], device: str = "cpu") -> None:
    """Measure rows, and print one line for each.

    Args:
        title: What the losses are of.
        rows: What is measured.
        device: Where.
    """
    clock = "CPU time of one thread" if device == "cpu" else f"time on {device}"
    print(f"{title}, forward + backward ({clock}, medians of interleaved runs): ours/theirs, aim: at most 1.0")
    print(f"{'loss':<26}{'of':<28}{'1x3x256x256':>12}{'8x3x256x256':>13}{'ours ms':>16}{'difference':>12}")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for row in rows:
            if row.theirs is None:
                print(f"{row.loss:<26}{row.of:<28}{'not measured':>12}")
                continue
            print(f"{row.loss:<26}{row.of:<28}", end="", flush=True)
            found = [_measured(row, batch, device) for batch in BATCHES]
            print(f"{found[0][0]:>12.2f}{found[1][0]:>13.2f}", end="")
            print(f"{' / '.join(f'{ours * 1e3:.3g}' for _, ours, _ in found):>16}{found[0][2]:>12.0e}", flush=True)
    finally:
        torch.set_num_threads(threads)


def device_of_command_line() -> str:
    """Return `cuda` where that is an argument of the program, as in `python tests/bench losses_vgg cuda`."""
    return "cuda" if "cuda" in sys.argv[1:] else "cpu"


def _measured(row: Row, batch: int, device: str) -> tuple[float, float, float]:
    """Return the ratio, our seconds, and by how much the values differ, relative to theirs."""
    arguments = [_on(value, device) for value in row.inputs(batch)]
    assert row.theirs is not None  # for type checkers
    steps = {"theirs": _step(row.theirs, arguments, device), "ours": _step(row.ours, arguments, device)}
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
    found = medians(steps, calls, rounds, clock)
    difference = abs(values["ours"] - values["theirs"]) / max(abs(values["theirs"]), 1e-12)
    return found["ours"] / found["theirs"], found["ours"], difference


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
