"""The log is not lost: kills, full disks, exits, forks, and two writers."""

from __future__ import annotations

import errno
import gc
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import weakref
from contextlib import contextmanager
from itertools import pairwise

import pytest
import torch

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.errors import LossLogError, NectarganError, NectarganWarning

ZERO, ONE = torch.zeros(2), torch.ones(2)


def start(directory, **keywords):
    manager = LossManager(experiment_dir=directory, **keywords)
    manager.register_loss_fn("G_L1", torch.nn.L1Loss())
    return manager


def compute(manager, scale=1.0):
    return manager.compute_loss_xy("G_L1", ZERO, scale * ONE)


def python(code, *arguments, **keywords):
    prelude = """
        import os, sys, torch
        from nectargan_core import LossManager
        def start(directory, **keywords):
            manager = LossManager(experiment_dir=directory, **keywords)
            manager.register_loss_fn("G_L1", torch.nn.L1Loss())
            return manager
        def compute(manager, scale=1.0):
            return manager.compute_loss_xy("G_L1", torch.zeros(2), scale * torch.ones(2))
    """
    program = textwrap.dedent(prelude) + textwrap.dedent(code)
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **keywords,
    )


def test_leaving_the_with_block_flushes(tmp_path):
    with start(tmp_path) as manager:
        compute(manager)
    assert len(LossLog(tmp_path).series("G_L1")) == 1


@pytest.mark.slow
def test_the_normal_end_of_python_flushes(tmp_path):
    output, errors = python("manager = start(sys.argv[1]); compute(manager)", tmp_path).communicate(timeout=120)
    assert (output, errors) == ("", "")
    assert len(LossLog(tmp_path).series("G_L1")) == 1


def test_a_manager_without_references_flushes_and_is_freed(tmp_path):
    manager = start(tmp_path)
    network = torch.nn.Linear(1, 1)
    manager.register_loss_fn("learned", network)
    compute(manager)
    gone = weakref.ref(network)
    del manager, network
    gc.collect()
    assert gone() is None
    assert len(LossLog(tmp_path).series("G_L1")) == 1


def test_a_full_buffer_flushes_before_the_next_call(tmp_path):
    manager = start(tmp_path, history_buffer_size=3)
    for _ in range(3):
        compute(manager)
    assert not (tmp_path / "loss_log.jsonl").exists()
    compute(manager)
    assert len(LossLog(tmp_path).series("G_L1")) == 3
    manager.close()


def test_the_first_call_after_the_interval_flushes(tmp_path, monkeypatch):
    manager = start(tmp_path)
    compute(manager)
    monkeypatch.setattr("nectargan_core.losses._bound._monotonic", lambda: float("inf"))
    compute(manager)
    assert len(LossLog(tmp_path).series("G_L1")) == 1
    manager.close()


def test_a_flush_is_one_write_of_whole_lines(tmp_path, monkeypatch):
    written = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: written.append(data) or write(descriptor, data))
    manager = start(tmp_path)
    manager.register_loss_fn("other", torch.nn.MSELoss())
    for _ in range(2):
        compute(manager)
        manager.compute_loss_xy("other", ZERO, ONE)
        manager.update_loss_log()
    manager.close()
    assert len(written) == 2
    assert all(data.endswith(b"\n") for data in written)


def test_fsync_is_an_option(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    for wanted in (False, True):
        with start(tmp_path / str(wanted), fsync=wanted) as manager:
            compute(manager)
        assert bool(synced) is wanted


def test_the_cost_of_a_flush_does_not_grow_with_the_log(tmp_path, monkeypatch):
    """A flush neither reads nor rewrites the log."""
    manager = start(tmp_path)
    sizes = []
    for _ in range(5):
        compute(manager)
        manager.update_loss_log()
        sizes.append((tmp_path / "loss_log.jsonl").stat().st_size)
    grown = {after - before for before, after in pairwise(sizes)}
    assert max(grown) - min(grown) <= 2
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda _: pytest.fail("the log was read"))
    compute(manager)
    manager.update_loss_log()
    manager.close()


