"""The code of the READMEs and of the documentation runs, whatever its language.

Each block is run here, or in `test_commands_of_pages.py`. A block of another language, or without one, fails.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import vgg_weights
from documents import PAGES, ROOT, blocks, file_of, project_of, relative, sections, text_of
from packaging.version import Version

from nectargan_core import LossManager, Schedule, Scheduler, Weighting, catalog
from nectargan_core.objectives import variants_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# The languages that are tested, and how.
LANGUAGES = {
    "python": "is run, block by block down the page; one that begins with `# path/of/file.py` is that file",
    "toml": "is parsed; the names of its entry points are used",
    "console": "commands after `$ `, and what they print",
    "sh": "commands, which have to succeed",
    "json": "is parsed",
    "diff": "a change of a program for NectarGAN, in docs/coming-from-nectargan.md only",
    "text": "what is not run; such a block is listed in TEXTS, with the reason",
}
# Directives of the Sphinx build, which are no code; `test_every_page_is_listed` and `test_structure.py` read them.
DIRECTIVES = {
    "{eval-rst}": {"docs/api.md", "docs/api-plugins.md"},
    "{toctree}": {"docs/index.md", "docs/recipes/index.md"},
}
# Pictures that `make docs` draws, and no part of the repository.
DRAWN = "gallery/"
# The beginning of each text block, by page, and why it is not run.
TEXTS = {
    ("docs/manager.md", "                         cosine with"): "what the example before it prints, of random numbers",
    ("docs/look-and-compare.md", "first: started"): "what the command before it prints, with the times of a run",
    ("docs/look-and-compare.md", "RUN     highest"): "likewise",
    ("docs/log.md", '{"nectargan_log":2,'): "is read by test_the_log_on_the_page_is_read_by_both_readers",
}

by_page = pytest.mark.parametrize("path", PAGES, ids=relative)


@by_page
def test_every_block_has_a_language_that_is_tested(path):
    for block in blocks(path):
        assert block.language in LANGUAGES or block.page in DIRECTIVES.get(block.language, ()), (
            f"{block}: a block of the language {block.language!r} is not tested; write one of "
            + "; ".join(f"```{name} ({what})" for name, what in LANGUAGES.items())
        )


@by_page
def test_every_block_has_a_fence(path):
    is_list = was_blank = False
    for line in text_of(path).splitlines():
        if line.strip() and not line.startswith(" "):
            is_list = bool(re.match(r"[-*+] |\d+[.)] |>", line))
        is_code = was_blank and line.startswith("    ") and line.strip() and not is_list
        assert not is_code, f"{relative(path)}: write code between fences, with its language: {line.strip()}"
        assert "<pre" not in line, f"{relative(path)}: write code between fences, with its language: {line.strip()}"
        was_blank = not line.strip()


@by_page
def test_no_example_is_left_out_by_a_comment(path):
    found = re.findall(r"<!--\s*(?:skip|clear-namespace|invisible).*", path.read_text(encoding="utf-8"))
    assert not found, f"{relative(path)}: every example is run; make this one run, too: {found}"


# Python


def trained(monkeypatch):
    """Leave what a training leaves, where the page about the trainer reads it."""
    pytest.importorskip("monai")
    from nectargan_pix2pix.networks import Generator

    folder = Path("runs/photos")
    folder.mkdir(parents=True)
    torch.save({"channels": 2, "generator": Generator(2).state_dict()}, folder / "checkpoint.pt")


def weights_of_vgg(monkeypatch):
    """Put random weights of the first layers where the plugin looks for them."""
    vgg_weights.save_random(Path("vgg19.pth"))
    monkeypatch.setenv("NECTARGAN_VGG19_WEIGHTS", "vgg19.pth")


def objective_files(monkeypatch):
    """Write the files that the page shows, and what `vgg` needs."""
    weights_of_vgg(monkeypatch)
    for file, text in project_of(ROOT / "docs/objective-files.md").items():
        Path(file).write_text(text, encoding="utf-8")


def without_network(monkeypatch):
    """Have W&B and MLflow write to the working directory."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", Path("mlruns").absolute().as_uri())


def two_runs(monkeypatch):
    """Leave the two runs that the page looks at."""
    program = project_of(ROOT / "docs/look-and-compare.md")["two_runs.py"]
    exec(compile(program, "two_runs.py", "exec", dont_inherit=True), {})


