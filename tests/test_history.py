"""Recording: what is remembered of a loss is what was returned, whatever it was made of, and costs nothing else."""

import gc
import math
import sys
import weakref
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from nectargan_core import LMHistory, LMLoss, LossManager, Schedule
from nectargan_core.errors import LossResultError, NectarganWarning, SnapshotError

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


def identity(x, y):
    return x * 1


def logged(function=identity, weight=3.0, **kwargs):
    manager = LossManager(enable_logging=True, **kwargs)
    manager.register_loss_fn("a", function, weight)
    return manager


def history(manager, name="a"):
    return manager.get_registered_losses(strip=False)[name].history


def loss(function, **kwargs):
    return LMLoss(name="a", function=function, **kwargs)


def same(left, right):
    return left == right or (math.isnan(left) and math.isnan(right))


# What is reported is what was returned


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("logging", [True, False])
def test_the_value_of_a_scalar_is_that_of_the_result_in_its_own_dtype(dtype, logging):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 1 / 3)
    for value in (0.1, -7.7, 1e-7, 123.456):
        result = manager.compute_loss_xy("a", torch.tensor(value, dtype=dtype), None)
        assert result.dtype == dtype
        assert manager.get_loss_values(precision=None) == {"a": result.item()}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(1,), (1, 1), (2, 3), (2, 1, 8, 8)])
def test_the_value_of_a_map_is_its_mean_in_its_own_dtype(dtype, shape):
    manager = logged(weight=1 / 3)
    result = manager.compute_loss_xy("a", torch.randn(shape).to(dtype), None)
    assert result.shape == shape
    assert manager.get_loss_values(precision=None) == {"a": result.mean().item()}


@pytest.mark.parametrize("shape", [(), (1,), (4, 4)])
@pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.bool])
@pytest.mark.parametrize("weight", [0.5, 0.0])
def test_the_tensor_is_the_result(shape, dtype, weight):
    manager = logged(identity if dtype is not torch.bool else lambda x, y: x, weight=weight)
    result = manager.compute_loss_xy("a", (torch.randn(shape) * 5).to(dtype), None)
    tensor = manager.get_loss_tensors()["a"]
    assert (tensor.dtype, tensor.device) == (result.dtype, result.device)
    assert torch.equal(tensor, result)
    assert not tensor.requires_grad


def test_an_integer_result_is_weighed_as_a_number():
    manager = logged(lambda x, y: (x != y).sum(), weight=0.5)
    result = manager.compute_loss_xy("a", torch.arange(3), torch.zeros(3))
    assert (result.item(), manager.get_loss_values(), history(manager).unweighted) == (1.0, {"a": 1.0}, [2.0])


@given(st.floats(width=32), st.floats(-1e30, 1e30))
def test_any_float32_under_any_weight_is_reported_exactly(value, weight):
    manager = logged(weight=weight, nonfinite="ignore")
    result = manager.compute_loss_xy("a", torch.tensor(value), None)
    assert same(manager.get_loss_values(precision=None)["a"], result.item())


@given(st.floats(width=16), st.floats(1e-4, 1e4), st.sampled_from([torch.float16, torch.bfloat16]))
def test_any_half_on_a_device_is_reported_exactly(value, weight, dtype):
    manager = logged(weight=weight, nonfinite="ignore")
    result = manager.compute_loss_xy("a", OnDevice(torch.tensor(value, dtype=dtype)), None)
    assert same(manager.get_loss_values(precision=None)["a"], result.item())


def test_a_half_that_overflowed_is_reported_as_infinite():
    manager = logged(weight=1000.0, nonfinite="ignore")
    manager.compute_loss_xy("a", torch.tensor(100.0, dtype=torch.float16), None)
    assert (history(manager).losses, history(manager).unweighted) == ([math.inf], [100.0])


def test_values_are_rounded_to_two_digits_unless_asked_otherwise():
    manager = logged(weight=1.0)
    manager.compute_loss_xy("a", torch.tensor(1.23456, dtype=torch.float64), None)
    assert manager.get_loss_values() == {"a": 1.23}
    assert manager.get_loss_values(precision=4) == {"a": 1.2346}
    assert manager.get_loss_values(precision=None) == {"a": 1.23456}


# The history


def test_a_record_is_loss_weight_unweighted_step_and_epoch():
    manager = logged(weight=2.0)
    manager.tick(epoch=3, step=7)
    manager.compute_loss_xy("a", torch.tensor(1.5), None)
    assert history(manager) == LMHistory(losses=[3.0], weights=[2.0], unweighted=[1.5], steps=[7], epochs=[3.0])


