"""What there is is documented: hooks, public names, commands and their options, environment variables, the kit.

And what the pages say of it is what the code says: a call in the text can be made, a signature is that of the code.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import importlib.metadata
import importlib.util
import inspect
import re
import typing

import click
import numpy as np
import pytest
from documents import PAGES, ROOT, blocks, code, relative, rows, sections, text_of

import nectargan_core
from nectargan_core import (
    ComputedLosses,
    Config,
    ConfigManager,
    LMLoss,
    LossGradients,
    LossLog,
    LossManager,
    Objective,
    Records,
    Schedule,
    Scheduler,
    TorchScheduler,
    catalog,
    errors,
    hookspecs,
    testing,
)
from nectargan_core.cli import main
from nectargan_core.objectives import FILE_KEYWORDS, KEYWORDS

if typing.TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = ROOT / "docs"
HOOKS = [name for name in vars(hookspecs) if name.startswith("nectargan_")]
API = (DOCS / "api.md").read_text(encoding="utf-8")
API_OF_PLUGINS = (DOCS / "api-plugins.md").read_text(encoding="utf-8")
PLUGINS = sorted(path.parent.name for path in ROOT.glob("plugins/*/src/*/__init__.py"))
SOURCES = sorted([*ROOT.glob("nectargan_core/**/*.py"), *ROOT.glob("plugins/*/src/**/*.py")])


# Hooks


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_with_its_signature_its_arguments_and_an_example(hook):
    page = sections(DOCS / "hooks.md")
    assert hook in page, f"docs/hooks.md: add a section '### {hook}'"
    section = page[hook]
    parameters = inspect.signature(getattr(hookspecs, hook)).parameters
    signature = f"`{hook}({', '.join(parameters)})`"
    assert section.lstrip().startswith(signature), f"docs/hooks.md: {hook} must begin with its signature, {signature}"
    shown = {row[0]: row[1] for row in rows(section)[1:]}
    arguments = {f"`{name}`": f"`{parameter.annotation}`" for name, parameter in parameters.items()}
    assert shown == arguments, f"docs/hooks.md: the table of {hook} must have the arguments {arguments}"
    assert re.search(rf"^    @hookimpl\n    def {hook}\(self", section, re.M), f"docs/hooks.md: show how to use {hook}"


def test_no_hook_is_documented_that_does_not_exist():
    for path in PAGES:
        for name in re.findall(r"\bnectargan_\w+(?=`|\()", path.read_text(encoding="utf-8")):
            known = name in HOOKS or name in PLUGINS or name.startswith(("nectargan_core", "nectargan_acme"))
            assert known or name == "nectargan_log", f"{relative(path)}: there is no {name}"


def test_the_fields_of_a_loss_are_those_that_hooks_are_given():
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(sections(DOCS / "hooks.md")["A loss"])[1:]}
    assert set(shown) == set(LMLoss.model_fields)
    assert {name: shown[name] for name in ("tags", "skip_when_zero", "history", "schedule")} == {
        "tags": "list[str]",
        "skip_when_zero": "bool",
        "history": "LMHistory",
        "schedule": "Schedule",
    }


def test_the_keys_of_the_configuration_are_those_that_hooks_are_given():
    shown = [row[0].strip("`") for row in rows(sections(DOCS / "hooks.md")["The configuration"])[1:]]
    assert shown == [*keys(Config), "train.loss"]


def keys(section: type, above: str = "") -> Iterator[str]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if inner is not None and hasattr(inner, "model_fields"):
            if inner.__name__ != "LossConfig":
                yield from keys(inner, f"{above}{name}.")
        else:
            yield above + name


def test_the_fields_of_records_are_those_that_hooks_are_given():
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows(sections(DOCS / "hooks.md")["Records"])[1:]}
    records = Records("a", *(np.zeros(0, dtype) for dtype in ("int64", "float64", "float64", "float64", "float64")))
    values = {field.name: getattr(records, field.name) for field in dataclasses.fields(Records)}
    dtypes = {name: str(value.dtype) for name, value in values.items() if isinstance(value, np.ndarray)}
    assert shown == dtypes | {"name": "str", "component_of": "str | None"}


# Public names


def documented_by_sphinx() -> set[str]:
    """The names that the API page shows: those that it names, and the members of the modules that it names."""
    shown = set(re.findall(r"auto(?:class|function|data):: ([\w.]+)", API))
    for module in re.findall(r"automodule:: ([\w.]+)", API):
        names = public_names(importlib.import_module(module))
        shown |= {module, *(f"{module}.{name}" for name in names)}
    return shown


def public_names(module) -> list[str]:
    """The names that a module offers."""
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


@pytest.mark.parametrize(
    "module", [nectargan_core, catalog, errors, hookspecs, testing], ids=lambda each: each.__name__
)
def test_every_public_name_of_core_is_on_the_api_page(module):
    shown = documented_by_sphinx()
    # It stands where the events are.
    names = [name for name in public_names(module) if name not in ("hookimpl", "hookspec")]
    missing = [name for name in names if f"{module.__name__}.{name}" not in shown]
    assert not missing, f"docs/api.md: add `.. autoclass::` or `.. autofunction::` for {missing} of {module.__name__}"
    values = {name: getattr(module, name) for name in names}
    own = {name for name, value in values.items() if str(getattr(value, "__module__", "")).startswith("nectargan")}
    silent = sorted(name for name in own if not values[name].__doc__)
    assert not silent, f"{module.__name__}: write docstrings for {silent}"


@pytest.mark.parametrize("package", PLUGINS)
def test_every_plugin_is_on_the_api_page(package):
    shown = f"automodule:: {package}\n"
    assert shown in API + API_OF_PLUGINS, f"docs/api-plugins.md: add a section with `.. automodule:: {package}`"


@pytest.mark.parametrize("package", PLUGINS)
def test_every_public_name_of_a_plugin_is_in_its_readme_or_on_the_api_page(package):
    specs = {each.value for each in importlib.metadata.entry_points(group="nectargan.loss_specs")}
    # The table that `nectargan specs` writes is of what a spec gives, under the name of its entry point.
    names = [name for name in importlib.import_module(package).__all__ if f"{package}:{name}" not in specs]
    readme = ROOT / f"plugins/{package.replace('_', '-')}/README.md"
    said = code(text_of(readme)) + [block.text for block in blocks(readme, "python")]
    words = {word for text in said for word in re.findall(r"\w+", text)}
    missing = [name for name in names if name not in words and f"{package}.{name}" not in documented_by_sphinx()]
    assert not missing, f"{relative(readme)}: say what {missing} are, in `backticks` or an example"


# Signatures

# What the pages call the objects that they speak of.
OBJECTS = {
    "manager": LossManager,
    "losses": ComputedLosses,
    "gradients": LossGradients,
    "log": LossLog,
    "objective": Objective,
    "schedule": Schedule,
    "part": Scheduler,
    "scheduler": TorchScheduler,
    "config": Config,
    "config_manager": ConfigManager,
    "LossManager": LossManager,
    "catalog": catalog,
    "Schedule": Schedule,
}
# Calls of something else that has the name of one of these.
FOREIGN = {
    "docs/coming-from-nectargan.md": "calls of NectarGAN itself",
}
# What a page speaks of where it names a method alone; all others of the manager.
SPEAKS_OF = {"log.md": LossLog}


def calls_in(path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that stand in the text of a page, in backticks."""
    for text in code(text_of(path)):
        try:
            tree = ast.parse(text.replace("…", "..."), mode="eval")
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                yield text, node


