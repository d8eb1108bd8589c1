"""Reading a log: missing, damaged and foreign files, and the exports for other tools."""

import csv
import math
import os
import re
import sys
import warnings
import zlib

import numpy as np
import pytest
import torch
from logs import log_of, records, write

from nectargan_core import LossLog, LossManager
from nectargan_core.errors import LossLogError, NectarganWarning, UnknownLossError

NAME = "loss_log.jsonl"


# Errors and damage


def test_an_unknown_loss_is_named_with_close_matches(tmp_path):
    write(tmp_path, [1.0])
    with pytest.raises(UnknownLossError, match=r"no records of a loss 'A'; it has a. Did you mean \"a\"") as caught:
        LossLog(tmp_path).series("A")
    assert (caught.value.name, caught.value.known) == ("A", ("a",))


@pytest.mark.parametrize("missing", ["none.jsonl", "none"])
def test_a_missing_log_is_an_error_that_names_the_path(tmp_path, missing):
    with pytest.raises(LossLogError, match=missing):
        LossLog(tmp_path / missing)


def test_a_directory_without_a_log_is_an_error_with_the_likely_reason(tmp_path):
    with pytest.raises(LossLogError, match=r"no loss_log.jsonl in .*was the run logged, and flushed"):
        LossLog(tmp_path)


def test_a_newer_version_is_refused(tmp_path):
    (tmp_path / NAME).write_text('{"nectargan_log": 99}\n', encoding="utf-8")
    with pytest.raises(LossLogError, match="version 99"):
        LossLog(tmp_path)


def test_a_log_that_cannot_be_read_is_an_error_with_the_reason(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, [1.0])
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(LossLogError, match=r"cannot read .*loss_log.jsonl: Permission denied"):
        LossLog(tmp_path)


def test_an_empty_log_has_no_losses(tmp_path):
    (tmp_path / NAME).touch()
    log = LossLog(tmp_path)
    assert (log.names, log.header, log.last_step) == ((), {}, -1)


OTHER_FILES = {
    "a table": b"step,loss\n" + b"1,2\n" * 10_000,
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) * 9,
    "a program": b"import torch\n\nprint(torch)\n",
    "a line": b"neither a log nor a line of one",
    "lines of JSON": b'{\n"a": 1\n}\n',
    "numbers": b"1\n2\n",
    "a blank line": b"\n",
}


