"""Computing: the inputs of a loss, its weight, and a weight of zero."""

import functools
import math
import sys

import pytest
import torch
from managers import ONE, ZERO, adversarial, decaying, manager_of, mean, one
from torch import nn
from torch.utils.checkpoint import checkpoint

from nectargan_core import ComputedLosses, LMLoss, LossManager, Schedule
from nectargan_core.errors import (
    LossResultError,
    MissingInputError,
    NectarganWarning,
    ScheduleError,
    SpecError,
    UnknownLossError,
)

# Computing one loss


def test_the_result_is_weighted():
    assert one(3.0).compute_loss_xy("a", ZERO, ONE).item() == 3.0


@pytest.mark.parametrize(
    "compute",
    [
        lambda manager: manager.compute_loss_xy("a", ZERO, ONE),
        lambda manager: manager.compute_loss_xy(loss_name="a", x=ZERO, y=ONE),
        lambda manager: manager.compute_loss("a", ZERO, ONE),
        lambda manager: manager.compute_losses({"y_fake": ZERO, "y": ONE})["a"],
    ],
)
def test_every_way_to_compute_gives_and_records_the_same(compute):
    manager = one(3.0)
    assert compute(manager).item() == 3.0
    assert manager.get_loss_values() == {"a": 3.0}


def test_a_loss_takes_three_inputs_or_any_number():
    manager = one(2.0, lambda *tensors: sum(tensors).mean())
    assert manager.compute_loss_xyz("a", ONE, ONE, ONE).item() == 6.0
    assert manager.compute_loss("a", ONE).item() == 2.0
    assert manager.compute_loss("a", *[ONE] * 5).item() == 10.0


def test_the_result_has_the_graph_of_the_function():
    x = torch.zeros(4, requires_grad=True)
    one(3.0).compute_loss_xy("a", x, ONE).backward()
    assert x.grad.tolist() == [0.75] * 4


@pytest.mark.parametrize(
    "compute",
    [
        lambda manager, kwargs: manager.compute_loss("a", ONE, ONE, function_kwargs=kwargs),
        lambda manager, kwargs: manager.compute_loss_xy("a", ONE, ONE, loss_kwargs={"function_kwargs": kwargs}),
        lambda manager, kwargs: manager.compute_loss_xyz("a", ONE, ONE, 0, loss_kwargs={"function_kwargs": kwargs}),
    ],
)
def test_keywords_reach_the_function(compute):
    manager = one(1.0, lambda x, y, z=0, *, scale=1.0: scale * mean(x, y))
    assert compute(manager, {"scale": 5.0}).item() == 10.0


def test_an_unknown_keyword_is_refused():
    with pytest.raises(TypeError, match="takes 'weight_kwargs' and 'function_kwargs', got 'weights'"):
        one().compute_loss_xy("a", ZERO, ONE, loss_kwargs={"weights": {}})


@pytest.mark.parametrize("loss_kwargs", [None, {}, {"weight_kwargs": {}}])
def test_empty_loss_kwargs_change_nothing(loss_kwargs):
    assert one(3.0).compute_loss_xy("a", ZERO, ONE, loss_kwargs=loss_kwargs).item() == 3.0


@pytest.mark.parametrize(
    "compute",
    [
        lambda manager: manager.compute_loss_xy("G_l1", ZERO, ONE),
        lambda manager: manager.compute_loss("G_l1", ZERO, ONE),
        lambda manager: manager.compute_losses({"y_fake": ZERO, "y": ONE}, "G_l1"),
    ],
)
def test_an_unknown_loss_is_an_error_with_the_names_and_close_matches(compute):
    manager = manager_of(LMLoss(name="G_L1", function=mean), LMLoss(name="D_real", function=mean))
    with pytest.raises(UnknownLossError, match='Did you mean "G_L1"') as caught:
        compute(manager)
    assert "G_L1, D_real" in str(caught.value)
    assert (caught.value.name, caught.value.known[:2]) == ("G_l1", ("G_L1", "D_real"))
    assert isinstance(caught.value, KeyError)


