"""Writes a distribution into a directory as pip leaves it installed there, and removes it again; for tests."""

from __future__ import annotations

import base64
import csv
import hashlib
import importlib.util
import pathlib
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping


def write_distribution(
    directory: pathlib.Path,
    name: str,
    version: str,
    *,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str],
    requires: Iterable[str] = (),
) -> pathlib.Path:
    """Write the modules and the metadata of a distribution.

    Args:
        directory: Where to.
        name: The name of the distribution.
        version: Its version.
        entry_points: The target of each name, by entry point group.
        modules: The source of each file, by its path in the directory; common indentation is removed.
        requires: What it depends on, as requirements.

    Returns:
        The directory of its metadata.
    """
    info = directory / f"{name.replace('-', '_')}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {directory / path: textwrap.dedent(source) for path, source in modules.items()}
    files[info / "METADATA"] = metadata + "".join(f"Requires-Dist: {each}\n" for each in requires)
    files[info / "entry_points.txt"] = "\n".join(
        "\n".join([f"[{group}]", *(f"{each} = {target}" for each, target in names.items()), ""])
        for group, names in entry_points.items()
    )
    files[info / "WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[info / "INSTALLER"] = "pip\n"
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    with (info / "RECORD").open("w", newline="", encoding="utf-8") as record:
        rows = csv.writer(record)
        for path in files:
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.writerow([path.relative_to(directory).as_posix(), f"sha256={digest}", len(content)])
        rows.writerow([(info / "RECORD").relative_to(directory).as_posix(), "", ""])
    return info


def remove_distribution(info: pathlib.Path) -> None:
    """Remove the files that the RECORD in a metadata directory lists, as pip does."""
    with (info / "RECORD").open(newline="", encoding="utf-8") as record:
        paths = [info.parent / row[0] for row in csv.reader(record)]
    for path in paths:
        path.unlink()
        if path.suffix == ".py":
            # What is installed next may have the same size, and be written within the same second.
            pathlib.Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    shutil.rmtree(info)


def forget_modules(directory: pathlib.Path) -> None:
    """Let the next import of a module in a directory read its file again."""
    for name, module in list(sys.modules.items()):
        names = getattr(module, "__dict__", {})
        places = [names.get("__file__"), *(names.get("__path__") or ())]
        if any(isinstance(place, str) and pathlib.Path(place).is_relative_to(directory) for place in places):
            del sys.modules[name]
