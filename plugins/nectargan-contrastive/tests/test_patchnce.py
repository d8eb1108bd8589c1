"""The PatchNCE module, its sampling of patches and its spec: values, negatives, dtypes, and errors."""

import math

import numpy as np
import pytest
import torch
from nectargan_contrastive import PatchNCE, example_inputs, patchnce, sample_patches

from nectargan_core import Config, LossManager
from nectargan_core.errors import SpecError
from nectargan_core.testing import LossSpecTests, LossTests

SHAPES = [(2, 9, 5), (1, 2, 3), (3, 16, 8)]


def patches(*shapes, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes] for _ in range(2)
    ]


def by_authors(fake, real, temperature=0.07, negatives="image"):
    """Compute one layer as the authors' code does, in NumPy: a row of one positive and all negatives for each patch."""
    query, key = (each.double().numpy() for each in (fake, real))
    query, key = (each / (np.linalg.norm(each, axis=-1, keepdims=True) + 1e-7) for each in (query, key))
    if negatives == "batch":
        query, key = (each.reshape(1, -1, each.shape[-1]) for each in (query, key))
    losses = []
    for image_query, image_key in zip(query, key, strict=True):
        for position, one in enumerate(image_query):
            positive = one @ image_key[position]
            others = image_key @ one
            others[position] = -10.0
            logits = np.concatenate([[positive], others]) / temperature
            losses.append(np.log(np.exp(logits).sum()) - logits[0])
    return np.mean(losses)


@pytest.mark.parametrize("negatives", ["image", "batch"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_one_layer_is_what_the_authors_compute(shape, negatives, temperature):
    (fake,), (real,) = patches(shape)
    loss = PatchNCE(negatives=negatives, temperature=temperature)(fake, real)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(by_authors(fake, real, temperature, negatives), rel=1e-5)


def test_layers_are_averaged():
    fake, real = patches(*SHAPES)
    expected = np.mean([by_authors(*layer) for layer in zip(fake, real, strict=True)])
    assert PatchNCE()(fake, real).item() == pytest.approx(expected, rel=1e-5)


def test_each_position_of_a_map_is_a_patch():
    (fake,), (real,) = patches((2, 5, 4, 3))
    rows = [each.permute(0, 2, 3, 1).reshape(2, 12, 5) for each in (fake, real)]
    torch.testing.assert_close(PatchNCE()(fake, real), PatchNCE()(*rows))


def test_features_are_brought_to_the_length_1_unless_told_otherwise():
    (fake,), (real,) = patches((2, 9, 5))
    torch.testing.assert_close(PatchNCE()(10 * fake, 0.1 * real), PatchNCE()(fake, real))
    unit = [torch.nn.functional.normalize(each, dim=-1) for each in (fake, real)]
    torch.testing.assert_close(PatchNCE(normalize=False)(*unit), PatchNCE()(fake, real))
    assert not torch.isclose(PatchNCE(normalize=False)(fake, real), PatchNCE()(fake, real))


def test_no_gradient_reaches_the_source():
    (fake,), (real,) = patches((2, 9, 5))
    fake.requires_grad_()
    real.requires_grad_()
    PatchNCE()(fake, real).backward()
    assert fake.grad.count_nonzero()
    assert real.grad is None


@pytest.mark.parametrize("negatives", ["image", "batch"])
def test_gradients_are_right_to_second_order(negatives):
    (fake,), (real,) = patches((2, 4, 3), dtype=torch.float64)

    def loss(fake):
        return PatchNCE(negatives=negatives, temperature=0.5)(fake, real)

    torch.autograd.gradcheck(loss, fake.requires_grad_())
    torch.autograd.gradgradcheck(loss, fake)


def test_features_of_zero_have_a_finite_gradient():
    fake, real = torch.zeros(1, 4, 3, requires_grad=True), torch.zeros(1, 4, 3)
    loss = PatchNCE()(fake, real)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(4))
    assert fake.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    (fake,), (real,) = patches((2, 9, 5), dtype=dtype)
    loss = PatchNCE()(fake, real)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(by_authors(fake, real), rel=1e-5)


def test_autocast_does_not_lower_the_precision():
    (fake,), (real,) = patches((2, 9, 5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = PatchNCE()(fake, real)
    assert torch.equal(loss, PatchNCE()(fake, real))


def test_patches_that_are_drawn_are_the_same_of_both_images():
    generator = torch.Generator().manual_seed(0)
    same = torch.randn(1, 64, 8, generator=generator)
    # Each patch has its like at its position only; of other positions, the loss would be far from 0.
    losses = [PatchNCE(num_patches=4)(same, same).item() for _ in range(20)]
    assert max(losses) < 0.1
    assert len(set(losses)) > 1


def test_as_many_patches_as_there_are_is_all_of_them():
    (fake,), (real,) = patches((2, 9, 5))
    assert torch.equal(PatchNCE(num_patches=9)(fake, real), PatchNCE()(fake, real))


def test_a_projection_between_sampling_and_loss_is_trained():
    (fake,), (real,) = patches((2, 5, 8, 8))
    project = torch.nn.Linear(5, 4)
    drawn = [[project(each) for each in layers] for layers in sample_patches([fake], [real], num_patches=16)]
    PatchNCE()(*drawn).backward()
    assert project.weight.grad.count_nonzero()


def test_sampled_patches_are_features_at_positions_that_the_lists_share():
    places = torch.arange(24.0).reshape(1, 1, 4, 6)
    for first, second in zip(
        *sample_patches([places, places], [places.expand(2, 3, 4, 6), places], num_patches=10), strict=True
    ):
        assert first.shape == (1, 10, 1)
        assert len(first.unique()) == 10
        assert torch.equal(second[..., :1], first.expand(len(second), -1, -1))


def test_sampling_repeats_with_the_seed_and_draws_anew_without():
    places = torch.arange(64.0).reshape(1, 1, 8, 8)
    draws = []
    with torch.random.fork_rng():
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            draws.append(sample_patches([places], num_patches=8)[0][0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("num_patches", [None, 24, 100])
def test_all_patches_are_given_in_their_order(num_patches):
    places = torch.arange(24.0).reshape(1, 1, 4, 6)
    assert torch.equal(sample_patches([places], num_patches=num_patches)[0][0].flatten(), torch.arange(24.0))


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (([torch.zeros(1, 2, 4, 4)], []), "lists of as many layers; they have 1, 0"),
        (([torch.zeros(1, 2, 4, 4)], [torch.zeros(1, 2, 4, 5)]), r"layer 0 has \(1, 2, 4, 4\) and \(1, 2, 4, 5\)"),
        (([torch.zeros(1, 4, 2)],), r"maps \(N, C, H, W\)"),
    ],
)
def test_maps_that_do_not_fit_are_refused(maps, said):
    with pytest.raises(ValueError, match=said):
        sample_patches(*maps)


@pytest.mark.parametrize(("given", "kind"), [(torch.zeros(1, 2, 4, 4), "Tensor"), ({"relu1": 0}, "dict")])
def test_maps_that_are_in_no_list_are_refused(given, kind):
    with pytest.raises(TypeError, match=f"lists of maps, one per layer, got a {kind}: put it into a list"):
        sample_patches(given)


def test_maps_of_integers_are_refused():
    with pytest.raises(TypeError, match="layer 0 is torch.int64"):
        sample_patches([torch.zeros(1, 2, 4, 4, dtype=torch.int64)])


@pytest.mark.parametrize(
    ("fake", "real", "said"),
    [
        ([], [], "one at least; patches_fake has 0 and patches_real has 0"),
        ([torch.zeros(1, 4, 3)], [], "patches_fake has 1 and patches_real has 0"),
        (
            [torch.zeros(1, 4, 3)],
            [torch.zeros(1, 5, 3)],
            r"layer 0 patches_fake is \(1, 4, 3\) .*\(1, 5, 3\)",
        ),
        ([torch.zeros(8, 3)], [torch.zeros(8, 3)], r"split its batch off: .unflatten\(0, \(N, P\)\)"),
        ([torch.zeros(2, 1, 3)], [torch.zeros(2, 1, 3)], 'layer 0 has one patch an image; .*negatives="batch"'),
    ],
)
def test_patches_that_do_not_fit_are_refused(fake, real, said):
    with pytest.raises(ValueError, match=said):
        PatchNCE()(fake, real)


@pytest.mark.parametrize(
    ("fake", "said"),
    [
        ([torch.zeros(1, 4, 3, dtype=torch.int64)], r"patches_fake\[0\] is torch.int64"),
        ([[0.0]], r"patches_fake\[0\] to be a tensor; it is a list"),
        ({"relu": torch.zeros(1, 4, 3)}, "patches_fake to be a list of tensors, one per layer; it is a dict"),
    ],
)
def test_what_is_no_list_of_floating_tensors_is_refused(fake, said):
    with pytest.raises(TypeError, match=said):
        PatchNCE()(fake, [torch.zeros(1, 4, 3)])


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"temperature": 0.0}, ValueError, "temperature is a finite number above 0; got 0.0"),
        ({"temperature": math.nan}, ValueError, "got nan"),
        ({"temperature": 10**400}, ValueError, "got 1000"),
        ({"temperature": "0.07"}, TypeError, "got '0.07'"),
        ({"negatives": "all"}, ValueError, 'negatives is "image" or "batch", got \'all\''),
        ({"num_patches": 0}, ValueError, "1 at least; got 0"),
        ({"num_patches": 2.0}, TypeError, "got 2.0"),
        ({"num_patches": True}, TypeError, "got True"),
    ],
)
def test_an_argument_out_of_its_range_is_refused(arguments, error, said):
    with pytest.raises(error, match=said):
        PatchNCE(**arguments)