def test_the_history_is_lists_when_read():
    manager = logged()
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    for field in LMHistory.model_fields:
        assert isinstance(getattr(history(manager), field), list)


def test_what_is_read_cannot_be_changed():
    manager = logged()
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    with pytest.raises(SnapshotError):
        history(manager).losses.append(1.0)


def test_without_logging_only_the_last_record_is_kept():
    manager = LossManager()
    manager.register_loss_fn("a", identity, 2.0)
    for value in (1.0, 2.0, 3.0):
        manager.compute_loss_xy("a", torch.tensor(value), None)
    assert history(manager) == LMHistory(losses=[6.0], weights=[2.0], unweighted=[3.0], steps=[2], epochs=[0.0])


def test_in_memory_nothing_is_ever_dropped():
    manager = logged(weight=1.0, history_buffer_size=2)
    for value in range(7):
        manager.compute_loss_xy("a", torch.tensor(float(value)), None)
    manager.update_loss_log()
    assert history(manager).losses == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_weight_of_zero_is_recorded_as_zero_of_something_unknown():
    manager = logged(weight=0.0)
    manager.compute_loss_xy("a", torch.tensor(5.0), None)
    assert (history(manager).losses, history(manager).weights) == ([0.0], [0.0])
    assert math.isnan(history(manager).unweighted[0])


def test_the_dtype_may_change_in_mid_run():
    manager = logged(weight=1 / 3)
    expected = []
    for value, dtype in zip((0.1, 0.2, 0.3, 0.4, 0.5, 6), [*FLOATS, torch.float32, torch.int64], strict=True):
        expected.append(manager.compute_loss_xy("a", torch.tensor(value, dtype=dtype), None).item())
    assert history(manager).losses == expected


def test_scalars_and_maps_may_alternate():
    manager = logged(weight=1 / 3)
    expected = []
    for shape in ((), (3,), (), (1,), (2, 2), ()):
        expected.append(manager.compute_loss_xy("a", torch.rand(shape), None).mean().item())
    assert history(manager).losses == expected


def test_steps_beyond_32_bits_are_recorded():
    manager = logged()
    for step in (1, 2**32 - 1, 2**32, 2**63 - 1):
        manager.tick(step=step)
        manager.compute_loss_xy("a", torch.tensor(1.0), None)
    assert history(manager).steps == [1, 2**32 - 1, 2**32, 2**63 - 1]


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_epoch_that_is_no_number_leaves_no_trace(dtype):
    manager = logged()
    with pytest.raises(TypeError):
        manager.compute_loss_xy("a", torch.tensor(1.0, dtype=dtype), None, epoch="third")
    manager.compute_loss_xy("a", torch.tensor(1.0, dtype=dtype), None)
    assert {len(getattr(history(manager), field)) for field in LMHistory.model_fields} == {1}


def test_a_complex_result_is_an_error_naming_loss_and_epoch_and_leaves_no_trace():
    manager = logged()
    with pytest.raises(LossResultError, match=r"loss 'a' returned a tensor of torch.complex64 at epoch 4") as caught:
        manager.compute_loss_xy("a", torch.tensor(1j), None, epoch=4)
    assert caught.value.loss_name == "a"
    assert history(manager) == LMHistory()


@pytest.mark.parametrize("result", [None, 1.0, [torch.tensor(1.0)], "1"])
@pytest.mark.parametrize("skip", [True, False])
def test_a_result_that_is_no_tensor_is_an_error_naming_loss_and_epoch(result, skip):
    manager = LossManager()
    manager.register_spec(lambda: {"a": loss(lambda x, y: result, loss_weight=float(skip), skip_when_zero=skip)})
    with pytest.raises(LossResultError, match=f"loss 'a' returned {type(result).__name__} .* at epoch 4"):
        manager.compute_loss_xy("a", torch.zeros(1), torch.zeros(1), epoch=4)


# Where the tensors come from, and where they go


def test_editing_the_result_in_place_changes_nothing_recorded():
    manager = logged(weight=2.0)
    for shape in ((), (3,)):
        result = manager.compute_loss_xy("a", torch.ones(shape), None)
        result.zero_()
        assert manager.get_loss_values() == {"a": 2.0}
        assert torch.equal(manager.get_loss_tensors()["a"], torch.full(shape, 2.0))


def test_editing_what_a_getter_returned_changes_nothing():
    manager = logged(weight=2.0)
    for shape in ((), (3,)):
        manager.compute_loss_xy("a", torch.ones(shape), None)
        manager.get_loss_tensors()["a"].zero_()
        manager.get_registered_losses()["a"].last_loss_map.zero_()
        assert torch.equal(manager.get_loss_tensors()["a"], torch.full(shape, 2.0))


