"""Builds wheels without a network, with the tools of this environment; runs commands that have to succeed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def build(project: Path, dist: Path) -> None:
    """Build the wheel of a project into a directory."""
    call([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(project)])


def build_all(dist: Path) -> None:
    """Build the wheels of core and of all plugins."""
    for project in (ROOT, *sorted(ROOT.glob("plugins/nectargan-*"))):
        if (project / "pyproject.toml").exists():
            build(project, dist)


def call(command: list[str], cwd: Path | None = None) -> None:
    """Run a command, and show what it printed if it fails."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=240, cwd=cwd
    )
    assert done.returncode == 0, done.stdout