def test_without_losses_an_unknown_one_says_that_there_are_none():
    with pytest.raises(UnknownLossError, match="none is registered; call init_from_spec first"):
        LossManager().compute_loss_xy("a", ZERO, ONE)
    with pytest.raises(UnknownLossError, match="no loss is registered"):
        LossManager().compute_losses({"y": ONE})


def test_an_error_of_the_function_is_raised():
    def broken(x, y):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        one(1.0, broken).compute_loss_xy("a", ZERO, ONE)


def test_a_result_that_is_not_a_tensor_is_an_error_naming_loss_and_epoch():
    with pytest.raises(LossResultError, match=r"loss 'a' returned float \(1.0\) at epoch 7; expected a tensor"):
        one(1.0, lambda x, y: 1.0).compute_loss_xy("a", ZERO, ONE, epoch=7)


# Schedules


@pytest.mark.parametrize(("epoch", "weight"), [(0, 100.0), (10, 100.0), (15, 50.0), (17.5, 25.0), (20, 0.0), (99, 0.0)])
def test_a_schedule_gives_the_weight_at_the_epoch_of_the_call_or_the_clock(epoch, weight):
    manager = decaying()
    assert manager.compute_loss_xy("a", ONE, ZERO, epoch=epoch).item() == pytest.approx(weight)
    manager.tick(epoch=epoch)
    assert manager.compute_loss_xy("a", ONE, ZERO).item() == pytest.approx(weight)
    assert manager.compute_losses({"y_fake": ONE, "y": ZERO}).total.item() == pytest.approx(weight)


def test_applied_reported_and_recorded_weights_are_equal():
    manager = decaying(enable_logging=True)
    applied = []
    for epoch in (0, 11, 13.7, 19, 20):
        manager.tick(epoch=epoch)
        applied.append(manager.compute_loss_xy("a", ONE.double(), ZERO).item())
        assert manager.get_loss_weights(precision=None) == {"a": applied[-1]}
        assert manager.get_registered_losses()["a"].schedule.current_value == applied[-1]
    assert manager.get_registered_losses(strip=False)["a"].history.weights == applied


def test_parameters_of_the_schedule_may_be_given_for_one_call():
    manager = LossManager()
    manager.register_loss_fn("a", mean, schedule=Schedule(lambda schedule, epoch, power=1: epoch**power, end_epoch=9))
    kwargs = {"weight_kwargs": {"power": 2}}
    assert manager.compute_loss_xy("a", ONE, ZERO, epoch=3, loss_kwargs=kwargs).item() == 9.0
    assert manager.get_loss_weights() == {"a": 9.0}
    assert manager.compute_loss_xy("a", ONE, ZERO, epoch=3).item() == 3.0
    assert manager.compute_loss("a", ONE, ZERO, epoch=3, weight_kwargs={"power": 0}).item() == 1.0


def test_a_schedule_that_fails_during_a_run_is_an_error_naming_loss_and_epoch():
    manager = LossManager()
    curve = Schedule(lambda schedule, epoch: math.nan if epoch == 5 else 1.0, end_epoch=9, target_value=0.0)
    manager.register_loss_fn("a", mean, schedule=curve)
    with pytest.raises(ScheduleError, match=r"of loss 'a' gave nan at epoch 5"):
        manager.compute_loss_xy("a", ONE, ZERO, epoch=5)


def test_a_scheduled_loss_without_an_epoch_warns_once():
    manager = decaying()
    with pytest.warns(NectarganWarning, match=r"loss 'a' is scheduled and is computed without an epoch") as caught:
        manager.compute_loss_xy("a", ONE, ZERO)
        manager.compute_loss_xy("a", ONE, ZERO)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_the_warning_points_at_the_user_s_line_from_compute_losses_too():
    manager = decaying()
    with pytest.warns(NectarganWarning) as caught:
        manager.compute_losses({"y_fake": ONE, "y": ZERO})
    assert [warning.filename for warning in caught] == [__file__]


def test_a_scheduled_loss_with_an_epoch_or_a_clock_does_not_warn(recwarn):
    manager = decaying()
    manager.compute_loss_xy("a", ONE, ZERO, epoch=0)
    manager.tick()
    manager.compute_loss_xy("a", ONE, ZERO)
    assert not recwarn.list


# Computing several


