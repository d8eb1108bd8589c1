"""What `nectargan-pix2pix demo` does: filter, train on two objectives at once, compare, and write what to look at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from nectargan_core import LossManager, Schedule, write_report
from nectargan_pix2pix import photos, writing
from nectargan_pix2pix.batches import Batches
from nectargan_pix2pix.demo import classical
from nectargan_pix2pix.demo.comparison import Column, draw
from nectargan_pix2pix.demo.networks import SmallNetworks
from nectargan_pix2pix.options import OptionError
from nectargan_pix2pix.photos import Pair, Photographs
from nectargan_pix2pix.quality import detail, ssim
from nectargan_pix2pix.report import aligned, psnr
from nectargan_pix2pix.training import Learned, train, translate

COMPARISON = "comparison.png"
REPORT = "report.html"
SUMMARY = "summary.txt"
_NAMES = (COMPARISON, REPORT, SUMMARY)
_BATCH_SIZE = 8
_SEED = 0
# The held-out photographs are restored, and their PSNR recorded, after so many epochs.
_MEASURED_EVERY = 6


class Trial(NamedTuple):
    """An objective that is trained on.

    Args:
        name: What it is called; its log is in a folder of this name in small letters.
        formula: The objective.
        schedules: How the weights of losses change.
        epochs: The number of epochs.
    """

    name: str
    formula: str
    schedules: Mapping[str, Schedule]
    epochs: int

    def __str__(self) -> str:
        changing = [f", {loss} scheduled from {schedule.initial_value:g}" for loss, schedule in self.schedules.items()]
        return f"{self.name}  {self.formula}{''.join(changing)}"


# Scratches and noise are removed first; whether texture is real can be judged once they are gone.
_RISING = Schedule(unit="fraction", start_epoch=0.25, end_epoch=0.75, initial_value=0.0)
TRIALS = (
    Trial("A", "100*l1", {}, 60),
    Trial("B", "0.3*gan + 100*l1 + 10*sobel", {"G_GAN": _RISING}, 48),
)

_EXPLANATION = """\
A is trained to be near the original on average, so that what is uncertain comes out smooth.
B is for texture, not for PSNR: its adversarial and edge losses bring back fine detail.
Some of that is invented, which costs PSNR.
detail: how strong the finest detail is, in percent of the original's; scratches and noise count, too."""


class Scores(NamedTuple):
    """How near restored photographs are to the originals, as means, and how many seconds it took to get there."""

    psnr: float
    ssim: float
    detail: float
    seconds: float | None


class _Restored(NamedTuple):
    """The held-out photographs as restored by a trained network, and how many seconds the training took."""

    images: list[Tensor]
    seconds: float


def run(out: Path, console: Console, trials: Sequence[Trial] = TRIALS) -> dict[str, Scores]:
    """Restore scratched prints with filters and with networks trained on objectives, and write what to look at.

    Args:
        out: The directory of the files; what an earlier demo has left there is replaced.
        console: Where progress and results are shown.
        trials: The objectives.

    Returns:
        The scores of the input, of the filters, and of each trial by its name.

    Raises:
        OptionError: If a file cannot be written to the directory.
        NectarganError: If another demo is at work there, or an objective cannot be built.
    """
    _check_places(out)
    photographs = photos.sample_photographs()
    pairs = [photographs.held_out[index] for index in range(len(photographs.held_out))]
    inputs, targets = [x for x, _ in pairs], [y for _, y in pairs]
    with ExitStack() as stack:
        # Nothing of an earlier demo is removed before all logs are locked.
        managers = [stack.enter_context(_manager(trial, out)) for trial in trials]
        _remove_former(out, trials)
        _say(console, f"{photographs.description}\n")
        began = time.monotonic()
        filtered = [classical.restore(x) for x in inputs]
        seconds = time.monotonic() - began
        scores = {"input": _scores(inputs, targets), "filters": _scores(filtered, targets, seconds)}
        for name, one in scores.items():
            _say(console, f"{name}: {one.psnr:.2f} dB")
        _say(console, "\n".join(["", *map(str, trials)]))
        restored = _train_all(trials, managers, photographs, pairs, console)
    scores |= {
        trial.name: _scores(images, targets, seconds) for trial, (images, seconds) in zip(trials, restored, strict=True)
    }
    table = _table(scores, trials)
    _say(console, f"\n{table}\n")
    columns = [
        Column("input", "scratched print", inputs),
        Column("classical filters", "top-hat, inpainting, variation", filtered),
        *(Column(trial.name, trial.formula, one.images) for trial, one in zip(trials, restored, strict=True)),
        Column("target", "photograph", targets),
    ]
    try:
        writing.replace(out / SUMMARY, f"{table}\n".encode())
        draw(columns, targets, out / COMPARISON)
    except OSError as error:
        raise OptionError(f"cannot write to {out}: {error.strerror or error}", option="--out") from error
    runs = {trial.name: _folder(trial, out) for trial in trials}
    write_report(runs, out / REPORT, {"Parts of photographs that were not trained on": out / COMPARISON})
    _say(console, f"Look at {out / COMPARISON} and {out / REPORT}.")
    return scores


# The directory


def _check_places(out: Path) -> None:
    """Raise if the files of a demo cannot be written to a directory."""
    try:
        writing.check_writable(out)
        for name in _NAMES:
            if (out / name).is_dir():
                raise IsADirectoryError(0, f"{name} is a directory there; move it away")
    except OSError as error:
        raise OptionError(
            f"nothing can be written to {out}: {error.strerror or error}; choose another --out", option="--out"
        ) from error


