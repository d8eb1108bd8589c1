"""`nectargan plugins --requirements`: what it prints is what pip takes, and what `pip freeze` prints."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement

from nectargan_core import catalog
from nectargan_core.cli import main

GIT = {
    "url": "https://git.acme.org/glow.git",
    "vcs_info": {"vcs": "git", "commit_id": "1a2b3c4", "requested_revision": "main"},
}
FROM = {
    "git": (GIT, "acme @ git+https://git.acme.org/glow.git@1a2b3c4"),
    "folder of git": (
        {**GIT, "subdirectory": "losses"},
        "acme @ git+https://git.acme.org/glow.git@1a2b3c4#subdirectory=losses",
    ),
    "git with a password": (
        {**GIT, "url": "https://me:secret@git.acme.org/glow.git"},
        "acme @ git+https://git.acme.org/glow.git@1a2b3c4",
    ),
    "git with a password in a variable": (
        {**GIT, "url": "https://${USER}:${TOKEN}@git.acme.org/glow.git"},
        "acme @ git+https://${USER}:${TOKEN}@git.acme.org/glow.git@1a2b3c4",
    ),
    "git through ssh": (
        {**GIT, "url": "ssh://git@git.acme.org/glow.git"},
        "acme @ git+ssh://git@git.acme.org/glow.git@1a2b3c4",
    ),
    "archive": (
        {"url": "https://acme.org/acme-1.0.zip", "archive_info": {"hash": "sha256=ab12"}},
        "acme @ https://acme.org/acme-1.0.zip#sha256=ab12",
    ),
    "archive with hashes": (
        {"url": "https://acme.org/acme-1.0.zip", "archive_info": {"hashes": {"sha256": "ab12"}}},
        "acme @ https://acme.org/acme-1.0.zip#sha256=ab12",
    ),
    "directory": ({"url": "file:///home/you/acme", "dir_info": {}}, "acme @ file:///home/you/acme"),
}


@pytest.fixture
def install(alone):
    """Install a distribution with a plugin, beside a core of version 0.1.0, and return the other lines."""

    def installed(origin=None, version="1.0", text=None):
        alone.install("nectargan-core", "0.1.0")
        info = alone.install("acme", version, specs={"glow": "acme:glow"})
        if origin is not None or text is not None:
            (info / "direct_url.json").write_text(json.dumps(origin) if text is None else text, encoding="utf-8")
        catalog.refresh()
        first, *lines = catalog.requirements()
        assert first == "nectargan-core==0.1.0"
        return lines

    return installed


def test_what_came_from_an_index_has_its_version(install):
    assert install() == ["acme==1.0"]


@pytest.mark.parametrize(("origin", "line"), FROM.values(), ids=FROM)
def test_what_came_from_elsewhere_has_its_address(install, origin, line):
    assert install(origin) == [line]
    assert Requirement(line).url


@pytest.mark.parametrize("path", ["/home/you/acme", "/home/you/my acme"])
def test_an_editable_installation_has_its_directory(install, path):
    (line,) = install({"url": f"file://{path.replace(' ', '%20')}", "dir_info": {"editable": True}})
    assert shlex.split(line) == ["-e", path]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"url": 3}', "{}"])
def test_an_origin_that_cannot_be_read_is_none(install, text):
    assert install(text=text) == ["acme==1.0"]


def test_a_version_that_is_none_of_pythons_is_compared_as_text(install):
    assert install(version="1.0-glow.x") == ["acme===1.0-glow.x"]


def test_a_distribution_without_plugins_is_left_out(alone):
    alone.install("acme", entry_points="[console_scripts]\nacme = acme:main\n")
    assert not [line for line in catalog.requirements() if "acme" in line]


def test_core_that_runs_from_a_source_tree_is_a_comment(alone, monkeypatch):
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not any(Path(path or ".").glob("*.dist-info"))])
    assert catalog.requirements() == ["# nectargan-core is not installed: it runs from a source tree"]


def test_a_distribution_whose_name_is_none_is_a_comment(alone):
    alone.install("a\x1bc", specs={"glow": "acme:glow"}, folder="acme-1.0.dist-info")
    assert catalog.requirements()[1] == "# a\\x1bc: its metadata is not valid; reinstall it"


def test_each_distribution_has_one_line_in_the_order_of_names(alone):
    alone.install("zeta", specs={"one": "zeta:one", "two": "zeta:two"})
    alone.install("Acme", schedules={"one": "acme:one"})
    assert catalog.requirements()[1:] == ["Acme==1.0", "zeta==1.0"]


def test_the_command_prints_the_lines_whole(install):
    path = "/home/you/" + "a" * 120
    install({"url": f"file://{path}", "dir_info": {"editable": True}})
    result = CliRunner().invoke(main, ["plugins", "--requirements"])
    assert result.output.splitlines() == ["nectargan-core==0.1.0", f"-e {path}"]


@pytest.mark.parametrize("other", ["--load", "--json"])
def test_the_command_takes_no_other_option_beside_it(other):
    result = CliRunner().invoke(main, ["plugins", "--requirements", other])
    assert result.exit_code == 2
    assert "--requirements goes without --load and --json" in result.output


@pytest.mark.slow
def test_pip_freeze_prints_the_same_and_pip_takes_it(site, tmp_path):
    project = tmp_path / "acme project"
    project.mkdir()
    (project / "acme.py").write_text("def glow(config): return {}\n")
    (project / "pyproject.toml").write_text(
        "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
        "[project]\nname = 'acme'\nversion = '1.0'\n"
        "[project.entry-points.'nectargan.loss_specs']\nglow = 'acme:glow'\n"
        "[tool.hatch.build.targets.wheel]\nonly-include = ['acme.py']\n"
        "[tool.hatch.build]\ndev-mode-dirs = ['.']\n"
    )
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    install = [*pip, "install", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*install, "--quiet", "--target", str(site.path), str(project)], check=True)
    catalog.refresh()
    (line,) = (line for line in catalog.requirements() if line.startswith("acme"))
    frozen = subprocess.run([*pip, "freeze", "--path", str(site.path)], capture_output=True, text=True, check=True)
    assert line in frozen.stdout.splitlines()

    for text in (line, f"-e {shlex.quote(str(project))}"):
        requirements = tmp_path / "requirements.txt"
        requirements.write_text(f"{text}\n")
        target = ["--dry-run", "--ignore-installed", "-r", str(requirements)]
        done = subprocess.run([*install, *target], capture_output=True, text=True, check=False)
        assert "Would install acme-1.0" in done.stdout, done.stderr
