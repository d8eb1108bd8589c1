"""Broken plugins, each a real installed distribution: each causes an error only where it is used."""

import json
import sys
import warnings

import pytest
import torch

from nectargan_core import LossManager, Schedule, catalog
from nectargan_core.errors import (
    AmbiguousPluginError,
    NectarganError,
    NectarganWarning,
    PluginContractError,
    PluginLoadError,
    PluginNotFoundError,
    SpecError,
)

HEAD = "import torch\nfrom nectargan_core import LMLoss, hookimpl\n"

# name: the module of the distribution "bad", the error when it is used, and a part of the message beside the
# distribution, its version and the entry point.
ZOO = {
    "import-error": ("raise ImportError('half an import')", PluginLoadError, "ImportError: half an import"),
    "any-exception": ("1 / 0", PluginLoadError, "ZeroDivisionError: division by zero"),
    "syntax-error": ("def bad(:\n", PluginLoadError, "SyntaxError: invalid syntax"),
    "missing-dependency": (
        "import not_to_be_found.part",
        PluginLoadError,
        "it needs the module 'not_to_be_found', which is not installed",
    ),
    "missing-part-of-itself": (
        "import bad.part",
        PluginLoadError,
        "there is no module 'bad.part'; reinstall",
    ),
    "sys-exit": ("import sys; sys.exit(3)", PluginLoadError, "it calls sys.exit(3)"),
    "base-exception": ("raise GeneratorExit", PluginLoadError, "GeneratorExit"),
    "evil-exception": (
        "class Evil(Exception):\n    def __str__(self): raise self\nraise Evil",
        PluginLoadError,
        "cannot be imported: Evil;",
    ),
    "long-exception": ("raise ValueError('many\\n' * 999 + 'x' * 9999)", PluginLoadError, "ValueError: many;"),
    "pointing-at-no-attribute": ("", PluginLoadError, "bad has no 'bad'; correct its entry point 'bad:bad'"),
    "wrong-type": ("bad = {'L': 1}", PluginContractError, "is a dict, not a loss spec"),
    "wrong-signature": ("def bad(a, b, c): ...", PluginContractError, "and takes (a, b, c)"),
    "returning-none": ("def bad(config): ...", PluginContractError, "NoneType"),
    "returning-a-list": (
        HEAD + "def bad(config): return [LMLoss(name='L', function=torch.nn.L1Loss())]",
        PluginContractError,
        "list",
    ),
    "returning-functions": (
        HEAD + "def bad(config): return {'L': torch.nn.L1Loss()}",
        PluginContractError,
        "L1Loss",
    ),
    "key-unlike-name": (
        HEAD + "def bad(config): return {'K': LMLoss(name='L', function=torch.nn.L1Loss())}",
        PluginContractError,
        "'K'",
    ),
    "raising-when-called": ("def bad(config): raise KeyError('lambda_bad')", SpecError, "KeyError: 'lambda_bad'"),
    "unknown-hook": (
        HEAD
        + "@hookimpl\ndef nectargan_losses_bilt(spec): ...\n"
        + "def bad(config): return {'L': LMLoss(name='L', function=torch.nn.L1Loss())}",
        PluginContractError,
        "nectargan_losses_bilt",
    ),
    "unknown-hook-argument": (
        HEAD
        + "@hookimpl\ndef nectargan_losses_built(speck): ...\n"
        + "def bad(config): return {'L': LMLoss(name='L', function=torch.nn.L1Loss())}",
        PluginContractError,
        "speck",
    ),
}


@pytest.fixture
def good(site):
    site.install_spec("good", "good")
    return site


@pytest.mark.parametrize(("source", "kind", "says"), ZOO.values(), ids=ZOO)
class TestEach:
    @pytest.fixture(autouse=True)
    def beside(self, good, source):
        good.install("bad", "6.6.6", specs={"bad": "bad:bad"}, modules={"bad.py": source})

    def test_using_it_is_an_error_that_names_the_plugin_and_the_problem(self, kind, says):
        with pytest.raises(kind) as caught:
            LossManager.from_spec("bad")
        text = str(caught.value)
        assert says in text
        assert "bad (bad 6.6.6, bad:bad)" in text
        assert len(text) < 600
        assert "\n" not in text

    def test_a_manager_that_uses_it_stays_as_it_was(self, kind, says):
        manager = LossManager.from_spec("good")
        with pytest.raises(kind):
            manager.init_from_spec("good+bad")
        with pytest.raises(kind):
            manager.register_spec("bad")
        assert list(manager.get_registered_losses()) == ["good"]
        assert [name for name, _ in manager.hooks.list_name_plugin()] == ["good"]
        assert manager.compute_loss_xy("good", torch.zeros(2), torch.ones(2)) == 1

    def test_other_plugins_work_while_it_is_installed(self, kind, says):
        states = {entry.plugin.name: entry.state for entry in catalog.plugins(catalog.SPECS)}
        assert states["bad"] == "available"
        assert LossManager.from_spec("good").compute_loss_xy("good", torch.zeros(2), torch.ones(2)) == 1
        assert "bad" not in sys.modules


