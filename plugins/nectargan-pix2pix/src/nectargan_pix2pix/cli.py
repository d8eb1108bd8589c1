"""The command line program `nectargan-pix2pix`."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import click
import torch
from click.core import ParameterSource

from nectargan_core import ConfigManager, Objective
from nectargan_core.errors import NectarganError, NectarganWarning
from nectargan_pix2pix.distributed import ONE, Processes, count_of_processes, joined, local_rank
from nectargan_pix2pix.options import (
    DISCRIMINATOR_RATE,
    GENERATOR_RATE,
    OptionError,
    Options,
    read_weights,
    split_schedules,
)

_EXTRA = {"matplotlib", "monai", "numpy", "PIL", "plotly", "rich", "skimage"}
_Handler = Callable[[int, FrameType | None], Any] | signal.Handlers
# Signals within so many seconds count as one: a terminal and a program such as `timeout` may both deliver it.
_ONE_SIGNAL = 0.5
_PATH: click.Path = click.Path(path_type=Path)
_FORMULA = "pix2pix"


class _Program(click.Group):
    """The program, of which each process of a machine gets the same arguments, and the first says what is wrong."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            if local_rank() == 0:
                raise
            sys.exit(error.exit_code)


@click.group(cls=_Program)
@click.version_option(package_name="nectargan-pix2pix")
def main() -> None:
    """Train pix2pix on pairs of images, with any objective that is installed."""


