"""Runs functions of a test module in the processes of torchrun, and returns what each has returned in each of them.

As a program it is what torchrun starts.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

SECONDS = 120
"""How long all functions may take together; a deadlock ends then."""


def torchrun(command: Sequence[str | Path], processes: int, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python program with torchrun, with a thread in each process; what it prints is captured.

    Raises:
        AssertionError: If it has not ended in time.
    """
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    running = subprocess.Popen(
        [*launcher, *command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = running.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(running.pid, signal.SIGTERM)  # torchrun ends its processes then
        out, err = running.communicate(timeout=SECONDS)
        raise AssertionError(f"not ended after {SECONDS} seconds:\n{out}\n{err}") from None
    return subprocess.CompletedProcess(running.args, running.returncode, out, err)


def run_functions(module: str, names: Sequence[str], processes: int, place: Path) -> dict[str, list[Any]]:
    """Call functions of a module of this directory, one after the other, in so many processes of one group.

    Args:
        module: The name of the module.
        names: Its functions. Each is called with a directory that all processes share, and returns what JSON can hold.
        processes: How many.
        place: Where the directories are made.

    Returns:
        What each function has returned, by rank.
    """
    done = torchrun([__file__, module, place, *names], processes, place)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return {
        name: [json.loads((place / name / f"returned{rank}.json").read_text()) for rank in range(processes)]
        for name in names
    }


def _main(module: str, place: str, *names: str) -> None:
    from torch import distributed

    distributed.init_process_group("gloo", timeout=timedelta(seconds=SECONDS / 2))
    functions = importlib.import_module(module)
    for name in names:
        print(f"rank {distributed.get_rank()}: {name}", file=sys.stderr, flush=True)
        directory = Path(place, name)
        directory.mkdir(exist_ok=True)
        returned = getattr(functions, name)(directory)
        (directory / f"returned{distributed.get_rank()}.json").write_text(json.dumps(returned))
        distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    _main(*sys.argv[1:])
