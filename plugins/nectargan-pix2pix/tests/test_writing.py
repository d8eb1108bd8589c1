"""Files that are replaced as a whole, and directories that can be written to."""

import pytest
from nectargan_pix2pix.writing import check_writable, replace


def test_a_file_is_replaced(tmp_path):
    for text in (b"old", b"new"):
        replace(tmp_path / "a.txt", text)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"new"


@pytest.mark.parametrize("failing", ["os.fsync", "pathlib.Path.replace"])
def test_a_file_that_cannot_be_replaced_is_there_still(tmp_path, monkeypatch, failing):
    replace(tmp_path / "a.txt", b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(failing, full)
        with pytest.raises(OSError, match="No space left"):
            replace(tmp_path / "a.txt", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_a_file_that_a_killed_process_has_left_is_overwritten(tmp_path):
    (tmp_path / ".a.txt.tmp").write_bytes(b"half of what was to be wri")
    replace(tmp_path / "a.txt", b"whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("place", [".", "new", "new/deeper"])
def test_looking_whether_a_directory_can_be_written_to_leaves_nothing(tmp_path, place):
    check_writable(tmp_path / place)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_is_no_directory_to_write_to(tmp_path, place):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="not a directory"):
        check_writable(tmp_path / place)
