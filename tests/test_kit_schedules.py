"""The kit finds what is wrong with a schedule, says what to change, and finds nothing wrong with sound ones."""

import functools
import itertools
import math
import random
import time
from typing import ClassVar

import numpy as np
import pytest
import torch
from pydantic import ValidationError

import nectargan_core
from nectargan_core import Schedule, interpolate
from nectargan_core.errors import ScheduleError, UnknownScheduleError
from nectargan_core.testing import CheckFailed, ScheduleTests, check_schedule


def straight(schedule, epoch):
    """Go from the initial to the target value in a straight line."""
    return interpolate(*schedule.ends(), schedule.progress(epoch))


def power(schedule, epoch, *, power=2.0):
    """Go from the initial to the target value along a power, above 0, of the progress."""
    if not power > 0:
        raise ScheduleError(f"power must be above 0, got {power!r}")
    return interpolate(*schedule.ends(), schedule.progress(epoch) ** power)


def halving(schedule, epoch):
    """Halve the initial value in each epoch."""
    return schedule.ends()[0] * 0.5**epoch


def plateaus(schedule, epoch, *, count=4):
    """Go from the initial to the target value in `count` equal jumps."""
    return interpolate(*schedule.ends(), math.floor(schedule.progress(epoch) * count) / count)


def warm(schedule, epoch, *, begin=0.0, rise=0.25):
    """Rise from the share `begin` of the initial value, in the share `rise` of the time, then go to the target."""
    initial, target = schedule.ends()
    progress = schedule.progress(epoch)
    if progress < rise:
        return interpolate(begin * initial, initial, progress / rise)
    return interpolate(initial, target, (progress - rise) / (1.0 - rise))


def one_sign(schedule, epoch):
    """Go from the initial to the target value, both above 0."""
    initial, target = schedule.ends()
    if initial <= 0 or target <= 0:
        raise ScheduleError("values must be above 0")
    return interpolate(initial, target, schedule.progress(epoch))


def noise(schedule, epoch, *, seed=0):
    """Multiply the initial value by a number that `seed` and the epoch determine."""
    return schedule.ends()[0] * random.Random(f"{seed} {epoch:g}").random()


def whole(schedule, epoch):
    """Return an int, which is a number, too."""
    return 1 if schedule.is_running(epoch) else 0


def table(schedule, epoch, *, values):
    """Take the values in turn, one an epoch, and keep the last."""
    return float(values[min(int(epoch), len(values) - 1)])


class Curve:
    """Keep the initial value."""

    def __call__(self, schedule, epoch):
        return schedule.ends()[0]


def in_steps(schedule, epoch):
    """Go from the initial to the target value, in steps only."""
    if schedule.unit != "step":
        raise ScheduleError("unit must be 'step'")
    return straight(schedule, epoch)


def in_fractions(schedule, epoch):
    """Go from the initial to the target value, in fractions of the run only."""
    if schedule.unit != "fraction":
        raise ScheduleError("unit must be 'fraction'")
    return straight(schedule, epoch)


@pytest.mark.parametrize(
    "curve",
    [in_steps, in_fractions, straight, power, halving, plateaus, warm, one_sign, noise, whole, Curve()],
    ids=lambda curve: getattr(curve, "__name__", "object"),
)
def test_a_sound_curve_passes(curve):
    check_schedule(curve)


def test_params_are_given_to_a_sound_curve():
    check_schedule(power, params={"power": 0.5})
    check_schedule(table, params={"values": [3.0, 2.0, 1.0]})
    check_schedule(warm, params={"begin": 0.5})


# Planted faults: each is a function, found by one check at least, with a message that says what to change.


def of_anything(schedule, epoch, **params):
    """Go in a line, and `params` do nothing."""
    return straight(schedule, epoch)


def of_rest(schedule, epoch, *rest):
    """Go in a line, and `rest` does nothing."""
    return straight(schedule, epoch)


def of_position(schedule, epoch, power=2.0, /):
    """Go along a power."""
    return straight(schedule, epoch)


def of_one(epoch):
    """Take no schedule."""
    return epoch


def of_set(schedule, epoch, *, milestones=frozenset({1})):
    """Go in a line, whatever milestones are."""
    return straight(schedule, epoch)


def of_infinity(schedule, epoch, *, limit=math.inf):
    """Go in a line, up to the limit."""
    return straight(schedule, epoch)


def none(schedule, epoch):
    """Forget to return."""


def tensor(schedule, epoch):
    """Return a tensor."""
    return torch.tensor(straight(schedule, epoch))


def array(schedule, epoch):
    """Return an array."""
    return np.full(1, straight(schedule, epoch))


def single(schedule, epoch):
    """Return a number of NumPy that is no float."""
    return np.float32(straight(schedule, epoch))


