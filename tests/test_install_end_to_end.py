"""Real wheels in a new environment: an installed plugin works by name, and an uninstalled one is not found."""

import json
import sys
import textwrap

import pytest
from wheels import build, call

ACME = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"

        [project]
        name = "acme-losses"
        version = "2.5"
        dependencies = ["nectargan-core>=0.1"]

        [project.entry-points."nectargan.loss_specs"]
        acme = "acme_losses:acme"

        [project.entry-points."nectargan.schedules"]
        halving = "acme_losses:halving"
    """,
    "acme_losses.py": """
        from nectargan_core import LMLoss, Schedule

        def acme(config):
            weight = config.loss_weight("acme", default=3.0)
            schedule = Schedule(schedule="halving", end_epoch=100, params={"every": 2})
            return {"G_ACME": LMLoss(name="G_ACME", function=square, loss_weight=weight, schedule=schedule)}

        def square(y_fake, y):
            return (y_fake - y).square().mean()

        def halving(schedule, epoch, *, every):
            return schedule.ends()[0] * 0.5 ** (epoch / every)
    """,
}

# The user's program, which is the same whatever is installed.
TRAIN = """
import sys
import torch
from nectargan_core import LossManager
from nectargan_core.errors import NectarganError

try:
    manager = LossManager().init_from_spec(sys.argv[1])
except NectarganError as error:
    sys.exit(f"{type(error).__name__}: {error}")
manager.tick(epoch=2)
images = {"y_fake": torch.zeros(1, 3, 8, 8), "y": torch.ones(1, 3, 8, 8), "pred_fake": torch.zeros(1, 1, 2, 2)}
losses = manager.compute_losses({**images, "pred_real": torch.zeros(1, 1, 2, 2)})
print({name: round(float(loss), 4) for name, loss in losses.items()})
"""


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Wheels of two third parties that both offer `acme`."""
    dist = tmp_path_factory.mktemp("others")
    for name, claims in (("acme_losses", ACME), ("beta_losses", ACME)):
        project = tmp_path_factory.mktemp(name)
        for file, text in claims.items():
            content = textwrap.dedent(text).replace("acme_losses", name).replace("acme-losses", name.replace("_", "-"))
            if name == "beta_losses":
                content = content.replace('halving = "', 'beta-halving = "').replace("default=3.0", "default=5.0")
            (project / file.replace("acme_losses", name)).write_text(content)
        build(project, dist)
    return dist


@pytest.fixture
def environment(make_environment, wheels, others, tmp_path):
    made = make_environment(tmp_path / "environment")
    (made.path / "train.py").write_text(TRAIN)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(made.python)]

    def install(*names):
        # Not --no-deps: what the wheels depend on must be there, from the environment around this one.
        call([*pip, "install", "--no-index", "--find-links", str(wheels), "--find-links", str(others), *names])

    def uninstall(name):
        call([*pip, "uninstall", "--yes", name])

    made.install, made.uninstall = install, uninstall
    return made


@pytest.mark.slow
def test_a_third_party_plugin_is_installed_used_ambiguous_and_uninstalled(environment):
    def train(spec, settings=""):
        return environment.run(f"{settings} python train.py '{spec}'")

    environment.install("nectargan-core", "nectargan-pix2pix")
    before = train("pix2pix:extended")
    assert before.returncode == 0, before.stdout
    assert "G_ACME" not in before.stdout

    missing = train("pix2pix:extended+acme")
    assert missing.returncode == 1
    said, _, installed = missing.stdout.strip().partition("; installed are ")
    assert said == f"PluginNotFoundError: no loss spec 'acme' is installed for {environment.python}"
    assert {"gan", "l1", "laplacian", "pix2pix", "sobel"} <= set(installed.rstrip(".").split(", "))
    first_party = train("pix2pix:extended+vgg")
    assert "it comes with nectargan-vgg: pip install nectargan-vgg." in first_party.stdout

    environment.install("acme-losses")
    works = train("pix2pix:extended+acme")
    assert works.returncode == 0, works.stdout
    # Its own spec and its own schedule: 3.0, halved once by epoch 2, times a mean square of 1.
    assert "'G_ACME': 1.5" in works.stdout
    assert works.stdout.startswith(before.stdout.strip().removesuffix("}"))

    environment.install("beta-losses")
    ambiguous = train("pix2pix:extended+acme")
    assert ambiguous.stdout.startswith(
        "AmbiguousPluginError: the loss spec 'acme' is offered by acme-losses 2.5, beta-losses"
    )
    assert "'G_ACME': 2.5" in train("pix2pix:extended+beta-losses/acme").stdout
    assert "'G_ACME': 2.5" in train("pix2pix:extended+acme", "NECTARGAN_PROVIDERS=acme=beta-losses").stdout
    assert "'G_ACME': 1.5" in train("pix2pix:extended+acme", "NECTARGAN_BLOCK_PLUGINS=beta-losses").stdout

    environment.uninstall("beta-losses")
    assert train("pix2pix:extended+acme").stdout == works.stdout
    environment.uninstall("acme-losses")
    assert train("pix2pix:extended+acme").stdout == missing.stdout
    assert train("pix2pix:extended").stdout == before.stdout


@pytest.mark.slow
def test_every_wheel_of_this_project_loads(environment, wheels):
    names = {wheel.name.split("-")[0].replace("_", "-") for wheel in wheels.glob("nectargan_*.whl")}
    environment.install(*names)
    done = environment.run("nectargan plugins --load --json")
    assert done.returncode == 0, done.stdout
    assert {row["state"] for row in json.loads(done.stdout)} == {"loaded"}