class _Rate(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.2 on
    """A finite number above 0."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            rate = float(value)
        except (TypeError, ValueError):
            rate = 0.0
        # Neither nan nor infinity is between the two.
        if not 0 < rate < float("inf"):
            self.fail(f"expected a finite number above 0, such as 2e-4; got {value!r}", param, ctx)
        return rate


@main.command()
@click.option("--spec", default=_FORMULA, show_default=True, help="The objective, such as 'pix2pix + 10*vgg'.")
@click.option("--objective", type=_PATH, help="File of the objective, .toml or .json, in place of --spec.")
@click.option("--weight", "weights", multiple=True, metavar="LOSS=W", help="The weight of a loss, such as G_L1=50.")
@click.option(
    "--schedule",
    "schedules",
    multiple=True,
    metavar="LOSS=CURVE",
    help="How the weight of a loss changes, such as 'G_L1=cosine:start=0.5,end=1,unit=fraction,target_value=0'. Other "
    "names than these, initial_value and factor are parameters of the curve.",
)
@click.option("--data", type=_PATH, help="Folder with train/ and val/; images with A|B side by side.")
@click.option("--sample-photos", is_flag=True, help="Restore scratched photographs that scikit-image ships.")
@click.option(
    "--epochs", type=click.IntRange(min=1), default=30, help="[default: total_epochs of the objective file, or 30]"
)
@click.option("--out", type=_PATH, required=True, help="Folder for everything that the run leaves.")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; its options need not be given again.")
@click.option("--overwrite", is_flag=True, help="Remove the files of a run that is in --out, and begin.")
@click.option(
    "--checkpoint-every",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Write a checkpoint after so many steps, too.  [default: after each epoch]",
)
@click.option(
    "--log-to", multiple=True, metavar="NAME", help="An observer that gets the log, too, such as tensorboard."
)
@click.option("--config", type=_PATH, help="NectarGAN's config.json.")
@click.option("--device", help="Such as cpu or cuda:0.  [default: the config's, else a GPU if there is one]")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True)
@click.option("--channels", type=click.IntRange(min=1), default=16, show_default=True, help="Width of both networks.")
@click.option("--lr-g", type=_Rate(), default=GENERATOR_RATE, show_default=True, help="Learning rate of the generator.")
@click.option(
    "--lr-d", type=_Rate(), default=DISCRIMINATOR_RATE, show_default=True, help="Learning rate of the discriminator."
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, show_default=True)
@click.pass_context
def train(context: click.Context, /, out: Path, resume: bool, overwrite: bool, **values: Any) -> None:
    """Train a generator and a discriminator.

    Writes to --out: loss_log.jsonl, curves.png, grids/, report.html, checkpoint.pt, manifest.json and summary.txt.
    Ctrl-C ends the training after the present step, with all of these written, and so do SIGTERM and SIGHUP. From the
    config it reads the weights train.loss.lambda_*, common.device, dataloader.load.crop_size and
    dataloader.direction (AtoB or BtoA).

    A run that was stopped or killed goes on with --resume from its last checkpoint, exactly as if it had not been.
    Its options are those of the run; of these, only the device, the place of the images, --checkpoint-every, --log-to
    and a larger number of --epochs can be given otherwise.

    Started as `torchrun --standalone --nproc-per-node N -m nectargan_pix2pix train ...` it trains in N processes. The
    batch size is that of all of them, and a run goes on with any number of them.
    """
    given = {name for name in values if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    if resume and overwrite:
        raise click.UsageError("give --resume or --overwrite, not both")
    if {"spec", "objective"} <= given:
        raise click.UsageError("give --spec or --objective, not both")
    if {"data", "sample_photos"} <= given or not (resume or {"data", "sample_photos"} & given):
        raise click.UsageError("give either --data DIR or --sample-photos")
    with _errors_in_one_line(), joined() as processes, _said_once(processes):
        ended_by = _train(values, given, out, resume, overwrite, processes)
    if ended_by:
        if processes.is_first:
            click.echo(
                f"Stopped by {signal.Signals(ended_by).name}; log and checkpoint are saved. Go on with --resume.",
                err=True,
            )
        sys.exit(128 + ended_by)


def _train(
    values: dict[str, Any], given: set[str], out: Path, resume: bool, overwrite: bool, processes: Processes
) -> int:
    """Train; return the signal that ended it, 0 where it ended by itself."""
    # Imported here, so that without the extra the program can print which package is missing.
    with _naming_the_extra("training"):
        from rich.console import Console

        from nectargan_pix2pix.run import begin
        from nectargan_pix2pix.run import resume as go_on
    objective = None if values["objective"] is None else Objective.load(values["objective"])
    options = _options(values, given, objective, resume=resume)
    console = Console(quiet=not processes.is_first)
    if resume:
        again = {field.name for field in fields(Options)} & given | ({"data"} if "sample_photos" in given else set())
        prepared = go_on(out, {name: options[name] for name in again}, console, processes)
    else:
        prepared = begin(Options(**options), objective, out, console, overwrite=overwrite, processes=processes)
    if prepared is None:
        return 0
    ending = 0
    with _noting_signals() as received:

        def stopped() -> bool:
            nonlocal ending
            # All stop after the same step, whichever of them has received a signal.
            ending = processes.largest(received[0] if received else 0)
            return bool(ending)

        with processes.noticing_failures():
            finished = prepared.train(stopped)
    return 0 if finished else ending


def _options(
    values: dict[str, Any], given: set[str], objective: Objective | None, *, resume: bool = False
) -> dict[str, Any]:
    """Return options as `Options` has them; a run that is resumed has its epochs already."""
    epochs = values["epochs"]
    if Path(values["spec"]).suffix in (".toml", ".json"):
        raise OptionError(
            f"--spec is a formula, such as 'pix2pix + 10*vgg', and {values['spec']!r} looks like a file; give "
            f"--objective {values['spec']}",
            option="--spec",
        )
    if objective is not None and "epochs" not in given and not resume:
        epochs = _epochs_of(objective, values["objective"]) or epochs
    config = ConfigManager(values["config"])
    device = values["device"] or config.data.common.device or _default_device()
    return {
        **{name: value for name, value in values.items() if name != "sample_photos"},
        "spec": None if objective is not None else values["spec"],
        "objective": None if objective is None else objective.to_dict(),
        "epochs": epochs,
        "data": None if values["data"] is None else str(values["data"].absolute()),
        "weights": read_weights(values["weights"]),
        "schedules": split_schedules(values["schedules"]),
        "config": config.raw,
        "device": device,
        "log_to": list(dict.fromkeys(values["log_to"])),
    }


def _epochs_of(objective: Objective, path: Path) -> int | None:
    """Return the number of epochs that an objective file asks for; None where it does not say."""
    if objective.total_steps is not None:
        raise OptionError(
            f"{path}: total_steps is {objective.total_steps}, and a training has whole epochs; write total_epochs in "
            "its place, or give --epochs",
            option="--epochs",
        )
    if objective.total_epochs is None:
        return None
    if objective.total_epochs != int(objective.total_epochs):
        raise OptionError(
            f"{path}: total_epochs is {objective.total_epochs}, and a training has whole epochs; correct it there, or "
            "give --epochs",
            option="--epochs",
        )
    return int(objective.total_epochs)


@main.command()
@click.argument("run", type=_PATH)
@click.argument("images", type=_PATH, nargs=-1, required=True)
@click.option("-o", "--out", type=_PATH, required=True, help="Folder for the translated images.")
@click.option("--overwrite", is_flag=True, help="Replace images that are there.")
@click.option("--device", help="Such as cpu or cuda:0.  [default: a GPU if there is one]")
def predict(run: Path, images: tuple[Path, ...], out: Path, overwrite: bool, device: str | None) -> None:
    """Translate IMAGES, or all images in a folder, with the generator of a RUN.

    An image holds the source only, not a pair. Of each, --out gets a PNG of its name and size.
    """
    _refuse_several("predict")
    with _errors_in_one_line():
        with _naming_the_extra("translating images"):
            from nectargan_pix2pix import inference
            from nectargan_pix2pix.run import device_of
        trained = inference.Trained(run, device_of(device or _default_device()))
        for file in inference.predict(trained, inference.outputs(images, out, overwrite=overwrite)):
            click.echo(str(file))


@main.command()
@click.argument("run", type=_PATH)
@click.option("--data", type=_PATH, help="Folder of A|B pairs.  [default: the images of the run]")
@click.option("--part", default="val", show_default=True, help="The folder in --data whose images are taken.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--device", help="Such as cpu or cuda:0.  [default: a GPU if there is one]")
def evaluate(run: Path, data: Path | None, part: str, as_json: bool, device: str | None) -> None:
    """Compare what the generator of a RUN makes of source images with their targets.

    Prints PSNR and SSIM of each image and their means, of the input, too. Of an image that is larger than 512 pixels
    the middle is taken, as in the training.
    """
    _refuse_several("evaluate")
    with _errors_in_one_line():
        with _naming_the_extra("comparing images"):
            from rich.console import Console

            from nectargan_pix2pix import inference
            from nectargan_pix2pix.run import device_of, watch
        trained = inference.Trained(run, device_of(device or _default_device()))
        names, pairs = inference.held_out(trained, data, part, watch(Console(stderr=True)))
        scores = inference.evaluate(trained, names, pairs)
        click.echo(json.dumps(inference.as_plain(scores), indent=2) if as_json else inference.as_table(scores))


@main.command()
@click.option("--out", type=_PATH, default=Path("runs/demo"), show_default=True, help="Folder for what it leaves.")
def demo(out: Path) -> None:
    """Restore scratched photographs: with filters, and with a network trained on each of two objectives.

    Trains on two objectives by name at once, in two or three minutes on two processors, and prints how near filters and
    networks come to photographs that they were not trained on. Writes to --out: comparison.png, report.html,
    summary.txt, and the logs a/loss_log.jsonl and b/loss_log.jsonl; those of an earlier demo are replaced.
    """
    _refuse_several("demo")
    with _errors_in_one_line():
        with _naming_the_extra("the demo", extra="demo"):
            import plotly  # noqa: F401 -- the report needs it, which is written last
            from rich.console import Console

            from nectargan_pix2pix.demo.running import run
        run(out, Console())


def _refuse_several(command: str) -> None:
    """Raise where a command is started in several processes, each of which would do all of it."""
    if count_of_processes() > 1:
        raise click.UsageError(f"only train works in several processes; start {command} without torchrun")


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


@contextmanager
def _naming_the_extra(what: str, extra: str = "train") -> Iterator[None]:
    """Say how the libraries of the extra are installed, where one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRA:
            raise
        raise click.ClickException(
            f"{what} needs {missing}, which is not installed: pip install 'nectargan-pix2pix[{extra}]'"
        ) from error


@contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Show NectarGAN's errors and warnings without their place in the code, which does not help users of a program."""
    try:
        with _warnings_in_one_line():
            yield
    except NectarganError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("Interrupted; what was not saved by then is lost.", err=True)
        sys.exit(128 + signal.SIGINT)


@contextmanager
def _said_once(processes: Processes) -> Iterator[None]:
    """Leave it to one of several processes to show an error or a warning that more than one have."""
    try:
        with _warnings_in_one_line(processes):
            yield
    except (NectarganError, click.ClickException) as error:
        if processes.is_first_to_fail(error):
            raise
        sys.exit(1)
    except KeyboardInterrupt:
        if processes.is_first_to_say("interrupted"):
            raise
        sys.exit(128 + signal.SIGINT)


@contextmanager
def _warnings_in_one_line(processes: Processes = ONE) -> Iterator[None]:
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
                if processes.is_first_to_say(str(message)):
                    click.echo(f"Warning: {message}", err=True)
            else:
                elsewhere(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield


@contextmanager
def _noting_signals() -> Iterator[list[int]]:
    """Only note the first signal that asks to end, so that no step is interrupted; a later one has its usual effect."""
    received: list[int] = []
    first = 0.0

    # Python's default handlers, not the previous ones: a library may have left a handler that ignores the signal.
    ending: dict[signal.Signals, _Handler] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}
    hangup: signal.Signals | None = getattr(signal, "SIGHUP", None)  # Windows has none.
    # `nohup` ignores it.
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        ending[hangup] = signal.SIG_DFL
    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        if number == hangup:
            # The terminal is gone, and what is written to it would raise before everything is saved.
            with Path(os.devnull).open("wb") as null:
                for descriptor in terminals:
                    os.dup2(null.fileno(), descriptor)
        if not received:
            first = time.monotonic()
            received.append(number)
        elif time.monotonic() - first >= _ONE_SIGNAL:
            signal.signal(number, ending[signal.Signals(number)])
            signal.raise_signal(number)

    before = {number: signal.signal(number, note) for number in ending}
    try:
        yield received
    finally:
        for number, handler in before.items():
            # None means that the handler was not set from Python, so that Python cannot restore it.
            signal.signal(number, ending[number] if handler is None else handler)
