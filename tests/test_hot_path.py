"""The cost of a loss call: no sync and no copy on a device, and few operations on the CPU."""

import gc
import math
import sys
import tracemalloc
import weakref
from pathlib import Path

import pytest
import torch
from devices import OnDevice, Operations, elsewhere
from hypothesis import given
from hypothesis import strategies as st
from managers import history, identity, logged, same
from torch import nn

import nectargan_core
from nectargan_core import LossManager, Schedule, hookimpl
from nectargan_core.errors import NonFiniteLossError

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


@pytest.fixture
def done():
    """Return the names of the operations on the device since the test began."""
    OnDevice.done = []
    return OnDevice.done


# On a device


def with_losses(**keywords):
    """Return a manager with a scalar loss, a map and a scheduled loss."""
    manager = LossManager(**keywords)
    manager.register_loss_fn("scalar", nn.L1Loss())
    manager.register_loss_fn("map", nn.L1Loss(reduction="none"))
    manager.register_loss_fn("scheduled", nn.MSELoss(), schedule=Schedule(end_epoch=2000, target_value=0.0))
    return manager


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_a_thousand_calls_on_a_device_neither_sync_nor_copy(done, logging, shape):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 3.0)
    x = OnDevice(torch.rand(shape))
    for _ in range(1000):
        manager.compute_loss_xy("a", x, None)
    # mul is the loss and its weight; the others neither copy a map nor wait for the device.
    assert set(done) <= {"mul", "detach", "mean", "stack"}
    assert done.count("mul") == 2000
    assert done.count("stack") <= 2 * math.ceil(1000 / 64)


@pytest.mark.parametrize("logging", [True, False])
def test_hundreds_of_training_steps_on_the_meta_device_neither_sync_nor_copy(tmp_path, logging):
    y = torch.ones(1, 3, 4, 4, device="meta")
    y_fake = torch.zeros(1, 3, 4, 4, device="meta", requires_grad=True)
    with with_losses(experiment_dir=tmp_path, enable_logging=logging) as manager:
        with Operations() as operations:
            for step in range(200):
                manager.tick(epoch=step)
                manager.compute_losses({"y_fake": y_fake, "y": y}).total.backward()
        waits = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero"}
        copies = {"_to_copy", "copy_", "clone"}
        assert not (waits | copies) & {name.partition(".")[0] for name in operations.names}
        assert all(math.isnan(value) for value in manager.get_loss_values().values())


def test_reading_the_values_of_many_losses_syncs_once(done):
    manager = LossManager(enable_logging=True)
    for name in "abcdefgh":
        manager.register_loss_fn(name, identity, 3.0)
    for _ in range(100):
        for name in "abcdefgh":
            manager.compute_loss_xy(name, OnDevice(torch.tensor(2.0)), None)
    assert set(manager.get_loss_values().values()) == {6.0}
    assert done.count("tolist") == 1
    assert "_local_scalar_dense" not in done


def test_reading_the_values_again_does_not_sync(done):
    manager = logged()
    manager.compute_loss_xy("a", OnDevice(torch.tensor(2.0)), None)
    manager.get_loss_values()
    manager.get_loss_values()
    assert done.count("tolist") == 1


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_a_result_on_a_device_is_reported_exactly(logging, dtype, shape):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 1 / 3)
    result = manager.compute_loss_xy("a", OnDevice((9 * torch.rand(shape)).to(dtype)), None)
    assert manager.get_loss_values(precision=None) == {"a": result.mean().item()}
    tensor = manager.get_loss_tensors()["a"]
    assert (tensor.device, tensor.dtype) == (result.device, result.dtype)
    assert torch.equal(tensor.inner, result.inner)


