"""Measures what things cost, as ratios: `python tests/bench`, or some of it: `python tests/bench call imports`.

With `--write`, what was measured replaces the rows in docs/performance.json, which `make tables` writes into
docs/performance.md.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
# torch tries to import a `cuda` that is not the one of this folder.
sys.path[:] = [path for path in sys.path if Path(path).resolve() != HERE]
import torch  # noqa: E402  # after the path

sys.path.append(str(HERE))
from table import HEADING, Row, line, machine  # noqa: E402  # likewise

RESULTS = HERE.parents[1] / "docs" / "performance.json"
SECTIONS = (
    *("call", "step", "objective", "schedules", "weightings", "managing", "in_lightning"),
    *("pix2pix_step", "trainer"),
    *("memory", "log", "ranks", "looking", "observers"),
    *("imports", "catalog"),
    *("losses_image", "losses_edges", "losses_ssim", "losses_vgg", "losses_lpips"),
    *("losses_gan", "losses_segmentation", "losses_audio"),
    "cuda",
)
"""The benchmarks in the order of the table. `cost` is none of them: it writes docs/costs.json."""


def main(arguments: list[str]) -> None:
    """Run the benchmarks that are named, or all of them."""
    names = [name for name in arguments if name != "--write"]
    if names == ["cost"]:
        load("cost").main()
        return
    for name in names:
        if name not in SECTIONS:
            sys.exit(f"no benchmark {name!r}; there are {', '.join(SECTIONS)} and cost")
    torch.set_num_threads(1)
    failed = []
    print(HEADING)
    for name in names or SECTIONS:
        start = time.perf_counter()
        rows = []
        try:
            module = load(name)
            print(f"\n{title(module)} ({name})", flush=True)
            for row in module.rows():
                print(line(row), flush=True)
                rows.append(row)
        except Exception:  # noqa: BLE001  # the others are measured all the same
            traceback.print_exc()
            failed.append(name)
            continue
        if "--write" in arguments:
            store(name, module, rows, time.perf_counter() - start)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def load(name: str) -> ModuleType:
    """Import a module of this folder, also where others have one of its name."""
    spec = importlib.util.spec_from_file_location(f"bench_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None  # noqa: PT018  # for type checkers
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def title(module: ModuleType) -> str:
    """Return what a benchmark measures: the first line of its module."""
    return (module.__doc__ or "").partition("\n")[0].rstrip(".")


def store(name: str, module: ModuleType, rows: list[Row], seconds: float) -> None:
    """Replace the rows of one benchmark in the results."""
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results[name] = {
        "title": title(module),
        "machine": machine(getattr(module, "DEVICE", "cpu")),
        "date": time.strftime("%Y-%m-%d"),
        "seconds": round(seconds),
        "load": round(os.getloadavg()[0], 1),
        "rows": [{key: _rounded(value) for key, value in asdict(row).items()} for row in rows],
    }
    ordered = {section: results[section] for section in SECTIONS if section in results}
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _rounded(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main(sys.argv[1:])
