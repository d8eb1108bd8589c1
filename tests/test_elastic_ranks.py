"""Runs that are resumed with another number of ranks: what those left behind that are gone does not count."""

from __future__ import annotations

import itertools

import pytest
import torch

from nectargan_core import LossLog, LossManager

STARTS = itertools.count(1_700_000_000, 1000)


class Run:
    """A run of several ranks in one process, each of which records one number a step.

    Args:
        directory: Where it is logged.
        value: What all ranks record.
        ranks: How many ranks there are.
        state: The checkpoint that it goes on from.
        clock: Whether it has a clock.
        resume: Whether it continues the logs that are there.
    """

    def __init__(self, monkeypatch, directory, value, ranks, state=None, clock=True, resume=True):
        self.value, self.clock = value, clock
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        started = next(STARTS)
        self.managers = []
        for rank in range(ranks):
            monkeypatch.setenv("RANK", str(rank))
            # Ranks are not made at the same moment.
            monkeypatch.setattr("time.time", lambda rank=rank: float(started + (3 * rank + 2) % 5))
            manager = LossManager(experiment_dir=directory, resume=resume)
            manager.register_loss_fn("loss", lambda x, y: x)
            if state is not None:
                manager.load_state_dict(state)
            self.managers.append(manager)

    def steps(self, count, rank=None):
        """Make so many steps, on one rank or all."""
        for manager in self.managers if rank is None else [self.managers[rank]]:
            for _ in range(count):
                if self.clock:
                    manager.tick()
                manager.compute_loss_xy("loss", torch.tensor(self.value), None)
        return self

    def checkpoint(self):
        return self.managers[0].state_dict()

    def end(self):
        for manager in self.managers:
            manager.close()


@pytest.fixture
def run(monkeypatch, tmp_path):
    def start(*args, **keywords):
        return Run(monkeypatch, tmp_path, *args, **keywords)

    return start


def merged(directory):
    records = LossLog(directory).series("loss")
    return list(zip(records.step.tolist(), records.loss.tolist(), records.count.tolist(), strict=True))


def killed_after_a_checkpoint(run, ahead=(2, 2, 2, 2), **keywords):
    """Let four ranks make three steps up to a checkpoint, and each some more; returns the checkpoint."""
    first = run(1.0, 4, **keywords).steps(3)
    state = first.checkpoint()
    for rank, count in enumerate(ahead):
        first.steps(count, rank)
    first.end()
    return state


@pytest.mark.parametrize("clock", [True, False], ids=["with a clock", "without a clock"])
@pytest.mark.parametrize("ahead", [(2, 2, 2, 2), (0, 0, 5, 1), (0, 5, 0, 5)], ids=str)
def test_what_ranks_that_are_gone_made_after_the_checkpoint_does_not_count(run, tmp_path, ahead, clock):
    state = killed_after_a_checkpoint(run, ahead, clock=clock)
    run(9.0, 2, state, clock=clock).steps(4).end()
    assert merged(tmp_path) == [(step, 1.0, 4) for step in range(3)] + [(step, 9.0, 2) for step in range(3, 7)]
    assert LossLog(tmp_path).series("loss", rank=3).step.tolist() == [0, 1, 2]


def test_before_the_resumed_run_has_made_a_step_it_counts_neither(run, tmp_path):
    state = killed_after_a_checkpoint(run, (0, 1, 2, 3))
    run(9.0, 2, state).end()
    assert merged(tmp_path) == [(step, 1.0, 4) for step in range(3)]


@pytest.mark.parametrize("clock", [True, False], ids=["with a clock", "without a clock"])
def test_ranks_that_come_back_keep_what_they_make_then(run, tmp_path, clock):
    state = killed_after_a_checkpoint(run, (0, 1, 5, 5), clock=clock)
    second = run(5.0, 2, state, clock=clock).steps(1)
    state = second.checkpoint()
    second.steps(2).end()
    run(9.0, 4, state, clock=clock).steps(3).end()
    assert merged(tmp_path) == [
        *((step, 1.0, 4) for step in range(3)),
        (3, 5.0, 2),
        *((step, 9.0, 4) for step in range(4, 7)),
    ]


def test_each_of_several_runs_with_fewer_ranks_supersedes(run, tmp_path):
    state = killed_after_a_checkpoint(run, (2, 2, 2, 2))
    run(5.0, 3, state).steps(4).end()
    run(7.0, 1, state).steps(1).end()
    assert merged(tmp_path) == [(0, 1.0, 4), (1, 1.0, 4), (2, 1.0, 4), (3, 7.0, 1)]


def test_more_ranks_supersede_what_fewer_made(run, tmp_path):
    first = run(1.0, 2).steps(2)
    state = first.checkpoint()
    first.steps(3).end()
    run(9.0, 4, state).steps(1).end()
    assert merged(tmp_path) == [(0, 1.0, 2), (1, 1.0, 2), (2, 9.0, 4)]


def test_a_first_step_that_is_given_supersedes_for_ranks_that_are_gone_too(run, tmp_path):
    killed_after_a_checkpoint(run, (0, 0, 2, 2))
    second = run(9.0, 2)
    for manager in second.managers:
        manager.tick(step=3)
        manager.compute_loss_xy("loss", torch.tensor(9.0), None)
    second.end()
    assert merged(tmp_path) == [(0, 1.0, 4), (1, 1.0, 4), (2, 1.0, 4), (3, 9.0, 2)]


def test_what_a_run_before_the_log_was_begun_anew_has_left_does_not_count(run, tmp_path):
    run(1.0, 4).steps(3).end()
    second = run(5.0, 2, resume=False).steps(1)
    state = second.checkpoint()
    second.end()
    # Ranks 2 and 3 continue files of the first run.
    run(9.0, 4, state).steps(1).end()
    assert merged(tmp_path) == [(0, 5.0, 2), (1, 9.0, 4)]


def test_a_loss_that_the_ranks_that_are_gone_did_not_have_is_read(run, tmp_path):
    state = killed_after_a_checkpoint(run)
    second = run(9.0, 2, state).steps(1)
    second.managers[0].register_loss_fn("new", lambda x, y: x)
    second.managers[0].compute_loss_xy("new", torch.tensor(2.0), None)
    second.end()
    assert LossLog(tmp_path).series("new").loss.tolist() == [2.0]
