"""Every code example of the documents that describe the original system, in their order.

Imports are those of this package, and misspelt names of the documents are corrected: `experiment_dir=` for
`experiment_directory=`, `loss_name=` for `name=`, `last_loss_map` for `last_lost_map`.
"""

import inspect
import json
import re

import pytest
import torch
from torch import nn

from nectargan_core import ConfigManager, LMHistory, LMLoss, LossLog, LossManager, Schedule
from nectargan_core.errors import DuplicateLossError

CONFIG = {
    "config": {
        "common": {"device": "cpu"},
        "dataloader": {"dataroot": "/data/facades", "load": {"input_nc": 3, "crop_size": 256}},
        "train": {"loss": {"lambda_gan": 1.0, "lambda_l1": 100.0}},
    }
}


@pytest.fixture
def config_manager(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(CONFIG), encoding="utf-8")
    return ConfigManager(str(path))


@pytest.fixture
def loss_manager(config_manager, tmp_path):
    return LossManager(config=config_manager.data, experiment_dir=str(tmp_path / "experiment"))


@pytest.fixture
def registered(loss_manager, config_manager):
    """The manager with the loss that the documents register."""
    L1 = nn.L1Loss().to(config_manager.data.common.device)
    loss_manager.register_loss_fn(
        loss_name="mylossfunction", loss_fn=L1, loss_weight=100.0, tags=["descriptive_lookup_tag"]
    )
    return loss_manager


@pytest.fixture
def ran(registered):
    """The manager after that loss was run once, on tensors that are 0.25 apart."""
    y = torch.zeros(1, 3, 8, 8)
    y_fake = torch.full((1, 3, 8, 8), 0.25)
    result = registered.compute_loss_xy(loss_name="mylossfunction", x=y_fake, y=y)
    assert isinstance(result, torch.Tensor)
    return registered


# LossManager: signatures


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        ("get_registered_losses", "query=None, strip=True"),
        ("get_loss_values", "query=None, precision=2"),
        ("get_loss_tensors", "query=None"),
        ("get_loss_weights", "query=None, precision=2"),
        ("print_losses", "epoch, iter, precision=2, capture=False"),
        ("print_weights", "precision=2, capture=False"),
        ("update_loss_log", "silent=True, capture=False"),
        ("compute_loss_xy", "loss_name, x, y, epoch=None, loss_kwargs=None"),
        ("init_from_spec", "spec, *args, **kwargs"),
    ],
)
def test_a_method_has_the_signature_of_the_original(method, signature):
    _, *parameters = inspect.signature(getattr(LossManager, method)).parameters.values()
    shown = (str(parameter.replace(annotation=inspect.Parameter.empty)) for parameter in parameters)
    assert ", ".join(shown) == signature


# LossManager: initialising, registering, running


def test_initialising_a_manager(config_manager, tmp_path):
    loss_manager = LossManager(config=config_manager.data, experiment_dir=str(tmp_path / "out"))
    assert loss_manager.get_registered_losses() == {}


def test_registering_a_loss_function(registered):
    assert list(registered.get_registered_losses()) == ["mylossfunction"]


def test_a_name_that_is_registered_already_raises(registered):
    with pytest.raises(DuplicateLossError):
        registered.register_loss_fn(loss_name="mylossfunction", loss_fn=nn.L1Loss())


def test_running_a_loss_returns_it_with_its_weight_applied(registered):
    y = torch.rand(1, 3, 8, 8)
    y_fake = torch.rand(1, 3, 8, 8)
    result: torch.Tensor = registered.compute_loss_xy(loss_name="mylossfunction", x=y_fake, y=y)
    assert torch.equal(result, nn.functional.l1_loss(y_fake, y) * 100.0)


# LossManager: querying


def test_querying_the_losses_themselves(ran):
    losses: dict[str, LMLoss] = ran.get_registered_losses(query=None)
    mylossfn: LMLoss = losses["mylossfunction"]
    lossfn = mylossfn.function
    loss_map = mylossfn.last_loss_map
    assert isinstance(lossfn, nn.L1Loss)
    assert torch.equal(loss_map, torch.tensor(25.0))


