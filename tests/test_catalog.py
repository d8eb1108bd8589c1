"""The catalog: finding, blocking, listing and loading plugins, and the errors."""

import importlib.metadata
import pickle
import sys
import threading
from pathlib import Path

import pytest

from nectargan_core import catalog
from nectargan_core.catalog import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS, _lookup, find
from nectargan_core.catalog._installed import core_version
from nectargan_core.errors import (
    AmbiguousPluginError,
    ConfigError,
    PluginBlockedError,
    PluginContractError,
    PluginLoadError,
    PluginNotFoundError,
    UnknownScheduleError,
)


def states(name):
    return {entry.plugin.dist: entry.state for entry in catalog.plugins() if entry.plugin.name == name}


def message(kind, call, *args):
    with pytest.raises(kind) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


class TestFinding:
    def test_a_name_finds_the_one_plugin_that_offers_it(self, site):
        site.install("acme", "1.2", specs={"glow": "acme.losses:glow"}, requires=["nectargan-core >=0.1, <0.3"])
        assert find(SPECS, "glow") == catalog.Plugin(
            SPECS, "glow", "acme", "1.2", "acme.losses:glow", supports="<0.3,>=0.1"
        )

    def test_its_text_has_name_distribution_version_and_target(self, site):
        site.install("acme", "1.2", specs={"glow": "acme:glow"})
        assert str(find(SPECS, "glow")) == "glow (acme 1.2, acme:glow)"

    def test_a_name_may_mean_a_spec_and_a_schedule(self, site):
        site.install("acme", specs={"glow": "acme:spec"}, schedules={"glow": "acme:schedule"})
        assert find(SPECS, "glow").target == "acme:spec"
        assert find(SCHEDULES, "glow").target == "acme:schedule"

    @pytest.mark.parametrize("provider", ["acme-vgg", "Acme_VGG", "acme.vgg"])
    def test_a_provider_is_compared_as_package_indexes_do(self, site, provider):
        site.install("acme-vgg", specs={"glow": "acme_vgg:glow"})
        assert find(SPECS, "glow", provider).dist == "acme-vgg"

    @pytest.mark.parametrize("value", ["acme:glow [gpu]", "acme : glow", "acme:glow[gpu,cpu]"])
    def test_blanks_and_extras_of_an_entry_point_are_ignored(self, site, value):
        site.install("acme", specs={"glow": value})
        assert find(SPECS, "glow").target == "acme:glow"

    def test_a_plugin_that_is_installed_later_is_found_after_refresh(self, site):
        catalog.plugins()
        site.install("acme", specs={"glow": "acme:glow"})
        catalog.refresh()
        assert find(SPECS, "glow").dist == "acme"

    def test_a_plugin_that_is_uninstalled_is_not_found_after_refresh(self, site):
        info = site.install("acme", specs={"glow": "acme:glow"})
        find(SPECS, "glow")
        site.uninstall(info)
        with pytest.raises(PluginNotFoundError):
            find(SPECS, "glow")

    def test_the_result_of_find_is_cached(self, site):
        site.install("acme", specs={"glow": "acme:glow"})
        assert find(SPECS, "glow") is find(SPECS, "glow")


