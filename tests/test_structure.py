"""The structure of the package: what is public, what a room says of itself, and what is imported when."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nectargan_core
from nectargan_core import LossManager
from nectargan_core.log import COLUMNS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "nectargan_core"
ROOMS = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
MODULES = sorted(PACKAGE.rglob("*.py"))
API = (ROOT / "docs/api.md").read_text(encoding="utf-8")


def relative(path):
    return path.relative_to(ROOT).as_posix()


# What is public


def test_the_api_page_shows_what_the_package_names_and_nothing_else():
    shown = set(re.findall(r"auto(?:class|function|data):: nectargan_core\.([\w.]+)", API))
    shown |= set(re.findall(r"automodule:: nectargan_core\.(\w+)", API))
    # `hookimpl` is documented where the events are. The kit is imported by itself.
    assert shown == set(nectargan_core.__all__) - {"hookimpl"} | {"testing"}


@pytest.mark.parametrize("name", nectargan_core.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(nectargan_core, name) is not None
    assert name in dir(nectargan_core)


def test_a_name_that_is_not_there_is_an_ordinary_attribute_error():
    with pytest.raises(AttributeError, match="module 'nectargan_core' has no attribute 'Balances'"):
        nectargan_core.Balances  # noqa: B018 # asking is the test


def test_type_checkers_see_the_names_that_are_resolved_lazily():
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {alias.name: node.module for node in guarded.body for alias in node.names}
    lazily = {name: f"nectargan_core.{module}" for name, module in nectargan_core._MODULES.items()}
    assert seen == lazily | dict.fromkeys(nectargan_core._SUBMODULES, "nectargan_core")
    assert set(seen) == set(nectargan_core.__all__)


# Rooms


def test_what_is_private_is_called_so():
    public = {"__init__.py", "__main__.py", "manager.py", "config.py", "errors.py", "hookspecs.py"}
    assert {path.name for path in PACKAGE.glob("[!_]*.py")} | {"__init__.py", "__main__.py"} == public
    for path in MODULES:
        # Fixtures are named in a conftest.py by the module that they are in.
        if path.parent != PACKAGE and path != PACKAGE / "testing" / "fixtures.py":
            assert path.name.startswith("_"), relative(path)


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_in_its_first_line_what_it_is_for(path):
    first = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
    assert len(first) > 20
    assert first.endswith(".")


@pytest.mark.parametrize("room", ROOMS, ids=relative)
def test_every_room_names_what_it_offers(room):
    tree = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    (offered,) = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert offered == sorted(offered, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
    assert set(offered) == imported


def test_a_record_has_a_row_for_each_column_on_the_page_of_the_log():
    page = (ROOT / "docs/log.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \|", page.partition("**A chunk**")[2].partition("**A rewind**")[0], re.M
    )
    assert [name for row in rows for name in re.findall(r"`(\w+)`", row)] == [
        "loss_name",
        "time",
        "n",
        "float",
        "component_of",
        *COLUMNS,
        "batch",
        "crc32",
    ]


NEW_COLUMN = """
import json, pathlib, sys
import torch
from nectargan_core import LossLog, LossManager

old, new = map(pathlib.Path, sys.argv[1:])
assert LossLog(old).series("a").rank.tolist() == [1, 1]
with LossManager(experiment_dir=new) as manager:
    manager.register_loss_fn("a", torch.nn.L1Loss())
    for size in (2, 3):
        manager.compute_loss_xy("a", torch.zeros(size), torch.ones(size))
    manager._recorder.series["a"].rows[-8:] = (5).to_bytes(8, sys.byteorder)
    before = manager.series("a").rank.tolist()
log = LossLog(new)
log.to_csv(new / "log.csv")
print(json.dumps([before, log.series("a").rank.tolist(), log.series("a").per_step().rank.tolist()]))
print((new / "log.csv").read_text())
"""


@pytest.mark.slow
def test_a_new_column_is_one_entry(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "changed/nectargan_core")
    records = tmp_path / "changed/nectargan_core/log/_records.py"
    last = '    unweighted: _Floats = field(metadata=_column("d", "values"))\n'
    added = '    rank: _Integers = field(metadata=_column("q", "runs", default=1), default_factory=_left_out)\n'
    text = records.read_text(encoding="utf-8")
    assert last in text
    records.write_text(text.replace(last, last + added), encoding="utf-8")
    with LossManager(experiment_dir=tmp_path / "old") as manager:
        manager.register_loss_fn("a", torch.nn.L1Loss())
        for _ in range(2):
            manager.compute_loss_xy("a", torch.zeros(2), torch.ones(2))
    done = subprocess.run(
        [sys.executable, "-c", NEW_COLUMN, tmp_path / "old", tmp_path / "new"],
        cwd=tmp_path / "changed",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[[1, 5], [1, 5], [1.0, 5.0]]"
    assert "name,step,epoch,loss,weight,unweighted,rank" in done.stdout
    assert "a,1,0.0,1.0,1.0,1.0,5" in done.stdout


def test_every_plugin_is_checked_by_the_contracts_of_the_imports():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    packages = {path.name for path in ROOT.glob("plugins/*/src/*") if path.is_dir()}
    contracts = {contract["name"]: contract for contract in linter["contracts"]}
    assert set(linter["root_packages"]) == packages | {"nectargan_core"}
    assert set(contracts["Core imports no plugin"]["forbidden_modules"]) == packages
    assert set(contracts["Plugins use public names of core only"]["source_modules"]) == packages


# What is imported when

LIGHT = [
    "import nectargan_core",
    "from nectargan_core import catalog, errors, hookimpl, hookspecs; catalog.plugins()",
    "from nectargan_core.cli import main; main(['--help'], standalone_mode=False)",
    "from nectargan_core.cli import main; main(['plugins'], standalone_mode=False)",
    "from nectargan_core.cli import main; main(['check', '--help'], standalone_mode=False)",
    "from nectargan_core.cli import main; main(['log', 'report', '--help'], standalone_mode=False)",
    "from nectargan_core.cli import main; main(['new', 'loss', 'acme'], standalone_mode=False)",
    "from nectargan_core import Schedule, preview; preview(Schedule('linear', end=5, target_value=0.0), 6)",
]


@pytest.mark.parametrize("code", LIGHT)
def test_what_needs_no_tensor_does_not_import_torch(code, tmp_path):
    check = "import sys; assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", f"{code}\n{check}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
