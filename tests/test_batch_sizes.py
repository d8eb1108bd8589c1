"""The sizes of batches: recorded with the losses, logged, and what means weigh by."""

import math
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import NectarganError

BATCHES = [(8, 1.0), (8, 2.0), (2, 11.0)]
WEIGHED = (8 * 1.0 + 8 * 2.0 + 2 * 11.0) / 18


def manager_of(names=("G_L1",), **keywords):
    manager = LossManager(enable_logging=True, **keywords)
    for name in names:
        manager.register_loss_fn(name, torch.nn.L1Loss(), tags=["G"])
    return manager


def images(value):
    return {"y_fake": torch.zeros(2), "y": torch.full((2,), value)}


def compute(manager, batches=BATCHES):
    for size, value in batches:
        manager.tick(epoch=0)
        manager.compute_losses(images(value), batch_size=size)
    return manager


@pytest.mark.parametrize("count", [1, 2, 5])
def test_means_weigh_by_the_sizes_of_the_batches(count):
    names = [f"loss{number}" for number in range(count)]
    assert compute(manager_of(names)).means() == pytest.approx(dict.fromkeys(names, WEIGHED))


def test_means_do_not_depend_on_what_is_flushed(tmp_path):
    manager = manager_of(experiment_dir=tmp_path)
    for size, value in BATCHES:
        compute(manager, [(size, value)])
        manager.update_loss_log()
    assert manager.means() == pytest.approx({"G_L1": WEIGHED})


def test_records_of_an_unknown_size_make_all_count_alike():
    manager = compute(manager_of())
    manager.compute_loss_xy("G_L1", torch.zeros(2), torch.full((2,), 6.0))
    assert manager.series("G_L1").batch.tolist() == [8, 8, 2, 0]
    assert manager.means() == {"G_L1": 5.0}


def test_a_new_epoch_begins_a_new_mean():
    manager = compute(manager_of())
    manager.tick(epoch=1)
    manager.compute_losses(images(3.0))
    assert manager.means() == {"G_L1": 3.0}


def test_a_split_has_means_of_its_own():
    manager = manager_of()
    with manager.split("val"):
        for size, value in BATCHES:
            manager.compute_losses(images(value), batch_size=size)
            manager.record("psnr", value, batch_size=size)
        assert manager.means() == pytest.approx({"G_L1": WEIGHED, "psnr": WEIGHED})


@pytest.mark.parametrize("count", [1, 5])
def test_components_have_the_size_of_their_loss(count):
    manager = LossManager(enable_logging=True)
    for number in range(count):
        manager.register_loss_fn(f"G{number}", lambda x, y: {"near": (x - y).abs().mean(), "far": y.mean()})
    compute(manager)
    assert manager.series("G0.near").batch.tolist() == [8, 8, 2]
    assert manager.means("G0.far") == pytest.approx({"G0.far": WEIGHED})


def test_the_log_has_the_sizes(tmp_path):
    with manager_of(experiment_dir=tmp_path) as manager:
        compute(manager)
        manager.record("psnr", 20.0)
    log = LossLog(tmp_path)
    assert log.series("G_L1").batch.tolist() == [8, 8, 2]
    assert log.series("psnr").batch.tolist() == [0]


def test_a_size_is_recorded_for_what_is_skipped_and_for_maps():
    manager = manager_of(["skipped"])
    manager.register_loss_fn("map", torch.nn.L1Loss(reduction="none"))
    manager.set_weight("skipped", 0.0)
    compute(manager)
    assert manager.series("skipped").batch.tolist() == manager.series("map").batch.tolist() == [8, 8, 2]
    assert math.isnan(manager.means()["skipped"])


def test_a_call_that_fails_leaves_no_size_behind():
    manager = manager_of()
    with pytest.raises(AttributeError):
        manager.compute_losses({"y_fake": "none", "y": torch.zeros(3)}, batch_size=8)
    manager.compute_losses(images(1.0))
    assert manager.series("G_L1").batch.tolist() == [0]


