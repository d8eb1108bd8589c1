"""`nectargan new`: which names it takes, what it writes, and that it overwrites nothing."""

import ast
import builtins
import datetime
import errno
import json
import keyword
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from floors import PROJECTS, ROOT, floor, requirements
from packaging.requirements import Requirement

from nectargan_core import catalog
from nectargan_core.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KINDS = {
    "loss": catalog.SPECS,
    "schedule": catalog.SCHEDULES,
    "weighting": catalog.WEIGHTINGS,
    "observer": catalog.OBSERVERS,
}
LONGEST = "abcdefghij" * 4
# Each has a meaning of its own for Python, pytest, TOML or the templates.
AWKWARD = ["x", "l", "I", "my-loss", "my.loss", "My_Loss", "_x", "a..b", "3d", "0x1", "class", "match", "list", "null"]
AWKWARD += ["torch", "tensor", "nn", "loss", "spec", "schedule", "weighting", "config", "lm-loss", "test", "test-x"]
AWKWARD += ["a-b-c-d-e-f-g-h-i-j-k-l-m-n-o-p-q-r-s-tu", LONGEST, f"3{LONGEST[1:]}"]
each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def new(tmp_path, monkeypatch):
    """Run the command in an empty directory, without a user of git."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {"HOME": home, "XDG_CONFIG_HOME": home, "GIT_CONFIG_NOSYSTEM": 1, "GIT_CEILING_DIRECTORIES": tmp_path}
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    place = tmp_path / "place"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments):
        return CliRunner().invoke(main, ["new", *arguments])

    run.place = place
    return run


def made(done):
    assert done.exit_code == 0, done.output
    return done.output


def project(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


# What it writes


@each_kind
def test_a_new_folder_has_a_complete_package(new, kind):
    made(new(kind, "acme"))
    assert [path.name for path in new.place.iterdir()] == ["nectargan-acme"]
    folder = new.place / "nectargan-acme"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    modules = {"loss", "spec"} if kind == "loss" else {kind}
    assert files == {
        ".github/workflows/ci.yml",
        ".gitignore",
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "src/nectargan_acme/__init__.py",
        "src/nectargan_acme/py.typed",
        f"tests/test_{kind}.py",
        *(f"src/nectargan_acme/{module}.py" for module in modules),
    }


@each_kind
@pytest.mark.parametrize("name", AWKWARD)
def test_the_entry_point_names_what_the_package_defines(new, kind, name):
    made(new(kind, name))
    folder = new.place / f"nectargan-{name}"
    metadata = project(folder)["project"]
    assert metadata["name"] == f"nectargan-{name}"
    ((group, names),) = metadata["entry-points"].items()
    assert group == KINDS[kind]
    assert list(names) == [name]
    module, target = names[name].split(":")
    package = folder / "src" / module
    assert target in re.findall(r'"(\w+)"', (package / "__init__.py").read_text(encoding="utf-8"))
    defined = set()
    for path in folder.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if path.parent == package:
            defined |= {node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    assert target in defined
    assert not defined & {*dir(builtins), *keyword.kwlist}


def ruff(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ruff", *arguments], capture_output=True, text=True, check=False, encoding="utf-8"
    )


@pytest.mark.slow
@each_kind
def test_the_linter_and_the_formatter_find_nothing_whatever_the_name_is(new, kind):
    pytest.importorskip("ruff")
    names = [*AWKWARD, *(("ab-" * 14)[:length] + "c" for length in range(1, 40, 3))]
    for name in dict.fromkeys(names):
        made(new(kind, name))
    for command in (["check"], ["format", "--check"]):
        done = ruff(*command, "--no-cache", *map(str, new.place.iterdir()))
        assert done.returncode == 0, done.stdout + done.stderr


@each_kind
def test_nothing_is_left_to_fill_in(new, kind):
    made(new(kind, "acme"))
    for path in new.place.rglob("*"):
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"%\{|%\w|TODO|FIXME|XXX|(?i:placeholder|your name|example\.com)", text), path


@each_kind
def test_the_bounds_are_those_of_this_project(new, kind):
    made(new(kind, "acme"))
    metadata = project(new.place / "nectargan-acme")["project"]
    assert metadata["requires-python"] == PROJECTS[ROOT]["project"]["requires-python"]
    lower = {requirement.name: floor(requirement) for requirement in requirements(PROJECTS[ROOT], extras=False)}
    required = {each.name: each for each in map(Requirement, metadata["dependencies"])}
    assert required.pop("nectargan-core").specifier.contains(PROJECTS[ROOT]["project"]["version"], prereleases=True)
    assert {name: floor(each) for name, each in required.items()} == {name: lower[name] for name in required}
    assert set(required) == ({"torch"} if kind == "loss" else set())


@pytest.mark.parametrize(
    ("version", "bounds"),
    [
        ("0.1.0", ">=0.1,<0.2"),
        ("0.12.3", ">=0.12,<0.13"),
        ("1.4.2", ">=1.4,<2"),
        ("0.2.0rc1", ">=0.2.0rc1,<0.3"),
        ("0.1.1.dev3+g12", ">=0.1,<0.2"),
    ],
)
def test_the_bounds_admit_the_running_core_and_no_later_release_that_may_break(new, monkeypatch, version, bounds):
    monkeypatch.setattr("importlib_metadata.version", lambda name: version)
    made(new("schedule", "acme"))
    (required,) = map(Requirement, project(new.place / "nectargan-acme")["project"]["dependencies"])
    assert required.specifier == Requirement(f"x{bounds}").specifier
    assert required.specifier.contains(version, prereleases=True)


def test_the_rules_of_the_linter_are_those_of_this_project(new):
    made(new("loss", "acme"))
    ours, theirs = (each["tool"]["ruff"] for each in (PROJECTS[ROOT], project(new.place / "nectargan-acme")))
    assert (theirs["line-length"], theirs["target-version"]) == (ours["line-length"], ours["target-version"])
    assert (theirs["lint"]["select"], theirs["lint"]["ignore"]) == (ours["lint"]["select"], ours["lint"]["ignore"])


@pytest.mark.skipif(not (ROOT / ".github").exists(), reason="an sdist has no workflows")
def test_the_workflow_uses_the_same_actions_as_that_of_this_project(new):
    made(new("loss", "my.loss"))
    ours = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    theirs = (new.place / "nectargan-my.loss/.github/workflows/ci.yml").read_text(encoding="utf-8")
    assert set(re.findall(r"uses: (\S+)", theirs)) == set(re.findall(r"uses: (\S+)", ours))
    assert set(re.findall(r"torch==[\d.]+", theirs)) == set(re.findall(r"torch==[\d.]+", ours))
    assert "python: ${{ matrix.python }}" in theirs.replace("python-version", "python")
    assert "nectargan check my.loss\n" in theirs


def test_the_key_of_the_configuration_is_the_one_that_is_read(new):
    made(new("loss", "My-Loss.2"))
    assert "`train.loss.lambda_My_Loss_2`" in (new.place / "nectargan-My-Loss.2/README.md").read_text(encoding="utf-8")


def test_it_says_what_it_made_and_what_comes_next(new):
    assert made(new("schedule", "acme")).splitlines() == [
        "nectargan-acme offers the schedule acme:",
        "  .github/workflows/ci.yml",
        "  .gitignore",
        "  LICENSE",
        "  README.md",
        "  pyproject.toml",
        "  src/nectargan_acme/__init__.py",
        "  src/nectargan_acme/py.typed",
        "  src/nectargan_acme/schedule.py",
        "  tests/test_schedule.py",
        "",
        "Install it, and run its tests:",
        "  cd nectargan-acme",
        '  python -m pip install --editable ".[dev]"',
        "  python -m pytest",
        "  nectargan check acme",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["acme"], "expected a kind and a name, as in 'nectargan new loss acme'"),
        (["lose", "acme"], "got 'lose'. Did you mean \"loss\"?"),
        (["Schedule", "acme"], 'Did you mean "schedule"?'),
    ],
)
def test_a_kind_that_is_none_is_refused(new, arguments, expected):
    done = new(*arguments)
    assert done.exit_code == 2
    assert expected in done.output


def test_a_name_that_repeats_the_prefix_of_distributions_is_refused(new):
    done = new("loss", "nectargan-foo")
    assert done.exit_code == 2
    assert "NAME does not begin with 'nectargan-', got 'nectargan-foo'; write 'foo'" in done.output


@pytest.mark.parametrize("kind", list(KINDS))
def test_only_the_module_its_test_and_its_part_of_the_readme_describe_the_example(new, kind):
    made(new(kind, "acme"))
    package = new.place / "nectargan-acme"
    text = (package / "src/nectargan_acme/__init__.py").read_text() + (package / "pyproject.toml").read_text()
    text += (package / "README.md").read_text(encoding="utf-8").partition("\n## The ")[0]
    assert not re.search("cosh|smoothstep|running mean|sharpness|decay", text)


def test_dir_says_where(new):
    (new.place / "my plugins").mkdir()
    assert "  cd 'my plugins/nectargan-acme'\n" in made(new("loss", "acme", "--dir", "my plugins"))
    assert (new.place / "my plugins/nectargan-acme/pyproject.toml").is_file()


def test_a_terminal_without_the_letters_of_the_directory_is_no_obstacle(new):
    (new.place / "größe").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "nectargan_core", "new", "loss", "acme", "--dir", "größe"],
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert r"'gr\xf6\xdfe/nectargan-acme' offers the loss spec acme:" in done.stdout


def test_a_directory_that_is_not_there_is_refused(new):
    done = new("loss", "acme", "--dir", "elsewhere")
    assert done.exit_code == 2
    assert "Directory 'elsewhere' does not exist" in done.output


# Names


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "begins with neither '-' nor '.', got ''"),
        ("a b", "a name has letters, digits, '_', '-' and '.' only, and begins with neither '-' nor '.', got 'a b'"),
        (" a", "got ' a'"),
        (".x", "got '.x'"),
        ("a/b", "got 'a/b'"),
        ("a/", "got 'a/'"),
        ("../x", "got '../x'"),
        ("a:b", "got 'a:b'; variants are a parameter of the spec, and no part of its name"),
        ("a+b", "got 'a+b'"),
        ("a\n", r"got 'a\\n'"),
        ("a\x1b[31m", r"got 'a\\x1b[31m'"),
        ("100", "a formula reads '100' as a number; add a letter, as in 'l100'"),
        ("1e5", "a formula reads '1e5' as a number"),
        ("größe", "package indexes have names of the ASCII letters, digits, '_', '-' and '.' only, got 'größe'"),
        ("x-", "ends with a letter or digit, got 'x-'; leave out the '-'"),
        ("_", "ends with a letter or digit, got '_'"),
        (LONGEST + "a", "a name has at most 40 characters, got 41; choose a shorter one"),
        ("a" * 100_000, "a name has at most 40 characters, got 100000"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(new, name, said):
    done = new("loss", name)
    assert done.exit_code == 2
    assert said in done.output
    assert list(new.place.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "said"),
    [
        ("loss", "core", "nectargan-core is a distribution of this project"),
        ("schedule", "Core", "nectargan-core is a distribution of this project"),
        ("loss", "weightings", "nectargan-weightings is a distribution of this project"),
        ("schedule", "vgg", "nectargan-vgg is a distribution of this project"),
        ("schedule", "cosine", "the schedule 'cosine' comes with nectargan-schedules, a distribution of this project"),
        ("schedule", "One_Cycle", "the schedule 'one-cycle' comes with nectargan-schedules"),
        ("weighting", "gradnorm", "the weighting 'gradnorm' comes with nectargan-weightings"),
        ("schedule", "linear", "the schedule 'linear' is core's own"),
    ],
)
def test_a_name_of_this_project_is_refused(new, kind, name, said):
    done = new(kind, name)
    assert done.exit_code == 2
    assert f"Error: {name!r} is taken: {said}" in done.output
    assert "; choose another name\n" in done.output
    assert list(new.place.iterdir()) == []


def test_a_name_of_another_kind_is_free(new):
    made(new("loss", "cosine"))


@pytest.mark.parametrize("name", ["glow", "Glow"])
def test_a_name_that_is_installed_is_refused(new, site, name):
    site.install_spec("acme-losses", "glow")
    assert f"{name!r} is taken: the loss spec 'glow' is offered by acme-losses 1.0" in new("loss", name).output
    made(new("schedule", name))


def test_a_distribution_that_is_installed_is_refused(new, site):
    site.install("nectargan-glow")
    assert "'glow' is taken: the distribution nectargan-glow is installed" in new("loss", "glow").output


def test_a_package_that_can_be_imported_is_refused(new, site):
    (site.path / "nectargan_glow.py").write_text("")
    assert "'Glow' is taken: Python imports a package 'nectargan_glow' already" in new("loss", "Glow").output


# Authors


def author_of(folder):
    (author,) = project(folder)["project"]["authors"]
    licence = (folder / "LICENSE").read_text(encoding="utf-8")
    assert f"Copyright (c) {datetime.date.today().year} {author['name']}\n" in licence
    return author["name"]


@pytest.mark.parametrize(
    "author",
    [
        "Ada Lovelace",
        "Ada \"L\" \\ 'x'",
        "山田\u3000太郎",
        "a, b",
        "Ada <a@b.c>",
        "%{name} $x {y}",
        "# <b>*_`",
        "x" * 500,
    ],
)
def test_any_line_of_text_is_an_author(new, author):
    made(new("loss", "acme", "--author", f"  {author} "))
    assert author_of(new.place / "nectargan-acme") == author


@pytest.mark.parametrize(
    ("author", "said"),
    [
        ("", "--author is the name of a person or group, got nothing"),
        ("  ", "--author is the name of a person or group, got nothing"),
        ("a\nb", r"--author must be one line of text, got 'a\\nb'"),
        ("a\x1bb", "--author must be one line of text"),
        ("a\u2028b", "--author must be one line of text"),
        ("a\udcffb", "--author must be one line of text"),
    ],
)
def test_an_author_that_is_no_line_of_text_is_refused(new, author, said):
    done = new("loss", "acme", "--author", author)
    assert done.exit_code == 2
    assert said in done.output
    assert list(new.place.iterdir()) == []


def test_the_author_is_the_user_of_git(new, tmp_path):
    (tmp_path / "home/.gitconfig").write_text("[user]\n\tname = Grace Höpper\n", encoding="utf-8")
    made(new("loss", "acme"))
    assert author_of(new.place / "nectargan-acme") == "Grace Höpper"


@pytest.mark.parametrize("path", ["", None])
def test_without_a_user_of_git_or_git_the_authors_are_those_of_the_package(new, monkeypatch, path):
    if path is not None:
        monkeypatch.setenv("PATH", path)
    made(new("loss", "acme"))
    assert author_of(new.place / "nectargan-acme") == "The nectargan-acme authors"


# Nothing is overwritten, and nothing is left half written


def anything(path, what):
    if what == "file":
        path.write_text("mine")
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("nowhere")


@pytest.mark.parametrize("what", ["file", "directory", "link to nothing"])
def test_what_exists_is_not_overwritten(new, what):
    anything(new.place / "nectargan-acme", what)
    done = new("loss", "acme")
    assert done.exit_code == 2
    assert "Error: nectargan-acme exists already, and nothing is overwritten" in done.output
    assert [path.name for path in new.place.iterdir()] == ["nectargan-acme"]
    assert not (new.place / "nectargan-acme/LICENSE").exists()


def test_a_second_call_changes_nothing(new):
    made(new("loss", "acme", "--author", "Ada"))
    before = {path: path.read_bytes() for path in new.place.rglob("*") if path.is_file()}
    assert new("schedule", "acme", "--author", "Grace").exit_code == 2
    assert {path: path.read_bytes() for path in new.place.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("fails_at", [1, 5, 9])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_half_way_leaves_nothing(new, monkeypatch, fails_at, error):
    write, calls = Path.write_text, []

    def fail(self, *arguments, **keywords):
        calls.append(self)
        if len(calls) == fails_at:
            raise error
        return write(self, *arguments, **keywords)

    monkeypatch.setattr(Path, "write_text", fail)
    done = new("loss", "acme")
    assert done.exit_code == (1 if isinstance(error, OSError) else 130)
    assert list(new.place.iterdir()) == []
    if isinstance(error, OSError):
        assert done.output == "Error: cannot write nectargan-acme: No space left on device\n"


def test_the_folder_can_be_read_by_whoever_may_read_what_one_makes(new, tmp_path):
    made(new("loss", "acme"))
    tmp_path.joinpath("mine").mkdir()
    assert (new.place / "nectargan-acme").stat().st_mode == tmp_path.joinpath("mine").stat().st_mode


def test_the_help_lists_the_kinds():
    assert "KIND is loss, schedule, weighting or observer" in CliRunner().invoke(main, ["new", "--help"]).output


def test_strings_of_json_are_those_of_toml():
    for code in range(0x20, 0x2FF):
        if code != 0x7F:
            text = f"a{chr(code)}b\U0001f600"
            assert tomllib.loads(f"x = {json.dumps(text, ensure_ascii=False)}")["x"] == text
