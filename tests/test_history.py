"""Recording: the recorded values are those that were returned, for any dtype, shape and mode."""

import gc
import math
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from managers import history, identity, logged, loss, same
from torch import nn

from nectargan_core import LMHistory, LossManager
from nectargan_core.errors import LossResultError, NectarganWarning, SnapshotError

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


# Reported values equal returned values


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
def test_get_loss_tensors_returns_the_result(shape, dtype, weight):
    manager = logged(identity if dtype is not torch.bool else lambda x, y: x, weight=weight)
    result = manager.compute_loss_xy("a", (torch.randn(shape) * 5).to(dtype), None)
    tensor = manager.get_loss_tensors()["a"]
    assert (tensor.dtype, tensor.device) == (result.dtype, result.device)
    assert torch.equal(tensor, result)
    assert not tensor.requires_grad


def test_an_integer_result_is_weighted_as_a_number():
    manager = logged(lambda x, y: (x != y).sum(), weight=0.5)
    result = manager.compute_loss_xy("a", torch.arange(3), torch.zeros(3))
    assert (result.item(), manager.get_loss_values(), history(manager).unweighted) == (1.0, {"a": 1.0}, [2.0])


@given(st.floats(width=32), st.floats(-1e30, 1e30))
@example(math.inf, 1e-232)
def test_any_float32_under_any_weight_is_reported_exactly(value, weight):
    manager = logged(weight=weight, nonfinite="ignore")
    result = manager.compute_loss_xy("a", torch.tensor(value), None)
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


def test_the_columns_of_the_history_are_lists():
    manager = logged()
    manager.compute_loss_xy("a", torch.tensor(1.0), None)
    for field in LMHistory.model_fields:
        assert isinstance(getattr(history(manager), field), list)


def test_a_history_cannot_be_changed():
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


def test_records_in_memory_are_never_dropped():
    manager = logged(weight=1.0, history_buffer_size=2)
    for value in range(7):
        manager.compute_loss_xy("a", torch.tensor(float(value)), None)
    manager.update_loss_log()
    assert history(manager).losses == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_weight_of_zero_is_recorded_with_loss_zero_and_unweighted_nan():
    manager = logged(weight=0.0)
    manager.compute_loss_xy("a", torch.tensor(5.0), None)
    assert (history(manager).losses, history(manager).weights) == ([0.0], [0.0])
    assert math.isnan(history(manager).unweighted[0])


def test_the_dtype_may_change_during_a_run():
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


@pytest.mark.parametrize("dtype", FLOATS)
def test_steps_beyond_32_bits_are_recorded(dtype):
    manager = logged()
    for step in (1, 2**32 - 1, 2**32, 2**63 - 1):
        manager.tick(step=step)
        manager.compute_loss_xy("a", torch.tensor(1.0, dtype=dtype), None)
    assert history(manager).steps == [1, 2**32 - 1, 2**32, 2**63 - 1]


@pytest.mark.parametrize("dtype", FLOATS)
def test_a_call_with_an_invalid_epoch_records_nothing(dtype):
    manager = logged()
    with pytest.raises(ValueError, match="epoch must be a finite number of at least 0, got 'third'"):
        manager.compute_loss_xy("a", torch.tensor(1.0, dtype=dtype), None, epoch="third")
    manager.compute_loss_xy("a", torch.tensor(1.0, dtype=dtype), None)
    assert {len(getattr(history(manager), field)) for field in LMHistory.model_fields} == {1}


def test_a_complex_result_is_an_error_naming_loss_and_epoch_and_records_nothing():
    manager = logged()
    with pytest.raises(LossResultError, match=r"loss 'a' returned a tensor of torch.complex64 at epoch 4") as caught:
        manager.compute_loss_xy("a", torch.tensor(1j), None, epoch=4)
    assert caught.value.loss_name == "a"
    assert history(manager) == LMHistory()