class TestCollisions:
    @pytest.fixture(autouse=True)
    def two(self, site):
        site.install("acme-vgg", "1.0", specs={"glow": "acme_vgg:glow"})
        site.install("beta", "2.0", specs={"glow": "beta:glow"})

    def test_a_name_that_two_distributions_offer_is_an_error_with_both_and_the_remedies(self):
        text = message(AmbiguousPluginError, find, SPECS, "glow")
        assert text == (
            "the loss spec 'glow' is offered by acme-vgg 1.0, beta 2.0; write 'acme-vgg/glow' or 'beta/glow', "
            'or choose one by NECTARGAN_PROVIDERS="glow=acme-vgg"'
        )

    def test_a_provider_in_the_name_chooses(self):
        assert find(SPECS, "glow", "beta").dist == "beta"

    def test_the_environment_chooses(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_PROVIDERS", "other=x, glow = Acme_VGG")
        assert find(SPECS, "glow").dist == "acme-vgg"

    def test_code_chooses(self):
        catalog.configure(providers={"glow": "beta"})
        assert find(SPECS, "glow").dist == "beta"

    def test_a_provider_in_the_name_overrides_the_setting(self):
        catalog.configure(providers={"glow": "beta"})
        assert find(SPECS, "glow", "acme-vgg").dist == "acme-vgg"

    def test_blocking_one_leaves_the_other(self):
        catalog.configure(block=["beta"])
        assert find(SPECS, "glow").dist == "acme-vgg"

    def test_a_chosen_provider_that_is_missing_is_named_with_the_setting(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_PROVIDERS", "glow=gamma")
        text = message(PluginNotFoundError, find, SPECS, "glow")
        assert 'NECTARGAN_PROVIDERS="glow=gamma" asks for gamma, which is not installed' in text
        assert "it is offered by acme-vgg 1.0, beta 2.0" in text

    def test_a_choice_for_the_other_group_does_not_apply(self, site):
        site.install("gamma", schedules={"glow": "gamma:glow"})
        catalog.configure(providers={"glow": "gamma"})
        assert find(SCHEDULES, "glow").dist == "gamma"
        with pytest.raises(AmbiguousPluginError):
            find(SPECS, "glow")

    def test_both_are_listed_as_ambiguous(self):
        assert states("glow") == {"acme-vgg": "ambiguous", "beta": "ambiguous"}

    def test_once_one_is_chosen_none_is_listed_as_ambiguous(self):
        catalog.configure(providers={"glow": "beta"})
        assert states("glow") == {"acme-vgg": "available", "beta": "available"}
        notes = {entry.plugin.dist: entry.note for entry in catalog.plugins(SPECS)}
        assert notes["acme-vgg"] == 'catalog.configure(providers="glow=beta") chooses another'

    def test_a_distribution_that_offers_a_name_twice_is_ambiguous(self, site):
        site.install("twice", entry_points=f"[{SPECS}]\nboth = twice:a\nboth = twice:b\n")
        text = message(AmbiguousPluginError, find, SPECS, "both")
        assert text == "twice 1.0 offers the loss spec 'both' as twice:a and twice:b; report it to its authors"


class TestTheSameTwice:
    @pytest.fixture
    def other(self, site, tmp_path, monkeypatch):
        path = tmp_path / "other"
        monkeypatch.setattr(sys, "path", [*sys.path, str(path)])
        return type(site)(path)

    def test_metadata_in_two_places_is_one_plugin(self, site, other):
        site.install("acme", "1.0", specs={"glow": "acme:glow"})
        other.install("acme", "1.0", specs={"glow": "acme:glow"})
        assert find(SPECS, "glow").dist == "acme"

    def test_the_metadata_that_is_first_on_the_path_is_used(self, site, other):
        site.install("acme", "1.0", specs={"glow": "acme:old"})
        other.install("Acme", "2.0", specs={"glow": "acme:new"})
        assert find(SPECS, "glow").target == "acme:old"

    def test_the_other_is_listed_as_a_duplicate_with_a_note(self, site, other):
        site.install("acme", "1.0", specs={"glow": "acme:glow"})
        other.install("acme", "2.0", specs={"glow": "acme:glow"})
        rows = [(entry.plugin.version, entry.state) for entry in catalog.plugins() if entry.plugin.dist == "acme"]
        assert rows == [("1.0", "available"), ("2.0", "duplicate")]
        assert f"acme 1.0 in {site.path} stands before it" in [entry.note for entry in catalog.plugins()]

    def test_metadata_without_the_plugin_shadows_later_metadata_that_has_it(self, site, other):
        site.install("acme", "2.0", specs={})
        other.install("acme", "1.0", specs={"glow": "acme:glow"})
        text = message(PluginNotFoundError, find, SPECS, "glow")
        assert "acme 1.0 offers it, and other metadata of acme stands before that" in text

    @pytest.mark.parametrize(
        "left", ["nothing", "no name", "another name", "another version", "no UTF-8", "entry points"]
    )
    @pytest.mark.parametrize("beside", [True, False])
    def test_what_a_broken_installation_left_does_not_stand_before_what_is_whole(self, site, other, left, beside):
        header = "Metadata-Version: 2.1\nName: {}\nVersion: {}\n"
        metadata = {
            "nothing": " ",
            "no name": "Metadata-Version: 2.1\nVersion: 9.0\n",
            "another name": header.format("another", "9.0"),
            "another version": header.format("acme", "8.0"),
            "no UTF-8": b"\xff\xfe\x00",
            "entry points": header.format("acme", "9.0"),
        }[left]
        points = b"[nectargan.loss_specs]\nglow = acme:\xff" if left == "entry points" else b""
        site.install("acme", "9.0", metadata=metadata, entry_points=points)
        (site if beside else other).install("acme", "1.0", specs={"glow": "acme:glow"})
        assert str(find(SPECS, "glow")) == "glow (acme 1.0, acme:glow)"

    def test_an_empty_directory_does_not_stand_before_what_is_whole(self, site, other):
        (site.path / "acme-9.0.dist-info").mkdir()
        other.install("acme", "1.0", specs={"glow": "acme:glow"})
        assert str(find(SPECS, "glow")) == "glow (acme 1.0, acme:glow)"

    @pytest.mark.parametrize("folder", ["acme-1.0-py3.11.egg-info", "acme.egg-info", "acme-1.0.0.dist-info"])
    def test_a_directory_may_write_the_version_otherwise_or_not_at_all(self, site, other, folder):
        site.install("acme", "1.0", specs={"glow": "acme:first"}, folder=folder)
        other.install("acme", "2.0", specs={"glow": "acme:second"})
        assert find(SPECS, "glow").target == "acme:first"

    def test_the_version_of_core_is_not_that_of_an_empty_directory(self, site, monkeypatch):
        (site.path / "nectargan_core-0.0.1.dist-info").mkdir()
        version = core_version()
        monkeypatch.setattr(sys, "path", [str(site.path), *sys.path])
        assert core_version() == version != "0.0.1"

    def test_a_link_to_the_same_directory_is_not_listed_as_a_duplicate(self, site, tmp_path, monkeypatch):
        site.install("acme", specs={"glow": "acme:glow"})
        (tmp_path / "lib64").symlink_to(site.path)
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "lib64")])
        catalog.refresh()
        assert states("glow") == {"acme": "available"}
        assert len([entry for entry in catalog.plugins() if entry.plugin.name == "glow"]) == 1

    @pytest.mark.parametrize("folder", ["acme.egg-info", "acme-3.0.egg-info"])
    def test_an_installation_is_used_before_an_egg_info_beside_it(self, site, folder):
        site.install("acme", "3.0", specs={"glow": "acme:stale"}, folder=folder)
        site.install("acme", "1.0", specs={"glow": "acme:glow"})
        assert find(SPECS, "glow").target == "acme:glow"

    def test_of_two_installations_in_one_place_the_later_version_is_used(self, site):
        for version in ("1.9", "1.10", "1.2"):
            site.install("acme", version, specs={"glow": f"acme:v{version.replace('.', '_')}"})
        assert find(SPECS, "glow").version == "1.10"

    def test_an_invalid_version_is_earlier_than_any(self, site):
        site.install("acme", "0.1", specs={"glow": "acme:glow"})
        site.install("acme", "latest", specs={"glow": "acme:latest"})
        assert find(SPECS, "glow").version == "0.1"

    def test_a_shadowed_entry_point_does_not_make_a_name_ambiguous(self, site, other):
        site.install("acme", "2.0", specs={})
        other.install("acme", "1.0", specs={"glow": "acme:glow"})
        site.install("beta", specs={"glow": "beta:glow"})
        assert find(SPECS, "glow").dist == "beta"


