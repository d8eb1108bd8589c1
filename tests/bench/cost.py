"""What each loss of this project costs as a multiple of L1: docs/costs.json, for the table of docs/losses.md."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nectargan_core import LossManager, catalog
from nectargan_core.catalog._first_party import FIRST_PARTY
from nectargan_core.objectives import SpecDescription, describe_spec

COSTS = Path(__file__).parents[2] / "docs" / "costs.json"
BATCH, SIZE = 8, 256
SECONDS = 2.0
WAVEFORMS = {"nectargan-audio", "nectargan-hifigan"}
"""The distributions whose `y_fake` and `y` are waveforms."""

# Each as large as images of 3x256x256 make it: predictions and features of the discriminator of pix2pix, the latents of
# latent diffusion, the codes of VQGAN, the patches of CUT. None: a network of the training loop, or what it needs.
Shape = tuple[int, ...] | list[tuple[int, ...]] | None
INPUTS: Mapping[tuple[str, ...], Shape] = {
    ("x", "y", "y_fake", "y_ema", "y_usm"): (3, SIZE, SIZE),
    ("real_a", "rec_a", "identity_a", "real_b", "rec_b", "identity_b"): (3, SIZE, SIZE),
    ("mask",): (1, SIZE, SIZE),
    ("logits", "distances"): (4, SIZE, SIZE),
    ("labels",): (SIZE, SIZE),
    ("pred_real", "pred_fake"): (1, 30, 30),
    ("pred_real_a", "pred_fake_a", "pred_real_b", "pred_fake_b"): (1, 30, 30),
    ("features_real", "features_fake"): [(64, 128, 128), (128, 64, 64), (256, 32, 32), (512, 31, 31)],
    ("mu", "logvar"): (4, 32, 32),
    ("z_e", "z_q"): (256, 16, 16),
    ("codebook_loss",): (1,),
    ("patches_fake", "patches_real", "patches_identity", "patches_y"): [(256, 256)] * 5,
    ("queries", "keys"): (128,),
    ("discriminator", "last_layer", "w"): None,
}
SHAPES = {name: shape for names, shape in INPUTS.items() for name in names}
CONSTANTS = {"y", "y_ema", "y_usm", "real_a", "real_b", "mask", "distances", "features_real"}
WEIGHTS = {"checkpoint": "random", "backbone": "random", "heads": "equal", "weights": "equal"}
"""What the options that name a file with weights are given."""


def made(name: str, device: str, waveforms: bool) -> Tensor | list[Tensor] | None:
    """Make an input; None where it is a network."""
    if name not in SHAPES:
        raise SystemExit(f"tests/bench/cost.py: say in INPUTS how large the input {name!r} is; None if it is a network")
    shape = SHAPES[name]
    if waveforms and name in ("y_fake", "y"):
        shape = (1, 3 * SIZE * SIZE)
    if shape is None:
        return None
    if name == "labels":
        return torch.randint(0, 4, (BATCH, *shape), device=device)
    tensors = [
        torch.rand(BATCH, *each, device=device).mul_(2).sub_(1).requires_grad_(name not in CONSTANTS)
        for each in (shape if isinstance(shape, list) else [shape])
    ]
    return tensors if isinstance(shape, list) else tensors[0]


def step_of(name: str, spec: SpecDescription, device: str) -> Callable[[], None] | None:
    """Return a function that goes forward and backward through all losses of a name; None if one calls a network."""
    random = {option.name: WEIGHTS[option.name] for option in spec.options if "PathLike" in option.type}
    losses = LossManager.from_spec(name, device=device, options={spec.name: random}).get_registered_losses().values()
    names = {name for loss in losses for name in loss.inputs}
    inputs = {each: made(each, device, spec.distribution in WAVEFORMS) for each in names}
    if None in inputs.values():
        return None
    leaves = [tensor for each in inputs.values() for tensor in (each if isinstance(each, list) else [each])]

    def step() -> None:
        for leaf in leaves:
            leaf.grad = None
        results = [loss.function(*(inputs[each] for each in loss.inputs)) for loss in losses]
        terms = [term for result in results for term in (result.values() if isinstance(result, dict) else [result])]
        torch.autograd.backward([term.mean() for term in terms])

    return step


def seconds(step: Callable[[], Any], device: str) -> float:
    """Measure one call: the time of the thread on a CPU, and until all is done on a GPU."""
    if device == "cpu":
        start = time.thread_time()
        step()
        return time.thread_time() - start
    calls = 10
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(calls):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / calls


def ratio(step: Callable[[], Any], beside: Callable[[], Any], device: str) -> float:
    """Return how much longer a step takes than another one: of the medians of both, measured in turn."""
    first = seconds(step, device)
    rounds = min(30, max(3, int(SECONDS / first)))
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(seconds(step, device))
        beside()  # which what went before left without memory and caches
        theirs += [seconds(beside, device) for _ in range(3)]
    return statistics.median(ours) / statistics.median(theirs)


def rounded(value: float) -> float:
    """Return the nearest of 1, 2 and 5 times a power of ten."""
    power = math.floor(math.log10(value))
    steps = [float(f"{digit}e{power + more}") for more in (0, 1) for digit in (1, 2, 5)]
    nearest = min(steps, key=lambda step: abs(math.log(step / value)))
    return int(nearest) if nearest >= 1 else nearest


def measured(device: str, before: Mapping[str, float | None]) -> dict[str, float | None]:
    """Measure every loss spec of this project; a figure of before stays if it is within a factor of two."""
    described = {name: describe_spec(f"{owner}/{name}") for name, owner in sorted(FIRST_PARTY[catalog.SPECS].items())}
    beside = step_of("l1", described["l1"], device)
    found: dict[str, float | None] = {}
    for spec in described.values():
        for variant in spec.variants:
            name = spec.name if variant.name is None else f"{spec.name}:{variant.name}"
            step = step_of(name, spec, device)
            if step is None or beside is None:
                found[name] = None
                print(f"{name:<32}{'a network of yours':>24}", flush=True)
                continue
            value, old = ratio(step, beside, device), before.get(name)
            found[name] = old if old is not None and old / 2 < value < old * 2 else rounded(value)
            print(f"{name:<32}{value:>12.3g}{found[name]:>12g}", flush=True)
    return found


def main() -> None:
    """Measure on the CPU, and on the GPU if there is one, and write what changed."""
    before = json.loads(COSTS.read_text(encoding="utf-8"))
    after = dict(before)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for device in ("cpu", *(["cuda"] if torch.cuda.is_available() else [])):
            label = "CPU" if device == "cpu" else torch.cuda.get_device_name()
            print(f"Losses as multiples of L1, forward + backward, {label} (measured, and as docs/costs.json has it)")
            after[label] = measured(device, before.get(label, {}))
    finally:
        torch.set_num_threads(threads)
    COSTS.write_text(json.dumps(after, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
