"""One training run, from its options to the files that it writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text
from torch.utils.data import DataLoader

from nectargan_core import Config, LossLog, LossManager
from nectargan_core.errors import SpecError
from nectargan_pix2pix.photos import Pair, Pairs, Photographs
from nectargan_pix2pix.report import Result, closing_table, draw_curves, draw_grid, psnr
from nectargan_pix2pix.training import Networks, train

GRIDS = 8
ROWS = 4
_REFRESH = 0.5


def run(
    spec: str,
    photographs: Photographs,
    out: Path,
    *,
    config: Config,
    device: torch.device,
    epochs: int,
    batch_size: int,
    channels: int,
    seed: int,
    stopped: Callable[[], bool],
    console: Console,
) -> bool:
    """Train, and write log, curves, grids, checkpoint and closing table to `out`.

    Args:
        spec: The formula of the objective.
        photographs: The images for training, and the held-out images.
        out: The directory of these files; created if missing. The log of an earlier run is moved aside, and
            its other files are replaced.
        config: Where the spec reads its weights.
        device: The device of the networks and losses.
        epochs: The number of passes through the training images.
        batch_size: Crops in a step.
        channels: Features of the first layer of each network.
        seed: The seed of the initial weights, the crops and their order.
        stopped: Called after each step; if it returns True, the training ends, with everything saved.
        console: Where progress and results are shown.

    Returns:
        Whether the training went through all epochs.

    Raises:
        NectarganError: If the objective cannot be built, a loss cannot be computed, or an image cannot be read.
    """
    say = partial(console.print, soft_wrap=True, markup=False, highlight=False)
    torch.manual_seed(seed)
    batches: DataLoader[Pair] = DataLoader(photographs.training, batch_size, shuffle=True)
    with LossManager.from_spec(spec, config, out, device=device, total_epochs=epochs) as manager:
        _check_tags(manager)
        networks = Networks(channels, epochs, device)
        shown = _first(photographs.held_out, ROWS)
        grids = _empty(out / "grids")
        say(f"{spec} on {device}: {photographs.description}")

        total = epochs * len(batches)
        done = 0
        columns = (TextColumn("{task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with _Progress(*columns, console=console) as progress:
            task = progress.add_task("", total=total, epoch=f"epoch 1/{epochs}", losses="")
            refreshed = 0.0
            for epoch in train(manager, networks, batches, epochs):
                done += 1
                # Reading the values waits for the device, so it is not done at every step.
                if time.monotonic() - refreshed > _REFRESH or done == total:
                    refreshed = time.monotonic()
                    losses = manager.get_loss_values()
                    text = " ".join(f"{name} {value:.2f}" for name, value in losses.items())
                    progress.update(task, completed=done, epoch=f"epoch {epoch + 1}/{epochs}", losses=text)
                if done % len(batches) == 0 and _due(epoch + 1, epochs):
                    _save(networks, spec, epoch + 1, out)
                    results = _results(networks, shown)
                    path = grids / f"epoch_{epoch + 1:04d}.png"
                    draw_grid(results, f"{spec}, epoch {epoch + 1} of {epochs}", path)
                    mean = sum(psnr(result.output, result.y) for result in results) / len(results)
                    say(f"epoch {epoch + 1}: output {mean:.2f} dB in {path}")
                if stopped():
                    break
        _save(networks, spec, done // len(batches), out)
    table = _report(networks, photographs.held_out, out)
    say(f"\n{table}\n\nAll of it is in {out}.")
    return done == total


def _check_tags(manager: LossManager) -> None:
    lost = [name for name, loss in manager.get_registered_losses().items() if not {"G", "D"} & set(loss.tags)]
    if lost:
        raise SpecError(
            f"the trainer does not know which network {', '.join(lost)} is to train; tag such a loss 'G' for the "
            "generator or 'D' for the discriminator where it is defined"
        )


def _due(epoch: int, epochs: int) -> bool:
    return epoch % max(1, epochs // GRIDS) == 0 or epoch == epochs


def _first(pairs: Pairs, count: int) -> list[Pair]:
    return [pairs[index] for index in range(min(len(pairs), count))]


def _empty(grids: Path) -> Path:
    """Make the directory of the grids, and remove those of an earlier run, which may have had more epochs."""
    grids.mkdir(exist_ok=True)
    for old in grids.glob("epoch_*.png"):
        old.unlink()
    return grids


class _Progress(Progress):
    """A progress bar with the losses below it, so that they fit a narrow terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            yield Text(task.fields["losses"])


def _results(networks: Networks, pairs: Sequence[Pair]) -> list[Result]:
    return [Result(x, networks.generate(x), y) for x, y in pairs]


def _save(networks: Networks, spec: str, epochs: int, out: Path) -> None:
    """Replace the checkpoint atomically, so that it is complete even if the process is killed."""
    path = out / "checkpoint.pt"
    temporary = path.with_suffix(".tmp")
    torch.save({"spec": spec, "epochs": epochs, **networks.state_dict()}, temporary)
    temporary.replace(path)


def _report(networks: Networks, held_out: Pairs, out: Path) -> str:
    log = LossLog(out)
    draw_curves(log, out / "curves.png")
    ratios = []
    for index in range(len(held_out)):
        x, y = held_out[index]
        ratios.append((psnr(x, y), psnr(networks.generate(x), y)))
    table = closing_table(log, ratios)
    (out / "summary.txt").write_text(table + "\n", encoding="utf-8")
    return table