class Packed(importlib.metadata.Distribution):
    """A distribution without a directory, as in programs that pack Python into one file."""

    def read_text(self, filename):
        return {
            "METADATA": "Metadata-Version: 2.1\nName: packed\nVersion: 4.0\n",
            "entry_points.txt": f"[{SPECS}]\nglow = packed:glow\n",
        }.get(filename)

    def locate_file(self, path):
        raise NotImplementedError

    @classmethod
    def find_spec(cls, *arguments):
        return None

    @classmethod
    def find_distributions(cls, context):
        return [cls()] if context.name in (None, "packed") else []


def test_a_distribution_without_a_directory_is_found(site, monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Packed])
    catalog.refresh()
    assert str(find(SPECS, "glow")) == "glow (packed 4.0, packed:glow)"


class TestReservedNames:
    def test_a_reserved_name_finds_the_schedule_of_core(self, site):
        site.install("acme", schedules={"linear": "acme:linear"})
        assert find(SCHEDULES, "linear").target == "nectargan_core.schedules:linear"

    def test_a_plugin_with_a_reserved_name_is_found_with_its_provider(self, site):
        site.install("acme", schedules={"linear": "acme:linear"})
        assert find(SCHEDULES, "linear", "acme").target == "acme:linear"

    def test_a_plugin_with_a_reserved_name_is_listed_as_reserved(self, site):
        import nectargan_core.schedules  # noqa: F401 # so that core's own is loaded

        site.install("acme", schedules={"linear": "acme:linear"})
        assert states("linear") == {"nectargan-core": "loaded", "acme": "reserved"}

    def test_a_provider_setting_does_not_apply_to_a_reserved_name(self, site):
        site.install("acme", schedules={"linear": "acme:linear"})
        catalog.configure(providers={"linear": "acme"})
        assert find(SCHEDULES, "linear").dist == "nectargan-core"

    @pytest.mark.parametrize("settings", [{"plugins": []}, {"block": ["linear", "nectargan-core"]}])
    def test_no_setting_blocks_them(self, site, settings):
        catalog.configure(**settings)
        assert callable(find(SCHEDULES, "linear").load())
        assert callable(find(SCHEDULES, "exponential").load())

    def test_they_are_found_without_metadata_of_core(self, alone, monkeypatch):
        monkeypatch.setattr(sys, "path", [path for path in sys.path if not any(Path(path or ".").glob("*.dist-info"))])
        assert callable(find(SCHEDULES, "linear").load())
        assert states("exponential") == {"nectargan-core": "loaded"}

    def test_the_names_are_reserved_among_schedules_only(self, site):
        site.install("acme", specs={"linear": "acme:linear"})
        assert find(SPECS, "linear").dist == "acme"


