"""The command line program `nectargan-pix2pix`."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import click
import torch

from nectargan_core import Config, ConfigManager
from nectargan_core.errors import ConfigError, NectarganError, NectarganWarning

_EXTRA = {"matplotlib", "monai", "numpy", "PIL", "rich", "skimage"}
_Handler = Callable[[int, FrameType | None], Any] | signal.Handlers


@click.group()
@click.version_option(package_name="nectargan-pix2pix")
def main() -> None:
    """Train pix2pix on pairs of images, with any objective that is installed."""


@main.command()
@click.option("--spec", default="pix2pix", show_default=True, help="The objective, such as 'pix2pix + 10*vgg'.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="Folder with train/ and val/; images with A|B side by side."
)
@click.option("--sample-photos", is_flag=True, help="Restore degraded photographs that scikit-image ships.")
@click.option("--epochs", type=click.IntRange(min=1), default=30, show_default=True)
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for everything that the run leaves."
)
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="NectarGAN's config.json.")
@click.option("--device", help="Such as cpu or cuda:0.  [default: the config's, else a GPU if there is one]")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--channels", type=click.IntRange(min=1), default=16, show_default=True, help="Width of both networks.")
@click.option("--seed", type=int, default=0, show_default=True)
def train(
    spec: str,
    data: Path | None,
    sample_photos: bool,
    epochs: int,
    out: Path,
    config_path: Path | None,
    device: str | None,
    batch_size: int,
    channels: int,
    seed: int,
) -> None:
    """Train a generator and a discriminator.

    Writes to --out: loss_log.jsonl, curves.png, grids/, checkpoint.pt and summary.txt. Ctrl-C ends the training
    after the present step, with all of these written. From the config it reads the weights train.loss.lambda_*,
    common.device, dataloader.load.crop_size and dataloader.direction (AtoB or BtoA).
    """
    if (data is None) is not sample_photos:
        raise click.UsageError("give either --data DIR or --sample-photos")
    try:
        with _warnings_in_one_line():
            finished, received = _train(
                spec, data, epochs, out, config_path, device, batch_size=batch_size, channels=channels, seed=seed
            )
    except NectarganError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted; what was not saved by then is lost.", err=True)
        sys.exit(128 + signal.SIGINT)
    if not finished:
        click.echo(f"Stopped by {signal.Signals(received[0]).name}; log and checkpoint are saved.", err=True)
        sys.exit(128 + received[0])


def _train(
    spec: str,
    data: Path | None,
    epochs: int,
    out: Path,
    config_path: Path | None,
    device: str | None,
    *,
    batch_size: int,
    channels: int,
    seed: int,
) -> tuple[bool, list[int]]:
    """Return whether the training ended by itself, and the signals that it received."""
    # Imported here, so that without the extra the program can print which package is missing.
    try:
        from rich.console import Console

        from nectargan_pix2pix import photos
        from nectargan_pix2pix.run import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise click.ClickException(
            f"training needs {missing}, which is not installed: pip install 'nectargan-pix2pix[train]'"
        ) from error
    config = ConfigManager(config_path).data
    crop = config.dataloader.load.crop_size
    b_to_a = _b_to_a(config)
    photographs = photos.sample_photographs(crop) if data is None else photos.folder(data, crop, b_to_a=b_to_a)
    with _noting_signals() as received:
        finished = run(
            spec,
            photographs,
            out,
            config=config,
            device=_device(device or config.common.device),
            epochs=epochs,
            batch_size=batch_size,
            channels=channels,
            seed=seed,
            stopped=lambda: bool(received),
            console=Console(),
        )
    return finished, received


def _b_to_a(config: Config) -> bool:
    direction = (config.dataloader.model_extra or {}).get("direction") or "AtoB"
    if direction not in ("AtoB", "BtoA"):
        raise ConfigError(f"dataloader.direction is 'AtoB' or 'BtoA', got {direction!r}", key="dataloader.direction")
    return bool(direction == "BtoA")


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        # torch.device() does not check whether the device exists; a tensor on it does.
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"the device {name!r} cannot be used: {reason}; choose another with --device, such as cpu",
            key="common.device",
        ) from error
    return device


@contextmanager
def _warnings_in_one_line() -> Iterator[None]:
    """Show NectarGAN's warnings without their location in the code, which does not help users of a program."""
    with warnings.catch_warnings():
        elsewhere = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, NectarganWarning):
                click.echo(f"Warning: {message}", err=True)
            else:
                elsewhere(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Only note SIGINT and SIGTERM, so that no step is interrupted; a second signal has its usual effect."""
    received: list[int] = []

    # Python's default handlers, not the previous ones: a library may have left a handler that ignores the signal.
    ending: dict[signal.Signals, _Handler] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, ending[signal.Signals(number)])

    before = {number: signal.signal(number, note) for number in ending}
    try:
        yield received
    finally:
        for number, handler in before.items():
            # None means that the handler was not set from Python, so that Python cannot restore it.
            signal.signal(number, ending[number] if handler is None else handler)
