"""Logs of several ranks: each rank writes its own, and reading merges them."""

from __future__ import annotations

import pytest
import torch

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import ConfigError, LossLogError
from nectargan_core.history import rank_and_world_size


def run(directory, monkeypatch, rank, values):
    monkeypatch.setenv("RANK", str(rank))
    with LossManager(experiment_dir=directory) as manager:
        manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
        for step, value in enumerate(values):
            manager.tick(epoch=0, step=step)
            for one in value if isinstance(value, list) else [value]:
                manager.compute_loss_xy("loss", torch.tensor(one), None)


def test_each_rank_writes_its_own_file(tmp_path, monkeypatch):
    for rank in (0, 2):
        run(tmp_path, monkeypatch, rank, [1.0])
    assert sorted(path.name for path in tmp_path.glob("*.jsonl")) == ["loss_log.jsonl", "loss_log.rank2.jsonl"]
    assert LossLog(tmp_path).ranks == (0, 2)


def test_a_manager_says_which_rank_it_is_of(monkeypatch):
    assert LossManager().rank == 0
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert LossManager().rank == 3


def test_ranks_are_merged_by_step_weighted_by_count(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, 0, [1.0, 2.0, 3.0])
    run(tmp_path, monkeypatch, 1, [[4.0, 7.0], 6.0])
    records = LossLog(tmp_path).series("loss")
    assert records.step.tolist() == [0, 1, 2]
    assert records.loss.tolist() == [4.0, 4.0, 3.0]
    assert records.count.tolist() == [3, 2, 1]


def test_one_rank_is_read_record_by_record(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, 0, [1.0])
    run(tmp_path, monkeypatch, 1, [[4.0, 7.0]])
    assert LossLog(tmp_path).series("loss", rank=1).loss.tolist() == [4.0, 7.0]
    assert LossLog(tmp_path / "loss_log.rank1.jsonl").series("loss").loss.tolist() == [4.0, 7.0]


def test_a_rank_without_a_log_is_an_error_that_lists_the_ranks(tmp_path, monkeypatch):
    run(tmp_path, monkeypatch, 0, [1.0])
    with pytest.raises(LossLogError, match="rank 3; there are those of 0"):
        LossLog(tmp_path).series("loss", rank=3)


def test_the_files_of_an_earlier_run_with_more_ranks_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in (0, 1):
        run(tmp_path, monkeypatch, rank, [1.0])
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.delenv("RANK")
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
        manager.compute_loss_xy("loss", torch.tensor(5.0), None)
    log = LossLog(tmp_path)
    assert log.ranks == (0,)
    assert log.series("loss").loss.tolist() == [5.0]


LAUNCHERS = ("", "SLURM_", "OMPI_COMM_WORLD_", "PMI_", "LOCAL_", "NODE_", "GROUP_")
WORDS = ("RANK", "WORLD_SIZE", "SIZE", "PROCID", "NTASKS")
VARIABLES = [launcher + word for launcher in LAUNCHERS for word in WORDS]


def told(monkeypatch, variables):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return rank_and_world_size()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, (0, 1)),
        ({"RANK": "", "WORLD_SIZE": ""}, (0, 1)),
        ({"RANK": "3", "WORLD_SIZE": "4"}, (3, 4)),
        ({"RANK": "3"}, (3, None)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "8"}, (2, 8)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"RANK": "0", "WORLD_SIZE": "2", "SLURM_PROCID": "5"}, (0, 2)),
        ({"RANK": "", "SLURM_PROCID": "5", "SLURM_NTASKS": "6"}, (5, 6)),
        ({"LOCAL_RANK": "2"}, (2, None)),
        ({"LOCAL_RANK": "2", "NODE_RANK": "0"}, (2, None)),
        ({"LOCAL_RANK": "2", "NODE_RANK": "3", "LOCAL_WORLD_SIZE": "4"}, (14, None)),
        ({"LOCAL_RANK": "1", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, (3, None)),
    ],
)
def test_the_rank_is_read_from_whatever_launched_the_process(monkeypatch, variables, expected):
    assert told(monkeypatch, variables) == expected


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"RANK": "none"}, "RANK"),
        ({"RANK": "²"}, "RANK"),
        ({"RANK": "-1"}, "RANK"),
        ({"RANK": "1.0"}, "RANK"),
        ({"RANK": "0", "WORLD_SIZE": "0"}, "WORLD_SIZE"),
        ({"RANK": "0", "WORLD_SIZE": "many"}, "WORLD_SIZE"),
        ({"RANK": "4", "WORLD_SIZE": "4"}, "RANK=4"),
        ({"SLURM_PROCID": "x"}, "SLURM_PROCID"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK"),
        ({"LOCAL_RANK": "1", "NODE_RANK": "1"}, "LOCAL_RANK=1 on node 1"),
    ],
)
def test_what_cannot_be_a_rank_or_a_size_is_an_error_that_names_the_variable(monkeypatch, variables, named):
    with pytest.raises(ConfigError, match=named):
        told(monkeypatch, variables)