def test_queried_losses_have_empty_histories(ran):
    mylossfn = ran.get_registered_losses()["mylossfunction"]
    assert isinstance(mylossfn.history, LMHistory)
    assert mylossfn.history.losses == []
    assert mylossfn.history.weights == []


def test_queried_losses_have_their_histories_with_strip_false(ran):
    mylossfn = ran.get_registered_losses(strip=False)["mylossfunction"]
    assert mylossfn.history.losses == [25.0]
    assert mylossfn.history.weights == [100.0]


def test_querying_values(ran):
    values: dict[str, float] = ran.get_loss_values(precision=2)
    assert values == {"mylossfunction": 25.0}


def test_querying_tensors(ran):
    tensors = ran.get_loss_tensors()
    assert torch.equal(tensors["mylossfunction"], torch.tensor(25.0))


def test_querying_weights(ran):
    weights: dict[str, float] = ran.get_loss_weights(precision=2)
    assert weights == {"mylossfunction": 100.0}


def test_querying_by_tag(ran):
    ran.register_loss_fn(loss_name="another", loss_fn=nn.MSELoss())
    lossfns = ran.get_registered_losses(query=["descriptive_lookup_tag"])
    values = ran.get_loss_values(query=["descriptive_lookup_tag"])
    tensors = ran.get_loss_tensors(query=["descriptive_lookup_tag"])
    weights = ran.get_loss_weights(query=["descriptive_lookup_tag"])
    assert lossfns.keys() == values.keys() == tensors.keys() == weights.keys() == {"mylossfunction"}


# LossManager: the log


def test_flushing_writes_the_log(ran, tmp_path):
    assert ran.update_loss_log(silent=True, capture=False) is None
    assert LossLog(tmp_path / "experiment").series("mylossfunction").loss.tolist() == [25.0]


def test_flushing_with_silent_false_prints_how_long_it_took(ran, capsys):
    ran.update_loss_log(silent=False)
    assert re.search(r"\d\.\d+ s", capsys.readouterr().out)


def test_flushing_with_capture_returns_the_text_instead_of_printing_it(ran, capsys):
    assert re.search(r"\d\.\d+ s", ran.update_loss_log(silent=False, capture=True))
    assert capsys.readouterr().out == ""


def test_a_full_buffer_is_flushed_before_the_next_call(config_manager, tmp_path):
    loss_manager = LossManager(config_manager.data, str(tmp_path / "experiment"), history_buffer_size=3)
    loss_manager.register_loss_fn("a", nn.L1Loss())
    kept = []
    for _ in range(7):
        loss_manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1))
        kept.append(len(loss_manager.get_registered_losses(strip=False)["a"].history.losses))
    assert kept == [1, 2, 3, 1, 2, 3, 1]


def test_without_logging_only_the_last_value_is_kept(config_manager, tmp_path):
    loss_manager = LossManager(config_manager.data, str(tmp_path / "experiment"), enable_logging=False)
    loss_manager.register_loss_fn("a", nn.L1Loss())
    for value in (1.0, 2.0):
        loss_manager.compute_loss_xy("a", torch.zeros(1), torch.full((1,), value))
    history = loss_manager.get_registered_losses(strip=False)["a"].history
    assert (history.losses, history.weights) == ([2.0], [1.0])


# LossManager: printing


def test_printing_losses(ran, capsys):
    ran.print_losses(epoch=1, iter=20)
    assert capsys.readouterr().out == "(epoch: 1, iters: 20) Loss: mylossfunction: 25.0\n"


def test_printing_weights(ran, capsys):
    ran.print_weights()
    assert capsys.readouterr().out == "Loss weights: mylossfunction: 100.0\n"


# Loss specs


def test_a_manager_for_a_spec(config_manager, tmp_path):
    loss_manager = LossManager(config=config_manager.data, experiment_dir=str(tmp_path / "out"))
    assert loss_manager.config.common.device == "cpu"


