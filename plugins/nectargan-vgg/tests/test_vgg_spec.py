"""The spec `vgg`: the losses that its name and options build, and the error where there are no weights."""

from dataclasses import replace

import pytest
import torch
from nectargan_vgg import VGGContextual, VGGPerceptual, VGGStyle, network, vgg

from nectargan_core import Config, LossManager
from nectargan_core.errors import NectarganWarning, SpecError, WeightsError
from nectargan_core.testing import LossSpecTests

SMALL = {"relu1_2": 1.0, "relu2_1": 1.0}


class Small(LossSpecTests):
    options = {"checkpoint": "random", "layers": {"relu1_2": 1.0}}

    def make_inputs(self, batch_size):
        return {name: torch.rand(batch_size, 3, 16, 16) * 2 - 1 for name in ("y_fake", "y")}


class TestVGG(Small):
    name = "vgg"
    gradcheck = True


class TestByLayer(Small):
    name = "vgg:perceptual"
    options = {**Small.options, "by_layer": True, "reduction": "none"}


class TestContextual(Small):
    name = "vgg:contextual"
    gradcheck = True


class TestOfBasicSR(Small):
    name = "vgg:style"
    options = {"checkpoint": "random", "layers": {"conv1_2": 0.1}, "criterion": "fro", "gram": "elements"}


class TestInBfloat16(Small):
    name = "vgg"
    options = {**Small.options, "precision": "bfloat16"}


def images(batch):
    return (torch.rand(2, batch, 3, 16, 16) * 2 - 1).unbind()


def train_a_step(manager):
    """Run a step of the loop in the README, which names no loss."""
    generator = torch.nn.Conv2d(3, 3, 3, padding=1)
    discriminator = torch.nn.Conv2d(6, 1, 4, stride=2)
    optimizer = torch.optim.Adam(generator.parameters())
    x, y = images(1)
    before = generator.weight.detach().clone()
    manager.tick(epoch=0)
    y_fake = generator(x)
    inputs = {"x": x, "y": y, "y_fake": y_fake, "pred_fake": lambda: discriminator(torch.cat([x, y_fake], 1))}
    losses = manager.compute_losses(inputs, query="G")
    losses.total.backward()
    optimizer.step()
    assert not torch.equal(generator.weight, before)
    return losses


def test_perceptual_is_the_default(weights):
    losses = vgg(Config(), checkpoint=weights)
    assert list(losses) == ["G_VGG"]
    loss = losses["G_VGG"]
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == ("G_VGG", ["G"], ("y_fake", "y"), 10.0)
    assert type(loss.function) is VGGPerceptual


def test_style_is_a_variant(deep_weights):
    losses = vgg(Config(), "style", checkpoint=deep_weights)
    assert list(losses) == ["G_STYLE"]
    assert (losses["G_STYLE"].tags, losses["G_STYLE"].loss_weight) == (["G"], 10.0)
    assert type(losses["G_STYLE"].function) is VGGStyle


def test_contextual_is_a_variant(deep_weights):
    losses = vgg(Config(), "contextual", checkpoint=deep_weights)
    assert list(losses) == ["G_CONTEXTUAL"]
    assert (losses["G_CONTEXTUAL"].tags, losses["G_CONTEXTUAL"].loss_weight) == (["G"], 1.0)
    assert type(losses["G_CONTEXTUAL"].function) is VGGContextual


def test_every_option_of_contextual_reaches_the_module(weights):
    options = {"layers": {"relu1_1": 0.5}, "band_width": 0.1, "epsilon": 2e-5, "positions": None, "center": "batch"}
    function = vgg(Config(), "contextual", checkpoint=weights, **options)["G_CONTEXTUAL"].function
    assert {name: getattr(function, name) for name in options} == options


@pytest.mark.parametrize(
    ("variant", "options", "variants"),
    [
        ("perceptual", {"gram": "elements"}, "style"),
        ("contextual", {"gram": "elements"}, "style"),
        ("contextual", {"criterion": "l1"}, "perceptual or style"),
        ("style", {"band_width": 0.1}, "contextual"),
        ("perceptual", {"positions": None}, "contextual"),
    ],
)
def test_an_option_of_another_variant_is_refused(variant, options, variants):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is for the variant {variants}, not '{variant}'"):
        vgg(Config(), variant, checkpoint="random", **options)


def test_the_losses_of_basicsr_are_a_formula_with_options(deep_weights):
    options = {"layers": {"conv5_4": 1.0}, "criterion": "l1", "checkpoint": str(deep_weights)}
    given = {"vgg": options, "vgg:style": {**options, "gram": "elements"}}
    manager = LossManager.from_spec("vgg + 50*vgg:style", options=given, weights={"G_VGG": 1.0})
    assert manager.get_loss_weights() == {"G_VGG": 1.0, "G_STYLE": 50.0}
    assert manager.get_registered_losses()["G_STYLE"].function.gram == "elements"


