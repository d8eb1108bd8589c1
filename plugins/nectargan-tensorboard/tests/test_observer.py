"""The observer: what TensorBoard's own reader finds of a run, after all that may happen to one."""

import math
import os
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from nectargan_tensorboard import TensorBoard
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator as NewerAccumulator
from torch import nn

from nectargan_core import LossManager, Schedule
from nectargan_core.errors import NectarganWarning
from nectargan_core.testing import ObserverTests

ALL = {"scalars": 0, "images": 0, "tensors": 0}


def read(directory):
    return EventAccumulator(str(directory), size_guidance=ALL).Reload()


def points(directory, tag):
    """Return the points of a curve, as both readers of TensorBoard find them."""
    found = [(each.step, each.value) for each in read(directory).Scalars(tag)]
    newer = NewerAccumulator(str(directory), tensor_size_guidance={"scalars": 0}).Reload()
    again = [(each.step, each.tensor_proto.float_val[0]) for each in newer.Tensors(tag)]
    assert np.array_equal(found, again, equal_nan=True)
    return found


def tags(directory):
    return set(read(directory).Tags()["scalars"])


def texts(directory):
    return [(each.step, each.tensor_proto.string_val[0].decode()) for each in read(directory).Tensors("objective")]


def manager_of(tmp_path, observer=None, **options):
    options = {"experiment_dir": tmp_path, "observers": [observer or TensorBoard()], **options}
    manager = LossManager(**options)
    manager.register_loss_fn("G_L1", nn.L1Loss(), loss_weight=100.0, tags=["G"])
    return manager


def run(manager, steps, name="G_L1", value=None):
    """Compute a loss whose unweighted value is the step."""
    for step in steps:
        manager.tick(epoch=step // 10, step=step)
        manager.compute_loss_xy(name, torch.zeros(1), torch.full((1,), float(step if value is None else value)))


@pytest.mark.slow
class TestContract(ObserverTests):
    observer = "tensorboard"


# What is in the curves


def test_curves_have_the_values_the_steps_and_the_times_of_the_run(tmp_path):
    before = time.time()
    with manager_of(tmp_path, history_buffer_size=7) as manager:
        run(manager, range(25))
    after = time.time()
    assert points(tmp_path / "tensorboard", "loss/G_L1") == [(step, 100.0 * step) for step in range(25)]
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(step, step) for step in range(25)]
    times = [each.wall_time for each in read(tmp_path / "tensorboard").Scalars("loss/G_L1")]
    assert times == sorted(times)
    assert before <= times[0] < times[-1] <= after


def test_everything_that_is_recorded_has_its_tag(tmp_path):
    with manager_of(tmp_path) as manager:
        manager.register_loss_fn(
            "G_VGG", lambda y_fake, y: {"a": (y_fake - y).mean(), "b": (y_fake - y).square().mean()}
        )
        y_fake = torch.ones(2, requires_grad=True)
        manager.tick(epoch=0)
        losses = manager.compute_losses({"y_fake": y_fake, "y": torch.zeros(2)})
        manager.record_gradients(losses, y_fake)
        manager.record("lr", 0.5)
        with manager.split("val"):
            manager.compute_losses({"y_fake": y_fake, "y": torch.zeros(2)})
            manager.record("psnr", 30.0)
    of_gradients = {f"gradients/{kind}/{loss}" for kind in ("norm", "share", "cosine") for loss in ("G_L1", "G_VGG")}
    assert tags(tmp_path / "tensorboard") == of_gradients | {
        *("loss/G_L1", "loss/G_VGG", "loss/val/G_L1", "loss/val/G_VGG"),
        *("unweighted/G_L1", "unweighted/val/G_L1", "weight/G_L1", "weight/G_VGG"),
        *("components/G_VGG.a", "components/G_VGG.b", "components/val/G_VGG.a", "components/val/G_VGG.b"),
        *("metrics/lr", "metrics/val/psnr", "epoch"),
    }


