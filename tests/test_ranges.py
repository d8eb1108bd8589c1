"""The range that a loss expects of its inputs: looked at once, and warned of where the values cannot be in it."""

import gc
import pickle
import warnings
import weakref

import pytest
import torch
from devices import OnDevice, Operations
from managers import manager_of
from pydantic import ValidationError
from torch import nn

from nectargan_core import LMLoss, LossManager, Schedule
from nectargan_core.errors import NectarganWarning, SnapshotError

SIGNED = torch.linspace(-1, 1, 12).reshape(1, 3, 2, 2)
POSITIVE = torch.linspace(0, 1, 12).reshape(1, 3, 2, 2)
RANGES = {"y": (-1.0, 1.0)}


def expecting(ranges=RANGES, function=None, **fields):
    function = function or nn.L1Loss()
    return LMLoss(name="G_SSIM", function=function, tags=["G"], ranges=ranges, **fields)


def manager(ranges=RANGES, **fields):
    return manager_of(expecting(ranges, **fields))


def warned(compute):
    """Return what a function warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compute()
    assert all(issubclass(each.category, NectarganWarning) for each in caught)
    return [str(each.message) for each in caught]


def of(y, ranges=RANGES, **fields):
    """Return what a manager warns of that computes one loss of this target."""
    return warned(lambda: manager(ranges, **fields).compute_losses({"y_fake": SIGNED, "y": y}))


def nothing_of(*_, **__):
    return torch.zeros(())


# What is warned of


def test_the_warning_names_loss_input_what_was_found_what_was_expected_and_what_to_do():
    assert of(POSITIVE) == [
        "loss 'G_SSIM' expects the values of the input 'y' to be from -1 to 1, and at its first computation they were "
        "from 0 to 1, as in images from 0 to 1; normalise them to -1 to 1, or, where the spec of the loss has the "
        'option, say what range they are in: options={"name": {"input_range": (0.0, 1.0)}}'
    ]


@pytest.mark.parametrize("y", [SIGNED, SIGNED / 2, SIGNED * 1.004, torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_values_that_may_be_in_the_range_are_not_warned_of(y, dtype):
    assert of(y.to(dtype)) == []


@pytest.mark.parametrize(
    ("y", "expected", "found", "option"),
    [
        (POSITIVE * 255, (-1, 1), "from 0 to 255;", "(0.0, 255.0)"),
        (POSITIVE, (0, 255), "from 0 to 1, as in images from 0 to 1;", "(0.0, 1.0)"),
        (SIGNED, (0, 255), "from -1 to 1, as in images from -1 to 1;", "(-1.0, 1.0)"),
        (SIGNED, (0, 1), "from -1 to 1;", "(-1.0, 1.0)"),
        (POSITIVE / 2, (-1, 1), "from 0 to 0.5, as in images from 0 to 1;", "(0.0, 1.0)"),
        ((POSITIVE * 255).byte(), (-1, 1), "from 0 to 255;", "(0.0, 255.0)"),
        (SIGNED * 2.5, (-1, 1), "from -2.5 to 2.5; normalise them to -1 to 1", None),
        (POSITIVE * 1.5, (0, 1), "from 0 to 1.5; normalise them to 0 to 1", None),
        (SIGNED * float("inf"), (-1, 1), "from -inf to inf", None),
    ],
)
def test_values_of_another_range_are_warned_of(y, expected, found, option):
    (message,) = of(y, {"y": expected}, function=nothing_of)
    assert found in message
    assert ("input_range" in message) is (option is not None)
    assert option is None or f'"input_range": {option}}}' in message


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (POSITIVE, (0, 1)),
        (POSITIVE, (0.0, 1.5)),
        (SIGNED, (-10, 10)),
        (torch.tensor([0, 1, 1]), (0, 9)),
        (torch.tensor([0, 255], dtype=torch.uint8), (0, 255)),
        (torch.tensor([True, False]), (0, 1)),
        (torch.tensor([float("nan"), 300.0]), (-1, 1)),
        (torch.empty(0, 3, 2, 2), (-1, 1)),
        (POSITIVE * 255, (0, 255)),
        (SIGNED * 127, (-128, 127)),
        (torch.tensor([1 + 300j]), (-1, 1)),
        (POSITIVE.to_sparse(), (-1, 1)),
        (POSITIVE.to("meta"), (-1, 1)),
        (POSITIVE.to(torch.float8_e4m3fn), (-1, 1)),
        ("text", (-1, 1)),
        (nn.Linear(1, 1), (5, 6)),
        (None, (-1, 1)),
    ],
)
def test_values_that_say_nothing_of_the_range_are_not_warned_of(y, expected):
    assert of(y, {"y": expected}, function=nothing_of, inputs=("y",)) == []


def test_each_input_with_a_range_is_warned_of_by_itself():
    first, second = of(POSITIVE * 255, {"y_fake": (0, 1), "y": (0, 1)})
    assert "'y_fake'" in first
    assert "'y'" in second


def test_a_list_is_looked_at_as_a_whole():
    given = [POSITIVE, {"coarse": (torch.empty(0), POSITIVE * 255)}]
    (message,) = of(given, function=nothing_of)
    assert "from 0 to 255" in message
    assert of([POSITIVE, SIGNED], function=nothing_of) == []


def test_a_list_in_itself_is_not_looked_at():
    given = [POSITIVE * 255]
    given.append(given)
    assert of(given, function=nothing_of) == []


def test_a_lazy_input_is_looked_at_by_its_value():
    (message,) = of(lambda: POSITIVE)
    assert "'y'" in message


def test_inputs_by_parameter_are_looked_at():
    def compare(target, fake):
        return (fake - target).abs().mean()

    inputs = {"fake": "y_fake", "target": "y"}
    (message,) = of(POSITIVE, function=compare, inputs=inputs)
    assert "'y'" in message
    given = manager(function=compare, inputs=inputs)
    (message,) = warned(lambda: given.compute_loss_xy("G_SSIM", POSITIVE, SIGNED))
    assert "'y'" in message


# Logits


def of_scores(pred_fake, **fields):
    """Return what a manager warns of that computes one loss of these scores."""
    loss = LMLoss(
        name="G_GAN", function=nothing_of, inputs=("pred_fake",), ranges={"pred_fake": "logits"}, tags=["G"], **fields
    )
    made = manager_of(loss)
    return warned(lambda: made.compute_losses({"pred_fake": pred_fake}))


PROBABILITIES = torch.linspace(0.05, 0.95, 64).reshape(1, 1, 8, 8)
CLASSES = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])


def test_the_warning_of_probabilities_says_what_the_network_must_end_with():
    assert of_scores(PROBABILITIES) == [
        "loss 'G_GAN' expects the values of the input 'pred_fake' to be logits, which have no bounds, and at its first "
        "computation they were from 0.05 to 0.95, as after a sigmoid; the last layer of the network that makes them "
        "must have no sigmoid or softmax, since the loss applies what it needs"
    ]
    (message,) = of_scores(CLASSES)
    assert "from 0.1 to 0.6, and their sums over dimension 1 were 1, as after a softmax; the last layer" in message


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_of_any_dtype_are_warned_of(dtype):
    scores = torch.randn(4, 21, 16, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert len(of_scores(scores.softmax(1))) == len(of_scores((3 * scores).sigmoid())) == 1
    assert len(of_scores(torch.eye(3, dtype=dtype))) == 1
    assert of_scores(scores) == of_scores(scores.log_softmax(1)) == []


@pytest.mark.parametrize(
    "scores",
    [
        PROBABILITIES - 0.1,
        PROBABILITIES + 0.1,
        PROBABILITIES.flatten()[1:],
        PROBABILITIES.clamp(0.15),
        PROBABILITIES.clamp(max=0.85),
        CLASSES[0],
        CLASSES.T,
        CLASSES * 1.01,
        CLASSES[:, :1],
        torch.zeros(1, 1, 30, 30),
        torch.zeros(2, 10),
        torch.full((1, 1, 9, 9), float("nan")),
        torch.tensor([[float("inf"), 0.0]]),
        torch.empty(0, 2),
        torch.eye(3, dtype=torch.int64),
        torch.eye(9, dtype=torch.bool)[None, None],
        PROBABILITIES.to("meta"),
        PROBABILITIES.to_sparse(),
        PROBABILITIES.to(torch.float8_e4m3fn),
        None,
        "text",
        {"out": PROBABILITIES},
        [],
        [[]],
    ],
)
def test_what_may_be_scores_is_not_warned_of(scores):
    assert of_scores(scores) == []


def test_scores_in_a_list_are_looked_at_as_a_whole():
    low, high = PROBABILITIES.clamp(max=0.5), PROBABILITIES.clamp(0.5)
    assert len(of_scores([low, high])) == len(of_scores((PROBABILITIES[..., :4], PROBABILITIES[..., 4:]))) == 1
    assert of_scores([low, low]) == of_scores([PROBABILITIES, SIGNED]) == of_scores([CLASSES, CLASSES / 2]) == []
    assert len(of_scores([CLASSES, torch.eye(2)])) == 1


def test_of_a_list_in_a_list_the_last_is_the_score():
    assert of_scores([[PROBABILITIES, SIGNED * 3], [PROBABILITIES, SIGNED]]) == []
    assert len(of_scores([[SIGNED, PROBABILITIES], [SIGNED * 9, PROBABILITIES]])) == 1


def test_scores_and_ranges_of_one_loss_are_looked_at_by_themselves():
    loss = expecting({"y_fake": "logits", "y": (-1.0, 1.0)}, function=nothing_of)
    made = manager_of(loss)
    inputs = {"y_fake": PROBABILITIES, "y": POSITIVE * 9}
    first, second = warned(lambda: made.compute_losses(inputs))
    assert "'y_fake' to be logits" in first
    assert "'y' to be from -1 to 1" in second
    assert warned(lambda: made.compute_losses(inputs)) == []


def test_scores_on_a_device_are_read_with_the_values_of_the_losses(done):
    loss = LMLoss(name="D", function=nothing_of, inputs=("scores",), ranges={"scores": "logits"})
    made = manager_of(loss)
    assert warned(lambda: made.compute_losses({"scores": [OnDevice(CLASSES.double()), CLASSES]})) == []
    assert not {"tolist", "item", "_local_scalar_dense"} & set(done)
    (message,) = warned(made.get_loss_values)
    assert "from 0.1 to 0.6" in message


# When it is looked at


@pytest.mark.parametrize(
    "compute",
    [
        lambda manager: manager.compute_losses({"y_fake": SIGNED, "y": POSITIVE}),
        lambda manager: manager.compute_losses({"y_fake": SIGNED, "y": POSITIVE}, query="G"),
        lambda manager: manager.compute_loss_xy("G_SSIM", SIGNED, POSITIVE),
        lambda manager: manager.compute_loss("G_SSIM", SIGNED, POSITIVE),
        lambda manager: manager.compute_loss_xy("G_SSIM", SIGNED, POSITIVE, 1, {"function_kwargs": {}}),
    ],
)
def test_a_loss_is_looked_at_at_its_first_computation_only(compute):
    made = manager()
    assert len(warned(lambda: compute(made))) == 1
    assert warned(lambda: compute(made)) == []


def test_each_of_several_losses_is_looked_at():
    losses = [expecting().model_copy(update={"name": name}) for name in "abcde"]
    made = manager_of(*losses)
    inputs = {"y_fake": SIGNED, "y": POSITIVE}
    assert [message[:8] for message in warned(lambda: made.compute_losses(inputs))] == [f"loss '{n}'" for n in "abcde"]
    assert warned(lambda: made.compute_losses(inputs)) == []


def test_later_values_are_not_looked_at():
    made = manager()
    made.compute_losses({"y_fake": SIGNED, "y": SIGNED})
    assert warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE})) == []


def test_a_loss_that_is_registered_again_is_looked_at_again():
    made = manager()
    for _ in range(2):
        assert len(warned(lambda: made.compute_loss_xy("G_SSIM", SIGNED, POSITIVE))) == 1
        made.init_from_spec(lambda: {"G_SSIM": expecting()})


def test_a_loss_of_weight_0_is_looked_at_when_it_first_runs():
    made = manager(loss_weight=0.0)
    inputs = {"y_fake": SIGNED, "y": POSITIVE}
    assert warned(lambda: made.compute_losses(inputs)) == []
    made.set_weight("G", 1.0)
    assert len(warned(lambda: made.compute_losses(inputs))) == 1


def test_a_disabled_loss_is_looked_at_when_it_first_runs():
    made = manager()
    made.disable("G")
    assert warned(lambda: made.compute_loss_xy("G_SSIM", SIGNED, POSITIVE)) == []
    made.enable("G")
    assert len(warned(lambda: made.compute_loss_xy("G_SSIM", SIGNED, POSITIVE))) == 1


def test_a_loss_that_runs_at_weight_0_is_looked_at():
    made = manager(loss_weight=0.0, skip_when_zero=False)
    assert len(warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE}))) == 1


def test_a_scheduled_loss_with_components_is_looked_at():
    def parts(y_fake, y):
        return {"a": y.mean(), "b": y_fake.mean()}

    made = manager(function=parts, schedule=Schedule(end_epoch=9, target_value=0.5))
    made.tick(epoch=0)
    assert len(warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE}))) == 1


@pytest.mark.parametrize("scope", ["split", "paused"])
def test_a_loss_is_looked_at_in_a_scope(scope):
    made = manager()
    with made.split("val") if scope == "split" else made.paused():
        assert len(warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE}))) == 1
    assert warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE})) == []


def test_a_function_that_fails_is_looked_at_when_it_succeeds():
    made = manager()
    with pytest.raises(RuntimeError), warnings.catch_warnings():
        warnings.simplefilter("error")
        made.compute_loss_xy("G_SSIM", SIGNED, POSITIVE[..., :0].expand(2, 3, 7, 0))
    assert len(warned(lambda: made.compute_loss_xy("G_SSIM", SIGNED, POSITIVE))) == 1


def test_a_graph_does_not_look_and_the_first_computation_outside_does():
    made = manager()
    step = torch.compile(
        lambda y_fake, y: made.compute_losses({"y_fake": y_fake, "y": y}).total, fullgraph=True, backend="eager"
    )
    assert warned(lambda: step(SIGNED, POSITIVE)) == []
    assert len(warned(lambda: made.compute_losses({"y_fake": SIGNED, "y": POSITIVE}))) == 1
    assert warned(lambda: step(SIGNED, POSITIVE)) == []


def test_values_that_do_not_exist_yet_are_not_looked_at():
    made = manager()
    calls = []

    def loss(y):
        with pytest.raises(Exception, match="cannot be recorded"):
            made.compute_loss_xy("G_SSIM", y, y)
        calls.append(1)
        return y.sum()

    assert warned(lambda: torch.vmap(loss)(POSITIVE[None])) == []
    assert calls


# What it costs


def test_later_steps_run_the_same_operations_as_without_ranges():
    names = []
    for ranges in ({}, RANGES):
        made = manager(ranges)
        for _ in range(2):
            with Operations() as operations:
                made.compute_losses({"y_fake": SIGNED, "y": SIGNED})
        names.append(operations.names)
        made.compute_loss_xy("G_SSIM", SIGNED, SIGNED)
        bound = made._registry["G_SSIM"]
        assert bound.called is bound.function
    assert names[0] == names[1]


def test_the_result_and_its_gradient_are_those_without_ranges():
    results = []
    for ranges in ({}, RANGES):
        y_fake = (SIGNED / 3).requires_grad_()
        losses = manager(ranges).compute_losses({"y_fake": y_fake, "y": SIGNED})
        losses.total.backward()
        results.append((losses.total.item(), y_fake.grad))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_the_loss_is_freed_with_its_manager_before_and_after_the_look():
    gc.disable()
    try:
        for compute in (True, False):
            function = nn.L1Loss()
            made, kept = manager(function=function), weakref.ref(function)
            if compute:
                made.compute_loss_xy("G_SSIM", SIGNED, SIGNED)
            del made, function
            assert kept() is None
    finally:
        gc.enable()


def test_the_inputs_are_not_kept():
    y = OnDevice(POSITIVE.clone())
    kept = weakref.ref(y.inner)
    made = manager()
    made.compute_loss_xy("G_SSIM", OnDevice(SIGNED), y)
    del y
    gc.collect()
    assert kept() is None
    assert len(warned(made.get_loss_values)) == 1


# On a device


@pytest.fixture
def done():
    OnDevice.done = []
    return OnDevice.done


@pytest.mark.parametrize("logging", [True, False])
@pytest.mark.parametrize("read", ["get_loss_values", "close"])
def test_on_a_device_the_values_are_read_with_those_of_the_losses(done, logging, read):
    made = LossManager(enable_logging=logging)
    made.register_spec(lambda: {"G_SSIM": expecting({"y_fake": (-1, 1), "y": (-1, 1)})})
    y = OnDevice(POSITIVE.double() if logging else POSITIVE)
    assert warned(lambda: made.compute_losses({"y_fake": OnDevice(SIGNED), "y": y})) == []
    assert not {"tolist", "item", "_local_scalar_dense"} & set(done)
    (message,) = warned(getattr(made, read))
    assert "the input 'y' to be from -1 to 1, and at its first computation they were from 0 to 1" in message
    assert done.count("tolist") <= 2
    assert warned(made.get_loss_values) == []


def test_on_a_device_a_list_of_several_dtypes_is_looked_at_as_a_whole(done):
    made = manager(function=nothing_of)
    made.compute_losses({"y_fake": None, "y": [OnDevice(POSITIVE.half()), POSITIVE, OnDevice(POSITIVE.double() * 9)]})
    (message,) = warned(made.get_loss_values)
    assert "from 0 to 9" in message


def test_on_a_device_later_steps_run_no_other_operations(done):
    made = manager()
    inputs = {"y_fake": OnDevice(SIGNED), "y": OnDevice(SIGNED)}
    made.compute_losses(inputs)
    assert "aminmax" in done
    done.clear()
    made.compute_losses(inputs)
    assert "aminmax" not in done


def test_with_errors_for_infinite_losses_the_next_tick_reads_the_values(done):
    made = LossManager(nonfinite="raise")
    made.register_spec(lambda: {"G_SSIM": expecting()})
    made.tick(epoch=0)
    made.compute_losses({"y_fake": OnDevice(SIGNED), "y": OnDevice(POSITIVE)})
    assert len(warned(lambda: made.tick(epoch=0))) == 1


def test_a_warning_that_is_an_error_leaves_the_values_of_the_losses(done):
    made = LossManager(enable_logging=True)
    made.register_spec(lambda: {"G_SSIM": expecting()})
    made.compute_losses({"y_fake": OnDevice(SIGNED), "y": OnDevice(POSITIVE)})
    with pytest.raises(NectarganWarning):
        made.get_loss_values()
    assert made.get_loss_values() == {"G_SSIM": pytest.approx(0.5, abs=0.01)}


# The field


def test_a_loss_has_no_ranges_by_default():
    assert LMLoss(name="a", function=nothing_of).ranges == {}


def test_ranges_are_numbers_that_cannot_be_changed():
    loss = expecting({"y": [0, 1]})
    assert loss.ranges == {"y": (0.0, 1.0)}
    with pytest.raises(SnapshotError):
        loss.ranges["y"] = (0.0, 2.0)


def test_a_range_may_be_the_word_logits():
    assert expecting({"y": "logits", "y_fake": [0, 1]}).ranges == {"y": "logits", "y_fake": (0.0, 1.0)}


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"z": (0, 1)}, "ranges names the input 'z', which this loss does not read; it reads y_fake, y"),
        ({"y": (1, -1)}, r"the range of 'y' is \(low, high\) with low < high, not \(1.0, -1.0\)"),
        ({"y": (1, 1)}, "low < high"),
        ({"y": (0, float("inf"))}, "finite"),
        ({"y": (float("nan"), 0)}, "finite"),
        ({"y": (0, 1, 2)}, "2 items"),
        ({"y": "-1..1"}, "tuple"),
        ({"y": "logit"}, "'logits'"),
        ({"z": "logits"}, "ranges names the input 'z'"),
        ({"y": 1.0}, "tuple"),
        ([("y", (0, 1))], "dictionary"),
        ({1: (0, 1)}, "string"),
    ],
)
def test_what_is_no_range_is_refused(ranges, message):
    with pytest.raises(ValidationError, match=message):
        expecting(ranges)


def test_ranges_survive_copies_and_pickling():
    loss = expecting()
    assert loss.model_copy(update={"loss_weight": 2.0}).ranges == RANGES
    assert loss.model_copy(deep=True).ranges == RANGES
    assert pickle.loads(pickle.dumps(loss)).ranges == RANGES
    assert loss != expecting({})
    assert manager().get_registered_losses()["G_SSIM"].ranges == RANGES