def nan_at_zero(schedule, epoch):
    """Be nan in the first epoch."""
    return math.nan if epoch == 0 else straight(schedule, epoch)


def nan_once(schedule, epoch):
    """Be nan in one epoch."""
    return math.nan if epoch == 37 else straight(schedule, epoch)


def growing(schedule, epoch):
    """Grow without a limit."""
    return schedule.ends()[0] * math.exp(epoch)


def divided(schedule, epoch):
    """Divide by the length, which may be 0."""
    schedule.span()
    return interpolate(*schedule.ends(), (epoch - schedule.start_epoch) / (schedule.end_epoch - schedule.start_epoch))


def logarithmic(schedule, epoch):
    """Take logarithms of values of any sign."""
    initial, target = map(math.log, schedule.ends())
    return math.exp(interpolate(initial, target, schedule.progress(epoch)))


def refusing_late(schedule, epoch):
    """Refuse only late what it cannot use at all."""
    if epoch > 40:
        raise ScheduleError("no")
    return 1.0


def refusing_all(schedule, epoch):
    """Refuse everything."""
    raise ScheduleError("nothing is right")


def unguarded(schedule, epoch):
    """Use the end where there may be none."""
    share = (epoch - schedule.start_epoch) / max(schedule.end_epoch - schedule.start_epoch, 1e-9)
    return interpolate(*schedule.ends(), share)


def beyond(schedule, epoch):
    """Go on beyond the end."""
    start, end = schedule.span()
    initial, target = schedule.ends()
    return initial + (target - initial) * max(epoch - start, 0.0) / max(end - start, 1e-9)


def early(schedule, epoch):
    """Begin before the start."""
    _, end = schedule.span()
    return schedule.ends()[1] if epoch >= end else interpolate(*schedule.ends(), epoch / end)


def nearly(schedule, epoch):
    """Nearly reach the target."""
    return interpolate(*schedule.ends(), 0.999 * schedule.progress(epoch))


def positive(schedule, epoch):
    """Stop at 0."""
    return max(straight(schedule, epoch), 0.0)


def from_zero(schedule, epoch):
    """Begin at 0, not at the initial value."""
    return schedule.ends()[1] * schedule.progress(epoch)


def constant_rise(schedule, epoch):
    """Begin at half of the initial value, and never reach it."""
    initial, target = schedule.ends()
    return interpolate(0.5 * initial, target, schedule.progress(epoch))


def truncated(schedule, epoch):
    """Leave the fraction of an epoch out."""
    return straight(schedule, int(epoch))


def rounded(schedule, epoch):
    """Round the epoch."""
    return straight(schedule, round(epoch))


def listed(schedule, epoch):
    """Count epochs one by one, which no fraction can."""
    return 0.5 if epoch > 1000 else 0.5 ** len(range(epoch))


def by_type(schedule, epoch):
    """Tell a float from an int."""
    return 1.0 if isinstance(epoch, int) else 2.0


def drawn(schedule, epoch):
    """Draw at random."""
    return random.random()


def seeded(schedule, epoch):
    """Seed the generator of the process."""
    random.seed(0)
    return schedule.ends()[0] * random.random()


def torch_drawn(schedule, epoch):
    """Draw from the generator of torch, for nothing."""
    return schedule.ends()[0] + 0.0 * torch.rand(1).item()


def timed(schedule, epoch):
    """Follow the time of the day."""
    return time.perf_counter()


_calls = itertools.count()


def counting(schedule, epoch):
    """Count calls."""
    return float(next(_calls))


def _last(schedule, epoch, memory={}):  # noqa: B006 # the fault
    before = memory.get("last", 0.0)
    memory["last"] = epoch
    return before


def following(schedule, epoch):
    """Follow what was asked before."""
    return _last(schedule, epoch)


def current(schedule, epoch):
    """Follow what was applied last."""
    return 0.5 * schedule.current_value


def popping(schedule, epoch, *, values):
    """Take values off the list."""
    values.sort()
    return float(values[0])


def setting(schedule, epoch):
    """Change the schedule behind its back."""
    schedule.__dict__["target_value"] = 7.0
    return schedule.ends()[0]


def undocumented(schedule, epoch):
    return straight(schedule, epoch)


def half_documented(schedule, epoch, *, gamma=0.5):
    """Go in a line."""
    return straight(schedule, epoch)


def unguarded_division(schedule, epoch):
    """Use the end where there may be none, and divide by a length that may be 0."""
    share = (epoch - schedule.start_epoch) / (schedule.end_epoch - schedule.start_epoch)
    return interpolate(*schedule.ends(), share)


