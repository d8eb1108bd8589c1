"""The spec `cyclegan`: its contract, and its totals and gradients beside those of the authors' code."""

import copy

import pytest
import torch
from nectargan_cyclegan import cyclegan
from torch import nn
from torch.nn import functional

from nectargan_core import Config, LossManager
from nectargan_core.testing import LossSpecTests


class TestCycleGAN(LossSpecTests):
    name = "cyclegan"
    gradcheck = True


def networks():
    """Return the generators that translate to A and to B, and the discriminators of A and of B."""
    torch.manual_seed(0)
    generators = [nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1)) for _ in range(2)]
    critics = [nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3)) for _ in range(2)]
    return nn.ModuleList(generators), nn.ModuleList(critics)


def batch(step):
    return torch.rand(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(step)).mul(2).sub(1).unbind()


class Pool:
    """Gives the images of the step before in the place of each second image."""

    def __init__(self):
        self.earlier = None

    def __call__(self, images):
        given = images if self.earlier is None else torch.cat([images[:1], self.earlier[1:]])
        self.earlier = images
        return given


def lsgan(prediction, target):
    return functional.mse_loss(prediction, torch.full_like(prediction, target))


def authors_step(net_g_a, net_g_b, net_d_a, net_d_b, real_a, real_b, pools, *, lambda_idt=0.5, lambdas=(10.0, 10.0)):
    """Return the totals of generators and discriminators by the formulas of the authors' code, under its names."""
    lambda_a, lambda_b = lambdas
    fake_b = net_g_a(real_a)
    rec_a = net_g_b(fake_b)
    fake_a = net_g_b(real_b)
    rec_b = net_g_a(fake_a)
    loss_g = lsgan(net_d_a(fake_b), 1.0) + lsgan(net_d_b(fake_a), 1.0)
    loss_g = loss_g + functional.l1_loss(rec_a, real_a) * lambda_a + functional.l1_loss(rec_b, real_b) * lambda_b
    if lambda_idt:
        loss_g = loss_g + functional.l1_loss(net_g_a(real_b), real_b) * lambda_b * lambda_idt
        loss_g = loss_g + functional.l1_loss(net_g_b(real_a), real_a) * lambda_a * lambda_idt
    pool_a, pool_b = pools
    fake_a, fake_b = pool_a(fake_a.detach()), pool_b(fake_b.detach())
    loss_d_a = (lsgan(net_d_a(real_b), 1.0) + lsgan(net_d_a(fake_b), 0.0)) * 0.5
    loss_d_b = (lsgan(net_d_b(real_a), 1.0) + lsgan(net_d_b(fake_a), 0.0)) * 0.5
    return loss_g, loss_d_a + loss_d_b


def our_step(manager, to_a, to_b, judge_a, judge_b, real_a, real_b, pools):
    manager.tick()
    fake_a, fake_b = to_a(real_b), to_b(real_a)
    inputs = {"real_a": real_a, "real_b": real_b, "rec_a": to_a(fake_b), "rec_b": to_b(fake_a)}
    inputs |= {"identity_a": lambda: to_a(real_a), "identity_b": lambda: to_b(real_b)}
    inputs |= {"pred_fake_a": judge_a(fake_a), "pred_fake_b": judge_b(fake_b)}
    of_generators = manager.compute_losses(inputs, query="G")
    pool_a, pool_b = pools
    fake_a, fake_b = pool_a(fake_a.detach()), pool_b(fake_b.detach())
    inputs = {"pred_real_a": judge_a(real_a), "pred_real_b": judge_b(real_b)}
    inputs |= {"pred_fake_a": judge_a(fake_a), "pred_fake_b": judge_b(fake_b)}
    return of_generators.total, manager.compute_losses(inputs, query="D").total


