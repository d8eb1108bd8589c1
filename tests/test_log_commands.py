"""The commands `nectargan log show`, `plot`, `export` and `watch`: by click, and as a user runs them."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from logs import NAME, log_of, manager_in, records, strictly

from nectargan_core import LossLog
from nectargan_core.cli import main
from nectargan_core.cli._log_runs import labels
from nectargan_core.cli._log_watch import sparkline
from nectargan_core.log import encode_chunk

TAGS = {"G_GAN": ["G"], "G_L1": ["G"]}
PNG = b"\x89PNG"


def some(directory, *more, **header):
    chunks = [
        records("G_GAN", [1.0, 0.5, 0.25, 0.75], epochs=[0, 0, 1, 1]),
        records("G_L1", [40.0, 30.0, np.nan, 10.0], epochs=[0, 0, 1, 1], weights=[100, 100, 50, 50]),
        records("val/G_L1", [35.0], steps=[3], epochs=1),
        records("psnr", [20.0, 22.5], steps=[1, 3], epochs=[0, 1]),
        records("G_L1@grad_norm", [3.0]),
        records("G_L1@grad_share", [0.75]),
    ]
    fields = {"tags": TAGS, "experiment": directory.name, "objective": "gan + 100*l1", "metadata": {"seed": 7}}
    return log_of(directory, *chunks, *more, **fields | header)


@pytest.fixture
def nectargan(tmp_path, monkeypatch):
    """Return a function that runs the program in an empty directory, beside two runs."""
    monkeypatch.chdir(tmp_path)
    some(tmp_path / "a")
    some(tmp_path / "b", started=1.7e9)
    return lambda *arguments: CliRunner().invoke(main, ["log", *map(str, arguments)])


def row(output, name):
    """Return the cells of the first row that begins with a name."""
    line = next(line for line in output.splitlines() if line.startswith(name + " "))
    return line.split()[len(name.split()) :]


# Which runs


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["runs/a"], ["a"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["x/first", "y/first"], ["x/first", "y/first"]),
        (["x/first", "first"], ["x/first", "{here}/first"]),
        (["runs/a/loss_log.jsonl"], ["a"]),
        (["a/loss_log.jsonl", "a/loss_log.rank1.jsonl", "a"], ["loss_log.jsonl", "loss_log.rank1.jsonl", "a"]),
        (["a/loss_log.jsonl", "b/loss_log.rank1.jsonl"], ["a", "b"]),
    ],
)
def test_a_run_is_called_by_so_many_parts_of_its_path_as_tell_it_from_others(tmp_path, monkeypatch, paths, expected):
    monkeypatch.chdir(tmp_path)
    assert labels(paths) == [each.format(here=tmp_path.name) for each in expected]


def test_a_log_is_called_by_its_directory(nectargan):
    assert labels([f"a/{NAME}", "b"]) == ["a", "b"]


@pytest.mark.parametrize("command", ["show", "plot", "export"])
def test_a_run_that_is_given_twice_is_an_error(nectargan, command):
    result = nectargan(command, "a", f"a/{NAME}", *(["--format", "csv"] if command == "export" else []))
    assert result.exit_code == 2
    assert f"a/{NAME} is given twice" in result.output


@pytest.mark.parametrize("command", [["show"], ["plot"], ["export", "--format", "csv"]])
@pytest.mark.parametrize("run", ["nowhere", "empty", "other.json"])
def test_what_is_no_run_is_an_error_of_one_line(nectargan, command, run):
    Path("empty").mkdir()
    Path("other.json").write_text("{}")
    result = nectargan(*command, run)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1
    assert run in result.output


def test_a_damaged_line_is_a_warning_of_one_line_on_standard_error(nectargan):
    with Path("a", NAME).open("a") as file:
        file.write('{"loss_name":"G_GAN","crc32":"00000000"}\n')
    result = nectargan("show", "a")
    assert result.exit_code == 0
    assert "is damaged and left out" in result.stderr
    assert ".py" not in result.stderr
    assert "damaged" not in result.stdout


# show


def test_the_table_has_last_values_means_extremes_and_weights(nectargan):
    output = nectargan("show", "a").output
    assert row(output, "G_GAN") == ["0.75", "0.5", "0.25", "1", "1", "4", "3"]
    assert row(output, "G_L1")[:4] == ["10", "nan", "10", "40"]
    assert row(output, "G_L1")[4:] == ["100", "to", "50", "4", "3"]
    assert row(output, "val/G_L1") == ["35", "-", "-", "-", "1", "1", "3"]
    assert row(output, "psnr") == ["22.5", "22.5", "20", "22.5", "2", "3"]


def test_what_is_not_finite_is_named_below_the_tables(nectargan):
    assert nectargan("show", "a").output.endswith("\nnan or infinite: G_L1 1 of 4\n")


def test_the_table_says_which_loss_pulls_how_hard(nectargan):
    output = nectargan("show", "a").output
    gradients = output[output.index("GRADIENT OF") :]
    assert row(gradients, "G_L1") == ["3", "0.75", "0"]


def test_the_first_line_says_what_the_header_does(nectargan):
    assert nectargan("show", "a").output.startswith("a: gan + 100*l1, seed 7\n")
    assert "started 2023-11-1" in nectargan("show", "b").output


def test_the_first_line_says_how_long_a_run_took_and_that_it_was_resumed(nectargan, tmp_path):
    for _ in range(2):
        with manager_in(tmp_path / "c", resume=True) as manager:
            manager.compute_loss_xy("a", torch.ones(1), None)
    assert re.match(r"c: started \S+ \S+, took [\d.e-]+ s, resumed once\n", nectargan("show", "c").output)


def test_several_runs_are_shown_one_after_the_other(nectargan):
    output = nectargan("show", "a", "b").output
    assert output.index("a: gan") < output.index("G_GAN") < output.index("b: gan")


def test_a_query_chooses_what_is_shown(nectargan):
    output = nectargan("show", "a", "--query", "psnr").output
    assert "psnr" in output
    assert "G_L1" not in output
    result = nectargan("show", "a", "--query", "psnt")
    assert result.exit_code == 1
    assert 'Did you mean "psnr"' in result.output


def test_a_run_without_records_says_so(nectargan, tmp_path):
    log_of(tmp_path / "new", tags=TAGS)
    result = nectargan("show", "new")
    assert (result.exit_code, result.output) == (0, "new\nIt has no records yet.\n")


def test_a_run_that_lacks_what_another_has_says_so(nectargan, tmp_path):
    log_of(tmp_path / "c", records("G_L1", [1.0]), tags=TAGS)
    result = nectargan("show", "a", "c", "--query", "psnr")
    assert result.exit_code == 0
    assert result.output.endswith("c\nIt has nothing of psnr.\n")


@pytest.mark.parametrize("command", [["show"], ["plot"], ["export", "--format", "csv"], ["watch"]])
def test_a_file_that_is_no_log_is_an_error_without_a_warning(nectargan, command):
    Path("table.csv").write_text("step,loss\n" + "1,2\n" * 10_000)
    result = nectargan(*command, "table.csv")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert "no loss log" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_query_may_be_a_split_and_an_unknown_one_is_told_what_there_is(nectargan):
    (run,) = json.loads(nectargan("show", "a", "--query", "val", "--json").output)
    assert [each["name"] for each in run["series"]] == ["val/G_L1"]
    said = nectargan("show", "a", "--query", "gradients").output
    assert "it has the tag G, the split val, the names G_GAN, G_L1, psnr. The name of a loss stands for its " in said


def test_a_cosine_that_is_nan_where_there_is_no_gradient_is_no_alarm(nectargan, tmp_path):
    names = {"norm": [0.0, 1.0], "share": [0.0, 1.0], "cosine": [np.nan, 1.0]}
    chunks = [records(f"G_L1@grad_{name}", values) for name, values in names.items()]
    log_of(tmp_path / "c", records("G_L1", [1.0, 2.0]), *chunks, tags=TAGS)
    assert "nan or infinite" not in nectargan("show", "c").output
    panels = json.loads(nectargan("plot", "c", "--json").output)["panels"]
    assert {panel["title"]: panel["curves"][0]["nonfinite"] for panel in panels}["gradient cosine"] == 0


def test_a_gradient_that_is_nan_is_called_what_it_is(nectargan, tmp_path):
    chunks = [records(f"val/G_L1@grad_{name}", [np.nan]) for name in ("norm", "share", "cosine")]
    log_of(tmp_path / "c", records("val/G_L1", [1.0]), *chunks, tags=TAGS)
    assert nectargan("show", "c").output.endswith("nan or infinite: gradient norm of val/G_L1 1 of 1\n")


def test_show_as_json_is_strict_and_whole(nectargan):
    (run,) = strictly(nectargan("show", "a", "--json").output)
    assert (run["run"], run["objective"], run["metadata"], run["resumed"]) == ("a", "gan + 100*l1", {"seed": 7}, 0)
    series = {each["name"]: each for each in run["series"]}
    assert series["G_L1"]["epoch_mean"] == "nan"
    assert series["G_L1"]["lowest"] == {"value": 10.0, "step": 3, "epoch": 1.0}
    assert series["val/G_L1"]["split"] == "val"
    assert series["G_L1@grad_norm"]["of"] == "G_L1"


def test_a_mean_is_weighed_by_the_batches(nectargan, tmp_path):
    sizes = np.array([8, 2])
    log_of(tmp_path / "c", records("a", [1.0, 2.0], batch=sizes), tags={"a": []})
    (run,) = json.loads(nectargan("show", "c", "--json").output)
    assert run["series"][0]["epoch_mean"] == pytest.approx(1.2)


def test_the_log_of_nectargan_is_shown(nectargan, tmp_path):
    functions = {"L1": {"loss": [2.0, 1.0], "weights": [100.0, 100.0]}}
    Path("theirs.json").write_text(json.dumps({"LOSSMANAGER_LOG": {"loss_functions": functions}}))
    assert row(nectargan("show", "theirs.json").output, "L1") == ["1", "1.5", "1", "2", "100", "2", "1"]


# plot


def test_the_picture_is_written_and_its_path_printed(nectargan):
    result = nectargan("plot", "a")
    assert (result.exit_code, result.output) == (0, "curves.png\n")
    assert Path("curves.png").read_bytes().startswith(PNG)


def test_several_runs_are_drawn_as_svg(nectargan):
    assert nectargan("plot", "a", "b", "--by", "epoch", "--smooth", 0, "-o", "x.svg").output == "x.svg\n"
    assert "<svg" in Path("x.svg").read_text()


def test_plot_as_json_says_what_was_drawn(nectargan):
    said = strictly(nectargan("plot", "a", "-o", "x.png", "--json").output)
    assert said["out"] == "x.png"
    assert [(panel["kind"], panel["title"]) for panel in said["panels"]] == [
        ("losses", "G"),
        ("weights", "weights"),
        ("metrics", "psnr"),
        ("gradients", "gradient norm"),
        ("gradients", "gradient share"),
    ]
    assert said["panels"][0]["curves"][2] == {"name": "G_L1", "run": "a", "points": 4, "nonfinite": 1}


@pytest.mark.parametrize("command", ["plot", "export"])
@pytest.mark.parametrize(
    ("out", "status", "said"),
    [
        ("", 2, "-o is empty; give the name of a file"),
        ("a/", 2, "is a directory"),
        ("new/", 2, "is a directory"),
        (
            "no/where/x.csv",
            1,
            "cannot write no/where/x.csv: there is no directory no/where; make it: mkdir -p no/where",
        ),
    ],
)
def test_a_file_that_cannot_be_is_an_error(nectargan, command, out, status, said):
    before = sorted(map(str, Path().rglob("*")))
    result = nectargan(command, "a", "-o", out)
    assert result.exit_code == status
    assert said in " ".join(result.output.replace("'", "").split())
    assert sorted(map(str, Path().rglob("*"))) == before


def test_a_picture_without_a_suffix_is_a_png_whose_name_is_printed(nectargan):
    result = nectargan("plot", "a", "-o", "first")
    assert (result.exit_code, result.stdout) == (0, "first.png\n")
    assert result.stderr == "first has no suffix that chooses a format; the picture is first.png\n"
    assert Path("first.png").read_bytes().startswith(PNG)


def test_a_picture_is_not_printed_and_csv_is(nectargan):
    result = nectargan("plot", "a", "-o", "-")
    assert result.exit_code == 2
    assert "a picture is not printed" in result.output
    printed = nectargan("export", "a", "--format", "csv")
    assert nectargan("export", "a", "--format", "csv", "-o", "-").output == printed.output
    assert not Path("-").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["a", "-o", "x.txt2"], 1, "cannot write x.txt2: Format 'txt2' is not supported"),
        (["a", "-o", "nowhere/x.png"], 1, "cannot write nowhere/x.png: "),
        (["a", "--query", "nothing"], 1, "the log has nothing of the name, tag or split 'nothing'"),
        (["a", "--smooth", "2"], 2, "2.0 is not in the range"),
        (["a", "--by", "hour"], 2, "'hour' is not one of"),
        ([], 2, "Missing argument 'RUN...'"),
    ],
)
def test_an_error_of_plot_is_shown_without_a_traceback(nectargan, arguments, status, said):
    result = nectargan("plot", *arguments)
    assert result.exit_code == status
    assert said in result.output
    assert "Traceback" not in result.output


def test_an_interrupt_ends_the_program_without_a_traceback(nectargan, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nectargan_core.log.draw_runs", interrupted)
    result = nectargan("plot", "a")
    assert (result.exit_code, result.output.strip()) == (130, "")


def test_nothing_to_draw_is_an_error(nectargan, tmp_path):
    log_of(tmp_path / "new", tags=TAGS)
    result = nectargan("plot", "new")
    assert (result.exit_code, result.output) == (1, "Error: there are no records to draw yet in 'new'\n")


# export


def test_csv_is_printed_or_written(nectargan):
    printed = nectargan("export", "a", "--format", "csv").output
    assert printed.splitlines()[:2] == ["name,step,epoch,loss,weight,unweighted", "G_GAN,0,0.0,1.0,1.0,1.0"]
    assert nectargan("export", "a", "-o", "a.csv").output == "a.csv\n"
    LossLog("a").to_csv("expected.csv")
    assert Path("a.csv").read_bytes() == Path("expected.csv").read_bytes()


def test_several_runs_are_rows_with_their_label(nectargan):
    lines = nectargan("export", "a", "b", "--format", "csv").output.splitlines()
    assert lines[0].startswith("run,name,step")
    assert {line.partition(",")[0] for line in lines[1:]} == {"a", "b"}


def test_json_is_the_log_of_nectargan(nectargan):
    assert nectargan("export", "a", "-o", "a.json").output == "a.json\n"
    assert LossLog("a.json").series("G_GAN").loss.tolist() == [1.0, 0.5, 0.25, 0.75]
    printed = json.loads(nectargan("export", "a", "--format", "json").output)
    assert printed == json.loads(Path("a.json").read_text()) or "NaN" in Path("a.json").read_text()


def test_parquet_is_read_by_pandas(nectargan):
    pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    assert nectargan("export", "a", "-o", "a.parquet").output == "a.parquet\n"
    frame = pandas.read_parquet("a.parquet")
    expected = LossLog("a").to_pandas()
    assert list(frame.columns) == list(expected.columns)
    assert frame["name"].tolist() == expected["name"].tolist()
    for column in ("step", "epoch", "loss", "weight", "unweighted"):
        np.testing.assert_array_equal(frame[column], expected[column])
    LossLog("a").to_parquet("again.parquet")
    assert pandas.read_parquet("again.parquet").equals(frame)


def test_several_runs_are_one_parquet_file(nectargan):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    said = json.loads(nectargan("export", "a", "b", "-o", "both.parquet", "--json").output)
    frame = pandas.read_parquet("both.parquet")
    assert said == {"out": "both.parquet", "format": "parquet", "runs": ["a", "b"], "records": len(frame)}
    assert frame["run"].unique().tolist() == ["a", "b"]


def test_without_pyarrow_it_is_named(nectargan, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = nectargan("export", "a", "-o", "a.parquet")
    assert (result.exit_code, result.output) == (1, "Error: Parquet needs pyarrow; pip install pyarrow\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a"], "give --format json, csv or parquet, since there is no -o FILE whose suffix says it"),
        (["a", "-o", "a.txt"], "since a.txt has another suffix"),
        (["a", "b", "-o", "x.json"], "the log of NectarGAN holds one run"),
        (["a", "--format", "parquet"], "Parquet is not printed; give -o FILE"),
        (["a", "--format", "csv", "--json"], "with --json the records are not printed; give -o FILE"),
    ],
)
def test_what_cannot_be_exported_is_an_error(nectargan, arguments, said):
    result = nectargan("export", *arguments)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())


def test_a_file_that_cannot_be_written_is_an_error(nectargan):
    result = nectargan("export", "a", "-o", "nowhere/a.csv")
    assert result.exit_code == 1
    assert "cannot write nowhere/a.csv: " in result.output


# watch


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], ""),
        ([1.0], "▅"),
        ([2.0, 2.0], "▅▅"),
        ([0.0, 7.0], "▁█"),
        ([float("nan"), float("inf")], "  "),
        ([-1.7e308, 0.0, 1.7e308], "▁▅█"),
        ([1.0, 2.0, 3.0, 4.0, 5.0], "▁▅█"),
    ],
)
def test_a_trend_is_a_line_of_bars(values, expected):
    assert sparkline(values, 3 if len(values) > 3 else 8) == expected


@contextlib.contextmanager
def watching(path, *options):
    """Run `nectargan log watch` with pipes, and kill it at the end where it still runs."""
    program = [sys.executable, "-m", "nectargan_core", "log", "watch", str(path), *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def append(directory, *chunks):
    with (directory / NAME).open("a", encoding="utf-8") as file:
        file.writelines(encode_chunk(chunk, 1.7e9) for chunk in chunks)


@pytest.mark.slow
def test_watch_in_a_pipe_prints_a_line_each_time_that_the_log_has_grown(tmp_path):
    with watching(tmp_path / "run", "--query", "G") as process:
        assert process.stderr.readline().startswith("Waiting for ")
        some(tmp_path / "run")
        first = process.stdout.readline()
        assert first.startswith("step 3  epoch 1")
        assert "G_GAN 0.75  G_L1 10" in first
        append(tmp_path / "run", records("G_GAN", [0.125], steps=[4], epochs=2))
        second = process.stdout.readline()
        assert second.startswith("step 4  epoch 2")
        assert "G_GAN 0.125" in second
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
        assert "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_watch_as_json_prints_an_object_a_line(tmp_path):
    some(tmp_path / "run")
    with watching(tmp_path / "run", "--json") as process:
        said = strictly(process.stdout.readline())
        assert (said["step"], said["epoch"]) == (3, 1.0)
        assert said["values"]["G_L1"] == {"step": 3, "last": 10.0, "epoch_mean": "nan", "weight": 50.0, "records": 4}
        append(tmp_path / "run", records("psnr", [23.0], steps=[4], epochs=1))
        assert strictly(process.stdout.readline())["values"]["psnr"]["last"] == 23.0


@pytest.mark.slow
def test_watch_says_when_the_log_is_removed_and_goes_on_with_another(tmp_path):
    some(tmp_path / "run")
    with watching(tmp_path / "run") as process:
        process.stdout.readline()
        shutil.rmtree(tmp_path / "run")
        assert "was removed; waiting for" in process.stderr.readline()
        log_of(tmp_path / "run", records("G_GAN", [0.125], steps=[4]), tags=TAGS)
        assert "G_GAN 0.125" in process.stdout.readline()


@pytest.mark.slow
def test_watch_ends_when_nobody_reads_any_more_though_the_log_does_not_grow(tmp_path):
    some(tmp_path / "run")
    with watching(tmp_path / "run") as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=60) == 1
        assert process.stderr.read() == ""


# In a terminal and in a pipe

terminals = pytest.importorskip("terminals") if os.name == "posix" else None


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "facades"
    some(directory)
    return directory


@pytest.mark.slow
@pytest.mark.skipif(terminals is None, reason="there are no pseudo-terminals")
@pytest.mark.parametrize("columns", [60, 80, 100, 200])
def test_show_fits_the_terminal(run, columns):
    ended = terminals.in_terminal(["log", "show", run], columns=columns)
    assert ended.status == 0
    assert max(map(len, ended.text.splitlines())) <= min(columns, 100)
    assert re.search(r"^G_GAN +0.75", ended.text, re.M)
    assert ("RECORDS" in ended.text.splitlines()[2]) is (columns >= 80)


@pytest.mark.slow
@pytest.mark.skipif(terminals is None, reason="there are no pseudo-terminals")
def test_watch_in_a_terminal_follows_the_log_until_ctrl_c(tmp_path):
    grown = []

    def grow(text):
        if "Waiting for" in text and not grown:
            grown.append(some(tmp_path / "run"))
        if "epoch 1" in text and len(grown) == 1:
            grown.append(append(tmp_path / "run", records("G_GAN", [0.125], steps=[4], epochs=2)))

    ended = terminals.in_terminal(
        ["log", "watch", tmp_path / "run"], on_output=grow, interrupt_at=lambda text: "0.125" in text, seconds=200
    )
    assert ended.status == 130
    assert "Traceback" not in ended.text
    assert "GAN" in ended.text
    # What was hidden is shown again.
    assert ended.output.rindex("\x1b[?25h") > ended.output.rindex("\x1b[?25l")
    assert max(len(line) for line in ended.text.splitlines()) <= 80


@pytest.mark.slow
@pytest.mark.skipif(terminals is None, reason="there are no pseudo-terminals")
def test_watch_shows_the_cursor_again_after_a_termination(run):
    ended = terminals.in_terminal(["log", "watch", run], terminate_at=lambda text: "psnr" in text)
    assert ended.status == 128 + signal.SIGTERM
    assert "Traceback" not in ended.text
    assert ended.output.rindex("\x1b[?25h") > ended.output.rindex("\x1b[?25l")


@pytest.mark.slow
@pytest.mark.skipif(terminals is None, reason="there are no pseudo-terminals")
def test_watch_prints_lines_in_a_terminal_that_cannot_move_its_cursor(run):
    ended = terminals.in_terminal(
        ["log", "watch", run], environment={"TERM": "dumb"}, interrupt_at=lambda text: "psnr" in text
    )
    assert ended.text.startswith("step 3  epoch 1  G_GAN 0.75  G_L1 10")
    assert "\x1b" not in ended.output


@pytest.mark.slow
@pytest.mark.skipif(terminals is None, reason="there are no pseudo-terminals")
@pytest.mark.parametrize(("environment", "has_colour"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_watch_has_colours_unless_they_are_not_wanted(run, environment, has_colour):
    ended = terminals.in_terminal(
        ["log", "watch", run], environment=environment, interrupt_at=lambda text: "psnr" in text
    )
    assert ("\x1b[36m" in ended.output) is has_colour


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show"], ["export", "--format", "csv"]])
def test_in_a_pipe_it_is_plain_text(run, command):
    done = terminals.in_pipe(["log", *command, run])
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert "G_GAN" in done.stdout


@pytest.mark.slow
def test_the_picture_is_written_by_the_program(run, tmp_path):
    done = terminals.in_pipe(["log", "plot", run, "-o", tmp_path / "x.png"])
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{tmp_path / 'x.png'}\n", "")
    assert (tmp_path / "x.png").read_bytes().startswith(PNG)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "export --format csv"])
def test_a_pipe_that_is_closed_ends_the_program_without_a_word(tmp_path, command):
    log_of(tmp_path, *[records(f"loss{number}", range(500)) for number in range(300)])
    program = f"{sys.executable} -m nectargan_core log {command} {tmp_path} | head -n 2"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.count("\n") == 2
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.parametrize("command", [["show"], ["export", "--format", "csv"]])
def test_names_that_the_encoding_lacks_are_printed_as_escapes_or_are_an_error(tmp_path, command):
    log_of(tmp_path, records("größe", [1.0]))
    done = terminals.in_pipe(["log", *command, tmp_path], PYTHONIOENCODING="ascii")
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if command == ["show"] else 1)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["show", "plot", "export", "watch"])
def test_help_imports_neither_torch_nor_numpy_nor_matplotlib(command):
    code = f"""
import sys
from nectargan_core.cli import main
main(["log", "{command}", "--help"], standalone_mode=False)
assert not sys.modules.keys() & {{"torch", "numpy", "pydantic", "matplotlib", "rich"}}
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_looking_at_a_log_imports_no_torch(run, tmp_path):
    code = f"""
import sys
from nectargan_core.cli import main
for command in (["show"], ["plot", "-o", {str(tmp_path / "x.png")!r}], ["export", "--format", "csv"]):
    main(["log", *command, {str(run)!r}], standalone_mode=False)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
