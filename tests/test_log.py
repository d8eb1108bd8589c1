"""The log: lines of strict JSON, which are read back exactly."""

import math
import time

import numpy as np
import pytest
import torch
from logs import identity, manager_in, strictly, write

from nectargan_core import LossLog, LossManager, Schedule
from nectargan_core.log._format import VERSION

NAME = "loss_log.jsonl"


def lines(directory, name=NAME):
    text = (directory / name).read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [strictly(line) for line in text.splitlines()]


def equal(left, right):
    return np.array_equal(np.asarray(left), np.asarray(right), equal_nan=True)


# Writing


def test_a_run_without_records_writes_no_file(tmp_path):
    with manager_in(tmp_path):
        pass
    assert not (tmp_path / NAME).exists()


def test_without_logging_no_directory_is_made(tmp_path):
    with manager_in(tmp_path / "run", enable_logging=False) as manager:
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    assert not (tmp_path / "run").exists()


def test_the_directory_is_made_with_its_parents(tmp_path):
    write(tmp_path / "runs" / "today", [1.0])
    assert LossLog(tmp_path / "runs" / "today").names == ("a",)


def test_the_first_line_is_a_header_that_describes_the_run(tmp_path):
    (tmp_path / "data" / "train").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "data" / "train" / f"{number}.png").touch()
    config = {"common": {"device": "cpu"}, "dataloader": {"dataroot": str(tmp_path / "data")}}
    before = time.time()
    write(tmp_path / "facades", [1.0], config=config, metadata={"seed": 7, "note": None})
    header, _ = lines(tmp_path / "facades")
    assert before <= header.pop("started") <= time.time()
    assert (
        header
        | {
            "nectargan_log": VERSION,
            "experiment": "facades",
            "objective": None,
            "device": "cpu",
            "dataroot": str(tmp_path / "data"),
            "dataset_length": 3,
            "metadata": {"seed": 7, "note": None},
        }
        == header
    )
    assert LossLog(tmp_path / "facades").header["dataset_length"] == 3


def test_no_data_folder_is_needed(tmp_path):
    write(tmp_path, [1.0], config={"dataloader": {"dataroot": "/nowhere"}})
    header = LossLog(tmp_path).header
    assert (header["dataroot"], header["dataset_length"], header["device"]) == ("/nowhere", None, None)


def test_the_header_names_the_objective(tmp_path, site):
    site.install_spec("acme", "acme")
    with LossManager.from_spec("acme", experiment_dir=tmp_path) as manager:
        manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.zeros(1)})
    assert LossLog(tmp_path).header["objective"] == "acme"


@pytest.mark.parametrize("metadata", [{"path": object()}, {"rate": math.nan}])
def test_metadata_that_json_cannot_hold_is_refused_at_once(tmp_path, metadata):
    with pytest.raises(ValueError, match="metadata must be what JSON can hold"):
        LossManager(experiment_dir=tmp_path, metadata=metadata)


def test_a_chunk_is_one_line_per_loss_and_flush(tmp_path):
    with manager_in(tmp_path, names=("a", "b")) as manager:
        for _ in range(2):
            for _ in range(5):
                manager.tick(epoch=1)
                manager.compute_loss_xy("a", torch.tensor(1.0), None)
                manager.compute_loss_xy("b", torch.tensor(2.0), None)
            manager.update_loss_log()
        manager.update_loss_log()
    written = lines(tmp_path)[1:]
    assert [(line["loss_name"], line["n"]) for line in written] == [("a", 5), ("b", 5)] * 2
    assert all(abs(line["time"] - time.time()) < 60 for line in written)


def test_a_chunk_is_compact_where_that_is_exact(tmp_path):
    write(tmp_path, [0.1, 0.2, 0.3], weight=100.0)
    chunk = lines(tmp_path)[1]
    del chunk["time"], chunk["crc32"]
    assert chunk == {
        "loss_name": "a",
        "n": 3,
        "float": 32,
        "step": {"first": 0, "stride": 1},
        "epoch": {"runs": [[0.0, 3]]},
        "weight": {"runs": [[100.0, 3]]},
        "unweighted": [0.100000001, 0.200000003, 0.300000012],
    }


def test_non_finite_values_stay_strict_json_and_read_back(tmp_path):
    reported = write(tmp_path, [1.0, math.nan, math.inf, -math.inf, 2.0])
    assert [chunk["unweighted"] for chunk in lines(tmp_path)[1:]] == [[1, "nan", "inf", "-inf", 2]]
    assert equal(LossLog(tmp_path).series("a").loss, reported)
    assert equal(LossLog(tmp_path).series("a").unweighted, [1.0, math.nan, math.inf, -math.inf, 2.0])


