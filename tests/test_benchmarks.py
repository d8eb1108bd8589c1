"""The benchmarks: what they yield, where it is written, and steps that never wait for a device. No time is asserted."""

import contextlib
import json
import math
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch
from devices import Operations
from documents import ROOT

BENCH = Path(__file__).parent / "bench"
PAGE = ROOT / "docs" / "performance.md"


@pytest.fixture
def bench(monkeypatch):
    """Return what runs a module of the folder; what it imports from there is forgotten afterwards."""
    monkeypatch.syspath_prepend(BENCH)
    before = set(sys.modules)
    yield lambda name: runpy.run_path(str(BENCH / f"{name}.py"))
    for name in set(sys.modules) - before:
        if str(BENCH) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def results():
    return json.loads(PAGE.with_suffix(".json").read_text(encoding="utf-8"))


def with_rows():
    return {path.stem for path in BENCH.glob("*.py") if "\ndef rows(" in path.read_text(encoding="utf-8")}


def test_every_benchmark_is_in_the_table(bench):
    sections = bench("__main__")["SECTIONS"]
    assert set(sections) == with_rows()
    assert len(set(sections)) == len(sections)


def test_every_benchmark_has_rows_and_a_place_on_the_page(bench):
    stored = results()
    assert list(stored) == list(bench("__main__")["SECTIONS"])
    places = re.findall(r"<!-- performance (\w+) -->", PAGE.read_text(encoding="utf-8"))
    assert sorted(places) == sorted([*stored, "machines"])
    for name, result in stored.items():
        assert result["rows"], name
        for row in result["rows"]:
            assert row["what"], (name, row)
            assert row["note"] if row["ratio"] is None else row["low"] <= row["ratio"] <= row["high"], (name, row)


def test_a_row_has_the_median_and_the_quartiles_of_the_ratios_of_rounds(bench):
    row = bench("table")["compared"]("ours", "theirs", [1.0, 2.0, 6.0, 8.0, 50.0], [1.0, 1.0, 2.0, 2.0, 10.0])
    assert (row.low, row.ratio, row.high) == (2.0, 3.0, 4.0)
    assert row.note == "6 s"


def test_a_row_of_one_round_has_no_spread(bench):
    row = bench("table")["compared"]("ours", "theirs", [3], [2], note="3 kernels")
    assert (row.low, row.ratio, row.high, row.note) == (1.5, 1.5, 1.5, "3 kernels")


def test_what_is_measured_has_its_turn_in_each_round_after_others_than_before(bench):
    called = []
    ways = {name: lambda name=name: called.append(name) for name in "abc"}
    taken = bench("interleaved")["times"](ways, calls=1, rounds=20)
    rounds = ["".join(called[first : first + 3]) for first in range(0, 60, 3)]
    assert {"".join(sorted(each)) for each in rounds} == {"abc"}
    assert len(set(rounds)) == 6
    assert {name: len(each) for name, each in taken.items()} == {"a": 20, "b": 20, "c": 20}


@pytest.fixture
def program(bench, tmp_path):
    """Return what runs the program with benchmarks that yield given rows, and the file that it writes."""
    threads = torch.get_num_threads()

    def run(sections, *arguments):
        for name, body in sections.items():
            text = f'"""What {name} takes."""\nfrom table import Row\ndef rows():\n    {body}\n'
            (tmp_path / f"{name}.py").write_text(text)
        main = bench("__main__")["main"]
        main.__globals__.update(SECTIONS=tuple(sections), HERE=tmp_path, RESULTS=tmp_path / "results.json")
        main([*arguments])

    yield run, tmp_path / "results.json"
    torch.set_num_threads(threads)
    for name in ("first_one", "second_one"):
        sys.modules.pop(f"bench_{name}", None)


ONE = "yield Row('ours', 'theirs', 1.25, 1.0, 1.5, 2.0, '3 s')"


def test_rows_are_printed_as_they_come_and_kept_only_where_that_is_asked_for(program, capsys):
    run, file = program
    run({"first_one": ONE})
    printed = capsys.readouterr().out
    assert "What first_one takes (first_one)" in printed
    assert re.search(r"^ours +theirs +1\.25 +1\.00 to 1\.50 +2\.00  3 s$", printed, re.MULTILINE)
    assert not file.exists()