def called(function: ast.expr, path):
    """Return what a call in the text of a page calls, if that is public."""
    if isinstance(function, ast.Name):
        if function.id in nectargan_core.__all__:
            return getattr(nectargan_core, function.id)
        if function.id in testing.__all__:
            return getattr(testing, function.id)
        return getattr(SPEAKS_OF.get(path.name, LossManager), function.id, None)
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner = OBJECTS.get(function.value.id)
        return None if owner is None else getattr(owner, function.attr, None)
    return None


def exists(function: ast.expr) -> bool:
    """Whether the attribute of an object that a page speaks of is there."""
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        owner = OBJECTS.get(function.value.id)
        return owner is None or hasattr(owner, function.attr)
    return True


@pytest.mark.parametrize("path", [path for path in PAGES if relative(path) not in FOREIGN], ids=relative)
def test_every_call_in_the_text_can_be_made(path):
    for text, call in calls_in(path):
        assert exists(call.func), f"{relative(path)}: `{text}` calls what does not exist"
        function = called(call.func, path)
        if function is None or not callable(function):
            continue
        signature = inspect.signature(function)
        parameters = [each for each in signature.parameters.values() if each.name != "self"]
        names = keywords_of(function, parameters)
        for keyword in call.keywords:
            known = names is None or keyword.arg is None or keyword.arg in names
            assert known, f"{relative(path)}: `{text}` passes {keyword.arg}=, and the code has {signature}"
        by_position = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        any_number = any(each.kind is each.VAR_POSITIONAL for each in parameters)
        given = [each for each in call.args if not (isinstance(each, ast.Constant) and each.value is ...)]
        assert any_number or len(given) <= len(by_position), f"{relative(path)}: `{text}`, and the code has {signature}"


