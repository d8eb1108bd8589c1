"""What `nectargan plugins` shows of each plugin, and the trial of each in a process of its own."""

from __future__ import annotations

import inspect
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from nectargan_core import catalog
from nectargan_core.plugin import SPECS, Plugin, one_line
from nectargan_core.spec import variants_of

_TIMEOUT_S = 60.0
# Each process imports torch, at some hundreds of megabytes.
_PROCESSES = min(8, os.cpu_count() or 1)

_TRIAL = """
import json, sys
task = json.loads(open(sys.argv[1], encoding="utf-8").read())
sys.path[:] = task["path"]
from nectargan_core.diagnosis import answer
answer(task["plugin"], sys.argv[2])
"""


@dataclass(frozen=True)
class Row:
    """One plugin, as shown to a user.

    Args:
        name: The name that it is asked for by.
        group: The entry point group.
        distribution: The distribution that offers it.
        version: The version of the distribution; `None` where its metadata does not say.
        target: What the name stands for, as `"module:attribute"`.
        state: As in `catalog.Entry`; `loaded` also where it was tried in another process.
        variants: The variants of a spec; `None` where they are not known, as before it is loaded.
        doc: The first line of its docstring; empty before it is loaded.
        note: What there is to know about the state, and what to do.
    """

    name: str
    group: str
    distribution: str
    version: str | None
    target: str
    state: catalog.State
    variants: tuple[str, ...] | None
    doc: str
    note: str


def diagnose(load: bool = False) -> list[Row]:
    """Describe every installed plugin.

    Args:
        load: Try to load each that no setting blocks, in a process of its own, so that whatever it does there
            cannot harm this one.

    Returns:
        A row for each plugin.
    """
    entries = catalog.plugins()
    if not load:
        return [_row(entry) for entry in entries]
    with ThreadPoolExecutor(_PROCESSES) as pool:
        return list(pool.map(_tried, entries))


def answer(plugin: dict[str, Any], path: str) -> None:
    """Load a plugin, write what came of it to a file, and end the process: what `diagnose` starts runs this.

    Args:
        plugin: The fields of the plugin.
        path: The file to write.
    """
    tried = Plugin(**plugin)
    try:
        loaded = tried.load()
        found: dict[str, Any] = {"variants": _variants(tried, loaded), "doc": _first_line(loaded)}
    except BaseException as error:  # noqa: BLE001 # whatever it is, it is the answer
        found = {"failure": tried.flaw() or one_line(error)}
    pathlib.Path(path).write_text(json.dumps(found), encoding="ascii")
    os._exit(0)  # Not sys.exit(), which waits for threads that the plugin may have started.


def _row(entry: catalog.Entry) -> Row:
    plugin, loaded = entry.plugin, entry.plugin.imported() if entry.state == "loaded" else None
    return Row(
        name=plugin.name,
        group=plugin.group,
        distribution=plugin.dist,
        version=plugin.version,
        target=plugin.target,
        state=entry.state,
        variants=None if loaded is None else _variants(plugin, loaded),
        doc="" if loaded is None else _first_line(loaded),
        note=entry.note,
    )


def _tried(entry: catalog.Entry) -> Row:
    row = _row(entry)
    if entry.state in ("blocked", "broken", "duplicate"):
        return row
    found = _trial(entry.plugin)
    if failure := found.get("failure"):
        return replace(row, state="broken", note="; ".join(filter(None, (entry.plugin.age(), failure))))
    variants = found["variants"] if found["variants"] is None else tuple(found["variants"])
    state: catalog.State = "loaded" if entry.state == "available" else entry.state
    return replace(row, state=state, variants=variants, doc=found["doc"])


def _trial(plugin: Plugin) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="nectargan-") as directory:
        task, result, log = (pathlib.Path(directory) / name for name in ("task", "result", "log"))
        task.write_text(json.dumps({"plugin": asdict(plugin), "path": sys.path}), encoding="utf-8")
        command = [sys.executable, "-c", _TRIAL, str(task), str(result)]
        # Into a file, not a pipe: a process that the plugin leaves behind would keep a pipe open for ever.
        with log.open("wb") as output:
            try:
                status = subprocess.run(  # noqa: S603 # this interpreter, and a command that is all ours
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=_TIMEOUT_S,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                return {"failure": f"did not load within {_TIMEOUT_S:g} s; tell the authors of {plugin.dist}"}
        try:
            found: dict[str, Any] = json.loads(result.read_text(encoding="ascii"))
        except (OSError, ValueError):
            said = log.read_text(encoding="utf-8", errors="backslashreplace").strip().splitlines()
            last = f", saying {said[-1][:200]!r}" if said else ""
            return {"failure": f"ended Python {_ending(status)}{last}; tell the authors of {plugin.dist}"}
    return found


def _ending(status: int) -> str:
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"


def _variants(plugin: Plugin, loaded: Any) -> tuple[str, ...] | None:
    return variants_of(loaded) if plugin.group == SPECS else None


def _first_line(loaded: Any) -> str:
    try:
        return (inspect.getdoc(loaded) or "").strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 # a stranger's object
        return ""
