"""Records of objectives in states and logs: other losses are refused, and no record costs a training anything."""

import copy
import io
import json
import time
import warnings

import pytest
import torch
from torch import nn

from nectargan_core import LMLoss, LossLog, LossManager, Objective, Schedule, Weighting
from nectargan_core.errors import NectarganWarning, ObjectiveError


def pix2pix(**keywords):
    return LossManager.from_spec("pix2pix", **keywords)


def huber_for_l1():
    manager = pix2pix()
    manager.unregister("G_L1")
    manager.register_loss_fn("G_L1", nn.HuberLoss(), 100.0, tags=["G"])
    return manager


def observed(load, *args, **kwargs):
    """Return what a call warns of, as one text."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load(*args, **kwargs)
    return "\n".join(str(each.message) for each in seen)


def header_lines(directory):
    """Return the lines of a log that describe the run, as data."""
    lines = map(json.loads, (directory / "loss_log.jsonl").read_text().splitlines())
    return [line for line in lines if "manifest" in line]


# States


def test_a_state_has_the_record_as_plain_data():
    manager = pix2pix()
    state = manager.state_dict()
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=True)
    assert loaded == state
    assert Objective.from_dict(loaded["manifest"]) == manager.manifest()
    pix2pix().load_state_dict(loaded)


OTHERS = {
    "more": (lambda: LossManager.from_spec("pix2pix + ssim"), "loss", "G_SSIM", "loss G_SSIM: recorded absent, here"),
    "fewer": (lambda: LossManager.from_spec("gan"), "loss", "G_L1", "loss G_L1: recorded .*, here absent"),
    "function": (huber_for_l1, "function", "G_L1", "function of G_L1: recorded .*:L1, here torch.nn:HuberLoss"),
    "inputs": (lambda: pix2pix(rename_inputs={"y": "z"}), "inputs", "G_L1", "recorded y_fake, y, here y_fake, z"),
}


@pytest.mark.parametrize("weights", ["saved", "current"])
@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_other_losses_is_refused_and_changes_nothing(other, weights):
    make, kind, name, said = OTHERS[other]
    state, manager = pix2pix().state_dict(), make()
    before = manager.state_dict()
    with pytest.raises(ObjectiveError, match=said) as refused:
        manager.load_state_dict({**state, "step": 7, "ticked": True}, weights)
    assert (kind, name) in [(each.kind, each.name) for each in refused.value.differences]
    assert "strict=False" in str(refused.value)
    assert manager.state_dict() == before


@pytest.mark.parametrize("other", OTHERS)
def test_a_state_of_other_losses_loads_with_a_warning_where_it_may(other):
    make, _, _, said = OTHERS[other]
    source = pix2pix()
    source.set_weight("G_GAN", 3.0)
    state, manager = source.state_dict(), make()
    with pytest.warns(NectarganWarning, match=said):
        manager.load_state_dict({**state, "step": 7, "ticked": True}, strict=False)
    assert manager.get_loss_weights()["G_GAN"] == 3.0
    assert manager.state_dict()["step"] == 7


def test_other_arguments_weight_files_and_meanings_are_other_losses():
    def manager(function, version=1):
        made = LossManager()
        made.register_spec(lambda: {"A": LMLoss(name="A", function=function, version=version)})
        return made

    class Weighed(nn.L1Loss):
        weight_files = {}

    files = Weighed()
    files.weight_files = {"vgg.pth": "0" * 64}
    cases = {
        "argument of A.delta: recorded 1, here 0.5": (manager(nn.HuberLoss()), manager(nn.HuberLoss(delta=0.5))),
        "meaning of A: recorded version 1, here version 2": (manager(nn.L1Loss()), manager(nn.L1Loss(), 2)),
        "weight file vgg.pth: recorded absent, here SHA-256 000000000000": (manager(Weighed()), manager(files)),
    }
    for said, (before, after) in cases.items():
        with pytest.raises(ObjectiveError, match=said):
            after.load_state_dict(before.state_dict())
        assert said in observed(after.load_state_dict, before.state_dict(), strict=False)


def test_other_weights_warn_and_are_replaced_or_kept():
    state = pix2pix().state_dict()
    saved, current = pix2pix(weights={"G_L1": 3.0}), pix2pix(weights={"G_L1": 3.0})
    said = observed(saved.load_state_dict, state)
    assert "weight of G_L1: recorded 100, here 3" in said
    assert "weights and schedules are now those of the state" in said
    assert saved.get_loss_weights()["G_L1"] == 100
    assert not observed(current.load_state_dict, state, "current")
    assert current.get_loss_weights()["G_L1"] == 3


def test_other_schedules_warn():
    state = pix2pix(schedules={"G_L1": Schedule(end=10, target_value=0.0)}).state_dict()
    said = observed(pix2pix().load_state_dict, state)
    assert "schedule of G_L1: recorded linear from 100 to 0, epoch 0 to 10, here none" in said


def test_other_releases_warn_with_the_line_that_installs_them():
    state = pix2pix().state_dict()
    manifest = copy.deepcopy(state["manifest"])
    manifest["providers"]["nectargan-pix2pix"] = "0.0.1"
    manifest["versions"]["torch"] = "2.0.0+cu118"
    said = observed(pix2pix().load_state_dict, {**state, "manifest": manifest})
    assert "version of nectargan-pix2pix: recorded 0.0.1" in said
    assert "pip install nectargan-pix2pix==0.0.1" in said
    assert "pip install torch==2.0.0" in said


def test_another_build_of_the_same_release_is_the_same():
    state = pix2pix().state_dict()
    manifest = copy.deepcopy(state["manifest"])
    manifest["versions"]["torch"] = torch.__version__.partition("+")[0] + "+other"
    assert not observed(pix2pix().load_state_dict, {**state, "manifest": manifest})


@pytest.mark.parametrize("absent", [{}, {"manifest": None}])
def test_a_state_without_a_record_is_compared_by_names(absent):
    state = {key: value for key, value in pix2pix().state_dict().items() if key != "manifest"} | absent
    assert not observed(pix2pix().load_state_dict, state)
    with pytest.raises(ObjectiveError, match="loss G_SSIM: recorded absent, here there"):
        LossManager.from_spec("pix2pix + ssim").load_state_dict(state)
    assert "loss G_SSIM" in observed(LossManager.from_spec("pix2pix + ssim").load_state_dict, state, strict=False)


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: 3,
        lambda manifest: "x",
        lambda manifest: [],
        lambda manifest: {},
        lambda manifest: {"formula": "pix2pix"},
        lambda manifest: {**manifest, "fingerprint": None},
        lambda manifest: {**manifest, "fingerprint": 3},
        lambda manifest: {**manifest, "losses": 3},
        lambda manifest: {**manifest, "losses": {}},
        lambda manifest: {**manifest, "losses": {**manifest["losses"], "G_L1": {}}},
        lambda manifest: {**manifest, "losses": {**manifest["losses"], "G_L1": {"function": "a:b", "weight": "x"}}},
        lambda manifest: {**manifest, "foo": 3},
    ],
)
def test_a_malformed_record_in_a_state_is_a_value_error_and_changes_nothing(change):
    manager = pix2pix()
    before = manager.state_dict()
    with pytest.raises(ValueError, match=r"expected what LossManager\.state_dict\(\) returned"):
        manager.load_state_dict({**before, "step": 7, "ticked": True, "manifest": change(before["manifest"])})
    assert manager.state_dict() == before


@pytest.mark.parametrize("strict", [0, "yes", None])
def test_strict_is_true_or_false(strict):
    with pytest.raises(TypeError, match="strict must be True or False"):
        pix2pix().load_state_dict(pix2pix().state_dict(), strict=strict)
    with pytest.raises(TypeError, match="strict must be True or False"):
        LossManager.from_spec(Objective(formula="l1"), strict=strict)


# What a record must not cost


class Raising(nn.Module):
    """A module of which every attribute that a record reads raises."""

    def __init__(self, scale=1.0, weight_files=None):
        super().__init__()

    @property
    def scale(self):
        raise RuntimeError("not now")

    @property
    def weight_files(self):
        raise RuntimeError("not now")

    def forward(self, x, y):
        return (x - y).abs().mean()


class Hostile:
    """An object that raises whatever is asked of it."""

    def __raise(self, *args):
        raise RuntimeError("no")

    __eq__ = __bool__ = __len__ = __iter__ = __repr__ = __str__ = __int__ = __float__ = __index__ = __hash__ = __raise


class Holding(nn.Module):
    """A module with an argument of any kind."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def forward(self, x, y):
        return (x - y).abs().mean()