def test_series_reads_only_what_it_has_not_read_yet(tmp_path, monkeypatch):
    manager = start(tmp_path)
    read = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, start: read.append(count) or pread(file, count, start))
    sizes = []
    for flush in range(1, 6):
        for _ in range(100):
            compute(manager)
        manager.update_loss_log()
        read.clear()
        assert len(manager.series("G_L1")) == 100 * flush
        sizes.append(sum(read))
    read.clear()
    manager.series("G_L1")
    manager.close()
    assert sum(read) == 0
    assert max(sizes[1:]) <= 2 * min(sizes[1:])


def test_computing_after_close_is_an_error(tmp_path):
    manager = start(tmp_path)
    compute(manager)
    manager.close()
    with pytest.raises(NectarganError, match="closed"):
        compute(manager)
    assert manager.get_loss_values() == {"G_L1": 1.0}


def test_the_same_process_may_open_a_log_again(tmp_path):
    first = start(tmp_path)
    compute(first)
    with pytest.warns(NectarganWarning, match="opened again"):
        second = start(tmp_path, resume=True)
    compute(second)
    second.close()
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1]
    with pytest.raises(NectarganError, match="closed"):
        compute(first)


@pytest.mark.slow
def test_a_second_process_gets_an_error_and_leaves_the_log_unchanged(tmp_path):
    manager = start(tmp_path)
    compute(manager)
    _, errors = python("start(sys.argv[1])", tmp_path).communicate(timeout=120)
    assert "LossLogError" in errors.splitlines()[-1]
    assert "another process" in errors
    assert f"{os.getpid()} on host {socket.gethostname()!r}" in errors
    assert f"remove {tmp_path / 'loss_log.jsonl.lock'}" in errors
    manager.close()
    assert len(LossLog(tmp_path).series("G_L1")) == 1


@pytest.mark.slow
def test_a_killed_process_does_not_block_the_next_even_if_its_worker_is_still_running(tmp_path):
    owner = python(
        """
        manager = start(sys.argv[1])
        compute(manager)
        manager.update_loss_log()
        worker = os.fork()
        if worker == 0:
            import time
            time.sleep(60)
            os._exit(0)
        print(worker, flush=True)
        sys.stdin.read()
        """,
        tmp_path,
        stdin=subprocess.PIPE,
    )
    worker = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    for pipe in (owner.stdin, owner.stdout, owner.stderr):  # not read to the end, since the worker keeps them open
        pipe.close()
    try:
        os.kill(worker, 0)
        with start(tmp_path, resume=True) as manager:
            compute(manager)
    finally:
        os.kill(worker, signal.SIGKILL)
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1]


@pytest.mark.slow
def test_a_forked_worker_does_not_write_the_log_of_its_parent(tmp_path):
    program = python(
        """
        manager = start(sys.argv[1])
        compute(manager)
        worker = os.fork()
        if worker == 0:
            manager.update_loss_log()
            manager.close()
            os._exit(0)
        os.waitpid(worker, 0)
        compute(manager)
        manager.close()
        """,
        tmp_path,
    )
    _, errors = program.communicate(timeout=120)
    assert (program.returncode, errors) == (0, "")
    assert LossLog(tmp_path).series("G_L1").step.tolist() == [0, 1]


def test_a_directory_that_cannot_be_made_is_an_error_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LossLogError, match="file"):
        start(tmp_path / "file" / "run")


