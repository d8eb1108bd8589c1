"""`nectargan log compare` and `report` as a user runs them: on a terminal, in a pipe, and interrupted."""

import signal
import subprocess
import sys

import pytest
from logs import strictly
from test_compare import logged

pytest.importorskip("pty")
from terminals import in_pipe, on_terminal, plain  # which needs a system that has terminals

pytestmark = pytest.mark.slow

INTERRUPTED = """
import os, signal, sys, time
from nectargan_core.views import _report

def interrupted(*_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(30)

_report.replace_file = interrupted
from nectargan_core.cli import main
main()
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    series = {"G_L1": [(0, 0, 0.5), (1, 0, 0.25)], "val/psnr": [(1, 0, 22.5)]}
    note = {"note": "a long text about what was tried, which has to be wrapped somewhere " * 2}
    paths = [logged(directory / name, series, losses=["G_L1"], metadata={**note, "seed": name}) for name in "ab"]
    paths.append(logged(directory / "c", series, losses=["G_L1"], metadata={"note": "another"}))
    return paths


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_on_a_terminal_tables_fit_it(runs, columns):
    status, seen = on_terminal("log", "compare", *runs, "--metric", "val/psnr", columns=columns)
    assert status == 0
    lines = plain(seen).splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[0].split()[:3] == ["RUN", "highest", "val/psnr"]
    assert [line.split()[0] for line in lines[1:4]] == ["a", "b", "c"]


def test_in_a_pipe_it_is_plain_text(runs):
    status, output, errors = in_pipe("log", "compare", *runs)
    assert (status, errors) == (0, "")
    assert output == plain(output)
    assert "Last values (unweighted):" in output


def test_in_a_pipe_json_is_strict(runs):
    status, output, errors = in_pipe("log", "compare", *runs, "--json")
    assert (status, errors) == (0, "")
    assert [run["run"] for run in strictly(output)["runs"]] == ["a", "b", "c"]


def test_a_pipe_that_is_closed_is_no_error(runs):
    _, output, errors = in_pipe("log", "compare", *runs, "--json", shell_end=" | head -n 1")
    assert (output, errors) == ("{\n", "")


def test_a_report_says_where_it_is(runs, tmp_path):
    for number, run in enumerate((on_terminal, in_pipe)):
        out = tmp_path / f"{number}.html"
        status, seen, *_ = run("log", "report", *runs, "-o", out)
        assert (status, seen.replace("\n", "")) == (0, str(out))
        assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_an_error_is_one_line(tmp_path):
    status, output, errors = in_pipe("log", "report", tmp_path / "nowhere")
    assert (status, output) == (1, "")
    assert len(errors.splitlines()) == 1
    assert errors.startswith("Error: there is no loss log at ")


def test_an_interrupt_leaves_no_file_and_no_traceback(runs, tmp_path):
    out = tmp_path / "report.html"
    command = [sys.executable, "-c", INTERRUPTED, "log", "report", str(runs[0]), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
