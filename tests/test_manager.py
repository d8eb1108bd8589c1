"""The manager: how losses are computed and weighed, what they read, and what is told of them."""

import functools
import inspect
import math

import pytest
import torch
from torch import nn

from nectargan_core import ComputedLosses, Config, ConfigManager, LMLoss, LossManager, Schedule
from nectargan_core.errors import (
    ConfigError,
    LossResultError,
    MissingInputError,
    NectarganError,
    NectarganWarning,
    NonFiniteLossError,
    ScheduleError,
    UnknownLossError,
)

ZERO, ONE = torch.zeros(4), torch.ones(4)


def mean(x, y):
    return (x + y).mean()


def manager_of(*losses, **kwargs):
    manager = LossManager(**kwargs)
    manager.register_spec(lambda: {loss.name: loss for loss in losses})
    return manager


def one(weight=3.0, function=mean, **fields):
    return manager_of(LMLoss(name="a", function=function, loss_weight=weight, **fields))


def decaying(weight=100.0, **kwargs):
    manager = LossManager(**kwargs)
    manager.register_loss_fn("a", mean, weight, Schedule(start_epoch=10, end_epoch=20, target_value=0.0))
    return manager


# Making one


def test_the_signature_is_the_one_that_was_promised():
    parameters = inspect.signature(LossManager).parameters
    promised = ("config", "experiment_dir", "enable_logging", "history_buffer_size")
    assert tuple(parameters)[:4] == promised
    assert all(parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in promised)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("device", "plugins"))
    assert parameters["history_buffer_size"].default == 50_000
    assert parameters["enable_logging"].default is None


@pytest.mark.parametrize("config", [None, {}, {"common": {"device": "cpu"}}, Config(), ConfigManager(None).data])
def test_the_configuration_is_a_config_a_mapping_or_nothing(config):
    assert isinstance(LossManager(config).config, Config)


def test_a_bad_configuration_names_the_key():
    with pytest.raises(ConfigError, match=r"train\.loss\.lambda_l1"):
        LossManager({"train": {"loss": {"lambda_l1": "much"}}})


@pytest.mark.parametrize("kwargs", [{"config": {"common": {"device": "cudda"}}}, {"device": "cudda"}])
def test_a_device_that_is_none_is_refused(kwargs):
    with pytest.raises(ConfigError, match="'cudda' is no device that torch knows") as caught:
        LossManager(**kwargs)
    assert caught.value.key == "common.device"


@pytest.mark.parametrize(
    "kwargs", [{"history_buffer_size": 0}, {"nonfinite": "explode"}, {"flush_every": -1.0}, {"flush_every": math.nan}]
)
def test_an_argument_without_sense_is_refused(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=name):
        LossManager(**kwargs)


def test_the_device_that_is_given_beats_that_of_the_configuration():
    manager = LossManager({"common": {"device": "cpu"}}, device="meta")
    manager.register_loss_fn("a", nn.Linear(1, 1))
    assert manager.get_registered_losses()["a"].function.weight.is_meta
    assert manager.config.common.device == "meta"


def test_the_device_of_the_configuration_moves_modules():
    manager = LossManager({"common": {"device": "meta"}})
    manager.register_loss_fn("a", nn.Linear(1, 1))
    assert manager.get_registered_losses()["a"].function.weight.is_meta


def test_without_a_device_modules_stay_where_they_are():
    manager = LossManager()
    manager.register_loss_fn("a", nn.Linear(1, 1).to("meta"))
    assert manager.get_registered_losses()["a"].function.weight.is_meta


def test_the_configuration_that_was_given_is_not_changed():
    config = Config()
    LossManager(config, device="meta")
    assert config == Config()


def test_its_text_names_the_losses_and_the_directory(tmp_path):
    assert repr(LossManager()) == "LossManager(no losses)"
    manager = one()
    assert repr(manager) == "LossManager(a)"
    assert repr(LossManager(experiment_dir=tmp_path)) == f"LossManager(no losses, experiment_dir={str(tmp_path)!r})"


