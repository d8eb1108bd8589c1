"""The training loop: which losses train which network, what is computed, and the gradients and learning rates."""

import pytest
import torch
from nectargan_pix2pix.options import DISCRIMINATOR_RATE, GENERATOR_RATE
from nectargan_pix2pix.training import Learned, Networks
from nectargan_pix2pix.training import train as steps_of

from nectargan_core import LossManager, Weighting

CPU = torch.device("cpu")


def batch(seed=0):
    x, y = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return x, y


class Same:
    """The same batches in each epoch."""

    def __init__(self, batches, watch=lambda epoch: None):
        self.batches = batches
        self.watch = watch

    def __len__(self):
        return len(self.batches)

    def of(self, epoch, start=0):
        self.watch(epoch)
        return iter(self.batches[start:])


def train(manager, networks, batches, epochs, done=0):
    batches = batches if isinstance(batches, Same) else Same(batches)
    return steps_of(manager, networks, Learned(manager, networks), batches, epochs, done)


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return Networks(channels=2, epochs=1, device=CPU)


def parameters(network):
    return [parameter.detach().clone() for parameter in network.parameters()]


def changed(network, before):
    return any(not torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))


def captured_gradients(optimizer):
    """Replace the step of an optimizer by one that only records the gradients; return the list of them."""
    gradients = []

    def step():
        for group in optimizer.param_groups:
            gradients.extend(parameter.grad.clone() for parameter in group["params"])

    optimizer.step = step
    return gradients


def test_each_network_is_trained_on_the_losses_tagged_for_it(networks):
    before = parameters(networks.generator), parameters(networks.discriminator)
    list(train(LossManager.from_spec("pix2pix"), networks, [batch()], epochs=1))
    assert changed(networks.generator, before[0])
    assert changed(networks.discriminator, before[1])


def test_every_loss_runs_once_a_step(networks):
    manager = LossManager.from_spec("pix2pix:extended", enable_logging=True)
    assert list(train(manager, networks, [batch(0), batch(1), batch(2)], epochs=2)) == [1, 2, 3, 4, 5, 6]
    for loss in manager.get_registered_losses(strip=False).values():
        assert list(loss.history.steps) == [0, 1, 2, 3, 4, 5]
        assert list(loss.history.epochs) == [0, 0, 0, 1, 1, 1]


