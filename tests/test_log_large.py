"""Reading logs that are large: what is read, parsed and held, and that every way of parsing gives the same numbers."""

import copy
import gc
import json
import os
import pickle
import runpy
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from logs import NAME

from nectargan_core import LossLog
from nectargan_core.errors import LossLogError, NectarganWarning
from nectargan_core.log import Records, _json, _reader, encode_chunk, encode_rewind

COLUMNS = ("step", "epoch", "loss", "weight", "unweighted")
HEADER = '{"nectargan_log":2'


def checked(body):
    return f'{body},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'


def records(name="a", count=1000, first=0, single=True, **columns):
    values = np.random.default_rng(first).standard_normal(count)
    values = values.astype(np.float32).astype(np.float64) if single else values
    steps, ones = np.arange(first, first + count), np.ones(count)
    return Records(
        name, **{"step": steps, "epoch": ones, "loss": values, "weight": ones, "unweighted": values, **columns}
    )


def log_of(directory, *chunks):
    lines = (chunk if isinstance(chunk, str) else encode_chunk(chunk, 1.0) for chunk in chunks)
    (directory / NAME).write_text(checked(HEADER) + "".join(lines), encoding="utf-8")
    return LossLog(directory)


def equal(left, right):
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(left, column), getattr(right, column), err_msg=column)
    return True


@pytest.fixture(params=["at once", "kept open"])
def large(request, monkeypatch):
    """Read every log as a large one is read, or as a small one is."""
    monkeypatch.setattr(_reader, "_SMALL", 0 if request.param == "kept open" else 1 << 20)
    return request.param


@pytest.fixture
def kept_open(monkeypatch):
    monkeypatch.setattr(_reader, "_SMALL", 0)


@pytest.fixture(params=["simdjson", "json"])
def parser(request, monkeypatch):
    if request.param == "simdjson":
        pytest.importorskip("simdjson")
    else:
        monkeypatch.setattr(_json, "simdjson", None)


# What is read


def test_one_loss_is_read_from_its_own_lines_alone(tmp_path, monkeypatch, kept_open):
    log = log_of(tmp_path, *[records(name, first=first) for first in (0, 1000) for name in ("a", "b", "c")])
    lines = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    read = []
    pread = os.pread
    monkeypatch.setattr(
        os, "pread", lambda file, count, start: read.append((start, count)) or pread(file, count, start)
    )
    assert len(log.series("b")) == 2000
    starts = np.cumsum([0, *map(len, lines)])
    assert read == [(starts[index], len(lines[index]) - 1) for index in (2, 5)]


def test_a_loss_is_parsed_once(tmp_path, monkeypatch, large):
    log = log_of(tmp_path, records("a"), records("b"))
    first = log.series("a")
    monkeypatch.setattr(os, "pread", lambda *_: pytest.fail("the log was read again"))
    assert log.series("a") is first


def test_a_line_that_is_longer_than_what_is_read_at_a_time_is_read(tmp_path, large):
    chunks = [records(count=20_000), records(count=3, first=20_000), records(count=40_000, first=20_003)]
    assert len(encode_chunk(chunks[0], 1.0)) > 2 << 16
    series = log_of(tmp_path, *chunks).series("a")
    assert series.step.tolist() == list(range(60_003))
    assert series.loss.tolist() == [value for chunk in chunks for value in chunk.loss.tolist()]


# A log is read as it was


def test_a_log_is_read_as_it_was_when_it_was_opened(tmp_path, large):
    chunk = records("a")
    log = log_of(tmp_path, chunk)
    with (tmp_path / NAME).open("a", encoding="utf-8") as file:
        file.write(encode_chunk(records("a", first=1000), 1.0))
    assert equal(log.series("a"), chunk)


@pytest.mark.parametrize("change", ["removed", "renamed", "replaced"])
def test_a_log_is_read_after_it_was_removed_or_replaced(tmp_path, large, change):
    chunk = records("a")
    log = log_of(tmp_path, chunk)
    (tmp_path / "other").write_text("other")
    {
        "removed": (tmp_path / NAME).unlink,
        "renamed": lambda: (tmp_path / NAME).rename(tmp_path / "away"),
        "replaced": lambda: (tmp_path / "other").replace(tmp_path / NAME),
    }[change]()
    assert equal(log.series("a"), chunk)


