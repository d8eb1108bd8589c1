"""The losses as modules: numbers against formulas written out, deep supervision, precision, and what is refused."""

import numpy as np
import pytest
import torch
from nectargan_segmentation import Boundary, CrossEntropy, Dice, DiceCrossEntropy, Focal, signed_distances
from scipy.ndimage import distance_transform_edt
from torch.nn import functional

ALL = {"ce": CrossEntropy, "dice": Dice, "dice-ce": DiceCrossEntropy, "focal": Focal, "boundary": Boundary}
SHAPES = [(2, 4, 9, 7), (1, 3, 8, 8), (2, 2, 4, 5, 6), (3, 5, 11)]


def inputs(shape, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = (3 * torch.randn(shape, generator=generator)).to(dtype).requires_grad_()
    return logits, torch.randint(0, max(shape[1], 2), (shape[0], *shape[2:]), generator=generator)


def value(loss, *given):
    result = loss(*given)
    return sum(result.values()) if isinstance(result, dict) else result


def same(loss, formula, *given):
    """Compare a loss and its gradient with a formula of the same inputs in float64."""
    logits = given[0]
    exact = logits.detach().double().requires_grad_()
    expected = formula(exact, *given[1:])
    result = value(loss, *given)
    torch.testing.assert_close(result.double(), expected, rtol=1e-5, atol=1e-7)
    (gradient,) = torch.autograd.grad(result, logits)
    (expected,) = torch.autograd.grad(expected, exact)
    torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-7)


def maps(labels, classes):
    """Maps of ones and zeros, (N, classes, ...)."""
    return torch.stack([(labels == each).double() for each in range(classes)], 1)


# Numbers


@pytest.mark.parametrize("shape", [*SHAPES, (6, 4)])
def test_ce_is_the_mean_of_the_logarithms_of_what_is_right(shape):
    def formula(logits, labels):
        return -(logits.log_softmax(1) * maps(labels, shape[1])).sum(1).mean()

    same(CrossEntropy(), formula, *inputs(shape))


def test_ce_is_weighted_smoothed_and_without_what_is_ignored():
    weights, smoothing = torch.tensor([0.5, 2.0, 1.0, 0.0]), 0.2
    logits, labels = inputs((2, 4, 9, 7))
    labels[:, ::2] = 255

    def formula(logits, labels):
        counted = labels != 255
        t = maps(labels, 4) * (1 - smoothing) + smoothing / 4
        loss = -(logits.log_softmax(1) * t * weights.double().view(1, 4, 1, 1)).sum(1)
        return loss[counted].sum() / weights.double()[labels[counted]].sum()

    loss = CrossEntropy(class_weights=weights, label_smoothing=smoothing, ignore_index=255)
    same(loss, formula, logits, labels)


def test_ce_of_one_channel_is_that_of_two_of_which_the_first_is_zero():
    logits, labels = inputs((2, 1, 9, 7))
    two = torch.cat([torch.zeros_like(logits), logits], 1)
    for options in ({}, {"class_weights": [1.0, 3.0], "ignore_index": 0}, {"label_smoothing": 0.1}):
        loss = CrossEntropy(**options)
        torch.testing.assert_close(loss(logits, labels), loss(two, labels))


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1, 6, 6)])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("batch", [False, True])
def test_dice_is_twice_what_both_have_of_what_they_have_together(shape, squared, batch):
    def formula(logits, labels):
        p = logits.softmax(1) if shape[1] > 1 else logits.sigmoid()
        t = maps(labels, shape[1]) if shape[1] > 1 else maps(labels, 2)[:, 1:]
        dims = tuple(range(2, len(shape))) + ((0,) if batch else ())
        together = (p.square() if squared else p).sum(dims) + t.sum(dims)
        return 1 - ((2 * (p * t).sum(dims) + 1e-5) / (together + 1e-5)).mean()

    same(Dice(squared_pred=squared, batch=batch), formula, *inputs(shape))