FAULTS = [
    ("params", of_anything, r"\*\*params takes any name, so that a misspelt param is ignored"),
    ("params", of_rest, r"\*rest takes any number of values, .* write \(schedule, epoch, \*, \.\.\.\)"),
    ("params", of_position, r"power is positional only, .* write it after \*"),
    ("params", of_one, r"it is called with \(schedule, epoch, \*\*params\), and takes \(epoch\)"),
    ("params", of_set, "default of milestones is nothing that JSON can hold"),
    ("params", of_infinity, "default of limit is nothing that JSON can hold, .*, got inf"),
    ("params", table, r"cannot be checked without values for values, .* params=\{\"values\": ...\}, or --param values"),
    ("finite", none, "it returned None, a NoneType, at epoch 0 of a schedule from 0 to 100, .* return a Python float"),
    ("finite", tensor, r"it returned .*, a Tensor, at epoch 0 .* return a Python float, such as float\(\.\.\.\)"),
    ("finite", array, "it returned ndarray of shape .*return a Python float"),
    ("finite", single, "a float32, at epoch 0"),
    ("finite", nan_at_zero, "it returned nan at epoch 0 .* finite number at every epoch of at least 0"),
    ("finite", nan_once, "it returned nan at epoch 37 of a schedule from 0 to 100"),
    ("finite", growing, "it raised OverflowError: .* at epoch 1000 "),
    ("finite", divided, "it raised ZeroDivisionError: .* at epoch 0 of a schedule from 7 to 7"),
    ("finite", logarithmic, "it raised ValueError: .* refuses with a ScheduleError at every epoch"),
    ("finite", refusing_late, "it raised ScheduleError: no at epoch 41 "),
    ("finite", refusing_all, "it refuses each schedule that was tried: .*'nothing is right'; .*give params= that fit"),
    ("ends", unguarded, r"without end_epoch, .* it raised TypeError: .*ask schedule\.progress\(epoch\)"),
    ("ends", unguarded_division, r"without end_epoch, .* it raised TypeError: .*ask schedule\.progress\(epoch\)"),
    ("ends", beyond, r"it is .* at epoch 100\.5 .* exactly the target value from the end on"),
    ("ends", early, "it is .* at epoch 5 of a schedule from 10 to 110, .* exactly the initial value up to the start"),
    ("ends", nearly, "at epoch 100 .* exactly the target value from the end on, as interpolate"),
    ("ends", positive, r"it is 0\.0 at epoch 100 .*target value -0\.5"),
    ("ends", from_zero, r"it is 0\.0 at epoch 0 .*Only a warm-up is something else there"),
    (
        "ends",
        constant_rise,
        "Only a warm-up is something else there, a share of the initial value, which it then rises",
    ),
    (
        "fractional",
        truncated,
        r"at epoch 7\.75 of a schedule from 2\.5 to 7\.75.* a float: round it nowhere",
    ),
    ("fractional", rounded, r"at epoch 7\.25 of a schedule from 2\.25 to 7\.25.* round it nowhere"),
    ("fractional", by_type, "where the epoch is an int, and 2.0 where it is a float"),
    ("pure", drawn, "keep nothing between calls, and draw nothing at random"),
    ("pure", seeded, "draws from, or seeds, the generator of random, which belongs to the training"),
    ("pure", torch_drawn, "draws from, or seeds, the generator of torch"),
    ("pure", timed, "the same schedule and epoch give the same number"),
    ("pure", counting, "the same schedule and epoch give the same number"),
    ("pure", following, "the same schedule and epoch give the same number"),
    ("pure", current, r"follows schedule\.current_value, .* take schedule\.ends\(\) and the epoch"),
    ("pure", setting, r"it changes what it is given: .* copy what you change"),
    ("docstring", undocumented, "undocumented has no docstring, whose first line `nectargan plugins` shows"),
    ("docstring", half_documented, "says nothing about gamma; say under Args"),
]


@pytest.mark.parametrize(("check", "curve", "message"), FAULTS, ids=[curve.__name__ for _, curve, _ in FAULTS])
def test_a_fault_is_found_and_the_message_says_what_to_change(check, curve, message):
    with pytest.raises(CheckFailed, match=rf"(?s)^schedule {curve.__name__}:\n.*  {check}: [^\n]*{message}"):
        check_schedule(curve)


def test_each_check_has_a_planted_fault():
    from nectargan_core.testing._schedules import CHECKS

    assert {check for check, _, _ in FAULTS} == {check.name for check in CHECKS}


def test_a_curve_of_steps_is_held_to_its_ends_too():
    def curve(schedule, epoch):
        """Nearly go from the initial to the target value, in steps only."""
        if schedule.unit != "step":
            raise ScheduleError("unit must be 'step'")
        return nearly(schedule, epoch)

    with pytest.raises(CheckFailed, match="ends: it is .* at step 100 of a schedule from 0 to 100"):
        check_schedule(curve)


