"""Where the weights come from, and the errors where there are none: backbones, heads, alpha and beta."""

import hashlib
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from nectargan_lpips import DISTS, LPIPS, learned
from nectargan_lpips import backbones as networks

from nectargan_core.errors import NectarganWarning, WeightsError

BACKBONES = {"vgg": networks.VGG16, "alex": networks.ALEXNET, "squeeze": networks.SQUEEZENET}
LEARNED = [*learned.HEADS.values(), learned.ALPHA_AND_BETA]
NETWORKS = [each.checkpoint for each in BACKBONES.values()]


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def head(loss):
    return loss._network.heads[0]


@pytest.mark.parametrize("checkpoint", NETWORKS, ids=lambda each: each.network)
def test_networks_are_those_of_torchvision(checkpoint):
    assert checkpoint.url == f"https://download.pytorch.org/models/{checkpoint.file}"
    assert checkpoint.file.endswith(f"-{checkpoint.sha256[:8]}.pth")
    assert len(checkpoint.sha256) == 64


@pytest.mark.parametrize("weights", LEARNED, ids=lambda each: each.checkpoint.network)
def test_what_was_learned_is_at_a_fixed_commit_of_the_authors(weights):
    checkpoint = weights.checkpoint
    host, owner, repository, commit, path = checkpoint.url.removeprefix("https://").split("/", 4)
    assert (host, path) == ("raw.githubusercontent.com", weights.path)
    assert f"{owner}/{repository}" in ("richzhang/PerceptualSimilarity", "dingkeyan93/DISTS")
    assert len(commit) == 40
    assert f"-{checkpoint.sha256[:8]}." in checkpoint.file
    assert len(checkpoint.sha256) == 64


@pytest.mark.parametrize("variant", BACKBONES)
def test_keys_and_shapes_are_those_of_torchvision(features, variant):
    state = {f"features.{key}": tuple(value.shape) for key, value in features[variant].state_dict().items()}
    assert dict(BACKBONES[variant].checkpoint.parameters) == state


@pytest.mark.parametrize("variant", BACKBONES)
def test_a_network_does_with_the_least_size_and_no_less(backbones, variant):
    loss = LPIPS(variant, backbone=backbones[variant], heads="equal")
    least = BACKBONES[variant].least
    assert loss(torch.zeros(1, 3, least, 99), torch.ones(1, 3, least, 99)) > 0
    with pytest.raises(ValueError, match=rf"at least {least}x{least} pixels .* {least - 1}x99: use resize="):
        loss(torch.zeros(1, 3, least - 1, 99), torch.zeros(1, 3, least - 1, 99))
    with pytest.raises(RuntimeError, match="too small|greater than actual|Kernel size"):
        torch.nn.Sequential(*loss._network.stages)(torch.zeros(1, 3, least - 1, least - 1))


@pytest.mark.parametrize("network", ["VGG16", "ALEXNET", "SQUEEZENET"])
def test_the_environment_names_a_backbone(backbones, features, monkeypatch, network):
    variant = {"VGG16": "vgg", "ALEXNET": "alex", "SQUEEZENET": "squeeze"}[network]
    monkeypatch.setenv(f"NECTARGAN_{network}_WEIGHTS", str(backbones[variant]))
    first = next(LPIPS(variant, heads="equal")._network.stages.parameters())
    assert torch.equal(first, features[variant][0].weight)


def test_the_environment_names_the_backbone_of_dists_too(backbones, features, monkeypatch):
    monkeypatch.setenv("NECTARGAN_VGG16_WEIGHTS", str(backbones["vgg"]))
    first = next(DISTS(weights="equal")._network.stages.parameters())
    assert torch.equal(first, features["vgg"][0].weight)


def test_lpips_and_dists_share_one_vgg16(backbones):
    lpips = LPIPS("vgg", backbone=backbones["vgg"], heads="equal")
    dists = DISTS(backbone=backbones["vgg"], weights="equal")
    ids = [[id(each) for each in loss._network.stages.parameters()] for loss in (lpips, dists)]
    assert ids[0] == ids[1]


