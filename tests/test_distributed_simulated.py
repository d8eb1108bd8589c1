"""Managers of 64 ranks in one process: each writes its own log, and reading merges them."""

from __future__ import annotations

import contextlib
from fractions import Fraction

import pytest
import torch

from nectargan_core import LossLog, LossManager

pytestmark = pytest.mark.slow
RANKS = 64
STEPS = 40


def value_of(rank, step):
    """What a rank computes at a step, exact in binary, and the size of its batch."""
    return ((rank * 31 + step * 7) % 64) / 8 - 3, 1 + (rank + step) % 5


def takes_part(rank, step):
    """Some ranks have fewer steps, and some compute the loss in every third step only."""
    return step < STEPS - rank % 4 and (rank % 8 or step % 3 == 0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as managers:
        patch.setenv("WORLD_SIZE", str(RANKS))
        made = []
        for rank in range(RANKS):
            patch.setenv("RANK", str(rank))
            made.append(managers.enter_context(LossManager(experiment_dir=directory)))
            for name in ("sized", f"of_{rank % 2}"):
                made[-1].register_loss_fn(name, lambda value: value * 1, 2.0, inputs=("value",))
        for step in range(STEPS):
            for rank, manager in enumerate(made):
                manager.tick(epoch=step // 10)
                if takes_part(rank, step):
                    value, size = value_of(rank, step)
                    inputs = {"value": torch.tensor(value)}
                    manager.compute_losses(inputs, "sized", batch_size=size)
                    manager.compute_losses(inputs, f"of_{rank % 2}")
                if rank == step:
                    manager.update_loss_log()  # each rank flushes at another step
    return directory


def merged(directory, name, ranks, is_sized):
    """Compare a merged series with the mean of what the ranks computed, to the digit."""
    records = LossLog(directory).series(name)
    expected = {}
    for step in range(STEPS):
        values = [value_of(rank, step) for rank in ranks if takes_part(rank, step)]
        if values:
            weights = [size if is_sized else 1 for _, size in values]
            total = sum(Fraction(2 * value) * weight for (value, _), weight in zip(values, weights, strict=True))
            expected[step] = (float(total / sum(weights)), len(values), sum(size for _, size in values))
    assert records.step.tolist() == list(expected)
    assert records.loss.tolist() == [mean for mean, _, _ in expected.values()]
    assert records.count.tolist() == [count for _, count, _ in expected.values()]
    assert set(records.weight.tolist()) == {2.0}
    assert records.unweighted.tolist() == [mean / 2 for mean, _, _ in expected.values()]
    return records, [size for _, _, size in expected.values()]


def test_each_of_64_ranks_has_a_log(directory):
    log = LossLog(directory)
    assert log.ranks == tuple(range(RANKS))
    assert log.names == ("sized", "of_0", "of_1")
    for rank in (0, 1, 8, 63):
        steps = [step for step in range(STEPS) if takes_part(rank, step)]
        series = log.series("sized", rank=rank)
        assert series.step.tolist() == steps
        assert list(zip(series.unweighted.tolist(), series.batch.tolist(), strict=True)) == [
            value_of(rank, step) for step in steps
        ]


def test_64_ranks_are_merged_by_the_sizes_of_their_batches(directory):
    records, sizes = merged(directory, "sized", range(RANKS), is_sized=True)
    assert records.batch.tolist() == sizes


@pytest.mark.parametrize("half", [0, 1])
def test_a_loss_of_some_of_64_ranks_is_merged_of_these(directory, half):
    merged(directory, f"of_{half}", range(half, RANKS, 2), is_sized=False)
