"""The checkpoint: what it holds, and what is refused as one."""

import io
import os
import pickle
import random

import numpy as np
import pytest
import torch
from nectargan_pix2pix.checkpoint import (
    CheckpointError,
    load,
    pack,
    random_state,
    restore_random_state,
    seed_everything,
)


def draws():
    # From the global generators, which losses of others may draw from.
    return torch.rand(2).tolist(), np.random.standard_normal(3).tolist(), random.random()  # noqa: NPY002


@pytest.fixture(autouse=True)
def _keep_random_numbers():
    before = random_state()
    yield
    restore_random_state(before)


def test_random_numbers_of_all_three_libraries_go_on():
    seed_everything(3)
    np.random.standard_normal()  # noqa: NPY002 -- it draws two at once and keeps the other
    state = random_state()
    first = draws()
    seed_everything(4)
    restore_random_state(state)
    assert draws() == first


def test_a_seed_gives_the_same_numbers_in_all_three_libraries():
    seed_everything(2**32 - 1)
    first = draws()
    seed_everything(2**32 - 1)
    assert draws() == first


def test_the_state_of_random_numbers_is_plain_data(tmp_path):
    seed_everything(5)
    path = tmp_path / "random.pt"
    torch.save(random_state(), path)
    first = draws()
    restore_random_state(torch.load(path, weights_only=True))
    assert draws() == first


@pytest.mark.parametrize("state", [{}, {"torch": 1, "numpy": [], "python": (), "cuda": []}])
def test_another_state_of_random_numbers_is_refused(state):
    with pytest.raises(ValueError, match="no proper state of random numbers"):
        restore_random_state(state)


def saved(parts):
    """Return what torch itself writes, which has no checksum."""
    buffer = io.BytesIO()
    torch.save(parts, buffer)
    return buffer.getvalue()


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no checkpoint",
        pickle.dumps({"version": 1}),
        pack({})[:-40].tobytes(),
        pack({}).tobytes(),
        pack({"version": 2}).tobytes(),
        pack({"options": {}, "images": 3}).tobytes(),
        saved({}),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt") as caught:
        load(tmp_path)
    assert caught.value.path == str(tmp_path / "checkpoint.pt")
    assert "\n" not in str(caught.value)


def test_nothing_in_a_checkpoint_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(pack({"options": Harmful()}))
    with pytest.raises(CheckpointError, match="other things than tensors and plain data"):
        load(tmp_path)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(("place", "expected"), [(".", "has no checkpoint.pt"), ("none", "there is no directory")])
def test_a_directory_without_a_checkpoint_is_named(tmp_path, place, expected):
    with pytest.raises(CheckpointError, match=expected):
        load(tmp_path / place)


def test_torch_loads_a_checkpoint_with_its_defaults(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(pack({"generator": {"a": torch.arange(5.0)}}))
    for mapped in (False, True):
        assert torch.equal(torch.load(path, mmap=mapped)["generator"]["a"], torch.arange(5.0))


def test_a_checkpoint_with_any_byte_changed_is_refused_as_damaged(tmp_path):
    path = tmp_path / "checkpoint.pt"
    whole = pack({"generator": {"a": torch.randn(64)}}).tobytes()
    for position in range(len(whole)):
        changed = bytearray(whole)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="is damaged"):
            load(tmp_path)


@pytest.mark.parametrize("part", [slice(0), slice(40), slice(-1), slice(1, None)])
def test_a_part_of_a_checkpoint_is_refused_as_damaged(tmp_path, part):
    (tmp_path / "checkpoint.pt").write_bytes(pack({}).tobytes()[part])
    with pytest.raises(CheckpointError, match=r"is damaged.*train again"):
        load(tmp_path)
