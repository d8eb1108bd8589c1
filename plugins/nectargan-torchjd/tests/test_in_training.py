"""Weightings by name in a `LossManager`: what is trained, recorded, resumed and refused."""

import json

import nectargan_torchjd
import pytest
import torch
from nectargan_torchjd.smoothing import CRMOGM, OTHERS
from torch import nn

from nectargan_core import LossManager, Schedule, Weighting, catalog
from nectargan_core.errors import WeightingError

WEIGHTS = {"G_GAN": 1.0, "G_L1": 10.0, "G_VGG": 0.5}


class Part(nn.Module):
    """The distance of some channels to a target."""

    def __init__(self, channel, power):
        super().__init__()
        self.channel, self.power = channel, power

    def forward(self, y_fake, y):
        return (y_fake[:, self.channel] - y[:, 0]).abs().pow(self.power).mean()


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 3, 3)).double()


def images(seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2, 1, 9, 9, generator=generator, dtype=torch.float64)
    return x, x[:, :, 2:-2, 2:-2] * torch.tensor(-1.0, dtype=torch.float64)


def balanced(weighting, **arguments):
    manager = LossManager(**arguments)
    for channel, (name, weight) in enumerate(WEIGHTS.items()):
        manager.register_loss_fn(name, Part(channel, channel + 1), weight, tags=["G"])
    if weighting is not None:
        manager.set_weighting(weighting, query="G", wrt="parameters")
    return manager


def computed(manager, model, at):
    x, y = images(at)
    manager.tick(step=at)
    return manager.compute_losses({"y_fake": model(x), "y": y, "parameters": model}, query="G")


def jacobian(model, at, weights):
    x, y = images(at)
    rows = []
    for channel, weight in enumerate(weights):
        loss = weight * Part(channel, channel + 1)(model(x), y)
        gradients = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True)
        rows.append(
            torch.cat(
                [
                    torch.zeros_like(like).flatten() if each is None else each.flatten()
                    for each, like in zip(gradients, model.parameters(), strict=True)
                ]
            )
        )
    return torch.stack(rows)


def test_what_is_trained_is_what_the_aggregator_gives_for_stacked_gradients(pair, request, drawing_at):
    _, params, aggregator = pair
    name = request.node.callspec.id.split(" ")[0]
    manager, model, aggregator = balanced(Weighting(name, params=params)), network(), aggregator()
    # Solvers stop within their own tolerances, which a last digit of the Gram matrix moves.
    tolerance = 1e-4 if name in {"torchjd-cagrad", "torchjd-fairgrad"} else 1e-11
    for at in range(3):
        losses = computed(manager, model, at)
        model.zero_grad()
        losses.total.backward()
        found = torch.cat([each.grad.flatten() for each in model.parameters()])
        with drawing_at(at):
            expected = aggregator(jacobian(model, at, WEIGHTS.values()))
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * expected.abs().max().item())


def test_every_name_gives_its_class(name):
    expected = {**OTHERS, "torchjd-cr-mogm": CRMOGM}[name]
    assert catalog.find(catalog.WEIGHTINGS, name).load() is expected


def test_all_weightings_are_tested(names):
    assert set(names) == {*OTHERS, "torchjd-cr-mogm"}
    assert {each.__name__ for each in (*OTHERS.values(), CRMOGM)} == set(nectargan_torchjd.__all__)


def test_a_weight_that_is_reported_is_the_own_one_times_the_factor():
    manager, model = balanced("torchjd-mgda"), network()
    computed(manager, model, 0)
    applied = manager.get_loss_weights("G", precision=12)
    factors = [applied[name] / own for name, own in WEIGHTS.items()]
    assert sum(factors) == pytest.approx(1.0)
    assert min(factors) < 0.5


def test_a_schedule_changes_the_balance_of_imtl_g_with_weighted_false_only():
    shares = {}
    for weighted in (True, False):
        manager, model = LossManager(), network()
        fade = Schedule("linear", unit="step", end=10, initial_value=1.0, target_value=0.1)
        manager.register_loss_fn("G_GAN", Part(0, 1), schedule=fade, tags=["G"])
        manager.register_loss_fn("G_L1", Part(1, 2), tags=["G"])
        weighting = Weighting("torchjd-imtl-g", params={"weighted": weighted})
        manager.set_weighting(weighting, query="G", wrt="parameters")
        found = []
        x, y = images(0)
        for at in (0, 10):
            manager.tick(step=at)
            manager.compute_losses({"y_fake": model(x), "y": y, "parameters": model}, query="G")
            weights = manager.get_loss_weights("G", precision=12)
            found.append(weights["G_GAN"] / weights["G_L1"])
        shares[weighted] = found[1] / found[0]
    assert shares[True] == pytest.approx(1.0)
    assert shares[False] == pytest.approx(0.1)