def test_each_loss_gets_the_inputs_that_it_reads():
    losses = adversarial().compute_losses({"y_fake": ZERO, "y": ONE, "pred_fake": 2 * ONE, "pred_real": 3 * ONE})
    assert {name: value.item() for name, value in losses.items()} == {"G_L1": 100.0, "G_GAN": -2.0, "D_real": 3.0}
    assert isinstance(losses, ComputedLosses)
    assert isinstance(losses, dict)


def test_the_total_is_the_sum_of_the_losses():
    losses = adversarial().compute_losses({"y_fake": ZERO, "y": ONE, "pred_fake": 2 * ONE}, query="G")
    assert losses.total.item() == 98.0


def test_the_total_of_a_map_is_its_mean():
    manager = manager_of(
        LMLoss(name="a", function=lambda x, y: x + y), LMLoss(name="b", function=mean, loss_weight=2.0)
    )
    y_fake = torch.arange(4.0, requires_grad=True)
    losses = manager.compute_losses({"y_fake": y_fake, "y": ZERO})
    assert losses["a"].shape == (4,)
    assert losses.total.item() == 1.5 + 3.0
    losses.total.backward()
    assert y_fake.grad.tolist() == [0.75] * 4


def test_the_total_of_no_losses_is_a_zero_with_a_backward():
    total = ComputedLosses().total
    total.backward()
    assert total.item() == 0.0


def test_inputs_may_be_a_mapping_from_parameter_to_name():
    manager = one(2.0, lambda a, *, b: (a - 2 * b).mean(), inputs={"a": "y", "b": "x"})
    assert manager.compute_losses({"x": ONE, "y": ZERO}).total.item() == -4.0


def test_inputs_that_no_loss_reads_are_ignored():
    losses = one(1.0).compute_losses({"y_fake": ZERO, "y": ONE, "mask": None, "heavy": lambda: 1 / 0})
    assert losses.total.item() == 1.0


def test_a_loss_may_read_no_input_at_all():
    assert one(2.0, lambda: torch.tensor(4.0), inputs=()).compute_losses({}).total.item() == 8.0


def test_plugins_may_name_inputs_of_their_own():
    assert one(1.0, lambda depth: depth.mean(), inputs=("acme.depth",)).compute_losses({"acme.depth": ONE}).total == 1


class Asked:
    """A value that counts how often it is read."""

    def __init__(self, value=ONE):
        self.value = value
        self.times = 0

    def ask(self):
        self.times += 1
        return self.value


@pytest.mark.parametrize(
    "wrap", [lambda asked: lambda: asked.ask(), lambda asked: asked.ask, lambda asked: functools.partial(asked.ask)]
)
def test_a_function_is_called_at_most_once_for_its_value(wrap):
    asked = Asked()
    manager = manager_of(*[LMLoss(name=name, function=lambda x: x.mean(), inputs=("x",)) for name in "abc"])
    assert manager.compute_losses({"x": wrap(asked)}).total.item() == 3.0
    assert asked.times == 1


@pytest.mark.parametrize(
    "fields", [{"inputs": ("y",)}, {"loss_weight": 0.0}, {"tags": ["other"]}], ids=["not read", "zero", "not asked for"]
)
def test_a_function_is_not_called_unless_a_loss_that_runs_reads_it(fields):
    asked = Asked()
    fields = {"name": "a", "function": lambda x: x.mean(), "inputs": ("x",), "tags": ["mine"], **fields}
    manager = manager_of(LMLoss(**fields), LMLoss(name="b", function=lambda y: y.mean(), inputs=("y",), tags=["mine"]))
    manager.compute_losses({"x": asked.ask, "y": ONE}, query="mine")
    assert asked.times == 0


def test_a_function_is_called_again_at_each_step():
    asked = Asked()
    manager = one(1.0, lambda x: x.mean(), inputs=("x",))
    for _ in range(3):
        manager.compute_losses({"x": asked.ask})
    assert asked.times == 3


def test_modules_are_passed_as_they_are():
    module = nn.Linear(4, 1)
    manager = one(1.0, lambda network: sum(p.sum() for p in network.parameters()), inputs=("discriminator",))
    manager.compute_losses({"discriminator": module}).total.backward()
    assert module.bias.grad.item() == 1.0