# Computing one loss


def test_the_result_is_weighed():
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


def test_three_inputs_and_any_number():
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


def test_a_keyword_that_is_none_is_refused():
    with pytest.raises(TypeError, match="takes 'weight_kwargs' and 'function_kwargs', got 'weights'"):
        one().compute_loss_xy("a", ZERO, ONE, loss_kwargs={"weights": {}})


@pytest.mark.parametrize("loss_kwargs", [None, {}, {"weight_kwargs": {}}])
def test_no_keywords_are_no_keywords(loss_kwargs):
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


def test_what_the_function_raises_is_raised():
    def broken(x, y):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        one(1.0, broken).compute_loss_xy("a", ZERO, ONE)


def test_a_result_that_is_no_tensor_is_an_error_naming_loss_and_epoch():
    with pytest.raises(LossResultError, match=r"loss 'a' returned float \(1.0\) at epoch 7; expected a tensor"):
        one(1.0, lambda x, y: 1.0).compute_loss_xy("a", ZERO, ONE, epoch=7)


# The clock


def steps_and_epochs(manager, name="a"):
    history = manager.get_registered_losses(strip=False)[name].history
    return list(zip(history.steps, history.epochs, strict=True))


def counted(**kwargs):
    return manager_of(LMLoss(name="a", function=mean), LMLoss(name="b", function=mean), enable_logging=True, **kwargs)


def test_the_first_tick_is_step_zero_and_each_counts_on():
    manager = counted()
    for epoch in (0, 0, 1):
        manager.tick(epoch=epoch)
        manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 0.0), (1, 0.0), (2, 1.0)]


def test_a_tick_with_a_step_sets_it_and_the_next_counts_on():
    manager = counted()
    for step in (7, None, 3, None):
        manager.tick(step=step)
        manager.compute_loss_xy("a", ZERO, ONE)
    assert [step for step, _ in steps_and_epochs(manager)] == [7, 8, 3, 4]


def test_a_tick_without_an_epoch_leaves_it():
    manager = counted()
    manager.tick(epoch=2.5)
    manager.tick()
    assert (manager.epoch, manager.step) == (2.5, 1)


def test_losses_of_different_rates_line_up():
    manager = counted()
    for step in range(4):
        manager.tick()
        manager.compute_loss_xy("a", ZERO, ONE)
        if step % 2:
            manager.compute_loss_xy("b", ZERO, ONE)
            manager.compute_loss_xy("b", ZERO, ONE)
    assert [step for step, _ in steps_and_epochs(manager, "b")] == [1, 1, 3, 3]


def test_without_a_clock_each_loss_counts_its_own_calls_in_epoch_zero():
    manager = counted()
    for _ in range(3):
        manager.compute_loss_xy("a", ZERO, ONE)
    manager.compute_loss_xy("b", ZERO, ONE)
    assert steps_and_epochs(manager, "a") == [(0, 0.0), (1, 0.0), (2, 0.0)]
    assert steps_and_epochs(manager, "b") == [(0, 0.0)]


def test_the_epoch_of_a_call_beats_the_clock_and_moves_no_step():
    manager = counted()
    manager.tick(epoch=1)
    manager.compute_loss_xy("a", ZERO, ONE, epoch=9)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 9.0), (0, 1.0)]
    assert (manager.step, manager.epoch) == (0, 1)


@pytest.mark.parametrize("epoch", [-1, -0.5, math.nan, math.inf])
def test_the_clock_refuses_an_epoch_that_is_none(epoch):
    with pytest.raises(ValueError, match="epoch must be"):
        LossManager().tick(epoch=epoch)


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (2**63, ValueError), (1.5, TypeError)])
def test_the_clock_refuses_a_step_that_is_none(step, error):
    manager = counted()
    with pytest.raises(error):
        manager.tick(step=step)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 0.0)]


