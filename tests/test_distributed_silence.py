"""Nothing of a manager communicates by itself: not in a process group whose every collective is an error."""

from __future__ import annotations

import contextlib
import math

import pytest
import torch
from managers import adversarial

from nectargan_core import LossLog, LossManager, Schedule, Weighting, hookimpl

distributed = pytest.importorskip("torch.distributed")
if not distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)


class CollectiveError(Exception):
    """Something has entered a collective."""


def refused(name):
    def refuse(self, *args, **kwargs):
        raise CollectiveError(name)

    return refuse


COMMUNICATING = (
    "all",
    "_all",
    "barrier",
    "broadcast",
    "gather",
    "monitored",
    "recv",
    "reduce",
    "_reduce",
    "scatter",
    "send",
)
# Below the functions of torch.distributed, so that no way around them is missed.
Silent = type(
    "Silent",
    (distributed.ProcessGroup,),
    {name: refused(name) for name in dir(distributed.ProcessGroup) if name.startswith(COMMUNICATING)}
    | {"getBackendName": lambda self: "silent"},
)


@pytest.fixture(params=[0, 1])
def silence(request):
    """A process group of two ranks, of which this process is one, and in which every collective raises."""
    if not hasattr(distributed.Backend, "SILENT"):
        distributed.Backend.register_backend(
            "silent", lambda store, rank, size, timeout: Silent(rank, size), devices="cpu"
        )
    store = distributed.HashStore()
    distributed.init_process_group("silent", store=store, rank=request.param, world_size=2)
    yield request.param
    distributed.destroy_process_group()


TENSOR = torch.ones(2)
COLLECTIVES = {
    "all_reduce": lambda: distributed.all_reduce(TENSOR),
    "all_gather": lambda: distributed.all_gather([TENSOR, TENSOR], TENSOR),
    "all_gather_object": lambda: distributed.all_gather_object([None, None], 1),
    "all_to_all": lambda: distributed.all_to_all([TENSOR, TENSOR], [TENSOR, TENSOR]),
    "barrier": lambda: distributed.barrier(),
    "broadcast": lambda: distributed.broadcast(TENSOR, 0),
    "broadcast_object_list": lambda: distributed.broadcast_object_list([1], 0),
    "gather_object": lambda: distributed.gather_object(1, [None, None] if distributed.get_rank() == 0 else None),
    "irecv": lambda: distributed.irecv(TENSOR, 1 - distributed.get_rank()),
    "isend": lambda: distributed.isend(TENSOR, 1 - distributed.get_rank()),
    "recv": lambda: distributed.recv(TENSOR, 1 - distributed.get_rank()),
    "reduce": lambda: distributed.reduce(TENSOR, 0),
    "reduce_scatter": lambda: distributed.reduce_scatter(TENSOR, [TENSOR, TENSOR]),
    "scatter": lambda: distributed.scatter(TENSOR, [TENSOR, TENSOR] if distributed.get_rank() == 0 else None),
    "send": lambda: distributed.send(TENSOR, 1 - distributed.get_rank()),
}


@pytest.mark.parametrize("name", COLLECTIVES)
def test_in_such_a_group_every_collective_is_an_error(silence, name):
    with pytest.raises(CollectiveError):
        COLLECTIVES[name]()


class Observer:
    """Observes all that there is, and counts the events."""

    def __init__(self):
        self.flushed = 0
        self.others = []

    @hookimpl
    def nectargan_losses_built(self, losses):
        self.others.append("built")

    @hookimpl
    def nectargan_loss_registered(self, loss):
        self.others.append("registered")

    @hookimpl
    def nectargan_history_flushed(self, chunks):
        self.flushed += len(chunks)

    @hookimpl
    def nectargan_history_rewound(self, step):
        self.others.append("rewound")

    @hookimpl
    def nectargan_nonfinite_loss(self, loss_name):
        self.others.append("nonfinite")

    @hookimpl
    def nectargan_manager_closed(self):
        self.others.append("closed")