def test_a_missing_input_is_an_error_with_the_loss_the_input_and_the_given_ones():
    asked = Asked()
    with pytest.raises(MissingInputError, match=r"loss 'G_GAN' reads the input 'pred_fake'") as caught:
        adversarial().compute_losses({"y_fake": ZERO, "y": asked.ask, "pred_fak": ONE}, query="G")
    assert "given were y_fake, y, pred_fak" in str(caught.value)
    assert 'Did you mean "pred_fak"' in str(caught.value)
    error = caught.value
    assert (error.loss_name, error.input_name, error.given) == ("G_GAN", "pred_fake", ("y_fake", "y", "pred_fak"))
    assert isinstance(error, KeyError)
    assert asked.times == 0


def test_a_missing_input_computes_and_records_nothing():
    manager = adversarial()
    with pytest.raises(MissingInputError):
        manager.compute_losses({"y_fake": ZERO, "y": ONE}, query="G")
    assert math.isnan(manager.get_loss_values()["G_L1"])


def test_the_input_of_a_loss_that_does_not_run_may_be_missing():
    manager = adversarial()
    manager.disable("G_GAN")
    assert manager.compute_losses({"y_fake": ZERO, "y": ONE}, query="G").total.item() == 100.0


def test_a_query_selects_the_losses_to_compute():
    manager = adversarial()
    inputs = {"y_fake": ZERO, "y": ONE, "pred_fake": ONE, "pred_real": ONE}
    assert list(manager.compute_losses(inputs, query="D")) == ["D_real"]
    assert list(manager.compute_losses(inputs, query=["D", "G_L1"])) == ["G_L1", "D_real"]
    assert list(manager.compute_losses(inputs)) == ["G_L1", "G_GAN", "D_real"]


@pytest.mark.parametrize("query", ["g", [], ["GA"], "D_fake"])
def test_a_query_that_finds_nothing_is_an_error_with_losses_and_tags(query):
    with pytest.raises(UnknownLossError, match="G_L1, G_GAN, D_real and the tags D, G"):
        adversarial().compute_losses({"y": ONE}, query=query)


# A weight of zero


def infinite(x, y):
    return (x / 0).sum()


def zeroed(skip, function=infinite):
    return one(0.0, function, skip_when_zero=skip)


@pytest.mark.parametrize("skip", [True, False])
def test_zero_times_infinity_is_zero_and_so_is_its_gradient(skip):
    x = torch.ones(4, requires_grad=True)
    manager = manager_of(
        LMLoss(name="a", function=infinite, loss_weight=0.0, skip_when_zero=skip), LMLoss(name="b", function=mean)
    )
    losses = manager.compute_losses({"y_fake": x, "y": ZERO})
    assert losses["a"].item() == 0.0
    losses.total.backward()
    assert x.grad.tolist() == [0.25] * 4


@pytest.mark.parametrize("skip", [True, False])
def test_a_zero_has_a_backward(skip):
    manager = zeroed(skip)
    manager.compute_loss_xy("a", ONE, ONE).backward()
    manager.compute_losses({"y_fake": ONE, "y": ONE}).total.backward()


def test_every_zero_is_a_new_tensor():
    manager = zeroed(skip=True)
    first = manager.compute_loss_xy("a", ONE, ONE)
    with torch.no_grad():
        first += 5.0
    assert manager.compute_loss_xy("a", ONE, ONE).item() == 0.0


def test_with_skip_the_function_is_not_run():
    assert zeroed(True, lambda x, y: 1 / 0).compute_loss_xy("a", ONE, ONE).item() == 0.0


def test_without_skip_the_function_is_run_as_ever_and_its_value_is_recorded():
    modes = []

    def function(x, y):
        modes.append(torch.is_grad_enabled())
        return mean(x, y)

    manager = LossManager(enable_logging=True)
    loss = LMLoss(name="a", function=function, loss_weight=0.0, skip_when_zero=False)
    manager.register_spec(lambda: {"a": loss})
    manager.compute_loss_xy("a", ONE, ONE)
    history = manager.get_registered_losses(strip=False)["a"].history
    assert (modes, history.losses, history.unweighted) == ([True], [0.0], [2.0])


