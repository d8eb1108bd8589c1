"""Inside torch.compile every loss is weighted and recorded, with one graph for every weight, step and epoch."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from packaging.version import Version
from torch._dynamo.utils import counters

from nectargan_core import LossManager, Schedule
from nectargan_core.errors import NectarganError

TORCH = Version(torch.__version__)
BACKENDS = ["eager", "aot_eager", pytest.param("inductor", marks=pytest.mark.slow)]

# Warnings that torch causes itself while it compiles.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch"),
]


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def make(dtype=torch.float32):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("L1", torch.nn.L1Loss(), loss_weight=3.0, tags=["G"])
    manager.register_loss_fn(
        "decaying", torch.nn.MSELoss(), schedule=Schedule(end_epoch=10, initial_value=0.1, target_value=5.0), tags=["G"]
    )
    manager.register_loss_fn("map", torch.nn.L1Loss(reduction="none"), loss_weight=0.7, tags=["G"])
    return manager


def train(manager, step, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    gradients = []
    for number in range(6):
        x, y = torch.rand(2, 3, 4, generator=generator, dtype=torch.float32).to(dtype).unbind()
        x = x.clone().requires_grad_()
        manager.tick(epoch=number)
        step(manager, x, y).backward()
        gradients.append(x.grad)
    return gradients


def by_name(manager, x, y):
    return sum(manager.compute_loss_xy(name, x, y).mean() for name in ("L1", "decaying", "map", "L1"))


def together(manager, x, y):
    return manager.compute_losses({"y_fake": x, "y": y}, query="G").total


NO_DICTS = pytest.mark.skipif(Version("2.7") > TORCH, reason="the compiler cannot make a subclass of dict there")
STEPS = [by_name, pytest.param(together, marks=NO_DICTS)]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_compiled_step_records_and_returns_what_an_ordinary_one_does(step, backend, dtype):
    ordinary, compiled = make(), make()
    expected = train(ordinary, step, dtype)
    gradients = train(compiled, torch.compile(step, backend=backend, fullgraph=True), dtype)
    tolerance = 2e-2 if dtype is torch.bfloat16 else 1e-6
    for gradient, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=tolerance, atol=tolerance)
    for name in ("L1", "decaying", "map"):
        ours, theirs = compiled.series(name), ordinary.series(name)
        assert ours.step.tolist() == theirs.step.tolist()
        assert ours.epoch.tolist() == theirs.epoch.tolist()
        assert ours.weight.tolist() == theirs.weight.tolist()
        assert ours.loss.tolist() == pytest.approx(theirs.loss.tolist(), rel=tolerance)


@pytest.mark.parametrize("step", STEPS)
def test_one_graph_serves_every_weight_step_and_epoch(step):
    manager = make()
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    train(manager, compiled)
    manager.set_weight("L1", 7.0)
    train(manager, compiled)
    manager.disable("map")
    train(manager, compiled)
    assert counters["stats"]["unique_graphs"] == 1
    assert manager.get_loss_weights() == {"L1": 7.0, "decaying": pytest.approx(2.55), "map": 0.0}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [lambda x, y: x.sqrt().sum(), lambda x, y: (1 / x).sum(), lambda x, y: x.log()])
def test_an_infinite_gradient_times_a_weight_of_zero_is_zero_in_a_compiled_step(backend, function):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", function, loss_weight=0.0)

    @torch.compile(backend=backend, fullgraph=True)
    def step(x):
        return manager.compute_loss_xy("a", x, None).sum()

    x = torch.zeros(3, requires_grad=True)
    result = step(x)
    result.backward()
    assert (result.item(), x.grad.tolist()) == (0.0, [0.0, 0.0, 0.0])
    manager.set_weight("a", 2.0)
    x, plain = (torch.full((3,), 4.0, requires_grad=True) for _ in range(2))
    step(x).backward()
    (2.0 * function(plain, None)).sum().backward()
    assert x.grad.tolist() == plain.grad.tolist()


def test_a_weight_that_float32_rounds_to_zero_still_has_a_gradient_in_float64():
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: x.sum(), loss_weight=1e-60)
    step = torch.compile(lambda x: manager.compute_loss_xy("a", x, None), backend="eager", fullgraph=True)
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    step(x).backward()
    assert x.grad.tolist() == [1e-60, 1e-60]


def test_a_weight_of_zero_contributes_zero_to_a_compiled_step():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("infinite", lambda x, y: (x / 0).sum(), loss_weight=0.0)
    step = torch.compile(lambda x: manager.compute_loss_xy("infinite", x, None), backend="eager", fullgraph=True)
    assert step(torch.ones(2)).item() == 0.0
    assert manager.get_loss_values() == {"infinite": 0.0}


def test_a_compiled_graph_keeps_no_loss_alive():
    manager = LossManager()
    manager.register_loss_fn("learned", torch.nn.Linear(2, 2), inputs=("y_fake",))
    gone = weakref.ref(manager.get_registered_losses()["learned"].function)
    step = torch.compile(lambda manager, x: manager.compute_loss("learned", x), backend="eager", fullgraph=True)
    step(manager, torch.ones(2))
    del manager
    gc.collect()
    assert gone() is None


@pytest.mark.skipif(Version("2.9") > TORCH, reason="there a graph that raises ends in an error of the compiler's own")
def test_the_clock_ticks_outside_of_a_graph():
    manager = make()

    def step(x):
        manager.tick(epoch=0)
        return manager.compute_loss_xy("L1", x, x)

    with pytest.raises(torch._dynamo.exc.Unsupported, match="outside of torch.compile"):
        torch.compile(step, backend="eager", fullgraph=True)(torch.ones(2))
    with pytest.raises(NectarganError, match="the clock ticks outside"):
        torch.compile(step, backend="eager")(torch.ones(2))


@NO_DICTS
def test_losses_that_a_graph_computed_have_no_unweighted_values():
    manager = make()
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    compiled = torch.compile(
        lambda: manager.compute_losses({"y_fake": x, "y": y}, query="G"), backend="eager", fullgraph=True
    )
    with pytest.raises(NectarganError, match="only compute_losses outside of torch.compile"):
        compiled().unweighted  # noqa: B018 # asking is the test


@NO_DICTS
@pytest.mark.parametrize("query", [["G"], ("L1", "decaying"), None])
def test_any_query_compiles(query):
    manager = make()
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    step = torch.compile(
        lambda: manager.compute_losses({"y_fake": x, "y": y}, query=query).total, backend="eager", fullgraph=True
    )
    assert step().item() > 0.0
