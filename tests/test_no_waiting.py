"""No loss call waits for a device, copies a map, or keeps a graph alive."""

from __future__ import annotations

import gc
import math
import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nectargan_core import LossManager, Schedule, hookimpl
from nectargan_core.errors import NonFiniteLossError

LOSSES = {
    "scalar": torch.nn.L1Loss(),
    "map": torch.nn.L1Loss(reduction="none"),
    "scheduled": torch.nn.MSELoss(),
}
WAITS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal", "aten::nonzero"}
COPIES = {"aten::_to_copy", "aten::copy_", "aten::clone"}


class Operations(TorchDispatchMode):
    """Collects the names of the operators that are called."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name)
        return function(*args, **(kwargs or {}))


def make(**keywords):
    manager = LossManager(**keywords)
    for name, function in LOSSES.items():
        schedule = Schedule(end_epoch=2000, target_value=0.0) if name == "scheduled" else None
        manager.register_loss_fn(name, function, schedule=schedule)
    return manager


def train(manager, steps, device):
    y = torch.ones(1, 3, 4, 4, device=device)
    for step in range(steps):
        manager.tick(epoch=step)
        y_fake = torch.zeros(1, 3, 4, 4, device=device, requires_grad=True)
        manager.compute_losses({"y_fake": y_fake, "y": y}).total.backward()


@pytest.mark.parametrize("logging", [True, False])
def test_a_thousand_steps_on_the_meta_device_read_nothing(tmp_path, logging):
    with make(experiment_dir=tmp_path, enable_logging=logging) as manager:
        train(manager, 1000, "meta")
        assert all(math.isnan(value) for value in manager.get_loss_values().values())


@pytest.mark.parametrize("logging", [True, False])
def test_off_the_cpu_a_call_neither_waits_nor_copies(logging):
    manager = make(enable_logging=logging)
    train(manager, 1, "meta")
    y_fake, y = torch.zeros(2, 1, 3, 4, 4, device="meta", requires_grad=True).unbind()
    with Operations() as operations:
        for step in range(200):
            manager.tick(epoch=step)
            manager.compute_losses({"y_fake": y_fake, "y": y})
    assert not WAITS & set(operations.names)
    assert not COPIES & set(operations.names)


def test_off_the_cpu_scalars_collect_in_blocks():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("scalar", lambda y_fake, y: y_fake)
    x = torch.zeros((), device="meta")
    for _ in range(640):
        manager.compute_loss_xy("scalar", x, x)
    series = manager._recorder.series["scalar"]
    assert len(series._blocks) == 10
    assert not series._pending


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("logging", [True, False])
def test_nothing_keeps_the_graph_alive(device, logging):
    manager = make(enable_logging=logging)
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("logging", [True, False])
def test_on_cuda_a_call_never_synchronises(tmp_path, logging):
    with make(experiment_dir=tmp_path, enable_logging=logging) as manager:
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


class Elsewhere(torch.Tensor):
    """A tensor that can be read, and counts as one on a device."""

    @property
    def is_cpu(self):
        return False


def elsewhere(value):
    return torch.tensor(value).as_subclass(Elsewhere)


def test_an_observer_of_a_bad_value_may_flush(tmp_path):
    class Flushes:
        @hookimpl
        def nectargan_nonfinite_loss(self, manager):
            manager.update_loss_log()

    with LossManager(experiment_dir=tmp_path, plugins=[Flushes()], nonfinite="ignore") as manager:
        manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
        for value in (1.0, math.inf, 3.0, 4.0):
            manager.compute_loss_xy("loss", elsewhere(value), None)
        manager.update_loss_log()
        assert manager.series("loss").loss.tolist() == [1.0, math.inf, 3.0, 4.0]


@pytest.mark.parametrize("logging", [True, False])
def test_a_bad_value_on_a_device_is_noticed_without_a_log_file(logging):
    manager = LossManager(enable_logging=logging, nonfinite="raise", flush_every=0)
    manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
    with pytest.raises(NonFiniteLossError):
        for _ in range(3):
            manager.compute_loss_xy("loss", elsewhere(math.inf), None)


def test_a_parameter_that_is_a_loss_is_recorded_as_it_was():
    manager = LossManager(enable_logging=True)
    parameter = elsewhere(1.0).requires_grad_()
    manager.register_loss_fn("loss", lambda y_fake, y: y_fake)
    manager.compute_loss_xy("loss", parameter, None)
    with torch.no_grad():
        parameter.add_(41)
    assert manager.get_loss_values() == {"loss": 1.0}
