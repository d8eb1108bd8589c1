"""The loss call: on a device it waits for nothing and copies nothing, and on the CPU it does no more than it must."""

import math
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from managers import history, identity, logged, same
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from nectargan_core import LossManager, Schedule

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


class OnDevice(torch.Tensor):
    """A tensor that is on an accelerator as far as anybody can tell, and notes what is done there."""

    done: ClassVar[list[str]] = []

    @staticmethod
    def __new__(cls, inner):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=torch.device("cuda:0")
        )
        tensor.inner = inner
        return tensor

    def tolist(self):
        self.done.append("tolist")
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        cls.done.append(function.__name__.partition(".")[0])
        args, kwargs = tree_map(lambda each: each.inner if isinstance(each, cls) else each, (args, kwargs or {}))
        result = function(*args, **kwargs)
        return tree_map(lambda each: cls(each) if isinstance(each, torch.Tensor) else each, result)


@pytest.fixture
def done():
    """What has been done on the device since the test began."""
    OnDevice.done = []
    return OnDevice.done


# On a device


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("shape", [(), (2, 2)])
def test_a_thousand_steps_on_a_device_wait_for_nothing_and_copy_nothing(done, logging, shape):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 3.0)
    x = OnDevice(torch.rand(shape))
    for _ in range(1000):
        manager.compute_loss_xy("a", x, None)
    # mul is the loss and its weight; the others make no copy of a map and read no number.
    assert set(done) <= {"mul", "detach", "mean", "stack"}
    assert done.count("mul") == 2000
    assert done.count("stack") <= 2 * math.ceil(1000 / 64)


def test_asking_waits_once_however_many_losses_there_are(done):
    manager = LossManager(enable_logging=True)
    for name in "abcdefgh":
        manager.register_loss_fn(name, identity, 3.0)
    for _ in range(100):
        for name in "abcdefgh":
            manager.compute_loss_xy(name, OnDevice(torch.tensor(2.0)), None)
    assert set(manager.get_loss_values().values()) == {6.0}
    assert done.count("tolist") == 1
    assert "_local_scalar_dense" not in done


def test_asking_again_does_not_wait(done):
    manager = logged()
    manager.compute_loss_xy("a", OnDevice(torch.tensor(2.0)), None)
    manager.get_loss_values()
    manager.get_loss_values()
    assert done.count("tolist") == 1


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_what_a_device_computed_is_reported_exactly(logging, dtype, shape):
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


def test_the_device_and_dtype_may_change_in_mid_run():
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


def test_the_newest_value_known_is_told_without_waiting(done):
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


def test_a_recorded_scalar_on_a_device_is_what_it_was_then():
    manager = logged()
    rate = OnDevice(torch.tensor(0.5))
    manager.record("rate", rate)
    rate.zero_()
    assert manager.series("rate").loss.tolist() == [0.5]


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_the_meta_device_has_no_values_and_no_harm_comes_of_it(reduction):
    manager = logged(nn.L1Loss(reduction=reduction))
    x = torch.zeros(3, device="meta")
    for _ in range(100):
        manager.compute_loss_xy("a", x, x)
    assert math.isnan(manager.get_loss_values()["a"])
    assert manager.get_loss_tensors()["a"].is_meta
    assert len(history(manager).losses) == 100


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_no_call_synchronises_with_a_cuda_device():
    manager = logged(nn.L1Loss())
    x, y = torch.rand(3, device="cuda"), torch.rand(3, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(300):
            result = manager.compute_loss_xy("a", x, y)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert manager.get_loss_values(precision=None) == {"a": result.item()}


# What a call does not do


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.__name__)
        return function(*args, **(kwargs or {}))


def test_beside_the_function_a_call_multiplies_and_takes_one_number():
    manager = logged(lambda x, y: x)
    x = torch.tensor(1.0)
    with Operations() as operations:
        manager.compute_loss_xy("a", x, None)
    assert operations.names == ["mul.Tensor", "_local_scalar_dense.default"]


def called_in(action):
    """The files in which Python functions are called during an action, and the built-in functions called."""
    files, builtins = [], set()

    def note(frame, event, argument):
        if event == "call":
            files.append(frame.f_code.co_filename)
        elif event == "c_call":
            builtins.add(argument.__name__)

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
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
    ours = {Path(file).name for file in files if Path(file).parent.name == "nectargan_core"}
    others = [file for file in files if Path(file).parent.name != "nectargan_core" and file != __file__]
    assert ours <= {"manager.py", "bound.py", "history.py"}
    assert not [file for file in others if Path(torch.__file__).parent not in Path(file).parents]
    assert len(files) <= 10
    assert builtins <= {"mul", "item", "append", "len", "isinstance", "monotonic", "is_complex", "setprofile"}
    assert not (tmp_path / "loss_log.jsonl").exists()


def test_a_thousand_records_take_36_bytes_each():
    manager = logged()
    for _ in range(1000):
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    manager.get_loss_values()
    series = manager._losses["a"].series
    columns = (series.steps, series._epochs, series._losses, series._weights, series._unweighted)
    assert sum(column.itemsize * len(column) for column in columns) == 36 * 1000
