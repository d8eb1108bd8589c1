"""All distributions: one version, one set of terms, and bounds that agree with each other and with the README."""

import re

import pytest
from floors import OURS, PROJECTS, ROOT, floor, requirements
from packaging.version import Version

CORE = PROJECTS[ROOT]["project"]
PLUGINS = {path: project for path, project in PROJECTS.items() if path != ROOT}
each_plugin = pytest.mark.parametrize("path", PLUGINS, ids=lambda path: path.name)


@each_plugin
def test_a_plugin_has_the_version_of_core(path):
    source = PLUGINS[path]["tool"]["hatch"]["version"]
    found = re.findall(source["pattern"], (path / source["path"]).read_text(encoding="utf-8"))
    assert found == [CORE["version"]]
    assert PLUGINS[path]["project"]["dynamic"] == ["version"]


@each_plugin
def test_a_plugin_admits_the_rest_of_its_release(path):
    ours = [requirement for requirement in requirements(PLUGINS[path], extras=True) if requirement.name in OURS]
    assert "nectargan-core" in {requirement.name for requirement in ours}
    refused = [str(requirement) for requirement in ours if not requirement.specifier.contains(CORE["version"], True)]
    assert refused == []


@each_plugin
@pytest.mark.parametrize("term", ["requires-python", "license", "license-files"])
def test_a_plugin_has_the_terms_of_core(path, term):
    assert PLUGINS[path]["project"][term] == CORE[term]


@each_plugin
def test_a_plugin_is_built_and_licensed_as_core_is(path):
    assert PLUGINS[path]["build-system"] == PROJECTS[ROOT]["build-system"]
    assert (path / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_the_changelog_has_a_section_for_the_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"\n## [{CORE['version']}] - " in changelog


def test_a_requirement_has_one_lower_bound_wherever_it_stands():
    stated = {}
    for project in PROJECTS.values():
        for requirement in requirements(project, extras=False):
            stated.setdefault(requirement.name, set()).add(floor(requirement))
    assert {name: bounds for name, bounds in stated.items() if len(bounds) > 1} == {}


def lower_bounds(path, name):
    return {floor(requirement) for requirement in requirements(PROJECTS[path], extras=True) if requirement.name == name}


def test_the_readme_names_the_lower_bounds_of_python_and_torch():
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    ((python, torch),) = re.findall(r"Python (\S+) or newer and PyTorch (\S+) or newer", readme)
    assert f">={python}" == CORE["requires-python"]
    assert {Version(torch)} == lower_bounds(ROOT, "torch")


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has no workflows")
def test_continuous_integration_takes_the_lowest_torch():
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    assert {Version(version) for version in re.findall(r"torch==([\d.]+)", workflow)} == lower_bounds(ROOT, "torch")


@each_plugin
def test_a_readme_names_lower_bounds_of_torch_that_are_stated(path):
    readme = (path / "README.md").read_text(encoding="utf-8")
    named = {Version(version) for version in re.findall(r"torch (\S+) or newer", readme)}
    assert named in (set(), lower_bounds(path, "torch"))