def inputs_of(network, spoil=1.0):
    x, y = torch.rand(2, 1, 3, 32, 32)
    y_fake = network(x) * spoil
    return {"x": x, "y": y, "y_fake": y_fake, "pred_fake": lambda: y_fake.mean(1, keepdim=True), "pred_real": y - 0.5}


def everything(place, observers):
    """Do all that a run does with its manager, but for what says that it communicates."""
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    fade = {"G_SOBEL": Schedule(unit="fraction", end_epoch=1, target_value=0.0)}
    options = {"schedules": fade, "experiment_dir": place, "observers": observers, "resume": True, "total_epochs": 3}
    with LossManager.from_spec("pix2pix:extended", flush_every=0.0, fsync=True, **options) as manager:
        manager.set_weighting(Weighting("balancer", wrt="y_fake"), query="G")
        manager.set_weighting("uncertainty", query="D")
        optimizer = torch.optim.Adam([*network.parameters(), *manager.modules().parameters()])
        for step in range(4):
            manager.tick(epoch=step // 2)
            inputs = inputs_of(network)
            losses = manager.compute_losses(inputs, query="G", batch_size=4 - step)
            manager.record_gradients(losses, inputs["y_fake"])
            optimizer.zero_grad()
            losses.total.backward()
            manager.compute_losses(inputs_of(network), query="D", batch_size=4 - step).total.backward()
            optimizer.step()
            manager.record("rate", 0.1, batch_size=2)
            manager.print_losses(step // 2, step, capture=True)
        with manager.split("val"):
            manager.compute_losses(inputs_of(network), query="G")
            assert math.isfinite(manager.means("G_L1")["G_L1"])
        with manager.paused():
            manager.compute_losses(inputs_of(network), query="G")
        manager.set_weight("G_L1", 3.0)
        manager.disable("G_L2")
        manager.print_weights()
        manager.update_loss_log(silent=False)
        state = manager.state_dict()
        manager.tick()
        with pytest.warns(match="nan"):
            manager.compute_losses(inputs_of(network, spoil=math.nan), query="G_L1")
        manager.load_state_dict(state)
        manager.manifest()
        assert manager.series("G_L1").step[-1] == state["step"]
    return LossLog(place)


def test_a_whole_run_enters_no_collective(silence, tmp_path, capsys):
    observer = Observer()
    for _ in range(2):  # the second resumes the log of the first
        log = everything(tmp_path / "run", [observer, "tensorboard"])
    assert log.ranks == (silence,)
    assert observer.flushed > 0
    assert set(observer.others) == {"built", "registered", "rewound", "nonfinite", "closed"}


def test_a_loss_of_one_rank_only_enters_no_collective(silence):
    manager = adversarial(enable_logging=True)
    query = "G_L1" if silence == 0 else ["G_GAN", "D"]
    inputs = {"y_fake": torch.zeros(4), "y": torch.ones(4), "pred_fake": torch.zeros(4), "pred_real": torch.ones(4)}
    losses = manager.compute_losses(inputs, query=query)
    assert all(math.isfinite(float(value)) for value in losses.values())
    assert all(math.isfinite(mean) for mean in manager.means(query).values())


SPEAKING = {
    "check_ranks": lambda manager: manager.check_ranks(),
    "raise_on_any_rank": lambda manager: manager.raise_on_any_rank(),
    "reduce_means": lambda manager: manager.reduce_means(),
}


@pytest.mark.parametrize("name", SPEAKING)
def test_what_is_said_to_communicate_does(silence, name):
    manager = adversarial(enable_logging=True)
    with pytest.raises(CollectiveError):
        SPEAKING[name](manager)


@pytest.mark.parametrize("reduce", [None, "mean"])
def test_a_weighting_communicates_only_where_it_says_so(silence, reduce):
    manager = adversarial()
    manager.set_weighting(Weighting("balancer", wrt="y_fake", reduce=reduce), query="G")
    manager.tick()
    y_fake = torch.zeros(4, requires_grad=True)
    with pytest.raises(CollectiveError) if reduce else contextlib.nullcontext():
        manager.compute_losses({"y_fake": y_fake, "y": torch.ones(4), "pred_fake": y_fake * 2}, query="G")
