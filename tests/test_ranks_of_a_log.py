"""Reading the logs of several ranks as one: the numbers, the memory, and logs that are in several places."""

from __future__ import annotations

import json
import math
import os
import shutil
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import records

from nectargan_core import LossLog, LossManager
from nectargan_core.cli import main
from nectargan_core.log import Follower, LogFile, Records, encode_chunk
from nectargan_core.views import compare, write_report

COLUMNS = ("step", "epoch", "loss", "weight", "unweighted", "count", "batch")


def log_of(directory, rank, *chunks, world_size=None, started=0.0):
    """Write the log of a rank; return what the directory has."""
    file = LogFile(directory, rank, False, {"started": started, "world_size": world_size, "tags": {"a": []}})
    file.append("".join(encode_chunk(chunk, 1.7e9) for chunk in chunks), 0)
    file.close()
    return LossLog(directory)


# The numbers

VALUES = st.sampled_from([0.1, 0.3, 1.5, -2.0, math.nan, math.inf])
RECORDS = st.lists(st.tuples(st.integers(0, 5), VALUES, VALUES, st.sampled_from([0.1, 3.0]), st.integers(0, 3)))


def record_of(rows, known):
    step, loss, unweighted, weight, batch = (list(column) for column in zip(*rows, strict=True))
    sizes = {"none": [0] * len(batch), "some": batch, "all": [size + 1 for size in batch]}[known]
    return Records(
        "a",
        np.array(step),
        np.array(step) // 2 / 3,
        np.array(loss),
        np.array(weight),
        np.array(unweighted),
        batch=np.array(sizes),
    )


@given(st.lists(st.tuples(RECORDS, st.sampled_from(["none", "some", "all"])), min_size=2, max_size=4))
@settings(max_examples=60)
def test_the_mean_of_ranks_is_that_of_a_plain_loop_over_all_records(ranks):
    directory = Path(tempfile.mkdtemp())
    by_step: dict[int, list[tuple[float, ...]]] = {}
    try:
        for rank, (rows, known) in enumerate(ranks):
            parts = [record_of(rows, known)] if rows else []
            log_of(directory, rank, *parts)
            for part in parts:
                for record in zip(*(getattr(part, name).tolist() for name in COLUMNS), strict=True):
                    by_step.setdefault(record[0], []).append(record)
        log = LossLog(directory)
        if not by_step:
            assert log.names == ()
            return
        mean = log.series("a")
    finally:
        shutil.rmtree(directory)
    assert mean.step.tolist() == sorted(by_step)
    for index, step in enumerate(sorted(by_step)):
        found = by_step[step]
        sizes = [record[-1] for record in found]
        assert (mean.count[index], mean.batch[index]) == (len(found), sum(sizes) if all(sizes) else 0)
        for column, name in enumerate(COLUMNS[1:5], 1):
            values = [
                (record[column], record[-1] if all(sizes) else 1)
                for record in found
                if name != "unweighted" or not math.isnan(record[column])
            ]
            expected = (
                sum(value * weight for value, weight in values) / sum(w for _, w in values) if values else math.nan
            )
            np.testing.assert_allclose(getattr(mean, name)[index], expected, rtol=1e-12, atol=1e-12)


def test_a_small_batch_of_one_rank_counts_by_its_size(tmp_path):
    log_of(tmp_path, 0, records("a", [1.0, 1.0], batch=np.array([6, 6])))
    log = log_of(tmp_path, 1, records("a", [2.0, 5.0], batch=np.array([6, 2])))
    mean = log.series("a")
    assert (mean.loss.tolist(), mean.batch.tolist()) == ([1.5, 2.0], [12, 8])


def test_where_one_rank_says_no_size_all_records_count_alike(tmp_path):
    log_of(tmp_path, 0, records("a", [1.0, 1.0], batch=np.array([6, 6])))
    log = log_of(tmp_path, 1, records("a", [2.0, 2.0], batch=np.array([2, 0])))
    mean = log.series("a")
    assert (mean.loss.tolist(), mean.batch.tolist()) == ([1.25, 1.5], [8, 0])