def test_writing_replaces_the_rows_of_what_was_run(program):
    run, file = program
    run({"first_one": ONE, "second_one": ONE}, "--write")
    run({"first_one": ONE, "second_one": "yield Row('ours', 'theirs', note='not installed')"}, "second_one", "--write")
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert [result["rows"][0]["ratio"] for result in stored.values()] == [1.25, None]
    assert stored["second_one"]["title"] == "What second_one takes"


def test_a_benchmark_that_fails_ends_no_other_and_is_named_at_the_end(program, capsys):
    run, _ = program
    with pytest.raises(SystemExit, match="failed: first_one"):
        run({"first_one": "raise OSError('no such thing'); yield", "second_one": ONE})
    assert re.search(r"^ours +theirs", capsys.readouterr().out, re.MULTILINE)


def test_an_unknown_benchmark_is_an_error_that_names_those_there_are(program):
    run, _ = program
    with pytest.raises(SystemExit, match="no benchmark 'third'; there are first_one and cost"):
        run({"first_one": ONE}, "third")


def test_a_library_that_is_missing_has_a_row_that_says_how_it_is_installed(bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchmetrics", None)
    beside = bench("beside")
    assert beside["library"]("torchmetrics") is None
    pair = beside["Pair"]("ssim", "torchmetrics", None, torch.nn.L1Loss(), beside["images"]())
    notes = {row.note for row in beside["rows_of"]([pair])}
    assert notes == {"not installed: pip install --no-deps torchmetrics"}


def test_a_logger_that_is_missing_is_left_out_of_the_rounds(bench, monkeypatch, tmp_path):
    for name in ("torchmetrics", "torch.utils.tensorboard", "ignite.engine"):
        monkeypatch.setitem(sys.modules, name, None)
    step = bench("step")
    x, y = step["of_images"](2)
    with contextlib.ExitStack() as stack:
        ways = dict(step["ways"](torch.nn.L1Loss(), x, y, 1, tmp_path, stack))
        missing = {name for name, way in ways.items() if isinstance(way, ImportError)}
        for name in ways.keys() - missing:
            ways[name]()
    assert missing == set(step["MISSING"])


def test_without_a_cuda_device_one_row_says_so(bench, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (row,) = bench("cuda")["rows"]()
    assert row.ratio is None
    assert "no CUDA device" in row.note


def test_what_the_steps_of_cuda_compute_is_the_same_in_each_way(bench):
    x, y = torch.rand(8, requires_grad=True), torch.rand(8)
    gradients = []
    for step in bench("cuda")["eight"](x, y).values():
        step()
        gradients.append(x.grad)
    assert len(gradients) == 5
    for gradient in gradients:
        torch.testing.assert_close(gradient, 36 * torch.sign(x - y).detach() / 8)


WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "_to_copy", "_assert_async"}


@pytest.mark.slow
def test_a_hundred_steps_of_the_full_objective_on_the_meta_device_never_wait(bench):
    step = bench("cuda")["full_objective"]("meta")
    step()
    with Operations() as operations:
        for _ in range(100):
            step()
    assert not WAITS & {name.partition(".")[0] for name in operations.names}
    values = step.manager.get_loss_values()
    assert list(values) == ["G_GAN", "G_L1", "D_real", "D_fake", "G_L2", "G_SOBEL", "G_LAP", "G_VGG"]
    assert all(math.isnan(value) for value in values.values())


@pytest.mark.slow
def test_the_full_objective_of_cuda_computes_every_loss(bench):
    step = bench("cuda")["full_objective"]("cpu", size=32)
    step()
    values = step.manager.get_loss_values()
    assert len(values) == 8
    assert all(value > 0 for value in values.values())


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_cuda_device_no_step_of_the_full_objective_waits(bench):
    cuda = bench("cuda")
    assert cuda["never_waits"](cuda["full_objective"]("cuda"), 100).ratio == 0.0
    rows = list(cuda["on_device"]())
    assert all(row.ratio is not None for row in rows), rows
