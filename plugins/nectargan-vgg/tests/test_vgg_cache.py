"""The cache folder, where others may write: exchanged copies, planted names, killed runs, read-only folders."""

import builtins
import contextlib
import errno
import hashlib
import io
import os
import re
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nectargan_vgg import VGGPerceptual, files, network, published, records

from nectargan_core.errors import NectarganWarning, WeightsError

SMALL = {"relu1_2": 1.0, "relu2_1": 1.0}
FULL = "vgg19-made.pth"
SLIM = "nectargan-vgg19-made-first3.pth"
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX")


def build(layers=SMALL, **options):
    return VGGPerceptual(layers, **options)._network.state_dict()


def is_right(weights, made):
    return all(torch.equal(value, made[0][key]) for key, value in weights.items())


def refusal():
    with pytest.raises(WeightsError) as caught:
        build()
    return str(caught.value)


def other_copy(made):
    """A copy of the right keys and shapes, with other weights."""
    file = io.BytesIO()
    torch.save({key: value + 1 for key, value in [*made[0].items()][:6]}, file)
    return file.getvalue()


@pytest.fixture
def filled(server, made, cache):
    """A cache with the published file and a slim copy."""
    build()
    return cache


def exchanged(data, made):
    return other_copy(made)


def truncated(data, made):
    return data[: len(data) // 2]


def flipped(data, made):
    """One bit of one weight, which no check of an archive that torch makes finds."""
    place = data.index(made[0]["features.5.bias"].numpy().tobytes())
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def emptied(data, made):
    return b""


def lengthened(data, made):
    return data + b"x"


CHANGES = [exchanged, truncated, flipped, emptied, lengthened]


# The hash of a slim copy


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_made_anew_from_the_published_file(filled, server, made, change):
    good = (filled / SLIM).read_bytes()
    (filled / SLIM).write_bytes(change(good, made))
    with pytest.warns(NectarganWarning, match=rf"{SLIM} is not used: its SHA-256 is not on record") as caught:
        assert is_right(build(), made)
    assert len(caught) == 1
    assert (filled / SLIM).read_bytes() == good
    assert server.gets == 1
    assert is_right(build(), made)  # and without another warning


@pytest.mark.parametrize("change", CHANGES)
def test_without_the_published_file_a_changed_copy_has_it_fetched_again(filled, server, made, change):
    (filled / SLIM).write_bytes(change((filled / SLIM).read_bytes(), made))
    (filled / FULL).unlink()
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)
    assert (filled / FULL).read_bytes() == made[1]
    assert server.gets == 2


@pytest.mark.parametrize("change", CHANGES)
def test_without_a_network_a_changed_copy_is_an_error(filled, server, made, change):
    (filled / SLIM).write_bytes(change((filled / SLIM).read_bytes(), made))
    (filled / FULL).unlink()
    server.status = 500
    with pytest.warns(NectarganWarning, match=SLIM):
        assert "cannot fetch" in refusal()


def test_a_changed_copy_is_made_anew_only_from_a_file_with_the_right_hash(filled, made):
    (filled / SLIM).write_bytes(other_copy(made))
    (filled / FULL).write_bytes(made[1][:-1])
    with pytest.warns(NectarganWarning, match=SLIM):
        assert "is not the published file" in refusal()


def test_a_copy_with_more_layers_is_checked_too(server, made, cache):
    build({"relu2_2": 1.0})
    larger = cache / SLIM.replace("first3", "first4")
    larger.write_bytes(larger.read_bytes() + b"x")
    with pytest.warns(NectarganWarning, match="first4"):
        assert is_right(build(), made)


def test_a_changed_copy_is_made_anew_from_a_good_one_with_more_layers(filled, server, made):
    build({"relu2_2": 1.0})
    good = (filled / SLIM).read_bytes()
    (filled / SLIM).write_bytes(other_copy(made))
    (filled / FULL).unlink()
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)
    assert (filled / SLIM).read_bytes() == good
    assert server.gets == 1


def test_code_in_an_exchanged_copy_is_not_even_parsed(filled, made, monkeypatch):
    class Code:
        def __reduce__(self):
            return builtins.exec, ("import sys; sys.ran_from_copy = True",)

    parsed = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: parsed.append(file) or load(file, **options))
    torch.save({"features.0.weight": Code()}, filled / SLIM)
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)
    assert [file.getvalue() == made[1] for file in parsed] == [True]
    assert not hasattr(sys, "ran_from_copy")


