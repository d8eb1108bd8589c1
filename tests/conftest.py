"""Shared fixtures: directories and environments in which distributions can be installed as pip does."""

import gc
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import hypothesis
import importlib_metadata
import pytest
from wheels import build_all

from nectargan_core import catalog
from nectargan_core.testing._distributions import remove_distribution, write_distribution

pytest_plugins = ["nectargan_core.testing.fixtures"]

# No deadline: on a loaded machine an example may take arbitrarily long.
hypothesis.settings.register_profile("all day", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, derandomize=True)
hypothesis.settings.load_profile("all day")


def pytest_configure(config):
    """Try as many examples as hypothesis does by itself where slow tests run, too."""
    if "slow or not slow" in (config.option.markexpr or ""):
        hypothesis.settings.load_profile("thorough")


ROOT = Path(__file__).parent.parent


@pytest.hookimpl(tryfirst=True)  # before what is slow is deselected
def pytest_collection_modifyitems(items):
    """Mark tests of plugins by what they cost.

    No coverage is measured in them: it is that of core, which has its own tests, and costs a third of the time. The
    checks of the kit that start a process, which imports torch, are slow, and so is what compiles. So are comparisons
    with the code of authors, which change with their plugin only, and what is for the authors of plugins.
    """
    for item in items:
        if item.path.name.endswith("_numbers.py") or item.path.name.startswith(SLOW):
            item.add_marker("slow")
        if item.path.is_relative_to(ROOT / "plugins"):
            item.add_marker("no_cover")
            if item.name in ("test_entry_point", "test_imports") or "compile" in item.name:
                item.add_marker("slow")


def pytest_collection_finish():
    """Let the garbage collector pass over what was imported and collected: it stays, and is most of what there is."""
    gc.collect()
    gc.freeze()


# Files of which all is slow, by how their names begin.
SLOW = (
    *("test_compile", "test_tracing", "test_weightings_compiled"),
    *("test_published_", "test_pix2pixhd"),
    *("test_check_command", "test_diagnosis", "test_kit_", "test_new", "test_plugin_zoo", "test_trials"),
    "test_wheels",
)
SETTINGS = ("NECTARGAN_PLUGINS", "NECTARGAN_BLOCK_PLUGINS", "NECTARGAN_PROVIDERS")

SPEC = """
import torch
from nectargan_core import LMLoss

def {name}(config):
    \"\"\"Build the losses of {name}.\"\"\"
    return {{"{name}": LMLoss(name="{name}", function=torch.nn.L1Loss())}}
"""


class Site:
    """A directory for `sys.path` in which distributions can be installed."""

    def __init__(self, path):
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def install(
        self,
        dist,
        version="1.0",
        *,
        specs=None,
        schedules=None,
        modules=None,
        requires=(),
        entry_points=None,
        metadata=None,
        folder=None,
    ):
        """Install a distribution as the kit does, or with metadata that is broken or in another folder."""
        groups = {catalog.SPECS: specs or {}, catalog.SCHEDULES: schedules or {}}
        named = {group: names for group, names in groups.items() if names}
        info = write_distribution(
            self.path, dist, version, entry_points=named, modules=modules or {}, requires=requires
        )
        for name, text in {"entry_points.txt": entry_points, "METADATA": metadata}.items():
            if text is not None:
                (info / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        if folder is not None:
            info = info.rename(self.path / folder)
        if info.suffix == ".egg-info":
            (info / "METADATA").rename(info / "PKG-INFO")
            for name in ("WHEEL", "INSTALLER", "RECORD"):
                (info / name).unlink()
        catalog.refresh()
        return info

    def install_spec(self, dist, name, version="1.0", **kwargs):
        """Install a distribution with one working spec, in a module named after the distribution."""
        module = dist.replace("-", "_")
        return self.install(
            dist,
            version,
            specs={name: f"{module}:{name}"},
            modules={f"{module}.py": SPEC.format(name=name)},
            **kwargs,
        )

    def uninstall(self, info):
        """Remove a distribution as pip does."""
        remove_distribution(info)
        catalog.refresh()

    def run(self, *arguments, **environment):
        """Run Python in a new process with this directory on the path."""
        env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        env["PYTHONPATH"] = os.pathsep.join([str(self.path), str(ROOT)])
        return subprocess.run(
            [sys.executable, *arguments],
            env=env | environment,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.path,
            timeout=240,
        )


@pytest.fixture
def site(install_distribution, monkeypatch):
    """A directory at the front of the path in which to install distributions; everything is undone after the test."""
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    catalog.refresh()
    yield Site(install_distribution.directory)
    catalog.configure(plugins=None, block=None, providers=None)


@pytest.fixture
def alone(site, isolated_catalog):
    """Like `site`, but no other directory is looked at."""
    return site


@pytest.fixture(scope="session")
def make_site():
    """Return the class of `site`, for directories that outlive a test or are not on the path."""
    return Site


@pytest.fixture(scope="session")
def wheels(tmp_path_factory):
    """A directory with the wheels of core and of all plugins, not to be changed."""
    dist = tmp_path_factory.mktemp("wheels")
    build_all(dist)
    return dist


class Environment:
    """A new virtual environment with what is installed in this one, except this project's distributions."""

    def __init__(self, path, outer):
        self.path = path
        venv.create(path, with_pip=False, symlinks=os.name != "nt")
        self.python = path / ("Scripts" if os.name == "nt" else "bin") / "python"
        scheme, base = "nt" if os.name == "nt" else "posix_prefix", {"base": str(path), "platbase": str(path)}
        self.packages = Path(sysconfig.get_path("purelib", scheme, base))
        self.packages.joinpath("outer.pth").write_text(f"{outer}\n")

    def run(self, command):
        """Run a shell command with the `python` and the programs of this environment."""
        env = {name: value for name, value in os.environ.items() if name not in (*SETTINGS, "PYTHONPATH")}
        env["PATH"] = os.pathsep.join([str(self.python.parent), env["PATH"]])
        return subprocess.run(
            command,
            shell=True,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            cwd=self.path,
            timeout=240,
        )


@pytest.fixture(scope="session")
def make_environment(tmp_path_factory):
    """Return a function that makes virtual environments with torch and the like, without installing them again.

    With `distributions=` they have only those, by their names.
    """
    outer = tmp_path_factory.mktemp("outer")
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for installed in Path(folder).iterdir():
            if "nectargan" not in installed.name and installed.name != "__pycache__":
                (outer / installed.name).symlink_to(installed)

    def make(path, distributions=None):
        if distributions is None:
            return Environment(path, outer)
        some = tmp_path_factory.mktemp("some")
        for distribution in map(importlib_metadata.distribution, distributions):
            for name in {file.parts[0] for file in distribution.files} - {"..", "__pycache__"}:
                if not (some / name).exists():
                    (some / name).symlink_to(Path(distribution.locate_file(name)).resolve())
        return Environment(path, some)

    return make
