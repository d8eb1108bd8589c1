"""How Sphinx builds the documentation."""

import importlib.metadata
import re

project = "NectarGAN core"
author = "the NectarGAN maintainers"
release = importlib.metadata.version("nectargan-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
default_role = "code"
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]

# A reference that leads nowhere is a warning, but for those to the documentation of others, and for names of types that
# signatures show and that are not public.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|numpy|os|pathlib|pd|pluggy|pydantic|torch|types)\..*"),
    ("py:class", r"nectargan_core\.[a-z]+\._\w+\.\w+|ConfigLike|_Definition|Spec|OnNonFinite|Curve|Lengths|MelScale|Norm"),
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


def setup(app):
    app.connect("autodoc-process-docstring", as_rst, priority=100)