@given(st.floats(width=16), st.floats(1e-4, 1e4), st.sampled_from([torch.float16, torch.bfloat16]))
def test_any_half_on_a_device_is_reported_exactly(value, weight, dtype):
    manager = logged(weight=weight, nonfinite="ignore")
    result = manager.compute_loss_xy("a", OnDevice(torch.tensor(value, dtype=dtype)), None)
    assert same(manager.get_loss_values(precision=None)["a"], result.item())


def test_many_records_on_a_device_are_read_back_in_order():
    manager = logged(weight=0.5)
    values = torch.rand(200)
    for step, value in enumerate(values):
        manager.compute_loss_xy("a", OnDevice(value.clone() if step % 3 else value.repeat(2)), None)
    assert history(manager).unweighted == pytest.approx(values.tolist(), rel=1e-7)
    assert history(manager).losses == pytest.approx((values / 2).tolist(), rel=1e-7)
    assert history(manager).steps == list(range(200))


def test_the_device_and_dtype_may_change_during_a_run():
    manager = logged(weight=2.0)
    expected = []
    for number, dtype in enumerate([*FLOATS, *FLOATS]):
        value = torch.tensor(number / 7, dtype=dtype)
        expected.append((value * 2.0).item())
        manager.compute_loss_xy("a", OnDevice(value) if number % 2 else value, None)
    assert history(manager).losses == expected


def test_a_zero_is_reported_on_the_device_where_it_was_made():
    manager = logged(weight=0.0)
    result = manager.compute_loss_xy("a", torch.ones(2, dtype=torch.float64, device="meta"), None)
    tensor = manager.get_loss_tensors()["a"]
    assert (tensor.device, tensor.dtype) == (result.device, result.dtype) == (torch.device("meta"), torch.float64)
    assert manager.get_loss_values() == {"a": 0.0}


def test_editing_a_result_on_a_device_in_place_changes_nothing_recorded():
    manager = logged(weight=2.0)
    for shape in ((), (3,)):
        result = manager.compute_loss_xy("a", OnDevice(torch.ones(shape)), None)
        result.zero_()
        assert manager.get_loss_values() == {"a": 2.0}


@pytest.mark.parametrize("logging", [True, False])
def test_a_split_on_a_device_has_its_own_mean_each_time_it_is_entered(logging):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 2.0)
    for count in (70, 5):
        with manager.split("val"):
            for number in range(count):
                manager.compute_loss_xy("a", OnDevice(torch.tensor(float(number))), None)
    with manager.split("val"):
        for number in range(3):
            manager.compute_loss_xy("a", OnDevice(torch.tensor(float(number))), None)
        assert manager.means() == {"a": 2.0}


def test_latest_returns_the_newest_known_value_without_a_sync(done):
    manager = LossManager()
    manager.register_loss_fn("a", identity, 2.0)
    manager.compute_loss_xy("a", OnDevice(torch.tensor(1.0)), None)
    assert math.isnan(manager.latest()["a"])
    manager.get_loss_values()
    manager.compute_loss_xy("a", OnDevice(torch.tensor(3.0)), None)
    assert manager.latest() == {"a": 2.0}
    manager.compute_loss_xy("a", torch.tensor(5.0), None)
    assert manager.latest() == {"a": 10.0}
    assert done.count("tolist") == 1


def test_a_recorded_scalar_on_a_device_is_copied_when_it_is_recorded():
    manager = logged()
    rate = OnDevice(torch.tensor(0.5))
    manager.record("rate", rate)
    rate.zero_()
    assert manager.series("rate").loss.tolist() == [0.5]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_losses_on_the_meta_device_are_recorded_as_nan(reduction):
    manager = logged(nn.L1Loss(reduction=reduction))
    x = torch.zeros(3, device="meta")
    for _ in range(100):
        manager.compute_loss_xy("a", x, x)
    assert math.isnan(manager.get_loss_values()["a"])
    assert manager.get_loss_tensors()["a"].is_meta
    assert len(history(manager).losses) == 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("logging", [True, False])
