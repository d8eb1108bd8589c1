"""Loss calls inside of what traces or transforms a function: they work, or one sentence says what does."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from nectargan_core import LossManager
from nectargan_core.errors import LossResultError

# Warnings that torch causes itself.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*:UserWarning:torch"),
]


def make(**kwargs):
    manager = LossManager(**kwargs)
    manager.register_loss_fn("a", torch.nn.L1Loss(), loss_weight=2.0, tags=["G"])
    manager.register_loss_fn("b", torch.nn.MSELoss(), loss_weight=3.0, tags=["G"])
    manager.register_loss_fn("map", torch.nn.L1Loss(reduction="none"), loss_weight=0.5, tags=["G"])
    manager.register_loss_fn("off", torch.nn.L1Loss(), loss_weight=0.0, tags=["G"])
    return manager


def one(manager):
    return lambda x, y: manager.compute_loss_xy("a", x, y)


def of_a_map(manager):
    return lambda x, y: manager.compute_loss_xy("map", x, y).mean()


def together(manager):
    return lambda x, y: manager.compute_losses({"y_fake": x, "y": y}, "G").total


def scalar(manager):
    def step(x, y):
        manager.record("scalar", (x - y).mean())
        return (x - y).square().sum()

    return step


def off(manager):
    return lambda x, y: manager.compute_loss_xy("off", x, y)


STEPS = [one, of_a_map, together, scalar, off]
WITH_VALUES = [one, of_a_map, together, scalar]
LOGGING = [{}, {"enable_logging": True}]
X, Y = torch.rand(2, 2, 3, generator=torch.Generator().manual_seed(0)).unbind()


class Module(torch.nn.Module):
    def __init__(self, step):
        super().__init__()
        self.step = step

    def forward(self, x, y):
        return self.step(x, y)


def counts(manager):
    return {name: series.count for name, series in manager._recorder.series.items()}


def values(manager):
    return manager.latest()


# What works


def gradient(step):
    return torch.func.grad(step)(X, Y)


def product(step):
    return torch.func.jvp(step, (X, Y), (torch.ones_like(X), torch.zeros_like(Y)))[1]


def pulled_back(step):
    value, pull = torch.func.vjp(step, X, Y)
    return pull(torch.ones_like(value))[1]


def jacobian(step):
    return torch.func.jacrev(step)(X, Y)


def hessian(step):
    return torch.func.hessian(step)(X, Y)


def functionalized(step):
    return torch.func.functionalize(step)(X, Y)


@pytest.mark.parametrize("transform", [gradient, product, pulled_back, jacobian, hessian, functionalized])
@pytest.mark.parametrize("step", STEPS)
def test_a_transform_of_torch_func_computes_and_records(step, transform):
    def plain(x, y):
        total = {
            one: lambda: 2.0 * (x - y).abs().mean(),
            of_a_map: lambda: 0.5 * (x - y).abs().mean(),
            together: lambda: 2.5 * (x - y).abs().mean() + 3.0 * (x - y).square().mean(),
            scalar: lambda: (x - y).square().sum(),
            off: lambda: 0.0 * (x - y).abs().mean(),
        }
        return total[step]()

    ordinary, manager = make(), make()
    torch.testing.assert_close(transform(step(manager)), transform(plain), check_dtype=False)
    step(ordinary)(X, Y)
    assert counts(manager) == counts(ordinary)
    assert values(manager) == values(ordinary)


def test_a_gradient_works_inside_a_compiled_graph():
    manager = make(enable_logging=True)
    compiled = torch.compile(lambda x, y: torch.func.grad(together(manager))(x, y), backend="aot_eager", fullgraph=True)
    expected = torch.func.grad(together(make()))(X, Y)
    torch.testing.assert_close(compiled(X, Y), expected)
    assert len(manager.series("a").loss) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_strictly_exported_step_computes_and_records_with_the_weights_of_each_run(step):
    manager, ordinary = make(enable_logging=True), make(enable_logging=True)
    exported = torch.export.export(Module(step(manager)), (X, Y), strict=True).module()
    for weight in (2.0, 7.0):
        for each in (manager, ordinary):
            each.tick()
            each.set_weight("G", weight)
        torch.testing.assert_close(exported(X, Y), step(ordinary)(X, Y), check_device=False)
    assert counts(manager) == counts(ordinary)
    for name, count in counts(ordinary).items():
        if count:
            assert manager.series(name).weight.tolist() == ordinary.series(name).weight.tolist()
            assert manager.series(name).loss.tolist() == pytest.approx(ordinary.series(name).loss.tolist())


# What cannot


def under_vmap(step):
    return torch.vmap(step)(X, Y)


def of_gradients(step):
    return torch.vmap(torch.func.grad(step))(X, Y)


def made_by_make_fx(step):
    return make_fx(step)(X, Y)


def made_of_fakes(step):
    return make_fx(step, tracing_mode="fake")(X, Y)


def made_of_symbols(step):
    return make_fx(step, tracing_mode="symbolic")(X, Y)


def exported(step):
    return torch.export.export(Module(step), (X, Y), strict=False)


def faked(step):
    with FakeTensorMode() as mode:
        return step(mode.from_tensor(X), mode.from_tensor(Y))


REFUSED = [under_vmap, of_gradients, made_by_make_fx, made_of_fakes, made_of_symbols, exported, faked]


@pytest.mark.parametrize("kwargs", LOGGING)
@pytest.mark.parametrize("trace", REFUSED)
@pytest.mark.parametrize("step", WITH_VALUES)
def test_where_a_result_has_no_value_one_sentence_says_what_works(step, trace, kwargs):
    manager = make(**kwargs)
    with pytest.raises(LossResultError, match="cannot be recorded, since its result has no value inside of") as caught:
        trace(step(manager))
    for word in ("torch.vmap", "make_fx", "torch.export", "FakeTensorMode", "manager.record", "torch.func.grad"):
        assert word in str(caught.value)
    assert not any(counts(manager).values())
    # The manager goes on.
    step(manager)(X, Y)
    assert all(torch.isfinite(torch.tensor(value)) for value in values(manager).values() if value == value)


@pytest.mark.parametrize("trace", REFUSED)
def test_a_loss_of_weight_0_has_a_value_everywhere(trace):
    manager = make(enable_logging=True)
    trace(off(manager))
    assert manager.series("off").loss.tolist() == [0.0]


def test_what_the_sentence_says_works():
    manager = make(enable_logging=True)
    function = manager.get_registered_losses()["a"].function
    each = torch.vmap(lambda x, y: 2.0 * function(x, y))(X, Y)
    manager.record("a_of_each", each)
    assert manager.latest("a_of_each") == pytest.approx({"a_of_each": each.mean().item()})
