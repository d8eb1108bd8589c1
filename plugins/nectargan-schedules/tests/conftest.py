"""Shared fixtures: one schedule for every curve, core's two included, over the first twelve epochs."""

import pytest

from nectargan_core import Schedule

ENDS = {"start": 2, "end": 10, "initial_value": 4.0, "target_value": 0.5}
RISE = Schedule("linear", end=4, initial_value=0.25)
FALL = Schedule("cosine", start=5, end=9, target_value=0.5)

CURVES = [
    Schedule("linear", **ENDS),
    Schedule("exponential", **ENDS),
    Schedule("constant", initial_value=4.0),
    Schedule("cosine", **ENDS),
    Schedule("cosine-restarts", **ENDS, params={"period": 2, "multiplier": 2}),
    Schedule("cyclic", **ENDS, params={"period": 3}),
    Schedule("every", **ENDS, params={"n": 3}),
    Schedule("inverse-sqrt", **ENDS, params={"warmup": 3, "begin": 0.1}),
    Schedule("multistep", **ENDS, params={"milestones": [3, 5.5], "gamma": 0.5}),
    Schedule("one-cycle", **ENDS),
    Schedule("piecewise-linear", params={"points": [[0, 4.0], [5, 1.0], [8, 2.0]]}),
    Schedule("polynomial", **ENDS, params={"power": 2.5}),
    Schedule("product", initial_value=4.0, params={"factors": [RISE, FALL]}),
    Schedule("sequence", initial_value=4.0, params={"parts": [RISE, FALL]}),
    Schedule("sigmoid", **ENDS, params={"steepness": 5.0}),
    Schedule("step", **ENDS, params={"every": 2, "gamma": 0.5}),
    Schedule("warmup-cosine", **ENDS, params={"warmup": 3, "begin": 0.25}),
    Schedule("window", **ENDS),
]

# What is a position or a length, of the schedule or in its params.
POSITIONS = {"start_epoch", "end_epoch", "every", "milestones", "period", "warmup"}


def pytest_generate_tests(metafunc):
    if "curve" in metafunc.fixturenames:
        metafunc.parametrize("curve", CURVES, ids=lambda schedule: schedule.schedule)
    if "divisible" in metafunc.fixturenames:
        curves = [schedule for schedule in CURVES if schedule.schedule != "every"]
        metafunc.parametrize("divisible", curves, ids=lambda schedule: schedule.schedule)


@pytest.fixture
def in_steps():
    """Return a function that converts a schedule of epochs to the same schedule of steps."""

    def convert(schedule):
        definition = schedule.model_dump(exclude_unset=True) | {"unit": "step"}
        for parts in ("parts", "factors"):
            if parts in schedule.params:
                definition["params"] = {parts: [convert(part) for part in schedule.params[parts]]}
        return Schedule.model_validate(definition)

    return convert


@pytest.fixture(scope="session")
def in_fractions():
    """Return a function that converts a schedule of epochs to the same schedule of fractions of so many epochs."""

    def convert(schedule, total):
        definition = schedule.model_dump(exclude_unset=True) | {"unit": "fraction"}
        for values in (definition, definition.get("params", {})):
            for name, value in values.items():
                if name in POSITIONS:
                    values[name] = [at / total for at in value] if isinstance(value, list) else value / total
                elif name == "points":
                    values[name] = [[at / total, height] for at, height in value]
                elif name in ("parts", "factors"):
                    values[name] = [convert(part, total) for part in schedule.params[name]]
        return Schedule.model_validate(definition)

    return convert


@pytest.fixture
def names():
    return [schedule.schedule for schedule in CURVES]
