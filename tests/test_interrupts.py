"""Interrupts, signal handlers and threads: every record that was returned is in the log, once."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from devices import elsewhere
from logs import identity, manager_in

import nectargan_core
from nectargan_core import LossLog
from nectargan_core.errors import NectarganError

ROOMS = tuple(
    str(Path(nectargan_core.__file__).parent / name) for name in ("history", "losses/_bound", "log", "manager")
)


class Interrupted(BaseException):
    """Stands for the exception of a signal handler."""


def at_instruction(number, action):
    """Return a trace function that calls `action` before the given instruction of the rooms that record."""
    seen = iter(range(10**9))

    def trace(frame, event, argument):
        if not frame.f_code.co_filename.startswith(ROOMS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(seen) == number:
            sys.settrace(None)
            action()
        return trace

    return trace


def traced(number, action, function):
    """Call a function with `action` before one of its instructions; returns whether it has so many."""
    done = []

    def act():
        done.append(True)
        action()

    before = sys.gettrace()  # that of a coverage measurement
    gc.disable()  # what is freed here has nothing to do with the run
    # Python 3.12 sends these events only if a frame has asked for them when tracing begins.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(at_instruction(number, act))
    try:
        function()
    except Interrupted:
        pass
    finally:
        sys.settrace(before)
        gc.enable()
    return bool(done)


def interrupt():
    raise Interrupted


def device(value):
    return elsewhere(value)


def cpu(value):
    return torch.tensor(value)


def assert_whole(records, returned, started):
    """Check that what was returned is there once, what was not at most once, and each with its own numbers."""
    values = records.unweighted.tolist()
    assert [value for value in values if value in returned] == returned
    assert set(values) <= set(started)
    assert max(Counter(values).values()) == 1
    assert records.loss.tolist() == [3 * value for value in values]
    assert records.epoch.tolist() == [value // 2 for value in values]
    assert len(set(records.step.tolist())) == len(values)
    assert records.step.tolist() == sorted(records.step.tolist())


class Run:
    """A training loop of numbered losses that knows what was returned to it."""

    def __init__(self, directory, make, **keywords):
        self.manager = manager_in(directory, history_buffer_size=2, **keywords)
        self.make = make
        self.started, self.returned = [], []
        self.returned_before, self.refused = None, False

    def step(self):
        value = float(len(self.started) + 1)
        self.started.append(value)
        self.manager.compute_loss_xy("a", self.make(value), None, epoch=value // 2)
        self.returned.append(value)

    def steps(self):
        for _ in range(3):
            self.step()

    def flush(self):
        self.manager.update_loss_log()

    def close(self):
        self.returned_before = len(self.returned)
        self.manager.close()

    def until_closed(self, what):
        """Go on as a loop does that a handler closes the manager of."""
        try:
            getattr(self, what)()
            while self.returned_before is not None:
                self.step()
        except NectarganError:
            self.refused = True


@pytest.mark.slow
@pytest.mark.parametrize("make", [cpu, device])
@pytest.mark.parametrize("what", ["steps", "flush"])
def test_an_interrupt_at_any_instruction_loses_no_record_and_doubles_none(tmp_path, make, what):
    for number in range(10**5):
        run = Run(tmp_path / str(number), make)
        run.steps()
        reached = traced(number, interrupt, getattr(run, what))
        run.step()
        assert_whole(run.manager.series("a"), run.returned, run.started)
        run.manager.close()
        assert_whole(LossLog(tmp_path / str(number)).series("a"), run.returned, run.started)
        if not reached:
            break
    assert number > 300


@pytest.mark.slow
@pytest.mark.parametrize("make", [cpu, device])
@pytest.mark.parametrize("what", ["steps", "flush"])
@pytest.mark.parametrize("call", ["update_loss_log", "state_dict"])
def test_a_handler_may_flush_at_any_instruction(tmp_path, make, what, call):
    for number in range(10**5):
        run = Run(tmp_path / str(number), make)
        run.steps()
        reached = traced(number, getattr(run.manager, call), getattr(run, what))
        run.step()
        assert_whole(run.manager.series("a"), run.started, run.started)
        run.manager.close()
        assert_whole(LossLog(tmp_path / str(number)).series("a"), run.started, run.started)
        if not reached:
            break
    assert number > 300


@pytest.mark.slow
@pytest.mark.parametrize("make", [cpu, device])
@pytest.mark.parametrize("what", ["steps", "flush"])
def test_a_handler_may_close_at_any_instruction(tmp_path, make, what):
    for number in range(10**5):
        run = Run(tmp_path / str(number), make)
        run.steps()
        reached = traced(number, run.close, lambda run=run: run.until_closed(what))
        if not reached:
            break
        # At most the call that was under way is returned after it was closed.
        assert run.refused
        assert len(run.returned) <= run.returned_before + 1
        assert_whole(LossLog(tmp_path / str(number)).series("a"), run.returned, run.started)
    run.manager.close()
    assert number > 300


@contextmanager
def signals(handler, seconds):
    """Call a signal handler again and again, each time after so many seconds of work of this process."""
    before = signal.signal(signal.SIGPROF, handler)
    gc.collect()
    gc.disable()  # an exception that is raised while Python frees something else is swallowed
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        gc.enable()


@pytest.mark.parametrize("make", [cpu, device])
def test_five_hundred_interrupts_lose_no_record_and_double_none(tmp_path, make):
    run = Run(tmp_path, make, flush_every=0.0)
    interrupts = 0
    armed = False

    def handler(signum, frame):
        nonlocal interrupts
        if armed:
            interrupts += 1
            raise Interrupted

    with signals(handler, 4e-3):
        while interrupts < 500:
            try:
                armed = True
                while interrupts < 500:
                    run.step()
            except Interrupted:
                armed = False
    armed = False
    run.manager.close()
    assert len(run.returned) > 500
    assert_whole(LossLog(tmp_path).series("a"), run.returned, run.started)


@pytest.mark.parametrize("make", [cpu, device])
def test_five_hundred_flushes_of_a_handler_lose_no_record_and_double_none(tmp_path, make):
    run = Run(tmp_path, make, flush_every=0.0)
    calls = Counter()

    def handler(signum, frame):
        call = ("update_loss_log", "state_dict")[calls.total() % 2]
        calls[call] += 1
        getattr(run.manager, call)()

    with signals(handler, 4e-3):
        while calls.total() < 500:
            run.step()
    run.manager.close()
    assert_whole(LossLog(tmp_path).series("a"), run.returned, run.started)
    assert run.returned == run.started


def test_a_record_that_was_under_way_when_a_handler_closed_the_manager_is_written_at_the_end(tmp_path):
    calls = []

    def closing(x, y):
        calls.append(x)
        if len(calls) == 2:
            manager.close()
        return identity(x, y)

    manager = manager_in(tmp_path)
    manager.register_loss_fn("closing", closing)
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    manager.compute_loss_xy("closing", torch.tensor(2.0), None)
    assert manager.compute_loss_xy("closing", torch.tensor(3.0), None).item() == 3.0
    with pytest.raises(NectarganError, match="closed"):
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    assert LossLog(tmp_path).series("closing").loss.tolist() == [2.0, 3.0]


@pytest.mark.parametrize("make", [cpu, device])
def test_threads_that_compute_while_one_flushes_and_others_read_lose_nothing(tmp_path, make):
    manager = manager_in(tmp_path, names=("a", "b"))
    manager.tick(epoch=0)
    done = threading.Event()

    def compute(number):
        for index in range(400):
            value = float(number * 1000 + index)
            manager.compute_loss_xy("ab"[index % 2], make(value), None, epoch=number)
            manager.record(f"scalar{number}", value)

    def flush():
        while not done.is_set():
            manager.update_loss_log()
            time.sleep(0.02)

    def read():
        while not done.is_set():
            values = manager.series("a").unweighted.tolist()
            assert len(values) == len(set(values))
            manager.get_loss_values()
            manager.means()
            manager.state_dict()

    with ThreadPoolExecutor(7) as pool:
        others = [pool.submit(flush), pool.submit(read)]
        computing = [pool.submit(compute, number) for number in range(1, 5)]
        for each in computing:
            each.result()
        done.set()
        for each in others:
            each.result()
    manager.close()
    log = LossLog(tmp_path)
    for offset, name in enumerate("ab"):
        records = log.series(name)
        expected = sorted(float(number * 1000 + index) for number in range(1, 5) for index in range(offset, 400, 2))
        assert sorted(records.unweighted.tolist()) == expected
        assert records.loss.tolist() == [3 * value for value in records.unweighted]
        assert records.epoch.tolist() == [value // 1000 for value in records.unweighted]
    for number in range(1, 5):
        assert log.series(f"scalar{number}").loss.tolist() == [float(number * 1000 + index) for index in range(400)]


def test_an_interrupt_at_any_instruction_of_a_split_leaves_it(tmp_path):
    for number in range(10**5):
        manager = manager_in(tmp_path / str(number), names=("a", "b"))

        def validate(manager=manager):
            with manager.split("val"):
                manager.compute_loss_xy("a", torch.tensor(1.0), None)
                manager.compute_loss_xy("b", torch.tensor(1.0), None)

        validate()
        reached = traced(number, interrupt, validate)
        manager.tick(epoch=1)
        for name in ("a", "b"):
            manager.compute_loss_xy(name, torch.tensor(2.0), None)
            manager.record("psnr", 1.0)
        manager.close()
        log = LossLog(tmp_path / str(number))
        assert [log.series(name).unweighted.tolist() for name in ("a", "b")] == [[2.0], [2.0]]
        assert len(log.series("psnr")) == 2
        if not reached:
            break
    assert number > 100
