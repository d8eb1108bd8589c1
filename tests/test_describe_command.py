"""The program `nectargan describe`: the record of a formula, a file, a run or a log, without weights or a GPU."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nectargan_core import LossManager, Objective, Schedule, catalog
from nectargan_core.cli import main
from nectargan_core.errors import (
    LossLogError,
    NectarganError,
    ObjectiveError,
    PluginNotFoundError,
    SpecError,
    SpecSyntaxError,
    WeightsError,
)
from nectargan_core.objectives import record_from, variants_of

ROOT = Path(__file__).parent.parent


def run(*arguments, status=0):
    done = CliRunner().invoke(main, ["describe", *arguments])
    assert done.exit_code == status, done.output
    return done.stdout if status == 0 else done.output


HEAD = """
import torch
from nectargan_core import LMLoss, Losses, Schedule, Weighting
class Blur(torch.nn.Module):
    def __init__(self, size=3, network=None):
        super().__init__()
        self.size = size
    def forward(self, y_fake, y):
        raise RuntimeError("nothing is computed")
"""
GLOW = """
def glow(config, size: int = 3, network: object = None):
    if config.common.device != "meta":
        raise RuntimeError("weights are loaded")
    print("built")
    fade = Schedule(unit="fraction", start=0.5, end=1.0, target_value=0.0)
    losses = {
        "G_BLUR": LMLoss(name="G_BLUR", function=Blur(size), loss_weight=10.0, tags=["G"], version=2),
        "G_L1": LMLoss(name="G_L1", function=torch.nn.L1Loss(), loss_weight=2.0, schedule=fade, tags=["G", "edges"],
                       inputs={"input": "y_fake", "target": "y"}),
    }
    return Losses(losses, weightings={"G": Weighting("acme/even", params={"share": 0.5}, every=10)})
class Even:
    needs = "values"
    def __init__(self, share=1.0):
        pass
    def factors(self, step):
        return {}
