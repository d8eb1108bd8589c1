"""The specs `lpips` and `dists`: the checks that every plugin should pass, their options, and a step of training."""

import pytest
import torch

from nectargan_core import LossManager
from nectargan_core.errors import SpecError, UnknownVariantError
from nectargan_core.testing import LossSpecTests

COMPILED = {"compiles": "test_it_compiles_into_one_graph does it: it takes long with this network"}


@pytest.mark.slow
class TestLPIPS(LossSpecTests):
    name = "lpips"
    options = {"backbone": "random", "heads": "equal"}
    skip = COMPILED


class TestAlex(LossSpecTests):
    name = "lpips:alex"
    options = {"backbone": "random", "heads": "equal"}
    gradcheck = True


class TestSqueezeByLayer(LossSpecTests):
    name = "lpips:squeeze"
    options = {"backbone": "random", "heads": "equal", "by_layer": True, "reduction": "none"}
    skip = COMPILED


@pytest.mark.slow
class TestDISTS(LossSpecTests):
    name = "dists"
    options = {"backbone": "random", "weights": "equal"}
    gradcheck = True
    skip = COMPILED


def options_of(term):
    return {name: options for name, options in OPTIONS.items() if name in term}


OPTIONS = {"lpips": {"backbone": "random", "heads": "equal"}, "dists": {"backbone": "random", "weights": "equal"}}


@pytest.mark.parametrize(("term", "name"), [("lpips:alex", "G_LPIPS"), ("dists", "G_DISTS")])
def test_a_formula_gives_one_loss_of_the_generator(term, name):
    (loss,) = LossManager.from_spec(term, options=options_of(term)).get_registered_losses(query="G").values()
    assert (loss.name, loss.tags, loss.inputs, loss.loss_weight) == (name, ["G"], ("y_fake", "y"), 1.0)


@pytest.mark.parametrize(("term", "variant"), [("lpips", "vgg"), ("lpips:alex", "alex"), ("lpips:squeeze", "squeeze")])
def test_the_variant_is_the_network_and_vgg_is_the_default(term, variant):
    manager = LossManager.from_spec(term, options=options_of(term), device="meta")
    assert manager.get_registered_losses()["G_LPIPS"].function.variant == variant


def test_a_misspelt_variant_is_refused():
    with pytest.raises(UnknownVariantError, match='Did you mean "squeeze"'):
        LossManager.from_spec("lpips:squeez")


def test_the_config_and_a_factor_give_the_weight():
    config = {"train": {"loss": {"lambda_lpips": 3.0}}}
    manager = LossManager.from_spec("lpips:alex + 0.5*dists", config=config, options=OPTIONS)
    assert manager.get_loss_weights() == {"G_LPIPS": 3.0, "G_DISTS": 0.5}


def test_options_reach_the_module():
    options = {"normalize": False, "input_range": (0.0, 1.0), "resize": 64, "reduction": "sum", "by_layer": True}
    given = {name: {**each, **options} for name, each in OPTIONS.items()}
    losses = LossManager.from_spec("lpips:alex + dists", options=given).get_registered_losses()
    for loss in losses.values():
        assert {name: getattr(loss.function, name) for name in options} == options


def test_without_normalization_no_range_is_expected():
    options = {name: {**each, "normalize": False} for name, each in OPTIONS.items()}
    manager = LossManager.from_spec("lpips:squeeze + dists", options=options)
    manager.compute_losses({"y_fake": torch.rand(1, 3, 32, 32), "y": 4 * torch.rand(1, 3, 32, 32)})


def test_a_wrong_option_is_named():
    with pytest.raises(SpecError, match="no option 'head'.*Did you mean"):
        LossManager.from_spec("lpips", options={"lpips": {"head": "equal"}})


def test_together_they_train_a_step():
    manager = LossManager.from_spec("lpips:squeeze + dists", options=OPTIONS)
    network = torch.nn.Conv2d(3, 3, 3, padding=1)
    x, y = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    manager.tick()
    losses = manager.compute_losses({"y_fake": network(x), "y": y}, query="G")
    losses.total.backward()
    assert set(losses) == {"G_LPIPS", "G_DISTS"}
    assert network.weight.grad.abs().sum() > 0


def test_by_layer_a_manager_records_each_stage():
    options = {"lpips": {**OPTIONS["lpips"], "by_layer": True}}
    manager = LossManager.from_spec("lpips:alex", options=options, enable_logging=True)
    y_fake, y = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    losses = manager.compute_losses({"y_fake": y_fake, "y": y})
    assert [*losses.components["G_LPIPS"]] == ["relu1", "relu2", "relu3", "relu4", "relu5"]


@pytest.mark.slow
@pytest.mark.parametrize("term", ["lpips:vgg", "lpips:alex", "lpips:squeeze", "dists"])
def test_it_compiles_into_one_graph(term):
    (loss,) = LossManager.from_spec(term, options=options_of(term)).get_registered_losses().values()
    y_fake, y = torch.rand(2, 1, 3, 32, 32) * 2 - 1
    compiled = torch.compile(loss.function, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(y_fake, y), loss.function(y_fake, y), rtol=1e-4, atol=1e-6)
