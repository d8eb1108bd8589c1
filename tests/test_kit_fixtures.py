"""The fixtures that are published for the tests of plugins: what a test gets, and that nothing is left of it."""

import importlib.util
import os
import subprocess
import sys
import warnings
from importlib.metadata import distribution

import pytest
import torch

from nectargan_core import LossManager, catalog
from nectargan_core.errors import PluginNotFoundError

pytest_plugins = ["pytester"]

SOURCE = """
    import torch
    from nectargan_core import LMLoss

    def glow(config):
        return {"G_GLOW": LMLoss(name="G_GLOW", function=torch.nn.L1Loss())}
"""
GLOW = {
    "entry_points": {catalog.SPECS: {"glow": "acme_losses:glow"}},
    "modules": {"acme_losses.py": SOURCE},
}


def names():
    return {entry.plugin.name for entry in catalog.plugins()}


class TestADistribution:
    def test_its_plugin_works_by_name(self, install_distribution):
        install_distribution("acme-losses", **GLOW)
        assert list(LossManager.from_spec("acme-losses/glow").get_registered_losses()) == ["G_GLOW"]

    def test_others_have_what_pip_would_have_written(self, install_distribution):
        info = install_distribution("acme-losses", "1.4", **GLOW, requires=["nectargan-core<9"])
        found = distribution("acme-losses")
        assert (found.version, found.requires, found.read_text("INSTALLER")) == ("1.4", ["nectargan-core<9"], "pip\n")
        assert {str(file) for file in found.files} >= {"acme_losses.py", f"{info.name}/METADATA"}

    def test_it_takes_the_place_of_an_earlier_version(self, install_distribution):
        install_distribution("acme-losses", "1.0", **GLOW)
        LossManager.from_spec("glow")
        later = {**GLOW, "modules": {"acme_losses.py": SOURCE.replace("G_GLOW", "D_GLOW")}}
        info = install_distribution("acme-losses", "1.1", **later)
        assert [path.name for path in info.parent.glob("*.dist-info")] == ["acme_losses-1.1.dist-info"]
        assert list(LossManager.from_spec("glow").get_registered_losses()) == ["D_GLOW"]

    def test_several_stand_beside_each_other(self, install_distribution):
        for name in ("acme", "beta"):
            points = {catalog.SCHEDULES: {f"{name}-curve": f"{name}:curve"}}
            install_distribution(name, entry_points=points, modules={f"{name}/__init__.py": ""})
        assert {"acme-curve", "beta-curve", "linear"} <= names()

    def test_another_process_finds_it_in_its_directory(self, install_distribution):
        install_distribution("acme-losses", **GLOW)
        environment = {**os.environ, "PYTHONPATH": str(install_distribution.directory)}
        code = "import importlib.metadata; print(importlib.metadata.version('acme-losses'))"
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert done.stdout == "1.0\n"


class TestIsolation:
    def test_only_cores_own_plugins_are_found(self, isolated_catalog):
        assert names() == {"linear", "exponential"}

    def test_what_is_installed_for_the_test_is_found(self, isolated_catalog, install_distribution):
        install_distribution("acme-losses", **GLOW)
        assert names() == {"linear", "exponential", "glow"}

    def test_it_does_not_matter_which_fixture_comes_first(self, install_distribution, isolated_catalog):
        install_distribution("acme-losses", **GLOW)
        assert names() == {"linear", "exponential", "glow"}

    def test_settings_do_not_apply_and_come_back(self, monkeypatch, tmp_path):
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        catalog.configure(block=["glow"])
        try:
            with catalog.isolated(tmp_path):
                catalog.configure(block=["linear"])
                catalog.find(catalog.SCHEDULES, "linear")
                with pytest.raises(PluginNotFoundError):
                    catalog.find(catalog.SPECS, "glow")
            assert catalog._lookup.settings.current().block.names == {"glow"}
        finally:
            catalog.configure(block=None)
        assert catalog._lookup.settings.current().block.label == 'NECTARGAN_BLOCK_PLUGINS="glow"'

    def test_what_was_found_before_is_found_again_without_reading_it_again(self, site, tmp_path):
        site.install_spec("acme-losses", "glow")
        before = catalog.find(catalog.SPECS, "glow")
        with catalog.isolated(tmp_path), pytest.raises(PluginNotFoundError):
            catalog.find(catalog.SPECS, "glow")
        assert catalog.find(catalog.SPECS, "glow") is before

    def test_modules_can_be_imported_as_before(self, isolated_catalog):
        assert importlib.util.find_spec("pytest_timeout")


class TestTheManager:
    def test_it_logs_into_a_directory_of_its_own(self, manager, tmp_path):
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())
        manager.compute_loss_xy("G_L1", torch.zeros(2), torch.ones(2))
        manager.update_loss_log()
        assert any(manager.experiment_dir.iterdir())
        assert not any(tmp_path.iterdir())

    def test_a_loss_that_never_ran_is_no_warning_at_its_end(self, manager):
        manager.register_loss_fn("G_L1", torch.nn.L1Loss())


INNER = """
    import sys
    import acme_losses_kept  # noqa: F401
    from nectargan_core import catalog

    def test_all(isolated_catalog, install_distribution, manager):
        install_distribution(
            "acme-losses",
            entry_points={"nectargan.loss_specs": {"glow": "acme_losses:glow"}},
            modules={"acme_losses.py": "def glow(config): return {}"},
        )
        catalog.configure(block=["linear"])
        manager.init_from_spec("glow")
        assert "acme_losses" in sys.modules
"""


def test_a_conftest_names_them_and_nothing_is_left_after_a_test(pytester, monkeypatch):
    pytester.makeconftest('pytest_plugins = ["nectargan_core.testing.fixtures"]')
    pytester.makepyfile(acme_losses_kept="")
    pytester.makepyfile(INNER)
    before, path = names(), list(sys.path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "--import-mode=prepend")
    result.assert_outcomes(passed=1)
    assert (names(), sys.path) == (before, path)
    assert "acme_losses" not in sys.modules
    assert not catalog._lookup.settings.current().block.names


@pytest.mark.slow
def test_they_need_pytest_only(pytester, monkeypatch):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    pytester.makeconftest('pytest_plugins = ["nectargan_core.testing.fixtures"]')
    pytester.makepyfile(acme_losses_kept="")
    pytester.makepyfile(INNER)
    pytester.runpytest_subprocess("-W", "error").assert_outcomes(passed=1)