def assert_same_step(totals, expected, networks, their_networks):
    """Compare totals and gradients of a step, and train both sides by their own gradients."""
    for total, their_total, network, theirs in zip(totals, expected, networks, their_networks, strict=True):
        torch.testing.assert_close(total, their_total, rtol=1e-5, atol=1e-7)
        parameters, their_parameters = list(network.parameters()), list(theirs.parameters())
        gradients = torch.autograd.grad(total, parameters)
        their_gradients = torch.autograd.grad(their_total, their_parameters)
        torch.testing.assert_close(gradients, their_gradients, rtol=1e-5, atol=1e-6)
        with torch.no_grad():
            for each, step in zip([*parameters, *their_parameters], [*gradients, *their_gradients], strict=True):
                each.sub_(0.05 * step)


CASES = [
    ("cyclegan", None, {}),
    ("cyclegan:plain", None, {"lambda_idt": 0.0}),
    (
        "cyclegan",
        {"train": {"loss": {"lambda_cycle_a": 4.0, "lambda_identity_a": 1.0, "lambda_identity_b": 2.5}}},
        {"lambdas": (4.0, 10.0), "lambda_idt": 0.25},
    ),
]


@pytest.mark.parametrize(("formula", "config", "options"), CASES)
def test_three_steps_are_those_of_the_authors(formula, config, options):
    manager = LossManager.from_spec(formula, config)
    ours = networks()
    theirs = copy.deepcopy(ours)
    pools, their_pools = (Pool(), Pool()), (Pool(), Pool())
    for step in range(3):
        real_a, real_b = batch(step)
        (to_a, to_b), (judge_a, judge_b) = ours
        totals = our_step(manager, to_a, to_b, judge_a, judge_b, real_a, real_b, pools)
        (net_g_b, net_g_a), (net_d_b, net_d_a) = theirs
        expected = authors_step(net_g_a, net_g_b, net_d_a, net_d_b, real_a, real_b, their_pools, **options)
        assert_same_step(totals, expected, ours, theirs)


def test_each_loss_reads_inputs_of_its_domain_only():
    for loss in cyclegan(Config()).values():
        assert {each[-2:] for each in loss.inputs} == {loss.name[-2:].lower()}


def test_the_weights_are_those_of_the_authors():
    weights = {"G_GAN": 1.0, "D_real": 0.5, "D_fake": 0.5, "G_CYCLE": 10.0, "G_IDENTITY": 5.0}
    expected = {f"{name}_{domain}": weight for domain in "AB" for name, weight in weights.items()}
    assert {name: loss.loss_weight for name, loss in cyclegan(Config()).items()} == expected


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("gan", ["G_GAN_A", "G_GAN_B"]),
        *((f"{key}_{domain}", [f"G_{key}_{domain}".upper()]) for key in ("cycle", "identity") for domain in "ab"),
    ],
)
def test_each_key_of_the_configuration_sets_its_losses(key, names):
    before = cyclegan(Config())
    after = cyclegan(Config.model_validate({"train": {"loss": {f"lambda_{key}": 2.5}}}))
    assert [name for name in after if after[name].loss_weight != before[name].loss_weight] == names
    assert all(after[name].loss_weight == 2.5 for name in names)


def test_the_losses_of_one_discriminator_are_computed_by_their_names():
    manager = LossManager.from_spec("cyclegan")
    predictions = {"pred_real_a": torch.full((1, 1, 4, 4), 0.5), "pred_fake_a": torch.full((1, 1, 4, 4), 0.5)}
    losses = manager.compute_losses(predictions, query=["D_real_A", "D_fake_A"])
    assert losses.total.item() == pytest.approx(0.25)


def test_without_the_identity_losses_their_inputs_are_not_made():
    manager = LossManager.from_spec("cyclegan:plain")
    image, prediction = torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 4, 4)
    inputs = dict.fromkeys(("real_a", "real_b", "rec_a", "rec_b"), image)
    inputs |= {"pred_fake_a": prediction, "pred_fake_b": prediction, "identity_a": lambda: 1 / 0}
    assert manager.compute_losses(inputs, query="G").total.item() == 2.0