# What the examples of a page need beside what is installed.
BEFORE = {
    "docs/look-and-compare.md": two_runs,
    "docs/objective-files.md": objective_files,
    "plugins/nectargan-mlflow/README.md": without_network,
    "plugins/nectargan-pix2pix/README.md": trained,
    "plugins/nectargan-vgg/README.md": weights_of_vgg,
    "plugins/nectargan-wandb/README.md": without_network,
}


# What pages import that takes seconds: their examples are slow, and left out where it is not installed. What such
# packages warn of on small data is no error.
HEAVY = {
    "docs/recipes/accelerate.md": "accelerate",
    "docs/recipes/lightning.md": "lightning",
    "plugins/nectargan-lightning/README.md": "lightning",
    "plugins/nectargan-mlflow/README.md": "mlflow",
    "plugins/nectargan-wandb/README.md": "wandb",
}


def with_examples(path):
    """The parameter of a page for a test that runs it."""
    is_heavy = relative(path) in HEAVY
    return pytest.param(path, marks=[pytest.mark.slow, pytest.mark.filterwarnings("default")] if is_heavy else [])


@pytest.mark.parametrize("path", [*map(with_examples, PAGES)], ids=relative)
def test_every_python_example_runs(path, site, tmp_path, monkeypatch):
    if path.name == "manager.md" and Version(torch.__version__) < Version("2.7"):
        pytest.skip("the page compiles compute_losses, which needs PyTorch 2.7")
    if heavy := HEAVY.get(relative(path)):
        pytest.importorskip(heavy)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)  # What networks of examples return by chance may be warned of.
    if prepare := BEFORE.get(relative(path)):
        prepare(monkeypatch)
    install(site, project_of(path))
    namespace = {"__name__": "examples"}
    for block in blocks(path, "python"):
        file = file_of(block)
        # With the lines of the page, for tracebacks.
        program = compile("\n" * block.line + block.text, block.page, "exec", dont_inherit=True)
        if file is None:
            exec(program, namespace)
        elif file.startswith("src/"):
            importlib.import_module(file[4:-3].replace("/", ".").removesuffix(".__init__"))


def install(site, files):
    """Install the project that a page shows, if it shows one."""
    if "pyproject.toml" not in files:
        return
    project = tomllib.loads(files["pyproject.toml"])["project"]
    modules = {name.removeprefix("src/"): text for name, text in files.items() if name.startswith("src/")}
    site.install(project["name"], project["version"], modules=modules, entry_points=entry_points(project))


def entry_points(project):
    """The entry points of a pyproject.toml as a distribution has them."""
    return "".join(
        f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in names.items()) + "\n"
        for group, names in project["entry-points"].items()
    )


@pytest.mark.parametrize("path", [path for path in PAGES if path.parent.name == "recipes"], ids=relative)
def test_each_part_of_a_recipe_has_at_most_40_lines(path):
    for block in blocks(path, "python"):
        assert block.text.count("\n") <= 40, (
            f"{block}: shorten the loop, or take its networks out into a block before it"
        )


# TOML


TOMLS = [(path, block) for path in PAGES for block in blocks(path, "toml")]


@pytest.mark.parametrize(("path", "block"), TOMLS, ids=lambda part: str(part) if part not in PAGES else "")
def test_the_names_of_every_toml_block_work(path, block, site):
    project = tomllib.loads(block.text).get("project", {})
    if "entry-points" not in project:
        return
    files = project_of(path)
    if file_of(block) is None:
        before = [each for each in blocks(path, "python") if each.line < block.line]
        modules = {target.partition(":")[0] for names in project["entry-points"].values() for target in names.values()}
        assert len(modules) == 1, f"{block}: name one module, which is the Python block before it"
        files = {"pyproject.toml": block.text, f"src/{modules.pop()}.py": before[-1].text}
        project |= {"name": project.get("name", "acme"), "version": project.get("version", "1.0")}
        site.install(
            project["name"],
            modules={name.removeprefix("src/"): text for name, text in files.items() if name.startswith("src/")},
            entry_points=entry_points(project),
        )
    else:
        install(site, files)
    assert set(project["entry-points"]) <= {catalog.SPECS, catalog.SCHEDULES, catalog.WEIGHTINGS, catalog.OBSERVERS}
    for group, names in project["entry-points"].items():
        for name in names:
            USES[group](f"{project['name']}/{name}", name)


