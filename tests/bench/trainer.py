"""The trainer of nectargan-pix2pix over 30 epochs, all included, beside a loop by hand that keeps no log.

Each is a process of its own, from its start to its end, on one thread and on the same folder of images. Both train the
same networks on the same losses in as many steps; the loop is in `_trainer_by_hand.py`. It prints the losses of each
epoch, and writes a checkpoint at the end. The trainer also tries a step first, logs every step, writes a checkpoint
after each epoch, measures the held-out images and draws a grid after every third, and then the curves, the report and
the closing table. How long it takes says what is measured; the CPU time is the same, but for waiting, and holds on a
machine that does other things.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from nectargan_pix2pix.images import to_image
from nectargan_pix2pix.photos import sample_photographs
from table import Row, compared

HERE = Path(__file__).parent
ROUNDS = 3
EPOCHS, SIZE, TRAINING, HELD_OUT = 30, 64, 128, 32
BY_HAND = "a loop by hand"
LOOP = "import runpy, sys, torch; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def write_images(folder: Path) -> None:
    """Write crops of scratched photographs beside the originals: a folder as the trainer reads it."""
    crops = sample_photographs(SIZE).training
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", TRAINING), ("val", HELD_OUT)):
        (folder / part).mkdir(parents=True)
        for number in range(count):
            pair = crops.take(number, generator)
            to_image(torch.cat(pair, dim=2)).save(folder / part / f"{number:04}.png")


def commands(folder: Path) -> dict[str, list[str]]:
    """Return what is measured, as the arguments of a process: first the loop by hand."""
    data = str(folder / "data")
    trainer = ["-m", "nectargan_pix2pix", "train", "--data", data, "--epochs", str(EPOCHS), "--device", "cpu"]
    return {
        # torch comes first, while this folder is not on the path: it tries to import a `cuda` of its own.
        BY_HAND: ["-c", LOOP, str(HERE / "_trainer_by_hand.py"), data, str(EPOCHS), str(folder / "by_hand.pt")],
        "the trainer": [*trainer, "--out", str(folder / "run"), "--overwrite"],
    }


def run(arguments: list[str]) -> tuple[float, float]:
    """Return the seconds that a process takes, by the clock and of CPU time; it has to succeed."""
    before, start = os.times(), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed: {done.stderr}")
    return seconds, after.children_user + after.children_system - before.children_user - before.children_system


def rows() -> Iterator[Row]:
    """Yield a row of the time and one of the CPU time."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        write_images(folder / "data")
        ways = commands(folder)
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, arguments in ways.items():
                taken[name].append(run(arguments))
    hand, ours = (list(zip(*rounds, strict=True)) for rounds in taken.values())
    images = EPOCHS * TRAINING
    for what, one, another in zip(("", ": CPU time"), ours, hand, strict=True):
        rates = " beside ".join(f"{images / sorted(each)[len(each) // 2]:.3g}" for each in (one, another))
        yield compared(f"the trainer, {EPOCHS} epochs{what}", BY_HAND, one, another, 1.1, f"{rates} images a second")