def test_dice_has_the_jaccard_index_class_weights_and_no_background():
    weights = torch.tensor([9.0, 2.0, 0.5, 1.0])

    def formula(logits, labels):
        p, t = logits.sigmoid(), maps(labels, 4)
        common, both = (p * t).sum((2, 3)), (p + t - p * t).sum((2, 3))
        return ((1 - (common + 0.5) / (both + 1)) * weights.double())[:, 1:].mean()

    options = {"class_weights": weights, "include_background": False, "sigmoid": True, "jaccard": True}
    same(Dice(**options, smooth_nr=1.0, smooth_dr=2.0), formula, *inputs((2, 4, 9, 7)))


@pytest.mark.parametrize("ignored", [255, -1, 0])
@pytest.mark.parametrize("kind", [Dice, Focal, CrossEntropy, DiceCrossEntropy])
def test_pixels_that_are_ignored_are_as_if_they_were_not_there(kind, ignored):
    logits, labels = inputs((1, 4, 6, 8))
    labels = labels.clamp(1)
    labels[..., 5:] = ignored
    loss = kind(ignore_index=ignored)
    torch.testing.assert_close(value(loss, logits, labels), value(kind(), logits[..., :5], labels[..., :5]))
    (gradient,) = torch.autograd.grad(value(loss, logits, labels), logits)
    assert (gradient[..., 5:] == 0).all()
    assert (gradient[..., :5] != 0).any()


@pytest.mark.parametrize("kind", [Focal, CrossEntropy, Boundary])
def test_where_nothing_counts_the_loss_and_its_gradient_are_zero(kind):
    logits, labels = inputs((1, 4, 6, 8))
    loss = kind(ignore_index=255)(logits, torch.full_like(labels, 255))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("shape", [*SHAPES, (6, 4)])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_is_the_paper_with_a_softmax(shape, gamma, alpha):
    def formula(logits, labels):
        p, t = logits.softmax(1), maps(labels, shape[1])
        a = torch.full((shape[1],), 1.0 if alpha is None else alpha, dtype=torch.float64)
        a[0] = 1.0 if alpha is None else 1 - alpha
        return -(a.view(-1, *[1] * (len(shape) - 2)) * (1 - p) ** gamma * p.log() * t).mean()

    same(Focal(gamma=gamma, alpha=alpha), formula, *inputs(shape))


@pytest.mark.parametrize("shape", [(2, 4, 9, 7), (2, 1, 9, 7), (6, 4)])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_is_the_paper_with_a_sigmoid(shape, alpha):
    def formula(logits, labels):
        p = logits.sigmoid()
        t = maps(labels, shape[1]) if shape[1] > 1 else maps(labels, 2)[:, 1:]
        right = p * t + (1 - p) * (1 - t)
        a = 1 if alpha is None else alpha * t + (1 - alpha) * (1 - t)
        return -(a * (1 - right) ** 2 * right.log()).mean()

    same(Focal(sigmoid=True, alpha=alpha), formula, *inputs(shape))


def test_focal_has_a_factor_for_each_class_and_no_background():
    alpha, weights = torch.tensor([0.9, 0.2, 0.5]), torch.tensor([5.0, 1.0, 3.0])
    factors = (alpha * weights).double().view(3, 1, 1)

    def formula(logits, labels):
        p = logits.softmax(1)
        return -(factors * (1 - p) ** 2 * p.log() * maps(labels, 3))[:, 1:].mean()

    loss = Focal(alpha=alpha.tolist(), class_weights=weights, include_background=False)
    same(loss, formula, *inputs((2, 3, 9, 7)))


def test_focal_of_what_is_certain_has_a_finite_gradient():
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    for gamma in (0.0, 0.5, 2.0):
        for sigmoid in (False, True):
            for labels in ([0, 1], [1, 0]):
                loss = Focal(gamma=gamma, sigmoid=sigmoid)(logits, torch.tensor(labels))
                (gradient,) = torch.autograd.grad(loss, logits)
                assert torch.isfinite(loss)
                assert torch.isfinite(gradient).all()


