"""Fixtures for the tests of plugins; they need pytest, and nothing else.

In the `conftest.py` at the top of the tests:

    pytest_plugins = ["nectargan_core.testing.fixtures"]

and in a test, by their names:

    def test_a_user_finds_the_loss(isolated_catalog, install_distribution, manager):
        install_distribution(
            "acme-losses",
            entry_points={"nectargan.loss_specs": {"glow": "acme_losses:glow"}},
            modules={"acme_losses.py": "def glow(config): return {}"},
        )
        manager.init_from_spec("glow")

Whatever they change is undone after the test.
"""

from __future__ import annotations

import pathlib
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping

import pytest

from nectargan_core import LossManager, catalog
from nectargan_core.errors import NectarganWarning
from nectargan_core.testing._distributions import forget_modules, remove_distribution, write_distribution

__all__ = ["InstallDistribution", "install_distribution", "isolated_catalog", "manager"]


class InstallDistribution:
    """What the fixture `install_distribution` gives a test: called, it installs a distribution, as pip would leave it.

    Args:
        directory: Where to.
    """

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        self._installed: dict[str, pathlib.Path] = {}

    def __call__(
        self,
        name: str,
        version: str = "1.0",
        *,
        entry_points: Mapping[str, Mapping[str, str]],
        modules: Mapping[str, str],
        requires: Iterable[str] = (),
    ) -> pathlib.Path:
        """Install a distribution, in the place of an earlier version of it.

        Args:
            name: The name of the distribution, such as `"acme-losses"`.
            version: Its version.
            entry_points: The target of each plugin by its name, by entry point group, such as
                `{"nectargan.loss_specs": {"glow": "acme_losses:glow"}}`.
            modules: The source of each file by its path, such as `{"acme_losses.py": "..."}`; indentation that all
                lines share is removed.
            requires: What it depends on, such as `["nectargan-core>=0.1,<0.2"]`. Nothing is installed for it.

        Returns:
            The directory of its metadata.
        """
        if name in self._installed:
            remove_distribution(self._installed.pop(name))
            forget_modules(self.directory)
        info = write_distribution(
            self.directory, name, version, entry_points=entry_points, modules=modules, requires=requires
        )
        self._installed[name] = info
        catalog.refresh()
        return info


@pytest.fixture
def install_distribution(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InstallDistribution]:
    """Return a function that installs a distribution for this test; see `InstallDistribution`.

    Its plugins are found by name, beside all others that are installed, and its modules can be imported. Another
    process finds it where `install_distribution.directory` is on its path.
    """
    directory = tmp_path_factory.mktemp("installed")
    # Of its own, so that what a test has patched is not undone before its other fixtures end.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(directory), *sys.path])
        yield InstallDistribution(directory)
    forget_modules(directory)
    catalog.refresh()


@pytest.fixture
def isolated_catalog(install_distribution: InstallDistribution) -> Iterator[None]:
    """Let the test find no plugins but core's own and what `install_distribution` installs, without any setting.

    What is installed otherwise can still be imported, and other processes find it.
    """
    with catalog.isolated(install_distribution.directory):
        yield


@pytest.fixture
def manager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LossManager]:
    """Return a `LossManager` without losses, which logs into a new directory, and is closed after the test."""
    made = LossManager(experiment_dir=tmp_path_factory.mktemp("experiment"))
    yield made
    with warnings.catch_warnings():
        # A test need not compute all losses that it registers.
        warnings.simplefilter("ignore", NectarganWarning)
        made.close()
