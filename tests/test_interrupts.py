"""Interrupts, signal handlers and threads: every record that was returned is in the log, once."""

from __future__ import annotations

import gc
import signal
import sys
import threading
import time
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest
import torch
from devices import elsewhere
from logs import identity, manager_in

import nectargan_core
from nectargan_core import LossLog, LossManager, hookimpl
from nectargan_core.errors import NectarganError, NonFiniteLossError
from nectargan_core.history._atomic import Exclusive

ROOMS = tuple(
    str(Path(nectargan_core.__file__).parent / name)
    for name in ("history", "losses/_bound", "losses/_components", "losses/_plan", "log", "manager")
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


def come_between(directory, make, what, action_of, check=lambda run: None):
    """Do something before each instruction of some steps or a flush, and check memory and log each time."""
    for number in range(10**5):
        run = Run(directory / str(number), make)
        run.steps()
        reached = traced(number, action_of(run), getattr(run, what))
        run.step()
        check(run)
        assert_whole(run.manager.series("a"), run.returned, run.started)
        run.manager.close()
        assert_whole(LossLog(directory / str(number)).series("a"), run.returned, run.started)
        if not reached:
            break
    assert number > 300


@pytest.mark.slow
@pytest.mark.parametrize("make", [cpu, device])
@pytest.mark.parametrize("what", ["steps", "flush"])
def test_an_interrupt_at_any_instruction_loses_no_record_and_doubles_none(tmp_path, make, what):
    come_between(tmp_path, make, what, lambda run: interrupt)


@pytest.mark.slow
@pytest.mark.parametrize("make", [cpu, device])
@pytest.mark.parametrize("what", ["steps", "flush"])
@pytest.mark.parametrize("call", ["update_loss_log", "state_dict"])
def test_a_handler_may_flush_at_any_instruction(tmp_path, make, what, call):
    def all_returned(run):
        assert run.returned == run.started

    come_between(tmp_path, make, what, lambda run: getattr(run.manager, call), all_returned)


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
    tracing = sys.gettrace()
    sys.settrace(None)  # a coverage measurement has a lock, which an exception leaves locked
    gc.collect()
    gc.disable()  # an exception that is raised while Python frees something else is swallowed
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        gc.enable()
        sys.settrace(tracing)


@pytest.mark.parametrize("make", [cpu, pytest.param(device, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_five_hundred_interrupts_lose_no_record_and_double_none(tmp_path, make):
    run = Run(tmp_path, make, flush_every=0.0)
    interrupts = 0
    armed = False

    def handler(signum, frame):
        nonlocal interrupts, armed
        if armed:
            armed = False
            interrupts += 1
            raise Interrupted

    # A function of its own, since Python 3.13 does not count the end of a loop as inside of a with block.
    def train():
        while interrupts < 500:
            run.step()

    with signals(handler, 4e-3):
        while interrupts < 500:
            with suppress(Interrupted):
                armed = True
                train()
        armed = False
    run.manager.close()
    assert len(run.returned) > 500
    assert_whole(LossLog(tmp_path).series("a"), run.returned, run.started)


@pytest.mark.slow
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


@pytest.mark.parametrize("others", [None, *(pytest.param(count, marks=pytest.mark.slow) for count in (0, 1, 3))])
@pytest.mark.slow
def test_an_interrupt_at_any_instruction_records_a_loss_with_all_its_components_or_none(others):
    def compute(manager, x):
        if others is None:
            return manager.compute_loss("parts", x)
        return manager.compute_losses({"x": x})["parts"]

    for number in range(10**5):
        manager = LossManager(enable_logging=True)
        manager.register_loss_fn("parts", lambda x: {"a": x * 1, "b": x * 2}, 3.0, inputs=("x",))
        for index in range(others or 0):
            manager.register_loss_fn(f"other{index}", lambda x: x * 1, 3.0, inputs=("x",))
        returned = []
        step = lambda: returned.append(compute(manager, torch.tensor(1.0)).item())  # noqa: B023, E731 # called below
        reached = traced(number, interrupt, step)
        counts = {name: len(manager.series(name)) for name in manager.state_dict()["counts"]}
        assert set(counts.values()) == {1} or (set(counts.values()) == {0} and not returned)
        assert compute(manager, torch.tensor(2.0)).item() == 18.0
        for name, value in (("parts", 6.0), ("parts.a", 2.0), ("parts.b", 4.0)):
            records = manager.series(name)
            assert records.unweighted.tolist() == [value / 2] * (len(records) - 1) + [value]
            assert records.step.tolist() == manager.series("parts").step.tolist()
        assert len(set(manager.state_dict()["counts"].values())) == 1 or others
        if not reached:
            break
    assert number > 100


@pytest.mark.slow
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


# One run at a time


def exclusive(function):
    return Exclusive(lambda: function() or 0)


def test_a_call_from_inside_of_a_run_lets_it_run_again_and_returns_at_once():
    runs = []

    def function():
        runs.append(len(runs))
        if len(runs) == 1:
            assert run(wait=True) == 0

    run = exclusive(function)
    run()
    assert runs == [0, 1]


def test_a_handler_at_any_instruction_of_a_run_never_waits():
    for number in range(10**4):
        run = exclusive(lambda: None)
        run()
        with ThreadPoolExecutor(1) as pool:  # so that the last run was that of another thread
            pool.submit(run).result()
        # A call that waits here would do so for ever.
        if not traced(number, lambda run=run: run(wait=True), run):
            break
    assert number > 20


def test_a_call_that_waits_ends_with_a_run_that_has_begun_after_it():
    begun, go_on = threading.Event(), threading.Event()
    runs = []

    def function():
        runs.append("begun")
        begun.set()
        assert go_on.wait(60)
        runs.append("ended")

    run = exclusive(function)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run)
        assert begun.wait(60)
        second = pool.submit(run, True)
        time.sleep(0.02)
        assert not second.done()
        go_on.set()
        second.result(60)
        first.result(60)
    assert runs == ["begun", "ended"] * 2


def test_an_interrupt_at_any_instruction_leaves_nothing_locked():
    for number in range(10**4):
        runs = []
        run = exclusive(lambda runs=runs: runs.append(1))
        reached = traced(number, interrupt, run)
        before = len(runs)
        run()
        assert len(runs) > before
        if not reached:
            break
    assert number > 20


@pytest.mark.slow
@pytest.mark.parametrize("ticked", [True, False])
def test_a_state_that_was_loaded_in_part_can_be_loaded_again(tmp_path, ticked):
    for number in range(10**4):
        manager = manager_in(tmp_path / str(number))

        def step(manager=manager):
            if ticked:
                manager.tick(epoch=0)
            manager.compute_loss_xy("a", torch.tensor(1.0), None)

        for _ in range(5):
            step()
        state = manager.state_dict()
        for _ in range(5):
            step()
        reached = traced(number, interrupt, lambda manager=manager, state=state: manager.load_state_dict(state))
        manager.load_state_dict(state)
        for _ in range(3):
            step()
        manager.close()
        assert LossLog(tmp_path / str(number)).series("a").step.tolist() == list(range(8))
        if not reached:
            break
    assert number > 100


@pytest.mark.slow
def test_a_state_is_loaded_while_another_thread_flushes(tmp_path):
    manager = manager_in(tmp_path)
    done = threading.Event()

    def flush():
        while not done.is_set():
            manager.update_loss_log()

    with ThreadPoolExecutor(1) as pool:
        flushing = pool.submit(flush)
        for _ in range(20):
            state = manager.state_dict()
            for _ in range(20):
                manager.tick(epoch=0)
                manager.compute_loss_xy("a", torch.tensor(1.0), None)
            manager.load_state_dict(state)
            for _ in range(3):
                manager.tick(epoch=0)
                manager.compute_loss_xy("a", torch.tensor(2.0), None)
        done.set()
        flushing.result()
    manager.close()
    records = LossLog(tmp_path).series("a")
    assert records.step.tolist() == list(range(60))
    assert set(records.unweighted.tolist()) == {2.0}


def test_a_manager_that_another_thread_closes_gives_up_its_lock(tmp_path):
    manager = manager_in(tmp_path)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(manager.close).result()
    manager_in(tmp_path, resume=True).close()


def test_an_error_of_a_signal_handler_is_not_taken_for_one_of_the_disk(tmp_path, monkeypatch):
    manager = manager_in(tmp_path)
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", lambda *_: (_ for _ in ()).throw(TimeoutError("30 s are over")))
        with pytest.raises(TimeoutError, match="30 s are over"):
            manager.update_loss_log()
    manager.close()
    assert len(LossLog(tmp_path).series("a")) == 1


def test_an_observer_may_record_and_flush_while_it_is_notified(tmp_path):
    flushes = []

    class Recording:
        @hookimpl
        def nectargan_history_flushed(self, manager, chunks):
            flushes.append(chunks)
            manager.record("flushes", len(chunks))
            manager.update_loss_log()

    with manager_in(tmp_path, observers=[Recording()]) as manager:
        for _ in range(3):
            manager.compute_loss_xy("a", torch.tensor(1.0), None)
            manager.update_loss_log()
    log = LossLog(tmp_path)
    assert (len(log.series("a")), len(log.series("flushes"))) == (3, len(flushes))
    assert len(flushes) < 10


def test_an_observer_does_not_take_an_error_that_is_due(tmp_path):
    class Flushing:
        @hookimpl
        def nectargan_history_flushed(self, manager, chunks):
            manager.record("flushes", 1)
            manager.update_loss_log()

    manager = manager_in(tmp_path, observers=[Flushing()], nonfinite="raise")
    manager.compute_loss_xy("a", device(float("inf")), None)
    with pytest.raises(NonFiniteLossError):
        manager.update_loss_log()
    manager.close()


def test_losses_that_are_computed_together_are_recorded_together_even_if_one_is_not_finite():
    manager = LossManager(enable_logging=True, nonfinite="raise")
    for name in ("a", "b"):
        manager.register_loss_fn(name, identity)
    with pytest.raises(NonFiniteLossError, match="'a' became inf"):
        manager.compute_losses({"y_fake": torch.tensor(float("inf")), "y": torch.ones(())})
    assert [len(manager.series(name)) for name in ("a", "b")] == [1, 1]


@pytest.mark.slow
def test_an_interrupt_at_any_instruction_finds_all_losses_that_are_computed_together_recorded_or_none(tmp_path):
    names, inputs = "abcde", {"y_fake": torch.tensor(1.0), "y": None}
    for number in range(0, 10**5, 3):
        with LossManager(experiment_dir=tmp_path / str(number), history_buffer_size=2) as manager:
            for name in names:
                manager.register_loss_fn(name, identity, 3.0)
            for _ in range(2):
                manager.compute_losses(inputs)
            reached = traced(number, interrupt, partial(manager.compute_losses, inputs))
            manager.compute_losses(inputs)
            unweighted = {name: manager.series(name).unweighted.tolist() for name in names}
            assert len(set(map(tuple, unweighted.values()))) == 1
            assert len(unweighted["a"]) in (3, 4)
        if not reached:
            break
    assert number > 200


def test_a_pause_costs_the_same_however_many_there_were():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("idle", identity)
    loss = manager._registry["idle"]
    for _ in range(100):
        with manager.paused():
            pass
    assert len(loss._elsewhere) < 15


def test_a_mean_copies_only_what_it_is_of():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", identity)
    for _ in range(20_000):
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    manager.tick(epoch=1)
    manager.compute_loss_xy("a", torch.tensor(3.0), None)
    tracemalloc.start()
    try:
        assert manager.means() == {"a": 3.0}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 20_000