def test_a_call_of_one_loss_takes_the_size():
    manager = manager_of()
    x, y = torch.zeros(2), torch.ones(2)
    manager.compute_loss("G_L1", x, y, batch_size=8)
    manager.compute_loss("G_L1", x, y, function_kwargs={}, batch_size=7)
    manager.compute_loss_xy("G_L1", x, y)
    assert manager.series("G_L1").batch.tolist() == [8, 7, 0]


def test_in_a_pause_there_is_no_mean():
    manager = manager_of()
    with manager.paused(), pytest.raises(NectarganError, match=r"inside of paused\(\) nothing is recorded"):
        manager.means()


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 2**32])
def test_a_compiled_size_out_of_range_is_an_error(size):
    manager = manager_of()

    @torch.compile(fullgraph=True, backend="eager")
    def step(y_fake, y):
        return manager.compute_losses({"y_fake": y_fake, "y": y}, batch_size=size).total

    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        step(torch.zeros(2), torch.ones(2))


@pytest.mark.slow
@pytest.mark.parametrize("size", [2.5, True])
def test_a_compiled_size_that_is_no_integer_is_an_error(size):
    manager = manager_of()
    compiled = torch.compile(lambda image: manager.compute_losses(images_of(image), batch_size=size), backend="eager")
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        compiled(torch.zeros(2))


def images_of(image):
    return {"y_fake": image, "y": torch.ones(2)}


def test_threads_have_sizes_of_their_own():
    manager = manager_of()
    inside, outside = threading.Event(), threading.Event()

    def waiting():
        inside.set()
        assert outside.wait(20)
        return torch.zeros(2)

    first = threading.Thread(target=lambda: manager.compute_losses({**images(1.0), "y_fake": waiting}, batch_size=8))
    first.start()
    assert inside.wait(20)
    manager.compute_losses(images(2.0), batch_size=4)
    manager.compute_losses(images(3.0))
    outside.set()
    first.join()
    manager.compute_losses(images(4.0))
    assert manager.series("G_L1").batch.tolist() == [4, 0, 8, 0]


@pytest.mark.slow
def test_sizes_in_a_compiled_graph_are_recorded_and_make_no_graph_of_their_own():
    manager = manager_of()
    graphs = []

    def backend(graph, examples):
        graphs.append(graph)
        return graph

    @torch.compile(fullgraph=True, backend=backend, dynamic=True)
    def step(y_fake, y, size):
        manager.record("level", y.mean(), batch_size=size)
        return manager.compute_losses({"y_fake": y_fake, "y": y}, batch_size=size).total

    for size in (8, 5, 3, 2):
        manager.tick(epoch=0)
        step(torch.zeros(4), torch.ones(4), size)
    assert manager.series("G_L1").batch.tolist() == manager.series("level").batch.tolist() == [8, 5, 3, 2]
    assert len(graphs) == 1


@pytest.mark.parametrize("size", [0, -1, 2**32])
def test_a_size_out_of_range_is_an_error(size):
    manager = manager_of()
    with pytest.raises(ValueError, match=f"batch_size must be at least 1 and at most 4294967295, got {size}"):
        manager.compute_losses(images(1.0), batch_size=size)
    with pytest.raises(ValueError, match="batch_size"):
        manager.record("psnr", 1.0, batch_size=size)


@pytest.mark.parametrize("size", [2.0, True, "8", torch.ones(2)])
def test_a_size_that_is_no_integer_is_an_error(size):
    with pytest.raises(TypeError, match="batch_size must be an integer"):
        manager_of().compute_losses(images(1.0), batch_size=size)


@given(st.lists(st.tuples(st.integers(0, 100), st.floats(0, 100, width=32)), min_size=1, max_size=20), st.data())
def test_means_are_those_of_an_independent_computation(tmp_path_factory, batches, data):
    manager = manager_of(experiment_dir=tmp_path_factory.mktemp("run"))
    for size, value in batches:
        manager.compute_losses(images(value), batch_size=size or None)
        if data.draw(st.booleans()):
            manager.update_loss_log()
    sizes = [size for size, _ in batches] if all(size for size, _ in batches) else [1] * len(batches)
    expected = sum(size * value for size, (_, value) in zip(sizes, batches, strict=True)) / sum(sizes)
    assert manager.means()["G_L1"] == pytest.approx(expected)
    manager.close()
