"""Properties for arbitrary inputs: schedules, lines of a log, damaged logs, and whole runs."""

import json
import math
import shutil
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from nectargan_core import LossLog, LossManager, Schedule, Scheduler
from nectargan_core.log import Records, joined
from nectargan_core.log._format import decode_line, encode_chunk

NAME = "loss_log.jsonl"
finite = st.floats(allow_nan=False, allow_infinity=False)
epochs = st.one_of(st.integers(0, 10**6), st.floats(0, 1e6))


@st.composite
def ranges(draw):
    start, end = sorted((draw(epochs), draw(epochs)))
    return {"start_epoch": start, "end_epoch": end}


@st.composite
def linears(draw):
    return Schedule(**draw(ranges()), initial_value=draw(finite), target_value=draw(finite))


@st.composite
def exponentials(draw):
    sign = draw(st.sampled_from([1.0, -1.0]))
    initial, target = (sign * draw(st.floats(0, 1e308)) for _ in range(2))
    params = {"epsilon": draw(st.floats(1e-300, 1e300))}
    return Schedule("exponential", **draw(ranges()), initial_value=initial, target_value=target, params=params)


schedules = linears() | exponentials()


# Schedules


@given(schedules, epochs)
def test_a_curve_is_exact_outside_of_its_range_and_at_its_ends(schedule, distance):
    curve = Scheduler(schedule)
    assume(schedule.start_epoch < schedule.end_epoch)
    assert curve.value(schedule.start_epoch) == schedule.initial_value
    assert curve.value(max(0, schedule.start_epoch - distance)) == schedule.initial_value
    assert curve.value(schedule.end_epoch) == schedule.target_value
    assert curve.value(schedule.end_epoch + distance) == schedule.target_value


@given(schedules, epochs)
def test_a_curve_stays_between_its_ends(schedule, epoch):
    low, high = sorted((schedule.initial_value, schedule.target_value))
    value = Scheduler(schedule).value(epoch)
    if schedule.schedule == "exponential":
        # It may run to its epsilon where an end is 0.
        low, high = (
            min(low, -schedule.params["epsilon"] * (low < 0)),
            max(high, schedule.params["epsilon"] * (high > 0)),
        )
    assert low <= value <= high


@given(schedules, epochs)
def test_a_curve_is_pure(schedule, epoch):
    curve, before = Scheduler(schedule), schedule.model_copy()
    value = curve.value(epoch)
    curve.value(epoch / 2)
    assert curve.value(epoch) == Scheduler(schedule).value(epoch) == value
    assert schedule == before


@given(linears(), st.lists(epochs, min_size=2, max_size=10))
def test_linear_is_monotone(schedule, epochs):
    values = [Scheduler(schedule).value(epoch) for epoch in sorted(epochs)]
    rising = schedule.initial_value <= schedule.target_value
    assert values == sorted(values, reverse=not rising)


@given(linears(), epochs)
def test_linear_is_its_formula(schedule, epoch):
    span = schedule.target_value / 2 - schedule.initial_value / 2
    expected = schedule.initial_value + 2 * span * schedule.progress(epoch)
    assume(math.isfinite(expected))
    scale = max(abs(schedule.initial_value), abs(schedule.target_value))
    assert Scheduler(schedule).value(epoch) == pytest.approx(expected, rel=1e-9, abs=1e-12 * scale)


@given(ranges(), epochs)
def test_progress_is_between_0_and_1_and_monotone(range_, epoch):
    schedule = Schedule(**range_)
    assert 0.0 <= schedule.progress(epoch) <= schedule.progress(epoch + 1) <= 1.0


plain = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5).filter(lambda key: key != "schedule"), inner, max_size=3)
    ),
    max_leaves=8,
)
words = st.text("abcxyz_-.09", min_size=1, max_size=8)


@given(
    words,
    ranges(),
    st.none() | finite,
    st.none() | finite,
    st.dictionaries(words, plain, max_size=3),
)
def test_any_schedule_round_trips_through_json_exactly(curve, range_, initial, target, params):
    schedule = Schedule(curve, **range_, initial_value=initial, target_value=target, params=params)
    text = schedule.model_dump_json()
    assert Schedule.model_validate_json(text) == schedule
    assert Schedule.model_validate_json(text).is_scheduled == schedule.is_scheduled
    assert Schedule.model_validate(json.loads(text)).model_dump_json() == text


# The lines of a log

doubles = st.floats()
singles = st.floats(width=32)