def test_without_skip_a_zero_has_the_shape_of_the_result():
    assert zeroed(False, lambda x, y: x + y).compute_loss_xy("a", ONE, ONE).tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_zero_has_the_dtype_and_device_of_the_inputs(dtype):
    manager = zeroed(True)
    assert manager.compute_loss_xy("a", ONE.to(dtype), ONE.to(dtype)).dtype == dtype
    assert manager.compute_losses({"y_fake": ONE.to(dtype), "y": ONE})["a"].dtype == dtype
    assert manager.compute_loss_xy("a", ONE.to("meta"), ONE).is_meta


def test_a_zero_without_an_input_tensor_is_on_the_device_of_the_manager():
    manager = LossManager(device="meta")
    manager.register_loss_fn("a", lambda: 1 / 0, 0.0, inputs=())
    assert manager.compute_losses({}).total.is_meta


def test_a_schedule_that_reaches_zero_stops_running_the_function():
    ran = []
    manager = LossManager()
    schedule = Schedule(start_epoch=0, end_epoch=2, target_value=0.0)
    manager.register_loss_fn("a", lambda x, y: ran.append(1) or mean(x, y), 1.0, schedule)
    for epoch in range(5):
        manager.compute_loss_xy("a", ONE, ONE, epoch=epoch)
    assert len(ran) == 2


def test_losses_with_weight_zero_are_in_the_results():
    manager = adversarial()
    manager.set_weight("G_L1", 0.0)
    losses = manager.compute_losses({"y_fake": ZERO, "y": ONE, "pred_fake": ONE}, query="G")
    assert {name: value.item() for name, value in losses.items()} == {"G_L1": 0.0, "G_GAN": -1.0}


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes on errors came with Python 3.11")
def test_a_function_that_fails_is_named_in_the_traceback():
    manager = LossManager()
    manager.register_loss_fn("broken", torch.nn.L1Loss())
    with pytest.raises(Exception) as caught:  # noqa: PT011 # whatever torch raises
        manager.compute_losses({"y_fake": torch.zeros(2), "y": None})
    note = caught.value.__notes__[0]
    assert "loss 'broken'" in note
    assert "Tensor of (2,), torch.float32, cpu, NoneType" in note


def test_a_tensor_is_refused_as_a_query_and_is_not_printed():
    manager = LossManager()
    manager.register_loss_fn("a", torch.nn.L1Loss())
    with pytest.raises(TypeError, match="got Tensor in it"):
        manager.compute_losses({}, torch.rand(3, 3))


def test_a_module_class_is_refused_as_a_loss():
    with pytest.raises(ValueError, match=r"make one of it: L1Loss\(\)"):
        LossManager().register_loss_fn("a", torch.nn.L1Loss)


def test_an_error_in_the_with_block_causes_no_warning(recwarn):
    with pytest.raises(RuntimeError), LossManager() as manager:
        manager.register_loss_fn("a", torch.nn.L1Loss())
        manager.register_loss_fn("b", torch.nn.L1Loss())
        manager.compute_loss_xy("a", torch.zeros(1), torch.zeros(1))
        raise RuntimeError
    assert not recwarn.list


def test_options_are_given_by_the_name_of_a_spec_or_by_its_term():
    manager = LossManager()
    with pytest.raises(SpecError, match="no term of 'pix2pix:basic'"):
        manager.init_from_spec("pix2pix:basic", options={"vgg": {}})
    manager.init_from_spec("pix2pix:basic", options={"pix2pix:basic": {}, "pix2pix": {}})
    assert len(manager.get_registered_losses()) == 4


# Activation checkpointing


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("weight", [2.0, 0.0])
def test_a_loss_that_is_computed_again_inside_backward_is_one_record(reentrant, weight):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", lambda x, y: (x * 1).square().mean(), weight)
    x = torch.ones(3, requires_grad=True)
    for _ in range(3):
        manager.tick()
        checkpoint(lambda x: manager.compute_loss_xy("a", x, None), x, use_reentrant=reentrant).backward()
    assert manager.series("a").step.tolist() == [0, 1, 2]
    assert x.grad.tolist() == pytest.approx([3 * weight * 2 / 3] * 3)