@pytest.mark.parametrize("kind", [PluginLoadError, PluginContractError])
def test_errors_have_their_plugin_as_attributes(good, kind):
    source = {PluginLoadError: "1/0", PluginContractError: "bad = 1"}[kind]
    good.install("bad", "6.6.6", specs={"bad": "bad:bad"}, modules={"bad.py": source})
    with pytest.raises(kind) as caught:
        LossManager.from_spec("bad")
    error = caught.value
    assert (error.group, error.name, error.dist, error.version) == (catalog.SPECS, "bad", "bad", "6.6.6")


@pytest.mark.parametrize(("source", "cause"), [("1/0", ZeroDivisionError), ("raise SystemExit", SystemExit)])
def test_a_load_error_keeps_its_cause_with_the_line_that_raised(good, source, cause):
    good.install("bad", specs={"bad": "bad:bad"}, modules={"bad.py": f"\n\n{source}"})
    with pytest.raises(PluginLoadError) as caught:
        LossManager.from_spec("bad")
    raised = caught.value.__cause__
    assert type(raised) is cause
    trace = raised.__traceback__
    while trace.tb_next:
        trace = trace.tb_next
    assert trace.tb_lineno == 3


@pytest.mark.parametrize("target", ["nowhere:bad", "good.nowhere:bad", "bad-name:bad", "", ":bad", "a:b:c", "..x:y"])
def test_an_entry_point_without_a_target_is_a_load_error(good, target):
    good.install("bad", "6.6.6", specs={"bad": target})
    with pytest.raises(PluginLoadError, match=r"bad 6\.6\.6"):
        LossManager.from_spec("bad")
    assert LossManager.from_spec("good").get_registered_losses()


@pytest.mark.parametrize("target", ["bad-name:bad", "", ":bad", "a:b:c"])
def test_an_entry_point_that_cannot_be_read_is_listed_as_broken(good, target):
    good.install("bad", specs={"bad": target})
    (row,) = [entry for entry in catalog.plugins() if entry.plugin.name == "bad"]
    assert row.state == "broken"
    assert "must be module:attribute" in row.note


def test_a_plugin_is_imported_only_when_it_is_used(good):
    source = "import good_cost\ngood_cost.paid.append(1)\n" + HEAD + "def bad(config): return {}"
    good.install("bad", specs={"bad": "bad:bad"}, modules={"bad.py": source, "good_cost.py": "paid = []"})
    LossManager.from_spec("good")
    catalog.plugins()
    with pytest.raises(PluginNotFoundError):
        LossManager.from_spec("baad")
    assert "bad" not in sys.modules
    LossManager.from_spec("bad")
    assert sys.modules["good_cost"].paid == [1]


def losses_of(*names):
    return HEAD + "".join(
        f"def {name}(config): return {{'{name}': LMLoss(name='{name}', function=torch.nn.L1Loss())}}\n"
        for name in names
    )


def test_two_names_for_one_module_are_two_plugins_and_one_observer(good):
    source = losses_of("one", "two") + (
        "seen = []\n@hookimpl\ndef nectargan_loss_registered(loss): seen.append(loss.name)\n"
    )
    good.install("pair", specs={"one": "pair:one", "two": "pair:two"}, modules={"pair.py": source})
    manager = LossManager.from_spec("one+two")
    assert list(manager.get_registered_losses()) == ["one", "two"]
    assert sys.modules["pair"].seen == ["one", "two"]


def test_one_module_in_both_groups_is_one_observer(good):
    source = losses_of("both") + (
        "seen = []\n@hookimpl\ndef nectargan_loss_registered(loss): seen.append(loss.name)\n"
        "def half(schedule, epoch): return 0.5\n"
    )
    good.install("both", specs={"both": "both:both"}, schedules={"both": "both:half"}, modules={"both.py": source})
    manager = LossManager.from_spec("both", schedules={"both": Schedule(schedule="both", end_epoch=1)})
    assert sys.modules["both"].seen == ["both"]
    assert manager.get_loss_weights() == {"both": 0.5}


def test_hooks_are_active_in_exactly_the_managers_that_loaded_their_plugin(good):
    source = losses_of("heard") + (
        "seen = []\n@hookimpl\ndef nectargan_loss_registered(loss): seen.append(loss.name)\n"
    )
    good.install("heard", specs={"heard": "heard:heard"}, modules={"heard.py": source})
    LossManager.from_spec("heard")
    LossManager.from_spec("good")
    assert sys.modules["heard"].seen == ["heard"]