@pytest.mark.parametrize("change", ["other numbers", "cut"])
def test_a_large_log_that_is_changed_in_place_gives_no_other_number(tmp_path, kept_open, change):
    log = log_of(tmp_path, records("a"))
    whole = (tmp_path / NAME).read_bytes()
    if change == "cut":
        os.truncate(tmp_path / NAME, 1000)
    else:
        log_of(tmp_path, records("a", loss=np.zeros(1000)))
        assert len((tmp_path / NAME).read_bytes()) != len(whole)
    with pytest.warns(NectarganWarning, match=r"loss_log.jsonl:2 is damaged and left out: it has been changed since"):
        assert len(log.series("a")) == 0


def test_a_large_log_is_closed_when_it_is_collected(tmp_path, kept_open):
    log = log_of(tmp_path, records("a"))
    descriptor = log._logs[0]._file._descriptor
    os.fstat(descriptor)
    del log
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@pytest.mark.parametrize("why", ["small", "many files are open"])
def test_a_log_that_is_read_at_once_is_not_kept_open(tmp_path, monkeypatch, why):
    if why != "small":
        monkeypatch.setattr(_reader, "_SMALL", 0)
        monkeypatch.setattr(_reader, "_MANY", 0)
    log = log_of(tmp_path, records("a"))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(log._logs[0]._file._descriptor)
    assert equal(log.series("a"), records("a"))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda log: pickle.loads(pickle.dumps(log))])
def test_a_log_can_be_copied_and_sent_to_another_process(tmp_path, large, copied):
    log = log_of(tmp_path, records("a"))
    other = copied(log)
    (tmp_path / NAME).unlink()
    assert equal(other.series("a"), log.series("a"))


def test_a_large_log_whose_reading_fails_is_an_error_with_the_reason(tmp_path, monkeypatch, kept_open):
    def fail(*_):
        raise OSError(5, "Input/output error")

    log = log_of(tmp_path, records("a"))
    monkeypatch.setattr(os, "pread", fail)
    with pytest.raises(LossLogError, match=r"cannot read .*loss_log.jsonl: Input/output error"):
        log.series("a")