def keywords_of(function, parameters) -> set[str] | None:
    """Return which keywords a function or class takes; None for any."""
    names = {each.name for each in parameters}
    if hasattr(function, "model_fields"):
        fields = function.model_fields
        return names | set(fields) | {str(each.validation_alias) for each in fields.values()}
    if getattr(function, "__name__", "") == "from_spec":
        return names | set(inspect.signature(LossManager).parameters) | {*KEYWORDS, *FILE_KEYWORDS}
    return None if any(each.kind is each.VAR_KEYWORD for each in parameters) else names


def signatures_in(path) -> Iterator[tuple[str, ast.Call]]:
    """Yield the calls that a page documents: those that are alone in the first cell of a row, or in a heading."""
    first = [row[0] for row in rows(path.read_text(encoding="utf-8"))]
    headings = list(sections(path))
    for cell in [*first, *headings]:
        for text in re.findall(r"`([^`]+)`", cell) if re.fullmatch(r"(`[^`]+`(, )?)+", cell) else []:
            try:
                tree = ast.parse(text, mode="eval").body
            except SyntaxError:
                continue
            if isinstance(tree, ast.Call) and all(isinstance(each, ast.Name) for each in tree.args):
                yield text, tree


@pytest.mark.parametrize("path", [path for path in PAGES if relative(path) not in FOREIGN], ids=relative)
def test_every_signature_of_a_table_or_heading_is_that_of_the_code(path):
    for text, call in signatures_in(path):
        function = called(call.func, path)
        if function is None or isinstance(function, type):
            continue
        signature = inspect.signature(function)
        parameters = {each.name: each for each in signature.parameters.values() if each.name != "self"}
        names = [argument.id for argument in call.args if isinstance(argument, ast.Name)]
        expected = list(parameters)[: len(names)]
        assert names == expected, f"{relative(path)}: `{text}`, and the code has {signature}"
        for keyword in call.keywords:
            parameter = parameters.get(str(keyword.arg))
            assert parameter is not None, f"{relative(path)}: `{text}`, and the code has {signature}"
            try:
                default = ast.literal_eval(keyword.value)
            except ValueError:
                continue
            if default is not ...:
                assert default == parameter.default, f"{relative(path)}: `{text}`, and the code has {signature}"


