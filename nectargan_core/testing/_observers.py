"""Checks of an observer: it can be made, touches nothing before it is told of something, and gets through a run."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from nectargan_core._messages import listed, one_line, shown
from nectargan_core.catalog import OBSERVERS, Plugin
from nectargan_core.errors import NectarganError, NectarganWarning
from nectargan_core.manager import LossManager
from nectargan_core.testing import _callables as callables
from nectargan_core.testing._cases import CheckCases, with_tests_of
from nectargan_core.testing._installed import for_subjects
from nectargan_core.testing._outcomes import CheckFailed, Outcome, named, raise_failures, run_checks

_FAILED = "failed to observe"


class ObserverSubject(callables.CallableSubject):
    """What the checks of an observer look at."""

    noun = "observer"

    def make(self) -> object:
        """Make an observer.

        Raises:
            CheckFailed: If that raises.
        """
        try:
            return self.load()(**self.params)
        except Exception as error:
            raise CheckFailed(f"it cannot be made: {one_line(error)}") from error


# The checks


def params(subject: ObserverSubject) -> None:
    """It takes its options by name, each with a default, so that its name is enough."""
    callables.check_params(subject.load, subject.params, ())


def hooks(subject: ObserverSubject) -> None:
    """What it makes has functions that are marked with `hookimpl`, with names and arguments of events."""
    _ready(subject)
    with _elsewhere():
        made = subject.make()
        try:
            LossManager(observers=[made], enable_logging=False).close()
        except NectarganError as error:
            raise CheckFailed(str(error)) from error
        if subject.make() is made:
            raise CheckFailed("it makes the same object twice; each manager needs an observer of its own")


def idle(subject: ObserverSubject) -> None:
    """It opens nothing and starts nothing before it is told of something, also where a manager computes nothing."""
    _ready(subject)
    with _elsewhere() as directory:
        threads = threading.active_count()
        with LossManager(observers=[subject.make()]) as manager:
            manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            started = threading.active_count() - threads
            _no_failures(manager.close)
        if found := sorted(path.name for path in directory.iterdir()):
            raise CheckFailed(
                f"a manager that computed nothing left {listed(found)}; open files when the first records come"
            )
        if started > 0:
            raise CheckFailed("a manager that computed nothing started a thread; start it when the first records come")


def run(subject: ObserverSubject) -> None:
    """It gets through runs with splits, components, metrics, gradients, nan, a rewind, with and without a directory."""
    _ready(subject)
    with _elsewhere() as directory:
        for where in (directory / "run", None):
            _no_failures(lambda where=where: _run(subject.make(), where))  # type: ignore[misc] # as a default


def several(subject: ObserverSubject) -> None:
    """Several managers of one process have one each, at the same time and one after the other."""
    _ready(subject)
    with _elsewhere() as directory:

        def runs() -> None:
            first, second = (_manager(subject.make(), directory / name) for name in ("a", "b"))
            for manager in (first, second, first):
                _steps(manager, 2)
                manager.update_loss_log()
            second.close()
            _steps(first, 1)
            first.close()

        _no_failures(runs)


def docstring(subject: ObserverSubject) -> None:
    """Its docstring says where the records go, and what each of its options is."""
    callables.check_docstring(subject.load, (), '"""Sends the losses to a table of Acme."""')


CHECKS = tuple(map(named, (params, hooks, idle, run, several, docstring)))
"""The checks of any observer."""
OBSERVER_CHECKS = (*for_subjects(), *CHECKS)
"""Those, and the checks of any installed plugin."""


# The run that it observes


def _run(observer: object, directory: Path | None) -> None:
    manager = _manager(observer, directory)
    _steps(manager, 3)
    with manager.split("val"):
        _compute(manager)
        manager.record("psnr", 21.5)
    manager.update_loss_log()
    state = manager.state_dict()
    _steps(manager, 2)
    manager.update_loss_log()
    manager.load_state_dict(state)
    _steps(manager, 2, scale=float("nan"))
    manager.set_weight("G_L1", 5.0)
    _steps(manager, 1)
    manager.record("names with blanks, é and #", 1.0)
    manager.close()


def _manager(observer: object, directory: Path | None) -> LossManager:
    manager = LossManager(experiment_dir=directory, observers=[observer], nonfinite="ignore", metadata={"seed": 7})
    manager.register_loss_fn("G_L1", torch.nn.L1Loss(), 100.0, tags=["G"])
    manager.register_loss_fn("G_MAP", torch.nn.MSELoss(reduction="none"), tags=["G"])
    manager.register_loss_fn("G_PARTS", lambda y_fake, y: {"a.b": y_fake.mean(), "c": y.mean()}, tags=["G"])
    return manager


def _steps(manager: LossManager, count: int, scale: float = 1.0) -> None:
    for _ in range(count):
        manager.tick(epoch=max(manager.step, 0) // 2)
        _compute(manager, scale)


def _compute(manager: LossManager, scale: float = 1.0) -> None:
    y_fake = torch.full((1, 3, 4, 4), 0.5 * scale, requires_grad=True)
    losses = manager.compute_losses({"x": torch.zeros(1, 3, 4, 4), "y_fake": y_fake, "y": torch.ones(1, 3, 4, 4)})
    if scale == 1.0:
        manager.record_gradients(losses, y_fake, every=2)


def _no_failures(action: Callable[[], object]) -> None:
    """Do something.

    Raises:
        CheckFailed: If a warning says that an observer failed, or if it raises.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            action()
        except Exception as error:
            raise CheckFailed(f"a run with it raised {one_line(error)}") from error
    failures = [str(each.message) for each in caught if issubclass(each.category, NectarganWarning)]
    failures = list(dict.fromkeys(each for each in failures if _FAILED in each))
    if failures:
        raise CheckFailed("; ".join(failures))