def use_spec(name, short):
    spec = catalog.find(catalog.SPECS, short).load()
    for variant in variants_of(spec) or (None,):
        manager = LossManager.from_spec(name if variant is None else f"{name}:{variant}")
        inputs = {each for loss in manager.get_registered_losses().values() for each in loss.inputs}
        assert inputs
        images = {each: torch.rand(1, 3, 8, 8, requires_grad=each == "y_fake") for each in inputs}
        manager.compute_losses(images).total.backward()


def use_schedule(name, short):
    assert Scheduler(Schedule(name, end=4, initial_value=1.0, target_value=0.0)).value(0) == 1.0


def use_weighting(name, short):
    manager = LossManager()
    manager.register_loss_fn("a", torch.nn.L1Loss())
    manager.set_weighting(Weighting(name))
    manager.tick()
    manager.compute_losses({"y_fake": torch.zeros(2, requires_grad=True), "y": torch.ones(2)})
    assert manager.get_loss_weights()["a"] > 0


def use_observer(name, short):
    with LossManager(observers=[name]) as manager:
        manager.register_loss_fn("a", torch.nn.L1Loss())
        manager.compute_losses({"y_fake": torch.zeros(2), "y": torch.ones(2)})


USES = {
    catalog.SPECS: use_spec,
    catalog.SCHEDULES: use_schedule,
    catalog.WEIGHTINGS: use_weighting,
    catalog.OBSERVERS: use_observer,
}


# The rest


@by_page
def test_every_json_block_is_json(path):
    for block in blocks(path, "json"):
        json.loads(block.text)


@by_page
def test_changes_are_shown_where_they_are_applied(path):
    shown = blocks(path, "diff")
    assert not shown or relative(path) == "docs/coming-from-nectargan.md", (
        f"{shown[0]}: a diff is tested on docs/coming-from-nectargan.md only; show the lines as they are to be"
    )


@by_page
def test_every_text_block_is_listed_with_a_reason(path):
    for block in blocks(path, "text"):
        assert any(page == block.page and block.text.startswith(start) for page, start in TEXTS), (
            f"{block}: nothing runs a text block; make it console or python, or list it in TEXTS with the reason"
        )


def test_every_text_block_that_is_listed_is_there():
    for page, start in TEXTS:
        assert any(block.text.startswith(start) for block in blocks(ROOT / page, "text")), (page, start)


def test_every_page_is_listed():
    pages = {path for path in PAGES if relative(path).startswith("docs/")}
    listed = {
        (path.parent / f"{line}.md").resolve()
        for path in pages
        for tree in blocks(path, "{toctree}")
        for line in tree.text.splitlines()
        if re.fullmatch(r"[\w/-]+", line)
    }
    made = {ROOT / "docs/gallery/index.md", ROOT / "docs/readmes/index.md"}
    assert listed - made == pages - {ROOT / "docs/index.md"}
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    recipes = (ROOT / "docs/recipes/index.md").read_text(encoding="utf-8")
    for path in pages - {ROOT / "docs/index.md"}:
        if path.parent.name == "recipes" and path.stem != "index":
            assert f"({path.name})" in recipes, f"docs/recipes/index.md: add a row for {path.name}"
        else:
            assert f"({relative(path)})" in readme, f"README.md, section Documentation: add {relative(path)}"


def test_every_link_to_a_page_leads_to_one():
    for path in PAGES:
        for target in re.findall(r"\]\(((?!https?:|#)[^)\s]+)\)", text_of(path)):
            file, _, anchor = target.partition("#")
            page = (path.parent / file).resolve()
            if file.startswith(DRAWN):
                continue
            assert page.exists(), f"{relative(path)}: there is no {target}"
            if anchor:
                assert anchor in anchors(page), f"{relative(path)}: {file} has no heading for #{anchor}"
        for anchor in re.findall(r"\]\(#([^)\s]+)\)", text_of(path)):
            assert anchor in anchors(path), f"{relative(path)} has no heading for #{anchor}"


def anchors(path):
    """The anchors that the headings of a page have."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in sections(path)}
