"""`nectargan log compare` and `report` as a user runs them: on a terminal, in a pipe, and interrupted."""

import signal
import subprocess
import sys

import pytest
from test_compare import logged

pytest.importorskip("pty")
from terminals import PROGRAM, in_pipe, in_terminal  # which needs a system that has terminals

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


@pytest.mark.parametrize("columns", [60, 100])
def test_on_a_terminal_tables_fit_it(runs, columns):
    done = in_terminal(["log", "compare", *runs, "--metric", "val/psnr"], columns=columns)
    assert done.status == 0
    assert max(map(len, done.text.splitlines())) <= columns
    assert "highest val/psnr" in " ".join(done.text.split())


def test_in_a_pipe_it_is_plain_text(runs):
    done = in_pipe(["log", "compare", *runs])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "Last values (unweighted; in training the mean of an epoch):" in done.stdout


def test_in_a_pipe_that_is_closed_json_is_no_error(runs):
    program = [*PROGRAM, "log", "compare", *map(str, runs), "--json"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""


def test_a_report_says_where_it_is(runs, tmp_path):
    on_terminal, in_a_pipe = tmp_path / "a.html", tmp_path / "b.html"
    done = in_terminal(["log", "report", *runs, "-o", on_terminal], columns=100)
    assert (done.status, done.text.replace("\n", "")) == (0, str(on_terminal))
    done = in_pipe(["log", "report", *runs, "-o", in_a_pipe])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{in_a_pipe}\n", "")
    for out in (on_terminal, in_a_pipe):
        assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_an_error_is_one_line(tmp_path):
    done = in_pipe(["log", "report", tmp_path / "nowhere"])
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: there is no loss log at ")


def test_an_interrupt_leaves_no_file_and_no_traceback(runs, tmp_path):
    out = tmp_path / "report.html"
    command = [sys.executable, "-c", INTERRUPTED, "log", "report", str(runs[0]), "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
