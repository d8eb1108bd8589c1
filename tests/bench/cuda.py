"""On a CUDA device: kernels and stalls of a step, its overhead, memory held, and every loss beside other code."""

from __future__ import annotations

import importlib
import time
import warnings
from collections.abc import Callable, Iterator
from functools import reduce
from operator import add
from typing import Any

import torch
from beside import rows_of
from interleaved import times
from table import Row, compared, duration
from torch import Tensor, nn

from nectargan_core import LossManager

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WEIGHTS = {f"loss{number}": 1.0 + number for number in range(8)}
FULL = "pix2pix:extended+vgg"
LOSSES = ("image", "edges", "ssim", "vgg", "lpips", "gan", "segmentation")
"""Which `losses_*.py` are measured on the device, too."""

BY_HAND, KEPT, BARE = "by hand, .item() into lists", "by hand, tensors into lists", "the bare sum"

Step = Callable[[], object]


def images(device: str) -> tuple[Tensor, Tensor]:
    """Return two images, of which the first takes a gradient."""
    x, y = torch.rand(2, 1, 3, 64, 64, device=device).unbind()
    return x.clone().requires_grad_(), y


def eight(x: Tensor, y: Tensor) -> dict[str, Step]:
    """Return a step of eight losses, forward and backward, by way of recording them."""
    loss = nn.L1Loss()
    numbers: dict[str, list[float]] = {name: [] for name in WEIGHTS}
    tensors: dict[str, list[Tensor]] = {name: [] for name in WEIGHTS}

    def bare() -> list[Tensor]:
        x.grad = None
        results = [weight * loss(x, y) for weight in WEIGHTS.values()]
        reduce(add, results).backward()  # type: ignore[no-untyped-call]  # untyped in torch
        return results

    def by_hand() -> None:
        for kept, result in zip(numbers.values(), bare(), strict=True):
            kept.append(result.item())

    def kept() -> None:
        for each, result in zip(tensors.values(), bare(), strict=True):
            each.append(result.detach())

    def managed(logging: bool) -> Step:
        manager = LossManager(enable_logging=logging, flush_every=1e9)
        for name, weight in WEIGHTS.items():
            manager.register_loss_fn(name, loss, weight)
        inputs = {"y_fake": x, "y": y}

        def step() -> None:
            x.grad = None
            manager.tick(epoch=0)
            manager.compute_losses(inputs).total.backward()  # type: ignore[no-untyped-call]  # untyped in torch

        return step

    return {
        BARE: bare,
        BY_HAND: by_hand,
        KEPT: kept,
        "ours, logging off": managed(False),
        "ours, logging on": managed(True),
    }


def full_objective(device: str, size: int = 64, batch: int = 1) -> Step:
    """Return a training step of both networks of a small GAN, forward and backward, with the full objective.

    Args:
        device: Where; on `meta` nothing is computed, and what would wait for a device is an error.
        size: Height and width of the images.
        batch: How many there are.
    """
    torch.manual_seed(0)
    options = {} if device == "meta" else {"vgg": {"checkpoint": "random"}}
    manager = LossManager.from_spec(FULL, device=device, options=options, enable_logging=True, flush_every=1e9)
    generator = nn.Conv2d(3, 3, 3, padding=1, device=device)
    discriminator = nn.Sequential(
        nn.Conv2d(6, 8, 4, 2, 1, device=device), nn.LeakyReLU(0.2), nn.Conv2d(8, 1, 4, device=device)
    )
    x, y = (torch.rand(2, batch, 3, size, size, device=device) * 2 - 1).unbind()

    def judged(image: Tensor) -> Tensor:
        said: Tensor = discriminator(torch.cat([x, image], 1))
        return said

    def step() -> None:
        manager.tick(epoch=0)
        y_fake = torch.tanh(generator(x))
        inputs: dict[str, Any] = {"x": x, "y": y, "y_fake": y_fake, "pred_fake": lambda: judged(y_fake)}
        manager.compute_losses(inputs, query="G").total.backward()  # type: ignore[no-untyped-call]
        inputs = {"pred_real": judged(y), "pred_fake": judged(y_fake.detach())}
        manager.compute_losses(inputs, query="D").total.backward()  # type: ignore[no-untyped-call]
        for network in (generator, discriminator):
            network.zero_grad()

    step.manager = manager  # type: ignore[attr-defined]  # what it has recorded can be looked at
    return step


