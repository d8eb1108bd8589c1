"""The options of `WandB`: what is refused, and what it says."""

import math

import pytest
from nectargan_wandb import WandB


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"project": 3}, TypeError, "project is a text, or None, got int"),
        ({"project": " "}, ValueError, "project is empty; leave it out"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"run": object(), "project": "facades"}, ValueError, "with run= give neither"),
        ({"prefix": None}, TypeError, "prefix is a text such as 'teacher/', got NoneType"),
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
