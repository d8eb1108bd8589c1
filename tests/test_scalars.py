"""Scalars: what curves the records of a flush become, under which tags, at which steps, and when."""

import math

import numpy as np
import pytest
import torch

from nectargan_core import LossManager, Records, ScalarStream, Schedule, hookimpl

NAN = math.nan


def records(name, step, loss, weight=1.0, *, unweighted=None, epoch=0.0, time=None, component_of=None):
    number = len(step)
    weight = np.broadcast_to(np.asarray(weight, dtype=float), number)
    loss = np.asarray(loss, dtype=float)
    return Records(
        name,
        step=np.asarray(step),
        epoch=np.broadcast_to(np.asarray(epoch, dtype=float), number),
        loss=loss,
        weight=weight,
        unweighted=loss / weight if unweighted is None else np.asarray(unweighted, dtype=float),
        component_of=component_of,
        time=np.asarray(step if time is None else time, dtype=float),
    )


def points(scalars):
    """Return the points of each tag, as pairs of step and value."""
    return {each.tag: list(zip(each.step.tolist(), each.value.tolist(), strict=True)) for each in scalars}


def of(*chunks, losses=()):
    """Return the points of chunks after which nothing follows."""
    stream = ScalarStream()
    first = points(stream.add(chunks, set(losses)))
    last = points(stream.rest())
    return {tag: first.get(tag, []) + last.get(tag, []) for tag in {**first, **last}}


# Tags


@pytest.mark.parametrize(
    ("name", "tag"),
    [
        ("psnr", "metrics/psnr"),
        ("val/psnr", "metrics/val/psnr"),
        ("G_L1@grad_norm", "gradients/norm/G_L1"),
        ("val/G_L1@grad_share", "gradients/share/val/G_L1"),
        ("G_L1@grad_cosine", "gradients/cosine/G_L1"),
        ("G_L1@grad_other", "metrics/G_L1@grad_other"),
        ("@grad_norm", "metrics/@grad_norm"),
    ],
)
def test_a_recorded_scalar_has_one_curve(name, tag):
    found = of(records(name, [0], [2.0]))
    found.pop("epoch", None)
    assert found == {tag: [(0, 2.0)]}


def test_a_loss_has_its_value_what_it_is_unweighted_and_its_weight():
    assert of(records("G_L1", [0], [50.0], weight=100.0), losses=["G_L1"]) == {
        "loss/G_L1": [(0, 50.0)],
        "unweighted/G_L1": [(0, 0.5)],
        "weight/G_L1": [(0, 100.0)],
        "epoch": [(0, 0.0)],
    }


def test_a_loss_in_a_split_has_no_curve_of_its_weight():
    assert of(records("val/G_L1", [0], [50.0], weight=100.0), losses=["G_L1"]) == {
        "loss/val/G_L1": [(0, 50.0)],
        "unweighted/val/G_L1": [(0, 0.5)],
    }


def test_a_component_has_its_weighted_value():
    chunk = records("val/G_VGG.relu1", [0], [5.0], weight=10.0, component_of="val/G_VGG")
    assert of(chunk, losses=["G_VGG"]) == {"components/val/G_VGG.relu1": [(0, 5.0)]}


def test_a_loss_is_what_it_was_when_it_was_recorded():
    stream = ScalarStream()
    stream.add([records("a", [0], [1.0])], {"a"})
    assert points(stream.add([records("b", [1], [1.0])], {"b"}))["loss/a"] == [(0, 1.0)]


# Unweighted


def test_what_a_loss_is_unweighted_begins_with_the_first_weight_that_is_not_1():
    chunk = records("a", [0, 1, 2, 3], [1.0, 2.0, 6.0, 4.0], weight=[1.0, 1.0, 2.0, 1.0])
    assert of(chunk, losses=["a"])["unweighted/a"] == [(2, 3.0), (3, 4.0)]