def launches(step: Step) -> int:
    """Return how many kernels and copies a step launches."""
    step()
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities) as profile:
        step()
        torch.cuda.synchronize()
    calls = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaMemcpyAsync")
    return sum(event.count for event in profile.key_averages() if event.key in calls)


def stalls(step: Step, count: int) -> int:
    """Return how often steps wait for the device."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(count):
                step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing" in str(warning.message) for warning in caught)


def never_waits(step: Step, count: int) -> Row:
    """Take steps under `set_sync_debug_mode("error")`, where the first that waits raises."""
    step()
    what, beside = f"stalls in {count:,} steps of {FULL}", "by hand: one for each value"
    torch.cuda.set_sync_debug_mode("error")
    try:
        for done in range(count):
            try:
                step()
            except RuntimeError as error:
                return Row(what, beside, note=f"step {done} waits: {str(error).splitlines()[0]}")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return Row(what, beside, 0.0, 0.0, 0.0, 0.0, 'none under set_sync_debug_mode("error")')


def held(step: Step, count: int = 1000) -> tuple[int, int]:
    """Return how many bytes of the device more are in use after so many steps, and how many at the peak."""
    step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in range(count):
        step()
    torch.cuda.synchronize()
    return torch.cuda.memory_allocated() - before, torch.cuda.max_memory_allocated() - before


def steps_on(device: str, calls: int = 50, rounds: int = 20) -> Iterator[Row]:
    """Yield what the ways to record cost beside the bare sum; the time until the device has done it all."""
    ways = eight(*images(device))

    def several(step: Step) -> Step:
        def take() -> None:
            for _ in range(calls):
                step()
            if device == "cuda":
                torch.cuda.synchronize()

        return take

    taken = times({name: several(step) for name, step in ways.items()}, 1, rounds, time.perf_counter)
    for name in list(ways)[1:]:
        note = duration(sorted(taken[name])[rounds // 2] / calls)
        yield compared(f"eight losses: {name}", BARE, taken[name], taken[BARE], note=note)


def on_device() -> Iterator[Row]:
    """Yield what only a CUDA device can tell."""
    ways = eight(*images("cuda"))
    ours, bare = "ours, logging on", launches(ways[BARE])
    for name in list(ways)[1:]:
        count = launches(ways[name])
        yield compared(f"kernels of eight losses: {name}", BARE, [count], [bare], note=f"{count} kernels and copies")
    found = {name: stalls(ways[name], 100) for name in (BY_HAND, ours)}
    note = f"{found[ours]} and {found[BY_HAND]} stalls in 100 steps"
    yield compared("stalls of eight losses: ours, logging on", BY_HAND, [found[ours]], [found[BY_HAND]], 0.0, note)
    yield never_waits(full_objective("cuda", 256), 1000)
    ways = eight(*images("cuda"))
    memory = {name: held(ways[name]) for name in (KEPT, ours)}
    for position, what in enumerate(("memory held after 1,000 steps", "memory at the peak")):
        note = f"{memory[ours][position] / 1e3:.0f} kB, and {memory[KEPT][position] / 1e3:.0f} kB"
        one, other = ([memory[name][position]] for name in (ours, KEPT))
        yield compared(f"{what}: {ours}", KEPT, one, other, note=note)


def rows() -> Iterator[Row]:
    """Yield all rows; where there is no CUDA device, one that says so."""
    if not torch.cuda.is_available():
        yield Row("everything on a CUDA device", BARE, note="no CUDA device here; python tests/bench cuda on one")
        return
    yield from on_device()
    yield from steps_on("cuda")
    for name in LOSSES:
        module = importlib.import_module(f"losses_{name}")
        yield from rows_of(module.pairs(), "cuda")
        if name == "vgg":
            yield from rows_of(module.other_ways(), "cuda")
