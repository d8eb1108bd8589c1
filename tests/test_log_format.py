"""The lines of a log: checksums, what a header and a chunk hold, earlier versions, and a reader made from the page."""

from __future__ import annotations

import contextlib
import json
import math
import random
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from logs import NAME, identity, manager_in, strictly, write

from nectargan_core import LossLog, LossManager, Objective
from nectargan_core.errors import LossLogError, NectarganWarning

CHECKSUM = ',"crc32":"'


def checked(body):
    """Add the checksum to the text of a JSON object, which ends with `}`."""
    body = body.removesuffix("}")
    return f'{body},"crc32":"{zlib.crc32(body.encode()):08x}"}}\n'


def chunk(name="a", **fields):
    columns = {"step": {"first": 0, "stride": 1}, "epoch": [0, 0], "weight": {"runs": [[1.0, 2]]}, "unweighted": [1, 2]}
    return json.dumps({"loss_name": name, "time": 1, "n": 2, "float": 32, **columns, **fields}, separators=(",", ":"))


HEADER = checked('{"nectargan_log":2,"tags":{"a":[]}}')


def log_of(directory, *lines):
    (directory / NAME).write_text("".join(lines), encoding="utf-8")
    return LossLog(directory)


def sample(directory):
    """Log two losses in several flushes, with a rewind; return the bytes of the log."""
    with manager_in(directory, weight=1 / 3, names=("a", "b"), nonfinite="ignore") as manager:
        for step in range(12):
            manager.tick(epoch=step // 5)
            manager.compute_loss_xy("a", torch.tensor(step / 7), None)
            manager.compute_loss_xy("b", torch.tensor([step / 3, math.inf if step == 4 else 1.0]), None)
            if step % 4 == 3:
                manager.update_loss_log()
            if step == 6:
                state = manager.state_dict()
        manager.load_state_dict(state)
        manager.tick(epoch=2)
        manager.compute_loss_xy("a", torch.tensor(8.0), None)
        manager.compute_loss_xy("b", torch.tensor([8.0]), None)
    return (directory / NAME).read_bytes()


def rows(log):
    """Return the records of a log, by loss."""
    columns = ("step", "epoch", "loss", "weight", "unweighted")
    every = {name: log.series(name) for name in log.names}
    return {
        name: list(zip(*(getattr(records, column).tolist() for column in columns), strict=True))
        for name, records in every.items()
    }


# Checksums


def test_the_last_member_of_each_line_is_the_checksum_of_what_stands_before_it(tmp_path):
    lines = sample(tmp_path).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) > 6
    for line in lines:
        body, _, end = line.rpartition(CHECKSUM.encode())
        assert end == f'{zlib.crc32(body):08x}"}}'.encode()
        assert list(strictly(line))[-1] == "crc32"


@pytest.mark.slow
def test_ten_thousand_flipped_bits_never_give_another_number_silently(tmp_path):
    whole = sample(tmp_path)
    # Where the rewind is damaged, which a warning says, what it supersedes is read.
    log = log_of(tmp_path, *[line for line in whole.decode().splitlines(keepends=True) if "rewind" not in line])
    known = {repr((name, row)) for name, each in rows(log).items() for row in each}
    generator = random.Random(0)
    for _ in range(10_000):
        position, bit = generator.randrange(len(whole)), generator.randrange(8)
        flipped = bytearray(whole)
        flipped[position] ^= 1 << bit
        (tmp_path / NAME).write_bytes(flipped)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = rows(LossLog(tmp_path))
        assert caught, (position, bit)
        assert {repr((name, row)) for name, each in read.items() for row in each} <= known, (position, bit)


@pytest.mark.slow
def test_a_log_that_is_cut_at_any_byte_gives_whole_lines_and_no_warning(tmp_path):
    whole = sample(tmp_path)
    ends = [index for index, byte in enumerate(whole) if byte == ord("\n")]
    at_ends = {}
    for end in [-1, *ends]:
        (tmp_path / NAME).write_bytes(whole[: end + 1])
        at_ends[end] = rows(LossLog(tmp_path))
    for cut in range(len(whole) + 1):
        (tmp_path / NAME).write_bytes(whole[:cut])
        last = max(end for end in at_ends if end <= cut)  # a line is whole without its line feed, too
        assert repr(rows(LossLog(tmp_path))) == repr(at_ends[last])


