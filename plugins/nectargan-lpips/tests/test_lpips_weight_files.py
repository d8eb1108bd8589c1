"""`weight_files` of LPIPS and DISTS: the names and hashes of the files that backbones and what was learned are from."""

import hashlib
from dataclasses import replace

import pytest
import torch
from nectargan_lpips import DISTS, LPIPS, distance, learned

from nectargan_core.errors import WeightsError


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def on_meta(kind, *args, **options):
    with torch.device("meta"):
        return kind(*args, **options)


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        ((LPIPS, "vgg"), ["lpips-v0.1-vgg-a78928a0.pth", "vgg16-397923af.pth"]),
        ((LPIPS, "alex"), ["alexnet-owt-7be5be79.pth", "lpips-v0.1-alex-df73285e.pth"]),
        ((LPIPS, "squeeze"), ["lpips-v0.1-squeeze-4a5350f2.pth", "squeezenet1_1-b8a52dc0.pth"]),
        ((DISTS,), ["dists-f5e65c96.pt", "vgg16-397923af.pth"]),
    ],
)
def test_published_weights_are_named_without_their_files(loss, names, cache):
    found = on_meta(*loss).weight_files
    assert sorted(found) == names
    for name, digest in found.items():
        assert len(digest) == 64
        assert f"-{digest[:8]}." in name
    assert not list(cache.iterdir())


def test_random_backbones_and_equal_weights_are_from_no_file():
    assert on_meta(LPIPS, backbone="random", heads="equal").weight_files == {}
    assert on_meta(DISTS, backbone="random", weights="equal").weight_files == {}
    assert [*on_meta(LPIPS, "alex", backbone="random").weight_files] == ["lpips-v0.1-alex-df73285e.pth"]
    assert [*on_meta(DISTS, weights="equal").weight_files] == ["vgg16-397923af.pth"]


def test_local_files_are_named_by_the_hash_of_their_bytes(backbones, heads, dists_weights):
    lpips = LPIPS("vgg", backbone=backbones["vgg"], heads="equal")
    assert lpips.weight_files == {"vgg.pth": sha256(backbones["vgg"])}
    dists = DISTS(backbone=backbones["vgg"], weights=dists_weights)
    assert dists.weight_files == {"vgg.pth": sha256(backbones["vgg"]), "weights.pt": sha256(dists_weights)}


def test_two_files_of_one_name_are_told_apart(backbones, heads):
    found = LPIPS("alex", backbone=backbones["alex"], heads=heads["alex"]).weight_files
    assert found == {"alex.pth": sha256(backbones["alex"]), "alex.pth (heads)": sha256(heads["alex"])}


def test_the_environment_names_a_file(backbones, monkeypatch):
    monkeypatch.setenv("NECTARGAN_ALEXNET_WEIGHTS", str(backbones["alex"]))
    assert on_meta(LPIPS, "alex", heads="equal").weight_files == {"alex.pth": sha256(backbones["alex"])}


@pytest.fixture
def published(heads, monkeypatch):
    """Let the file of heads for AlexNet be the published one."""
    before = learned.HEADS["alex"]
    checkpoint = replace(before.checkpoint, sha256=sha256(heads["alex"]), file="lpips-made.pth")
    changed = replace(before, checkpoint=checkpoint, package="lpips-of-the-tests")
    monkeypatch.setattr(distance, "HEADS", {**learned.HEADS, "alex": changed})
    return {"lpips-made.pth": checkpoint.sha256}


def test_a_local_file_that_is_the_published_one_is_named_as_that(published, heads, cache):
    assert LPIPS("alex", backbone="random", heads=heads["alex"]).weight_files == published
    (cache / "lpips-made.pth").write_bytes(heads["alex"].read_bytes())
    assert LPIPS("alex", backbone="random").weight_files == published


def test_a_file_that_is_gone_has_no_hash(heads, tmp_path):
    path = tmp_path / "heads.pth"
    path.write_bytes(heads["alex"].read_bytes())
    loss = LPIPS("alex", backbone="random", heads=path)
    path.unlink()
    with pytest.raises(WeightsError, match=r"cannot tell the SHA-256 of .*heads\.pth"):
        _ = loss.weight_files


def test_the_paths_of_local_files_are_not_kept_as_arguments(backbones, heads, dists_weights):
    lpips = LPIPS("alex", backbone=backbones["alex"], heads=heads["alex"])
    assert (lpips.backbone, lpips.heads) == (None, None)
    dists = DISTS(backbone=backbones["vgg"], weights=dists_weights)
    assert (dists.backbone, dists.weights) == (None, None)
    dists = DISTS(backbone="random", weights="equal")
    assert (dists.backbone, dists.weights) == ("random", "equal")
