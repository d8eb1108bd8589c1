"""How Sphinx builds the documentation."""

import importlib.metadata

project = "NectarGAN core"
author = "the NectarGAN maintainers"
release = importlib.metadata.version("nectargan-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]

# A reference that leads nowhere is a warning, but for those to the documentation of others, and for names of types that
# signatures show and that are not public.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(collections|contextlib|numpy|os|pathlib|pd|pluggy|pydantic|torch|types)\..*"),
    ("py:class", r"nectargan_core\.[a-z]+\._\w+\.\w+|ConfigLike|_Definition|Spec|OnNonFinite|Curve"),
]


def without_type(app, what, name, obj, options, lines):
    """Keep napoleon from taking the first words of a property for its type, where a colon follows them."""
    if what in ("attribute", "property") and lines:
        lines[:0] = ["..", ""]  # An empty comment, which is what napoleon then looks at.


def setup(app):
    app.connect("autodoc-process-docstring", without_type, priority=100)