@pytest.mark.parametrize("tail", ["", CHECKSUM + '00000000"}', CHECKSUM + '0"}'])
def test_a_line_without_the_right_checksum_is_left_out_with_a_warning(tmp_path, tail):
    damaged = chunk(unweighted=[8, 9])
    with pytest.warns(NectarganWarning, match=r"loss_log.jsonl:3 is damaged and left out: its? "):
        log = log_of(tmp_path, HEADER, checked(chunk()), (damaged[:-1] + tail if tail else damaged) + "\n")
    assert log.series("a").loss.tolist() == [1.0, 2.0]


def test_a_damaged_line_feed_at_the_end_is_warned_of(tmp_path):
    with pytest.warns(NectarganWarning, match="damaged"):
        log = log_of(tmp_path, HEADER, checked(chunk()), checked(chunk()).replace("\n", "\v"))
    assert len(log.series("a")) == 2


def test_a_last_line_is_whole_without_its_line_feed(tmp_path):
    assert len(log_of(tmp_path, HEADER, checked(chunk())[:-1]).series("a")) == 2


def test_a_resumed_run_keeps_a_last_line_that_is_whole_without_its_line_feed(tmp_path):
    log_of(tmp_path, HEADER, checked(chunk())[:-1])
    write(tmp_path, [5.0], weight=1.0, resume=True)
    assert LossLog(tmp_path).series("a").loss.tolist() == [1.0, 2.0, 5.0]


# What lines hold


