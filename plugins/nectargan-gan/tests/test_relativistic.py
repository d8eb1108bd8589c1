"""`Relativistic`: its values and gradients against ESRGAN's code and paper, lists and errors."""

import pickle

import pytest
import torch
from nectargan_gan import Relativistic
from torch import nn
from torch.nn import functional

from nectargan_core.testing import check_loss


def both(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=dtype) * 2 for _ in range(2)]


def bce(prediction, real):
    return functional.binary_cross_entropy_with_logits(prediction, torch.full_like(prediction, float(real)))


def critic():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Conv2d(4, 1, 3))


def gradients(total, network):
    return torch.cat([each.reshape(-1) for each in torch.autograd.grad(total, network.parameters(), retain_graph=True)])


def images():
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(2, 3, 10, 10, generator=generator) for _ in range(2)]


def test_the_discriminator_of_the_paper_learns_through_both_predictions():
    network, (y, y_fake) = critic(), images()
    real, fake = network(y), network(y_fake)
    expected = bce(real - fake.mean(), True) + bce(fake - real.mean(), False)
    found = Relativistic("real")(real, fake) + Relativistic("fake")(fake, real)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(gradients(found, network), gradients(expected, network), rtol=1e-4, atol=1e-7)


def test_the_discriminator_of_basicsr_takes_means_as_constants():
    """`esrgan_model.py`: two backward passes, the mean of the other prediction detached in each; its ½ left out."""
    network, (y, y_fake) = critic(), images()
    for parameter in network.parameters():
        parameter.grad = None
    fake, real = network(y_fake).detach(), network(y)
    bce(real - torch.mean(fake), True).backward()
    fake = network(y_fake)
    bce(fake - torch.mean(real.detach()), False).backward()
    expected = torch.cat([parameter.grad.reshape(-1) for parameter in network.parameters()])

    real, fake = network(y), network(y_fake)
    on = {"detach_mean": True}
    found = Relativistic("real", **on)(real, fake) + Relativistic("fake", **on)(fake, real)
    torch.testing.assert_close(gradients(found, network), expected, rtol=1e-4, atol=1e-7)


def test_the_generator_of_esrgan_learns_through_the_mean_too():
    y, y_fake = images()
    network, y_fake = critic(), y_fake.requires_grad_()
    real, fake = network(y).detach(), network(y_fake)
    expected = (bce(real - torch.mean(fake), False) + bce(fake - torch.mean(real), True)) / 2
    found = Relativistic("generator")(fake, network(y))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(*(torch.autograd.grad(each, y_fake, retain_graph=True)[0] for each in (found, expected)))


@pytest.mark.parametrize("role", ["generator", "real", "fake"])
def test_gradients_in_double_precision_are_those_of_differences(role):
    one, two = (each.requires_grad_() for each in both(2, 1, 3, 3, dtype=torch.float64))
    if role == "generator":
        two = two.detach()
    torch.autograd.gradcheck(Relativistic(role), (one, two))


def test_with_means_that_are_constants_it_keeps_what_the_kit_asks_of_losses():
    skip = {"differentiable": "the mean of the other prediction is a constant"}
    check_loss(Relativistic("real", detach_mean=True), inputs=("pred_real", "pred_fake"), skip=skip)


def test_the_generator_holds_the_prediction_of_real_samples_constant():
    fake, real = (each.requires_grad_() for each in both(2, 1))
    Relativistic("generator")(fake, real).backward()
    assert fake.grad is not None
    assert real.grad is None


def test_a_label_replaces_that_of_real_samples():
    real, fake = both(2, 1, 4, 4)
    expected = functional.binary_cross_entropy_with_logits(real - fake.mean(), torch.full_like(real, 0.9))
    torch.testing.assert_close(Relativistic("real", label=0.9)(real, fake), expected)


@pytest.mark.parametrize(("over", "share"), [("mean", 0.5), ("sum", 1.0)])
def test_each_discriminator_is_compared_with_itself(over, share):
    real, fake = both(2, 1, 4, 4)
    loss = Relativistic("real", over_discriminators=over)
    expected = share * (loss(real, fake) + loss(2 * real, 3 * fake))
    torch.testing.assert_close(loss([real, [real, 2 * real]], [fake, [fake, 3 * fake]]), expected)


def test_batches_may_differ_in_size():
    real, fake = torch.zeros(4, 1), torch.ones(2, 1)
    assert Relativistic("real")(real, fake).item() == pytest.approx(bce(real - 1, True).item())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_and_returned_in_float32(dtype):
    real, fake = (each.to(dtype) for each in both(2, 1, 4, 4))
    loss = Relativistic("real")(real, fake)
    assert torch.equal(loss, Relativistic("real")(real.float(), fake.float()))


def test_it_survives_pickling_and_shows_its_arguments():
    loss = pickle.loads(pickle.dumps(Relativistic("real", label=0.9, detach_mean=True, over_discriminators="sum")))
    assert repr(loss) == "Relativistic('real', label=0.9, detach_mean=True, over_discriminators='sum')"
    assert repr(Relativistic()) == "Relativistic('generator')"


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"role": "D"}, ValueError, "role is one of 'generator', 'real', 'fake', not 'D'"),
        ({"role": "real", "label": -0.1}, ValueError, "label is a number from 0 to 1, got -0.1"),
        ({"label": 0.9}, ValueError, "the generator has two labels"),
        ({"detach_mean": 1}, TypeError, "detach_mean is True or False, got 1"),
        ({"over_discriminators": None}, ValueError, "not None"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        Relativistic(**arguments)


def test_predictions_of_different_discriminators_are_refused():
    with pytest.raises(ValueError, match="pred_real is of 1 and pred_fake of 2"):
        Relativistic("real")(torch.zeros(1), [torch.zeros(1), torch.zeros(1)])


def test_what_is_no_prediction_is_refused_by_its_name():
    with pytest.raises(TypeError, match="pred_real is of type NoneType"):
        Relativistic("generator")(torch.zeros(1), None)