def test_initialising_from_a_spec(loss_manager, config_manager, alone):
    spec = pytest.importorskip("nectargan_pix2pix")
    alone.install_spec("any-vgg", "vgg")
    loss_subspec = "extended+vgg"
    loss_manager.init_from_spec(spec.pix2pix, config_manager.data, loss_subspec)
    assert list(loss_manager.get_registered_losses()) == [
        *("G_GAN", "G_L1", "D_real", "D_fake", "G_L2", "G_SOBEL", "G_LAP"),
        "vgg",
    ]
    assert list(loss_manager.get_registered_losses(["D"])) == ["D_real", "D_fake"]
    weights = loss_manager.get_loss_weights()
    assert (weights["G_GAN"], weights["G_L1"], weights["D_real"], weights["D_fake"]) == (1.0, 100.0, 1.0, 1.0)


def test_init_from_spec_with_none_empties_the_manager(registered):
    registered.init_from_spec(None)
    assert registered.get_registered_losses() == {}


def test_a_spec_is_any_callable_that_returns_losses(loss_manager):
    def my_objective(scale, *, name):
        return {name: LMLoss(name=name, function=nn.L1Loss(), loss_weight=scale)}

    loss_manager.init_from_spec(my_objective, 10.0, name="mine")
    assert loss_manager.get_loss_weights() == {"mine": 10.0}


# Scheduling


def test_a_loss_without_a_schedule_has_its_weight_as_the_current_value():
    my_loss = LMLoss(name="my_loss", function=nn.L1Loss(), loss_weight=100.0)
    assert my_loss.schedule == Schedule()
    assert my_loss.schedule.current_value == 100.0


def test_a_loss_with_a_schedule_has_its_initial_value_as_the_weight():
    my_loss = LMLoss(name="my_loss", function=nn.L1Loss(), schedule=Schedule(end_epoch=5, initial_value=7.0))
    assert my_loss.loss_weight == 7.0


def test_a_schedule_may_be_a_function(loss_manager):
    loss_manager.register_loss_fn("a", nn.L1Loss(), schedule=Schedule(schedule=lambda schedule, epoch: 2.0 * epoch))
    assert loss_manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1), epoch=3).item() == 6.0
    assert loss_manager.get_loss_weights() == {"a": 6.0}


def test_parameters_of_the_schedule_may_be_given_with_the_call(loss_manager):
    def power(schedule, epoch, exponent=1):
        return float(epoch**exponent)

    loss_manager.register_loss_fn("a", nn.L1Loss(), schedule=Schedule(schedule=power))
    kwargs = {"weight_kwargs": {"exponent": 2}}
    result = loss_manager.compute_loss_xy("a", torch.zeros(1), torch.ones(1), epoch=3, loss_kwargs=kwargs)
    assert result.item() == 9.0


@pytest.mark.parametrize("schedule", ["no_such_schedule", 5, None])
def test_an_invalid_schedule_raises(loss_manager, schedule):
    with pytest.raises((LookupError, ValueError)):
        loss_manager.register_loss_fn("a", nn.L1Loss(), schedule=Schedule(schedule=schedule))


SCHEDULE = {
    "schedule": "linear",
    "start_epoch": 100,
    "end_epoch": 200,
    "initial_value": 100.0,
    "target_value": 0.0,
}
BY_EPOCH = [(0, 100.0), (100, 100.0), (150, 50.0), (200, 0.0), (300, 0.0)]


def test_creating_a_loss_with_a_schedule():
    schedule = Schedule(**SCHEDULE)
    my_loss = LMLoss(name="my_loss", function=nn.L1Loss(), schedule=schedule, tags=["my_tag"])
    assert (my_loss.loss_weight, my_loss.tags) == (100.0, ["my_tag"])


@pytest.mark.parametrize(("epoch", "weight"), BY_EPOCH)
def test_registering_a_loss_with_a_schedule(loss_manager, epoch, weight):
    schedule = Schedule(**SCHEDULE)
    loss_manager.register_loss_fn(loss_name="my_loss", loss_fn=nn.L1Loss(), schedule=schedule, tags=["my_tag"])
    result = loss_manager.compute_loss_xy("my_loss", torch.zeros(1), torch.ones(1), epoch=epoch)
    assert result.item() == weight
    assert loss_manager.get_loss_weights(["my_tag"]) == {"my_loss": weight}