def test_no_call_synchronises_with_a_cuda_device(tmp_path, logging):
    with with_losses(experiment_dir=tmp_path, enable_logging=logging) as manager:
        y = torch.ones(1, 3, 4, 4, device="cuda")
        y_fake = torch.zeros(1, 3, 4, 4, device="cuda", requires_grad=True)
        manager.tick(epoch=0)
        manager.compute_losses({"y_fake": y_fake, "y": y})
        torch.cuda.set_sync_debug_mode("error")
        try:
            for step in range(1, 200):
                manager.tick(epoch=step)
                results = manager.compute_losses({"y_fake": y_fake, "y": y})
                manager.latest()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        last = {name: float(result.detach().mean()) for name, result in results.items()}
        assert manager.get_loss_values(precision=None) == last


def test_an_observer_of_a_value_that_is_not_finite_may_flush(tmp_path):
    class Flushes:
        @hookimpl
        def nectargan_nonfinite_loss(self, manager):
            manager.update_loss_log()

    with LossManager(experiment_dir=tmp_path, observers=[Flushes()], nonfinite="ignore") as manager:
        manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
        for value in (1.0, math.inf, 3.0, 4.0):
            manager.compute_loss_xy("loss", elsewhere(value), None)
        manager.update_loss_log()
        assert manager.series("loss").loss.tolist() == [1.0, math.inf, 3.0, 4.0]


@pytest.mark.parametrize("logging", [True, False])
def test_a_value_on_a_device_that_is_not_finite_is_found_without_a_log_file(logging):
    manager = LossManager(enable_logging=logging, nonfinite="raise", flush_every=0)
    manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
    with pytest.raises(NonFiniteLossError):
        for _ in range(3):
            manager.compute_loss_xy("loss", elsewhere(math.inf), None)


def test_a_parameter_returned_as_a_loss_is_recorded_with_its_value_at_the_call():
    manager = LossManager(enable_logging=True)
    parameter = elsewhere(1.0).requires_grad_()
    manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
    manager.compute_loss_xy("loss", parameter, None)
    with torch.no_grad():
        parameter.add_(41)
    assert manager.get_loss_values() == {"loss": 1.0}


# Memory


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("logging", [True, False])
def test_nothing_keeps_the_graph_alive(device, logging):
    manager = with_losses(enable_logging=logging)
    y = torch.ones(1, 3, 4, 4, device=device)
    y_fake = torch.zeros(1, 3, 4, 4, device=device, requires_grad=True)
    leaf = weakref.ref(y_fake)
    manager.tick(epoch=0)
    manager.compute_losses({"y_fake": y_fake * 2, "y": y}).total.backward()
    del y_fake
    gc.collect()
    assert leaf() is None


def test_a_map_is_kept_without_a_copy():
    manager = LossManager()
    shared = torch.ones(1, 3, 4, 4)
    manager.register_loss_fn("map", lambda y_fake, y: shared)
    manager.compute_loss_xy("map", shared, shared)
    assert manager._recorder.series["map"].result.data_ptr() == shared.data_ptr()


# Operations on the CPU


def test_beside_the_function_a_call_multiplies_and_takes_one_number():
    manager = logged(lambda x, y: x)
    x = torch.tensor(1.0)
    with Operations() as operations:
        manager.compute_loss_xy("a", x, None)
    assert operations.names == ["mul.Tensor", "_local_scalar_dense.default"]


def called_in(action):
    """Return the files of the Python functions, and the built-in functions, that an action calls."""
    files, builtins = [], []

    def note(frame, event, argument):
        if event == "call":
            files.append(frame.f_code.co_filename)
        elif event == "c_call":
            builtins.append(argument.__name__)

    gc.disable()  # what is freed has nothing to do with the action
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
        gc.enable()
    return files, builtins


