"""The specs by their names: what they build, the checks of the kit, options, and training steps."""

import inspect

import nectargan_image
import pytest
import torch
from nectargan_image import FFT, L1, L2, LDL, Color, FocalFrequency, Huber, SmoothL1, TotalVariation, Wavelet

from nectargan_core import Config, LossManager
from nectargan_core.errors import MissingInputError, SpecError, UnknownVariantError
from nectargan_core.testing import LossSpecTests

PAIR = ("y_fake", "y")
SPECS = {
    "l1": (L1, PAIR),
    "l1:masked": (L1, (*PAIR, "mask")),
    "l2": (L2, PAIR),
    "l2:masked": (L2, (*PAIR, "mask")),
    "huber": (Huber, PAIR),
    "huber:masked": (Huber, (*PAIR, "mask")),
    "smooth-l1": (SmoothL1, PAIR),
    "smooth-l1:masked": (SmoothL1, (*PAIR, "mask")),
    "tv": (TotalVariation, ("y_fake",)),
    "fft": (FFT, PAIR),
    "focal-frequency": (FocalFrequency, PAIR),
    "color": (Color, PAIR),
    "ldl": (LDL, (*PAIR, "y_ema")),
    "wavelet": (Wavelet, PAIR),
}


class TestL1(LossSpecTests):
    name = "l1"
    gradcheck = True


class Others(LossSpecTests):
    # Each starts a process or reads the metadata of the one distribution.
    skip = dict.fromkeys(("entry_point", "metadata", "imports"), "checked with l1, which the same distribution offers")
    gradcheck = True


class TestL2(Others):
    name = "l2"


class TestHuber(Others):
    name = "huber"


class TestSmoothL1(Others):
    name = "smooth-l1"


class TestTV(Others):
    name = "tv"


class TestFFT(Others):
    name = "fft"


class TestFocalFrequency(Others):
    name = "focal-frequency"
    # Its weights are held constant; tests/test_frequencies.py has the gradient.
    gradcheck = False


class TestColor(Others):
    name = "color"


class TestWavelet(Others):
    name = "wavelet"


class TestLDL(Others):
    name = "ldl"


def inputs():
    generator = torch.Generator().manual_seed(0)
    images = {name: torch.rand(2, 3, 16, 16, generator=generator) * 2 - 1 for name in ("y_fake", "y", "y_ema")}
    return images | {"mask": (torch.rand(2, 1, 16, 16, generator=generator) > 0.5).float()}


@pytest.mark.parametrize(("term", "kind", "reads"), [(term, *built) for term, built in SPECS.items()])
def test_a_name_gives_one_loss_of_the_generator_with_weight_1(term, kind, reads):
    (loss,) = LossManager.from_spec(term).get_registered_losses(query="G").values()
    name = term.partition(":")[0]
    assert (loss.name, loss.tags, loss.inputs) == (f"G_{name.upper().replace('-', '_')}", ["G"], reads)
    assert loss.loss_weight == 1.0
    assert isinstance(loss.function, kind)


@pytest.mark.parametrize("name", [name for name in SPECS if ":" not in name])
def test_the_weight_is_that_of_the_config(name):
    config = {"train": {"loss": {f"lambda_{name.replace('-', '_')}": 5.0}}}
    assert list(LossManager.from_spec(name, config=config).get_loss_weights().values()) == [5.0]


def test_together_they_train():
    manager = LossManager.from_spec(
        "100*l1 + l2 + 0.5*huber + smooth-l1 + tv + 0.05*fft + focal-frequency + color + ldl + wavelet"
    )
    given = inputs()
    given["y_fake"].requires_grad_()
    losses = manager.compute_losses(given, query="G")
    losses.total.backward()
    assert len(losses.ran) == 10
    assert given["y_fake"].grad.isfinite().all()


def test_components_of_color_and_wavelet_are_recorded():
    manager = LossManager.from_spec("color + wavelet")
    losses = manager.compute_losses(inputs())
    parts = losses.components
    assert {name: list(found) for name, found in parts.items()} == {
        "G_COLOR": ["hue", "saturation", "lightness", "luma"],
        "G_WAVELET": ["LL", "LH", "HL", "HH"],
    }
    total = sum(value.item() for found in parts.values() for value in found.values())
    assert total == pytest.approx(losses.total.item(), rel=1e-5)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("huber", {"delta": 0.1}),
        ("smooth-l1", {"beta": 0.1}),
        ("fft", {"norm": "ortho"}),
        ("focal-frequency", {"alpha": 2.0, "patch_factor": 2, "log_matrix": True}),
        ("color", {"luma": 0.0, "input_range": (0.0, 1.0)}),
        ("ldl", {"ksize": 5, "input_range": (0.0, 255.0)}),
        ("wavelet", {"wavelet": "haar", "weights": (1.0, 1.0, 1.0, 1.0), "input_range": (0.0, 1.0)}),
    ],
)
def test_options_reach_the_module(name, options):
    (loss,) = LossManager.from_spec(name, options={name: options}).get_registered_losses().values()
    assert {key: getattr(loss.function, key) for key in options} == options


@pytest.mark.parametrize("name", [name for name in SPECS if ":" not in name])
def test_an_option_has_the_default_of_the_module(name):
    spec = getattr(nectargan_image, name.replace("-", "_"))
    kind, _ = SPECS[name]
    parameters = inspect.signature(kind).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY and p.name != "reduction"}
    options = [p for p in inspect.signature(spec).parameters.values() if p.kind is p.KEYWORD_ONLY]
    assert {p.name: p.default for p in options} == defaults


def test_without_an_average_ldl_is_given_the_target():
    manager = LossManager.from_spec("ldl", rename_inputs={"y_ema": "y"})
    given = inputs()
    total = manager.compute_losses({name: given[name] for name in PAIR}).total
    torch.testing.assert_close(total.detach(), LDL()(given["y_fake"], given["y"], given["y"]))


@pytest.mark.parametrize("name", ["color", "ldl", "wavelet"])
def test_images_that_were_not_normalised_are_warned_of(name):
    given = {key: (image + 1) / 2 for key, image in inputs().items()}
    with pytest.warns(UserWarning, match="input_range"):
        LossManager.from_spec(name).compute_losses(given)
    LossManager.from_spec(name, options={name: {"input_range": (0.0, 1.0)}}).compute_losses(given)


def test_a_masked_variant_needs_a_mask():
    given = inputs()
    del given["mask"]
    with pytest.raises(MissingInputError, match="mask"):
        LossManager.from_spec("l1:masked").compute_losses(given)


def test_a_misspelt_variant_is_refused():
    with pytest.raises(UnknownVariantError, match='Did you mean "masked"'):
        LossManager.from_spec("huber:maskd")


def test_an_option_out_of_its_range_is_refused():
    with pytest.raises(SpecError, match="delta is a number above 0"):
        LossManager.from_spec("huber", options={"huber": {"delta": 0.0}})


def test_a_spec_can_be_called_without_a_manager():
    assert nectargan_image.l1(Config())["G_L1"].inputs == PAIR
