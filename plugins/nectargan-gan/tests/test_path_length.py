"""`PathLength`: the authors' code written out over several steps, its running mean, precision and errors."""

import pickle

import numpy as np
import pytest
import torch
from nectargan_gan import PathLength
from torch import nn

from nectargan_core.testing import LossTests


class Synthesis(nn.Module):
    """A generator of images (N, 3, 6, 5) from latents (N, 2, 4), or (N, 4), that is smooth and not linear."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(4, 90, generator=generator))
        self.second = nn.Parameter(torch.randn(4, 90, generator=generator))

    def forward(self, w):
        layers = (w, w) if w.dim() == 2 else w.unbind(1)
        return (layers[0].tanh() @ self.first + (layers[1] @ self.second).sin()).reshape(-1, 3, 6, 5)


class OfGenerator(nn.Module):
    """The loss with the generator inside, since the kit makes inputs that do not depend on each other."""

    def __init__(self):
        super().__init__()
        self.loss = PathLength()

    def forward(self, w, generator):
        w = w if w.requires_grad else w.detach().requires_grad_()
        return self.loss(generator(w), w)


class TestPathLength(LossTests):
    function = OfGenerator()
    inputs = ("w", "generator")
    skip = {"deterministic": "it draws the image that the Jacobian is multiplied by"}

    def make_inputs(self, batch_size):
        latents = torch.randn(batch_size, 2, 4, generator=torch.Generator().manual_seed(batch_size))
        return {"w": latents.requires_grad_(), "generator": Synthesis()}


class OfStyleGAN2:
    """stylegan2-ada-pytorch, `training/loss.py`, `Gpl`, with pl_weight = 1."""

    def __init__(self, pl_decay=0.01):
        self.pl_mean = torch.zeros([])
        self.pl_decay = pl_decay

    def __call__(self, gen_img, gen_ws):
        pl_noise = torch.randn_like(gen_img) / np.sqrt(gen_img.shape[2] * gen_img.shape[3])
        (pl_grads,) = torch.autograd.grad(outputs=[(gen_img * pl_noise).sum()], inputs=[gen_ws], create_graph=True)
        pl_lengths = pl_grads.square().sum(2).mean(1).sqrt()
        pl_mean = self.pl_mean.to(pl_lengths.dtype).lerp(pl_lengths.mean(), self.pl_decay)
        self.pl_mean = pl_mean.detach()
        return (pl_lengths - pl_mean).square().mean()


def latents(step, *shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(shape or (3, 2, 4), generator=generator).to(dtype).requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.01, 0.5])
def test_it_is_that_of_stylegan2_over_three_steps_with_its_gradients(dtype, decay):
    network = Synthesis().to(dtype)
    loss, reference = PathLength(decay=decay), OfStyleGAN2(decay)
    for step in range(3):
        found = []
        for each in (loss, reference):
            w = latents(step, dtype=dtype)
            torch.manual_seed(step)
            total = each(network(w), w)
            found.append((total, *torch.autograd.grad(total, list(network.parameters()))))
        for one, two in zip(*found, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss.mean, reference.pl_mean.float(), rtol=1e-5, atol=0)


def test_one_latent_is_one_layer():
    network, loss = Synthesis(), PathLength()
    w = latents(0, 3, 4)
    torch.manual_seed(0)
    found = loss(network(w), w)
    same = w.detach()[:, None].requires_grad_()
    torch.manual_seed(0)
    expected = OfStyleGAN2()(network(same.squeeze(1)), same)
    torch.testing.assert_close(found, expected)


def test_the_length_of_a_linear_generator_is_that_of_its_matrix():
    """Of an image of orthogonal columns, ‖Jᵀe‖² has the mean s²·d over the number of pixels."""
    matrix = torch.linalg.qr(torch.randn(192, 4, generator=torch.Generator().manual_seed(0)))[0] * 5
    w = latents(0, 4096, 4)
    loss = PathLength(decay=1.0)
    loss((w @ matrix.T).reshape(-1, 3, 8, 8), w)
    # The mean norm of four normal numbers is sqrt(2)·Γ(5/2)/Γ(2).
    expected = 5 * 2**0.5 * 1.3293 / 8
    assert loss.mean.item() == pytest.approx(expected, rel=0.02)


def test_gradients_in_double_precision_are_those_of_differences():
    network = Synthesis().double()
    w = latents(0, 2, 2, 4, dtype=torch.float64)
    names = [name for name, _ in network.named_parameters()]

    def penalty(*values):
        torch.manual_seed(0)
        loss = PathLength(decay=0.3)
        return loss(torch.func.functional_call(network, dict(zip(names, values, strict=True)), (w,)), w)

    torch.autograd.gradcheck(penalty, [each.detach().requires_grad_() for each in network.parameters()])


def test_other_losses_can_still_use_the_graph():
    network, w = Synthesis(), latents(0)
    y_fake = network(w)
    loss = PathLength()
    (loss(y_fake, w) + y_fake.square().mean()).backward()
    assert network.first.grad is not None
    assert w.grad is not None


def test_lengths_of_zero_give_finite_derivatives():
    scale = torch.zeros((), requires_grad=True)
    w = latents(0)
    PathLength()((scale * w.sum(dim=(1, 2)))[:, None, None, None].expand(-1, 3, 4, 4), w).backward()
    assert scale.grad.isfinite()


# The running mean


def test_it_is_saved_with_the_module():
    network, loss, w = Synthesis(), PathLength(), latents(0)
    loss(network(w), w)
    other = PathLength()
    other.load_state_dict(loss.state_dict())
    assert other.mean == loss.mean != 0


def test_it_stays_in_evaluation_mode_and_without_gradients():
    network, loss, w = Synthesis(), PathLength(), latents(0)
    y_fake = network(w)
    loss.eval()(y_fake, w)
    loss.train()
    with torch.no_grad():
        assert not loss(y_fake, w).requires_grad
    assert loss.mean == 0


@pytest.mark.parametrize("scale", [float("inf"), float("nan")])
def test_lengths_that_are_not_finite_leave_it_as_it_is(scale):
    network, loss, w = Synthesis(), PathLength(), latents(0)
    loss(network(w), w)
    before = loss.mean.clone()
    assert not loss(network(w) * scale, w).isfinite()
    assert torch.equal(loss.mean, before)


# Precision


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_under_autocast_it_is_close_to_float32(dtype):
    network = Synthesis()
    w = latents(0)
    loss = PathLength()
    torch.manual_seed(0)
    expected = loss(network(w), w).item()
    with torch.autocast("cpu", dtype=dtype):
        y_fake = network(w)
        torch.manual_seed(0)
        found = PathLength()(y_fake.float(), w)
        half = PathLength()(y_fake.to(dtype), w)
    assert (found.dtype, half.dtype) == (torch.float32, torch.float32)
    assert found.item() == pytest.approx(expected, rel=0.05)
    (found + half).backward()


# Errors


@pytest.mark.parametrize(
    "make",
    [
        lambda network, w: network(w.detach()),
        lambda network, w: network(w).detach(),
        lambda network, w: network(w.clone().requires_grad_().detach()) * network.first.sum(),
    ],
)
def test_images_that_were_not_made_of_the_latents_are_refused(make):
    network, w = Synthesis(), latents(0)
    with pytest.raises(ValueError, match="made of the latents w with gradients enabled, and no gradient reaches w"):
        PathLength()(make(network, w), w)


def test_latents_without_gradients_are_refused():
    network = Synthesis()
    with pytest.raises(ValueError, match="requires_grad_"):
        w = latents(0).detach()
        PathLength()(network(w), w)


@pytest.mark.parametrize(
    ("y_fake", "w", "error", "said"),
    [
        (torch.zeros(2, 3, 4, 4), [torch.zeros(2, 4)], TypeError, "w is of type list"),
        (torch.zeros(2, 3, 4, 4).int(), torch.zeros(2, 4), TypeError, "y_fake is torch.int32"),
        (torch.zeros(2, 3), torch.zeros(2, 4), ValueError, r"y_fake to be \(N, C, H, W\); it is \(2, 3\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(2), ValueError, r"w to be \(N, d\) or \(N, L, d\); it is \(2,\)"),
        (torch.zeros(2, 3, 4, 4), torch.zeros(3, 4), ValueError, "y_fake is a batch of 2 and w one of 3"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(y_fake, w, error, said):
    with pytest.raises(error, match=said):
        PathLength()(y_fake, w)


@pytest.mark.parametrize(
    ("decay", "error"), [(0.0, ValueError), (1.5, ValueError), (float("nan"), ValueError), ("1", TypeError)]
)
def test_a_decay_out_of_its_range_is_refused(decay, error):
    with pytest.raises(error, match="decay is a number above 0, up to 1"):
        PathLength(decay=decay)


def test_it_survives_pickling_and_shows_its_argument():
    assert repr(pickle.loads(pickle.dumps(PathLength(decay=0.5)))) == "PathLength(decay=0.5)"