class Odd(dict):
    """A mapping of which the items raise."""

    def items(self):
        raise RuntimeError("no")


class Endless(nn.Module):
    """A module that has whatever attribute it is asked for."""

    def __init__(self, given=1):
        super().__init__()

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return self

    def forward(self, x, y):
        return (x - y).abs().mean()


def circle():
    made = []
    made.append(made)
    return made


FUNCTIONS = {
    "an attribute that raises": Raising,
    "an object that raises": lambda: Holding(Hostile()),
    "a list of one": lambda: Holding([Hostile()]),
    "a mapping that raises": lambda: Holding(Odd(a=1)),
    "a list that is in itself": lambda: Holding(circle()),
    "a tensor on meta": lambda: Holding(torch.empty(3, device="meta")),
    "a tensor of nan": lambda: Holding(torch.full((3,), torch.nan)),
    "a sparse tensor": lambda: Holding(torch.eye(3).to_sparse()),
    "a large tensor": lambda: Holding(torch.zeros(10**6)),
    "a long list": lambda: Holding([0.5] * 10**6),
    "a long text": lambda: Holding("x" * 10**7),
    "a large number": lambda: Holding(10**5000),
    "text that UTF-8 cannot write": lambda: Holding("\ud800"),
    "nan": lambda: Holding(float("nan")),
    "a module": lambda: Holding(nn.Linear(2, 2)),
    "a function": lambda: Holding(lambda x: x),
    "what is learned": lambda: Holding(nn.Parameter(torch.ones(2))),
    "every attribute": Endless,
}


