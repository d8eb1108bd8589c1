"""Fixtures that several test modules of the trainer share."""

import pytest


@pytest.fixture(scope="module")
def without_curves():
    """Leave out curves and report, which take most of the time of a small run, for tests of something else."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("nectargan_pix2pix.results.draw_curves", lambda log, path: path.write_bytes(b"curves"))
        patched.setattr("nectargan_pix2pix.results.write_report", lambda runs, path: path.write_bytes(b"report"))
        yield