@contextlib.contextmanager
def _elsewhere() -> Iterator[Path]:
    """Work in an empty directory, where an observer may leave files."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        os.chdir(directory)
        try:
            yield Path(directory)
        finally:
            os.chdir(before)


def _ready(subject: ObserverSubject) -> None:
    callables.ready(subject.load, subject.params, ())


# What authors and commands call


def observer_subject(observer: object, params: Mapping[str, Any]) -> ObserverSubject:
    """Make what the checks look at from a class, a function, or the name of an installed observer.

    Raises:
        PluginNotFoundError: If no observer of the name is installed.
        TypeError: If it is neither.
    """
    if isinstance(observer, str):
        return ObserverSubject(None, dict(params), callables.installed(OBSERVERS, observer, "observer"))
    if not callable(observer):
        raise TypeError(f"an observer is a class or function that makes one, or the name of one, got {shown(observer)}")
    return ObserverSubject(observer, dict(params))


def examine_observer(
    plugin: Plugin, skip: Mapping[str, str], params: Mapping[str, Any], options: Mapping[str, Any]
) -> list[Outcome]:
    """Run all checks of an installed observer."""
    if options:
        raise ValueError(f"an observer takes params and no options, got {shown(dict(options))}")
    return run_checks(OBSERVER_CHECKS, ObserverSubject(None, dict(params), plugin), skip)


def check_observer(
    observer: Callable[..., object] | str,
    *,
    params: Mapping[str, Any] | None = None,
    skip: Mapping[str, str] | None = None,
) -> None:
    """Check an observer: its options, its hooks, that it opens nothing too early, and that it gets through runs.

    The runs are short, in an empty directory of their own, with the events of real ones. Where it sends records to a
    server, direct it to none before, as with `WANDB_MODE=offline`.

    Args:
        observer: The class or function that makes it, or the name of an installed one, `"provider/name"` where several
            offer it. Of a name the entry point and the metadata of its distribution are checked, too.
        params: Keyword arguments of the class.
        skip: Reasons for leaving out checks, by their names: `params`, `hooks`, `idle`, `run`, `several`, `docstring`;
            of an installed one `entry_point`, `metadata` and `imports`, too.

    Raises:
        CheckFailed: If a check fails; the message lists what to change.
        PluginNotFoundError: If no observer of the name is installed.
        ValueError: If `skip` has the name of no check.
        TypeError: If it is neither a class or function nor a name.

    Example:
        >>> from nectargan_core import hookimpl
        >>> class Count:
        ...     '''Counts the records.'''
        ...
        ...     def __init__(self):
        ...         self.count = 0
        ...
        ...     @hookimpl
        ...     def nectargan_history_flushed(self, chunks):
        ...         self.count += sum(map(len, chunks))
        >>> check_observer(Count)
    """
    subject = observer_subject(observer, params or {})
    raise_failures(subject.label, run_checks(OBSERVER_CHECKS, subject, skip or {}))


@with_tests_of(OBSERVER_CHECKS)
class ObserverTests(CheckCases):
    """Tests of an observer, one for each check of `check_observer`; pytest runs those of a subclass.

    Attributes:
        observer: The class or function that makes it, or the name of an installed one.
        params: Keyword arguments of the class.
        skip: Reasons for leaving out checks, by their names.

    Example:
        >>> from nectargan_core import hookimpl
        >>> class Closing:
        ...     '''Says when a manager is closed.'''
        ...
        ...     @hookimpl
        ...     def nectargan_manager_closed(self):
        ...         print("closed")
        >>> class TestClosing(ObserverTests):
        ...     observer = Closing
        >>> TestClosing().test_hooks()
        closed
    """

    observer: ClassVar[Any]
    params: ClassVar[Mapping[str, Any]] = {}

    def subject(self) -> ObserverSubject:
        """Make what the checks look at."""
        return observer_subject(type(self).observer, self.params)
