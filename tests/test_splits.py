"""Splits, pauses and scalars: what they record, and where."""

from __future__ import annotations

import math

import pytest
import torch

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import DuplicateLossError, NectarganError

ZERO, ONE = torch.zeros(2), torch.ones(2)


@pytest.fixture
def manager(tmp_path):
    with LossManager(experiment_dir=tmp_path / "run") as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss(), loss_weight=10.0, tags=["G"])
        yield manager


def compute(manager, scale=1.0):
    return manager.compute_loss_xy("G_L1", ZERO, scale * ONE)


def test_a_split_records_under_its_name(manager):
    compute(manager)
    with manager.split("val"):
        compute(manager, 2.0)
    assert manager.series("G_L1").loss.tolist() == [10.0]
    assert manager.series("val/G_L1").loss.tolist() == [20.0]


def test_a_split_does_not_change_the_clock(manager):
    manager.tick(epoch=3, step=7)
    with manager.split("val"):
        compute(manager)
        compute(manager)
    assert (manager.step, manager.epoch) == (7, 3)
    assert manager.series("val/G_L1").step.tolist() == [7, 7]


def test_getters_inside_a_split_return_the_values_of_the_split(manager):
    compute(manager)
    with manager.split("val"):
        assert math.isnan(manager.get_loss_values()["G_L1"])
        compute(manager, 3.0)
        assert manager.get_loss_values() == {"G_L1": 30.0}
    assert manager.get_loss_values() == {"G_L1": 10.0}


def test_means_in_a_split_are_over_the_calls_since_it_was_entered(manager):
    for scales in ((1.0, 2.0), (5.0, 6.0, 7.0)):
        with manager.split("val"):
            for scale in scales:
                compute(manager, scale)
            assert manager.means() == {"G_L1": 10.0 * sum(scales) / len(scales)}


def test_means_in_a_split_need_no_history(manager):
    lean = LossManager()
    lean.register_loss_fn("G_L1", torch.nn.L1Loss())
    for scales in ((1.0, 2.0), (5.0, 6.0)):
        with lean.split("val"):
            for scale in scales:
                compute(lean, scale)
            assert lean.means() == {"G_L1": sum(scales) / 2}


def test_means_without_a_history_are_an_error_that_names_enable_logging():
    lean = LossManager()
    lean.register_loss_fn("G_L1", torch.nn.L1Loss())
    compute(lean)
    with pytest.raises(NectarganError, match="enable_logging=True"):
        lean.means()


def test_means_start_over_with_each_whole_epoch(manager):
    for epoch, scale in ((0.0, 9.0), (0.5, 7.0), (1.0, 1.0), (1.5, 3.0)):
        manager.tick(epoch=epoch)
        compute(manager, scale)
    assert manager.means() == {"G_L1": 20.0}


def test_means_include_records_that_were_flushed(manager):
    for scale in (1.0, 2.0, 6.0):
        manager.tick(epoch=0)
        compute(manager, scale)
        manager.update_loss_log()
    assert manager.means() == {"G_L1": 30.0}


def test_a_split_that_is_left_by_an_error_ends(manager):
    compute(manager)
    with pytest.raises(RuntimeError), manager.split("val"):
        raise RuntimeError
    compute(manager, 2.0)
    assert manager.series("G_L1").loss.tolist() == [10.0, 20.0]


@pytest.mark.parametrize("name", ["", "a/b"])
def test_an_invalid_name_of_a_split_is_refused(manager, name):
    with pytest.raises(ValueError, match="split"), manager.split(name):
        pass


def test_a_loss_that_ran_only_in_a_split_is_not_warned_of_as_never_computed(tmp_path, recwarn):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        manager.register_loss_fn("metric", torch.nn.MSELoss())
        compute(manager)
        with manager.split("val"):
            manager.compute_loss_xy("metric", ZERO, ONE)
    assert not recwarn.list


