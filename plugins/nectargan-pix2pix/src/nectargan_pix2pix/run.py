"""One training run, from its options to the files that it writes."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn, track
from rich.text import Text

from nectargan_core import Config, LossManager, Objective
from nectargan_core.errors import ConfigError, NectarganError, NectarganWarning, SpecError
from nectargan_pix2pix import checkpoint, photos, results, writing
from nectargan_pix2pix.batches import Batches, mixed
from nectargan_pix2pix.checkpoint import CheckpointError
from nectargan_pix2pix.distributed import ONE, Processes
from nectargan_pix2pix.images import DataError
from nectargan_pix2pix.objective import build, check, check_observers, let_all_run, name_of, remarks
from nectargan_pix2pix.options import OptionError, Options
from nectargan_pix2pix.photos import Photographs
from nectargan_pix2pix.results import Results
from nectargan_pix2pix.training import Learned, Networks, train

_REFRESH = 0.5
_MANIFEST = "manifest.json"
_LOG = "loss_log.jsonl"
# What a run leaves, by which it is recognised.
_FILES = (checkpoint.NAME, _MANIFEST, "loss_log*.jsonl", *results.FILES)
# Where the files of a run that is to be overwritten are kept until the new one has begun.
_FORMER = ".overwritten"


def begin(
    options: Options,
    objective: Objective | None,
    out: Path,
    console: Console,
    *,
    overwrite: bool = False,
    processes: Processes = ONE,
) -> Run:
    """Prepare a run that begins; see `Run`.

    Args:
        options: What it is started with.
        objective: What its objective file holds; None where it has a formula.
        out: The directory of its files.
        console: Where progress and results are shown.
        overwrite: Whether the files of an earlier run in that directory are removed when it begins.
        processes: Those that train together, each of which calls this.

    Raises:
        OptionError: If there is an earlier run, and it is not to be overwritten.
        NectarganError: If anything else prevents it.
    """
    if not overwrite:
        _refuse_another(out)
    return Run(options, objective, out, console, overwrite=overwrite, processes=processes)


def resume(out: Path, given: Mapping[str, Any], console: Console, processes: Processes = ONE) -> Run | None:
    """Prepare a run that goes on; see `Run`.

    Args:
        out: The directory of the run.
        given: The options that were given again, by name. They have to be those of the run, but for the device, the
            folder of the same images, how often checkpoints are written, who gets the log, and more epochs.
        console: As for `begin`.
        processes: Likewise. There may be more or fewer than before.

    Returns:
        The run; None if it is complete.

    Raises:
        CheckpointError: If there is no run to go on with.
        OptionError: If other options are given.
        NectarganError: If anything else prevents it.
    """
    saved = checkpoint.load(out)
    path = out / checkpoint.NAME
    try:
        options = Options.of(saved["options"])
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be gone on from: {error}", path=str(path)) from error
    differences = options.differences({name: value for name, value in given.items() if name != "data"})
    if differences:
        raise OptionError(
            f"the run in {out} cannot be resumed with other options: {'; '.join(differences)}. Leave them out, or "
            "begin another run with another --out"
        )
    options = replace(options, **given)
    if saved["epochs"] >= options.epochs and (out / results.SUMMARY).exists():
        done = f"{options.epochs} of {options.epochs} epochs"
        _say(console, f"The run in {out} is complete: {done}. To train on, give a larger number of --epochs.")
        return None
    objective = None if options.objective is None else Objective.from_dict(options.objective)
    return Run(options, objective, out, console, saved, processes=processes)


class _State(NamedTuple):
    """What a training changes."""

    manager: LossManager
    networks: Networks
    learned: Learned


class Run:
    """A run that is known to start: all that can be checked is checked when it is made, and nothing is written by that.

    Images are read, the losses are built with their weights, and one step of the training is done on networks that are
    thrown away.

    Args:
        options: What it is started with.
        objective: What its objective file holds; None where it has a formula.
        out: The directory of its files; made when it starts.
        console: Where progress and results are shown.
        saved: The checkpoint to go on from; None to begin.
        overwrite: As for `begin`.
        processes: Likewise.

    Raises:
        NectarganError: If the objective cannot be built or computed, an image cannot be read, or nothing can be
            written to the directory.
    """

    def __init__(
        self,
        options: Options,
        objective: Objective | None,
        out: Path,
        console: Console,
        saved: dict[str, Any] | None = None,
        *,
        overwrite: bool = False,
        processes: Processes = ONE,
    ) -> None:
        self._options = options
        self._objective = objective
        self._out = out
        self._console = console
        self._saved = saved
        self._overwrite = overwrite
        self._processes = processes
        if options.batch_size < processes.count:
            raise OptionError(
                f"--batch-size is that of all processes together, and {options.batch_size} cannot be divided among "
                f"{processes.count}; give a --batch-size of at least {processes.count}, or torchrun a smaller "
                "--nproc-per-node",
                option="--batch-size",
            )
        try:
            writing.check_writable(out)
        except OSError as error:
            raise OptionError(
                f"nothing can be written to {out}: {error.strerror or error}; choose another --out", option="--out"
            ) from error
        _check_places(out)
        self._device = device_of(processes.device_name(options.device))
        check_observers(options.log_to)
        self._photographs = photographs_of(options, console)
        if saved is not None and saved["images"] != self._photographs.digest:
            raise DataError(
                f"the images are not those that the run in {out} was trained on: {self._photographs.description}; give "
                "--data with a folder of the same images, or begin another run with another --out",
                path=options.data or "",
            )
        self._batches = Batches(
            self._photographs.training, options.batch_size, options.seed, processes.rank, processes.count
        )
        self._warnings: set[str] = set()
        # Held until the losses of the run are built, which then share the networks that it has loaded.
        self._rehearsed: LossManager | None = self._rehearse()
        # The steps after which there is a checkpoint.
        self._kept = -1

    def train(self, stopped: Callable[[], bool]) -> bool:
        """Train, and write log, curves, grids, loss maps, report, checkpoint and closing table.

        Args:
            stopped: Called after each step, by all processes; if it returns True, the training ends, with everything
                saved.

        Returns:
            Whether the training went through all epochs.

        Raises:
            NectarganError: If the log is in use, the checkpoint cannot be loaded or written, or an image or a loss
                fails that did not before.
        """
        processes = self._processes
        self._check_others()  # In which all wait for all: nothing changes in the directory before all looked at it.
        if not processes.is_first:
            processes.wait()  # The first one has moved aside what was there, and has begun.
        checkpoint.seed_everything(self._options.seed)
        # Observers get the log of the first one.
        options = self._options if processes.is_first else replace(self._options, log_to=[])
        make = partial(build, options, self._objective, self._device, self._out, resume=self._saved is not None)
        with _built(self._warnings, make) as manager:
            self._rehearsed = None
            state = self._state(manager)
            self._say(f"{name_of(manager)} on {self._place()}: {self._photographs.description}")
            for line in [*remarks(manager), *_learned_line(state.learned)]:
                self._say(line)
            done = self._begin(state) if self._saved is None else self._go_on(state, self._saved)
            if processes.is_first:
                processes.wait()
            pairs, epochs = self._photographs.held_out, self._options.epochs
            shown = Results(self._out, name_of(manager), pairs, epochs, len(self._batches))
            done = self._train(state, shown, done, stopped)
            problem = self._save_last(state, done)
            if processes.is_first:
                shown.draw_stop(manager, state.networks, done)
        processes.wait()  # The logs of all are whole.
        if processes.is_first:
            table = shown.report(state.networks)
            self._say(f"\n{table}\n\nWhat was written is in {self._out}.")
        if problem is not None:
            raise problem
        return done == self._options.epochs * len(self._batches)

    # Before anything is written

    def _rehearse(self) -> LossManager:
        """Do a step with all losses on networks that are thrown away; return what holds the weights of the losses."""
        checkpoint.seed_everything(self._options.seed)
        manager = _built(self._warnings, partial(build, self._options, self._objective, self._device))
        check(manager)
        with _silently(), manager:
            let_all_run(manager)
            state = self._state(manager)
            try:
                next(train(*state, self._batches, self._options.epochs))
                state.networks.generate(self._photographs.held_out[0][0])
            except NectarganError:
                raise
            except Exception as error:
                raise SpecError(f"the first step fails, and nothing was written: {_with_place(error)}") from error
            checkpoint.check_plain(self._parts(state, 1))
        return manager

    def _check_others(self) -> None:
        """Raise, in all processes, unless all are about to do the same."""
        if self._processes.count == 1:
            return
        # The place of the images may be another on each machine.
        steps = None if self._saved is None else self._saved["steps"]
        about = asdict(replace(self._options, data=None)), self._photographs.digest, steps
        if not self._processes.agree(repr(about)):
            raise OptionError(
                "the processes of this run have different options, images or checkpoints; start all of them with the "
                "same options, and with an --out that all of them share"
            )
        if self._rehearsed is not None:
            self._rehearsed.check_ranks()

    def _state(self, manager: LossManager) -> _State:
        options = self._options
        networks = Networks(options.channels, options.epochs, self._device, options.lr_g, options.lr_d)
        return _State(manager, networks, Learned(manager, networks))

    # The training

    def _begin(self, state: _State) -> int:
        """Begin in the directory, which the log has locked by now; return the steps done, which are none."""
        if not self._processes.is_first:
            return 0
        # Again, since another process may have begun here while this one looked at everything.
        if not self._overwrite:
            _refuse_another(self._out)
        _check_places(self._out)
        try:
            with _aside(self._out):
                (self._out / results.GRIDS_FOLDER).mkdir(exist_ok=True)
                # So that a run that is killed in its first epoch can be resumed, too.
                self._write_checkpoint(state, 0, must=True)
        except OSError as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(
                f"cannot begin in {self._out}: {_of_file(error)}; nothing was changed there", path=str(self._out)
            ) from error
        self._write_manifest(state.manager)
        return 0

    def _go_on(self, state: _State, saved: dict[str, Any]) -> int:
        """Go on where the checkpoint is; return the steps done."""
        path = self._out / checkpoint.NAME
        if checkpoint.load(self._out)["steps"] != saved["steps"]:
            raise CheckpointError(
                f"another process has gone on with the run in {self._out} meanwhile; give --resume again to go on from "
                "there",
                path=str(path),
            )
        try:
            state.networks.load_state_dict(saved)
            state.learned.load_state_dict(saved["learned"])
            checkpoint.restore_random_state(saved["random"])
            logged = state.manager.step
            state.manager.load_state_dict(self._of_this_length(saved["losses"]))
        except NectarganError:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} cannot be gone on from: {error}", path=str(path)) from error
        done: int = saved["steps"]
        if not self._processes.is_first:
            return done
        if logged < state.manager.step:
            warnings.warn(
                f"the log in {self._out} ends at step {logged}, and the checkpoint is of step {state.manager.step}; "
                "what is between is lost",
                NectarganWarning,
                stacklevel=2,
            )
        _check_places(self._out)
        try:
            (self._out / results.SUMMARY).unlink(missing_ok=True)  # It is of the stop.
            (self._out / results.GRIDS_FOLDER).mkdir(exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"cannot go on in {self._out}: {_of_file(error)}", path=str(self._out)) from error
        self._write_manifest(state.manager)
        epoch = min(done // len(self._batches) + 1, self._options.epochs)
        self._say(f"Resumed after step {done}, in epoch {epoch} of {self._options.epochs}.")
        return done

    def _of_this_length(self, losses: dict[str, Any]) -> dict[str, Any]:
        """Return the state of the losses, whose record may say another length, which more epochs were asked for."""
        manifest = losses.get("manifest")
        if not isinstance(manifest, dict):
            return losses
        return {**losses, "manifest": {**manifest, "total_epochs": self._options.epochs}}

    def _train(self, state: _State, shown: Results, before: int, stopped: Callable[[], bool]) -> int:
        """Train until the last epoch or a signal; return how many steps are done, with those `before`."""
        epochs, per_epoch, often = self._options.epochs, len(self._batches), self._options.checkpoint_every
        total, done = epochs * per_epoch, before
        columns = (TextColumn("{task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        is_first = self._processes.is_first
        with _Progress(*columns, console=self._console, disable=not is_first) as progress:
            first = f"epoch {before // per_epoch + 1}/{epochs}"
            task = progress.add_task("", total=total, completed=before, epoch=first, losses="")
            refreshed = 0.0
            self._seed(before)
            for done in train(*state, self._batches, epochs, before, self._processes):
                self._seed(done)
                epoch, is_last = (done - 1) // per_epoch + 1, done % per_epoch == 0
                # Reading the values waits for the device, so it is not done at every step.
                if is_first and (time.monotonic() - refreshed > _REFRESH or done == total):
                    refreshed = time.monotonic()
                    losses = state.manager.get_loss_values()
                    text = " ".join(f"{name} {value:.2f}" for name, value in losses.items())
                    progress.update(task, completed=done, epoch=f"epoch {epoch}/{epochs}", losses=text)
                # First, so that the log is not behind the checkpoint.
                is_due = is_first and is_last and shown.measure(state.manager, state.networks, epoch)
                if is_last or (often and done % often == 0):
                    self._save(state, done)
                if is_due:
                    self._say(shown.draw_epoch(state.manager, epoch))
                if stopped():
                    break
        return done

    def _seed(self, done: int) -> None:
        """Seed the random numbers of all processes but the first, whose state is in the checkpoint.

        Each draws others, and after a step always the same, so that a run that goes on draws what it would have.
        """
        rank = self._processes.rank
        if rank:
            checkpoint.seed_everything(mixed(self._options.seed, rank, done) % 2**32)

    def _parts(self, state: _State, done: int) -> dict[str, Any]:
        return {
            "options": asdict(self._options),
            "images": self._photographs.digest,
            "spec": state.manager.objective,
            "epochs": done // len(self._batches),
            "steps": done,
            "channels": self._options.channels,
            **state.networks.state_dict(),
            "learned": state.learned.state_dict(),
            "losses": state.manager.state_dict(),
            "random": checkpoint.random_state(),
        }

    def _save(self, state: _State, done: int) -> None:
        """Replace the checkpoint; where that fails, the one before stays and the training goes on."""
        self._flush(state)
        if self._processes.is_first:
            self._write_checkpoint(state, done)

    def _flush(self, state: _State) -> None:
        """Let the logs of all processes be written so far, so that none is behind the checkpoint."""
        if not self._processes.is_first:
            state.manager.update_loss_log()
        self._processes.wait()

    def _write_checkpoint(self, state: _State, done: int, *, must: bool = False) -> None:
        """Replace the checkpoint; where that fails, the one before stays, and it is an error if it `must`."""
        path = self._out / checkpoint.NAME
        try:
            writing.replace(path, checkpoint.pack(self._parts(state, done)))
        except OSError as error:
            problem = f"cannot write the checkpoint {path}: {error.strerror or error}"
            if must:
                raise CheckpointError(problem, path=str(path)) from error
            warnings.warn(f"{problem}; the one before stays, and the training goes on", NectarganWarning, stacklevel=2)
        else:
            self._kept = done

    def _save_last(self, state: _State, done: int) -> CheckpointError | None:
        """Replace the checkpoint unless it is of this step; return what prevents it, to be raised after the report."""
        self._flush(state)
        try:
            if self._processes.is_first and done != self._kept:
                self._write_checkpoint(state, done, must=True)
        except CheckpointError as error:
            return error
        return None

    def _write_manifest(self, manager: LossManager) -> None:
        text = json.dumps(manager.manifest().to_dict(), indent=2)
        with results.warning_of(self._out / _MANIFEST) as path:
            writing.replace(path, f"{text}\n".encode())

    def _place(self) -> str:
        """Return where it is trained, in words."""
        count = self._processes.count
        return str(self._device) if count == 1 else f"{self._device.type} in {count} processes"

    def _say(self, text: str) -> None:
        _say(self._console, text)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def _refuse_another(out: Path) -> None:
    """Raise if there is a run in a directory."""
    found = _left_in(out)
    if found:
        names = ", ".join(str(path.relative_to(out)) for path in found[:3])
        raise OptionError(
            f"{out} has a run in it ({names}{', ...' * (len(found) > 3)}); continue it with --resume, replace it with "
            "--overwrite, or choose another --out",
            option="--out",
        )


def _left_in(out: Path) -> list[Path]:
    """Return the files that a run has left in a directory, those of one included that was being overwritten."""
    return [path for where in (out, out / _FORMER) for pattern in _FILES for path in sorted(where.glob(pattern))]


def _check_places(out: Path) -> None:
    """Raise if something in a directory would prevent that the files of a run are written there.

    Raises:
        OptionError: If a directory has the name of a file of a run, or the directory of the grids cannot be used.
    """
    grids = out / results.GRIDS_FOLDER
    if grids.is_symlink() or grids.exists():
        try:
            writing.check_writable(grids)
        except OSError as error:
            raise OptionError(
                f"nothing can be written to {grids}: {error.strerror or error}; move it away, or choose another --out",
                option="--out",
            ) from error
    names = [checkpoint.NAME, _MANIFEST, *results.NAMES, _LOG, f"{_LOG}.lock"]
    files = [out / each for name in names for each in (name, writing.temporary_name(name))]
    for path in [*files, *_left_in(out)]:
        if path.is_dir():
            raise OptionError(
                f"{path} is a directory, and a run writes a file of that name; move it away, or choose another --out",
                option="--out",
            )


@contextmanager
def _aside(out: Path) -> Iterator[None]:
    """Keep the files of an earlier run elsewhere, until a new one has begun; where that fails, they are put back."""
    moved: list[tuple[Path, Path]] = []
    former = out / _FORMER
    try:
        for path in _left_in(out):
            if path.is_relative_to(former):
                continue
            place = former / path.relative_to(out)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
            moved.append((path, place))
        yield
    except BaseException:
        for path, place in moved:
            with contextlib.suppress(OSError):
                place.replace(path)
        for directory in (former / results.GRIDS_FOLDER, former):
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise
    shutil.rmtree(former, ignore_errors=True)


def _of_file(error: OSError) -> str:
    """Return what is wrong with a file, and with which."""
    return f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)


class _Progress(Progress):
    """A progress bar with the losses below it, so that they fit a narrow terminal."""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield from super().get_renderables()
        for task in self.tasks:
            yield Text(task.fields["losses"])


def _learned_line(learned: Learned) -> list[str]:
    if not learned.names:
        return []
    return [f"What is learned by {', '.join(learned.names)} is trained, with the learning rate of the generator."]


@contextmanager
def _silently() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _built(known: set[str], make: Callable[[], LossManager]) -> LossManager:
    """Build a manager; what it warns of is shown unless it is known, and known from then on."""
    with warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        manager = make()
    for each in noted:
        if str(each.message) not in known:
            known.add(str(each.message))
            warnings.warn(each.message, each.category, stacklevel=3)
    return manager


def _with_place(error: Exception) -> str:
    """Return what is wrong and where, in one line."""
    text = str(error).strip().partition("\n")[0]
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"


# Devices and images


def device_of(name: str) -> torch.device:
    """Return a device.

    Raises:
        ConfigError: If it does not exist.
    """
    try:
        device = torch.device(name)
        # torch.device() does not check whether the device exists; a tensor on it does.
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"the device {name!r} cannot be used: {reason}; choose another with --device, such as cpu",
            key="common.device",
        ) from error
    return device


def photographs_of(options: Options, console: Console) -> Photographs:
    """Read the images of a run.

    Raises:
        DataError: If there are none, or one cannot be used.
        ConfigError: If the configuration has no such direction.
    """
    config = Config.model_validate(options.config)
    crop = config.dataloader.load.crop_size
    b_to_a = photos.is_b_to_a(config)
    if options.data is None:
        return photos.sample_photographs(crop)
    return photos.folder(Path(options.data), crop, b_to_a=b_to_a, watch=watch(console))


def watch(console: Console) -> photos.Watch:
    """Return what shows how many images are read, where the console is a terminal."""
    return partial(
        track, description="reading images", console=console, transient=True, disable=not console.is_terminal
    )