def authors_distances(labels, classes, spacing):
    """`one_hot2dist` of the authors' code, of the classes that occur, and of which others occur beside."""
    result = np.zeros((len(labels), classes, *labels.shape[1:]))
    for sample in range(len(labels)):
        for number in range(classes):
            inside = labels[sample].numpy() == number
            if inside.any() and not inside.all():
                outside = ~inside
                result[sample, number] = distance_transform_edt(outside, sampling=spacing) * outside
                result[sample, number] -= (distance_transform_edt(inside, sampling=spacing) - 1) * inside
    return torch.from_numpy(result)


@pytest.mark.parametrize(("shape", "spacing"), [((2, 3, 9, 7), None), ((1, 2, 4, 5, 6), (2.0, 1.0, 0.5))])
def test_boundary_is_the_mean_of_probabilities_times_the_distances_of_the_authors(shape, spacing):
    logits, labels = inputs(shape)
    distances = authors_distances(labels, shape[1], spacing)
    torch.testing.assert_close(signed_distances(labels, shape[1], spacing=spacing).double(), distances)
    same(Boundary(spacing=spacing), lambda z, _: (z.softmax(1) * distances).mean(), logits, labels)
    given = Boundary(given="distances", include_background=False)
    same(given, lambda z, _: (z.softmax(1) * distances)[:, 1:].mean(), logits, distances)


def test_boundary_of_one_channel_is_that_of_class_1():
    logits, labels = inputs((2, 1, 9, 7))
    distances = signed_distances(labels, 2)[:, 1:]
    torch.testing.assert_close(signed_distances(labels, 1), distances)
    same(Boundary(), lambda z, _: (z.sigmoid() * distances.double()).mean(), logits, labels)


def test_boundary_leaves_out_what_is_ignored():
    logits, labels = inputs((2, 3, 9, 7))
    labels[:, :3] = 255
    distances = authors_distances(labels, 3, None)[:, :, 3:]
    same(Boundary(ignore_index=255), lambda z, _: (z.softmax(1)[:, :, 3:] * distances).mean(), logits, labels)


def test_a_class_that_does_not_occur_or_is_alone_has_no_boundary():
    assert (signed_distances(torch.ones(1, 4, 4, dtype=torch.uint8), 3) == 0).all()


def test_dice_ce_is_the_sum_of_both():
    logits, labels = inputs((2, 4, 9, 7))
    options = {"ignore_index": 3, "class_weights": [1.0, 2.0, 3.0, 4.0]}
    parts = DiceCrossEntropy(**options, batch=True, label_smoothing=0.1, lambda_dice=0.5, lambda_ce=2.0)(logits, labels)
    torch.testing.assert_close(parts["dice"], 0.5 * Dice(**options, batch=True)(logits, labels))
    torch.testing.assert_close(parts["ce"], 2.0 * CrossEntropy(**options, label_smoothing=0.1)(logits, labels))


# Deep supervision


@pytest.mark.parametrize("kind", ALL.values())
def test_a_list_of_outputs_is_a_weighted_sum_with_labels_of_the_nearest_pixels(kind):
    logits, labels = inputs((2, 3, 8, 12))
    outputs = [logits, inputs((2, 3, 4, 6), seed=1)[0], inputs((2, 3, 3, 5), seed=2)[0]]
    nearest = [
        functional.interpolate(labels[:, None].double(), each.shape[2:], mode="nearest-exact")[:, 0].long()
        for each in outputs
    ]
    alone = [value(kind(), *each) for each in zip(outputs, nearest, strict=True)]
    torch.testing.assert_close(value(kind(), outputs, labels), alone[0] + alone[1] / 2 + alone[2] / 4)
    weighted = value(kind(scales=[0.2, 0.0, 3]), tuple(outputs), labels[:, None])
    torch.testing.assert_close(weighted, 0.2 * alone[0] + 3 * alone[2])


def test_no_default_weight_is_below_a_sixteenth():
    logits, labels = inputs((1, 3, 4, 4))
    alone = Dice()(logits, labels)
    torch.testing.assert_close(Dice()([logits] * 7, labels), alone * (1 + 1 / 2 + 1 / 4 + 1 / 8 + 3 / 16))


