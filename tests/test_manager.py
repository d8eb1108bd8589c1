"""The manager: its arguments, its clock, closing, and losses that are not finite."""

import inspect
import math

import pytest
import torch
from devices import elsewhere
from managers import ONE, ZERO, adversarial, manager_of, mean, one
from torch import nn

from nectargan_core import Config, ConfigManager, LMLoss, LossManager
from nectargan_core.errors import (
    ConfigError,
    NectarganWarning,
    NonFiniteLossError,
)

# Arguments


def test_the_signature_of_loss_manager_is_the_documented_one():
    parameters = inspect.signature(LossManager).parameters
    promised = ("config", "experiment_dir", "enable_logging", "history_buffer_size")
    assert tuple(parameters)[:4] == promised
    assert all(parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for name in promised)
    assert all(parameters[name].kind is inspect.Parameter.KEYWORD_ONLY for name in ("device", "observers"))
    assert parameters["history_buffer_size"].default == 50_000
    assert parameters["enable_logging"].default is None


@pytest.mark.parametrize("config", [None, {}, {"common": {"device": "cpu"}}, Config(), ConfigManager(None).data])
def test_the_configuration_is_a_config_a_mapping_or_nothing(config):
    assert isinstance(LossManager(config).config, Config)


def test_a_bad_configuration_names_the_key():
    with pytest.raises(ConfigError, match=r"train\.loss\.lambda_l1"):
        LossManager({"train": {"loss": {"lambda_l1": "much"}}})


@pytest.mark.parametrize("kwargs", [{"config": {"common": {"device": "cudda"}}}, {"device": "cudda"}])
def test_an_unknown_device_is_refused(kwargs):
    with pytest.raises(ConfigError, match="'cudda' is no device that torch knows") as caught:
        LossManager(**kwargs)
    assert caught.value.key == "common.device"


@pytest.mark.parametrize(
    "kwargs", [{"history_buffer_size": 0}, {"nonfinite": "explode"}, {"flush_every": -1.0}, {"flush_every": math.nan}]
)
def test_an_invalid_argument_is_refused_by_name(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=name):
        LossManager(**kwargs)


def test_the_device_argument_overrides_the_configuration():
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


def test_its_repr_names_the_losses_and_the_directory(tmp_path):
    assert repr(LossManager()) == "LossManager(no losses)"
    manager = one()
    assert repr(manager) == "LossManager(a)"
    assert repr(LossManager(experiment_dir=tmp_path)) == f"LossManager(no losses, experiment_dir={str(tmp_path)!r})"


# The clock


def steps_and_epochs(manager, name="a"):
    history = manager.get_registered_losses(strip=False)[name].history
    return list(zip(history.steps, history.epochs, strict=True))


def counted(**kwargs):
    return manager_of(LMLoss(name="a", function=mean), LMLoss(name="b", function=mean), enable_logging=True, **kwargs)


def test_the_first_tick_is_step_zero_and_each_adds_one():
    manager = counted()
    for epoch in (0, 0, 1):
        manager.tick(epoch=epoch)
        manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 0.0), (1, 0.0), (2, 1.0)]


def test_a_tick_with_a_step_sets_it_and_the_next_adds_one():
    manager = counted()
    for step in (7, None, 13, None):
        manager.tick(step=step)
        manager.compute_loss_xy("a", ZERO, ONE)
    assert [step for step, _ in steps_and_epochs(manager)] == [7, 8, 13, 14]


def test_a_step_that_goes_back_warns_once_and_supersedes_nothing():
    manager = counted()
    for step in (0, 1, 2):
        manager.tick(step=step)
        manager.compute_loss_xy("a", ZERO, ONE)
    with pytest.warns(NectarganWarning, match="the step goes back from 2 to 0") as caught:
        for step in (0, 1, 2, 0, 1, 2):
            manager.tick(step=step)
            manager.compute_loss_xy("a", ZERO, ONE)
    assert len(caught) == 1
    assert [step for step, _ in steps_and_epochs(manager)] == [0, 1, 2] * 3


@pytest.mark.parametrize(("calls", "steps"), [(0, [0, 1]), (1, [0, 1, 2]), (3, [0, 1, 2, 3, 4])])
def test_the_first_tick_counts_the_calls_that_were_made_before_it(calls, steps):
    manager = counted()
    for _ in range(calls):
        manager.compute_loss_xy("a", ZERO, ONE)
    for _ in range(2):
        manager.tick()
        manager.compute_loss_xy("a", ZERO, ONE)
    assert [step for step, _ in steps_and_epochs(manager)] == steps


def test_a_tick_after_computing_counts_each_step_once():
    manager = counted()
    for _ in range(3):
        manager.compute_loss_xy("a", ZERO, ONE)
        manager.tick()
    assert [step for step, _ in steps_and_epochs(manager)] == [0, 1, 2]


def test_what_is_recorded_in_a_split_before_the_first_tick_is_at_step_zero():
    manager = counted()
    with manager.split("val"):
        for _ in range(4):
            manager.compute_loss_xy("a", ZERO, ONE)
            manager.record("psnr", 20.0)
    assert manager.series("val/a").step.tolist() == manager.series("val/psnr").step.tolist() == [0] * 4
    manager.record("rate", 0.5)
    manager.tick()
    assert manager.step == 0


