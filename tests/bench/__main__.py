"""Runs every benchmark of this folder, or those that are named: `python tests/bench call imports`.

With `cuda` among the names, those of losses measure on a GPU where they can: `python tests/bench losses_vgg cuda`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

HERE = Path(__file__).parent


def main(names: list[str]) -> None:
    """Run the benchmarks by name; all of them if none is named."""
    known = sorted(path.stem for path in HERE.glob("[!_]*.py") if "def main() -> None" in path.read_text())
    for name in [name for name in names if name != "cuda"] or known:
        if name not in known:
            sys.exit(f"no benchmark {name!r}; there are {', '.join(known)}")
        importlib.import_module(name).main()
        print(flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
