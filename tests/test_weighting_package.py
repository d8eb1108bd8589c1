"""The package with a weighting in docs/weightings.md works by name once pip has installed it."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "weightings.md"

USE = """
import json
import torch
from nectargan_core import LossManager, Weighting, errors

def manager_of(params):
    manager = LossManager()
    for name, scale in (("G_L1", 2.0), ("G_L2", 4.0)):
        manager.register_loss_fn(name, lambda y_fake, y, scale=scale: scale * y_fake.mean(), tags=["G"])
    manager.set_weighting(Weighting("inverse", params=params), "G")
    return manager

def steps(manager, values):
    applied = []
    for value in values:
        manager.tick()
        manager.compute_losses({"y_fake": torch.tensor([value], requires_grad=True), "y": None})
        applied.append(manager.get_loss_weights(precision=None)["G_L1"])
    return applied

values = [1.0, 2.0, 8.0, 1.0]
whole = steps(manager_of({"decay": 0.5}), values)
first = manager_of({"decay": 0.5})
begun = steps(first, values[:2])
second = manager_of({"decay": 0.5})
second.load_state_dict(json.loads(json.dumps(first.state_dict())))
resumed = begun + steps(second, values[2:])
refusals = []
for params in ({"decay": 2.0}, {"deca": 0.5}):
    try:
        manager_of(params)
    except errors.WeightingError as error:
        refusals.append(str(error))
print(json.dumps([whole, resumed, refusals]))
"""


@pytest.fixture
def installed(tmp_path):
    """Install the package of the page into a directory, and return a function that runs Python with it on the path."""
    section = PAGE.read_text(encoding="utf-8").partition("## A weighting of your own")[2]
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)
    package = tmp_path / "acme"
    package.mkdir()
    (module,) = (text for language, text in blocks if language == "python" and "class Inverse" in text)
    (project,) = (text for language, text in blocks if language == "toml")
    (package / "acme_weightings.py").write_text(module, encoding="utf-8")
    (package / "pyproject.toml").write_text(project, encoding="utf-8")
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*pip, str(package)], check=True)
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    return run


@pytest.mark.slow
def test_it_works_by_name_and_resumes(installed):
    whole, resumed, refusals = json.loads(installed("-W", "error", "-c", USE))
    means = [2.0, 3.0, 9.5, 5.75]
    assert whole == pytest.approx([1.0 / mean for mean in means], rel=1e-6)
    assert resumed == whole
    assert "decay must be from 0 up to 1, got 2.0" in refusals[0]
    assert "it takes decay" in refusals[1]


@pytest.mark.slow
def test_it_is_listed(installed):
    rows = json.loads(installed("-m", "nectargan_core", "plugins", "--load", "--json"))
    (row,) = (row for row in rows if row["name"] == "inverse")
    assert (row["group"], row["state"]) == ("nectargan.weightings", "loaded")
    assert (row["distribution"], row["version"]) == ("acme-weightings", "1.0")