def test_a_weight_that_all_ranks_have_is_the_same_to_the_last_digit(tmp_path):
    for rank in range(3):
        log_of(tmp_path, rank, records("a", [1.0] * 4, weights=0.1, epochs=0.7, batch=np.array([3, 3, 3, 1])))
    mean = LossLog(tmp_path).series("a")
    assert (set(mean.weight.tolist()), set(mean.epoch.tolist())) == ({0.1}, {0.7})


def test_ranks_may_have_made_other_steps_and_have_other_losses(tmp_path):
    log_of(tmp_path, 0, records("a", [1.0, 1.0], steps=[0, 2]))
    log_of(tmp_path, 1, records("a", [3.0, 3.0, 3.0], steps=[1, 2, 5]), records("b", [7.0]))
    log = log_of(tmp_path, 2, records("c.x", [8.0], component_of="c"))
    mean = log.series("a")
    assert list(zip(mean.step.tolist(), mean.loss.tolist(), mean.count.tolist(), strict=True)) == [
        (0, 1.0, 1),
        (1, 3.0, 1),
        (2, 2.0, 2),
        (5, 3.0, 1),
    ]
    assert (log.names, log.last_step) == (("a", "b", "c.x"), 5)
    assert (log.series("b").loss.tolist(), log.series("c.x").component_of) == ([7.0], "c")