def test_everything_is_loaded_with_weights_only(server, made, weights, monkeypatch):
    asked = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda file, **options: asked.append(options) or load(file, **options))
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    build()
    build()
    build(checkpoint=weights)
    assert [options["weights_only"] for options in asked] == [True, True, True]


def test_a_copy_that_is_exchanged_after_its_check_is_not_used(filled, made, monkeypatch):
    check = records.is_recorded

    def check_and_exchange(name):
        found = check(name)
        (filled / SLIM).write_bytes(other_copy(made))
        return found

    monkeypatch.setattr(records, "is_recorded", check_and_exchange)
    assert is_right(build(), made)


def test_a_published_file_that_is_exchanged_after_its_check_is_not_used(filled, made, monkeypatch):
    check = published.PublishedWeights._check_hash

    def check_and_exchange(*arguments):
        check(*arguments)
        (filled / FULL).write_bytes(other_copy(made))

    (filled / SLIM).unlink()
    monkeypatch.setattr(published.PublishedWeights, "_check_hash", check_and_exchange)
    assert is_right(build(), made)


def test_a_hash_beside_the_copy_proves_nothing(filled, made, tmp_path):
    data = other_copy(made)
    (filled / SLIM).write_bytes(data)
    [record] = (tmp_path / "state" / "nectargan-vgg").glob("*-first3-*")
    forged = record.name[:-64] + hashlib.sha256(data).hexdigest()
    for name in (forged, f"{SLIM}.sha256", "nectargan-vgg"):
        (filled / name).write_text(hashlib.sha256(data).hexdigest())
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)


def test_a_copy_that_this_user_did_not_make_is_not_used(filled, made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "of another user"))
    with pytest.warns(NectarganWarning, match=r"not on record in .*of another user"):
        assert is_right(build(), made)
    assert is_right(build(), made)  # now there is a record


def test_a_copy_that_this_user_did_not_make_can_be_named(filled, made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "of another user"))
    assert is_right(build(checkpoint=filled / SLIM), made)


def test_a_copy_of_another_published_file_is_not_used(filled, server, made, monkeypatch):
    file = io.BytesIO()
    torch.save(made[0], file, _use_new_zipfile_serialization=False)
    server.data = file.getvalue()
    monkeypatch.setattr(
        network, "VGG19_WEIGHTS", replace(network.VGG19_WEIGHTS, sha256=hashlib.sha256(server.data).hexdigest())
    )
    (filled / FULL).unlink()
    with pytest.warns(NectarganWarning, match=SLIM):
        build()
    assert server.gets == 2


def test_a_copy_under_the_name_of_another_is_not_used(filled, made):
    build({"relu2_2": 1.0})
    (filled / SLIM).write_bytes((filled / SLIM.replace("first3", "first4")).read_bytes())
    with pytest.warns(NectarganWarning, match="not on record"):
        assert is_right(build(), made)


@posix
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_records_that_others_can_write_are_not_believed(filled, made, tmp_path, mode):
    (tmp_path / "state" / "nectargan-vgg").chmod(mode)
    with pytest.warns(NectarganWarning, match="is not a folder of yours that only you can write"):
        assert is_right(build(), made)


@posix
def test_records_of_another_owner_are_not_believed(filled, made, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(NectarganWarning, match="is not a folder of yours"):
        assert is_right(build(), made)


@posix
def test_records_behind_a_symlink_are_not_believed(filled, made, tmp_path):
    (tmp_path / "state" / "nectargan-vgg").rename(tmp_path / "elsewhere")
    (tmp_path / "state" / "nectargan-vgg").symlink_to(tmp_path / "elsewhere")
    with pytest.warns(NectarganWarning, match="is not a folder"):
        assert is_right(build(), made)


@posix
def test_records_are_private_whatever_the_umask(server, tmp_path):
    before = os.umask(0)
    try:
        build()
    finally:
        os.umask(before)
    folder = tmp_path / "state" / "nectargan-vgg"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.glob("*-first3-*")} == {0o600}


