"""The package with a curve in docs/schedules.md works by name once pip has installed it."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "docs" / "schedules.md"

USE = """
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

qualified = Scheduler(Schedule("acme-schedules/ease-in", end=4, initial_value=0.0)).value(2)
print(json.dumps([weights, scheduler.get_lr_change(), refusal, unknown, qualified]))
"""


def blocks():
    """Return the language and text of each fenced block in the section "A curve of your own"."""
    section = PAGE.read_text(encoding="utf-8").partition("## A curve of your own")[2]
    return re.findall(r"^```(\w*)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)


def write_package(place):
    """Write the files of the page into the directories that its tree shows."""
    found = blocks()
    (tree,) = (text for language, text in found if not language)
    (project,) = (text for language, text in found if language == "toml")
    (module,) = (text for language, text in found if language == "python" and "def ease_in" in text)
    names = re.findall(r"[\w.-]+/?(?=\n)", tree)
    assert names == ["acme-schedules/", "pyproject.toml", "src/", "acme_schedules/", "__init__.py", "py.typed"]
    package = place / "acme-schedules" / "src" / "acme_schedules"
    package.mkdir(parents=True)
    (place / "acme-schedules" / "pyproject.toml").write_text(project, encoding="utf-8")
    (package / "__init__.py").write_text(module, encoding="utf-8")
    (package / "py.typed").touch()
    return place / "acme-schedules"


@pytest.fixture
def installed(tmp_path):
    """Install the package into a directory, and return a function that runs Python with it on the path."""
    site = tmp_path / "site"
    options = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*pip, str(write_package(tmp_path))], check=True)

    def run(*arguments):
        environment = {**os.environ, "PYTHONPATH": str(site)}
        return subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
        ).stdout

    run.site = site
    return run


@pytest.mark.slow
def test_it_works_by_name(installed):
    weights, change, refusal, unknown, qualified = json.loads(installed("-W", "error", "-c", USE))
    assert weights == [8.0 * min(epoch / 4, 1.0) ** 3 for epoch in range(6)]
    assert change == [0.5 * 8.0 / 64, 0.5 * 8.0 / 8]
    assert refusal == "schedule 'ease-in': power must be above 0, got 0"
    assert "'strength'; it takes (schedule, epoch, power)" in unknown
    assert qualified == 0.25


@pytest.mark.slow
def test_the_commands_on_the_page_work(installed, tmp_path):
    commands = [line[2:] for language, text in blocks() if language == "console" for line in text.splitlines()]
    plot = next(command for command in commands if command.startswith("nectargan "))
    assert installed("-m", "nectargan_core", *plot.split()[1:]) == "ease-in.png\n"
    assert (tmp_path / "ease-in.png").stat().st_size > 1000


@pytest.mark.slow
def test_it_is_listed(installed):
    rows = json.loads(installed("-m", "nectargan_core", "plugins", "--load", "--json"))
    (row,) = (row for row in rows if row["name"] == "ease-in")
    assert (row["distribution"], row["version"], row["state"]) == ("acme-schedules", "1.0", "loaded")


@pytest.mark.slow
def test_uninstalled_it_is_unknown(installed):
    for path in installed.site.glob("acme_schedules*"):
        shutil.rmtree(path)
    code = """
        from nectargan_core import Schedule, Scheduler, errors
        try:
            Scheduler(Schedule("ease-in"))
        except errors.UnknownScheduleError as error:
            print(error.name)
    """
    assert installed("-c", textwrap.dedent(code)) == "ease-in\n"


@pytest.mark.slow
def test_its_types_are_those_of_a_curve(installed, tmp_path):
    lines = ["from acme_schedules import ease_in", "from nectargan_core import Schedule"]
    lines += ["value: float = ease_in(Schedule(), 1, power=3.0)"]
    (tmp_path / "use.py").write_text("\n".join(lines) + "\n")
    assert "Success" in installed("-m", "mypy", "--strict", "use.py")
