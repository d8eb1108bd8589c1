"""NectarGAN's own log: read as ours is, and written so that its tools read it."""

import json
import math
import os

import numpy as np
import pytest
import torch
from logs import write

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import LossLogError, NectarganWarning, UnknownLossError

HEADER = {"device": "cuda", "dataroot": "/data/facades", "dataset_length": 400, "experiment": "facades_v1"}
FUNCTIONS = {
    "G_L1": {"loss": [50.0, 25.0, 12.5], "weights": [100.0, 100.0, 50.0]},
    "D_real": {"loss": [0.5], "weights": [1.0]},
}


def theirs(directory, functions=FUNCTIONS, name="loss_log.json"):
    """Write a log with the same calls as NectarGAN does, and return its path."""
    path = directory / name
    with path.open("w") as file:
        json.dump({"LOSSMANAGER_LOG": {**HEADER, "loss_functions": functions}}, file)
    return path


def test_values_and_weights_are_read(tmp_path):
    log = LossLog(theirs(tmp_path))
    assert (log.names, log.ranks) == (("G_L1", "D_real"), (0,))
    assert log.series("G_L1").loss.tolist() == [50.0, 25.0, 12.5]
    assert log.series("G_L1").weight.tolist() == [100.0, 100.0, 50.0]


def test_the_step_is_the_place_in_the_list_and_the_epoch_is_0(tmp_path):
    log = LossLog(theirs(tmp_path))
    records = log.series("G_L1")
    assert (records.step.tolist(), records.epoch.tolist()) == ([0, 1, 2], [0.0, 0.0, 0.0])
    assert (records.step.dtype, log.last_step) == (np.int64, 2)


def test_the_unweighted_value_is_the_value_divided_by_the_weight(tmp_path):
    assert LossLog(theirs(tmp_path)).series("G_L1").unweighted.tolist() == [0.5, 0.25, 0.25]


def test_a_weight_of_0_gives_no_unweighted_value(tmp_path):
    log = LossLog(theirs(tmp_path, {"a": {"loss": [0.0, 2.0], "weights": [0.0, 2.0]}}))
    np.testing.assert_array_equal(log.series("a").unweighted, [math.nan, 1.0])


def test_values_that_are_no_finite_numbers_are_read(tmp_path):
    values = [math.nan, math.inf, -math.inf, 1.0]
    path = theirs(tmp_path, {"a": {"loss": values, "weights": [1.0] * 4}})
    assert "NaN, Infinity, -Infinity" in path.read_text()
    np.testing.assert_array_equal(LossLog(path).series("a").loss, values)


def test_the_header_is_carried_over(tmp_path):
    log = LossLog(theirs(tmp_path))
    assert log.header == HEADER
    assert log.headers == (HEADER,)


def test_a_log_to_which_nothing_was_written_yet_is_empty(tmp_path):
    path = tmp_path / "loss_log.json"
    path.write_text(json.dumps({"LOSSMANAGER_LOG": {**HEADER, "loss_functions": {}}}, indent=4))
    log = LossLog(path)
    assert (log.names, log.header, log.last_step) == ((), HEADER, -1)


def test_a_loss_that_was_never_computed_has_no_records(tmp_path):
    log = LossLog(theirs(tmp_path, {**FUNCTIONS, "G_VGG": {"loss": [], "weights": []}}))
    assert log.names == ("G_L1", "D_real")
    with pytest.raises(UnknownLossError):
        log.series("G_VGG")


def test_a_directory_with_nothing_else_gives_it(tmp_path):
    theirs(tmp_path)
    assert LossLog(tmp_path).names == LossLog(str(tmp_path)).names == ("G_L1", "D_real")


def test_a_log_of_ours_in_the_directory_goes_before_it(tmp_path):
    theirs(tmp_path)
    write(tmp_path, [1.0])
    assert LossLog(tmp_path).names == ("a",)
    assert LossLog(tmp_path / "loss_log.json").names == ("G_L1", "D_real")


