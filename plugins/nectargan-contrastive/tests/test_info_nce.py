"""The InfoNCE and NT-Xent modules and their spec: values, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_contrastive import InfoNCE, NTXent, example_inputs, info_nce

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, LossTests

SHAPES = [(8, 16), (2, 3), (5, 1)]


def embeddings(*shape, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


def unit(embedding):
    embedding = embedding.double().numpy()
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)


def from_one_side(queries, keys, temperature):
    """Compute InfoNCE as its equation reads."""
    products = np.exp(unit(queries) @ unit(keys).T / temperature)
    return np.mean([-np.log(products[row, row] / products[row].sum()) for row in range(len(products))])


def simclr(queries, keys, temperature):
    """Compute NT-Xent as algorithm 1 of SimCLR reads: embeddings 2k-1 and 2k belong together."""
    both = np.stack([unit(queries), unit(keys)], axis=1).reshape(2 * len(queries), -1)
    products = np.exp(both @ both.T / temperature)

    def cost(one, other):
        return -np.log(products[one, other] / (products[one].sum() - products[one, one]))

    return np.mean([cost(k, k + 1) + cost(k + 1, k) for k in range(0, len(both), 2)]) / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_info_nce_is_its_equation(shape, temperature):
    queries, keys = embeddings(*shape)
    expected = from_one_side(queries, keys, temperature)
    assert InfoNCE(temperature=temperature)(queries, keys).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_symmetric_is_the_mean_of_both_sides(shape):
    queries, keys = embeddings(*shape)
    expected = (from_one_side(queries, keys, 0.1) + from_one_side(keys, queries, 0.1)) / 2
    assert InfoNCE(symmetric=True)(queries, keys).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_nt_xent_is_the_algorithm_of_simclr(shape, temperature):
    queries, keys = embeddings(*shape)
    expected = simclr(queries, keys, temperature)
    assert NTXent(temperature=temperature)(queries, keys).item() == pytest.approx(expected, rel=1e-5)


LOSSES = [InfoNCE(temperature=0.5), InfoNCE(temperature=0.5, symmetric=True), NTXent(temperature=0.5)]
each_loss = pytest.mark.parametrize("loss", LOSSES, ids=["plain", "symmetric", "nt-xent"])


@each_loss
def test_embeddings_are_brought_to_the_length_1_unless_told_otherwise(loss):
    queries, keys = embeddings(8, 16)
    torch.testing.assert_close(loss(10 * queries, 0.1 * keys), loss(queries, keys))
    raw = type(loss)(temperature=0.5, normalize=False)
    assert not torch.isclose(raw(10 * queries, keys), raw(queries, keys))


@each_loss
def test_gradients_of_both_are_right_to_second_order(loss):
    pair = [each.requires_grad_() for each in embeddings(4, 3, dtype=torch.float64)]
    torch.autograd.gradcheck(loss, pair)
    torch.autograd.gradgradcheck(loss, pair)


@each_loss
def test_a_batch_of_1_gives_0_and_a_gradient_of_0(loss):
    queries, keys = (each.requires_grad_() for each in embeddings(1, 4))
    value = loss(queries, keys)
    value.backward()
    assert value.item() == 0.0
    assert torch.equal(queries.grad, torch.zeros(1, 4))


@each_loss
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(loss, dtype):
    queries, keys = embeddings(8, 16, dtype=dtype)
    value = loss(queries, keys)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(queries.float(), keys.float()))


@each_loss
def test_autocast_does_not_lower_the_precision(loss):
    queries, keys = embeddings(8, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(queries, keys)
    assert torch.equal(value, loss(queries, keys))


@each_loss
@pytest.mark.parametrize("shape", [(8, 15), (7, 16), (16,), (8, 16, 1)])
def test_shapes_that_do_not_fit_are_refused(loss, shape):
    with pytest.raises(ValueError, match=rf"of one shape \(N, D\); queries is \(8, 16\) and keys is .*{shape[0]}"):
        loss(torch.zeros(8, 16), torch.zeros(shape))


@each_loss
def test_what_is_no_floating_tensor_is_refused(loss):
    with pytest.raises(TypeError, match="keys is torch.int64: convert with .float()"):
        loss(torch.zeros(8, 16), torch.zeros(8, 16, dtype=torch.int64))
    with pytest.raises(TypeError, match="queries to be a tensor; it is a list"):
        loss([torch.zeros(16)], torch.zeros(8, 16))


@pytest.mark.parametrize("kind", [InfoNCE, NTXent])
@pytest.mark.parametrize(
    ("value", "error"), [(0.0, ValueError), (-1.0, ValueError), (math.inf, ValueError), ("1", TypeError)]
)
def test_a_temperature_out_of_its_range_is_refused(kind, value, error):
    with pytest.raises(error, match=f"{kind.__name__}: temperature is a finite number above 0; got {value!r}"):
        kind(temperature=value)


def test_repr_shows_the_arguments():
    assert repr(InfoNCE()) == "InfoNCE(temperature=0.1, symmetric=False, normalize=True)"
    assert repr(NTXent(temperature=0.5)) == "NTXent(temperature=0.5, normalize=True)"


class TestInfoNCE(LossSpecTests):
    name = "info-nce"
    gradcheck = True


class TestSymmetric(LossTests):
    function = InfoNCE(symmetric=True, normalize=False)
    inputs = ("queries", "keys")
    gradcheck = True

    def make_inputs(self, batch_size):
        return example_inputs(batch_size)


def test_the_plain_form_is_the_default():
    (loss,) = info_nce(Config()).values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_INFO_NCE", ["G"], ("queries", "keys"), 1.0)
    assert type(loss.function) is InfoNCE


def test_nt_xent_is_a_variant():
    (loss,) = info_nce(Config(), "nt-xent").values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_NT_XENT", ["G"], ("queries", "keys"), 1.0)
    assert type(loss.function) is NTXent


@pytest.mark.parametrize(
    ("term", "options", "expected"),
    [
        ("info-nce", {"temperature": 0.2}, lambda q, k: from_one_side(q, k, 0.2)),
        ("info-nce", {"symmetric": True}, lambda q, k: (from_one_side(q, k, 0.1) + from_one_side(k, q, 0.1)) / 2),
        ("info-nce:nt-xent", {"temperature": 0.2}, lambda q, k: simclr(q, k, 0.2)),
    ],
)
def test_options_reach_the_loss(term, options, expected):
    manager = LossManager.from_spec(f"3*{term}", options={"info-nce": options})
    queries, keys = embeddings(8, 16)
    total = manager.compute_losses({"queries": queries, "keys": keys}, query="G").total.item()
    assert total == pytest.approx(3 * expected(queries, keys), rel=1e-5)


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="temperature is a finite number above 0"):
        LossManager.from_spec("info-nce:nt-xent", options={"info-nce": {"temperature": 0.0}})
