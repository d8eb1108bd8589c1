"""The kit's checks of any installed plugin: its entry point, its metadata, and what importing it does."""

import subprocess
import sys
import textwrap

import pytest

from nectargan_core import catalog
from nectargan_core.testing import _installed as installed
from nectargan_core.testing._outcomes import run_check

METADATA = "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n"
PYTHON = "Requires-Python: >=3.10\n"
CORE = "Requires-Dist: nectargan-core<0.2,>=0.1\n"

# Without torch at the top, which takes seconds to import.
SPEC = """
def glow(config):
    import torch
    from nectargan_core import LMLoss

    return {"G_GLOW": LMLoss(name="G_GLOW", function=torch.nn.L1Loss(), tags=["G"])}
"""


@pytest.fixture
def acme(site):
    """Return a function that installs a plugin and runs one check of it."""

    def check(name, source=SPEC, *, metadata=METADATA + PYTHON + CORE, target="acme:glow", modules=None):
        modules = {"acme.py": textwrap.dedent(source)} if modules is None else modules
        site.install("acme", specs={"glow": target}, modules=modules, metadata=metadata)
        plugin = catalog.find(catalog.SPECS, "glow")
        return run_check(next(each for each in installed.CHECKS if each.name == name), plugin, {})

    return check


def fails(outcome, *texts):
    assert outcome.state == "failed", outcome
    for text in texts:
        assert text in outcome.message


@pytest.mark.parametrize("name", ["entry_point", "metadata", "imports"])
def test_a_sound_plugin_passes(acme, name):
    assert acme(name).state == "passed"


# The entry point


def test_a_module_that_only_the_current_directory_has_is_found(acme, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "acme.py").write_text(SPEC)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend("")
    outcome = acme("entry_point", modules={})
    fails(outcome, "names 'acme:glow', and the installed acme has no module 'acme'", "let the build include")


def test_metadata_that_only_the_current_directory_has_is_found(site, tmp_path, monkeypatch):
    here = tmp_path / "here"
    (here / "acme.egg-info").mkdir(parents=True)
    (here / "acme.egg-info" / "PKG-INFO").write_text(METADATA)
    (here / "acme.egg-info" / "entry_points.txt").write_text("[nectargan.loss_specs]\nglow = acme:glow\n")
    (here / "acme.py").write_text(SPEC)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    catalog.refresh()
    plugin = catalog.find(catalog.SPECS, "glow")
    fails(run_check(installed.CHECKS[0], plugin, {}), "found only from the current directory", "pip install -e .")


def test_a_submodule_that_is_not_installed_is_found(acme):
    outcome = acme("entry_point", modules={"acme/__init__.py": ""}, target="acme.losses:glow")
    fails(outcome, "the installed acme has no module 'acme.losses'")


def test_an_attribute_that_is_not_there_is_found(acme):
    fails(acme("entry_point", target="acme:glwo"), "AttributeError", "'acme:glwo'", "must be module:attribute")


def test_a_dependency_that_is_not_installed_is_found(acme):
    fails(acme("entry_point", "import no_such_module\n"), "needs the module 'no_such_module'", "to the dependencies")


def test_an_import_that_raises_is_found(acme):
    fails(acme("entry_point", "1 / 0\n"), "ZeroDivisionError: division by zero")


@pytest.mark.parametrize("source", ["import sys; sys.exit(3)\n", "raise KeyboardInterrupt\n"])
def test_an_import_that_exits_is_found(acme, source):
    fails(acme("entry_point", source), "cannot be had: ")


def test_an_import_that_ends_the_process_is_found(acme):
    outcome = acme("entry_point", "import os; print('bye', flush=True); os._exit(7)\n")
    fails(outcome, "ended Python with exit status 7, saying 'bye'", "must not end the process")


def test_code_that_was_corrected_is_looked_at_again(acme, site):
    fails(acme("entry_point", "1 / 0\n"), "ZeroDivisionError")
    assert acme("entry_point").state == "passed"


# Metadata


