"""The kit finds what is wrong with an observer, says what to change, and finds nothing wrong with sound ones."""

import threading
import time
from pathlib import Path

import pytest

from nectargan_core import catalog, hookimpl
from nectargan_core.errors import PluginNotFoundError
from nectargan_core.testing import CheckFailed, ObserverTests, check_observer


class Lines:
    """Writes a line for each loss to the file `name`, beside the log or where the program runs."""

    def __init__(self, *, name="lines.txt"):
        self.name = name
        self.file = None

    @hookimpl
    def nectargan_history_flushed(self, manager, chunks):
        if self.file is None:
            self.file = ((manager.experiment_dir or Path()) / self.name).open("a", encoding="utf-8")
        self.file.writelines(f"{records.name} {records.loss.mean()}\n" for records in chunks)

    @hookimpl
    def nectargan_manager_closed(self):
        if self.file is not None:
            self.file.close()


class TestLines(ObserverTests):
    observer = Lines


class TestAFunction(ObserverTests):
    observer = staticmethod(lambda: Lines())
    skip = {"docstring": "a function of one line"}


class Unready(Lines):
    """Needs a server."""

    def __init__(self):
        raise OSError("no route to host")


class Positional(Lines):
    """Writes lines to `name`."""

    def __init__(self, name, /):
        self.name = name


class Idle:
    """Observes nothing."""


class Misspelt:
    """Observes what does not exist."""

    @hookimpl
    def nectargan_history_flushd(self, chunks):
        pass


ONLY = Lines()


def the_same():
    """Give the same object each time."""
    return ONLY


class Early(Lines):
    """Opens its file too early."""

    def __init__(self):
        super().__init__()
        Path("early.txt").touch()


class Threaded(Lines):
    """Starts a thread too early."""

    def __init__(self):
        super().__init__()
        threading.Thread(target=time.sleep, args=(0.2,), daemon=True).start()


class Strict(Lines):
    """Takes no nan."""

    @hookimpl
    def nectargan_history_flushed(self, chunks):
        if any(records.loss.max() != records.loss.max() for records in chunks):
            raise ValueError("nan is no JSON")


class Homeless(Lines):
    """Writes beside the log."""

    @hookimpl
    def nectargan_history_flushed(self, manager, chunks):
        (manager.experiment_dir / "lines.txt").touch()


class Locked(Lines):
    """Has one file for all."""

    open_now: list = []

    @hookimpl
    def nectargan_history_flushed(self, manager, chunks):
        if self.open_now not in ([], [manager]):
            raise RuntimeError("another manager has the file")
        self.open_now[:] = [manager]

    @hookimpl
    def nectargan_manager_closed(self):
        self.open_now.clear()


class Untold(Lines):
    def __init__(self, *, name="lines.txt"):
        super().__init__(name=name)


Untold.__doc__ = None
FAULTS = [
    (Unready, {}, "hooks: it cannot be made: OSError: no route to host"),
    (Positional, {}, "params: name is positional only"),
    (Lines, {"nmae": "a"}, r'params: params has nmae, and it takes name\. Did you mean "name"\?'),
    (Idle, {}, "hooks: .* none of its functions is marked"),
    (Misspelt, {}, r'hooks: .* there is no event .* Did you mean "nectargan_history_flushed"'),
    (the_same, {}, "hooks: it makes the same object twice; each manager needs an observer of its own"),
    (Early, {}, "idle: a manager that computed nothing left early.txt; open files when the first records come"),
    (Threaded, {}, "idle: a manager that computed nothing started a thread"),
    (Strict, {}, "run: Strict failed to observe nectargan_history_flushed: ValueError: nan is no JSON"),
    (Homeless, {}, "run: Homeless failed to observe nectargan_history_flushed: TypeError"),
    (Locked, {}, "several: Locked failed to observe .* another manager has the file"),
    (Untold, {}, "docstring: Untold has no docstring"),
]


@pytest.mark.parametrize(
    ("observer", "params", "message"), FAULTS, ids=[fault[2].partition(":")[0] for fault in FAULTS]
)
def test_a_fault_is_found_and_said(observer, params, message):
    with pytest.raises(CheckFailed, match=message):
        check_observer(observer, params=params)


def test_an_installed_one_is_checked_by_its_name(site):
    source = "from nectargan_core import hookimpl\nclass Count:\n    '''Counts.'''\n"
    source += "    @hookimpl\n    def nectargan_history_flushed(self, chunks):\n        pass\n"
    site.install(
        "acme-count",
        entry_points=f"[{catalog.OBSERVERS}]\ncount = acme_count:Count\n",
        modules={"acme_count.py": source},
        requires=["nectargan-core>=0.1,<0.2"],
    )
    check_observer("count", skip={"metadata": "it is none of a package", "imports": "slow", "entry_point": "slow"})


def test_what_is_no_observer_is_refused():
    with pytest.raises(TypeError, match="a class or function that makes one, or the name of one, got 3"):
        check_observer(3)
    with pytest.raises(PluginNotFoundError, match="no observer 'nothing' is installed"):
        check_observer("nothing")
    with pytest.raises(ValueError, match="no check is called 'runs'"):
        check_observer(Lines, skip={"runs": "no"})
