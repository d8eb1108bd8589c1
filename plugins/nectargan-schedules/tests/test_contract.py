"""Every curve keeps what schedules promise."""

import nectargan_schedules
import pytest

from nectargan_core import Schedule
from nectargan_core.testing import ScheduleTests

RISE = Schedule("linear", end=4, initial_value=0.25)
FALL = Schedule("cosine", start=5, end=9, target_value=0.5)
# What a curve cannot do without, and its other forms.
PARAMS = {
    "cosine_restarts": [{"period": 3}, {"period": 2, "multiplier": 2}],
    "cyclic": [{"period": 3}],
    "every": [{"n": 3}, {"n": 3, "average": True}],
    "inverse_sqrt": [{"warmup": 3, "begin": 0.1}],
    "multistep": [{"milestones": [30, 55.5], "gamma": 0.5}],
    "one_cycle": [{}, {"rise": 0.7, "begin": 1.0}],
    "piecewise_linear": [{"points": [[0, 4.0], [5, 1.0], [8, 2.0]]}],
    "polynomial": [{"power": 0.5}, {"power": 2.5}],
    "product": [{"factors": [RISE, FALL]}],
    "sequence": [{"parts": [RISE, FALL]}],
    "step": [{"every": 2, "gamma": 0.5}],
    "warmup_cosine": [{"warmup": 0}, {"warmup": 3, "begin": 0.25}],
}

for name in nectargan_schedules.__all__:
    for index, params in enumerate(PARAMS.get(name, [{}])):
        attributes = {"schedule": getattr(nectargan_schedules, name), "params": params}
        globals()[f"Test_{name}_{index}"] = type(f"Test_{name}_{index}", (ScheduleTests,), attributes)


@pytest.mark.slow
class TestInstalled(ScheduleTests):
    schedule = "nectargan-schedules/cosine"
