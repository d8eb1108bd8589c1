"""`weight_files`: the name and the SHA-256 of the file that weights are from, however they are provided."""

import copy
import hashlib
import os
import pickle

import pytest
import torch
from nectargan_vgg import VGGContextual, VGGPerceptual, VGGStyle, network

from nectargan_core.errors import WeightsError

SMALL = {"relu1_2": 1.0, "relu2_1": 1.0}
KINDS = [VGGPerceptual, VGGStyle, VGGContextual]


@pytest.fixture
def published(server, made):
    """The name and the SHA-256 of the file that a server of these tests publishes."""
    return {"vgg19-made.pth": hashlib.sha256(made[1]).hexdigest()}


def on_meta(**options):
    with torch.device("meta"):
        return VGGPerceptual(SMALL, **options)


def unreadable(*_):
    pytest.fail("a file is read")


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_torchvision_are_named_without_their_file(kind, cache):
    with torch.device("meta"):
        found = kind().weight_files
    assert found == {"vgg19-dcbb9e9d.pth": network.VGG19_WEIGHTS.sha256}
    assert len(found["vgg19-dcbb9e9d.pth"]) == 64
    assert not cache.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_random_weights_are_from_no_file(kind):
    assert kind({"relu1_1": 1.0}, checkpoint="random").weight_files == {}


def test_a_slim_copy_is_named_as_the_whole_file(published, cache):
    assert VGGPerceptual(SMALL).weight_files == published  # downloaded
    (cache / "vgg19-made.pth").unlink()
    assert VGGPerceptual(SMALL).weight_files == published  # from the copy
    assert on_meta().weight_files == published


def test_a_local_file_is_named_by_the_hash_of_its_bytes(weights):
    expected = {"vgg19.pth": hashlib.sha256(weights.read_bytes()).hexdigest()}
    assert VGGPerceptual(SMALL, checkpoint=weights).weight_files == expected
    assert on_meta(checkpoint=weights).weight_files == expected


def test_a_local_file_that_is_the_published_one_is_named_as_that(published, made, tmp_path, monkeypatch):
    path = tmp_path / "elsewhere.pth"
    path.write_bytes(made[1])
    assert VGGPerceptual(SMALL, checkpoint=path).weight_files == published
    monkeypatch.setenv("NECTARGAN_VGG19_WEIGHTS", str(path))
    assert on_meta().weight_files == published


def test_a_local_file_that_is_a_slim_copy_is_named_as_the_published_one(published, cache):
    VGGPerceptual(SMALL)
    copied = cache / "nectargan-vgg19-made-first3.pth"
    assert on_meta(checkpoint=copied).weight_files == published


def test_a_slim_copy_of_somebody_else_is_named_by_the_hash_of_its_bytes(published, cache, tmp_path, monkeypatch):
    VGGPerceptual(SMALL)
    copied = cache / "nectargan-vgg19-made-first3.pth"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "other"))
    assert on_meta(checkpoint=copied).weight_files == {copied.name: hashlib.sha256(copied.read_bytes()).hexdigest()}


def test_a_file_is_read_once_and_only_when_it_is_asked_for(weights, tmp_path, monkeypatch):
    path = tmp_path / "once.pth"
    path.write_bytes(weights.read_bytes())
    with monkeypatch.context() as patched:
        patched.setattr("nectargan_vgg.weights.open_regular", unreadable)
        first, second = on_meta(checkpoint=path), on_meta(checkpoint=path)
    found = first.weight_files
    path.unlink()
    monkeypatch.setattr("nectargan_vgg.weights.open_regular", unreadable)
    assert second.weight_files == first.weight_files == found


def test_a_file_that_has_changed_is_another(weights, deep_weights, tmp_path):
    path = tmp_path / "changes.pth"
    path.write_bytes(weights.read_bytes())
    before = on_meta(checkpoint=path).weight_files
    path.write_bytes(deep_weights.read_bytes())
    after = on_meta(checkpoint=path).weight_files
    assert before.keys() == after.keys()
    assert before != after


@pytest.mark.parametrize("change", ["removed", "written to", "touched"])
def test_a_file_that_is_not_what_was_read_has_no_hash(weights, tmp_path, change):
    path = tmp_path / "weights.pth"
    path.write_bytes(weights.read_bytes())
    loss = on_meta(checkpoint=path)
    if change == "removed":
        path.unlink()
    elif change == "written to":
        path.write_bytes(b"others")
    else:
        os.utime(path, ns=(1, 1))
    with pytest.raises(WeightsError, match=r"cannot tell the SHA-256 of .*weights\.pth \("):
        _ = loss.weight_files


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs POSIX")
def test_a_pipe_has_no_hash(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(WeightsError, match="not a regular file"):
        _ = on_meta(checkpoint=tmp_path / "pipe.pth").weight_files


def test_copies_and_moved_losses_name_the_same(weights):
    loss = VGGPerceptual(SMALL, checkpoint=weights)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss).to("meta")):
        assert other.weight_files == loss.weight_files


def test_the_path_of_a_local_file_is_not_kept_as_an_argument(weights, monkeypatch):
    assert VGGPerceptual(SMALL, checkpoint=weights).checkpoint is None
    assert VGGPerceptual(SMALL, checkpoint="random").checkpoint == "random"
    monkeypatch.setenv("NECTARGAN_VGG19_WEIGHTS", str(weights))
    assert VGGPerceptual(SMALL).checkpoint is None