def test_a_validation_is_one_point_also_where_a_flush_comes_in_between(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, [0])
        with manager.split("val"):
            for value in (1.0, 2.0, 6.0):
                manager.compute_loss_xy("G_L1", torch.zeros(1), torch.full((1,), value))
                manager.update_loss_log()
        run(manager, [1])
    assert points(tmp_path / "tensorboard", "loss/val/G_L1") == [(0, 300.0)]


def test_values_that_are_nan_or_infinite_are_kept(tmp_path):
    with manager_of(tmp_path, nonfinite="ignore") as manager:
        for step, value in enumerate([1.0, math.nan, math.inf]):
            run(manager, [step], value=value)
    values = [value for _, value in points(tmp_path / "tensorboard", "loss/G_L1")]
    assert values[0] == 100.0
    assert math.isnan(values[1])
    assert values[2] == math.inf


def test_a_scheduled_weight_is_there_as_it_was_applied(tmp_path):
    with LossManager(experiment_dir=tmp_path, observers=[TensorBoard()]) as manager:
        manager.register_loss_fn("a", nn.L1Loss(), 8.0, Schedule(start_epoch=1, end_epoch=2, target_value=0.0))
        run(manager, range(40), name="a")
    found = points(tmp_path / "tensorboard", "weight/a")
    assert found == [(0, 8.0), (19, 8.0), (20, 0.0), (38, 0.0), (39, 0.0)]
    assert points(tmp_path / "tensorboard", "epoch")[:3] == [(0, 0.0), (9, 0.0), (10, 1.0)]


# Where it writes


def test_without_a_directory_it_writes_to_runs_as_torch_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    observer = TensorBoard()
    with manager_of(None, observer) as manager:
        run(manager, range(3))
    (directory,) = (tmp_path / "runs").iterdir()
    assert observer.log_dir == directory
    assert directory.name.endswith(socket.gethostname())
    assert points(directory, "loss/G_L1") == [(0, 0.0), (1, 100.0), (2, 200.0)]


