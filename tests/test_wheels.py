"""Each wheel alone, in a new environment with what its metadata declares and nothing else: it imports and computes."""

import ast
import email
import json
import sys
import zipfile

import importlib_metadata
import pytest
from floors import PROJECTS, ROOT, requirements
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from wheels import call

DISTRIBUTIONS = sorted(project["project"]["name"] for project in PROJECTS.values())

# Runs in the new environment, with the name of a distribution: builds and computes each thing that it offers.
COMPUTE = """
import inspect, json, sys, warnings
import importlib_metadata, torch
from nectargan_core import LossManager, catalog
from nectargan_core.objectives import variants_of
from nectargan_core.testing import checks_of, examine
from nectargan_core.testing._vocabulary import VOCABULARY

torch.manual_seed(0)
# For the options of specs with frozen networks, whose files are not here.
WITHOUT_FILES = {"checkpoint": "random", "backbone": "random", "heads": "equal", "weights": "equal"}
# What a schedule or a weighting cannot do without; and observers without loss maps, which matplotlib draws.
PARAMS = {
    **{name: {"loss_maps": None} for name in ("mlflow", "tensorboard", "wandb")},
    "cosine-restarts": {"period": 3},
    "cyclic": {"period": 3},
    "every": {"n": 3},
    "inverse-sqrt": {"warmup": 3},
    "step": {"every": 2, "gamma": 0.5},
    "warmup-cosine": {"warmup": 3},
    "multistep": {"milestones": [3], "gamma": 0.5},
    "piecewise-linear": {"points": [[0, 4.0], [5, 1.0]]},
    "sequence": {"parts": [{"schedule": "linear", "end": 5, "target_value": 0.0}]},
    "product": {"factors": [{"schedule": "linear", "end": 5, "target_value": 0.0}]},
    "last-layer": {"loss": "G_GAN"},
    "torchjd-cagrad": {"c": 0.5},
    "torchjd-cr-mogm": {"weighting": "torchjd-pcd", "params": {"tau": 0.2}},
    "torchjd-fairgrad": {"alpha": 1.0},
    "torchjd-krum": {"n_byzantine": 0, "n_selected": 2},
}
# What the tests of the distribution look at; the first two start a process.
SKIP = {"entry_point", "imports", "subsets", "schedule", "ends"}


def image():
    return torch.rand(2, 3, 176, 176) * 2 - 1


def mask():
    return (torch.rand(2, 1, 176, 176) > 0.5).float()


def waveform():
    return torch.rand(2, 1, 4096) * 2 - 1


def vectors():
    return torch.randn(2, 8)


def latents():
    return torch.randn(2, 4, 8, 8)


def patches():
    return [torch.randn(2, 9, 8), torch.randn(2, 4, 16)]


def prediction():
    return torch.randn(2, 1, 6, 6)


def features():
    return [[torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]]


# By the name of an input, or by what the name begins with.
MAKE = {
    **dict.fromkeys(("x", "y", "y_", "real_", "rec_", "identity_"), image),
    **{"mask": mask, "pred_": prediction, "features_": features, "patches_": patches},
    **dict.fromkeys(("queries", "keys", "codebook_loss"), vectors),
    **dict.fromkeys(("z_e", "z_q"), latents),
}
# Of distributions whose inputs are something else.
OF_DISTRIBUTION = {
    "nectargan-audio": {"y": waveform, "y_fake": waveform},
    "nectargan-hifigan": {"y": waveform, "y_fake": waveform},
    "nectargan-segmentation": {
        "logits": lambda: torch.randn(2, 4, 16, 16),
        "labels": lambda: torch.randint(0, 4, (2, 16, 16)),
        "distances": lambda: torch.randn(2, 4, 16, 16),
    },
}


def made(distribution, name):
    own = OF_DISTRIBUTION.get(distribution, {})
    if name in own:
        return own[name]()
    for known in sorted(MAKE, key=len, reverse=True):
        if name == known or known.endswith("_") and name.startswith(known):
            return MAKE[known]()
    assert name in VOCABULARY, f"MAKE in {__file__} is to say how the input {name!r} of {distribution} is made"
    return VOCABULARY[name].make(2, torch.Generator().manual_seed(0))


def leaves(value):
    return [value] if isinstance(value, torch.Tensor) else [leaf for each in value for leaf in leaves(each)]


def compute(plugin, variant):
    function = plugin.load()
    known = WITHOUT_FILES if {"checkpoint", "backbone"} & set(inspect.signature(function).parameters) else {}
    options = {name: known[name] for name in inspect.signature(function).parameters if name in known}
    term = plugin.name if variant is None else f"{plugin.name}:{variant}"
    manager = LossManager.from_spec(term, options={plugin.name: options}, device="cpu")
    names = dict.fromkeys(name for loss in manager.get_registered_losses().values() for name in loss.inputs)
    inputs = {name: made(plugin.dist, name) for name in names if name != "w"}
    for name, value in inputs.items():
        if name.split("_")[-1] != "real" and name not in ("discriminator", "labels", "mask"):
            for leaf in leaves(value):
                leaf.requires_grad_(leaf.is_floating_point())
    if "w" in names:
        inputs["w"] = torch.randn(2, 3, requires_grad=True)
        inputs["y_fake"] = (inputs["w"].sin() @ torch.rand(3, 3))[..., None, None].expand(2, 3, 16, 16)
    if plugin.name == "vqgan":
        # Its weighting differentiates what comes out of the last layer.
        inputs["last_layer"] = torch.ones(3, 1, 1, requires_grad=True)
        inputs["y_fake"] = inputs["y_fake"].detach() * inputs["last_layer"]
        inputs["pred_fake"] = inputs["y_fake"].mean((1, 2, 3)).unsqueeze(1)
    manager.tick(epoch=0)
    losses = manager.compute_losses(inputs)
    assert set(losses) == set(manager.get_registered_losses()), losses
    losses.total.backward()
    assert losses.total.isfinite(), term
    return term


done = []
for listed in catalog.plugins():
    plugin = listed.plugin
    if plugin.dist != sys.argv[1]:
        continue
    if plugin.group == catalog.SPECS:
        done += [compute(plugin, variant) for variant in variants_of(plugin.load()) or (None,)]
    else:
        skip = dict.fromkeys(SKIP & set(checks_of(plugin.group)), "not here")
        outcomes = examine(plugin, skip=skip, params=PARAMS.get(plugin.name, {}))
        failed = [outcome.message for outcome in outcomes if outcome.state == "failed"]
        # Some need an extra of their distribution, and say so.
        assert all(f"pip install \\"{plugin.dist}[" in message for message in failed), (plugin.name, failed)
        done.append(plugin.name)
found = sorted({distribution.metadata["Name"] for distribution in importlib_metadata.distributions()})
print(json.dumps({"done": done, "distributions": found}))
"""


