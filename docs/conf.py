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
