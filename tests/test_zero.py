"""A loss of weight 0: exactly 0, with a gradient of exactly 0 to all that it was given, and uncalled."""

import copy
import functools
import math
import subprocess
import sys

import pytest
import torch
from managers import history
from torch import nn
from torch.utils.checkpoint import checkpoint

from nectargan_core import LMLoss, LossManager, Schedule
from nectargan_core.losses._zero import connected_zero

INF, NAN = math.inf, math.nan


def never(*args, **kwargs):
    raise AssertionError("the function of a loss of weight 0 was called")


def idle(function=never, **fields):
    manager = LossManager(enable_logging=True)
    manager.register_spec(lambda: {"a": LMLoss(name="a", function=function, loss_weight=0.0, **fields)})
    return manager


def needing(value, shape=(3,), dtype=torch.float32):
    return torch.full(shape, value, dtype=dtype, requires_grad=True)


# What it is


@pytest.mark.parametrize("value", [1.0, INF, -INF, NAN, 0.0])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (1, 3, 4, 4)])
def test_it_is_zero_with_a_gradient_of_zero_whatever_the_inputs_hold(value, shape):
    x, y = needing(value, shape), needing(-value, shape)
    result = idle().compute_loss_xy("a", x, y)
    result.backward()
    assert (result.item(), result.shape) == (0.0, ())
    assert x.grad.tolist() == y.grad.tolist() == torch.zeros(shape).tolist()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64])
def test_it_is_connected_to_tensors_of_any_dtype(dtype):
    x = needing(1.0, dtype=dtype)
    idle().compute_loss_xy("a", x, None).backward()
    assert x.grad.dtype == dtype
    assert not x.grad.any()


def test_it_is_connected_to_tensors_inside_lists_tuples_and_dicts():
    tensors = [needing(INF) for _ in range(4)]
    nested = [tensors[0], (tensors[1], {"deep": [tensors[2]]})]
    idle().compute_loss("a", nested, function_kwargs={"extra": {"x": tensors[3]}}).backward()
    assert all(tensor.grad.tolist() == [0.0] * 3 for tensor in tensors)


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: module.forward, functools.partial])
def test_it_is_connected_to_the_parameters_of_a_loss_that_is_a_module(wrap):
    module = nn.Linear(3, 1)
    idle(wrap(module), inputs=("y_fake",)).compute_loss("a", torch.ones(3)).backward()
    assert module.weight.grad.tolist() == [[0.0] * 3]


def test_it_is_connected_to_a_sparse_tensor():
    x = torch.eye(2).to_sparse().requires_grad_()
    idle().compute_loss_xy("a", x, None).backward()
    assert not x.grad.to_dense().any()


def test_it_is_connected_twice():
    x = needing(INF)
    (gradient,) = torch.autograd.grad(idle().compute_loss_xy("a", x, None), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), x)
    assert second.tolist() == [0.0] * 3


def test_it_can_be_mapped_and_checkpointed():
    zeros = torch.func.vmap(torch.func.grad(lambda x: connected_zero([x])))(torch.full((4, 3), INF))
    assert zeros.tolist() == [[0.0] * 3] * 4
    x = needing(INF)
    checkpoint(lambda x: connected_zero([x * 1]), x, use_reentrant=False).backward()
    assert x.grad.tolist() == [0.0] * 3


def test_without_gradients_it_is_connected_to_nothing():
    with torch.no_grad():
        assert not idle().compute_loss_xy("a", needing(1.0), None).requires_grad


def test_in_place_edits_of_it_concern_nobody_else():
    manager, x = idle(), needing(1.0)
    manager.compute_loss_xy("a", x, None).add_(5)
    assert manager.compute_loss_xy("a", x, None).item() == manager.get_loss_values()["a"] == 0.0


# What needs it


def test_a_gradient_of_the_total_can_be_taken_for_any_parameter():
    network = nn.Linear(3, 3)
    manager = idle()
    total = manager.compute_losses({"y_fake": network(torch.ones(3)), "y": torch.ones(3)}).total
    gradients = torch.autograd.grad(total, list(network.parameters()))
    assert not any(gradient.any() for gradient in gradients)


def test_a_gradient_scaler_can_step():
    network = nn.Linear(3, 3)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    before = copy.deepcopy(network.state_dict())
    scaler.scale(idle().compute_loss_xy("a", network(torch.ones(3)), torch.ones(3))).backward()
    scaler.step(optimizer)
    scaler.update()
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