@pytest.mark.parametrize("variant", ["perceptual", "style"])
def test_every_option_reaches_the_module(weights, variant):
    options = {
        "layers": {"relu1_1": 0.5},
        "criterion": torch.nn.SmoothL1Loss(),
        "normalize": False,
        "input_range": [0.0, 1.0],
        "resize": 24,
        "reduction": "sum",
        "by_layer": True,
        **({"gram": "elements"} if variant == "style" else {}),
    }
    built = vgg(Config(), variant, checkpoint=weights, **options)
    function = next(iter(built.values())).function
    found = {name: getattr(function, name) for name in options}
    assert found == {**options, "input_range": (0.0, 1.0)}


def test_device_of_the_config_is_where_the_network_is_loaded(weights):
    config = Config.model_validate({"common": {"device": "meta"}})
    function = vgg(config, checkpoint=weights)["G_VGG"].function
    assert {tensor.device.type for tensor in function._network.parameters()} == {"meta"}


def test_on_the_meta_device_a_manager_needs_no_weights():
    manager = LossManager.from_spec("vgg", device="meta")
    y = torch.empty(1, 3, 16, 16, device="meta")
    assert manager.get_registered_losses()["G_VGG"].function(y, y).device.type == "meta"


def test_by_name_with_pix2pix_it_trains_a_step(weights):
    manager = LossManager.from_spec("pix2pix:extended+vgg", options={"vgg": {"checkpoint": str(weights)}})
    losses = train_a_step(manager)
    assert {"G_GAN", "G_L1", "G_SOBEL", "G_VGG"} <= set(losses)
    assert losses["G_VGG"].item() > 0


@pytest.mark.parametrize(("variant", "name"), [("perceptual", "G_VGG"), ("style", "G_STYLE")])
def test_by_layer_a_manager_records_each_layer(weights, variant, name):
    options = {"layers": {"relu1_2": 1.0, "relu2_1": 0.3}, "checkpoint": str(weights)}
    term = f"vgg:{variant}"
    plain, by_layer = (
        LossManager.from_spec(term, enable_logging=True, options={"vgg": {**options, "by_layer": each}})
        for each in (False, True)
    )
    y_fake, y = images(2)
    losses, expected = (manager.compute_losses({"y_fake": y_fake, "y": y}) for manager in (by_layer, plain))
    torch.testing.assert_close(losses[name], expected[name])
    assert list(losses.components[name]) == ["relu1_2", "relu2_1"]
    first = vgg(Config(), variant, **{**options, "layers": {"relu1_2": 1.0}})[name].function(y_fake, y)
    assert by_layer.series(f"{name}.relu1_2").unweighted.tolist() == pytest.approx([first.item()])


def test_by_name_with_the_weights_of_the_environment_it_trains_a_step(weights, monkeypatch):
    monkeypatch.setenv("NECTARGAN_VGG19_WEIGHTS", str(weights))
    assert train_a_step(LossManager.from_spec("vgg"))["G_VGG"].item() > 0


def test_both_variants_in_one_manager_share_one_network(deep_weights):
    manager = LossManager.from_spec("vgg+vgg:style", options={"vgg": {"checkpoint": deep_weights}})
    perceptual, style = (manager.get_registered_losses()[name].function for name in ("G_VGG", "G_STYLE"))
    shared = {id(tensor) for tensor in perceptual._network.parameters()}
    assert shared < {id(tensor) for tensor in style._network.parameters()}


def test_without_weights_building_the_loss_fails_with_the_offline_instructions(monkeypatch, cache):
    nowhere = replace(
        network.VGG19_WEIGHTS, url="http://127.0.0.1:9/vgg19-none.pth"
    )  # the discard port, without a server
    monkeypatch.setattr(network, "VGG19_WEIGHTS", nowhere)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError) as caught:
        LossManager.from_spec("pix2pix:extended+vgg")
    for part in ("cannot fetch http://127.0.0.1:9/vgg19-none.pth", str(cache), "checkpoint", "NECTARGAN_VGG19_WEIGHTS"):
        assert part in str(caught.value)


def test_a_wrong_option_is_named(weights):
    with pytest.raises(SpecError, match=r"no option 'layer'.*Did you mean"):
        LossManager.from_spec("vgg", options={"vgg": {"layer": SMALL, "checkpoint": weights}})


def test_published_weights_are_those_of_torchvision():
    weights = network.VGG19_WEIGHTS
    assert weights.url == "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"
    assert weights.url.endswith(f"/{weights.file}")
    assert weights.file.endswith(f"-{weights.sha256[:8]}.pth")


def test_images_of_another_range_are_warned_of_once(weights):
    manager = LossManager.from_spec("vgg", options={"vgg": {**Small.options, "checkpoint": str(weights)}})
    inputs = {"y_fake": torch.zeros(1, 3, 16, 16), "y": torch.rand(1, 3, 16, 16)}
    with pytest.warns(NectarganWarning, match=r"loss 'G_VGG' .* 'y' .* -1 to 1, .*input_range\": \(0.0, 1.0\)"):
        manager.compute_losses(inputs)
    manager.compute_losses(inputs)


@pytest.mark.parametrize("options", [{"input_range": (0.0, 1.0)}, {"normalize": False}])
def test_images_of_the_range_that_is_given_are_not_warned_of(weights, options):
    manager = LossManager.from_spec("vgg", options={"vgg": {**Small.options, "checkpoint": str(weights), **options}})
    manager.compute_losses({"y_fake": torch.zeros(1, 3, 16, 16), "y": torch.rand(1, 3, 16, 16)})
