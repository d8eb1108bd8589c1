"""The command `nectargan new`: writes the package of a new plugin, with an example that works, its tests and its CI."""

from __future__ import annotations

import builtins
import datetime
import importlib.util
import json
import keyword
import re
import shlex
import string
import subprocess
import tempfile
import unicodedata
from dataclasses import dataclass
from pathlib import Path

import click

from nectargan_core import catalog
from nectargan_core._core_requirement import CORE, core_requirement
from nectargan_core._messages import did_you_mean
from nectargan_core._names import Term, is_name, is_number
from nectargan_core._printable import printable
from nectargan_core.catalog import OBSERVERS, SCHEDULES, SPECS, WEIGHTINGS
from nectargan_core.cli._table import print_text

# With a name of this length, every line of each package has at most the 120 characters that its linter allows.
_LONGEST_NAME = 40
# Named so that neither a linter nor a test runner takes them for code.
_TEMPLATES = Path(__file__).parent / "templates"
_PREFIX = "nectargan-"


@dataclass(frozen=True)
class _Kind:
    """What a package of one kind has, beside its templates.

    Args:
        group: The entry point group.
        noun: What the plugin is, for messages.
        keyword: What it is, for its metadata.
        dependencies: What it imports, in TOML; `%{core}` stands for the requirement on nectargan-core.
        is_class: Whether the name stands for a class.
    """

    group: str
    noun: str
    keyword: str
    dependencies: str
    is_class: bool = False


_KINDS = {
    "loss": _Kind(
        SPECS,
        "loss spec",
        "loss",
        '["%{core}", "torch>=2.6"]',
    ),
    "schedule": _Kind(
        SCHEDULES,
        "schedule",
        "schedule",
        '["%{core}"]',
    ),
    "weighting": _Kind(
        WEIGHTINGS,
        "weighting",
        "loss weighting",
        '["%{core}"]',
        is_class=True,
    ),
    "observer": _Kind(
        OBSERVERS,
        "observer",
        "logging",
        '["%{core}"]',
        is_class=True,
    ),
}


class _Template(string.Template):
    # "$" has a meaning in the workflows of GitHub.
    delimiter = "%"


@click.command()
@click.argument("kind", metavar="KIND", callback=lambda *given: _checked_kind(given[-1]))
@click.argument("name")
@click.option("--author", help="Who the licence and the metadata name.  [user.name of git, or the authors of NAME]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where to make the folder of the package.  [the current directory]",
)
def new(kind: str, name: str, author: str | None, directory: Path) -> None:
    """Write the package of a new plugin into the new folder nectargan-NAME.

    KIND is loss, schedule, weighting or observer. NAME is what formulas, configurations and the command line know the
    plugin by.
    The package has an example that works, with tests, documentation, a licence and a workflow for continuous
    integration. Nothing is overwritten.
    """
    values = _values(_KINDS[kind], kind, name, author)
    folder = directory / values["distribution"]
    files = {path.replace("package", values["package"]): text for path, text in _render(kind, values).items()}
    _write(folder, files)
    lines = [f"{_shown(folder)} offers the {_KINDS[kind].noun} {name}:", *(f"  {path}" for path in files), ""]
    lines += ["Install it, and run its tests:", f"  cd {_shown(folder)}"]
    lines += ['  python -m pip install --editable ".[dev]"', "  python -m pytest", f"  nectargan check {name}"]
    print_text("\n".join(lines))


def _shown(path: Path) -> str:
    return printable(shlex.quote(str(path)))


# Names


def _checked_kind(kind: str) -> str:
    """Return the kind.

    Raises:
        UsageError: If there is none of this name.
    """
    if kind not in _KINDS:
        kinds = f"{', '.join(list(_KINDS)[:-1])} or {list(_KINDS)[-1]}"
        raise click.UsageError(
            f"expected a kind and a name, as in 'nectargan new loss acme'; the kind is {kinds}, got "
            f"{printable(kind[:100])!r}.{did_you_mean(kind, _KINDS)}"
        )
    return kind


def _values(kind: _Kind, template: str, name: str, author: str | None) -> dict[str, str]:
    """Return what stands for each variable of the templates.

    Raises:
        UsageError: If the name or the author cannot be used.
    """
    _check_spelling(name)
    distribution = f"{_PREFIX}{name}"
    # The distribution as package indexes compare it, in the letters that a module may have.
    package = re.sub("[-_.]+", "_", distribution).lower()
    _check_free(kind, name, package)
    identifier = package.removeprefix("nectargan_")
    words = {word for text in _read(template).values() for word in re.findall(r"\w+", text)}
    function = _usable(identifier, words, "plugin_")
    cls = _usable("".join(map(_capitalised, identifier.split("_"))), words, "Plugin")
    author = _author(author, distribution)
    return {
        "author": author,
        # Strings of JSON are strings of TOML, too.
        "author_in_toml": json.dumps(author, ensure_ascii=False),
        "cls": cls,
        "dependencies": _Template(kind.dependencies).substitute(core=_required_core()),
        "distribution": distribution,
        "function": function,
        "group": kind.group,
        "key": "lambda_" + re.sub("[-.]", "_", name),
        "keyword": kind.keyword,
        "loss": f"G_{identifier.upper()}",
        "name": name,
        "noun": kind.noun,
        "package": package,
        "target": cls if kind.is_class else function,
        "year": str(datetime.date.today().year),
    }