def metadata_of(name, wheels):
    """Return the metadata of a distribution of this project, from its wheel, or of another one that is installed."""
    for wheel in wheels.glob(f"{name.replace('-', '_')}-*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            (file,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            return email.message_from_bytes(archive.read(file))
    return importlib_metadata.metadata(name)


def declared(name, wheels):
    """Return the names of a distribution and of all that it depends on, directly or not, without extras."""
    found, pending = {}, [Requirement(name)]
    while pending:
        requirement = pending.pop()
        name = canonicalize_name(requirement.name)
        if requirement.extras <= found.get(name, set()) and name in found:
            continue
        found[name] = found.get(name, set()) | requirement.extras
        for text in metadata_of(name, wheels).get_all("Requires-Dist") or []:
            other = Requirement(text)
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *found[name])):
                pending.append(other)
    return set(found)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_a_wheel_alone_computes_all_that_it_offers_with_what_it_declares(name, make_environment, wheels, tmp_path):
    expected = declared(name, wheels)
    others = sorted(each for each in expected if each not in DISTRIBUTIONS)
    environment = make_environment(tmp_path / "environment", others)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(environment.python)]
    call([*pip, "install", "--no-index", "--find-links", str(wheels), name])
    (environment.path / "compute.py").write_text(COMPUTE)
    local = (
        f"WANDB_MODE=offline WANDB_SILENT=true MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI={environment.path}/ml"
    )
    done = environment.run(f"OMP_NUM_THREADS=1 {local} python -I -W error compute.py {name}")
    assert done.returncode == 0, done.stdout
    result = json.loads(done.stdout.splitlines()[-1])
    assert {canonicalize_name(each) for each in result["distributions"]} == expected
    (project,) = (project["project"] for project in PROJECTS.values() if project["project"]["name"] == name)
    offered = {entry for entries in project.get("entry-points", {}).values() for entry in entries}
    assert {term.partition(":")[0] for term in result["done"]} == offered


def imported(path):
    """Return the top-level names that a module imports, except for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    names = set()
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


@pytest.mark.parametrize("path", [path for path in PROJECTS if path != ROOT], ids=lambda path: path.name)
def test_a_plugin_declares_what_it_imports(path):
    source = path / "src" / path.name.replace("-", "_")
    names = {name for module in source.rglob("*.py") for name in imported(module)} - {source.name}
    providers = importlib_metadata.packages_distributions()
    stated = {canonicalize_name(each.name) for each in requirements(PROJECTS[path], extras=True)}
    undeclared = {
        name
        for name in names - set(sys.stdlib_module_names)
        if not stated & {canonicalize_name(each) for each in providers.get(name, [name])}
    }
    assert undeclared == set()