def test_managers_of_ranks_log_sizes_of_batches_which_the_merged_means_follow(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, sizes in enumerate([(4, 4), (4, 1)]):
        monkeypatch.setenv("RANK", str(rank))
        with LossManager(experiment_dir=tmp_path) as manager:
            manager.register_loss_fn("a", lambda y_fake: y_fake.mean(), inputs=("y_fake",))
            for size in sizes:
                manager.tick(epoch=0)
                manager.compute_losses({"y_fake": torch.full((size,), float(rank))}, batch_size=size)
    assert LossLog(tmp_path).series("a").loss.tolist() == [0.5, 0.2]
    ((_, summary),) = compare(tmp_path).runs[0].series.items()
    assert (summary.last.value, summary.records) == (0.2, 2)


def test_the_mean_of_an_epoch_in_compare_counts_samples(tmp_path):
    sizes = np.array([4, 4, 4, 1])
    log_of(tmp_path, 0, records("a", [1.0, 1.0, 1.0, 1.0], epochs=np.array([0, 0, 1, 1]), batch=sizes))
    log_of(tmp_path, 1, records("a", [1.0, 1.0, 1.0, 10.0], epochs=np.array([0, 0, 1, 1]), batch=sizes))
    assert compare(tmp_path).runs[0].series["a"].last.value == pytest.approx(19 / 10)


# Memory


def traced_peak(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["series", "last_step", "compare", "csv", "html"])
def test_the_records_of_all_ranks_are_never_in_memory_at_once(tmp_path, monkeypatch, what):
    monkeypatch.setattr("nectargan_core.log._reader._SMALL", 0)  # as a large log is read
    count = 20_000
    chunk = records("a", np.random.default_rng(0).random(count), batch=np.full(count, 4))
    log_of(tmp_path / "4", 0, chunk)
    (tmp_path / "16").mkdir()
    for ranks in (4, 16):
        for rank in range(ranks):
            name = f"loss_log.rank{rank}.jsonl" if rank else "loss_log.jsonl"
            if (ranks, rank) != (4, 0):
                os.link(tmp_path / "4" / "loss_log.jsonl", tmp_path / str(ranks) / name)

    def read(ranks):
        log = LossLog(tmp_path / str(ranks))
        {
            "series": lambda: log.series("a"),
            "last_step": lambda: log.last_step,
            "compare": lambda: compare(tmp_path / str(ranks)),
            "csv": lambda: log.to_csv(os.devnull),
            "html": log._repr_html_,
        }[what]()

    read(4)
    of_one_rank = count * 48
    assert traced_peak(lambda: read(16)) - traced_peak(lambda: read(4)) < of_one_rank


def test_what_is_merged_is_merged_once(tmp_path):
    for rank in range(2):
        log_of(tmp_path, rank, records("a", [1.0]))
    log = LossLog(tmp_path)
    assert log.series("a") is log.series("a")


# Logs in several places


@pytest.fixture
def node(tmp_path):
    """A directory with the logs of ranks 2 and 3 of four."""
    for rank in (2, 3):
        log_of(tmp_path / "node", rank, records("a", [1.0 * rank, 2.0 * rank]), world_size=4)
    return tmp_path / "node"


def test_a_directory_without_rank_0_is_read(node):
    log = LossLog(node)
    assert (log.ranks, log.header["world_size"], log.last_step) == ((2, 3), 4, 1)
    assert log.series("a").loss.tolist() == [2.5, 5.0]
    assert log.series("a", rank=3).loss.tolist() == [3.0, 6.0]
    assert log.to_pandas()["loss"].tolist() == [2.5, 5.0]
    assert compare(node).runs[0].ranks == (2, 3)
    assert "2 of 4 ranks" in log._repr_html_()


@pytest.mark.parametrize("command", ["show", "compare", "export --format csv", "export --format json"])
def test_each_command_reads_a_directory_without_rank_0(node, command):
    name, *options = command.split()
    done = CliRunner().invoke(main, ["log", name, str(node), *options])
    assert done.exit_code == 0, done.output
    assert "2.5" in done.output


@pytest.mark.slow
def test_pictures_and_reports_are_made_of_a_directory_without_rank_0(node, tmp_path):
    assert LossLog(node).plot()._suptitle.get_text() == "2 of 4 ranks"
    write_report(node, tmp_path / "report.html")
    assert ">ranks</th>" in (tmp_path / "report.html").read_text()


def test_directories_of_nodes_that_are_copied_into_one_are_one_run(node, tmp_path):
    for rank in (0, 1):
        log_of(tmp_path / "other", rank, records("a", [1.0 * rank, 2.0 * rank]), world_size=4)
    shutil.copytree(tmp_path / "other", node, dirs_exist_ok=True)
    log = LossLog(node)
    assert (log.ranks, log.series("a").loss.tolist(), log.series("a").count.tolist()) == (
        (0, 1, 2, 3),
        [1.5, 3.0],
        [4, 4],
    )


def test_a_rank_is_resumed_in_a_directory_without_rank_0(node, monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with LossManager(experiment_dir=node, resume=True) as manager:
        manager.register_loss_fn("a", lambda x, y: x)
        assert manager.step == 1
        manager.tick()
        manager.compute_loss_xy("a", torch.tensor(9.0), None)
    assert LossLog(node).series("a").step.tolist() == [0, 1, 2]


def test_a_lowest_rank_of_an_earlier_run_with_more_ranks_is_read(tmp_path):
    log_of(tmp_path, 2, records("a", [1.0]), world_size=1)
    log_of(tmp_path, 3, records("a", [5.0]), world_size=4)
    assert LossLog(tmp_path).ranks == (2,)


def test_two_ranks_are_compared_as_runs(node):
    paths = [str(node / f"loss_log.rank{rank}.jsonl") for rank in (2, 3)]
    done = CliRunner().invoke(main, ["log", "show", *paths, "--json"])
    assert [run["series"][0]["last"] for run in json.loads(done.output)] == [4.0, 6.0]
    text = CliRunner().invoke(main, ["log", "show", *paths]).output
    assert "loss_log.rank2.jsonl: started 1970-01-01 00:00, took" in text
    assert "rank 3 of 4" in text


def test_the_lowest_rank_that_is_there_is_followed(node):
    follower = Follower(node)
    follower.poll()
    assert follower.series["a"].last == 4.0


def test_the_mean_of_the_epoch_that_is_followed_counts_samples(tmp_path):
    log_of(tmp_path, 0, records("a", [9.0, 1.0, 4.0], epochs=np.array([0, 1, 1]), batch=np.array([0, 4, 2])))
    follower = Follower(tmp_path)
    follower.poll()
    assert follower.series["a"].epoch_mean == 2.0