@pytest.mark.parametrize("content", OTHER_FILES.values(), ids=OTHER_FILES)
def test_a_file_without_a_line_of_a_log_is_an_error_and_no_warning(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(LossLogError, match=r"loss_log.jsonl is no loss log; expected lines as LossManager writes them"):
        LossLog(tmp_path)


@pytest.mark.parametrize("content", [b"{", b'{"nectargan_log":2,"exp', b"\0" * 100])
def test_a_log_whose_only_line_is_torn_is_empty(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert LossLog(tmp_path).names == ()


def test_a_log_whose_only_line_is_damaged_is_empty_with_a_warning(tmp_path):
    (tmp_path / NAME).write_text('{"nectargan_log":2,"experiment":"a","crc32":"00000000"}\n')
    with pytest.warns(NectarganWarning, match=":1 is damaged"):
        assert LossLog(tmp_path).names == ()


def test_of_many_damaged_lines_the_first_are_named_and_the_others_counted(tmp_path):
    write(tmp_path, [1.0])
    with (tmp_path / NAME).open("a") as file:
        file.write("damage\n" * 5000)
    with pytest.warns(NectarganWarning) as caught:
        log = LossLog(tmp_path)
    messages = [str(each.message) for each in caught]
    assert [f":{line} is damaged" in each for line, each in zip((3, 4, 5), messages, strict=False)] == [True] * 3
    assert messages[3:] == [f"{tmp_path / NAME}: 4,997 more lines are damaged and left out"]
    assert len(log.series("a")) == 1


def test_a_log_without_records_is_named_where_it_cannot_be_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(LossLogError, match="there are no records to draw yet in 'empty.jsonl'"):
        LossLog("empty.jsonl").plot()


def test_a_log_says_where_it_is_and_how_much_is_in_it(tmp_path, monkeypatch):
    write(tmp_path / "run", [1.0])
    monkeypatch.chdir(tmp_path)
    assert repr(LossLog("run")) == "<LossLog 'run': 1 series>"


@pytest.mark.parametrize("cut", [2, 3, 10, 60])
def test_a_truncated_last_line_is_skipped_silently(tmp_path, cut):
    write(tmp_path, [1.0])
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole + whole.splitlines(keepends=True)[1][:-cut])
    assert len(LossLog(tmp_path).series("a")) == 1


CHUNK = (
    '{"loss_name":"a","time":1,"n":2,"float":32,"step":{"first":0,"stride":1},"epoch":[0,0],'
    '"weight":{"runs":[[1.0,2]]},"unweighted":[1,2]}'
)
DAMAGE = {
    "no JSON": "}" + CHUNK,
    "no UTF-8": b"\xff\xfe",
    "cut off": CHUNK[:50],
    "nothing": "",
    "no object": "[1, 2]",
    "too deep": "[" * 100_000,
    "no chunk": "{}",
    "no name": CHUNK.replace("loss_name", "name"),
    "no count": CHUNK.replace('"n":2', '"n":null'),
    "another count": CHUNK.replace('"n":2', '"n":3'),
    "an endless count": CHUNK.replace('"n":2', '"n":Infinity'),
    "a text among numbers": CHUNK.replace("[1,2]", '[1,"x"]'),
    "an object among numbers": CHUNK.replace("[1,2]", "[1,{}]"),
    "lists among numbers": CHUNK.replace("[1,2]", "[[1],[2]]"),
    "no numbers": CHUNK.replace("[1,2]", "3"),
    "a step beyond integers": CHUNK.replace('{"first":0,"stride":1}', f"[0,{10**30}]"),
    "a stride beyond integers": CHUNK.replace('"stride":1', f'"stride":{10**30}'),
    "a step without a stride": CHUNK.replace(',"stride":1', ""),
    "a run beyond memory": CHUNK.replace("[1.0,2]", f"[1.0,{10**15}]"),
    "a run of less than nothing": CHUNK.replace("[1.0,2]", "[1.0,4],[1.0,-2]"),
    "a run without a length": CHUNK.replace("[1.0,2]", "[1.0]"),
    "no runs": CHUNK.replace("[[1.0,2]]", "[]"),
    "a version that is none": '{"nectargan_log": "one"}',
    "a rewind to nowhere": '{"rewind": 3}',
    "a rewind to no step": '{"rewind": {"step": "x"}}',
    "a rewind to no counts": '{"rewind": {"counts": [3]}}',
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_line_is_named_in_a_warning_and_skipped(tmp_path, damage):
    damage = damage if isinstance(damage, bytes) else damage.encode()
    chunk = CHUNK.encode() + b"\n"
    (tmp_path / NAME).write_bytes(b'{"nectargan_log":1}\n' + chunk + damage + b"\n" + chunk)
    with pytest.warns(NectarganWarning, match=r"loss_log.jsonl:3 is damaged and left out: ") as caught:
        log = LossLog(tmp_path)
    assert len(caught) == 1
    assert len(str(caught[0].message)) < 600
    assert log.series("a").loss.tolist() == [1.0, 2.0, 1.0, 2.0]


@pytest.mark.parametrize("damage", [text for text in DAMAGE.values() if str(text).endswith("}")])
def test_a_line_that_was_written_wrongly_is_named_in_a_warning_and_skipped(tmp_path, damage):
    body = damage[:-1].encode()
    line = body + f',"crc32":"{zlib.crc32(body):08x}"}}\n'.encode()
    write(tmp_path, [1.0])
    whole = (tmp_path / NAME).read_bytes().splitlines(keepends=True)
    (tmp_path / NAME).write_bytes(whole[0] + whole[1] + line + whole[1])
    with pytest.warns(NectarganWarning, match=r"loss_log.jsonl:3 is damaged and left out: ") as caught:
        assert LossLog(tmp_path).series("a").loss.tolist() == [3.0, 3.0]
    assert len(caught) == 1
    assert len(str(caught[0].message)) < 600


def test_unknown_keys_are_ignored(tmp_path):
    (tmp_path / NAME).write_text(CHUNK[:-1] + ',"colour":"red"}\n', encoding="utf-8")
    assert LossLog(tmp_path).series("a").loss.tolist() == [1.0, 2.0]


def test_float32_values_beyond_float32_are_infinite_without_a_warning(tmp_path):
    (tmp_path / NAME).write_text(CHUNK.replace("[1,2]", "[1,1e99]") + "\n", encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert LossLog(tmp_path).series("a").loss.tolist() == [1.0, math.inf]


# Exports


def test_it_is_exported_as_csv(tmp_path):
    reported = write(tmp_path, [0.1, 0.2])
    LossLog(tmp_path).to_csv(tmp_path / "out.csv")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "a"]
    assert [int(row["step"]) for row in rows] == [0, 1]
    assert [float(row["loss"]) for row in rows] == reported
    assert {(float(row["epoch"]), float(row["weight"])) for row in rows} == {(0.0, 3.0)}


def test_it_is_exported_as_a_data_frame(tmp_path):
    pandas = pytest.importorskip("pandas")
    reported = write(tmp_path, [0.1, 0.2])
    frame = LossLog(tmp_path).to_pandas()
    assert isinstance(frame, pandas.DataFrame)
    assert list(frame.columns) == ["name", "step", "epoch", "loss", "weight", "unweighted"]
    assert frame.loss.tolist() == reported
    assert LossLog(tmp_path).to_pandas().name.tolist() == ["a", "a"]


def test_an_empty_log_is_exported_as_an_empty_data_frame(tmp_path):
    pytest.importorskip("pandas")
    (tmp_path / NAME).touch()
    assert len(LossLog(tmp_path).to_pandas()) == 0


def test_without_pandas_the_error_names_what_to_install(tmp_path, monkeypatch):
    write(tmp_path, [1.0])
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        LossLog(tmp_path).to_pandas()


# What is no ordinary file


def planted(path, kind, elsewhere):
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        elsewhere.write_text("mine\n")
        path.symlink_to(elsewhere if kind == "symlink" else "/dev/zero")


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither FIFOs nor, for everybody, symlinks")
@pytest.mark.parametrize("resume", [True, False])
@pytest.mark.parametrize("kind", ["fifo", "directory", "symlink", "device"])
def test_a_log_that_is_no_ordinary_file_is_not_written_to(tmp_path, kind, resume):
    planted(tmp_path / "loss_log.jsonl", kind, tmp_path / "elsewhere")
    with pytest.raises(LossLogError, match="is not an ordinary file"):
        LossManager(experiment_dir=tmp_path, resume=resume)
    if kind == "symlink":
        assert (tmp_path / "elsewhere").read_text() == "mine\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither FIFOs nor, for everybody, symlinks")
@pytest.mark.parametrize("kind", ["fifo", "symlink"])
def test_a_log_that_is_exchanged_during_a_run_is_not_written_to(tmp_path, kind):
    manager = LossManager(experiment_dir=tmp_path)
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.compute_loss_xy("a", torch.zeros(2), torch.ones(2))
    manager.update_loss_log()
    (tmp_path / "loss_log.jsonl").unlink()
    planted(tmp_path / "loss_log.jsonl", kind, tmp_path / "elsewhere")
    manager.compute_loss_xy("a", torch.zeros(2), torch.ones(2))
    with pytest.warns(NectarganWarning, match="cannot write the loss log"):
        manager.update_loss_log()
    (tmp_path / "loss_log.jsonl").unlink()
    manager.close()
    assert len(LossLog(tmp_path).series("a")) == 1
    if kind == "symlink":
        assert (tmp_path / "elsewhere").read_text() == "mine\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither FIFOs nor, for everybody, symlinks")
