"""Weightings by name in a run: what is applied, `every`, resuming, and problems that they solve better than a sum."""

import json

import pytest
import torch

from nectargan_core import LossManager, Schedule, Weighting
from nectargan_core.errors import WeightingError

WEIGHTINGS = {
    "balancer": Weighting("balancer", wrt="p"),
    "dwa": Weighting("dwa"),
    "gradnorm": Weighting("gradnorm", wrt="p"),
    "last-layer": Weighting("last-layer", params={"loss": "slow"}, wrt="p"),
    "random": Weighting("random"),
    "relobralo": Weighting("relobralo", params={"rho": 0.5}),
    "softadapt": Weighting("softadapt", params={"accuracy_order": 2}),
}
each_weighting = pytest.mark.parametrize("weighting", WEIGHTINGS.values(), ids=WEIGHTINGS)


# Two parameters, one of which gets small gradients.
RATES = {"fast": lambda p: (p[0] - 1.0) ** 2, "slow": lambda p: 0.05 * (p[1] - 1.0) ** 2}
SCALES = {"large": lambda p: 5.0 * (p[0] - 1.0) ** 2, "small": lambda p: 1e-3 * (p[1] - 1.0) ** 2}
# A slope with bumps, in the first of which a descent of the sum stays.
BUMPS = {"slope": lambda p: 0.1 * (p[0] - 2.0) ** 2, "bumps": lambda p: 0.3 * (1.0 - torch.cos(4.0 * p[0]))}


class Run:
    """A run of gradient descent on one vector of parameters."""

    def __init__(self, losses, weighting=None, start=(0.0, 0.0), lr=0.05, weights=None, schedules=None):
        self.losses = losses
        self.manager = LossManager(enable_logging=True)
        for name, function in losses.items():
            self.manager.register_loss_fn(name, function, loss_weight=(weights or {}).get(name), inputs=("p",))
        for name, schedule in (schedules or {}).items():
            self.manager.set_schedule(name, schedule)
        if weighting is not None:
            self.manager.set_weighting(weighting)
        self.p = torch.tensor(start, requires_grad=True)
        self.optimizer = torch.optim.SGD([self.p, *self.manager.modules().parameters()], lr=lr)

    def go(self, steps, begin=0):
        """Train, five steps an epoch, and return the weights of each step."""
        weights = []
        for step in range(begin, begin + steps):
            self.manager.tick(step=step, epoch=step / 5)
            total = self.manager.compute_losses({"p": self.p}).total
            self.optimizer.zero_grad()
            total.backward()
            self.optimizer.step()
            weights.append(list(self.manager.get_loss_weights(precision=None).values()))
        return weights

    def ends(self):
        """Return the losses at the end."""
        with torch.no_grad():
            return {name: function(self.p).item() for name, function in self.losses.items()}


@each_weighting
def test_a_factor_multiplies_the_weight_and_is_recorded(weighting):
    run = Run(RATES, weighting, weights={"fast": 2.0, "slow": 3.0})
    applied = run.go(25)
    for place, name in enumerate(RATES):
        series = run.manager.series(name)
        assert series.weight.tolist() == [weights[place] for weights in applied]
        assert series.loss.tolist() == pytest.approx((series.weight * series.unweighted).tolist(), rel=1e-6)
    assert len({tuple(weights) for weights in applied}) > 2


@each_weighting
def test_a_resumed_run_goes_on_to_the_digit(weighting):
    whole, first, second = (Run(RATES, weighting) for _ in range(3))
    expected = whole.go(24)
    applied = first.go(13)
    second.manager.load_state_dict(json.loads(json.dumps(first.manager.state_dict())))
    second.p.data.copy_(first.p.data)
    assert applied + second.go(11, begin=13) == expected
    assert second.p.tolist() == whole.p.tolist()


@each_weighting
def test_with_every_factors_change_at_every_third_step(weighting):
    applied = Run(RATES, weighting.model_copy(update={"every": 3})).go(24)
    changes = [step for step in range(1, 24) if applied[step] != applied[step - 1]]
    assert changes
    assert all(step % 3 == 0 for step in changes)


@each_weighting
def test_a_loss_takes_no_part_while_its_weight_is_0(weighting):
    late = {"slow": Schedule("linear", unit="step", start=10, end=14, initial_value=0.0, target_value=1.0)}
    run = Run(RATES, weighting, schedules=late)
    applied = run.go(11)
    assert all(weights[1] == 0.0 for weights in applied)
    if weighting.name != "balancer":  # which gives one loss alone the norm that it asks for
        assert all(weights[0] == pytest.approx(1.0, rel=1e-12) for weights in applied)
    assert all(weights[1] > 0.0 for weights in run.go(10, begin=11))


@pytest.mark.parametrize("name", ["gradnorm", "dwa", "random", "relobralo", "softadapt"])
def test_a_schedule_is_not_undone(name):
    fade = {"slow": Schedule("linear", unit="step", start=0, end=40, initial_value=1.0, target_value=0.01)}
    run = Run(RATES, WEIGHTINGS[name], schedules=fade)
    assert run.go(45)[-1][1] <= 0.02