@pytest.mark.parametrize("result", [None, 1.0, [torch.tensor(1.0)], "1"])
@pytest.mark.parametrize("skip", [True, False])
def test_a_result_that_is_not_a_tensor_is_an_error_naming_loss_and_epoch(result, skip):
    manager = LossManager()
    manager.register_spec(lambda: {"a": loss(lambda x, y: result, loss_weight=float(skip), skip_when_zero=skip)})
    with pytest.raises(LossResultError, match=f"loss 'a' returned {type(result).__name__} .* at epoch 4"):
        manager.compute_loss_xy("a", torch.zeros(1), torch.zeros(1), epoch=4)


# Tensors, graphs and modes


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


def test_the_default_device_of_the_caller_changes_nothing():
    manager = logged(weight=2.0)
    manager.register_loss_fn("never", identity)
    manager.compute_loss_xy("a", torch.tensor(1.5), None)
    with torch.device("meta"):
        assert manager.get_loss_values()["a"] == 3.0
        assert manager.get_loss_tensors()["a"].item() == 3.0
        assert manager.get_loss_tensors()["never"].is_cpu


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
def test_a_result_that_was_finite_is_not_warned_of(value, weight):
    manager = LossManager(enable_logging=True)
    manager.register_spec(lambda: {"a": loss(identity, loss_weight=weight, skip_when_zero=False)})
    result = manager.compute_loss_xy("a", torch.tensor(value), None)
    assert math.isfinite(result.item())
    assert manager.get_loss_values(precision=None) == {"a": result.item()}


# Interrupts and threads


class Interrupted(BaseException):
    """Stands for the exception of a signal handler."""


def interrupting(at):
    """Return a trace function that raises before the given instruction of `Series`."""
    seen = iter(range(10**6))

    def trace(frame, event, argument):
        if Path(frame.f_code.co_filename).name != "_series.py":
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and next(seen) == at:
            raise Interrupted
        return trace

    return trace


@pytest.mark.parametrize("make", [lambda value: value, lambda value: value.double(), lambda value: value.expand(2)])
def test_an_interrupt_at_any_instruction_leaves_whole_records(make):
    for at in range(10**4):
        manager = logged(weight=2.0)
        values = [make(torch.tensor(float(number))) for number in range(3)]
        manager.compute_loss_xy("a", values[1], None, epoch=1)
        before = sys.gettrace()  # that of a coverage measurement
        # Python 3.12 sends these events only if a frame has asked for them when tracing begins.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(interrupting(at))
        try:
            manager.compute_loss_xy("a", values[2], None, epoch=2)
        except Interrupted:
            interrupted = True
        else:
            interrupted = False
        finally:
            sys.settrace(before)
        manager.compute_loss_xy("a", values[1], None, epoch=1)
        records = manager.series("a")
        assert records.unweighted.tolist() in ([1.0, 1.0], [1.0, 2.0, 1.0])
        assert records.loss.tolist() == [2 * value for value in records.unweighted]
        assert records.epoch.tolist() == records.unweighted.tolist()
        if not interrupted:
            break
    assert at > 20


def test_threads_that_compute_while_others_read_lose_no_record():
    manager = logged(weight=2.0)
    manager.tick(epoch=0)
    done = threading.Event()

    def compute(number):
        for _ in range(500):
            manager.compute_loss_xy("a", torch.tensor(float(number)), None, epoch=number)

    def read():
        while not done.is_set():
            records = manager.series("a")
            assert records.loss.tolist() == [2 * value for value in records.unweighted]
            assert records.epoch.tolist() == records.unweighted.tolist()

    with ThreadPoolExecutor(5) as pool:
        reader = pool.submit(read)
        computing = [pool.submit(compute, number) for number in range(1, 5)]
        for each in computing:
            each.result()
        done.set()
        reader.result()
    counted = Counter(manager.series("a").unweighted.tolist())
    assert counted == {float(number): 500 for number in range(1, 5)}