# Commands


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command of a program by its whole name."""
    if isinstance(command, click.Group):
        for part, child in command.commands.items():
            yield from commands(child, f"{name} {part}")
    else:
        yield name, command


def programs() -> dict[str, click.Command]:
    found = dict(commands(main, "nectargan"))
    if importlib.util.find_spec("nectargan_pix2pix"):
        found |= dict(commands(importlib.import_module("nectargan_pix2pix.cli").main, "nectargan-pix2pix"))
    return found


# Where the commands of a program are documented that are not on the page of commands.
TRAINER = ROOT / "plugins/nectargan-pix2pix/README.md"
SECTIONS = {
    "nectargan-pix2pix demo": (TRAINER, "The demo"),
    "nectargan-pix2pix train": (TRAINER, "The trainer"),
    "nectargan-pix2pix predict": (TRAINER, "Translating images"),
    "nectargan-pix2pix evaluate": (TRAINER, "Evaluating"),
}
PROGRAMS = programs()


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_of_a_command_has_a_row(name):
    page, heading = SECTIONS.get(name, (DOCS / "commands.md", name))
    found = sections(page)
    assert heading in found, f"{relative(page)}: add a section '## {heading}' with a table of its options"
    cells = [row[0] for row in rows(found[heading])]
    shown = {option for cell in cells for option in re.findall(r"`(--[\w-]+)", cell)}
    shown |= {argument for cell in cells for argument in re.findall(r"`([A-Z_]+)`", cell)}
    there = set()
    for parameter in PROGRAMS[name].params:
        if isinstance(parameter, click.Argument):
            there.add(str(parameter.metavar or parameter.name).strip("[].").upper())
        else:
            there |= {option for option in [*parameter.opts, *parameter.secondary_opts] if option.startswith("--")}
    missing = there - shown
    assert not missing, f"{relative(page)}, section {heading}: add rows for {sorted(missing)}"
    assert not shown - there, f"{relative(page)}, section {heading}: there are no {sorted(shown - there)}"


def test_no_command_is_documented_that_does_not_exist():
    for heading in sections(DOCS / "commands.md"):
        if heading.startswith("nectargan"):
            assert heading in PROGRAMS, f"docs/commands.md: there is no command {heading}"
    for path in PAGES:
        for text in [*code(text_of(path)), *(block.text for block in blocks(path, "sh", "console"))]:
            for program, first in re.findall(r"^(?:\$ )?(nectargan(?:-pix2pix)?) ([a-z][\w-]*)", text, re.M):
                there = any(name.split()[:2] == [program, first] for name in PROGRAMS)
                assert there, f"{relative(path)}: there is no command {program} {first}"


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_option_that_a_page_passes_exists(name):
    options = {option for parameter in PROGRAMS[name].params for option in parameter.opts} | {"--help"}
    for path in PAGES:
        for text in [*code(text_of(path)), *(block.text for block in blocks(path, "sh", "console"))]:
            for line in re.findall(rf"\b{name}( [^;|\n]*)", text):
                for option in re.findall(r" (--[\w-]+)", line):
                    assert option in options, f"{relative(path)}: {name} has no {option}"


# Environment variables


def test_every_environment_variable_is_documented():
    used = {
        name
        for path in SOURCES
        for name in re.findall(r"\bNECTARGAN_[A-Z0-9_]+", path.read_text(encoding="utf-8", errors="replace"))
    }
    shown = {
        name for path in PAGES for text in code(text_of(path)) for name in re.findall(r"\bNECTARGAN_[A-Z0-9_]+", text)
    }
    assert used, "the pattern finds nothing"
    assert used <= shown, f"docs/plugins.md, Settings, or the README of the plugin: say what {used - shown} do"
    table = "\n".join("".join(row[0]) for row in rows(sections(DOCS / "commands.md")["Environment variables"]))
    missing = sorted(name for name in used if name not in table)
    assert not missing, f"docs/commands.md, Environment variables: add rows for {missing}"
    assert shown <= used, f"no code reads {shown - used}"


# The kit

AUTHORS = DOCS / "writing-a-plugin.md"


def test_every_check_is_explained():
    named = set()
    for path in (ROOT / "nectargan_core/testing").glob("_*.py"):
        module = importlib.import_module(f"nectargan_core.testing.{path.stem}".removesuffix(".__init__"))
        named |= {check.name for check in getattr(module, "CHECKS", ())}
    shown = {name for row in rows(sections(AUTHORS)["The kit"]) if len(row) == 3 for name in code(row[0])}
    missing = sorted(named - shown)
    assert not missing, f"docs/writing-a-plugin.md, The kit: say what {missing} find, and what to change"
    shown = {name for name in shown if re.fullmatch(r"[a-z_0-9]+", name)}
    assert not shown - named, f"docs/writing-a-plugin.md, The kit: there are no checks {sorted(shown - named)}"


def test_every_fixture_is_explained():
    tree = ast.parse((ROOT / "nectargan_core/testing/fixtures.py").read_text(encoding="utf-8"))
    fixtures = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and any("fixture" in ast.unparse(each) for each in node.decorator_list)
    }
    shown = {name for row in rows(sections(AUTHORS)["Fixtures"])[1:] for name in code(row[0])}
    assert shown == fixtures, "docs/writing-a-plugin.md, Fixtures: a row for each fixture of nectargan_core.testing"
