"""The total of losses that are finite may not be, and is reported like a loss; values before weighting."""

import gc
import warnings
import weakref

import pytest
import torch
from devices import OnDevice, Operations, elsewhere
from managers import ONE, identity, manager_of

from nectargan_core import ComputedLosses, LMLoss, LossManager, Schedule, hookimpl
from nectargan_core.errors import LossResultError, NectarganError, NectarganWarning, NonFiniteLossError

LARGE = torch.tensor(3e38)
INFINITE = torch.tensor(torch.inf)


def pair(**keywords):
    """Return a manager of two losses, each of which returns the input of its name."""
    losses = [LMLoss(name=name, function=lambda x: x * 1, inputs=(name,)) for name in "ab"]
    return manager_of(*losses, **keywords)


def given(value, wrap=lambda value: value):
    return {"a": wrap(value), "b": wrap(value)}


def on_device(value):
    return OnDevice(value.clone())


class Notes:
    def __init__(self):
        self.seen = []

    @hookimpl
    def nectargan_nonfinite_loss(self, loss_name, step, epoch, value):
        self.seen.append((loss_name, step, epoch, value))


# A total that is not finite


def test_a_total_that_overflows_is_warned_of_with_its_losses():
    manager = pair()
    manager.tick(epoch=2, step=7)
    losses = manager.compute_losses(given(LARGE))
    with pytest.warns(NectarganWarning, match=r"the total of a, b became inf at step 7, epoch 2; this total is not"):
        assert losses.total.item() == torch.inf


def test_a_total_is_reported_once_however_often_it_is_asked_for():
    losses = pair(nonfinite="raise").compute_losses(given(LARGE))
    with pytest.raises(NonFiniteLossError):
        losses.total  # noqa: B018 # asking is the test
    assert losses.total.item() == torch.inf


def test_a_total_is_warned_of_once_in_a_run():
    manager = pair()
    with pytest.warns(NectarganWarning):
        manager.compute_losses(given(LARGE)).total  # noqa: B018 # asking is the test
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert manager.compute_losses(given(LARGE)).total.item() == torch.inf


def test_a_total_that_overflows_is_an_error_with_raise():
    manager = pair(nonfinite="raise")
    manager.tick(epoch=2, step=7)
    with pytest.raises(NonFiniteLossError, match="the total of a, b became inf at step 7") as caught:
        manager.compute_losses(given(LARGE)).total.backward()
    assert (caught.value.loss_name, caught.value.step, caught.value.epoch) == ("total", 7, 2)


def test_a_total_that_overflows_is_ignored_with_ignore(recwarn):
    assert pair(nonfinite="ignore").compute_losses(given(LARGE)).total.item() == torch.inf
    assert not recwarn.list


@pytest.mark.parametrize("wrap", [lambda value: value, on_device])
def test_observers_are_notified_of_a_total_that_overflows(wrap):
    notes = Notes()
    manager = pair(nonfinite="ignore", observers=[notes], enable_logging=True)
    manager.tick(epoch=2, step=7)
    manager.compute_losses(given(LARGE, wrap)).total  # noqa: B018 # asking is the test
    manager.update_loss_log()
    assert notes.seen == [("total", 7, 2, torch.inf)]


@pytest.mark.parametrize("wrap", [lambda value: value, on_device])
def test_a_total_of_a_loss_that_is_infinite_itself_is_not_reported_again(wrap):
    notes = Notes()
    manager = pair(nonfinite="ignore", observers=[notes], enable_logging=True)
    manager.compute_losses({"a": wrap(INFINITE), "b": wrap(LARGE)}).total  # noqa: B018 # asking is the test
    manager.update_loss_log()
    assert [name for name, *_ in notes.seen] == ["a"]


def test_a_total_in_a_split_is_reported_under_its_name():
    manager = pair(nonfinite="raise")
    with manager.split("val"), pytest.raises(NonFiniteLossError) as caught:
        manager.compute_losses(given(LARGE)).total  # noqa: B018 # asking is the test
    assert caught.value.loss_name == "val/total"


def test_a_total_in_a_pause_is_not_reported():
    manager = pair(nonfinite="raise")
    with manager.paused():
        assert manager.compute_losses(given(LARGE)).total.item() == torch.inf


