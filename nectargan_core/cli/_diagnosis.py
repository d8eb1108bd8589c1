"""Describes every installed plugin, and tries each in another process, for `nectargan plugins`."""

from __future__ import annotations

import json
import os
import pathlib
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from nectargan_core import catalog
from nectargan_core._docstrings import docstring_of
from nectargan_core._messages import one_line
from nectargan_core._process import run_python
from nectargan_core.catalog import SPECS, Plugin
from nectargan_core.errors import NectarganError

_TIMEOUT_S = 60.0
# Each process imports torch, which takes some hundreds of megabytes.
_PROCESSES = min(8, os.cpu_count() or 1)

# The program of the other process.
_CHILD = """
import json, sys
task = json.loads(open(sys.argv[1], encoding="utf-8").read())
sys.path[:] = task["path"]
from nectargan_core.cli._diagnosis import load_in_child
load_in_child(task["plugins"], sys.argv[2])
"""


@dataclass(frozen=True)
class Row:
    """One plugin, as shown to a user.

    Args:
        name: The name that it is asked for by.
        group: The entry point group.
        kind: What a plugin of the group is, such as `"loss spec"`; `"plugin"` where the group is none of NectarGAN's.
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
    kind: str
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
        load: Load each that no setting blocks, and use it once, in processes of their own, so that whatever they do
            there cannot harm this one.

    Returns:
        A row for each plugin.
    """
    entries = catalog.plugins()
    modules: dict[tuple[str, str], list[Plugin]] = {}
    for entry in entries:
        if load and entry.state in ("available", "loaded", "ambiguous", "reserved"):
            modules.setdefault((entry.plugin.key, entry.plugin.module), []).append(entry.plugin)
    with ThreadPoolExecutor(_PROCESSES) as pool:
        outcomes = [outcome for module in pool.map(_load_in_process, modules.values()) for outcome in module]
    tried = [plugin for plugins in modules.values() for plugin in plugins]
    found = dict(zip(tried, outcomes, strict=True))
    return [_row(entry, found.get(entry.plugin)) for entry in entries]


def load_in_child(plugins: list[dict[str, Any]], path: str) -> None:
    """Load plugins, use each that could be loaded, and end the process; runs in what `diagnose` starts.

    Args:
        plugins: The fields of each plugin.
        path: The file to write, a line of JSON each: first what came of loading all, then of using one after the other.
    """
    tried = [Plugin(**fields) for fields in plugins]
    with pathlib.Path(path).open("w", encoding="ascii") as file:

        def write(outcome: object) -> None:
            # The process may be gone before it comes to the next.
            file.write(json.dumps(outcome) + "\n")
            file.flush()

        write([_load(plugin) for plugin in tried])
        for plugin in tried:
            write(_use(plugin))
    os._exit(0)  # sys.exit() would wait for threads that a plugin may have started.


def _load(plugin: Plugin) -> dict[str, Any]:
    try:
        return _describe(plugin, plugin.load())
    except BaseException as error:  # noqa: BLE001 # whatever a plugin raises is the outcome
        return {"failure": plugin.problem() or one_line(error)}


def _use(plugin: Plugin) -> dict[str, Any]:
    if plugin.problem():
        return {}  # It could not be loaded.
    # Imported here, since nothing else needs it in the process that lists.
    from nectargan_core.cli._trials import try_out

    try:
        return {"note": try_out(plugin, plugin.load())}
    except NectarganError as error:
        why = str(error).partition("\n")[0].removeprefix(f"{plugin.incompatibility()}; ")
        why = why if why.endswith("..") else why.removesuffix(".")
    except BaseException as error:  # noqa: BLE001 # whatever a plugin raises is the outcome
        why = f"cannot be used: {one_line(error)}"
    return _failure(plugin, why)


def _describe(plugin: Plugin, loaded: Any) -> dict[str, Any]:
    doc = docstring_of(loaded).partition("\n")[0]
    if plugin.group != SPECS:
        return {"variants": None, "doc": doc}
    # Imported here, since it imports torch, which a loaded spec has imported already.
    from nectargan_core.objectives import variants_of

    return {"variants": variants_of(loaded), "doc": doc}


def _row(entry: catalog.Entry, outcome: dict[str, Any] | None) -> Row:
    plugin, state, note = entry.plugin, entry.state, entry.note
    if outcome is None:
        loaded = plugin.imported() if state == "loaded" else None
        outcome = {} if loaded is None else _describe(plugin, loaded)
    elif "failure" in outcome:
        state, note = "broken", "; ".join(filter(None, (plugin.incompatibility(), outcome["failure"])))
    else:
        state = "loaded" if state == "available" else state
        note = "; ".join(filter(None, (note, outcome["note"])))
    variants = outcome.get("variants")
    return Row(
        name=plugin.name,
        group=plugin.group,
        kind=plugin.kind,
        distribution=plugin.dist,
        version=plugin.version,
        target=plugin.target,
        state=state,
        variants=None if variants is None else tuple(variants),
        doc=outcome.get("doc", ""),
        note=note,
    )


def _load_in_process(plugins: list[Plugin]) -> list[dict[str, Any]]:
    """Load and use the plugins of one module in one process, or in several where one ends the process."""
    ended = run_python(_CHILD, {"plugins": [asdict(each) for each in plugins], "path": sys.path}, _TIMEOUT_S)
    lines = ended.result.splitlines()
    if not lines:
        if len(plugins) > 1 and not ended.is_late:
            return [outcome for plugin in plugins for outcome in _load_in_process([plugin])]
        return [_failure(plugin, ended.how) for plugin in plugins]
    loaded, *used = map(json.loads, lines)
    outcomes = [{**first, **then} for first, then in zip(loaded, used, strict=False)]
    if len(outcomes) < len(plugins):
        culprit, *others = plugins[len(outcomes) :]
        outcomes.append({**loaded[len(outcomes)], **_failure(culprit, ended.how)})
        outcomes += _load_in_process(others) if others else []
    return outcomes


def _failure(plugin: Plugin, why: str) -> dict[str, Any]:
    return {"failure": f"{why}; report it to the authors of {plugin.dist}"}
