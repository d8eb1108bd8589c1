"""The numbers and gradients of MONAI, where it is installed; to import it takes longer than all other tests."""

import warnings

import pytest
import torch
from nectargan_segmentation import Boundary, Dice, DiceCrossEntropy, Focal

pytestmark = pytest.mark.slow

SHAPES = [(2, 4, 17, 13), (2, 4, 7, 6, 5)]
WEIGHTS = [1.0, 2.0, 0.5, 3.0]


@pytest.fixture(scope="module")
def monai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("monai.losses")


def same(ours, theirs, shape, change=lambda labels: labels):
    generator = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(shape, generator=generator)
    labels = change(torch.randint(0, max(shape[1], 2), (shape[0], 1, *shape[2:]), generator=generator))
    results = []
    for loss in (ours, theirs):
        logits = scores.clone().requires_grad_()
        result = loss(logits, labels)
        result = sum(result.values()) if isinstance(result, dict) else result
        results.append((result.detach(), *torch.autograd.grad(result, logits)))
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"squared_pred": True},
        {"jaccard": True},
        {"batch": True},
        {"include_background": False},
        {"smooth_nr": 0.0, "smooth_dr": 1.0},
        {"sigmoid": True},
    ],
)
def test_dice_and_dice_ce_have_the_options_of_monai(monai, shape, options):
    theirs = {"softmax": not options.get("sigmoid"), "to_onehot_y": True, **options}
    same(Dice(**options), monai.DiceLoss(**theirs), shape)
    factors = {"lambda_dice": 0.5, "lambda_ce": 2.0}
    same(DiceCrossEntropy(**options, **factors), monai.DiceCELoss(**theirs, **factors), shape)


def test_dice_has_the_class_weights_and_the_ignored_pixels_of_monai(monai):
    theirs = {"softmax": True, "to_onehot_y": True}
    same(Dice(class_weights=WEIGHTS), monai.DiceLoss(**theirs, weight=WEIGHTS), SHAPES[0])
    without = monai.DiceLoss(**theirs, weight=WEIGHTS[1:], include_background=False)
    same(Dice(class_weights=WEIGHTS, include_background=False), without, SHAPES[0])
    both = monai.DiceCELoss(**theirs, weight=torch.tensor(WEIGHTS), label_smoothing=0.1)
    same(DiceCrossEntropy(class_weights=WEIGHTS, label_smoothing=0.1), both, SHAPES[0])
    ignoring = monai.DiceLoss(**theirs, ignore_index=255)
    same(Dice(ignore_index=255), ignoring, SHAPES[0], lambda labels: labels.where(labels > 1, 255))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 3.5])
@pytest.mark.parametrize("alpha", [None, 0.25, [0.1, 0.7, 0.4, 0.3]])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_focal_is_that_of_monai(monai, shape, gamma, alpha, sigmoid):
    theirs = monai.FocalLoss(to_onehot_y=True, use_softmax=not sigmoid, gamma=gamma, alpha=alpha, weight=WEIGHTS)
    same(Focal(gamma=gamma, alpha=alpha, sigmoid=sigmoid, class_weights=WEIGHTS), theirs, shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("include_background", [True, False])
def test_boundary_is_that_of_monai(monai, shape, include_background):
    if not hasattr(monai, "BoundaryLoss"):
        pytest.skip("MONAI has it from 1.6 on")
    theirs = monai.BoundaryLoss(softmax=True, to_onehot_y=True, include_background=include_background)
    same(Boundary(include_background=include_background), theirs, shape)


def test_with_one_channel_all_are_those_of_monai(monai):
    shape = (2, 1, 17, 13)
    same(Dice(), monai.DiceLoss(sigmoid=True), shape)
    same(DiceCrossEntropy(), monai.DiceCELoss(sigmoid=True), shape)
    same(Focal(alpha=0.25), monai.FocalLoss(alpha=0.25), shape)
    if hasattr(monai, "BoundaryLoss"):
        same(Boundary(), monai.BoundaryLoss(sigmoid=True), shape)


@pytest.mark.parametrize("scales", [None, [0.4, 0.3, 0.2, 0.1, 0.0, 0.7]])
def test_deep_supervision_is_that_of_monai(monai, scales):
    generator = torch.Generator().manual_seed(0)
    sizes = [(17, 13), (9, 7), (8, 6), (5, 4), (3, 3), (2, 2)]
    outputs = [torch.randn(2, 4, *size, generator=generator) for size in sizes]
    labels = torch.randint(0, 4, (2, 1, 17, 13), generator=generator)
    theirs = monai.DeepSupervisionLoss(monai.DiceCELoss(softmax=True, to_onehot_y=True), weights=scales)
    ours = sum(DiceCrossEntropy(scales=scales)(outputs, labels).values())
    torch.testing.assert_close(ours, theirs(outputs, labels.float()), rtol=1e-5, atol=0)
