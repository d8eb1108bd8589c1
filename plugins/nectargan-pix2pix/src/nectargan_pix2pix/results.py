"""What a run leaves to look at: grids of held-out images, loss maps, curves, the report, and the closing table."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby, islice
from pathlib import Path

import numpy as np
import torch

from nectargan_core import LossLog, LossManager, write_report
from nectargan_core.errors import NectarganError, NectarganWarning
from nectargan_pix2pix import writing
from nectargan_pix2pix.photos import LARGEST_HELD_OUT, Pairs
from nectargan_pix2pix.report import Result, closing_table, draw_curves, draw_grid, psnr, trained
from nectargan_pix2pix.training import Networks

GRIDS = 8
ROWS = 4
# How many pixels are translated at once.
_PIXELS = LARGEST_HELD_OUT**2
SUMMARY = "summary.txt"
CURVES = "curves.png"
REPORT = "report.html"
NAMES = (CURVES, SUMMARY, REPORT)
GRIDS_FOLDER = "grids"
FILES = (*NAMES, f"{GRIDS_FOLDER}/epoch_*.png", f"{GRIDS_FOLDER}/maps_epoch_*.png")


class Results:
    """The pictures and the table of one run. Where one cannot be written, that is warned of.

    Args:
        out: The directory of the run.
        name: What the objective is called.
        held_out: The images to show.
        epochs: The number of epochs of the run.
        per_epoch: The number of steps in each.
    """

    def __init__(self, out: Path, name: str, held_out: Pairs, epochs: int, per_epoch: int) -> None:
        self._out = out
        self._name = name
        self._held_out = held_out
        self._epochs = epochs
        self._per_epoch = per_epoch
        # What was last measured: the mean PSNR of the output, and the pairs that a grid shows.
        self._measured: tuple[float, list[Result]] = (0.0, [])

    def measure(self, manager: LossManager, networks: Networks, epoch: int) -> bool:
        """Record the PSNR of held-out images after an epoch, from 1, if a grid is due then; return whether it is."""
        if not is_due(epoch, self._epochs):
            return False
        shown: list[Result] = []
        ratios = []
        for result in generated(networks, self._held_out):
            ratios.append(psnr(result.output, result.y))
            if len(shown) < ROWS:
                shown.append(result)
        mean = float(np.mean(ratios))
        with manager.split("val"):
            manager.record("psnr", mean)
        self._measured = mean, shown
        return True

    def draw_epoch(self, manager: LossManager, epoch: int) -> str:
        """Draw the grid of an epoch that was measured, and the loss maps of its last step; return what to say of it."""
        mean, shown = self._measured
        name = f"epoch_{epoch:04d}.png"
        is_written = self._draw(shown, f"epoch {epoch} of {self._epochs}", name)
        self._draw_maps(manager, name)
        place = f" in {self._out / GRIDS_FOLDER / name}" if is_written else ""
        return f"epoch {epoch}: output {mean:.2f} dB{place}"

    def draw_stop(self, manager: LossManager, networks: Networks, done: int) -> None:
        """Draw grid and loss maps of where a run ends after so many steps, unless they are drawn already."""
        epoch, step = divmod(done, self._per_epoch)
        if step:
            title = f"epoch {epoch + 1} of {self._epochs}, step {step} of {self._per_epoch}"
            name = f"epoch_{epoch + 1:04d}_step_{step:06d}.png"
        elif not is_due(epoch, self._epochs):
            title, name = f"epoch {epoch} of {self._epochs}", f"epoch_{epoch:04d}.png"
        else:
            return
        pairs = [self._held_out[index] for index in range(min(len(self._held_out), ROWS))]
        self._draw([Result(x, networks.generate(x), y) for x, y in pairs], title, name)
        self._draw_maps(manager, name)

    def report(self, networks: Networks) -> str:
        """Draw the curves, write the report, and write and return the closing table."""
        log = LossLog(self._out)
        _warn_of_divergence(log)
        with warning_of(self._out / CURVES) as path:
            draw_curves(log, path)
        ratios = [(psnr(x, y), psnr(output, y)) for x, output, y in generated(networks, self._held_out)]
        table = closing_table(log, ratios)
        with warning_of(self._out / SUMMARY) as path:
            writing.replace(path, f"{table}\n".encode())
        try:
            write_report(self._out, self._out / REPORT)
        except NectarganError as error:
            warnings.warn(str(error), NectarganWarning, stacklevel=2)
        return table

    def _draw(self, results: list[Result], title: str, name: str) -> bool:
        """Draw a grid of held-out images; return whether it is written."""
        with warning_of(self._out / GRIDS_FOLDER / name) as path:
            draw_grid(results, f"{self._name}, {title}", path)
            return True
        return False

    def _draw_maps(self, manager: LossManager, grid: str) -> None:
        """Draw the maps of the last step where losses returned some, in a file that is named for a grid."""
        names = [name for name, tensor in manager.get_loss_tensors().items() if tensor.ndim]
        if not names:
            return
        picture = io.BytesIO()
        with warning_of(self._out / GRIDS_FOLDER / f"maps_{grid}") as path:
            manager.save_loss_maps(picture, names)
            writing.replace(path, picture.getbuffer())


def generated(networks: Networks, pairs: Pairs) -> Iterator[Result]:
    """Yield pairs with what the generator makes of them.

    Images of one size that follow each other are translated together, as many as have no more pixels than the largest
    that is held out may have, so that this takes no more memory than one of those.
    """
    loaded = (pairs[index] for index in range(len(pairs)))
    for shape, alike in groupby(loaded, key=lambda pair: pair[0].shape):
        while some := list(islice(alike, max(1, _PIXELS // shape[1:].numel()))):
            outputs = networks.generate(torch.stack([x for x, _ in some]))
            for (x, y), output in zip(some, outputs, strict=True):
                yield Result(x, output, y)


def is_due(epoch: int, epochs: int) -> bool:
    """Return whether a grid is drawn after an epoch.

    Example:
        >>> [epoch for epoch in range(1, 31) if is_due(epoch, 30)]
        [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    """
    return epoch % max(1, epochs // GRIDS) == 0 or epoch == epochs


def _warn_of_divergence(log: LossLog) -> None:
    """Warn of losses that are nan or infinite at the end."""
    names = trained(log)
    lost = [name for name in names if not np.isfinite(log.series(name).loss[-1])]
    if lost:
        which = "all losses" if len(lost) == len(names) else ", ".join(lost)
        warnings.warn(
            f"nan or infinite at the end of the training: {which}; the networks are most likely of no use. Train again "
            "with lower learning rates (--lr-g, --lr-d) or weights (--weight)",
            NectarganWarning,
            stacklevel=3,
        )


@contextmanager
def warning_of(path: Path) -> Iterator[Path]:
    """Warn where a file cannot be written that the training does not depend on."""
    try:
        yield path
    except (NectarganError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        warnings.warn(f"cannot write {path}: {reason}", NectarganWarning, stacklevel=3)