def test_what_a_loss_is_unweighted_goes_on_in_later_flushes():
    stream = ScalarStream()
    stream.add([records("a", [0], [2.0], weight=2.0)], {"a"})
    stream.add([records("a", [1], [2.0])], {"a"})
    assert points(stream.rest())["unweighted/a"] == [(1, 2.0)]


def test_an_uncalled_function_has_no_unweighted_value_and_one_that_became_nan_has():
    chunk = records("a", [0, 1, 2], [0.0, 0.0, NAN], weight=[0.0, 0.0, 2.0], unweighted=[NAN, 3.0, NAN])
    found = of(chunk, losses=["a"])
    assert [step for step, _ in found["unweighted/a"]] == [1, 2]
    assert math.isnan(found["unweighted/a"][1][1])
    assert [step for step, _ in found["loss/a"]] == [0, 1, 2]


# Weights and epochs


def test_a_weight_has_points_on_both_sides_of_each_change_and_at_the_ends():
    weight = [1.0, 1.0, 1.0, 5.0, 5.0, 5.0, 5.0, 2.0, 2.0, 2.0]
    chunk = records("a", range(10), [1.0] * 10, weight=weight)
    stream = ScalarStream()
    (found,) = [each for each in stream.add([chunk], {"a"}) if each.tag == "weight/a"]
    assert found.step.tolist() == [0, 2, 3, 6, 7, 8]
    assert found.time.tolist() == [0, 2, 3, 6, 7, 8]
    assert points(stream.rest())["weight/a"] == [(9, 2.0)]


def test_a_weight_that_stays_the_same_has_one_point_in_each_later_flush():
    stream = ScalarStream()
    stream.add([records("a", [0, 1, 2], [1.0] * 3)], {"a"})
    assert points(stream.add([records("a", [3, 4, 5], [1.0] * 3)], {"a"}))["weight/a"] == [(4, 1.0)]


def test_the_epoch_is_that_of_all_that_was_recorded_outside_of_splits():
    often = records("a", [0, 1, 2, 3], [1.0] * 4, epoch=[0, 0, 1, 1])
    seldom = records("b", [4], [1.0], epoch=2)
    validation = records("val/a", [9], [1.0], epoch=9)
    assert of(often, seldom, validation, losses=["a", "b"])["epoch"] == [
        (0, 0.0),
        (1, 0.0),
        (2, 1.0),
        (3, 1.0),
        (4, 2.0),
    ]


# Steps


def test_the_newest_step_waits_until_there_is_a_newer_one():
    stream = ScalarStream()
    assert points(stream.add([records("val/a", [7, 7], [1.0, 2.0])], {"a"})) == {}
    assert points(stream.add([records("val/a", [7], [6.0])], {"a"})) == {}
    assert points(stream.add([records("a", [8], [1.0])], {"a"})) == {"loss/val/a": [(7, 3.0)]}


def test_a_step_with_several_records_has_one_point_at_their_mean_and_their_mean_time():
    stream = ScalarStream()
    chunk = records("val/a", [3, 3, 3, 8], [1.0, 2.0, 6.0, 0.0], time=[1, 2, 6, 9])
    (found,) = stream.add([chunk], {"a"})
    assert (found.step.tolist(), found.time.tolist(), found.value.tolist()) == ([3], [3.0], [3.0])


def test_steps_that_were_recorded_out_of_order_are_put_in_order():
    assert [step for step, _ in of(records("a", [5, 6, 2, 3], [1.0] * 4), losses=["a"])["loss/a"]] == [2, 3, 5, 6]


def test_values_that_are_nan_or_infinite_stay():
    values = of(records("a", [0, 1, 2], [NAN, math.inf, -math.inf]), losses=["a"])["loss/a"]
    assert np.array_equal([value for _, value in values], [NAN, math.inf, -math.inf], equal_nan=True)


