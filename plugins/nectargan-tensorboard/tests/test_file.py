"""The file of events: what is in it stays readable, whatever refuses or interrupts a write."""

import pytest
from nectargan_tensorboard import events
from nectargan_tensorboard.file import EventFile, has_events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nectargan_core.errors import NectarganError


def text(name):
    return events.text(name, 1.0, 0, name)


def tags(directory):
    return EventAccumulator(str(directory)).Reload().Tags()["tensors"]


def test_blocks_follow_each_other_in_one_file(tmp_path):
    file = EventFile(tmp_path / "run")
    file.append(text("a"))
    file.append(text("b"))
    (path,) = (tmp_path / "run").iterdir()
    assert tags(path.parent) == ["a", "b"]


def test_nothing_is_made_before_there_is_something_to_write(tmp_path):
    EventFile(tmp_path / "run").append(b"")
    assert list(tmp_path.iterdir()) == []


def test_a_new_file_is_read_after_those_that_are_there(tmp_path):
    for number in range(12):
        EventFile(tmp_path).append(text(str(number)))
    assert tags(tmp_path) == [str(number) for number in range(12)]


def test_a_file_of_the_future_is_read_before_a_new_one(tmp_path):
    (tmp_path / "events.out.tfevents.9000000000.host.1.0").write_bytes(events.first(1.0) + text("old"))
    EventFile(tmp_path).append(text("new"))
    assert tags(tmp_path) == ["old", "new"]


def test_what_a_failed_write_has_left_is_written_over(tmp_path):
    file = EventFile(tmp_path)
    file.append(text("a"))
    (path,) = tmp_path.iterdir()
    with path.open("ab") as other:
        other.write(text("b")[:-5])
    file.append(text("b"))
    assert tags(tmp_path) == ["a", "b"]


def test_a_block_that_was_interrupted_is_written_with_the_next(tmp_path, monkeypatch):
    file = EventFile(tmp_path)
    file.append(text("a"))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(type(tmp_path), "open", interrupted)
        with pytest.raises(KeyboardInterrupt):
            file.append(text("b"))
    file.append(text("c"))
    assert tags(tmp_path) == ["a", "b", "c"]


def test_what_could_not_be_written_is_written_later(tmp_path):
    (tmp_path / "run").write_bytes(b"a file in the place of the directory")
    file = EventFile(tmp_path / "run")
    for name in ("a", "b"):
        with pytest.raises(
            NectarganError, match=r"cannot write to .*run: 'run' there is no directory, .* writes up to 20"
        ):
            file.append(text(name))
    (tmp_path / "run").unlink()
    file.append(b"")
    assert tags(tmp_path / "run") == ["a", "b"]


def test_what_waits_has_a_limit(tmp_path):
    (tmp_path / "run").write_bytes(b"")
    file = EventFile(tmp_path / "run")
    for number in range(25):
        with pytest.raises(NectarganError):
            file.append(text(str(number)))
    (tmp_path / "run").unlink()
    file.append(b"")
    assert len(tags(tmp_path / "run")) == 20


def test_the_last_block_says_that_what_waits_is_lost(tmp_path):
    (tmp_path / "run").write_bytes(b"")
    with pytest.raises(NectarganError, match=r"what waited in memory is lost with this last flush"):
        EventFile(tmp_path / "run" / "first").append(text("a"), is_last=True)


def test_a_new_directory_is_no_one_that_is_there(tmp_path):
    (tmp_path / "run").mkdir()
    files = [EventFile(tmp_path / "run", is_new=True) for _ in range(2)]
    for name in ("a", "b"):
        for file in files:
            file.append(text(name))
    assert [file.directory.name for file in files] == ["run_2", "run_3"]
    assert tags(tmp_path / "run_2") == tags(tmp_path / "run_3") == ["a", "b"]


def test_a_new_directory_is_made_once_nothing_is_in_its_way(tmp_path):
    (tmp_path / "runs").write_bytes(b"")
    file = EventFile(tmp_path / "runs" / "first", is_new=True)
    for name in ("a", "b"):
        with pytest.raises(
            NectarganError, match=r"cannot write to .*first: 'runs' there is no directory, so move it away"
        ):
            file.append(text(name))
    (tmp_path / "runs").unlink()
    file.append(text("c"))
    assert tags(tmp_path / "runs" / "first") == ["a", "b", "c"]


def test_a_directory_that_cannot_be_looked_into_may_have_events(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError

    monkeypatch.setattr(type(tmp_path), "iterdir", refused)
    assert has_events(tmp_path)


def test_a_disk_that_fills_in_the_middle_of_a_block_loses_nothing(tmp_path):
    resource = pytest.importorskip("resource", reason="needs limits of POSIX")
    file = EventFile(tmp_path)
    file.append(text("a"))
    (path,) = tmp_path.iterdir()
    size, limits = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
    try:
        with pytest.raises(NectarganError, match="cannot write to .*: File too large"):
            file.append(text("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.stat().st_size == size + 10
    assert tags(tmp_path) == ["a"]
    file.append(text("c"))
    assert tags(tmp_path) == ["a", "b", "c"]


def test_a_removed_directory_is_made_again(tmp_path):
    file = EventFile(tmp_path / "run")
    file.append(text("a"))
    (path,) = (tmp_path / "run").iterdir()
    path.unlink()
    path.parent.rmdir()
    file.append(text("b"))
    assert tags(tmp_path / "run") == ["b"]


def test_files_of_others_are_no_events(tmp_path):
    assert not has_events(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_bytes(b"")
    assert not has_events(tmp_path)
    EventFile(tmp_path).append(text("a"))
    assert has_events(tmp_path)