def test_managers_that_begin_in_the_same_second_have_a_directory_each(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(time, "strftime", lambda _: "Jan01_00-00-00")
    for number in range(3):
        with manager_of(None) as manager:
            run(manager, [number])
    host = socket.gethostname()
    names = [f"Jan01_00-00-00_{host}{suffix}" for suffix in ("", "_2", "_3")]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == names
    assert [points(tmp_path / "runs" / name, "loss/G_L1")[0][0] for name in names] == [0, 1, 2]


def test_the_directory_that_is_given_is_used_wherever_the_program_goes_then(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    observer = TensorBoard("curves/first")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with manager_of(tmp_path / "run", observer) as manager:
        run(manager, [0])
    assert observer.log_dir == tmp_path / "curves/first"
    assert tags(observer.log_dir) >= {"loss/G_L1"}


@pytest.mark.parametrize("by_name", [True, False])
@pytest.mark.parametrize("registers", ["before", "after"])
def test_curves_stay_beside_the_log_wherever_the_program_goes_then(tmp_path, monkeypatch, by_name, registers):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    manager = LossManager(experiment_dir="run", observers=["tensorboard" if by_name else TensorBoard()])
    if registers == "after":
        monkeypatch.chdir(tmp_path / "elsewhere")
    manager.register_loss_fn("G_L1", nn.L1Loss())
    monkeypatch.chdir(tmp_path / "elsewhere")
    run(manager, range(3))
    manager.close()
    assert [step for step, _ in points(tmp_path / "run/tensorboard", "loss/G_L1")] == [0, 1, 2]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_curves_are_beside_the_log_of_a_manager_that_is_made_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    observer = TensorBoard()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with manager_of("run", observer) as manager:
        run(manager, [0])
    assert observer.log_dir == tmp_path / "elsewhere/run/tensorboard"


def test_two_managers_at_once_write_a_run_each(tmp_path):
    with manager_of(tmp_path / "a") as first, manager_of(tmp_path / "b") as second:
        for step in range(3):
            run(first, [step])
            run(second, [step], value=5.0)
    assert points(tmp_path / "a/tensorboard", "unweighted/G_L1") == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert points(tmp_path / "b/tensorboard", "unweighted/G_L1") == [(0, 5.0), (1, 5.0), (2, 5.0)]


def test_one_observer_is_not_for_two_managers(tmp_path):
    observer = TensorBoard()
    with manager_of(tmp_path / "a", observer) as first, manager_of(tmp_path / "b", observer) as second:
        run(first, [0])
        run(second, [0])
        first.update_loss_log()
        with pytest.warns(NectarganWarning, match="TensorBoard failed to observe .*; give each manager one of its own"):
            second.close()
    assert tags(tmp_path / "a/tensorboard") >= {"loss/G_L1"}
    assert not (tmp_path / "b/tensorboard").exists()


def test_a_directory_is_for_one_manager_at_a_time(tmp_path):
    log_dir = tmp_path / "curves"
    (tmp_path / "link").symlink_to(log_dir)
    observers = [TensorBoard(log_dir), TensorBoard(tmp_path / "link")]
    with manager_of(None, observers[0]) as first, manager_of(None, observers[1]) as second:
        run(first, range(3))
        first.update_loss_log()
        run(second, range(3), value=5.0)
        with pytest.warns(
            NectarganWarning, match="another manager writes to .*link, .*another log_dir, or close the other"
        ):
            second.update_loss_log()
        run(first, range(3, 5))
        run(second, range(3, 5), value=5.0)  # warns no more
    assert observers[1].log_dir is None
    assert points(log_dir, "unweighted/G_L1") == [(step, step) for step in range(5)]


@pytest.mark.parametrize("closed", [True, False])
def test_a_directory_is_free_when_its_manager_is_closed_or_gone(tmp_path, closed):
    observers = [TensorBoard(tmp_path), TensorBoard(tmp_path)]
    kept = []
    for value, observer in enumerate(observers):
        manager = manager_of(None, observer)
        run(manager, range(3), value=value)
        manager.update_loss_log()
        if closed:
            manager.close()
            kept.append(manager)
        del manager
    assert points(tmp_path, "unweighted/G_L1")[:2] == [(0, 1.0), (1, 1.0)]


def test_what_was_flushed_is_there_where_a_manager_is_collected_without_being_closed(tmp_path):
    manager = manager_of(tmp_path)
    run(manager, range(3))
    manager.update_loss_log()
    del manager
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(0, 0.0), (1, 1.0), (2, 2.0)]


def test_nothing_is_made_before_something_is_recorded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    observer = TensorBoard()
    manager_of(None, observer).close()
    assert observer.log_dir is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("log_dir", ["", "s3://bucket/run", "gs://bucket/run"])
def test_what_is_no_directory_of_this_machine_is_refused(log_dir):
    with pytest.raises(ValueError, match="log_dir is a directory of this machine"):
        TensorBoard(log_dir)


@pytest.mark.parametrize("log_dir", [3, b"run", ["run"]])
def test_what_is_no_path_is_refused(log_dir):
    with pytest.raises(TypeError, match="log_dir is a directory as str or Path"):
        TensorBoard(log_dir)


@pytest.mark.parametrize(
    ("seconds", "error"), [(-1.0, ValueError), (math.nan, ValueError), ("3", TypeError), (True, TypeError)]
)
def test_what_are_no_seconds_is_refused(seconds, error):
    with pytest.raises(error, match="loss_maps is a number of seconds"):
        TensorBoard(loss_maps=seconds)


# Resuming


def test_a_run_that_goes_on_from_a_state_supersedes_what_came_after(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, range(10))
        state = manager.state_dict()
        run(manager, range(10, 20))
        manager.load_state_dict(state)
        run(manager, range(10, 15), value=1.0)
    expected = [(step, step) for step in range(10)] + [(step, 1.0) for step in range(10, 15)]
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == expected
    assert texts(tmp_path / "tensorboard")[0][0] == 0


def test_a_resumed_process_goes_on_in_the_same_directory(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, range(10))
        state = manager.state_dict()
        manager.record("only_once", 1.0)
        run(manager, range(10, 20))
        manager.record("only_once", 2.0)
    with manager_of(tmp_path, resume=True) as manager:
        manager.load_state_dict(state)
        run(manager, range(10, 15), value=1.0)
    expected = [(step, step) for step in range(10)] + [(step, 1.0) for step in range(10, 15)]
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == expected
    # Also where nothing came in the place of what is superseded.
    assert points(tmp_path / "tensorboard", "metrics/only_once") == [(9, 1.0)]
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2


def test_a_run_that_is_resumed_at_a_step_supersedes_that_and_later_ones(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, range(10))
    with manager_of(tmp_path, resume=True) as manager:
        run(manager, range(4, 6), value=1.0)
    expected = [*((step, step) for step in range(4)), (4, 1.0), (5, 1.0)]
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == expected


def test_a_run_that_is_resumed_after_its_last_step_loses_nothing(tmp_path):
    for begin in (0, 10, 20):
        with manager_of(tmp_path, resume=True) as manager:
            run(manager, range(begin, begin + 10))
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(step, step) for step in range(30)]