"""


@pytest.fixture
def glow(alone):
    """Install a spec `glow`, and a weighting that it brings."""
    alone.install(
        "acme",
        "1.2",
        modules={"acme.py": HEAD + GLOW},
        entry_points="[nectargan.loss_specs]\nglow = acme:glow\n[nectargan.weightings]\neven = acme:Even\n",
    )
    return alone


class TestFormula:
    def test_its_losses_functions_weightings_and_versions_are_shown(self, glow):
        record = record_from("glow")
        assert run("glow") == (
            "glow\n"
            "\n"
            "LOSS    WEIGHT  SCHEDULE                               TAGS      INPUTS                  WEIGHTING\n"
            "G_BLUR  10      -                                      G         y_fake, y               G\n"
            "G_L1    2       linear from 2 to 0, fraction 0.5 to 1  G, edges  input=y_fake, target=y  G\n"
            "\n"
            "LOSS    FUNCTION         ARGUMENTS          VERSION OF ITS MEANING  FROM\n"
            "G_BLUR  acme:Blur        size=3, network=?  2                       acme 1.2\n"
            'G_L1    torch.nn:L1Loss  reduction="mean"   -                       acme 1.2\n'
            "\n"
            "OF  WEIGHTING                       LOSSES\n"
            "G   acme/even, share=0.5, every=10  G_BLUR, G_L1\n"
            "\n"
            f"nectargan-core {record.versions['nectargan-core']}, torch {torch.__version__}, acme 1.2\n"
            f"fingerprint {record.fingerprint}\n"
        )

    def test_json_is_the_record_which_is_a_file(self, glow, tmp_path):
        text = run("glow", "--json")
        assert Objective.from_dict(json.loads(text)) == record_from("glow")
        (tmp_path / "objective.json").write_text(text)
        assert run(str(tmp_path / "objective.json"), "--json") == text

    def test_what_a_plugin_prints_is_no_part_of_json(self, glow):
        done = CliRunner().invoke(main, ["describe", "glow", "--json"])
        assert "built" not in done.stdout
        assert "built" in done.stderr

    def test_a_warning_is_printed_to_standard_error(self, alone):
        code = (
            "import warnings\n"
            "from nectargan_core.errors import NectarganWarning\n"
            "def odd(config):\n"
            "    warnings.warn('it is odd', NectarganWarning)\n"
            "    return {'a': LMLoss(name='a', function=torch.nn.L1Loss())}\n"
        )
        alone.install("acme", specs={"odd": "acme:odd"}, modules={"acme.py": HEAD + code})
        done = CliRunner().invoke(main, ["describe", "odd"])
        assert (done.exit_code, done.stderr) == (0, "Warning: it is odd\n")
        assert "it is odd" not in done.stdout

    def test_a_warning_of_something_else_stays_one(self, alone):
        code = (
            "import warnings\n"
            "def odd(config):\n"
            "    warnings.warn('it is old', UserWarning)\n"
            "    return {'a': LMLoss(name='a', function=torch.nn.L1Loss())}\n"
        )
        alone.install("acme", specs={"odd": "acme:odd"}, modules={"acme.py": HEAD + code})
        with pytest.warns(UserWarning, match="it is old"):
            run("odd")

    @pytest.mark.parametrize(
        ("text", "error"),
        [("nosuch", PluginNotFoundError), ("glow +", SpecSyntaxError), ("glow:soft", NectarganError)],
    )
    def test_one_that_cannot_be_built_is_a_short_error(self, glow, text, error):
        with pytest.raises(error) as raised:
            record_from(text)
        assert str(raised.value) in run(text, status=1)

    def test_a_path_that_is_not_there_is_named(self, alone):
        assert "Neither is there a file or directory 'runs/a'." in run("runs/a", status=1)

    def test_a_weighting_that_cannot_be_made_is_a_short_error(self, alone):
        code = "def bad(config):\n    loss = LMLoss(name='a', function=torch.nn.L1Loss())\n"
        code += "    return Losses({'a': loss}, weightings={'a': Weighting('nosuch')})\n"
        alone.install("acme", specs={"bad": "acme:bad"}, modules={"acme.py": HEAD + code})
        assert "nosuch" in run("bad", status=1)

    def test_a_spec_that_raises_anything_is_a_short_error(self, alone):
        code = "def bad(config):\n    raise KeyError('lambda')\n"
        alone.install("acme", specs={"bad": "acme:bad"}, modules={"acme.py": HEAD + code})
        assert "KeyError" in run("bad", status=1)

    def test_a_loss_that_raises_whenever_it_is_looked_at_is_described(self, alone):
        code = (
            "class Proxy:\n"
            "    def __call__(self, y_fake, y): return y\n"
            "    def __getattr__(self, name): raise OSError(name)\n"
            "def odd(config):\n    return {'a': LMLoss(name='a', function=Proxy())}\n"
        )
        alone.install("acme", specs={"odd": "acme:odd"}, modules={"acme.py": HEAD + code})
        assert "acme:Proxy" in run("odd")

    def test_an_argument_that_raises_whenever_it_is_looked_at_is_not_known(self, alone):
        code = (
            "class Proxy:\n"
            "    def __getattr__(self, name): raise OSError(name)\n"
            "class Holds:\n"
            "    def __init__(self, made): self.made = made\n"
            "    def __call__(self, y_fake, y): return y\n"
            "def odd(config):\n    return {'a': LMLoss(name='a', function=Holds(Proxy()))}\n"
        )
        alone.install("acme", specs={"odd": "acme:odd"}, modules={"acme.py": HEAD + code})
        assert record_from("odd").losses["a"].unknown == ["made"]


FILE = """
formula = "glow"
prefix = "a_"
rename_inputs = { y = "sharp" }
without = ["a_G_L1"]
[losses.a_G_BLUR]
weight = 3.0
schedule = { schedule = "linear", unit = "fraction", start = 0.5, end = 1.0, target_value = 0.0 }
[options.glow]
size = 5
[[extra]]
name = "G_HUBER"
function = "torch.nn:HuberLoss"
arguments = { delta = 0.5 }
weight = 5.0
tags = ["G"]
"""


class TestFile:
    def test_what_it_gives_beside_the_formula_is_shown(self, glow, tmp_path):
        path = tmp_path / "objective.toml"
        path.write_text(FILE)
        shown = run(str(path))
        assert "linear from 3 to 0, fraction 0.5 to 1" in shown
        assert re.search(r"G_HUBER +torch.nn:HuberLoss +reduction=\"mean\", delta=0.5", shown)
        assert shown.count("a_G_L1") == 1
        for key, value in {
            "prefix": "a_",
            "rename_inputs.y": '"sharp"',
            "options.glow.size": "5",
            "without": "a_G_L1",
        }.items():
            assert re.search(rf"^glow +{re.escape(key)} +{re.escape(value)}$", shown, re.M)

    @pytest.mark.parametrize(("length", "line"), [("total_epochs = 20", "20"), ("total_steps = 1000", "1000")])
    def test_the_length_that_it_says_is_that_of_the_record(self, glow, tmp_path, length, line):
        path = tmp_path / "objective.toml"
        path.write_text(f"{length}\n{FILE}")
        assert f"\n{length.replace(' =', '')}\n" in run(str(path))
        assert record_from(str(path)).fingerprint != record_from_text(tmp_path, FILE).fingerprint

    def test_an_error_names_file_and_key(self, glow, tmp_path):
        path = tmp_path / "objective.toml"
        path.write_text(FILE.replace("weight = 3.0", 'weight = "3"'))
        with pytest.raises(ObjectiveError) as raised:
            record_from(str(path))
        assert raised.value.key == "losses.a_G_BLUR.weight"
        shown = run(str(path), status=1)
        assert str(path) in shown
        assert "losses.a_G_BLUR.weight" in shown

    @pytest.mark.parametrize("name", ["objective.toml", "objective.json", "run.jsonl", "OBJECTIVE.TOML"])
    def test_a_name_that_ends_as_one_is_a_file_whether_or_not_it_is_there(self, name):
        with pytest.raises((ObjectiveError, LossLogError), match=f"(?i){name}"):
            record_from(name)

    def test_a_path_that_exists_is_a_file_and_a_blank_makes_it_a_formula(self, glow, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        Path("glow").mkdir()
        with pytest.raises(LossLogError, match="write a blank before it: ' glow'"):
            record_from("glow")
        assert record_from(" glow").losses.keys() == {"G_BLUR", "G_L1"}

    @pytest.mark.parametrize("source", ["", "\0", "\ud800", "\udcff.toml", "a" * 5000, "../", ".", "*", "nul\0.toml"])
    def test_text_that_is_neither_is_one_of_the_documented_errors(self, source):
        with pytest.raises(NectarganError):
            record_from(source)

    def test_something_else_than_text_is_a_type_error(self):
        with pytest.raises(TypeError, match="source"):
            record_from(3)


def record_from_text(folder, text):
    path = folder / "of_text.toml"
    path.write_text(text)
    return record_from(str(path))


class TestRecord:
    def logged(self, folder):
        spec = {"G": torch.nn.L1Loss(), "own": lambda y_fake, y: (y_fake - y).mean()}
        with LossManager(experiment_dir=folder, total_epochs=20) as manager:
            for name, function in spec.items():
                manager.register_loss_fn(name, function, 2.0, Schedule(end=10, target_value=0.0))
                manager.compute_loss_xy(name, torch.zeros(1), torch.ones(1), epoch=0)
            return manager.manifest()

    @pytest.mark.parametrize("name", ["run", "run/loss_log.jsonl"])
    def test_that_of_a_run_is_shown_as_it_is(self, tmp_path, name):
        manifest = self.logged(tmp_path / "run")
        assert record_from(str(tmp_path / name)) == manifest
        shown = run(str(tmp_path / name))
        assert "no formula" in shown
        assert "<lambda>" in shown
        assert manifest.fingerprint in shown

    def test_no_plugin_is_needed(self, glow, tmp_path):
        path = tmp_path / "manifest.toml"
        record_from("glow").save(path)
        shown = run(str(path))
        for entry in catalog.plugins(catalog.SPECS):
            glow.uninstall(next(glow.path.glob(f"{entry.plugin.dist}-*.dist-info")))
        with pytest.raises(PluginNotFoundError):
            record_from("glow")
        assert run(str(path)) == shown

    def test_the_last_one_of_a_log_is_shown(self, tmp_path):
        self.logged(tmp_path)
        with LossManager(experiment_dir=tmp_path, resume=True) as manager:
            manager.register_loss_fn("other", torch.nn.MSELoss())
            manager.compute_loss_xy("other", torch.zeros(1), torch.ones(1))
        assert record_from(str(tmp_path)).losses.keys() == {"other"}

    def test_control_characters_of_a_file_are_escaped(self, tmp_path):
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps({"formula": "a\x1b[2J", "fingerprint": "\x1b", "losses": {"\x1b": {}}}))
        assert "\x1b" not in run(str(path))

    @settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.data())
    def test_whatever_is_taken_as_a_record_is_shown(self, tmp_path, data):
        text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
        values = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | text, children, max_leaves=5)
        losses = data.draw(st.dictionaries(text, st.dictionaries(st.sampled_from(FIELDS), values)))
        try:
            record = Objective.from_dict({"fingerprint": "0", "losses": losses})
        except (NectarganError, TypeError):
            return
        path = tmp_path / "manifest.json"
        record.save(path)
        assert "fingerprint 0" in run(str(path))
        assert record._repr_html_()
        assert record.differences(record) == ()


FIELDS = ["weight", "schedule", "function", "arguments", "unknown", "tags", "inputs", "version", "provider", "term"]


def children(values):
    return st.lists(values) | st.dictionaries(st.sampled_from([*FIELDS, "params", "start", "end"]), values)


def every_term():
    for entry in catalog.plugins(catalog.SPECS):
        spec = entry.plugin.load()
        for variant in variants_of(spec) or (None,):
            yield f"{entry.plugin.key}/{entry.plugin.name}" + ("" if variant is None else f":{variant}")


@pytest.mark.slow
@pytest.mark.parametrize("term", sorted(every_term()))
def test_what_is_described_is_what_a_manager_records(term, monkeypatch):
    described = record_from(term)
    try:
        manager = LossManager.from_spec(term)
    except WeightsError:
        pytest.skip("its weight files are not here")
    assert described == manager.manifest()


@pytest.mark.slow
def test_it_is_found_by_the_program(tmp_path):
    path = tmp_path / "objective.toml"
    path.write_text('[[extra]]\nname = "G_L1"\nfunction = "torch.nn:L1Loss"\n')
    command = [sys.executable, "-m", "nectargan_core", "describe", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "torch.nn:L1Loss" in done.stdout


class TestNotebook:
    def test_a_manager_is_shown_by_its_losses(self, glow):
        manager = LossManager.from_spec("glow", device="meta", total_epochs=20)
        manager.disable("G_BLUR")
        shown = without_style(manager._repr_html_())
        for text in ("<b>glow</b>", "<td>G_BLUR</td>", "<td>no</td>", "acme 1.2", "total_epochs 20", "acme/even"):
            assert text in shown

    def test_what_functions_were_made_with_is_not_read_again_which_might_wait_for_a_device(self):
        manager, loss = LossManager(), torch.nn.HuberLoss(delta=0.5)
        manager.register_loss_fn("G_HUBER", loss)
        loss.delta = 2.0
        assert "delta=0.5" in manager._repr_html_()

    def test_one_that_cannot_be_described_is_shown_by_its_repr(self, monkeypatch):
        manager = LossManager()
        manager.register_loss_fn("<a>", torch.nn.L1Loss())
        monkeypatch.setattr(manager, "_contents", None)
        assert manager._repr_html_() == "<p>LossManager(&lt;a&gt;)</p>"

    def test_text_is_escaped(self):
        shown = Objective(
            formula="<script>",
            losses={"<b>": {"function": "<i>", "arguments": {"<u>": "<u>"}, "tags": ["<s>"]}},
            fingerprint="<hr>",
        )._repr_html_()
        assert not re.search("<(script|b>&|i|u|s|hr)>", shown)
        assert "&lt;script&gt;" in shown

    def test_one_that_a_person_wrote_has_its_extra_losses_and_options(self):
        objective = Objective(
            formula="vgg",
            options={"vgg": {"layers": 3}},
            extra=[{"name": "G_HUBER", "function": "torch.nn:HuberLoss", "arguments": {"delta": 0.5}, "weight": 5.0}],
        )
        shown = without_style(objective._repr_html_())
        assert "<td>G_HUBER</td><td>5</td>" in shown
        assert "<td>delta=0.5</td>" in shown
        assert "<td>vgg</td><td>layers</td><td>3</td>" in shown


def without_style(shown):
    return shown.replace(' style="text-align:left"', "")


def test_errors_of_a_file_that_cannot_be_looked_at_are_spec_errors(alone, monkeypatch):
    code = "def odd(config):\n    return {'a': LMLoss(name='a', function=torch.nn.L1Loss())}\n"
    alone.install("acme", specs={"odd": "acme:odd"}, modules={"acme.py": HEAD + code})
    monkeypatch.setattr("nectargan_core.objectives._from_text.record_of", lambda *_: 1 / 0)
    with pytest.raises(SpecError, match="odd cannot be described: ZeroDivisionError"):
        record_from("odd")