@pytest.mark.parametrize("kind", FUNCTIONS)
@pytest.mark.filterwarnings("ignore:.*weight.files")
def test_a_loss_of_which_not_all_can_be_recorded_is_trained_logged_and_saved(tmp_path, kind):
    x, y = torch.rand(3), torch.rand(3)
    started = time.perf_counter()
    with LossManager(experiment_dir=tmp_path) as manager:
        manager.register_loss_fn("A", FUNCTIONS[kind]())
        for step in range(3):
            manager.tick(epoch=0, step=step)
            manager.compute_losses({"y_fake": x, "y": y})
        state = manager.state_dict()
    log = LossLog(tmp_path)
    assert log.series("A").step.tolist() == [0, 1, 2]
    (header,) = log.headers
    record = Objective.from_dict(header["manifest"])
    assert record == Objective.from_dict(state["manifest"]) == manager.manifest()
    assert record.losses["A"].unknown or record.losses["A"].arguments
    assert len(str(header)) < 10_000
    assert time.perf_counter() - started < 60


def test_what_is_learned_is_no_argument():
    learned = Holding(nn.Parameter(torch.ones(2)))
    manager = LossManager()
    manager.register_loss_fn("A", learned)
    with torch.no_grad():
        learned.given.mul_(2.0)
    state = manager.state_dict()
    assert state["manifest"]["losses"]["A"]["unknown"] == ["given"]
    fresh = LossManager()
    fresh.register_loss_fn("A", Holding(nn.Parameter(torch.ones(2))))
    assert not observed(fresh.load_state_dict, state)


def test_an_attribute_that_changes_in_training_stays_what_it_was_at_first():
    function = Holding(1.0)
    manager = LossManager()
    manager.register_loss_fn("A", function)
    before = manager.manifest()
    function.given = 2.0
    assert manager.manifest() == before


def test_an_error_in_a_record_becomes_a_warning_and_the_log_goes_on(tmp_path, monkeypatch):
    def fail(*args):
        raise RuntimeError("no record")

    monkeypatch.setattr("nectargan_core.objectives._contents.record", fail)
    x = torch.rand(3)
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("A", nn.L1Loss())
    manager.compute_losses({"y_fake": x, "y": x / 2})
    with pytest.warns(NectarganWarning, match=r"cannot be recorded in the header of .*: RuntimeError: no record"):
        manager.close()
    (header,) = LossLog(tmp_path).headers
    assert header["manifest"] is None
    assert LossLog(tmp_path).series("A").step.tolist() == [0]


def test_weights_that_change_at_every_step_add_no_headers(tmp_path):
    x = torch.rand(3)
    with LossManager(experiment_dir=tmp_path, flush_every=0.0) as manager:
        manager.register_loss_fn("A", nn.L1Loss())
        for step in range(20):
            manager.set_weight("A", 1.0 + step)
            manager.set_schedule("A", Schedule(end=10, initial_value=1.0 + step, target_value=0.0))
            manager.disable("A")
            manager.enable("A")
            manager.tick(epoch=0)
            manager.compute_losses({"y_fake": x, "y": x / 2})
            manager.state_dict()  # which flushes
    assert len(header_lines(tmp_path)) == 1


def test_a_change_of_the_objective_adds_a_header_with_its_record(tmp_path):
    x = torch.rand(3, requires_grad=True)
    with LossManager(experiment_dir=tmp_path) as manager:
        for change in (
            lambda: manager.register_loss_fn("A", nn.L1Loss()),
            lambda: manager.register_loss_fn("B", nn.MSELoss()),
            lambda: manager.set_weighting(Weighting("random"), ["A", "B"]),
            lambda: manager.set_weighting(None, ["A", "B"]),
            lambda: manager.unregister("A"),
        ):
            change()
            manager.tick()
            manager.compute_losses({"y_fake": x * 1.0, "y": x / 2})
            manager.state_dict()  # which flushes
    records = [Objective.from_dict(header["manifest"]) for header in header_lines(tmp_path)]
    assert [list(record.losses) for record in records] == [["A"], ["A", "B"], ["A", "B"], ["A", "B"], ["B"]]
    assert [len(record.weightings) for record in records] == [0, 0, 1, 0, 0]
    assert Objective.load(tmp_path) == records[-1] == manager.manifest()


def test_the_cost_of_a_record_grows_with_the_losses_and_not_their_square(tmp_path, monkeypatch):
    described = []
    from nectargan_core.objectives import _contents

    original = _contents.described
    monkeypatch.setattr(_contents, "described", lambda function: described.append(function) or original(function))
    with LossManager(experiment_dir=tmp_path) as manager:
        for number in range(300):
            manager.register_loss_fn(f"G_{number}", nn.L1Loss(), tags=["G"])
        for _ in range(3):
            assert len(manager.manifest().losses) == 300
        manager.state_dict()
    assert len([each for each in described if type(each) is nn.L1Loss]) == 300
