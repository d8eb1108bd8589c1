"""The spec `sobel`: the loss that it builds, and the checks of the kit."""

from nectargan_sobel import Sobel, sobel

from nectargan_core import Config
from nectargan_core.testing import LossSpecTests


class TestSobel(LossSpecTests):
    name = "sobel"
    gradcheck = True


def test_loss_is_named_tagged_and_reads_output_and_target():
    losses = sobel(Config())
    assert list(losses) == ["G_SOBEL"]
    loss = losses["G_SOBEL"]
    assert (loss.name, loss.tags, loss.inputs) == ("G_SOBEL", ["G"], ("y_fake", "y"))
    assert isinstance(loss.function, Sobel)


def test_default_weight_is_10():
    assert sobel(Config())["G_SOBEL"].loss_weight == 10.0
