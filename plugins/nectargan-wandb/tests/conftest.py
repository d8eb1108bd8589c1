"""W&B without a network: a run in offline mode, and what is in its `.wandb` file, which W&B would send later."""

import json
import struct
from pathlib import Path

import pytest

_BLOCK = 32768


def _parts(data):
    """Yield the records of a file of W&B: a header of 7 bytes, then a log in the format of LevelDB."""
    ident, magic, _ = struct.unpack("<4sHB", data[:7])
    assert (ident, magic) == (b":W&B", 0xBEE1)
    position, record = 7, b""
    while position + 7 <= len(data):
        if _BLOCK - position % _BLOCK < 7:
            position += _BLOCK - position % _BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            yield record
            record = b""
        elif kind == 0:  # the rest of the block is empty
            return


def _number(item):
    value = json.loads(item.value_json) if item.value_json else None
    if not item.value_json:
        which = item.value.WhichOneof("value")
        value = getattr(item.value, which)
    return {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.get(str(value), value)


class OfflineRun:
    """What was written of a run: rows of its history, metrics that were defined, configuration and files."""

    def __init__(self, directory):
        from wandb.proto import wandb_internal_pb2

        self.directory = Path(directory)
        self.rows, self.metrics, self.config = [], {}, {}
        self.id = self.name = self.project = self.exit_code = None
        (path,) = self.directory.glob("*.wandb")
        for part in _parts(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(part)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                row = {".".join(item.nested_key) or item.key: _number(item) for item in record.history.item}
                self.rows.append(row)
            elif kind == "metric":
                self.metrics[record.metric.name] = record.metric.step_metric
            elif kind == "run":
                self.id, self.name, self.project = record.run.run_id, record.run.display_name, record.run.project
                self._configure(record.run.config.update)
            elif kind == "config":
                self._configure(record.config.update)
            elif kind == "exit":
                self.exit_code = record.exit.exit_code

    def _configure(self, items):
        for item in items:
            value = self.config
            *path, key = item.nested_key or [item.key]
            for each in path:
                value = value.setdefault(each, {})
            value[key] = json.loads(item.value_json)

    def curve(self, name):
        """Return steps and values of a column."""
        rows = [row for row in self.rows if name in row]
        return [row["nectargan/step"] for row in rows], [row[name] for row in rows]


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Let W&B write to the working directory only; returns what reads the runs there, or below another directory."""
    for name, value in {
        "WANDB_MODE": "offline",
        "WANDB_SILENT": "true",
        "WANDB_CONSOLE": "off",
        "WANDB_CONFIG_DIR": str(tmp_path / "config"),
        "WANDB_CACHE_DIR": str(tmp_path / "cache"),
        "WANDB_DATA_DIR": str(tmp_path / "data"),
        "NETRC": str(tmp_path / "netrc"),
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("WANDB_API_KEY", "WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    import wandb

    def runs(directory=tmp_path):
        wandb.teardown()  # waits until all is in the files
        return [OfflineRun(path) for path in sorted(Path(directory).glob("wandb/offline-run-*"))]

    yield runs
    wandb.teardown()
