"""The options of `MLflow`: what is refused, and what it says."""

import math

import pytest
from nectargan_mlflow import MLflow


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"experiment": 3}, TypeError, "experiment is a text, or None, got int"),
        ({"experiment": " "}, ValueError, "experiment is empty; leave it out"),
        ({"name": ""}, ValueError, "name is empty"),
        ({"tracking_uri": ""}, ValueError, "tracking_uri is empty"),
        ({"prefix": None}, TypeError, "prefix is a text such as 'teacher/', got NoneType"),
        ({"prefix": "/teacher/"}, ValueError, "prefix is the beginning of a path inside of the run"),
        ({"prefix": "../"}, ValueError, "such as 'teacher/', got '../'"),
        ({"prefix": "a//"}, ValueError, "got 'a//'"),
        ({"prefix": "ä/"}, ValueError, "prefix has letters a to z, digits"),
        ({"points": 0}, ValueError, "points is a number of points of at least 1, got 0"),
        ({"points": 10.0}, TypeError, "points is a whole number of points, got float"),
        ({"points": True}, TypeError, "got bool"),
        ({"loss_maps": -1.0}, ValueError, "loss_maps is a number of seconds of at least 0, or None, got -1.0"),
        ({"loss_maps": math.nan}, ValueError, "got nan"),
        ({"loss_maps": "300"}, TypeError, "got str"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options, error, said):
    with pytest.raises(error, match=said):
        MLflow(**options)