def _remove_former(out: Path, trials: Sequence[Trial]) -> None:
    """Remove what an earlier demo has left in a directory, and nothing else."""
    logs = [path for trial in trials for path in _folder(trial, out).glob("loss_log*.jsonl")]
    for path in [*logs, *(out / name for name in _NAMES)]:
        path.unlink(missing_ok=True)


def _folder(trial: Trial, out: Path) -> Path:
    return out / trial.name.lower()


# The training


def _manager(trial: Trial, out: Path) -> LossManager:
    return LossManager.from_spec(
        trial.formula,
        experiment_dir=_folder(trial, out),
        device="cpu",
        total_epochs=trial.epochs,
        schedules=dict(trial.schedules) or None,
    )


def _train_all(
    trials: Sequence[Trial],
    managers: Sequence[LossManager],
    photographs: Photographs,
    pairs: Sequence[Pair],
    console: Console,
) -> list[_Restored]:
    """Train on all objectives at once, each in a thread, and return what the networks make of the held-out images."""
    batches = Batches(photographs.training, _BATCH_SIZE, _SEED)
    stopping = threading.Event()
    with _one_thread_each(), _Shown(trials, len(batches), console) as shown, ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(_train, trial, manager, networks, batches, pairs, partial(shown.note, trial), stopping)
            for trial, manager, networks in zip(trials, managers, _networks(trials), strict=True)
        ]
        try:
            # Ctrl-C arrives here.
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Whoever is still at work ends after the present step.
            stopping.set()
    return [future.result() for future in futures]


def _networks(trials: Sequence[Trial]) -> list[SmallNetworks]:
    """Return networks for each trial, which begin with the same weights."""
    networks = []
    with torch.random.fork_rng(devices=[]):
        for trial in trials:
            torch.manual_seed(_SEED)
            networks.append(SmallNetworks(trial.epochs))
    return networks


def _train(
    trial: Trial,
    manager: LossManager,
    networks: SmallNetworks,
    batches: Batches,
    pairs: Sequence[Pair],
    note: Callable[[int, float | None], None],
    stopping: threading.Event,
) -> _Restored:
    """Train on one objective; the loop is that of `nectargan-pix2pix train`, and names no loss."""
    began = time.monotonic()
    images: list[Tensor] = []
    for done in train(manager, networks, Learned(manager, networks), batches, trial.epochs):
        epoch, within = divmod(done, len(batches))
        mean = None
        if not within and (epoch % _MEASURED_EVERY == 0 or epoch == trial.epochs):
            images = [translate(networks.generator, x, networks.device).clamp(-1, 1) for x, _ in pairs]
            mean = float(np.mean([psnr(image, y) for image, (_, y) in zip(images, pairs, strict=True)]))
            with manager.split("val"):
                manager.record("psnr", mean)
        note(done, mean)
        if stopping.is_set():
            break
    # Here, so that the log ends with this training, and not with the longer one of the two.
    manager.close()
    return _Restored(images, time.monotonic() - began)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let each training have one thread, so that results do not depend on the number of processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# What is shown


class _Shown:
    """How far the trainings are: bars on a terminal, otherwise a line for each PSNR."""

    def __init__(self, trials: Sequence[Trial], per_epoch: int, console: Console) -> None:
        self._console = console
        self._per_epoch = per_epoch
        psnr_of = TextColumn("{task.fields[psnr]}")
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            psnr_of,
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks = {
            trial.name: self._progress.add_task(trial.name, total=trial.epochs * per_epoch, psnr="") for trial in trials
        }

    def __enter__(self) -> _Shown:
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._progress.stop()

    def note(self, trial: Trial, done: int, psnr: float | None) -> None:
        """Show that so many steps of a trial are done, and the PSNR where it was measured."""
        self._progress.update(self._tasks[trial.name], completed=done)
        if psnr is not None:
            self._progress.update(self._tasks[trial.name], psnr=f"{psnr:.2f} dB")
        if psnr is not None and not self._console.is_terminal:
            _say(self._console, f"{trial.name}: epoch {done // self._per_epoch} of {trial.epochs}, {psnr:.2f} dB")


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


# The scores


def _scores(images: Sequence[Tensor], targets: Sequence[Tensor], seconds: float | None = None) -> Scores:
    pairs = list(zip(images, targets, strict=True))

    def mean(measure: Callable[[Tensor, Tensor], float]) -> float:
        return float(np.mean([measure(image, y) for image, y in pairs]))

    return Scores(mean(psnr), mean(ssim), mean(detail), seconds)


def _table(scores: Mapping[str, Scores], trials: Sequence[Trial]) -> str:
    """Return the scores as lines of text, with what they say."""
    names = {"filters": "classical filters", **{trial.name: str(trial) for trial in trials}}
    rows = [(f"held-out photographs, mean of {len(photos.HELD_OUT_PHOTOS)}", "PSNR, dB", "SSIM", "detail", "seconds")]
    for name, one in scores.items():
        seconds = "" if one.seconds is None else f"{one.seconds:.0f}"
        rows.append((names.get(name, name), f"{one.psnr:.2f}", f"{one.ssim:.3f}", f"{one.detail:.0%}", seconds))
    return "\n".join([*aligned(rows), "", _EXPLANATION])
