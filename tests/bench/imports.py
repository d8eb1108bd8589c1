"""What importing costs: the whole package after torch, and the parts that need no torch beside `import torch`."""

from __future__ import annotations

import statistics
import subprocess
import sys

ROUNDS = 7
AFTER_TORCH = """
import gc, sys, time
if sys.argv[1] == "off":
    gc.disable()
start = time.thread_time(); import torch; torch_done = time.thread_time()
import nectargan_core; [getattr(nectargan_core, name) for name in nectargan_core.__all__]; done = time.thread_time()
print(torch_done - start, done - torch_done)
"""
CPU_TIME = "import sys, time; before = time.process_time(); {0}; print(time.process_time() - before, file=sys.stderr)"
WITHOUT_TORCH = {
    "import torch": "import torch",
    "import nectargan_core": "import nectargan_core",
    "nectargan --help": "from nectargan_core.cli import main; main(['--help'], standalone_mode=False)",
    "nectargan plugins": "from nectargan_core.cli import main; main(['plugins'], standalone_mode=False)",
}


def after_torch() -> None:
    """Print what all public names add to a process that has imported torch."""
    print("Importing all of nectargan_core after torch (CPU time, medians of fresh processes; aim: under 15% of torch)")
    print("A full garbage collection of what torch has made falls to whoever allocates next, so both are shown.")
    taken: dict[str, list[list[float]]] = {"off": [], "on": []}
    for _ in range(ROUNDS):
        for collector, rows in taken.items():
            child = [sys.executable, "-c", AFTER_TORCH, collector]
            output = subprocess.run(child, check=True, capture_output=True, text=True).stdout
            rows.append([float(seconds) for seconds in output.split()])
    for collector, rows in taken.items():
        ratio = statistics.median(core / torch for torch, core in rows)
        torch, core = (statistics.median(column) * 1e3 for column in zip(*rows, strict=True))
        print(
            f"collector {collector:<4} torch {torch:.0f} ms, then nectargan_core {core:.0f} ms: {ratio:.1%} of torch's"
        )


def without_torch() -> None:
    """Print what starts without torch, beside the import of torch."""
    print("What needs no tensor, beside `import torch` (likewise; aim for nectargan --help: at most 25%)")
    taken: dict[str, list[float]] = {name: [] for name in WITHOUT_TORCH}
    for _ in range(ROUNDS):
        for name, code in WITHOUT_TORCH.items():
            child = [sys.executable, "-c", CPU_TIME.format(code)]
            output = subprocess.run(child, check=True, capture_output=True, text=True).stderr
            taken[name].append(float(output.splitlines()[-1]))
    torch = statistics.median(taken["import torch"])
    for name, seconds in taken.items():
        print(f"{name:<24}{statistics.median(seconds) * 1e3:>8.0f} ms{statistics.median(seconds) / torch:>8.1%}")


def main() -> None:
    """Print both tables."""
    after_torch()
    without_torch()


if __name__ == "__main__":
    main()
