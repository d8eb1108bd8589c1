"""Runs a Python program in another process, which reads a task and writes a result, and says how it ended."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass

from nectargan_core._messages import shown


@dataclass(frozen=True)
class Ended:
    """What came of another process.

    Args:
        result: What it wrote into its file; empty where it wrote nothing.
        is_late: Whether it was stopped, because it took too long.
        how: How it ended, as the end of a sentence, with the last line that it printed.
    """

    result: str
    is_late: bool
    how: str


def run_python(program: str, task: object, timeout_s: float, *, in_empty_directory: bool = False) -> Ended:
    """Run a program in this interpreter's executable.

    Args:
        program: Its code. `sys.argv[1]` is the file with the task, `sys.argv[2]` the one to write the result into.
        task: What it reads, as `json.dumps` takes it.
        timeout_s: After how many seconds it is stopped.
        in_empty_directory: Whether it starts in an empty directory, where nothing can be imported from.
    """
    with tempfile.TemporaryDirectory(prefix="nectargan-") as directory:
        given, result, log, empty = (pathlib.Path(directory, name) for name in ("task", "result", "log", "empty"))
        given.write_text(json.dumps(task), encoding="utf-8")
        empty.mkdir()
        # To a file: a pipe would stay open for as long as a process that the program started.
        with log.open("wb") as output:
            try:
                status = subprocess.run(  # noqa: S603 # this interpreter, and a program that is all ours
                    [sys.executable, "-c", program, str(given), str(result)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=empty if in_empty_directory else None,
                    timeout=timeout_s,
                    check=False,
                ).returncode
            except subprocess.TimeoutExpired:
                status = None
        written = result.read_text(encoding="utf-8") if result.exists() else ""
        printed = log.read_text(encoding="utf-8", errors="backslashreplace").strip().splitlines()
    if status is None:
        return Ended(written, True, f"did not finish within {timeout_s:g} s")
    last = f", saying {shown(printed[-1])}" if printed else ""
    return Ended(written, False, f"ended Python {_ending(status)}{last}")


def _ending(status: int) -> str:
    if status >= 0:
        return f"with exit status {status}"
    try:
        return f"by signal {signal.Signals(-status).name}"
    except ValueError:
        return f"by signal {-status}"
