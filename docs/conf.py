"""How is the site made? `sphinx-build -W --keep-going -c docs . build/site`, from the root.

The root of the repository is the source folder, so that the README, the data cards, the notebooks
and the tables of results are pages as they stand, and their links and pictures hold here as well.
`-D executed_notebooks=FOLDER` shows notebooks executed elsewhere instead of those in notebooks/.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))  # the package as it stands here

import aistat_jax

project = "aistat_jax"
author = "The aistat_jax contributors"
version = release = aistat_jax.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "myst_nb",
    "sphinx_copybutton",
    "house",
]

# What is a page
root_doc = "README"
include_patterns = [
    "README.md",
    "CONTRIBUTING.md",
    "docs/*.md",
    "docs/api/*.rst",
    "notebooks/*.ipynb",
    "data_cards/*.md",
    "benchmarks/results/results.md",
    "aistat_jax/nets/shipped/*/MODEL_CARD.md",
]
exclude_patterns = [".*", "build", "docs/contents.md", "benchmarks/results/local"]

# Markdown and notebooks: shown as they are, executed elsewhere
myst_enable_extensions = ["amsmath", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_output_stderr = "remove"
nb_ipywidgets_js = {}  # would be fetched from the network; a widget shows its text instead
suppress_warnings = ["mystnb.unknown_mime_type"]

# Docstrings: plain prose, whose `names` are links where they name something here
default_role = "py:obj"
highlight_language = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True, "undoc-members": True, "ignore-module-all": True}
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
add_module_names = False
toc_object_entries_show_parents = "hide"

# How it looks: no fonts, scripts or styles from elsewhere when it is read
html_theme = "furo"
html_title = "aistat_jax"
html_static_path = ["style"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"
mathjax_path = "mathjax/tex-chtml.js"