@pytest.mark.parametrize("variant", ["alex", "squeeze"])
def test_the_published_backbone_is_read_from_the_cache_by_its_hash(backbones, features, cache, monkeypatch, variant):
    checkpoint = BACKBONES[variant].checkpoint
    (cache / checkpoint.file).write_bytes(backbones[variant].read_bytes())
    with pytest.raises(WeightsError, match=f"{checkpoint.file} is not the published file"):
        LPIPS(variant, heads="equal")
    changed = replace(BACKBONES[variant], checkpoint=replace(checkpoint, sha256=sha256(backbones[variant])))
    monkeypatch.setattr("nectargan_lpips.distance._BACKBONES", {variant: changed})
    for _ in range(2):
        first = next(LPIPS(variant, heads="equal")._network.stages.parameters())
        assert torch.equal(first, features[variant][0].weight)
        (cache / checkpoint.file).unlink(missing_ok=True)  # the slim copy is enough
    layers = len(checkpoint.parameters) // 2
    slim = cache / f"nectargan-{checkpoint.file.removesuffix('.pth')}-first{layers}.pth"
    slim.write_bytes(slim.read_bytes() + b"x")
    monkeypatch.setattr("nectargan_vgg.published.PublishedWeights._fetch", unreachable)
    with (
        pytest.warns(NectarganWarning, match=f"nectargan-lpips: .*{slim.name} is not used"),
        pytest.raises(WeightsError, match="no network"),
    ):
        LPIPS(variant, heads="equal")


def unreachable(weights, full):
    raise weights.checkpoint.error(f"cannot fetch {weights.checkpoint.url} (no network)")


@pytest.mark.parametrize(("given", "other"), [("vgg", "alex"), ("alex", "vgg"), ("squeeze", "vgg"), ("vgg", "squeeze")])
def test_a_backbone_of_another_network_is_refused(backbones, heads, given, other):
    with pytest.raises(WeightsError, match="of another architecture"):
        LPIPS(given, backbone=backbones[other], heads="equal")
    with pytest.raises(WeightsError, match="of another architecture"):
        LPIPS(given, backbone=backbones[given], heads=heads[other])


def test_vgg19_is_not_taken_for_vgg16(features, tmp_path):
    state = {f"features.{key}": value for key, value in features["vgg"].state_dict().items()}
    torch.save({**state, "features.16.weight": torch.zeros(256, 256, 3, 3)}, tmp_path / "vgg19.pth")
    with pytest.raises(WeightsError, match="it has 'features.16.weight', which VGG16 has not"):
        DISTS(backbone=tmp_path / "vgg19.pth", weights="equal")