# Schedules


@pytest.mark.parametrize(("epoch", "weight"), [(0, 100.0), (10, 100.0), (15, 50.0), (17.5, 25.0), (20, 0.0), (99, 0.0)])
def test_a_schedule_decides_the_weight_by_the_epoch_of_call_or_clock(epoch, weight):
    manager = decaying()
    assert manager.compute_loss_xy("a", ONE, ZERO, epoch=epoch).item() == pytest.approx(weight)
    manager.tick(epoch=epoch)
    assert manager.compute_loss_xy("a", ONE, ZERO).item() == pytest.approx(weight)
    assert manager.compute_losses({"y_fake": ONE, "y": ZERO}).total.item() == pytest.approx(weight)


def test_what_is_applied_reported_and_recorded_is_one_number():
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


def test_a_schedule_that_gives_no_number_in_mid_run_names_loss_and_epoch():
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


def test_an_epoch_or_a_clock_is_not_warned_of(recwarn):
    manager = decaying()
    manager.compute_loss_xy("a", ONE, ZERO, epoch=0)
    manager.tick()
    manager.compute_loss_xy("a", ONE, ZERO)
    assert not recwarn.list


# Computing several


def adversarial(**kwargs):
    return manager_of(
        LMLoss(name="G_L1", function=nn.L1Loss(), loss_weight=100.0, tags=["G"]),
        LMLoss(name="G_GAN", function=lambda pred: -pred.mean(), tags=["G"], inputs=("pred_fake",)),
        LMLoss(name="D_real", function=lambda pred: pred.mean(), tags=["D"], inputs=("pred_real",)),
        **kwargs,
    )


def test_each_loss_gets_the_inputs_that_it_reads():
    losses = adversarial().compute_losses({"y_fake": ZERO, "y": ONE, "pred_fake": 2 * ONE, "pred_real": 3 * ONE})
    assert {name: value.item() for name, value in losses.items()} == {"G_L1": 100.0, "G_GAN": -2.0, "D_real": 3.0}
    assert isinstance(losses, ComputedLosses)
    assert isinstance(losses, dict)


def test_the_total_is_the_sum():
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


def test_the_total_of_nothing_is_a_zero_to_go_back_from():
    total = ComputedLosses().total
    total.backward()
    assert total.item() == 0.0


def test_inputs_may_be_a_mapping_from_parameter_to_name():
    manager = one(2.0, lambda input, *, target: (input - 2 * target).mean(), inputs={"input": "y", "target": "x"})
    assert manager.compute_losses({"x": ONE, "y": ZERO}).total.item() == -4.0


def test_inputs_that_nobody_reads_are_ignored():
    losses = one(1.0).compute_losses({"y_fake": ZERO, "y": ONE, "mask": None, "heavy": lambda: 1 / 0})
    assert losses.total.item() == 1.0


def test_a_loss_may_read_no_input_at_all():
    assert one(2.0, lambda: torch.tensor(4.0), inputs=()).compute_losses({}).total.item() == 8.0


def test_plugins_may_name_inputs_of_their_own():
    assert one(1.0, lambda depth: depth.mean(), inputs=("acme.depth",)).compute_losses({"acme.depth": ONE}).total == 1


class Asked:
    """Counts how often it is asked for its value."""

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


def test_a_function_is_called_anew_at_each_step():
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


def test_a_missing_input_names_loss_input_and_what_was_given():
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


def test_a_query_chooses():
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
def test_a_zero_can_be_gone_back_from_alone(skip):
    manager = zeroed(skip)
    manager.compute_loss_xy("a", ONE, ONE).backward()
    manager.compute_losses({"y_fake": ONE, "y": ONE}).total.backward()


