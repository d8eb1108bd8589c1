"""The options of `WandB`: what is refused, and what it says."""

import math

import pytest
from nectargan_wandb import WandB


class Run:
    """Stands for a run, so that W&B need not be imported."""

    def define_metric(self, name):
        pass


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"project": 3}, TypeError, "project is a text, or None, got int"),
        ({"project": " "}, ValueError, "project is empty; leave it out"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"run": 5}, TypeError, r"run is a run of W&B, such as wandb.init\(\) returns, got int"),
        ({"run": Run(), "project": "facades"}, ValueError, "with run= give neither"),
        ({"prefix": None}, TypeError, "prefix is a text such as 'teacher/', got NoneType"),
        ({"prefix": "/teacher/"}, ValueError, "prefix is the beginning of a path inside of the run"),
        ({"prefix": "../"}, ValueError, "such as 'teacher/', got '../'"),
        ({"prefix": "a//"}, ValueError, "got 'a//'"),
        ({"prefix": "a*"}, ValueError, "prefix has letters, digits"),
        ({"points": 0}, ValueError, "points is a number of rows of at least 1, got 0"),
        ({"points": 10.0}, TypeError, "points is a whole number of rows, got float"),
        ({"points": True}, TypeError, "got bool"),
        ({"loss_maps": -1.0}, ValueError, "loss_maps is a number of seconds of at least 0, or None, got -1.0"),
        ({"loss_maps": math.nan}, ValueError, "got nan"),
        ({"loss_maps": "300"}, TypeError, "got str"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        WandB(**options)