def test_logging_beside_it_leaves_it_as_it_is(tmp_path):
    before = theirs(tmp_path).read_bytes()
    write(tmp_path, [1.0], resume=True)
    assert (tmp_path / "loss_log.json").read_bytes() == before
    assert LossLog(tmp_path).series("a").step.tolist() == [0]


@pytest.mark.parametrize("name", ["log.json", "renamed.txt"])
def test_its_name_does_not_matter(tmp_path, name):
    assert LossLog(theirs(tmp_path, name=name)).names == ("G_L1", "D_real")


def test_the_place_of_its_key_does_not_matter(tmp_path):
    path = tmp_path / "loss_log.json"
    path.write_text(json.dumps({"note": "mine", "LOSSMANAGER_LOG": {"loss_functions": FUNCTIONS}}))
    assert LossLog(path).names == ("G_L1", "D_real")


def test_a_log_of_ours_may_have_its_name(tmp_path):
    write(tmp_path, [1.0])
    (tmp_path / "loss_log.jsonl").rename(tmp_path / "loss_log.json")
    assert LossLog(tmp_path / "loss_log.json").names == ("a",)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("loss_log.json", '{"config": {"common": {}}}'),
        ("loss_log.json", "{\n    1\n}"),
        ("loss_log.json", "[1, 2]"),
        ("loss_log.json", "null"),
        ("loss_log.json", ""),
        ("loss_log.json", "epoch,loss\n1,2\n"),
        ("config.txt", '{\n    "config": {}\n}'),
    ],
)
def test_json_of_another_kind_is_refused_with_what_was_expected(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(LossLogError, match=r'is no loss log; expected .*loss_log.json, an object with the key "LOSSM'):
        LossLog(tmp_path / name)


@pytest.mark.parametrize("end", [30, 200, -1])
def test_a_log_that_was_cut_short_is_named(tmp_path, end):
    path = theirs(tmp_path)
    path.write_bytes(path.read_bytes()[:end])
    with pytest.raises(LossLogError, match="loss_log.json is damaged, or was cut short while NectarGAN wrote it"):
        LossLog(path)


@pytest.mark.parametrize(
    "functions",
    [
        [],
        None,
        {"a": [1.0]},
        {"a": {"loss": [1.0]}},
        {"a": {"loss": [1.0], "weights": []}},
        {"a": {"loss": "1.0", "weights": "1.0"}},
        {"a": {"loss": ["1.0"], "weights": [1.0]}},
        {"a": {"loss": [True], "weights": [1.0]}},
        {"a": {"loss": [None], "weights": [1.0]}},
        {"a": {"loss": [10**400], "weights": [1.0]}},
    ],
)
def test_a_log_that_was_changed_is_named(tmp_path, functions):
    with pytest.raises(LossLogError, match="loss_log.json is "):
        LossLog(theirs(tmp_path, functions or 5))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no FIFOs")
def test_a_fifo_of_its_name_is_refused(tmp_path):
    os.mkfifo(tmp_path / "loss_log.json")
    for path in (tmp_path, tmp_path / "loss_log.json"):
        with pytest.raises(LossLogError):
            LossLog(path)


def test_it_is_exported_as_any_log(tmp_path):
    LossLog(theirs(tmp_path)).to_csv(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == "G_L1,0,0.0,50.0,100.0,0.5"


# Writing it


def exported(directory):
    LossLog(directory).to_json(directory / "exported.json")
    return json.loads((directory / "exported.json").read_text(encoding="utf-8"))["LOSSMANAGER_LOG"]


def test_a_log_of_ours_is_exported_as_it_writes_one(tmp_path):
    (tmp_path / "data/train").mkdir(parents=True)
    for name in ("1.png", "2.png"):
        (tmp_path / "data/train" / name).touch()
    config = {"common": {"device": "cpu"}, "dataloader": {"dataroot": str(tmp_path / "data")}}
    write(tmp_path / "run", [1.0, 2.0], config=config)
    assert exported(tmp_path / "run") == {
        "device": "cpu",
        "dataroot": str(tmp_path / "data"),
        "dataset_length": 2,
        "experiment": "run",
        "loss_functions": {"a": {"loss": [3.0, 6.0], "weights": [3.0, 3.0]}},
    }


def test_what_is_no_finite_number_is_exported_as_python_writes_it(tmp_path):
    write(tmp_path, [1.0, math.nan, math.inf, -math.inf])
    exported(tmp_path)
    assert '"loss": [3.0, NaN, Infinity, -Infinity]' in (tmp_path / "exported.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("config", [None, {"dataloader": {"dataroot": "/no/such/directory"}}])
def test_a_length_that_is_not_known_is_exported_as_a_number_to_divide_by(tmp_path, config):
    write(tmp_path, [1.0], config=config)
    assert exported(tmp_path)["dataset_length"] == 1


def test_the_length_of_an_empty_data_set_is_exported_as_a_number_to_divide_by(tmp_path):
    (tmp_path / "data/train").mkdir(parents=True)
    write(tmp_path / "run", [1.0], config={"dataloader": {"dataroot": str(tmp_path / "data")}})
    assert exported(tmp_path / "run")["dataset_length"] == 1


def test_the_readers_of_nectargan_take_an_exported_log(tmp_path):
    """What its review panel and its script for graphs do with a log, without drawing."""
    write(tmp_path, [1.0, math.nan, 2.0])
    log = exported(tmp_path)
    title = f"{log['experiment']} {log['device']} {log['dataset_length']} {log['dataroot']}"
    points = []
    for name, each in log["loss_functions"].items():
        for index, value in enumerate(each["loss"]):
            epoch = index % log["dataset_length"] / log["dataset_length"] + math.floor(index / log["dataset_length"])
            points.append((name, epoch, value, each["weights"][index]))
    assert str(points) == "[('a', 0.0, 3.0, 3.0), ('a', 1.0, nan, 3.0), ('a', 2.0, 6.0, 3.0)]"
    assert title == f"{tmp_path.name} None 1 None"


def test_an_export_is_read_back(tmp_path):
    write(tmp_path, [1.0, math.nan, 0.25])
    exported(tmp_path)
    before, after = LossLog(tmp_path).series("a"), LossLog(tmp_path / "exported.json").series("a")
    np.testing.assert_array_equal(after.loss, before.loss)
    np.testing.assert_array_equal(after.weight, before.weight)


def test_its_own_log_is_exported_as_it_was(tmp_path):
    path = theirs(tmp_path)
    LossLog(path).to_json(tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text()) == json.loads(path.read_text())


def test_an_export_does_not_overwrite_what_it_does_not_have(tmp_path):
    theirs = '{"LOSSMANAGER_LOG": {"loss_functions": {"G_L1": {"loss": [1.0, NaN], "weights": [1.0, 1.0]}}}}'
    (tmp_path / "loss_log.json").write_text(theirs, encoding="utf-8")
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        manager.compute_loss_xy("G_L1", torch.zeros(1), torch.ones(1))
    with pytest.warns(NectarganWarning, match=r"is moved aside to loss_log.1.json"):
        LossLog(tmp_path).to_json(tmp_path / "loss_log.json")
    assert (tmp_path / "loss_log.1.json").read_text(encoding="utf-8") == theirs


def test_an_export_is_replaced_by_a_longer_one_of_the_same_run(tmp_path):
    with LossManager(experiment_dir=tmp_path, nonfinite="ignore") as manager:
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        for value in (1.0, float("nan"), 3.0):
            manager.compute_loss_xy("G_L1", torch.zeros(1), torch.full((1,), value))
            manager.update_loss_log()
            LossLog(tmp_path).to_json(tmp_path / "loss_log.json")
    assert len(LossLog(tmp_path / "loss_log.json").series("G_L1")) == 3
    assert not (tmp_path / "loss_log.1.json").exists()