def test_the_header_has_the_tags_of_the_losses_and_the_record_of_the_objective(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", identity, tags=["G", "pixel"])
        manager.register_loss_fn("b", identity, 0.0)
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    header = LossLog(tmp_path).header
    assert header["tags"] == {"a": ["G", "pixel"], "b": []}
    assert Objective.from_dict(header["manifest"]) == manager.manifest()


def test_losses_that_are_registered_later_are_in_the_header_of_the_same_run(tmp_path):
    with manager_in(tmp_path) as manager:
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
        manager.update_loss_log()
        manager.register_loss_fn("late", identity, tags=["G"])
        manager.compute_loss_xy("late", torch.tensor(1.0), None)
    log = LossLog(tmp_path)
    assert len(log.headers) == 1
    assert log.header["tags"] == {"a": [], "late": ["G"]}


def test_a_chunk_says_what_it_is_a_component_of_and_how_large_its_batches_are(tmp_path):
    lines = checked(chunk("G_VGG.relu1", component_of="G_VGG", batch={"runs": [[16, 1], [8, 1]]}))
    records = log_of(tmp_path, HEADER, lines).series("G_VGG.relu1")
    assert (records.component_of, records.batch.tolist()) == ("G_VGG", [16, 8])


def test_what_is_not_known_of_a_record_is_said_so(tmp_path):
    records = log_of(tmp_path, HEADER, checked(chunk())).series("a")
    assert (records.component_of, records.batch.tolist()) == (None, [0, 0])


def test_the_batch_of_a_step_is_the_sum_of_its_batches(tmp_path):
    lines = checked(chunk(step=[3, 3], batch=[16, 8]))
    assert log_of(tmp_path, HEADER, lines).series("a").per_step().batch.tolist() == [24]


def test_counts_and_batches_are_integers(tmp_path):
    records = log_of(tmp_path, HEADER, checked(chunk()), checked(chunk())).series("a")
    for each in (records, records.per_step()):
        assert (each.count.dtype, each.batch.dtype) == (np.int64, np.int64)


@pytest.mark.parametrize("name", ["a", 'a "quoted" \\ name', "größe", "a\nb"])
def test_one_loss_is_read_without_parsing_the_others(tmp_path, name):
    unreadable = checked(f'{{"loss_name":{json.dumps(name)},"n":?}}')
    log = log_of(tmp_path, HEADER, checked(chunk("other")), unreadable)
    assert log.series("other").loss.tolist() == [1.0, 2.0]
    with pytest.warns(NectarganWarning, match=r"loss_log.jsonl:3 is damaged and left out"):
        assert len(log.series(name)) == 0


# Other versions


def test_a_log_of_version_1_is_read(tmp_path):
    log = log_of(tmp_path, '{"nectargan_log":1,"experiment":"old"}\n', chunk() + "\n", chunk("b") + "\n", chunk()[:40])
    assert (log.header["experiment"], log.names) == ("old", ("a", "b"))
    assert log.series("a").loss.tolist() == [1.0, 2.0]


def test_a_log_of_version_1_is_continued_in_version_2(tmp_path):
    log_of(tmp_path, '{"nectargan_log":1,"experiment":"old"}\n', chunk() + "\n", chunk()[:40])
    write(tmp_path, [5.0], weight=1.0, resume=True)
    log = LossLog(tmp_path)
    assert [header["nectargan_log"] for header in log.headers] == [1, 2]
    assert log.series("a").loss.tolist() == [1.0, 2.0, 5.0]
    assert log.series("a").step.tolist() == [0, 1, 2]


def test_a_line_without_a_checksum_is_damaged_once_a_line_had_one(tmp_path):
    with pytest.warns(NectarganWarning, match=r":3 is damaged and left out: it has no checksum"):
        log = log_of(tmp_path, '{"nectargan_log":1}\n', checked(chunk()), chunk() + "\n")
    assert len(log.series("a")) == 2


def test_a_header_of_version_2_without_a_checksum_is_damaged(tmp_path):
    with pytest.warns(NectarganWarning, match=r":1 is damaged and left out: it has no checksum"):
        assert log_of(tmp_path, '{"nectargan_log":2}\n', checked(chunk())).header == {}


def test_a_newer_version_with_a_checksum_is_refused(tmp_path):
    with pytest.raises(LossLogError, match="version 3 of the format, and this reads up to 2"):
        log_of(tmp_path, checked('{"nectargan_log":3}'))


# A reader made from docs/log.md alone


def documented(path):
    """Read a log as docs/log.md describes it, without NectarGAN and numpy."""
    columns = ("step", "epoch", "loss", "weight", "unweighted")
    series = {}

    def single(value):
        try:
            return struct.unpack("f", struct.pack("f", value))[0]
        except OverflowError:
            return math.copysign(math.inf, value)

    def runs(values):
        if isinstance(values, dict):
            values = [value for value, length in values["runs"] for _ in range(length)]
        return [float(value) for value in values]

    lines = path.read_bytes().split(b"\n")
    for line in lines:
        body, mark, end = line[:-20], line[-20:-10], line[-10:]
        if mark != b',"crc32":"' or zlib.crc32(body) != int(end[:8], 16):
            assert line == lines[-1], "a damaged line"
            continue
        fields = strictly(line)
        if "rewind" in fields:
            for name, records in series.items():
                to = fields["rewind"]
                limit = to["step"] if "step" in to else to["counts"].get(name, 0)
                kept = [index for index, step in enumerate(records["step"]) if step < limit]
                series[name] = {column: [records[column][index] for index in kept] for column in columns}
        if "loss_name" not in fields:
            continue
        precision = single if fields["float"] == 32 else float
        into = series.setdefault(fields["loss_name"], {column: [] for column in columns})
        step = fields["step"]
        if isinstance(step, dict):
            step = [step["first"] + step["stride"] * index for index in range(fields["n"])]
        read = {"step": step, "epoch": runs(fields["epoch"]), "weight": runs(fields["weight"])}
        read["unweighted"] = [precision(float(value)) for value in fields["unweighted"]]
        if "loss" in fields:
            read["loss"] = [precision(float(value)) for value in fields["loss"]]
        else:
            pairs = zip(read["unweighted"], read["weight"], strict=True)
            read["loss"] = [precision(raw * precision(weight)) if weight else 0.0 for raw, weight in pairs]
        for column in columns:
            assert len(read[column]) == fields["n"]
            into[column] += read[column]
    return series


def test_an_independent_reader_of_the_documented_format_agrees(tmp_path):
    with manager_in(tmp_path, weight=1 / 3, names=("a", "half", "map"), nonfinite="ignore") as manager:
        manager.register_loss_fn("off", identity, 0.0)
        generator = torch.Generator().manual_seed(0)
        for step in range(60):
            manager.tick(epoch=step // 7, step=step + step // 20)
            value = torch.randn((), generator=generator)
            manager.compute_loss_xy("a", value if step % 13 else value / 0, None)
            manager.compute_loss_xy("half", value.half() * 1e4, None)
            manager.compute_loss_xy("map", value.repeat(3), None)
            manager.compute_loss_xy("off", value, None)
            if step % 25 == 24:
                manager.set_weight("a", step / 7)
                manager.update_loss_log()
            if step == 40:
                state = manager.state_dict()
        manager.load_state_dict(state)
    log = LossLog(tmp_path)
    assert log.names == ("a", "half", "map", "off")
    read = documented(tmp_path / NAME)
    for name in log.names:
        assert len(read[name]["step"]) == 41
        for column, values in read[name].items():
            np.testing.assert_array_equal(getattr(log.series(name), column), values, err_msg=f"{name} {column}")


def test_the_log_on_the_page_is_read_by_both_readers(tmp_path):
    page = (Path(__file__).parent.parent / "docs/log.md").read_text(encoding="utf-8")
    example = page.partition("```text\n")[2].partition("```")[0]
    log = log_of(tmp_path, example)
    assert documented(tmp_path / NAME)["G_L1"]["loss"] == log.series("G_L1").loss.tolist()
    assert log.header["metadata"] == {"seed": 7}


# Lines with a right checksum that were written wrongly


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 2 * 10**13},
        {"batch": ["nan", 1]},
        {"batch": [1e300, 1]},
        {"step": [0.5, 1.9]},
        {"step": [None, 1]},
        {"name": "\ud800"},
    ],
    ids=str,
)
def test_a_chunk_that_says_what_cannot_be_is_left_out_with_a_warning(tmp_path, fields):
    with pytest.warns(NectarganWarning, match=r":3 is damaged and left out"):
        log = log_of(tmp_path, HEADER, checked(chunk()), checked(chunk(**fields)))
        assert len(log.series("a")) == 2
        log.to_csv(tmp_path / "log.csv")