@pytest.mark.parametrize("which", ["torchjd-pcgrad", "torchjd-gradvac", "torchjd-pcd", "torchjd-cr-mogm"])
def test_a_resumed_manager_goes_on_to_the_digit(which, needed):
    def run(manager, model, steps):
        found = []
        for at in steps:
            computed(manager, model, at)
            found.append(manager.get_loss_weights("G", precision=17))
        return found

    weighting = Weighting(which, params=needed(which))
    whole = run(balanced(weighting), network(), range(6))
    first = balanced(weighting)
    run(first, network(), range(3))
    resumed = balanced(weighting)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    torch.manual_seed(99)
    assert run(resumed, network(), range(3, 6)) == whole[3:]


def test_an_unusable_parameter_is_an_error_that_names_the_weighting_and_sets_nothing():
    manager = balanced(None)
    with pytest.raises(WeightingError, match=r"'torchjd-mgda' .*epsilon must be a finite number above 0, got 0"):
        manager.set_weighting(Weighting("torchjd-mgda", params={"epsilon": 0}), query="G", wrt="parameters")
    with pytest.raises(WeightingError, match=r"'torchjd-krum' .*take at least 5 losses that run, got 3"):
        manager.set_weighting(Weighting("torchjd-krum", params={"n_byzantine": 2}), query="G", wrt="parameters")
    with pytest.raises(WeightingError, match=r"'torchjd-cagrad' .*missing a required .*'c'"):
        manager.set_weighting("torchjd-cagrad", query="G", wrt="parameters")
    with pytest.raises(WeightingError, match=r"'torchjd-mgda' .*needs gradients.* give wrt="):
        manager.set_weighting("torchjd-mgda", query="G")
    computed(manager, network(), 0)
    assert manager.get_loss_weights("G") == WEIGHTS


def test_a_solver_that_is_not_installed_is_an_error_that_names_the_extra(monkeypatch):
    monkeypatch.setattr("torchjd._mixins.find_spec", lambda name: None)
    with pytest.raises(WeightingError, match=r'pip install "nectargan-torchjd\[cagrad\]"'):
        balanced(Weighting("torchjd-cagrad", params={"c": 0.5}))


def descent(weighting, steps=75):
    """Two losses that want different things, the one ten times as large: their values before and after."""
    manager = LossManager()
    point = nn.Parameter(torch.tensor([-0.9, 1.0], dtype=torch.float64))
    manager.register_loss_fn("G_LARGE", lambda at: 10 * ((at[0] - 1) ** 2 + at[1] ** 2), tags=["G"], inputs=("at",))
    manager.register_loss_fn("G_SMALL", lambda at: (at[0] + 1) ** 2 + at[1] ** 2, tags=["G"], inputs=("at",))
    if weighting is not None:
        manager.set_weighting(weighting, query="G", wrt="at")
    values = []
    for _ in range(steps):
        manager.tick()
        losses = manager.compute_losses({"at": point}, query="G")
        (gradient,) = torch.autograd.grad(losses.total, point)
        values.append([10 * ((point[0] - 1) ** 2 + point[1] ** 2).item(), ((point[0] + 1) ** 2 + point[1] ** 2).item()])
        # A step has a length of 0.02 at most, whatever the scale of the factors.
        with torch.no_grad():
            point -= 0.02 * gradient / gradient.norm().clamp_min(1.0)
    return values[0], values[-1]


def test_the_plain_sum_sacrifices_the_smaller_of_two_losses_in_conflict():
    before, after = descent(None)
    assert after[0] < 0.5 * before[0]
    assert after[1] > 1.5 * before[1]


@pytest.mark.parametrize(
    ("which", "params"),
    [
        ("torchjd-mgda", {}),
        ("torchjd-pcgrad", {}),
        ("torchjd-gradvac", {"beta": 0.0}),  # the usual angle stays the right one
        ("torchjd-aligned-mtl", {}),
        ("torchjd-imtl-g", {}),
        ("torchjd-pcd", {"tau": 0.5}),
        ("torchjd-cr-mogm", {"weighting": "torchjd-mgda", "alpha": 0.5}),
        ("torchjd-cagrad", {"c": 0.9}),
        ("torchjd-fairgrad", {"alpha": 2.0, "max_iters": 10}),
        ("torchjd-upgrad", {}),
        ("torchjd-dualproj", {}),
    ],
)
def test_weightings_make_progress_on_both_losses_in_conflict(which, params):
    before, after = descent(Weighting(which, params=params))
    assert after[0] < 0.9 * before[0]
    assert after[1] < before[1]
