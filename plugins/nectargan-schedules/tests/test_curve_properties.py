"""Properties of every curve for arbitrary parameters: bounds, monotonicity, and errors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nectargan_core import Schedule, Scheduler
from nectargan_core.errors import ScheduleError

numbers = st.floats(allow_nan=False, allow_infinity=False)
epochs = st.one_of(st.integers(0, 300), st.floats(0.0, 300.0), st.floats(0.0, allow_infinity=False))
shares = st.floats(0.0, 1.0)
positive = st.one_of(st.floats(1e-3, 1e3), st.floats(0.0, exclude_min=True, allow_infinity=False))


@st.composite
def ends(draw, values=numbers):
    start, end = sorted(draw(st.tuples(*[st.one_of(st.integers(0, 200), st.floats(0.0, 200.0))] * 2)))
    return {"start": start, "end": end, "initial_value": draw(values), "target_value": draw(values)}


@st.composite
def decays(draw, name, **params):
    """A curve that shrinks, with or without a target at which it stops."""
    definition = draw(ends())
    if draw(st.booleans()):
        definition["target_value"] = definition["initial_value"] * draw(shares)
    else:
        del definition["target_value"]
    return Schedule(name, **definition, params={key: draw(value) for key, value in params.items()})


def curves(name, **params):
    return st.builds(lambda ends, params: Schedule(name, **ends, params=params), ends(), st.fixed_dictionaries(params))


@st.composite
def multisteps(draw):
    schedule = draw(decays("multistep", gamma=shares))
    at = st.floats(schedule.start_epoch, schedule.end_epoch)
    milestones = sorted(draw(st.sets(at, min_size=1, max_size=4)))
    return Schedule.model_validate(schedule.model_dump() | {"params": {**schedule.params, "milestones": milestones}})


@st.composite
def warmup_cosines(draw):
    definition = draw(ends())
    warmup = (definition["end"] - definition["start"]) * draw(shares)
    return Schedule("warmup-cosine", **definition, params={"warmup": warmup, "begin": draw(shares)})


MONOTONE = {
    "cosine": curves("cosine"),
    "polynomial": curves("polynomial", power=positive),
    "sigmoid": curves("sigmoid", steepness=positive),
}
BETWEEN = MONOTONE | {
    "cosine-restarts": curves("cosine-restarts", period=positive, multiplier=st.integers(1, 5)),
    "cyclic": curves("cyclic", period=positive),
    "every": curves("every", n=st.integers(1, 50)),
    "window": curves("window"),
}
SHRINKING = {
    "step": decays("step", every=positive, gamma=shares),
    "multistep": multisteps(),
    "inverse-sqrt": decays("inverse-sqrt", warmup=positive, begin=st.just(1.0)),
}
RISING_FIRST = {
    "warmup-cosine": warmup_cosines(),
    "one-cycle": curves("one-cycle", rise=st.floats(0.01, 0.99), begin=shares),
    "inverse-sqrt": decays("inverse-sqrt", warmup=positive, begin=shares),
}


def each_of(strategies):
    """Parametrize a test over strategies; the test draws its schedule from them."""
    return pytest.mark.parametrize("strategy", strategies.values(), ids=strategies)


@each_of(BETWEEN)
@given(data=st.data(), epoch=epochs)
def test_it_stays_between_initial_and_target(strategy, data, epoch):
    schedule = data.draw(strategy)
    low, high = sorted(schedule.ends())
    assert low <= Scheduler(schedule).value(epoch) <= high


@each_of(MONOTONE)
@given(data=st.data(), pair=st.tuples(epochs, epochs))
def test_it_is_monotone(strategy, data, pair):
    schedule = data.draw(strategy)
    curve, (initial, target) = Scheduler(schedule), schedule.ends()
    earlier, later = (curve.value(epoch) for epoch in sorted(pair))
    # Sine and power are exact only to some units in the last place, so that values may go back by as much.
    slack = 1e-14 * max(abs(initial), abs(target))
    assert later >= earlier - slack if target >= initial else later <= earlier + slack


@each_of(SHRINKING)
@given(data=st.data(), pair=st.tuples(epochs, epochs))
def test_it_shrinks_as_far_as_the_target_and_no_farther(strategy, data, pair):
    schedule = data.draw(strategy)
    curve, (initial, target) = Scheduler(schedule), schedule.ends()
    floor = abs(target) if schedule.gives("target_value") else 0.0
    earlier, later = (curve.value(epoch) for epoch in sorted(pair))
    assert floor <= abs(later) <= abs(earlier) <= abs(initial)
    assert later * initial >= 0.0


@each_of(RISING_FIRST)
@given(data=st.data(), epoch=epochs)
def test_it_stays_in_the_range_of_begin_initial_and_target(strategy, data, epoch):
    schedule = data.draw(strategy)
    initial, target = schedule.ends()
    heights = [schedule.params.get("begin", 0.0) * initial, initial, target if schedule.gives("target_value") else 0.0]
    assert min(heights) <= Scheduler(schedule).value(epoch) <= max(heights)


@given(points=st.dictionaries(st.floats(0.0, 1e6), numbers, min_size=1, max_size=6), epoch=epochs)
def test_a_table_has_its_values_at_its_points_and_stays_in_their_range(points, epoch):
    curve = Scheduler(Schedule("piecewise-linear", params={"points": sorted(points.items())}))
    assert [curve.value(at) for at in points] == list(points.values())
    assert min(points.values()) <= curve.value(epoch) <= max(points.values())


@each_of(BETWEEN | SHRINKING | RISING_FIRST)
@given(data=st.data(), epoch=epochs)
def test_what_json_gives_back_has_the_same_values(strategy, data, epoch):
    schedule = data.draw(strategy).with_weight(3.0)
    read = Schedule.model_validate_json(schedule.model_dump_json())
    assert read == schedule
    assert Scheduler(read).value(epoch) == Scheduler(schedule).value(epoch)


# Arbitrary definitions

PARAMS = {
    "constant": (),
    "cosine": (),
    "cosine-restarts": ("period", "multiplier"),
    "cyclic": ("period",),
    "every": ("n", "average"),
    "inverse-sqrt": ("warmup", "begin"),
    "multistep": ("milestones", "gamma"),
    "one-cycle": ("rise", "begin"),
    "piecewise-linear": ("points",),
    "polynomial": ("power",),
    "product": ("factors",),
    "sequence": ("parts",),
    "sigmoid": ("steepness",),
    "step": ("every", "gamma"),
    "warmup-cosine": ("warmup", "begin"),
    "window": (),
}
plain_numbers = st.one_of(st.integers(-3, 200), shares, numbers, st.integers())
garbage = st.recursive(
    st.one_of(st.none(), st.booleans(), plain_numbers, st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=6,
)
lists = st.one_of(
    st.lists(st.integers(0, 100), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.tuples(st.integers(0, 100), plain_numbers), min_size=1, max_size=4, unique_by=lambda pair: pair[0]).map(
        sorted
    ),
    st.lists(st.one_of(plain_numbers, st.tuples(plain_numbers, plain_numbers)), max_size=4),
)


@st.composite
def anything(draw, depth=2, unit=None):
    """A definition of any curve, in which everything may be wrong."""
    unit = unit or draw(st.sampled_from(["epoch", "fraction"]))
    last = 1 if unit == "fraction" else 100
    name = draw(st.sampled_from(sorted(PARAMS)))
    values = [plain_numbers, lists, garbage]
    if depth and name in ("sequence", "product"):
        parts = st.lists(anything(depth=depth - 1, unit=unit), max_size=3)
        values = [parts, parts.map(lambda parts: sorted(parts, key=lambda part: part.get("start", 0)))]
    params = {key: draw(st.one_of(values)) for key in PARAMS[name] if draw(st.integers(0, 9))}
    # The product of large values may become infinite although each factor is valid.
    small = st.floats(-1e3, 1e3)
    definition = {key: draw(small) for key in ("initial_value", "target_value") if draw(st.booleans())}
    for key in ("start", "end"):
        if draw(st.booleans()):
            definition[key] = draw(st.one_of(st.integers(0, last), st.floats(0.0, last)))
    return {"schedule": name, "unit": unit, **definition, "params": params}


@given(definition=anything(), some=st.lists(epochs, max_size=8), weight=st.floats(-1e3, 1e3))
def test_a_definition_is_refused_at_once_or_never_fails(definition, some, weight):
    try:
        curve = Scheduler(Schedule.model_validate(definition).with_weight(weight))
    except (ScheduleError, ValidationError):
        return
    for epoch in some:
        assert math.isfinite(curve.value(epoch))