def test_a_missing_requirement_of_core_is_found(acme):
    outcome = acme("metadata", metadata=METADATA + PYTHON)
    fails(outcome, "it does not require nectargan-core", 'write "nectargan-core>=0.1,<0.2" in dependencies')


def test_a_requirement_of_core_for_an_extra_only_is_found(acme):
    line = 'Requires-Dist: nectargan-core<0.2; extra == "all"\n'
    fails(acme("metadata", metadata=METADATA + PYTHON + line), "it does not require nectargan-core")


@pytest.mark.parametrize("requirement", ["nectargan-core", "nectargan_core>=0.1", "nectargan-core!=0.1.5"])
def test_a_requirement_of_core_without_an_upper_bound_is_found(acme, requirement):
    outcome = acme("metadata", metadata=f"{METADATA}{PYTHON}Requires-Dist: {requirement}\n")
    fails(outcome, "without an upper bound")


@pytest.mark.parametrize("requirement", ["nectargan-core~=0.1.0", "nectargan-core==0.1.*", "NectarGAN.core (<0.2)"])
def test_other_ways_to_write_an_upper_bound_are_known(acme, requirement):
    assert acme("metadata", metadata=f"{METADATA}{PYTHON}Requires-Dist: {requirement}\n").state == "passed"


def test_a_requirement_of_another_core_is_found(acme):
    outcome = acme("metadata", metadata=METADATA + PYTHON + "Requires-Dist: nectargan-core<9,>=8\n")
    fails(outcome, "it requires nectargan-core<9,>=8, and this is 0.1")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", "requires-python is missing"),
        ("Requires-Python: <3.9\n", "does not admit this Python"),
        ("Requires-Python: three\n", "cannot be read"),
    ],
)
def test_a_requirement_of_python_that_is_missing_or_wrong_is_found(acme, line, expected):
    fails(acme("metadata", metadata=METADATA + line + CORE), expected)


def test_core_does_not_require_itself():
    assert run_check(installed.CHECKS[1], catalog.find(catalog.SCHEDULES, "linear"), {}).state == "passed"


# What is imported


def test_a_heavy_import_is_found_with_the_reason(acme):
    outcome = acme("imports", "import pandas\n" + SPEC)
    fails(outcome, "imports pandas", "takes a second to import", "import it in the function that uses it")


@pytest.mark.slow
def test_core_imports_nothing_heavy():
    code = "import sys, nectargan_core.manager; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*installed.HEAVY} & {*result.stdout.split()}


def test_a_heavy_import_in_a_function_is_none(acme):
    assert acme("imports", SPEC + "\ndef report():\n    import pandas\n").state == "passed"


NETWORK = {
    "a name": "import socket\nsocket.getaddrinfo('weights.example', 443)\n",
    "an address": "import socket\nsocket.create_connection(('127.0.0.1', 9))\n",
    "a download": "import urllib.request\nurllib.request.urlopen('http://weights.example/a.pth')\n",
    "in a thread": "import threading, socket\n"
    "t = threading.Thread(target=lambda: socket.gethostbyname('weights.example'))\n"
    "t.start()\nt.join()\n",
    "caught": "import socket\ntry:\n    socket.gethostbyname('weights.example')\nexcept OSError:\n    pass\n",
}


@pytest.mark.parametrize("name", NETWORK)
def test_the_network_while_it_is_imported_is_found(acme, name):
    host = "127.0.0.1" if name == "an address" else "weights.example"
    fails(acme("imports", NETWORK[name] + SPEC), f"asks the network for {host}", "when it is called")


def test_an_import_that_fails_is_left_to_the_entry_point(acme):
    outcome = acme("imports", "1 / 0\n")
    assert (outcome.state, outcome.message) == ("skipped", "it cannot be imported, as the check `entry_point` tells")


def test_code_that_is_no_plugin_has_no_entry_point():
    class Subject:
        plugin = None

    (check, *_), given = installed.for_subjects(), Subject()
    outcome = run_check(check, given, {})
    assert outcome.state == "skipped"
    assert "not by the name of an installed plugin" in outcome.message
