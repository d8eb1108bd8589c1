"""The commands on the pages: each succeeds in a new environment without a network, and prints what the page shows.

The commands of a page are run in their order, as a reader would: in one directory, where `cd` holds for what follows,
and where a block that is a file is written before the next command.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import vgg_weights
from documents import PAGES, ROOT, blocks, file_of, relative

# The blocks that are not run here, by page and first line, with the reason.
ELSEWHERE = {
    ("README.md", "make demo"): "both set up an environment from the network; this is a part of `make test-all`, which "
    "`.ci/run` runs, and what `make demo` does is tested with nectargan-pix2pix",
    (
        "docs/performance.md",
        "make bench",
    ): "takes minutes; what it is made of is tested in test_benchmarks.py",
    ("plugins/nectargan-tensorboard/README.md", "$ tensorboard --logdir runs"): "it runs until it is stopped",
    ("plugins/nectargan-pix2pix/README.md", "nectargan-pix2pix demo"): "takes minutes; tested with nectargan-pix2pix",
}
# Pages whose commands need other distributions, and the test that has them.
OTHER_TESTS = {"docs/plugins.md": "test_plugins_page.py"}
# What is put in front of or behind a command, so that it ends soon.
SHORTER = [(r"^.*nectargan[-_]pix2pix train .*$", r"\g<0> --epochs 1 --channels 2 --batch-size 2 --device cpu")]


def commands_of(path):
    """The blocks of a page that are run here, and the files between them."""
    if relative(path) in OTHER_TESTS:
        return []
    found = [block for block in blocks(path, "sh", "console") if (block.page, block.first) not in ELSEWHERE]
    files = [block for block in blocks(path) if file_of(block)]
    return sorted([*found, *files], key=lambda block: block.line) if found else []


class Shell:
    """Runs commands in an environment, and keeps the directory from one to the next."""

    def __init__(self, environment, wheels, place):
        self.directory = place
        self._end = place.parent / "directory"
        # Where pip is to find everything: no network, and no environments of its own to build in.
        self._variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("NECTARGAN_", "PYTHONPATH"))},
            # The programs of this environment come last: those of torch are only there.
            "PATH": os.pathsep.join(
                [str(environment.python.parent), os.environ["PATH"], str(Path(sys.prefix) / "bin")]
            ),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_FIND_LINKS": str(wheels),
            "PIP_NO_BUILD_ISOLATION": "0",
            "PIP_NO_INDEX": "1",
            "OMP_NUM_THREADS": "1",
        }
        pip = environment.python.with_name("pip")
        pip.write_text(f'#!/bin/sh\nexec "{environment.python}" -m pip "$@"\n')
        pip.chmod(0o755)

    def set(self, name, value):
        self._variables[name] = str(value)

    def run(self, command):
        """Run a command, and return what it printed; it has to succeed."""
        done = subprocess.run(
            ["bash", "-c", f"set -e\n{command}\npwd -P > '{self._end}'"],
            cwd=self.directory,
            env=self._variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=280,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        self.directory = Path(self._end.read_text(encoding="utf-8").strip())
        return done.stdout


@pytest.fixture
def shell(make_environment, wheels, tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    return Shell(make_environment(tmp_path / "environment"), wheels, place)


def clone_of_this(shell, place):
    """Make a repository of the files that are here, committed or not."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / name)
    who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"]
    for arguments in (["init", "--quiet"], ["add", "--all"], [*who, "commit", "--quiet", "--message", "all"]):
        subprocess.run(["git", *arguments], cwd=place, check=True)


def pairs_of_images(shell, place):
    """Make the images that the page trains on and translates, and weights for its perceptual loss."""
    import numpy as np
    from PIL import Image

    random = np.random.default_rng(0)
    for part in ("train", "val"):
        (shell.directory / "datasets/facades" / part).mkdir(parents=True)
        for number in range(2):
            pixels = random.integers(0, 256, (32, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(shell.directory / "datasets/facades" / part / f"{number}.png")
    (shell.directory / "photos").mkdir()
    Image.new("RGB", (40, 32), "grey").save(shell.directory / "photos/house.jpg")
    vgg_weights.save_random(place.with_suffix(".pth"))
    shell.set("NECTARGAN_VGG19_WEIGHTS", place.with_suffix(".pth"))
    shell.run("pip install nectargan-vgg nectargan-schedules nectargan-weightings")


# What the commands of a page need beside an environment with PyTorch.
BEFORE = {
    "README.md": clone_of_this,
    "docs/quickstart.md": clone_of_this,
    "plugins/nectargan-pix2pix/README.md": pairs_of_images,
}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", [path for path in PAGES if commands_of(path)], ids=relative)
def test_every_command_of_the_page_succeeds_and_prints_what_the_page_shows(path, shell, wheels, tmp_path):
    if any("--editable" in block.text for block in commands_of(path)):
        pytest.importorskip("editables")
    if path.parent.name == "docs":
        # The README and those of the plugins say what to install.
        shell.run("pip install " + " ".join(sorted({wheel.name.split("-")[0] for wheel in wheels.glob("*.whl")})))
    if prepare := BEFORE.get(relative(path)):
        prepare(shell, tmp_path / "repository")
    for block in commands_of(path):
        if file := file_of(block):
            (shell.directory / file).parent.mkdir(parents=True, exist_ok=True)
            (shell.directory / file).write_text(block.text, encoding="utf-8")
        elif block.language == "sh":
            shell.run(adapted(block.text, tmp_path))
        else:
            compare(shell, block, tmp_path)


def adapted(commands, tmp_path):
    commands = commands.replace("<this repository>", str(tmp_path / "repository"))
    for pattern, replacement in SHORTER:
        commands = re.sub(pattern, replacement, commands, flags=re.M)
    return commands


def compare(shell, block, tmp_path):
    """Run the commands of a block, each after `$ `, and compare what they print with what the block shows."""
    assert block.text.startswith("$ "), f"{block}: a command begins with `$ `"
    real = ""
    for line in block.text.splitlines():
        if line.startswith("$ "):
            real += f"{line}\n{shell.run(adapted(line[2:], tmp_path))}"
    changes = difflib.unified_diff(block.text.splitlines(), real.splitlines(), "shown", "real", lineterm="", n=0)
    assert block.text == real, f"{block}:\n" + "\n".join(changes)


def test_every_exception_is_needed():
    for page, first in ELSEWHERE:
        assert any(block.first == first for block in blocks(ROOT / page, "sh", "console")), (page, first)
    for page, test in OTHER_TESTS.items():
        assert not blocks(ROOT / page, "sh"), f"{page}: {test} runs blocks of the language console only"
        assert (ROOT / "tests" / test).exists()