def test_the_total_of_the_discriminator_is_halved(networks):
    gradients = captured_gradients(networks.discriminator_optimizer)
    networks.generator_optimizer.step = lambda: None
    manager = LossManager.from_spec("pix2pix")
    x, y = batch()
    list(train(manager, networks, [(x, y)], epochs=1))

    bce = torch.nn.functional.binary_cross_entropy_with_logits
    # The generator begins as the identity, and was kept from changing.
    real, fake = networks.discriminator(x, y), networks.discriminator(x, x)
    total = bce(real, torch.ones_like(real)) + bce(fake, torch.zeros_like(fake))
    expected = torch.autograd.grad(total / 2, list(networks.discriminator.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_total_of_the_generator_is_not_halved(networks):
    gradients = captured_gradients(networks.generator_optimizer)
    networks.discriminator_optimizer.step = lambda: None
    x, y = batch()
    list(train(LossManager.from_spec("pix2pix"), networks, [(x, y)], epochs=1))

    generated = networks.generator(x)
    logits = networks.discriminator(x, generated)
    bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))
    total = bce + 100 * (generated - y).abs().mean()
    expected = torch.autograd.grad(total, list(networks.generator.parameters()))
    for ours, theirs in zip(gradients, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_loss_that_the_loop_does_not_name_is_trained(networks):
    manager = LossManager(enable_logging=True)
    manager.register_loss_fn(
        "G_DARK", lambda image, source: (image - source + 1).square().mean(), tags=["G"], inputs=("y_fake", "x")
    )
    x, y = batch()
    steps = [(x, y)] * 20
    list(train(manager, networks, steps, epochs=1))
    losses = manager.get_registered_losses(strip=False)["G_DARK"].history.losses
    assert losses[-1] < 0.95 * losses[0]


def test_a_loss_of_the_generator_may_read_both_predictions(networks):
    manager = LossManager()
    manager.register_loss_fn(
        "G_RELATIVE", lambda fake, real: (fake - real).mean(), tags=["G"], inputs=("pred_fake", "pred_real")
    )
    before = parameters(networks.generator)
    list(train(manager, networks, [batch()], epochs=1))
    assert changed(networks.generator, before)


def test_without_losses_of_its_own_the_discriminator_is_neither_run_nor_trained(networks):
    calls = []
    networks.discriminator.register_forward_hook(lambda *_: calls.append(1))
    before = parameters(networks.discriminator)
    list(train(LossManager.from_spec("sobel"), networks, [batch()], epochs=2))
    assert not calls
    assert not changed(networks.discriminator, before)


def test_a_step_runs_generator_once_and_discriminator_three_times(networks):
    calls = []
    networks.generator.register_forward_hook(lambda *_: calls.append("G"))
    networks.discriminator.register_forward_hook(lambda *_: calls.append("D"))
    list(train(LossManager.from_spec("pix2pix:extended"), networks, [batch()], epochs=1))
    assert sorted(calls) == ["D", "D", "D", "G"]


def test_learning_rates_hold_for_one_half_and_fall_to_zero_over_the_other():
    networks = Networks(channels=2, epochs=4, device=CPU)
    rates = []
    for _ in train(LossManager.from_spec("pix2pix"), networks, [batch()], epochs=4):
        rates.append(
            (
                networks.generator_optimizer.param_groups[0]["lr"] / GENERATOR_RATE,
                networks.discriminator_optimizer.param_groups[0]["lr"] / DISCRIMINATOR_RATE,
            )
        )
    assert rates == [pytest.approx((factor, factor)) for factor in (1, 1, 1, 0.5)]


def test_learning_rates_can_be_set():
    networks = Networks(channels=2, epochs=4, device=CPU, generator_rate=0.25, discriminator_rate=0.5)
    list(train(LossManager.from_spec("pix2pix"), networks, [batch()], epochs=1))
    assert networks.generator_optimizer.param_groups[0]["lr"] == 0.25
    assert networks.discriminator_optimizer.param_groups[0]["lr"] == 0.5


def test_training_goes_on_in_the_middle_of_an_epoch(networks):
    begun = []
    batches = Same([batch(0), batch(1), batch(2)], begun.append)
    assert list(train(LossManager.from_spec("pix2pix"), networks, batches, epochs=3, done=4)) == [5, 6, 7, 8, 9]
    assert begun == [1, 2]


# What losses and weightings learn


def test_what_a_weighting_learns_is_trained(networks):
    pytest.importorskip("nectargan_weightings")
    manager = LossManager.from_spec("pix2pix", weightings={"G": Weighting("uncertainty")})
    before = {name: parameter.item() for name, parameter in manager.modules().named_parameters()}
    list(train(manager, networks, [batch()], epochs=1))
    assert before
    for name, parameter in manager.modules().named_parameters():
        assert parameter.item() != before[name], name


@pytest.mark.parametrize("tag", ["G", "D"])
def test_what_a_loss_learns_is_trained_on_its_own_total(networks, tag):
    class Learned(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.center = torch.nn.Parameter(torch.zeros(()))

        def forward(self, y):
            return (y.mean() - self.center).square()

    manager = LossManager.from_spec("pix2pix")
    manager.register_loss_fn("LEARNED", Learned(), tags=[tag], inputs=("y",))
    list(train(manager, networks, [batch()], epochs=1))
    # The first step of Adam has the size of the learning rate, which is that of the generator.
    assert abs(manager.modules()["LEARNED"].center.item()) == pytest.approx(GENERATOR_RATE, rel=1e-3)


def test_frozen_parameters_of_a_loss_are_neither_trained_nor_kept(networks):
    frozen = torch.nn.BatchNorm2d(3).requires_grad_(False)
    manager = LossManager.from_spec("pix2pix")
    manager.register_loss_fn("FROZEN", lambda y: y.mean(), tags=["G"], inputs=("y",))
    manager.register_loss_fn("NORM", torch.nn.Sequential(frozen, torch.nn.Flatten()), tags=["G"], inputs=("y",))
    learned = Learned(manager, networks)
    assert learned.names == []
    kept = learned.state_dict()["modules"]
    assert {name.rpartition(".")[2] for name in kept} == {"running_mean", "running_var", "num_batches_tracked"}


def test_the_state_of_what_is_learned_is_restored(networks):
    pytest.importorskip("nectargan_weightings")

    def made():
        return LossManager.from_spec("pix2pix", weightings={"G": Weighting("uncertainty")})

    manager = made()
    learned = Learned(manager, networks)
    list(steps_of(manager, networks, learned, Same([batch()]), 1))
    again = made()
    other = Learned(again, networks)
    other.load_state_dict(learned.state_dict())
    for name, value in manager.modules().state_dict().items():
        assert torch.equal(value, again.modules().state_dict()[name])
    assert other.state_dict()["optimizer"]["state"].keys() == learned.state_dict()["optimizer"]["state"].keys()


def test_the_state_of_other_losses_is_refused(networks):
    pytest.importorskip("nectargan_weightings")
    manager = LossManager.from_spec("pix2pix", weightings={"G": Weighting("uncertainty")})
    plain = Learned(LossManager.from_spec("pix2pix"), networks)
    with pytest.raises(ValueError, match="learned, and the losses learn"):
        plain.load_state_dict(Learned(manager, networks).state_dict())


def test_training_twice_with_one_seed_gives_the_same_networks():
    results = []
    for _ in range(2):
        torch.manual_seed(7)
        networks = Networks(channels=2, epochs=1, device=CPU)
        list(train(LossManager.from_spec("pix2pix"), networks, [batch(0), batch(1)], epochs=1))
        results.append(networks.generator.state_dict())
    for name, tensor in results[0].items():
        assert torch.equal(tensor, results[1][name]), name


def test_generating_is_confined_to_the_range_of_images_and_leaves_training_mode_on(networks):
    x = torch.full((3, 32, 32), 2.0)
    assert torch.equal(networks.generate(x), torch.ones(3, 32, 32))
    assert networks.generator.training


def test_generating_does_not_change_the_statistics_of_batch_norm(networks):
    before = {name: tensor.clone() for name, tensor in networks.generator.state_dict().items()}
    networks.generate(batch()[0][0])
    for name, tensor in networks.generator.state_dict().items():
        assert torch.equal(tensor, before[name]), name