def test_a_hook_that_raises_is_named_in_a_warning_and_the_other_hooks_are_called(good):
    raising = losses_of("raising") + "@hookimpl\ndef nectargan_losses_built(spec): raise ValueError('no')\n"
    hearing = losses_of("hearing") + "seen = []\n@hookimpl\ndef nectargan_losses_built(spec): seen.append(spec)\n"
    good.install("raising", specs={"raising": "raising:raising"}, modules={"raising.py": raising})
    good.install("hearing", specs={"hearing": "hearing:hearing"}, modules={"hearing.py": hearing})
    with pytest.warns(NectarganWarning, match=r"raising failed to observe nectargan_losses_built: ValueError: no"):
        LossManager.from_spec("hearing+raising")
    with pytest.warns(NectarganWarning, match="ValueError: no"):
        LossManager.from_spec("raising+hearing")
    assert sys.modules["hearing"].seen == ["hearing+raising", "raising+hearing"]


def test_a_name_that_two_distributions_offer_is_an_error_only_when_it_is_used(good):
    good.install_spec("first", "claimed")
    good.install_spec("second", "claimed")
    with pytest.raises(AmbiguousPluginError, match=r"first 1\.0, second 1\.0"):
        LossManager.from_spec("good+claimed")
    assert LossManager.from_spec("good").get_registered_losses()
    assert LossManager.from_spec("first/claimed").get_registered_losses()
    assert "second" not in sys.modules


def test_a_plugin_with_a_reserved_name_does_not_replace_that_of_core(good):
    good.install(
        "thief", schedules={"linear": "thief:linear"}, modules={"thief.py": "def linear(schedule, epoch): return 7.0"}
    )
    decay = {"start_epoch": 0, "end_epoch": 10, "target_value": 0.0}
    manager = LossManager.from_spec("good", schedules={"good": Schedule(schedule="linear", **decay)})
    manager.tick(epoch=5)
    assert manager.get_loss_weights() == {"good": 0.5}
    assert "thief" not in sys.modules
    manager.set_schedule("good", Schedule(schedule="thief/linear", **decay))
    assert manager.get_loss_weights() == {"good": 7.0}


def test_stale_metadata_is_the_same_plugin_as_the_installed_one(good):
    good.install("fresh", "0.9", specs={"fresh": "gone:fresh"}, folder="fresh.egg-info")
    good.install("fresh", "0.8", specs={"fresh": "gone:fresh", "dropped": "gone:dropped"})
    good.install_spec("fresh", "fresh", "1.0")
    assert LossManager.from_spec("fresh").get_registered_losses()
    with pytest.raises(PluginNotFoundError, match="stands before"):
        LossManager.from_spec("dropped")


def test_leftovers_of_an_interrupted_uninstallation_are_ignored(good):
    good.install_spec("fresh", "fresh", "1.0")
    good.install("fresh", "0.9", specs={"fresh": "gone:fresh"}, folder="~resh-0.9.dist-info")
    assert LossManager.from_spec("fresh").get_registered_losses()


def test_metadata_without_its_code_is_an_error_that_says_to_reinstall(good):
    info = good.install_spec("gone", "gone")
    (info.parent / "gone.py").unlink()
    with pytest.raises(
        PluginLoadError, match="there is no module 'gone'; correct its entry point .*, and reinstall or uninstall gone"
    ):
        LossManager.from_spec("gone")


NON_ASCII = {
    "utf-8": "Metadata-Version: 2.1\nName: bunt\nVersion: 1.0\nAuthor: Zoë Müller\n".encode(),
    "latin-1": "Metadata-Version: 2.1\nName: bunt\nVersion: 1.0\nAuthor: Zoë Müller\n".encode("latin-1"),
    "nameless": b"Metadata-Version: 2.1\n",
    "binary": b"\xff\xfe\x00\x00",
}


@pytest.mark.parametrize("metadata", NON_ASCII.values(), ids=NON_ASCII)
def test_metadata_that_is_not_ascii_is_read(good, metadata):
    good.install_spec("bunt", "bunt", metadata=metadata)
    assert LossManager.from_spec("bunt+good").get_registered_losses().keys() == {"bunt", "good"}
    assert LossManager.from_spec("bunt/bunt").get_registered_losses()
    (row,) = [entry for entry in catalog.plugins() if entry.plugin.name == "bunt"]
    assert (row.plugin.dist, row.plugin.version, row.state) == ("bunt", "1.0", "loaded")