def test_every_zero_is_a_fresh_one():
    manager = zeroed(skip=True)
    first = manager.compute_loss_xy("a", ONE, ONE)
    with torch.no_grad():
        first += 5.0
    assert manager.compute_loss_xy("a", ONE, ONE).item() == 0.0


def test_with_skip_the_function_is_not_run():
    assert zeroed(True, lambda x, y: 1 / 0).compute_loss_xy("a", ONE, ONE).item() == 0.0


def test_without_skip_the_function_is_run_without_a_graph_and_the_raw_value_recorded():
    modes = []

    def function(x, y):
        modes.append(torch.is_grad_enabled())
        return mean(x, y)

    manager = LossManager(enable_logging=True)
    loss = LMLoss(name="a", function=function, loss_weight=0.0, skip_when_zero=False)
    manager.register_spec(lambda: {"a": loss})
    manager.compute_loss_xy("a", ONE, ONE)
    history = manager.get_registered_losses(strip=False)["a"].history
    assert (modes, history.losses, history.unweighted) == ([False], [0.0], [2.0])


def test_without_skip_a_zero_has_the_shape_of_the_result():
    assert zeroed(False, lambda x, y: x + y).compute_loss_xy("a", ONE, ONE).tolist() == [0.0] * 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_a_zero_is_made_like_the_inputs(dtype):
    manager = zeroed(True)
    assert manager.compute_loss_xy("a", ONE.to(dtype), ONE.to(dtype)).dtype == dtype
    assert manager.compute_losses({"y_fake": ONE.to(dtype), "y": ONE})["a"].dtype == dtype
    assert manager.compute_loss_xy("a", ONE.to("meta"), ONE).is_meta


def test_a_zero_without_a_tensor_to_be_like_is_made_on_the_manager_s_device():
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


def test_losses_that_do_nothing_stay_in_the_results():
    manager = adversarial()
    manager.set_weight("G_L1", 0.0)
    losses = manager.compute_losses({"y_fake": ZERO, "y": ONE, "pred_fake": ONE}, query="G")
    assert {name: value.item() for name, value in losses.items()} == {"G_L1": 0.0, "G_GAN": -1.0}


# Asking


def test_before_the_first_call_everything_can_be_asked():
    manager = one(3.0)
    assert math.isnan(manager.get_loss_values()["a"])
    assert math.isnan(manager.get_loss_tensors()["a"].item())
    assert manager.get_loss_weights() == {"a": 3.0}
    assert manager.print_losses(0, 0, capture=True) == "(epoch: 0, iters: 0) Loss: a: nan"
    assert manager.get_registered_losses(strip=False)["a"].history.losses == []


def test_after_a_flush_everything_can_be_asked(tmp_path):
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.update_loss_log()
    assert manager.get_loss_values() == {"a": 3.0}
    assert manager.get_loss_tensors()["a"].item() == 3.0
    assert manager.get_loss_weights() == {"a": 3.0}


def test_after_close_everything_can_be_asked_and_nothing_computed():
    manager = one(3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    manager.close()
    manager.close()
    assert manager.get_loss_values() == {"a": 3.0}
    with pytest.raises(NectarganError, match="this manager is closed"):
        manager.compute_loss_xy("a", ZERO, ONE)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (None, ["G_L1", "G_GAN", "D_real"]),
        ("G", ["G_L1", "G_GAN"]),
        ("G_GAN", ["G_GAN"]),
        (["G"], ["G_L1", "G_GAN"]),
        (["D", "G_L1"], ["G_L1", "D_real"]),
        (("D_real", "nothing"), ["D_real"]),
        ({"D"}, ["D_real"]),
        ((name for name in ["D"]), ["D_real"]),
        ("GAN", []),
        ("", []),
        ([], []),
        (["g"], []),
    ],
)
def test_a_query_finds_what_has_the_name_or_tag(query, found):
    manager = adversarial()
    if inspect.isgenerator(query):
        assert list(manager.get_loss_values(query)) == found
        return
    for ask in (
        manager.get_registered_losses,
        manager.get_loss_values,
        manager.get_loss_tensors,
        manager.get_loss_weights,
    ):
        assert list(ask(query)) == found


