"""The KL module and its spec: values, reductions, free bits, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nectargan_vae import KL, kl
from torch.distributions import Normal, kl_divergence

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, LossTests

SHAPES = [(4, 16), (1, 1), (3, 4, 5, 6), (2, 7, 3)]


def latents(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def by_torch(mu, logvar):
    latent = Normal(mu.double(), (0.5 * logvar.double()).exp())
    return kl_divergence(latent, Normal(torch.zeros(()).double(), torch.ones(()).double()))


@pytest.mark.parametrize("shape", SHAPES)
def test_by_default_latent_dimensions_are_summed_and_the_batch_is_averaged(shape):
    mu, logvar = latents(*shape)
    expected = by_torch(mu, logvar).flatten(1).sum(1).mean()
    assert KL()(mu, logvar).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("reduction", "reduce"), [("mean", torch.mean), ("sum", torch.sum), ("none", lambda x: x)])
def test_other_reductions_are_those_of_the_elements(reduction, reduce):
    mu, logvar = latents(3, 4, 5, 6)
    expected = reduce(by_torch(mu, logvar))
    torch.testing.assert_close(KL(reduction=reduction)(mu, logvar).double(), expected, rtol=1e-5, atol=1e-6)


def test_the_standard_normal_distribution_costs_nothing():
    mu, logvar = (torch.zeros(2, 5, requires_grad=True) for _ in range(2))
    loss = KL()(mu, logvar)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(mu.grad, torch.zeros(2, 5))
    assert torch.equal(logvar.grad, torch.zeros(2, 5))


def test_a_variance_that_is_almost_one_is_not_lost_in_rounding():
    logvar = torch.full((1, 1), 1e-3)
    assert KL()(torch.zeros(1, 1), logvar).item() == pytest.approx((math.expm1(1e-3) - 1e-3) / 2, rel=1e-3)


def with_free_bits(mu, logvar, free_bits):
    """Compute as the paper has it: the average over the minibatch of each group, the larger of it and lambda."""
    mu, logvar = mu.double().numpy(), logvar.double().numpy()
    divergence = (mu**2 + np.exp(logvar) - 1 - logvar) / 2
    groups = divergence.reshape(*divergence.shape[:2], -1).sum(2)
    return sum(max(free_bits, groups[:, group].mean()) for group in range(groups.shape[1]))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("free_bits", [1e-3, 0.5, 2.0, 100.0])
def test_a_group_costs_at_least_its_free_bits(shape, free_bits):
    mu, logvar = latents(*shape)
    loss = KL(free_bits=free_bits)(mu, logvar)
    assert loss.item() == pytest.approx(with_free_bits(mu, logvar, free_bits), rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_with_free_bits_mean_and_sum_are_multiples_of_batchmean(shape):
    mu, logvar = latents(*shape)
    mean, total, batchmean = (
        KL(free_bits=0.5, reduction=name)(mu, logvar).item() for name in ("mean", "sum", "batchmean")
    )
    assert total == pytest.approx(batchmean * shape[0], rel=1e-5)
    assert mean == pytest.approx(batchmean / math.prod(shape[1:]), rel=1e-5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
@given(shape=st.sampled_from(SHAPES), seed=st.integers(0, 1000))
def test_few_free_bits_change_nothing(reduction, shape, seed):
    mu, logvar = latents(*shape, seed=seed, dtype=torch.float64)
    expected = KL(reduction=reduction)(mu, logvar)
    torch.testing.assert_close(KL(reduction=reduction, free_bits=1e-12)(mu, logvar), expected)


def test_a_group_below_its_free_bits_has_no_gradient():
    mu = torch.tensor([[0.1, 3.0], [0.2, 2.0]], requires_grad=True)
    KL(free_bits=0.5)(mu, torch.zeros(2, 2)).backward()
    torch.testing.assert_close(mu.grad, torch.tensor([[0.0, 1.5], [0.0, 1.0]]))


@pytest.mark.parametrize("free_bits", [0.0, 0.5])
@pytest.mark.parametrize("reduction", ["mean", "sum", "batchmean"])
def test_gradients_are_right_to_second_order(reduction, free_bits):
    pair = [tensor.requires_grad_() for tensor in latents(2, 3, 2, 2, dtype=torch.float64)]
    torch.autograd.gradcheck(KL(reduction=reduction, free_bits=free_bits), pair)
    torch.autograd.gradgradcheck(KL(reduction=reduction, free_bits=free_bits), pair)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32_and_does_not_overflow(dtype):
    mu, logvar = (tensor.to(dtype) for tensor in latents(2, 64, 64, 32))
    loss = KL()(mu, logvar)
    assert loss.dtype == torch.float32
    assert torch.equal(loss, KL()(mu.float(), logvar.float()))
    assert loss.item() > 65504


@pytest.mark.parametrize(("name", "shape"), [("mu", (3,)), ("logvar", (2, 4)), ("logvar", (1, 3)), ("mu", (2, 3, 1))])
def test_shapes_that_do_not_fit_are_refused_and_named(name, shape):
    given = {"mu": torch.zeros(2, 3), "logvar": torch.zeros(2, 3), name: torch.zeros(shape)}
    with pytest.raises(ValueError, match=r"KL expects two tensors of one shape \(N, d, \.\.\.\)") as caught:
        KL()(**given)
    assert f"{name} is {shape}" in str(caught.value)


def test_a_batch_without_latent_dimension_is_refused():
    with pytest.raises(ValueError, match=r"mu is \(3,\) and logvar is \(3,\): reshape"):
        KL()(torch.zeros(3), torch.zeros(3))


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=f"logvar is {dtype}: convert with .float()"):
        KL()(torch.zeros(2, 3), torch.zeros(2, 3, dtype=dtype))


def test_what_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"KL expects logvar to be a tensor \(N, d, \.\.\.\); it is a list"):
        KL()(torch.zeros(2, 3), [torch.zeros(2, 3)])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"free_bits": -0.1}, ValueError, "free_bits is a finite number, 0 or greater; got -0.1"),
        ({"free_bits": math.nan}, ValueError, "got nan"),
        ({"free_bits": math.inf}, ValueError, "got inf"),
        ({"free_bits": 10**400}, ValueError, "got 1000"),
        ({"free_bits": "0.5"}, TypeError, "got '0.5'"),
        ({"free_bits": True}, TypeError, "got True"),
        ({"free_bits": 0.5, "reduction": "none"}, ValueError, "use another reduction, or free_bits=0"),
        ({"reduction": "median"}, ValueError, "got 'median'"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        KL(**arguments)


def test_repr_shows_the_arguments():
    assert repr(KL(free_bits=0.5)) == "KL(reduction='batchmean', free_bits=0.5)"


class TestKL(LossSpecTests):
    name = "kl"
    gradcheck = True


class TestKLWithFreeBits(LossTests):
    function = KL(free_bits=0.5)
    inputs = ("mu", "logvar")
    gradcheck = True


class TestKLOfMaps(LossTests):
    function = KL(reduction="none")
    inputs = ("mu", "logvar")

    def make_inputs(self, batch_size):
        return dict(zip(("mu", "logvar"), latents(batch_size, 4, 8, 8), strict=True))


def test_the_spec_gives_one_loss_of_weight_1():
    (loss,) = kl(Config()).values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_KL", ["G"], ("mu", "logvar"), 1.0)


def test_options_reach_the_loss():
    manager = LossManager.from_spec("1e-6*kl", options={"kl": {"reduction": "sum", "free_bits": 2.0}})
    mu, logvar = latents(3, 4)
    total = manager.compute_losses({"mu": mu, "logvar": logvar}, query="G").total.item()
    assert total == pytest.approx(1e-6 * 3 * with_free_bits(mu, logvar, 2.0), rel=1e-5)


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="free_bits is a finite number"):
        LossManager.from_spec("kl", options={"kl": {"free_bits": -1.0}})