def test_a_curve_of_fractions_is_held_to_its_ends_too():
    def curve(schedule, epoch):
        """Nearly go from the initial to the target value, in fractions of a run only."""
        if schedule.unit != "fraction":
            raise ScheduleError("unit must be 'fraction'")
        return nearly(schedule, epoch)

    with pytest.raises(CheckFailed, match=r"ends: it is .* at fraction 0\.75 of a schedule"):
        check_schedule(curve)


def test_what_fails_at_fractions_only_is_found_there():
    def curve(schedule, epoch):
        """Count epochs one by one."""
        return 1.0 if epoch != int(epoch) and [][0] else 2.0

    with pytest.raises(CheckFailed, match=r"^schedule .*:\n  fractional: it raised IndexError: .* at epoch 0\.5 "):
        check_schedule(curve)


def test_an_epoch_that_is_no_int_is_found_where_it_is_used_as_one():
    with pytest.raises(CheckFailed, match="fractional: it raised TypeError: 'float' object cannot be interpreted"):
        check_schedule(listed)


def test_a_param_that_is_changed_is_found():
    with pytest.raises(CheckFailed, match=r"pure: it changes what .*\[3\.0, 1\.0\].* became .*\[1\.0, 3\.0\]"):
        check_schedule(popping, params={"values": [3.0, 1.0]})


def test_a_misspelt_param_is_found_with_the_nearest():
    with pytest.raises(CheckFailed, match='params: params has pwoer, and it takes power. Did you mean "power"?'):
        check_schedule(power, params={"pwoer": 1.0})


def test_a_param_that_it_refuses_is_quoted():
    with pytest.raises(CheckFailed, match="finite: it refuses each schedule that was tried: .*power must be above 0"):
        check_schedule(power, params={"power": -1.0})


def test_a_partial_has_the_docstring_of_its_function():
    check_schedule(functools.partial(power, power=3.0))
    with pytest.raises(CheckFailed, match="docstring: partial has no docstring"):
        check_schedule(functools.partial(undocumented))


def test_a_check_is_skipped_with_a_reason():
    check_schedule(undocumented, skip={"docstring": "an experiment"})
    with pytest.raises(ValueError, match="no check is called 'docstrings'; .* Did you mean \"docstring\"?"):
        check_schedule(undocumented, skip={"docstrings": "an experiment"})


def test_an_installed_schedule_is_checked_by_its_name():
    skip = dict.fromkeys(("entry_point", "metadata", "imports"), "each takes another process; they are tested apart")
    check_schedule("nectargan-core/exponential", skip=skip)
    with pytest.raises(CheckFailed, match="^schedule 'exponential':\n  params: params has power, and it takes epsilon"):
        check_schedule("exponential", params={"power": 2}, skip=skip)


def test_a_name_that_is_not_installed_is_an_error_of_the_catalog():
    with pytest.raises(UnknownScheduleError, match='Did you mean "linear"?'):
        check_schedule("lineear")
    with pytest.raises(ValidationError, match="params may hold"):
        check_schedule(power, params={"power": object()})
    with pytest.raises(TypeError, match="a schedule is a function .* or the name of one, got 3"):
        check_schedule(3)


class TestLinear(ScheduleTests):
    schedule = nectargan_core.linear


class TestExponential(ScheduleTests):
    schedule = nectargan_core.exponential


class TestExponentialToZero(ScheduleTests):
    schedule = staticmethod(nectargan_core.exponential)
    params: ClassVar = {"epsilon": 0.01}


class TestConstant(ScheduleTests):
    schedule = Curve()


def test_the_class_fails_where_the_function_does():
    class Faulty(ScheduleTests):
        schedule = nearly

    Faulty().test_finite()
    with pytest.raises(pytest.fail.Exception, match="exactly the target value from the end on"):
        Faulty().test_ends()


def test_the_class_skips_with_the_reason():
    class Skipping(ScheduleTests):
        schedule = nearly
        skip: ClassVar = {"ends": "never quite"}

    with pytest.raises(pytest.skip.Exception, match="never quite"):
        Skipping().test_ends()
    with pytest.raises(pytest.skip.Exception, match="does without an end"):
        type("Endless", (ScheduleTests,), {"schedule": halving})().test_ends()


def test_a_schedule_in_params_is_given_as_in_a_training():
    def parts(schedule, epoch, *, part):
        """Follow `part`."""
        return part.with_weight(schedule.ends()[0]).value(epoch)

    check_schedule(parts, params={"part": Schedule("linear", end=5, target_value=0.0)})
