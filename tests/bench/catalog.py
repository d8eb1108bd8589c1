"""Finding a plugin by its name among 300 installed distributions, beside reading their entry points."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import importlib_metadata
from interleaved import times
from table import Row, compared

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


def rows() -> Iterator[Row]:
    """Yield the first and later resolutions."""
    bare = "entry_points(group=...)"
    with tempfile.TemporaryDirectory() as folder:
        install(Path(folder))
        sys.path.append(folder)
        try:
            scans = times(
                {bare: lambda: importlib_metadata.entry_points(group=catalog.SPECS), "first": first}, 1, rounds=30
            )
            later = times({"later": lambda: catalog.find(catalog.SPECS, "bench-7")}, 1000, rounds=30)["later"]
        finally:
            sys.path.remove(folder)
            catalog.refresh()
    yield compared("the first name that is resolved", bare, scans["first"], scans[bare], 3.0)
    yield compared("any later one", bare, later, scans[bare])
