"""Prints every lower bound in the metadata of core and the plugins as a constraint of pip: `click==8.1`."""

from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
FILES = [ROOT / "pyproject.toml", *sorted(ROOT.glob("plugins/*/pyproject.toml"))]
PROJECTS = {file.parent: tomllib.loads(file.read_text(encoding="utf-8")) for file in FILES}
OURS = {project["project"]["name"] for project in PROJECTS.values()}


def requirements(project, *, extras):
    """The requirements of a distribution, with or without those of its extras."""
    table = project["project"]
    lists = [table["dependencies"], *(table.get("optional-dependencies", {}).values() if extras else ())]
    return [Requirement(text) for texts in lists for text in texts]


def floor(requirement):
    """The one lower bound that a requirement states."""
    (bound,) = [Version(bound.version) for bound in requirement.specifier if bound.operator == ">="]
    return bound


def floors():
    """The lowest release of each requirement that all distributions and extras allow together, by name."""
    found = {}
    for project in PROJECTS.values():
        for requirement in requirements(project, extras=True):
            name = canonicalize_name(requirement.name)
            found[name] = max(floor(requirement), found.get(name, floor(requirement)))
    # PyPI has old releases of torch with CUDA only: the one that development pins is installed before, and stays.
    return {name: found[name] for name in sorted(found) if name not in {*OURS, "torch"}}


if __name__ == "__main__":
    for name, version in floors().items():
        print(f"{name}=={version}")