def test_a_loss_named_total_and_the_total_are_both_warned_of():
    manager = pair()
    manager.register_loss_fn("total", identity, inputs=("a", "b"))
    with pytest.warns(NectarganWarning, match="loss 'total' became inf"):
        manager.compute_loss_xy("total", INFINITE, None)
    with pytest.warns(NectarganWarning, match="the total of a, b became inf"):
        manager.compute_losses(given(LARGE), query=["a", "b"]).total  # noqa: B018 # asking is the test


def test_the_step_of_a_total_is_that_of_its_losses():
    manager = pair(nonfinite="raise")
    manager.tick(epoch=0)
    losses = manager.compute_losses(given(LARGE))
    manager.tick(epoch=1)
    with pytest.raises(NonFiniteLossError, match="at step 0, epoch 0"):
        losses.total  # noqa: B018 # asking is the test


def test_a_total_without_a_clock_has_the_step_of_its_losses():
    manager = pair(nonfinite="raise")
    manager.compute_losses(given(ONE))
    with pytest.raises(NonFiniteLossError, match="at step 1, epoch 0"):
        manager.compute_losses(given(LARGE)).total  # noqa: B018 # asking is the test


def test_a_total_that_was_put_together_by_hand_is_not_reported(recwarn):
    assert ComputedLosses(a=LARGE, b=LARGE).total.item() == torch.inf
    assert not recwarn.list


# On a device


@pytest.mark.parametrize("logging", [True, False])
def test_a_total_on_a_device_is_not_waited_for(logging):
    OnDevice.done = []
    manager = pair(nonfinite="raise", enable_logging=logging)
    manager.compute_losses(given(LARGE, on_device)).total  # noqa: B018 # asking is the test
    assert not {"tolist", "_local_scalar_dense", "isfinite"} & set(OnDevice.done)


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("wrap", [on_device, lambda value: elsewhere(value.item())])
def test_a_total_on_a_device_is_raised_at_the_next_tick(logging, wrap):
    manager = pair(nonfinite="raise", enable_logging=logging)
    manager.tick(epoch=0)
    assert manager.compute_losses(given(LARGE, wrap)).total is not None
    with pytest.raises(NonFiniteLossError, match="the total of a, b became inf at step 0, epoch 0"):
        manager.tick(epoch=1)


def test_a_total_on_a_device_is_warned_of_when_values_are_read():
    manager = pair()
    manager.compute_losses(given(LARGE, on_device)).total  # noqa: B018 # asking is the test
    with pytest.warns(NectarganWarning, match="the total of a, b became inf at step 0"):
        manager.get_loss_values()


def test_a_total_on_a_device_is_read_with_its_losses_at_one_wait():
    manager = pair()
    manager.compute_losses(given(ONE.sum(), on_device)).total  # noqa: B018 # asking is the test
    OnDevice.done = []
    manager.get_loss_values()
    assert OnDevice.done.count("tolist") == 1


@pytest.mark.parametrize("logging", [True, False])
def test_totals_on_a_device_are_not_recorded(logging):
    manager = pair(enable_logging=logging)
    for _ in range(100):
        manager.compute_losses(given(ONE.sum(), on_device)).total  # noqa: B018 # asking is the test
    state = manager.state_dict()
    assert set(state["counts"]) == {"a", "b"}
    assert set(manager.latest()) == {"a", "b"}
    assert not manager._recorder._totals


# Before weighting


def weighted(**keywords):
    manager = manager_of(
        LMLoss(name="a", function=lambda y_fake, y: (y_fake - y).square(), loss_weight=3.0),
        LMLoss(name="b", function=lambda y_fake, y: (y_fake - y).sum(), loss_weight=0.5),
        LMLoss(name="zero", function=lambda y_fake, y: y.sum(), loss_weight=0.0),
        **keywords,
    )
    y_fake = torch.tensor([1.0, 2.0], requires_grad=True)
    return manager, {"y_fake": y_fake, "y": torch.tensor([5.0, 5.0])}


def test_unweighted_values_are_what_the_functions_returned():
    manager, inputs = weighted()
    unweighted = manager.compute_losses(inputs).unweighted
    assert (unweighted["a"].tolist(), unweighted["b"].item()) == ([16.0, 9.0], -7.0)


def test_unweighted_values_have_the_order_of_the_losses():
    manager, inputs = weighted()
    assert list(manager.compute_losses(inputs).unweighted) == ["a", "b", "zero"]


def test_an_unweighted_value_is_nan_where_the_loss_was_skipped():
    manager, inputs = weighted()
    assert manager.compute_losses(inputs).unweighted["zero"].isnan()