def test_what_waits_of_superseded_steps_is_forgotten():
    stream = ScalarStream()
    stream.add([records("a", [0, 1, 2], [1.0] * 3)], {"a"})
    stream.rewind(2)
    stream.add([records("a", [2, 3], [5.0] * 2)], {"a"})
    assert points(stream.rest())["loss/a"] == [(3, 5.0)]


def test_what_waits_of_an_earlier_step_is_kept():
    stream = ScalarStream()
    stream.add([records("a", [0, 1, 2], [1.0] * 3)], {"a"})
    stream.rewind(3)
    assert points(stream.add([records("a", [3], [5.0])], {"a"}))["loss/a"] == [(2, 1.0)]


def test_after_a_rewind_a_weight_begins_anew():
    stream = ScalarStream()
    stream.add([records("a", [0, 1, 2], [1.0] * 3)], {"a"})
    stream.rewind(1)
    assert points(stream.add([records("a", [1, 2, 3], [1.0] * 3)], {"a"}))["weight/a"] == [(1, 1.0), (2, 1.0)]


def test_nothing_comes_of_nothing():
    stream = ScalarStream()
    assert stream.add([records("a", [], [])], {"a"}) == []
    assert stream.rest() == []


# What a manager records


def test_each_step_of_a_run_is_there_once_with_its_values_however_often_it_flushes():
    class Curves:
        def __init__(self):
            self.stream, self.found = ScalarStream(), []

        @hookimpl
        def nectargan_history_flushed(self, manager, chunks):
            self.found += self.stream.add(chunks, manager.get_registered_losses())

    curves = Curves()
    with LossManager(observers=[curves], history_buffer_size=3) as manager:
        falling = Schedule(start_epoch=0, end_epoch=2, target_value=0.0)
        manager.register_loss_fn("a", torch.nn.L1Loss(), loss_weight=10.0, schedule=falling)
        for epoch in range(2):
            for _ in range(5):
                manager.tick(epoch=epoch)
                manager.compute_loss_xy("a", torch.zeros(1), torch.full((1,), float(manager.step)))
            with manager.split("val"):
                for value in (1.0, 3.0):
                    manager.compute_loss_xy("a", torch.zeros(1), torch.full((1,), value))
    curves.found += curves.stream.rest()
    found = {}
    for each in curves.found:
        found.setdefault(each.tag, []).extend(zip(each.step.tolist(), each.value.tolist(), strict=True))
    assert found["loss/a"] == [(step, step * (10.0 if step < 5 else 5.0)) for step in range(10)]
    assert found["unweighted/a"] == [(step, float(step)) for step in range(10)]
    assert found["loss/val/a"] == [(4, 20.0), (9, 10.0)]
    assert dict(found["weight/a"]).items() >= {0: 10.0, 4: 10.0, 5: 5.0, 9: 5.0}.items()


def test_all_curves_are_thinned_alike_where_a_tool_takes_fewer_points():
    stream = ScalarStream(points=2)
    chunks = [records("a", range(9), [float(each) for each in range(9)]), records("b", [3, 8], [1.0, 2.0])]
    found = points(stream.add(chunks, {"a", "b"}))
    assert found["loss/a"] == [(3, 1.5), (7, 5.5)]
    assert found["loss/b"] == [(3, 1.0)]
    assert points(stream.rest())["loss/a"] == [(8, 8.0)]


def test_a_nan_is_in_the_mean_that_it_goes_into():
    stream = ScalarStream(points=2)
    values = [1.0, float("nan"), 1.0, 1.0, 1.0]
    assert str(points(stream.add([records("a", range(5), values)], {"a"}))["loss/a"]) == "[(1, nan), (3, 1.0)]"


def test_a_thinned_weight_is_one_that_there_was():
    stream = ScalarStream(points=2)
    weights = [4.0, 3.0, 2.0, 1.0, 0.5]
    found = points(stream.add([records("a", range(5), [1.0] * 5, weight=weights)], {"a"}))
    assert found["weight/a"] == [(1, 3.0), (3, 1.0)]