def test_without_records_weights_are_read_from_the_published_file(server, made, cache, tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    assert is_right(build(), made)
    assert is_right(build(), made)
    assert [path.name for path in cache.iterdir()] == [FULL]
    assert server.gets == 1


@posix
def test_without_a_home_weights_are_read_from_the_published_file(server, made, cache, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", nowhere)
    assert is_right(build(), made)
    assert [path.name for path in cache.iterdir()] == [FULL]
    (cache / SLIM).write_bytes(other_copy(made))
    with pytest.warns(NectarganWarning, match="Could not determine home"):
        assert is_right(build(), made)


@posix
def test_a_relative_folder_of_records_is_ignored(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert records.folder() == tmp_path / ".local" / "state" / "nectargan-vgg"


# The published file


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_a_published_file_that_is_not_finite_is_refused_and_not_copied(server, made, cache, monkeypatch, number):
    file = io.BytesIO()
    torch.save({**made[0], "features.5.bias": made[0]["features.5.bias"] * number}, file)
    server.data = file.getvalue()
    monkeypatch.setattr(
        network, "VGG19_WEIGHTS", replace(network.VGG19_WEIGHTS, sha256=hashlib.sha256(server.data).hexdigest())
    )
    assert "has no usable 'features.5.bias'" in refusal()
    assert [path.name for path in cache.iterdir()] == [FULL]


def test_a_copy_that_is_on_record_is_checked_for_its_values_too(filled, made):
    good = (filled / SLIM).read_bytes()
    file = io.BytesIO()
    torch.save({key: value.long() for key, value in made[0].items()}, file)
    (filled / SLIM).write_bytes(file.getvalue())
    records.record(f"{network.VGG19_WEIGHTS.sha256}-first3-{hashlib.sha256(file.getvalue()).hexdigest()}")
    with pytest.warns(NectarganWarning, match="has no usable 'features.0.weight'"):
        assert is_right(build(), made)
    assert (filled / SLIM).read_bytes() == good


def test_the_whole_hash_is_compared(server, monkeypatch):
    monkeypatch.setattr(
        network, "VGG19_WEIGHTS", replace(network.VGG19_WEIGHTS, sha256=network.VGG19_WEIGHTS.sha256[:8] + "0" * 56)
    )
    assert "is not the published file" in refusal()


# What is planted at names that can be predicted


def plant_file(path, target):
    target.write_text("precious")
    path.symlink_to(target)


def plant_dangling(path, target):
    path.symlink_to(target)


def plant_folder(path, target):
    target.mkdir()
    (target / "precious").write_text("precious")
    path.symlink_to(target)


def plant_loop(path, target):
    path.symlink_to(path.name)


def plant_hard_link(path, target):
    target.write_text("precious")
    os.link(target, path)


def plant_pipe(path, target):
    os.mkfifo(path)


def seen(target):
    if target.is_dir():
        return {path.name: path.read_text() for path in target.iterdir()}
    return target.read_text() if target.exists() else None


PLANTS = [plant_file, plant_dangling, plant_folder, plant_loop, plant_hard_link, plant_pipe]
PREDICTABLE = [f"{FULL}.partial", f"{FULL}.lock", f"{SLIM}.{os.getpid()}.partial", f"{SLIM}.partial"]


@posix
@pytest.mark.parametrize("plant", PLANTS)
@pytest.mark.parametrize("name", PREDICTABLE, ids=["partial", "lock", "slim-pid-partial", "slim-partial"])
def test_what_is_planted_at_the_name_of_a_partial_file_or_lock_is_left_alone(
    server, made, cache, tmp_path, plant, name
):
    cache.mkdir(parents=True)
    plant(cache / name, tmp_path / "target")
    before = seen(tmp_path / "target"), (cache / name).lstat()
    assert is_right(build(), made)
    after = seen(tmp_path / "target"), (cache / name).lstat()
    assert after[0] == before[0]
    assert after[1].st_ino == before[1].st_ino
    assert {path.name for path in cache.iterdir()} == {FULL, SLIM, name}


@posix
@pytest.mark.parametrize("plant", PLANTS)
def test_what_is_planted_at_the_name_of_the_copy_is_replaced_and_its_target_kept(server, made, cache, tmp_path, plant):
    cache.mkdir(parents=True)
    plant(cache / SLIM, tmp_path / "target")
    before = seen(tmp_path / "target")
    with pytest.warns(NectarganWarning, match=rf"{SLIM} is not used"):
        assert is_right(build(), made)
    assert seen(tmp_path / "target") == before
    assert stat.S_ISREG((cache / SLIM).lstat().st_mode)
    assert is_right(build(), made)


@posix
@pytest.mark.parametrize("plant", [plant_dangling, plant_folder, plant_loop, plant_pipe])
def test_what_is_planted_at_the_name_of_the_published_file_is_replaced_and_its_target_kept(
    server, made, cache, tmp_path, plant
):
    cache.mkdir(parents=True)
    plant(cache / FULL, tmp_path / "target")
    before = seen(tmp_path / "target")
    assert is_right(build(), made)
    assert seen(tmp_path / "target") == before
    assert stat.S_ISREG((cache / FULL).lstat().st_mode)


@posix
@pytest.mark.parametrize("plant", [plant_file, plant_hard_link])
def test_another_file_linked_to_the_name_of_the_published_file_is_refused_and_kept(server, cache, tmp_path, plant):
    cache.mkdir(parents=True)
    plant(cache / FULL, tmp_path / "target")
    assert "is not the published file; delete it" in refusal()
    assert (tmp_path / "target").read_text() == "precious"


@posix
def test_a_symlink_to_the_published_file_is_as_good_as_the_file(server, made, cache, tmp_path):
    cache.mkdir(parents=True)
    (tmp_path / "target").write_bytes(made[1])
    (cache / FULL).symlink_to(tmp_path / "target")
    assert is_right(build(), made)
    assert server.gets == 0
    assert (tmp_path / "target").read_bytes() == made[1]


@posix
def test_a_symlink_to_a_good_copy_is_not_followed(filled, made, tmp_path):
    (filled / SLIM).rename(tmp_path / "moved")
    (filled / SLIM).symlink_to(tmp_path / "moved")
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)
    assert not (filled / SLIM).is_symlink()


def test_a_folder_at_the_name_of_the_copy_is_not_an_error(server, made, cache):
    (cache / SLIM).mkdir(parents=True)
    with pytest.warns(NectarganWarning, match=rf"{SLIM} is not used"):
        assert is_right(build(), made)
    assert {path.name for path in cache.iterdir()} == {FULL, SLIM}


def test_a_folder_at_the_name_of_the_published_file_is_an_error_before_the_download(server, cache):
    (cache / FULL).mkdir(parents=True)
    assert f"{cache / FULL} is a folder" in refusal()
    assert server.gets == 0


# How files are written


@pytest.fixture
def calls(monkeypatch):
    """What is opened for writing, flushed to the disk and renamed, in this order."""
    found = []
    real_open, real_fsync, real_replace = os.open, os.fsync, Path.replace

    def opened(path, flags, mode=0o777, **options):
        if flags & os.O_CREAT and str(path).endswith(".partial"):
            found.append(("open", Path(path), flags, mode))
        return real_open(path, flags, mode, **options)

    def synced(descriptor):
        found.append(("fsync", os.fstat(descriptor).st_size))
        real_fsync(descriptor)

    def replaced(source, target):
        found.append(("replace", source, Path(target)))
        return real_replace(source, target)

    monkeypatch.setattr(os, "open", opened)
    monkeypatch.setattr(os, "fsync", synced)
    # Not os.replace, which Path of Python 3.10 has taken before.
    monkeypatch.setattr(Path, "replace", replaced)
    return found


def test_files_are_opened_exclusively_flushed_and_then_renamed(server, made, cache, calls):
    build()
    assert [call[0] for call in calls] == ["open", "fsync", "replace"] * 2
    for (_, partial, flags, mode), (_, size), (_, source, target), name in zip(
        calls[::3], calls[1::3], calls[2::3], (FULL, SLIM), strict=True
    ):
        assert re.fullmatch(rf"{name}\.[0-9a-f]{{32}}\.partial", partial.name)
        assert (source, target) == (partial, cache / name)
        for flag in ("O_EXCL", "O_NOFOLLOW"):
            assert flags & getattr(os, flag, 0) == getattr(os, flag, 0)
        assert mode == 0o644
        assert size == target.stat().st_size


def test_the_name_of_a_partial_file_is_another_each_time(tmp_path, calls):
    for _ in range(2):
        with files.replacing(tmp_path / "file"):
            pass
    assert len({call[1] for call in calls if call[0] == "open"}) == 2


@posix
def test_files_are_not_writable_by_others_whatever_the_umask(server, cache):
    before = os.umask(0)
    try:
        build()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o644}


@posix
def test_a_strict_umask_is_respected(server, cache):
    before = os.umask(0o077)
    try:
        build()
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.iterdir()} == {0o600}


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_cannot_be_finished_leaves_nothing_and_what_was_there_stays(tmp_path, monkeypatch, error):
    def fail(descriptor):
        raise error

    (tmp_path / "file").write_text("before")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(type(error)), files.replacing(tmp_path / "file") as file:
        file.write(b"after")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_full_disk_is_named_and_nothing_is_kept(server, cache, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    assert f"cannot write to the cache folder {cache} (No space left on device)" in refusal()
    assert not [*cache.iterdir()]


# Leftovers of killed runs


def test_a_leftover_of_a_killed_run_is_neither_used_nor_in_the_way(server, made, cache):
    cache.mkdir(parents=True)
    for name in (FULL, SLIM):
        (cache / f"{name}.partial").write_bytes(other_copy(made))
        (cache / f"{name}.{'0' * 32}.partial").write_bytes(other_copy(made))
    assert is_right(build(), made)
    assert server.gets == 1
    assert (cache / FULL).read_bytes() == made[1]


def test_old_leftovers_are_removed_before_a_download_and_others_stay(server, cache):
    cache.mkdir(parents=True)
    names = {f"{name}.{digit * 32}.partial" for name in (FULL, SLIM) for digit in "0f"}
    kept = {f"{FULL}.partial", f"other.pth.{'0' * 32}.partial", f"{FULL}.{'0' * 31}.partial", "mine.pth"}
    young = f"{FULL}.{'1' * 32}.partial"
    for name in names | kept:
        (cache / name).write_text("old")
        os.utime(cache / name, (0, 0))
    (cache / young).write_text("another process is at work on it")
    build()
    assert {path.name for path in cache.iterdir()} == kept | {young, FULL, SLIM}


# A folder that is read-only


@pytest.fixture
def read_only(cache, monkeypatch):
    """The cache folder refuses new files, for root as well."""
    real_open = os.open

    def refused(path, flags, *arguments, **options):
        if flags & os.O_CREAT and Path(path).is_relative_to(cache):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return real_open(path, flags, *arguments, **options)

    cache.mkdir(parents=True)
    monkeypatch.setattr(os, "open", refused)
    return cache


def test_a_read_only_cache_with_the_published_file_is_enough(server, made, read_only):
    (read_only / FULL).write_bytes(made[1])
    assert is_right(build(), made)
    assert [path.name for path in read_only.iterdir()] == [FULL]
    assert server.gets == 0


def test_an_exchanged_copy_in_a_read_only_cache_is_not_used(server, made, read_only):
    (read_only / FULL).write_bytes(made[1])
    (read_only / SLIM).write_bytes(other_copy(made))
    with pytest.warns(NectarganWarning, match=SLIM):
        assert is_right(build(), made)


def test_a_read_only_cache_without_the_published_file_is_an_error_before_the_download(server, read_only):
    assert f"cannot write to the cache folder {read_only} (Read-only file system)" in refusal()
    assert server.gets == 0


# Two processes at once

BUILD = """
import sys
from dataclasses import replace
from nectargan_vgg import VGGPerceptual, network
url, sha256 = sys.argv[1:]
network.VGG19_WEIGHTS = replace(network.VGG19_WEIGHTS, url=url, sha256=sha256, file=url.rpartition("/")[2])
print(VGGPerceptual({"relu1_2": 1.0, "relu2_1": 1.0})._network.state_dict()["features.5.weight"].sum().item())
"""


def start(stack, server):
    command = [sys.executable, "-c", BUILD, server.url, network.VGG19_WEIGHTS.sha256]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return stack.enter_context(subprocess.Popen(command, **pipes))


@pytest.mark.slow
def test_two_processes_that_cannot_lock_do_not_disturb_each_other(server, made, cache, tmp_path):
    (tmp_path / "state").write_text("a file where the folder should be")
    server.go_on.clear()
    with contextlib.ExitStack() as stack:
        processes = [start(stack, server), start(stack, server)]
        for _ in processes:
            assert server.requests.acquire(timeout=120)
        server.go_on.set()
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [float(output) for output in outputs] == [made[0]["features.5.weight"].sum().item()] * 2
    assert server.gets == 2
    assert [path.name for path in cache.iterdir()] == [FULL]


@pytest.mark.slow
def test_two_processes_that_find_an_exchanged_copy_make_it_anew(filled, server, made):
    good = (filled / SLIM).read_bytes()
    (filled / SLIM).write_bytes(other_copy(made))
    with contextlib.ExitStack() as stack:
        processes = [start(stack, server), start(stack, server)]
        results = [process.communicate(timeout=120) for process in processes]
    assert [float(output) for output, _ in results] == [made[0]["features.5.weight"].sum().item()] * 2
    assert any(f"{SLIM} is not used" in said for _, said in results)
    assert (filled / SLIM).read_bytes() == good
    assert {path.name for path in filled.iterdir()} == {FULL, SLIM}