def test_an_unweighted_value_is_that_of_a_function_that_ran_at_weight_zero():
    loss = LMLoss(name="a", function=lambda y_fake, y: y.sum(), loss_weight=0.0, skip_when_zero=False)
    losses = manager_of(loss).compute_losses({"y_fake": ONE, "y": ONE})
    assert losses.unweighted["a"].item() == 4.0


def test_an_unweighted_value_of_a_disabled_loss_is_nan():
    manager, inputs = weighted()
    manager.disable("a")
    assert manager.compute_losses(inputs).unweighted["a"].isnan()


def test_unweighted_values_are_detached():
    manager, inputs = weighted()
    assert not any(value.requires_grad for value in manager.compute_losses(inputs).unweighted.values())


def test_unweighted_values_cannot_be_changed():
    manager, inputs = weighted()
    with pytest.raises(TypeError):
        manager.compute_losses(inputs).unweighted["a"] = ONE


def test_unweighted_values_stay_when_a_result_is_edited_in_place():
    manager, inputs = weighted()
    losses = manager.compute_losses(inputs)
    losses["b"].detach().zero_()
    assert losses.unweighted["b"].item() == -7.0


def test_unweighted_values_stay_on_their_device_and_are_not_waited_for():
    manager = pair()
    losses = manager.compute_losses(given(LARGE, on_device))
    OnDevice.done = []
    assert losses.unweighted["a"].device.type == "cuda"
    assert set(OnDevice.done) <= {"detach"}


def test_unweighted_values_cost_no_operation_until_they_are_asked_for():
    manager, inputs = weighted()
    manager.disable("zero")
    with Operations() as operations:
        manager.compute_losses(inputs, query="b")
    assert operations.names == ["sub.Tensor", "sum.default", "mul.Tensor", "_local_scalar_dense.default"]


def test_losses_put_together_by_hand_have_no_unweighted_values():
    with pytest.raises(NectarganError, match=r"only compute_losses outside of torch\.compile keeps unweighted values"):
        ComputedLosses(a=ONE).unweighted  # noqa: B018 # asking is the test


@pytest.mark.parametrize("call", ["compute_loss_xy", "compute_losses"])
def test_the_manager_keeps_no_graph_alive_for_unweighted_values(call):
    manager, inputs = weighted()
    leaf = inputs.pop("y_fake")
    middle = leaf * 2
    reference = weakref.ref(middle)
    if call == "compute_losses":
        manager.compute_losses({"y_fake": middle, **inputs}).unweighted  # noqa: B018 # asking is the test
    else:
        manager.compute_loss_xy("b", middle, inputs["y"])
    del middle
    gc.collect()
    assert reference() is None


# An error in one of several losses


def failing(x):
    raise KeyError("mine")


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (failing, KeyError),
        (lambda x: 1.0, LossResultError),
        (lambda x: x.to(torch.complex64), LossResultError),
        (lambda x: x.reshape(1).to_sparse(), LossResultError),
        (lambda x: x.to(torch.float8_e4m3fn), LossResultError),
    ],
)
@pytest.mark.parametrize("schedule", [Schedule(), Schedule(initial_value=1.0, end=10, target_value=0.0)])
def test_an_error_in_one_loss_records_none_of_the_call(function, error, schedule):
    manager = pair(enable_logging=True)
    manager.register_loss_fn("c", function, inputs=("a",), schedule=schedule)
    manager.tick(epoch=0)
    with pytest.raises(error):
        manager.compute_losses(given(torch.tensor(1.0)))
    assert manager.state_dict()["counts"] == {"a": 0, "b": 0, "c": 0}
    assert [tensor.isnan().item() for tensor in manager.get_loss_tensors().values()] == [True] * 3


@pytest.mark.parametrize("kind", [torch.complex64, torch.float8_e4m3fn, torch.uint16])
@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_result_that_is_not_of_real_numbers_is_named_and_not_recorded(kind, shape):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn("a", lambda x, y: torch.ones(shape).to(kind))
    with pytest.raises(LossResultError, match=rf"loss 'a' returned a tensor of {kind} at epoch 0"):
        manager.compute_loss_xy("a", None, None)
    assert manager.state_dict()["counts"] == {"a": 0}


def test_a_sparse_result_is_named_with_its_layout():
    manager = LossManager()
    manager.register_loss_fn("a", lambda x, y: torch.ones(2).to_sparse())
    with pytest.raises(LossResultError, match=r"in the layout torch\.sparse_coo at epoch 0; expected a dense"):
        manager.compute_loss_xy("a", None, None)