@pytest.mark.parametrize("kind", ["fifo", "device"])
@pytest.mark.parametrize("whole", [True, False])
def test_a_log_that_would_be_read_for_ever_is_refused(tmp_path, kind, whole):
    planted(tmp_path / "loss_log.jsonl", kind, tmp_path / "elsewhere")
    with pytest.raises(LossLogError):
        LossLog(tmp_path if whole else tmp_path / "loss_log.jsonl")


# In notebooks


def test_a_notebook_shows_the_tables_of_a_log(tmp_path):
    chunks = [records("G_L1", [2.0, np.nan, 1.0]), records("psnr", [20.0])]
    html = log_of(tmp_path, *chunks, tags={"G_L1": ["G"]}, experiment="facades", objective="100*l1")._repr_html_()
    assert html.startswith("<p><b>facades: 100*l1</b></p>")
    assert html.count("<table>") == 2
    assert '<td style="text-align:left">G_L1</td><td>1</td>' in html
    assert html.endswith("<p>nan or infinite: G_L1 1 of 3</p>")


def test_names_are_text_in_a_notebook(tmp_path):
    html = log_of(tmp_path, records("<script>", [1.0]), experiment="<b>", metadata={"a": "<i>"})._repr_html_()
    assert not {"<script>", "<i>"} & set(re.findall("<[^>]*>", html))
    assert html.count("<b>") == 1


def test_a_notebook_says_that_there_are_no_records(tmp_path):
    assert log_of(tmp_path)._repr_html_() == "<p><b>loss log</b></p>\n<p>It has no records yet.</p>"
