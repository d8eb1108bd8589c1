"""The entry points of the distribution: their names, and the signature and documentation of each curve."""

import inspect
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from nectargan_core import catalog

README = Path(__file__).parent.parent / "README.md"
PUBLISHED = [point for point in entry_points(group=catalog.SCHEDULES) if point.dist.name == "nectargan-schedules"]


@pytest.mark.parametrize("point", PUBLISHED, ids=lambda point: point.name)
def test_an_entry_point_is_named_after_its_function(point):
    assert point.value == f"nectargan_schedules:{point.name.replace('-', '_')}"


@pytest.mark.parametrize("point", PUBLISHED, ids=lambda point: point.name)
def test_a_curve_has_typed_keyword_parameters_that_are_documented(point):
    curve = point.load()
    schedule, epoch, *parameters = inspect.signature(curve).parameters.values()
    assert (schedule.name, epoch.name) == ("schedule", "epoch")
    for parameter in parameters:
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.annotation is not parameter.empty
        assert f"\n    {parameter.name}: " in inspect.getdoc(curve)
    assert "Example:" in inspect.getdoc(curve)


@pytest.mark.parametrize("point", PUBLISHED, ids=lambda point: point.name)
def test_the_readme_lists_every_curve_with_its_parameters(point):
    row = next(line for line in README.read_text().splitlines() if line.startswith(f"| `{point.name}`"))
    for name, parameter in list(inspect.signature(point.load()).parameters.items())[2:]:
        shown = name if parameter.default is parameter.empty else f"{name}={parameter.default}"
        assert f"`{shown}`" in row


def test_the_tests_share_a_schedule_of_every_curve(names):
    assert {point.name for point in PUBLISHED} <= set(names)