def test_a_resumed_run_without_a_clock_loses_nothing(tmp_path):
    for _ in range(2):
        with LossManager(experiment_dir=tmp_path, observers=[TensorBoard()], resume=True) as manager:
            manager.register_loss_fn("often", nn.L1Loss())
            manager.register_loss_fn("seldom", nn.L1Loss())
            for number in range(10):
                manager.compute_loss_xy("often", torch.zeros(1), torch.ones(1))
                if number % 5 == 0:
                    manager.compute_loss_xy("seldom", torch.zeros(1), torch.ones(1))
    assert [step for step, _ in points(tmp_path / "tensorboard", "loss/often")] == list(range(20))
    assert [step for step, _ in points(tmp_path / "tensorboard", "loss/seldom")] == list(range(4))


@pytest.mark.parametrize("with_clock", [True, False])
def test_a_new_run_in_an_old_directory_takes_its_place(tmp_path, with_clock):
    for value in (1.0, 2.0):
        with manager_of(tmp_path) as manager:
            for step in range(20 if value == 1.0 else 3):
                if with_clock:
                    manager.tick(step=step)
                manager.compute_loss_xy("G_L1", torch.zeros(1), torch.full((1,), value))
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(0, 2.0), (1, 2.0), (2, 2.0)]


# The objective


def test_the_objective_is_there_from_the_first_step_on_and_again_when_it_changes(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, range(3, 6))
        manager.update_loss_log()
        run(manager, range(6, 9))
        manager.update_loss_log()
        manager.set_weight("G_L1", 50.0)
        run(manager, range(9, 12))
    (first, begin), (second, changed) = texts(tmp_path / "tensorboard")
    assert (first, second) == (3, 9)
    assert "| G\\_L1 | 100 |" in begin
    assert "| G\\_L1 | 50 |" in changed


# Loss maps


class Maps:
    """Stands for what draws the maps, of which others have tests."""

    def __init__(self, monkeypatch, error=None):
        self.calls, self.error = 0, error
        monkeypatch.setattr(LossManager, "save_loss_maps", self.save, raising=False)

    def save(self, file):
        self.calls += 1
        if self.error is not None:
            raise self.error
        file.write(b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 64, 32) + bytes([self.calls]))
        return ("G_MAP",)


def with_map(tmp_path, observer=None):
    manager = manager_of(tmp_path, observer)
    manager.register_loss_fn("G_MAP", nn.L1Loss(reduction="none"))
    return manager


def map_step(manager, step):
    run(manager, [step])
    manager.compute_loss_xy("G_MAP", torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8))


def test_loss_maps_are_pictures_at_the_step_that_they_are_of(tmp_path, monkeypatch):
    maps = Maps(monkeypatch)
    with with_map(tmp_path, TensorBoard(loss_maps=0)) as manager:
        for step in (3, 7):
            map_step(manager, step)
            manager.update_loss_log()
    images = read(tmp_path / "tensorboard").Images("loss_maps")
    assert [(image.step, image.width, image.height) for image in images] == [(3, 64, 32), (7, 64, 32), (7, 64, 32)]
    assert [image.encoded_image_string[-1] for image in images] == [1, 2, 3]
    assert maps.calls == 3


