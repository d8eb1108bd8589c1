"""How Sphinx builds the documentation."""

import importlib.metadata
import re
from pathlib import Path

project = "NectarGAN core"
author = "the NectarGAN maintainers"
release = importlib.metadata.version("nectargan-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["attrs_inline"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"
html_theme = "furo"
html_title = project
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

# A reference that leads nowhere is a warning, but for those to the documentation of others, and for names of types that
# signatures show and that are not public.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|numpy|os|pathlib|pd|pluggy|pydantic|torch|types|wandb)\..*"),
    ("py:class", r"nectargan_core\.[a-z]+\._\w+\.\w+|_?[A-Z][A-Za-z]+"),
]


def as_rst(app, what, name, obj, options, lines):
    """Write in reStructuredText what docstrings have in Markdown, and what napoleon would take for something else."""
    if what in ("attribute", "property") and lines:
        # The first words of a property, where a colon follows them, are not its type: napoleon looks at this comment.
        lines[:0] = ["..", ""]
    written, section = [], ""
    for line in lines:
        section = line if re.fullmatch(r"[A-Z]\w+:", line) else section
        cells = re.split(r"(?<!\\)\|", line.strip())[1:-1] if line.lstrip().startswith("| ") else []
        indent = line[: len(line) - len(line.lstrip())]
        if line == "Formula:":
            written += [".. rubric:: Formula", "", "::", ""]  # |x| is an absolute value.
        elif line == "Source:":
            written += [".. rubric:: Source", ""]
        elif section == "Source:" and line.strip():
            written.append(f"  {line.strip()}" if line.startswith("        ") else f"| {line.strip()}")
        elif cells:
            if not written[-1].lstrip().startswith(("*", "-")):
                written += [f"{indent}.. list-table::", f"{indent}   :header-rows: 1", ""]
            written += [f"{indent}   {'  -' if at else '* -'} {cell.strip()}" for at, cell in enumerate(cells)]
        elif not line.lstrip().startswith("|-"):
            written.append(line)
    lines[:] = written


def copy_readmes(app):
    """Copy the READMEs of the plugins to where Sphinx finds them, with a page that lists them."""
    folder = Path(app.srcdir) / "readmes"
    folder.mkdir(exist_ok=True)
    names = []
    for readme in sorted(Path(app.srcdir).parent.glob("plugins/*/README.md")):
        names.append(readme.parent.name)
        write(folder / f"{names[-1]}.md", readme.read_text(encoding="utf-8"))
    listed = "\n".join(names)
    write(folder / "index.md", f"# Plugins of this project\n\n```{{toctree}}\n:maxdepth: 1\n\n{listed}\n```\n")


def write(path, text):
    """Write what has changed, so that Sphinx reads nothing again without need."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


# Where a link of the repository leads on the site; the text of one to a source file stays, without the link.
LINKS = [
    (r"\]\((?:\.\./)+(?:plugins/)?(nectargan-[\w-]+)/README\.md", r"](/readmes/\1.md"),
    (r"\]\(\.\./\.\./docs/", r"](/"),
    (r"\]\(\.\./\.\./README\.md", r"](/index.md"),
    (r"\[([^\]]+)\]\(src/[^)]+\)", r"`\1`"),
]


def lead_to_pages(app, name, source):
    """Let links between files of the repository lead to pages of the site."""
    for pattern, replacement in LINKS:
        source[0] = re.sub(pattern, replacement, source[0])


def setup(app):
    app.connect("builder-inited", copy_readmes)
    app.connect("source-read", lead_to_pages)
    app.connect("autodoc-process-docstring", as_rst, priority=100)
