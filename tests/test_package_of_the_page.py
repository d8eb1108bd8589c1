"""The package on the page for plugin authors works by its names once pip has installed it."""

import json
import os
import shutil
import subprocess
import sys
import textwrap

import pytest
from documents import ROOT, project_of

CURVE = """
import json
import torch
from nectargan_core import LossManager, Schedule, Scheduler, TorchScheduler, catalog, errors

schedule = Schedule("ease-in", end=4, initial_value=0.0, target_value=8.0, params={"power": 3})
assert Schedule.model_validate_json(schedule.model_dump_json()) == schedule

manager = LossManager()
manager.register_loss_fn("G_L1", torch.nn.L1Loss(), schedule=schedule)
weights = []
for epoch in range(6):
    manager.tick(epoch=epoch)
    manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.ones(1)})
    weights.append(manager.get_loss_weights(precision=None)["G_L1"])

optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
scheduler = TorchScheduler(optimizer, schedule)
for _ in range(2):
    optimizer.step(); scheduler.step()

try:
    Scheduler(Schedule("ease-in", params={"power": 0}))
except errors.ScheduleError as error:
    refusal = str(error)
try:
    Scheduler(Schedule("ease-in", params={"strength": 2}))
except errors.ScheduleError as error:
    unknown = str(error)

qualified = Scheduler(Schedule("nectargan-acme/ease-in", end=4, initial_value=0.0)).value(2)
print(json.dumps([weights, scheduler.get_lr_change(), refusal, unknown, qualified]))
"""

WEIGHTING = """
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

LOSS = """
import copy, json, pickle
import torch
from nectargan_core import LossManager

values = {}
for variant in ("plain", "masked"):
    manager = LossManager.from_spec(f"2*acme:{variant}", options={"acme": {"epsilon": 3.0}})
    pickle.loads(pickle.dumps(manager.get_registered_losses()["G_ACME"].function))
    mask = torch.zeros(1, 1, 2, 4)
    mask[..., 2:] = 1.0
    y_fake = torch.zeros(1, 3, 2, 4, requires_grad=True)
    y = torch.cat([torch.full((1, 3, 2, 2), 1000.0), torch.full((1, 3, 2, 2), 4.0)], dim=3)
    total = manager.compute_losses({"y_fake": y_fake, "y": y, "mask": mask}).total
    total.backward()
    values[variant] = total.item()
print(json.dumps(values))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Install the package into a directory, and return a function that runs Python with it on the path."""
    place = tmp_path_factory.mktemp("author")
    for name, text in project_of(ROOT / "docs/writing-a-plugin.md").items():
        (place / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "project" / name).write_text(text, encoding="utf-8")
    site = place / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*pip, str(place / "project")], check=True)

    def run(*arguments, path=site):
        others = os.environ.get("PYTHONPATH", "")
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(path), others]))}
        environment["NECTARGAN_PLUGINS"] = "nectargan-acme"
        return subprocess.run(
            [sys.executable, *arguments], cwd=place, env=environment, check=True, capture_output=True, text=True
        ).stdout

    run.site, run.place = site, place
    return run


@pytest.mark.slow
def test_its_loss_works_by_name(installed):
    values = json.loads(installed("-W", "error", "-c", LOSS))
    # sqrt(1000² + 3²) and sqrt(4² + 3²), each of half the pixels.
    assert values == pytest.approx({"plain": 1000.0045 + 5.0, "masked": 10.0}, rel=1e-6)


@pytest.mark.slow
def test_its_curve_works_by_name(installed):
    weights, change, refusal, unknown, qualified = json.loads(installed("-W", "error", "-c", CURVE))
    assert weights == [8.0 * min(epoch / 4, 1.0) ** 3 for epoch in range(6)]
    assert change == [0.5 * 8.0 / 64, 0.5 * 8.0 / 8]
    assert refusal == "schedule 'ease-in': power must be above 0, got 0"
    assert "'strength'; it takes (schedule, epoch, power)" in unknown
    assert qualified == 0.25


@pytest.mark.slow
def test_its_curve_is_drawn(installed):
    options = ["--end", "100", "--initial", "0", "--target", "1", "--param", "power=3"]
    assert installed("-m", "nectargan_core", "schedules", "plot", "ease-in", *options) == "ease-in.png\n"
    assert (installed.place / "ease-in.png").stat().st_size > 1000


@pytest.mark.slow
def test_its_weighting_works_by_name_and_resumes(installed):
    whole, resumed, refusals = json.loads(installed("-W", "error", "-c", WEIGHTING))
    means = [2.0, 3.0, 9.5, 5.75]
    assert whole == pytest.approx([1.0 / mean for mean in means], rel=1e-6)
    assert resumed == whole
    assert "decay must be from 0 up to 1, got 2.0" in refusals[0]
    assert "it takes decay" in refusals[1]


@pytest.mark.slow
def test_its_plugins_are_listed(installed):
    found = json.loads(installed("-m", "nectargan_core", "plugins", "--load", "--json"))
    mine = {(row["name"], row["version"], row["state"]) for row in found if row["distribution"] == "nectargan-acme"}
    assert mine == {(name, "0.1.0", "loaded") for name in ("acme", "ease-in", "inverse")}
    (variants,) = [row["variants"] for row in found if row["name"] == "acme"]
    assert variants == ["plain", "masked"]


@pytest.mark.slow
def test_uninstalled_it_is_unknown(installed, tmp_path):
    shutil.copytree(installed.site, tmp_path / "site", ignore=shutil.ignore_patterns("nectargan_acme*"))
    code = """
        from nectargan_core import Schedule, Scheduler, errors
        try:
            Scheduler(Schedule("ease-in"))
        except errors.UnknownScheduleError as error:
            print(error.name)
    """
    assert installed("-c", textwrap.dedent(code), path=tmp_path / "site") == "ease-in\n"


@pytest.mark.slow
def test_its_types_are_those_of_plugins(installed):
    shutil.copytree(installed.place / "project" / "src", installed.place / "types")
    assert "Success" in installed("-m", "mypy", "--strict", "types/nectargan_acme")