def test_many_records_are_exported_in_their_order(tmp_path):
    log = log_of(tmp_path, records(count=25_000))
    log.to_csv(tmp_path / "log.csv")
    steps = [line.split(",")[1] for line in (tmp_path / "log.csv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(25_000)]


# Memory


def test_the_memory_is_that_of_the_columns_that_are_asked_for(tmp_path):
    names, count = ("a", "b", "c", "d"), 100_000
    log_of(tmp_path, *[records(name, first=first) for first in range(0, count, 1000) for name in names])
    assert (tmp_path / NAME).stat().st_size > 4 << 20
    columns = len(COLUMNS) * 8 * count
    tracemalloc.start()
    try:
        log = LossLog(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 0.5e6  # not the file
        for read in (1, 2):
            tracemalloc.reset_peak()
            assert len(log.series(names[read])) == count
            assert tracemalloc.get_traced_memory()[1] < read * columns + 1e6
    finally:
        tracemalloc.stop()


def test_a_number_of_records_that_is_not_so_takes_no_memory(tmp_path):
    line = '{"loss_name":"a","time":1.0,"n":900000000,"float":32,"step":[0],"epoch":[0],"weight":[1],"unweighted":[1]'
    log = log_of(tmp_path, records("a"), checked(line))
    tracemalloc.start()
    try:
        with pytest.warns(NectarganWarning, match="loss_log.jsonl:3 is damaged"):
            assert len(log.series("a")) == 1000
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()


# Numbers


def any_floats(dtype, bits):
    """Return numbers of every size that a type has."""
    values = np.random.default_rng(0).integers(0, 2**bits, 100_000, dtype=f"uint{bits}").view(dtype)
    return values[np.isfinite(values)].astype(np.float64)


FLOATS = [any_floats(np.float32, 32), any_floats(np.float64, 64)]
STEPS = np.array([2**53 + 1, 2**63 - 1, -(2**63), 0, 2**62 + 1])


@pytest.mark.parametrize("values", FLOATS, ids=["float32", "float64"])
@pytest.mark.parametrize("finite", [True, False])
@pytest.mark.slow
def test_every_value_is_read_exactly(tmp_path, parser, values, finite):
    values = values if finite else np.append(values, [np.nan, np.inf, -np.inf])
    loss = values[::-1].copy()
    chunk = records(count=len(values), loss=loss, unweighted=values, epoch=values, weight=loss)
    assert equal(log_of(tmp_path, chunk).series("a"), chunk)


@pytest.mark.parametrize("single", [True, False])
def test_a_loss_that_is_not_written_is_the_product(tmp_path, parser, single):
    raw = records(count=40_000, single=single)
    weight = np.where(raw.step % 7, 1 / 3, 0.0)
    dtype = np.float32 if single else np.float64
    chunk = records(
        count=40_000, single=single, weight=weight, loss=raw.loss.astype(dtype) * weight.astype(dtype) + 0.0
    )
    assert '"loss":' not in encode_chunk(chunk, 1.0)
    assert equal(log_of(tmp_path, chunk).series("a"), chunk)


def test_chunks_of_either_precision_may_take_turns(tmp_path, parser):
    singles = [index % 3 != 1 for index in range(9)]
    chunks = [records(first=1000 * index, single=single) for index, single in enumerate(singles)]
    series = log_of(tmp_path, *chunks).series("a")
    for column in COLUMNS:
        expected = np.concatenate([getattr(chunk, column) for chunk in chunks])
        np.testing.assert_array_equal(getattr(series, column), expected)


def test_every_step_is_read_exactly(tmp_path, parser):
    chunk = records(count=len(STEPS), step=STEPS)
    assert equal(log_of(tmp_path, chunk).series("a"), chunk)


@pytest.mark.parametrize("steps", [[3, 3, 3], [9, 6, 3, 0], [2**63 - 1], [2**63 - 2, 2**63 - 1], [-(2**63)]])
def test_steps_that_count_on_are_read(tmp_path, parser, steps):
    chunk = records(count=len(steps), step=np.array(steps))
    assert '"stride"' in encode_chunk(chunk, 1.0)
    assert equal(log_of(tmp_path, chunk).series("a"), chunk)


@pytest.mark.parametrize("name", ["a", "loss[0]", 'a "quoted" \\ name', "größe", '"unweighted":[['])
def test_a_loss_of_any_name_is_read(tmp_path, parser, name):
    chunk = records(name)
    assert equal(log_of(tmp_path, chunk).series(name), chunk)


def test_any_spelling_of_json_is_read(tmp_path, parser):
    chunk = records("a", count=500, step=np.arange(500) ** 2)
    name, _, rest = encode_chunk(chunk, 1.0).partition(',"crc32"')[0].partition(',"time"')
    fields = json.loads('{"time"' + rest + "}")
    fields = {key: fields[key] for key in sorted(fields, reverse=True)}
    spelled = json.dumps(fields, separators=(" ,\t", " : "))[1:-1]
    assert equal(log_of(tmp_path, checked(f"{name} , {spelled}")).series("a"), chunk)


def test_a_batch_that_is_known_from_some_chunk_on_is_read(tmp_path, parser):
    chunks = [
        records(count=3),
        records(count=2, first=3, batch=np.array([8, 4]), component_of="b"),
        records(count=1, first=5),
    ]
    assert log_of(tmp_path, *chunks).series("a").batch.tolist() == [0, 0, 0, 8, 4, 0]


def test_without_simdjson_a_log_is_read_all_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "simdjson", None)
    parse = runpy.run_path(_json.__file__)["ChunkParser"]().parse
    assert parse(b'{"n":2,"unweighted":[0.5,"nan"]}') == {"n": 2, "unweighted": [0.5, "nan"]}


@pytest.mark.parametrize("line", ["[1]", '{"n":1,"n":2}', '{"n":1e999}', '{"n":123456789012345678901234567890}'])
def test_what_simdjson_reads_otherwise_is_read_as_python_does(parser, line):
    assert _json.ChunkParser().parse(line.encode()) == json.loads(line)


def test_a_parser_goes_on_after_what_it_cannot_parse(parser):
    chunks = _json.ChunkParser()
    for _ in range(2):
        with pytest.raises(ValueError, match="Expecting"):
            chunks.parse(b'{"n":?}')
        assert chunks.parse(b'{"epoch":[1,[2]]}') == {"epoch": [1, [2]]}


# Rewinds


@pytest.mark.parametrize(
    ("steps", "kept"), [([0, 1, 2, 3], [0, 1]), ([5, 0, 6, 1], [0, 1]), ([4, 5], []), ([0, 1], [0, 1])]
)
def test_what_a_rewind_supersedes_is_left_out(tmp_path, parser, steps, kept):
    former = records(count=len(steps), step=np.array(steps), batch=np.array(steps) + 1)
    series = log_of(tmp_path, former, encode_rewind(2, {}), records(count=2, first=2)).series("a")
    assert series.step.tolist() == [*kept, 2, 3]
    assert series.batch.tolist() == [*(step + 1 for step in kept), 0, 0]
    places = [steps.index(step) for step in kept]
    assert series.loss.tolist() == [*former.loss[places].tolist(), *records(count=2, first=2).loss.tolist()]
