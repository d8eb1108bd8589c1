"""Following a log that grows: each line is read once, and resumed, replaced and foreign logs are read again."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from logs import NAME, log_of, manager_in, records

from nectargan_core import LossLog
from nectargan_core.errors import LossLogError
from nectargan_core.log import Follower, Newest, encode_chunk, encode_rewind


def append(directory, *chunks):
    with (directory / NAME).open("a", encoding="utf-8") as file:
        file.writelines(chunk if isinstance(chunk, str) else encode_chunk(chunk, 1.7e9) for chunk in chunks)


def newest(values, **columns):
    found = Newest("a")
    found.add(records("a", values, **columns))
    return found


def test_a_log_that_is_not_there_is_awaited(tmp_path):
    follower = Follower(tmp_path / "run")
    assert not follower.poll()
    (tmp_path / "run").mkdir()
    assert not follower.poll()
    log_of(tmp_path / "run", records("a", [1, 2]))
    assert follower.poll()
    assert (follower.step, follower.series["a"].last) == (1, 2.0)


def test_only_what_is_new_is_read(tmp_path, monkeypatch):
    log_of(tmp_path, records("a", range(1000)))
    follower = Follower(tmp_path)
    follower.poll()
    size = (tmp_path / NAME).stat().st_size
    append(tmp_path, records("a", [5, 7], steps=[1000, 1001]))
    starts = []
    pread = os.pread
    monkeypatch.setattr(os, "pread", lambda file, count, start: starts.append(start) or pread(file, count, start))
    assert follower.poll()
    assert min(starts) >= size
    found = follower.series["a"]
    assert (found.records, found.step, found.last) == (1002, 1001, 7.0)


def test_nothing_is_new_where_the_log_has_not_grown(tmp_path):
    log_of(tmp_path, records("a", [1]))
    follower = Follower(tmp_path)
    assert follower.poll()
    assert not follower.poll()


def test_a_line_that_is_being_written_is_read_when_it_is_whole(tmp_path):
    log_of(tmp_path, records("a", [1]))
    follower = Follower(tmp_path)
    follower.poll()
    line = encode_chunk(records("a", [2], steps=[1]), 1.7e9)
    append(tmp_path, line[:40])
    follower.poll()
    assert follower.series["a"].records == 1
    append(tmp_path, line[40:])
    follower.poll()
    assert follower.series["a"].last == 2.0


def test_what_a_resumed_run_supersedes_is_left_out(tmp_path):
    log_of(tmp_path, records("a", [1, 2, 3, 4]), records("b", [9]))
    follower = Follower(tmp_path)
    follower.poll()
    append(tmp_path, encode_rewind(2, {}), records("a", [30], steps=[2]))
    follower.poll()
    found = follower.series["a"]
    assert (found.records, found.step, found.last) == (3, 2, 30.0)
    assert found.records == len(LossLog(tmp_path).series("a"))
    assert follower.series["b"].records == 1


def test_a_log_that_was_replaced_is_read_from_its_begin(tmp_path):
    log_of(tmp_path, records("a", range(100)))
    follower = Follower(tmp_path)
    follower.poll()
    (tmp_path / NAME).rename(tmp_path / "loss_log.1.jsonl")
    log_of(tmp_path, records("b", [1]))
    assert follower.poll()
    assert list(follower.series) == ["b"]


def test_a_running_manager_is_followed(tmp_path):
    follower = Follower(tmp_path)
    with manager_in(tmp_path) as manager:
        for step in range(3):
            manager.tick(epoch=0)
            manager.compute_loss_xy("a", torch.tensor(float(step)), None)
            manager.update_loss_log()
            assert follower.poll()
            assert follower.series["a"].last == 3.0 * step
        assert [entry.kind for entry in follower.entries()] == ["loss"]
        assert follower.speed > 0


def test_of_several_ranks_the_lowest_is_followed(tmp_path):
    log_of(tmp_path, records("a", [1]))
    (tmp_path / NAME).rename(tmp_path / "loss_log.rank2.jsonl")
    log_of(tmp_path, records("a", [2]))
    (tmp_path / NAME).rename(tmp_path / "loss_log.rank1.jsonl")
    follower = Follower(tmp_path)
    follower.poll()
    assert follower.series["a"].last == 2.0


def test_the_log_of_nectargan_is_read_again_when_it_was_written_again(tmp_path):
    def write(losses):
        functions = {"L1": {"loss": losses, "weights": [1.0] * len(losses)}}
        (tmp_path / "loss_log.json").write_text(json.dumps({"LOSSMANAGER_LOG": {"loss_functions": functions}}))

    write([1.0])
    follower = Follower(tmp_path)
    assert follower.poll()
    write([1.0, 2.0])
    assert follower.poll()
    assert follower.series["L1"].last == 2.0
    (tmp_path / "loss_log.json").write_text('{"LOSSMANAGER_LOG": {"loss_functions":')
    follower.poll()
    assert follower.series["L1"].last == 2.0


def test_what_is_no_log_is_an_error(tmp_path):
    (tmp_path / "some.json").write_text("{}")
    with pytest.raises(LossLogError, match="some.json is no loss log"):
        Follower(tmp_path / "some.json").poll()


def test_the_speed_of_a_run_is_known_from_its_header_first(tmp_path):
    log_of(tmp_path, records("a", range(100)), started=(1.7e9 - 50))
    follower = Follower(tmp_path)
    follower.poll()
    assert follower.speed == 2.0


def test_the_speed_and_age_of_a_log_that_was_copied_are_those_of_its_chunks(tmp_path):
    log_of(tmp_path, records("a", range(100)), started=(1.7e9 - 50))
    os.utime(tmp_path / NAME)
    follower = Follower(tmp_path)
    follower.poll()
    assert (follower.speed, follower.written) == (2.0, 1.7e9)
    with (tmp_path / NAME).open("a", encoding="utf-8") as file:
        file.write(encode_chunk(records("a", range(300), steps=range(100, 400)), 1.7e9 + 100))
    follower.poll()
    assert (follower.speed, follower.written) == (3.0, 1.7e9 + 100)


def test_a_log_that_is_removed_is_gone_until_there_is_another(tmp_path):
    log_of(tmp_path / "run", records("a", range(100)))
    follower = Follower(tmp_path / "run")
    assert follower.poll()
    shutil.rmtree(tmp_path / "run")
    assert (follower.poll(), follower.is_gone) == (True, True)
    assert not follower.poll()
    log_of(tmp_path / "run", records("b", [1.0]))
    assert (follower.poll(), follower.is_gone) == (True, False)
    assert list(follower.series) == ["b"]


def test_a_file_of_another_kind_is_an_error(tmp_path):
    (tmp_path / NAME).write_text("step,loss\n1,2\n")
    with pytest.raises(LossLogError, match="is no loss log"):
        Follower(tmp_path).poll()


def test_there_is_no_speed_where_the_header_says_no_begin(tmp_path):
    log_of(tmp_path, records("a", [1]))
    follower = Follower(tmp_path)
    follower.poll()
    assert follower.speed is None


# The newest values


def test_the_mean_is_that_of_the_present_epoch():
    found = newest([1, 2, 3], epochs=[0, 1, 1])
    assert found.epoch_mean == 2.5
    found.add(records("a", [7], steps=[3], epochs=[1]))
    assert found.epoch_mean == 4.0
    found.add(records("a", [9], steps=[4], epochs=[2]))
    assert found.epoch_mean == 9.0


def test_the_mean_of_epochs_with_fractions_is_over_the_whole_one():
    assert newest([1, 2, 4, 6], epochs=[0.0, 0.5, 1.0, 1.5]).epoch_mean == 5.0


@pytest.mark.parametrize("count", [1, 63, 64, 65, 1000, 12_345])
@pytest.mark.parametrize("at_once", [1, 7, 20_000])
def test_the_trend_is_of_means_of_as_many_records(count, at_once):
    values = np.random.default_rng(0).random(count)
    found = Newest("a")
    for start in range(0, count, at_once):
        found.add(records("a", values[start : start + at_once], steps=range(start, min(count, start + at_once))))
    trend = found.trend
    assert len(trend) <= 64
    size = -(-count // 64) if count > 64 else 1
    size = 1 << (size - 1).bit_length()
    expected = [values[start : start + size].mean() for start in range(0, count, size)]
    np.testing.assert_allclose(trend, expected)


def test_nan_is_in_the_trend():
    assert np.isnan(newest([1, np.nan]).trend).tolist() == [False, True]
