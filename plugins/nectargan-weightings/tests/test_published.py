"""The entry points of the distribution: their names, and the parameters and documentation of each weighting."""

import inspect
from importlib.metadata import entry_points
from pathlib import Path

import nectargan_weightings
import pytest

from nectargan_core import catalog

README = Path(__file__).parent.parent / "README.md"
PUBLISHED = [point for point in entry_points(group=catalog.WEIGHTINGS) if point.dist.name == "nectargan-weightings"]
each_published = pytest.mark.parametrize("point", PUBLISHED, ids=lambda point: point.name)


def test_every_class_of_the_package_is_published():
    assert {point.value for point in PUBLISHED} == {
        f"nectargan_weightings:{name}" for name in nectargan_weightings.__all__
    }


@each_published
def test_a_weighting_has_typed_keyword_parameters_that_are_documented(point):
    weighting = point.load()
    for parameter in inspect.signature(weighting).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.annotation is not parameter.empty
        assert f"\n    {parameter.name}: " in inspect.getdoc(weighting)
    assert "Example:" in inspect.getdoc(weighting)
    assert "Source: " in inspect.getdoc(weighting)


@each_published
def test_the_readme_lists_every_weighting_with_its_parameters(point):
    row = next(line for line in README.read_text().splitlines() if line.startswith(f"| `{point.name}`"))
    for name, parameter in inspect.signature(point.load()).parameters.items():
        default = str(parameter.default) if not isinstance(parameter.default, str) else f'"{parameter.default}"'
        shown = name if parameter.default is parameter.empty else f"{name}={default}"
        assert f"`{shown}`" in row
