"""The VQ module and its spec: values, which side each component moves, the form of taming-transformers, and errors."""

import math

import pytest
import torch
from nectargan_vae import VQ, vq

from nectargan_core import Config, LossManager
from nectargan_core.testing import LossSpecTests, LossTests


def pair(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def by_hand(z_e, z_q):
    return ((z_e.double().numpy() - z_q.double().numpy()) ** 2).mean()


@pytest.mark.parametrize("shape", [(2, 4, 5, 6), (1, 8), (7, 3, 2), (5,)])
@pytest.mark.parametrize("beta", [0.25, 1.0, 2.0])
def test_components_are_the_squared_distance_and_beta_times_it(shape, beta):
    z_e, z_q = pair(*shape)
    components = VQ(beta=beta)(z_e, z_q)
    assert list(components) == ["codebook", "commitment"]
    assert components["codebook"].item() == pytest.approx(by_hand(z_e, z_q), rel=1e-6)
    assert components["commitment"].item() == pytest.approx(beta * by_hand(z_e, z_q), rel=1e-6)


def gradients(loss, z_e, z_q):
    z_e, z_q = (tensor.clone().requires_grad_() for tensor in (z_e, z_q))
    total = loss(z_e, z_q)
    total = sum(total.values()) if isinstance(total, dict) else total
    return total.detach(), *torch.autograd.grad(total, (z_e, z_q), allow_unused=True)


def test_codebook_moves_the_codebook_and_commitment_the_encoder():
    z_e, z_q = pair(2, 4)
    _, encoder, codebook = gradients(lambda *given: VQ(beta=0.5)(*given)["codebook"], z_e, z_q)
    assert encoder is None
    torch.testing.assert_close(codebook, 2 * (z_q - z_e) / 8)
    _, encoder, codebook = gradients(lambda *given: VQ(beta=0.5)(*given)["commitment"], z_e, z_q)
    torch.testing.assert_close(encoder, 0.5 * 2 * (z_e - z_q) / 8)
    assert codebook is None


def taming(legacy):
    """Return the loss of taming-transformers' quantiser with its beta of 0.25, written out."""

    def loss(z_e, z_q):
        towards_encoder, towards_codebook = ((z_q - z_e.detach()) ** 2).mean(), ((z_q.detach() - z_e) ** 2).mean()
        if legacy:
            return towards_codebook + 0.25 * towards_encoder
        return 0.25 * towards_codebook + towards_encoder

    return loss


@pytest.mark.parametrize(
    ("legacy", "arguments"), [(False, {}), (True, {"beta": 1.0, "codebook_weight": 0.25})], ids=["fixed", "legacy"]
)
def test_both_forms_of_taming_transformers_can_be_had(legacy, arguments):
    found = gradients(VQ(**arguments), *pair(2, 4, 3, 3))
    for ours, theirs in zip(found, gradients(taming(legacy), *pair(2, 4, 3, 3)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_a_component_without_weight_is_left_out():
    z_e, z_q = pair(2, 4)
    assert list(VQ(codebook_weight=0.0)(z_e, z_q)) == ["commitment"]
    assert list(VQ(beta=0.0)(z_e, z_q)) == ["codebook"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    z_e, z_q = pair(2, 4, dtype=dtype)
    components = VQ()(z_e, z_q)
    assert {term.dtype for term in components.values()} == {torch.float32}
    assert components["codebook"].item() == pytest.approx(by_hand(z_e, z_q), rel=1e-6)


def test_two_shapes_are_refused():
    with pytest.raises(ValueError, match=r"VQ expects .* z_e is \(2, 4\) and z_q is \(2, 1\)"):
        VQ()(torch.zeros(2, 4), torch.zeros(2, 1))


def test_indices_in_the_place_of_vectors_are_refused():
    with pytest.raises(TypeError, match=r"z_q is torch.int64: convert"):
        VQ()(torch.zeros(2, 4), torch.zeros(2, 4, dtype=torch.int64))


@pytest.mark.parametrize("name", ["beta", "codebook_weight"])
@pytest.mark.parametrize(("value", "error"), [(-1.0, ValueError), (math.nan, ValueError), ("1", TypeError)])
def test_a_weight_out_of_its_range_is_refused(name, value, error):
    with pytest.raises(error, match=f"VQ: {name} is a finite number, 0 or greater; got {value!r}"):
        VQ(**{name: value})


def test_two_weights_of_0_are_refused():
    with pytest.raises(ValueError, match="beta and codebook_weight are both 0"):
        VQ(beta=0.0, codebook_weight=0.0)


def test_repr_shows_the_weights():
    assert repr(VQ()) == "VQ(beta=0.25, codebook_weight=1)"


class TestVQ(LossSpecTests):
    name = "vq"


class TestCommitment(LossTests):
    function = VQ(codebook_weight=0.0)
    inputs = ("z_e", "z_q")
    gradcheck = True

    def make_inputs(self, batch_size):
        z_e, z_q = pair(batch_size, 4, 8, 8)
        return {"z_e": z_e.requires_grad_(), "z_q": z_q}


def test_the_spec_gives_one_loss_of_weight_1():
    (loss,) = vq(Config()).values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_VQ", ["G"], ("z_e", "z_q"), 1.0)


def test_a_manager_records_both_components():
    manager = LossManager.from_spec("2*vq", enable_logging=True, options={"vq": {"beta": 0.5}})
    z_e, z_q = pair(2, 4, 5, 6)
    total = manager.compute_losses({"z_e": z_e, "z_q": z_q}, query="G").total.item()
    assert total == pytest.approx(3 * by_hand(z_e, z_q), rel=1e-6)
    assert manager.series("G_VQ.commitment").loss.tolist() == [pytest.approx(by_hand(z_e, z_q), rel=1e-6)]


def test_a_straight_through_quantiser_trains_encoder_and_codebook():
    encoder, codebook = torch.nn.Linear(3, 2), torch.nn.Embedding(5, 2)
    z_e = encoder(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    z_q = codebook(torch.cdist(z_e, codebook.weight).argmin(1))
    LossManager.from_spec("vq").compute_losses({"z_e": z_e, "z_q": z_q}).total.backward()
    assert encoder.weight.grad.count_nonzero()
    assert codebook.weight.grad.count_nonzero()