@contextmanager
def full_disk(size):
    """Limit the size of all files of this process, the output of the test runner included, so use it briefly."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_neither_stops_the_training_nor_damages_the_log(tmp_path):
    manager = start(tmp_path)
    path = tmp_path / "loss_log.jsonl"
    compute(manager, 1.0)
    manager.update_loss_log()
    before = path.read_bytes()
    with full_disk(len(before) + 20), pytest.warns(NectarganWarning, match="stay in memory") as warned:
        for scale in (2.0, 3.0):
            compute(manager, scale)
            manager.update_loss_log()
    assert len(warned) == 1
    assert path.read_bytes() == before
    compute(manager, 4.0)
    manager.close()
    assert LossLog(tmp_path).series("G_L1").loss.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_records_of_a_disk_that_was_full_from_the_start_are_written_once_there_is_space(tmp_path):
    manager = start(tmp_path)
    with full_disk(10), pytest.warns(NectarganWarning, match="stay in memory"):
        compute(manager)
        manager.update_loss_log()
    manager.close()
    assert "nectargan_log" in LossLog(tmp_path).header
    assert len(LossLog(tmp_path).series("G_L1")) == 1


def test_records_of_a_directory_that_was_missing_are_written_once_it_is_back(tmp_path):
    directory = tmp_path / "run"
    manager = start(directory)
    compute(manager, 1.0)
    directory.rename(tmp_path / "elsewhere")
    with pytest.warns(NectarganWarning, match="stay in memory"):
        manager.update_loss_log()
    directory.mkdir()
    compute(manager, 2.0)
    manager.close()
    assert LossLog(directory).series("G_L1").loss.tolist() == [1.0, 2.0]


def test_a_disk_that_stays_full_loses_the_oldest_records_and_warns_how_many(tmp_path):
    manager = start(tmp_path, history_buffer_size=2)
    with full_disk(0), pytest.warns(NectarganWarning) as warned:
        for scale in range(1, 51):
            compute(manager, float(scale))
    lost = [str(one.message) for one in warned if "LOST" in str(one.message)]
    manager.close()
    kept = LossLog(tmp_path).series("G_L1").loss.tolist()
    said = sum(int(message.split("the ")[1].split(" oldest")[0]) for message in lost)
    assert kept == [float(scale) for scale in range(said + 1, 51)]
    assert 40 <= len(kept) < 50


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(5, "Input/output error")])
@pytest.mark.parametrize("flushes_before", [0, 1])
def test_an_interrupted_flush_is_undone_and_written_once(tmp_path, monkeypatch, failure, flushes_before):
    manager = start(tmp_path, fsync=True)
    for _ in range(flushes_before):
        compute(manager)
        manager.update_loss_log()

    def interrupted(descriptor):
        monkeypatch.undo()
        raise failure

    compute(manager)
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt) if failure is KeyboardInterrupt else pytest.warns(NectarganWarning):
        manager.update_loss_log()
    manager.close()
    assert LossLog(tmp_path).series("G_L1").step.tolist() == list(range(flushes_before + 1))
    assert len(list(tmp_path.glob("*.jsonl"))) == 1


def test_records_that_cannot_be_written_at_close_are_lost_with_a_warning(tmp_path):
    manager = start(tmp_path)
    with full_disk(0):
        with pytest.warns(NectarganWarning, match="stay in memory"):
            compute(manager)
            manager.update_loss_log()
        compute(manager)
        with pytest.warns(NectarganWarning, match="LOST: the last 2 records"):
            manager.close()


def test_each_warning_about_lost_records_has_the_total(tmp_path):
    manager = start(tmp_path, history_buffer_size=2)
    with full_disk(0), pytest.warns(NectarganWarning) as warned:
        for scale in range(1, 60):
            compute(manager, float(scale))
    messages = [str(one.message) for one in warned if "LOST" in str(one.message)]
    assert len(set(messages)) == len(messages) > 1
    manager.close()


def test_scalars_alone_flush_too(tmp_path):
    manager = LossManager(experiment_dir=tmp_path, history_buffer_size=10)
    for value in range(25):
        manager.tick(epoch=0)
        manager.record("psnr", value)
    assert len(LossLog(tmp_path).series("psnr")) == 20
    manager.close()


def test_close_releases_the_log_even_if_a_schedule_fails(tmp_path):
    def failing(schedule, epoch):
        if epoch == 5:
            raise RuntimeError
        return 1.0

    manager = start(tmp_path)
    manager.register_loss_fn("idle", torch.nn.L1Loss(), schedule=Schedule(failing, end=4, target_value=0.0))
    manager.tick(epoch=5)
    compute(manager)
    assert manager.get_loss_weights()["idle"] == 1.0
    with pytest.warns(NectarganWarning, match="never computed: idle"):
        manager.close()
    start(tmp_path, resume=True).close()


def test_a_log_that_was_removed_during_a_run_is_begun_again_with_a_header(tmp_path):
    manager = start(tmp_path)
    compute(manager, 1.0)
    manager.update_loss_log()
    (tmp_path / "loss_log.jsonl").unlink()
    compute(manager, 2.0)
    manager.close()
    log = LossLog(tmp_path)
    assert log.header["nectargan_log"] == 2
    assert log.series("G_L1").loss.tolist() == [2.0]


KILLS = """
    import json, random, signal, time
    from nectargan_core import LossLog
    torch.set_num_threads(1)
    generator = random.Random(0)

    def train(pipe):
        manager = start(directory, resume=True, history_buffer_size=7)
        assert manager.step >= flushed, (manager.step, flushed)
        while True:
            manager.tick(epoch=0)
            compute(manager, float(manager.step % 1000))
            if manager.step % 3 == 0:
                manager.update_loss_log()
                os.write(pipe, manager.step.to_bytes(8, "big"))

    for kill in range(200):
        if kill % 20 == 0:  # a new run, so that the logs to read stay short
            directory, flushed = f"{sys.argv[1]}/{kill}", -1
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                train(writer)
            except BaseException as error:
                os.write(2, repr(error).encode())
            os._exit(1)
        os.close(writer)
        data = os.read(reader, 8)
        time.sleep(generator.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WTERMSIG(status) == signal.SIGKILL, status
        while more := os.read(reader, 1 << 20):
            data += more
        os.close(reader)
        flushed = int.from_bytes(data[-8:], "big")
        records = LossLog(directory).series("G_L1")
        steps = records.step.tolist()
        assert steps == list(range(len(steps))), "a record is missing, or is there twice"
        assert steps[-1] >= flushed, (steps[-1], flushed)
        assert records.loss.tolist() == [float(step % 1000) for step in steps]
    print(len(steps))
"""


@pytest.mark.slow
def test_two_hundred_kills_lose_no_flushed_record(tmp_path):
    """A child trains, and reports after each flush what it has written; it is killed at a random time, and resumed."""
    program = python(KILLS, tmp_path)
    output, errors = program.communicate(timeout=280)
    assert (program.returncode, errors) == (0, "")
    assert int(output) > 20


# Which file it is


OTHER = """
    directory, resume = sys.argv[1], sys.argv[2] == "resume"
    manager = start(directory, resume=resume)
    compute(manager, 50.0)
    manager.update_loss_log()
    print("logging", flush=True)
    sys.stdin.readline()
    compute(manager, 51.0)
    manager.close()
"""


@contextmanager
def another_process(directory, resume):
    """Let another process log to a directory until the context is left."""
    other = python(OTHER, directory, "resume" if resume else "anew", stdin=subprocess.PIPE)
    assert other.stdout.readline() == "logging\n", other.stderr.read()
    yield
    _, errors = other.communicate("\n", timeout=120)
    assert (other.returncode, errors) == (0, "")


def values(path):
    return LossLog(path).series("G_L1").loss.tolist()


@pytest.mark.parametrize(
    ("begun", "resume"),
    [
        (True, True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in ((True, False), (False, True), (False, False))),
    ],
)
@pytest.mark.slow
def test_a_process_whose_lock_was_removed_goes_on_in_a_file_of_its_own(tmp_path, begun, resume):
    manager = start(tmp_path)
    compute(manager, 1.0)
    if begun:
        manager.update_loss_log()
    (tmp_path / "loss_log.jsonl.lock").unlink()
    with another_process(tmp_path, resume):
        compute(manager, 2.0)
        with pytest.warns(NectarganWarning, match=r"goes on in .*loss_log.1.jsonl"):
            manager.update_loss_log()
        compute(manager, 3.0)
        manager.update_loss_log()
    manager.close()
    mine = values(tmp_path / "loss_log.1.jsonl")
    theirs = values(tmp_path)
    before = [1.0] if begun and resume else []  # what the other process has continued
    assert (before + mine, theirs) == ([1.0, 2.0, 3.0], [*before, 50.0, 51.0])


@pytest.mark.slow
def test_a_lock_that_was_removed_is_taken_again(tmp_path):
    manager = start(tmp_path)
    for scale in (1.0, 2.0):
        compute(manager, scale)
        manager.update_loss_log()
        (tmp_path / "loss_log.jsonl.lock").unlink(missing_ok=True)
        manager.update_loss_log()
    compute(manager, 3.0)
    manager.update_loss_log()
    _, errors = python("start(sys.argv[1])", tmp_path).communicate(timeout=120)
    assert "LossLogError" in errors
    manager.close()
    assert values(tmp_path) == [1.0, 2.0, 3.0]


@pytest.mark.slow
def test_the_log_follows_a_directory_that_is_renamed(tmp_path):
    directory = tmp_path / "run"
    manager = start(directory)
    compute(manager, 1.0)
    manager.update_loss_log()
    directory.rename(tmp_path / "renamed")
    with another_process(directory, resume=False):
        compute(manager, 2.0)
        manager.update_loss_log()
    assert manager.series("G_L1").loss.tolist() == [1.0, 2.0]
    manager.close()
    assert (values(tmp_path / "renamed"), values(directory)) == ([1.0, 2.0], [50.0, 51.0])


def test_the_log_follows_a_file_that_is_renamed(tmp_path):
    manager = start(tmp_path)
    compute(manager, 1.0)
    manager.update_loss_log()
    (tmp_path / "loss_log.jsonl").rename(tmp_path / "loss_log.old.jsonl")
    compute(manager, 2.0)
    with pytest.warns(NectarganWarning, match=r"was renamed; the log of this run goes on in .*loss_log.old.jsonl"):
        manager.close()
    assert values(tmp_path / "loss_log.old.jsonl") == [1.0, 2.0]


def test_a_file_that_an_editor_has_exchanged_is_appended_to(tmp_path):
    manager = start(tmp_path)
    compute(manager, 1.0)
    manager.update_loss_log()
    path = tmp_path / "loss_log.jsonl"
    copy = tmp_path / "copy"
    copy.write_bytes(path.read_bytes())
    copy.replace(path)
    compute(manager, 2.0)
    assert manager.series("G_L1").loss.tolist() == [1.0, 2.0]
    manager.close()
    assert values(tmp_path) == [1.0, 2.0]


def test_a_file_that_was_emptied_gets_a_header_again(tmp_path):
    manager = start(tmp_path)
    compute(manager, 1.0)
    manager.update_loss_log()
    (tmp_path / "loss_log.jsonl").write_bytes(b"")
    compute(manager, 2.0)
    manager.close()
    assert LossLog(tmp_path).header["nectargan_log"] == 2
    assert values(tmp_path) == [2.0]


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_logged_to_with_a_warning(tmp_path, monkeypatch, number):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(NectarganWarning, match="on a file system without locks") as caught:
        manager = start(tmp_path)
        for scale in (1.0, 2.0):
            compute(manager, scale)
            manager.update_loss_log()
        manager.close()
    assert len(caught) == 1
    assert values(tmp_path) == [1.0, 2.0]


# Writes that fail


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("truncates", [True, False])
def test_a_line_that_a_failing_write_has_cut_short_loses_nothing(tmp_path, monkeypatch, part, truncates):
    manager = start(tmp_path)
    write = os.write

    def failing(descriptor, data):
        write(descriptor, data[: int(part * len(data))])
        raise OSError(errno.EIO, "Input/output error")

    def refuse(descriptor, size):
        raise OSError(errno.EIO, "Input/output error")

    for scale in (1.0, 2.0):
        compute(manager, scale)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", failing)
            if not truncates:
                patch.setattr(os, "ftruncate", refuse)
            with pytest.warns(NectarganWarning, match="stay in memory"):
                manager.update_loss_log()
        compute(manager, scale + 10)
        manager.update_loss_log()
    manager.close()
    assert values(tmp_path) == [1.0, 11.0, 2.0, 12.0]


def test_what_another_process_has_left_unfinished_swallows_no_line(tmp_path):
    manager = start(tmp_path)
    compute(manager, 1.0)
    manager.update_loss_log()
    with (tmp_path / "loss_log.jsonl").open("ab") as file:
        file.write(b'{"loss_name":"other","ti')
    compute(manager, 2.0)
    manager.close()
    with pytest.warns(NectarganWarning, match="damaged"):
        assert values(tmp_path) == [1.0, 2.0]


def test_a_timeout_of_a_signal_handler_while_the_log_is_read_is_raised_as_it_is(tmp_path, monkeypatch):
    manager = start(tmp_path)
    compute(manager)
    manager.update_loss_log()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", lambda *_: (_ for _ in ()).throw(TimeoutError("30 s are over")))
        with pytest.raises(TimeoutError, match="30 s are over"):
            manager.series("G_L1")
    assert len(manager.series("G_L1")) == 1
    manager.close()
