"""What a file that is written leaves of what was at its path before: links, modes, pipes, and read-only directories."""

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

from nectargan_core import Objective
from nectargan_core._writing import replace_file

posix = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has neither modes nor FIFOs, and links need a right"
)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def read_only(monkeypatch):
    """Return a function after which no directory takes a new file, as a read-only one does not for all but root."""
    opened = os.open

    def refuse(path, flags, *rest):
        if flags & os.O_CREAT:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags, *rest)

    return lambda: monkeypatch.setattr("os.open", refuse)


class TestReplaced:
    def test_nothing_else_is_left_in_the_directory(self, tmp_path):
        for data in (b"first", b"second"):
            replace_file(tmp_path / "file", data)
            assert (tmp_path / "file").read_bytes() == data
        assert [file.name for file in tmp_path.iterdir()] == ["file"]

    def test_a_name_may_be_as_long_as_a_file_can_have(self, tmp_path):
        replace_file(tmp_path / ("x" * 255), b"data")
        assert (tmp_path / ("x" * 255)).read_bytes() == b"data"

    @posix
    def test_a_new_file_has_the_mode_of_any_other(self, tmp_path):
        (tmp_path / "other").write_bytes(b"")
        replace_file(tmp_path / "file", b"data")
        assert mode(tmp_path / "file") == mode(tmp_path / "other")

    @posix
    @pytest.mark.parametrize("kept", [0o600, 0o640, 0o664])
    def test_a_file_keeps_its_mode(self, tmp_path, kept):
        file = tmp_path / "file"
        file.write_bytes(b"former")
        file.chmod(kept)
        replace_file(file, b"data")
        assert (file.read_bytes(), mode(file)) == (b"data", kept)

    @posix
    def test_what_only_its_owner_may_read_is_never_readable_for_others(self, tmp_path, monkeypatch):
        file, modes = tmp_path / "file", []
        file.write_bytes(b"former")
        file.chmod(0o600)
        monkeypatch.setattr("os.fsync", lambda opened: modes.append(stat.S_IMODE(os.fstat(opened).st_mode)))
        replace_file(file, b"data")
        assert modes == [0o600]

    def test_a_file_that_may_not_be_written_stays(self, tmp_path, monkeypatch):
        file = tmp_path / "file"
        file.write_bytes(b"former")
        monkeypatch.setattr("os.access", lambda path, kind: False)  # root may write everything
        with pytest.raises(PermissionError):
            replace_file(file, b"data")
        assert file.read_bytes() == b"former"


@posix
class TestLinks:
    @pytest.mark.parametrize("is_there", [True, False])
    def test_a_link_stays_and_the_file_that_it_leads_to_is_written(self, tmp_path, is_there):
        (tmp_path / "elsewhere").mkdir()
        target, link = tmp_path / "elsewhere/target", tmp_path / "link"
        if is_there:
            target.write_bytes(b"former")
        (tmp_path / "between").symlink_to("elsewhere/target")
        link.symlink_to("between")
        replace_file(link, b"data")
        assert link.is_symlink()
        assert (target.is_symlink(), target.read_bytes()) == (False, b"data")

    def test_a_link_that_leads_to_itself_is_an_error(self, tmp_path):
        (tmp_path / "link").symlink_to("link")
        with pytest.raises(OSError, match="symbolic links"):
            replace_file(tmp_path / "link", b"data")
        assert (tmp_path / "link").is_symlink()


@posix
class TestNoOrdinaryFile:
    @pytest.mark.parametrize("by_link", [True, False])
    def test_who_reads_a_fifo_gets_what_is_written(self, tmp_path, by_link):
        fifo, read = tmp_path / "fifo", []
        os.mkfifo(fifo)
        (tmp_path / "link").symlink_to("fifo")
        reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()), daemon=True)
        reader.start()
        replace_file(tmp_path / "link" if by_link else fifo, b"data" * 100_000)
        reader.join(10)
        assert read == [b"data" * 100_000]
        assert stat.S_ISFIFO(fifo.stat().st_mode)
        assert (tmp_path / "link").is_symlink()

    def test_a_pipe_is_written_by_the_path_of_its_descriptor(self):
        reads, writes = os.pipe()
        replace_file(Path(f"/dev/fd/{writes}"), b"data")
        os.close(writes)
        with os.fdopen(reads, "rb") as opened:
            assert opened.read() == b"data"

    def test_a_directory_is_an_error(self, tmp_path):
        with pytest.raises(IsADirectoryError):
            replace_file(tmp_path, b"data")


class TestReadOnlyDirectory:
    def test_a_file_in_it_is_written_and_stays_the_same_file(self, tmp_path, read_only):
        file = tmp_path / "file"
        file.write_bytes(b"a longer former text")
        before = file.stat().st_ino
        read_only()
        replace_file(file, b"data")
        assert (file.read_bytes(), file.stat().st_ino) == (b"data", before)

    @pytest.mark.parametrize("reason", [errno.EPERM, errno.EBUSY])  # of a directory like /tmp; of a mounted file
    def test_one_that_may_be_written_and_not_replaced_is_written(self, tmp_path, monkeypatch, reason):
        def refuse(*_):
            raise OSError(reason, os.strerror(reason))

        (tmp_path / "file").write_bytes(b"former")
        monkeypatch.setattr("pathlib.Path.replace", refuse)
        replace_file(tmp_path / "file", b"data")
        assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("file", b"data")]

    def test_a_new_file_is_an_error(self, tmp_path, read_only):
        read_only()
        with pytest.raises(PermissionError):
            replace_file(tmp_path / "file", b"data")
        assert list(tmp_path.iterdir()) == []


@posix
def test_an_objective_is_saved_through_a_link_and_keeps_its_mode(tmp_path):
    target, link = tmp_path / "target.toml", tmp_path / "link.toml"
    target.write_bytes(b"")
    target.chmod(0o600)
    link.symlink_to("target.toml")
    Objective(formula="100*l1").save(link)
    assert link.is_symlink()
    assert mode(target) == 0o600
    assert "100*l1" in target.read_text(encoding="utf-8")