def test_scales_are_for_lists_only():
    logits, labels = inputs((1, 3, 4, 4))
    assert Dice(scales=[0.5, 0.5])(logits, labels) == Dice()(logits, labels)


def test_distances_of_several_outputs_are_a_list():
    made = [inputs((2, 3, *size)) for size in ((8, 8), (4, 4))]
    maps_ = [signed_distances(labels, 3) for _, labels in made]
    outputs = [logits for logits, _ in made]
    loss = Boundary(given="distances")
    alone = [loss(*each) for each in zip(outputs, maps_, strict=True)]
    torch.testing.assert_close(loss(outputs, maps_), alone[0] + alone[1] / 2)
    with pytest.raises(ValueError, match="distances for each of 2 outputs, and is given 1"):
        loss(outputs, maps_[0])


# Dtypes and devices


@pytest.mark.parametrize("kind", ALL.values())
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_are_computed_in_float32(kind, dtype):
    logits, labels = inputs((2, 4, 64, 64), dtype)
    result = value(kind(), 30 * logits, labels)
    assert result.dtype is torch.float32
    torch.testing.assert_close(result, value(kind(), (30 * logits).float(), labels))
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close(value(kind(), 30 * logits, labels), result)


@pytest.mark.parametrize("kind", ALL.values())
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int16, torch.int64])
def test_labels_may_have_any_integer_dtype_and_a_channel(kind, dtype):
    logits, labels = inputs((2, 4, 6, 5))
    expected = value(kind(), logits, labels)
    assert value(kind(), logits, labels.to(dtype)) == value(kind(), logits, labels[:, None].to(dtype)) == expected


def test_labels_of_two_classes_may_be_bool():
    logits, labels = inputs((2, 1, 6, 5))
    assert all(value(kind(), logits, labels.bool()) == value(kind(), logits, labels) for kind in ALL.values())


@pytest.mark.parametrize("kind", ALL.values())
def test_it_runs_on_meta(kind):
    logits, labels = (each.to("meta") for each in inputs((2, 4, 6, 6)))
    options = {} if kind is Boundary else {"class_weights": [1, 2, 3, 4]}
    result = value(kind(ignore_index=255, **options).to("meta"), [logits, logits[..., ::2]], labels)
    assert (result.shape, result.device.type) == ((), "meta")


@pytest.mark.parametrize("kind", ALL.values())
def test_the_options_compile_without_a_break_of_the_graph(kind):
    logits, labels = inputs((2, 4, 6, 6))
    outputs = [logits, inputs((2, 4, 3, 3))[0]]
    options = {} if kind is Boundary else {"class_weights": [1, 2, 3, 4]}
    loss = kind(ignore_index=2, **options)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(value(compiled, outputs, labels), value(loss, outputs, labels))


def test_class_weights_are_not_saved():
    assert Focal(class_weights=[1, 2], alpha=[0.5, 0.5]).state_dict() == {}


# What is refused


