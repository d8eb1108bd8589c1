"""The checks that every observer should pass."""

import pytest

from nectargan_core.testing import ObserverTests


@pytest.mark.slow
@pytest.mark.usefixtures("offline")
class TestWandB(ObserverTests):
    observer = "wandb"