def test_repr_shows_the_arguments():
    assert repr(PatchNCE()) == "PatchNCE(temperature=0.07, negatives='image', num_patches=None, normalize=True)"


class TestPatchNCE(LossSpecTests):
    name = "patchnce"
    gradcheck = True


class TestNegativesOfTheBatch(LossTests):
    function = PatchNCE(negatives="batch", normalize=False)
    inputs = ("patches_fake", "patches_real")
    gradcheck = True

    def make_inputs(self, batch_size):
        return example_inputs(batch_size)


class TestDrawnMaps(LossTests):
    function = PatchNCE(num_patches=32)
    inputs = ("patches_fake", "patches_real")
    skip = {"deterministic": "it draws patches, which is asked for"}

    def make_inputs(self, batch_size):
        fake, real = patches((batch_size, 4, 8, 8))
        return {"patches_fake": [each.requires_grad_() for each in fake], "patches_real": real}


def test_the_spec_gives_one_loss_of_weight_1():
    (loss,) = patchnce(Config()).values()
    assert (loss.name, loss.tags, loss.loss_weight) == ("G_PATCHNCE", ["G"], 1.0)


def test_options_reach_the_loss():
    options = {"temperature": 0.2, "negatives": "batch"}
    manager = LossManager.from_spec("3*patchnce", options={"patchnce": options})
    (fake,), (real,) = patches((2, 9, 5))
    total = manager.compute_losses({"patches_fake": [fake], "patches_real": [real]}, query="G").total.item()
    assert total == pytest.approx(3 * by_authors(fake, real, 0.2, "batch"), rel=1e-5)


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="temperature is a finite number above 0"):
        LossManager.from_spec("patchnce", options={"patchnce": {"temperature": 0.0}})