def test_a_schedule_of_a_balanced_loss_sets_its_share():
    """With `balancer` and `last-layer` what is applied to the gradient is in proportion to the weight."""
    for name in ("balancer", "last-layer"):
        norms = []
        for weight in (1.0, 0.25):
            run = Run(RATES, WEIGHTINGS[name], weights={"slow": weight})
            ((fast, slow),) = run.go(1)
            # The norms of the gradients at the start are 2 and 0.1.
            norms.append(slow * 0.1 / (fast * 2.0))
        assert norms[0] == pytest.approx(4.0 * norms[1], rel=1e-3)


@pytest.mark.parametrize(
    ("weighting", "losses", "share"),
    [
        (Weighting("uncertainty"), SCALES, 0.65),
        (Weighting("balancer", wrt="p"), SCALES, 1e-6),
        (Weighting("last-layer", params={"loss": "small"}, wrt="p"), SCALES, 0.02),
        (Weighting("gradnorm", wrt="p"), RATES, 0.7),
        (Weighting("dwa", params={"temperature": 0.2}), RATES, 0.7),
        (Weighting("relobralo"), RATES, 0.7),
        (Weighting("softadapt", params={"variant": "loss-weighted"}), RATES, 0.7),
        (Weighting("softadapt", params={"variant": "normalized", "beta": 2.0}), RATES, 0.8),
        (Weighting("softadapt", params={"beta": 10.0}), RATES, 0.96),
    ],
    ids=lambda value: value.name if isinstance(value, Weighting) else "",
)
def test_it_gets_the_loss_down_that_a_plain_sum_leaves(weighting, losses, share):
    plain, balanced = Run(losses), Run(losses, weighting)
    plain.go(100)
    balanced.go(100)
    assert max(balanced.ends().values()) < share * max(plain.ends().values())


def test_random_leaves_a_local_minimum_in_which_the_sum_stays():
    plain, balanced = Run(BUMPS, start=(-2.0,), lr=0.35), Run(BUMPS, Weighting("random"), start=(-2.0,), lr=0.35)
    plain.go(300)
    balanced.go(300)
    assert sum(plain.ends().values()) == pytest.approx(1.22, abs=0.01)
    assert sum(balanced.ends().values()) < 0.6


def test_last_layer_leaves_a_loss_alone_that_does_not_reach_the_layer():
    code = torch.ones(2, requires_grad=True)
    run = Run({**RATES, "codebook": lambda p: (p.detach() * code + code).sum()}, WEIGHTINGS["last-layer"])
    assert [weights[2] for weights in run.go(3)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["balancer", "gradnorm"])
def test_others_refuse_a_loss_that_does_not_reach_wrt(name):
    code = torch.ones(2, requires_grad=True)
    run = Run({**RATES, "codebook": lambda p: (p.detach() * code + code).sum()}, WEIGHTINGS[name])
    with pytest.raises(WeightingError, match="codebook'? has no gradient with respect to"):
        run.go(1)


def test_last_layer_names_the_loss_whose_gradient_is_not_finite():
    run = Run({"fast": lambda p: p[0] * float("inf"), "slow": RATES["slow"]}, WEIGHTINGS["last-layer"])
    with pytest.raises(WeightingError, match="the gradient of fast is not finite"):
        run.go(1)


@pytest.mark.parametrize("name", ["last-layer", "gradnorm", "balancer"])
def test_gradients_too_small_for_half_precision_count_with_a_scaler(name):
    """The gradient of the second loss is 1e-8 of that of the first, which is 0 in half precision."""
    params = {"last-layer": {"loss": "b", "epsilon": 0.0, "maximum": 1e12}, "gradnorm": {"lr": 0.5}, "balancer": {}}
    factors = []
    for dtype, scaler in ((torch.float32, None), (torch.float16, torch.amp.GradScaler("cpu", init_scale=2.0**14))):
        manager = LossManager()
        manager.register_loss_fn("a", lambda p: p.float().sum(), inputs=("p",))
        manager.register_loss_fn("b", lambda p: 1e-8 * p.float().sum(), inputs=("p",))
        manager.set_weighting(Weighting(name, params=params[name]), wrt="p", scaler=scaler)
        for _ in range(3):
            manager.compute_losses({"p": torch.ones(2, 3, dtype=dtype, requires_grad=True)})
        factors.append(list(manager.get_loss_weights(precision=None).values()))
    assert factors[1] == pytest.approx(factors[0], rel=1e-2)
    assert factors[1][1] > factors[1][0]


def test_two_ranks_draw_the_same():
    """Random factors follow from seed, step and name, so that nothing has to be sent."""
    assert Run(RATES, WEIGHTINGS["random"]).go(9) == Run(RATES, WEIGHTINGS["random"], lr=0.5).go(9)
