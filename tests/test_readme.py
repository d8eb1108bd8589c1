"""What the README promises at its first sight: two loops that train the same, and code that one need not scroll."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from documents import ROOT, blocks

from nectargan_core import LossLog

SET_UP, BEFORE, AFTER = (block.text for block in blocks(ROOT / "README.md", "python")[:3])
COLUMNS = {"g_gan": "G_GAN", "g_l1": "G_L1", "g_l2": "G_L2", "g_tv": "G_TV", "d_real": "D_real", "d_fake": "D_fake"}


def run(loop):
    names = {}
    exec(SET_UP + loop, names)
    return names


def test_the_loop_by_hand_and_the_loop_with_a_manager_train_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_hand, with_manager = run(BEFORE), run(AFTER)
    for network in ("generator", "discriminator"):
        for one, other in zip(by_hand[network].parameters(), with_manager[network].parameters(), strict=True):
            assert one.equal(other)
    with Path("losses.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    log = LossLog("runs/first")
    for column, name in COLUMNS.items():
        assert [float(row[column]) for row in rows] == log.series(name).loss.tolist()
    assert [float(row["weight_l2"]) for row in rows] == log.series("G_L2").weight.tolist()


def test_code_fits_where_the_readme_is_read():
    # The width of a code block on GitHub and on the package index.
    for block in blocks(ROOT / "README.md"):
        for line in block.text.splitlines():
            assert len(line) <= 98, f"{block}: break this line: {line}"


@pytest.mark.parametrize("page", ["README.md", "docs/index.md"])
def test_the_objectives_of_the_demo_are_those_of_its_code(page):
    running = pytest.importorskip("nectargan_pix2pix.demo.running")
    text = (ROOT / page).read_text(encoding="utf-8")
    for trial in running.TRIALS:
        assert f"{trial.name} for `{trial.formula}`" in " ".join(text.split())