@st.composite
def chunks(draw, numbers):
    count = draw(st.integers(1, 12))

    def column(values):
        runs = st.lists(st.tuples(values, st.integers(1, 4)), min_size=count, max_size=count)
        single = st.lists(values, min_size=count, max_size=count)
        return draw(single | runs.map(lambda pairs: [value for value, length in pairs for _ in range(length)][:count]))

    first, stride = draw(st.tuples(st.integers(0, 2**40), st.integers(0, 2**20)))
    steps = draw(
        st.lists(st.integers(0, 2**63 - 1), min_size=count, max_size=count)
        | st.just([first + stride * index for index in range(count)])
    )
    weight, unweighted = column(finite), column(numbers)
    loss = column(numbers)
    if draw(st.booleans()):
        with np.errstate(all="ignore"):
            loss = [float(raw * factor) if factor else 0.0 for raw, factor in zip(unweighted, weight, strict=True)]
    return Records(
        draw(st.text(min_size=1, max_size=10).filter(lambda name: name.isprintable())),
        step=np.array(steps, dtype=np.int64),
        epoch=np.array(column(doubles)),
        loss=np.array(loss),
        weight=np.array(weight),
        unweighted=np.array(unweighted),
    )


def equal(left, right):
    columns = ("step", "epoch", "loss", "weight", "unweighted")
    return left.name == right.name and all(
        np.array_equal(getattr(left, column), getattr(right, column), equal_nan=True) for column in columns
    )


@given(chunks(doubles) | chunks(singles))
def test_any_chunk_is_one_line_of_strict_json_that_is_read_back_exactly(chunk):
    def refuse(constant):
        raise AssertionError(constant)

    line = encode_chunk(chunk, 1.0)
    assert line.endswith("\n")
    assert "\n" not in line[:-1]
    json.loads(line, parse_constant=refuse)
    assert equal(decode_line(line), chunk)


@given(st.data(), chunks(singles))
@pytest.mark.slow
def test_a_damaged_line_is_an_error_or_has_columns_of_equal_length(data, chunk):
    line = bytearray(encode_chunk(chunk, 1.0).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 2))
        kind = data.draw(st.sampled_from(["change", "remove", "insert"]))
        byte = data.draw(st.sampled_from(b'0123456789"[]{},:.e+-naif\\ \xff'))
        if kind == "change":
            line[at] = byte
        elif kind == "remove":
            del line[at]
        else:
            line.insert(at, byte)
    try:
        decoded = decode_line(bytes(line))
    except ValueError:
        return
    if isinstance(decoded, Records):
        assert len({len(getattr(decoded, column)) for column in ("step", "epoch", "loss", "weight", "unweighted")}) == 1


@given(st.lists(chunks(singles), min_size=1, max_size=3), st.data())
@settings(max_examples=30)
def test_a_log_that_is_truncated_anywhere_has_its_whole_lines(parts, data):
    directory = Path(tempfile.mkdtemp())
    try:
        lines = [encode_chunk(Records("a", *columns(part)), 1.0).encode() for part in parts]
        text = b"".join(lines)
        cut = data.draw(st.integers(0, len(text)))
        (directory / NAME).write_bytes(text[:cut])
        # A line is whole without its line feed, too.
        whole = sum(sum(map(len, lines[: index + 1])) - 1 <= cut for index in range(len(lines)))
        log = LossLog(directory)
        found = log.series("a") if log.names else joined("a", [])
        assert equal(found, joined("a", [Records("a", *columns(part)) for part in parts[:whole]]))
    finally:
        shutil.rmtree(directory)


def columns(records):
    return [getattr(records, column) for column in ("step", "epoch", "loss", "weight", "unweighted")]


@given(chunks(st.floats(-1e6, 1e6)))
def test_the_mean_per_step_is_that_of_a_plain_loop(chunk):
    by_step = {}
    for step, loss, raw in zip(chunk.step.tolist(), chunk.loss.tolist(), chunk.unweighted.tolist(), strict=True):
        by_step.setdefault(step, []).append((loss, raw))
    mean = chunk.per_step()
    assert mean.step.tolist() == sorted(by_step)
    assert mean.count.tolist() == [len(by_step[step]) for step in sorted(by_step)]
    for index, step in enumerate(sorted(by_step)):
        losses, raws = zip(*by_step[step], strict=True)
        assert mean.loss[index] == pytest.approx(math.fsum(losses) / len(losses), rel=1e-9, abs=1e-6)
        assert mean.unweighted[index] == pytest.approx(math.fsum(raws) / len(raws), rel=1e-9, abs=1e-6)


# Whole runs