# Heads, alpha and beta


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install a distribution with one file, which fails when it is imported."""

    def install(name, path, data):
        site = tmp_path / "site"
        (site / path).parent.mkdir(parents=True)
        (site / path).write_bytes(data)
        (site / path.split("/")[0] / "__init__.py").write_text("raise ImportError('not to be imported')")
        info = site / f"{name.replace('-', '_')}-9.8.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.8\n")
        monkeypatch.syspath_prepend(str(site))
        return site / path

    return install


@pytest.fixture
def published(heads, monkeypatch):
    """Let the file `heads` be the published one, of a distribution that nobody has."""
    changed = replace(
        learned.HEADS["alex"],
        checkpoint=replace(learned.HEADS["alex"].checkpoint, sha256=sha256(heads["alex"])),
        package="lpips-of-the-tests",
        path="lpips_of_the_tests/weights/alex.pth",
    )
    monkeypatch.setitem(learned.HEADS, "alex", changed)
    monkeypatch.setattr("nectargan_vgg.published.PublishedWeights._fetch", unreachable)
    return changed


def test_heads_of_an_installed_distribution_are_used_without_importing_it(published, installed, heads, head_states):
    installed(published.package, published.path, heads["alex"].read_bytes())
    assert torch.equal(head(LPIPS("alex", backbone="random")), head_states["alex"]["lin0.model.1.weight"])
    assert "lpips_of_the_tests" not in sys.modules


def test_heads_in_the_cache_are_used(published, cache, heads, head_states):
    (cache / published.checkpoint.file).write_bytes(heads["alex"].read_bytes())
    assert torch.equal(head(LPIPS("alex", backbone="random")), head_states["alex"]["lin0.model.1.weight"])
    assert [path.name for path in cache.iterdir()] == [published.checkpoint.file]  # no copy of what is small


def test_without_heads_the_error_names_every_way_to_provide_them(published, cache):
    with pytest.raises(WeightsError) as caught:
        LPIPS("alex", backbone="random")
    for part in (
        "weights of LPIPS, its heads for AlexNet: cannot fetch https://raw.githubusercontent.com/",
        f"put it into {cache} as lpips-v0.1-alex-df73285e.pth",
        'heads=PATH (by name: options={"lpips": {"heads": PATH}})',
        "pip install --no-deps lpips (lpips-of-the-tests is not installed)",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"x", "weights/alex.pth of lpips-of-the-tests 9.8 is not the published file"), (None, "cannot read ")],
)
def test_an_installed_file_that_is_not_the_published_one_is_not_used(published, installed, data, reason):
    path = installed(published.package, published.path, data or b"")
    if data is None:
        path.unlink()
    with pytest.raises(WeightsError) as caught:
        LPIPS("alex", backbone="random")
    assert reason in str(caught.value)


def test_without_alpha_and_beta_the_error_names_every_way_to_provide_them(cache, monkeypatch):
    monkeypatch.setattr("nectargan_vgg.published.PublishedWeights._fetch", unreachable)
    nobody = replace(learned.ALPHA_AND_BETA, package="DISTS-of-the-tests")
    monkeypatch.setattr("nectargan_lpips.dissimilarity.ALPHA_AND_BETA", nobody)
    with pytest.raises(WeightsError) as caught:
        DISTS(backbone="random")
    for part in (
        "weights of DISTS, its alpha and beta: cannot fetch https://raw.githubusercontent.com/dingkeyan93/DISTS/",
        f"put it into {cache} as dists-f5e65c96.pt",
        'weights=PATH (by name: options={"dists": {"weights": PATH}})',
        "pip install --no-deps DISTS-pytorch (DISTS-of-the-tests is not installed)",
    ):
        assert part in str(caught.value)


def test_without_a_backbone_the_error_names_every_way_to_provide_it(cache, monkeypatch):
    monkeypatch.setattr("nectargan_vgg.published.PublishedWeights._fetch", unreachable)
    for build, spec in ((LPIPS, "lpips"), (DISTS, "dists")):
        with pytest.raises(WeightsError) as caught:
            build(**({"heads": "equal"} if build is LPIPS else {"weights": "equal"}))
        for part in (
            "weights of VGG16: cannot fetch https://download.pytorch.org/models/vgg16-397923af.pth",
            f"put it into {cache}; or",
            f'backbone=PATH (by name: options={{"{spec}": {{"backbone": PATH}}}})',
            "NECTARGAN_VGG16_WEIGHTS",
        ):
            assert part in str(caught.value)


def test_random_heads_do_not_exist():
    with pytest.raises(WeightsError, match="there is no file random"):
        LPIPS("alex", backbone="random", heads="random")


@pytest.mark.parametrize(("value", "reason"), [(torch.nan, "nan or infinite"), (None, "it is a NoneType")])
def test_heads_that_cannot_be_used_are_refused(head_states, tmp_path, value, reason):
    first = head_states["alex"]["lin0.model.1.weight"]
    state = {**head_states["alex"], "lin0.model.1.weight": None if value is None else first * value}
    torch.save(state, tmp_path / "heads.pth")
    with pytest.raises(WeightsError, match=reason):
        LPIPS("alex", backbone="random", heads=tmp_path / "heads.pth")


def test_on_the_meta_device_nothing_is_loaded(monkeypatch):
    monkeypatch.setattr("nectargan_vgg.published.PublishedWeights.load", unreachable)
    with torch.device("meta"):
        losses = [LPIPS("vgg"), LPIPS("alex"), LPIPS("squeeze"), DISTS()]
    y_fake, y = torch.empty(2, 2, 3, 64, 64, device="meta")
    assert {loss(y_fake, y).device.type for loss in losses} == {"meta"}


# As modules


LOSSES = [LPIPS, DISTS]


@pytest.fixture
def build(backbones, heads, dists_weights):
    def make(kind, **options):
        if kind is DISTS:
            return DISTS(backbone=backbones["vgg"], weights=dists_weights, **options)
        return LPIPS("squeeze", backbone=backbones["squeeze"], heads=heads["squeeze"], **options)

    return make


@pytest.mark.parametrize("kind", LOSSES)
def test_a_parent_has_nothing_to_train_or_to_save(build, kind):
    loss = build(kind)
    parent = torch.nn.Sequential(loss).train().requires_grad_(True)
    assert not [*parent.parameters(), *parent.buffers(), *parent.state_dict()] or [*parent.buffers()] == [loss._anchor]
    assert not any(each.requires_grad for each in loss._network.parameters())
    assert not any(each.training for each in loss._network.stages.modules())


@pytest.mark.parametrize("kind", LOSSES)
def test_a_pickle_is_small_and_gives_the_same_numbers(build, kind):
    loss = build(kind)
    data = pickle.dumps(loss)
    assert len(data) < 10_000
    y_fake, y = torch.rand(2, 1, 3, 32, 32)
    assert torch.equal(pickle.loads(data)(y_fake, y), loss(y_fake, y))


@pytest.mark.parametrize("kind", LOSSES)
def test_it_is_moved_and_cast_with_its_parent(build, kind):
    loss, kept = build(kind), build(kind)
    torch.nn.Sequential(loss).to(torch.float64)
    assert {each.dtype for each in loss._network.parameters()} == {torch.float64}
    assert {each.dtype for each in kept._network.parameters()} == {torch.float32}
    torch.nn.Sequential(loss).to("meta")
    assert {each.device.type for each in loss._network.parameters()} == {"meta"}


@pytest.mark.parametrize("kind", LOSSES)
def test_a_loss_built_under_inference_mode_still_trains(build, kind):
    with torch.inference_mode():
        loss = build(kind)
    y_fake, y = torch.rand(2, 1, 3, 32, 32)
    y_fake.requires_grad_()
    loss(y_fake, y).backward()
    assert y_fake.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", LOSSES)
def test_nothing_that_depends_on_the_target_alone_has_a_graph(build, kind):
    def kept(y_fake, y):
        found = []
        with torch.autograd.graph.saved_tensors_hooks(lambda each: found.append(each.requires_grad), lambda _: None):
            build(kind)(y_fake, y)
        return len(found)

    y_fake, y = torch.rand(2, 1, 3, 32, 32)
    one, two = kept(y_fake.requires_grad_(), y), kept(y_fake, y.clone().requires_grad_())
    assert one < 0.7 * two


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (LPIPS, {"variant": "resnet"}, "variant is .* not 'resnet'"),
        (LPIPS, {"reduction": "avg"}, "reduction is .* not 'avg'"),
        (LPIPS, {"input_range": (1.0, -1.0)}, "black < white"),
        (DISTS, {"by_layer": "yes"}, "by_layer is True or False"),
    ],
)
def test_invalid_arguments_are_refused(kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(backbone="random", **arguments)


def test_it_shows_its_arguments(build):
    assert repr(build(LPIPS)).startswith("LPIPS(variant='squeeze', input_range=(-1.0, 1.0)")
    assert repr(build(DISTS)).startswith("DISTS(input_range=(-1.0, 1.0)")


def test_importing_core_imports_nothing_of_it():
    code = "import sys, nectargan_core; sys.exit(any(name.startswith('nectargan_lpips') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