def test_a_tick_without_an_epoch_keeps_it():
    manager = counted()
    manager.tick(epoch=2.5)
    manager.tick()
    assert (manager.epoch, manager.step) == (2.5, 1)


def test_losses_that_run_at_different_rates_have_the_steps_of_the_clock():
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


def test_the_epoch_of_a_call_overrides_the_clock_and_does_not_change_it():
    manager = counted()
    manager.tick(epoch=1)
    manager.compute_loss_xy("a", ZERO, ONE, epoch=9)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 9.0), (0, 1.0)]
    assert (manager.step, manager.epoch) == (0, 1)


@pytest.mark.parametrize("epoch", [-1, -0.5, math.nan, math.inf])
def test_the_clock_refuses_an_invalid_epoch(epoch):
    with pytest.raises(ValueError, match="epoch must be"):
        LossManager().tick(epoch=epoch)


@pytest.mark.parametrize(("step", "error"), [(-1, ValueError), (2**63, ValueError), (1.5, TypeError)])
def test_the_clock_refuses_an_invalid_step(step, error):
    manager = counted()
    with pytest.raises(error):
        manager.tick(step=step)
    manager.compute_loss_xy("a", ZERO, ONE)
    assert steps_and_epochs(manager) == [(0, 0.0)]


# Closing


def test_losses_that_never_ran_are_named_once_at_close():
    manager = adversarial()
    manager.compute_losses({"pred_real": ONE}, query="D")
    with pytest.warns(NectarganWarning, match=r"never computed: G_L1, G_GAN;") as caught:
        manager.close()
    assert len(caught) == 1


def test_losses_with_weight_zero_are_not_warned_of_as_never_computed(recwarn):
    manager = adversarial()
    manager.set_weight("G_L1", 0.0)
    manager.disable("G_GAN")
    manager.compute_losses({"pred_real": ONE}, query="D")
    manager.close()
    assert not recwarn.list


def test_leaving_the_with_block_writes_the_log(tmp_path):
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("a", mean)
        manager.compute_loss_xy("a", ZERO, ONE)
        assert not (tmp_path / "loss_log.jsonl").exists()
    assert (tmp_path / "loss_log.jsonl").exists()


def test_an_error_in_the_with_block_is_raised_and_the_log_is_written(tmp_path):
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("a", mean)
    manager.register_loss_fn("broken", lambda x, y: 1 / 0)
    manager.compute_loss_xy("a", ZERO, ONE)
    with pytest.raises(ZeroDivisionError), manager:
        manager.compute_loss_xy("broken", ZERO, ONE)
    assert (tmp_path / "loss_log.jsonl").exists()


# Values that are nan or infinite


def bad(**kwargs):
    return manager_of(LMLoss(name="a", function=lambda x, y: x.mean() / y.mean()), **kwargs)


@pytest.mark.parametrize("shape", [(), (4,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_nonfinite_raise_raises_out_of_the_call_that_computed_it(tmp_path, shape, dtype):
    manager = LossManager(nonfinite="raise", experiment_dir=tmp_path)
    manager.register_loss_fn("a", lambda x, y: x / y)
    one, zero = torch.ones(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
    for step in range(2):
        manager.tick(epoch=2)
        if step == 0:
            manager.compute_loss_xy("a", one, one)
            continue
        with pytest.raises(NonFiniteLossError, match=r"loss 'a' became inf at step 1, epoch 2") as caught:
            manager.compute_losses({"y_fake": one, "y": zero})
    assert manager.get_loss_values() == {"a": math.inf}
    error = caught.value
    assert (error.loss_name, error.step, error.epoch) == ("a", 1, 2)
    assert isinstance(error, ArithmeticError)
    assert manager.compute_loss_xy("a", one, one).mean().item() == 1.0
    manager.close()


def test_nonfinite_raise_raises_at_the_next_tick_for_a_value_on_a_device():
    manager = LossManager(nonfinite="raise", flush_every=1e9)
    manager.register_loss_fn("a", lambda x, y: x)
    manager.tick()
    manager.compute_loss_xy("a", elsewhere(1.0), None)
    manager.tick()
    manager.compute_loss_xy("a", elsewhere(math.inf), None)
    with pytest.raises(NonFiniteLossError, match="became inf at step 1"):
        manager.tick()
    assert manager.step == 1


def test_nonfinite_ignore_does_not_warn(recwarn):
    manager = bad(nonfinite="ignore")
    manager.compute_loss_xy("a", ONE, ZERO)
    manager.compute_loss_xy("a", ONE, ZERO)
    manager.close()
    assert not recwarn.list


def test_each_loss_that_is_not_finite_is_warned_of_by_name():
    manager = bad()
    manager.register_loss_fn("b", lambda x, y: x.mean() / y.mean())
    with pytest.warns(NectarganWarning) as caught:
        for _ in range(2):
            for name in "ab":
                manager.compute_loss_xy(name, ONE, ZERO)
    assert [str(warning.message)[:17] for warning in caught] == ["loss 'a' became i", "loss 'b' became i"]
