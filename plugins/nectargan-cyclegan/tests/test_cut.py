"""The spec `cut`: its contract, and its totals and gradients beside those of the authors' code."""

import copy

import pytest
import torch
from nectargan_contrastive import sample_patches
from nectargan_cyclegan import cut
from torch import nn
from torch.nn import functional

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests

# They start processes, which takes longer than all other checks.
INSTALLED = dict.fromkeys(("entry_point", "imports"), "the spec `cyclegan` of the same module is checked so")


class TestCUT(LossSpecTests):
    name = "cut"
    gradcheck = True
    skip = INSTALLED


class Generator(nn.Module):
    """Encodes an image in two layers, whose features are compared, and decodes it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.last = nn.Conv2d(6, 12, 1)

    def encode(self, image):
        first = torch.tanh(self.first(image))
        return [first, torch.tanh(self.second(first))]

    def forward(self, image):
        return torch.tanh(functional.pixel_shuffle(self.last(self.encode(image)[-1]), 2))


def networks():
    """Return the generator with the projections of its features, and the discriminator."""
    torch.manual_seed(0)
    projections = nn.ModuleList(nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, 8)) for width in (4, 6))
    critic = nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))
    return nn.ModuleList([Generator(), projections]).double(), critic.double()


def batch(step):
    """Return x and y, in float64: the gradients are small differences of large numbers."""
    generator = torch.Generator().manual_seed(step)
    return (torch.rand(2, 2, 3, 8, 8, generator=generator, dtype=torch.float64) * 2 - 1).unbind()


def lsgan(prediction, target):
    return functional.mse_loss(prediction, torch.full_like(prediction, target))


def authors_nce(net_g, net_f, source, made, num_patches, batch_dim, mirrored, temperature=0.07):
    """Return the mean over layers of the cross-entropy of each patch, as `calculate_NCE_loss` computes it."""
    queries, keys = net_g.encode(made), net_g.encode(source)
    if mirrored:
        queries = [each.flip(3) for each in queries]
    total = 0.0
    for query, key, project in zip(queries, keys, net_f, strict=True):
        query, key = (each.permute(0, 2, 3, 1).flatten(1, 2) for each in (query, key))
        chosen = torch.randperm(query.shape[1])[:num_patches] if num_patches < query.shape[1] else slice(None)
        query, key = (project(each[:, chosen].flatten(0, 1)) for each in (query, key))
        query, key = (each / (each.pow(2).sum(1, keepdim=True).pow(0.5) + 1e-7) for each in (query, key))
        key = key.detach()
        positive = (query * key).sum(1, keepdim=True)
        query, key = (each.view(batch_dim, -1, each.shape[1]) for each in (query, key))
        negative = query @ key.transpose(2, 1)
        count = negative.shape[1]
        negative = negative.masked_fill(torch.eye(count, dtype=torch.bool)[None], -10.0).view(-1, count)
        logits = torch.cat([positive, negative], dim=1) / temperature
        total = total + functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long))
    return total / len(queries)


def authors_step(net_g, net_f, net_d, real_a, real_b, *, nce_idt, lambda_nce, num_patches, batch_dim, mirrored):
    """Return the totals of generator and discriminator by the formulas of the authors' code, under its names."""
    real = torch.cat([real_a, real_b]) if nce_idt else real_a
    fake = net_g(real.flip(3) if mirrored else real)
    fake_b, idt_b = fake[: len(real_a)], fake[len(real_a) :]
    loss_d = (lsgan(net_d(fake_b.detach()), 0.0) + lsgan(net_d(real_b), 1.0)) * 0.5
    nce = authors_nce(net_g, net_f, real_a, fake_b, num_patches, batch_dim, mirrored) * lambda_nce
    if nce_idt:
        nce_y = authors_nce(net_g, net_f, real_b, idt_b, num_patches, batch_dim, mirrored) * lambda_nce
        nce = (nce + nce_y) * 0.5
    return lsgan(net_d(fake_b), 1.0) + nce, loss_d


