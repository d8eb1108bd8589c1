"""Every weighting keeps what weightings promise."""

from typing import ClassVar

import nectargan_torchjd
import pytest

from nectargan_core.testing import WeightingTests

# What a weighting cannot do without, and its other forms.
PARAMS = {
    "CAGrad": [{"c": 0.5}],
    "CRMOGM": [{"weighting": "torchjd-pcd", "params": {"tau": 0.2}}, {"weighting": "torchjd-gradvac"}],
    "FairGrad": [{"alpha": 1.0}],
    "GradVac": [{}, {"beta": 0.3}],
    "Krum": [{"n_byzantine": 0, "n_selected": 2}],
    "PCD": [{}, {"beta": 0.7, "tau": 0.2}],
}
SKIPPED = {"Krum": {"subsets": "it takes three losses at least, and says so"}}

for name in nectargan_torchjd.__all__:
    for index, params in enumerate(PARAMS.get(name, [{}])):
        attributes = {
            "weighting": getattr(nectargan_torchjd, name),
            "params": params,
            "skip": SKIPPED.get(name, {}),
        }
        globals()[f"Test{name}{index}"] = type(f"Test{name}{index}", (WeightingTests,), attributes)


@pytest.mark.slow
class TestInstalled(WeightingTests):
    weighting = "nectargan-torchjd/torchjd-mgda"
    skip: ClassVar = {"imports": "TorchJD imports scipy, and is all that this package is made of"}