@pytest.mark.parametrize("kind", ALL.values())
@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            lambda z, y: (z, y.float()),
            TypeError,
            r"of an integer dtype; they are torch.float32: convert with .long\(\)",
        ),
        (lambda z, y: (z, maps(y, 4)), TypeError, r"if there is a map for each class, with .argmax\(1\)"),
        (lambda z, y: (z, maps(y, 4).long()), ValueError, r"\(2, 4, 6, 5\): .* give labels.argmax\(1\)"),
        (lambda z, y: (z, y[0]), ValueError, "give them a batch dimension"),
        (lambda z, y: (z, y[:1]), ValueError, r"the labels are \(1, 6, 5\) and the logits \(2, 4, 6, 5\)"),
        (lambda z, y: (z, y[..., :4]), ValueError, r"labels of the size of the logits; the labels are \(6, 4\)"),
        (lambda z, y: (z, [y]), TypeError, "a tensor of class numbers, got list"),
        (lambda z, y: (z, None), TypeError, "a tensor of class numbers, got NoneType"),
        (lambda z, y: (z.long(), y), TypeError, "floating-point logits; they are torch.int64"),
        (lambda z, y: ({"out": z}, y), TypeError, "a list of them from fine to coarse; got dict"),
        (lambda z, y: (z[:, 0, 0, 0], y), ValueError, r"logits \(N, K\) or \(N, K, ...\); they are \(2,\)"),
        (lambda z, y: ([], y), ValueError, "at least one output in a list of logits; it is empty"),
        (lambda z, y: ([z, None], y), TypeError, "got NoneType"),
        (lambda z, y: (z.to("meta"), y), ValueError, "on one device; they are on meta and cpu"),
        (lambda z, y: (z, y + 1), ValueError, r"labels from 0 to 3, for logits of 4 channels; they are from 1 to 4 "),
        (lambda z, y: (z, torch.where(y == 1, 255, y)), ValueError, r"0 to 255 \(ignore_index= says which number"),
        (lambda z, y: (z, torch.where(y == 1, -7, y)), ValueError, "they are from -7 to 3"),
        (lambda z, y: (z[:, :1], y), ValueError, "labels from 0 to 1, for logits of 1 channel; they are from 0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused_with_an_error_that_says_what_to_do(kind, change, error, said):
    with pytest.raises(error, match=said) as caught:
        kind()(*change(*inputs((2, 4, 6, 5))))
    name = {DiceCrossEntropy: "CrossEntropy"}.get(kind, kind.__name__)
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (Dice(class_weights=[1, 2]), "class_weights of 2 classes, and is given logits of 4"),
        (CrossEntropy(class_weights=[1] * 5), "class_weights of 5 classes, and is given logits of 4"),
        (Focal(alpha=[0.5, 0.5]), "an alpha for 2 classes, and is given logits of 4"),
        (Boundary(spacing=[1, 1, 1]), "spacing is 2 numbers above 0"),
    ],
)
def test_options_of_another_number_of_classes_are_refused(loss, said):
    with pytest.raises(ValueError, match=said):
        loss(*inputs((2, 4, 6, 5)))


@pytest.mark.parametrize("kind", ALL.values())
def test_scales_of_another_number_of_outputs_are_refused(kind):
    logits, labels = inputs((2, 4, 6, 5))
    with pytest.raises(ValueError, match="scales for 2 outputs, and is given 3; give one for each"):
        kind(scales=[1, 0.5])([logits] * 3, labels)


@pytest.mark.parametrize("kind", [Dice, DiceCrossEntropy, Focal, Boundary])
def test_one_channel_has_no_background(kind):
    with pytest.raises(ValueError, match="include_background=False leaves out channel 0"):
        kind(include_background=False)(*inputs((2, 1, 6, 5)))


def test_boundary_needs_pixels_and_distances_that_fit():
    with pytest.raises(ValueError, match=r"logits of pixels, \(N, K, ...\) such as \(N, K, H, W\); they are \(6, 4\)"):
        Boundary()(*inputs((6, 4)))
    logits, labels = inputs((2, 4, 6, 5))
    loss = Boundary(given="distances")
    with pytest.raises(TypeError, match="signed_distances"):
        loss(logits, labels)
    with pytest.raises(ValueError, match=r"the shape of the logits, \(2, 4, 6, 5\); they are \(2, 3, 6, 5\)"):
        loss(logits, signed_distances(labels, 3))
    with pytest.raises(ValueError, match="they are on cpu and meta"):
        loss(logits, signed_distances(labels, 4).to("meta"))
    with pytest.raises(ValueError, match='given is "labels" or "distances", not \'maps\''):
        Boundary(given="maps")


@pytest.mark.parametrize(
    ("labels", "classes", "error", "said"),
    [
        (torch.zeros(2, 4, 4), 3, TypeError, "of an integer dtype; got torch.float32"),
        ([[0]], 3, TypeError, "got list"),
        (torch.zeros(2, dtype=torch.long), 3, ValueError, r"labels of pixels, .*; they are \(2,\)"),
        (torch.zeros(2, 4, 4, dtype=torch.long), 0, ValueError, "classes is a number of channels, at least 1; got 0"),
    ],
)
def test_distances_of_anything_but_labels_are_refused(labels, classes, error, said):
    with pytest.raises(error, match=said):
        signed_distances(labels, classes)