def test_loss_maps_are_drawn_at_the_first_flush_and_at_the_end_and_seldom_in_between(tmp_path, monkeypatch):
    maps = Maps(monkeypatch)
    with with_map(tmp_path) as manager:
        for step in range(5):
            map_step(manager, step)
            manager.update_loss_log()
        assert maps.calls == 1
    assert maps.calls == 2


def test_no_maps_are_drawn_where_no_loss_has_any_or_none_are_wanted(tmp_path, monkeypatch):
    maps = Maps(monkeypatch)
    with manager_of(tmp_path / "without") as manager:
        run(manager, range(3))
    with with_map(tmp_path / "unwanted", TensorBoard(loss_maps=None)) as manager:
        map_step(manager, 0)
    assert maps.calls == 0


def test_maps_that_cannot_be_drawn_are_a_warning_and_leave_the_curves_alone(tmp_path, monkeypatch):
    Maps(monkeypatch, error=RuntimeError("no fonts"))
    with (
        pytest.warns(NectarganWarning, match="TensorBoard failed to observe .*no fonts"),
        with_map(tmp_path) as manager,
    ):
        map_step(manager, 3)
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(3, 3.0)]
    assert len(texts(tmp_path / "tensorboard")) == 1


# What goes wrong


def test_a_directory_that_cannot_be_written_is_a_warning_and_nothing_of_the_training_is_lost(tmp_path):
    (tmp_path / "tensorboard").write_bytes(b"in the way")
    with manager_of(tmp_path) as manager:
        run(manager, range(3))
        with pytest.warns(
            NectarganWarning, match="TensorBoard failed to observe nectargan_history_flushed: .*cannot write"
        ):
            manager.update_loss_log()
        (tmp_path / "tensorboard").unlink()
        run(manager, range(3, 5))
    assert points(tmp_path / "tensorboard", "unweighted/G_L1") == [(step, step) for step in range(5)]
    assert len(texts(tmp_path / "tensorboard")) == 1


def test_records_wait_where_no_new_directory_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_bytes(b"in the way")
    observer = TensorBoard()
    with manager_of(None, observer) as manager:
        for step in range(4):
            run(manager, [step])
            with pytest.warns(NectarganWarning, match=r"cannot write to .*: 'runs' there is no directory, so move it"):
                manager.update_loss_log()
        (tmp_path / "runs").unlink()
        run(manager, range(4, 8))
    assert points(observer.log_dir, "unweighted/G_L1") == [(step, step) for step in range(8)]


@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_other_ranks_of_a_distributed_run_write_nothing(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    with manager_of(tmp_path) as manager:
        run(manager, range(3))
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".jsonl") == ["loss_log.rank1.jsonl"]
    assert not (tmp_path / "tensorboard").exists()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_writes_nothing(tmp_path):
    with manager_of(tmp_path) as manager:
        run(manager, range(3))
        manager.update_loss_log()
        if (child := os.fork()) == 0:
            run(manager, range(3, 6))
            manager.close()
            os._exit(0)
        os.waitpid(child, 0)
    assert [step for step, _ in points(tmp_path / "tensorboard", "loss/G_L1")] == [0, 1, 2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_that_trains_what_its_parent_has_registered_writes(tmp_path):
    manager = manager_of(None, TensorBoard(tmp_path / "curves"))
    if (child := os.fork()) == 0:
        run(manager, range(3))
        manager.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert [step for step, _ in points(tmp_path / "curves", "loss/G_L1")] == [0, 1, 2]


LAZY = """
import sys
import torch
from nectargan_core import LossManager
from nectargan_tensorboard import TensorBoard

with LossManager(experiment_dir=sys.argv[1], observers=[TensorBoard()]) as manager:
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.tick(epoch=0)
    manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1))
print(sorted({name.partition(".")[0] for name in sys.modules} & {"tensorboard", "tensorflow", "google", "matplotlib"}))
"""


@pytest.mark.slow
def test_a_training_imports_neither_tensorboard_nor_tensorflow(tmp_path):
    done = subprocess.run([sys.executable, "-c", LAZY, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert tags(tmp_path / "tensorboard") >= {"loss/a"}