class Run(RuleBasedStateMachine):
    """After any sequence of calls, history and log have the returned values with their steps, epochs and weights."""

    @initialize(buffer=st.integers(1, 5), clock=st.booleans(), logged=st.booleans())
    def begin(self, buffer, clock, logged):
        self.directory = Path(tempfile.mkdtemp()) if logged else None
        self.buffer, self.clock = buffer, clock
        self.rows, self.counts = {}, {}
        self.weights, self.enabled = {"a": 1.0, "b": 1.0}, {"a": True, "b": True}
        self.epoch, self.step, self.saved = 0, -1, None
        self.open()

    def open(self):
        self.manager = LossManager(
            None, self.directory, True, self.buffer, resume=self.directory is not None, nonfinite="ignore"
        )
        for name in "ab":
            self.manager.register_loss_fn(name, lambda x, y: x * 1)
            self.manager.set_weight(name, self.weights[name])
        self.epoch = 0
        self.tick(0, 1)

    @rule(epoch=st.none() | st.integers(0, 5) | st.floats(0, 5), steps=st.none() | st.integers(1, 2**40))
    def tick(self, epoch, steps):
        if not self.clock:
            return
        self.manager.tick(epoch=epoch, step=None if steps is None else self.step + steps)
        self.epoch = self.epoch if epoch is None else float(epoch)
        self.step = self.step + (1 if steps is None else steps)
        assert (self.manager.epoch, self.manager.step) == (self.epoch, self.step)

    @rule(
        name=st.sampled_from("ab"),
        value=st.floats(width=16),
        dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
        shape=st.sampled_from([(), (1,), (3,)]),
        where=st.sampled_from(["", "", "val", "test", None]),
    )
    def compute(self, name, value, dtype, shape, where):
        with nullcontext() if where == "" else self.manager.split(where) if where else self.manager.paused():
            result = self.manager.compute_loss_xy(name, torch.full(shape, value, dtype=dtype), None)
            weight = self.weights[name] if self.enabled[name] else 0.0
            assert self.manager.get_loss_weights(name, precision=None) == {name: weight}
            reported = self.manager.get_loss_values(name, precision=None)[name]
            assert np.array_equal(reported, result.mean().item(), equal_nan=True)
        if where is not None:
            self.expect(f"{where}/{name}" if where else name, weight, result.mean().item())

    @rule(value=st.floats())
    def record(self, value):
        self.manager.record("rate", value)
        self.expect("rate", 1.0, value)

    def expect(self, name, weight, value):
        count = self.counts.get(name, 0)
        self.counts[name] = count + 1
        # In a split the step stands where the clock does, which is 0 before its first tick.
        without_clock = max(self.step, 0) if "/" in name else count
        step = self.step if self.clock else without_clock
        self.rows.setdefault(name, []).append((step, self.epoch, weight, value))

    @rule(name=st.sampled_from("ab"), weight=st.just(0.0) | st.floats(-100, 100, width=16))
    def set_weight(self, name, weight):
        self.manager.set_weight(name, weight)
        self.weights[name] = weight

    @rule(name=st.sampled_from("ab"), enabled=st.booleans())
    def enable(self, name, enabled):
        (self.manager.enable if enabled else self.manager.disable)(name)
        self.enabled[name] = enabled

    @rule()
    def flush(self):
        self.manager.update_loss_log()

    @rule()
    def save(self):
        kept = self.weights, self.enabled, self.counts
        self.saved = self.manager.state_dict(), self.step, self.epoch, *map(dict, kept)

    @rule()
    def load(self):
        if self.saved is not None:
            state, self.step, self.epoch, *kept = self.saved
            self.manager.load_state_dict(state)
            self.weights, self.enabled, self.counts = map(dict, kept)
            for name, rows in self.rows.items():
                end = self.step + 1 if self.clock else self.counts.get(name, 0)
                rows[:] = [row for row in rows if row[0] < end]

    @rule()
    def reopen(self):
        if self.directory is None:
            return
        self.close()
        # A resumed run continues after the last step of its log, and reads nothing else from it.
        self.step = max((row[0] for rows in self.rows.values() for row in rows), default=-1)
        self.counts = {name: rows[-1][0] + 1 for name, rows in self.rows.items() if rows}
        self.enabled = {"a": True, "b": True}
        self.open()

    @rule()
    def compare(self):
        for name, rows in self.rows.items():
            records = self.manager.series(name)
            assert len(records) == len(rows)
            found = [records.step, records.epoch, records.weight, records.loss]
            for column, values in zip(found, zip(*rows, strict=True), strict=False):
                assert np.array_equal(column, np.array(values), equal_nan=True)

    def close(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of losses that never ran
            self.manager.close()

    def teardown(self):
        if hasattr(self, "manager"):
            self.compare()
            self.close()
            self.compare()
            if self.directory is not None:
                shutil.rmtree(self.directory)


TestRun = Run.TestCase
TestRun.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