def test_paused_computes_and_records_nothing(manager):
    compute(manager)
    with manager.paused():
        assert compute(manager, 4.0) == 40.0
        manager.record("psnr", 1.0)
    assert manager.series("G_L1").loss.tolist() == [10.0]
    assert manager.get_loss_values() == {"G_L1": 10.0}
    assert "psnr" not in manager.latest()


def test_a_scalar_is_recorded_at_the_clock(manager):
    manager.tick(epoch=2, step=5)
    manager.record("lr", 0.1)
    records = manager.series("lr")
    assert (records.step.tolist(), records.epoch.tolist(), records.loss.tolist()) == ([5], [2.0], [0.1])


@pytest.mark.parametrize("value", [2, 2.0, torch.tensor(2.0), torch.tensor([1.0, 3.0]), torch.tensor(2)])
def test_a_scalar_is_a_number_or_the_mean_of_a_tensor(manager, value):
    manager.record("metric", value)
    assert manager.latest("metric") == {"metric": 2.0}


def test_a_scalar_in_a_split_is_recorded_under_the_name_of_the_split(manager):
    with manager.split("val"):
        manager.record("psnr", 20.0)
        manager.record("psnr", 30.0)
        assert manager.means("psnr") == {"psnr": 25.0}
    assert manager.series("val/psnr").loss.tolist() == [20.0, 30.0]


def test_an_infinite_scalar_causes_no_warning(manager, recwarn):
    manager.record("psnr", math.inf)
    manager.update_loss_log()
    assert not recwarn.list
    assert manager.series("psnr").loss.tolist() == [math.inf]


def test_a_scalar_may_not_have_the_name_of_a_loss(manager):
    with pytest.raises(DuplicateLossError, match="G_L1"):
        manager.record("G_L1", 1.0)


def test_scalars_and_splits_are_in_the_log(manager, tmp_path):
    compute(manager)
    manager.record("lr", 0.5)
    with manager.split("val"):
        compute(manager)
    manager.close()
    assert LossLog(tmp_path / "run").names == ("G_L1", "lr", "val/G_L1")


def test_latest_is_not_rounded_and_finds_by_tag(manager):
    manager.compute_loss_xy("G_L1", ZERO, ONE / 3)
    assert manager.latest("G") == {"G_L1": pytest.approx(10 / 3, abs=1e-6)}
    assert manager.latest("nothing") == {}


def test_series_joins_the_log_and_what_is_in_memory(manager):
    compute(manager, 1.0)
    manager.update_loss_log()
    compute(manager, 2.0)
    assert manager.series("G_L1").loss.tolist() == [10.0, 20.0]


def test_series_of_an_unknown_name_is_an_error_with_close_matches(manager):
    compute(manager)
    with pytest.raises(KeyError, match='Did you mean "G_L1"'):
        manager.series("G_l1")


def test_a_split_inside_of_paused_records_nothing(manager):
    with manager.paused(), manager.split("val"):
        compute(manager)
        manager.record("psnr", 1.0)
    manager.close()
    assert manager.latest() == {"G_L1": pytest.approx(math.nan, nan_ok=True)}
    with pytest.raises(KeyError):
        manager.series("val/G_L1")


@pytest.mark.parametrize("inside", ["split", "paused"])
def test_registering_a_loss_inside_of_a_split_or_pause_is_an_error(manager, inside):
    context = manager.split("val") if inside == "split" else manager.paused()
    with context, pytest.raises(NectarganError, match="outside"):
        manager.register_loss_fn("new", torch.nn.L1Loss())


def test_a_loss_may_not_have_the_name_of_a_scalar(manager):
    manager.record("psnr", 1.0)
    with pytest.raises(DuplicateLossError, match="psnr"):
        manager.register_loss_fn("psnr", torch.nn.L1Loss())


@pytest.mark.parametrize("method", ["means", "latest", "get_loss_values"])
def test_a_query_may_be_any_iterable(manager, method):
    compute(manager)
    assert getattr(manager, method)(name for name in ["G"]) == {"G_L1": 10.0}
