"""The specs by their names: the kit's checks, options, weights, and training with deep supervision."""

import warnings

import pytest
import torch
from nectargan_segmentation import Boundary, CrossEntropy, Dice, DiceCrossEntropy, Focal, boundary
from torch import nn

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, check_loss_spec

# They start processes, which takes longer than all other checks.
INSTALLED = dict.fromkeys(("entry_point", "imports"), "it is in a slow test below")
NAMES = {"ce": CrossEntropy, "dice": Dice, "dice-ce": DiceCrossEntropy, "focal": Focal, "boundary": Boundary}


def segmentation(batch_size, channels=3, sizes=((8, 8),), spatial=(8, 8)):
    """Make logits in these sizes, and labels."""
    generator = torch.Generator().manual_seed(batch_size)
    outputs = [torch.randn(batch_size, channels, *size, generator=generator, requires_grad=True) for size in sizes]
    labels = torch.randint(0, max(channels, 2), (batch_size, *spatial), generator=generator)
    return {"logits": outputs if len(outputs) > 1 else outputs[0], "labels": labels}


class OfImages(LossSpecTests):
    gradcheck = True
    skip = INSTALLED


class OfSamples(LossSpecTests):
    gradcheck = True
    skip = INSTALLED

    def make_inputs(self, batch_size):
        return segmentation(batch_size, 10, [()], ())


class TestCE(OfSamples):
    name = "ce"


class TestCEOfImages(OfImages):
    name = "ce"
    options = {"ignore_index": 0, "class_weights": [1.0, 2.0, 3.0], "label_smoothing": 0.1}


class TestDice(OfSamples):
    name = "dice"


class TestDiceOfImages(OfImages):
    name = "dice"
    options = {"ignore_index": 2, "class_weights": [1.0, 2.0, 3.0], "squared_pred": True}


class TestDiceCE(OfSamples):
    name = "dice-ce"


class TestDiceCEWithDeepSupervision(OfImages):
    name = "dice-ce"
    options = {"scales": [1.0, 0.5, 0.1], "include_background": False}

    def make_inputs(self, batch_size):
        return segmentation(batch_size, sizes=((8, 8), (4, 4), (3, 3)))


class TestFocal(OfSamples):
    name = "focal"


class TestFocalOfImages(OfImages):
    name = "focal"
    options = {"alpha": 0.25, "sigmoid": True, "ignore_index": 1, "gamma": 0.5}


class TestFocalOfVolumesOfOneChannel(OfImages):
    name = "focal"
    options = {"alpha": 0.25}

    def make_inputs(self, batch_size):
        return segmentation(batch_size, 1, [(3, 4, 5)], (1, 3, 4, 5))


class TestBoundary(OfImages):
    name = "boundary"
    skip = {"cuda": "the distances of labels are computed on the CPU, for which a device waits"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ce", "dice", "dice-ce", "focal"])
def test_each_entry_point_keeps_its_contract(name):
    check_loss_spec(name)


# Names, weights and options


@pytest.mark.parametrize(("name", "kind"), NAMES.items())
def test_each_is_one_loss_of_the_generator(name, kind):
    (loss,) = LossManager.from_spec(name).get_registered_losses().values()
    assert loss.name == f"G_{name.upper().replace('-', '_')}"
    assert (loss.tags, loss.inputs, loss.loss_weight) == (["G"], ("logits", "labels"), 1.0)
    assert type(loss.function) is kind
    assert loss.ranges == {"logits": "logits"}


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_is_that_of_the_config_or_the_factor(name):
    config = {"train": {"loss": {f"lambda_{name.replace('-', '_')}": 2.5}}}
    managers = [LossManager.from_spec(name, config), LossManager.from_spec(f"3*{name}")]
    weights = [manager.get_loss_weights() for manager in managers]
    assert [weight for each in weights for weight in each.values()] == [2.5, 3.0]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("ce", {"ignore_index": 255, "class_weights": [1, 2], "label_smoothing": 0.1, "scales": [1.0, 0.5]}),
        (
            "dice",
            {
                "include_background": False,
                "sigmoid": True,
                "squared_pred": True,
                "jaccard": True,
                "smooth_nr": 0.0,
                "smooth_dr": 1.0,
                "batch": True,
                "ignore_index": 2,
                "class_weights": [1, 2, 3],
                "scales": [1.0],
            },
        ),
        ("focal", {"gamma": 3.0, "alpha": [0.1, 0.9], "include_background": False, "sigmoid": True}),
        ("boundary", {"include_background": False, "sigmoid": True, "spacing": [1.0, 3.0], "ignore_index": 255}),
    ],
)
def test_options_reach_the_loss(name, options):
    (loss,) = LossManager.from_spec(name, options={name: options}).get_registered_losses().values()
    expected = repr(NAMES[name](**options))
    assert repr(loss.function) == expected
    assert all(f"{option}=" in expected for option in options)