def our_step(manager, generator, projections, critic, x, y, *, identity, num_patches, mirrored):
    def patches(made, source):
        of_made = [each.flip(3) if mirrored else each for each in generator.encode(made)]
        drawn = sample_patches(of_made, generator.encode(source), num_patches=num_patches)
        return [[project(each) for project, each in zip(projections, of_one, strict=True)] for of_one in drawn]

    manager.tick()
    y_fake = generator(x.flip(3) if mirrored else x)
    inputs = {"pred_fake": critic(y_fake)}
    inputs["patches_fake"], inputs["patches_real"] = patches(y_fake, x)
    if identity:
        made = generator(y.flip(3) if mirrored else y)
        inputs["patches_identity"], inputs["patches_y"] = patches(made, y)
    of_generator = manager.compute_losses(inputs, query="G")
    inputs = {"pred_real": critic(y), "pred_fake": critic(y_fake.detach())}
    return of_generator.total, manager.compute_losses(inputs, query="D").total


CASES = [
    ("cut", {}, {"nce_idt": True, "lambda_nce": 1.0}, False),
    ("cut:fastcut", {}, {"nce_idt": False, "lambda_nce": 10.0}, False),
    ("cut:fastcut", {}, {"nce_idt": False, "lambda_nce": 10.0}, True),
    ("cut", {"negatives": "batch"}, {"nce_idt": True, "lambda_nce": 1.0, "batch_dim": 1}, False),
]


@pytest.mark.parametrize("num_patches", [256, 5])
@pytest.mark.parametrize(("formula", "options", "theirs_have", "mirrored"), CASES)
def test_three_steps_are_those_of_the_authors(formula, options, theirs_have, mirrored, num_patches):
    manager = LossManager.from_spec(formula, options={"cut": options} if options else None)
    ours = networks()
    theirs = copy.deepcopy(ours)
    for step in range(3):
        x, y = batch(step)
        # Both draw the same positions, which are drawn in the same order.
        torch.manual_seed(step)
        has = {"identity": theirs_have["nce_idt"], "num_patches": num_patches, "mirrored": mirrored}
        totals = our_step(manager, *ours[0], ours[1], x, y, **has)
        torch.manual_seed(step)
        has = {"batch_dim": len(x), "num_patches": num_patches, "mirrored": mirrored, **theirs_have}
        expected = authors_step(*theirs[0], theirs[1], x, y, **has)
        for total, their_total, network, their_network in zip(totals, expected, ours, theirs, strict=True):
            torch.testing.assert_close(total, their_total, rtol=1e-5, atol=1e-7)
            parameters, their_parameters = list(network.parameters()), list(their_network.parameters())
            gradients = torch.autograd.grad(total, parameters)
            their_gradients = torch.autograd.grad(their_total, their_parameters)
            # Their code adds 1e-7 to the length of a vector that it divides by it.
            torch.testing.assert_close(gradients, their_gradients, rtol=1e-5, atol=1e-6)
            with torch.no_grad():
                for each, change in zip([*parameters, *their_parameters], [*gradients, *their_gradients], strict=True):
                    each.sub_(0.05 * change)


def test_the_weights_are_those_of_the_authors():
    adversarial = {"G_GAN": 1.0, "D_real": 0.5, "D_fake": 0.5}
    weights = {
        variant: {name: loss.loss_weight for name, loss in cut(Config(), variant).items()}
        for variant in ("cut", "fastcut")
    }
    assert weights == {
        "cut": {**adversarial, "G_PATCHNCE": 0.5, "G_PATCHNCE_Y": 0.5},
        "fastcut": {**adversarial, "G_PATCHNCE": 10.0},
    }


def test_fastcut_is_a_formula_of_the_losses_it_is_made_of():
    halves = {"D_real": 0.5, "D_fake": 0.5}
    manager = LossManager.from_spec("gan:lsgan + 10*patchnce", weights=halves)
    named = LossManager.from_spec("cut:fastcut")

    def described(manager):
        losses = manager.get_registered_losses()
        return [(name, loss.loss_weight, loss.tags, loss.inputs, repr(loss.function)) for name, loss in losses.items()]

    assert described(named) == described(manager)


@pytest.mark.parametrize("key", ["gan", "patchnce", "patchnce_y"])
def test_each_key_of_the_configuration_sets_its_loss(key):
    before = cut(Config())
    after = cut(Config.model_validate({"train": {"loss": {f"lambda_{key}": 2.5}}}))
    changed = {name: loss.loss_weight for name, loss in after.items() if loss.loss_weight != before[name].loss_weight}
    assert changed == {f"G_{key}".upper(): 2.5}


def test_an_option_out_of_range_is_refused():
    with pytest.raises(SpecError, match="temperature is a finite number above 0"):
        LossManager.from_spec("cut", options={"cut": {"temperature": 0}})
