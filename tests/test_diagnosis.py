"""The program `nectargan plugins`: a row per plugin, loading in other processes, and no crash for any plugin."""

import json
import sys

import pytest
from click.testing import CliRunner

from nectargan_core import catalog
from nectargan_core.cli import _diagnosis as diagnosis
from nectargan_core.cli import main
from nectargan_core.cli._diagnosis import diagnose


@pytest.fixture
def only(site, monkeypatch):
    """Like `site`, with only the named plugins (and core's own) allowed, so that loading is quick."""

    def allow(*names):
        monkeypatch.setenv("NECTARGAN_PLUGINS", ",".join(names))
        return site

    return allow


def rows(load=False):
    return {row.name or row.distribution: row for row in diagnose(load)}


def run(*arguments):
    return CliRunner().invoke(main, ["plugins", *arguments])


VARIED = """
from __future__ import annotations
from typing import TYPE_CHECKING, Literal
if TYPE_CHECKING:
    from nectargan_core import Config
def glow(config: Config, subspec: Literal["soft", "hard"] = "soft"):
    \"\"\"Glow softly.

    Or hard.
    \"\"\"
    return {}
"""


SOUND = """
def glow(config):
    'Sound.'
    return {}
"""


class TestRows:
    def test_a_plugin_that_is_not_loaded_is_described_by_its_metadata_alone(self, site):
        site.install("acme", "1.2", specs={"glow": "acme:glow"}, modules={"acme.py": VARIED})
        assert rows()["glow"] == diagnosis.Row(
            name="glow",
            group=catalog.SPECS,
            kind="loss spec",
            distribution="acme",
            version="1.2",
            target="acme:glow",
            state="available",
            variants=None,
            doc="",
            note="",
        )
        assert "acme" not in sys.modules

    def test_a_plugin_that_is_loaded_here_has_its_variants_and_docstring(self, site):
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": VARIED})
        catalog.find(catalog.SPECS, "glow").load()
        row = rows()["glow"]
        assert (row.state, row.variants, row.doc) == ("loaded", ("soft", "hard"), "Glow softly.")

    def test_a_schedule_has_no_variants(self, site):
        assert rows()["linear"].variants is None

    def test_entry_points_that_cannot_be_read_have_a_row(self, site):
        site.install("acme", entry_points=b"\xff")
        assert rows()["acme"].state == "broken"


class TestTrials:
    @pytest.mark.slow
    def test_loading_gives_variants_and_docstring_and_imports_nothing_here(self, only):
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": VARIED})
        row = rows(load=True)["glow"]
        assert (row.state, row.variants, row.doc) == ("loaded", ("soft", "hard"), "Glow softly.")
        assert "acme" not in sys.modules

    def test_a_failure_is_reported_with_its_fix_after_the_range_of_core(self, only):
        site = only("glow")
        site.install("nectargan-core", "0.5.0")
        site.install(
            "acme",
            specs={"glow": "acme:glow"},
            modules={"acme.py": "import not_to_be_found"},
            requires=["nectargan-core<0.2"],
        )
        row = rows(load=True)["glow"]
        assert row.state == "broken"
        assert row.note == (
            "acme 1.0 is for nectargan-core<0.2, and this is 0.5.0; cannot be imported: it needs the module "
            "'not_to_be_found', which is not installed; install what provides it"
        )

    @pytest.mark.slow
    def test_a_plugin_that_ends_python_does_not_affect_others_of_its_module(self, only):
        source = SOUND + "import os\ndef __getattr__(name):\n    os._exit(7)\n"
        only("acme").install("acme", specs={"glow": "acme:glow", "dies": "acme:dies"}, modules={"acme.py": source})
        found = rows(load=True)
        assert (found["glow"].state, found["glow"].doc) == ("loaded", "Sound.")
        assert found["dies"].state == "broken"
        assert found["dies"].note == "ended Python with exit status 7; report it to the authors of acme"

    @pytest.mark.slow
    def test_the_last_line_of_output_before_python_ended_is_quoted(self, only):
        source = "import os, sys\nprint('out of luck', file=sys.stderr, flush=True)\nos._exit(1)"
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert ", saying 'out of luck'; " in rows(load=True)["glow"].note

    def test_a_plugin_that_does_not_finish_loading_times_out(self, only, monkeypatch):
        monkeypatch.setattr(diagnosis, "_TIMEOUT_S", 0.01)
        source = "import threading\nthreading.Event().wait()"
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert rows(load=True)["glow"].note == "did not finish within 0.01 s; report it to the authors of acme"

    def test_a_signal_that_ended_python_is_named(self, only):
        source = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert rows(load=True)["glow"].note == "ended Python by signal SIGKILL; report it to the authors of acme"

    @pytest.mark.slow
    def test_a_thread_that_a_plugin_starts_does_not_delay_the_result(self, only):
        source = SOUND + "import threading\nthreading.Thread(target=threading.Event().wait).start()\n"
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert rows(load=True)["glow"].state == "loaded"

    @pytest.mark.parametrize("state", ["blocked", "duplicate", "broken"])
    def test_a_plugin_that_cannot_be_used_is_not_loaded(self, only, monkeypatch, state, tmp_path):
        source = f"open({str(tmp_path / 'imported')!r}, 'w')"
        site = only("glow")
        if state == "blocked":
            monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        if state == "duplicate":
            site.install("acme", "2.0", specs={"glow": "elsewhere:glow"})
        target = "acme glow" if state == "broken" else "acme:glow"
        site.install("acme", specs={"glow": target}, modules={"acme.py": source})
        assert state in [row.state for row in diagnose(load=True) if row.name == "glow"]
        assert not (tmp_path / "imported").exists()

    @pytest.mark.slow
    def test_a_plugin_that_loads_and_shares_its_name_stays_ambiguous(self, only):
        site = only("glow")
        site.install_spec("acme", "glow")
        site.install_spec("beta", "glow")
        found = {row.distribution: row for row in diagnose(load=True)}
        assert (found["acme"].state, found["acme"].doc) == ("ambiguous", "Build the losses of glow.")