@pytest.mark.parametrize("size", [0, -1, "two", None])
def test_a_header_may_say_any_number_of_ranks(tmp_path, size):
    header = checked(json.dumps({"nectargan_log": 2, "world_size": size}))
    assert len(log_of(tmp_path, header, checked(chunk())).series("a")) == 2


def test_a_caller_near_the_limit_of_recursion_gets_its_error_and_no_warning(tmp_path):
    manager = manager_in(tmp_path)
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    manager.update_loss_log()

    def at_the_limit():
        try:
            return at_the_limit()
        except RecursionError:
            pass
        return manager.series("a")

    with contextlib.suppress(RecursionError):
        at_the_limit()
    assert len(manager.series("a")) == 1
    manager.close()


def test_a_resumed_manager_reads_a_last_line_without_its_line_feed(tmp_path):
    log_of(tmp_path, HEADER, checked(chunk())[:-1])
    manager = manager_in(tmp_path, resume=True)
    assert len(manager.series("a")) == 2
    manager.close()


def test_a_line_that_is_changed_after_it_was_looked_through_is_left_out(tmp_path):
    manager = manager_in(tmp_path)
    manager.register_loss_fn("b", identity)
    for name in ("a", "b"):
        manager.compute_loss_xy(name, torch.tensor(1.0), None)
    manager.update_loss_log()
    manager.series("a")
    whole = (tmp_path / NAME).read_bytes()
    with (tmp_path / NAME).open("r+b") as file:
        file.write(whole.replace(b'"b","time"', b'"b","Time"'))
    with pytest.warns(NectarganWarning, match="damaged"):
        assert len(manager.series("b")) == 0
    manager.close()
