"""Every weighting keeps what weightings promise."""

import nectargan_weightings
import pytest

from nectargan_core.testing import WeightingTests

# What a weighting cannot do without, and its other forms.
PARAMS = {
    "Balancer": [{}, {"ema_decay": 0.0, "per_batch_item": False}],
    "LastLayer": [{"loss": "G_GAN"}],
    "RandomWeighting": [{"seed": 3}],
    "ReLoBRaLo": [{}, {"alpha": 0.9, "rho": 0.7}],
    "SoftAdapt": [{}, {"accuracy_order": 2, "variant": "normalized"}, {"variant": "loss-weighted"}],
}

for name in nectargan_weightings.__all__:
    for index, params in enumerate(PARAMS.get(name, [{}])):
        attributes = {"weighting": getattr(nectargan_weightings, name), "params": params}
        globals()[f"Test{name}{index}"] = type(f"Test{name}{index}", (WeightingTests,), attributes)


@pytest.mark.slow
class TestInstalled(WeightingTests):
    weighting = "nectargan-weightings/dwa"
