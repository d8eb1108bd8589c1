"""When plugins are imported: only when one is used, only that one, and never one that is blocked."""

import json

import pytest

# Runs in a process of its own; prints, for each step, which of the installed plugins it imported.
SCRIPT = """
import contextlib, io, json, os, sys
import importlib_metadata

scans = []
distributions = importlib_metadata.distributions
importlib_metadata.distributions = lambda **kwargs: scans.append(1) or distributions(**kwargs)
steps, known = {}, set()

@contextlib.contextmanager
def step(name, error=None):
    try:
        yield
    except errors.NectarganError as raised:
        assert type(raised) is error, raised
    else:
        assert error is None
    added = sorted(module for module in sys.modules if module.startswith("zoo_"))
    steps[name] = [module for module in added if module not in known]
    known.update(added)

import nectargan_core
with step("import"):
    from nectargan_core import LossManager, Schedule, catalog, errors
steps["scans at import"] = len(scans)

with step("manager"):
    LossManager()
with step("listing"):
    catalog.plugins()
with step("program"), contextlib.redirect_stdout(io.StringIO()):
    from nectargan_core.cli import main
    main(["plugins", "--json"], standalone_mode=False)
with step("finding"):
    catalog.find(catalog.SPECS, "alpha")
with step("not found", errors.PluginNotFoundError):
    LossManager.from_spec("alpah")
with step("ambiguous", errors.AmbiguousPluginError):
    LossManager.from_spec("shared")
with step("one of two not found", errors.PluginNotFoundError):
    LossManager.from_spec("alpha+missing")
os.environ["NECTARGAN_BLOCK_PLUGINS"] = "beta"
with step("blocked", errors.PluginBlockedError):
    LossManager.from_spec("beta")
with step("one of two blocked", errors.PluginBlockedError):
    LossManager.from_spec("alpha+beta")
with step("core's schedule"):
    Schedule(schedule="linear", end_epoch=5, target_value=0.0)
    LossManager().register_loss_fn("L", abs, schedule=Schedule(end_epoch=5, target_value=0.0))
before = len(scans)
with step("asked"):
    LossManager.from_spec("alpha")
with step("asked again"):
    LossManager.from_spec("alpha")
steps["scans when asked"] = len(scans) - before
with step("provider"):
    LossManager.from_spec("zoo-gamma/shared")
with step("schedule"):
    LossManager().register_loss_fn("L", abs, schedule=Schedule(schedule="curve", end_epoch=5))
print(json.dumps(steps))
"""


@pytest.fixture(scope="module")
def steps(make_site, tmp_path_factory):
    site = make_site(tmp_path_factory.mktemp("imports"))
    for letter in ("alpha", "beta"):
        site.install_spec(f"zoo-{letter}", letter)
    for letter in ("gamma", "delta"):
        site.install_spec(f"zoo-{letter}", "shared")
    site.install(
        "zoo-curve",
        schedules={"curve": "zoo_curve:curve"},
        modules={"zoo_curve.py": "def curve(schedule, epoch): return 1.0"},
    )
    site.install("zoo-broken", specs={"broken": "zoo_broken:x"}, modules={"zoo_broken.py": "1/0"})
    done = site.run("-c", SCRIPT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "step",
    [
        "import",
        "manager",
        "listing",
        "program",
        "finding",
        "not found",
        "ambiguous",
        "one of two not found",
        "blocked",
        "one of two blocked",
        "core's schedule",
        "asked again",
    ],
)
def test_no_plugin_is_imported_by(steps, step):
    assert steps[step] == []


@pytest.mark.parametrize(
    ("step", "module"), [("asked", "zoo_alpha"), ("provider", "zoo_gamma"), ("schedule", "zoo_curve")]
)
def test_only_the_plugin_that_is_named_is_imported_by(steps, step, module):
    assert steps[step] == [module]


def test_importing_the_package_scans_no_metadata(steps):
    assert steps["scans at import"] == 0


def test_metadata_is_not_scanned_again_for_a_second_name(steps):
    assert steps["scans when asked"] == 0