@pytest.mark.parametrize("name", ['G "L1"', "größe", "损失", "a\nb", "../a", "a\\b"])
def test_names_with_special_characters_are_read_back(tmp_path, name):
    if "/" in name:
        name = name.replace("/", "|")
    with manager_in(tmp_path, names=(name,)) as manager:
        manager.compute_loss_xy(name, torch.tensor(1.0), None)
    assert LossLog(tmp_path).names == (name,)
    assert len(lines(tmp_path)) == 2


# Reading back


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(), (5,)])
def test_reported_values_are_read_back_exactly(tmp_path, dtype, shape):
    values = [(torch.randn(shape) * 10**power).to(dtype) for power in range(-4, 4)]
    reported = write(tmp_path, values, weight=1 / 3)
    records = LossLog(tmp_path).series("a")
    assert records.loss.tolist() == reported
    assert records.unweighted.tolist() == [value.mean().item() for value in values]
    assert set(records.weight.tolist()) == {1 / 3}


def test_every_record_has_its_step_epoch_and_weight(tmp_path):
    decay = Schedule(start_epoch=0, end_epoch=3, initial_value=1.0, target_value=0.1)
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", identity, schedule=decay)
        applied = []
        for step in range(9):
            manager.tick(epoch=step / 3, step=step * step)
            manager.compute_loss_xy("a", torch.tensor(1.0), None)
            applied.append(manager.get_loss_weights(precision=None)["a"])
    records = LossLog(tmp_path).series("a")
    assert records.step.tolist() == [step * step for step in range(9)]
    assert records.epoch.tolist() == [step / 3 for step in range(9)]
    assert records.weight.tolist() == applied
    assert records.loss.tolist() == [np.float32(weight) for weight in applied]


def test_a_weight_of_zero_is_read_back_with_loss_zero_and_unweighted_nan(tmp_path):
    write(tmp_path, [1.0, 2.0], weight=0.0)
    records = LossLog(tmp_path).series("a")
    assert records.loss.tolist() == records.weight.tolist() == [0.0, 0.0]
    assert equal(records.unweighted, [math.nan, math.nan])


def test_arrays_have_the_documented_dtypes(tmp_path):
    write(tmp_path, [1.0])
    records = LossLog(tmp_path).series("a")
    assert records.step.dtype == np.int64
    assert {records.epoch.dtype, records.loss.dtype, records.weight.dtype, records.unweighted.dtype} == {
        np.dtype(np.float64)
    }


def test_a_log_can_be_read_during_the_run(tmp_path):
    manager = manager_in(tmp_path)
    for count in (1, 2, 3):
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
        manager.update_loss_log()
        assert len(LossLog(tmp_path).series("a")) == count


@pytest.mark.parametrize("pick", [lambda directory: directory, lambda directory: directory / NAME, str])
def test_a_log_is_found_by_directory_or_file(tmp_path, pick):
    write(tmp_path, [1.0])
    assert LossLog(pick(tmp_path)).names == ("a",)


# An older log


def test_an_existing_log_is_moved_aside_and_never_overwritten(tmp_path):
    for value in (1.0, 2.0, 3.0):
        write(tmp_path, [value], weight=1.0)
    names = (NAME, "loss_log.1.jsonl", "loss_log.2.jsonl")
    assert [LossLog(tmp_path / name).series("a").loss.tolist() for name in names] == [[3.0], [1.0], [2.0]]
    assert [LossLog(tmp_path / name).header.get("moved_aside") for name in names] == [
        "loss_log.2.jsonl",
        None,
        "loss_log.1.jsonl",
    ]


def test_an_empty_file_is_not_moved_aside(tmp_path):
    (tmp_path / NAME).touch()
    write(tmp_path, [1.0])
    assert LossLog(tmp_path).header["nectargan_log"] == VERSION
    assert not (tmp_path / "loss_log.1.jsonl").exists()


def test_a_log_with_a_truncated_first_line_is_begun_again(tmp_path):
    (tmp_path / NAME).write_text('{"nectargan_lo', encoding="utf-8")
    write(tmp_path, [1.0], resume=True)
    assert LossLog(tmp_path).series("a").loss.tolist() == [3.0]
    assert LossLog(tmp_path).header["nectargan_log"] == VERSION


def test_series_does_not_include_the_log_of_an_earlier_run(tmp_path):
    write(tmp_path, [1.0])
    manager = manager_in(tmp_path, weight=1.0)
    manager.compute_loss_xy("a", torch.tensor(5.0), None)
    assert manager.series("a").loss.tolist() == [5.0]
    manager.update_loss_log()
    manager.compute_loss_xy("a", torch.tensor(6.0), None)
    assert manager.series("a").loss.tolist() == [5.0, 6.0]