def test_a_distribution_without_a_metadata_file_works(good):
    (good.install_spec("bare", "bare") / "METADATA").unlink()
    catalog.refresh()
    assert LossManager.from_spec("bare+good").get_registered_losses().keys() == {"bare", "good"}


def test_names_may_have_letters_of_any_script(good):
    good.install(
        "schatten",
        specs={"Größe": "schatten:groesse"},
        modules={"schatten.py": losses_of("groesse")},
    )
    assert LossManager.from_spec("Größe").get_registered_losses().keys() == {"groesse"}


@pytest.mark.parametrize("entry_points", [b"[nectargan.loss_specs]\nbad = \xff\xfe:x\n", b"\x80" * 99])
def test_entry_points_that_cannot_be_read_are_listed_and_do_not_affect_others(good, entry_points):
    good.install("bad", "6.6.6", entry_points=entry_points)
    assert LossManager.from_spec("good").get_registered_losses()
    (row,) = [entry for entry in catalog.plugins() if entry.plugin.dist == "bad"]
    assert (row.state, row.plugin.version) == ("broken", "6.6.6")
    assert "cannot be read: UnicodeDecodeError" in row.note
    with pytest.raises(PluginNotFoundError, match="the entry points of bad cannot be read"):
        LossManager.from_spec("bad")


def test_an_invalid_line_of_entry_points_does_not_affect_others(good):
    good.install("bad", entry_points="stray\n[nectargan.loss_specs]\nbad\n[[]]\n[other]\nx\n")
    assert LossManager.from_spec("good").get_registered_losses()
    with pytest.raises(PluginLoadError, match=r"must be module:attribute"):
        LossManager.from_spec("bad")


@pytest.mark.parametrize("source", ["def bad(epoch): ...", "bad = 3", "1/0", "import sys; sys.exit()"])
def test_a_bad_schedule_fails_where_a_loss_is_registered_with_it(good, source):
    good.install("bad", "6.6.6", schedules={"bad": "bad:bad"}, modules={"bad.py": source})
    manager = LossManager()
    with pytest.raises((PluginLoadError, PluginContractError), match=r"schedule bad \(bad 6\.6\.6, bad:bad\)"):
        manager.register_loss_fn("L", torch.nn.L1Loss(), schedule=Schedule(schedule="bad", end_epoch=2))
    assert manager.get_registered_losses() == {}


def test_other_plugins_work_while_the_whole_zoo_is_installed(good):
    for number, (source, *_) in enumerate(ZOO.values()):
        module = source.replace("bad(", f"bad{number}(")
        name = f"bad{number}"
        good.install(name, specs={name: f"{name}:{name}", "claimed": f"{name}:claimed"}, modules={f"{name}.py": module})
    good.install("broken", entry_points=b"\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LossManager.from_spec("good").compute_loss_xy("good", torch.zeros(2), torch.ones(2)) == 1
    for number in range(len(ZOO)):
        with pytest.raises(NectarganError):
            LossManager.from_spec(f"bad{number}")
    assert LossManager.from_spec("good").compute_loss_xy("good", torch.zeros(2), torch.ones(2)) == 1


@pytest.mark.slow
def test_the_program_reports_the_whole_zoo_with_a_fix_for_each(good):
    crash = {"dies": "import os; os._exit(0)", "aborts": "import os; os.abort()"}
    # Each process that imports torch takes seconds.
    used = ("returning-none", "raising-when-called")
    zoo = {name: source for name, (source, kind, _) in ZOO.items() if kind is PluginLoadError or name in used}
    for name, source in {**zoo, **crash}.items():
        module = name.replace("-", "_")
        good.install(
            name, specs={name: f"{module}:bad"}, modules={f"{module}.py": source.replace("bad.part", f"{module}.part")}
        )
    good.install_spec("first", "claimed")
    good.install_spec("second", "claimed")
    good.install(
        "noise",
        specs={"noise": "noise:noise"},
        modules={"noise.py": "print('{')\ndef noise(config):\n    'Ünï'\n    return {}"},
    )
    done = good.run("-m", "nectargan_core", "plugins", "--load", "--json")
    assert done.returncode == 1, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {rows[name]["state"] for name in [*zoo, *crash]} == {"broken"}
    for name in (*zoo, *crash):
        assert any(fix in rows[name]["note"] for fix in ("to the authors", "install")), rows[name]
    assert rows["dies"]["note"].startswith("ended Python with exit status 0")
    assert rows["aborts"]["note"].startswith("ended Python by signal SIGABRT")
    assert {rows[name]["state"] for name in ("good", "noise")} == {"loaded"}
    assert rows["noise"]["doc"] == "Ünï"
    assert rows["claimed"]["state"] == "ambiguous"