class TestMisnamedGroups:
    @pytest.mark.parametrize(
        ("group", "nearest"),
        [
            ("nectargan.loss_spec", SPECS),
            ("nectargan.losses", SPECS),
            ("nectargan_loss_specs", SPECS),
            ("NectarGAN.loss_specs", SPECS),
            ("nectargan.loss-specs", SPECS),
            ("nectargan-schedules", SCHEDULES),
            ("nectargan_core.schedules", SCHEDULES),
            ("nectargan.scheduler", SCHEDULES),
            ("NECTARGAN.WEIGHTING", WEIGHTINGS),
        ],
    )
    def test_one_is_listed_with_the_nearest_group(self, site, group, nearest):
        site.install("acme", entry_points=f"[{group}]\nglow = acme:glow\n")
        (entry,) = (entry for entry in catalog.plugins() if entry.plugin.name == "glow")
        assert (entry.state, entry.plugin.group) == ("misnamed", group)
        assert entry.note == (
            f"is in the entry point group {group!r}, in which nothing is looked up; the nearest group is {nearest!r}; "
            "report it to the authors of acme"
        )

    def test_where_none_is_near_all_groups_are_named(self, site):
        site.install("acme", entry_points="[nectargan.callables]\nglow = acme:glow\n")
        (entry,) = (entry for entry in catalog.plugins() if entry.plugin.name == "glow")
        assert f"the groups are {SPECS}, {SCHEDULES}, {WEIGHTINGS}, {OBSERVERS};" in entry.note

    @pytest.mark.parametrize("group", ["console_scripts", "acme.nectargan.loss_spec", "nectar"])
    def test_a_group_of_others_is_not_listed(self, site, group):
        site.install("acme", entry_points=f"[{group}]\nglow = acme:nectargan\n")
        assert "glow" not in [entry.plugin.name for entry in catalog.plugins()]

    def test_it_is_in_the_list_of_no_group(self, site):
        site.install("acme", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        assert "glow" not in [entry.plugin.name for entry in catalog.plugins(SPECS)]

    def test_a_setting_blocks_it(self, site, monkeypatch):
        site.install("acme", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "acme")
        assert states("glow") == {"acme": "blocked"}

    def test_a_name_that_exists_there_only_is_an_error_that_says_so(self, site):
        site.install("acme", "1.2", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        says = message(PluginNotFoundError, find, SPECS, "glow")
        assert "; that of acme 1.2 is in the entry point group 'nectargan.loss_spec', in which nothing is" in says
        assert "the nearest group is 'nectargan.loss_specs'; report it to the authors of acme." in says
        assert "acme 1.2" in message(PluginNotFoundError, find, SPECS, "glow", "acme")
        assert "acme 1.2" not in message(PluginNotFoundError, find, SPECS, "glow", "beta")

    def test_a_plugin_of_the_same_name_in_a_right_group_is_found(self, site):
        site.install("acme", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        site.install("beta", specs={"glow": "beta:glow"})
        assert find(SPECS, "glow").dist == "beta"

    def test_loading_it_is_an_error_and_imports_nothing(self, site):
        site.install("acme", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n", modules={"acme.py": "1/0"})
        (entry,) = (entry for entry in catalog.plugins() if entry.plugin.name == "glow")
        assert "in which nothing is looked up" in message(PluginLoadError, entry.plugin.load)
        assert "acme" not in sys.modules

    def test_metadata_that_does_not_count_is_a_duplicate(self, site):
        site.install("acme", "2.0")
        site.install("acme", "1.0", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        assert states("glow") == {"acme": "duplicate"}


class TestBlocking:
    @pytest.fixture(autouse=True)
    def installed(self, site):
        site.install_spec("acme-glow", "glow")
        site.install_spec("beta", "shine")

    @pytest.mark.parametrize("listed", ["glow", "acme-glow", "Acme_Glow", " x , glow,"])
    def test_the_block_list_names_plugins_or_distributions(self, monkeypatch, listed):
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", listed)
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")
        assert find(SPECS, "shine").dist == "beta"

    @pytest.mark.parametrize("listed", ["shine", "beta", "BETA", "shine,x"])
    def test_the_allow_list_names_plugins_or_distributions(self, monkeypatch, listed):
        monkeypatch.setenv("NECTARGAN_PLUGINS", listed)
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")
        assert find(SPECS, "shine").dist == "beta"

    def test_an_empty_allow_list_leaves_none_but_cores_own(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_PLUGINS", "")
        usable = [entry.plugin.dist for entry in catalog.plugins() if entry.state != "blocked"]
        assert set(usable) == {"nectargan-core"}

    def test_an_empty_block_list_blocks_nothing(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "")
        assert find(SPECS, "glow").dist == "acme-glow"

    def test_the_names_of_plugins_are_matched_exactly(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "Glow")
        assert find(SPECS, "glow").dist == "acme-glow"

    def test_blocking_overrides_allowing(self):
        catalog.configure(plugins=["glow"], block=["glow"])
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")

    def test_the_error_names_the_block_list(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        assert message(PluginBlockedError, find, SPECS, "glow") == (
            'loss spec glow (acme-glow 1.0, acme_glow:glow) is blocked by NECTARGAN_BLOCK_PLUGINS="glow"; take it '
            "out of that setting to use it"
        )

    def test_the_error_names_the_allow_list(self, monkeypatch):
        monkeypatch.setenv("NECTARGAN_PLUGINS", "shine")
        text = message(PluginBlockedError, find, SPECS, "glow")
        assert 'NECTARGAN_PLUGINS="shine", which does not list it; add glow or acme-glow' in text

    def test_the_error_names_the_setting_in_code(self):
        catalog.configure(block=["glow", "x"])
        assert 'catalog.configure(block="glow,x")' in message(PluginBlockedError, find, SPECS, "glow")

    def test_a_provider_in_the_name_does_not_override_blocking(self):
        catalog.configure(block=["acme-glow"])
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow", "acme-glow")

    def test_a_plugin_that_was_found_before_it_was_blocked_is_not_loaded(self):
        plugin = find(SPECS, "glow")
        catalog.configure(block=["glow"])
        with pytest.raises(PluginBlockedError):
            plugin.load()
        assert "acme_glow" not in sys.modules

    def test_settings_are_read_at_each_use(self, monkeypatch):
        find(SPECS, "glow")
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")
        monkeypatch.delenv("NECTARGAN_BLOCK_PLUGINS")
        assert find(SPECS, "glow").dist == "acme-glow"

    def test_if_all_distributions_that_offer_a_name_are_blocked_each_is_named(self, site):
        site.install_spec("gamma", "glow")
        catalog.configure(block=["gamma", "acme-glow"])
        text = message(PluginBlockedError, find, SPECS, "glow")
        assert text.count("blocked by") == 2
        assert "gamma 1.0" in text

    def test_it_is_listed_with_the_setting(self):
        catalog.configure(block=["glow"])
        (row,) = [entry for entry in catalog.plugins() if entry.plugin.name == "glow"]
        assert row.state == "blocked"
        assert row.note.startswith('blocked by catalog.configure(block="glow")')


class TestConfigure:
    def test_a_setting_in_code_overrides_the_environment(self, site, monkeypatch):
        site.install("acme", specs={"glow": "acme:glow"})
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        catalog.configure(block=[])
        assert find(SPECS, "glow").dist == "acme"

    def test_none_goes_back_to_the_environment(self, site, monkeypatch):
        site.install("acme", specs={"glow": "acme:glow"})
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        catalog.configure(block=[])
        catalog.configure(block=None)
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")

    def test_a_setting_that_is_not_given_is_unchanged(self, site):
        site.install("acme", specs={"glow": "acme:glow"})
        catalog.configure(block=["glow"])
        catalog.configure(providers={"x": "y"})
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")

    def test_a_string_is_read_as_the_environment_variable_is(self, site):
        site.install("acme", specs={"glow": "acme:glow"})
        catalog.configure(block="x,glow")
        with pytest.raises(PluginBlockedError):
            find(SPECS, "glow")

    @pytest.mark.parametrize("providers", ["glow", "glow=", "=acme", "glow=acme,shine"])
    def test_providers_must_pair_names_with_distributions(self, site, monkeypatch, providers):
        with pytest.raises(ConfigError):
            catalog.configure(providers=providers)
        monkeypatch.setenv("NECTARGAN_PROVIDERS", providers)
        with pytest.raises(ConfigError, match="NECTARGAN_PROVIDERS"):
            find(SCHEDULES, "linear")

    def test_a_refused_setting_changes_nothing(self, site):
        site.install("acme", specs={"glow": "acme:glow"})
        with pytest.raises(ConfigError):
            catalog.configure(block=["glow"], providers="glow")
        assert find(SPECS, "glow").dist == "acme"


class TestNotFound:
    def test_it_names_close_matches_among_what_is_installed(self, alone):
        alone.install("acme", specs={"glowing": "acme:glow"})
        assert 'Did you mean "glowing"?' in message(PluginNotFoundError, find, SPECS, "glowin")

    @pytest.mark.parametrize(("name", "command"), [("vgg", "nectargan-vgg"), ("pix2pix", "nectargan-pix2pix")])
    def test_it_says_how_a_first_party_spec_is_installed(self, alone, name, command):
        assert f"pip install {command}." in message(PluginNotFoundError, find, SPECS, name)

    def test_it_says_how_a_first_party_schedule_is_installed(self, alone):
        text = message(UnknownScheduleError, find, SCHEDULES, "cosine-restarts")
        assert "it comes with nectargan-schedules: pip install nectargan-schedules." in text

    def test_it_does_not_suggest_a_distribution_for_an_unknown_name(self, alone):
        assert "pip install" not in message(PluginNotFoundError, find, SPECS, "acme")

    def test_it_says_to_upgrade_a_first_party_distribution_that_lacks_the_name(self, alone):
        alone.install("nectargan-schedules", "0.0.1", schedules={"cosine": "nectargan_schedules:cosine"})
        text = message(UnknownScheduleError, find, SCHEDULES, "product")
        assert "nectargan-schedules 0.0.1 is installed without it: pip install --upgrade nectargan-schedules" in text

    def test_it_says_which_interpreter_was_searched(self, alone):
        assert f"installed for {sys.executable}" in message(PluginNotFoundError, find, SPECS, "acme")

    @pytest.mark.parametrize(("asked", "installed"), [("VGG2", "vgg2"), ("a_b_c_d", "a-b-c-d"), ("x.y", "x-Y")])
    def test_a_name_that_differs_by_case_or_separator_is_not_matched_but_suggested(self, alone, asked, installed):
        alone.install("acme", specs={installed: "acme:glow"})
        text = message(PluginNotFoundError, find, SPECS, asked)
        assert f"names are matched exactly, and '{installed}' is installed" in text

    def test_it_says_that_the_name_is_in_the_other_group(self, alone):
        alone.install("acme", schedules={"glow": "acme:glow"})
        assert "'glow' is a schedule of acme 1.0" in message(PluginNotFoundError, find, SPECS, "glow")
        assert "'cosine' is a schedule of nectargan-schedules" in message(PluginNotFoundError, find, SPECS, "cosine")

    def test_it_says_that_a_misspelt_first_party_plugin_is_not_installed(self, alone):
        text = message(PluginNotFoundError, find, SPECS, "laplasian")
        assert "'laplacian' comes with nectargan-laplacian: pip install nectargan-laplacian" in text

    def test_it_lists_what_is_installed_where_nothing_is_close(self, alone):
        alone.install("acme", specs={"glow": "acme:glow", "shine": "acme:shine"})
        assert "; installed are glow, shine." in message(PluginNotFoundError, find, SPECS, "qqqq")

    def test_it_does_not_list_an_entry_point_without_a_name(self, alone):
        alone.install("acme", specs={"": "acme:glow", "shine": "acme:shine"})
        assert "; installed are shine." in message(PluginNotFoundError, find, SPECS, "qqqq")

    def test_it_lists_at_most_twenty_names(self, alone):
        alone.install("acme", specs={f"glow-{number:02}": "acme:glow" for number in range(25)})
        text = message(PluginNotFoundError, find, SPECS, "qqqq")
        assert "glow-19 and 5 more." in text
        assert "glow-20" not in text

    def test_it_says_that_none_is_installed(self, alone):
        assert "; none is installed at all." in message(PluginNotFoundError, find, SPECS, "qqqq")

    def test_it_says_that_the_provider_is_not_installed(self, alone):
        alone.install("acme", specs={"glow": "acme:glow"})
        text = message(PluginNotFoundError, find, SPECS, "glow", "beta")
        assert "'beta/glow'" in text
        assert "beta is not installed; it is offered by acme 1.0" in text

    def test_it_says_that_the_provider_does_not_offer_it(self, alone):
        alone.install("acme", "2.1", specs={"glow": "acme:glow"})
        assert "acme is installed in version 2.1, without it" in message(
            PluginNotFoundError, find, SPECS, "shine", "acme"
        )

    def test_it_says_that_it_was_installed_after_the_metadata_was_read(self, alone, monkeypatch):
        catalog.plugins()
        monkeypatch.setattr(catalog, "refresh", lambda: None)  # `install` would call it
        alone.install("acme", "2.1", specs={"glow": "acme:glow"})
        text = message(PluginNotFoundError, find, SPECS, "glow")
        assert "acme 2.1 offers it since this process first looked: call catalog.refresh()" in text

    def test_a_schedule_is_an_unknown_schedule_error(self, alone):
        with pytest.raises(UnknownScheduleError) as caught:
            find(SCHEDULES, "glow")
        assert isinstance(caught.value, KeyError)
        assert (caught.value.group, caught.value.name) == (SCHEDULES, "glow")


class TestLoading:
    def test_load_returns_the_target_of_the_entry_point(self, site):
        site.install_spec("acme", "glow")
        assert find(SPECS, "glow").load() is sys.modules["acme"].glow

    def test_an_attribute_may_be_nested(self, site):
        source = "class Box:\n    @staticmethod\n    def glow(config): ...\n"
        site.install("acme", specs={"glow": "acme:Box.glow"}, modules={"acme.py": source})
        assert find(SPECS, "glow").load() is sys.modules["acme"].Box.glow

    def test_a_module_is_executed_once_for_many_threads(self, site):
        source = "from acme_count import count\ncount.append(1)\nsum(range(1_000_000))\ndef glow(config): ...\n"
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source, "acme_count.py": "count = []"})
        loaded = self.in_threads(lambda: find(SPECS, "glow").load())
        assert len(loaded) == 8
        assert len(set(loaded)) == 1
        assert sys.modules["acme_count"].count == [1]

    def test_a_module_that_fails_is_executed_once_for_many_threads(self, site):
        source = "from acme_count import count\ncount.append(1)\nsum(range(1_000_000))\nraise ValueError\n"
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source, "acme_count.py": "count = []"})

        def attempt():
            with pytest.raises(PluginLoadError):
                find(SPECS, "glow").load()

        self.in_threads(attempt)
        assert sys.modules["acme_count"].count == [1]

    def test_many_threads_read_the_installed_metadata_once(self, site, monkeypatch):
        readings = []
        monkeypatch.setattr(
            _lookup, "Installed", lambda *arguments, read=_lookup.Installed: readings.append(1) or read(*arguments)
        )
        catalog.refresh()
        self.in_threads(lambda: find(SCHEDULES, "linear"))
        assert readings == [1]

    @staticmethod
    def in_threads(call):
        barrier, results = threading.Barrier(8), []

        def run():
            barrier.wait()
            results.append(call())

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 8
        return results

    def test_a_failure_is_remembered_until_refresh(self, site):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": "raise ValueError('not yet')"})
        with pytest.raises(PluginLoadError):
            find(SPECS, "glow").load()
        site.path.joinpath("acme.py").write_text("def glow(config): ...\n# repaired, and of another length")
        with pytest.raises(PluginLoadError, match=r"not yet.*catalog\.refresh\(\) tries again"):
            find(SPECS, "glow").load()
        catalog.refresh()
        assert find(SPECS, "glow").load().__name__ == "glow"

    def test_a_package_that_failed_during_its_import_can_be_imported_after_a_repair(self, site):
        modules = {
            "acme/__init__.py": "import acme.first\nimport acme.second\ndef glow(config): return acme.first.VALUE",
            "acme/first.py": "VALUE = {}",
            "acme/second.py": "raise ValueError('broken')",
        }
        site.install("acme", specs={"glow": "acme:glow"}, modules=modules)
        with pytest.raises(PluginLoadError):
            find(SPECS, "glow").load()
        assert not [name for name in sys.modules if name.partition(".")[0] == "acme"]
        site.path.joinpath("acme/second.py").write_text("# repaired")
        catalog.refresh()
        assert find(SPECS, "glow").load()(None) == {}

    def test_a_failed_import_does_not_remove_modules_of_packages_that_work(self, site):
        modules = {
            "acme/__init__.py": "",
            "acme/sound.py": "def shine(config): ...",
            "acme/broken.py": "import acme.dependency\nraise ValueError",
            "acme/dependency.py": "",
        }
        site.install("acme", specs={"glow": "acme.broken:glow", "shine": "acme.sound:shine"}, modules=modules)
        find(SPECS, "shine").load()
        with pytest.raises(PluginLoadError):
            find(SPECS, "glow").load()
        assert {"acme", "acme.sound", "acme.dependency"} <= set(sys.modules)

    def test_an_interrupt_passes_and_is_not_remembered(self, site):
        modules = {
            "acme.py": "import acme_state\nif not acme_state.calls.append(1) and len(acme_state.calls) == 1:\n"
            "    raise KeyboardInterrupt\ndef glow(config): ...\n",
            "acme_state.py": "calls = []",
        }
        site.install("acme", specs={"glow": "acme:glow"}, modules=modules)
        with pytest.raises(KeyboardInterrupt):
            find(SPECS, "glow").load()
        assert callable(find(SPECS, "glow").load())

    def test_a_plugin_that_looks_itself_up_while_imported_is_an_error_not_a_deadlock(self, site):
        source = "from nectargan_core import catalog\ncatalog.find(catalog.SPECS, 'glow').load()\ndef glow(config): ..."
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        with pytest.raises(PluginLoadError):
            find(SPECS, "glow").load()

    def test_a_loaded_plugin_is_listed_as_loaded(self, site):
        site.install_spec("acme", "glow")
        assert states("glow") == {"acme": "available"}
        find(SPECS, "glow").load()
        assert states("glow") == {"acme": "loaded"}

    def test_a_plugin_that_failed_to_load_is_listed_as_broken(self, site):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": "raise ValueError('no')"})
        assert states("glow") == {"acme": "available"}
        with pytest.raises(PluginLoadError):
            find(SPECS, "glow").load()
        assert states("glow") == {"acme": "broken"}

    def test_listing_does_not_call_the_getattr_of_a_module(self, site):
        source = "def __getattr__(name):\n    raise AssertionError(name)"
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        __import__("acme")
        assert states("glow") == {"acme": "available"}


class TestContract:
    @pytest.mark.parametrize(
        "source",
        [
            "def glow(config): ...",
            "def glow(config, subspec='a'): ...",
            "def glow(config, subspec): ...",
            "def glow(config, *, subspec='a'): ...",
            "def glow(*args, **kwargs): ...",
            "def glow(config, *, depth=3): ...",
            "class glow:\n    def __init__(self, config): ...",
            "import functools\nglow = functools.partial(lambda a, config: {}, 1)",
            "glow = dict.fromkeys",
            "class Glow:\n    def __call__(self, config): ...\nglow = Glow()",
            "def glow(config): ...\nglow.__signature__ = 3",
        ],
    )
    def test_a_spec_takes_a_config(self, site, source):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert callable(find(SPECS, "glow").load())

    @pytest.mark.parametrize(
        ("source", "part"),
        [
            ("def glow(): ...", r"and takes \(\)"),
            ("def glow(config, subspec, depth): ...", r"and takes \(config, subspec, depth\)"),
            ("def glow(config, depth): ...", r"and takes \(config, depth\)"),
            ("def glow(config, *, depth): ...", r"must be callable with \(config\) or \(config, subspec\)"),
            ("glow = {}", "is a dict, not a loss spec"),
            ("glow = None", "is a NoneType, not a loss spec"),
        ],
    )
    def test_a_callable_that_does_not_take_just_a_config_is_refused_as_a_spec(self, site, source, part):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        with pytest.raises(PluginContractError, match=part) as caught:
            find(SPECS, "glow").load()
        assert (caught.value.dist, caught.value.version, caught.value.name) == ("acme", "1.0", "glow")

    def test_a_module_is_refused_as_a_spec(self, site):
        site.install("acme", specs={"glow": "acme"}, modules={"acme.py": ""})
        with pytest.raises(PluginContractError, match="is a module, not a loss spec"):
            find(SPECS, "glow").load()

    @pytest.mark.parametrize(
        "source",
        [
            "def glow(schedule, epoch): ...",
            "def glow(s, e, points): ...",
            "def glow(s, e, *, at): ...",
            "def glow(*args): ...",
        ],
    )
    def test_a_schedule_takes_a_schedule_and_an_epoch(self, site, source):
        site.install("acme", schedules={"glow": "acme:glow"}, modules={"acme.py": source})
        assert callable(find(SCHEDULES, "glow").load())

    @pytest.mark.parametrize("source", ["def glow(epoch): ...", "def glow(s, *, epoch): ...", "glow = 0.5"])
    def test_a_callable_without_schedule_and_epoch_is_refused_as_a_schedule(self, site, source):
        site.install("acme", schedules={"glow": "acme:glow"}, modules={"acme.py": source})
        with pytest.raises(PluginContractError, match=r"must be callable with \(schedule, epoch\)"):
            find(SCHEDULES, "glow").load()


class TestTheRangeOfCore:
    @pytest.fixture(autouse=True)
    def core(self, site):
        site.install("nectargan-core", "0.5.0")

    @pytest.mark.parametrize(
        "requirement",
        [
            "nectargan-core",
            "nectargan-core>=0.1",
            "Nectargan_Core (>=0.5,<0.6)",
            "nectargan-core<0.1; extra == 'old'",
            "nectargan-core<0.1; python_version < '3'",
            "nectargan-core-extras<0.1",
            "nectargan-core @ file:///nowhere",
            "nectargan-core ~~ 1",
        ],
    )
    def test_a_plugin_for_this_version_of_core_has_no_note(self, site, requirement):
        site.install("acme", specs={"glow": "acme:glow"}, requires=["torch", requirement])
        assert [entry.note for entry in catalog.plugins() if entry.plugin.name == "glow"] == [""]

    def test_a_plugin_for_another_version_of_core_has_a_note_without_being_imported(self, site):
        site.install("acme", specs={"glow": "acme:glow"}, requires=["nectargan-core<0.5,>=0.1"])
        (row,) = [entry for entry in catalog.plugins() if entry.plugin.name == "glow"]
        assert row.state == "available"
        assert row.note == "acme 1.0 is for nectargan-core<0.5,>=0.1, and this is 0.5.0"

    def test_its_load_error_begins_with_the_note(self, site):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": "1/0"}, requires=["nectargan-core<0.5"])
        with pytest.raises(PluginLoadError, match=r"^acme 1\.0 is for nectargan-core<0\.5, and this is 0\.5\.0; "):
            find(SPECS, "glow").load()

    def test_a_pre_release_of_core_is_in_the_range_of_its_release_line(self, site):
        site.install("nectargan-core", "0.6.0rc1")
        site.install("acme", specs={"glow": "acme:glow"}, requires=["nectargan-core>=0.5,<0.7"])
        assert [entry.note for entry in catalog.plugins() if entry.plugin.name == "glow"] == [""]


class TestTaken:
    def test_a_name_that_nobody_has_is_free(self, site):
        assert catalog.taken(SPECS, "glow") == ""

    @pytest.mark.parametrize("name", ["glow", "Glow", "GLOW"])
    def test_an_installed_name_is_taken_however_it_is_spelt(self, site, name):
        site.install_spec("acme", "glow")
        assert catalog.taken(SPECS, name) == "the loss spec 'glow' is offered by acme 1.0, which is installed"

    def test_a_name_of_one_group_is_free_in_another(self, site):
        site.install_spec("acme", "glow")
        assert catalog.taken(SCHEDULES, "glow") == ""

    def test_a_blocked_plugin_has_its_name_all_the_same(self, site):
        site.install_spec("acme", "glow")
        catalog.configure(block=["acme"])
        assert "acme 1.0" in catalog.taken(SPECS, "glow")

    @pytest.mark.parametrize("name", ["glow-x", "Glow_X", "glow.x"])
    def test_a_distribution_that_would_have_the_same_name_takes_it(self, site, name):
        site.install("nectargan_glow.x")
        assert catalog.taken(SPECS, name) == "the distribution nectargan_glow.x is installed"

    @pytest.mark.parametrize("group", [SPECS, SCHEDULES])
    def test_the_distributions_of_this_project_are_taken_installed_or_not(self, alone, group):
        assert catalog.taken(group, "core") == "nectargan-core is a distribution of this project"
        assert catalog.taken(group, "vgg") == "nectargan-vgg is a distribution of this project"

    def test_the_names_of_this_project_are_taken_installed_or_not(self, alone):
        assert catalog.taken(SCHEDULES, "one_cycle").startswith(
            "the schedule 'one-cycle' comes with nectargan-schedules"
        )


def test_errors_keep_their_message_when_pickled(site):
    site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": "1/0"})
    with pytest.raises(PluginLoadError) as caught:
        find(SPECS, "glow").load()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert str(copy) == str(caught.value)
