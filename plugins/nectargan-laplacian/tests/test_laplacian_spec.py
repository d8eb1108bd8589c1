"""The spec `laplacian`: the loss that it builds, and the checks of the kit."""

from nectargan_laplacian import Laplacian, laplacian

from nectargan_core import Config
from nectargan_core.testing import LossSpecTests


class TestLaplacian(LossSpecTests):
    name = "laplacian"
    gradcheck = True


def test_loss_is_named_tagged_and_reads_output_and_target():
    losses = laplacian(Config())
    assert list(losses) == ["G_LAP"]
    loss = losses["G_LAP"]
    assert (loss.name, loss.tags, loss.inputs) == ("G_LAP", ["G"], ("y_fake", "y"))
    assert isinstance(loss.function, Laplacian)


def test_default_weight_is_10():
    assert laplacian(Config())["G_LAP"].loss_weight == 10.0