DISTRIBUTED = """
import sys, torch
from torch import nn
from nectargan_core import LossManager

class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.first(x), self.second(x)

def train():
    network = nn.parallel.DistributedDataParallel(Heads())
    manager = LossManager()
    manager.register_loss_fn("used", nn.L1Loss(), inputs=("first", "y"))
    manager.register_loss_fn("idle", nn.L1Loss(), 0.0, inputs=("second", "y"))
    for _ in range(3):
        first, second = network(torch.ones(2, 3))
        manager.compute_losses({"first": first, "second": second, "y": torch.zeros(2, 3)}).total.backward()
    print(network.module.second.weight.grad.abs().sum().item())

torch.distributed.init_process_group("gloo", f"file://{sys.argv[1]}", rank=0, world_size=1)
train()
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_distributed_training_finds_no_unused_head(tmp_path):
    # In a process of its own: what is left of a process group can hold up the process that it was in.
    command = [sys.executable, "-c", DISTRIBUTED, tmp_path / "store"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout) == (0, "0.0\n"), done.stderr


# Lazy inputs


def two(idle_first):
    manager = LossManager(enable_logging=True)
    losses = [
        LMLoss(name="idle", function=never, loss_weight=0.0, inputs=("pred_fake",), tags=["I"]),
        LMLoss(name="used", function=torch.mean, inputs=("pred_fake",)),
    ]
    manager.register_spec(lambda: {loss.name: loss for loss in losses[:: 1 if idle_first else -1]})
    return manager


@pytest.mark.parametrize("idle_first", [True, False])
def test_a_skipped_loss_is_connected_to_a_lazy_input_that_another_one_called(idle_first):
    x, calls = needing(1.0), []
    losses = two(idle_first).compute_losses({"pred_fake": lambda: calls.append(1) or x * 2})
    assert list(losses) == (["idle", "used"] if idle_first else ["used", "idle"])
    losses["idle"].backward(retain_graph=True)
    assert (x.grad.tolist(), calls, losses.ran) == ([0.0] * 3, [1], ("used",))
    losses.total.backward()


def test_a_skipped_loss_never_calls_a_lazy_input():
    losses = two(True).compute_losses({"pred_fake": never}, query="I")
    assert (losses.total.item(), losses.ran) == (0.0, ())
    losses.total.backward()


def test_a_skipped_loss_needs_no_inputs():
    assert two(True).compute_losses({}, query="I").total.item() == 0.0


# Running all the same


@pytest.mark.parametrize("function", [lambda x, y: x.sqrt().sum(), lambda x, y: (1 / x).sum(), lambda x, y: x.log()])
def test_a_function_that_runs_at_weight_zero_gets_no_infinite_gradient_through(function):
    x = needing(0.0)
    manager = idle(function, skip_when_zero=False)
    result = manager.compute_loss_xy("a", x, None).sum()
    result.backward()
    assert (result.item(), x.grad.tolist()) == (0.0, [0.0] * 3)
    assert manager.compute_losses({"y_fake": x, "y": x}).ran == ("a",)


def test_a_function_that_runs_at_weight_zero_can_differentiate_its_inputs():
    def penalty(x, y):
        (gradient,) = torch.autograd.grad((x**2).sum(), x, create_graph=True)
        return gradient.norm()

    manager, x = idle(penalty, skip_when_zero=False), needing(1.0)
    manager.compute_loss_xy("a", x, None).backward()
    assert x.grad.tolist() == [0.0] * 3
    assert history(manager).unweighted == pytest.approx([2 * math.sqrt(3)])


# Means


def test_means_are_over_the_records_in_which_the_function_ran():
    manager = LossManager(enable_logging=True)
    lazy = Schedule(lambda schedule, epoch: float(epoch % 16 == 0), unit="step")
    manager.register_loss_fn("R1", lambda x, y: x.sum(), schedule=lazy)
    manager.register_loss_fn("never", lambda x, y: x.sum(), 0.0)
    for _ in range(64):
        manager.tick(epoch=0)
        for name in ("R1", "never"):
            manager.compute_loss_xy(name, torch.ones(1), None)
    assert manager.means()["R1"] == 1.0
    assert math.isnan(manager.means()["never"])
    with manager.split("val"):
        manager.compute_loss_xy("never", torch.ones(1), None)
        assert math.isnan(manager.means("never")["never"])


def test_means_after_a_flush_leave_out_skipped_records_too(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", lambda x, y: x.sum(), 2.0)
        for weight in (2.0, 0.0, 4.0, 0.0):
            manager.set_weight("a", weight)
            manager.compute_loss_xy("a", torch.ones(1), None)
            manager.update_loss_log()
        assert manager.means() == {"a": 3.0}