def _check_spelling(name: str) -> None:
    """Raise `UsageError` for a name that a formula or a package index cannot have."""
    shown = printable(name[:100])
    if not is_name(name):
        variant = "; variants are a parameter of the spec, and no part of its name" if ":" in name else ""
        raise click.UsageError(
            f"a name has letters, digits, '_', '-' and '.' only, and begins with neither '-' nor '.', got {shown!r}"
            f"{variant}"
        )
    if name.lower().startswith(_PREFIX):
        raise click.UsageError(
            f"the distribution is called {_PREFIX}NAME, so that NAME does not begin with {_PREFIX!r}, got {shown!r}; "
            f"write {printable(name[len(_PREFIX) :])!r}"
        )
    if is_number(Term(None, name, None)):
        raise click.UsageError(f"a formula reads {shown!r} as a number; add a letter, as in {f'l{name}'!r}")
    if not name.isascii():
        raise click.UsageError(
            f"package indexes have names of the ASCII letters, digits, '_', '-' and '.' only, got {shown!r}"
        )
    if not name[-1].isalnum():
        raise click.UsageError(
            f"the name of a distribution ends with a letter or digit, got {shown!r}; leave out the {name[-1]!r}"
        )
    if len(name) > _LONGEST_NAME:
        raise click.UsageError(f"a name has at most {_LONGEST_NAME} characters, got {len(name)}; choose a shorter one")


def _check_free(kind: _Kind, name: str, package: str) -> None:
    """Raise `UsageError` for a name that is taken."""
    if owner := catalog.taken(kind.group, name):
        raise click.UsageError(f"{name!r} is taken: {owner}; choose another name")
    if importlib.util.find_spec(package) is not None:
        raise click.UsageError(f"{name!r} is taken: Python imports a package {package!r} already; choose another name")


def _usable(identifier: str, words: set[str], prefix: str) -> str:
    """Return an identifier, with a prefix where Python, pytest or the templates give it another meaning."""
    # Linters refuse the three letters, which look like digits.
    taken = {*words, *dir(builtins), *keyword.kwlist, *keyword.softkwlist, "l", "I", "O"}
    is_free = identifier.isidentifier() and identifier not in taken and not identifier.lower().startswith("test")
    return identifier if is_free else prefix + identifier


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


def _author(given: str | None, distribution: str) -> str:
    """Return who the licence names.

    Raises:
        UsageError: If it is empty, or no single line of text.
    """
    author = _git_user() if given is None else given
    author = author.strip()
    if not author:
        if given is not None:
            raise click.UsageError("--author is the name of a person or group, got nothing; give one, or leave it out")
        return f"The {distribution} authors"
    # Control characters, halves of characters, and what ends a line or paragraph.
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in author):
        source = "user.name of git" if given is None else "--author"
        raise click.UsageError(
            f"{source} must be one line of text, got {printable(author[:100])!r}; give a name as --author"
        )
    return author


def _git_user() -> str:
    try:
        done = subprocess.run(
            ["git", "config", "user.name"],  # noqa: S607 # whichever git the user has
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "surrogateescape")


def _required_core() -> str:
    requirement = core_requirement()
    if requirement is None:
        raise click.UsageError(f"{CORE} runs without being installed; install it")
    return requirement


# Files


def _render(template: str, values: dict[str, str]) -> dict[str, str]:
    return {path: _Template(text).substitute(values) for path, text in sorted(_read(template).items())}


def _read(template: str) -> dict[str, str]:
    """Return the templates of a kind, by the paths of the files that they become.

    Where there is one of a path for all kinds, too, it comes after that of the kind.
    """
    texts: dict[str, str] = {}
    for folder in (_TEMPLATES / template, _TEMPLATES / "common"):
        for path in folder.rglob("*.template"):
            name = path.relative_to(folder).as_posix().removesuffix(".template")
            texts[name] = texts.get(name, "") + path.read_text(encoding="utf-8")
    return texts


def _write(folder: Path, files: dict[str, str]) -> None:
    """Write files into a new folder, which is there only once all of them are.

    Raises:
        UsageError: If there is something of this name.
        ClickException: If it cannot be written.
    """
    exists = (
        f"{_shown(folder)} exists already, and nothing is overwritten; move it away, or choose another name or --dir"
    )
    if folder.exists() or folder.is_symlink():
        raise click.UsageError(exists)
    try:
        with tempfile.TemporaryDirectory(prefix=".nectargan-", dir=folder.parent) as place:
            # In it, since the directory itself is for its owner only.
            draft = Path(place) / folder.name
            for name, text in files.items():
                path = draft / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8", newline="\n")
            if folder.exists():
                raise click.UsageError(exists)
            draft.rename(folder)
    except OSError as error:
        raise click.ClickException(f"cannot write {_shown(folder)}: {error.strerror or error}") from error
