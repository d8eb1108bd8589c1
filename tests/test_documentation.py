"""The Python examples of the READMEs and of the documentation run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from packaging.version import Version
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

ROOT = Path(__file__).parent.parent
PARSERS = [PythonCodeBlockParser(), SkipParser()]
DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("plugins/*/README.md")])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_python_example_runs(path, tmp_path, monkeypatch):
    if path.name == "manager.md" and Version(torch.__version__) < Version("2.7"):
        pytest.skip("the page compiles compute_losses, which needs PyTorch 2.7")
    monkeypatch.chdir(tmp_path)
    for example in Sybil(parsers=PARSERS, path=str(ROOT)).parse(path).examples():
        example.evaluate()