@pytest.mark.parametrize("query", [3, [3], [["G"]]])
def test_a_query_of_something_else_is_refused(query):
    with pytest.raises(TypeError):
        adversarial().get_loss_values(query)


def test_a_query_finds_what_was_registered_since():
    manager = adversarial()
    manager.get_loss_values("G")
    manager.register_loss_fn("G_L2", nn.MSELoss(), tags=["G"])
    assert list(manager.get_loss_values("G")) == ["G_L1", "G_GAN", "G_L2"]


def test_weights_before_a_run_are_those_at_the_epoch_of_the_clock():
    manager = decaying()
    assert manager.get_loss_weights() == {"a": 100.0}
    manager.tick(epoch=15)
    assert manager.get_loss_weights() == {"a": 50.0}


def test_weights_after_a_run_are_those_last_applied():
    manager = decaying()
    manager.tick(epoch=15)
    manager.compute_loss_xy("a", ONE, ONE)
    manager.tick(epoch=20)
    assert manager.get_loss_weights() == {"a": 50.0}


def test_weights_are_rounded_to_two_digits_unless_asked_otherwise():
    manager = one(1.23456)
    assert manager.get_loss_weights() == {"a": 1.23}
    assert manager.get_loss_weights(precision=3) == {"a": 1.235}
    assert manager.get_loss_weights(precision=None) == {"a": 1.23456}