@pytest.mark.parametrize("place", [None, "log"])
@pytest.mark.parametrize("schedule", [None, Schedule(end_epoch=5, target_value=0.0)])
def test_a_call_validates_formats_and_writes_nothing(tmp_path, place, schedule):
    manager = LossManager(experiment_dir=tmp_path if place else None, enable_logging=True)
    manager.register_loss_fn("a", lambda x, y: x, 2.0, schedule)
    x = torch.tensor(1.0)
    manager.tick(epoch=1)
    manager.compute_loss_xy("a", x, None)
    files, builtins = called_in(lambda: manager.compute_loss_xy("a", x, None))
    package = Path(nectargan_core.__file__).parent
    ours = {Path(file).name for file in files if package in Path(file).parents}
    others = [file for file in files if package not in Path(file).parents and file != __file__]
    assert ours <= {"manager.py", "_bound.py", "_series.py"}
    assert not [file for file in others if Path(torch.__file__).parent not in Path(file).parents]
    assert len(files) <= 10
    allowed = {
        "mul",
        "item",
        "pack",
        "extend",
        "len",
        "isinstance",
        "monotonic",
        "_current_graph_task_id",
        "setprofile",
    }
    assert set(builtins) <= allowed
    assert not (tmp_path / "loss_log.jsonl").exists()


# How many Python functions, built-in functions and operations of torch a call calls, and the bytes that it takes at its
# peak. Who has to make one of these numbers larger has made each step of each training slower.
COSTS = {
    "tick": (3, 2, 0, 200),
    "compute_loss_xy": (6, 8, 2, 1_000),
    "compute_losses of one": (9, 17, 2, 1_500),
    "compute_losses of eight": (24, 50, 3, 10_000),
    "get_loss_values of eight": (80, 72, 0, 2_000),
}


@pytest.mark.parametrize("what", COSTS)
def test_a_call_on_the_hot_path_does_not_grow(tmp_path, what):
    x = torch.ones((), requires_grad=True)
    inputs = {"y_fake": x, "y": x}
    with LossManager(experiment_dir=tmp_path, flush_every=1e6) as manager:
        for number in range(8):
            manager.register_loss_fn(f"loss{number}", lambda x, y: x, 2.0, tags=["one"] if number == 0 else [])
        actions = {
            "tick": lambda: manager.tick(0.5),
            "compute_loss_xy": lambda: manager.compute_loss_xy("loss0", x, x),
            "compute_losses of one": lambda: manager.compute_losses(inputs, "one").total,
            "compute_losses of eight": lambda: manager.compute_losses(inputs).total,
            "get_loss_values of eight": manager.get_loss_values,
        }
        action = actions[what]
        for _ in range(3):
            manager.tick(0)
            manager.compute_losses(inputs)
            action()
        frames, called = called_in(action)
        with Operations() as done:
            action()
        traced = sys.gettrace()
        sys.settrace(None)  # A measurement of coverage takes memory itself.
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            tracemalloc.reset_peak()
            action()
            taken = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
            sys.settrace(traced)
        found = (len(frames), len(called), len(done.names), taken)
        assert all(one <= limit for one, limit in zip(found, COSTS[what], strict=True)), found


def test_a_thousand_records_take_44_bytes_each():
    manager = logged()
    for _ in range(1000):
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    manager.get_loss_values()
    assert len(manager._recorder.series["a"].rows) == 44 * 1000


@pytest.mark.parametrize("epoch", ["soon", None, [1.0]])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_record_that_fails_is_not_stored_in_part(epoch, shape):
    manager = logged()
    x = torch.ones(shape)
    manager.compute_loss_xy("a", x, None, epoch=1)
    series = manager._recorder.series["a"]
    with pytest.raises(TypeError, match="an epoch a number"):
        series.add(1, epoch, 3.0, x, x * 3.0)
    manager.compute_loss_xy("a", x, None, epoch=2)
    assert (history(manager).epochs, history(manager).steps) == ([1.0, 2.0], [0, 1])
    assert history(manager).losses == [3.0, 3.0]
