"""Imports and commands in fresh processes, beside `import torch`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from table import Row, compared

ROUNDS = 5
TIMED = "import time; start = time.process_time(); {0}; taken = time.process_time() - start; "
TORCH = "import torch"
WAYS = {
    TORCH: TIMED.format(TORCH),
    "import nectargan_core": TIMED.format("import nectargan_core"),
    "nectargan --help": TIMED.format("from nectargan_core.cli import main; main(['--help'], standalone_mode=False)"),
    "nectargan plugins": TIMED.format("from nectargan_core.cli import main; main(['plugins'], standalone_mode=False)"),
    "all public names, after torch": f"{TORCH}; "
    + TIMED.format("import nectargan_core; [getattr(nectargan_core, name) for name in nectargan_core.__all__]"),
    "the same, without garbage collection": f"import gc; gc.disable(); {TORCH}; "
    + TIMED.format("import nectargan_core; [getattr(nectargan_core, name) for name in nectargan_core.__all__]"),
    "the first from_spec('pix2pix:extended')": "from nectargan_core import LossManager; "
    + TIMED.format("LossManager.from_spec('pix2pix:extended')"),
    "the first from_spec('l1')": "from nectargan_core import LossManager; "
    + TIMED.format("LossManager.from_spec('l1')"),
}
AIMS = {
    "nectargan --help": 0.25,
    "all public names, after torch": 0.15,
    "the same, without garbage collection": 0.15,
}
"""A full garbage collection of what torch has made falls to whoever allocates next, so both are measured."""


def seconds(code: str) -> float:
    """Return the CPU time that a fresh process measures."""
    program = [sys.executable, "-c", f"{code}import sys; print(taken, file=sys.stderr)"]
    return float(subprocess.run(program, check=True, capture_output=True, text=True).stderr.splitlines()[-1])


def rows() -> Iterator[Row]:
    """Yield a row for each."""
    taken: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(ROUNDS):
        for name, code in WAYS.items():
            taken[name].append(seconds(code))
    for name in list(taken)[1:]:
        yield compared(name, TORCH, taken[name], taken[TORCH], AIMS.get(name))