def test_snapshots_have_the_state_of_the_run():
    manager = one(3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    snapshot = manager.get_registered_losses()["a"]
    assert snapshot.last_loss_map.item() == 3.0
    assert snapshot.schedule.current_value == 3.0
    assert snapshot.name == "a"


def test_strip_empties_the_copies_and_never_the_manager_s():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert manager.get_registered_losses()["a"].history.losses == []
    assert manager.get_registered_losses(strip=True)["a"].history.weights == []
    assert manager.get_registered_losses(strip=False)["a"].history.losses == [3.0]


def test_a_snapshot_does_not_move_on():
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", mean, 3.0)
    manager.compute_loss_xy("a", ZERO, ONE)
    snapshot = manager.get_registered_losses(strip=False)["a"]
    manager.compute_loss_xy("a", ONE, ONE)
    assert (snapshot.history.losses, snapshot.last_loss_map.item()) == ([3.0], 3.0)


# Printing


def ran(**kwargs):
    manager = adversarial(**kwargs)
    manager.compute_losses({"y_fake": ZERO, "y": ONE / 3, "pred_fake": ONE, "pred_real": ONE})
    return manager


def test_losses_are_printed_as_in_the_reference(capsys):
    assert ran().print_losses(epoch=3, iter=20) is None
    assert capsys.readouterr().out == "(epoch: 3, iters: 20) Loss: G_L1: 33.33 G_GAN: -1.0 D_real: 1.0\n"


def test_weights_are_printed_as_in_the_reference(capsys):
    assert ran().print_weights() is None
    assert capsys.readouterr().out == "Loss weights: G_L1: 100.0 G_GAN: 1.0 D_real: 1.0\n"


def test_captured_lines_are_returned_and_not_printed(capsys):
    manager = ran()
    assert manager.print_losses(3, 20, precision=0, capture=True) == (
        "(epoch: 3, iters: 20) Loss: G_L1: 33.0 G_GAN: -1.0 D_real: 1.0"
    )
    assert manager.print_weights(capture=True) == "Loss weights: G_L1: 100.0 G_GAN: 1.0 D_real: 1.0"
    assert capsys.readouterr().out == ""


def test_a_flush_is_silent_unless_asked_otherwise(tmp_path, capsys):
    manager = ran(experiment_dir=tmp_path)
    assert manager.update_loss_log() is None
    assert capsys.readouterr().out == ""
    ran_again = ran(experiment_dir=tmp_path / "other")
    assert ran_again.update_loss_log(silent=False) is None
    assert "3 records in 0." in capsys.readouterr().out
    text = ran_again.update_loss_log(silent=False, capture=True)
    assert text.startswith("Loss log: 0 records in 0.")
    assert text.endswith(f"{tmp_path / 'other' / 'loss_log.jsonl'}")
    assert capsys.readouterr().out == ""


def test_a_flush_without_a_log_says_so():
    assert ran().update_loss_log(silent=False, capture=True) == "Loss log: logging to a file is off"


# Ending


def test_losses_that_never_ran_are_named_once_at_close():
    manager = adversarial()
    manager.compute_losses({"pred_real": ONE}, query="D")
    with pytest.warns(NectarganWarning, match=r"never computed: G_L1, G_GAN;") as caught:
        manager.close()
    assert len(caught) == 1


def test_losses_of_weight_zero_are_not_called_idle(recwarn):
    manager = adversarial()
    manager.set_weight("G_L1", 0.0)
    manager.disable("G_GAN")
    manager.compute_losses({"pred_real": ONE}, query="D")
    manager.close()
    assert not recwarn.list


def test_a_manager_is_a_context(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", mean)
        manager.compute_loss_xy("a", ZERO, ONE)
        assert not (tmp_path / "loss_log.jsonl").exists()
    assert (tmp_path / "loss_log.jsonl").exists()


def test_an_error_inside_is_not_swallowed(tmp_path):
    with pytest.raises(ZeroDivisionError), LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", mean)
        manager.compute_loss_xy("a", ZERO, ONE)
        raise ZeroDivisionError
    assert (tmp_path / "loss_log.jsonl").exists()


# Values that are nan or infinite


def bad(**kwargs):
    return manager_of(LMLoss(name="a", function=lambda x, y: x.mean() / y.mean()), **kwargs)


def test_raise_raises_at_the_next_compute_with_the_first_bad_step(tmp_path):
    manager = bad(nonfinite="raise", experiment_dir=tmp_path)
    for step in range(3):
        manager.tick(epoch=2)
        if step < 2:
            manager.compute_loss_xy("a", ONE, ONE if step < 1 else ZERO)
    assert manager.get_loss_values() == {"a": math.inf}
    with pytest.raises(NonFiniteLossError, match=r"loss 'a' became inf at step 1, epoch 2") as caught:
        manager.compute_loss_xy("a", ONE, ONE)
    error = caught.value
    assert (error.loss_name, error.step, error.epoch) == ("a", 1, 2)
    assert isinstance(error, ArithmeticError)
    assert manager.compute_loss_xy("a", ONE, ONE).item() == 1.0


def test_raise_raises_at_a_flush_and_at_the_end_of_the_block(tmp_path):
    manager = bad(nonfinite="raise", experiment_dir=tmp_path)
    manager.compute_loss_xy("a", ONE, ZERO)
    with pytest.raises(NonFiniteLossError):
        manager.update_loss_log()
    with pytest.raises(NonFiniteLossError), manager:
        manager.compute_loss_xy("a", ONE, ZERO)


def test_ignore_ignores(recwarn):
    manager = bad(nonfinite="ignore")
    manager.compute_loss_xy("a", ONE, ZERO)
    manager.compute_loss_xy("a", ONE, ZERO)
    manager.close()
    assert not recwarn.list


def test_each_loss_is_warned_of_by_name():
    manager = bad()
    manager.register_loss_fn("b", lambda x, y: x.mean() / y.mean())
    with pytest.warns(NectarganWarning) as caught:
        for _ in range(2):
            for name in "ab":
                manager.compute_loss_xy(name, ONE, ZERO)
    assert [str(warning.message)[:17] for warning in caught] == ["loss 'a' became i", "loss 'b' became i"]
