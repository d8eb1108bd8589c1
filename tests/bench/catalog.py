"""What it costs to find a plugin by its name among 300 installed distributions."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import importlib_metadata
from interleaved import medians

from nectargan_core import catalog

DISTRIBUTIONS = 300


def install(site: Path) -> None:
    """Write the metadata of many distributions, each of which offers one spec."""
    for number in range(DISTRIBUTIONS):
        info = site / f"bench_{number}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: bench-{number}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[{catalog.SPECS}]\nbench-{number} = bench_{number}:spec\n")


def first() -> None:
    """Read what is installed, and find one name in it."""
    catalog.refresh()
    catalog.find(catalog.SPECS, "bench-7")


def main() -> None:
    """Print the medians of the first and of later resolutions, beside that of the bare scan."""
    print(f"Finding a plugin among {DISTRIBUTIONS} distributions (CPU time, medians of interleaved runs)")
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        sys.path.append(folder)
        try:
            scans = medians(
                {"bare": lambda: importlib_metadata.entry_points(group=catalog.SPECS), "first": first}, calls=1
            )
            later = medians({"later": lambda: catalog.find(catalog.SPECS, "bench-7")}, calls=1000)["later"]
        finally:
            sys.path.remove(folder)
            catalog.refresh()
    bare = scans["bare"]
    print(f"entry_points(group=...)  {bare * 1e3:8.2f} ms")
    print(f"first resolution         {scans['first'] * 1e3:8.2f} ms  {scans['first'] / bare:.2f}x (aim: under 3x)")
    print(f"later resolutions        {later * 1e6:8.2f} us  (aim: under 10 us)")


if __name__ == "__main__":
    main()
