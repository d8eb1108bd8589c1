"""The recipes of Lightning and accelerate run in two processes, as their pages say; nothing of ours communicates."""

from __future__ import annotations

import pytest
import torch
from documents import ROOT, blocks, text_of
from torchrun import torchrun

from nectargan_core import LossLog

pytestmark = pytest.mark.slow
RECIPES = ROOT / "docs/recipes"
# Put before the program: functions that communicate fail where they are called from a module of this project.
GUARD = """
import sys, torch
def guarded(name, original):
    def call(*args, **kwargs):
        frame = sys._getframe(1)
        while frame is not None:
            where = frame.f_globals.get("__name__", "")
            assert not where.startswith("nectargan_core"), f"{where} communicates: {name}"
            frame = frame.f_back
        return original(*args, **kwargs)
    return call
for name in NAMES:
    setattr(torch.distributed, name, guarded(name, getattr(torch.distributed, name)))
"""
NAMES = ("all_gather", "all_gather_object", "all_reduce", "barrier", "broadcast", "broadcast_object_list", "reduce")


def run(name, place, *said, change=("", "")):
    """Run the program of a page in two processes."""
    text = " ".join(text_of(RECIPES / f"{name}.md").split())
    for words in said:
        assert words in text, f"docs/recipes/{name}.md does not say how it is run here: {words}"
    program = "\n".join(block.text for block in blocks(RECIPES / f"{name}.md", "python"))
    assert change[0] in program
    guard = GUARD.replace("NAMES", repr(NAMES))
    (place / "train.py").write_text(guard + program.replace(*change))
    done = torchrun(["train.py"], 2, place)
    assert done.returncode == 0, done.stderr
    assert "NectarganWarning" not in done.stderr
    assert "warn(" not in done.stderr
    return done


TORCHRUN = "torchrun --standalone --nproc-per-node 2 train.py"


def test_lightning_in_two_processes(tmp_path):
    pytest.importorskip("lightning")
    options = 'devices=2, accelerator="cpu", strategy="ddp_find_unused_parameters_true"'
    run("lightning", tmp_path, f"Trainer({options})", TORCHRUN, change=('accelerator="auto"', options))
    log = LossLog(tmp_path / "runs/lightning")
    assert log.ranks == (0, 1)
    records = log.series("G_L1")
    assert records.step.tolist() == list(range(9))  # 12 pairs, 2 in a batch, 2 processes, 3 epochs
    assert records.count.tolist() == [2] * 9
    each = [log.series("G_L1", rank=rank).loss for rank in (0, 1)]
    assert records.loss == pytest.approx((each[0] + each[1]) / 2)
    assert len(log.series("val/psnr")) == 3
    checkpoints = sorted(path.name for path in (tmp_path / "runs/best").iterdir())
    assert checkpoints[-1] == "last.ckpt"
    state = torch.load(tmp_path / "runs/best/last.ckpt", weights_only=False)["callbacks"]
    assert state["LossCallback"]["losses"]["manager"]["step"] == 8


def test_accelerate_in_two_processes(tmp_path, monkeypatch):
    pytest.importorskip("accelerate")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    run("accelerate", tmp_path, f"ACCELERATE_USE_CPU=true {TORCHRUN}", "accelerator.save_state` saves the manager once")
    log = LossLog(tmp_path / "runs/accelerate")
    assert log.ranks == (0, 1)
    records = log.series("G_L1")
    # 16 pairs, 2 in a batch, 2 processes: two epochs of 4 batches, the second one twice; then 4 batches in one step.
    assert records.step.tolist() == list(range(9))
    assert records.count.tolist() == [2] * 8 + [8]
    saved = sorted(path.name for path in (tmp_path / "runs/accelerate/checkpoint").glob("custom_checkpoint*"))
    assert saved == ["custom_checkpoint_0.pkl"]
