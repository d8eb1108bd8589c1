"""What `nectargan new` writes, in a new environment: its tests, linters and checks pass, and a run uses it by name."""

import re
import sys
from pathlib import Path

import pytest
from wheels import call

ROOT = Path(__file__).parent.parent
# Of each kind a name that needs care: a dot, a digit at the front, a keyword.
NAMES = {"loss": "my.loss", "schedule": "3d-fade", "weighting": "class", "observer": "2-csv"}

TRAIN = """
import torch
from nectargan_core import LossManager, Schedule, Weighting

network = torch.nn.Conv2d(3, 3, 3, padding=1)
before = network.weight.detach().clone()
optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
manager = LossManager()
{objective}
for epoch in range(3):
    manager.tick(epoch=epoch)
    total = manager.compute_losses({{"y_fake": network(x), "y": y}}, query="G").total
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
assert total.isfinite()
assert not torch.equal(before, network.weight)
weights = manager.get_loss_weights(precision=6)
print(weights)
"""

L1 = 'manager.register_loss_fn("G_L1", torch.nn.L1Loss(), tags=["G"]{more})\n'
OBJECTIVES = {
    "loss": 'manager.init_from_spec("2*my.loss", options={"my.loss": {"sharpness": 3.0}})',
    "schedule": L1.format(more=', schedule=Schedule("3d-fade", end=4, target_value=0.0)'),
    "weighting": L1.format(more="") + 'manager.set_weighting(Weighting("class", params={"decay": 0.5}), query="G")',
    "observer": L1.format(more="") + 'manager.add_observer("2-csv")',
}
WEIGHTS = {
    "loss": r"\{'G_MY_LOSS': 2.0\}",
    "schedule": r"\{'G_L1': 0.5\}",
    "weighting": r"\{'G_L1': [1-9]\d*\.\d+\}",
    "observer": r"\{'G_L1': 1.0\}",
}


@pytest.fixture(scope="module")
def environment(make_environment, tmp_path_factory):
    """A new environment with core alone, and an empty directory in it."""
    made = make_environment(tmp_path_factory.mktemp("new") / "environment")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made.python)]
    made.pip = [*pip, "install", "--no-index", "--no-deps", "--no-build-isolation"]
    call([*made.pip, str(ROOT)])
    made.place = made.path / "place"
    made.place.mkdir()
    return made


def passes(environment, command):
    done = environment.run(command)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", NAMES)
def test_a_new_plugin_passes_its_tests_linters_and_checks_and_trains_by_its_name(environment, kind):
    name = NAMES[kind]
    assert list(environment.place.glob(f"nectargan-{name}")) == []
    passes(environment, f"cd place && nectargan new {kind} {name} --author 'Ada Lovelace'")
    folder = environment.place / f"nectargan-{name}"
    assert (folder / ".gitignore").is_file()
    assert (folder / ".github/workflows/ci.yml").is_file()
    call([*environment.pip, str(folder)])

    inside = f"cd place/nectargan-{name} && "
    tests = passes(environment, inside + "python -m pytest -p no:cacheprovider -W error")
    assert re.search(r"\b\d+ passed\b", tests)
    assert "failed" not in tests
    # The linters are those of this environment: their programs are not where the new one looks for them.
    linters = (
        ["ruff", "check", "--no-cache"],
        ["ruff", "check", "--no-cache", "--isolated"],
        ["ruff", "format", "--no-cache", "--check"],
        ["mypy", f"--python-executable={environment.python}", f"--cache-dir={environment.path / '.mypy_cache'}"],
    )
    for linter in linters:
        call([sys.executable, "-m", *linter], cwd=folder)
    passes(environment, f"nectargan check {name}")
    (listed,) = [
        line for line in passes(environment, "nectargan plugins --load").splitlines() if f" nectargan-{name} " in line
    ]
    assert " loaded " in listed

    (environment.path / "train.py").write_text(TRAIN.format(objective=OBJECTIVES[kind]))
    assert re.fullmatch(WEIGHTS[kind], passes(environment, "python train.py").strip())
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (environment.path / "readme.py").write_text("\n".join(re.findall(r"^```python\n(.*?)^```", readme, re.S | re.M)))
    passes(environment, "python readme.py")


@pytest.mark.slow
def test_a_name_that_is_installed_is_refused(environment):
    passes(environment, "cd place && nectargan new loss twice")
    call([*environment.pip, str(environment.place / "nectargan-twice")])
    done = environment.run("mkdir elsewhere && cd elsewhere && nectargan new loss twice")
    assert done.returncode == 2
    assert "'twice' is taken: the loss spec 'twice' is offered by nectargan-twice 0.1.0" in done.stdout