class TestTheProgram:
    def test_it_prints_a_row_and_a_note_for_each(self, site, monkeypatch):
        site.install("acme", "1.2", specs={"glow": "acme:glow"})
        monkeypatch.setenv("NECTARGAN_BLOCK_PLUGINS", "glow")
        lines = run().output.splitlines()
        assert lines[0].split()[:4] == ["NAME", "KIND", "DISTRIBUTION", "STATE"]
        assert ["glow", "loss", "spec", "acme", "1.2", "blocked"] in [line.split()[:6] for line in lines]
        assert 'glow (acme): blocked by NECTARGAN_BLOCK_PLUGINS="glow"; take it out of that setting' in "\n".join(lines)

    def test_a_description_is_the_docstring_and_the_variants(self, alone):
        alone.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": VARIED})
        catalog.find(catalog.SPECS, "glow").load()
        assert " loaded Glow softly. Variants: soft, hard." in " ".join(run().output.split())

    def test_it_is_at_most_a_hundred_columns_wide(self, site):
        prose = "A sentence that goes on, " * 20
        source = f"def glow(config):\n    {prose!r}\n    return {{}}\n"
        site.install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        site.install("beta", specs={"glow": "beta:glow"})
        catalog.find(catalog.SPECS, "glow", "acme").load()
        assert 90 < max(map(len, run().output.splitlines())) <= 100

    def test_json_is_a_list_of_objects(self, site):
        site.install("acme", "1.2", specs={"glow": "acme:glow"})
        listed = json.loads(run("--json").output)
        assert {
            "name": "glow",
            "group": "nectargan.loss_specs",
            "kind": "loss spec",
            "distribution": "acme",
            "version": "1.2",
            "target": "acme:glow",
            "state": "available",
            "variants": None,
            "doc": "",
            "note": "",
        } in listed

    def test_a_broken_plugin_does_not_fail_the_listing(self, site):
        site.install("acme", specs={"glow": "no target"})
        assert run().exit_code == 0

    @pytest.mark.parametrize(("source", "status"), [(SOUND, 0), ("1/0", 1), ("def glow(config): ...", 1)])
    @pytest.mark.slow
    def test_the_exit_status_is_1_if_a_plugin_does_not_work(self, only, source, status):
        only("glow").install("acme", specs={"glow": "acme:glow"}, modules={"acme.py": source})
        assert run("--load").exit_code == status

    @pytest.mark.parametrize(("options", "status"), [((), 0), (("--load",), 1)])
    def test_a_mistyped_group_is_printed_and_sets_the_exit_status_with_load(self, only, options, status):
        only("acme").install("acme", entry_points="[nectargan.loss_spec]\nglow = acme:glow\n")
        result = run(*options)
        assert result.exit_code == status
        assert ["glow", "plugin", "acme", "1.0", "misnamed"] in [
            line.split()[:5] for line in result.output.splitlines()
        ]
        assert "glow (acme): is in the entry point group 'nectargan.loss_spec', in which nothing" in result.output

    def test_a_setting_that_cannot_be_read_is_an_error_of_one_line(self, site, monkeypatch):
        monkeypatch.setenv("NECTARGAN_PROVIDERS", "glow")
        result = run()
        assert result.exit_code == 1
        assert result.output.startswith("Error: NECTARGAN_PROVIDERS=\"glow\" has 'glow'")
        assert len(result.output.splitlines()) == 1

    def test_control_characters_are_escaped(self, site):
        site.install("ac\x1b[31mme", specs={"glow\x07": "acme:glow"}, folder="acme-1.0.dist-info")
        output = run().output
        assert "\\x1b[31m" in output
        assert "glow\\x07" in output
        assert not set("\x1b\x07") & set(output)

    def test_letters_that_the_encoding_of_the_terminal_lacks_are_escaped(self, site):
        site.install("acme", specs={"größe": "acme:glow"})
        done = site.run("-m", "nectargan_core", "plugins", PYTHONIOENCODING="ascii")
        assert done.returncode == 0, done.stderr
        assert "gr\\xf6\\xdfe" in done.stdout

    def test_python_m_nectargan_core_runs_the_program(self, site):
        done = site.run("-m", "nectargan_core", "plugins", "--json")
        assert done.returncode == 0, done.stderr
        assert {row["name"] for row in json.loads(done.stdout)} >= {"linear", "exponential"}