def test_options_of_dice_ce_reach_both():
    options = {"batch": True, "label_smoothing": 0.2, "lambda_dice": 0.5, "lambda_ce": 2.0, "ignore_index": 255}
    loss = LossManager.from_spec("dice-ce", options={"dice-ce": options}).get_registered_losses()["G_DICE_CE"].function
    assert repr(loss.dice) == "Dice(batch=True, ignore_index=255)"
    assert repr(loss.cross_entropy) == "CrossEntropy(ignore_index=255, label_smoothing=0.2)"
    assert "lambda_dice=0.5, lambda_ce=2" in repr(loss)


def test_distances_take_no_options_of_labels():
    with pytest.raises(ValueError, match="spacing and ignore_index are for labels"):
        boundary(Config(), "distances", spacing=[1.0, 2.0])


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("ce", {"label_smoothing": 1.5}, "label_smoothing is a number from 0 to 1, got 1.5"),
        ("ce", {"class_weights": [0, 0]}, "class_weights is a sequence of numbers of at least 0, one for each class"),
        ("ce", {"class_weights": [1, float("inf")]}, "class_weights is"),
        ("ce", {"class_weights": "12"}, "class_weights is"),
        ("ce", {"scales": []}, "scales is a sequence of numbers of at least 0, one for each output"),
        ("ce", {"ignore_index": 1.0}, "ignore_index is an integer, got 1.0"),
        ("dice", {"smooth_dr": -1}, "smooth_dr is a number, at least 0, got -1"),
        ("dice", {"smooth_nr": float("nan")}, "smooth_nr is a number"),
        ("dice", {"batch": 1}, "batch is True or False, got 1"),
        ("dice-ce", {"lambda_ce": -0.1}, "lambda_ce is a number, at least 0"),
        ("focal", {"gamma": -2}, "gamma is a number, at least 0, got -2"),
        ("focal", {"alpha": 1.25}, "alpha is a number from 0 to 1, got 1.25"),
        ("focal", {"alpha": "0.25"}, "alpha is a sequence"),
        ("boundary", {"spacing": [0, 1]}, None),
    ],
)
def test_an_option_out_of_its_range_is_refused(name, options, said):
    if said is None:
        loss = LossManager.from_spec(name, options={name: options})
        with pytest.raises(ValueError, match="spacing is 2 numbers above 0"):
            loss.compute_losses(segmentation(2))
        return
    with pytest.raises(SpecError) as caught:
        LossManager.from_spec(name, options={name: options})
    assert said in str(caught.value)


# Training


def test_the_two_parts_of_dice_ce_are_recorded():
    manager = LossManager.from_spec("2*dice-ce", enable_logging=True)
    made = segmentation(2)
    losses = manager.compute_losses(made)
    parts = DiceCrossEntropy()(made["logits"], made["labels"])
    torch.testing.assert_close(losses.total, 2 * (parts["dice"] + parts["ce"]))
    assert set(losses.components["G_DICE_CE"]) == {"dice", "ce"}
    assert {"G_DICE_CE.dice", "G_DICE_CE.ce"} <= set(manager.means())


@pytest.mark.parametrize("name", ["ce", "dice", "dice-ce", "focal", "boundary"])
def test_probabilities_in_the_place_of_logits_are_warned_of(name):
    made = segmentation(2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        LossManager.from_spec(name).compute_losses(made)
        assert caught == []
        LossManager.from_spec(name).compute_losses({**made, "logits": made["logits"].softmax(1)})
    assert ["must have no sigmoid or softmax" in str(each.message) for each in caught] == [True]


def test_a_network_with_deep_supervision_learns_the_labels():
    torch.manual_seed(0)
    body, heads = nn.Conv2d(1, 8, 3, padding=1), nn.ModuleList([nn.Conv2d(8, 3, 1) for _ in range(2)])
    x = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    labels = torch.bucketize(x, torch.tensor([-0.4, 0.4]))
    manager = LossManager.from_spec("dice-ce + 0.01*boundary")
    optimizer = torch.optim.Adam([*body.parameters(), *heads.parameters()], lr=0.05)
    totals = []
    for _ in range(40):
        features = body(x).relu()
        logits = [heads[0](features), heads[1](nn.functional.avg_pool2d(features, 2))]
        manager.tick()
        losses = manager.compute_losses({"logits": logits, "labels": labels})
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
        totals.append(losses.total.item())
    assert totals[-1] < totals[0] / 4
    assert (logits[0].argmax(1) == labels[:, 0]).float().mean() > 0.9


@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropy(label_smoothing=0.1), Focal(), Focal(gamma=0.0)])
def test_minus_100_is_no_class_unless_it_is_the_index_to_ignore(loss):
    labels = torch.tensor([[0, 1, -100]])
    with pytest.raises(ValueError, match="from -100 to 1"):
        loss(torch.zeros(1, 2, 3), labels)