class Kept:
    """A tensor that the graph keeps for backward, and with it this object."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("shape", [(), (4, 4)])
def test_no_graph_is_kept_alive(logging, shape):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 2.0)
    saved = []

    def pack(tensor):
        saved.append(weakref.ref(kept := Kept(tensor.detach())))
        return kept

    x = torch.ones(shape, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda kept: kept.tensor):
        result = manager.compute_loss_xy("a", x.exp(), None)
    assert [kept() for kept in saved] != [None] * len(saved)
    del result
    gc.collect()
    assert [kept() for kept in saved] == [None] * len(saved)
    assert manager.get_loss_tensors()["a"].grad_fn is None


def test_gradients_are_those_of_the_weighted_function():
    manager = logged(nn.MSELoss(), weight=7.0)
    x = torch.randn(5, dtype=torch.float64, requires_grad=True)
    y = torch.randn(5, dtype=torch.float64)
    manager.compute_loss_xy("a", x, y).backward()
    assert torch.allclose(x.grad, 7.0 * 2 * (x.detach() - y) / 5)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_records_in_inference_mode_and_reads_outside(shape):
    manager = logged(weight=2.0)
    with torch.inference_mode():
        manager.compute_loss_xy("a", torch.ones(shape), None)
    assert manager.get_loss_values() == {"a": 2.0}
    assert torch.equal(manager.get_loss_tensors()["a"], torch.full(shape, 2.0))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_weight_of_zero_is_computed_without_gradients_too(mode):
    manager = logged(weight=0.0)
    with mode():
        assert manager.compute_loss_xy("a", torch.ones(3), None).item() == 0.0


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_records_under_autocast_what_autocast_made(reduction):
    linear = nn.Linear(4, 4)
    manager = logged(lambda x, y: nn.functional.l1_loss(linear(x), y.to(linear(x).dtype), reduction=reduction))
    with torch.autocast("cpu", torch.bfloat16):
        result = manager.compute_loss_xy("a", torch.randn(2, 4), torch.randn(2, 4))
        assert manager.get_loss_values(precision=None) == {"a": result.mean().item()}
    assert manager.get_loss_tensors()["a"].dtype == result.dtype


def test_the_default_device_of_whoever_asks_changes_nothing():
    manager = logged(weight=2.0)
    manager.register_loss_fn("never", identity)
    manager.compute_loss_xy("a", torch.tensor(1.5), None)
    with torch.device("meta"):
        assert manager.get_loss_values()["a"] == 3.0
        assert manager.get_loss_tensors()["a"].item() == 3.0
        assert manager.get_loss_tensors()["never"].is_cpu


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
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_what_a_device_computed_is_reported_exactly(logging, dtype, shape):
    manager = LossManager(enable_logging=logging)
    manager.register_loss_fn("a", identity, 1 / 3)
    result = manager.compute_loss_xy("a", OnDevice(torch.rand(shape).to(dtype)), None)
    assert manager.get_loss_values(precision=None) == {"a": result.mean().item()}
    tensor = manager.get_loss_tensors()["a"]
    assert (tensor.device, tensor.dtype) == (result.device, dtype)
    assert torch.equal(tensor.inner, result.inner)


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


# Values that are nan or infinite


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_value_that_is_not_finite_is_warned_of_once_per_loss(value, dtype, shape):
    manager = logged()
    bad = torch.full(shape, value, dtype=dtype)
    manager.tick(epoch=1, step=5)
    with pytest.warns(NectarganWarning, match=r"loss 'a' became -?(nan|inf) at step 5, epoch 1"):
        manager.compute_loss_xy("a", bad, None)
    manager.compute_loss_xy("a", bad, None)


@pytest.mark.parametrize(
    ("value", "weight"), [(math.inf, 0.0), (math.nan, 0.0), (torch.finfo(torch.float32).max, 1 + 1e-12)]
)
def test_what_was_returned_finite_is_not_warned_of(value, weight):
    manager = LossManager(enable_logging=True)
    manager.register_spec(lambda: {"a": loss(identity, loss_weight=weight, skip_when_zero=False)})
    result = manager.compute_loss_xy("a", torch.tensor(value), None)
    assert math.isfinite(result.item())
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
    assert {Path(file).name for file in files} <= {
        "manager.py",
        "bound.py",
        "history.py",
        Path(__file__).name,
    }
    assert len(files) <= 8
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
